"""Attention spelled out as products, a softmax and Transposes becomes one operator.

All its numbers are those of the operators that it replaces: a query that may attend to nothing gets
NaN, and a mask is added as it is. Only the scale is applied once where files apply it in parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sofie_rdf.ir.graph import Node
from sofie_rdf.ir.types import Array, Shape, broadcast, normal_axis
from sofie_rdf.ops.attention import SoftmaxAttention
from sofie_rdf.ops.elementwise import Div, Not, Where
from sofie_rdf.ops.layout import Transpose
from sofie_rdf.ops.normalization import Softmax
from sofie_rdf.passes.rewrite import Match, Rewrite, Rules, Source, rule
from sofie_rdf.passes.simplify import transposes

__all__ = ["fuse_attention", "inner_transposes"]


def _scaled(*forms: str) -> tuple[str, ...]:
    """The forms with a product of queries and keys, as it is and times a number."""
    products = "MatMul(q, k)", "Mul(MatMul(q, k), s)", "Div(MatMul(q, k), s)"
    return tuple(form.format(product) for form in forms for product in products)


@rule(
    *_scaled(
        "MatMul(Softmax({}), v)",
        "MatMul(Softmax(Add({}, mask)), v)",
        "MatMul(Softmax(Where(mask, low, {})), v)",
        "MatMul(Softmax(Where(mask, {}, low)), v)",
    )
)
def attention(m: Match) -> Rewrite:
    """softmax(scale * q k + mask) v for tensors of 3 or 4 axes"""
    rank = m.type("q").rank
    m.require(rank in (3, 4), f"the queries have {rank} axes")
    m.require(m.type("q").dtype.is_float and not m.type("q").dtype.is_half, "it is for float32")
    softmax = m.op(Softmax)
    scores = next(n for n in m.nodes if isinstance(n.op, Softmax)).inputs[0]
    shape = m.graph.types[scores].shape
    m.require(normal_axis(softmax.axis, rank) == rank - 1, "the softmax is not over the keys")
    q, k, v = (m.type(name).shape for name in ("q", "k", "v"))
    same = q[:-2] == k[:-2] == v[:-2] == shape[:-2]
    m.require(same and shape == (*q[:-1], k[-1]), "heads or a batch are broadcast")
    mask, fill = _mask(m, shape)
    order = "bhre"[4 - rank :]
    op = SoftmaxAttention(_scale(m), fill, (order,) * 4)
    keys = m.made(Transpose((*range(rank - 2), rank - 1, rank - 2)), "k")
    return m.becomes(op, "q", keys, "v", *mask)


def _mask(m: Match, scores: Shape) -> tuple[tuple[Source, ...], float]:
    """The mask, if there is one, and what becomes of scores where it is false."""
    if "mask" not in m.values:
        return (), 0.0
    mask = m.type("mask").shape
    fits = len(mask) <= len(scores) and broadcast((mask, scores)) == scores
    m.require(fits and mask[-1:] == scores[-1:], "the mask has not the form of the scores")
    wheres = [n for n in m.nodes if isinstance(n.op, Where)]
    if not wheres:
        return ("mask",), 0.0
    low = m.constant("low")
    m.require(low.size == 1, "masked scores get many values")
    hides = wheres[0].inputs[1] == m.values["low"]
    return ((m.made(Not(), "mask") if hides else "mask"),), float(low.item())


def _scale(m: Match) -> float:
    """By what the products of queries and keys are multiplied."""
    if "s" not in m.values:
        return 1.0
    number = m.constant("s")
    m.require(number.size == 1, "the scores have many scales")
    return _factor(next(n for n in m.nodes if m.values["s"] in n.inputs), number)


def _factor(node: Node, number: Array) -> float:
    """By what a Mul or a Div with this number multiplies."""
    return 1 / float(number.item()) if isinstance(node.op, Div) else float(number.item())


_CALLS = "sofie.SoftmaxAttention({}, {}, {})", "sofie.SoftmaxAttention({}, {}, {}, mask)"


def _with(*operands: str) -> tuple[str, ...]:
    return tuple(call.format(*operands) for call in _CALLS)


@rule(*_with("Mul(q, s)", "k", "v"), *_with("Div(q, s)", "k", "v"))
def scaled_queries(m: Match) -> Rewrite:
    """The scale of queries is one of the scores"""
    return _rescaled(m)


@rule(
    *_with("q", "Mul(k, s)", "v"),
    *_with("q", "Div(k, s)", "v"),
    *_with("q", "Transpose(Mul(k, s))", "v"),
    *_with("q", "Transpose(Div(k, s))", "v"),
)
def scaled_keys(m: Match) -> Rewrite:
    """The scale of keys is one of the scores"""
    return _rescaled(m)


def _rescaled(m: Match) -> Rewrite:
    op, number = m.op(SoftmaxAttention), m.constant("s")
    m.require(number.size == 1, "there are many scales")
    m.require(number.ndim <= m.type("q").rank, "the scale adds axes")
    op = replace(op, scale=op.scale * _factor(m.nodes[-1], number))
    operands: list[Source] = [*_operands(m)]
    if isinstance(m.nodes[1].op, Transpose):
        operands[1] = m.made(m.nodes[1].op, "k")
    return m.becomes(op, *operands)


def _operands(m: Match) -> tuple[str, ...]:
    return ("q", "k", "v", "mask") if "mask" in m.values else ("q", "k", "v")


@rule(*_with("Transpose(q)", "k", "v"))
def transposed_queries(m: Match) -> Rewrite:
    """Queries are read where they are"""
    return _read(m, 1, "q")


@rule(*_with("q", "Transpose(k)", "v"))
def transposed_keys(m: Match) -> Rewrite:
    """Keys are read where they are"""
    return _read(m, 2, "k")


@rule(*_with("q", "k", "Transpose(v)"))
def transposed_values(m: Match) -> Rewrite:
    """Values are read where they are"""
    return _read(m, 3, "v")


def _read(m: Match, which: int, name: str) -> Rewrite:
    rank = m.type(name).rank
    order = m.op(Transpose).permutation(rank)
    return _ordered(m, which, [order.index(axis) for axis in range(rank)])


def _ordered(m: Match, which: int, axes: Sequence[int]) -> Rewrite:
    """The attention with the axes of an operand in another order."""
    op = m.op(SoftmaxAttention)
    m.require(axes[-1] == len(axes) - 1, "elements would not be neighbours")
    orders = list(op.orders)
    orders[which] = "".join(orders[which][a] for a in axes)
    return m.becomes(replace(op, orders=tuple(orders)), *_operands(m))


@rule(*(f"Transpose({call})" for call in _with("q", "k", "v")))
def transposed_result(m: Match) -> Rewrite:
    """Results are written where they are wanted"""
    return _ordered(m, 0, m.op(Transpose).permutation(m.type().rank))


@rule("Reshape(Transpose(Reshape(x)))")
def inner_transpose(m: Match) -> Rewrite:
    """The last two axes change places while those before them are one: a Transpose of all"""
    (node,) = (n for n in m.nodes if isinstance(n.op, Transpose))
    shape, between = m.type("x").shape, m.graph.types[node.inputs[0]].shape
    order = m.op(Transpose).permutation(len(between))
    last = len(shape) - 1
    swapped = (*shape[:-2], *shape[:-3:-1])
    m.require(order == (*range(len(between) - 2), len(between) - 1, len(between) - 2), "")
    m.require(len(shape) > 2 and between[-2:] == shape[-2:], "")
    m.require(m.type().shape == swapped, "")
    return m.becomes(Transpose((*range(last - 1), last, last - 1)), "x")


inner_transposes = Rules("inner_transposes", (inner_transpose,))
fuse_attention = Rules(
    "fuse_attention",
    (
        attention,
        scaled_queries,
        scaled_keys,
        transposed_queries,
        transposed_keys,
        transposed_values,
        transposed_result,
        transposes,
    ),
)
