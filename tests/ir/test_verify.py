"""Each law of a legal graph, broken once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from sofie_rdf.errors import CorruptFile, GraphError, ShapeError, SofieError, TypeMismatch
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph, Node, Origin
from sofie_rdf.ir.operator import REGISTRY, Operator, operator
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ir.verify import verify


@operator(domain="test")
class Same(Operator):
    """x"""

    def infer(self, x: TensorType) -> TensorType:
        return x


@operator(domain="test")
class Product(Operator):
    """x w, and how often"""

    def infer(self, x: TensorType, w: TensorType) -> tuple[TensorType, TensorType]:
        if x.shape[-1] != w.shape[0]:
            raise ShapeError("they do not fit")
        return TensorType(x.dtype, (*x.shape[:-1], w.shape[-1])), TensorType(DType.INT64)


@operator(domain="test")
class Resized(Operator):
    """x with as many rows as the data say"""

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(x.dtype, (symbol("found"), *x.shape[1:]))


_OPERATORS = {key: REGISTRY.pop(key) for key in list(REGISTRY) if key[0] == "test"}


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    REGISTRY.update(_OPERATORS)
    yield
    for key in _OPERATORS:
        del REGISTRY[key]


N = symbol("N")
HERE = Origin("m.onnx", "here")
FLOATS = TensorType(DType.FLOAT32, (N, 2))


def legal() -> Graph:
    build = Builder("m")
    x = build.input("x", TensorType(DType.FLOAT32, (N, 3)))
    w = build.constant(np.ones((3, 2), np.float32), "w")
    y = build(Product(), x, w, outputs=["y", "n"], origin=HERE)
    build(Same(), y, outputs=["z"], origin=HERE)
    return build.graph("z")


def with_types(graph: Graph, **types: TensorType) -> Graph:
    return replace(graph, types={**graph.types, **types})


def with_node(
    graph: Graph, *inputs: str, outputs: tuple[str, ...], op: Operator | None = None
) -> Graph:
    return replace(graph, nodes=(*graph.nodes, Node(op or Same(), inputs, outputs, HERE)))


def with_constant(graph: Graph, array: np.ndarray) -> Graph:
    return replace(graph, constants={"w": array})


BROKEN: dict[str, tuple[Callable[[Graph], Graph], type[SofieError], str]] = {
    "input is constant": (
        lambda g: replace(g, inputs=("x", "w")),
        GraphError, "'w' is an input and a constant",
    ),
    "input twice": (
        lambda g: replace(g, inputs=("x", "x")),
        GraphError, "input 'x' is declared 2 times",
    ),
    "nameless input": (
        lambda g: replace(g, inputs=("x", "")),
        GraphError, "has no name",
    ),
    "node redefines input": (
        lambda g: with_node(g, "z", outputs=("x",)),
        GraphError, "m.onnx: node 'here': value 'x' is defined twice",
    ),
    "node redefines value": (
        lambda g: with_node(g, "z", outputs=("y",)),
        GraphError, "m.onnx: node 'here': value 'y' is defined twice",
    ),
    "nameless output": (
        lambda g: with_node(g, "z", outputs=("",)),
        GraphError, "m.onnx: node 'here': Same has an output without a name",
    ),
    "no output of a node": (
        lambda g: with_node(g, "z", outputs=()),
        GraphError, "m.onnx: node 'here': Same has an output without a name",
    ),
    "order": (
        lambda g: replace(g, nodes=g.nodes[::-1]),
        GraphError, "m.onnx: node 'here': value 'y' is used before it is computed",
    ),
    "undefined": (
        lambda g: with_types(with_node(g, "q", outputs=("p",)), p=FLOATS, q=FLOATS),
        GraphError, "m.onnx: node 'here': value 'q' is used but nothing computes it",
    ),
    "untyped input": (
        lambda g: replace(g, inputs=("x", "v")),
        GraphError, "value 'v' has no type",
    ),
    "untyped value": (
        lambda g: with_node(g, "z", outputs=("p",)),
        GraphError, "m.onnx: node 'here': value 'p' has no type",
    ),
    "stray type": (
        lambda g: with_types(g, p=FLOATS),
        GraphError, "there is a type for 'p', which is no value",
    ),
    "no output": (
        lambda g: replace(g, outputs=()),
        GraphError, "the graph has no output",
    ),
    "unknown output": (
        lambda g: replace(g, outputs=("z", "p")),
        GraphError, "output 'p' is no value",
    ),
    "output twice": (
        lambda g: replace(g, outputs=("z", "z")),
        GraphError, "output 'z' is declared 2 times",
    ),
    "constant of other dtype": (
        lambda g: with_constant(g, np.ones((3, 2), np.float64)),
        TypeMismatch, "constant 'w' is float64, its type says float32",
    ),
    "constant of other byte order": (
        lambda g: with_constant(g, np.ones((3, 2), np.dtype(np.float32).newbyteorder())),
        TypeMismatch, "its type says float32",
    ),
    "constant of other shape": (
        lambda g: with_constant(g, np.ones((2, 3), np.float32)),
        ShapeError, "constant 'w' has the shape (2, 3), its type is float32[3, 2]",
    ),
    "constant not contiguous": (
        lambda g: with_constant(g, np.ones((2, 3), np.float32).T),
        GraphError, "constant 'w' is not contiguous",
    ),
    "wrong shape": (
        lambda g: with_types(g, z=TensorType(DType.FLOAT32, (N, 1))),
        ShapeError, "m.onnx: node 'here': 'z' is float32[N, 2], not float32[N, 1]",
    ),
    "wrong dtype": (
        lambda g: with_types(g, z=TensorType(DType.INT8, (N, 2))),
        TypeMismatch, "m.onnx: node 'here': 'z' is float32[N, 2], not int8[N, 2]",
    ),
    "wrong second output": (
        lambda g: with_types(g, n=TensorType(DType.INT64, (1,))),
        ShapeError, "m.onnx: node 'here': 'n' is int64[], not int64[1]",
    ),
    "inputs that do not fit": (
        lambda g: with_types(g, x=TensorType(DType.FLOAT32, (N, 4))),
        ShapeError, "m.onnx: node 'here': Product(float32[N, 4], float32[3, 2]): they do not fit",
    ),
    "too many inputs": (
        lambda g: with_types(with_node(g, "z", "z", outputs=("p",)), p=FLOATS),
        GraphError, "m.onnx: node 'here': Same takes 1 inputs, not 2",
    ),
    "missing input": (
        lambda g: with_types(with_node(g, "", outputs=("p",)), p=FLOATS),
        GraphError, "m.onnx: node 'here': Same lacks an input that it needs",
    ),
    "too many outputs": (
        lambda g: with_types(with_node(g, "z", outputs=("p", "q")), p=FLOATS, q=FLOATS),
        GraphError, "m.onnx: node 'here': Same has 1 outputs, not 2",
    ),
    "size from nowhere": (
        lambda g: with_types(
            with_node(g, "z", outputs=("p",), op=Resized()),
            p=TensorType(DType.FLOAT32, (symbol("found"), 2)),
        ),
        ShapeError, "m.onnx: node 'here': the size 'found' of 'p' is that of nothing before it",
    ),
}  # fmt: skip


def test_a_legal_graph_is_legal() -> None:
    verify(legal())


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_law_is_named(case: str) -> None:
    break_it, error, text = BROKEN[case]
    with pytest.raises(error) as caught:
        verify(break_it(legal()))
    assert type(caught.value) is error
    assert text in str(caught.value)


def test_outputs_may_be_inputs_or_constants() -> None:
    verify(replace(legal(), outputs=("x", "w", "z")))


def test_a_node_may_leave_its_last_outputs_unnamed() -> None:
    graph = legal()
    first = replace(graph.nodes[0], outputs=("y",))
    types = {name: type_ for name, type_ in graph.types.items() if name != "n"}
    verify(replace(graph, nodes=(first, *graph.nodes[1:]), types=types))


def test_outputs_that_a_kernel_writes_are_all_there() -> None:
    """Whoever asks for fewer gets them all; a text that says fewer is refused."""
    from sofie_rdf.ir.text import graph_text, parse_graph
    from sofie_rdf.ops.quantization import DynamicQuantizeLinear

    build = Builder("m")
    x = build.input("x", TensorType(DType.FLOAT32, (3,)))
    graph = build.graph(build(DynamicQuantizeLinear(), x, outputs=["y", "scale"]))
    assert [len(n.outputs) for n in graph.nodes] == [3]
    text = graph_text(graph).replace(", dynamicquantizelinear: uint8[]", "")
    with pytest.raises(CorruptFile, match="has 3 outputs, not 2"):
        parse_graph(text, {})
