"""Chains of element-wise functions: what becomes one pass over memory, and what stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sofie_rdf.errors import ShapeError
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import DType
from sofie_rdf.model import Model
from sofie_rdf.ops.chains import Then
from sofie_rdf.ops.elementwise import (
    Abs,
    Add,
    Cast,
    Div,
    Exp,
    Less,
    LessOrEqual,
    Max,
    Mul,
    Relu,
    Sub,
    Tanh,
    Where,
)
from sofie_rdf.ops.layout import Transpose
from sofie_rdf.ops.normalization import BatchNormalization
from sofie_rdf.passes import pipeline
from sofie_rdf.passes.chains import fuse_chains, known_statistics
from sofie_rdf.passes.transposes import move_transposes
from sofie_rdf.reference import evaluate
from tests.passes.graphs import N, Net, as_exact, batch, floats, identical

RNG = np.random.default_rng(11)


def fused(graph: Graph) -> Graph:
    """The graph with its chains; the same bits in the reference."""
    after = fuse_chains(graph)
    identical(graph, after)
    return after


def reasons(graph: Graph) -> list[str]:
    after, report = fuse_chains.explain(graph)
    assert after.nodes == graph.nodes
    return [r.reason for r in report.refused]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("shape", [(), (4,), (N, 4), (N, 1)], ids=str)
def test_two_functions(behind: bool, shape: Any) -> None:
    b = Net(N, 4)
    b.input("z", floats(*shape))
    inner = b.op(Abs(), "x")
    before = b.graph(b.op(Sub(), *(("z", inner) if behind else (inner, "z")), name="y"))
    after = fused(before)
    assert [n.op for n in after.nodes] == [Then(Abs(), Sub(), behind)]
    assert after.nodes[0].inputs == ("x", "z")


def test_as_many_as_have_four_inputs_together() -> None:
    b = Net(N, 4)
    y = "x"
    for i in range(5):
        y = b.op(Relu(), b.op(Add(), y, b.input(f"z{i}", floats(4))))
    after = fused(b.graph(b.op(Abs(), y, name="y")))
    assert [len(n.inputs) for n in after.nodes] == [4, 3]


@pytest.mark.parametrize(
    ("inner", "outer"),
    [(Abs(), Less()), (Max(), Relu()), (Abs(), Cast(DType.FLOAT64))],
    ids=str,
)
def test_other_functions_stay(inner: Operator, outer: Operator) -> None:
    b = Net(N, 4)
    x = b.op(inner, "x")
    before = b.graph(b.op(outer, x, *(["x"] if isinstance(outer, Less) else []), name="y"))
    assert reasons(before) == []


def test_what_is_broadcast_afterwards_is_computed_once() -> None:
    b = Net(N, 1)
    b.input("z", floats(N, 5))
    before = b.graph(b.op(Add(), b.op(Abs(), "x"), "z", name="y"))
    assert set(reasons(before)) == {"it gives another shape or type"}


@pytest.mark.parametrize("op", [Exp(), Tanh()], ids=str)
def test_functions_that_take_longer_than_memory_stay(op: Operator) -> None:
    b = Net(N, 4)
    before = b.graph(b.op(Relu(), b.op(op, b.op(Abs(), "x")), name="y"))
    assert reasons(before) == []


def test_integers_stay() -> None:
    b = Net(N, 4, dtype=DType.INT64)
    before = b.graph(b.op(Add(), b.op(Mul(), "x", "x"), "x", name="y"))
    assert reasons(before) == []


def test_a_chain_says_what_it_cannot_be() -> None:
    types = floats(3, 1), floats(4)
    with pytest.raises(ShapeError, match="gives"):
        Then(Abs(), Add()).infer(*types)
    with pytest.raises(ShapeError, match="needs 2 inputs"):
        Then(Abs(), Add()).infer(*types[:1])
    with pytest.raises(ShapeError, match="no fixed number"):
        Then(Max(), Add()).infer(*types)


def _normalized(*shape: Any, dtype: DType = DType.FLOAT32) -> Net:
    b = Net(*shape, dtype=dtype)
    channels = shape[1]
    vectors = [b.c(name, RNG.uniform(0.5, 2, channels)) for name in ("s", "b", "m", "v")]
    b.op(BatchNormalization(), "x", *vectors, name="n")
    return b


@pytest.mark.parametrize("shape", [(N, 3), (N, 3, 5), (N, 3, 2, 4)], ids=str)
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT64])
def test_known_statistics(shape: Any, dtype: DType) -> None:
    b = _normalized(*shape, dtype=dtype)
    before = b.graph(b.op(Relu(), "n", name="y"))
    after = known_statistics(before)
    as_exact(before, after)
    (node,) = fused(after).nodes
    assert node.op == Then(Then(Then(Sub(), Mul()), Add()), Relu())


def test_computed_statistics_stay() -> None:
    b = Net(N, 3)
    vectors = [b.input(name, floats(3)) for name in ("s", "b", "m", "v")]
    before = b.graph(b.op(BatchNormalization(), "x", *vectors, name="y"))
    assert known_statistics(before).nodes == before.nodes


def test_a_normalisation_between_transposes() -> None:
    b = Net(N, 5, 3)
    turn = Transpose((0, 2, 1))
    vectors = [b.c(name, RNG.uniform(0.5, 2, 3)) for name in ("s", "b", "m", "v")]
    y = b.op(turn, b.op(BatchNormalization(), b.op(turn, "x"), *vectors), name="y")
    before = b.graph(y)
    as_exact(before, move_transposes(known_statistics(before)))
    after = pipeline.run(before)
    assert [type(n.op) for n in after.nodes] == [Then]


def test_chains_in_cling() -> None:
    b = _normalized(N, 3, 5)
    b.input("z", floats(N, 3, 1))
    y = b.op(Div(), b.op(Abs(), b.op(Relu(), "n")), b.op(Exp(), "z"), name="y")
    before = b.graph(y)
    assert [type(n.op) for n in pipeline.run(before).nodes] == [Then, Exp, Div]
    feeds = batch(before, rows=4)
    exact = evaluate(before, feeds, wide=True)["y"]
    np.testing.assert_allclose(Model(before)(feeds), exact, rtol=2e-6, atol=1e-6)


# What comes back through a ReLU -------------------------------------------------------------------


def through_relu(low: float = 0.0, zero: float = 0.0) -> Graph:
    b = Net(N, 5)
    y = b.op(Relu(), b.op(Mul(), "x", "x"))
    below = b.op(LessOrEqual(), "x", b.c("low", np.float32(low)))
    return b.graph(b.op(Where(), below, b.c("zero", np.float32(zero)), y, name="z"))


def test_what_comes_back_through_a_relu_is_one_pass() -> None:
    before = through_relu()
    after = fuse_chains(before)
    assert [type(n.op).__name__ for n in after.nodes][-1] == "Gate"
    x = np.array([[-1.0, -0.0, 0.0, np.nan, 2.0], [np.inf, -np.inf, 1e-40, -1e-40, 3.0]])
    identical(before, after, {"x": x.astype(np.float32)})


@pytest.mark.parametrize(("low", "zero"), [(1.0, 0.0), (0.0, 1.0), (0.0, -0.0)])
def test_other_bounds_are_no_relu(low: float, zero: float) -> None:
    after = fuse_chains(through_relu(low, zero))
    assert "Gate" not in {type(n.op).__name__ for n in after.nodes}
