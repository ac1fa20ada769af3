"""lwtnn's formulas for one event, in NumPy's float64: a vector for it, a column for each step.

It is written from lwtnn's formulas without a look at our reader, as there is no lwtnn for Python.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sofie_rdf.ir.types import Array

__all__ = ["graph", "layered"]

RECURRENT = ("lstm", "gru", "simplernn", "embedding")


def activation(given: Any, x: Array) -> Array:
    alpha = 1.0
    if isinstance(given, dict):
        given, alpha = given["function"], given["alpha"]
    if given == "softmax":
        grown = np.exp(x - x.max())
        return np.asarray(grown / grown.sum())
    one = {
        "linear": lambda v: v,
        "sigmoid": lambda v: 1 / (1 + math.exp(-v)) if v > -700 else 0.0,
        "rectified": lambda v: max(v, 0.0),
        "tanh": math.tanh,
        "hard_sigmoid": lambda v: min(max(0.2 * v + 0.5, 0.0), 1.0),
        "elu": lambda v: v if v >= 0 else alpha * (math.exp(v) - 1),
        "leakyrelu": lambda v: v if v > 0 else alpha * v,
        "swish": lambda v: v / (1 + math.exp(-alpha * v)),
        "abs": abs,
    }[given]
    return np.array([one(float(v)) for v in x])


def product(layer: Mapping[str, Any], x: Array) -> Array:
    rows = np.reshape(layer["weights"], (-1, len(x)))
    return np.asarray(rows @ x + layer["bias"])


def forward(layer: Mapping[str, Any], x: Array) -> Array:
    kind = layer["architecture"]
    if kind == "dense":
        if layer["weights"]:
            x = np.reshape(layer["weights"], (-1, len(x))) @ x
        if layer["bias"]:
            x = x + layer["bias"]
        return activation(layer["activation"], x)
    if kind == "normalization":
        return np.asarray((x + layer["bias"]) * layer["weights"])
    if kind == "maxout":
        return np.max([product(s, x) for s in layer["sublayers"]], axis=0)
    assert kind == "highway"
    c = activation("sigmoid", product(layer["components"]["carry"], x))
    t = activation(layer["activation"], product(layer["components"]["t"], x))
    return np.asarray(c * t + (1 - c) * x)


def scanned(layer: Mapping[str, Any], x: Array) -> Array:
    """All steps of a sequence, which are columns."""
    kind = layer["architecture"]
    if kind == "embedding":
        for sub in layer["sublayers"]:
            table = np.reshape(sub["weights"], (sub["n_out"], -1))
            index = sub["index"]
            x = np.concatenate([x[:index], table[:, x[index].astype(int)], x[index + 1 :]])
        return x
    parts = layer["components"]

    def gate(key: str, name: str, x: Array, h: Array) -> Array:
        one = parts[key]
        total = product(one, x) + np.reshape(one["U"], (len(h), len(h))) @ h
        return activation(layer[name], total)

    size = len(next(iter(parts.values()))["bias"])
    h, c, found = np.zeros(size), np.zeros(size), []
    for step in x.T:
        if kind == "simplernn":
            h = gate("h", "activation", step, h)
        elif kind == "gru":
            z, r = (gate(k, "inner_activation", step, h) for k in "zr")
            one = parts["h"]
            total = product(one, step) + np.reshape(one["U"], (size, size)) @ (r * h)
            h = z * h + (1 - z) * activation(layer["activation"], total)
        else:
            i, f, o = (gate(k, "inner_activation", step, h) for k in "ifo")
            c = f * c + i * gate("c", "activation", step, h)
            h = o * activation(layer["activation"], c)
        found.append(h)
    return np.array(found).T if found else np.zeros((size, 0))


def scaled(variables: Any, defaults: Mapping[str, float], x: Array) -> Array:
    """A row for each variable."""
    found = []
    for variable, row in zip(variables, np.asarray(x, np.float64), strict=True):
        default = variable.get("default", defaults.get(variable["name"]))
        if default is not None:
            row = np.where(np.isnan(row), default, row)
        found.append((row + variable["offset"]) * variable["scale"])
    return np.array(found)


def layered(held: Mapping[str, Any], x: Array) -> Array:
    """A network of layers for x[variables], or for x[variables, steps]."""
    x = scaled(held["inputs"], held.get("defaults", {}), x)
    for layer in held["layers"]:
        if layer["architecture"] in RECURRENT:
            x = scanned(layer, x)
        else:
            x = forward(layer, x if x.ndim == 1 else x[:, -1])
    return x if x.ndim == 1 else x[:, -1]


def graph(held: Mapping[str, Any], plain: list[Array], sequences: list[Array]) -> dict[str, Array]:
    """All outputs; those of time_distributed nodes have a column for each step."""

    def value(number: int, *, steps: bool = False) -> Array:
        node = held["nodes"][number]
        kind, sources = node["type"], node["sources"]
        if kind in ("input", "input_sequence"):
            listed, given = (held["inputs"], plain)
            if kind == "input_sequence":
                listed, given = held["input_sequences"], sequences
            return scaled(listed[sources[0]]["variables"], {}, given[sources[0]])
        if kind == "feed_forward":
            return forward(held["layers"][node["layer_index"]], value(sources[0]))
        if kind == "concatenate":
            return np.concatenate([value(s) for s in sources])
        if kind == "add":
            return np.asarray(sum(value(s) for s in sources))
        if kind == "sum":
            return np.asarray(value(sources[0], steps=True).sum(axis=1))
        x, layer = value(sources[0], steps=True), held["layers"][node["layer_index"]]
        if kind == "time_distributed":
            return np.array([forward(layer, step) for step in x.T]).T
        found = scanned(layer, x)
        return found if steps else found[:, -1]

    return {name: value(out["node_index"]) for name, out in held["outputs"].items()}
