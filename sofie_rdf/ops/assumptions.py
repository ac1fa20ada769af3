"""What a graph takes for granted about sizes, checked when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from sofie_rdf.errors import ShapeError
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.operator import Call, Operand, Operator, Tensor, operator
from sofie_rdf.ir.types import Array, Shape, TensorType

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


@operator(domain="sofie", header="sofie/kernels/layout.hxx")
class Assume(Operator):
    """x, whose sizes are these: the run checks it where nothing before has said so"""

    shape: Shape
    moves: ClassVar[bool] = True

    @property
    def is_alias(self) -> bool:
        return True

    def infer(self, x: TensorType) -> TensorType:
        if len(self.shape) != x.rank:
            raise ShapeError(f"cannot have {len(self.shape)} axes")
        return x.reshaped(self.shape)

    def requires(self, inputs: Sequence[TensorType | None]) -> tuple[tuple[Dim, Dim], ...]:
        (x,) = inputs
        assert x is not None
        return tuple((a, b) for a, b in zip(self.shape, x.shape, strict=True) if a != b)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        size = (x.type.size,)
        return Call("sofie::copy", (Tensor(outputs[0], size), Tensor(x, size)))

    def reference(self, x: Array) -> Array:
        wrong = (isinstance(d, int) and d != n for d, n in zip(self.shape, x.shape, strict=True))
        if any(wrong):
            raise ShapeError(f"{list(x.shape)} is not {list(self.shape)}")
        return x

    def pullback(self, back: Backward) -> Value:
        return back.g.apply("Assume", domain="sofie", shape=back.x.shape)
