"""The form in which networks are differentiated: layers without activations, copies made late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from sofie_rdf.bench.models import candidate, feeds_for
from sofie_rdf.gradients.derived import gradient
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import number_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.elementwise import Abs, Clip, HardSigmoid, Mul, PRelu, Relu, Softplus, Tanh
from sofie_rdf.ops.indexing import Gather
from sofie_rdf.ops.layout import Identity
from sofie_rdf.passes.layered import APART, LAYERS, layered
from sofie_rdf.passes.pipeline import run
from sofie_rdf.reading import optimized
from sofie_rdf.reference import evaluate


def kinds(graph: Graph) -> Counter[str]:
    return Counter(type(node.op).full_name() for node in graph.nodes)


@pytest.mark.parametrize(
    "name", ["transformer", "particlenet", "conv_transposed_small", "shufflenet_v2"]
)
def test_it_is_the_same_function(name: str) -> None:
    graph = candidate(name).model.graph
    made = layered(graph)
    sizes = dict.fromkeys(graph.symbols, 2)
    feeds = feeds_for(graph, sizes)
    (wanted,) = evaluate(graph.with_sizes(sizes), feeds).values()
    (found,) = evaluate(made.with_sizes(sizes), feeds).values()
    assert np.max(np.abs(found - wanted)) <= 1e-5 * np.max(np.abs(wanted))


@pytest.mark.parametrize("name", ["particlenet", "conv_transposed_small", "shufflenet_v2"])
def test_activations_are_apart(name: str) -> None:
    graph = candidate(name).model.graph
    joined = run(graph, (LAYERS,))
    assert any("activation=" in str(node.op) for node in joined.nodes)
    made = layered(graph)
    assert not any("activation=" in str(node.op) for node in made.nodes)
    assert not any("ConvLayer" in kind or "ConvTransposeLayer" in kind for kind in kinds(made))
    assert run(made, (APART,)) is made


def test_products_come_before_copies_on_the_way_back_too() -> None:
    """The derivatives of neighbours are added up as rows, and multiplied once for each particle."""
    graph = candidate("particlenet").model.graph
    made = optimized(gradient(layered(graph), None, None, vjp=True))
    plain = optimized(gradient(graph, None, None, vjp=True))
    assert "ScatterElements" not in kinds(made)
    sizes = dict.fromkeys(made.symbols, 2)
    counts = (graph.with_sizes(sizes).multiply_adds for graph in (made, plain))
    less, more = map(number_of, counts)
    assert less < 0.9 * more


def test_what_was_spelled_out_has_one_derivative() -> None:
    graph = candidate("transformer").model.graph
    made = optimized(gradient(layered(graph), None, None, vjp=True))
    assert kinds(made)["sofie.GeluSlope"] == kinds(made)["Gelu"] == 1
    assert "Erf" not in kinds(made)


def hard_swish(b: Builder, x: str) -> str:
    return b(Mul(), x, b(HardSigmoid(alpha=1 / 6, beta=0.5), x))


def mish(b: Builder, x: str) -> str:
    return b(Mul(), x, b(Tanh(), b(Softplus(), x)))


def clipped(b: Builder, x: str) -> str:
    low, high = (b.constant(np.float32(n)) for n in (0, 6))
    return b(Clip(), x, low, high)


def uniform(b: Builder, x: str) -> str:
    return b(PRelu(), x, b.constant(np.full((4,), 0.25, np.float32)))


def twice(b: Builder, x: str) -> str:
    return b(Abs(), b(Abs(), b(Relu(), b(Relu(), x))))


@pytest.mark.parametrize("function", [hard_swish, mish, clipped, uniform, twice])
def test_derivatives_at_kinks_stay_what_they_are(function: Callable[[Builder, str], str]) -> None:
    b = Builder("kinks")
    x = b.input("x", TensorType(DType.FLOAT32, (3, 4)))
    b(Identity(), function(b, x), outputs=["y"])
    graph = b.graph("y")
    points = np.array([[0, -0.0, 3, -3], [6, 0.5, np.nan, 1], [np.inf, -np.inf, 18, -20]])
    given = {"x": points.astype(np.float32), "v_y": np.full((3, 4), 2, np.float32)}
    wanted, found = (
        evaluate(gradient(g, None, None, vjp=True), given)["d_y/d_x"]
        for g in (graph, layered(graph))
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_rows_that_were_gathered_come_back_as_whole_slices(dtype: type) -> None:
    b = Builder("rows")
    x = b.input("x", TensorType(DType.FLOAT32, (4, 3)))
    at = b.constant(np.array([2, -1, 2], dtype))
    b(Identity(), b(Gather(0), x, at), outputs=["y"])
    made = gradient(b.graph("y"), None, None, vjp=True)
    assert kinds(made)["ScatterND"] == 1 and "ScatterElements" not in kinds(made)
    given = {"x": np.zeros((4, 3), np.float32), "v_y": np.arange(9, dtype=np.float32).reshape(3, 3)}
    found = evaluate(made, given)["d_y/d_x"]
    np.testing.assert_array_equal(found[:, 0], [0, 0, 6, 3])
