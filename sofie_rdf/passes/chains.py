"""Neighbouring element-wise functions of one shape become one pass over memory."""

from __future__ import annotations

import numpy as np

from sofie_rdf.ir.types import Array
from sofie_rdf.ops.chains import MOST, Then
from sofie_rdf.ops.elementwise import (
    Abs,
    Add,
    Between,
    Div,
    Elementwise,
    Gate,
    LeakyRelu,
    Mul,
    Neg,
    PRelu,
    Reciprocal,
    Relu,
    Sqrt,
    Sub,
)
from sofie_rdf.ops.normalization import BatchNormalization
from sofie_rdf.passes.affine import rounded, wide
from sofie_rdf.passes.rewrite import Match, New, Rewrite, Rules, rule

__all__ = ["fuse_chains", "known_statistics"]


# Other functions take longer than memory does, and the more code is made of each the longer Cling
# takes to compile it.
CHEAP = (Abs, Add, Between, Div, LeakyRelu, Mul, Neg, PRelu, Reciprocal, Relu, Sqrt, Sub)


@rule("BatchNormalization(x, scale, bias, mean, var)")
def statistics(m: Match) -> Rewrite:
    """= (x - mean) * (scale / sqrt(var + epsilon)) + bias, with known numbers for each channel"""
    dtype, rank = m.type().dtype, m.type("x").rank
    m.require(dtype in Then.dtypes, "")
    scale, bias, mean, var = (m.constant(name) for name in ("scale", "bias", "mean", "var"))
    with np.errstate(all="ignore"):
        factor = wide(scale) / np.sqrt(wide(var) + m.op(BatchNormalization).epsilon)
    factor = rounded(m, factor, dtype)

    def along(name: str, array: Array) -> New:
        return m.changed(name, array.reshape(-1, *(1,) * (rank - 2)))

    op = Then(Then(Sub(), Mul()), Add())
    numbers = along("mean", mean), along("scale", factor), along("bias", bias)
    return m.becomes(op, "x", *numbers)


@rule("Where(LessOrEqual(y, low), zero, g)")
def gate(m: Match) -> Rewrite:
    """0 where y <= 0, else g: one pass over memory without booleans"""
    low, zero = m.constant("low"), m.constant("zero")
    m.require(low.size == zero.size == 1 and not low.any() and not zero.any(), "")
    m.require(not np.signbit(zero).any(), "")
    m.require(m.type("y") == m.type("g") == m.type() and m.type().dtype in Then.dtypes, "")
    return m.becomes(Gate(), "g", "y")


_INNER = (
    "Unary(a)",
    "Binary(a, b)",
    "sofie.Then(a)",
    "sofie.Then(a, b)",
    "sofie.Then(a, b, c)",
    "sofie.Then(a, b, c, d)",
)


@rule(*(outer.format(inner) for inner in _INNER for outer in ("Unary({})", "Binary({}, z)")))
def then(m: Match) -> Rewrite:
    """second(first(a, ...), z) in one pass over memory"""
    return _chained(m, behind=False)


@rule(*(f"Binary(z, {inner})" for inner in _INNER))
def then_behind(m: Match) -> Rewrite:
    """second(z, first(a, ...)) in one pass over memory"""
    return _chained(m, behind=True)


def _chained(m: Match, *, behind: bool) -> Rewrite:
    second, first = (n.op for n in m.nodes)
    assert isinstance(first, Elementwise) and isinstance(second, Elementwise)
    cheap = all(isinstance(op, (*CHEAP, Then)) for op in (first, second))
    m.require(cheap, "")
    m.require(m.type() == m.graph.types[m.nodes[1].outputs[0]], "it gives another shape or type")
    names = [name for name in "abcdz" if name in m.values]
    m.require(m.type().dtype in Then.dtypes, "")
    m.require(all(m.type(n).dtype is m.type().dtype for n in names), "")
    m.require(len(names) <= MOST, f"together they have more than {MOST} inputs")
    return m.becomes(Then(first, second, behind), *names)


known_statistics = Rules("known_statistics", (statistics,))
fuse_chains = Rules("fuse_chains", (gate, then, then_behind))
