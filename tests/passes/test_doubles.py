"""Networks in float64: the same function with more digits, or a refusal with the node."""

from __future__ import annotations

import numpy as np
import pytest

from sofie_rdf.errors import ModelError
from sofie_rdf.ir.types import DType
from sofie_rdf.ir.verify import verify
from sofie_rdf.passes.doubles import in_float64
from sofie_rdf.reference import evaluate
from tests.fit.models import model


def test_all_numbers_are_wide_and_the_result_is_that_of_the_wide_reference() -> None:
    w = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    body = "c = Cast <to = 1> (i) a = Mul (x, c) b = MatMul (a, w) y = Tanh (b)"
    graph = model(body, "(float[N, 3] x, int64[N, 3] i) => (float[N, 4] y)", w=w).graph
    made = in_float64(graph)
    verify(made)
    assert not [n for n, t in made.types.items() if t.dtype is DType.FLOAT32]
    assert made.types["i"].dtype is DType.INT64
    feeds = {"x": np.random.default_rng(2).normal(size=(5, 3)), "i": np.ones((5, 3), np.int64)}
    found = evaluate(made, feeds)["y"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.tanh(feeds["x"] @ w.astype(np.float64)))


def test_half_precision_stays_what_the_network_says() -> None:
    body = "h = Cast <to = 10> (x) y = Cast <to = 1> (h)"
    graph = in_float64(model(body, "(float[N] x) => (float[N] y)").graph)
    found = evaluate(graph, {"x": np.array([1 / 3])})["y"]
    assert found == np.float64(np.float16(1 / 3))


def test_control_flow_is_wide_inside() -> None:
    body = (
        "y = If <then_branch = a () => (float[N] p) { p = Neg (x) },"
        " else_branch = b () => (float[N] q) { q = Exp (x) }> (c)"
    )
    graph = in_float64(model(body, "(float[N] x, bool c) => (float[N] y)").graph)
    verify(graph)
    feeds = {"x": np.array([0.1]), "c": np.array(False)}
    np.testing.assert_array_equal(evaluate(graph, feeds)["y"], np.exp([0.1]))


def test_what_gives_float32_whatever_it_gets_is_refused_with_its_node() -> None:
    body = "[quantized] q = QuantizeLinear (x, s) [back] y = DequantizeLinear (q, s)"
    graph = model(body, "(float[N] x) => (float[N] y)", s=np.float32(0.5)).graph
    with pytest.raises(ModelError, match="float64") as caught:
        in_float64(graph)
    assert "quantized" in caught.value.place
