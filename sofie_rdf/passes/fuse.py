"""Dense layers out of what files write for them: products, offsets, normalisations, activations.

Constants are combined in float64 and then rounded. The results differ from those of the original
in their last digits; where more than these would be lost, a rule refuses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sofie_rdf.ir.graph import Node
from sofie_rdf.ir.types import Array, DType, TensorType, concrete
from sofie_rdf.ops.elementwise import FLOATS, Add, Div, Mul, Neg, Sub, Unary
from sofie_rdf.ops.linear import Dense, Gemm, NoActivation
from sofie_rdf.ops.normalization import BatchNormalization
from sofie_rdf.passes.rewrite import Match, New, NoMatch, Rewrite, Rules, rule

__all__ = ["MOST_OFFSET", "fuse_layers", "fuse_normalizations"]

Wide: TypeAlias = NDArray[np.float64]

# Why (x * s + t) @ w + b may only become x @ (s * w) + (t @ w + b) where t is small.
#
# A normalisation (x - mean) / std has the offset t = -mean / std. Left alone it is exact where x
# is near the mean, and its result is of order 1. Folded, the products with x * s and with t are
# rounded, each |t| times as large as their sum: log2 |t| bits are lost. That is as much as x lost
# already when it was rounded to float32 as the data were written, and for physical quantities |t|
# is 1 to 10. But a time stamp or a coordinate in a far-off system can be exact and have |t| of
# 1e6, so beyond 16 (four bits, about one digit) the step stays.
#
# What t is to be compared with is the spread of the result, which is assumed to be 1 as it is what
# normalisation is for; for a BatchNormalization it is known, |scale|. A step that only adds says
# nothing about the spread: x - 1 with x = 1 +- 1e-4 would lose 4 digits however small the offset
# is. So an offset is only folded together with the scaling that belongs to it.
MOST_OFFSET = 16.0

# A column of weights that is smaller has elements with fewer digits than the element type has.
_SMALLEST = {
    DType.FLOAT32: float(np.finfo(np.float32).tiny / np.finfo(np.float32).eps),
    DType.FLOAT64: float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps),
}

STEPS = (Add, Sub, Mul, Div, Neg, BatchNormalization)


@dataclass(frozen=True, eq=False)
class Affine:
    """x * scale + offset for each element along the last axis; the result varies by ``spread``."""

    scale: Wide
    offset: Wide
    spread: float = 1.0

    def after(self, first: Affine) -> Affine:
        """``first``, then this."""
        offset = first.offset * self.scale + self.offset
        return replace(self, scale=first.scale * self.scale, offset=offset)


def _wide(array: Array) -> Wide:
    return array.astype(np.float64)


def _rounded(m: Match, exact: Wide, dtype: DType) -> Array:
    """``exact`` in the element type of the graph; refused where that would lose digits."""
    with np.errstate(over="ignore", under="ignore"):
        found = exact.astype(dtype.numpy)
    m.require(np.isfinite(found).all(), f"the constants are not finite in {dtype}")
    if dtype.is_half:
        # Rounded again, they would lose digits that count.
        m.require(
            np.array_equal(found.astype(np.float64), exact),
            f"combined, the constants are no numbers of {dtype}",
        )
    elif exact.ndim == 2:
        # Beside large elements of a column tiny ones may vanish: they make no difference.
        largest = np.max(np.abs(exact), axis=0, initial=0.0)
        too_small = (largest > 0) & (largest < _SMALLEST[dtype])
        m.require(not too_small.any(), f"the weights are too small for {dtype}")
    return found


def _vector(m: Match, value: str, like: TensorType) -> Wide:
    """The constant as one number for each element along the last axis of ``like``."""
    m.require(value in m.graph.constants, f"{value!r} is not a constant")
    array, n = m.graph.constants[value], like.shape[-1]
    assert isinstance(n, int)
    last = array.shape[-1:]
    m.require(array.shape == (1,) * (array.ndim - len(last)) + last, f"{value!r} is no vector")
    return np.broadcast_to(_wide(array).reshape(-1), (n,))


# Products -----------------------------------------------------------------------------------------


@rule("Gemm(x, w)", "Gemm(x, w, c)")
def gemm(m: Match) -> Rewrite:
    """(alpha * x) @ op(w) + beta * c = x @ (alpha * op(w)) + (beta * c)"""
    op, dtype = m.op(Gemm), m.type("x").dtype
    m.require(dtype in FLOATS, f"Dense is for floating-point numbers, not {dtype}")
    m.require(not op.transA, "its first factor is transposed")
    w = m.constant("w").T if op.transB else m.constant("w")
    if op.alpha != 1:
        w = _rounded(m, _wide(w) * op.alpha, dtype)
    weights = m.changed("w", w) if op.transB or op.alpha != 1 else "w"
    if "c" not in m.values or op.beta == 0:
        return m.becomes(Dense(), "x", weights, _no_bias(m))
    b = _vector(m, m.value("c"), m.type()) * op.beta
    same = op.beta == 1 and m.type("c").shape == b.shape
    return m.becomes(Dense(), "x", weights, "c" if same else m.changed("c", _rounded(m, b, dtype)))


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
    w, b = _wide(m.constant("w")), _wide(m.constant("b"))
    step = _step(m, m.root, m.value(Dense))
    with np.errstate(all="ignore"):
        biases = _rounded(m, b * step.scale + step.offset, dtype)
        # A bias of zeros is one that we made up: the name of the real one is better.
        named = m.changed("c" if m.root.op == Add() and not b.any() else "b", biases)
        if (step.scale == 1).all():
            return m.becomes(dense, "x", "w", named)
        return m.becomes(dense, "x", m.changed("w", _rounded(m, w * step.scale, dtype)), named)


@rule("Unary(Dense(x, w, b))")
def activation(m: Match) -> Rewrite:
    """f(x @ w + b), computed while the sums are at hand"""
    dense = m.op(Dense)
    m.require(dense.activation == NoActivation(), f"{dense.activation.name} comes before it")
    m.require(m.type() == m.type(Dense), f"its result is {m.type().dtype}")
    return m.becomes(replace(dense, activation=m.op(Unary)), "x", "w", "b")


# What precedes a Dense ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Steps:
    """Affine steps that lead to a Dense, the nearest first, as one."""

    nodes: tuple[Node, ...]
    source: str
    affine: Affine

    def objection(self) -> str:
        """Why they are not to be folded; nothing where they may be."""
        scale, offset = self.affine.scale, float(np.max(np.abs(self.affine.offset), initial=0.0))
        if not np.isfinite(scale).all() or not math.isfinite(offset):
            return "the constants of the step are not finite"
        if not scale.all():
            return "a scale is 0"
        if offset and (abs(scale) == 1).all():
            return f"it adds up to {offset:.3g} and nothing says how large that is beside x"
        ratio = offset / self.affine.spread
        if ratio > MOST_OFFSET:
            digits = round(math.log10(ratio))
            loss = f"{digits} digit{'s' if digits > 1 else ''}"
            return f"the offset is {ratio:.3g} times the scale: folding would lose {loss}"
        return ""


@rule("Dense(x, w, b)")
def affine_before(m: Match) -> Rewrite:
    """(x * s + t) @ w + b = x @ (s * w) + (t @ w + b), for all such steps before it together"""
    # All or none: to fold some, and judge the others later, would forget what scale they have.
    old_w, old_b = _wide(m.constant("w")), _wide(m.constant("b"))
    steps, end = _steps(m)
    if steps is None:
        raise NoMatch(end)
    m.require(not steps.objection(), steps.objection())
    s, t, dtype = steps.affine.scale, steps.affine.offset, m.type("x").dtype
    with np.errstate(all="ignore"):
        w = _rounded(m, s[:, None] * old_w, dtype)
        # t @ w, but with the weights as they are now: near the mean, where x * s + t is 0, their
        # rounding then cancels, as it does in the original.
        b = _rounded(m, (t / s) @ _wide(w) + old_b, dtype)
    full = m.absorb(steps.nodes, x=steps.source)
    return full.becomes(m.op(Dense), "x", full.changed("w", w), full.changed("b", b))


def _steps(m: Match) -> tuple[_Steps | None, str]:
    """All affine steps before x as one, if there is any; and why there are no more."""
    found, value = None, m.value("x")
    try:
        while (node := m.maker(value)) is not None:
            variable = [i for i in node.inputs if i not in m.graph.constants]
            if len(variable) != 1:
                break
            (value,) = variable
            step = _step(m, node, value)
            m.require_private(node)
            if found is not None:
                step = found.affine.after(step)
            found = _Steps((*(found.nodes if found else ()), node), value, step)
    except NoMatch as end:
        return found, end.reason
    return found, ""


def _step(m: Match, node: Node, source: str) -> Affine:
    """What the node does to ``source``, as x * s + t; NoMatch where that is not what it does."""
    if not isinstance(node.op, STEPS):
        raise NoMatch
    like = m.graph.types[source]
    m.require(m.graph.types[node.outputs[0]] == like, "the step changes the shape")
    batch = isinstance(node.op, BatchNormalization)
    m.require(not batch or like.rank == 2, f"axis 1 of {like.rank} is normalised, not the last")
    c = [_vector(m, i, like) for i in node.inputs if i != source]
    with np.errstate(all="ignore"):
        return _affine(node, node.inputs.index(source), c, like)


def _affine(node: Node, position: int, c: list[Wide], like: TensorType) -> Affine:
    assert isinstance(like.shape[-1], int)
    one, zero = np.ones(like.shape[-1]), np.zeros(like.shape[-1])
    match node.op, position, c:
        case Neg(), 0, []:
            return Affine(-one, zero)
        case Add(), _, [t]:
            return Affine(one, t)
        case Sub(), 0, [t]:
            return Affine(one, -t)
        case Sub(), 1, [t]:
            return Affine(-one, t)
        case Mul(), _, [s]:
            return Affine(s, zero)
        case Div(), 0, [s]:
            return Affine(1 / s, zero)
        case BatchNormalization(epsilon=epsilon), 0, [scale, bias, mean, var]:
            s = scale / np.sqrt(var + epsilon)
            return Affine(s, bias - mean * s, float(np.max(np.abs(scale), initial=0.0)))
    raise NoMatch


fuse_layers = Rules("fuse_layers", (gemm, matmul, affine_after, activation))
# Later, because a scaling after it would round the weights again and undo its compensation.
fuse_normalizations = Rules("fuse_normalizations", (affine_before,))
