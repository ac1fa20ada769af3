"""Networks of Keras: derivatives beside those of Keras itself, by torch, when compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from tests.choice import some_of
from tests.frontends.keras.oracle import L, arrays, keras, quiet, randomized

torch = pytest.importorskip("torch")
Input, Model, Sequential = keras.Input, keras.Model, keras.Sequential


def dense() -> Any:
    layers = [L.Dense(16, "relu"), L.BatchNormalization(), L.Dense(8, "elu"), L.Dropout(0.3)]
    return Sequential([Input((7,)), *layers, L.Dense(1, "sigmoid")])


def activations() -> Any:
    x = i = Input((6,))
    for name in ("gelu", "swish", "selu", "softplus", "tanh", "mish", "hard_sigmoid"):
        x = L.Add()([x, L.Dense(6, name)(x)])
    return Model(i, L.Dense(3, "softmax")(L.PReLU()(L.LeakyReLU()(x))))


def convolutional() -> Any:
    layers = [
        L.Conv2D(5, 3, padding="same", activation="relu"),
        L.BatchNormalization(),
        L.MaxPooling2D(),
        L.SeparableConv2D(6, 3, padding="same", activation="swish"),
        L.DepthwiseConv2D(3, padding="same"),
        L.Conv2D(4, 3, strides=2, padding="same"),
        L.GlobalAveragePooling2D(),
    ]
    return Sequential([Input((8, 6, 3)), *layers, L.Dense(2, "softmax")])


def upwards() -> Any:
    layers = [L.Conv2DTranspose(3, 2, strides=2), L.UpSampling2D(2), L.GroupNormalization(3)]
    layers += [L.ZeroPadding2D(1), L.Cropping2D(2), L.AveragePooling2D(2), L.Flatten()]
    return Sequential([Input((3, 3, 2)), *layers, L.Dense(1)])


def signal() -> Any:
    layers = [L.Conv1D(4, 3, dilation_rate=2, padding="causal", activation="relu")]
    layers += [L.MaxPooling1D(2), L.SpatialDropout1D(0.1), L.GlobalMaxPooling1D()]
    return Sequential([Input((10, 3)), *layers, L.Dense(1)])


def residual() -> Any:
    a, b = Input((5,), name="a"), Input((5,), name="b")
    x = L.Concatenate()([L.Multiply()([a, b]), L.Subtract()([a, b]), L.Maximum()([a, b])])
    x = L.LayerNormalization()(L.Dense(8, "tanh")(x))
    return Model([a, b], L.Dot(1, normalize=True)([x, L.Dense(8)(a)]))


def sets() -> Any:
    """The sum over particles of a network of each."""
    i = Input((6, 4))
    x = L.TimeDistributed(L.Dense(8, "relu"))(i)
    return Model(i, L.Dense(1, "sigmoid")(L.GlobalAveragePooling1D()(x)))


def lstm() -> Any:
    layers = [L.Bidirectional(L.LSTM(5, return_sequences=True)), L.LSTM(4)]
    return Sequential([Input((6, 3)), *layers, L.Dense(1, "sigmoid")])


def gru() -> Any:
    layers = [L.GRU(5, return_sequences=True), L.SimpleRNN(4), L.Dense(2)]
    return Sequential([Input((5, 3)), *layers])


def transformer() -> Any:
    i = Input((5, 8))
    x = L.LayerNormalization()(L.Add()([i, L.MultiHeadAttention(2, 4)(i, i)]))
    x = L.LayerNormalization()(L.Add()([x, L.Dense(8)(L.Dense(16, "gelu")(x))]))
    return Model(i, L.Dense(3)(L.GlobalAveragePooling1D()(x)))


def masked() -> Any:
    """Particles that are zeros are none."""
    i = Input((6, 4))
    return Model(i, L.Dense(1)(L.GRU(5)(L.Masking(0.0)(i))))


def shaped() -> Any:
    i = Input((12,))
    x = L.Permute((2, 1))(L.Reshape((4, 3))(i))
    x = L.Flatten()(L.EinsumDense("abc,cd->abd", (3, 5), activation="relu")(x))
    return Model(i, L.UnitNormalization()(L.Dense(4)(x)))


NETWORKS: dict[str, Callable[[], Any]] = {
    made.__name__: made
    for made in (
        dense, activations, convolutional, upwards, signal, residual, sets, lstm, gru,
        transformer, masked, shaped,
    )
}  # fmt: skip


def slopes_of_keras(model: Any, inputs: list[Any], weight: Any) -> list[Any]:
    tensors = [torch.tensor(a, requires_grad=True) for a in inputs]
    with quiet():
        y = model(tensors if len(tensors) > 1 else tensors[0], training=False)
    (y * torch.tensor(weight)).sum().backward()
    return [t.grad.numpy() for t in tensors]


@pytest.mark.parametrize("name", some_of(NETWORKS, ["dense", "residual", "gru"]))
def test_networks_have_the_derivatives_of_keras(name: str) -> None:
    with quiet():
        network = randomized(NETWORKS[name](), 5)
    model = sofie.from_keras(network)
    (output,) = model.outputs
    derived = model.gradient(vjp="v")
    random = np.random.default_rng(4)
    for count in (3, 1, 17):
        inputs = [a.astype(np.float32) for a in arrays(network, count)]
        if name == "masked":
            inputs[0][:, 4:] = 0
            inputs[0][0, 1:] = 0
        weight = random.normal(size=(count, *network.output_shape[1:])).astype(np.float32)
        found = derived(**dict(zip(model.inputs, inputs, strict=True)), v=weight)
        wanted = slopes_of_keras(network, inputs, weight)
        for own, slope in zip(model.inputs, wanted, strict=True):
            largest = np.abs(slope).max()
            assert largest > 0
            np.testing.assert_allclose(
                found[f"d_{output}/d_{own}"], slope, rtol=2e-4, atol=5e-6 * largest
            )
