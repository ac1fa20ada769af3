"""Conversions of elements: by value, and by their bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sofie_rdf.errors import TypeMismatch, UnsupportedOperator
from sofie_rdf.ir import dims
from sofie_rdf.ir.operator import Call, Functor, Launch, Operand, Operator, Tensor, operator
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops._device import mapped
from sofie_rdf.ops._formats import converted

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value

_ROUND_MODES = ("up", "down", "nearest")
# How many bits an element has, where they do not fill its bytes.
_BITS = {
    DType.FLOAT6E2M3: 6,
    DType.FLOAT6E3M2: 6,
    DType.FLOAT4E2M1: 4,
    DType.INT4: 4,
    DType.UINT4: 4,
    DType.INT2: 2,
    DType.UINT2: 2,
}


@operator(since=28, header="sofie/kernels/elementwise.hxx")
class Cast(Operator):
    """x as another element type; floats become integers towards zero, bools by x != 0

    Numbers become the nearest ones of a type of fewer bits, those beyond its largest that one with
    ``saturate`` (of eight bits and fewer), else infinity or NaN. ``round_mode`` is of powers of
    two: up, down, nearest.
    """

    moves: ClassVar[bool] = True
    dtypes: ClassVar[frozenset[DType]] = frozenset(DType)

    to: DType
    saturate: bool = True
    round_mode: str = "up"

    def __post_init__(self) -> None:
        if self.round_mode not in _ROUND_MODES:
            raise UnsupportedOperator(f"Cast has no rounding mode {self.round_mode!r}")

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(self.to, x.shape)

    def functor(self, dtype: DType) -> Functor:
        """The function object for elements of this type."""
        if any(d.is_half or d.is_storage for d in (dtype, self.to)):
            mode = _ROUND_MODES.index(self.round_mode)
            return Functor(f"sofie::Recast<{dtype.cxx}, {self.to.cxx}>", (self.saturate, mode))
        return Functor(f"sofie::Cast<{self.to.cxx}>")

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,), (y,) = inputs, outputs
        assert x is not None
        size = (x.type.size,)
        functor = self.functor(x.type.dtype)
        return Call("sofie::map", (functor, Tensor(y, size), Tensor(x, size)))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        return mapped(self.lower(inputs, outputs))

    def on_sizes(self, *inputs: Array) -> Array:
        (x,) = inputs
        if not self.to.is_integer or self.to.nbytes < 4:
            raise dims.Undecided
        return x

    def reference(self, x: Array) -> Array:
        return converted(x, self.to, saturate=self.saturate, round_mode=self.round_mode)

    def pullback(self, back: Backward) -> Value:
        return back.g.apply("Cast", to=back.x.dtype)


@operator(since=26, header="sofie/kernels/quantization.hxx")
class BitCast(Operator):
    """The bits of x as another element type of the same width"""

    moves: ClassVar[bool] = True

    to: DType

    def infer(self, x: TensorType) -> TensorType:
        if _width(x.dtype) != _width(self.to):
            raise TypeMismatch(f"cannot take the bits of {x.dtype} as {self.to}: of another width")
        return TensorType(self.to, x.shape)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,), (y,) = inputs, outputs
        assert x is not None
        size = (x.type.size,)
        return Call("sofie::copy_bits", (Tensor(y, size), Tensor(x, size)))

    def reference(self, x: Array) -> Array:
        # Through bytes: NumPy takes no view of a scalar as another type.
        is_bool = self.to is DType.BOOL
        found: Array = np.frombuffer(x.tobytes(), np.uint8 if is_bool else self.to.numpy)
        return (found != 0 if is_bool else found).reshape(x.shape)


def _width(dtype: DType) -> int:
    return _BITS.get(dtype, 8 * dtype.nbytes)
