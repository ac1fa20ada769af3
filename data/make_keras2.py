"""Write `keras2.h5`, a file as Keras 2 wrote it: random weights, and what the model gives.

Keras 2 is tf_keras today, which needs TensorFlow:

    pip install tf_keras tensorflow-cpu
    python data/make_keras2.py

Beside the model the file has a group `example` with an input for each input of the model and what
the model gives for them.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import tf_keras as keras

FILE = Path(__file__).with_name("keras2.h5")
L = keras.layers


def network() -> keras.Model:
    """Images and sequences, in layers whose files are different in Keras 3."""
    image, steps = L.Input((8, 8, 2), name="image"), L.Input((None, 4), name="steps")
    encoder = keras.Sequential(
        [
            L.Input((8, 8, 2)),
            L.Conv2D(4, 3, strides=2, padding="same", activation="elu"),
            L.BatchNormalization(),
            L.DepthwiseConv2D(2),
            L.LeakyReLU(),
            L.Flatten(),
            L.Dense(5, activation="hard_sigmoid"),
        ],
        name="encoder",
    )
    shared = L.Dense(5, activation="tanh", name="shared")
    y = L.Masking(0.0)(steps)
    y = L.Bidirectional(L.LSTM(3, return_sequences=True), name="both")(y)
    y = L.TimeDistributed(L.Dense(4, activation="relu"))(y)
    y = L.GRU(4, return_sequences=True, reset_after=False, recurrent_activation="hard_sigmoid")(y)
    y, state = L.GRU(5, return_state=True)(y)
    z = L.MultiHeadAttention(2, 3)(steps, steps)
    z = L.GlobalAveragePooling1D()(L.LayerNormalization()(z))
    x = L.Add()([encoder(image), shared(y)])
    x = L.Concatenate()([shared(x), state, z])
    return keras.Model([image, steps], [L.Dense(3, "softmax", name="score")(x), x])


def main() -> None:
    """Random weights, then the file."""
    random = np.random.default_rng(7)
    model = network()
    for weight in model.weights:
        shape = tuple(weight.shape)
        near_one = "variance" in weight.name or "gamma" in weight.name
        weight.assign(random.uniform(0.5, 1.5, shape) if near_one else random.normal(0, 0.4, shape))
    inputs = [random.normal(size=s).astype(np.float32) for s in ((3, 8, 8, 2), (3, 6, 4))]
    inputs[1][0, 4:] = 0.0
    inputs[1][1, 2] = 0.0
    model.save(FILE, include_optimizer=False)
    with h5py.File(FILE, "r+") as file:
        for number, x in enumerate(inputs):
            file[f"example/x{number}"] = x
        for number, y in enumerate(model(inputs)):
            file[f"example/y{number}"] = y.numpy()


if __name__ == "__main__":
    main()
