"""Normalisations: older forms, and those that are another operator here."""

from __future__ import annotations

from sofie_rdf.errors import GraphError, ShapeError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import product
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ops.layout import Reshape
from sofie_rdf.ops.normalization import (
    BatchNormalization,
    GroupwiseNormalization,
    TrainingBatchNormalization,
)

_BATCH = {
    "epsilon": float,
    "momentum": float,
    "spatial": int,
    "is_test": int,
    "training_mode": int,
}


@onnx_rule("BatchNormalization", inputs=(5, 5), outputs=5, attributes=_BATCH)
def _batch_normalization(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """With given statistics, or with those of the batch: that is another operator."""
    epsilon = node.attributes.get("epsilon", 1e-5)
    if node.attributes.get("training_mode", 0):
        if len(node.outputs) > 3:
            raise GraphError(f"BatchNormalization has 3 outputs, not {len(node.outputs)}")
        op = TrainingBatchNormalization(epsilon, node.attributes.get("momentum", 0.9))
        build(op, *node.inputs, outputs=node.outputs, origin=origin)
        return
    if any(node.outputs[1:]):
        raise UnsupportedOperator(
            "BatchNormalization with other outputs than y is that of a training",
            remedy="Export the model for inference, e.g. after model.eval()",
        )
    op_ = BatchNormalization(epsilon=epsilon)
    if node.attributes.get("spatial", 1):
        build(op_, *node.inputs, outputs=node.outputs[:1], origin=origin)
    else:
        _by_position(op_, node, build, origin)


def _by_position(op: BatchNormalization, node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Before opset 9 there could be statistics for every position: each is a channel then."""
    x, *statistics = node.inputs
    shape = build.type_of(x).shape
    if any(build.type_of(s).shape != shape[1:] for s in statistics):
        raise ShapeError("BatchNormalization with spatial=0 has statistics for each position")
    channels = product(shape[1:])
    flat = build(Reshape((shape[0], channels), allowzero=True), x, origin=origin)
    rows = [build(Reshape((channels,), allowzero=True), s, origin=origin) for s in statistics]
    y = build(op, flat, *rows, origin=origin)
    build(Reshape(shape, allowzero=True), y, outputs=node.outputs[:1], origin=origin)


_GROUP = {"epsilon": float, "num_groups": int}


@onnx_rule("GroupNormalization", below=21, inputs=(3, 3), attributes=_GROUP)
def _group_normalization(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """There was a scale and a bias for each group and not for each channel."""
    if "num_groups" not in node.attributes:
        raise GraphError("GroupNormalization lacks its attribute 'num_groups'")
    op = GroupwiseNormalization(**node.attributes)
    build(op, *node.inputs, outputs=node.outputs, origin=origin)
