"""Rows of pooling: of windows, of whole planes, of regions; and of its inverse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.pooling import (
    LRN,
    AveragePool,
    GlobalAveragePool,
    GlobalLpPool,
    GlobalMaxPool,
    LpPool,
    MaxPool,
    MaxUnpool,
    RuntimeMaxUnpool,
)
from sofie_rdf.ops.regions import MaxRoiPool, RoiAlign
from tests.ops.cases import Case, Fill, M, Make, N, Random, Row, anything, sparse

# How windows slide, and over what.
_WINDOWS: tuple[tuple[dict[str, Any], Shape], ...] = (
    ({"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}, (N, 2, 7, 8)),
    ({"kernel_shape": (2,)}, (N, 3, 9)),
    ({"kernel_shape": (3,), "pads": (1, 1)}, (N, 2, M)),
    ({"kernel_shape": (2, 3), "auto_pad": "SAME_UPPER", "strides": (2, 3)}, (N, 1, M, 5)),
    ({"kernel_shape": (2, 4), "auto_pad": "SAME_LOWER"}, (2, 2, 5, 40)),
    ({"kernel_shape": (2, 2), "auto_pad": "VALID", "strides": (3, 2)}, (2, 2, 6, 71)),
    ({"kernel_shape": (3, 2), "dilations": (2, 3), "pads": (2, 0, 1, 3)}, (2, 1, 6, 9)),
    ({"kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": True}, (2, 2, 6, 36)),
    (
        {"kernel_shape": (1, 2), "strides": (2, 2), "ceil_mode": True, "pads": (0, 1, 1, 1)},
        (1, 2, 4, 4),
    ),
    ({"kernel_shape": (3,), "strides": (2,), "ceil_mode": True, "pads": (1, 1)}, (2, N, M)),
    (
        {"kernel_shape": (2, 3, 2), "strides": (1, 2, 3), "pads": (1, 0, 1, 0, 1, 1)},
        (2, 2, 3, 4, 7),
    ),
    ({"kernel_shape": (1, 1), "strides": (5, 7)}, (1, 2, 11, 40)),
    ({"kernel_shape": (1, 2, 1, 2)}, (1, 2, 2, 3, 1, 4)),
    ({"kernel_shape": (2, 2), "pads": (0, 0, 3, 3)}, (1, 1, 2, 2)),
    # Rows of a plane, or planes, that are not all done at a time; windows far apart.
    ({"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}, (1, 2, 75, 70)),
    ({"kernel_shape": (2, 2), "strides": (2, 2)}, (3, 60, 10, 6)),
    ({"kernel_shape": (3,), "strides": (3,)}, (N, 2, 100)),
    # Planes in the lanes: blocks of 4, 8 and 14 columns, one or more, windows of pads alone.
    ({"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}, (N, 9, 7, 7)),
    ({"kernel_shape": (3, 2), "pads": (2, 0, 1, 1), "dilations": (1, 2)}, (3, 8, 5, 15)),
    ({"kernel_shape": (2, 2), "strides": (1, 2), "ceil_mode": True}, (2, 17, 6, 21)),
    ({"kernel_shape": (2, 2), "auto_pad": "SAME_LOWER", "strides": (3, 1)}, (1, 8, 8, 7)),
    ({"kernel_shape": (2, 2), "pads": (0, 3, 3, 0), "strides": (1, 2)}, (N, 8, 3, 4)),
    # Pairs of neighbours: packs that are full, more and less than half of one, rows left over.
    ({"kernel_shape": (2, 2), "strides": (2, 2)}, (N, 3, 5, 64)),
    ({"kernel_shape": (2, 2), "strides": (2, 2)}, (2, 2, 4, 47)),
    ({"kernel_shape": (2, 2), "strides": (2, 2)}, (2, 9, 3, 28)),
    ({"kernel_shape": (2, 2), "strides": (2, 2), "ceil_mode": True}, (1, 8, 5, 12)),
    ({"kernel_shape": (2, 2), "strides": (2, 2), "pads": (0, 0, 1, 1)}, (1, 2, 4, 5)),
    ({"kernel_shape": (2, 2)}, (0, 2, 3, 3)),
    ({"kernel_shape": (2, 2)}, (0, 8, 3, 3)),
    ({"kernel_shape": (2,)}, (3, 0, 4)),
)
_SHORT = 2


def _windows(kind: Any, fill: Fill, *more: dict[str, Any]) -> Make:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        for number, (how, shape) in enumerate(_WINDOWS if full else _WINDOWS[:_SHORT]):
            for other in more if full or not number else more[:1]:
                yield Case(kind(**how, **other), (TensorType(dtype, shape),), (fill,))

    return make


def _max_pool(dtype: DType, full: bool) -> Iterator[Case]:
    """The values alone are found in another way than values with indices."""
    for case in _windows(MaxPool, anything, {}, {"storage_order": 1})(dtype, full):
        yield case
        if not case.op.attributes().get("storage_order"):
            yield replace(case, only_first_output=True)


def _mean_of_magnitudes(op: Any, x: Array) -> Array:
    """Of a mean, and of a norm, which is a sum of positive numbers anyway."""
    return np.asarray(op.reference(np.abs(x)))


_PLANES: tuple[Shape, ...] = (
    (N, 3, 7, 5),
    (N, 2, M),
    (2, 3, 130),
    (2, 40, 4, 4),
    (3, 7, 50),
    (2, 3),
    (1, 2, 3, 1, 2),
    (0, 2, 3),
)


def _planes(*ops: Operator, fill: Fill) -> Make:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        for op in ops:
            for shape in _PLANES if full else _PLANES[:2]:
                yield Case(op, (TensorType(dtype, shape),), (fill,))

    return make


def _largest_plane(x: Array) -> float:
    return float(min(130, max(1, x.size)))


# Neighbouring channels ----------------------------------------------------------------------------


def _lrn(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: tuple[Shape, ...] = ((N, 5, 2, 2), (N, 3), (2, 4, 3, 17), (1, 0, 2), (0, 2, 3, 1))
    for shape in shapes if full else shapes[:2]:
        for op in (
            LRN(size=3),
            LRN(size=2, alpha=0.5, beta=0.5, bias=0.5),
            LRN(size=7, alpha=2.0, beta=1.0, bias=2.0),
            LRN(size=1, alpha=1.0, beta=0.3, bias=1.0),
        ):
            yield Case(op, (TensorType(dtype, shape),), (sparse,))


def _squares_overflow(op: Any, error: Array, dtype: np.dtype[Any], x: Array) -> Array:
    """Nothing is promised where a sum of squares is no number of the element type."""
    total = np.sum(np.where(np.isfinite(x), x, 0) ** 2, axis=1, keepdims=True)
    scaled = total * max(1.0, op.alpha)
    return np.where(scaled > np.finfo(dtype).max, np.inf, error)


# The inverse --------------------------------------------------------------------------------------


def _places(count: int) -> Fill:
    """Different indices below ``count``."""

    def fill(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
        chosen = random.permutation(count)[: int(np.prod(shape))]
        return np.asarray(chosen, dtype.numpy).reshape(shape)

    return fill


_UNPOOLED: tuple[tuple[dict[str, Any], Shape, int, Shape], ...] = (
    ({"kernel_shape": (2, 2), "strides": (2, 2)}, (1, 2, 2, 3), 48, (1, 2, 5, 6)),
    ({"kernel_shape": (3,), "strides": (2,), "pads": (1, 1)}, (2, 3, 4), 42, (2, 3, 9)),
    ({"kernel_shape": (1,)}, (3, 1, 4), 12, (3, 2, 4)),
    ({"kernel_shape": (2,)}, (0, 2, 3), 1, (0, 2, 4)),
)


def _max_unpool(dtype: DType, full: bool) -> Iterator[Case]:
    for how, shape, count, larger in _UNPOOLED if full else _UNPOOLED[:2]:
        inputs = TensorType(dtype, shape), TensorType(DType.INT64, shape)
        for output_shape in (None, larger):
            op = MaxUnpool(**how, output_shape=output_shape)
            yield Case(op, inputs, (anything, _places(count)))


def _runtime_max_unpool(dtype: DType, full: bool) -> Iterator[Case]:
    for how, shape, count, larger in _UNPOOLED if full else _UNPOOLED[:2]:
        inputs = TensorType(dtype, shape), TensorType(DType.INT64, shape)
        wanted = np.array(larger, np.int64)
        yield Case(RuntimeMaxUnpool(**how), (*inputs, wanted), (anything, _places(count)))


# Regions ------------------------------------------------------------------------------------------

_IMAGES = (2, 3, 5, 7)


def _corners(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    """Rectangles, of which some reach beyond the image and some are turned inside out."""
    return np.asarray(random.uniform(-2, 9, shape), dtype.numpy)


def _numbered_corners(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    corners = _corners(random, dtype, shape, False)
    corners[:, 0] = random.integers(0, _IMAGES[0], len(corners))
    return corners


def _image_numbers(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    return np.asarray(random.integers(0, _IMAGES[0], shape), dtype.numpy)


def _finite(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Whether the weight of an infinite neighbour is zero depends on how a point is rounded."""
    values = sparse(random, dtype, shape, extreme)
    return np.where(np.isinf(values), dtype.numpy.type(1), values)


def _max_roi_pool(dtype: DType, full: bool) -> Iterator[Case]:
    inputs = TensorType(dtype, _IMAGES), TensorType(dtype, (N, 5))
    for op in (MaxRoiPool((2, 3)), MaxRoiPool((1, 1), 0.5), MaxRoiPool((4, 9), spatial_scale=0.7)):
        yield Case(op, inputs, (anything, _numbered_corners))
    if full:
        empty = TensorType(dtype, (1, 2, 0, 3)), TensorType(dtype, (0, 5))
        yield Case(MaxRoiPool((2, 2)), empty, (anything, _numbered_corners))


def _roi_align(dtype: DType, full: bool) -> Iterator[Case]:
    inputs = TensorType(dtype, _IMAGES), TensorType(dtype, (N, 4)), TensorType(DType.INT64, (N,))
    corner = "output_half_pixel"
    for op in (
        RoiAlign(output_height=2, output_width=3),
        RoiAlign(corner, output_height=3, sampling_ratio=2),
        RoiAlign(mode="max", output_height=2, output_width=2, spatial_scale=0.7),
        RoiAlign(corner, mode="max", sampling_ratio=1),
    ):
        yield Case(op, inputs, (_finite, _corners, _image_numbers))
    if full:
        flat = TensorType(dtype, (2, 2, 1, 1)), *inputs[1:]
        yield Case(RoiAlign(output_height=2), flat, (_finite, _corners, _image_numbers))


def _aligned(op: Any, x: Array, rois: Array, images: Array) -> Array:
    mean = replace(op, mode="avg").reference(np.abs(x), rois, images)
    if x.dtype == np.float64:  # That is float32, whose coordinates the kernel has in float64, too.
        return np.asarray(2 * mean)
    # A coordinate has the error of a number of the size of the image.
    return np.asarray(2 * mean + 8 * np.max(np.abs(x[np.isfinite(x)]), initial=0))


def _points(*_: Array) -> float:
    return 64.0


ROWS: dict[tuple[str, str], Row] = {
    ("", "AveragePool"): Row(
        _windows(AveragePool, sparse, {}, {"count_include_pad": True}),
        _mean_of_magnitudes,
        lambda _: 12.0,
        signed_zeros=False,
    ),
    # Neither IEEE 754 nor NumPy say which of 0 and -0 is the larger one.
    ("", "MaxPool"): Row(_max_pool, signed_zeros=False),
    ("", "LpPool"): Row(
        _windows(LpPool, anything, {"p": 1}, {}, {"p": 3}), _mean_of_magnitudes, lambda _: 12.0
    ),
    ("", "GlobalAveragePool"): Row(
        _planes(GlobalAveragePool(), fill=sparse),
        _mean_of_magnitudes,
        _largest_plane,
        signed_zeros=False,
    ),
    ("", "GlobalMaxPool"): Row(_planes(GlobalMaxPool(), fill=anything), signed_zeros=False),
    ("", "GlobalLpPool"): Row(
        _planes(GlobalLpPool(), GlobalLpPool(1), GlobalLpPool(3), fill=anything),
        _mean_of_magnitudes,
        _largest_plane,
    ),
    ("", "LRN"): Row(_lrn, slack=_squares_overflow),
    ("", "MaxUnpool"): Row(_max_unpool),
    ("sofie", "RuntimeMaxUnpool"): Row(_runtime_max_unpool),
    ("", "MaxRoiPool"): Row(_max_roi_pool, signed_zeros=False),
    ("", "RoiAlign"): Row(_roi_align, _aligned, _points, signed_zeros=False),
}
