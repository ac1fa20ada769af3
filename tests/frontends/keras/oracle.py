"""Models of Keras with random weights, and what our graph gives beside what Keras gives."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sofie_rdf.frontends.keras import reader as frontend
from sofie_rdf.ir.graph import Graph
from sofie_rdf.reference import evaluate

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    keras = pytest.importorskip("keras")

L = keras.layers

__all__ = [
    "ALL",
    "L",
    "agree",
    "arrays",
    "assert_agrees",
    "graphs",
    "keras",
    "quiet",
    "randomized",
    "rng",
    "values",
]


@contextlib.contextmanager
def quiet() -> Any:
    """What Keras itself does with NumPy and torch is deprecated here and there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def randomized(model: Any, seed: int = 0) -> Any:
    """The model with random weights: also those that begin as zeros or ones."""
    with quiet():
        _randomize(model, rng(seed))
    return model


def _randomize(model: Any, random: np.random.Generator) -> None:
    for variable in model.variables:
        if variable.name == "seed_generator_state" or variable.dtype.startswith(("int", "uint")):
            continue
        shape = tuple(variable.shape)
        if "variance" in variable.name:
            new = random.uniform(0.3, 2.0, shape)
        elif variable.name in ("gamma", "scale"):
            new = random.uniform(0.5, 1.5, shape)
        else:
            fan = max(int(np.prod(shape[:-1], dtype=int)), 1) if len(shape) > 1 else 4
            new = random.normal(scale=fan**-0.5, size=shape)
        variable.assign(new)
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def arrays(model: Any, batch: int, seed: int = 1, size: int = 5) -> list[np.ndarray]:
    """Random inputs; axes that are open have ``size``."""
    random = rng(seed + 17 * batch)
    found = []
    for tensor in model.inputs:
        shape = [batch, *(size if d is None else d for d in tensor.shape[1:])]
        if tensor.shape[0] is not None:
            shape[0] = tensor.shape[0]
        if tensor.dtype.startswith("int"):
            found.append(random.integers(0, 4, shape).astype(tensor.dtype))
        elif tensor.dtype == "bool":
            found.append(random.integers(0, 2, shape).astype(bool))
        else:
            x = random.normal(size=shape).astype(np.float32)
            # Numbers at which functions have a corner.
            x.flat[:: max(x.size // 5, 1)] = 0.0
            if x.ndim == 3:
                # Steps that Masking takes away: some of each event, all of one.
                x[random.uniform(size=x.shape[:2]) < 0.4] = 0.0
                x[2:3] = 0.0
            found.append(x.astype(tensor.dtype) if tensor.dtype != "bfloat16" else x)
    return found


def values(model: Any, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What Keras gives."""
    with quiet():
        given = [keras.ops.convert_to_tensor(x) for x in inputs]
        found = model(given if len(given) > 1 else given[0], training=False)
        return [np.array(keras.ops.convert_to_numpy(y)) for y in keras.tree.flatten(found)]


# The ways in which a model is read.
ALL = ("keras", "h5", "memory")


def graphs(model: Any, folder: Path, kinds: Sequence[str] = ALL) -> list[Graph]:
    """The model's graph, by each of these ways."""
    found = []
    for kind in kinds:
        if kind == "memory":
            found.append(frontend.read(model))
        else:
            path = folder / f"model.{kind}"
            with quiet():
                model.save(path)
            found.append(frontend.read(path, isolated=False))
    return found


def agree(
    graph: Graph, inputs: Sequence[np.ndarray], wanted: Sequence[np.ndarray], tolerance: float
) -> float:
    """The largest deviation, relative to the largest number or 1; fails above the tolerance."""
    found = evaluate(graph, dict(zip(graph.inputs, inputs, strict=True)))
    worst = 0.0
    assert len(found) == len(wanted)
    for ours, theirs in zip(found.values(), wanted, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        finite = np.isfinite(b)
        np.testing.assert_array_equal(a[~finite & ~np.isnan(b)], b[~finite & ~np.isnan(b)])
        scale = max(1.0, float(np.max(np.abs(b[finite]), initial=0)))
        worst = max(worst, float(np.max(np.abs(a - b)[finite], initial=0)) / scale)
    assert worst <= tolerance
    return worst


def assert_agrees(
    model: Any,
    folder: Path,
    *,
    seed: int = 0,
    kinds: Sequence[str] = ("keras",),
    tolerance: float = 3e-6,
    sizes: Sequence[int] = (5, 5),
) -> Graph:
    """Our graph gives what Keras gives, at two batch sizes; the graph."""
    randomized(model, seed)
    found = graphs(model, folder, kinds)
    for batch, size in zip((3, 1), sizes, strict=True):
        inputs = arrays(model, batch, seed, size)
        wanted = values(model, inputs)
        for graph in found:
            agree(graph, inputs, wanted, tolerance)
    return found[0]
