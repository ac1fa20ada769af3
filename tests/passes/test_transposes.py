"""Transposes: past what they move, where they meet, and where they stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Operator
from sofie_rdf.model import Model
from sofie_rdf.ops.convolution import Conv
from sofie_rdf.ops.elementwise import Add, Clip, Div, Mul, Pow, Relu, Sub, Tanh
from sofie_rdf.ops.indexing import Slice
from sofie_rdf.ops.layout import Concat, Reshape, Transpose
from sofie_rdf.ops.reduction import ReduceMax, ReduceMean
from sofie_rdf.passes import pipeline
from sofie_rdf.passes.convolutions import fuse_convolutions
from sofie_rdf.passes.rewrite import Rules
from sofie_rdf.passes.simplify import remove_identities
from sofie_rdf.passes.transposes import as_reshapes, move_transposes, pointwise_convolutions
from sofie_rdf.reference import evaluate
from tests.passes.graphs import N, Net, as_exact, batch, identical, operators

RNG = np.random.default_rng(5)
LAST = Transpose((0, 2, 1))
CYCLE = Transpose((2, 0, 1))


def reasons(graph: Graph, rules: Rules = move_transposes) -> list[str]:
    after, report = rules.explain(graph)
    assert after.nodes == graph.nodes
    return [f"{r.rule}: {r.reason}" for r in report.refused]


def moved(graph: Graph) -> list[str]:
    """The operators when all Transposes have moved; the numbers are the same."""
    after = remove_identities(move_transposes(graph))
    identical(graph, after)
    return operators(after)


@pytest.mark.parametrize("op", [Relu(), Tanh()], ids=str)
def test_a_function_between_a_pair(op: Operator) -> None:
    b = Net(N, 3, 4)
    assert moved(b.graph(b.op(LAST, b.op(op, b.op(LAST, "x")), name="y"))) == [str(op)]


def test_bounds_between_a_pair() -> None:
    b = Net(N, 3, 4)
    y = b.op(Clip(), b.op(LAST, "x"), b.c("low", -0.5), b.c("high", 0.5))
    assert moved(b.graph(b.op(LAST, y, name="y"))) == ["Clip()"]


@pytest.mark.parametrize("op", [Add(), Sub(), Div(), Pow()], ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (2,), (3, 1), (1, 1, 2), (4, 1, 1), (4, 3, 2)])
@pytest.mark.parametrize("first", [False, True])
def test_a_constant_between_a_pair(op: Operator, shape: tuple[int, ...], first: bool) -> None:
    b = Net(3, 2, 4)
    inputs = [b.op(CYCLE, b.op(Relu(), "x")), b.c("c", RNG.uniform(1, 2, shape))]
    y = b.op(op, *(inputs if first else reversed(inputs)))
    before = b.graph(b.op(Transpose((1, 2, 0)), y, name="y"))
    after = move_transposes(before)
    with np.errstate(divide="ignore"):
        identical(before, after)
    assert operators(remove_identities(after)) == ["Relu()", str(op)]


def test_a_constant_with_more_axes_stays_in_front() -> None:
    b = Net(3, 2, 4)
    graph = b.graph(b.op(Mul(), b.op(CYCLE, "x"), b.c("c", np.ones((2, 1, 1, 1))), name="y"))
    assert reasons(graph) == ["function_with_constant: the constant has more axes"]


def _two(op: Operator, one: Transpose, other: Transpose) -> Graph:
    b = Net(N, 3, 3)
    return b.graph(b.op(op, b.op(one, "x"), b.op(other, b.op(Relu(), "x")), name="y"))


@pytest.mark.parametrize("op", [Add(), Sub()], ids=str)
def test_two_of_one_order(op: Operator) -> None:
    assert moved(_two(op, LAST, LAST)) == ["Relu()", str(op), str(LAST)]


def test_two_orders_stay() -> None:
    b = Net(3, 3, 3)
    y = b.op(Add(), b.op(LAST, "x"), b.op(CYCLE, b.op(Relu(), "x")), name="y")
    assert "function_of_two: the axes are in two orders" in reasons(b.graph(y))


def test_what_is_used_twice_stays() -> None:
    b = Net(N, 3, 4)
    x = b.op(LAST, "x")
    graph = b.graph(b.op(Relu(), x, name="y"), b.op(Tanh(), x, name="z"))
    assert reasons(graph) == [f"function: {x!r} is used 2 times"] * 2


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(axis: int) -> None:
    b = Net(2, 3, 3)
    x, y = b.op(CYCLE, "x"), b.op(CYCLE, b.op(Relu(), "x"))
    after = moved(b.graph(b.op(Concat(axis), x, y, name="y")))
    assert after == ["Relu()", str(Concat((2, 0, 1)[axis])), str(CYCLE)]


@pytest.mark.parametrize("axes", [None, (2,), (0, -1)])
def test_slice(axes: tuple[int, ...] | None) -> None:
    count = 3 if axes is None else len(axes)
    b = Net(5, 3, 4)
    op = Slice((1,) * count, (3,) * count, axes)
    after = moved(b.graph(b.op(op, b.op(CYCLE, "x"), name="y")))
    assert [o.split("(")[0] for o in after] == ["Slice", "Transpose"]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axes", [(0,), (1,), (-1,), (0, 2), (2, 1)])
def test_reduction(axes: tuple[int, ...], keepdims: bool) -> None:
    b = Net(5, 3, 4)
    op = ReduceMax(axes=axes, keepdims=keepdims)
    after = moved(b.graph(b.op(op, b.op(CYCLE, "x"), name="y")))
    assert after[0].startswith("ReduceMax")


def test_a_reduction_of_nothing_stays() -> None:
    b = Net(5, 3, 4)
    op = ReduceMean(axes=(), noop_with_empty_axes=True)
    assert reasons(b.graph(b.op(op, b.op(CYCLE, "x"), name="y"))) == [
        "reduction: nothing is reduced"
    ]


@pytest.mark.parametrize(
    ("shape", "order", "split", "moved_order"),
    [
        ((5, 24, 4), (1, 0, 2), (3, 8, 5, 4), (1, 2, 0, 3)),
        ((5, 6, 4), (1, 2, 0), (2, 3, 4, 5), (1, 2, 3, 0)),
        ((N, 6, 4), (0, 2, 1), (N, 4, 2, 3), (0, 3, 1, 2)),
    ],
)
def test_an_axis_that_is_split_afterwards(
    shape: Any, order: Any, split: Any, moved_order: Any
) -> None:
    b = Net(*shape)
    before = b.graph(b.op(Reshape(split), b.op(Transpose(order), "x"), name="y"))
    after = move_transposes(before)
    assert operators(after)[1] == str(Transpose(moved_order))
    feeds = {"x": RNG.normal(size=[d if isinstance(d, int) else 24 for d in shape])}
    feeds["x"] = feeds["x"].astype(np.float32)
    identical(before, after, feeds)


@pytest.mark.parametrize("shape", [(24, 5), (3, 4, 10), (4, 6, 1, 5), (2, 2, 6, 5), (24, 5, 1)])
def test_other_changes_of_the_shape_stay_behind(shape: tuple[int, ...]) -> None:
    b = Net(6, 4, 5)
    before = b.graph(b.op(Reshape(shape), b.op(Transpose((1, 0, 2)), "x"), name="y"))
    after = move_transposes(before)
    identical(before, after)
    assert operators(after)[0].startswith("Reshape") == (shape == (2, 2, 6, 5))


# Convolutions of points ---------------------------------------------------------------------------


def _convolution(op: Conv, w: tuple[int, ...], first: Transpose, *shape: Any) -> Graph:
    b = Net(*shape)
    y = b.op(op, b.op(first, "x"), b.c("w", RNG.normal(size=w)), b.c("b", RNG.normal(size=w[0])))
    return fuse_convolutions(b.graph(b.op(Relu(), y, name="y")))


@pytest.mark.parametrize(
    ("w", "order", "shape"),
    [
        ((6, 4, 1), (0, 2, 1), (N, 9, 4)),
        ((6, 4, 1, 1), (0, 3, 1, 2), (N, 3, 5, 4)),
    ],
)
def test_convolution_of_points(w: tuple[int, ...], order: Any, shape: Any) -> None:
    before = _convolution(Conv(), w, Transpose(order), *shape)
    after = pointwise_convolutions(before)
    as_exact(before, after, batch(before, rows=3))
    assert operators(after) == ["sofie.Dense(activation=Relu())", str(Transpose(order))]


@pytest.mark.parametrize(
    ("op", "w", "order", "reason"),
    [
        (Conv(), (6, 4, 2), (0, 2, 1), "it is of more than single points"),
        (Conv(strides=(2,)), (6, 4, 1), (0, 2, 1), "it is of more than single points"),
        (Conv(pads=(1, 0)), (6, 4, 1), (0, 2, 1), "it is of more than single points"),
        (Conv(group=2), (6, 2, 1), (0, 2, 1), "it is of more than single points"),
        (Conv(), (6, 4, 1), (1, 2, 0), "the channels were not last"),
    ],
    ids=str,
)
def test_convolutions_that_stay(op: Conv, w: Any, order: Any, reason: str) -> None:
    shape = (9, 5, 4) if order == (0, 2, 1) else (5, 7, 4)
    graph = _convolution(op, w, Transpose(order), *shape)
    assert f"pointwise: {reason}" in reasons(graph, pointwise_convolutions)


# Single elements ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "order", "is_reshape"),
    [
        ((5, 1, 4), (1, 0, 2), True),
        ((N, 1, 4), (1, 0, 2), True),
        ((1, 4, 1, 3), (1, 3, 0, 2), True),
        ((5, 1, 4), (2, 0, 1), False),
        ((N, 3, 4), (1, 0, 2), False),
    ],
)
def test_axes_of_one_element(shape: Any, order: Any, is_reshape: bool) -> None:
    b = Net(*shape)
    before = b.graph(b.op(Transpose(order), "x", name="y"))
    after = as_reshapes(before)
    identical(before, after)
    assert operators(after)[0].startswith("Reshape" if is_reshape else "Transpose")


# All together -------------------------------------------------------------------------------------


def test_a_network_with_channels_last_in_cling() -> None:
    b = Net(N, 9, 4)
    y = b.op(LAST, "x")
    for number, (m, n) in enumerate(((4, 6), (6, 5))):
        w, c = b.c(f"w{number}", RNG.normal(size=(n, m, 1))), b.c(f"b{number}", RNG.normal(size=n))
        y = b.op(LAST, b.op(Relu(), b.op(LAST, b.op(Conv(), y, w, c))))
    before = b.graph(b.op(LAST, y, name="y"))
    after = pipeline.run(before)
    assert operators(after) == ["sofie.DenseLayers(activations=(Relu(), Relu()))"]
    feeds = batch(before, rows=3)
    as_exact(before, after, feeds)
    exact = evaluate(before, feeds, wide=True)["y"]
    np.testing.assert_allclose(Model(before)(feeds["x"]), exact, rtol=0, atol=1e-5)
