"""Resampling in older opsets: Upsample, and the first Resize."""

from __future__ import annotations

from typing import Any

from sofie_rdf.errors import GraphError
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ops.regions import RoiAlign
from sofie_rdf.ops.resampling import Resize, RuntimeResize

_MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}

_UPSAMPLE = {"mode": str, "scales": tuple, "height_scale": float, "width_scale": float}


@onnx_rule("Upsample", inputs=(1, 2), attributes=_UPSAMPLE)
@onnx_rule("Resize", below=11, inputs=(2, 2), attributes={"mode": str})
def _scaled(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """x at j / scale, of which the nearest element is that below where the tensor grows."""
    mode = node.attributes.get("mode", "nearest")
    if mode not in _MODES:
        raise GraphError(f"{node.op_type} has the mode {mode!r}, which does not exist")
    rounding = "simple" if node.op_type == "Resize" else "floor"
    how: dict[str, Any] = {
        "mode": _MODES[mode],
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": rounding,
    }
    x = node.inputs[0]
    scales = node.attributes.get("scales")
    if "height_scale" in node.attributes or "width_scale" in node.attributes:
        scales = (1.0, 1.0, *(node.attributes.get(s, 1.0) for s in ("height_scale", "width_scale")))
    if len(node.inputs) > 1:
        known = build.constants.get(node.inputs[1])
        if known is None:
            inputs = (x, "", node.inputs[1])
            build(RuntimeResize(**how), *inputs, outputs=node.outputs, origin=origin)
            return
        scales = tuple(known.tolist())
    if not scales:
        raise GraphError(f"{node.op_type} has no scales")
    build(Resize(scales=tuple(scales), **how), x, outputs=node.outputs, origin=origin)


@onnx_rule(
    "RoiAlign",
    below=16,
    inputs=(3, 3),
    attributes={
        "mode": str,
        "output_height": int,
        "output_width": int,
        "sampling_ratio": int,
        "spatial_scale": float,
    },
)
def _roi_align(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Pixels were at their corners."""
    op = RoiAlign(coordinate_transformation_mode="output_half_pixel", **node.attributes)
    build(op, *node.inputs, outputs=node.outputs, origin=origin)
