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
    RowsOfRound,
)
from tests.ops.cases import Case, M, N, Random, Row, anything, usual

# Shapes, and along which axis the rows are.
_SHAPES: tuple[tuple[Shape, int], ...] = (
    ((5, 13), -1),
    ((N, 13), 0),
    ((), -1),
    ((1,), -1),
    ((3, 0, 2), -1),
    ((3, 5 * N, 2), 1),
    ((1000,), -1),
)
_LIKE: tuple[tuple[Shape, int], ...] = (
    ((N, 7), 0),
    ((N, 1), 0),
    ((N,), 0),
    ((), -1),
    ((0, 3), -1),
    ((2, N, 3), 1),
    ((5, 3 * N), 1),
    ((N, M), 0),
    ((M, 5), -1),
)
_ROWS = TensorType(DType.UINT64, (N, 3))
_ONE = TensorType(DType.UINT64, (1, 3))


def _numbers(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Seeds, entries and objects of any size."""
    if extreme:
        return anything(random, dtype, shape, True)
    return random.integers(0, 2**64 - 1, shape, np.uint64, endpoint=True)


def _parameters(kind: type[Any], number: int) -> dict[str, float]:
    names = (
        ("mean", "scale") if issubclass(kind, RandomNormal | RandomNormalLike) else ("low", "high")
    )
    values = [(0.0, 1.0), (-3.0, 0.25), (2.5, 100.0)][number % 3]
    return {**dict(zip(names, values, strict=True)), "seed": [0.0, 1.5, -7e100][number % 3]}


def _alone(kind: type[Any]) -> Any:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        for number, (shape, axis) in enumerate(_SHAPES if full else _SHAPES[:3]):
            op = kind(shape, dtype=dtype, **_parameters(kind, number), node=number, axis=axis)
            yield Case(op, (_ROWS if number else _ONE,), (_numbers,))

    return make


def _like(kind: type[Any]) -> Any:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        fills = usual, _numbers
        for number, (shape, axis) in enumerate(_LIKE if full else _LIKE[:2]):
            op = kind(**_parameters(kind, number), node=number, axis=axis)
            yield Case(op, (TensorType(dtype, shape), _ROWS), fills)
        for to in (DType.FLOAT64, DType.FLOAT16):
            yield Case(kind(dtype=to, axis=0), (TensorType(dtype, (N, 3)), _ROWS), fills)

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
    fills = _probabilities, _numbers
    for number, (shape, axis) in enumerate(_LIKE if full else _LIKE[:1]):
        x = TensorType(dtype, shape)
        yield Case(Bernoulli(seed=float(number), axis=axis), (x, _ROWS), fills)
    for to in (DType.BOOL, DType.FLOAT32, DType.UINT8, DType.INT64):
        yield Case(Bernoulli(to, axis=0), (TensorType(dtype, (N, 5)), _ROWS), fills)


def _multinomial(dtype: DType, full: bool) -> Iterator[Case]:
    fills = usual, _numbers
    five = Multinomial(sample_size=5, axis=0)
    yield Case(five, (TensorType(dtype, (N, 4)), _ROWS), fills)
    if full:
        three = Multinomial(DType.INT64, 3, 2.0, axis=0)
        yield Case(three, (TensorType(dtype, (2 * N, 1)), _ROWS), fills)
        yield Case(Multinomial(sample_size=0), (TensorType(dtype, (N, 3)), _ROWS), fills)
        yield Case(Multinomial(), (TensorType(dtype, (0, 3)), _ONE), fills)


def _dropout(dtype: DType, full: bool) -> Iterator[Case]:
    yes, no = np.array(True), np.array([False])
    fills = anything, anything, anything, _numbers
    for shape, axis in _LIKE if full else _LIKE[:1]:
        x = TensorType(dtype, shape)
        for ratio in (0.5, 0.0, 0.9, 1.0):
            yield Case(RandomDropout(3.0, axis=axis), (x, np.array(ratio), yes, _ROWS), fills)
        yield Case(RandomDropout(axis=axis), (x, np.array([0.5]), no, _ROWS), fills)
    parameters = TensorType(DType.FLOAT64, ()), TensorType(DType.BOOL, ())
    fills = anything, _probabilities, anything, _numbers
    yield Case(RandomDropout(axis=0), (TensorType(dtype, (N,)), *parameters, _ROWS), fills)


def _round(dtype: DType, full: bool) -> Iterator[Case]:  # noqa: ARG001
    if dtype is DType.UINT64:
        number = TensorType(DType.INT64, ())
        yield Case(RowsOfRound(), (_ROWS, number), (_numbers, anything))
        yield Case(RowsOfRound(), (_ONE, np.array(7)), (_numbers,))


ROWS: dict[tuple[str, str], Row] = {
    ("", "RandomNormal"): Row(_alone(RandomNormal), _size),
    ("", "RandomUniform"): Row(_alone(RandomUniform), _size),
    ("", "RandomNormalLike"): Row(_like(RandomNormalLike), _size),
    ("", "RandomUniformLike"): Row(_like(RandomUniformLike), _size),
    ("", "Bernoulli"): Row(_bernoulli),
    ("", "Multinomial"): Row(_multinomial),
    ("sofie", "RowsOfRound"): Row(_round),
    ("sofie", "RandomDropout"): Row(_dropout, signed_zeros=False),
}
