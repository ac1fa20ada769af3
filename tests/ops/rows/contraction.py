"""Rows of the sums of products, and of determinants."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.contraction import Det, Einsum
from tests.ops.cases import Case, M, N, Row, small, sparse, usual

EQUATIONS: tuple[tuple[str, tuple[Shape, ...]], ...] = (
    ("ij,jk->ik", ((N, 5), (5, 7))),
    ("bhid, bhjd -> bhij", ((N, 2, 3, 19), (N, 2, 4, 19))),
    ("bij,bjk", ((N, 3, M), (N, M, 21))),
    ("ij->ji", ((N, 5),)),
    ("ii->i", ((5, 5),)),
    ("ii", ((7, 7),)),
    ("ij->i", ((N, 70),)),
    ("ij->j", ((70, 33),)),
    ("i,i->", ((M,), (M,))),
    ("i,j->ij", ((N,), (5,))),
    ("...ij,...jk->...ik", ((N, 2, 3, 4), (2, 4, 5))),
    ("...ij,jk", ((N, 1, 3, 4), (4, 17))),
    ("b...i,b...i->b...", ((N, 2, 40), (N, 1, 40))),
    ("ij,jk,kl->il", ((N, 3), (3, 4), (4, 2))),
    ("a,b,c,d->dcba", ((2,), (N,), (3,), (2,))),
    ("aab,b->a", ((3, 3, 4), (4,))),
    ("ij,ij->ij", ((N, 33), (1, 33))),
    ("ji,kj->ik", ((4, N), (5, 4))),
    ("ab,cd->", ((2, 3), (4, 5))),
    (",->", ((), ())),
    (",i->i", ((), (N,))),
    ("ij,jk->ik", ((N, 0), (0, 3))),
    ("ij,jk->ik", ((N, 3), (3, 0))),
)


def _einsum(dtype: DType, full: bool) -> Iterator[Case]:
    for equation, shapes in EQUATIONS if full else EQUATIONS[:3]:
        # Where the products of three overflow, depends on their order.
        exact = sparse if len(shapes) < 3 else usual
        fill = exact if dtype.is_float else small
        yield Case(Einsum(equation), tuple(TensorType(dtype, s) for s in shapes), (fill,))


def _products(op: Einsum, *inputs: Array) -> Array:
    return np.asarray(op.reference(*(np.abs(i) for i in inputs)))


def _terms(*inputs: Array) -> float:
    return float(max(1, *(i.size for i in inputs))) if inputs else 1.0


def _det(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: list[Shape] = [(N, 3, 3), (5, 5)]
    if full:
        shapes += [(2, N, 1, 1), (3, 0, 0), (1, 33, 33), (0, 2, 2), (M, M)]
    for shape in shapes:
        yield Case(Det(), (TensorType(dtype, shape),), (usual,))
    yield Case(Det(), (TensorType(dtype, (N, 3, 3)),), (small,))


def _volume(_: Det, x: Array) -> Array:
    """No determinant is larger than the product of the lengths of its rows."""
    return np.asarray(np.prod(np.sqrt(np.sum(np.square(x), axis=-1)), axis=-1))


def _side(x: Array) -> float:
    return float(max(1, x.shape[-1]))


ROWS: dict[tuple[str, str], Row] = {
    ("", "Einsum"): Row(_einsum, _products, _terms, signed_zeros=False),
    ("", "Det"): Row(_det, _volume, _side, signed_zeros=False),
}
