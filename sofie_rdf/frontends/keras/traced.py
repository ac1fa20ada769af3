"""Layers with code in a model in memory, as the functions of keras.ops and layers that they call.

A Lambda, or a layer of somebody else, is called with symbolic values, as Keras itself does to learn
the shapes of its outputs. The model is built again around what comes out.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.frontends.keras.layer import flatten, mapped

__all__ = ["called", "has_code", "not_trained", "without_code"]

# Layers with code in layers with code, at most.
_DEPTH = 50


def has_code(op: Any, custom: Collection[str]) -> bool:
    """Whether a layer is code, and not one of Keras's or of those for which the user has a rule."""
    import keras

    name, registered = type(op).__name__, keras.saving.get_registered_name(type(op))
    if name in custom or registered in custom:
        return False
    graph = getattr(op, "_functional", op)
    if isinstance(op, keras.Model) and isinstance(getattr(graph, "operations", None), list):
        return any(has_code(inner, custom) for inner in graph.operations)
    return name == "Lambda" or type(op).__module__.partition(".")[0] not in ("keras", "tf_keras")


def without_code(model: Any, custom: Collection[str], place: str) -> Any:
    """The same model of Keras, as a graph of layers without code.

    `UnsupportedOperator` names the layer whose code cannot run on symbolic values.
    """
    for _ in range(_DEPTH):
        if not any(has_code(op, custom) for op in model.operations):
            return model
        try:
            model = _once(model, _Calls(custom, place))
        except ValueError as error:
            raise UnsupportedOperator(
                f"cannot be built of the layers inside of its layers: {error}",
                place=place,
                remedy="Give these layers names of their own",
            ) from error
    raise UnsupportedOperator(f"has more than {_DEPTH} layers in layers", place=place)


def _once(model: Any, calls: _Calls) -> Any:
    """The model around what the outermost layers with code call."""
    import keras

    inputs = mapped(_input_like, model.input)
    known = dict(zip(map(id, flatten(model.input)), flatten(inputs), strict=True))
    calls.fill(known, flatten(model.output))
    outputs = mapped(lambda tensor: known[id(tensor)], model.output)
    return keras.Model(inputs, outputs, name=model.name)


def _input_like(tensor: Any) -> Any:
    import keras

    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)


class _Calls:
    """Calls the layers of a model again."""

    def __init__(self, custom: Collection[str], place: str) -> None:
        self.custom, self.place = custom, place

    def fill(self, known: dict[int, Any], wanted: list[Any]) -> None:
        """Add what stands for each symbolic value that is needed for those, by its id."""
        waiting = list(wanted)
        while waiting:
            tensor = waiting[-1]
            if id(tensor) in known:
                waiting.pop()
                continue
            op, number, _ = tensor._keras_history
            node = op._inbound_nodes[number]
            missing = [t for t in node.input_tensors if id(t) not in known]
            if missing:
                waiting += missing
                continue
            found = flatten(self._call(op, node, known))
            known.update(zip(map(id, flatten(node.outputs)), found, strict=True))

    def _call(self, op: Any, node: Any, known: Mapping[int, Any]) -> Any:
        def renewed(value: Any) -> Any:
            if isinstance(value, slice):
                return slice(*map(renewed, (value.start, value.stop, value.step)))
            return known.get(id(value), value)

        args = mapped(renewed, tuple(node.arguments.args))
        kwargs = mapped(renewed, dict(node.arguments.kwargs))
        if not has_code(op, self.custom):
            return op(*args, **kwargs)
        try:
            return called(op, *args, **kwargs)
        except Exception as error:
            what = "Lambda" if type(op).__name__ == "Lambda" else f"custom layer {op.name!r}"
            raise UnsupportedOperator(
                f"is a {type(op).__name__}, whose code does not run on symbolic values: {error}",
                place=f"{self.place}, node {op.name!r}",
                remedy=f"Write the {what} with layers and keras.ops, or say what it is: "
                f'custom_objects={{"{type(op).__name__}": rule}}',
            ) from error


def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """What a layer's code makes of these values where it is not trained."""
    options = {**_converted(layer, kwargs), **not_trained(layer)}
    return layer.call(*_converted(layer, args), **options)


def not_trained(layer: Any) -> dict[str, Any]:
    """The argument that says so, if its code has one."""
    return {"training": False} if "training" in inspect.signature(layer.call).parameters else {}


def _converted(layer: Any, values: Any) -> Any:
    """Floating-point values in the layer's type, as ``Layer.__call__`` has them."""
    import keras

    if not getattr(layer, "autocast", False):
        return values

    def cast(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor) or "float" not in value.dtype:
            return value
        if value.dtype == layer.compute_dtype:
            return value
        return keras.ops.cast(value, layer.compute_dtype)

    return mapped(cast, values)
