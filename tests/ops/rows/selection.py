"""Rows of the operators that choose elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.selection import (
    ArgMax,
    ArgMin,
    Compress,
    Hardmax,
    NonMaxSuppression,
    NonZero,
    RuntimeTopK,
    TopK,
    Unique,
)
from tests.ops.cases import Case, Fill, M, N, Random, Row, anything, small, sparse

INT64 = DType.INT64
ALONG: tuple[tuple[int, Shape], ...] = (
    (-1, (N, 7)),
    (1, (N, 5, 3)),
    (-1, (N, 131)),
    (0, (5, N)),
    (1, (2, 9, 37)),
    (-2, (N, 4, M)),
    (1, (N, 37, 3)),
    (-1, (N, 1)),
    (0, (3,)),
    (-1, (3, 40)),
    (1, (0, 3)),
    (1, (2, 3, 0)),
)


def tied(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Few different values, so that many are equal; with edges among them if wanted."""
    few = small(random, dtype, shape, False) if dtype is not DType.BOOL else None
    if few is None or (extreme and not dtype.is_float):
        return anything(random, dtype, shape, extreme)
    if not extreme:
        return few if random.integers(2) else anything(random, dtype, shape, False)
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, np.nan], dtype.numpy)
    return np.where(random.random(shape) < 0.3, random.choice(special, shape), few)


def _arg(kind: Any) -> Row:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        for number, (axis, shape) in enumerate(ALONG if full else ALONG[:4]):
            for last in (False, True):
                op = kind(axis, keepdims=number % 2 == 0, select_last_index=last)
                yield Case(op, (TensorType(dtype, shape),), (tied,))

    return Row(make)


def _hardmax(dtype: DType, full: bool) -> Iterator[Case]:
    for axis, shape in (*ALONG, (1, (N, 0))) if full else ALONG[:4]:
        yield Case(Hardmax(axis), (TensorType(dtype, shape),), (tied,))


_SELECTED: tuple[tuple[int, int, Shape], ...] = (
    (3, -1, (N, 7)),
    (16, -1, (N, 128)),
    (2, 1, (N, 5, 3)),
    (5, 0, (5, N)),
    (0, 1, (N, 4)),
    (1, 0, (1,)),
    (70, -1, (N, 90)),
    (100, 1, (2, 100, 3)),
    (65, -1, (3, 65)),
    (1, -2, (N, 3, M)),
)


def _top_k(dtype: DType, full: bool) -> Iterator[Case]:
    for k, axis, shape in _SELECTED if full else _SELECTED[:3]:
        for largest in (True, False):
            x = TensorType(dtype, shape)
            yield Case(TopK((k,), axis, largest), (x,), (tied,), only_first_output=k == 5)
    # As many rows as a register has lanes, and some more.
    for k, size in ((9, 40), (64, 64)) if full else ((9, 40),):
        yield Case(TopK((k,), -1, k == 9), (TensorType(dtype, (21, size)),), (tied,))
    if full:
        # All of them are sorted, or a lane is for each row or place; few of a long row.
        for k, axis, shape in (
            (70, -1, (2, 70)),
            (70, -1, (9, 70)),
            (90, 1, (2, 300, 2)),
            (65, 0, (1000,)),
            (8, 1, (2, 30, 19)),
            (100, 0, (130, 9)),
            (6, 0, (270, 3)),
            (20, -1, (1, 300)),
        ):
            for largest in (True, False):
                yield Case(TopK((k,), axis, largest), (TensorType(dtype, shape),), (tied,))
    yield Case(TopK((M,), 1, True), (TensorType(dtype, (N, M, 2)),), (tied,))
    if dtype.is_float:
        yield Case(TopK((4,), sorted=False), (TensorType(dtype, (N, 33)),), (sparse,))


def _below(limit: int, start: int = 0) -> Fill:
    def fill(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
        return np.asarray(random.integers(start, limit, shape), dtype.numpy)

    return fill


def _runtime_top_k(dtype: DType, full: bool) -> Iterator[Case]:
    pairs: list[tuple[int, Shape]] = [(-1, (N, 7)), (1, (N, 5, 3)), (0, (90,))]
    for axis, shape in pairs if full else pairs[:1]:
        for largest in (True, False):
            types = TensorType(dtype, shape), TensorType(INT64, (1,))
            op = RuntimeTopK(axis, largest)
            size = shape[axis]
            assert isinstance(size, int)
            yield Case(op, types, (tied, _below(size + 1)), only_first_output=axis == 1)


def _nonzero(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: tuple[Shape, ...] = ((N, 7), (N,), (), (2, 3, N, 2), (N, 0), (1,))
    for shape in shapes if full else shapes[:2]:
        yield Case(NonZero(), (TensorType(dtype, shape),), (tied,))


def _compress(dtype: DType, full: bool) -> Iterator[Case]:
    rows: list[tuple[int | None, Shape, Shape]] = [
        (None, (N, 3), (7,)),
        (0, (N, 3), (N,)),
        (1, (N, 5), (5,)),
        (-1, (2, 3, 4), (M,)),
        (1, (N, 3, 2), (2,)),
        (None, (), (1,)),
        (0, (N,), (0,)),
        (0, (0, 2), (3,)),
    ]
    for axis, shape, condition in rows if full else rows[:2]:
        yield Case(Compress(axis), (TensorType(dtype, shape), TensorType(DType.BOOL, condition)))


def _unique(dtype: DType, full: bool) -> Iterator[Case]:
    rows: list[tuple[int | None, Shape]] = [(None, (N, 3)), (0, (N, 2))]
    if full:
        rows += [(1, (2, N)), (1, (2, N, 2)), (-1, (3, 2, 5)), (None, ()), (0, (N, 0)), (1, (2, 0))]
    for axis, shape in rows:
        for ordered in (True, False):
            yield Case(Unique(axis, ordered), (TensorType(dtype, shape),), (tied,))
    if full:
        yield Case(Unique(0), (TensorType(dtype, (N,)),), (tied,), only_first_output=True)


def _boxes(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    corners = random.random(shape) * 4
    sizes = random.random((*shape[:-1], 2)) * 3
    corners[..., 2:] = corners[..., :2] + sizes * random.choice([-1, 1], sizes.shape)
    return np.asarray(corners, dtype.numpy)


def _scores(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    values = random.integers(0, 20, shape) / 16
    return np.where(extreme & (random.random(shape) < 0.1), np.nan, values).astype(dtype.numpy)


def _between(low: float, high: float) -> Fill:
    def fill(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
        return np.asarray(random.uniform(low, high, shape), dtype.numpy)

    return fill


def _suppression(dtype: DType, full: bool) -> Iterator[Case]:
    scalar = TensorType(dtype, ())
    most, one = TensorType(INT64, ()), TensorType(dtype, (1,))
    threshold = _between(0.0, 0.6)
    fills = _boxes, _scores, _below(9, -1), threshold, threshold

    def case(shape: Shape, classes: int, *rest: Any, centred: bool = False) -> Case:
        scores = TensorType(dtype, (shape[0], classes, shape[1]))
        inputs = TensorType(dtype, (*shape, 4)), scores, *rest
        return Case(NonMaxSuppression(centred), inputs, fills)

    yield case((3, 20), 2, most, scalar, scalar)
    yield case((3, 20), 2, most, one, None, centred=True)
    yield case((1, 40), 3, TensorType(INT64, (1,)), None, one)
    yield case((3, 5), 2, np.array(2**62), np.array(0.3, dtype.numpy) if dtype.is_float else scalar)
    yield case((3, 5), 2)
    yield case((3, 5), 2, None, scalar)
    yield case((3, 5), 2, TensorType(INT64, (0,)), scalar)
    if full:
        yield case((0, 5), 2, most, scalar)
        yield case((M, 0), 2, most, scalar)
        yield case((M, 7), 0, most, scalar)
        yield case((M, M), 2, most, scalar)


ROWS: dict[tuple[str, str], Row] = {
    ("", "ArgMax"): _arg(ArgMax),
    ("", "ArgMin"): _arg(ArgMin),
    ("", "Hardmax"): Row(_hardmax),
    ("", "TopK"): Row(_top_k),
    ("sofie", "RuntimeTopK"): Row(_runtime_top_k),
    ("", "NonZero"): Row(_nonzero),
    ("", "Compress"): Row(_compress),
    ("", "Unique"): Row(_unique),
    ("", "NonMaxSuppression"): Row(_suppression),
}
