"""Rows of resampling: other sizes, positions that the data decide, and blocks of pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sofie_rdf.ir.dims import minimum
from sofie_rdf.ir.operator import with_sizes
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.blocks import DepthToSpace, SpaceToDepth
from sofie_rdf.ops.grids import AffineGrid, GridSample, RuntimeAffineGrid
from sofie_rdf.ops.resampling import Resize, RuntimeResize
from tests.ops.cases import Case, Fill, M, N, Random, Row, anything, layout, sparse, usual

_IMAGE: Shape = (N, 2, 4, 5)


def _twice(scales: tuple[float, float]) -> Resize:
    """Whose elements are at multiples of what they become."""
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return Resize(scales=(1.0, *scales), **how)


_NEAREST: tuple[tuple[Resize, Shape], ...] = (
    (Resize(scales=(1.0, 1.0, 2.0, 2.0)), _IMAGE),
    (Resize(scales=(1.0, 1.0, 0.6, 1.7)), _IMAGE),
    (Resize(sizes=(N, 2, 7, 3), nearest_mode="floor"), _IMAGE),
    (
        Resize(
            axes=(-1, 1),
            sizes=(9, 3),
            nearest_mode="ceil",
            coordinate_transformation_mode="align_corners",
        ),
        _IMAGE,
    ),
    (
        Resize(
            axes=(2,),
            scales=(3.0,),
            nearest_mode="round_prefer_ceil",
            coordinate_transformation_mode="asymmetric",
        ),
        (N, 2, M, 3),
    ),
    (Resize(axes=(1, 2), sizes=(M * 2, 11)), (N, M, 5)),
    (
        Resize(
            scales=(1.0, 0.5),
            nearest_mode="simple",
            coordinate_transformation_mode="tf_half_pixel_for_nn",
        ),
        (N, 9),
    ),
    (Resize(axes=(1, 2), sizes=(7, 8), keep_aspect_ratio_policy="not_larger"), (N, 4, 6)),
    (Resize(axes=(1, 2), sizes=(7, 8), keep_aspect_ratio_policy="not_smaller"), (N, 4, M)),
    (
        Resize(
            axes=(1, 2),
            sizes=(3, 6),
            roi=(0.4, 0.6, 1.3, 0.2),
            extrapolation_value=7.0,
            coordinate_transformation_mode="tf_crop_and_resize",
        ),
        (N, 4, 4),
    ),
    (Resize(scales=(2.0, 1.0, 1.0)), (3, 2, 4)),
    (Resize(sizes=(0, 3)), (2, 2)),
    (Resize(scales=(0.3,)), (3,)),
    (Resize(scales=(2.0, 1.5)), (0, 4)),
    # Rows in lanes: of one pack and more, from near and from far, of several neighbours.
    (Resize(axes=(1, 2), sizes=(5, 40)), (N, 3, 20)),
    (Resize(axes=(1, 2), sizes=(5, 33)), (N, 9, 77)),
    (Resize(axes=(1,), sizes=(21,)), (N, 100)),
    (Resize(axes=(1, 2), sizes=(4, 9)), (N, 2, 6, 3)),
    # Elements and rows twice: of whole packs, the last within others, and of fewer.
    (_twice((2.0, 2.0)), (N, 3, 16)),
    (_twice((2.0, 2.0)), (2, N, 37)),
    (_twice((2.0, 2.0)), (2, 4, 7)),
    (_twice((3.0, 2.0)), (N, 2, 20)),
    (_twice((1.0, 2.0)), (N, 3, 33)),
    (
        Resize(
            axes=(2,),
            scales=(2.0,),
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        (N, 2, 23),
    ),
)
_SMOOTH: tuple[tuple[dict[str, Any], Shape], ...] = (
    ({"scales": (1.0, 1.0, 2.0, 2.0)}, _IMAGE),
    ({"scales": (1.0, 1.0, 0.5, 4.0)}, (N, 1, 8, 20)),
    ({"scales": (1.0, 1.0, 0.6, 0.7), "antialias": True}, (N, 2, 6, 10)),
    ({"sizes": (N, 2, 3, 9), "coordinate_transformation_mode": "align_corners"}, _IMAGE),
    ({"axes": (2, 3), "sizes": (1, 3), "antialias": True}, (N, 1, 9, 8)),
    (
        {"axes": (2,), "sizes": (1,), "coordinate_transformation_mode": "pytorch_half_pixel"},
        (N, 1, M, 3),
    ),
    (
        {"axes": (1,), "scales": (1.3,), "coordinate_transformation_mode": "half_pixel_symmetric"},
        (N, 5),
    ),
    ({"axes": (1, 2), "sizes": (M * 2, 6), "exclude_outside": True}, (N, M, 7)),
    ({"axes": (1, 2), "sizes": (2, 5), "antialias": True, "exclude_outside": True}, (N, M, 17)),
    ({"axes": (2, 1, 3), "scales": (1.5, 2.0, 0.8), "cubic_coeff_a": -0.5}, (2, 3, 4, 5)),
    ({"axes": (1,), "sizes": (6,), "coordinate_transformation_mode": "asymmetric"}, (2, 4, 19)),
    (
        {
            "axes": (1, 2),
            "sizes": (3, 6),
            "roi": (0.4, 0.6, 1.3, 0.2),
            "extrapolation_value": 7.0,
            "coordinate_transformation_mode": "tf_crop_and_resize",
        },
        (N, 4, 4),
    ),
    (
        {
            "axes": (1, 2),
            "sizes": (3, 5),
            "antialias": True,
            "keep_aspect_ratio_policy": "not_smaller",
        },
        (N, 8, 9),
    ),
    ({"axes": (1, 2), "sizes": (3, M), "keep_aspect_ratio_policy": "not_larger"}, (N, M, 9)),
    ({"sizes": (0, 3)}, (2, 2)),
    ({"axes": (1,), "sizes": (3,)}, (0, 2)),
    # Rows in lanes, some of which nothing is made of.
    ({"axes": (1, 2), "sizes": (5, 40)}, (N, 3, 20)),
    ({"axes": (1, 2), "sizes": (3, 30)}, (N, 16, 80)),
    ({"axes": (1,), "sizes": (17,)}, (N, 40)),
    (
        {
            "axes": (1, 2),
            "sizes": (3, 19),
            "roi": (0.9, 0.8, 0.1, 0.2),
            "coordinate_transformation_mode": "tf_crop_and_resize",
        },
        (N, 9, 30),
    ),
)
# With weights that are exact, so that whole numbers are rounded in the same way.
_EXACT = 2


def _is_smooth(dtype: DType) -> bool:
    return dtype.is_float or dtype.is_integer


def _resize(dtype: DType, full: bool) -> Iterator[Case]:
    for op, shape in _NEAREST if full or dtype is DType.UINT8 else _NEAREST[:2]:
        yield Case(op, (TensorType(dtype, shape),), (anything,))
    chosen = _SMOOTH if dtype in (DType.FLOAT32, DType.FLOAT64) else _SMOOTH[:_EXACT]
    for number, (how, shape) in enumerate(chosen if _is_smooth(dtype) else ()):
        for mode in ("linear", "cubic"):
            fill = _mixed(dtype, number < _EXACT)
            yield Case(Resize(mode=mode, **how), (TensorType(dtype, shape),), (fill,))


def _mixed(dtype: DType, exact: bool) -> Fill:
    """What to interpolate: infinities only if it is certain which weights are 0."""
    return (
        sparse if dtype.is_half or dtype is DType.FLOAT32 or (exact and dtype.is_float) else usual
    )


def _resized_magnitude(op: Resize, x: Array) -> Array:
    if op.mode == "nearest":
        return np.zeros(())
    known = with_sizes(op, {"N": x.shape[0], "M": x.shape[1]} if x.ndim > 1 else {})
    assert isinstance(known, Resize)
    axes = known.resized(TensorType(DType.FLOAT64, x.shape))
    # That is float32, whose weights the kernel has in float64, too.
    least = 0 if x.dtype == np.float64 else 4
    return 4 * known.interpolated(np.abs(x), axes, lambda weights: np.abs(weights) + least)


def _listed(values: Any) -> Array | None:
    if values is None:
        return None
    return np.array(values, np.float32 if isinstance(values[0], float) else np.int64)


def _runtime_resize(dtype: DType, full: bool) -> Iterator[Case]:
    smooth = [(Resize(mode="linear", **how), shape) for how, shape in _SMOOTH]
    smooth += [(Resize(mode="cubic", **how), shape) for how, shape in _SMOOTH]
    exact = [smooth[i] for i in (0, len(_SMOOTH))]
    floats = dtype in (DType.FLOAT32, DType.FLOAT64)
    nearest = _NEAREST if full else _NEAREST[:2]
    for op, shape in (*nearest, *(smooth if floats else exact if _is_smooth(dtype) else ())):
        how = dict(op.attributes())
        told = [how.pop(name, None) for name in ("roi", "scales", "sizes")]
        if any(not isinstance(d, (int, float)) for given in told for d in given or ()):
            continue
        given = [_listed(t) for t in told]
        exact = op in (smooth[0][0], smooth[len(_SMOOTH)][0])
        fill = anything if op.mode == "nearest" else _mixed(dtype, exact)
        yield Case(RuntimeResize(**how), (TensorType(dtype, shape), *given), (fill,))


def _told_magnitude(op: RuntimeResize, x: Array, *told: Array | None) -> Array:
    return _resized_magnitude(op.known(*told), x)


def _few(*_: Array) -> float:
    return 8.0


# Positions ----------------------------------------------------------------------------------------


def _positions(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Mostly inside, some far outside, and edges; so short that coordinates are exact."""
    values = random.uniform(-1.3, 1.3, shape)
    values = np.where(random.random(shape) < 0.1, values * 7, values)
    if extreme:
        rare = anything(random, DType.FLOAT32, shape, True)
        values = np.where(random.random(shape) < 0.05, rare, values)
    with np.errstate(over="ignore"):
        return values.astype(np.float16 if dtype.is_half else np.float32).astype(dtype.numpy)


_SAMPLED: tuple[tuple[Shape, Shape], ...] = (
    ((N, 2, 4, 5), (N, 3, 7, 2)),
    ((N, 1, 3, 2, 4), (N, 2, 1, 3, 3)),
    ((N, 2, M), (N, 5, 1)),
    ((2, 2, 1, 3), (2, 20, 1, 2)),
    ((1, 2, 0, 3), (1, 2, 2, 2)),
    ((0, 1, 2, 3), (0, 2, 2, 2)),
)


_SAMPLINGS = [
    (mode, padding, corners)
    for mode in ("nearest", "bilinear", "cubic")
    for padding in ("zeros", "border", "reflection")
    for corners in (False, True)
]


def _grid_sample(dtype: DType, full: bool) -> Iterator[Case]:
    """Everything in images and volumes; few of all in lines and in images of few points."""
    for number, (shape, grid) in enumerate(_SAMPLED if full else _SAMPLED[:1]):
        step = 5 if not full else 1 if number < 2 else 7
        for mode, padding, corners in _SAMPLINGS[number % 2 :: step]:
            op = GridSample(corners, mode, padding if _is_smooth(dtype) else "zeros")
            position = dtype if dtype.is_float else DType.FLOAT32
            types = TensorType(dtype, shape), TensorType(position, grid)
            fill = sparse if dtype.is_float else usual
            yield Case(op, types, (anything if mode == "nearest" else fill, _positions))


def _sampled_magnitude(op: GridSample, x: Array, grid: Array) -> Array:
    if op.mode == "nearest":
        return np.abs(op.reference(x, grid))
    # A position has the error of a number of the size of the image.
    return np.max(np.abs(np.where(np.isfinite(x), x, 0)), axis=tuple(range(2, x.ndim)), initial=0)[
        (..., *(np.newaxis,) * (x.ndim - 2))
    ] + op.sampled(np.abs(x), grid, magnitudes=True)


def _affine_grid(dtype: DType, full: bool) -> Iterator[Case]:
    del full
    for size, theta in (
        ((N, 1, 3, 4), (N, 2, 3)),
        ((N, 5, minimum(N, 9), 3), (N, 2, 3)),
        ((2, 1, 3, 1, 2), (2, 3, 4)),
        ((1, 1, 0, 2), (1, 2, 3)),
    ):
        for corners in (False, True):
            yield Case(AffineGrid(size, corners), (TensorType(dtype, theta),), (sparse,))


def _runtime_affine_grid(dtype: DType, full: bool) -> Iterator[Case]:
    del full
    for size, theta in (((2, 1, 3, 4), (2, 2, 3)), ((1, 1, 3, 1, 2), (1, 3, 4))):
        for corners in (False, True):
            inputs = TensorType(dtype, theta), np.array(size, np.int64)
            yield Case(RuntimeAffineGrid(corners), inputs, (sparse,))


def _moved_magnitude(op: Any, theta: Array, *size: Array) -> Array:
    known: Any = with_sizes(op, {"N": len(theta)})
    shape = known.reference(theta, *size).shape
    total = np.sum(np.abs(theta), axis=-1)
    return np.broadcast_to(
        total.reshape(len(theta), *(1,) * (len(shape) - 2), theta.shape[1]), shape
    )


ROWS: dict[tuple[str, str], Row] = {
    ("", "Resize"): Row(_resize, _resized_magnitude, _few, signed_zeros=False),
    ("sofie", "RuntimeResize"): Row(_runtime_resize, _told_magnitude, _few, signed_zeros=False),
    ("", "GridSample"): Row(_grid_sample, _sampled_magnitude, _few, signed_zeros=False),
    ("", "AffineGrid"): Row(_affine_grid, _moved_magnitude, _few, signed_zeros=False),
    ("sofie", "RuntimeAffineGrid"): Row(
        _runtime_affine_grid, _moved_magnitude, _few, signed_zeros=False
    ),
    ("", "SpaceToDepth"): layout(
        (SpaceToDepth(2), ((N, 3, 4, 6),)),
        (SpaceToDepth(3, "CRD"), ((N, 2, 6, 3),)),
        (SpaceToDepth(1), ((2, 2, 2, M),)),
        (SpaceToDepth(2), ((1, 0, 4, 2),)),
    ),
    ("", "DepthToSpace"): layout(
        (DepthToSpace(2), ((N, 12, 2, 3),)),
        (DepthToSpace(2, "CRD"), ((N, 8, 3, 1),)),
        (DepthToSpace(3), ((2, 9, 2, M),)),
        (DepthToSpace(2), ((0, 4, 1, 2),)),
    ),
}
