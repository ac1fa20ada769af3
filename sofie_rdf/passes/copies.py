"""Layers of copies: products with what was gathered or repeated, done before it is.

An edge convolution (ParticleNet, DGCNN) takes [x_i, x_j - x_i] for each neighbour j of each i. Its
first layer is a sum of a product for each i and one for each j, which are the same for all pairs::

    w1 @ x_i + w2 @ (x_j - x_i) = (w1 - w2) @ x_i + w2 @ x_j

What is copied then lies with its channels last, so that copies are of whole rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from sofie_rdf.errors import ShapeError
from sofie_rdf.ir.dims import Dim, never_negative, product
from sofie_rdf.ir.graph import Node
from sofie_rdf.ir.types import Shape, broadcast, normal_axis
from sofie_rdf.ops.assumptions import Assume
from sofie_rdf.ops.convolution import ConvLayer
from sofie_rdf.ops.elementwise import Add, Elementwise, Neg, Sub
from sofie_rdf.ops.indexing import Gather, GatherND
from sofie_rdf.ops.layout import Concat, Expand, Reshape, Tile, Transpose
from sofie_rdf.ops.linear import Dense, NoActivation
from sofie_rdf.passes.affine import MOST_OFFSET, Wide, rounded, wide
from sofie_rdf.passes.convolutions import is_pointwise
from sofie_rdf.passes.rewrite import Made, Match, NoMatch, Rewrite, Rules, Source, rule
from sofie_rdf.passes.simplify import reshape

__all__ = ["products_of_copies"]

# How deep sums in sums and tensors in tensors are looked for.
DEPTH = 4
# How many times fewer multiplications there must be.
GAIN = 2
_NOTHING: Dim = 0


# What is copied -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Step:
    """One operator that moves rows, its second input, and the axes that it leaves."""

    op: Transpose | Gather | GatherND | None  # None: a Reshape
    indices: str
    shape: Shape


@dataclass(frozen=True, eq=False)
class Rows:
    """A value as rows of channels: steps from another one, whose axis ``axis`` they are."""

    source: str
    axis: int
    shape: Shape  # Without the channels, and with 1 where all along an axis are the same.
    steps: tuple[Step, ...] = ()

    def then(self, shape: Shape, op: Transpose | Gather | GatherND | None, at: str = "") -> Rows:
        return replace(self, shape=shape, steps=(*self.steps, Step(op, at, shape)))


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


def _rows(m: Match, value: str, axis: int, *, whole: bool = False) -> Rows:
    """The value as rows; with axes of size 1 for what is repeated unless all of it is wanted."""
    node, type_ = m.maker(value), m.graph.types[value]
    found = _moved(m, node, axis, whole=whole) if node else None
    return found or Rows(value, axis, _without(type_.shape, axis))


def _moved(m: Match, node: Node, axis: int, *, whole: bool) -> Rows | None:
    """What the node gives, as rows of what it takes; None where it is not one that moves rows."""
    x, y = m.graph.types[node.inputs[0]], m.graph.types[node.outputs[0]]
    match node.op:
        case Transpose() as op:
            order = op.permutation(x.rank)
            rows = _rows(m, node.inputs[0], order[axis], whole=whole)
            rest = [a - (a > order[axis]) for a in order if a != order[axis]]
            if rest == sorted(rest):
                return rows
            shape = tuple(rows.shape[a] for a in rest)
            return rows.then(shape, Transpose((*rest, len(rest))))
        case Gather() as op:
            return _gathered(m, node, op, axis)
        case GatherND() as op:
            return _gathered_slices(m, node, op, axis)
        case Tile() | Expand() if not whole and x.rank == y.rank:
            copied = zip(x.shape, y.shape, strict=True)
            if all(old in (1, new) for old, new in copied) and x.shape[axis] == y.shape[axis]:
                return _rows(m, node.inputs[0], axis)
        case op if op.is_alias and not isinstance(op, Assume):
            before = _axis_before(x.shape, y.shape, axis)
            if before is not None:
                rows = _rows(m, node.inputs[0], before, whole=True)
                return rows.then(_without(y.shape, axis), None)
    return None


def _axis_before(before: Shape, after: Shape, axis: int) -> int | None:
    """Which axis of ``before`` is this one of ``after``, where elements stay where they are."""
    for a, size in enumerate(before):
        if size == after[axis] and product(before[:a]) == product(after[:axis]):
            return a
    return None


def _gathered(m: Match, node: Node, op: Gather, axis: int) -> Rows | None:
    value, indices = node.inputs
    x, rank = m.graph.types[value], m.graph.types[indices].rank
    along = normal_axis(op.axis, x.rank)
    if along <= axis < along + rank:
        return None
    channels = axis if axis < along else axis - rank + 1
    rows = _rows(m, value, channels, whole=True)
    shape = _without(m.graph.types[node.outputs[0]].shape, axis)
    return rows.then(shape, Gather(along - (channels < along)), indices)


def _gathered_slices(m: Match, node: Node, op: GatherND, axis: int) -> Rows | None:
    value, indices = node.inputs
    shape = m.graph.types[indices].shape
    depth = shape[-1]
    assert isinstance(depth, int)
    if axis < len(shape) - 1:
        return None
    rows = _rows(m, value, axis - (len(shape) - 1) + op.batch_dims + depth, whole=True)
    return rows.then(_without(m.graph.types[node.outputs[0]].shape, axis), op, indices)


# What a layer sums up -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Term:
    """Channels of a layer's input: a value with a sign, and whether it is in a difference."""

    value: str
    axis: int
    first: int
    sign: int = 1
    differs: bool = False


def _terms(m: Match, term: Term, depth: int = DEPTH) -> Iterator[Term]:
    """What these channels are the sum of, or consist of."""
    node = m.maker(term.value)
    parts = list(_parts(m, node, term)) if node and depth else []
    for part in parts:
        yield from _terms(m, part, depth - 1)
    if not parts:
        yield term


def _parts(m: Match, node: Node, term: Term) -> Iterator[Term]:
    types, whole = m.graph.types, m.graph.types[term.value]
    if any(i in m.graph.constants for i in node.inputs):
        return
    if isinstance(node.op, Concat) and normal_axis(node.op.axis, whole.rank) == term.axis:
        first = term.first
        for value in node.inputs:
            yield replace(term, value=value, first=first)
            size = types[value].shape[term.axis]
            assert isinstance(size, int)
            first += size
    if not isinstance(node.op, Add | Sub | Neg):
        return
    same = (types[i].rank == whole.rank for i in node.inputs)
    if all(same) and len({types[i].shape[term.axis] for i in node.inputs}) == 1:
        differs = term.differs or isinstance(node.op, Sub)
        for place, value in enumerate(node.inputs):
            minus = isinstance(node.op, Neg) or (isinstance(node.op, Sub) and place)
            sign = -term.sign if minus else term.sign
            yield replace(term, value=value, sign=sign, differs=differs)


@dataclass(frozen=True, eq=False)
class Product:
    """Rows, and the weights (channels, features) that they are multiplied by."""

    rows: Rows
    weights: Wide

    def multiply_adds(self, m: Match) -> Dim:
        source = m.graph.types[self.rows.source].shape
        features: Dim = self.weights.shape[1]
        return product(source) * features


def _products(m: Match, axis: int, weights: Wide) -> list[Product]:
    """The layer as a sum of products, one for each value that is copied; the least work first."""
    found: dict[tuple[str, int], Wide] = {}
    differences, others = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for term in _terms(m, Term(m.value("x"), axis, 0)):
        size = m.graph.types[term.value].shape[term.axis]
        assert isinstance(size, int)
        part = term.sign * weights[term.first : term.first + size]
        key = term.value, term.axis
        found[key] = found[key] + part if key in found else part
        sums = differences if term.differs else others
        sums += np.abs(part).sum(axis=0)
    products = [Product(_rows(m, *key), w) for key, w in found.items()]
    _require_gain(m, weights, products)
    # Both sides of a difference were counted.
    lost = differences / 2 > MOST_OFFSET * np.maximum(others, others.mean())
    m.require(not lost.any(), "digits would be lost where the terms of a difference are close")
    return products


def _require_gain(m: Match, weights: Wide, products: list[Product]) -> None:
    """NoMatch unless there is less to multiply, whatever the sizes will be."""
    before = product(m.type("x").shape) * weights.shape[1]
    m.require(before != 0, "")  # Of nothing, nothing is twice as much.
    after = reduce(lambda a, p: a + p.multiply_adds(m), products, _NOTHING)
    copied = any(step.op for p in products for step in p.rows.steps)
    m.require(
        never_negative(before - GAIN * after),
        "the copies are not known to be more than what is copied" if copied else "",
    )


# The layer ----------------------------------------------------------------------------------------


def _made(m: Match, one: Product, bias: Source) -> Made:
    """The product with what is copied, then the copies."""
    rows, dtype = one.rows, m.type().dtype
    type_ = m.graph.types[rows.source]
    x: Source = rows.source
    if rows.axis != type_.rank - 1:
        rest = (a for a in range(type_.rank) if a != rows.axis)
        x = Made(Transpose((*rest, rows.axis)), (x,))
    weights = m.changed("w", rounded(m, one.weights, dtype, -1))
    made = Made(Dense(), (x, weights, bias))
    features = one.weights.shape[1]
    before = _without(type_.shape, rows.axis)
    for step in rows.steps:
        if step.op is None:
            old, new = (type_.reshaped((*s, features)) for s in (before, step.shape))
            made = Made(reshape(old, new) or Reshape(new.shape), (made,))
        else:
            made = Made(step.op, (made, step.indices) if step.indices else (made,))
        before = step.shape
    return made


def _layer(m: Match, axis: int, weights: Wide, activation: Elementwise) -> Made:
    """activation(sum of products + b), with the features last."""
    products = _products(m, axis, weights)
    wanted = _without(m.type().shape, axis)
    try:
        m.require(broadcast(p.rows.shape for p in products) == wanted, "")
    except ShapeError:
        raise NoMatch from None
    zeros = m.changed("b", np.zeros_like(m.constant("b")))
    # The bias is added where there are the fewest rows.
    products.sort(key=lambda p: sum(step.op is not None for step in p.rows.steps))
    terms = [_made(m, p, m.value("b") if not i else zeros) for i, p in enumerate(products)]
    total = reduce(lambda a, b: Made(Add(), (a, b)), terms)
    return total if activation == NoActivation() else Made(activation, (total,))


@rule("sofie.ConvLayer(x, w, b)")
def convolution_of_copies(m: Match) -> Rewrite:
    """w1 * x_i + w2 * (x_j - x_i) = (w1 - w2) * x_i + w2 * x_j, and copies of these products"""
    op, w = m.op(ConvLayer), m.constant("w")
    m.require(is_pointwise(op, m.type("x").shape, w.shape), "")
    made = _layer(m, 1, wide(w.reshape(w.shape[:2]).T), op.activation)
    rank = m.type().rank
    return Rewrite(m.nodes, Transpose((0, rank - 1, *range(1, rank - 1))), (made,))


@rule("Dense(x, w, b)")
def dense_of_copies(m: Match) -> Rewrite:
    """x_i @ w1 + (x_j - x_i) @ w2 = x_i @ (w1 - w2) + x_j @ w2, and copies of these products"""
    w = m.constant("w")
    made = _layer(m, m.type("x").rank - 1, wide(w), m.op(Dense).activation)
    return Rewrite(m.nodes, made.op, made.inputs)


products_of_copies = Rules("products_of_copies", (convolution_of_copies, dense_of_copies))
