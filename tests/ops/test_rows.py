"""Kernels that compute several rows together: all numbers of rows, and the same bits as alone."""

from __future__ import annotations

import numpy as np
import pytest

from sofie_rdf.ir.dims import symbol
from sofie_rdf.model import Model
from sofie_rdf.ops.attention import SoftmaxAttention
from sofie_rdf.ops.elementwise import Gelu, Relu
from sofie_rdf.ops.linear import Dense
from sofie_rdf.ops.normalization import LayerNormalization, RMSNormalization
from sofie_rdf.ops.recurrent import GRU, LSTM, RNN, Recurrent
from sofie_rdf.reference import evaluate
from tests.passes.graphs import N, Net, floats

RNG = np.random.default_rng(20)
MOST = 41
# Depths and columns: of one and of several sums side by side, in one and in several panels, with
# weights for the first cache and for the second.
LAYERS = [
    (5, 16),
    (7, 20),
    (33, 50),
    (64, 64),
    (65, 130),
    (64, 192),
    (130, 70),
    (3, 260),
    (1, 49),
    (4, 100),
    # Many columns of few steps: no weights to be read from afar, but results.
    (15, 16500),
    # The last of many panels has a pack or three.
    (3, 2928),
    (4, 2497),
    # Weights that are far away, in blocks of which the last one is short.
    (1000, 530),
    (257, 1980),
    # Long rows, and few columns.
    (530, 16),
    (1023, 3),
]
LENGTHS = [1, 5, 16, 37, 63, 64, 70, 100, 128, 130, 200]


def _check(b: Net, outputs: list[str], widths: list[int], slack: float) -> None:
    """All numbers of rows beside the reference; each row has the bits that it has among others."""
    graph = b.graph(*outputs)
    model = Model(graph)
    feeds = {f"x{i}": RNG.normal(size=(MOST, w)).astype("f4") for i, w in enumerate(widths)}
    exact = evaluate(graph, feeds, wide=True)
    whole = model(feeds)
    for name in outputs:
        error = np.abs(whole[name] - exact[name])
        assert np.max(error) <= slack * max(1.0, float(np.max(np.abs(exact[name])))), name
    for rows in (*range(1, 26), 31, 32, 33, 40):
        first = MOST - rows if rows % 2 else 0
        found = model({name: x[first : first + rows] for name, x in feeds.items()})
        for name in outputs:
            np.testing.assert_array_equal(found[name], whole[name][first : first + rows], name)


def _net(widths: list[int]) -> Net:
    b = Net()
    for i, width in enumerate(widths):
        b.input(f"x{i}", floats(N, width))
    return b


@pytest.mark.parametrize("activation", [None, Relu(), Gelu()], ids=str)
def test_dense(activation: Relu | Gelu | None) -> None:
    b = _net([depth for depth, _ in LAYERS])
    names = [f"y{i}" for i in range(len(LAYERS))]
    for i, (depth, columns) in enumerate(LAYERS):
        w, c = RNG.normal(size=(depth, columns)), RNG.normal(size=columns)
        op = Dense(activation) if activation else Dense()
        b.op(op, f"x{i}", b.c(f"w{i}", w), b.c(f"c{i}", c), name=names[i])
    _check(b, names, [depth for depth, _ in LAYERS], 4e-6)


def test_more_rows_than_go_together_through_far_weights() -> None:
    for columns in (730, 9):
        b = _net([700])
        w, c = RNG.normal(size=(700, columns)), RNG.normal(size=columns)
        graph = b.graph(b.op(Dense(Relu()), "x0", b.c("w", w), b.c("c", c), name="y"))
        model = Model(graph)
        x = RNG.normal(size=(199, 700)).astype("f4")
        whole, exact = model(x), evaluate(graph, {"x0": x}, wide=True)["y"]
        np.testing.assert_allclose(whole, exact, rtol=0, atol=4e-6 * np.max(exact))
        for rows in (63, 64, 65, 66, 67, 128, 135):
            np.testing.assert_array_equal(model(x[-rows:]), whole[-rows:])


def test_normalizations() -> None:
    b = _net(LENGTHS)
    names: list[str] = []
    for i, length in enumerate(LENGTHS):
        scale, offset = (b.c(f"{s}{i}", RNG.normal(size=length)) for s in "so")
        names += [f"l{i}", f"w{i}", f"r{i}"]
        b.op(LayerNormalization(-1, 1e-5), f"x{i}", scale, offset, name=names[-3])
        b.op(LayerNormalization(-1, 1e-5), f"x{i}", scale, name=names[-2])
        b.op(RMSNormalization(-1, 1e-5), f"x{i}", scale, name=names[-1])
    _check(b, names, LENGTHS, 4e-6)


def test_a_row_with_an_infinity_is_that_of_the_reference() -> None:
    b = _net([20])
    one = b.c("one", np.ones(20))
    graph = b.graph(b.op(LayerNormalization(-1, 1e-5), "x0", one, one, name="y"))
    x = RNG.normal(size=(5, 20)).astype("f4")
    x[1, 3], x[2, 4], x[3] = np.inf, np.nan, 7
    with np.errstate(invalid="ignore"):
        exact = evaluate(graph, {"x0": x}, wide=True)["y"]
    np.testing.assert_allclose(Model(graph)(x), exact, rtol=1e-5, atol=1e-6)


# With weights that rows read together: of the state, of the inputs, and of both.
@pytest.mark.parametrize(
    ("layer", "inputs", "hidden"),
    [
        (RNN(layout=True), 3, 130),
        (RNN(layout=True, direction="reverse"), 200, 64),
        (GRU(layout=True), 90, 118),
        (GRU(layout=True, linear_before_reset=True), 3, 100),
        (LSTM(layout=True, direction="bidirectional"), 70, 90),
    ],
    ids=str,
)
def test_recurrent(layer: Recurrent, inputs: int, hidden: int) -> None:
    b = Net()
    b.input("x0", floats(N, 4, inputs))
    # Small enough that no rounding grows from step to step.
    weights = [
        b.c(name, RNG.normal(size=(layer.directions, *shape)) / np.sqrt(hidden) / 2)
        for name, shape in [
            ("w", (layer.gates * hidden, inputs)),
            ("r", (layer.gates * hidden, hidden)),
            ("b", (2 * layer.gates * hidden,)),
        ]
    ]
    graph = b.graph(b.op(layer, "x0", *weights, name="y"))
    model = Model(graph)
    x = RNG.normal(size=(26, 4, inputs)).astype("f4")
    whole, exact = model(x), evaluate(graph, {"x0": x}, wide=True)["y"]
    np.testing.assert_allclose(whole, exact, rtol=0, atol=4e-6)
    for rows in range(1, 26):
        np.testing.assert_array_equal(model(x[-rows:]), whole[-rows:], str(rows))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sizes", [(16, 16), (17, 20), (5, 40)], ids=str)
def test_attention(sizes: tuple[int, int], masked: bool) -> None:
    head, width = sizes
    queries, keys = symbol("Q"), symbol("K")
    b = Net()
    shapes = {"q": (2, queries, head), "k": (2, keys, head), "v": (2, keys, width)}
    if masked:
        shapes["mask"] = (2, queries, keys)
    for name, shape in shapes.items():
        b.input(name, floats(*shape))
    graph = b.graph(b.op(SoftmaxAttention(0.3, 0.0, ("hre",) * 4), *shapes, name="y"))
    model = Model(graph)
    for count in (1, 3, 7, 70, 130):
        most = {"Q": MOST, "K": count}
        feeds = {
            name: RNG.normal(size=[d if isinstance(d, int) else most[str(d)] for d in shape])
            for name, shape in shapes.items()
        }
        given = {name: x.astype("f4") for name, x in feeds.items()}
        if masked:
            # Keys that are left out, and a query that may attend to nothing.
            given["mask"][:, :, count // 2] = -1e9
            given["mask"][:, 1::3, 0] = given["mask"][0, 4] = -np.inf
        with np.errstate(invalid="ignore"):
            exact = evaluate(graph, given, wide=True)["y"]
        whole = model(given)
        np.testing.assert_allclose(whole, exact, rtol=0, atol=2e-5)
        for rows in (8, 9, 12, 16, 17, 18, 20, 31, 32, 33, 36, 40):
            few = {n: x[:, :rows] if n in ("q", "mask") else x for n, x in given.items()}
            np.testing.assert_array_equal(model(few), whole[:, :rows])
