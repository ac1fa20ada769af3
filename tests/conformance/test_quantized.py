"""Networks that onnxruntime's tools have quantised, beside ONNX's evaluator and onnxruntime."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import pytest
from onnx.reference import ReferenceEvaluator

import sofie_rdf as sofie
from sofie_rdf.ir.types import Array

ROWS = 16


def events(seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(ROWS, 10, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer of two layers, whose weights and activations are int8 numbers of one scale."""
    torch = pytest.importorskip("torch")
    tools = pytest.importorskip("onnxruntime.quantization")
    folder = tmp_path_factory.mktemp("quantized")
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    module = torch.nn.Sequential(torch.nn.Linear(8, 32), encoder, torch.nn.Linear(32, 3)).eval()
    file = io.BytesIO()
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "N"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # This exporter is an old one, and says so.
        torch.onnx.export(
            module, (torch.zeros(2, 10, 8),), file, dynamo=False, opset_version=17, **names
        )
    (folder / "float.onnx").write_bytes(file.getvalue())

    class Calibration(tools.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.given: Iterator[Any] = iter([{"x": events(seed)} for seed in range(8)])

        def get_next(self) -> Any:
            return next(self.given, None)

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        tools.quantize_static(folder / "float.onnx", folder / "int8.onnx", Calibration())
    finally:
        logging.getLogger().setLevel(level)
    return folder / "int8.onnx"


def by_onnxruntime(path: Path, x: Array, level: str) -> Array:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


def test_a_quantized_transformer_is_what_onnx_says(quantized: Path) -> None:
    """onnxruntime's optimizations compute something else than the file says.

    From ORT_ENABLE_EXTENDED on, a product between DequantizeLinear and QuantizeLinear becomes one
    of whole numbers that is rounded once, which changes results by 1e-2. ONNX's text and evaluator,
    onnxruntime without them, and this package agree. A number in the middle between two steps may
    go the other way where sums have another order: of ROWS events one may do so.
    """
    x = events(99)
    newer = onnx.version_converter.convert_version(onnx.load(quantized), 21)
    (by_text,) = ReferenceEvaluator(newer).run(None, {"x": x})
    model = sofie.load(quantized)
    found = model(x)
    for expected in (by_text, by_onnxruntime(quantized, x, "ORT_DISABLE_ALL")):
        apart = np.abs(found - expected).max(axis=(1, 2))
        assert np.count_nonzero(apart > 1e-6) <= 1, apart
    assert {str(n.op.name) for n in model.graph.nodes} >= {"QuantizeLinear", "DequantizeLinear"}
