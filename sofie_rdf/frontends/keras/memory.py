"""A model of Keras in memory, as the same config that a file would have, with its live weights.

A Functional is walked back from its outputs, as its layers may have been called elsewhere too. A
model with a ``call`` of its own is called with symbolic values, and what comes out is walked. So
are layers with code in it, see `keras.traced`; what has run is compared, see `keras.compare`.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from sofie_rdf.errors import InputError, MissingDependency, UnsupportedOperator
from sofie_rdf.frontends.common.shapes import Shapes
from sofie_rdf.frontends.keras.compare import Beside
from sofie_rdf.frontends.keras.file import KerasModel
from sofie_rdf.frontends.keras.graph import NodeCall, Ref
from sofie_rdf.frontends.keras.layer import Layer, Nested, flatten, mapped
from sofie_rdf.frontends.keras.traced import called, has_code, not_trained, without_code
from sofie_rdf.frontends.keras.weights import LiveWeights
from sofie_rdf.ir.types import Array

__all__ = ["open_model"]


def open_model(model: Any, shapes: Shapes, custom: Collection[str] = ()) -> KerasModel:
    """The model; `InputError` for what is none. Layers named in ``custom`` stay as they are."""
    try:
        import keras
    except ImportError as error:
        raise MissingDependency(
            "a model in memory needs Keras 3", remedy="pip install keras"
        ) from error
    if not isinstance(model, keras.Model):
        raise InputError(
            f"is a {type(model).__name__}, which is no model of Keras 3",
            remedy="Give a keras.Model, or save it and give the file",
        )
    place = f"keras model {model.name!r}"
    with _silence():
        found, beside = _graph_of(keras, model, shapes, custom, place)
        layer = Layer.of(_data_of(keras, found), LiveWeights(found))
    provenance = {
        "producer": f"keras {keras.__version__}",
        "backend": keras.config.backend(),
        "class": type(model).__name__,
    }
    return KerasModel(layer, place, provenance, beside)


@contextlib.contextmanager
def _silence() -> Any:
    """Keras warns and prints while it is asked."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _is_graph(keras: Any, model: Any) -> bool:
    """Whether the model is a graph of layers, and not code."""
    return isinstance(model, keras.Sequential) or (
        hasattr(model, "operations") and hasattr(model, "inputs")
    )


def _graph_of(
    keras: Any, model: Any, shapes: Shapes, custom: Collection[str], place: str
) -> tuple[Any, Beside | None]:
    """A graph of layers without code; and the model beside it, if there was any code."""
    if _is_graph(keras, model):
        graph = getattr(model, "_functional", model)
        if graph is None or not any(has_code(op, custom) for op in graph.operations):
            return model, None
        inputs = graph.input
    else:
        inputs, graph = _traced(keras, model, shapes, place)

    def call(given: Any) -> Any:
        named = not _is_graph(keras, model)
        options = not_trained(model)
        return model(**given, **options) if named else model(given, **options)

    names = [t._keras_history.operation.name for t in flatten(graph.output)]
    dtypes = [t.dtype for t in flatten(graph.input)]
    beside = Beside(dtypes, partial(_asked, call, inputs), names)
    return without_code(graph, custom, place), beside


def _asked(call: Callable[[Any], Any], structure: Any, arrays: Sequence[Array]) -> list[Array]:
    """What a call gives for arrays in this structure of symbolic values."""
    import keras

    given = dict(zip(map(id, flatten(structure)), arrays, strict=True))
    with _silence():
        found = call(mapped(lambda t: keras.ops.convert_to_tensor(given[id(t)]), structure))
        return [np.asarray(keras.ops.convert_to_numpy(t)) for t in flatten(found)]


def _data_of(keras: Any, op: Any) -> dict[str, Any]:
    """What a file would say of a layer, a model, or a function of keras.ops."""
    cls = type(op)
    data: dict[str, Any] = {
        "module": cls.__module__,
        "class_name": cls.__name__,
        "name": op.name,
        "registered_name": keras.saving.get_registered_name(cls),
    }
    if isinstance(op, keras.Sequential):
        return {**data, "class_name": "Sequential", "config": _sequential(keras, op)}
    if isinstance(op, keras.Model) and _is_graph(keras, op):
        return {**data, "class_name": "Functional", "config": _functional(keras, op)}
    try:
        config = dict(op.get_config())
    except Exception:
        # Layers of others need not say how they were made.
        config = {"trainable": True}
    built = op.get_build_config() if hasattr(op, "get_build_config") else None
    return {**data, "config": {**config, "name": op.name}, "build_config": built or {}}


def _sequential(keras: Any, model: Any) -> dict[str, Any]:
    layers = [_data_of(keras, layer) for layer in model.layers]
    try:
        first = model.inputs[0]
    except (AttributeError, ValueError):
        return {"name": model.name, "layers": layers}
    begin = _data_of(keras, first._keras_history.operation)
    if layers and begin["class_name"] == "InputLayer":
        layers = [begin, *layers]
    return {"name": model.name, "layers": layers}


def _functional(keras: Any, model: Any) -> dict[str, Any]:
    """Layers, calls, inputs and outputs."""
    calls = _calls_before(flatten(model.output), {id(t) for t in flatten(model.input)})
    begins = [t._keras_history.operation for t in flatten(model.input)]
    order = [op for op in model.operations if op in begins or id(op) in calls]
    kept = {id(op): sorted(calls.get(id(op), ())) for op in order}

    def leaf(value: Any) -> Any:
        if isinstance(value, keras.KerasTensor):
            op, node, tensor = value._keras_history
            number = kept[id(op)].index(node) if kept[id(op)] else 0
            return Ref(op.name, number, tensor, tuple(value.shape), str(value.dtype))
        if isinstance(value, slice):
            return slice(*map(leaf, (value.start, value.stop, value.step)))
        if isinstance(value, keras.Variable) or keras.ops.is_tensor(value):
            return np.array(keras.ops.convert_to_numpy(value))
        return value

    layers = []
    for op in order:
        nodes = [op._inbound_nodes[n].arguments for n in kept[id(op)]]
        data = _data_of(keras, op)
        data["inbound_nodes"] = [
            NodeCall(mapped(leaf, tuple(n.args)), mapped(leaf, dict(n.kwargs)))
            for n in nodes
            if n.keras_tensors
        ]
        layers.append(data)

    def output(value: Any) -> Any:
        ref = leaf(value)
        op = value._keras_history.operation
        # As files have it: a model that is a layer has had a call before the first.
        is_model = isinstance(op, keras.Model) and not isinstance(op, keras.Sequential)
        return Ref(ref.layer, ref.node + 1, ref.tensor) if is_model else ref

    return {
        "name": model.name,
        "layers": layers,
        "input_layers": mapped(leaf, model.input),
        "output_layers": mapped(output, model.output),
    }


def _calls_before(outputs: Sequence[Any], inputs: set[int]) -> dict[int, set[int]]:
    """The numbers of the calls of each operation that these values need."""
    found: dict[int, set[int]] = {}
    waiting = list(outputs)
    while waiting:
        tensor = waiting.pop()
        op, node, _ = tensor._keras_history
        if node in found.setdefault(id(op), set()):
            continue
        found[id(op)].add(node)
        if id(tensor) not in inputs:
            waiting += op._inbound_nodes[node].input_tensors
    return found


# Models with code --------------------------------------------------------------------------------


def _traced(keras: Any, model: Any, shapes: Shapes, place: str) -> tuple[Any, Any]:
    """Symbolic inputs by name, and the graph of layers that a model's own code makes of them."""
    given = _input_shapes(model, shapes)
    if given is None:
        raise UnsupportedOperator(
            f"is a {type(model).__name__}, whose inputs are not known before it is called",
            place=place,
            remedy='Call it once, or give them: shapes={"inputs": (None, 7)}',
        )

    def symbolic(name: str, shape: Nested) -> Nested:
        if isinstance(shape, Mapping):
            return {k: symbolic(k, s) for k, s in shape.items()}
        if shape and isinstance(shape[0], (list, tuple)):
            return [symbolic(f"{name}_{n}", s) for n, s in enumerate(shape)]
        sizes = [s if isinstance(s, int) else None for s in shape]
        return keras.Input(batch_shape=(None, *sizes[1:]), name=name)

    inputs = {name: symbolic(name, shape) for name, shape in given.items()}
    try:
        outputs = called(model, **inputs)
        return inputs, keras.Model(list(flatten(inputs)), outputs, name=model.name)
    except Exception as error:
        raise UnsupportedOperator(
            f"is a {type(model).__name__}, whose code does not run on symbolic values: {error}",
            place=place,
            remedy="Write it with layers and keras.ops",
        ) from error


def _input_shapes(model: Any, shapes: Shapes) -> dict[str, Nested] | None:
    """The shape of each argument of a model's call."""
    import inspect

    if shapes:
        return {name: tuple(shape) for name, shape in shapes.items()}
    try:
        built = model.get_build_config() or {}
    except Exception:
        return None
    if built.get("shapes_dict"):
        return {str(k).removesuffix("_shape"): v for k, v in built["shapes_dict"].items()}
    if built.get("input_shape") is None:
        return None
    first = next(iter(inspect.signature(model.call).parameters))
    return {first: built["input_shape"]}
