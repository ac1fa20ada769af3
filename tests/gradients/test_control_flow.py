"""Derivatives through If, Loop and Scan, beside differences and torch.autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from sofie_rdf import Model
from sofie_rdf.errors import ModelError, UnsupportedOperator
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.gradients.derived import gradient
from sofie_rdf.gradients.reverse import problems
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array
from sofie_rdf.passes.rows import rows_of
from sofie_rdf.reference import evaluate
from tests.choice import some_of
from tests.gradients.differences import compare

BRANCHES = """(T[N, 3] x, T[3] z) => (T[N, 3] y) <T zero = {0}> {
    s = ReduceSum <keepdims = 0> (z)
    c = Greater (s, zero)
    y = If (c) <
        then_branch = t () => (T[N, 3] a) { q = Tanh (x) a = Mul (q, z) },
        else_branch = e () => (T[N, 3] b) {
            w = Constant <value = T[3] {1, 2, 3}> () u = Mul (x, w) b = Sin (u)
        }>
}"""
# One branch gives an input as it is, and twice as many rows as the other one.
SIZES = """(T[N, 3] x, T[3] z) => (T[K, 3] y) <T zero = {0}> {
    s = ReduceSum <keepdims = 0> (z)
    c = Greater (s, zero)
    y = If (c) <
        then_branch = t () => (T[K, 3] a) { q = Mul (x, z) a = Concat <axis = 0> (q, x) },
        else_branch = e () => (T[N, 3] b) { b = Identity (x) }>
}"""
ROUNDS = """(T[N, 3] x, T[3, 3] w) => (T[N, 3] y, T[5, N, 3] s) <int64 n = {5}, bool t = {1}> {
    y, s = Loop (n, t, x) <body = b (int64 i, bool c, T[N, 3] h) => (bool d, T[N, 3] k, T[N, 3] o) {
        d = Identity (c) a = MatMul (h, w) f = CastLike (i, x) p = Mul (a, f) q = Tanh (p)
        k = Add (q, x) o = Sin (k)
    }>
}"""
SCANNED = """(T[N, 3] h0, T[S, N, 3] x, T[3, 3] w) => (T[N, 3] y, T[S, N, 3] s) {
    y, s = Scan <num_scan_inputs = 1, body = b (T[N, 3] h, T[N, 3] e) => (T[N, 3] k, T[N, 3] o) {
        a = MatMul (h, w) p = Add (a, e) k = Tanh (p) o = Sin (k)
    }> (h0, x)
}"""
BACKWARD = """(T[N, 3] h0, T[N, S, 3] x) => (T[N, 3] y, T[N, S, 3] s) {
    y, s = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1],
        scan_output_axes = [1], scan_output_directions = [1],
        body = b (T[N, 3] h, T[N, 3] e) => (T[N, 3] k, T[N, 3] o) {
            p = Mul (h, e) k = Tanh (p) o = Sin (k)
        }> (h0, x)
}"""
# Whole numbers among what is carried, a value that each round reads at another place, and a branch
# and a loop inside of a round.
NESTED = """(T[N, 4] x, T[3] w) => (T[N] y) <int64 n = {3}, int64 two = {2}, bool t = {1},
    int64 first = {1}, T nothing = {0}> {
    at = Gather <axis = 1> (x, first)
    j, y = Loop (n, t, first, at) <body = b (int64 i, bool c, int64 m, T[N] h) =>
        (bool d, int64 l, T[N] k) {
        d = Identity (c) l = Add (m, first)
        e = Gather <axis = 1> (x, m) v = Gather <axis = 0> (w, i)
        u = Greater (v, nothing)
        r = If (u) <
            then_branch = then () => (T[N] a) { f = Mul (h, v) a = Tanh (f) },
            else_branch = other () => (T[N] o) {
                o = Loop (two, t, h) <body = inner (int64 ii, bool cc, T[N] hh) =>
                    (bool dd, T[N] kk) { dd = Identity (cc) g = Sin (hh) kk = Mul (g, v) }>
            }>
        k = Add (r, e)
    }>
}"""
GRAPHS = {
    "branches": BRANCHES,
    "sizes": SIZES,
    "rounds": ROUNDS,
    "scanned": SCANNED,
    "backward": BACKWARD,
    "nested": NESTED,
}


def parsed(text: str, kind: str) -> Graph:
    head = '<ir_version: 10, opset_import: ["" : 20]> g '
    text = text.replace("T[", f"{kind}[").replace("T zero", f"{kind} zero")
    return read(onnx.parser.parse_model(head + text.replace("T nothing", f"{kind} nothing")))


def numbers(graph: Graph, seed: int, **sizes: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    found = {}
    for name in graph.inputs:
        type_ = graph.types[name]
        shape = [sizes.get(str(d), d) for d in type_.shape]
        found[name] = random.normal(size=shape).astype(type_.dtype.numpy)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", GRAPHS)
def test_slopes_are_quotients_of_small_differences(name: str, seed: int) -> None:
    """Second derivatives too."""
    graph = parsed(GRAPHS[name], "double")
    feeds = numbers(graph, seed, N=(3, 1, 4)[seed], S=(4, 7, 1)[seed])
    if "z" in feeds:
        feeds["z"] = np.abs(feeds["z"]) * (-1 if seed == 1 else 1)
    compare(graph, feeds, list(graph.inputs), seed)
    one = replace(graph, outputs=graph.outputs[:1])
    first = gradient(one, None, None, vjp="v")
    shape = evaluate(one, feeds)[one.outputs[0]].shape
    feeds["v"] = np.random.default_rng(seed).normal(size=shape)
    compare(replace(first, outputs=first.outputs[1:]), feeds, list(first.inputs), seed, 5e3)


# Compiled, beside torch ---------------------------------------------------------------------------

torch = pytest.importorskip("torch")
ODE = """(float[N, 3] x, float[3, 8] w, float[8, 3] v) => (float[N, 1] y)
<int64 n = {ROUNDS}, bool t = {1}, float half = {0.005}, float step = {0.01}> {
    y3 = Loop (n, t, x) <body = b (int64 i, bool c, float[N, 3] h) => (bool d, float[N, 3] k) {
        d = Identity (c)
        a1 = MatMul (h, w) a2 = Tanh (a1) a3 = MatMul (a2, v) a4 = Mul (a3, half) m = Add (h, a4)
        b1 = MatMul (m, w) b2 = Tanh (b1) b3 = MatMul (b2, v) b4 = Mul (b3, step) k = Add (h, b4)
    }>
    axes = Constant <value_ints = [1]> ()
    y = ReduceSum (y3, axes)
}"""


def _ode(x: Any, w: Any, v: Any, rounds: int = 100) -> Any:
    for _ in range(rounds):
        middle = x + torch.tanh(x @ w) @ v * 0.005
        x = x + torch.tanh(middle @ w) @ v * 0.01
    return x.sum(1, keepdim=True)


def _branches(x: Any, z: Any) -> Any:
    return torch.tanh(x) * z if z.sum() > 0 else torch.sin(x * torch.tensor([1.0, 2.0, 3.0]))


def _rounds(x: Any, w: Any) -> Any:
    h, stack = x, []
    for i in range(5):
        h = torch.tanh(h @ w * i) + x
        stack.append(torch.sin(h))
    return h, torch.stack(stack)


def _backward(h0: Any, x: Any) -> Any:
    h, stack = h0, []
    for i in range(x.shape[1])[::-1]:
        h = torch.tanh(h * x[:, i])
        stack.insert(0, torch.sin(h))
    return h, torch.stack(stack, 1)


def _nested(x: Any, w: Any) -> Any:
    h = x[:, 1]
    for i in range(3):
        if w[i] > 0:
            r = torch.tanh(h * w[i])
        else:
            r = h
            for _ in range(2):
                r = torch.sin(r) * w[i]
        h = r + x[:, 1 + i]
    return h


THEIRS: dict[str, tuple[str, Callable[..., Any]]] = {
    "ode": (ODE.replace("ROUNDS", "100"), _ode),
    "branches": (BRANCHES, _branches),
    "rounds": (ROUNDS, _rounds),
    "backward": (BACKWARD, _backward),
    "nested": (NESTED, _nested),
}


@pytest.mark.parametrize("name", some_of(THEIRS, ["ode", "nested"]))
def test_bodies_have_torchs_derivatives_in_every_batch(name: str) -> None:
    text, theirs = THEIRS[name]
    model = Model(parsed(text, "float")).gradient(vjp=True)
    outputs = [o for o in model.outputs if "/" not in o]
    for count, steps in ((3, 4), (1, 1), (17, 9)):
        feeds = numbers(model.graph, count, N=count, S=steps)
        inputs = [i for i in model.inputs if not i.startswith("v_")]
        given = [torch.tensor(feeds[i], requires_grad=True) for i in inputs]
        results = theirs(*given)
        results = results if isinstance(results, tuple) else (results,)
        for output, y in zip(outputs, results, strict=True):
            (y * torch.tensor(feeds[f"v_{output}"])).sum().backward(retain_graph=True)
        found = model(**feeds)
        for input_, tensor in zip(inputs, given, strict=True):
            slope = sum(found[f"d_{o}/d_{input_}"] for o in outputs)
            # torch says of what has no derivative in this branch that there is none.
            wanted = 0 if tensor.grad is None else tensor.grad.numpy()
            np.testing.assert_allclose(slope, wanted, rtol=1e-4, atol=1e-5)


def test_events_in_bodies_are_alone_bit_for_bit() -> None:
    """So that no cotangent is needed."""
    model = Model(parsed(ODE.replace("ROUNDS", "100"), "float")).gradient("y", "x")
    feeds = numbers(model.graph, 2, N=9)
    found = model(**feeds)["d_y/d_x"]
    rows = [model(**{**feeds, "x": feeds["x"][i : i + 1]})["d_y/d_x"] for i in range(9)]
    np.testing.assert_array_equal(np.concatenate(rows), found)


def test_many_rounds_are_no_more_code() -> None:
    few, many = (
        gradient(parsed(ODE.replace("ROUNDS", n), "float"), "y", None, vjp=True)
        for n in ("40", "99")
    )
    assert len(few.nodes) == len(many.nodes) < 30


# What is refused ----------------------------------------------------------------------------------

COUNTED = """(float[N, 3] x, int64 n) => (float[N, 3] y) <bool t = {1}> {
    y = Loop (n, t, x) <body = b (int64 i, bool c, float[N, 3] h) => (bool d, float[N, 3] k) {
        d = Identity (c) k = Tanh (h)
    }>
}"""
WHILE = """(float[N, 3] x) => (float[N, 3] y) <int64 n = {9}, bool t = {1}, float most = {4}> {
    y = Loop (n, t, x) <body = b (int64 i, bool c, float[N, 3] h) => (bool d, float[N, 3] k) {
        k = Exp (h) s = ReduceSum <keepdims = 0> (k) d = Less (s, most)
    }>
}"""
GROWING = """(float[N, 3] x) => (float[M, 3] y) <int64 n = {3}, bool t = {1}> {
    y = Loop (n, t, x) <body = b (int64 i, bool c, float[K, 3] h) => (bool d, float[L, 3] k) {
        d = Identity (c) k = Concat <axis = 0> (h, x)
    }>
}"""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (COUNTED, "where data decide how many rounds there are.*a constant or the size of an axis"),
        (WHILE, "where data decide how many rounds there are.*stop by Where"),
        (GROWING, r"where the sizes of its values change in each round, as 'h.0' does.*final size"),
    ],
)
def test_loops_that_are_refused(text: str, why: str) -> None:
    graph = parsed(text, "float")
    with pytest.raises(UnsupportedOperator, match=why) as caught:
        Model(graph).gradient("y", "x", vjp=True)
    assert "node 'y'" in str(caught.value)
    assert [str(e) for e in problems(graph)] == [str(caught.value)]


def test_what_is_refused_in_a_body_is_named() -> None:
    few = "f = CastLike (zero, x) e = Exp (f) r = QuantizeLinear (x, e) q = DequantizeLinear (r, e)"
    graph = parsed(BRANCHES.replace("q = Tanh (x)", few), "float")
    for error in problems(graph):
        assert isinstance(error, UnsupportedOperator)
        assert "rounded to few bits" in str(error)
        assert error.place in ("g: node 'a'", "g: node 'q'", "g: node 'r'")
    with pytest.raises(UnsupportedOperator, match=r"node 'a'.*rounded to few bits"):
        Model(graph).gradient(vjp=True)


@pytest.mark.parametrize("inner", ["m = ReduceSum (h, axes)", "m = CumSum (h, zero)"])
def test_events_that_meet_in_a_body_are_refused(inner: str) -> None:
    text = f"""(float[N, 1] x) => (float[N, 1] y)
    <int64 n = {{3}}, bool t = {{1}}, int64[1] axes = {{0}}, int64 zero = {{0}}> {{
        y = Loop (n, t, x) <body = b (int64 i, bool c, float[N, 1] h) => (bool d, float[N, 1] k) {{
            d = Identity (c) {inner} k = Mul (h, m)
        }}>
    }}"""
    with pytest.raises(ModelError, match=r"events may meet in .*Loop.*vjp=True"):
        Model(parsed(text, "float")).gradient()


def test_events_that_meet_in_one_branch_are_refused() -> None:
    text = BRANCHES.replace("(T[N, 3] y)", "(T[N, 1] y)").replace("[N, 3]", "[N, 1]")
    text = text.replace("T[3] z", "T[1] z").replace("T[3] {1, 2, 3}", "T[1] {2}")
    assert rows_of(parsed(text.replace("T[1] z", "T[N, 1] z"), "float")) == ""
    model = Model(parsed(text, "float")).gradient("y", "x")
    assert str(model.outputs["d_y/d_x"]) == "float32[N, 1]"
    mixing = text.replace("q = Tanh (x)", "n = CastLike (zero, i) q = CumSum (x, n)")
    mixing = mixing.replace("<T zero = {0}>", "<T zero = {0}, int64 i = {0}>")
    with pytest.raises(ModelError, match=r"events may meet in If.*vjp=True"):
        Model(parsed(mixing, "float")).gradient("y", "x")


def test_rows_are_followed_through_rounds() -> None:
    graph = parsed(BACKWARD, "float")
    assert rows_of(graph) == "N"
    assert rows_of(gradient(graph, "y", None, vjp=True)) == "N"
    assert (
        rows_of(
            parsed(
                BACKWARD.replace("Mul (h, e)", "CumSum (h, i)").replace(
                    "{\n    y, s", "<int64 i = {0}> {\n    y, s"
                ),
                "float",
            )
        )
        == ""
    )
