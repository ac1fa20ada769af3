"""com.microsoft: DynamicQuantizeLSTM of random shapes, and quantize_dynamic, beside onnxruntime."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import ShapeError, UnsupportedOperator
from sofie_rdf.ir.types import Array
from tests.choice import every
from tests.frontends.models import refuse
from tests.frontends.test_onnx_contrib import Case, exported

ort = pytest.importorskip("onnxruntime")


def session(model: bytes | str) -> Any:
    """With one thread: several would quantise the states of their own events."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def near(found: Array, wanted: Array, step: float = 0.01) -> None:
    """A state that rounding moves to the next of 256 numbers moves what follows by a step."""
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    off = np.abs(found - wanted)
    assert off.max(initial=0) < step
    assert np.mean(off < 2e-5) > 0.9


def layer(seed: int, **changes: Any) -> Case:
    """Sizes, directions, types, biases and states by chance."""
    random = np.random.default_rng(seed)
    size, hidden = (int(random.integers(1, 7)) for _ in range(2))
    direction = str(random.choice(["forward", "reverse", "bidirectional"]))
    count = 1 + (direction == "bidirectional")
    kind = np.dtype(random.choice([np.uint8, np.int8]))
    low, high = (0, 256) if kind == np.uint8 else (-128, 128)
    # onnxruntime takes a scale for each column with zero points of 0 alone.
    columns = kind == np.int8 and bool(random.integers(2))
    scales = (count, 4 * hidden) if columns else (count,)
    zeros = np.zeros(scales, kind) if columns else random.integers(0, 100, scales).astype(kind)
    weights: dict[str, Any] = {
        "w": random.integers(low, high, (count, size, 4 * hidden)).astype(kind),
        "r": random.integers(low, high, (count, hidden, 4 * hidden)).astype(kind),
        "ws": random.uniform(0.002, 0.01, scales).astype(np.float32),
        "wz": zeros,
        "rs": random.uniform(0.002, 0.01, scales).astype(np.float32),
        "rz": zeros,
    }
    order = ["x", "w", "r", "-", "-", "-", "-", "-", "ws", "wz", "rs", "rz"]
    inputs: dict[str, Any] = {"x": ("L", "N", size)}
    if random.integers(2):
        order[3], weights["b"] = "b", random.normal(size=(count, 8 * hidden)).astype(np.float32)
    if random.integers(2):
        order[5:7] = ["h", "c"]
        inputs |= dict.fromkeys("hc", (count, "N", hidden))
    attributes = {"hidden_size": hidden, "direction": direction, **changes}
    return Case(
        "DynamicQuantizeLSTM", inputs, weights, attributes, " ".join(order), "y h_n c_n", seed=seed
    )


@pytest.mark.parametrize("seed", every(3, range(18)))
def test_layers(seed: int) -> None:
    case = layer(seed)
    proto = case.proto()
    theirs, ours = session(proto.SerializeToString()), sofie.from_onnx(proto)
    for sizes in ({"N": 3, "L": 4}, {"N": 1, "L": 7}, {"N": 5, "L": 2}):
        feeds = case.feeds(sizes)
        found = ours(feeds)
        assert isinstance(found, dict)
        for y, wanted in zip(found.values(), theirs.run(None, feeds), strict=True):
            near(y, wanted)


def test_a_network_of_quantize_dynamic(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tools = pytest.importorskip("onnxruntime.quantization")

    class Last(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.LSTM(5, 8, 2, batch_first=True, bidirectional=True)
            self.last = torch.nn.Linear(16, 3)

        def forward(self, x: Any) -> Any:
            return self.last(self.layer(x)[0][:, -1])

    torch.manual_seed(1)
    x = np.random.default_rng(2).normal(size=(8, 6, 5)).astype(np.float32)
    path, out = exported(Last(), x, tmp_path / "lstm.onnx"), tmp_path / "quantized.onnx"
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        tools.quantize_dynamic(path, out)
    finally:
        logging.getLogger().setLevel(level)
    assert b"DynamicQuantizeLSTM" in out.read_bytes()
    theirs, ours = session(str(out)), sofie.load(out)
    for rows in (x[:1], x[1:3], x):
        (wanted,) = theirs.run(None, {"x": rows})
        near(np.asarray(ours(rows)), wanted)


def test_what_is_not_supported_is_named() -> None:
    refuse(layer(1, clip=1.0).proto(), UnsupportedOperator, "with a clip", "op_types_to_quantize")
    other = layer(1, activations=["Relu", "Tanh", "Tanh"], direction="forward")
    refuse(other.proto(), UnsupportedOperator, "Sigmoid, Tanh and Tanh")
    case = layer(1)
    wrong = {**case.weights, "ws": np.ones(7, np.float32)}
    refuse(replace(case, weights=wrong).proto(), ShapeError, "scales or zero points")
    order = case.order.split()
    order[4] = "n"
    lengths = {**case.weights, "n": np.ones(3, np.int32)}
    short = replace(case, weights=lengths, order=" ".join(order))
    refuse(short.proto(), UnsupportedOperator, "'sequence_lens'")
