"""Sizes that a graph works out itself: they are followed while it is read, as polynomials."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from sofie_rdf.errors import ShapeError
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.dims import Dim, evaluate, symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.verify import verify
from sofie_rdf.ops.assumptions import Assume
from sofie_rdf.ops.layout import Reshape
from sofie_rdf.reference import evaluate as compute
from tests.frontends.models import model, node, value

INT64 = onnx.TensorProto.INT64
N, M = symbol("N"), symbol("M")

NUMBERS = {"zero": 0, "one": 1, "two": 2, "first": [0], "second": [1], "pair": [2], "four": [4]}
KNOWN = {n: np.array(v, np.int64) for n, v in {**NUMBERS, "minus": [-1]}.items()}


def read_checked(nodes: list[Any], inputs: Any, outputs: str = "y") -> Graph:
    graph = read(model(nodes, inputs, outputs, KNOWN, opset=18))
    verify(graph)
    return graph


def gathered(index: str, name: str) -> list[Any]:
    """One size of the shape ``s``, as a vector."""
    return [node("Gather", f"s {index}", f"{name}0"), node("Unsqueeze", f"{name}0 first", name)]


# What works out the shape ``t`` from ``s``, that of x[N, M, 4]; and what it is.
SHAPES: dict[str, tuple[list[Any], tuple[Dim, ...]]] = {
    "exchanged": (
        [*gathered("zero", "n"), *gathered("one", "m"), node("Concat", "m n four", "t", axis=0)],
        (M, N, 4),
    ),
    "product": (
        [
            *gathered("zero", "n"),
            *gathered("one", "m"),
            node("Mul", "n m", "both"),
            node("Concat", "both four", "t", axis=0),
        ],
        (M * N, 4),
    ),
    "rest": ([*gathered("zero", "n"), node("Concat", "n minus", "t", axis=0)], (N, 4 * M)),
    "twice": (
        [
            *gathered("zero", "n"),
            node("Mul", "n pair", "twice"),
            node("Concat", "twice minus", "t", axis=0),
        ],
        (2 * N, 2 * M),
    ),
    "all": ([node("ReduceProd", "s first", "t", keepdims=1)], (4 * M * N,)),
    "half": (
        [
            node("Size", "x", "all"),
            node("Div", "all two", "half"),
            node("Unsqueeze", "half first", "h"),
            node("Concat", "pair h", "t", axis=0),
        ],
        (2, 2 * M * N),
    ),
    "slice": (
        [node("Slice", "s first pair", "nm"), node("Concat", "nm minus", "t", axis=0)],
        (N, M, 4),
    ),
    "split": (
        [
            node("Split", "s", "n m c", axis=0, num_outputs=3),
            node("Concat", "c m n", "t", axis=0),
        ],
        (4, M, N),
    ),
    "chosen": (
        [node("Equal", "s minus", "open"), node("Where", "open second s", "t")],
        (N, M, 4),
    ),
    "part of the shape": (
        [node("Shape", "x", "n", start=0, end=1), node("Concat", "n minus", "t", axis=0)],
        (N, 4 * M),
    ),
    "divided": (
        [
            *gathered("zero", "n"),
            node("Mul", "n four", "n4"),
            node("Div", "n4 pair", "n2"),
            node("Concat", "n2 minus", "t", axis=0),
        ],
        (2 * N, 2 * M),
    ),
}


@pytest.mark.parametrize("name", list(SHAPES))
def test_reshape_to_sizes_that_are_worked_out(name: str) -> None:
    text, shape = SHAPES[name]
    graph = read_checked(
        [node("Shape", "x", "s"), *text, node("Reshape", "x t", "y")], {"x": ["N", "M", 4]}
    )
    assert graph.types["y"].shape == shape
    assert any(isinstance(n.op, Reshape) for n in graph.nodes)
    for n, m in ((3, 5), (1, 1), (2, 0)):
        x = np.random.default_rng(n).normal(size=(n, m, 4)).astype(np.float32)
        wanted = tuple(evaluate(d, {"N": n, "M": m}) for d in shape)
        found = compute(graph, {"x": x})["y"]
        np.testing.assert_array_equal(found, x.reshape(wanted))


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        ([node("Concat", "four s", "t", axis=0), node("Expand", "x t", "y")], (4, N, M)),
        ([node("ConstantOfShape", "s", "y")], (N, M)),
        ([node("Tile", "x s", "y")], (N * N, M * M)),
        ([*gathered("zero", "n"), node("Slice", "x first n second", "y")], None),
        ([node("Gather", "s zero", "n"), node("Range", "zero n one", "y")], (N,)),
    ],
    ids=["Expand", "ConstantOfShape", "Tile", "Slice", "Range"],
)
def test_other_operators_that_take_sizes(nodes: list[Any], shape: tuple[Dim, ...] | None) -> None:
    graph = read_checked([node("Shape", "x", "s"), *nodes], {"x": ["N", "M"]})
    found = graph.types["y"].shape
    if shape is not None:
        assert found == shape
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    sizes = {"N": 2, "M": 3}
    assert compute(graph, {"x": x})["y"].shape == tuple(evaluate(d, sizes) for d in found)


def test_a_shape_that_cannot_be() -> None:
    """7 is no multiple of 2, whatever N is."""
    nodes = [node("Reshape", "x t", "y")]
    proto = model(nodes, {"x": [7]}, "y", {"t": np.array([2, -1], np.int64)})
    with pytest.raises(ShapeError):
        read(proto)


# Axes that must be of one size --------------------------------------------------------------------


def axes(graph: Graph) -> dict[str, str]:
    return {i: str(graph.types[i]) for i in graph.inputs}


def test_two_names_for_one_size() -> None:
    """The name that the first input has stays."""
    graph = read_checked([node("Add", "a b", "y")], {"a": ["N", 3], "b": ["M", 3]})
    assert axes(graph) == {"a": "float32[N, 3]", "b": "float32[N, 3]"}
    graph = read_checked([node("Add", "b a", "y")], {"a": ["N", 3], "b": ["M", 3]})
    assert axes(graph) == {"a": "float32[N, 3]", "b": "float32[N, 3]"}


def test_a_name_for_a_size_that_is_known() -> None:
    nodes = [node("MatMul", "x w", "y")]
    proto = model(nodes, {"x": ["N", "width"]}, "y", {"w": np.ones((7, 2), np.float32)})
    assert axes(read(proto)) == {"x": "float32[N, 7]"}


def test_names_in_a_chain() -> None:
    """a, b and c are of one size, which the last node says; what was inferred before follows."""
    nodes = [
        node("Relu", "a", "p"),
        node("Concat", "b c", "q", axis=1),
        node("Slice", "q first second second", "r"),
        node("Add", "p r", "s"),
        node("Concat", "s s", "y", axis=0),
    ]
    inputs = {"a": ["K", 1], "b": ["L", 1], "c": ["M", 1]}
    graph = read_checked(nodes, inputs, "y")
    assert set(axes(graph).values()) == {"float32[K, 1]"}
    assert graph.types["y"].shape == (2 * symbol("K"), 1)


def test_sizes_in_attributes_follow() -> None:
    """The Reshape has been read with M, which is N as the Add says later."""
    nodes = [
        node("Shape", "b", "s"),
        *gathered("zero", "m"),
        node("Concat", "m minus", "t", axis=0),
        node("Reshape", "b t", "flat"),
        node("Add", "a flat", "y"),
    ]
    graph = read_checked(nodes, {"a": ["N", 6], "b": ["M", 2, 3]})
    (op,) = (n.op for n in graph.nodes if isinstance(n.op, Reshape))
    assert op.shape == (N, -1)
    assert axes(graph) == {"a": "float32[N, 6]", "b": "float32[N, 2, 3]"}


def test_polynomials_that_no_name_makes_equal() -> None:
    """They are checked when the model runs, and that is seen in the graph."""
    nodes = [
        node("Concat", "a a", "p", axis=0),
        node("Concat", "b b b", "q", axis=0),
        node("Add", "p q", "y", "sum"),
    ]
    graph = read_checked(nodes, {"a": ["N", 3], "b": ["M", 3]})
    (assumed,) = (n for n in graph.nodes if isinstance(n.op, Assume))
    types = [graph.types[assumed.inputs[0]]]
    assert assumed.op.requires(types) == ((2 * N, 3 * M),)
    assert assumed.origin.name == "sum"


def test_sizes_that_differ_by_a_number_are_an_error() -> None:
    nodes = [node("Concat", "a one_more", "long", axis=0), node("Add", "a long", "y", "sum")]
    weights = {"one_more": np.ones((1, 3), np.float32)}
    with pytest.raises(ShapeError, match="'sum'"):
        read(model(nodes, {"a": ["N", 3]}, "y", weights))


def test_what_a_branch_needs_holds_only_there() -> None:
    """The input keeps its two names: the branch may never run."""
    one = onnx.helper.make_graph([node("Add", "a b", "p")], "one", [], [value("p", None)])
    other = onnx.helper.make_graph([node("Relu", "a", "q")], "other", [], [value("q", None)])
    nodes = [
        node("ReduceSum", "a", "sum", keepdims=0),
        node("Cast", "sum", "c", to=onnx.TensorProto.BOOL),
        onnx.helper.make_node("If", ["c"], ["y"], then_branch=one, else_branch=other),
    ]
    graph = read_checked(nodes, {"a": ["N", 3], "b": ["M", 3]})
    assert axes(graph) == {"a": "float32[N, 3]", "b": "float32[M, 3]"}
    assert graph.types["y"].shape == (N, 3)
