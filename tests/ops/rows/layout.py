"""Rows of the operators that put axes elsewhere, or decide a shape at run time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.layout import (
    Expand,
    RuntimeExpand,
    RuntimeReshape,
    RuntimeSplit,
    RuntimeSqueeze,
    RuntimeTile,
    RuntimeUnsqueeze,
    Split,
    Tile,
)
from tests.ops.cases import Case, Fill, M, N, Random, Row, anything, layout


def exactly(*values: float) -> Fill:
    """Always these numbers, whatever the shape says: it must be theirs."""

    def fill(_: Random, dtype: DType, shape: Sequence[int], __: bool) -> Array:
        return np.array(values, dtype.numpy).reshape(shape)

    return fill


def listed(*triples: tuple[Operator, Shape, tuple[int, ...]], number: DType = DType.INT64) -> Row:
    """Operators of a tensor of this shape and of a list of these numbers."""

    def make(dtype: DType, full: bool) -> Iterator[Case]:
        for op, shape, values in triples if full else triples[:3]:
            types = TensorType(dtype, shape), TensorType(number, (len(values),))
            yield Case(op, types, (anything, exactly(*values)))

    return Row(make)


_SPLIT = layout(
    (Split(axis=1, num_outputs=2), ((N, 6),)),
    (Split(axis=-1, split=(1, 0, 4)), ((N, 3, 5),)),
    (Split(axis=0, num_outputs=3), ((7, N),)),
    (Split(axis=0, num_outputs=2), ((N, 3),)),
    (Split(axis=1, num_outputs=3), ((N, 6, 5),)),
    (Split(axis=0, split=(N, N)), ((2 * N, 3),)),
    (Split(axis=0, num_outputs=1), ((N,),)),
    (Split(axis=1, split=(2, 2)), ((0, 4, 3),)),
    (Split(axis=2, split=(300, 1)), ((2, N, 301),)),
)
_EXPAND = layout(
    (Expand((3, 1, 5)), ((N, 1, 2, 1),)),
    (Expand((N, 4)), ((N, 1),)),
    (Expand((2, 1)), ((3, 1, 4),)),
    (Expand((M, N, 3)), ((M, 1, 1),)),
    (Expand(()), ((N, 2),)),
    (Expand((4, 3)), ((),)),
    (Expand((3, 0)), ((1, 1),)),
    (Expand(()), ((),)),
    (Expand((1, 1, 1)), ((N,),)),
)
_TILE = layout(
    (Tile((1, 2)), ((N, 3),)),
    (Tile((2, 1, 3)), ((N, 4, 5),)),
    (Tile((3,)), ((N,),)),
    (Tile((N, 2)), ((1, N),)),
    (Tile((0, 2)), ((2, N),)),
    (Tile(()), ((),)),
    (Tile((2, 2, 2)), ((3, 1, 5),)),
)

ROWS: dict[tuple[str, str], Row] = {
    ("", "Split"): _SPLIT,
    ("", "Expand"): _EXPAND,
    ("", "Tile"): _TILE,
    ("sofie", "RuntimeReshape"): listed(
        (RuntimeReshape(), (N, 4, 6), (0, -1, 8)),
        (RuntimeReshape(), (N, 4), (-1,)),
        (RuntimeReshape(allowzero=True), (0, 3), (5, 0, 2)),
        (RuntimeReshape(), (1, 1), ()),
        (RuntimeReshape(), (), (1, 1)),
        (RuntimeReshape(), (N, 0), (0, 0)),
        (RuntimeReshape(), (3, 0, 4), (0, 0, -1)),
    ),
    ("sofie", "RuntimeSqueeze"): listed(
        (RuntimeSqueeze(), (N, 1, 3), (1,)),
        (RuntimeSqueeze(), (1, N, 1), (-1, 0)),
        (RuntimeSqueeze(), (N, 3), ()),
        (RuntimeSqueeze(), (1,), (0,)),
    ),
    ("sofie", "RuntimeUnsqueeze"): listed(
        (RuntimeUnsqueeze(), (N, 3), (1,)),
        (RuntimeUnsqueeze(), (N, 3), (-1, 0)),
        (RuntimeUnsqueeze(), (), (0,)),
        (RuntimeUnsqueeze(), (0,), (1, 2)),
    ),
    ("sofie", "RuntimeExpand"): listed(
        (RuntimeExpand(), (N, 1, 4), (1, 3, 1)),
        (RuntimeExpand(), (3, 1), (2, 1, 6)),
        (RuntimeExpand(), (N, 2, 1), (5,)),
        (RuntimeExpand(), (), (2, 0)),
        (RuntimeExpand(), (N,), ()),
    ),
    ("sofie", "RuntimeTile"): listed(
        (RuntimeTile(), (N, 3), (1, 2)),
        (RuntimeTile(), (2, N, 3), (2, 3, 1)),
        (RuntimeTile(), (N,), (0,)),
        (RuntimeTile(), (), ()),
    ),
    ("sofie", "RuntimeSplit"): listed(
        (RuntimeSplit(1), (N, 5), (2, 3)),
        (RuntimeSplit(-1), (N, 2, 4), (0, 1, 3)),
        (RuntimeSplit(0), (3, N), (1, 2)),
        (RuntimeSplit(1), (N, 3, 2), (3,)),
    ),
}
