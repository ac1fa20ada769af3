"""Train a small Higgs classifier with Keras, and write it as `higgs.keras` and `higgs.h5`.

The events, the features and their split are those of `train_higgs.py`:

    pip install keras torch==2.13.0 h5py uproot onnx onnxruntime
    python data/train_keras.py --data path/to/Higgs_data.root

Without `--data` the file is looked for in the ROOT installation of this Python. The run takes less
than a minute on one core. The optimiser's state is not kept.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch
from higgs_events import area_under_roc, find_higgs_data, read_events, split_events

SEED = 3
EPOCHS = 40
BATCH_SIZE = 256


def network(features: np.ndarray) -> keras.Model:
    """A normalisation, two dense layers of 32 with a residual connection, and a score."""
    normal = keras.layers.Normalization(name="normal")
    normal.adapt(features)
    x = keras.Input((features.shape[1],), name="features")
    y = keras.layers.Dense(32, activation="swish", name="first")(normal(x))
    y = keras.layers.BatchNormalization(name="batch")(y)
    z = keras.layers.Dropout(0.1, name="dropout")(y)
    z = keras.layers.Dense(32, activation="swish", name="second")(z)
    z = keras.layers.Add(name="residual")([y, z])
    score = keras.layers.Dense(1, activation="sigmoid", name="score")(z)
    return keras.Model(x, score, name="higgs")


def main() -> None:
    """Train, say how good it is, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keras.utils.set_random_seed(SEED)
    features, labels = read_events(arguments.data or find_higgs_data())
    training, validation, held_out = split_events(len(labels))
    model = network(features[np.concatenate([training, validation])])
    model.compile(keras.optimizers.Adam(2e-3), "binary_crossentropy")
    model.fit(
        features[training],
        labels[training],
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        validation_data=(features[validation], labels[validation]),
        verbose=2,
    )
    scores = model.predict(features[held_out], verbose=0)[:, 0]
    print(f"AUC on held-out events: {area_under_roc(scores, labels[held_out]):.4f}")
    # As it is in use: without the optimiser.
    final = keras.models.clone_model(model)
    final.set_weights(model.get_weights())
    for kind in ("keras", "h5"):
        final.save(arguments.output / f"higgs.{kind}")


if __name__ == "__main__":
    main()
