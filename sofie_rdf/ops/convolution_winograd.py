"""Convolutions with fewer multiplications, where they are large enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import Dim, maximum
from sofie_rdf.ir.operator import Call, Operand, Packed, Tensor, operator
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.convolution import ConvLayer
from sofie_rdf.ops.elementwise import FLOATS

__all__ = ["WinogradConv"]

# Of the kernel: the columns of a tile of sums where registers have 64 bytes, the elements of a
# register there, the features whose sums are there at the same time.
_COLUMNS, _LANES, _FEATURES = 48, 16, 16
# How many transformed inputs there should be at a time at most, so that they stay in the cache.
_BUDGET = 1 << 18


@operator(domain="sofie", terms=2, ulp=8, header="sofie/kernels/convolution_winograd.hxx")
class WinogradConv(ConvLayer):
    """y = activation(Conv(x, w, b) + added), 4 x 4 results of a channel by 6 x 6 or 8 x 8 products

    Its error is that of a sum in which each input is as large as the largest of its channel that
    is less than a tile away in height and width, and each weight as large as the largest of its
    channel, feature and depth: an input of 0 beside one of 1e6 adds what is lost of 1e6. An event
    of which the largest input is not finite or not between 2^-40 and 2^40 is computed as in
    `ConvLayer`, and every event is where the largest weight of a feature is not between 2^-80 and
    2^40. What is 0 throughout fits as well.
    """

    # Half precision is computed as float32.
    dtypes: ClassVar[frozenset[DType]] = FLOATS - {DType.FLOAT64}
    # Of a tile along an axis; and the kernels for which there are tiles.
    outputs: ClassVar[int] = 4
    sizes: ClassVar[tuple[int, ...]] = (3, 5)
    # Fewer features have another tile in `ConvLayer`. Of few channels the tolerance is less than
    # what the transforms add.
    least_features: ClassVar[int] = 5
    least_channels: ClassVar[int] = 4
    # Events of fewer tiles are quicker without: the transformed weights would be read for few. So
    # are those of tiles that are half empty.
    least_tiles: ClassVar[int] = 12

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        b: TensorType | None = None,
        added: TensorType | None = None,
    ) -> TensorType:
        y = super().infer(x, w, b, added)  # type: ignore[arg-type]
        if x.dtype not in self.dtypes:
            raise TypeMismatch(f"is not defined for {x.dtype}")
        features, channels = w.shape[:2]
        if not isinstance(features, int) or not isinstance(channels, int) or x.rank < 4:
            raise ShapeError("needs known channels and features, and 2 or 3 axes of space")
        if features < self.least_features or channels < self.least_channels:
            needed = f"{self.least_features} features and {self.least_channels} channels"
            raise ShapeError(f"needs {needed}")
        if {1} != {self.group, *(self.strides or (1,)), *(self.dilations or (1,))}:
            raise ShapeError("needs one group, and strides and dilations of 1")
        if not {*self.kernel(w.shape[2:])[-2:]} <= {*range(2, max(self.sizes) + 1)}:
            raise ShapeError(f"needs a kernel of 2 to {max(self.sizes)} in height and width")
        return y

    def reference(
        self, x: Array, w: Array, b: Array | None = None, added: Array | None = None
    ) -> Array:
        return super().reference(x, w, b, added)  # type: ignore[arg-type]

    def inputs_of_a_tile(self, w: Shape) -> int:
        """How many a tile has along an axis."""
        largest = max(self.kernel(w[2:])[-2:])
        return self.outputs - 1 + next(s for s in self.sizes if s >= largest)

    def _points(self, w: Shape) -> int:
        """How many products there are for a tile and a channel, with all depths of the kernel."""
        kernel = self.kernel(w[2:])
        return self.inputs_of_a_tile(w) ** 2 * (kernel[0] if len(kernel) > 2 else 1)

    def _columns(self, w: Shape) -> int:
        """How many tiles are done at a time: whole registers, as many as the cache has room for."""
        channels = w[1]
        assert isinstance(channels, int)
        fit = _BUDGET // (self._points(w) * channels) // _LANES * _LANES
        return min(max(fit, _LANES), _COLUMNS)

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        w = inputs[1]
        assert w is not None
        scratch, offsets, _ = super().workspace(inputs)
        step = w.shape[1] * self._columns(w.shape) + 3 * _LANES
        sums = self.inputs_of_a_tile(w.shape) ** 2 * (_FEATURES * _COLUMNS + _LANES)
        needed = self._points(w.shape) * step + sums + _LANES
        return TensorType(scratch.dtype, (maximum(scratch.shape[0], needed),)), offsets

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        w = inputs[1]
        assert w is not None
        if any(o is not None and not o.constant for o in inputs[1:3]):
            raise TypeMismatch("needs constant weights")
        # Memory for weights that are packed at run time is not needed: these are constants.
        direct = super().lower(inputs, (*outputs, outputs[-1]))
        sizes = [a for a in direct.arguments if not isinstance(a, (Tensor, Packed))]
        tensors = [a for a in direct.arguments if isinstance(a, (Tensor, Packed))]
        shape, tile = w.type.shape, self.inputs_of_a_tile(w.type.shape)
        packed = f"sofie::WinogradWeights<{tile}>"
        tensors = [replace(a, cxx=packed) if isinstance(a, Packed) else a for a in tensors]
        more: tuple[Dim, ...] = (self._columns(shape), self.least_tiles)
        return replace(
            direct,
            kernel=f"sofie::convolution_winograd<{tile}>",
            arguments=(*sizes, *more, *tensors),
        )
