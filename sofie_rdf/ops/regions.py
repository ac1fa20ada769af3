"""Operators that pool regions of interest: rectangles in images that the data decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import require_equal
from sofie_rdf.ir.operator import (
    Call,
    Functor,
    Operand,
    Operator,
    Tensor,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ir.windows import require_count
from sofie_rdf.ops._room import require_room
from sofie_rdf.ops._slopes_grid import pooled
from sofie_rdf.ops.elementwise import FLOATS

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


def _image(number: Any, images: int) -> int:
    """The number of an image; ValueError if there is no such image."""
    if not 0 <= number < images:
        raise ValueError(f"a region of interest is in image {number} of {images}")
    return int(number)


class _Regions(Operator):
    """An operator on images x[n, c, h, w] and on regions, one in each row of ``rois``."""

    header: ClassVar[str] = "sofie/kernels/pooling/roi.hxx"

    def accept(self, x: TensorType, rois: TensorType, columns: int) -> DType:
        dtype = require_same_dtype(x, rois)
        if dtype not in FLOATS:
            raise TypeMismatch(f"is not defined for {dtype}")
        if x.rank != 4:
            raise ShapeError("needs images [n, c, h, w]")
        if rois.rank != 2:
            raise ShapeError(f"needs regions of {columns} numbers each")
        require_equal(rois.shape[1], columns)
        return dtype


@operator(since=22)
class MaxRoiPool(_Regions):
    """y[r, c, i, j] = the largest element of x[n, c] in part (i, j) of region r"""

    pooled_shape: tuple[int, ...]
    spatial_scale: float = 1.0

    def infer(self, x: TensorType, rois: TensorType) -> TensorType:
        dtype = self.accept(x, rois, 5)
        require_count("pooled_shape", self.pooled_shape, 2)
        return TensorType(dtype, (rois.shape[0], x.shape[1], *self.pooled_shape))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, rois = inputs
        assert x is not None and rois is not None
        scale = Functor("double", (self.spatial_scale,))
        return Call("sofie::max_roi_pool", (Tensor(outputs[0]), Tensor(x), Tensor(rois), scale))

    def reference(self, x: Array, rois: Array) -> Array:
        y = np.zeros((len(rois), x.shape[1], *self.pooled_shape), x.dtype)
        for region, (number, *corners) in enumerate(rois):
            limits.spend(what="pooling regions")
            scaled = np.asarray(corners) * self.spatial_scale
            x1, y1, x2, y2 = (int(c) for c in np.copysign(np.floor(np.abs(scaled) + 0.5), scaled))
            rows = _parts(y1, max(y2 - y1 + 1, 1), self.pooled_shape[0], x.shape[2])
            columns = _parts(x1, max(x2 - x1 + 1, 1), self.pooled_shape[1], x.shape[3])
            for i, down in enumerate(rows):
                for j, across in enumerate(columns):
                    part = x[_image(number, len(x)), :, down, across]
                    if part.shape[1] and part.shape[2]:
                        y[region, :, i, j] = np.max(part, axis=(1, 2))
        return y


def _parts(begin: int, extent: int, parts: int, size: int) -> list[slice]:
    """The elements of each part of a region along one axis, as far as they exist."""
    found = []
    for part in range(parts):
        first = begin + part * extent // parts
        last = begin - (-(part + 1) * extent // parts)
        found.append(slice(min(max(first, 0), size), min(max(last, 0), size)))
    return found


@operator(since=22, ulp=4, terms=4)
class RoiAlign(_Regions):
    """y[r, c, i, j] = the mean of x[n, c], interpolated at points in part (i, j) of region r"""

    coordinate_transformation_mode: str = "half_pixel"
    mode: str = "avg"
    output_height: int = 1
    output_width: int = 1
    sampling_ratio: int = 0
    spatial_scale: float = 1.0

    def infer(self, x: TensorType, rois: TensorType, batch_indices: TensorType) -> TensorType:
        dtype = self.accept(x, rois, 4)
        if batch_indices.dtype is not DType.INT64 or batch_indices.rank != 1:
            raise TypeMismatch("needs the number of an image, int64, for each region")
        require_equal(rois.shape[0], batch_indices.shape[0])
        require_count("output_height, output_width", (self.output_height, self.output_width), 2)
        if self.coordinate_transformation_mode not in ("half_pixel", "output_half_pixel"):
            raise ShapeError(f"does not know {self.coordinate_transformation_mode!r}")
        if self.mode.lower() not in ("avg", "max"):
            raise ShapeError(f"is avg or max, not {self.mode!r}")
        return TensorType(dtype, (rois.shape[0], x.shape[1], self.output_height, self.output_width))

    @property
    def _half_pixel(self) -> bool:
        return self.coordinate_transformation_mode == "half_pixel"

    @property
    def _is_max(self) -> bool:
        return self.mode.lower() == "max"

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, rois, images = inputs
        assert x is not None and rois is not None and images is not None
        numbers = (self.spatial_scale, self.sampling_ratio, self._half_pixel)
        rule = Functor("sofie::RegionSampling", numbers)
        kernel = f"sofie::roi_align<{'true' if self._is_max else 'false'}>"
        return Call(kernel, (rule, Tensor(outputs[0]), Tensor(x), Tensor(rois), Tensor(images)))

    def reference(self, x: Array, rois: Array, batch_indices: Array) -> Array:
        sizes = self.output_height, self.output_width
        y = np.zeros((len(rois), x.shape[1], *sizes), x.dtype)
        shift = 0.5 if self._half_pixel else 0.0
        for region, number in enumerate(batch_indices):
            image = x[_image(number, len(x))]
            x1, y1, x2, y2 = rois[region] * x.dtype.type(self.spatial_scale) - shift
            down = self._points(y1, y2, sizes[0], x.shape[2])
            across = self._points(x1, x2, sizes[1], x.shape[3])
            if down[0].shape[1] and across[0].shape[1] and x.shape[2] and x.shape[3]:
                y[region] = self._pooled(image, down, across)
        return y

    def formula(self, x: Value, rois: Value, images: Value) -> tuple[Value]:
        # Between two elements, a place that is rounded in float32 gives another number.
        return (pooled(self, x, rois.cast(DType.FLOAT64), images),)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return back.by_formula(lambda x, rois, images: (pooled(self, x, rois, images),))

    def _points(self, begin: Any, end: Any, parts: int, size: int) -> tuple[Array, ...]:
        """For each part the lower neighbours of its points, the upper ones and their weights."""
        extent = end - begin if self._half_pixel else max(end - begin, begin.dtype.type(1))
        part = extent / parts
        points = self.sampling_ratio if self.sampling_ratio > 0 else max(0, int(np.ceil(part)))
        require_room("the points of a region", (parts, points))
        within = (np.arange(points) + begin.dtype.type(0.5)) * part / max(points, 1)
        at = (begin + np.arange(parts) * part)[:, np.newaxis] + within
        inside = (at >= -1) & (at <= size)
        at = np.clip(at, 0, max(size - 1, 0))
        low = np.floor(at).astype(np.int64)
        return low, np.minimum(low + 1, size - 1), at - low, inside

    def _pooled(self, image: Array, down: tuple[Array, ...], across: tuple[Array, ...]) -> Array:
        require_room("the points of a region", (len(image), down[3].size, across[3].size))
        inside = np.multiply.outer(down[3], across[3])
        corners = []
        for row, height in ((down[0], 1 - down[2]), (down[1], down[2])):
            for column, width in ((across[0], 1 - across[2]), (across[1], across[2])):
                weight = np.where(inside, np.multiply.outer(height, width), 0)
                values = image[:, row[:, :, np.newaxis, np.newaxis], column[np.newaxis, np.newaxis]]
                # What counts for nothing may be infinite.
                corners.append(np.where(weight == 0, 0, values * weight))
        if self._is_max:
            return np.asarray(np.max(np.max(corners, axis=0), axis=(2, 4)))
        return np.asarray(np.mean(np.sum(corners, axis=0), axis=(2, 4)))
