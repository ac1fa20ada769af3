"""What older opsets, and nodes that are no operators, mean in terms of the newest operators.

A rule writes its node through the Builder. Attributes that have become inputs need no rule: an
operator's field takes either (see `from_input`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator, nearest
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, normal_axis
from sofie_rdf.ops.elementwise import Cast, Clip, TrueLike
from sofie_rdf.ops.layout import Dropout
from sofie_rdf.ops.normalization import (
    BatchNormalization,
    FlatLogSoftmax,
    FlatSoftmax,
    LogSoftmax,
    Softmax,
)

__all__ = ["OnnxNode", "rule_for"]


@dataclass(frozen=True)
class OnnxNode:
    """A node of a file: attributes as Python values, ``version`` that of its operator set."""

    name: str
    domain: str
    op_type: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


Rule: TypeAlias = Callable[[OnnxNode, Builder, Origin], None]
_NEWEST = 10_000


@dataclass(frozen=True)
class _Form:
    """For which nodes a rule is: below which version, with what inputs, outputs and attributes."""

    rule: Rule
    below: int
    inputs: tuple[int, int]
    outputs: int
    attributes: Mapping[str, type]

    def check(self, node: OnnxNode) -> None:
        """`GraphError` or `UnsupportedOperator` for a node that is not of this form."""
        least, most = self.inputs
        if not least <= len(node.inputs) <= most or "" in node.inputs[:least]:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise GraphError(f"{node.op_type} takes {wanted} inputs, not {list(node.inputs)}")
        if not 1 <= len(node.outputs) <= self.outputs or not node.outputs[0]:
            raise GraphError(f"{node.op_type} cannot have the outputs {list(node.outputs)}")
        for name, value in node.attributes.items():
            if name not in self.attributes:
                raise UnsupportedOperator(
                    f"{node.op_type} has no attribute {name!r}",
                    remedy=nearest(name, self.attributes),
                )
            if not isinstance(value, self.attributes[name]):
                raise GraphError(f"attribute {name!r} of {node.op_type} has the wrong type")


_RULES: dict[str, _Form] = {}


def rule_for(node: OnnxNode) -> Rule | None:
    """The rule for nodes of this operator and version, if there is one; it checks them first."""
    form = _RULES.get(node.op_type)
    if form is None or node.domain or node.version >= form.below:
        return None

    def checked(node: OnnxNode, build: Builder, origin: Origin) -> None:
        form.check(node)
        form.rule(node, build, origin)

    return checked


def _rule(
    op_type: str,
    *,
    below: int = _NEWEST,
    inputs: tuple[int, int] = (1, 1),
    outputs: int = 1,
    attributes: Mapping[str, type] = MappingProxyType({}),
) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES[op_type] = _Form(rule, below, inputs, outputs, attributes)
        return rule

    return register


_CONSTANTS: Mapping[str, type] = {
    "value": np.ndarray,
    "value_float": float,
    "value_floats": tuple,
    "value_int": int,
    "value_ints": tuple,
    "value_string": str,
    "value_strings": tuple,
    "sparse_value": object,
}


@_rule("Constant", inputs=(0, 0), attributes=_CONSTANTS)
def _constant(node: OnnxNode, build: Builder, _: Origin) -> None:
    """The value is the model's constant; no node is left."""
    if len(node.attributes) != 1:
        raise GraphError(f"Constant has one value, not {list(node.attributes)}")
    ((name, value),) = node.attributes.items()
    kinds = {"value_float": np.float32, "value_int": np.int64}
    if name == "value":
        build.constant(value, node.outputs[0])
    elif name.rstrip("s") in kinds:
        array: Array = np.asarray(value, dtype=kinds[name.rstrip("s")])
        build.constant(array, node.outputs[0])
    else:
        raise UnsupportedOperator(f"Constant with {name!r} is not supported")


@_rule("Clip", below=11, attributes={"min": float, "max": float})
def _clip(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """The bounds were attributes."""
    (x,) = node.inputs
    dtype = build.types[x].dtype.numpy
    bounds = []
    for name in ("min", "max"):
        given = node.attributes.get(name)
        bounds.append("" if given is None else build.constant(np.array(given, dtype)))
    while bounds and not bounds[-1]:
        bounds.pop()
    build(Clip(), x, *bounds, outputs=node.outputs, origin=origin)


@_rule(
    "Dropout",
    inputs=(1, 3),
    outputs=2,
    attributes={"ratio": float, "seed": int, "is_test": int},
)
def _dropout(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Of an inference model only: x itself, and a mask of which every element is true."""
    training = node.inputs[2] if len(node.inputs) > 2 else ""
    if training and (training not in build.constants or build.constants[training].any()):
        raise UnsupportedOperator(
            "Dropout in training mode is random",
            remedy="Export the model for inference, e.g. after model.eval()",
        )
    x = node.inputs[0]
    build(Dropout(), x, outputs=node.outputs[:1], origin=origin)
    if len(node.outputs) > 1 and node.outputs[1]:
        mask, old = node.outputs[1:], node.version < 10
        true = build(TrueLike(), x, outputs=() if old else mask, origin=origin)
        if old:  # The mask was of the element type of x.
            build(Cast(build.types[x].dtype), true, outputs=mask, origin=origin)


def _softmax_over_the_rest(one: Callable[[int], Operator], all_: Callable[[int], Operator]) -> Rule:
    """Before opset 13: one distribution over all axes from ``axis`` on."""

    def rule(node: OnnxNode, build: Builder, origin: Origin) -> None:
        (x,) = node.inputs
        rank = build.types[x].rank
        axis = normal_axis(node.attributes.get("axis", 1), rank, end=True)
        op = one(-1) if axis == rank - 1 else all_(axis)
        build(op, x, outputs=node.outputs, origin=origin)

    return rule


_rule("Softmax", below=13, attributes={"axis": int})(_softmax_over_the_rest(Softmax, FlatSoftmax))
_rule("LogSoftmax", below=13, attributes={"axis": int})(
    _softmax_over_the_rest(LogSoftmax, FlatLogSoftmax)
)


_STATISTICS = {"epsilon": float, "momentum": float, "spatial": int}


@_rule("BatchNormalization", below=9, inputs=(5, 5), outputs=5, attributes=_STATISTICS)
def _batch_normalization(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """``spatial`` was 1, as it is now always, or statistics were kept for every position."""
    if not node.attributes.get("spatial", 1):
        raise UnsupportedOperator("BatchNormalization with spatial=0 is not supported")
    if any(node.outputs[1:]):
        raise UnsupportedOperator(
            "BatchNormalization with other outputs than y is that of a training",
            remedy="Export the model for inference, e.g. after model.eval()",
        )
    epsilon = node.attributes.get("epsilon", 1e-5)
    outputs = node.outputs[:1]
    build(BatchNormalization(epsilon=epsilon), *node.inputs, outputs=outputs, origin=origin)
