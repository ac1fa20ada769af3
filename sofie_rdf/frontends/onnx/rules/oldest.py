"""Opsets 1 to 6: broadcasting had to be asked for, and attributes had other types and defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sofie_rdf.errors import GraphError, ShapeError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Shape, normal_axis
from sofie_rdf.ops.elementwise import (
    Add,
    And,
    Div,
    Equal,
    Greater,
    Less,
    Mul,
    Or,
    Pow,
    PRelu,
    Sub,
    Xor,
)
from sofie_rdf.ops.layout import Tile, Unsqueeze

__all__ = ["with_newer_attributes"]


# Attributes ---------------------------------------------------------------------------------------


def with_newer_attributes(node: OnnxNode) -> OnnxNode:
    """The node with the attributes that its operator has since opset 7."""
    if node.domain or node.version >= 7:
        return node
    # Where its memory might be reused: never more than a hint.
    attributes = {n: v for n, v in node.attributes.items() if n != "consumed_inputs"}
    below, change = _CHANGES.get(node.op_type, (0, _drop()))
    if node.version < below:
        change(attributes)
    return replace(node, attributes=attributes)


def _drop(*names: str) -> Callable[[dict[str, Any]], None]:
    """Attributes without which the node means the same."""

    def change(attributes: dict[str, Any]) -> None:
        for name in names:
            attributes.pop(name, None)

    return change


def _default(**values: Any) -> Callable[[dict[str, Any]], None]:
    """Attributes whose defaults were these."""

    def change(attributes: dict[str, Any]) -> None:
        attributes.update({name: attributes.get(name, value) for name, value in values.items()})

    return change


def _whole_power(attributes: dict[str, Any]) -> None:
    power = attributes.get("p", 2.0)
    if not isinstance(power, float) or not power.is_integer():
        raise UnsupportedOperator(f"the {power}-norm is not supported: it is no whole power")
    attributes["p"] = int(power)


def _element_type(attributes: dict[str, Any]) -> None:
    import onnx

    numbers, name = dict(onnx.TensorProto.DataType.items()), attributes.get("to")
    if name not in numbers:
        raise GraphError(f"Cast to {name!r}, which is no element type")
    attributes["to"] = numbers[name]


# By operator: below which version, and what to do with its attributes.
_CHANGES: dict[str, tuple[int, Callable[[dict[str, Any]], None]]] = {
    "Cast": (6, _element_type),
    "Concat": (4, _default(axis=1)),
    # Whether c is broadcast is seen from its shape.
    "Gemm": (7, _drop("broadcast")),
    "GlobalLpPool": (2, _whole_power),
    "LpPool": (2, _whole_power),
    "Selu": (6, _default(alpha=1.673200011253357, gamma=1.0506999492645264)),
    # Which outputs are wanted is seen from their names.
    **{name: (7, _drop("output_sequence")) for name in ("GRU", "LSTM", "RNN")},
}


# Broadcasting -------------------------------------------------------------------------------------


def _explicit(op: Operator) -> None:
    """Of two inputs of different shapes the second one was broadcast, if ``broadcast`` was 1."""

    @onnx_rule(op.name, below=7, inputs=(2, 2), attributes={"axis": int, "broadcast": int})
    def rule(node: OnnxNode, build: Builder, origin: Origin) -> None:
        a, b = node.inputs
        left, right = build.type_of(a).shape, build.type_of(b).shape
        if node.attributes.get("broadcast", 0):
            b = _placed(build, b, left, node.attributes.get("axis"), origin)
        elif len(left) != len(right) or any(
            isinstance(p, int) and isinstance(q, int) and p != q
            for p, q in zip(left, right, strict=True)
        ):
            raise ShapeError(
                f"{node.op_type} of {build.type_of(a)} and {build.type_of(b)} needs broadcast=1"
            )
        build(op, a, b, outputs=node.outputs, origin=origin)


def _placed(build: Builder, b: str, left: Shape, axis: int | None, origin: Origin) -> str:
    """``b`` with axes of size 1 behind its own, so that these are ``axis`` and those after it.

    Without ``axis`` they are the last ones; a single element needs no place.
    """
    right = build.type_of(b).shape
    start = len(left) - len(right)
    if axis is not None and build.type_of(b).size != 1:
        start = normal_axis(axis, len(left))
    behind = len(left) - len(right) - start
    if start < 0 or behind < 0:
        raise ShapeError(f"{build.type_of(b)} does not fit into {len(left)} axes from {axis} on")
    if any(p == 1 and q != 1 for p, q in zip(left[start:], right, strict=False)):
        raise ShapeError(f"{build.type_of(b)} is larger than what it is broadcast to")
    axes = tuple(range(len(right), len(right) + behind))
    return build(Unsqueeze(axes), b, origin=origin) if axes else b


for _op in (Add(), And(), Div(), Equal(), Greater(), Less(), Mul(), Or(), Pow(), Sub(), Xor()):
    _explicit(_op)


@onnx_rule("PRelu", below=7, inputs=(2, 2))
def _prelu(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """One slope for each channel, or one for all."""
    x, slope = node.inputs
    shape, slopes = build.type_of(x).shape, build.type_of(slope)
    if slopes.size != 1 and slopes.rank == 1 and len(shape) > 1:
        slope = _placed(build, slope, shape, 1, origin)
    build(PRelu(), x, slope, outputs=node.outputs, origin=origin)


# Others -------------------------------------------------------------------------------------------


@onnx_rule("Tile", below=6, inputs=(3, 3))
def _tile(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """One axis was repeated, and which one was an input."""
    x, *numbers = node.inputs
    values = [build.value_of(n) for n in numbers]
    known = [v.item() for v in values if v is not None and v.size == 1]
    if len(known) < 2:
        raise UnsupportedOperator(
            "Tile needs its numbers of tiles and axis when the model is read",
            remedy="Make them constants of the model",
        )
    # They have the element type of x.
    times, axis = (int(k) if isinstance(k, float) else k for k in known)
    repeats = [1] * build.type_of(x).rank
    repeats[normal_axis(axis, len(repeats))] = times
    build(Tile(tuple(repeats)), x, outputs=node.outputs, origin=origin)
