"""Rows of the normalisations that find their statistics themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.normalization import (
    GroupNormalization,
    GroupwiseNormalization,
    InstanceNormalization,
    LayerNormalization,
    MeanVarianceNormalization,
    RMSNormalization,
    TrainingBatchNormalization,
)
from tests.ops.cases import Case, M, N, Random, Row, positive

EPSILON = 2.0**-10


def shifted(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Numbers around an offset that is large against what they differ by; few are no numbers."""
    values = random.normal(size=shape) * random.choice([0.1, 1.0, 3.0]) + random.choice(
        [0, 10, -99]
    )
    if extreme:
        odd = random.choice([np.inf, -np.inf, np.nan], shape)
        values = np.where(random.random(shape) < 0.01, odd, values)
    return np.asarray(values, dtype.numpy)


def plain(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    """Scales and offsets."""
    return np.asarray(random.normal(size=shape), dtype.numpy)


def _types(dtype: DType, *shapes: Shape | None) -> tuple[TensorType | None, ...]:
    return tuple(None if s is None else TensorType(dtype, s) for s in shapes)


_FILLS = shifted, plain


def _layer(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: list[tuple[int, Shape, Shape, Shape | None]] = [
        (-1, (N, 7), (7,), (7,)),
        (1, (N, 3, 5), (3, 5), None),
        (-1, (2, 130), (130,), (130,)),
    ]
    if full:
        shapes += [
            (-1, (N, 3, 16), (16,), (16,)),
            (1, (N, 2, 3, 4), (2, 3, 4), (4,)),
            (1, (N, 2, 3, 4), (2, 1, 1), (4,)),
            (-1, (N, 5), (), (1,)),
            (-1, (N, 3, 4), (3, 1), None),
            (-1, (N, 3, 4), (N, 1, 4), (4,)),
            (0, (67,), (67,), (67,)),
            (0, (3, 5), (3, 5), (3, 5)),
            (2, (N, M, 6), (6,), (6,)),
            (1, (N, M, 6), (M, 6), None),
            (-1, (N, 1), (1,), (1,)),
            (-1, (0, 4), (4,), (4,)),
            (-1, (N, 0), (0,), (0,)),
        ]
    for axis, x, scale, bias in shapes:
        yield Case(LayerNormalization(axis, EPSILON), _types(dtype, x, scale, bias), _FILLS)
    x, one = (N, 4), (4,)
    yield Case(LayerNormalization(-1, EPSILON, DType.FLOAT64), _types(dtype, x, one, one), _FILLS)
    stash = DType.BFLOAT16
    yield Case(LayerNormalization(-1, EPSILON, stash), _types(dtype, x, one, one), _FILLS)
    op = LayerNormalization(epsilon=EPSILON)
    yield Case(op, _types(dtype, x, one, one), _FILLS, only_first_output=True)


def _rms(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: list[tuple[int, Shape, Shape]] = [(-1, (N, 7), (7,)), (1, (N, 3, 5), (3, 5))]
    if full:
        shapes += [(-1, (N, 3, 130), (130,)), (1, (N, 3, 5), (5,)), (0, (33,), (33,))]
        shapes += [(-1, (N, M, 6), (6,)), (-1, (N, 3), ()), (-1, (N, 0), (0,)), (-1, (0, 4), (4,))]
    for axis, x, scale in shapes:
        yield Case(RMSNormalization(axis, EPSILON), _types(dtype, x, scale), _FILLS)


def _group(kind: Any) -> Any:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        shapes: list[tuple[int, Shape]] = [(2, (N, 4)), (2, (N, 4, 5))]
        if full:
            shapes += [(1, (N, 3, 2, 33)), (3, (N, 3, 7)), (2, (2, 6, M)), (3, (N, 6, 1, 1))]
            shapes += [(1, (N, 1)), (2, (0, 4, 3)), (2, (N, 4, 0)), (4, (N, 64))]
        for groups, x in shapes:
            number = x[1] if kind is GroupNormalization else groups
            yield Case(
                kind(groups, epsilon=EPSILON), _types(dtype, x, (number,), (number,)), _FILLS
            )

    return make


def _instance(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: list[Shape] = [(N, 3, 7), (N, 2, 3, 5)]
    if full:
        shapes += [(N, 3), (2, 3, M), (N, 1, 130), (0, 3, 2), (N, 2, 0), (N, 0, 3)]
    for x in shapes:
        yield Case(InstanceNormalization(EPSILON), _types(dtype, x, (x[1],), (x[1],)), _FILLS)


def _mean_variance(dtype: DType, full: bool) -> Iterator[Case]:
    pairs: list[tuple[tuple[int, ...], Shape]] = [((0, 2, 3), (N, 3, 4, 5)), ((1,), (N, 7))]
    if full:
        pairs += [
            ((0, 2, 3), (2, 3, M, 5)),
            ((0,), (N, 5)),
            ((-1, -2), (N, 2, 3, 4)),
            ((1,), (N, 3, 4)),
        ]
        pairs += [
            ((0, 2, 4), (2, 3, 2, 3, 5)),
            ((0,), (1,)),
            ((1,), (N, 0)),
            ((1, 3), (N, 3, 2, 4)),
        ]
        pairs += [((), (3,)), ((0, 2), (0, 3, 4)), ((0, 1), (5, N))]
    for axes, x in pairs:
        yield Case(MeanVarianceNormalization(axes), _types(dtype, x), _FILLS)


def _training(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: list[tuple[Shape, Any]] = [((N, 3), 3), ((N, 2, 5), 2)]
    if full:
        shapes += [((N,), 1), ((2, 3, M), 3), ((3, 2, 4, 5), 2), ((N, 0), 0), ((N, 2, 0), 2)]
    for x, channels in shapes:
        types = _types(dtype, x, *((channels,),) * 4)
        fills = shifted, plain, plain, plain, positive
        yield Case(TrainingBatchNormalization(EPSILON, 0.75), types, fills)


# Magnitudes ---------------------------------------------------------------------------------------


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    count = np.prod([x.shape[a] for a in axes])
    return np.asarray(np.sum(x, axis=axes, keepdims=True) / count)


def _spread(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array]:
    """x - mean and the standard deviation."""
    centred = x - _mean(x, axes)
    return centred, np.sqrt(_mean(centred * centred, axes) + epsilon)


def _magnitude(centred: Array, deviation: Array, scale: Any = 1, bias: Any = 0) -> Array:
    """The mean is exact to the digits of the deviations, of which the largest counts."""
    size = np.where(np.isfinite(centred), np.abs(centred), 0)
    most = np.max(size / deviation, initial=0) if size.size else 0.0
    return np.asarray((np.abs(centred) / deviation + most) * np.abs(scale) + np.abs(bias))


def _of_layer(op: Any, x: Array, scale: Array, bias: Array | None = None) -> tuple[Array, ...]:
    axes = tuple(range(op.axis % x.ndim, x.ndim))
    centred, deviation = _spread(x, axes, op.epsilon)
    mean = _mean(np.abs(x), axes)
    added = 0.0 if bias is None else bias
    return _magnitude(centred, deviation, scale, added), mean, np.asarray(1 / deviation)


def _of_rms(op: Any, x: Array, scale: Array) -> Array:
    return np.abs(op.reference(x, scale))


def _of_groups(op: Any, x: Array, scale: Array, bias: Array) -> Array:
    view = op.split(x.shape)
    centred, deviation = _spread(x.reshape(view), (1, 2), op.epsilon)
    bound = _magnitude(centred, deviation, np.max(np.abs(scale), initial=0)).reshape(x.shape)
    return np.asarray(bound + np.max(np.abs(bias), initial=0))


def _of_axes(op: Any, x: Array) -> Array:
    return _magnitude(*_spread(x, tuple(op.reduced(x.ndim)), 1e-18))


def _of_batch(op: Any, x: Array, scale: Array, bias: Array, mean: Array, var: Array) -> Any:
    axes = tuple(a for a in range(x.ndim) if a != 1)
    centred, deviation = _spread(x, axes, op.epsilon)
    bound = _magnitude(centred, deviation, np.max(np.abs(scale), initial=0))
    found = _mean(np.abs(x), axes), _mean(centred * centred, axes)
    running = (np.abs(r) + np.abs(f).reshape(-1) for r, f in zip((mean, var), found, strict=True))
    return (bound + np.max(np.abs(bias), initial=0), *running)


ROWS: dict[tuple[str, str], Row] = {
    ("", "LayerNormalization"): Row(_layer, _of_layer, signed_zeros=False),
    ("", "RMSNormalization"): Row(_rms, _of_rms),
    ("", "GroupNormalization"): Row(_group(GroupNormalization), _of_groups, signed_zeros=False),
    ("sofie", "GroupwiseNormalization"): Row(
        _group(GroupwiseNormalization), _of_groups, signed_zeros=False
    ),
    ("", "InstanceNormalization"): Row(_instance, _of_groups, signed_zeros=False),
    ("", "MeanVarianceNormalization"): Row(_mean_variance, _of_axes, signed_zeros=False),
    ("sofie", "TrainingBatchNormalization"): Row(_training, _of_batch, signed_zeros=False),
}
