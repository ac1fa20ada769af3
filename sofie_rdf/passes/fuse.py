"""Dense layers out of what files write for them: products, offsets, normalisations, activations.

Constants are combined in float64 and then rounded. The results differ from those of the original
in their last digits; where more than these would be lost, a rule refuses.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sofie_rdf.ir.types import DType, concrete
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import FLOATS, Add, Mul, Unary
from sofie_rdf.ops.layout import Transpose
from sofie_rdf.ops.linear import Dense, Gemm, MatMul, NoActivation
from sofie_rdf.ops.quantization import IntegerDense
from sofie_rdf.passes.affine import rounded, step_at, steps_before, vector, wide
from sofie_rdf.passes.rewrite import Match, New, NoMatch, Rewrite, Rules, rule

__all__ = ["fuse_integers", "fuse_layers", "fuse_normalizations"]

# Products -----------------------------------------------------------------------------------------


@rule("Gemm(x, w)", "Gemm(x, w, c)")
def gemm(m: Match) -> Rewrite:
    """(alpha * x) @ op(w) + beta * c = x @ (alpha * op(w)) + (beta * c)"""
    op, dtype = m.op(Gemm), m.type("x").dtype
    m.require(dtype in FLOATS, f"Dense is for floating-point numbers, not {dtype}")
    m.require(not op.transA, "its first factor is transposed")
    w = m.constant("w").T if op.transB else m.constant("w")
    if op.alpha != 1:
        w = rounded(m, wide(w) * op.alpha, dtype, -1)
    weights = m.changed("w", w) if op.transB or op.alpha != 1 else "w"
    if "c" not in m.values or op.beta == 0:
        return m.becomes(Dense(), "x", weights, _no_bias(m))
    b = vector(m, m.value("c"), m.type(), -1) * op.beta
    same = op.beta == 1 and m.type("c").shape == b.shape
    return m.becomes(Dense(), "x", weights, "c" if same else m.changed("c", rounded(m, b, dtype)))


@rule("Gemm(a, b)", "Gemm(a, b, c)")
def product(m: Match) -> Rewrite:
    """alpha * op(a) @ op(b) + beta * c, where one of them is transposed or computed"""
    op, dtype = m.op(Gemm), m.type("a").dtype
    constant = m.value("b") in m.graph.constants
    if dtype not in FLOATS or (constant and not op.transA):
        raise NoMatch  # The rule before has said why.
    turned = Transpose((1, 0))
    a = m.made(turned, "a") if op.transA else "a"
    if constant:
        present = [name for name in ("b", "c") if name in m.values]
        return m.becomes(replace(op, transA=False), a, *present)
    b = m.made(turned, "b") if op.transB else "b"
    alpha, beta = (New("factor", np.array(f, dtype.numpy)) for f in (op.alpha, op.beta))
    alone = "c" not in m.values or op.beta == 0
    if op.alpha == 1:
        if alone:
            return m.becomes(MatMul(), a, b)
        y = m.made(MatMul(), a, b)
    elif alone:
        return m.becomes(Mul(), m.made(MatMul(), a, b), alpha)
    else:
        y = m.made(Mul(), m.made(MatMul(), a, b), alpha)
    return m.becomes(Add(), y, "c" if op.beta == 1 else m.made(Mul(), "c", beta))


@rule("MatMul(x, w)")
def matmul(m: Match) -> Rewrite:
    """(x @ w) = x @ w + 0, where w is a constant matrix"""
    w, dtype = m.constant("w"), m.type("x").dtype
    m.require(w.ndim == 2, f"its second factor has {w.ndim} axes, and Dense needs a matrix")
    m.require(dtype in FLOATS, f"Dense is for floating-point numbers, not {dtype}")
    return m.becomes(Dense(), "x", "w", _no_bias(m))


def _no_bias(m: Match) -> New:
    """A bias of zeros, called as the bias beside such weights would be called."""
    weights, y = m.value("w"), m.type()
    zeros = np.zeros(concrete(y.shape[-1:], {}), y.dtype.numpy)
    for word in ("weight", "kernel"):
        if word in weights:
            return New("bias".join(weights.rsplit(word, 1)), zeros)
    return New(f"{weights}_bias", zeros)


# What follows a Dense -----------------------------------------------------------------------------


@rule(
    "Add(Dense(x, w, b), c)",
    "Sub(Dense(x, w, b), c)",
    "Sub(c, Dense(x, w, b))",
    "Mul(Dense(x, w, b), c)",
    "Div(Dense(x, w, b), c)",
    "Neg(Dense(x, w, b))",
    "BatchNormalization(Dense(x, w, b), scale, bias, mean, var)",
)
def affine_after(m: Match) -> Rewrite:
    """(x @ w + b) * s + t = x @ (w * s) + (b * s + t)"""
    # No digits are lost here: x @ w is rounded in both forms, before and after the scaling.
    dense, dtype = m.op(Dense), m.type().dtype
    m.require(dense.activation == NoActivation(), f"{dense.activation.name} comes before it")
    w, b = wide(m.constant("w")), wide(m.constant("b"))
    step = step_at(m, m.root, m.value(Dense), -1)
    with np.errstate(all="ignore"):
        biases = rounded(m, b * step.scale + step.offset, dtype)
        # A bias of zeros is one that we made up: the name of the real one is better.
        named = m.changed("c" if m.root.op == Add() and not b.any() else "b", biases)
        if (step.scale == 1).all():
            return m.becomes(dense, "x", "w", named)
        return m.becomes(dense, "x", m.changed("w", rounded(m, w * step.scale, dtype, -1)), named)


@rule("Unary(Dense(x, w, b))")
def activation(m: Match) -> Rewrite:
    """f(x @ w + b), computed while the sums are at hand"""
    dense = m.op(Dense)
    m.require(dense.activation == NoActivation(), f"{dense.activation.name} comes before it")
    m.require(m.type() == m.type(Dense), f"its result is {m.type().dtype}")
    return m.becomes(replace(dense, activation=m.op(Unary)), "x", "w", "b")


# Integers -----------------------------------------------------------------------------------------


@rule(
    "Mul(Cast(MatMulInteger(a, w)), f)",
    "Mul(Cast(MatMulInteger(a, w, p)), f)",
    "Mul(Cast(MatMulInteger(a, w, p, q)), f)",
)
def integers(m: Match) -> Rewrite:
    """float((a - p) @ (w - q)) * f, while the sums are at hand"""
    w, shape = m.constant("w"), m.type().shape
    m.require(w.ndim == 2 and m.type("a").rank > 0, "its weights are no matrix")
    m.require(m.type() == m.type(Cast) and m.type().dtype is DType.FLOAT32, "it is not in float32")
    m.require(m.type("f").shape in ((), (1,), shape[-1:]), "rows have factors of their own")
    if "p" in m.values:
        m.require(m.type("p").size == 1, "rows have zero points of their own")
    if "q" in m.values:
        m.require(m.constant("q").ndim < 2, "")
    none = [New("zero", np.zeros((), m.type(value).dtype.numpy)) for value in "aw"]
    zeros = [value if value in m.values else zero for value, zero in zip("pq", none, strict=True)]
    # Of all numbers this one changes nothing when it is added.
    b = New("offset", np.full(w.shape[1:], -0.0, np.float32))
    return m.becomes(IntegerDense(), "a", "w", *zeros, "f", b)


@rule("Add(sofie.IntegerDense(a, w, p, q, f, b), c)")
def offset_of_integers(m: Match) -> Rewrite:
    """... * f + c"""
    b = m.constant("b")
    m.require(not b.any() and np.signbit(b).all() and not m.op(IntegerDense).relu, "")
    m.require(m.type() == m.type(IntegerDense), "it gives another shape")
    c = vector(m, m.value("c"), m.type(), -1).astype(np.float32)
    same = m.type("c").shape == b.shape
    return m.becomes(m.op(IntegerDense), *"awpqf", "c" if same else m.changed("c", c))


@rule("Relu(sofie.IntegerDense(a, w, p, q, f, b))")
def relu_of_integers(m: Match) -> Rewrite:
    """max(0, ... * f + b)"""
    return m.becomes(IntegerDense(relu=True), *"awpqfb")


# What precedes a Dense ----------------------------------------------------------------------------


@rule("Dense(x, w, b)")
def affine_before(m: Match) -> Rewrite:
    """(x * s + t) @ w + b = x @ (s * w) + (t @ w + b), for all such steps before it together"""
    # All or none: to fold some, and judge the others later, would forget what scale they have.
    old_w, old_b = wide(m.constant("w")), wide(m.constant("b"))
    steps, end = steps_before(m, -1)
    if steps is None:
        raise NoMatch(end)
    m.require(not steps.objection(), steps.objection())
    s, t, dtype = steps.affine.scale, steps.affine.offset, m.type("x").dtype
    with np.errstate(all="ignore"):
        w = rounded(m, s[:, None] * old_w, dtype, -1)
        # t @ w, but with the weights as they are now: near the mean, where x * s + t is 0, their
        # rounding then cancels, as it does in the original.
        b = rounded(m, (t / s) @ wide(w) + old_b, dtype)
    full = m.absorb(steps.nodes, x=steps.source)
    return full.becomes(m.op(Dense), "x", full.changed("w", w), full.changed("b", b))


fuse_layers = Rules("fuse_layers", (gemm, product, matmul, affine_after, activation))
fuse_integers = Rules("fuse_integers", (integers, offset_of_integers, relu_of_integers))
# Later, because a scaling after it would round the weights again and undo its compensation.
fuse_normalizations = Rules("fuse_normalizations", (affine_before,))
