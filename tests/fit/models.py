"""Models whose sums over events are known in closed form."""

from __future__ import annotations

import numpy as np
import onnx

from sofie_rdf import Model
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.types import Array

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'


def model(body: str, face: str, **weights: Array) -> Model:
    given = onnx.parser.parse_model(f"{HEAD} g {face} {{ {body} }}")
    for name, array in weights.items():
        given.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return Model(read(given))


# The columns of one input; its logarithm, the density itself, and a score.
_COLUMNS = "x, mu, sigma = Split <axis = 1, num_outputs = 3> (features)"
_LOG = "d = Sub (x, mu) q = Div (d, sigma) s = Mul (q, q) h = Mul (s, half) l = Log (sigma)"
_NAMES = ["x", "mu", "sigma"]


def gauss() -> Model:
    """Log density (without 2 pi), density, and a score with that as its logarithm of odds."""
    body = f"{_COLUMNS} {_LOG} log = Sub (h, l) density = Exp (log) score = Sigmoid (log)"
    face = "(float[N, 3] features) => (float[N, 1] log, float[N, 1] density, float[N, 1] score)"
    return model(body, face, half=np.float32([[-0.5]])).named(features=_NAMES)


def shared() -> Model:
    """The same log density of an input without the batch, and its negative beside it."""
    body = "mu, sigma = Split <axis = 0, num_outputs = 2> (theta)"
    body += f" {_LOG} up = Sub (h, l) down = Neg (up) both = Concat <axis = 1> (up, down)"
    face = "(float[N, 1] x, float[2] theta) => (float[N, 2] both)"
    return model(body, face, half=np.float32([[-0.5]]))


def events(count: int = 3000, seed: int = 1) -> Array:
    found: Array = np.random.default_rng(seed).normal(1.5, 0.7, count)
    return found


def wanted(x: Array, mu: float, sigma: float, weights: Array | float = 1) -> tuple[float, Array]:
    """-2 sum of the log density, and its derivatives, in float64."""
    q = (x - mu) / sigma
    value = float(np.sum(weights * (q**2 + 2 * np.log(sigma))))
    slopes = [np.sum(weights * -2 * q / sigma), np.sum(weights * (2 - 2 * q**2) / sigma)]
    return value, np.array(slopes)
