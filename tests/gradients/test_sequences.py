"""Derivatives through recurrent layers whose sequences have lengths of their own, beside torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from sofie_rdf import Model
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.types import Array
from tests.choice import some_of

torch = pytest.importorskip("torch")
nn = torch.nn

STEPS, WIDTH, HIDDEN = 5, 3, 4
# ONNX's gates are in another order than torch's.
ORDERS = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 3, 1, 2]}


def _turned(name: str, array: Array) -> Array:
    return np.concatenate([np.split(array, len(ORDERS[name]))[i] for i in ORDERS[name]])


def _model(name: str, layer: Any, steps: str = str(STEPS)) -> Model:
    """The layer as ONNX has it: y[batch, step] is summed up with weights that are an input."""
    ways = ["", "_reverse"] if layer.bidirectional else [""]
    parts = {n: p.detach().numpy() for n, p in layer.named_parameters()}
    both = [
        [_turned(name, parts[f"{kind}_l0{way}"]) for way in ways]
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    constants = {
        "w": np.stack(both[0]),
        "r": np.stack(both[1]),
        "b": np.stack([np.concatenate(pair) for pair in zip(both[2], both[3], strict=True)]),
        "flat": np.array([0, -1], np.int64),
    }
    attributes = f'hidden_size = {HIDDEN}, direction = "{"bi" * layer.bidirectional}directional"'
    attributes = attributes.replace('"directional"', '"forward"')
    attributes += ", linear_before_reset = 1" if name == "GRU" else ""
    results = "s, h, c" if name == "LSTM" else "s, h"
    body = f"""t = Transpose <perm = [1, 0, 2]> (x)
        {results} = {name} <{attributes}> (t, w, r, b, lens)
        u = Transpose <perm = [2, 0, 1, 3]> (s) a = Reshape (u, flat)
        v = Transpose <perm = [1, 0, 2]> (h) d = Reshape (v, flat) y = Concat <axis = 1> (a, d)"""
    face = f"(float[N, {steps}, {WIDTH}] x, int32[N] lens) => (float[N, K] y)"
    given = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]> g {face} {{ {body} }}'
    )
    given.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, n) for n, array in constants.items()
    )
    return Model(read(given))


def _theirs(layer: Any, x: Array, lengths: Array, weights: Array, steps: int = STEPS) -> Array:
    given = torch.tensor(x, requires_grad=True)
    packed = nn.utils.rnn.pack_padded_sequence(
        given, torch.tensor(lengths).long(), batch_first=True, enforce_sorted=False
    )
    states, last = layer(packed)
    every, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=steps)
    last = last[0] if isinstance(last, tuple) else last
    ways = len(last)
    # y has a step's directions one after the other, as torch has them.
    y = torch.cat([every.reshape(len(x), -1), last.transpose(0, 1).reshape(len(x), -1)], 1)
    assert y.shape[1] == (steps + 1) * ways * HIDDEN
    (y * torch.tensor(weights)).sum().backward()
    return np.asarray(given.grad)


@pytest.mark.parametrize("both", some_of([False, True], [True]), ids=["forward", "both"])
@pytest.mark.parametrize("name", ORDERS)
def test_sequences_with_lengths_have_torchs_derivatives(name: str, both: bool) -> None:
    torch.manual_seed(3)
    layer = getattr(nn, name)(WIDTH, HIDDEN, batch_first=True, bidirectional=both)
    model = _model(name, layer)
    derived = model.gradient("y", "x", vjp="weights")
    random = np.random.default_rng(4)
    for count in (4, 1, 7):
        x = random.normal(size=(count, STEPS, WIDTH)).astype(np.float32)
        lengths = random.integers(1, STEPS + 1, count).astype(np.int32)
        weights = random.normal(size=(count, (STEPS + 1) * (1 + both) * HIDDEN))
        weights = weights.astype(np.float32)
        wanted = _theirs(layer, x, lengths, weights)
        # What is behind the end may be anything.
        x[np.arange(STEPS) >= lengths[:, None]] = np.nan
        found = derived(x=x, lens=lengths, weights=weights)["d_y/d_x"]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("both", some_of([False, True], [True]), ids=["forward", "both"])
@pytest.mark.parametrize("name", some_of(ORDERS, ["LSTM"]))
def test_sequences_of_open_length_have_torchs_derivatives(name: str, both: bool) -> None:
    torch.manual_seed(3)
    layer = getattr(nn, name)(WIDTH, HIDDEN, batch_first=True, bidirectional=both)
    derived = _model(name, layer, "S").gradient("y", "x", vjp="weights")
    random = np.random.default_rng(4)
    for count, steps in ((4, 5), (1, 1), (7, 120)):
        x = random.normal(size=(count, steps, WIDTH)).astype(np.float32)
        lengths = random.integers(1, steps + 1, count).astype(np.int32)
        weights = random.normal(size=(count, (steps + 1) * (1 + both) * HIDDEN))
        weights = weights.astype(np.float32)
        wanted = _theirs(layer, x, lengths, weights, steps)
        x[np.arange(steps) >= lengths[:, None]] = np.nan
        found = derived(x=x, lens=lengths, weights=weights)["d_y/d_x"]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        rows = [
            derived(x=x[i : i + 1], lens=lengths[i : i + 1], weights=weights[i : i + 1])["d_y/d_x"]
            for i in range(count)
        ]
        np.testing.assert_array_equal(np.concatenate(rows), found)
