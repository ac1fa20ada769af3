"""Conversions to the element type that another value has."""

from __future__ import annotations

from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ops.casts import Cast


@onnx_rule("CastLike", inputs=(2, 2), attributes={"saturate": int, "round_mode": str})
def _cast_like(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """A Cast to the type of the second input, whose values do not matter."""
    x, like = node.inputs
    saturate = bool(node.attributes.get("saturate", 1))
    mode = node.attributes.get("round_mode", "up")
    op = Cast(build.types[like].dtype, saturate, mode)
    build(op, x, outputs=node.outputs, origin=origin)
