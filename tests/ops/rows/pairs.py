"""Rows of the operators of pairs of elements."""

from __future__ import annotations

from collections.abc import Iterator

from sofie_rdf.ir.types import DType, Shape, TensorType
from sofie_rdf.ops.pairs import PairIndices, PairTerms, Symmetric
from tests.ops.cases import Case, N, Row

# Fewer than a block of 16, one, and several with a part of one; nothing, and one without a pair.
_SIZES = (5, 16, 41, 2, 1, 0, 17)


def _pair_indices(_: DType, __: bool) -> Iterator[Case]:
    for size in _SIZES:
        for second in (False, True):
            yield Case(PairIndices(size, second), ())


def _pair_terms(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: tuple[Shape, ...] = ((N, 5), (2, N, 3), (41,), (N,), (3, 2), (3, 1), (3, 0), (N, 80))
    for shape in shapes if full else shapes[:4]:
        for second in (False, True):
            yield Case(PairTerms(second), (TensorType(dtype, shape),))


def _symmetric(dtype: DType, full: bool) -> Iterator[Case]:
    for size in _SIZES if full else _SIZES[:3]:
        x = TensorType(dtype, (N, size * (size - 1) // 2))
        yield Case(Symmetric(size), (x, TensorType(dtype, ())))
    yield Case(Symmetric(3), (TensorType(dtype, (3,)), TensorType(dtype, (1,))))
    yield Case(Symmetric(4), (TensorType(dtype, (2, N, 6)), TensorType(dtype, (1,))))


ROWS = {
    ("sofie", "PairIndices"): Row(_pair_indices),
    ("sofie", "PairTerms"): Row(_pair_terms),
    ("sofie", "Symmetric"): Row(_symmetric),
}
