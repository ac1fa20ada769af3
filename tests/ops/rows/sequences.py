"""Rows of the operators on sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.sequences import (
    ConcatSequence,
    SequenceAt,
    SequenceErase,
    SequenceInsert,
    SplitSequence,
)
from tests.ops.cases import Case, Fill, M, N, Random, Row, anything

INT64 = DType.INT64
PLACE = TensorType(INT64)
# Of one number of axes, with an empty tensor; of several numbers of axes; scalars; nothing.
MATRICES = np.array([[2, 3], [0, 3], [1, 3], [4, 3]], np.int64)
MIXED = np.array([[-1, -1, 4], [-1, 2, 2], [2, 1, 3], [-1, -1, -1]], np.int64)
SCALARS = np.empty((5, 0), np.int64)
NOTHING = np.empty((0, 2), np.int64)


def _elements(dtype: DType, shapes: Array) -> TensorType:
    return TensorType(dtype, (int(np.where(shapes == -1, 1, shapes).prod(axis=1).sum()),))


def _from(*places: int) -> Fill:
    def fill(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
        return np.asarray(random.choice(places, shape), dtype.numpy)

    return fill


def _at(dtype: DType, full: bool) -> Iterator[Case]:  # noqa: ARG001
    for shapes, rank, places in (
        (MATRICES, 2, (0, 1, 2, 3, -1, -4)),
        (MIXED, 1, (0, -4)),
        (MIXED, 2, (1,)),
        (MIXED, 3, (2, -2)),
        (SCALARS, 0, (0, 4, -5)),
    ):
        inputs = _elements(dtype, shapes), shapes, PLACE
        yield Case(SequenceAt(rank), inputs, (anything, anything, _from(*places)))


def _insert(dtype: DType, full: bool) -> Iterator[Case]:  # noqa: ARG001
    for shapes, shape, places in (
        (MATRICES, (N, 3), (0, 2, 4, -1, -4)),
        (MATRICES, (2, N, M), (0, 4)),
        (MATRICES, (5,), (1,)),
        (MIXED, (), (0, 3, 4)),
        (SCALARS, (), (0, 5)),
        (SCALARS, (N,), (2,)),
        (NOTHING, (N, 7), (0,)),
    ):
        inputs = _elements(dtype, shapes), shapes, TensorType(dtype, shape), PLACE
        yield Case(SequenceInsert(), inputs, (anything, anything, anything, _from(*places)))


def _erase(dtype: DType, full: bool) -> Iterator[Case]:  # noqa: ARG001
    for shapes, places in (
        (MATRICES, (0, 1, 3, -1)),
        (MIXED, (2, 3, -4)),
        (SCALARS, (0, 4)),
        (MATRICES[:1], (0, -1)),
    ):
        inputs = _elements(dtype, shapes), shapes, PLACE
        yield Case(SequenceErase(), inputs, (anything, anything, _from(*places)))


def _concat(dtype: DType, full: bool) -> Iterator[Case]:  # noqa: ARG001
    blocks = np.array([[2, 3, 4]] * 3, np.int64)
    uneven = np.array([[2, 3, 4], [2, 0, 4], [2, 5, 4]], np.int64)
    for shapes, axis, new_axis in (
        (MATRICES, 0, False),
        (uneven, 1, False),
        (uneven, -2, False),
        (blocks, -1, False),
        (blocks, 0, True),
        (blocks, 2, True),
        (blocks, -1, True),
        (SCALARS, 0, True),
        (MATRICES[1:2], -1, False),
    ):
        op = ConcatSequence(axis, shapes.shape[1] + new_axis, new_axis)
        yield Case(op, (_elements(dtype, shapes), shapes))


def _split(dtype: DType, full: bool) -> Iterator[Case]:  # noqa: ARG001
    for axis, shape in ((0, (N, 3)), (1, (2, N, M)), (-1, (5, 7)), (0, (0, 2)), (0, (N,))):
        yield Case(SplitSequence(axis), (TensorType(dtype, shape),))
        yield Case(SplitSequence(axis, keepdims=False), (TensorType(dtype, shape),))
        inputs = TensorType(dtype, shape), PLACE
        yield Case(SplitSequence(axis), inputs, (anything, _from(1, 2, 3, 40)))
    sizes = np.array([3, 0, 1, 2], np.int64)
    yield Case(SplitSequence(0), (TensorType(dtype, (6, N)), sizes))
    yield Case(SplitSequence(-1), (TensorType(dtype, (N, 6)), sizes))


ROWS = {
    ("sofie", "SequenceAt"): Row(_at),
    ("sofie", "SequenceInsert"): Row(_insert),
    ("sofie", "SequenceErase"): Row(_erase),
    ("sofie", "ConcatSequence"): Row(_concat),
    ("sofie", "SplitSequence"): Row(_split),
}
