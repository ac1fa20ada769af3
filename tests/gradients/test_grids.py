"""Derivatives of samples of a grid, by images and by positions, beside torch."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest

from sofie_rdf import Model
from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.frontends.onnx.reader import read
from tests.choice import some_of

torch = pytest.importorskip("torch")


def _model(mode: str, padding: str, corners: bool) -> Model:
    attributes = f'mode = "{mode}", padding_mode = "{padding}", align_corners = {int(corners)}'
    face = "(float[N, 2, 3, 4] x, float[N, 2, 5, 2] grid) => (float[N, 2, 2, 5] y)"
    body = f"y = GridSample <{attributes}> (x, grid)"
    head = '<ir_version: 10, opset_import: ["" : 20]>'
    return Model(read(onnx.parser.parse_model(f"{head} g {face} {{ {body} }}")))


@pytest.mark.parametrize(
    ("mode", "padding", "corners"),
    some_of(
        product(["linear", "nearest"], ["zeros", "border", "reflection"], [False, True]),
        [("linear", "zeros", True), ("linear", "reflection", False), ("nearest", "border", True)],
    ),
)
def test_samples_have_torchs_derivatives(mode: str, padding: str, corners: bool) -> None:
    derived = _model(mode, padding, corners).gradient("y", vjp="v")
    random = np.random.default_rng(5)
    for count in (3, 1, 4):
        x = random.normal(size=(count, 2, 3, 4)).astype(np.float32)
        grid = random.uniform(-2.5, 2.5, (count, 2, 5, 2)).astype(np.float32)
        grid[0, 0, 0] = [-1, 1]  # A corner.
        if padding != "reflection":
            grid[0, 0, 1] = [-1e30, 1e30]
        v = random.normal(size=(count, 2, 2, 5)).astype(np.float32)
        given: list[Any] = [torch.tensor(a, requires_grad=True) for a in (x, grid)]
        theirs = {"mode": {"linear": "bilinear"}.get(mode, mode), "padding_mode": padding}
        y = torch.nn.functional.grid_sample(*given, align_corners=corners, **theirs)
        (y * torch.tensor(v)).sum().backward()
        found = derived(x=x, grid=grid, v=v)
        for name, tensor in zip(("x", "grid"), given, strict=True):
            slopes = found[f"d_y/d_{name}"]
            np.testing.assert_allclose(slopes, tensor.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_cubic_samples_are_refused() -> None:
    with pytest.raises(UnsupportedOperator, match=r"no gradient here with mode='cubic'.*linear"):
        _model("cubic", "zeros", False).gradient("y", vjp=True)
