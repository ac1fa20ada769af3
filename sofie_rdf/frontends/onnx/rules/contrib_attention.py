"""com.microsoft: attention as onnxruntime's tools write it, in terms of ONNX's Attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sofie_rdf.errors import GraphError, ShapeError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules._formula import Formula
from sofie_rdf.frontends.onnx.rules.contrib_fused import (
    MICROSOFT,
    formula_of,
    optional,
    refuse_inputs,
    refuse_outputs,
)
from sofie_rdf.frontends.onnx.rules.contrib_quantized import scaled_product, whole_product
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import DType
from sofie_rdf.ops.attention import Attention
from sofie_rdf.ops.creation import KnownRange
from sofie_rdf.ops.elementwise import Add, Greater, Less, Where
from sofie_rdf.ops.layout import Split, Unsqueeze
from sofie_rdf.ops.linear import MatMul

_WHOLE = "Export the model without a cache of past keys and values"


@dataclass(frozen=True)
class _Scores:
    """What the scores of a node are: its sizes, and what is added where the mask is 0."""

    node: OnnxNode
    f: Formula
    batch: Dim
    queries: Dim
    keys: Dim

    @property
    def fill(self) -> float:
        return float(self.node.attributes.get("mask_filter_value", -10_000.0))

    def filled(self, keep: str) -> str:
        """0 where it is true, and the filling value elsewhere."""
        return self.f(Where(), keep, 0.0, self.fill)

    def of_mask(self, mask: str) -> str:
        """What a mask adds to the scores [batch, heads, queries, keys]."""
        shape = self.f.build.type_of(mask).shape
        integer = Formula(self.f.build, self.f.build.type_of(mask).dtype, self.f.origin)
        if shape == (self.batch,):
            lengths = integer(Unsqueeze((1, 2, 3)), mask)
            places = integer(KnownRange(0, self.keys, 1, integer.dtype))
            return self.filled(integer(Less(), places, lengths))
        if shape == (self.batch, self.keys):
            return self.filled(integer(Greater(), integer(Unsqueeze((1, 2)), mask), 0))
        if shape == (self.batch, self.queries, self.keys):
            return self.filled(integer(Greater(), integer(Unsqueeze((1,)), mask), 0))
        sizes = ", ".join(map(str, (self.batch, self.queries, self.keys)))
        raise UnsupportedOperator(
            f"{self.node.op_type} with the mask {self.f.build.type_of(mask)} is not supported: it "
            f"is none of [batch], [batch, keys] and [batch, queries, keys], which are [{sizes}]",
            remedy="Export the model with a mask of 0 and 1 for each key, of the same named sizes",
        )

    def of_bias(self, bias: str) -> str:
        """What is added to the scores, if it has as many keys and queries."""
        type_ = self.f.build.type_of(bias)
        if type_.rank != 4 or type_.shape[2:] != (self.queries, self.keys):
            wanted = f"[1 or batch, 1 or heads, {self.queries}, {self.keys}]"
            raise ShapeError(f"{self.node.op_type} needs an attention_bias {wanted}, not {type_}")
        return bias

    def attend(self, q: str, k: str, v: str, mask: str, bias: str) -> str:
        """Attention of queries, keys and values with three axes."""
        node, f = self.node, self.f
        heads = _heads(node)
        added = [self.of_mask(mask)] if mask else []
        added += [self.of_bias(bias)] if bias else []
        total = added[:1] if len(added) < 2 else [f(Add(), *added)]
        op = Attention(
            is_causal=bool(node.attributes.get("unidirectional", 0)),
            kv_num_heads=heads,
            q_num_heads=heads,
            scale=node.attributes.get("scale") or None,
        )
        return f(op, q, k, v, *total)


def _heads(node: OnnxNode) -> int:
    heads = node.attributes.get("num_heads")
    if not isinstance(heads, int) or heads < 1:
        raise GraphError(f"{node.op_type} needs a positive number of heads, not {heads}")
    return heads


_COMMON: dict[str, Any] = {
    "num_heads": int,
    "mask_filter_value": float,
    "scale": float,
    "unidirectional": int,
}


@onnx_rule(
    "Attention",
    domain=MICROSOFT,
    inputs=(2, 7),
    outputs=2,
    attributes={
        **_COMMON,
        "qkv_hidden_sizes": tuple,
        "do_rotary": int,
        "rotary_embedding_dim": int,
        "past_present_share_buffer": int,
    },
)
def _attention(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """softmax(scale * q k^T + mask) v for each head, where q, k, v = split(x @ weights + bias)"""
    refuse_inputs(node, {4: "past", 6: "past_sequence_length"}, _WHOLE)
    refuse_outputs(node, {1: "present"}, _WHOLE)
    for name in ("do_rotary", "past_present_share_buffer"):
        if node.attributes.get(name, 0):
            raise UnsupportedOperator(f"Attention with {name!r} is not supported", remedy=_WHOLE)
    f = formula_of(node, build, origin)
    _require_matrix(node, build)
    y = f(MatMul(), *node.inputs[:2])
    if bias := optional(node, 2):
        y = f(Add(), y, bias)
    _of_itself(node, f, y, optional(node, 3), optional(node, 5))


def _require_matrix(node: OnnxNode, build: Builder) -> None:
    x, weights = (build.type_of(v) for v in node.inputs[:2])
    if x.rank != 3 or weights.rank != 2:
        raise ShapeError(f"{node.op_type} needs an input with 3 axes and weights with 2")


def _of_itself(node: OnnxNode, f: Formula, y: str, mask: str, bias: str) -> None:
    """Attention of a sequence to itself, of which y has queries, keys and values together."""
    batch, steps, width = f.build.type_of(y).shape
    sizes = node.attributes.get("qkv_hidden_sizes") or _thirds(node, width)
    if len(sizes) != 3 or sum(sizes) != width:
        raise ShapeError(
            f"{node.op_type} has {width} columns of weights for qkv_hidden_sizes {sizes}"
        )
    q, k, v = _split(f, y, sizes)
    f.give(_Scores(node, f, batch, steps, steps).attend(q, k, v, mask, bias), node)


def _thirds(node: OnnxNode, width: Dim) -> tuple[int, ...]:
    if not isinstance(width, int) or width % 3:
        raise ShapeError(f"{node.op_type} cannot split {width} columns of weights in three")
    return (width // 3,) * 3


@onnx_rule(
    "QAttention",
    domain=MICROSOFT,
    inputs=(5, 9),
    outputs=2,
    attributes={**_COMMON, "do_rotary": int, "past_present_share_buffer": int},
)
def _quantized_attention(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Attention, of which x @ weights is a product of whole numbers with scales"""
    refuse_inputs(node, {8: "past"}, _WHOLE)
    refuse_outputs(node, {1: "present"}, _WHOLE)
    for name in ("do_rotary", "past_present_share_buffer"):
        if node.attributes.get(name, 0):
            raise UnsupportedOperator(f"QAttention with {name!r} is not supported", remedy=_WHOLE)
    x, weights, bias, x_scale, w_scale = node.inputs[:5]
    f = Formula(build, DType.FLOAT32, origin)
    _require_matrix(node, build)
    for one in filter(None, (x_scale, optional(node, 6))):
        if build.type_of(one).size != 1:
            raise ShapeError(f"QAttention needs one scale of its input, not {build.type_of(one)}")
    total = whole_product(f, x, weights, optional(node, 6), optional(node, 7))
    y = f(Add(), scaled_product(f, total, x_scale, w_scale), bias)
    _of_itself(node, f, y, optional(node, 5), "")


def _split(f: Formula, x: str, sizes: Sequence[int]) -> Sequence[str]:
    """The parts of queries, keys and values along the last axis."""
    names = [f.build.fresh(stem) for stem in ("queries", "keys", "values")]
    op = Split(axis=-1, split=tuple(sizes))
    f.build(op, x, outputs=names, origin=f.origin)
    return names


_OF_PAST = {6: "past_key", 7: "past_value", 8: "past_sequence_length", 9: "cache_indirection"}


@onnx_rule("MultiHeadAttention", domain=MICROSOFT, inputs=(1, 10), outputs=4, attributes=_COMMON)
def _multi_head_attention(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """softmax(scale * q k^T + mask) v for each head; a bias is added to q, k and v first"""
    refuse_inputs(node, _OF_PAST, _WHOLE)
    refuse_outputs(node, {1: "present_key", 2: "present_value", 3: "qk"}, _WHOLE)
    values = [optional(node, number) for number in range(3)]
    if not all(values) or any(build.type_of(v).rank != 3 for v in values):
        raise UnsupportedOperator(
            "MultiHeadAttention with packed or transposed queries, keys or values is not supported",
            remedy="Give each of the three with the axes [batch, sequence, hidden]",
        )
    f = formula_of(node, build, origin)
    q, k, v = values
    shapes = [build.type_of(value).shape for value in values]
    if bias := optional(node, 3):
        widths = [shape[2] for shape in shapes]
        if not all(isinstance(w, int) for w in widths):
            raise ShapeError("MultiHeadAttention with a bias needs known hidden sizes")
        sizes = [w for w in widths if isinstance(w, int)]
        q, k, v = (
            f(Add(), value, part)
            for value, part in zip(values, _split(f, bias, sizes), strict=True)
        )
    scores = _Scores(node, f, shapes[0][0], shapes[0][1], shapes[1][1])
    f.give(scores.attend(q, k, v, optional(node, 4), optional(node, 5)), node)
