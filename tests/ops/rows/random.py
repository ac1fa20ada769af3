"""Cases for random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.random import (
    Bernoulli,
    Multinomial,
    RandomDropout,
    RandomNormal,
    RandomNormalLike,
    RandomUniform,
    RandomUniformLike,
)
from tests.ops.cases import Case, N, Random, Row, anything, usual

_SHAPES: tuple[Shape, ...] = ((5, 13), (), (1,), (3, 0, 2), (1000,))
_LIKE: tuple[Shape, ...] = ((N, 7), (N,), (), (0, 3), (2, N, 3))


def _parameters(kind: type[Any], number: int) -> dict[str, float]:
    names = (
        ("mean", "scale") if issubclass(kind, RandomNormal | RandomNormalLike) else ("low", "high")
    )
    values = [(0.0, 1.0), (-3.0, 0.25), (2.5, 100.0)][number % 3]
    return {**dict(zip(names, values, strict=True)), "seed": [0.0, 1.5, -7e100][number % 3]}


def _alone(kind: type[Any]) -> Any:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        for number, shape in enumerate(_SHAPES if full else _SHAPES[:3]):
            yield Case(kind(shape, dtype=dtype, **_parameters(kind, number)), ())

    return make


def _like(kind: type[Any]) -> Any:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        for number, shape in enumerate(_LIKE if full else _LIKE[:2]):
            yield Case(kind(**_parameters(kind, number)), (TensorType(dtype, shape),), (usual,))
        for to in (DType.FLOAT64, DType.FLOAT16):
            yield Case(kind(dtype=to), (TensorType(dtype, (N, 3)),), (usual,))

    return make


def _size(op: Any, *_: Array) -> Array:
    """The largest number that may be drawn; a normal one is below 9 in float64."""
    if isinstance(op, RandomNormal | RandomNormalLike):
        return np.asarray(abs(op.mean) + 9 * abs(op.scale))
    return np.asarray(abs(op.low) + abs(op.high))


def _probabilities(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    values = np.asarray(random.random(shape), dtype.numpy)
    if not extreme:
        return values
    odd = random.choice(np.array([0, 1, -1, 2, np.nan, np.inf]), shape).astype(dtype.numpy)
    return np.where(random.random(shape) < 0.2, odd, values)


def _bernoulli(dtype: DType, full: bool) -> Iterator[Case]:
    for number, shape in enumerate(_LIKE if full else _LIKE[:1]):
        x = TensorType(dtype, shape)
        yield Case(Bernoulli(seed=float(number)), (x,), (_probabilities,))
    for to in (DType.BOOL, DType.FLOAT32, DType.UINT8, DType.INT64):
        yield Case(Bernoulli(to), (TensorType(dtype, (N, 5)),), (_probabilities,))


def _multinomial(dtype: DType, full: bool) -> Iterator[Case]:
    yield Case(Multinomial(sample_size=5), (TensorType(dtype, (N, 4)),), (usual,))
    if full:
        yield Case(Multinomial(DType.INT64, 3, 2.0), (TensorType(dtype, (N, 1)),), (usual,))
        yield Case(Multinomial(sample_size=0), (TensorType(dtype, (N, 3)),), (usual,))
        yield Case(Multinomial(), (TensorType(dtype, (0, 3)),), (usual,))


def _dropout(dtype: DType, full: bool) -> Iterator[Case]:
    yes, no = np.array(True), np.array([False])
    for shape in _LIKE if full else _LIKE[:1]:
        x = TensorType(dtype, shape)
        for ratio in (0.5, 0.0, 0.9, 1.0):
            yield Case(RandomDropout(3.0), (x, np.array(ratio), yes), (anything,))
        yield Case(RandomDropout(), (x, np.array([0.5]), no), (anything,))
    parameters = TensorType(DType.FLOAT64, ()), TensorType(DType.BOOL, ())
    yield Case(RandomDropout(), (TensorType(dtype, (N,)), *parameters), (anything, _probabilities))


ROWS: dict[tuple[str, str], Row] = {
    ("", "RandomNormal"): Row(_alone(RandomNormal), _size),
    ("", "RandomUniform"): Row(_alone(RandomUniform), _size),
    ("", "RandomNormalLike"): Row(_like(RandomNormalLike), _size),
    ("", "RandomUniformLike"): Row(_like(RandomUniformLike), _size),
    ("", "Bernoulli"): Row(_bernoulli),
    ("", "Multinomial"): Row(_multinomial),
    ("sofie", "RandomDropout"): Row(_dropout, signed_zeros=False),
}
