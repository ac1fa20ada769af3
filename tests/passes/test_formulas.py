"""Operators that have a formula and no kernel, in graphs and in the bodies of If and Loop."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from sofie_rdf import Model, limits
from sofie_rdf.errors import LimitExceeded
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.operator import REGISTRY, Operator
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ir.verify import verify
from sofie_rdf.ops.layout import Identity
from sofie_rdf.ops.ml import PairwiseVotes, SoftmaxZero, TwoScores
from sofie_rdf.passes.formulas import by_formula, has_no_kernel
from sofie_rdf.reference import evaluate

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
IN_BRANCH = """
    y = If (c) <
        then_branch = t () => (float[N, 3] a) { a = MeanVarianceNormalization <axes = [1]> (x) },
        else_branch = e () => (float[N, 3] b) { b = Neg (x) }
    >
"""
IN_BOTH = """
    y = If (c) <
        then_branch = t () => (float[N, 3] a) { a = MeanVarianceNormalization <axes = [1]> (x) },
        else_branch = e () => (float[N, 3] b) {
            n = Neg (x)
            b = MeanVarianceNormalization <axes = [1]> (n)
        }
    >
"""
IN_ROUNDS = """
    n = Constant <value_int = 2> ()
    y = Loop (n, c, x) <body = round (int64 i, bool go, float[N, 3] a) => (bool on, float[N, 3] b) {
        on = Identity (go)
        m = MeanVarianceNormalization <axes = [1]> (a)
        b = Add (m, a)
    }>
"""


def test_operators_without_kernels_have_formulas() -> None:
    lacking = [cls for cls in REGISTRY.values() if has_no_kernel(cls)]
    assert lacking
    assert all(cls.formula is not Operator.formula for cls in lacking)


@pytest.mark.parametrize("body", [IN_BRANCH, IN_BOTH, IN_ROUNDS])
def test_constants_of_formulas_in_bodies_are_inputs(body: str) -> None:
    text = f"{HEAD} g (float[N, 3] x, bool c) => (float[N, 3] y) {{ {body} }}"
    model = Model(read(onnx.parser.parse_model(text)))
    spelled = by_formula(model.graph)
    verify(spelled)
    inside = [body for node in spelled.nodes for body in node.op.bodies.values()]
    assert inside and not any(body.constants for body in inside)
    x = np.array([[1, 2, 4], [-3, 0.5, 8]], np.float32)
    for c in (True, False):
        feeds = {"x": x, "c": np.array(c)}
        assert np.allclose(model(**feeds), evaluate(model.graph, feeds)["y"], atol=1e-6)


def test_what_is_spelled_out_has_the_names_of_the_outputs() -> None:
    build = Builder("names")
    x = build.input("x", TensorType(DType.FLOAT32, (4, 1)))
    scores = build(TwoScores(), x, outputs=("scores",))
    y = build(SoftmaxZero(), scores, outputs=("y",))
    graph = by_formula(build.graph("scores", y))
    assert graph.outputs == ("scores", "y")
    verify(graph)
    assert not any(isinstance(node.op, Identity) for node in graph.nodes)


def test_what_formulas_make_of_many_nodes_is_counted() -> None:
    """A line of a graph may stand for 8 MB of constants."""
    build = Builder("votes")
    scores = build.input("scores", TensorType(DType.FLOAT32, ("N", 1000 * 999 // 2)))
    graph = build.graph(*(build(PairwiseVotes(1000), scores) for _ in range(3)))
    with (
        limits.budget("bytes=20M", place="votes"),
        pytest.raises(LimitExceeded, match="pairs of classes"),
    ):
        by_formula(graph)
    with limits.budget("bytes=100M", place="votes"):
        assert all(not has_no_kernel(type(node.op)) for node in by_formula(graph).nodes)
