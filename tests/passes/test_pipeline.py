"""The passes in their order: what becomes of models, and of a pass that is wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sofie_rdf.errors import GraphError, SofieError
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.text import graph_text
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ir.verify import verify
from sofie_rdf.ops.convolution import Conv
from sofie_rdf.ops.elementwise import (
    Abs,
    Add,
    Cast,
    Clip,
    Div,
    Exp,
    Max,
    Mul,
    Neg,
    PRelu,
    Relu,
    Sigmoid,
    Sub,
    Tanh,
)
from sofie_rdf.ops.layout import (
    Concat,
    Dropout,
    Flatten,
    Identity,
    Reshape,
    Squeeze,
    Transpose,
    Unsqueeze,
)
from sofie_rdf.ops.linear import Dense, Gemm, MatMul
from sofie_rdf.ops.normalization import BatchNormalization, Softmax
from sofie_rdf.passes.memory import plan_memory
from sofie_rdf.passes.pipeline import DEFAULT, Phase, clean, explain, repeated, run, tidy
from sofie_rdf.passes.simplify import rebuilt
from sofie_rdf.reference import evaluate
from sofie_rdf.summary import explanation
from tests.passes.graphs import N, Net, as_exact, batch, floats, identical, operators, summary

DATA = Path(__file__).resolve().parents[2] / "data"
HIGGS = DATA / "higgs.onnx"


@pytest.fixture(scope="module")
def higgs() -> Graph:
    return read(HIGGS)


@pytest.fixture(scope="module")
def events(higgs: Graph) -> dict[str, Array]:
    mean, std = higgs.constants["center/mean"], higgs.constants["scale/std"]
    numbers = np.random.default_rng(0).normal(size=(5000, 7))
    return {"features": (numbers * std + mean).astype(np.float32)}


# Whole models -------------------------------------------------------------------------------------


def test_higgs_is_five_dense_layers(higgs: Graph) -> None:
    graph, report = explain(higgs)
    functions = ", ".join(["Relu()"] * 4)
    assert operators(graph) == [f"sofie.DenseLayers(activations=({functions}, Sigmoid()))"]
    assert [n.origin.name for n in graph.nodes] == ["dense5"]
    names = {f"dense{i}/{part}" for i in range(1, 6) for part in ("weight", "bias")}
    assert set(graph.constants) == names
    assert (graph.inputs, graph.outputs) == (higgs.inputs, higgs.outputs)
    assert graph.provenance == higgs.provenance
    assert report.refused == ()
    assert report.applied == {"gemm": 5, "affine_after": 4, "activation": 5, "affine_before": 1}


def test_higgs_is_as_exact_as_before(higgs: Graph, events: dict[str, Array]) -> None:
    as_exact(higgs, run(higgs), events)
    exact = evaluate(higgs, events, wide=True)["score"]
    errors = [np.abs(evaluate(g, events)["score"] - exact).mean() for g in (higgs, run(higgs))]
    assert errors[1] < 1.2 * errors[0]


def test_a_transformed_model_can_be_transformed_and_planned(higgs: Graph) -> None:
    graph = run(higgs)
    assert graph_text(run(graph)) == graph_text(graph)
    plan_memory(graph)


def test_a_keras_like_model() -> None:
    """MatMul and Add, a PRelu with one slope, Dropout, Reshape and Transpose to and fro, Swish."""
    b, rng = Net(N, 2, 3), np.random.default_rng(5)
    h = b.op(Reshape((-1, 6)), b.op(Flatten(), b.op(Transpose((0, 2, 1)), "x")))
    h = b.op(MatMul(), h, b.op(Transpose(), b.c("d/kernel", rng.normal(size=(4, 6)))))
    h = b.op(Add(), b.c("d/bias", rng.normal(size=(1, 4))), h)
    h = b.op(Dropout(), b.op(PRelu(), h, b.c("slope", [[0.25] * 4])))
    h = b.op(
        Add(), b.op(MatMul(), h, b.c("e/kernel", rng.normal(size=(4, 2)))), b.c("e/bias", [1, 2])
    )
    h = b.op(Mul(), h, b.op(Sigmoid(), h))
    before = b.graph(b.op(Identity(), b.op(Softmax(), h), name="y"))
    graph = run(before)
    assert operators(graph) == [
        "Transpose(perm=(0, 2, 1))",
        "Flatten()",
        "sofie.DenseLayers(activations=(LeakyRelu(alpha=0.25), Swish()))",
        "Softmax()",
    ]
    assert {"e/kernel", "e/bias", "d/bias"} < set(graph.constants)
    as_exact(before, graph)


def test_layers_that_share_weights_still_do() -> None:
    b = Net(N, 3)
    b.c("w", np.eye(2, 3))
    b.c("c", [1, 2])
    parts = [b.op(Gemm(transB=True), v, "w", "c") for v in ("x", b.op(Tanh(), "x"))]
    before = b.graph(b.op(Max(), *parts, name="y"))
    graph = run(before)
    assert operators(graph) == ["Tanh()", "sofie.Dense()", "sofie.Dense()", "Max()"]
    assert graph.nodes[1].inputs[1:] == graph.nodes[2].inputs[1:]
    assert len(graph.constants) == 2
    as_exact(before, graph)


LOSS = "the offset is 1e+04 times the scale: folding would lose 4 digits"


def test_refusals_are_reported() -> None:
    b = Net(N, 3)
    h = b.op(Sub(), "x", b.c("m", 1e5), name="s")
    h = b.op(Gemm(), b.op(Div(), h, b.c("s0", 10)), b.c("w", np.ones((3, 2))), name="g")
    b.op(Relu(), h, name="y")
    graph, report = explain(b.graph("y", h))
    assert summary(graph)[1:] == ["g = sofie.Dense()(div, w, w_bias)", "y = Relu()(g)"]
    assert [str(r) for r in report.refused] == [
        "activation: net.onnx: node 'y': 'g' is an output of the model",
        "affine_before: net.onnx: node 'g': " + LOSS,
    ]


def test_what_was_done_and_what_not_in_words() -> None:
    b = Net(N, 3)
    h = b.op(Gemm(), b.op(Add(), "x", b.c("m", 1e5)), b.c("w", np.ones((3, 2))), name="g")
    y = b.op(Softmax(), b.op(Relu(), h), name="y")
    assert explanation(b.graph(y)).splitlines() == [
        "net: 4 nodes as read, 3 to run",
        "",
        "done:",
        "    1 x activation             f(x @ w + b), computed while the sums are at hand",
        (
            "    1 x gemm                   "
            "(alpha * x) @ op(w) + beta * c = x @ (alpha * op(w)) + (beta * c)"
        ),
        "",
        "not done:",
        (
            "  affine_before: it adds up to 1e+05 and nothing says how large that is beside x  "
            "(net.onnx: node 'g')"
        ),
        "",
        "operators to run:",
        "    1 x Add",
        "    1 x sofie.Dense",
        "    1 x Softmax",
    ]


def test_a_refusal_that_is_overcome_is_not_reported() -> None:
    b = Net(N, 9, 4)
    turn = Transpose((0, 2, 1))
    y = b.op(Relu(), b.op(turn, b.op(Conv(), b.op(turn, "x"), b.c("w", np.ones((5, 4, 1))))))
    graph, report = explain(b.graph(y))
    assert operators(graph) == ["sofie.Dense(activation=Relu())"]
    assert report.refused == ()


def test_a_model_that_does_nothing() -> None:
    graph = run(Net(N, 3).graph("x"))
    assert (graph.nodes, graph.outputs) == ((), ("x",))
    b = Net(N, 3)
    before = b.graph(b.op(Relu(), b.c("c", [-1, 1]), name="k"), b.op(Identity(), "x", name="y"))
    graph = run(before)
    assert summary(graph) == ["y = Identity()(x)"]
    assert graph.constants["k"].tolist() == [0, 1]
    identical(before, graph)


# The runner ---------------------------------------------------------------------------------------


def test_what_each_pass_did_is_logged(higgs: Graph, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "sofie_rdf"):
        run(higgs)
    assert {r.name for r in caplog.records} == {"sofie_rdf"}
    assert "fuse_layers: 16 nodes -> 7" in caplog.messages
    assert "fuse_normalizations: 7 nodes -> 5" in caplog.messages
    # Each phase begins with `clean` and ends with `tidy`.
    assert len(caplog.messages) == sum(len(phase.passes) + 2 for phase in DEFAULT)


def without_types(graph: Graph) -> Graph:
    return replace(graph, types=MappingProxyType({}))


def wrong_type(graph: Graph) -> Graph:
    (node,) = graph.nodes
    return replace(graph, nodes=(replace(node, op=Cast(to=DType.INT32)),))


def other_types(graph: Graph) -> Graph:
    """The node is as it was, but not the type of what it gives."""
    types = dict(graph.types)
    types["y"] = types["y"].reshaped((7,))
    return replace(graph, types=MappingProxyType(types))


def other_input(graph: Graph) -> Graph:
    types = dict(graph.types)
    types["x"] = types["x"].reshaped((7,))
    return replace(graph, types=MappingProxyType(types))


def forgetful(graph: Graph) -> Graph:
    raise KeyError(graph.name)


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (without_types, "the pass 'without_types' failed: value 'x' has no type"),
        (wrong_type, "node 'y': the pass 'wrong_type' failed: 'y' is int32"),
        (other_types, "node 'y': the pass 'other_types' failed: 'y' is float32[N]"),
        (other_input, "node 'y': the pass 'other_input' failed: 'y' is float32[7]"),
        (forgetful, "the pass 'forgetful' failed: KeyError: 'net'"),
    ],
)
def test_a_broken_pass_is_named(one: Callable[[Graph], Graph], says: str) -> None:
    b = Net(N)
    graph = b.graph(b.op(Relu(), "x", name="y"))
    with pytest.raises(GraphError, match="report it") as caught:
        run(graph, (Phase("test", "", (one,)),))
    assert says in str(caught.value)


def test_a_broken_graph_is_not_blamed_on_a_pass() -> None:
    b = Net(N)
    graph = without_types(b.graph(b.op(Relu(), "x", name="y")))
    with pytest.raises(SofieError) as caught:
        run(graph)
    assert "pass" not in str(caught.value)


def test_no_passes_change_nothing(higgs: Graph) -> None:
    assert run(higgs, ()) is higgs


def assert_done(graph: Graph) -> None:
    """Behind each phase, none of its passes has anything left to do."""
    for phase in DEFAULT:
        graph = run(graph, (phase,))
        for one in (*phase.passes, clean, tidy):
            again = one(graph)
            assert graph_text(again) == graph_text(graph), f"{phase.name}: {one}"


@pytest.mark.parametrize("path", sorted(DATA.rglob("*.onnx")), ids=lambda p: p.stem)
def test_each_phase_ends_what_it_does(path: Path) -> None:
    assert_done(read(path))


def test_two_outputs_of_one_value_are_tidy() -> None:
    """Equal names of outputs were merged into each other, and never stayed."""
    b = Net(N, 3)
    ys = [b.op(Identity(), b.op(Relu(), "x"), name=f"y{i}") for i in range(4)]
    assert_done(b.graph(*ys))


def test_two_outputs_of_equal_reshapes_are_tidy() -> None:
    """Equal reshapes became an identity and then a reshape again, without an end."""
    b = Net(N, 3)
    moved = b.op(Transpose((1, 0)), "x")
    ys = [b.op(Reshape((-1,)), moved, name=f"y{i}") for i in range(2)]
    assert_done(b.graph(b.op(Exp(), ys[0], name="z"), ys[1]))


def test_passes_that_undo_each_other_end(caplog: pytest.LogCaptureFixture) -> None:
    b = Net(N, 3)
    before = b.graph(b.op(Relu(), "x", name="y"))

    def there(graph: Graph) -> Graph:
        return rebuilt(graph, [replace(n, op=Tanh()) for n in graph.nodes])

    def back(graph: Graph) -> Graph:
        return rebuilt(graph, [replace(n, op=Relu()) for n in graph.nodes])

    assert summary(repeated(before, there, back)) == ["y = Relu()(x)"]
    assert "50 rounds of there, back were not enough" in caplog.text


# Any graph ----------------------------------------------------------------------------------------

UNARY: tuple[Operator, ...] = (
    Relu(),
    Tanh(),
    Sigmoid(),
    Neg(),
    Abs(),
    Identity(),
    Dropout(),
    Cast(to=DType.FLOAT64),
    Max(),
)
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, -0.7, 1e-4])


class Grower:
    """Random layers on random values that are there already, in float64."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.b = Net(dtype=DType.FLOAT64)
        sizes = {"x": 3, "z": 2}
        types = {i: floats(N, n, dtype=DType.FLOAT64) for i, n in sizes.items()}
        self.values = [self.b.input(name, type_) for name, type_ in types.items()]

    def pick(self, options: Sequence[Any]) -> Any:
        return self.data.draw(st.sampled_from(options))

    def array(self, *shape: int) -> Array:
        size = int(np.prod(shape, dtype=int))
        numbers = self.data.draw(st.lists(NUMBERS, min_size=size, max_size=size))
        return np.array(numbers).reshape(shape)

    def constant(self, *shape: int) -> str:
        return self.b.c(self.b.fresh("c"), self.array(*shape))

    def grow(self) -> None:
        value = self.pick(self.values[-4:])
        shape = self.b.types[value].shape
        n = shape[-1]
        assert isinstance(n, int)
        kind = self.pick(["unary", "unary", "step", "step", "dense", "norm", "shape", "two"])
        match kind:
            case "unary":
                new = self.b.op(self.pick(UNARY), value)
            case "step":
                new = self.step(value, n)
            case "dense":
                new = self.dense(value, n, len(shape))
            case "norm" if len(shape) == 2:
                new = self.norm(value, n)
            case "two":
                others = [v for v in self.values if self.b.types[v] == self.b.types[value]]
                new = self.b.op(self.pick([Add(), Mul(), Sub(), Max()]), value, self.pick(others))
            case _:
                new = self.shaped(value, len(shape), n)
        self.values.append(new)

    def step(self, value: str, n: int) -> str:
        op = self.pick([Add(), Sub(), Mul(), Div(), PRelu()])
        shape = self.pick([(), (1,), (n,)])
        numbers = self.array(*shape)
        if isinstance(op, Div):
            numbers = np.where(np.abs(numbers) < 0.1, 1.0, numbers)
        inputs = [value, self.b.c(self.b.fresh("c"), numbers)]
        flip = isinstance(op, (Add, Sub, Mul)) and self.pick([False, True])
        return self.b.op(op, *(inputs[::-1] if flip else inputs))

    def dense(self, value: str, n: int, rank: int) -> str:
        m = self.pick([1, 2, 3])
        if rank == 2 and self.pick([False, True]):
            flip = self.pick([False, True])
            w = self.constant(*((m, n) if flip else (n, m)))
            bias = self.pick([[], [(m,)], [(1, m)], [()]])
            op = Gemm(alpha=self.pick([1.0, 0.5]), beta=self.pick([1.0, 0.0, 2.0]), transB=flip)
            return self.b.op(op, value, w, *(self.constant(*s) for s in bias))
        if self.pick([False, True]):
            return self.b.op(MatMul(), value, self.b.op(Transpose(), self.constant(m, n)))
        return self.b.op(Dense(), value, self.constant(n, m), self.constant(m))

    def norm(self, value: str, n: int) -> str:
        statistics = [self.constant(n) for _ in range(3)]
        var = self.b.c(self.b.fresh("c"), np.abs(self.array(n)) + 0.5)
        return self.b.op(BatchNormalization(), value, *statistics, var)

    def shaped(self, value: str, rank: int, n: int) -> str:
        match self.pick(["flat", "there and back", "turned", "clip", "concat"]):
            case "flat":
                return self.b.op(Reshape((-1, n)), value)
            case "there and back":
                return self.b.op(Squeeze((1,)), self.b.op(Unsqueeze((1,)), value))
            case "turned":
                perm = tuple(range(rank))[::-1]
                return self.b.op(Transpose(perm), self.b.op(Transpose(), value))
            case "clip":
                return self.b.op(Clip(), value)
        return self.b.op(Concat(axis=-1), value)

    def graph(self) -> Graph:
        for _ in range(self.data.draw(st.integers(1, 12), "nodes")):
            self.grow()
        others = self.data.draw(st.lists(st.sampled_from(self.values), max_size=3, unique=True))
        return self.b.graph(*dict.fromkeys([self.values[-1], *others]))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_graph_keeps_its_meaning(data: st.DataObject) -> None:
    before = Grower(data).graph()
    after = run(before)
    verify(after)
    assert len(after.nodes) <= len(before.nodes)
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    assert graph_text(run(before)) == graph_text(after)
    assert_done(before)
    feeds = batch(before, rows=5)
    old, new = evaluate(before, feeds), evaluate(after, feeds)
    for name in before.outputs:
        assert after.types[name] == before.types[name]
        scale = 1 + np.abs(old[name]).max(initial=0)
        np.testing.assert_allclose(new[name], old[name], rtol=1e-9, atol=1e-11 * scale)
