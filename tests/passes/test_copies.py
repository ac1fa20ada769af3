"""Products with what is copied: edge convolutions, in the layouts in which files have them."""

from __future__ import annotations

import numpy as np
import pytest

from sofie_rdf.ir.dims import evaluate as number
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.convolution import ConvLayer
from sofie_rdf.ops.elementwise import Add, Neg, Relu, Sub
from sofie_rdf.ops.indexing import Gather, GatherND
from sofie_rdf.ops.layout import Concat, Expand, Reshape, Tile, Transpose, Unsqueeze
from sofie_rdf.ops.linear import Dense, NoActivation
from sofie_rdf.passes import pipeline
from sofie_rdf.passes.copies import products_of_copies
from sofie_rdf.passes.simplify import remove_dead, remove_identities
from sofie_rdf.reference import evaluate
from tests.passes.graphs import N, Net, as_exact, operators

P = symbol("P")
CHANNELS, FEATURES, NEIGHBOURS, EVENTS, POINTS = 5, 7, 4, 3, 6
RNG = np.random.default_rng(8)


def _feeds(graph: Graph) -> dict[str, Array]:
    """Random points, and for each four neighbours of its event."""
    rng = np.random.default_rng(3)
    found: dict[str, Array] = {}
    for name in graph.inputs:
        type_ = graph.types[name]
        sizes = {"N": EVENTS, "P": POINTS, "E": EVENTS * POINTS * NEIGHBOURS}
        shape = tuple(d if isinstance(d, int) else sizes[str(d)] for d in type_.shape)
        if type_.dtype is DType.INT64:
            found[name] = rng.integers(0, POINTS, shape)
        else:
            found[name] = rng.normal(size=shape).astype(np.float32)
    return found


def _net() -> Net:
    b = Net(N, CHANNELS, P)
    b.input("near", TensorType(DType.INT64, (N, P, NEIGHBOURS)))
    return b


def _neighbours(b: Net, *, rows: bool = False) -> str:
    """x[n, :, near[n, p, k]] as [N, C, P, k], out of all events in one row as weaver does it."""
    # Without offsets all neighbours are of the first event: nothing here minds.
    near = b.op(Reshape((-1,)), "near")
    pairs = (N, P, NEIGHBOURS)
    if rows:
        x = b.op(Reshape((-1, CHANNELS)), b.op(Transpose((0, 2, 1)), "x"))
        found = b.op(Reshape((*pairs, CHANNELS)), b.op(Gather(0), x, near))
        return b.op(Transpose((0, 3, 1, 2)), found)
    x = b.op(Reshape((CHANNELS, -1)), b.op(Transpose((1, 0, 2)), "x"))
    found = b.op(Reshape((CHANNELS, *pairs)), b.op(Gather(1), x, near))
    return b.op(Transpose((1, 0, 2, 3)), found)


def _points(b: Net) -> str:
    x = b.op(Unsqueeze((3,)), "x")
    x = b.op(Expand((N, CHANNELS, P, 1)), x)
    return b.op(Tile((1, 1, 1, NEIGHBOURS)), x)


def _convolution(b: Net, x: str, channels: int, *, scale: float = 1, relu: bool = True) -> Graph:
    w = RNG.normal(size=(FEATURES, channels, 1, 1))
    w[:, CHANNELS:] *= scale
    op = ConvLayer(kernel_shape=(1, 1), activation=Relu() if relu else NoActivation())
    b.op(op, x, b.c("weight", w), b.c("bias", RNG.normal(size=FEATURES)), name="y")
    return b.graph("y")


def _after(graph: Graph) -> Graph:
    found = remove_identities(remove_dead(products_of_copies(graph)))
    as_exact(graph, found, _feeds(graph), ulps=8)
    return found


def _work(graph: Graph) -> int:
    """Multiplications of all layers."""
    total = 0
    for node in graph.nodes:
        if isinstance(node.op, ConvLayer | Dense):
            types = [graph.types[i] for i in node.inputs]
            total += number(node.op.multiply_adds(types), {"N": EVENTS, "P": POINTS})
    return total


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("rows", [True, False])
def test_an_edge_convolution(rows: bool, relu: bool) -> None:
    b = _net()
    x, near = _points(b), _neighbours(b, rows=rows)
    both = b.op(Concat(1), x, b.op(Sub(), near, x))
    graph = _convolution(b, both, 2 * CHANNELS, relu=relu)
    after = _after(graph)
    assert operators(after)[-1] == "Transpose(perm=(0, 3, 1, 2))"
    assert sum(op == "sofie.Dense()" for op in operators(after)) == 2
    assert "Gather()" in operators(after)
    assert _work(graph) == NEIGHBOURS * _work(after)


def test_the_order_of_its_halves_and_the_sign_are_free() -> None:
    b = _net()
    x, near = _points(b), _neighbours(b)
    both = b.op(Concat(1), b.op(Sub(), x, near), b.op(Neg(), x))
    # The difference comes first here, so it is what must not be large.
    w = RNG.normal(size=(FEATURES, 2 * CHANNELS, 1, 1))
    op = ConvLayer(kernel_shape=(1, 1), activation=Relu())
    b.op(op, both, b.c("weight", w), b.c("bias", RNG.normal(size=FEATURES)), name="y")
    after = _after(b.graph("y"))
    assert sum(op == "sofie.Dense()" for op in operators(after)) == 2


def test_what_is_added_by_broadcasting() -> None:
    b = _net()
    total = b.op(Add(), _neighbours(b), b.op(Unsqueeze((3,)), "x"))
    graph = _convolution(b, total, CHANNELS)
    assert _work(_after(graph)) < _work(graph)


def test_gathered_points_alone() -> None:
    b = _net()
    after = _after(_convolution(b, _neighbours(b), CHANNELS))
    assert sum(op == "sofie.Dense()" for op in operators(after)) == 1


def test_numbers_of_each_pair_beside_the_copies() -> None:
    b = _net()
    b.input("pairs", TensorType(DType.FLOAT32, (N, 1, P, NEIGHBOURS)))
    x, near = _points(b), _neighbours(b)
    both = b.op(Concat(1), x, b.op(Sub(), near, x), "pairs")
    graph = _convolution(b, both, 2 * CHANNELS + 1)
    assert _work(_after(graph)) < _work(graph) / 2


@pytest.mark.parametrize("batch", [0, 1])
def test_a_dense_layer_of_slices(batch: int) -> None:
    b = Net(N, P, CHANNELS)
    b.input("near", TensorType(DType.INT64, (N, P, NEIGHBOURS, 2 - batch)))
    near = b.op(GatherND(batch), "x", "near")
    x = b.op(Tile((1, 1, NEIGHBOURS, 1)), b.op(Unsqueeze((2,)), "x"))
    both = b.op(Concat(-1), x, b.op(Sub(), near, x))
    w = RNG.normal(size=(2 * CHANNELS, FEATURES))
    b.op(Dense(Relu()), both, b.c("w", w), b.c("b", RNG.normal(size=FEATURES)), name="y")
    graph = b.graph("y")
    feeds = _feeds(graph)
    feeds["near"] %= EVENTS
    after = remove_dead(products_of_copies(graph))
    as_exact(graph, after, feeds, ulps=8)
    assert _work(graph) == NEIGHBOURS * _work(after)


def _reasons(graph: Graph) -> list[str]:
    after, report = products_of_copies.explain(graph)
    assert after.nodes == graph.nodes
    return [f"{r.rule}: {r.reason}" for r in report.refused]


LOST = "convolution_of_copies: digits would be lost where the terms of a difference are close"


def test_differences_with_large_weights_stay() -> None:
    def edges(scale: float) -> Graph:
        b = _net()
        x, near = _points(b), _neighbours(b)
        both = b.op(Concat(1), x, b.op(Sub(), near, x))
        return _convolution(b, both, 2 * CHANNELS, scale=scale)

    assert _reasons(edges(100)) == [LOST]
    _after(edges(4))


def test_differences_alone_stay() -> None:
    b = _net()
    graph = _convolution(b, b.op(Sub(), _neighbours(b), _points(b)), CHANNELS)
    assert _reasons(graph) == [LOST]


def test_copies_of_which_nobody_knows_how_many_stay() -> None:
    b = Net(P, CHANNELS)
    b.input("edges", TensorType(DType.INT64, (symbol("E"),)))
    w = RNG.normal(size=(CHANNELS, FEATURES))
    b.op(
        Dense(), b.op(Gather(0), "x", "edges"), b.c("w", w), b.c("b", np.zeros(FEATURES)), name="y"
    )
    expected = "dense_of_copies: the copies are not known to be more than what is copied"
    assert _reasons(b.graph("y")) == [expected]


def test_of_nothing_there_are_no_fewer_products() -> None:
    b = Net(0, POINTS, CHANNELS)
    w, zeros = RNG.normal(size=(CHANNELS, FEATURES)).astype("f4"), np.zeros(FEATURES, np.float32)
    graph = b.graph(b.op(Dense(), "x", b.constant(w), b.constant(zeros)))
    assert operators(products_of_copies(graph)) == ["sofie.Dense()"]


def test_channels_that_are_gathered_stay() -> None:
    b = Net(N, CHANNELS, P)
    x = b.op(Gather(1), "x", b.c64("which", [0, 2, 2, 1, 0, 3, 3, 4, 0, 1]))
    x = b.op(Tile((1, 1, 1, 9)), b.op(Unsqueeze((3,)), x))
    after = _after(_convolution(b, x, 10))
    # What is repeated afterwards is taken out all the same.
    assert operators(after)[0] == "Gather(axis=1)"


def test_wide_kernels_and_sums_of_what_is_no_copy_stay() -> None:
    b = _net()
    w = RNG.normal(size=(FEATURES, CHANNELS, 1, 3))
    op = ConvLayer(kernel_shape=(1, 3))
    b.op(op, _neighbours(b), b.c("w", w), b.c("b", np.zeros(FEATURES)), name="y")
    assert _reasons(b.graph("y")) == []
    c = Net(N, CHANNELS, P, 2)
    sums = c.op(Add(), c.op(Relu(), "x"), "x")
    assert _reasons(_convolution(c, sums, CHANNELS)) == []


def test_all_passes_leave_no_layer_of_pairs_with_their_channels_first() -> None:
    b = _net()
    x, near = _points(b), _neighbours(b)
    both = b.op(Concat(1), x, b.op(Sub(), near, x))
    graph = _convolution(b, both, 2 * CHANNELS)
    after, report = pipeline.explain(graph)
    assert report.applied["convolution_of_copies"] == 1
    feeds = _feeds(graph)
    np.testing.assert_allclose(
        evaluate(after, feeds)["y"], evaluate(graph, feeds)["y"], rtol=1e-5, atol=1e-5
    )
