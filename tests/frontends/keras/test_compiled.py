"""Models of Keras as compiled code: calls of changing sizes, and what the passes make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ops.layout import Transpose
from tests.frontends.keras.oracle import L, arrays, keras, quiet, randomized, values

Input, Model, Sequential = keras.Input, keras.Model, keras.Sequential


def convolutional() -> Any:
    return Sequential(
        [
            Input((12, 10, 3)),
            L.Conv2D(8, 3, padding="same", activation="relu"),
            L.BatchNormalization(),
            L.MaxPooling2D(),
            L.SeparableConv2D(8, 3, padding="same", activation="swish"),
            L.Conv2D(6, 3, strides=2, padding="same"),
            L.LeakyReLU(),
            L.GlobalAveragePooling2D(),
            L.Dense(3, "softmax"),
        ]
    )


def tagger() -> Any:
    """Particles of a jet, as many as there are."""
    i = Input((None, 5), name="particles")
    x = L.Masking(0.0)(i)
    y = L.Bidirectional(L.LSTM(8, return_sequences=True))(x)
    y = L.TimeDistributed(L.Dense(6, "tanh"))(y)
    y = L.GRU(7)(y)
    return Model(i, L.Dense(2, "sigmoid", name="score")(y))


def transformer() -> Any:
    i = Input((None, 8), name="tokens")
    x = L.Masking(0.0)(i)
    y = L.LayerNormalization()(L.Add()([x, L.MultiHeadAttention(2, 4)(x, x)]))
    z = L.Dense(8)(L.Dense(16, "gelu")(y))
    y = L.LayerNormalization()(L.Add()([y, z]))
    return Model(i, L.Dense(3, name="score")(L.GlobalAveragePooling1D()(y)))


def step_by_step() -> Any:
    """Cells that no operator of ours is."""
    i = Input((None, 3))
    y = L.LSTM(4, activation="gelu", return_sequences=True)(L.Masking(0.0)(i))
    return Model(i, L.RNN([L.GRUCell(3, activation="swish"), L.SimpleRNNCell(2)])(y))


def images_of_time() -> Any:
    return Sequential([Input((3, 5, 4, 2)), L.ConvLSTM2D(3, 2, padding="same"), L.Flatten()])


@pytest.mark.parametrize("make", [convolutional, tagger, transformer, step_by_step, images_of_time])
def test_three_calls_of_changing_sizes(make: Any, tmp_path: Path) -> None:
    pytest.importorskip("ROOT")
    with quiet():
        model = randomized(make())
        model.save(tmp_path / "m.keras")
    compiled = sofie.load(tmp_path / "m.keras")
    for batch, size in ((3, 6), (1, 3), (5, 9)):
        inputs = arrays(model, batch, size=size)
        if inputs[0].ndim == 3:
            inputs[0][0, size // 2 :] = 0.0  # Steps that Masking takes away.
        (wanted,) = values(model, inputs)
        np.testing.assert_allclose(compiled(*inputs), wanted, atol=5e-6)


def test_no_transposes_are_left_between_convolutions() -> None:
    with quiet():
        model = randomized(convolutional())
    optimized = sofie.from_keras(model).optimized
    transposes = [n for n in optimized if isinstance(n.op, Transpose)]
    assert [n.inputs for n in transposes] == [(optimized.inputs[0],)]


def test_from_keras_in_the_public_face(tmp_path: Path) -> None:
    with quiet():
        model = randomized(Sequential([Input((4,), name="x"), L.Dense(2, name="y")]))
    found = sofie.from_keras(model, name="mine")
    assert (found.name, list(found.inputs), list(found.outputs)) == ("mine", ["x"], ["y"])
    assert sofie.check(tmp_path / "missing.keras")[0].thing.startswith("cannot be read")
