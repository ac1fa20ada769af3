"""Recurrent layers as exporters write them: a clip of 0, and lengths of sequences as floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from sofie_rdf.errors import TypeMismatch, UnsupportedOperator
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ops.recurrent import Recurrent
from sofie_rdf.reference import evaluate
from tests.frontends.models import initializer, model, node, numbers, refuse

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, ROWS, FEATURES, UNITS = 5, 3, 2, 4
X = numbers(STEPS, ROWS, FEATURES) * 4


def layer(name: str, lengths: Any = None, **attributes: Any) -> Any:
    gates = GATES[name]
    weights = {
        "w": numbers(1, gates * UNITS, FEATURES),
        "r": numbers(1, gates * UNITS, UNITS),
        "b": numbers(1, 2 * gates * UNITS),
    }
    constants = [initializer(key, array) for key, array in weights.items()]
    inputs = "x w r b"
    if lengths is not None:
        constants.append(initializer("lengths", lengths, np.asarray(lengths).dtype))
        inputs += " lengths"
    one = node(name, inputs, "y", hidden_size=UNITS, **attributes)
    return model([one], {"x": X.shape}, "y", constants)


def result(proto: Any) -> Any:
    (y,) = evaluate(read(proto), {"x": X}).values()
    return y


@pytest.mark.parametrize("name", GATES)
def test_a_clip_of_0_is_none(name: str) -> None:
    """By ONNX's words all results would be those of zeros, which no exporter means.

    SOFIE's numbers and ONNX's own evaluator have no clip then. onnxruntime refuses LSTM and GRU
    with it, and gives zeros for RNN.
    """
    proto = layer(name, clip=0.0)
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": X})
    found = result(proto)
    assert np.abs(found).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found.tobytes() == result(layer(name)).tobytes()
    (only,) = (n.op for n in read(proto).nodes)
    assert isinstance(only, Recurrent) and only.limit is None


@pytest.mark.parametrize("clip", [-0.5, float("nan")])
def test_another_clip_is_refused(clip: float) -> None:
    refuse(layer("GRU", clip=clip), UnsupportedOperator, "cannot clip")


@pytest.mark.parametrize("name", GATES)
def test_whole_lengths_may_be_floats(name: str) -> None:
    found = result(layer(name, np.array([5, 2, 0], np.float32)))
    assert found.tobytes() == result(layer(name, np.array([5, 2, 0], np.int32))).tobytes()
    assert not found[2:, 0, 1].any() and found[1, 0, 1].any()


@pytest.mark.parametrize("wrong", [1.5, float("inf"), 3e9])
def test_lengths_that_are_not_whole_are_refused(wrong: float) -> None:
    proto = layer("LSTM", np.array([5, wrong, 1], np.float32))
    refuse(proto, TypeMismatch, "lengths of int32, not float32")
