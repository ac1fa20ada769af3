"""A model of Keras, config and weights, into a Builder: which layer is called with what.

A Sequential is a chain of calls; a Functional lists the calls of each layer, which name values as
(layer, number of its call, number of the output). A layer that is called twice shares its weights;
a model that is a layer is run like the outermost one. Masks go from layer to layer as Keras lets
them go when it runs: see `_Call`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sofie_rdf.errors import (
    CorruptFile,
    GraphError,
    SofieError,
    UnsupportedOperator,
    nearest,
)
from sofie_rdf.frontends.common.builders import FrontendBuilder
from sofie_rdf.frontends.common.problems import Problems
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Nested, Value, flatten, mapped, masked
from sofie_rdf.frontends.keras.rules import LayerBuilder, Rule, rule_for, rules
from sofie_rdf.ir.dims import Dim, symbol
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import DType, TensorType

__all__ = ["Models", "Ref", "arguments_of", "refs_in", "structure_of"]


@dataclass(frozen=True)
class Ref:
    """An output of a call of a layer; ``shape`` and ``dtype`` are what the file says of it."""

    layer: str
    node: int
    tensor: int
    shape: tuple[int | None, ...] | None = None
    dtype: str = "float32"


@dataclass(frozen=True)
class NodeCall:
    """One call of a layer, as the file has it."""

    args: tuple[Nested, ...]
    kwargs: Mapping[str, Nested]

    @property
    def leaves(self) -> list[Any]:
        return [*flatten(self.args), *flatten(self.kwargs)]


class Broken(SofieError):
    """What it needs has a problem, which is noted already."""


@dataclass
class Models:
    """Runs models: the outermost one and those inside it."""

    place: str
    build: FrontendBuilder
    problems: Problems | None = None
    custom: Mapping[str, Any] = field(default_factory=dict)
    # Where layers stand first: by the number that files have for a shared one, by class and name.
    shared: dict[object, Layer] = field(default_factory=dict)
    # The layers around the one that is run now.
    outer: tuple[str, ...] = ()
    is_keras_2: bool = False
    backend: str = ""

    def run(self, model: Layer, inputs: Nested) -> Nested:
        """The outputs of a model for these values."""
        if model.class_name == "Sequential":
            return self._sequential(model, inputs)
        return self._functional(model, inputs)

    def _sequential(self, model: Layer, inputs: Nested) -> Nested:
        values = flatten(inputs)
        x: Any = values[0] if len(values) == 1 else inputs
        for layer in model.model_layers():
            if layer.class_name == "InputLayer":
                continue
            if x is BROKEN:
                x = self._built_with(layer)
            found = self.attempt(layer, NodeCall((x,), {}))
            x = BROKEN if found is None else _unpacked(found)
        if x is BROKEN:
            raise Broken(f"{model.name!r} has a problem")
        return x

    def _built_with(self, layer: Layer) -> Any:
        """A value of the shape with which a layer was built, behind one that has a problem."""
        shape = layer.built.get("input_shape")
        if not isinstance(shape, (list, tuple)):
            return BROKEN
        sizes = tuple(s if isinstance(s, int) else None for s in shape)
        return self._stand_in(Ref(layer.name, 0, 0, sizes))

    def _functional(self, model: Layer, inputs: Nested) -> Nested:
        layers = {layer.name: layer for layer in model.model_layers()}
        nodes = _calls(model)
        shifts = _Shifts(model, layers, nodes)
        wanted = flatten(structure_of(model.config.get("input_layers")))
        values = _in_order(model, wanted, inputs)
        known: dict[tuple[str, int], list[Any]] = {}
        for ref, value in zip(wanted, values, strict=True):
            if ref.layer not in layers:
                raise CorruptFile(f"has no layer {ref.layer!r}, which is an input")
            known[ref.layer, ref.node] = [self._converted(layers[ref.layer], value)]
        for name, number in _order(nodes, shifts, known):
            call = nodes[name][number]
            found = self.attempt(layers[name], self._filled(call, shifts, known))
            known[name, number] = [BROKEN] if found is None else flatten(found)
        outputs = structure_of(model.config.get("output_layers"))
        return _unpacked(mapped(lambda ref: self._output(ref, shifts, known), outputs))

    def _filled(
        self, call: NodeCall, shifts: _Shifts, known: Mapping[tuple[str, int], Any]
    ) -> NodeCall:
        """The call with the values that it reads."""

        def filled(leaf: Any) -> Any:
            return self._value(leaf, shifts, known)

        return NodeCall(mapped(filled, call.args), mapped(filled, call.kwargs))

    def _converted(self, layer: Layer, value: Value) -> Value:
        """An input of a model that is a layer, in the type that its input layer has."""
        said = str(layer.config.get("dtype") or "float32")
        if isinstance(layer.config.get("dtype"), Mapping) or said not in {d.value for d in DType}:
            return value
        wanted = DType(said)
        if self.build.type_of(value).dtype is wanted:
            return value
        return self._builder(layer.name).cast(value, wanted)

    def _value(self, leaf: Any, shifts: _Shifts, known: Mapping[tuple[str, int], Any]) -> Any:
        if isinstance(leaf, slice):
            parts = (leaf.start, leaf.stop, leaf.step)
            return slice(*(self._value(part, shifts, known) for part in parts))
        if not isinstance(leaf, Ref):
            return leaf
        found = known.get(shifts.key(leaf), [])
        if leaf.tensor >= len(found) and found != [BROKEN]:
            raise CorruptFile(f"reads output {leaf.tensor} of {leaf.layer!r}, which has none")
        value = found[0] if found == [BROKEN] else found[leaf.tensor]
        return self._stand_in(leaf) if value is BROKEN else value

    def _stand_in(self, ref: Ref) -> Any:
        """A value of the type that the file says for one that cannot be computed."""
        if ref.shape is None or ref.dtype not in {d.value for d in DType}:
            return BROKEN
        name = self.build.fresh(f"{ref.layer}/unknown")
        dims = tuple(
            (symbol("N") if axis == 0 else symbol(f"{name}_{axis}")) if size is None else size
            for axis, size in enumerate(ref.shape)
        )
        return Value(self.build.input(name, TensorType(DType(ref.dtype), dims)))

    def _output(self, ref: Ref, shifts: _Shifts, known: Mapping[tuple[str, int], Any]) -> Any:
        key = shifts.output_key(ref)
        if key not in known:
            raise CorruptFile(f"has the output {ref.layer!r}, which nothing computes")
        found = known[key]
        if found == [BROKEN]:
            raise Broken(f"output {ref.layer!r} has a problem")
        if ref.tensor >= len(found):
            raise CorruptFile(f"has output {ref.tensor} of {ref.layer!r}, which has none")
        return found[ref.tensor]

    # One layer -----------------------------------------------------------------------------------

    def attempt(self, layer: Layer, call: NodeCall) -> Nested | None:
        """The outputs of one call; None for an error that is noted, where all are wanted."""
        origin = self._origin(layer.name)
        try:
            if any(leaf is BROKEN for leaf in call.leaves):
                self._look_at(layer)
                raise Broken("reads what has a problem")
            return self.call(layer, call)
        except Broken:
            if self.problems is None:
                raise
            return None
        except SofieError as error:
            placed = error.at(str(origin))
            if self.problems is None:
                raise placed from None
            self.problems.note(placed)
            return None
        except RecursionError:
            raise
        except Exception as error:
            # What Keras does not write, in some combination that no rule has thought of.
            strange = GraphError(f"makes no sense: {error}", place=str(origin))
            if self.problems is None:
                raise strange from error
            self.problems.note(strange)
            return None

    def call(self, layer: Layer, call: NodeCall) -> Nested:
        """The outputs of a layer."""
        layer = self._with_shared_weights(layer)
        layer = replace(layer, store=layer.store.resolved(layer))
        if layer.is_model:
            outer, self.outer = self.outer, (*self.outer, layer.name)
            try:
                return self.run(layer, call.args[0] if call.args else call.kwargs)
            finally:
                self.outer = outer
        return _Call(self, layer, call).outputs()

    def _look_at(self, layer: Layer) -> None:
        """What can be said of a layer whose inputs are not known."""
        if layer.is_model:
            for inner in layer.model_layers():
                if inner.class_name != "InputLayer":
                    self.attempt(inner, NodeCall((BROKEN,), {}))
        elif not (self.custom_rule(layer) or rule_for(layer)):
            raise unknown_layer(layer)

    def custom_rule(self, layer: Layer) -> Any:
        """The rule that the user gives for this class, if any."""
        return self.custom.get(layer.class_name) or self.custom.get(layer.registered)

    def find_shared(self, layer: Layer) -> None:
        """Note where the weights are of layers that stand in several places: in the first."""
        if not layer.store.is_empty:
            # Inside another model the first one may not say that it is shared.
            self.shared.setdefault((layer.class_name, layer.name), layer)
            if layer.shared is not None:
                self.shared.setdefault(layer.shared, layer)
        if layer.is_model:
            inside: Iterable[Layer] = layer.model_layers()
        else:
            rule = rule_for(layer)
            inside = rule.inside(layer).values() if rule is not None else ()
        for inner in inside:
            self.find_shared(inner)

    def _with_shared_weights(self, layer: Layer) -> Layer:
        # Keras 2 does not say which layers are shared.
        if (layer.shared is None and not self.is_keras_2) or not layer.store.is_empty:
            return layer
        named = self.shared.get((layer.class_name, layer.name))
        first = self.shared.get(layer.shared, named)
        return layer if first is None else replace(layer, store=first.store)

    def _origin(self, name: str) -> Origin:
        return Origin(self.place, "/".join((*self.outer, name)))

    def _builder(self, name: str) -> LayerBuilder:
        def run(graph: FrontendBuilder, layer: Layer, arguments: Mapping[str, Nested]) -> Nested:
            return replace(self, build=graph).call(layer, NodeCall((), arguments))

        origin = self._origin(name)
        return LayerBuilder(self.build, origin, run, self.custom, self.is_keras_2, self.backend)


class _Nothing:
    """A value that could not be computed."""


BROKEN = _Nothing()


class _Call:
    """One call of a layer, as ``Layer.__call__`` of Keras does it.

    Floating-point inputs get the layer's type. A parameter ``mask``, or ``query_mask`` beside
    ``query``, that is not given is the mask of the value. What is behind the layer has the mask
    that the layer computes from that of its first argument.
    """

    def __init__(self, models: Models, layer: Layer, call: NodeCall) -> None:
        self.models, self.layer = models, layer
        self.custom = models.custom_rule(layer)
        rule = rule_for(layer)
        if rule is None and self.custom is None:
            raise unknown_layer(layer)
        self.rule = rule or Rule(lambda *_: None, casts=False)
        self.arguments = self._bound(call)

    def _bound(self, call: NodeCall) -> dict[str, Nested]:
        """The arguments by name, those that are not given left out."""
        names = [*self.rule.parameters]
        if self.custom is not None:
            names += [f"input_{n}" for n in range(len(names), len(call.args))]
        if len(call.args) > len(names):
            raise GraphError(f"{self.layer.class_name} is called with {len(call.args)} arguments")
        found = dict(zip(names, call.args, strict=False))
        found.update(call.kwargs)
        # Keras 3 overrules it where a model is not trained, as all its layers are told so.
        if found.pop("training", None) is True and self.models.is_keras_2:
            raise UnsupportedOperator(
                f"{self.layer.class_name} is called with training=True, so that it trains",
                remedy="Call it without",
            )
        for name in found:
            if name not in names and self.custom is None and found[name] is not None:
                raise UnsupportedOperator(
                    f"{self.layer.class_name} is called with {name}=, which is not known",
                    remedy=nearest(name, names),
                )
        return found

    def outputs(self) -> Nested:
        layer, build = self.layer, self.models._builder(self.layer.name)
        if self.rule.casts and self.custom is None:
            self.arguments = mapped(self._cast_to(build, layer.dtype), self.arguments)
        previous = self._take_masks()
        inputs = Inputs(self.arguments)
        found = (self.custom or self.rule.function)(build, layer, inputs)
        found = mapped(lambda leaf: self._checked(leaf, inputs), found)
        if not flatten(found):
            raise GraphError(f"the rule of {layer.class_name} gives no value")
        return self._with_masks(build, found, inputs, previous)

    @staticmethod
    def _cast_to(build: LayerBuilder, dtype: DType) -> Callable[[Any], Any]:
        def cast(leaf: Any) -> Any:
            if not isinstance(leaf, Value) or not dtype.is_float:
                return leaf
            if not build.type(leaf).dtype.is_float or build.type(leaf).dtype is dtype:
                return leaf
            return masked(build.cast(leaf, dtype), leaf.mask)

        return cast

    def _take_masks(self) -> Nested:
        """Masks that nobody gives are those of the values. The mask of the first argument."""
        tensors = {k: v for k, v in self.arguments.items() if _has_tensor(v)}
        names = self.rule.parameters
        if len(tensors) == 1:
            if "mask" in names and self.arguments.get("mask") is None:
                self.arguments["mask"] = mapped(_mask_of, next(iter(tensors.values())))
        else:
            for name, value in tensors.items():
                other = f"{name}_mask"
                if other in names and self.arguments.get(other) is None:
                    self.arguments[other] = mapped(_mask_of, value)
        given = self.arguments.get("mask")
        first = next(iter(self.arguments.values()), None)
        return given if given is not None else mapped(_mask_of, first)

    def _checked(self, leaf: Any, inputs: Inputs) -> Value:
        if not isinstance(leaf, str) or not self.models.build.has(leaf):
            raise GraphError(f"the rule of {self.layer.class_name} gives {leaf!r}, not a value")
        given = (v for a in inputs.arguments.values() for v in flatten(a))
        is_input = any(leaf is v for v in given)
        return leaf if isinstance(leaf, Value) and not is_input else Value(leaf)

    def _with_masks(
        self, build: LayerBuilder, found: Nested, inputs: Inputs, previous: Nested
    ) -> Nested:
        outputs = flatten(found)
        if self.rule.mask is None or all(o.mask is not None for o in outputs):
            return found
        if not flatten(previous) and not self.rule.makes_mask:
            return found
        masks = self.rule.mask(build, self.layer, inputs, previous)
        listed = list(masks) if isinstance(masks, (list, tuple)) else [masks]
        # As Keras does: None counts here, and what is left over has no mask.
        pairs = dict(zip(map(id, outputs), listed, strict=False))

        def with_mask(value: Value) -> Value:
            mask = pairs.get(id(value))
            return value if value.mask is not None or mask is None else masked(value, mask)

        return mapped(with_mask, found)


def _mask_of(leaf: Any) -> Value | None:
    return leaf.mask if isinstance(leaf, Value) else None


def _has_tensor(nested: Nested) -> bool:
    return any(isinstance(leaf, Value) for leaf in flatten(nested))


def _unpacked(found: Nested) -> Nested:
    return found[0] if isinstance(found, (list, tuple)) and len(found) == 1 else found


def unknown_layer(layer: Layer) -> UnsupportedOperator:
    """Why there is no rule for a layer."""
    name, kind = layer.class_name, "keras.ops." if layer.is_operation else ""
    theirs = layer.module.partition(".")[0] not in ("", "keras", "tf_keras")
    if name == "Lambda":
        return UnsupportedOperator(
            "is a Lambda layer, whose code is not run",
            remedy="Give the model itself to sofie_rdf.from_keras, which traces keras.ops, or say "
            'what it is: custom_objects={"Lambda": rule}',
        )
    if name in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"):
        what = layer.config.get("function") or layer.name
        return UnsupportedOperator(
            f"is the function {what} of TensorFlow, which is not supported",
            remedy="Write it with layers, or with keras.ops in Keras 3",
        )
    remedy = f'Say what it is: custom_objects={{"{name}": rule}}; see from_keras'
    if theirs:
        remedy += "; or give the model itself to sofie_rdf.from_keras, which traces keras.ops"
    else:
        near = nearest(name, (n for n in rules() if n.startswith("ops.") == bool(kind)))
        remedy = near or remedy
    what = f"is the custom layer {name}" if theirs else f"is {kind}{name}"
    return UnsupportedOperator(f"{what}, which is not supported", remedy=remedy)


# The calls of a Functional -----------------------------------------------------------------------


def _calls(model: Layer) -> dict[str, list[NodeCall]]:
    """The calls of each layer of a model."""
    data = model.config["layers"]
    names = [str(d.get("name") or (d.get("config") or {}).get("name")) for d in data]
    if len(set(names)) < len(names):
        raise CorruptFile("has two layers of one name")
    known = set(names)
    return {
        name: [_node_call(node, known) for node in d.get("inbound_nodes") or []]
        for name, d in zip(names, data, strict=True)
    }


def _node_call(node: Any, names: set[Any]) -> NodeCall:
    if isinstance(node, NodeCall):  # Of a model in memory.
        return node
    if isinstance(node, Mapping):
        args = arguments_of(node.get("args") or ())
        kwargs = arguments_of(node.get("kwargs") or {})
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise CorruptFile("has a call without arguments")
        return NodeCall(tuple(args), kwargs)
    if not isinstance(node, list) or not node:
        raise CorruptFile("has a call that is no list of layers")
    # Keras 2: [[layer, node, tensor, arguments], ...], or one such list alone.
    entries = [node] if isinstance(node[0], str) else node
    found, kwargs = [], {}
    for entry in entries:
        if not isinstance(entry, list) or not 3 <= len(entry) <= 4:
            raise CorruptFile(f"has a call with {entry!r}, which is no value")
        if entry[0] == "_CONSTANT_VALUE":
            found.append(entry[2])
        else:
            found.append(_ref(entry[:3]))
        if len(entry) == 4 and isinstance(entry[3], Mapping):
            kwargs.update({k: _old_argument(v, names) for k, v in entry[3].items()})
    return NodeCall((found[0] if len(found) == 1 else found,), kwargs)


def _old_argument(value: Any, names: set[Any]) -> Any:
    """A keyword argument of Keras 2: a plain value, or [layer, node, tensor]."""
    if isinstance(value, list) and len(value) >= 3 and value[0] in names:
        return _ref(value[:3])
    if isinstance(value, list) and len(value) == 3 and value[0] == "_CONSTANT_VALUE":
        return value[2]
    if isinstance(value, list):
        return [_old_argument(v, names) for v in value]
    return value


def _ref(entry: Sequence[Any]) -> Ref:
    layer, node, tensor = entry
    if not isinstance(layer, str) or not isinstance(node, int) or not isinstance(tensor, int):
        raise CorruptFile(f"has {list(entry)!r} where a value should be")
    if node < 0 or tensor < 0:
        raise CorruptFile(f"has {list(entry)!r} where a value should be")
    return Ref(layer, node, tensor)


def structure_of(given: Any) -> Nested:
    """The inputs or outputs of a model: lists or dicts of values, or one value."""
    if isinstance(given, Ref):
        return given
    if isinstance(given, (list, tuple)) and len(given) == 3 and isinstance(given[0], str):
        return _ref(given)
    if isinstance(given, Mapping):
        return {str(k): structure_of(v) for k, v in given.items()}
    if isinstance(given, (list, tuple)):
        return [structure_of(v) for v in given]
    raise CorruptFile("does not say what its inputs and outputs are")


def arguments_of(data: Any) -> Nested:
    """Arguments of a call in a file, as Python objects; values are `Ref`."""
    if isinstance(data, list):
        return [arguments_of(item) for item in data]
    if not isinstance(data, Mapping):
        return data
    kind, config = data.get("class_name"), data.get("config")
    if not isinstance(kind, str) or "config" not in data:
        return {k: arguments_of(v) for k, v in data.items()}
    if not isinstance(config, Mapping):
        return data
    if kind == "__keras_tensor__":
        layer, node, tensor = config["keras_history"]
        shape = config.get("shape")
        known = None if shape is None else tuple(shape)
        return replace(_ref((layer, node, tensor)), shape=known, dtype=str(config.get("dtype")))
    if kind == "__tuple__":
        return tuple(arguments_of(list(config["value"])))
    if kind == "__slice__":
        return slice(*(arguments_of(config.get(k)) for k in ("start", "stop", "step")))
    if kind == "__ellipsis__":
        return ...
    if kind in ("__numpy__", "__tensor__"):
        return np.asarray(config["value"], DType(config["dtype"]).numpy)
    return data


def refs_in(call: NodeCall) -> list[Ref]:
    """The values that a call reads, those in slices included."""
    found = []
    for leaf in call.leaves:
        parts = (leaf.start, leaf.stop, leaf.step) if isinstance(leaf, slice) else (leaf,)
        found += [p for p in parts if isinstance(p, Ref)]
    return found


def _in_order(model: Layer, wanted: Sequence[Ref], inputs: Nested) -> list[Value]:
    """The values for the inputs of a model, in its order."""
    values = flatten(inputs)
    names = [ref.layer for ref in wanted]
    if isinstance(inputs, Mapping) and set(names) <= set(inputs):
        values = [inputs[n] for n in names]
    if len(values) != len(wanted):
        raise GraphError(f"{model.name!r} has {len(wanted)} inputs, not {len(values)}")
    return values


class _Shifts:
    """Where the numbers of calls begin: models that are layers have had a call before the first.

    Keras 2 counts that one everywhere, Keras 3 only where it names the outputs of a model.
    """

    def __init__(
        self,
        model: Layer,
        layers: Mapping[str, Layer],
        nodes: Mapping[str, Sequence[NodeCall]],
    ) -> None:
        self.layers = layers
        self.old = any(
            isinstance(node, list)
            for data in model.config["layers"]
            for node in data.get("inbound_nodes") or []
        )
        outputs = flatten(structure_of(model.config.get("output_layers")))
        read = [r for calls in nodes.values() for c in calls for r in refs_in(c)]
        self.read: dict[str, set[int]] = {}
        for ref in (*outputs, *read):
            self.read.setdefault(ref.layer, set()).add(ref.node)

    def key(self, ref: Ref) -> tuple[str, int]:
        layer = self.layers.get(ref.layer)
        if layer is None:
            raise CorruptFile(f"reads {ref.layer!r}, which is no layer")
        shift = int(self.old and layer.is_model and 0 not in self.read[ref.layer])
        return ref.layer, ref.node - shift

    def output_key(self, ref: Ref) -> tuple[str, int]:
        layer = self.layers.get(ref.layer)
        counted = layer is not None and layer.is_model and layer.class_name != "Sequential"
        if not self.old and counted and ref.node > 0:
            return ref.layer, ref.node - 1
        return self.key(ref)


def _order(
    nodes: Mapping[str, Sequence[NodeCall]],
    shifts: _Shifts,
    known: Mapping[tuple[str, int], Any],
) -> list[tuple[str, int]]:
    """All calls in an order that can run; `GraphError` for a circle."""
    needed = {
        (name, number): {shifts.key(r) for r in refs_in(call)}
        for name, calls in nodes.items()
        for number, call in enumerate(calls)
        if (name, number) not in known
    }
    for key, reads in needed.items():
        for other in reads:
            if other not in needed and other not in known:
                raise CorruptFile(f"layer {key[0]!r} reads {other[0]!r}, which nothing computes")
    done, order = set(known), []
    readers: dict[tuple[str, int], list[tuple[str, int]]] = {}
    waiting = {}
    for key, reads in needed.items():
        missing = reads - done
        waiting[key] = len(missing)
        for other in missing:
            readers.setdefault(other, []).append(key)
    ready = [key for key, count in waiting.items() if not count]
    while ready:
        key = ready.pop(0)
        order.append(key)
        for reader in readers.get(key, ()):
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if len(order) < len(needed):
        stuck = sorted({name for name, _ in needed.keys() - set(order)})
        raise GraphError(f"layers {stuck[:5]} wait for each other: the graph has a circle")
    return order


def dims_of(name: str, sizes: Sequence[int | None], given: Sequence[Any] | None) -> tuple[Dim, ...]:
    """The sizes of an input: those that are given, else the file's; the open ones get names."""
    found: list[Dim] = []
    for axis, size in enumerate(sizes):
        wanted = given[axis] if given is not None else None
        if isinstance(wanted, str):
            found.append(symbol(wanted))
        elif wanted is not None or size is not None:
            found.append(int(size if wanted is None else wanted))  # type: ignore[arg-type]
        else:
            found.append(symbol("N" if axis == 0 else f"{name}_{axis}"))
    return tuple(found)
