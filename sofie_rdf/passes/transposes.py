"""Transposes moved behind what does not mind the order of axes, until two of them meet.

Files that come from layers with channels last are full of pairs with something between them. A
Transpose moves towards the outputs only, so that this ends; what it moves past computes the same
numbers in another order of axes (a sum may be added up in another order as well).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sofie_rdf.ir.types import Shape, normal_axis
from sofie_rdf.ops.convolution import ConvLayer
from sofie_rdf.ops.indexing import Slice
from sofie_rdf.ops.layout import Concat, Transpose
from sofie_rdf.ops.linear import Dense
from sofie_rdf.ops.reduction import KnownReduction
from sofie_rdf.passes.convolutions import is_pointwise
from sofie_rdf.passes.rewrite import Match, Rewrite, Rules, Source, rule
from sofie_rdf.passes.simplify import reshape, transposes

__all__ = ["as_reshapes", "move_transposes", "pointwise_convolutions", "split_axes"]


def _permutation(m: Match) -> tuple[int, ...]:
    """How the axes of x are permuted, or of the first input."""
    rank = m.type("x").rank
    return m.op(Transpose).permutation(rank)


@rule("Unary(Transpose(x))", "Clip(Transpose(x), low)", "Clip(Transpose(x), low, high)")
def function(m: Match) -> Rewrite:
    """f(Transpose(x)) = Transpose(f(x))"""
    bounds = [name for name in ("low", "high") if name in m.values]
    return m.becomes(m.op(Transpose), m.made(m.root.op, "x", *bounds))


@rule("Binary(Transpose(x), Transpose(y))")
def function_of_two(m: Match) -> Rewrite:
    """f(Transpose(x), Transpose(y)) = Transpose(f(x, y)), for the same order of axes"""
    orders = {_order(m, name) for name in ("x", "y")}
    m.require(len(orders) == 1, "the axes are in two orders")
    return m.becomes(m.op(Transpose), m.made(m.root.op, "x", "y"))


def _order(m: Match, name: str) -> tuple[int, ...]:
    """How the axes of this variable are permuted."""
    (found,) = {
        n.op.permutation(m.type(name).rank)
        for n in m.nodes
        if isinstance(n.op, Transpose) and n.inputs[0] == m.values[name]
    }
    return found


@rule(
    "Binary(Transpose(x), c)",
    "Binary(c, Transpose(x))",
    "sofie.Then(Transpose(x), c, d)",
    "sofie.Then(Transpose(x), c, d, e)",
)
def function_with_constant(m: Match) -> Rewrite:
    """f(Transpose(x), c) = Transpose(f(x, c with the axes of x))"""
    constants = [_turned(m, name) for name in "cde" if name in m.values]
    first = m.root.inputs[0] != m.values["c"]
    inputs: Sequence[Source] = ("x", *constants) if first else (*constants, "x")
    return m.becomes(m.op(Transpose), m.made(m.root.op, *inputs))


def _turned(m: Match, name: str) -> Source:
    """The constant with the axes of x."""
    array, order = m.constant(name), _permutation(m)
    m.require(array.ndim <= len(order), "the constant has more axes")
    if array.size == 1:
        return name
    full = array.reshape((1,) * (len(order) - array.ndim) + array.shape)
    return m.changed(name, np.transpose(full, np.argsort(order)))


@rule(*(f"Concat({', '.join(f'Transpose({c})' for c in 'xyzuvw'[:n])})" for n in range(2, 7)))
def concat(m: Match) -> Rewrite:
    """Concat(Transpose(x), Transpose(y), ...) = Transpose(Concat(x, y, ...)), of the same order"""
    names = [name for name in "xyzuvw" if name in m.values]
    orders = {_order(m, name) for name in names}
    m.require(len(orders) == 1, "the axes are in several orders")
    (order,) = orders
    axis = order[normal_axis(m.op(Concat).axis, len(order))]
    return m.becomes(m.op(Transpose), m.made(Concat(axis), *names))


@rule("Slice(Transpose(x))")
def part(m: Match) -> Rewrite:
    """Slice(Transpose(x)) = Transpose(Slice(x)) along the axes of x: less is moved"""
    op, order = m.op(Slice), _permutation(m)
    given = range(len(op.starts)) if op.axes is None else op.axes
    axes = tuple(order[normal_axis(a, len(order))] for a in given)
    return m.becomes(m.op(Transpose), m.made(replace(op, axes=axes), "x"))


@rule("KnownReduction(Transpose(x))")
def reduction(m: Match) -> Rewrite:
    """Reduce(Transpose(x)) = Transpose(Reduce(x)) over the axes of x"""
    op, order = m.op(KnownReduction), _permutation(m)
    reduced = op.reduced(op.axes, len(order))
    m.require(reduced, "nothing is reduced")
    axes = sorted(order[a] for a in reduced)
    rest = list(order) if op.keepdims else [a for a in order if a not in axes]
    perm = tuple(sorted(rest).index(a) for a in rest)
    return m.becomes(Transpose(perm), m.made(replace(op, axes=tuple(axes)), "x"))


@rule("sofie.ConvLayer(Transpose(x), w, b)")
def pointwise(m: Match) -> Rewrite:
    """A convolution of single points whose channels were last in memory is a dense layer there"""
    op, order = m.op(ConvLayer), _permutation(m)
    rank = len(order)
    m.require(order == (0, rank - 1, *range(1, rank - 1)), "the channels were not last")
    w = m.constant("w")
    pointwise = is_pointwise(op, m.type(Transpose).shape, w.shape)
    m.require(pointwise, "it is of more than single points")
    weights = m.changed("w", w.reshape(w.shape[:2]).T)
    dense = m.made(Dense(op.activation), "x", weights, "b")
    return m.becomes(m.op(Transpose), dense)


@rule("Reshape(Transpose(x))")
def split_axis(m: Match) -> Rewrite:
    """A Transpose of which one axis is split afterwards: x is split, then transposed"""
    order, before, after = _permutation(m), m.type(Transpose).shape, m.type().shape
    found = _split(before, after)
    m.require(found is not None, "")
    assert found is not None
    axis = order[found]
    shape = (*m.type("x").shape[:axis], *after[found : found + 2], *m.type("x").shape[axis + 1 :])
    op = reshape(m.type("x"), m.type("x").reshaped(shape))
    m.require(op, "its shape is too complicated")
    assert op is not None
    parts = ((axis, axis + 1) if a == axis else (a + (a > axis),) for a in order)
    return m.becomes(Transpose(tuple(a for part in parts for a in part)), m.made(op, "x"))


def _split(before: Shape, after: Shape) -> int | None:
    """The axis that is two axes afterwards, if that is all that changes."""
    if len(after) != len(before) + 1:
        return None
    for axis, size in enumerate(before):
        rest = before[:axis] == after[:axis] and before[axis + 1 :] == after[axis + 2 :]
        if rest and after[axis] * after[axis + 1] == size and 1 not in after[axis : axis + 2]:
            return axis
    return None


@rule("Transpose(x)")
def as_reshape(m: Match) -> Rewrite:
    """A Transpose that moves axes of size 1 only moves nothing in memory: it is a Reshape"""
    shape, order = m.type("x").shape, _permutation(m)
    moved = [a for a in order if shape[a] != 1]
    m.require(moved == sorted(moved), "")
    op = reshape(m.type("x"), m.type())
    m.require(op, "its shape is too complicated")
    assert op is not None
    return m.becomes(op, "x")


_MOVES = (
    function,
    function_of_two,
    function_with_constant,
    concat,
    part,
    reduction,
    split_axis,
    transposes,
)

move_transposes = Rules("move_transposes", _MOVES)
split_axes = Rules("split_axes", (split_axis, transposes))
pointwise_convolutions = Rules("pointwise_convolutions", (*_MOVES, pointwise))
as_reshapes = Rules("as_reshapes", (as_reshape,))
