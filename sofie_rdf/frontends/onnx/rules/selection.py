"""Older forms of the operators that choose elements."""

from __future__ import annotations

from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import normal_axis
from sofie_rdf.ops.layout import Flatten, Reshape
from sofie_rdf.ops.selection import Hardmax


@onnx_rule("Hardmax", below=13, attributes={"axis": int})
def _hardmax(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """All axes from ``axis`` on were one vector."""
    (x,) = node.inputs
    shape = build.type_of(x).shape
    axis = normal_axis(node.attributes.get("axis", 1), len(shape), end=True)
    if axis == len(shape) - 1:
        build(Hardmax(-1), x, outputs=node.outputs, origin=origin)
        return
    flat = build(Flatten(axis), x, origin=origin)
    chosen = build(Hardmax(-1), flat, origin=origin)
    build(Reshape(shape, allowzero=True), chosen, outputs=node.outputs, origin=origin)
