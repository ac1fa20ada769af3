"""What older opsets, and nodes that are no operators, mean in terms of the newest operators.

A rule writes its node through the Builder. Attributes that have become inputs need no rule: an
operator's field takes either (see `from_input`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, normal_axis
from sofie_rdf.ops.elementwise import Clip, TrueLike
from sofie_rdf.ops.layout import Dropout, Flatten, Reshape
from sofie_rdf.ops.normalization import BatchNormalization, LogSoftmax, Softmax

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
_RULES: dict[str, tuple[int, Rule]] = {}


def rule_for(node: OnnxNode) -> Rule | None:
    """The rule for nodes of this operator and version, if there is one."""
    below, rule = _RULES.get(node.op_type, (0, None))
    return rule if not node.domain and node.version < below else None


def _rule(op_type: str, *, below: int = _NEWEST) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES[op_type] = (below, rule)
        return rule

    return register


@_rule("Constant")
def _constant(node: OnnxNode, build: Builder, _: Origin) -> None:
    """The value is the model's constant; no node is left."""
    kinds = {"value_float": np.float32, "value_int": np.int64}
    for name, value in node.attributes.items():
        if name == "value":
            build.constant(value, node.outputs[0])
        elif name.rstrip("s") in kinds:
            array: Array = np.asarray(value, dtype=kinds[name.rstrip("s")])
            build.constant(array, node.outputs[0])
        else:
            raise UnsupportedOperator(f"Constant with {name!r} is not supported")


@_rule("Clip", below=11)
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


@_rule("Dropout")
def _dropout(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Of an inference model only: x itself, and a mask of which every element is true."""
    training = node.inputs[2] if len(node.inputs) > 2 else ""
    if training and (training not in build.constants or build.constants[training].item()):
        raise UnsupportedOperator(
            "Dropout in training mode is random",
            remedy="Export the model for inference, e.g. after model.eval()",
        )
    x = node.inputs[0]
    build(Dropout(), x, outputs=node.outputs[:1], origin=origin)
    if len(node.outputs) > 1 and node.outputs[1]:
        build(TrueLike(), x, outputs=node.outputs[1:], origin=origin)


def _softmax_over_the_rest(kind: Callable[[int], Operator]) -> Rule:
    """Before opset 13: one distribution over all axes from ``axis`` on."""

    def rule(node: OnnxNode, build: Builder, origin: Origin) -> None:
        (x,) = node.inputs
        type_ = build.types[x]
        axis = normal_axis(node.attributes.get("axis", 1), type_.rank, end=True)
        if axis == type_.rank - 1:
            build(kind(-1), x, outputs=node.outputs, origin=origin)
            return
        matrix = build(Flatten(axis), x, origin=origin)
        y = build(kind(-1), matrix, origin=origin)
        build(Reshape(type_.shape, True), y, outputs=node.outputs, origin=origin)

    return rule


_rule("Softmax", below=13)(_softmax_over_the_rest(Softmax))
_rule("LogSoftmax", below=13)(_softmax_over_the_rest(LogSoftmax))


@_rule("BatchNormalization", below=9)
def _batch_normalization(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """``spatial`` was 1, as it is now always, or statistics were kept for every position."""
    if not node.attributes.get("spatial", 1):
        raise UnsupportedOperator("BatchNormalization with spatial=0 is not supported")
    epsilon = node.attributes.get("epsilon", 1e-5)
    outputs = node.outputs[:1]
    build(BatchNormalization(epsilon=epsilon), *node.inputs, outputs=outputs, origin=origin)
