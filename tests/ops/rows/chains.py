"""Cases of functions one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.chains import Then
from sofie_rdf.ops.elementwise import Abs, Add, LeakyRelu, Mul, Neg, Relu, Sub, Tanh
from tests.ops.cases import Case, M, N, Row, usual

_PRODUCT = Then(Sub(), Mul())
_STATISTICS = Then(_PRODUCT, Add())
_CHAINS: tuple[tuple[Then, tuple[tuple[Any, ...], ...]], ...] = (
    (Then(Neg(), Relu()), ((N, 5),)),
    (Then(Mul(), Relu()), ((N, 5), (5,))),
    (Then(Abs(), Mul()), ((N, 3, 2), (3, 1))),
    (Then(Abs(), Sub(), behind=True), ((3, M), (M,))),
    (_PRODUCT, ((N, M), (N, 1), (1,))),
    (Then(Mul(), Sub(), behind=True), ((N, M), (N, M), (M,))),
    (Then(Then(Mul(), Relu()), Add(), behind=True), ((N, 33), (33,), ())),
    (_STATISTICS, ((N, 3, 5), (3, 1), (3, 1), (3, 1))),
    (Then(_STATISTICS, Tanh()), ((N, 3, 5), (3, 1), (3, 1), (3, 1))),
    (Then(Then(Then(Neg(), LeakyRelu(0.25)), Sub(), behind=True), Abs()), ((0, 3), (3,))),
)


def _chains(dtype: DType, full: bool) -> Iterator[Case]:
    for op, shapes in _CHAINS if full else _CHAINS[2:]:
        yield Case(op, tuple(TensorType(dtype, s) for s in shapes), (usual,))


def _magnitude(_: Then, *inputs: Array) -> Array:
    """More than any number on the way: sums of products of two sums."""
    found = np.asarray(1.0)
    for one in inputs:
        found = (1 + np.abs(one)) * found
    return np.asarray(found)


ROWS: dict[tuple[str, str], Row] = {
    ("sofie", "Then"): Row(_chains, _magnitude, signed_zeros=False),
}
