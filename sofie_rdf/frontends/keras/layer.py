"""A layer of Keras as a rule sees it: class, name, config and weights; and what a call gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np

from sofie_rdf.errors import CorruptFile, GraphError, UnsupportedOperator
from sofie_rdf.frontends.keras.registry import is_function, rule_for
from sofie_rdf.frontends.keras.weights import NoWeights, Weights, snake_case
from sofie_rdf.ir.types import Array, DType

__all__ = [
    "Inputs",
    "Layer",
    "Nested",
    "Value",
    "Variable",
    "flatten",
    "listed",
    "mapped",
    "masked",
    "policy_dtype",
]


class Value(str):
    """The name of a value in the graph, and the value that is Keras's mask for it, if any."""

    mask: Value | None = None


# A value, or lists, tuples and dicts of values and of plain Python objects.
Nested: TypeAlias = Any
_T = TypeVar("_T")


def masked(name: str, mask: str | None) -> Value:
    """The value under this mask."""
    value = Value(name)
    value.mask = None if mask is None else Value(mask)
    return value


def flatten(nested: Nested) -> list[Any]:
    """All leaves, dicts in the order of their keys, as Keras orders them; None is none."""
    if nested is None:
        return []
    if isinstance(nested, Mapping):
        return [leaf for key in sorted(nested) for leaf in flatten(nested[key])]
    if isinstance(nested, (list, tuple)):
        return [leaf for item in nested for leaf in flatten(item)]
    return [nested]


def mapped(function: Callable[[Any], Any], nested: Nested) -> Nested:
    """The same structure with other leaves."""
    if isinstance(nested, Mapping):
        return {key: mapped(function, item) for key, item in nested.items()}
    if isinstance(nested, (list, tuple)):
        return type(nested)(mapped(function, item) for item in nested)
    return function(nested)


def listed(given: Any, count: int, what: str) -> tuple[int, ...]:
    """A number for each axis, from one number or from as many."""
    sizes = (given,) * count if isinstance(given, int) else tuple(given)
    if len(sizes) != count or not all(isinstance(s, int) for s in sizes):
        raise GraphError(f"{what} is {given!r}, not {count} numbers")
    return sizes


@dataclass(frozen=True)
class Variable:
    """A weight that a layer should have: where it is in the layer, and whether it is trained."""

    path: str
    name: str
    trainable: bool
    # The same in the layer alone: a layer that stands in two models is listed once.
    alone: str = ""


# Weights that no training changes by gradients: .h5 files have them behind the others.
_NOT_TRAINED = frozenset(
    {"moving_mean", "moving_variance", "mean", "variance", "count", "vector_u", "vector_v"}
)


@dataclass(frozen=True)
class Layer:
    """A layer of a model, or of another layer: what its config and its weights say.

    ``config`` are the arguments with which it was made, as Keras writes them. ``weights`` are all
    of its own, in Keras's order; `weight` has one by name, where the layer is Keras's.
    """

    class_name: str
    config: Mapping[str, Any]
    store: Weights = field(default_factory=NoWeights)
    module: str = ""
    registered: str = ""
    # What the layer was built with: shapes of inputs.
    built: Mapping[str, Any] = field(default_factory=dict)
    shared: int | None = None

    @classmethod
    def of(cls, data: Any, store: Weights) -> Layer:
        """The layer that a config of Keras describes."""
        if not isinstance(data, Mapping) or not isinstance(data.get("class_name"), str):
            raise CorruptFile("has a layer without class")
        config = data.get("config")
        # Keras before 2.2 wrote a list where the config of a Sequential is.
        config = {"layers": config} if isinstance(config, list) else config
        if not isinstance(config, Mapping):
            raise CorruptFile(f"has a {data['class_name']} without config")
        if "name" not in config and isinstance(data.get("name"), str):
            config = {**config, "name": data["name"]}
        return cls(
            data["class_name"].rpartition(">")[2],
            config,
            store,
            data.get("module") or "",
            data.get("registered_name") or "",
            data.get("build_config") or {},
            data.get("shared_object_id"),
        )

    @property
    def name(self) -> str:
        return str(self.config.get("name") or snake_case(self.class_name))

    @property
    def is_operation(self) -> bool:
        """Whether it is a function of keras.ops; .h5 files do not say so, but have less of it."""
        if self.module:
            return ".ops" in self.module
        is_layer = "trainable" in self.config or "layers" in self.config
        return not is_layer and is_function(self.class_name, has_dtype="dtype" in self.config)

    @property
    def is_model(self) -> bool:
        return "layers" in self.config and self.class_name in ("Functional", "Model", "Sequential")

    def child(self, attribute: str, data: Any = None) -> Layer:
        """The layer that is in an attribute; ``data`` is its config, which may be in another."""
        found = self.config.get(attribute) if data is None else data
        return Layer.of(found, self.store.child(attribute))

    # Weights -------------------------------------------------------------------------------------

    def variable_names(self) -> list[str] | None:
        """What its own weights are called, in Keras's order; None where Keras has no such layer."""
        rule = rule_for(self)
        return None if rule is None else rule.variables(self)

    def declared(self) -> Iterator[Variable]:
        """All weights, those of what is inside included, in the order in which Keras has them."""
        if self.is_model:
            for layer in self.model_layers():
                for one in layer.declared():
                    path = f"{layer.name}/{one.path}"
                    yield replace(one, path=path, alone=one.alone or path)
            return
        if self.is_operation or self.class_name == "InputLayer":
            return
        rule = rule_for(self)
        if rule is None:
            raise UnsupportedOperator(
                f"{self.class_name} is no layer of Keras, so that nobody knows which weights of "
                "the .h5 file are its own",
                remedy="Save the model as .keras",
            )
        trainable = bool(self.config.get("trainable", True))
        for name in rule.variables(self):
            yield Variable(name, name, trainable and name not in _NOT_TRAINED)
        for attribute, inner in rule.inside(self).items():
            for one in inner.declared():
                yield replace(one, path=f"{attribute}/{one.path}")

    def model_layers(self) -> list[Layer]:
        """The layers of a model, each with its weights."""
        given = self.config.get("layers")
        if not isinstance(given, list):
            raise CorruptFile(f"{self.class_name} {self.name!r} has no list of layers")
        layers = [Layer.of(data, NoWeights()) for data in given]
        # Files have weights of layers alone; a Sequential does not count its input.
        own = [
            n
            for n, layer in enumerate(layers)
            if not layer.is_operation
            and (self.class_name != "Sequential" or layer.class_name != "InputLayer")
        ]
        classes, names = [layers[n].class_name for n in own], [layers[n].name for n in own]
        for n, store in zip(own, self.store.layers(classes, names), strict=True):
            layers[n] = replace(layers[n], store=store)
        return layers

    @property
    def weights(self) -> list[Array]:
        """Its own weights; `CorruptFile` for numbers that are no numbers."""
        names = self.variable_names()
        arrays = self.store.own(names)
        for number, array in enumerate(arrays):
            name = names[number] if names and number < len(names) else str(number)
            floating = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
            if floating and np.isnan(array).any():
                raise CorruptFile(
                    f"weight {name!r} holds NaN",
                    remedy="The training has diverged, or the file is damaged",
                )
        return arrays

    def weight(self, name: str, shape: Sequence[int | None] | None = None) -> Array:
        """One of its own weights, of the layer's element type; None in ``shape`` is any size."""
        names = self.variable_names() or []
        arrays = self.weights
        if len(arrays) != len(names):
            raise CorruptFile(
                f"{self.class_name} has {len(arrays)} weights, not {len(names)}: {names}",
                remedy="The file is damaged, or was written before the layer was built",
            )
        array = arrays[names.index(name)]
        if shape is not None:
            fits = array.ndim == len(shape) and all(
                w is None or w == g for w, g in zip(shape, array.shape, strict=True)
            )
            if not fits:
                wanted = ["any" if s is None else s for s in shape]
                raise CorruptFile(f"weight {name!r} has the shape {array.shape}, not {wanted}")
        if not (array.dtype.kind == "f" or array.dtype.name == "bfloat16"):
            return array
        return array.astype(self.dtype.numpy)

    # Element types -------------------------------------------------------------------------------

    @property
    def dtype(self) -> DType:
        """The type that it computes in; `UnsupportedOperator` for quantised layers."""
        return policy_dtype(self.config.get("dtype"))


def policy_dtype(policy: Any) -> DType:
    """The element type in which a layer under this policy computes."""
    if isinstance(policy, Mapping):
        kind, config = policy.get("class_name"), policy.get("config") or {}
        if kind == "DTypePolicyMap":
            policy = config.get("default_policy") or "float32"
            if config.get("policy_map"):
                raise UnsupportedOperator("a DTypePolicyMap is not supported")
            return policy_dtype(policy)
        if kind not in ("DTypePolicy", "Policy"):
            raise UnsupportedOperator(
                f"a layer with a {kind} is not supported",
                remedy="Save the model before it is quantised",
            )
        policy = config.get("name")
    name = "float32" if policy in (None, "mixed_precision") else str(policy)
    name = name.removeprefix("mixed_")
    if name not in {d.value for d in DType}:
        raise UnsupportedOperator(
            f"a layer with the dtype {name!r} is not supported",
            remedy="Save the model before it is quantised" if "from" in name else "",
        )
    return DType(name)


@dataclass(frozen=True)
class Inputs:
    """What a layer is called with: ``arguments`` by the name of the parameter; values are names.

    ``x`` is the first value. A value has Keras's mask in ``mask``.
    """

    arguments: Mapping[str, Nested]

    @property
    def first(self) -> Nested:
        """The first argument: a value, or a list of them."""
        return next(iter(self.arguments.values()), None)

    @property
    def tensors(self) -> list[Value]:
        """All values of the first argument."""
        return [leaf for leaf in flatten(self.first) if isinstance(leaf, Value)]

    @property
    def x(self) -> Value:
        if not self.tensors:
            raise GraphError("is called without a tensor")
        return self.tensors[0]

    def get(self, name: str, default: Any = None) -> Nested:
        """An argument, or the default where there is none or None."""
        found = self.arguments.get(name)
        return default if found is None else found

    def value(self, name: str) -> Value | None:
        """An argument that is a value."""
        found = self.arguments.get(name)
        return found if isinstance(found, Value) else None
