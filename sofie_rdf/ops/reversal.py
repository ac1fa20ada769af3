"""ReverseSequence: the steps of sequences of different lengths, from the last to the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError
from sofie_rdf.ir.dims import product, require_equal
from sofie_rdf.ir.operator import Call, Operand, Sizes, operator, require_same_dtype
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.indexing import Indexing
from sofie_rdf.ops.layout import memory

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


@operator(since=10)
class ReverseSequence(Indexing):
    """x with the first sequence_lens[batch] elements of each batch in reverse order"""

    batch_axis: int = 1
    time_axis: int = 0
    is_rowwise: ClassVar[bool] = False

    def infer(self, x: TensorType, sequence_lens: TensorType) -> TensorType:
        require_same_dtype(sequence_lens, TensorType(DType.INT64))
        if {self.batch_axis, self.time_axis} != {0, 1} or x.rank < 2:
            raise ShapeError("has its batch and its time in the first two axes, one in each")
        if sequence_lens.rank != 1:
            raise ShapeError(f"needs one length for each batch, not {sequence_lens}")
        require_equal(sequence_lens.shape[0], x.shape[self.batch_axis], "needs one length a batch")
        return x

    def reference(self, x: Array, sequence_lens: Array) -> Array:
        times = x.shape[self.time_axis]
        if sequence_lens.size and (sequence_lens.min() < 0 or sequence_lens.max() > times):
            raise IndexError(f"a sequence is longer than {times}")
        time = np.arange(times)[:, None]
        at = np.where(time < sequence_lens, sequence_lens - 1 - time, time)
        batch = np.arange(x.shape[self.batch_axis])
        return x[at, batch] if self.time_axis == 0 else x[batch[:, None], at.T]

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, lengths = inputs
        assert x is not None
        shape = x.type.shape
        sizes = Sizes((shape[0], shape[1], product(shape[2:])))
        views = map(memory, (*outputs, x, lengths))
        return Call("sofie::reverse_sequence", (self.time_axis, sizes, *views))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return back.g.through(self, back.input(1)), None
