"""What all element-wise operators are: a formula whose function object is in a C++ header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from sofie_rdf.errors import TypeMismatch
from sofie_rdf.ir.operator import (
    Call,
    Functor,
    Launch,
    Operand,
    Operator,
    Tensor,
    Tolerance,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, TensorType, broadcast
from sofie_rdf.ops._broadcast import collapse
from sofie_rdf.ops._device import mapped

ALL = frozenset(d for d in DType if not d.is_storage)
STORED = frozenset(DType)
BOOL = frozenset({DType.BOOL})
FLOATS = frozenset(d for d in ALL if d.is_float)
INTEGERS = frozenset(d for d in DType if d.is_integer)
UNSIGNED = frozenset(d for d in INTEGERS if d.value.startswith("u"))
NUMBERS = FLOATS | INTEGERS
SIGNED = NUMBERS - UNSIGNED

# Function objects that need more than arithmetic are where only models that have them read them.
ACTIVATIONS = "sofie/kernels/elementwise/activations.hxx"
NORMAL_DISTRIBUTION = "sofie/kernels/elementwise/normal_distribution.hxx"
FUNCTIONS = "sofie/kernels/elementwise/functions.hxx"


class Elementwise(Operator):
    """y[i] = f(a[i], b[i], ...), with NumPy's broadcasting."""

    header: ClassVar[str] = "sofie/kernels/elementwise.hxx"
    # Rounded correctly, unless an operator says otherwise.
    tolerance: ClassVar[Tolerance] = Tolerance(ulp=0.5)
    dtypes: ClassVar[frozenset[DType]] = NUMBERS
    result: ClassVar[DType | None] = None
    # The same function of symbolic sizes, where shape arithmetic uses the operator.
    on_size: ClassVar[Any] = None

    def on_sizes(self, *inputs: Array) -> Array:
        if self.on_size is None:
            return super().on_sizes(*inputs)
        return np.asarray(reduce_sizes(type(self).on_size, inputs, self), dtype=object)

    def infer(self, *inputs: TensorType) -> TensorType:
        dtype = self.accept(*inputs)
        return TensorType(self.result or dtype, broadcast(t.shape for t in inputs))

    def accept(self, *inputs: TensorType) -> DType:
        """The element type of the inputs, if the operator is defined for it."""
        dtype = require_same_dtype(*inputs)
        if dtype not in self.dtypes:
            known = ", ".join(d.value for d in DType if d in self.dtypes)
            raise TypeMismatch(f"is not defined for {dtype}, only for {known}")
        return dtype

    def functor(self) -> Functor:
        """The C++ function object of the same name, holding the attributes."""
        values = (getattr(self, f.name) for f in fields(self))
        namespace = self.domain.replace(".", "::") or "sofie"
        return Functor(f"{namespace}::{self.name}", tuple(values))

    def inner_functor(self) -> Functor:
        """The same between two layers, where the next sum rounds more than it may."""
        return self.functor()

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        present = [i for i in inputs if i is not None]
        (y,) = outputs
        shape, shapes = collapse(y.type.shape, [i.type.shape for i in present])
        # Where the inner loop is of any length, known outer sizes would not make it faster.
        loose = not isinstance(shape[-1], int)
        views = (Tensor(i, s, loose) for i, s in zip(present, shapes, strict=True))
        return Call("sofie::map", (self.functor(), Tensor(y, shape, loose), *views))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        if self.domain not in ("", "sofie"):
            return super().on_device(inputs, outputs)
        return mapped(self.lower(inputs, outputs))


def reduce_sizes(function: Any, inputs: Sequence[Array], op: Operator) -> Any:
    """The function of sizes, element by element; of two after two where it takes any number."""
    if isinstance(op, Variadic):
        return reduce(np.frompyfunc(function, 2, 1), inputs)
    return np.frompyfunc(function, len(inputs), 1)(*inputs)


class Unary(Elementwise):
    """y[i] = f(x[i])"""

    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        return super().infer(x)


class Binary(Elementwise):
    """y[i] = f(a[i], b[i])"""

    def infer(self, a: TensorType, b: TensorType) -> TensorType:  # type: ignore[override]
        return super().infer(a, b)


class Comparison(Binary):
    """y[i] = whether a[i] and b[i] compare so"""

    result: ClassVar[DType | None] = DType.BOOL
    tolerance: ClassVar[Tolerance] = Tolerance()


class Variadic(Elementwise):
    """y[i] = f(a[i], b[i], c[i], ...) of one or more tensors"""


def typed(value: float, x: Array) -> Any:
    return x.dtype.type(value)


def floating(function: Any) -> Any:
    """A function of Python floats as a function of arrays, in the dtype of its argument."""
    elementwise = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(elementwise(x.astype(np.float64)), dtype=x.dtype)
