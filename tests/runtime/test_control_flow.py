"""If, Loop and Scan in Cling beside onnxruntime: what bodies read, and where results are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import sofie_rdf as sofie
from sofie_rdf.errors import InputError, ShapeError
from sofie_rdf.ir.types import Array
from tests.frontends.models import initializer, model, node, value
from tests.runtime.agreement import agree, outputs_of

ROOT = pytest.importorskip("ROOT")
pytest.importorskip("onnxruntime")

FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scalar(number: float, dtype: Any = np.float32) -> Array:
    return np.array(number, dtype)


def vector(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def body(
    nodes: Sequence[Any],
    outputs: str,
    inputs: Mapping[str, Any] | None = None,
    weights: Mapping[str, Array] | None = None,
) -> onnx.GraphProto:
    """A graph in an attribute; ``name:bool`` is an output that is no float32."""
    kinds = {"bool": BOOL, "int": INT64, "": FLOAT}
    results = [(o.partition(":")[0], kinds[o.partition(":")[2]]) for o in outputs.split()]
    return helper.make_graph(
        list(nodes),
        "body",
        [value(n, *v) if isinstance(v, tuple) else value(n, v) for n, v in (inputs or {}).items()],
        [value(name, None, kind) for name, kind in results],
        [initializer(name, array, array.dtype) for name, array in (weights or {}).items()],
    )


# The first inputs of every body of a Loop.
ROUND = {"i": ([], INT64), "c": ([], BOOL)}
ON = node("Identity", "c", "on")


def branch(condition: str, outputs: str, one: onnx.GraphProto, other: onnx.GraphProto) -> Any:
    return helper.make_node("If", [condition], outputs.split(), then_branch=one, else_branch=other)


def loop(inputs: str, outputs: str, inner: onnx.GraphProto) -> Any:
    return node("Loop", inputs, outputs, body=inner)


# Whether the sum of x is positive.
SIGN = [node("ReduceSum", "x", "sum", keepdims=0), node("Greater", "sum zero", "up")]
ZERO = {"zero": scalar(0)}
UP, DOWN = np.abs(numbers(6, 4)), -np.abs(numbers(4, 4, seed=1))
BOTH = ({"x": UP}, {"x": DOWN}, {"x": UP[:2]}, {"x": UP[:0]}, {"x": UP})


# If -----------------------------------------------------------------------------------------------


def test_branches_that_read_values_outside() -> None:
    """Inputs, weights, values that nodes compute before; and weights of their own."""
    one = body(
        [node("MatMul", "x w", "t"), node("Add", "t own", "a")], "a", weights={"own": numbers(3)}
    )
    other = body([node("MatMul", "h w", "t"), node("Relu", "t", "b")], "b")
    nodes = [*SIGN, node("Tanh", "x", "h"), branch("up", "y", one, other)]
    agree(model(nodes, {"x": ["N", 4]}, "y", {**ZERO, "w": numbers(4, 3)}), *BOTH)


def test_branches_with_results_of_different_sizes() -> None:
    one = body([node("Concat", "x x x", "a", axis=0)], "a")
    other = body([node("Identity", "x", "b")], "b")
    nodes = [*SIGN, branch("up", "y", one, other), node("Softmax", "y", "z", axis=1)]
    agree(model(nodes, {"x": ["N", 4]}, "y z", ZERO), *BOTH)


def test_results_that_are_another_form_of_what_is_computed() -> None:
    """In a branch, outside it, and of what the branch only reads: nothing is computed there."""
    one = body(
        [
            node("Relu", "x", "t"),
            node("Reshape", "t two", "a"),
            node("Neg", "t", "u"),
            node("Flatten", "u", "b"),
        ],
        "a b",
        weights={"two": vector(2, -1)},
    )
    other = body(
        [
            node("Reshape", "x two", "p"),
            node("Neg", "w", "n"),
            node("Expand", "n three", "q"),
        ],
        "p q",
        weights={"two": vector(2, -1), "three": vector(3, 4)},
    )
    nodes = [
        *SIGN,
        branch("up", "y z", one, other),
        node("Flatten", "z", "flat", axis=0),
        node("Unsqueeze", "z middle", "deep"),
        node("Exp", "y", "e"),
    ]
    given = {**ZERO, "w": numbers(3, 4), "middle": vector(1)}
    proto = model(nodes, {"x": ["N", 4]}, "y z flat deep e", given)
    agree(proto, *BOTH[:3])


def test_a_result_that_is_no_output_of_a_node() -> None:
    """What a branch gives is what it reads, twice."""
    one = body([node("Identity", "x", "a"), node("Identity", "x", "b")], "a b")
    other = body([node("Relu", "x", "p"), node("Identity", "p", "q")], "p q")
    agree(model([*SIGN, branch("up", "y z", one, other)], {"x": ["N", 4]}, "y z", ZERO), *BOTH)


def test_a_condition_that_is_known_when_the_model_is_read() -> None:
    one, other = body([node("Exp", "x", "a")], "a"), body([node("Relu", "x", "b")], "b")
    for known, name in ((True, "Exp"), (False, "Relu")):
        nodes = [branch("known", "y", one, other)]
        proto = model(nodes, {"x": ["N", 4]}, "y", {"known": np.array(known)})
        compiled = agree(proto, *BOTH)
        assert name in [n.op.name for n in compiled.graph.nodes]
        assert not any(n.op.bodies for n in compiled.graph.nodes)


def test_a_condition_of_the_sizes() -> None:
    """As exporters write it: an axis is taken away where it has one element."""
    one = body([node("Squeeze", "x last", "a")], "a")
    other = body([node("ReduceMax", "x", "b", axes=[1], keepdims=0)], "b")
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape one", "size"),
        node("Equal", "size one", "single"),
        branch("single", "y", one, other),
    ]
    given = {"one": scalar(1, np.int64), "last": vector(1)}
    calls = [{"x": numbers(3, 1)}, {"x": numbers(3, 5)}]
    agree(model(nodes, {"x": ["N", "M"]}, "y", given), *calls)


def test_sizes_that_must_agree_only_in_one_branch() -> None:
    """The other branch runs for all sizes, and what follows is right for all of them."""
    one = body([node("Add", "x z", "a")], "a")
    other = body([node("Relu", "x", "b")], "b")
    nodes = [*SIGN, branch("up", "h", one, other), node("Softmax", "h", "y", axis=1)]
    proto = model(nodes, {"x": ["N", 4], "z": ["M", 4]}, "y", ZERO)
    z = numbers(6, 4, seed=8)
    compiled = agree(proto, {"x": UP, "z": z}, {"x": DOWN, "z": z}, {"x": DOWN, "z": z[:0]})
    with pytest.raises(InputError, match="test: a needs N = M"):
        compiled(x=UP[:5], z=z)
    np.testing.assert_array_equal(compiled(x=UP, z=z), compiled(x=UP, z=z))


def test_a_branch_as_a_column() -> None:
    one, other = body([node("Mul", "x w", "a")], "a"), body([node("Neg", "x", "b")], "b")
    nodes = [*SIGN, branch("up", "h", one, other), node("ReduceSum", "h axis", "y")]
    given = {**ZERO, "w": numbers(3), "axis": vector(1)}
    compiled = sofie.from_onnx(model(nodes, {"x": ["N", 3]}, "y", given))
    events = numbers(40, 3, seed=5)
    assert 5 < np.count_nonzero(events.sum(axis=1) > 0) < 35
    frame = ROOT.RDF.FromNumpy({f"x{i}": events[:, i].copy() for i in range(3)})
    column = compiled.define(frame, "y", ["x0", "x1", "x2"]).AsNumpy(["y"])["y"]
    each = [float(compiled(events[i : i + 1])[0, 0]) for i in range(40)]
    np.testing.assert_array_equal(column, np.array(each, np.float32))


def removed_if_one(*after: Any, **weights: Array) -> onnx.ModelProto:
    """What exporters write for ``squeeze``: the last axis goes if its size is 1."""
    one = body([node("Squeeze", "x last", "a")], "a")
    other = body([node("Identity", "x", "b")], "b")
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape last", "size"),
        node("Equal", "size one", "is_one"),
        branch("is_one", "y", one, other),
        *after,
    ]
    known = {"last": vector(-1), "one": vector(1), **weights}
    return model(nodes, {"x": ["N", 4, "n"]}, "z", known)


def test_only_one_branch_fits_what_follows() -> None:
    """The run checks that it is the one that is taken."""
    flat = removed_if_one(node("Gemm", "y w", "z"), w=numbers(4, 3))
    agree(flat, *({"x": numbers(n, 4, 1)} for n in (3, 1, 0)))
    deep = removed_if_one(node("Conv", "y w", "z"), w=numbers(5, 4, 2))
    agree(deep, *({"x": numbers(n, 4, 6)} for n in (2, 1)))
    for proto, wrong in ((flat, numbers(2, 4, 3)), (deep, numbers(2, 4, 1))):
        assert not sofie.check(proto)
        with pytest.raises(InputError, match=r"another number of axes|needs"):
            sofie.from_onnx(proto)(wrong)


def test_no_branch_fits_what_follows() -> None:
    proto = removed_if_one(node("Gemm", "y w", "z"), w=numbers(5, 3))
    assert len(sofie.check(proto)) == 1
    with pytest.raises(ShapeError, match="Gemm"):
        sofie.from_onnx(proto)


# Loop ---------------------------------------------------------------------------------------------


def recurrent(condition: Sequence[Any], weights: Mapping[str, Array]) -> onnx.ModelProto:
    """h = tanh(h w + x), k times or until the condition ``on`` fails; every h, and its sums."""
    inner = body(
        [
            node("MatMul", "h w", "product"),
            node("Add", "product x", "total"),
            node("Tanh", "total", "next"),
            node("ReduceSum", "next last", "row", keepdims=0),
            *condition,
        ],
        "on:bool next next row",
        {**ROUND, "h": ["N", 3]},
        {"last": vector(1), **weights},
    )
    inputs = [value("x", ["N", 3]), value("k", [], INT64)]
    weights = {"w": numbers(3, 3)}
    return model([loop("k - x", "y all rows", inner)], inputs, "y all rows", weights)


def test_a_number_of_rounds_that_is_an_input() -> None:
    calls = [
        {"x": numbers(n, 3), "k": scalar(k, np.int64)} for n, k in ((4, 3), (1, 1), (0, 2), (2, 9))
    ]
    agree(recurrent([ON], {}), *calls)


def test_no_round_at_all() -> None:
    """The values are those before the loop, and nothing is stacked."""
    compiled = sofie.from_onnx(recurrent([ON], {}))
    x = numbers(4, 3)
    for k in (0, -1):
        found = outputs_of(compiled, {"x": x, "k": scalar(k, np.int64)})
        np.testing.assert_array_equal(found["y"], x)
        assert (found["all"].shape, found["rows"].shape) == ((0, 4, 3), (0, 4))


def test_a_loop_that_ends_itself() -> None:
    condition = [
        node("ReduceMax", "next", "largest", keepdims=0),
        node("Less", "largest lim", "on"),
    ]
    proto = recurrent(condition, {"lim": scalar(0.9)})
    calls = [{"x": numbers(3, 3, seed=seed) / 4, "k": scalar(30, np.int64)} for seed in range(5)]
    compiled = agree(proto, *calls)
    rounds = {len(outputs_of(compiled, feeds)["all"]) for feeds in calls}
    assert len(rounds) > 1


def test_a_value_that_grows_in_every_round() -> None:
    inner = body(
        [node("Concat", "h x", "next", axis=0), node("ReduceSum", "next", "sum", keepdims=0), ON],
        "on:bool next sum",
        {**ROUND, "h": None},
    )
    nodes = [loop("k - x", "h sums", inner), node("Relu", "h", "y")]
    inputs = [value("x", ["N", 3]), value("k", [], INT64)]
    x = numbers(2, 3)
    calls = [{"x": x, "k": scalar(k, np.int64)} for k in (4, 0, 1, 12)]
    agree(model(nodes, inputs, "h sums y"), *calls)


def test_a_value_that_shrinks_until_it_is_empty() -> None:
    """The data decide its size in every round; the limit is carried too."""
    inner = body(
        [
            node("Greater", "h lim", "good"),
            node("Compress", "h good", "rest", axis=0),
            node("Size", "rest", "count"),
            node("Greater", "count none", "on"),
            node("Add", "lim step", "higher"),
        ],
        "on:bool rest higher count:int",
        {**ROUND, "h": None, "lim": []},
        {"step": scalar(0.4), "none": scalar(0, np.int64)},
    )
    nodes = [loop("- - x first", "rest lim counts", inner)]
    outputs = [value("rest", None), value("lim", None), value("counts", None, INT64)]
    proto = model(nodes, {"x": ["N"]}, outputs, {"first": scalar(-1)})
    agree(proto, *[{"x": numbers(n, seed=n)} for n in (40, 3, 0, 200)])


def test_graphs_in_graphs_that_read_the_outermost() -> None:
    """A Loop and an If inside a Loop; both read inputs and weights of the model."""
    innermost = body(
        [node("Add", "v x", "t"), node("Mul", "t gain", "scaled"), node("Identity", "d", "off")],
        "off:bool scaled",
        {"j": ([], INT64), "d": ([], BOOL), "v": ["N", 3]},
    )
    one = body([node("Sub", "inside own", "a")], "a", weights={"own": numbers(3, seed=4)})
    other = body([node("MatMul", "inside w", "b")], "b")
    outer = body(
        [
            loop("two - h", "inside", innermost),
            node("Mod", "i two", "odd"),
            node("Equal", "odd none", "even"),
            branch("even", "next", one, other),
            node("ReduceSum", "next last", "row", keepdims=0),
            ON,
        ],
        "on:bool next row",
        {**ROUND, "h": ["N", 3]},
        {"two": scalar(2, np.int64), "none": scalar(0, np.int64), "last": vector(1)},
    )
    nodes = [loop("k - x", "y rows", outer), node("Softmax", "y", "z")]
    inputs = [value("x", ["N", 3]), value("k", [], INT64)]
    proto = model(nodes, inputs, "y rows z", {"w": numbers(3, 3), "gain": scalar(0.3)})
    agree(proto, *[{"x": numbers(4, 3), "k": scalar(k, np.int64)} for k in (1, 2, 5)])


def test_two_loops_with_bodies_of_one_kind() -> None:
    """Their values have the same names, and each has its own memory."""
    add = body([node("Add", "h x", "n"), ON], "on:bool n", {**ROUND, "h": ["N", 3]})
    multiply = body([node("Mul", "h x", "n"), ON], "on:bool n", {**ROUND, "h": ["N", 3]})
    nodes = [loop("three - x", "a", add), loop("three - a", "y", multiply)]
    agree(
        model(nodes, {"x": ["N", 3]}, "y a", {"three": scalar(3, np.int64)}), {"x": numbers(5, 3)}
    )


def test_what_bodies_read_has_sizes_that_are_no_names() -> None:
    """4 * N: no axis of it tells the body what N is."""
    up = body([node("Concat", "flat flat", "a", axis=0)], "a")
    down = body([node("Neg", "flat", "t"), node("Concat", "t flat", "b", axis=0)], "b")
    inner = body([node("Add", "s flat", "t"), ON], "on:bool t t", {**ROUND, "s": [None]})
    nodes = [
        *SIGN,
        node("Reshape", "x all", "flat"),
        branch("up", "both", up, down),
        loop("two go flat", "total totals", inner),
        # Sizes that are still known behind them.
        node("Reshape", "both rows", "y"),
        node("Add", "total flat", "z"),
    ]
    weights = {"all": vector(-1), "rows": vector(-1, 2), "two": scalar(2, np.int64)}
    weights |= {"go": scalar(True, np.bool_), **ZERO}
    compiled = agree(model(nodes, {"x": ["N", 4]}, "y z totals", weights), *BOTH)
    assert str(compiled.outputs["z"]) == "float32[4*N]"


# Scan ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("along", [0, 1])
@pytest.mark.parametrize("out", [0, 1, 2])
@pytest.mark.parametrize("backward", [0, 1])
def test_a_scan(along: int, out: int, backward: int) -> None:
    inner = body(
        [
            node("MatMul", "h w", "product"),
            node("Add", "product step", "total"),
            node("Tanh", "total", "next"),
            node("Mul", "next two", "twice"),
        ],
        "next twice",
        {"h": ["N", 3], "step": ["N", 3]},
    )
    scan = helper.make_node(
        "Scan",
        ["h0", "x"],
        ["y", "all"],
        body=inner,
        num_scan_inputs=1,
        scan_input_axes=[along],
        scan_input_directions=[backward],
        scan_output_axes=[out],
        scan_output_directions=[1 - backward],
    )
    shape = ["N", "T", 3] if along else ["T", "N", 3]
    proto = model(
        [scan], {"h0": ["N", 3], "x": shape}, "y all", {"w": numbers(3, 3), "two": scalar(2)}
    )
    calls = []
    for n, t in ((2, 5), (4, 1), (1, 3)):
        sizes = (n, t, 3) if along else (t, n, 3)
        calls.append({"h0": numbers(n, 3, seed=1), "x": numbers(*sizes, seed=2)})
    agree(proto, *calls)


def test_a_scan_of_several_inputs_and_states() -> None:
    inner = body(
        [
            node("Add", "p u", "sum"),
            node("Mul", "q v", "product"),
            node("Sub", "sum product", "difference"),
        ],
        "sum product difference",
        {"p": [2], "q": [2], "u": [2], "v": [2]},
    )
    scan = node("Scan", "p0 q0 u v", "p1 q1 all", body=inner, num_scan_inputs=2)
    inputs = {"p0": [2], "q0": [2], "u": ["T", 2], "v": ["T", 2]}
    feeds = {"p0": numbers(2), "q0": numbers(2, seed=1)}
    calls = [{**feeds, "u": numbers(t, 2, seed=2), "v": numbers(t, 2, seed=3)} for t in (3, 1, 8)]
    agree(model([scan], inputs, "p1 q1 all"), *calls)
