"""Derivatives beside torch.autograd where numbers end: zeros, ties, infinity and NaN."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest

import sofie_rdf
from sofie_rdf import Model
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.types import Array
from sofie_rdf.reading import optimized
from sofie_rdf.reference import evaluate

torch = pytest.importorskip("torch")
f = torch.nn.functional
inf, nan = np.inf, np.nan

NUMBERS = np.array(
    [-inf, -1e30, -88, -20, -3, -1, -0.5, -1e-30, -0.0, 0, 1e-30, 0.5, 1, 3, 20, 88, 1e30, inf, nan]
)
ROWS = np.array(
    [
        [1, 1, 0, 0],
        [1, 1, 1, 1],
        [-inf, 0, 1, 2],
        [-inf, -inf, -inf, -inf],
        [inf, 0, 1, 2],
        [inf, inf, 0, 1],
        [nan, 0, 1, 2],
        [0, 0, 0, 0],
        [88, 89, 200, -200],
        [3, -3, 3, -3],
    ],
    np.float32,
)
OF_ONE: dict[str, Callable[..., Any]] = {
    "y = Sqrt (x)": torch.sqrt,
    "y = Log (x)": torch.log,
    "y = Exp (x)": torch.exp,
    "y = Tanh (x)": torch.tanh,
    "y = Sigmoid (x)": torch.sigmoid,
    "y = Erf (x)": torch.erf,
    "y = Abs (x)": torch.abs,
    "y = Gelu (x)": f.gelu,
    "y = Mish (x)": f.mish,
    "y = Reciprocal (x)": torch.reciprocal,
    "y = Atan (x)": torch.atan,
    "y = Div (x, x)": lambda x: x / x,
    "y = Div (x, zero)": lambda x: x / 0,
    "y = Mul (x, zero)": lambda x: x * 0,
    "y = Pow (x, zero)": lambda x: x**0.0,
    "y = Pow (x, two)": lambda x: x**2.0,
    "y = Pow (two, x)": lambda x: 2.0**x,
    "y = Pow (zero, x)": lambda x: torch.pow(torch.zeros(()), x),
    "y = Max (x, zero)": lambda x: torch.maximum(x, torch.zeros(())),
    "y = Clip (x, zero, two)": lambda x: torch.clamp(x, 0.0, 2.0),
    "s = Sqrt (x) c = Greater (x, zero) y = Where (c, s, zero)": lambda x: torch.where(
        x > 0, x.sqrt(), torch.zeros(())
    ),
    "d = Div (two, x) c = Equal (x, zero) y = Where (c, zero, d)": lambda x: torch.where(
        x == 0, torch.zeros(()), 2 / x
    ),
    "c = IsNaN (x) y = Where (c, zero, x)": lambda x: torch.where(x.isnan(), torch.zeros(()), x),
}
OF_ROWS: dict[str, Callable[..., Any]] = {
    "y = Softmax <axis = 1> (x)": lambda x: x.softmax(1),
    "y = LogSoftmax <axis = 1> (x)": lambda x: x.log_softmax(1),
    "y = ReduceLogSumExp (x, axes)": lambda x: x.logsumexp(1, keepdim=True),
    "y = ReduceMax (x, axes)": lambda x: x.amax(1, keepdim=True),
    "y = ReduceMin (x, axes)": lambda x: x.amin(1, keepdim=True),
    "y = ReduceL1 (x, axes)": lambda x: torch.linalg.vector_norm(x, 1, 1, keepdim=True),
    "y = ReduceL2 (x, axes)": lambda x: torch.linalg.vector_norm(x, 2, 1, keepdim=True),
    "y = ReduceProd (x, axes)": lambda x: x.prod(1, keepdim=True),
}
# Of numbers of two, by torch's own functions, which are others in the graph.
OF_TWO: dict[str, Callable[..., Any]] = {
    "atan2": torch.atan2,
    "xlogy": torch.xlogy,
    "logaddexp": torch.logaddexp,
    "hypot": torch.hypot,
    "cdist": lambda a, b: torch.cdist(a, b).sum(2),
}


def _model(body: str, width: int) -> Model:
    out = 1 if "axes" in body else width
    head = '<ir_version: 10, opset_import: ["" : 20]>'
    face = f"(float[N, {width}] x) => (float[N, {out}] y)"
    given = onnx.parser.parse_model(f"{head} g {face} {{ {body} }}")
    known = {"zero": np.float32(0), "two": np.float32(2), "axes": np.array([1])}
    used = {i for node in given.graph.node for i in node.input}
    given.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in known.items() if n in used
    )
    return Model(read(given))


def _slopes(model: Model, arrays: list[Array], v: Array) -> list[Array]:
    graph = optimized(model.gradient(vjp="v").graph)
    feeds = dict(zip(model.graph.inputs, arrays, strict=True))
    sizes = dict.fromkeys(graph.symbols, len(v))
    with np.errstate(all="ignore"):
        found = evaluate(graph.with_sizes(sizes), {**feeds, "v": v})
    (output,) = model.graph.outputs
    return [found[f"d_{output}/d_{name}"] for name in model.graph.inputs]


def _theirs(function: Callable[..., Any], arrays: list[Array], weight: float) -> Any:
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = function(*tensors)
    v = torch.full_like(y, weight)
    y.backward(v)
    return v.numpy(), [t.grad.numpy() for t in tensors]


@pytest.mark.parametrize("body", OF_ONE)
def test_functions_have_torchs_slopes_where_numbers_end(body: str) -> None:
    x = NUMBERS.astype(np.float32)[:, None]
    v, (wanted,) = _theirs(OF_ONE[body], [x], -2.0)
    (found,) = _slopes(_model(body, 1), [x], v)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=3e-7)


@pytest.mark.parametrize("body", OF_ROWS)
def test_rows_have_torchs_slopes_where_numbers_end(body: str) -> None:
    v, (wanted,) = _theirs(OF_ROWS[body], [ROWS], 0.5)
    (found,) = _slopes(_model(body, 4), [ROWS], v)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=3e-7)


@cache
def _model_of_two(name: str, row: tuple[int, ...]) -> sofie_rdf.Model:
    """torch exports it once for all tests."""

    class Module(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any, y: Any) -> Any:
            return OF_TWO[name](x, y)

    return sofie_rdf.from_torch(Module(), (torch.rand(3, *row) + 0.1, torch.rand(3, *row) + 0.1))


@pytest.mark.parametrize("name", OF_TWO)
def test_torchs_functions_of_two_have_its_slopes_on_the_axes(name: str) -> None:
    values = np.array([-2, -1, -0.0, 0, 1, 2, 90, 1e4], np.float32)
    a, b = (grid.ravel() for grid in np.meshgrid(values, values))
    if name in ("xlogy", "hypot"):
        # torch has NaN where both are zero; the way back is zero here.
        a, b = (grid[(a != 0) | (b != 0)] for grid in (a, b))
    shape = (-1, 1, 1) if name == "cdist" else (-1, 1)
    arrays = [a.reshape(shape), b.reshape(shape)]
    v, wanted = _theirs(OF_TWO[name], arrays, -2.0)

    model = _model_of_two(name, shape[1:])
    for one, other in zip(_slopes(model, arrays, v), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-7)


def test_a_nan_that_comes_back_through_an_absolute_value_stays_one() -> None:
    """Through 0 it becomes 0, as in torch's own distances; it became 0 at NaN, too."""
    body = "a = Abs (x) y = Mul (a, a)"
    x = np.array([[nan], [0], [-2]], np.float32)
    (found,) = _slopes(_model(body, 1), [x], np.ones((3, 1), np.float32))
    np.testing.assert_array_equal(found, np.array([[nan], [0], [-4]], np.float32))


HALF = "h = Constant <value_float = 0.5> () y = Pow (x, h)"


@pytest.mark.parametrize(
    ("body", "theirs", "at", "ours", "torchs"),
    [
        ("y = Softsign (x)", f.softsign, inf, 0.0, nan),
        ("y = Softsign (x)", f.softsign, -inf, 0.0, nan),
        (HALF, lambda x: x**0.5, -inf, 0.0, nan),
        (HALF, lambda x: x**0.5, -0.0, inf, -inf),
    ],
)
def test_edges_of_one_that_the_page_names(
    body: str, theirs: Callable[..., Any], at: float, ours: float, torchs: float
) -> None:
    x = np.array([[at]], np.float32)
    v, (wanted,) = _theirs(theirs, [x], 1.0)
    np.testing.assert_array_equal(wanted, [[torchs]])
    np.testing.assert_array_equal(_slopes(_model(body, 1), [x], v)[0], [[ours]])


@pytest.mark.parametrize(
    ("name", "at", "by", "ours", "torchs"),
    [
        ("hypot", (0, 0), 0, 0.0, nan),
        ("hypot", (0, 0), 1, 0.0, nan),
        ("hypot", (inf, 1), 1, nan, 0.0),
        ("xlogy", (0, 0), 1, 0.0, nan),
        ("xlogy", (0, inf), 0, 0.0, inf),
    ],
)
def test_edges_of_two_that_the_page_names(
    name: str, at: tuple[float, float], by: int, ours: float, torchs: float
) -> None:
    arrays = [np.array([[number]], np.float32) for number in at]
    v, wanted = _theirs(OF_TWO[name], arrays, 1.0)
    np.testing.assert_array_equal(wanted[by], [[torchs]])
    model = _model_of_two(name, (1,))
    np.testing.assert_array_equal(_slopes(model, arrays, v)[by], [[ours]])
