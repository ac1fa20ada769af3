"""Element-wise functions one after the other, in one pass over memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError
from sofie_rdf.ir.operator import Functor, operator
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.elementwise import Elementwise

# What a kernel takes.
MOST = 4


@operator(domain="sofie", header="sofie/kernels/elementwise/chains.hxx", ulp=2, terms=2)
class Then(Elementwise):
    """y = second(first(a, ...), z): the first inputs are those of ``first``

    With ``behind`` its result is the last input of ``second``: y = second(z, first(a, ...)).
    """

    first: Elementwise
    second: Elementwise
    behind: bool = False
    dtypes: ClassVar[frozenset[DType]] = frozenset({DType.FLOAT32, DType.FLOAT64})

    @property
    def count(self) -> int:
        """How many inputs the first function has."""
        return inputs_of(self.first)

    def _arguments(self, inner: Any, inputs: Sequence[Any]) -> list[Any]:
        """The inputs of the second function."""
        rest = list(inputs[self.count :])
        return [*rest, inner] if self.behind else [inner, *rest]

    def infer(self, *inputs: TensorType) -> TensorType:
        self.accept(*inputs)
        if not self.count <= len(inputs) <= MOST or len(inputs) != inputs_of(self):
            raise ShapeError(f"needs {inputs_of(self)} inputs, at most {MOST}")
        inner = self.first.infer(*inputs[: self.count])
        y = self.second.infer(*self._arguments(inner, inputs))
        if y != inner:
            raise ShapeError(f"gives {y}, but {self.first.name} gives {inner}")
        return y

    def functor(self) -> Functor:
        first, second = self.first.functor(), self.second.functor()
        behind = "true" if self.behind else "false"
        cxx = f"sofie::Then<{first.cxx}, {second.cxx}, {self.count}, {behind}>"
        return Functor(cxx, (first, second))

    def reference(self, *inputs: Array) -> Array:
        inner = self.first.reference(*inputs[: self.count])
        return np.asarray(self.second.reference(*self._arguments(inner, inputs)))


def inputs_of(op: Elementwise) -> int:
    """How many inputs an operator with a fixed number of them has."""
    if isinstance(op, Then):
        return inputs_of(op.first) + inputs_of(op.second) - 1
    least, most = op.arity()
    if most is None or most != least:
        raise ShapeError(f"{op.name} has no fixed number of inputs")
    return least
