"""Gradient of ai.onnx.preview.training, against differences."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.graph import Graph
from sofie_rdf.reference import evaluate

HEAD = '<ir_version: 10, opset_import: ["" : 20, "ai.onnx.preview.training" : 1]>\n'
GRADIENT = 'dx, dw = ai.onnx.preview.training.Gradient <xs: strings = ["x", "w"], y: string = "y">'


def graph(body: str, inputs: str = "double[N, 3] x, double[3] w", call: str = "(x, w)") -> Graph:
    text = f"g ({inputs}) => (double[A, B] y, double[N, 3] dx, double[C] dw)"
    return read(onnx.parser.parse_model(f"{HEAD}{text} {{ {body} {GRADIENT} {call} }}"))


@pytest.mark.parametrize(
    "body",
    [
        "y = Add (x, w)",
        "a = Sub (w, x) y = Mul (a, x)",
        "a = Sigmoid (x) b = Tanh (w) c = Mul (a, b) y = Div (c, w)",
        "a = Exp (x) b = Log (w) c = Sqrt (w) d = Mul (a, b) y = Sub (d, c)",
        "a = Sin (x) b = Cos (w) c = Relu (a) d = Neg (b) y = Mul (c, d)",
        "y = Mul (x, x)",
        "y = MatMul (x, w)",
        "a = Softmax (x) b = LayerNormalization (a, w) y = Gelu (b)",
    ],
)
def test_derivatives_are_quotients_of_small_differences(body: str) -> None:
    shape = (3, 2) if "MatMul" in body else (3,)
    net = graph(body, f"double[N, 3] x, double[{', '.join(map(str, shape))}] w")
    random = np.random.default_rng(1)
    feeds = {"x": random.normal(size=(4, 3)), "w": random.uniform(0.5, 2.0, shape)}
    found = evaluate(net, feeds)
    for name in feeds:
        slope = np.zeros_like(feeds[name])
        for index in np.ndindex(slope.shape):
            step = np.zeros_like(slope)
            step[index] = 1e-6
            up, down = (
                evaluate(net, {**feeds, name: feeds[name] + s})["y"].sum() for s in (step, -step)
            )
            slope[index] = (up - down) / 2e-6
        assert found[f"d{name}"].shape == slope.shape
        np.testing.assert_allclose(found[f"d{name}"], slope, rtol=1e-6, atol=1e-7)


def test_what_does_not_vary_has_no_slope() -> None:
    found = evaluate(graph("y = Exp (x)"), {"x": np.zeros((2, 3)), "w": np.ones(3)})
    np.testing.assert_array_equal(found["dw"], np.zeros(3))
    np.testing.assert_array_equal(found["dx"], np.ones((2, 3)))


def test_refusals() -> None:
    inputs = "double[N, 1, 3, 3] x, double[1, 5] w"
    with pytest.raises(UnsupportedOperator, match="MaxRoiPool has no gradient"):
        graph("y = MaxRoiPool <pooled_shape = [1, 1]> (x, w)", inputs)
    with pytest.raises(UnsupportedOperator, match="at other values"):
        graph("y = Add (x, w)", call="(w, w)")
    with pytest.raises(GraphError, match="Gradient of 'y'"):
        graph("y = Add (x, w)", call="(x)")
