"""What older opsets, and nodes that are no operators, mean in terms of the newest operators.

A rule writes its node through the Builder. Attributes that have become inputs need no rule: an
operator's field takes either (see `from_input`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, Rule, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, normal_axis
from sofie_rdf.ops.elementwise import Clip
from sofie_rdf.ops.normalization import (
    FlatLogSoftmax,
    FlatSoftmax,
    LogSoftmax,
    Softmax,
)

_CONSTANTS: Mapping[str, type] = {
    "value": np.ndarray,
    "value_float": float,
    "value_floats": tuple,
    "value_int": int,
    "value_ints": tuple,
    "value_string": str,
    "value_strings": tuple,
    "sparse_value": np.ndarray,
}


@onnx_rule("Constant", inputs=(0, 0), attributes=_CONSTANTS)
def _constant(node: OnnxNode, build: Builder, _: Origin) -> None:
    """A constant of the model; no node is left."""
    if len(node.attributes) != 1:
        raise GraphError(f"Constant has one value, not {list(node.attributes)}")
    ((name, value),) = node.attributes.items()
    kinds = {"value_float": np.float32, "value_int": np.int64}
    if name in ("value", "sparse_value"):
        build.constant(value, node.outputs[0])
    elif name.rstrip("s") in kinds:
        array: Array = np.asarray(value, dtype=kinds[name.rstrip("s")])
        build.constant(array, node.outputs[0])
    else:
        raise UnsupportedOperator(f"Constant with {name!r} is not supported")


@onnx_rule("Clip", below=11, attributes={"min": float, "max": float})
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


def _softmax_over_the_rest(one: Callable[[int], Operator], all_: Callable[[int], Operator]) -> Rule:
    """Before opset 13: one distribution over all axes from ``axis`` on."""

    def rule(node: OnnxNode, build: Builder, origin: Origin) -> None:
        (x,) = node.inputs
        rank = build.types[x].rank
        axis = normal_axis(node.attributes.get("axis", 1), rank, end=True)
        op = one(-1) if axis == rank - 1 else all_(axis)
        build(op, x, outputs=node.outputs, origin=origin)

    return rule


onnx_rule("Softmax", below=13, attributes={"axis": int})(
    _softmax_over_the_rest(Softmax, FlatSoftmax)
)
onnx_rule("LogSoftmax", below=13, attributes={"axis": int})(
    _softmax_over_the_rest(LogSoftmax, FlatLogSoftmax)
)
