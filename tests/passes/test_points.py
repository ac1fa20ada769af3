"""Runs of convolutions of single points: when they are dense layers, and when they stay."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from sofie_rdf.ir.graph import Graph
from sofie_rdf.model import Model
from sofie_rdf.ops.convolution import Conv
from sofie_rdf.ops.elementwise import Gelu, Relu
from sofie_rdf.passes import pipeline
from sofie_rdf.passes.convolutions import fuse_convolutions
from sofie_rdf.passes.points import pointwise_runs
from sofie_rdf.passes.transposes import pointwise_convolutions
from sofie_rdf.reference import evaluate
from tests.passes.graphs import N, Net, as_exact, batch, operators

RNG = np.random.default_rng(8)
POINT = (Conv(), 1)


def _run(widths: tuple[int, ...], *convolutions: tuple[Conv, int], shape: Any = None) -> Graph:
    """Convolutions with functions between them; each with the length of its kernel."""
    b = Net(*(shape or (N, widths[0], 30)))
    y, pairs = "x", list(pairwise(widths))
    for i, (before, after) in enumerate(pairs):
        op, length = convolutions[i] if convolutions else POINT
        size = (after, before // (op.group or 1)) + (length,) * (len(shape or "123") - 2)
        parameters = b.c(f"w{i}", RNG.normal(size=size)), b.c(f"b{i}", RNG.normal(size=after))
        y = b.op(op, y, *parameters)
        if i + 1 < len(pairs):
            y = b.op((Gelu(), Relu())[i % 2], y)
    return fuse_convolutions(b.graph(b.op(Relu(), y, name="y")))


@pytest.mark.parametrize("widths", [(4, 64, 8), (4, 64, 64, 8), (3, 8, 40, 40, 5)], ids=str)
def test_a_run_is_dense_layers(widths: tuple[int, ...]) -> None:
    before = _run(widths)
    after = pointwise_convolutions(pointwise_runs(before))
    as_exact(before, after, batch(before, rows=3))
    kinds = [name.split("(")[0] for name in operators(after)]
    dense = ["sofie.Dense"] * (len(widths) - 1)
    assert kinds == ["Transpose", *dense, "Transpose"]


def test_a_run_goes_through_all_layers_at_once() -> None:
    graph = pipeline.run(_run((4, 64, 64, 8)))
    assert sum(name.startswith("sofie.DenseLayers") for name in operators(graph)) == 1
    feeds = batch(graph, rows=3)
    exact = evaluate(graph, feeds, wide=True)["y"]
    np.testing.assert_allclose(Model(graph)(feeds["x"]), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (_run((4, 64, 8), POINT, (Conv(), 3)), "it is of more than single points"),
        (_run((4, 64, 8), (Conv(strides=(2,)), 1), POINT), "it is of more than single points"),
        (_run((4, 64, 8), POINT, (Conv(group=2), 1)), "it is of more than single points"),
        (_run((64, 8, 64)), "most channels are at the ends"),
        (_run((4, 64, 8), shape=(N, 4, 5, 6)), "the points are along several axes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_runs_that_stay(graph: Graph, reason: str) -> None:
    after, report = pointwise_runs.explain(graph)
    assert after.nodes == graph.nodes
    assert f"two_convolutions: {reason}" in [f"{r.rule}: {r.reason}" for r in report.refused]


def test_the_first_convolution_stays_where_it_would_move_more() -> None:
    before = _run((64, 8, 40, 5))
    after = pointwise_runs(before)
    as_exact(before, after, batch(before, rows=3))
    kinds = [name.split("(")[0] for name in operators(after)]
    assert kinds == ["sofie.ConvLayer", "Transpose", "sofie.Dense", "sofie.Dense", "Transpose"]
