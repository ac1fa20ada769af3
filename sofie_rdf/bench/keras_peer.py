"""Keras as a contestant, for networks that are chains of dense layers: what its users call.

Keras reads no ONNX files, so the layers are made anew with the same weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import version as installed
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.bench.measure import Contestant, python_seconds
from sofie_rdf.bench.models import Task
from sofie_rdf.errors import ModelError
from sofie_rdf.ir.types import Array
from sofie_rdf.runtime.compile.interpreter import quietly

__all__ = ["Keras"]

_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softmax": "softmax"}
# The factor and the summand of a node with a constant.
_AFFINE: Mapping[str, Callable[[Array], tuple[Any, Any]]] = {
    "Add": lambda c: (1.0, c),
    "Sub": lambda c: (1.0, -c),
    "Mul": lambda c: (c, 0.0),
    "Div": lambda c: (1 / c, 0.0),
}


class Keras:
    """``model.predict_on_batch(x)`` and ``model(x)``, on the backend that Keras has; one thread."""

    name = "Keras"
    overhead = False

    def absence(self) -> str:
        return "" if find_spec("keras") else "not installed"

    def version(self) -> str:
        return installed("keras")

    def forms(self, task: Task) -> Iterator[tuple[str, Contestant]]:
        # Read by TensorFlow when it is imported.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.update(dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"))
        if len(task.feeds) > 1:
            raise ModelError("only chains of layers are built in Keras here")
        (x,) = task.feeds.values()
        # TensorFlow tells the error stream about itself.
        quietly(lambda: import_module("keras"))
        model = _chain(task.candidate.source, x.shape[1:])
        yield "predict_on_batch", _Call(model.predict_on_batch, x)
        yield "call", _Call(model, x)


class _Call:
    def __init__(self, function: Any, x: Array) -> None:
        self._function, self._x = function, x

    def seconds(self, calls: int) -> float:
        return python_seconds(lambda: self._function(self._x), calls)

    def outputs(self) -> list[Array]:
        import keras

        return [np.asarray(keras.ops.convert_to_numpy(self._function(self._x)))]


def _chain(source: Path | bytes, shape: tuple[int, ...]) -> Any:
    """The nodes one after the other as layers; `ModelError` for any that is none."""
    import keras
    import onnx
    from onnx import numpy_helper

    graph = (onnx.load(source) if isinstance(source, Path) else onnx.load_from_string(source)).graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    model = keras.Sequential([keras.Input(shape)])
    weights: list[Array] = []
    value = next(i.name for i in graph.input if i.name not in constants)
    for node in graph.node:
        if node.input[0] != value or not all(name in constants for name in node.input[1:]):
            raise ModelError("only chains of layers are built in Keras here")
        layer, own = _layer(node, [constants[name] for name in node.input[1:]])
        model.add(layer)
        weights += own
        (value,) = node.output
    model.set_weights(weights)
    return model


def _layer(node: Any, constants: list[Array]) -> tuple[Any, list[Array]]:
    """The layer, and its weights as Keras lists them."""
    import keras
    from onnx import helper

    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    if node.op_type == "Gemm" and all(attributes.get(k, v) == v for k, v in plain.items()):
        w, *bias = constants
        w = w.T if attributes.get("transB") else w
        return keras.layers.Dense(w.shape[1], use_bias=bool(bias)), [w, *bias]
    if node.op_type in _ACTIVATIONS:
        return keras.layers.Activation(_ACTIVATIONS[node.op_type]), []
    if node.op_type == "MatMul":
        return keras.layers.Dense(constants[0].shape[1], use_bias=False), constants
    if node.op_type in _AFFINE:
        return keras.layers.Rescaling(*_AFFINE[node.op_type](constants[0])), []
    if node.op_type == "Identity":
        return keras.layers.Identity(), []
    if node.op_type == "BatchNormalization":
        layer = keras.layers.BatchNormalization(epsilon=attributes.get("epsilon", 1e-5))
        return layer, constants
    raise ModelError(f"{node.op_type} is not built in Keras here")
