"""Older forms of the operators of signal processing."""

from __future__ import annotations

import numpy as np

from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ops.signal import DFT, RuntimeDFT

_ATTRIBUTES = {"axis": int, "inverse": int, "onesided": int}


@onnx_rule("DFT", below=20, inputs=(1, 2), attributes=_ATTRIBUTES)
def _dft(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """The axis was an attribute, and the first one behind the batch if none was given."""
    x, length = (*node.inputs, "")[:2]
    axis = node.attributes.get("axis", 1)
    flags = {name: bool(node.attributes.get(name, 0)) for name in ("inverse", "onesided")}
    known = build.value_of(length) if length else None
    if length and known is None:
        position = build.constant(np.array(axis, np.int64))
        op = RuntimeDFT(**flags)
        build(op, x, length, position, outputs=node.outputs, origin=origin)
        return
    given = None if known is None else known.reshape(-1)[0]
    given = int(given) if isinstance(given, np.integer) else given
    build(DFT(given, axis, **flags), x, outputs=node.outputs, origin=origin)
