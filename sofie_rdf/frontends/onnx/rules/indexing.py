"""Older forms of operators that read or write at positions."""

from __future__ import annotations

import numpy as np

from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ops.indexing import Pad, ScatterElements

_PAD = {"mode": str, "pads": tuple, "paddings": tuple, "value": float}


@onnx_rule("Pad", below=11, attributes=_PAD)
def _pad(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """All but the tensor itself were attributes; at first, the pads had another name."""
    (x,) = node.inputs
    given = node.attributes
    pads = given.get("pads", given.get("paddings", ()))
    value = given.get("value", 0.0)
    constants = []
    if value:
        constants.append(build.constant(np.array(value, build.types[x].dtype.numpy)))
    op = Pad(pads, given.get("mode", "constant"))
    build(op, x, *constants, outputs=node.outputs, origin=origin)


@onnx_rule("Scatter", inputs=(3, 3), attributes={"axis": int})
def _scatter(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """The name that ScatterElements had at first."""
    op = ScatterElements(axis=node.attributes.get("axis", 0))
    build(op, *node.inputs, outputs=node.outputs, origin=origin)
