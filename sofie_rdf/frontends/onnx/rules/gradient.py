"""Gradient of ai.onnx.preview.training: the derivatives are nodes of the graph like all others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Node, Origin
from sofie_rdf.ir.types import Shape
from sofie_rdf.ops.elementwise import (
    Add,
    Cos,
    Div,
    Greater,
    Mul,
    Neg,
    Sin,
    Sub,
    Where,
)
from sofie_rdf.ops.layout import Expand, Identity, Reshape, Transpose
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.ops.reduction import ReduceSum

_MANY = 1000


@onnx_rule(
    "Gradient",
    domain="ai.onnx.preview.training",
    inputs=(1, _MANY),
    outputs=_MANY,
    attributes={"xs": tuple, "zs": tuple, "y": str},
)
def _gradient(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """dy/dx for each of xs, where y is summed over its elements; the inputs stand for xs and zs."""
    xs, zs = node.attributes.get("xs", ()), node.attributes.get("zs", ())
    y = node.attributes.get("y", "")
    names = (*xs, *zs)
    if len(names) != len(node.inputs) or not build.has(y) or not all(map(build.has, names)):
        raise GraphError(f"Gradient of {y!r} by {list(names)} for {list(node.inputs)}")
    if names != node.inputs:
        raise UnsupportedOperator(
            "Gradient at other values than those that y is computed from",
            remedy="Name the values that it is taken at in xs and zs",
        )
    slopes = _slopes(build, y, xs)
    for x, output in zip(xs, node.outputs, strict=False):
        if output:
            shape = build.type_of(x).shape
            slope = slopes.get(x) or _filled(build, 0, x, shape)
            build(Identity(), slope, outputs=(output,), origin=origin)


def _slopes(build: Builder, y: str, xs: Sequence[str]) -> Mapping[str, str]:
    """The derivative of y by each value between it and the xs: backwards through the nodes."""
    nodes = tuple(build.nodes)
    varying = set(xs)
    for node in nodes:
        if varying.intersection(node.inputs):
            varying.update(node.outputs)
    slopes = {y: _filled(build, 1, y, build.type_of(y).shape)} if y in varying else {}
    for node in reversed(nodes):
        slope = slopes.get(node.outputs[0])
        if slope is None or node.outputs[0] in xs:
            continue
        rule = _RULES.get(node.op.name) if not node.op.domain else None
        if rule is None or len(node.outputs) > 1:
            raise UnsupportedOperator(
                f"Gradient through {node.op.name} is not supported",
                remedy="Export the model for inference",
            )
        for name, part in zip(node.inputs, rule(build, node, slope), strict=True):
            if name in varying:
                own = _summed(build, part, build.type_of(name).shape)
                slopes[name] = build(Add(), slopes[name], own) if name in slopes else own
    return slopes


def _filled(build: Builder, value: float, like: str, shape: Shape) -> str:
    """One number in the shape and element type of a value."""
    number = build.constant(np.array(value, build.type_of(like).dtype.numpy))
    return build(Expand(shape), number) if shape else number


def _summed(build: Builder, slope: str, shape: Shape) -> str:
    """A slope in the shape of a value that was broadcast to that of the slope."""
    wide = build.type_of(slope).shape
    if wide == shape:
        return slope
    own = (1,) * (len(wide) - len(shape)) + shape
    axes = tuple(a for a, (p, q) in enumerate(zip(own, wide, strict=True)) if p != q or p == 1)
    return build(Reshape(shape, allowzero=True), build(ReduceSum(axes=axes), slope))


Rule = Callable[[Builder, Node, str], Sequence[str]]


def _matmul(build: Builder, node: Node, slope: str) -> Sequence[str]:
    a, b = node.inputs
    if any(build.type_of(i).rank < 2 for i in node.inputs):
        raise UnsupportedOperator("Gradient through MatMul of vectors is not supported")
    return (
        build(MatMul(), slope, _turned(build, b)),
        build(MatMul(), _turned(build, a), slope),
    )


def _turned(build: Builder, matrix: str) -> str:
    rank = build.type_of(matrix).rank
    return build(Transpose((*range(rank - 2), rank - 1, rank - 2)), matrix)


def _times(slope_of: Callable[[Builder, Node], str]) -> Rule:
    """The rule of a function of one number, from its derivative."""
    return lambda build, node, slope: (build(Mul(), slope, slope_of(build, node)),)


def _one_minus(build: Builder, x: str) -> str:
    return build(Sub(), build.constant(np.array(1, build.type_of(x).dtype.numpy)), x)


def _square(build: Builder, x: str) -> str:
    return build(Mul(), x, x)


def _relu(build: Builder, node: Node, slope: str) -> Sequence[str]:
    (x,) = node.inputs
    zero = build.constant(np.array(0, build.type_of(x).dtype.numpy))
    return (build(Where(), build(Greater(), x, zero), slope, zero),)


def _quotient(build: Builder, node: Node, slope: str) -> Sequence[str]:
    by_a = build(Div(), slope, node.inputs[1])
    return by_a, build(Neg(), build(Mul(), by_a, node.outputs[0]))


_RULES: Mapping[str, Rule] = {
    "Identity": lambda build, node, slope: (slope,),  # noqa: ARG005
    "Neg": lambda build, node, slope: (build(Neg(), slope),),  # noqa: ARG005
    "Add": lambda build, node, slope: (slope, slope),  # noqa: ARG005
    "Sub": lambda build, node, slope: (slope, build(Neg(), slope)),  # noqa: ARG005
    "Mul": lambda build, node, slope: tuple(
        build(Mul(), slope, other) for other in reversed(node.inputs)
    ),
    "Div": _quotient,
    "Exp": _times(lambda build, node: node.outputs[0]),  # noqa: ARG005
    "Log": lambda build, node, slope: (build(Div(), slope, node.inputs[0]),),
    "Sqrt": lambda build, node, slope: (
        build(Div(), slope, build(Add(), node.outputs[0], node.outputs[0])),
    ),
    "Sin": _times(lambda build, node: build(Cos(), node.inputs[0])),
    "Cos": _times(lambda build, node: build(Neg(), build(Sin(), node.inputs[0]))),
    "Tanh": _times(lambda build, node: _one_minus(build, _square(build, node.outputs[0]))),
    "Sigmoid": _times(
        lambda build, node: build(Mul(), node.outputs[0], _one_minus(build, node.outputs[0]))
    ),
    "Relu": _relu,
    "MatMul": _matmul,
}
