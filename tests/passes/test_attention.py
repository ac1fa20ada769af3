"""Attention that is spelled out: which forms become one operator, and which are left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.model import Model
from sofie_rdf.ops.attention import SoftmaxAttention
from sofie_rdf.ops.elementwise import Add, Div, Mul, Where
from sofie_rdf.ops.layout import Reshape, Transpose
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.ops.normalization import Softmax
from sofie_rdf.passes.attention import fuse_attention, inner_transposes
from sofie_rdf.reference import evaluate
from tests.passes.graphs import N, Net, as_exact, batch, floats, identical, operators

HEADS = Transpose((0, 2, 1, 3))


def fused(graph: Graph) -> SoftmaxAttention:
    """The one operator that is left, as exact as what was there."""
    after = fuse_attention(graph)
    as_exact(graph, after, batch(graph, rows=3))
    (op,) = (n.op for n in after.nodes if isinstance(n.op, SoftmaxAttention))
    return op


def reasons(graph: Graph) -> list[str]:
    after, report = fuse_attention.explain(graph)
    assert not any(isinstance(n.op, SoftmaxAttention) for n in after.nodes)
    return [f"{r.rule}: {r.reason}" for r in report.refused if r.rule == "attention"]


class Parts(Net):
    """Queries x, keys and values with channels of several heads last, as layers give them."""

    def __init__(self, *shape: Dim, heads: bool = True) -> None:
        super().__init__(*(shape or (N, 5, 2, 4)))
        own = self.types["x"].shape
        self.input("key", floats(own[0], 7, *own[2:]))
        self.input("value", floats(own[0], 7, *own[2:]))
        names = ("x", "key", "value")
        self.q, self.k, self.v = (self.op(HEADS, n) if heads else n for n in names)

    def scores(self, *, keys: str = "") -> str:
        rank = self.types[self.q].rank
        swap = Transpose((*range(rank - 2), rank - 1, rank - 2))
        return self.op(MatMul(), self.q, keys or self.op(swap, self.k))

    def attended(self, scores: str, axis: int = -1) -> str:
        return self.op(MatMul(), self.op(Softmax(axis), scores), self.v)


@pytest.mark.parametrize("op", [Mul(), Div()], ids=str)
@pytest.mark.parametrize("where", ["scores", "q", "k", "all"])
def test_scales(op: Any, where: str) -> None:
    b = Parts()
    s = b.c("s", 2.0 if isinstance(op, Div) else 0.5)
    if where in ("q", "all"):
        b.q = b.op(op, b.q, s)
    if where in ("k", "all"):
        b.k = b.op(op, b.k, s)
    scores = b.scores()
    if where in ("scores", "all"):
        scores = b.op(op, scores, s)
    y = b.op(HEADS, b.attended(scores), name="y")
    after = fused(b.graph(y))
    assert after.scale == (0.125 if where == "all" else 0.5)
    assert after.orders == ("brhe",) * 4


def test_three_axes_with_rows_first() -> None:
    turn = Transpose((1, 0, 2))
    b = Parts(5, N, 4, heads=False)
    b.k = b.v = b.input("memory", floats(7, N, 4))
    b.q, b.k, b.v = (b.op(turn, n) for n in ("x", b.k, b.v))
    after = fused(b.graph(b.op(turn, b.attended(b.scores()), name="y")))
    assert after.orders == ("rhe",) * 4


MASKS: list[tuple[Dim, ...]] = [(7,), (1, 1, 1, 7), (N, 1, 1, 7), (N, 2, 5, 7), (5, 7)]


@pytest.mark.parametrize("shape", MASKS, ids=str)
def test_mask_of_numbers(shape: tuple[Dim, ...]) -> None:
    b = Parts()
    mask = b.input("mask", floats(*shape))
    assert fused(b.graph(b.op(HEADS, b.attended(b.op(Add(), mask, b.scores())), name="y")))


@pytest.mark.parametrize("hides", [False, True])
def test_mask_of_bools(hides: bool) -> None:
    b = Parts()
    mask = b.input("mask", floats(N, 1, 1, 7, dtype=DType.BOOL))
    inputs = [b.scores(), b.c("low", -1e9)]
    scores = b.op(Where(), mask, *(reversed(inputs) if hides else inputs))
    graph = b.graph(b.attended(scores))
    feeds = batch(graph, rows=3)
    feeds["mask"][0] = False  # All are hidden from this event, or none.
    after = fuse_attention(graph)
    as_exact(graph, after, feeds)
    (op,) = (n.op for n in after.nodes if isinstance(n.op, SoftmaxAttention))
    assert op.fill == np.float32(-1e9)
    assert ("Not()" in operators(after)) == hides


def _hidden(graph: Graph) -> dict[str, Array]:
    feeds = batch(graph, rows=3)
    feeds["mask"][...] = 0
    feeds["mask"][1] = -np.inf
    feeds["mask"][2, ..., 3:] = -np.inf
    return feeds


def test_nothing_to_attend_to_is_nan_as_it_was() -> None:
    b = Parts()
    mask = b.input("mask", floats(N, 1, 1, 7))
    graph = b.graph(b.op(HEADS, b.attended(b.op(Add(), b.scores(), mask)), name="y"))
    feeds = _hidden(graph)
    with np.errstate(invalid="ignore"):
        old, new = evaluate(graph, feeds)["y"], evaluate(fuse_attention(graph), feeds)["y"]
    found = Model(graph)(feeds)
    assert np.isnan(old[1]).all() and not np.isnan(old[[0, 2]]).any()
    np.testing.assert_allclose(new, old, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(found, old, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("axis", "the softmax is not over the keys"),
        ("mask", "the mask has not the form of the scores"),
        ("scale", "the scores have many scales"),
        ("shared", "heads or a batch are broadcast"),
        ("half", "it is for float32"),
    ],
)
def test_forms_that_stay(change: str, reason: str) -> None:
    b = Parts(3, 5, 2, 4)
    if change == "half":
        b = Parts(3, 5, 2, 4)
        b.types.update({n: floats(*t.shape, dtype=DType.FLOAT16) for n, t in b.types.items()})
    if change == "shared":
        b.v = b.input("one", floats(1, 1, 7, 4))
    scores = b.scores()
    if change == "mask":
        scores = b.op(Add(), scores, b.input("mask", floats(3, 1, 5, 1)))
    if change == "scale":
        scores = b.op(Mul(), scores, b.c("s", np.ones((5, 1))))
    graph = b.graph(b.attended(scores, axis=2 if change == "axis" else -1))
    assert reasons(graph) == [f"attention: {reason}"]


def test_keys_that_are_no_neighbours_in_memory_are_transposed_first() -> None:
    b = Parts()
    b.input("turned", floats(N, 2, 4, 7))
    graph = b.graph(b.attended(b.scores(keys="turned")))
    assert fused(graph).orders[2] == "bhre"
    assert "Transpose(perm=(0, 1, 3, 2))" in operators(fuse_attention(graph))


def test_a_transpose_of_matrices_in_a_row() -> None:
    b = Net(N, 3, 4, 5)
    x = b.op(Transpose((0, 2, 1)), b.op(Reshape((-1, 4, 5)), "x"))
    before = b.graph(b.op(Reshape((-1, 3, 5, 4)), x, name="y"))
    after = inner_transposes(before)
    identical(before, after)
    assert operators(after) == ["Transpose(perm=(0, 1, 3, 2))"]


@pytest.mark.parametrize("shape", [(-1, 5, 3, 4), (-1, 3, 20)])
def test_a_transpose_between_other_shapes_stays(shape: tuple[int, ...]) -> None:
    b = Net(N, 3, 4, 5)
    x = b.op(Transpose((0, 2, 1)), b.op(Reshape((-1, 4, 5)), "x"))
    before = b.graph(b.op(Reshape(shape), x, name="y"))
    assert operators(inner_transposes(before)) == operators(before)
