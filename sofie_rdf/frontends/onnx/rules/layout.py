"""Older forms of operators that move elements."""

from __future__ import annotations

from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ops.layout import RuntimeSplit, Split


@onnx_rule(
    "Split", below=18, inputs=(1, 2), outputs=10_000, attributes={"axis": int, "split": tuple}
)
def _split(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Without sizes there were as many equal parts as outputs."""
    x, *listed = node.inputs
    axis = node.attributes.get("axis", 0)
    parts = node.attributes.get("split")
    if listed and listed[0]:
        known = build.value_of(listed[0])
        if known is None:
            build(RuntimeSplit(axis), x, listed[0], outputs=node.outputs, origin=origin)
            return
        parts = tuple(known.ravel().tolist())
    op = Split(axis, split=parts) if parts else Split(axis, num_outputs=len(node.outputs))
    build(op, x, outputs=node.outputs, origin=origin)
