"""The engine of rules: what a layer of Keras means in terms of our operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.frontends.common.builders import FrontendBuilder
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Nested, Value
from sofie_rdf.frontends.keras.registry import LAYERS, OPERATIONS
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.casts import Cast

__all__ = ["LayerBuilder", "Rule", "keras_rule", "operation_rule"]


@dataclass
class LayerBuilder:
    """Where a layer's nodes go: `build(op, *inputs)` gives the name of the first output."""

    graph: FrontendBuilder
    origin: Origin
    # (builder, layer, arguments) -> outputs of another layer; see `run`.
    runner: Callable[[FrontendBuilder, Layer, Mapping[str, Nested]], Nested]
    # What the user says about classes and functions that are not Keras's.
    custom: Mapping[str, Callable[..., Nested]] = field(default_factory=dict)
    # Whether the model is one of Keras 2, whose functions are not all the same.
    is_keras_2: bool = False
    # The backend of Keras with which it was saved, where that is known.
    backend: str = ""

    def __call__(self, op: Operator, *inputs: str) -> Value:
        return self.all(op, 1, *inputs)[0]

    def all(self, op: Operator, count: int, *inputs: str) -> list[Value]:
        """The first ``count`` outputs of an operator."""
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        first = self.graph.fresh(f"{self.origin.name}/{op.name.lower()}")
        rest = [self.graph.fresh(f"{first}_output_{n}") for n in range(1, count)]
        self.graph(op, *given, outputs=(first, *rest), origin=self.origin)
        return [Value(name) for name in (first, *rest)]

    def run(self, layer: Layer, arguments: Mapping[str, Nested]) -> Nested:
        """The outputs of another layer, one that is inside this one."""
        return self.runner(self.graph, layer, arguments)

    def constant(self, array: Any, name: str = "constant", dtype: Any = None) -> Value:
        """A constant of the network."""
        found: Array = np.asarray(array, dtype)
        return Value(self.graph.constant(found, self.graph.fresh(f"{self.origin.name}/{name}")))

    def like(self, number: float, x: str) -> Value:
        """A number of the element type of x."""
        return self.constant(number, dtype=self.type(x).dtype.numpy)

    def type(self, name: str) -> TensorType:
        """The element type and the shape of a value."""
        return self.graph.type_of(name)

    def shape(self, name: str) -> Shape:
        return self.graph.type_of(name).shape

    def rank(self, name: str) -> int:
        return self.graph.type_of(name).rank

    def size(self, name: str, axis: int) -> int:
        """A size that must be a number."""
        dim: Dim = self.shape(name)[axis]
        if not isinstance(dim, int):
            raise UnsupportedOperator(
                f"needs the size of axis {axis} of its input, which is {dim}",
                remedy="Fix it with shapes=",
            )
        return dim

    def cast(self, x: str, dtype: DType) -> Value:
        """x in this element type."""
        return Value(x) if self.type(x).dtype is dtype else self(Cast(dtype), x)


Outputs: TypeAlias = Nested
RuleFunction: TypeAlias = Callable[[LayerBuilder, Layer, Inputs], Outputs]
# (builder, layer, inputs, mask of the first argument) -> masks of the outputs.
MaskFunction: TypeAlias = Callable[[LayerBuilder, Layer, Inputs, Nested], Nested]


def passed(build: LayerBuilder, layer: Layer, inputs: Inputs, mask: Nested) -> Nested:
    """The mask goes on as it is."""
    return mask


@dataclass(frozen=True)
class Rule:
    """How a layer is read: its function, its weights, its parameters and what it does to masks."""

    function: RuleFunction
    # ``kernel bias?use_bias``: names, and the argument without which there is no such weight.
    weights: str | Callable[[Layer], list[str]] = ""
    # Layers inside, in Keras's order, by attribute.
    children: Callable[[Layer], Mapping[str, Layer]] | None = None
    parameters: tuple[str, ...] = ("inputs",)
    mask: MaskFunction | None = None
    # Whether Keras converts floating-point inputs to the layer's own type.
    casts: bool = True
    # Whether values behind it have a mask where those before it have none.
    makes_mask: bool = False

    def variables(self, layer: Layer) -> list[str]:
        """What the layer's own weights are called, in Keras's order."""
        if not isinstance(self.weights, str):
            return self.weights(layer)
        found = []
        for word in self.weights.split():
            name, _, flag = word.partition("?")
            if not flag or layer.config.get(flag, True):
                found.append(name)
        return found

    def inside(self, layer: Layer) -> Mapping[str, Layer]:
        return self.children(layer) if self.children else {}


def keras_rule(
    *names: str,
    weights: str | Callable[[Layer], list[str]] = "",
    children: Callable[[Layer], Mapping[str, Layer]] | None = None,
    parameters: str = "inputs",
    mask: MaskFunction | None = None,
    casts: bool = True,
    makes_mask: bool = False,
) -> Callable[[RuleFunction], RuleFunction]:
    """Decorator: the rule for layers of these classes.

    The rule writes the layer through the builder and returns the names of its outputs. ``mask`` is
    what becomes of a mask; None: the layer has none behind it. See `Rule`.
    """

    def register(function: RuleFunction) -> RuleFunction:
        for name in names:
            if name in LAYERS:
                raise TypeError(f"there is a rule for {name} already")
            words = tuple(parameters.split())
            LAYERS[name] = Rule(function, weights, children, words, mask, casts, makes_mask)
        return function

    return register


def operation_rule(*names: str, parameters: str = "x") -> Callable[[RuleFunction], RuleFunction]:
    """Decorator: the rule for functions of keras.ops; ``parameters`` are those of its call."""

    def register(function: RuleFunction) -> RuleFunction:
        for name in names:
            if name in OPERATIONS:
                raise TypeError(f"there is a rule for ops.{name} already")
            OPERATIONS[name] = Rule(function, parameters=tuple(parameters.split()), casts=False)
        return function

    return register
