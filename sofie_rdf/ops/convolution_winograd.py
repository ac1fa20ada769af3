"""Convolutions with fewer multiplications, where they are large enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import Dim, ceil_div, maximum, minimum
from sofie_rdf.ir.operator import Call, Operand, Operator, Packed, Tensor, operator
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops._lanes import best_half, is_short
from sofie_rdf.ops.convolution import ConvLayer
from sofie_rdf.ops.elementwise import FLOATS

__all__ = ["FROM_POINTS", "TO_POINTS", "WinogradConv"]

# Of the kernel: the columns of a tile of sums where registers have 64 bytes, the elements of a
# register there, the features whose sums are there at the same time.
_COLUMNS, _LANES, _FEATURES = 48, 16, 16
# How many transformed inputs there should be at a time at most, so that they stay in the cache.
_BUDGET = 1 << 18
# Transforming an input or an output takes the time of so many products; where tiles are of 2 x 2 it
# does of these.
TO_POINTS, FROM_POINTS, _TO_FEW, _FROM_FEW = 30, 24, 14, 9
# Where features lie in the lanes: the transformed inputs, and the widest image; the transformed
# weights that the second cache keeps, and the tiles whose products take as long as reading others.
_LANES_BUDGET, _WIDEST, _NEAR, _STREAM = 1 << 18, 1024, 1 << 18, 24
# Of images of any size: the outputs of tiles between which the kernel chooses, and the columns of
# half a tile of products.
_OUTPUTS, _OPEN_HALF = (4, 2), 6


def _time(outputs: int, sizes: tuple[int, int], weights: int) -> float:
    """What products take for each weight, or reading their weights from far away does."""
    points = (outputs + 2) ** 2
    tiles = -(-sizes[0] // outputs) * -(-sizes[1] // outputs)
    return points * max(tiles, _STREAM if points * weights > _NEAR else 0)


def _apart(channels: int) -> int:
    """Elements from one transformed input to the next: an odd number of cache lines."""
    return (channels // _LANES | 1) * _LANES


@dataclass(frozen=True, slots=True)
class Lanes:
    """Outputs of a tile along an axis; columns of half a tile of products, and of `ConvLayer`'s.

    Of an image whose size is open the kernel chooses between tiles: it has 0 outputs here.
    """

    outputs: int
    half: int
    direct: int

    def tiles(self, channels: int, width: Dim, lines: Dim) -> Dim:
        """How many are done at a time of so many lines of tiles; or that and some more."""
        across = ceil_div(width, self.outputs)
        points = (self.outputs + 2) ** 2 * _apart(channels)
        if not isinstance(across, int):
            return minimum(maximum(across, _LANES_BUDGET // points), across * lines)
        return across * minimum(max(1, _LANES_BUDGET // (points * across)), lines)

    def memory(self, channels: Dim, size: tuple[Dim, Dim], events: Dim) -> Dim:
        """Transformed inputs, sums, lines of channels, and what becomes of them."""
        if not self.outputs:
            each = (replace(self, outputs=o).memory(channels, size, events) for o in _OUTPUTS)
            return maximum(*each)
        assert isinstance(channels, int)
        across, inputs = ceil_div(size[1], self.outputs), self.outputs + 2
        tiles = self.tiles(channels, size[1], events * ceil_div(size[0], self.outputs))
        points = [
            inputs**2 * (tiles * n + _LANES) + self.half * n for n in (_apart(channels), 2 * _LANES)
        ]
        results = self.outputs**2 * across * 2 * _LANES
        columns = across * self.outputs + 2
        return points[0] + points[1] + results + (2 * inputs * columns + 5) * _LANES


@operator(domain="sofie", terms=2, ulp=8, header="sofie/kernels/convolution/winograd.hxx")
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
    # It is a form for CPUs.
    on_device = Operator.on_device
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

    def group_lanes(self, inputs: Sequence[TensorType | None]) -> None:
        """Not even where few features would be narrow lanes."""

    def columns(self, inputs: Sequence[TensorType | None]) -> None:
        """Events that no tile may have are computed by the kernels that the others are made of."""

    def lanes(self, inputs: Sequence[TensorType | None]) -> Lanes | None:
        """How features lie in the lanes, if they fill them."""
        x, w = inputs[:2]
        assert x is not None and w is not None
        direct, (features, channels) = self.half_of_lanes(inputs), w.shape[:2]
        fills = self.inputs_of_a_tile(w.shape) == 6 and len(w.shape) == 4
        assert isinstance(features, int) and isinstance(channels, int)
        if not direct or not fills or channels % _LANES:
            return None
        height, width = (s.count for s in self.slides(x.shape, w.shape))
        if isinstance(width, int) and not 0 < width <= _WIDEST:
            return None
        if not isinstance(height, int) or not isinstance(width, int):
            return Lanes(0, _OPEN_HALF, direct)
        large = self.is_of_tiles(height, width)
        sizes = (
            (self.outputs, 2) if large and height > 0 else (2,) if height > 0 else (self.outputs,)
        )
        outputs = min(sizes, key=lambda n: _time(n, (height, width), features * channels))
        together = Lanes(outputs, 0, 0).tiles(channels, width, -(-height // outputs))
        assert isinstance(together, int)
        return Lanes(outputs, best_half(together, min(channels, 64)), direct)

    def is_of_tiles(self, height: int, width: int) -> bool:
        """Whether there are enough tiles, which are not half empty."""
        tiles = -(-height // self.outputs) * -(-width // self.outputs)
        return tiles >= self.least_tiles and 2 * height * width >= self.outputs**2 * tiles

    def gain_of_small_tiles(self, inputs: Sequence[TensorType | None]) -> float | None:
        """How many times faster they are than no tiles at all; None where others are taken."""
        x, w = inputs[:2]
        assert x is not None and w is not None
        lanes = self.lanes(inputs)
        if lanes is None or lanes.outputs != 2:
            return None
        features, channels, *kernel = w.shape
        height, width = (s.count for s in self.slides(x.shape, w.shape))
        assert isinstance(height, int) and isinstance(width, int)
        assert isinstance(features, int) and isinstance(channels, int)
        weights, taps = features * channels, math.prod(int(k) for k in kernel if isinstance(k, int))
        far = _STREAM if taps * weights > _NEAR else 0
        transforms = 1 + _TO_FEW / features + _FROM_FEW / channels
        return taps * max(height * width, far) / (_time(2, (height, width), weights) * transforms)

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x, w = inputs[:2]
        assert x is not None and w is not None
        scratch, offsets, _ = super().workspace(inputs)
        if lanes := self.lanes(inputs):
            height, width = (s.count for s in self.slides(x.shape, w.shape))
            more = lanes.memory(w.shape[1], (height, width), x.shape[0])
            scratch = TensorType(scratch.dtype, (maximum(scratch.shape[0], more),))
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
        packed, kernel = f"WinogradWeights<{tile}>", f"convolution_winograd<{tile}>"
        header = self.header
        if lanes := self.lanes([None if o is None else o.type for o in inputs]):
            size = lanes.outputs + 2
            packed = f"WinogradLanesWeights<{size}>"
            form = f"{lanes.half}, {lanes.direct}, {str(is_short(shape[0])).lower()}"
            kernel = f"convolution_winograd_lanes<{size}, {form}>"
            if not lanes.outputs:
                packed = "WinogradLanesWeights<6, 4>"
                kernel = f"convolution_winograd_open<{form}>"
            header = "sofie/kernels/convolution/winograd_lanes.hxx"
        tensors = [
            replace(a, cxx=f"sofie::{packed}") if isinstance(a, Packed) else a for a in tensors
        ]
        more: tuple[Dim, ...] = (self._columns(shape), self.least_tiles)
        return replace(
            direct,
            kernel=f"sofie::{kernel}",
            arguments=(*sizes, *more, *tensors),
            header=header,
        )
