"""Elements written at coordinates."""

from __future__ import annotations

from collections.abc import Iterator

from sofie_rdf.ir.types import DType, Shape, TensorType
from sofie_rdf.ops.scatter import ScatterAt
from tests.ops.cases import Case, M, N, Row, anything
from tests.ops.rows.indexing import within

INT64 = DType.INT64

# x, the updates, and what says where: also twice at one place, of which the last stays.
_AT: tuple[tuple[Shape, Shape, tuple[Shape, ...]], ...] = (
    ((4, 3, 4, 5), (3, 2, M), ((3, 1, 1), (1, 2, 1), (1, 1, M), (1, 1, M))),
    ((4, 5, 3), (2, M), ((2, M), (2, 1), (1, M))),
    ((4,), (N,), ((N,),)),
    ((4, 4), (N, 3), ((N, 1), (1, 1))),
    ((4, 4, 4), (N, 7), ((N, 7), (1, 7), (N, 7))),
    ((4, 3), (0, 3), ((1, 1), (0, 1))),
    ((3, 4), (3, 0), ((1, 1), (3, 0))),
)


def _scatter_at(dtype: DType, full: bool) -> Iterator[Case]:
    for x, updates, places in _AT if full else _AT[:2]:
        types = TensorType(dtype, x), TensorType(dtype, updates)
        indices = tuple(TensorType(INT64, shape) for shape in places)
        fills = (anything, anything, *(within(3) for _ in places))
        yield Case(ScatterAt(), (*types, *indices), fills)


ROWS = {("sofie", "ScatterAt"): Row(_scatter_at)}
