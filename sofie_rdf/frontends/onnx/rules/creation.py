"""Operators that make tensors, in terms of others where their inputs are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from sofie_rdf.errors import GraphError
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Size
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ops.creation import KnownRange, Range
from sofie_rdf.ops.layout import Expand, RuntimeExpand

# Larger ones are computed by the network rather than stored with it.
_LARGEST_CONSTANT = 100_000


@onnx_rule("ConstantOfShape", attributes={"value": np.ndarray})
def _constant_of_shape(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """One element, expanded."""
    (shape,) = node.inputs
    value = np.asarray(node.attributes.get("value", np.zeros(1, np.float32)))
    if value.size != 1:
        raise GraphError(f"ConstantOfShape has one value, not {value.size}")
    element = build.constant(value.reshape(()))
    known = build.value_of(shape)
    if known is None:
        build(RuntimeExpand(), element, shape, outputs=node.outputs, origin=origin)
    else:
        op = Expand(tuple(known.ravel().tolist()))
        build(op, element, outputs=node.outputs, origin=origin)


@onnx_rule("Range", inputs=(3, 3), attributes={"stash_type": int})
def _range(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """A constant, or so many numbers as a size of the network, or what only the run can tell."""
    dtype = build.type_of(node.inputs[0]).dtype
    values = [build.value_of(i) for i in node.inputs]
    numbers: list[Any] = [v.item() for v in values if v is not None and v.size == 1]
    if len(numbers) < 3 or isinstance(numbers[2], Size) or dtype.is_half:
        op = Range(node.attributes.get("stash_type", 1))
        build(op, *node.inputs, outputs=node.outputs, origin=origin)
        return
    start, limit, delta = numbers
    known = KnownRange(start, limit, delta, dtype)
    size = known.infer().size
    if isinstance(size, int) and size <= _LARGEST_CONSTANT:
        build.constant(known.reference(), node.outputs[0])
    else:
        build(known, outputs=node.outputs, origin=origin)
