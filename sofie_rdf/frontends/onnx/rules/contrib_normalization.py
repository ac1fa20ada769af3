"""com.microsoft: normalisations of transformers that onnxruntime's optimiser has joined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sofie_rdf.errors import GraphError, ShapeError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules._formula import Formula
from sofie_rdf.frontends.onnx.rules.contrib_fused import (
    MICROSOFT,
    UNFUSED,
    formula_of,
    optional,
    refuse_outputs,
)
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.creation import KnownRange
from sofie_rdf.ops.elementwise import Add, Equal, Mul
from sofie_rdf.ops.indexing import Gather
from sofie_rdf.ops.normalization import LayerNormalization, RMSNormalization
from sofie_rdf.ops.reduction import ReduceSum

_SIMPLIFIED = {"axis": int, "epsilon": float, "stash_type": int}
_STATISTICS = {1: "mean", 2: "inv_std_var"}


@onnx_rule("SimplifiedLayerNormalization", inputs=(2, 2), outputs=2, attributes=_SIMPLIFIED)
def _simplified(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """x / sqrt(mean of x^2 + epsilon) * scale, over the axes from ``axis`` on"""
    refuse_outputs(node, {1: "inv_std_var"}, "Export the model for inference")
    if node.attributes.get("stash_type", 1) != 1:
        raise UnsupportedOperator("SimplifiedLayerNormalization computes with float32 only")
    given = {n: v for n, v in node.attributes.items() if n != "stash_type"}
    build(RMSNormalization(**given), *node.inputs, outputs=node.outputs[:1], origin=origin)


@onnx_rule(
    "SkipLayerNormalization",
    domain=MICROSOFT,
    inputs=(3, 5),
    outputs=4,
    attributes={"epsilon": float},
)
def _skip(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """LayerNormalization(x + skip + bias) * gamma + beta; an output may be the sum"""
    f = formula_of(node, build, origin)
    total = _sum(f, node, optional(node, 4))
    beta = optional(node, 3)
    op = LayerNormalization(epsilon=node.attributes.get("epsilon", 1e-12))
    f.give(f(op, total, node.inputs[2], *([beta] if beta else [])), node)
    f.give(total, node, 3)


@onnx_rule(
    "SkipSimplifiedLayerNormalization",
    domain=MICROSOFT,
    inputs=(3, 4),
    outputs=4,
    attributes={"epsilon": float},
)
def _skip_simplified(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """RMSNormalization(x + skip + bias) * gamma; an output may be the sum"""
    f = formula_of(node, build, origin)
    total = _sum(f, node, optional(node, 3))
    op = RMSNormalization(epsilon=node.attributes.get("epsilon", 1e-12))
    f.give(f(op, total, node.inputs[2]), node)
    f.give(total, node, 3)


def _sum(f: Formula, node: OnnxNode, bias: str) -> str:
    """x + skip + bias, which has the sizes of x."""
    refuse_outputs(node, _STATISTICS, UNFUSED)
    x, skip, *_ = node.inputs
    for other in filter(None, (skip, bias)):
        wanted = f.build.type_of(node.inputs[0])
        x = f(Add(), x, other)
        if f.build.type_of(x).shape != wanted.shape:
            given = f.build.type_of(other)
            raise ShapeError(f"{node.op_type} adds {given} to {wanted}, which has other sizes")
    return x


@onnx_rule(
    "EmbedLayerNormalization",
    domain=MICROSOFT,
    inputs=(1, 9),
    outputs=3,
    attributes={"epsilon": float, "mask_index_type": int},
)
def _embed(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """LayerNormalization(word + position + segment); and how many places the mask keeps"""
    ids, segments, words, positions, of_segments, gamma, beta = _required(node)
    f = Formula(build, build.type_of(words).dtype, origin)
    shape = build.type_of(ids).shape
    if len(shape) != 2:
        raise ShapeError("EmbedLayerNormalization needs input_ids with two axes")
    places = optional(node, 8) or f(KnownRange(0, shape[1], 1, DType.INT64))
    total = f(Add(), f(Gather(), words, ids), f(Gather(), positions, places))
    if segments:
        total = f(Add(), total, f(Gather(), of_segments, segments))
    op = LayerNormalization(epsilon=node.attributes.get("epsilon", 1e-12))
    f.give(f(op, total, gamma, beta), node)
    if len(node.outputs) > 1 and node.outputs[1]:
        f.give(_kept(f, ids, optional(node, 7)), node, 1)
    f.give(total, node, 2)


def _required(node: OnnxNode) -> Sequence[str]:
    """The first seven inputs, of which only those of segments may be absent, both or none."""
    given = [optional(node, number) for number in range(7)]
    if bool(given[1]) != bool(given[4]):
        raise GraphError("EmbedLayerNormalization needs segment ids and their embedding together")
    if not all(given[number] for number in (0, 2, 3, 5, 6)):
        raise GraphError(f"EmbedLayerNormalization lacks an input: it has {list(node.inputs)}")
    return given


def _kept(f: Formula, ids: str, mask: str) -> str:
    """How many elements of the mask are 1 in each row; 0 without a mask."""
    ones = f.build.constant(np.array(1, np.int32))
    if mask:
        chosen = f(Cast(DType.INT32), f(Equal(), mask, ones))
    else:
        zero = f.build.constant(np.array(0, np.int32))
        chosen = f(Mul(), f(Cast(DType.INT32), ids), zero)
    return f(ReduceSum((1,), keepdims=False), chosen)
