"""Networks as lwtnn's converters write them, with random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Made", "graph", "layered"]

Held = dict[str, Any]


class Made:
    """Layers with random weights."""

    def __init__(self, seed: int = 1) -> None:
        self.random = np.random.default_rng(seed)

    def numbers(self, *sizes: int) -> list[float]:
        return [float(v) for v in self.random.normal(scale=0.4, size=sizes).ravel()]

    def matrix(self, inputs: int, outputs: int) -> Held:
        return {"weights": self.numbers(outputs, inputs), "bias": self.numbers(outputs)}

    def dense(self, inputs: int, outputs: int, activation: Any = "linear") -> Held:
        return {
            "architecture": "dense", "activation": activation, **self.matrix(inputs, outputs)
        }  # fmt: skip

    def normalization(self, size: int) -> Held:
        found = {"weights": self.numbers(size), "bias": self.numbers(size)}
        return {"architecture": "normalization", **found}

    def maxout(self, inputs: int, outputs: int, count: int = 3) -> Held:
        found = [self.matrix(inputs, outputs) for _ in range(count)]
        return {"architecture": "maxout", "sublayers": found}

    def highway(self, size: int, activation: Any = "rectified") -> Held:
        found = {key: self.matrix(size, size) for key in ("t", "carry")}
        return {"architecture": "highway", "activation": activation, "components": found}

    def recurrent(
        self, kind: str, inputs: int, size: int, outer: Any = "tanh", inner: Any = "sigmoid"
    ) -> Held:
        keys = {"lstm": "ifco", "gru": "zrh", "simplernn": "h"}[kind]
        parts = {k: {**self.matrix(inputs, size), "U": self.numbers(size, size)} for k in keys}
        found = {"architecture": kind, "activation": outer, "components": parts}
        return found if kind == "simplernn" else {**found, "inner_activation": inner}

    def embedding(self, index: int, categories: int, width: int) -> Held:
        sub = {"weights": self.numbers(width, categories), "index": index, "n_out": width}
        return {"architecture": "embedding", "sublayers": [sub]}

    def variables(self, *names: str) -> list[Held]:
        return [
            {"name": n, "offset": float(self.random.normal()), "scale": float(self.random.normal())}
            for n in names
        ]


def layered(layers: Sequence[Held], inputs: int, outputs: int) -> Held:
    """A network of layers, one after the other."""
    variables = Made(5).variables(*(f"v{i}" for i in range(inputs)))
    labels = [f"out_{i}" for i in range(outputs)]
    return {
        "defaults": {"v0": -1.5},
        "inputs": variables,
        "layers": list(layers),
        "outputs": labels,
    }


def graph() -> Held:
    """Jets and an event: all kinds of nodes, in another order than they depend on each other."""
    made = Made(7)
    layers = [
        made.dense(3, 4, "rectified"),
        made.recurrent("gru", 4, 5),
        made.dense(2, 5, "tanh"),
        made.dense(14, 6, {"function": "swish", "alpha": 1.3}),
        made.dense(6, 3, "softmax"),
        made.normalization(6),
    ]
    nodes = [
        {"type": "feed_forward", "sources": [7], "layer_index": 3},
        {"type": "input_sequence", "sources": [0], "size": 3},
        {"type": "input", "sources": [0], "size": 2},
        {"type": "time_distributed", "sources": [1], "layer_index": 0},
        {"type": "sequence", "sources": [3], "layer_index": 1},
        {"type": "feed_forward", "sources": [2], "layer_index": 2},
        {"type": "add", "sources": [4, 5]},
        {"type": "concatenate", "sources": [6, 8, 5]},
        {"type": "sum", "sources": [3]},
        {"type": "feed_forward", "sources": [11], "layer_index": 4},
        {"type": "sequence", "sources": [3], "layer_index": 1},
        {"type": "feed_forward", "sources": [0], "layer_index": 5},
    ]
    return {
        "inputs": [{"name": "event", "variables": made.variables("met", "njets")}],
        "input_sequences": [{"name": "jets", "variables": made.variables("pt", "eta", "d0")}],
        "layers": layers,
        "nodes": nodes,
        "outputs": {
            "tag": {"labels": ["b", "c", "light"], "node_index": 9},
            "steps": {"labels": ["a", "b", "c", "d"], "node_index": 3},
            "last": {"labels": ["a", "b", "c", "d", "e"], "node_index": 10},
        },
    }
