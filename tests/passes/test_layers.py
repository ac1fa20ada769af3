"""Dense layers that follow each other: which become one operator, and what that computes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.builder import infer_node
from sofie_rdf.ir.types import DType
from sofie_rdf.ops.elementwise import Elementwise, Relu, Sigmoid, Tanh
from sofie_rdf.ops.linear import Dense, DenseLayers, NoActivation
from sofie_rdf.passes import layers
from sofie_rdf.passes.layers import join_layers
from sofie_rdf.runtime.compile.session import compile_graph
from tests.passes.graphs import N, Net, batch, floats, identical, operators

RNG = np.random.default_rng(2)
RELU, PLAIN = "sofie.Dense(activation=Relu())", "sofie.Dense()"


def dense(b: Net, x: str, depth: int, n: int, f: Elementwise | None = None, name: str = "") -> str:
    w = b.c("", RNG.normal(size=(depth, n)) / np.sqrt(max(1, depth)))
    return b.op(Dense(f or NoActivation()), x, w, b.c("", RNG.normal(size=n)), name=name)


def test_layers_that_follow_each_other() -> None:
    b = Net(N, 7)
    h = dense(b, dense(b, "x", 7, 5, Relu()), 5, 4, Tanh())
    before = b.graph(dense(b, h, 4, 1, Sigmoid(), "y"))
    after = join_layers(before)
    assert operators(after) == ["sofie.DenseLayers(activations=(Relu(), Tanh(), Sigmoid()))"]
    assert after.nodes[0].origin == before.nodes[-1].origin
    assert after.multiply_adds == before.multiply_adds
    assert join_layers(after) is after
    identical(before, after)


def test_what_somebody_else_reads_stays() -> None:
    b = Net(N, 7)
    h = dense(b, "x", 7, 5, Relu())
    one, two = dense(b, h, 5, 4, name="one"), dense(b, h, 5, 3)
    before = b.graph(one, dense(b, two, 3, 2, name="two"))
    after = join_layers(before)
    pair = "sofie.DenseLayers(activations=(sofie.NoActivation(), sofie.NoActivation()))"
    assert operators(after) == [RELU, PLAIN, pair]
    identical(before, after)


def test_an_output_stays() -> None:
    b = Net(N, 7)
    h = dense(b, "x", 7, 5, Relu(), "h")
    before = b.graph(dense(b, h, 5, 4, name="y"), h)
    assert join_layers(before) is before


def test_weights_that_are_computed_are_no_layer() -> None:
    b = Net(N, 7)
    w = b.input("w", floats(5, 4))
    h = dense(b, "x", 7, 5, Relu())
    before = b.graph(b.op(Dense(), h, w, b.c("c", np.ones(4)), name="y"))
    assert join_layers(before) is before


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.FLOAT64])
def test_half_precision_is_rounded_between_layers(dtype: DType) -> None:
    b = Net(N, 7, dtype=dtype)
    before = b.graph(dense(b, dense(b, "x", 7, 5), 5, 4, name="y"))
    assert len(join_layers(before).nodes) == (2 if dtype.is_half else 1)


def test_a_single_column_ends_a_run() -> None:
    b = Net(N, 7)
    h = dense(b, dense(b, "x", 7, 5, Relu()), 5, 1, Relu())
    before = b.graph(dense(b, dense(b, h, 1, 3, Relu()), 3, 2, Relu(), "y"))
    after = join_layers(before)
    assert operators(after) == ["sofie.DenseLayers(activations=(Relu(), Relu()))"] * 2
    identical(before, after)


def test_weights_stay_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    b = Net(N, 8)
    h = "x"
    for number in range(5):
        h = dense(b, h, 8, 8, Relu(), "y" if number == 4 else "")
    before = b.graph(h)
    monkeypatch.setattr(layers, "MOST_BYTES", 2 * 8 * 8 * 4)
    after = join_layers(before)
    pair = "sofie.DenseLayers(activations=(Relu(), Relu()))"
    assert operators(after) == [pair, pair, RELU]
    identical(before, after)


def test_refuses_what_its_kernel_does_not_compute() -> None:
    one, other = floats(7, 1), floats(1, 3)
    with pytest.raises(ShapeError, match="1 columns before its last layer"):
        infer_node(DenseLayers((Relu(), Relu())), [floats(N, 7), one, floats(1), other, floats(3)])
    with pytest.raises(ShapeError, match="a matrix and an offset for each of 2 layers"):
        infer_node(DenseLayers((Relu(), Relu())), [floats(N, 7), one, floats(1)])
    with pytest.raises(ShapeError, match="each of 0 layers"):
        infer_node(DenseLayers(()), [floats(N, 7)])
    half = [floats(*s, dtype=DType.FLOAT16) for s in ((2, 7), (7, 3), (3,))]
    with pytest.raises(TypeMismatch, match="float16"):
        infer_node(DenseLayers((Relu(),)), half)


# Widths with tiles of 8, 10 and 13 columns, with fewer columns than a tile, of several panels, and
# in place.
WIDTHS = [(7, 50, 33, 1), (4, 64, 13, 5), (3, 230, 17, 2), (1, 10, 100, 260), (6, 62, 62, 62)]


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_gives_the_bits_of_the_layers_one_by_one(widths: tuple[int, ...]) -> None:
    """Whichever way it takes, by rows or in lanes: for so many rows that both are taken."""
    b = Net(N, widths[0])
    h = "x"
    for number, (k, n) in enumerate(pairwise(widths), 1):
        h = dense(b, h, k, n, (Relu(), Tanh(), None)[number % 3], f"h{number}")
    before = b.graph(h)
    alone, together = compile_graph(before), compile_graph(join_layers(before))
    for rows in (1, 5, 8, 24, 25, 31, 32, 33, 57, 64, 97):
        feeds = batch(before, rows, seed=rows)
        feeds["x"][rows // 2] = np.nan
        feeds["x"][0, 0] = np.inf
        wanted, found = (one.infer(feeds, {"N": rows})[h] for one in (alone, together))
        assert wanted.tobytes() == found.tobytes(), rows
