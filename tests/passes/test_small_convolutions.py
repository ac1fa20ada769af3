"""Convolutions of few places that become one matrix: which do, and what NaN reaches then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sofie_rdf.ir.dims import Dim, symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ops.convolution import Conv, ConvLayer
from sofie_rdf.ops.convolution_small import SmallConv
from sofie_rdf.ops.convolution_transposed import ConvTranspose, ConvTransposeLayer
from sofie_rdf.ops.elementwise import Relu
from sofie_rdf.passes.small_convolutions import choose_matrices
from sofie_rdf.reference import evaluate
from sofie_rdf.runtime.compile.session import compile_graph
from tests.passes.graphs import N, Net, operators

RNG = np.random.default_rng(6)


def graph(op: Operator, *shape: Dim, w: Any, bias: int = 0) -> Graph:
    """A convolution of x, with a bias of so many features."""
    b = Net(*shape)
    w = RNG.normal(size=w) if isinstance(w, tuple) else w
    inputs = ["x", b.c("w", w), *([b.c("b", RNG.normal(size=bias))] if bias else [])]
    return b.graph(b.op(op, *inputs, name="y"))


SMALL = (
    graph(Conv(pads=(1, 1, 1, 1)), N, 2, 4, 4, w=(3, 2, 3, 3)),
    graph(Conv(strides=(2, 1), group=2), N, 4, 5, 4, w=(4, 2, 3, 2), bias=4),
    graph(ConvLayer(activation=Relu(), dilations=(2,)), N, 3, 9, w=(5, 3, 3), bias=5),
    graph(ConvTranspose(strides=(2, 2)), N, 2, 3, 3, w=(2, 2, 2, 2)),
    graph(ConvTransposeLayer(activation=Relu(), pads=(1, 0)), N, 4, 6, w=(4, 3, 3), bias=3),
)


@pytest.mark.parametrize("before", SMALL, ids=str)
def test_small_images_are_one_matrix(before: Graph) -> None:
    after = choose_matrices(before)
    assert [type(n.op) for n in after.nodes] == [SmallConv]
    assert after.types["y"] == before.types["y"]
    shape = (7, *before.types["x"].shape[1:])
    x = RNG.normal(size=shape).astype(np.float32)
    # What is not finite reaches those results whose taps it is under, and no others.
    x[2].flat[1], x[3].flat[-1], x[5].flat[4] = np.nan, np.inf, -np.inf
    wanted, found = (evaluate(g, {"x": x})["y"] for g in (before, after))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert np.isfinite(wanted).any(axis=tuple(range(1, wanted.ndim))).all()
    ours = compile_graph(after).infer({"x": x}, {"N": len(x)})["y"]
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5)


def test_zero_in_a_kernel_is_a_weight() -> None:
    w = np.array([[[1, 0, -0.0]]])
    before = graph(Conv(), 1, 1, 4, w=w)
    x = np.array([[[1, 2, np.inf, 3]]], np.float32)
    for g in (before, choose_matrices(before)):
        np.testing.assert_array_equal(evaluate(g, {"x": x})["y"], [[[np.nan, np.nan]]])


@pytest.mark.parametrize(
    ("reason", "before"),
    [
        ("its image is large", graph(Conv(), N, 2, 30, 30, w=(2, 2, 3, 3))),
        ("it has one result", graph(Conv(), N, 1, 3, w=(1, 1, 3))),
        ("most of it would be zeros", graph(Conv(), N, 1, 64, w=(1, 1, 2))),
        ("the size of its image is not known", graph(Conv(), N, 1, symbol("T"), w=(1, 1, 2))),
        ("it has weights that are not finite", graph(Conv(), N, 1, 4, w=np.array([[[1, np.inf]]]))),
    ],
)
def test_others_stay_what_they_are(reason: str, before: Graph) -> None:
    after, report = choose_matrices.explain(before)
    assert operators(after) == operators(before)
    assert [r.reason for r in report.refused] == [reason]
