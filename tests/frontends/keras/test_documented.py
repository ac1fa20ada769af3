"""Where Keras's backends do not agree with each other or with its documentation: the meaning here.

Keras on torch is the oracle elsewhere. In these corners it is not, and NumPy is.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from sofie_rdf.frontends.keras import reader as frontend
from sofie_rdf.reference import evaluate
from tests.frontends.keras.oracle import L, arrays, keras, quiet, randomized

DATA = Path(__file__).resolve().parents[3] / "data"
Input, Model, Sequential = keras.Input, keras.Model, keras.Sequential


def result(model: object, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """An input and what our graph gives for it."""
    path = folder / "m.keras"
    with quiet():
        model.save(path)  # type: ignore[attr-defined]
    graph = frontend.read(path)
    (x,) = arrays(model, 2)
    (y,) = evaluate(graph, {graph.inputs[0]: x}).values()
    return x, y


def test_a_border_does_not_count_in_a_mean(tmp_path: Path) -> None:
    """On torch Keras repeats the last pixel where a border is wider on one side."""
    with quiet():
        model = Sequential([Input((5, 1)), L.AveragePooling1D(2, padding="same")])
    x, y = result(model, tmp_path)
    wanted = np.stack([x[:, :2].mean(1), x[:, 2:4].mean(1), x[:, 4]], axis=1)
    np.testing.assert_allclose(y, wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["LayerNormalization", "RMSNormalization"])
def test_normalisation_over_an_axis_that_is_not_the_last(kind: str, tmp_path: Path) -> None:
    """On torch Keras normalises the last axis instead, or fails where the sizes differ."""
    with quiet():
        model = randomized(Sequential([Input((3, 4)), getattr(L, kind)(axis=1, epsilon=1e-3)]))
    x, y = result(model, tmp_path)
    centred = x - x.mean(1, keepdims=True) if kind == "LayerNormalization" else x
    wanted = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-3)
    with quiet():
        weights = [np.array(w).reshape(1, 3, 1) for w in model.get_weights()]
    wanted = wanted * weights[0] + (weights[1] if len(weights) > 1 else 0)
    np.testing.assert_allclose(y, wanted, atol=3e-6)


def test_numbers_that_are_not_zero_are_counted_in_their_order(tmp_path: Path) -> None:
    """On torch Keras exchanges the axes of the result."""
    with quiet():
        i = Input((3, 4))
        model = Model(i, keras.ops.count_nonzero(i, axis=-1))
    x, y = result(model, tmp_path)
    np.testing.assert_array_equal(y, np.count_nonzero(x, axis=-1))


def test_a_file_of_keras_2() -> None:
    """Written by tf_keras, which says what it gives; hard_sigmoid is another function there."""
    graph = frontend.read(DATA / "keras2.h5")
    assert graph.outputs == ("score", "concatenate")
    assert graph.provenance["producer"].startswith("keras 2.")
    with h5py.File(DATA / "keras2.h5") as file:
        example = {name: np.array(array) for name, array in file["example"].items()}
    feeds = {name: example[f"x{n}"] for n, name in enumerate(graph.inputs)}
    for number, y in enumerate(evaluate(graph, feeds).values()):
        np.testing.assert_allclose(y, example[f"y{number}"], atol=1e-6)


def test_both_files_of_the_higgs_network_are_the_same() -> None:
    one, other = (frontend.read(DATA / f"higgs.{kind}") for kind in ("keras", "h5"))
    assert [n.op for n in one] == [n.op for n in other]
    for name, array in one.constants.items():
        np.testing.assert_array_equal(array, other.constants[name])
