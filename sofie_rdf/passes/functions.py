"""Functions that files spell out become the operators that they are.

Each is as exact as one operator as spelled out, or more: Gelu, Softplus and the normalisations are.
"""

from __future__ import annotations

import numpy as np

from sofie_rdf.ir.types import DType, normal_axis
from sofie_rdf.ops.elementwise import (
    Between,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mish,
    Mul,
    Softplus,
    Swish,
)
from sofie_rdf.ops.normalization import LayerNormalization, RMSNormalization, Softmax
from sofie_rdf.ops.reduction import KnownReduction, ReduceMean
from sofie_rdf.passes.rewrite import Match, Rewrite, Rules, is_all, rule

__all__ = ["known_functions", "rms_normalizations", "squares"]


@rule("PRelu(x, slope)")
def uniform_prelu(m: Match) -> Rewrite:
    """= x if x >= 0 else alpha * x, where all slopes are alpha"""
    slope, alpha = m.constant("slope"), float(np.resize(m.constant("slope"), 1)[0])
    m.require(m.type().dtype.is_float, "LeakyRelu is for floating-point numbers")
    m.require(is_all(slope, alpha), "the slopes differ")
    m.require(m.type() == m.type("x"), "it gives x another shape")
    return m.becomes(LeakyRelu(alpha), "x")


@rule("Mul(x, Sigmoid(x))")
def swish(m: Match) -> Rewrite:
    """= x / (1 + e^-x)"""
    return m.becomes(Swish(), "x")


@rule("Mul(x, HardSigmoid(x))")
def hard_swish(m: Match) -> Rewrite:
    """= x * max(0, min(1, x / 6 + 1/2))"""
    gate, real = m.op(HardSigmoid), m.type().dtype.numpy.type
    exact = real(gate.alpha) == real(1 / 6) and gate.beta == 0.5
    m.require(exact, f"the HardSigmoid is of {gate.alpha} * x + {gate.beta}")
    return m.becomes(HardSwish(), "x")


@rule("Mul(x, Tanh(Softplus(x)))")
def mish(m: Match) -> Rewrite:
    """= x * tanh(ln(1 + e^x))"""
    return m.becomes(Mish(), "x")


def _gated(*gates: str) -> tuple[str, ...]:
    """x * (1 + gate) / 2, the factors in any order."""
    orders = (
        "Mul(Mul(x, Add({}, 1)), 0.5)",
        "Mul(Mul(x, 0.5), Add({}, 1))",
        "Mul(x, Mul(Add({}, 1), 0.5))",
    )
    return tuple(order.format(gate) for gate in gates for order in orders)


@rule(*_gated("Erf(Div(x, 1.4142135623730951))", "Erf(Mul(x, 0.7071067811865476))"))
def gelu(m: Match) -> Rewrite:
    """= x * (1 + erf(x / sqrt 2)) / 2"""
    m.require(m.type() == m.type("x"), "it gives x another shape")
    return m.becomes(Gelu(), "x")


_CUBES = "Pow(x, 3)", "Mul(Mul(x, x), x)"
_SQUARES = "Pow(x, 2)", "Mul(x, x)"
_INNER = (
    *(f"Mul(Add(x, Mul({cube}, 0.044715)), 0.7978845608028654)" for cube in _CUBES),
    *(f"Mul(Mul(x, 0.7978845608028654), Add(Mul({s}, 0.044715), 1))" for s in _SQUARES),
)


@rule(*_gated(*(f"Tanh({inner})" for inner in _INNER)))
def gelu_by_tanh(m: Match) -> Rewrite:
    """= x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3))) / 2"""
    m.require(m.type() == m.type("x"), "it gives x another shape")
    return m.becomes(Gelu("tanh"), "x")


@rule("Where(Greater(x, threshold), x, Softplus(x))")
def softplus(m: Match) -> Rewrite:
    """= ln(1 + e^x), which is x from the threshold on, as far as its digits tell"""
    threshold = m.constant("threshold")
    m.require(m.type().dtype is DType.FLOAT32, f"x is {m.type().dtype}")
    m.require(m.type() == m.type("x"), "it gives x another shape")
    m.require((threshold >= 18).all(), "below the threshold it is not x")
    return m.becomes(Softplus(), "x")


@rule("Clip(x, low)", "Clip(x, low, high)")
def between(m: Match) -> Rewrite:
    """= min(max(x, low), high) with numbers, which layers can apply themselves"""
    m.require(m.type().dtype in Between.dtypes, "")
    low = float(m.constant("low").item())
    high = float(m.constant("high").item()) if "high" in m.values else np.inf
    return m.becomes(Between(low, high), "x")


@rule("Div(Exp(Sub(x, ReduceMax(x))), ReduceSum(Exp(Sub(x, ReduceMax(x)))))")
def softmax(m: Match) -> Rewrite:
    """= e^(x - max x) / sum e^(x - max x) along one axis"""
    rank = m.type("x").rank
    reductions = [n.op for n in m.nodes if isinstance(n.op, KnownReduction)]
    axes = {op.reduced(op.axes, rank) for op in reductions}
    single = len(axes) == 1 and len(next(iter(axes))) == 1
    m.require(single and all(op.keepdims for op in reductions), "it is not along one axis")
    m.require(m.type("x").dtype.is_float, "x is of integers")
    return m.becomes(Softmax(axes.pop()[0]), "x")


_MEAN = "ReduceMean(x)"
_ROOT = f"Sqrt(Add(ReduceMean({{}}(Sub(x, {_MEAN}), {{}})), e))"
_SQUARED = _ROOT.format("Pow", 2), _ROOT.format("Mul", f"Sub(x, {_MEAN})")


def _divided(value: str, root: str) -> tuple[str, ...]:
    return (
        f"Div({value}, {root})",
        f"Mul({value}, Reciprocal({root}))",
        f"Mul({value}, Div(1, {root}))",
    )


@rule(
    *(
        f"Add(Mul({normal}, scale), bias)"
        for root in _SQUARED
        for normal in _divided(f"Sub(x, {_MEAN})", root)
    ),
    # x * f + (bias - mean * f) where f = scale / root, as Keras writes it.
    *(
        f"Add(Mul(x, {factor}), Sub(bias, Mul({_MEAN}, {factor})))"
        for factor in (f"Mul(Reciprocal({root}), scale)" for root in _SQUARED)
    ),
)
def layer_normalization(m: Match) -> Rewrite:
    """= (x - mean) / sqrt(variance + e) * scale + bias"""
    x, scale, bias, e = (m.type(name) for name in ("x", "scale", "bias", "e"))
    m.require(x.dtype is DType.FLOAT32, f"x is {x.dtype}")
    m.require(e.size == 1, f"{e} is no single epsilon")
    axes = range(x.rank - scale.rank, x.rank)
    for op in (n.op for n in m.nodes):
        if isinstance(op, ReduceMean):
            given = sorted(normal_axis(a, x.rank) for a in op.axes or ())
            m.require(op.keepdims and given == list(axes), "the means are over other axes")
    fits = scale.shape == bias.shape == x.shape[axes.start :] and m.type() == x
    m.require(scale.rank and fits, f"{scale} and {bias} are not what is normalised")
    epsilon = float(m.constant("e").item())
    return m.becomes(LayerNormalization(-scale.rank, epsilon), "x", "scale", "bias")


_RMS = tuple(f"Sqrt(Add(ReduceMean({square}), e))" for square in _SQUARES)
_BY_RMS = tuple(normal for root in _RMS for normal in _divided("x", root))


@rule(*(f"Mul({normal}, scale)" for normal in _BY_RMS))
def rms_normalization(m: Match) -> Rewrite:
    """= x / sqrt(mean of x^2 + e) * scale"""
    x, scale, e = m.type("x"), m.type("scale"), m.type("e")
    m.require(x.dtype is DType.FLOAT32, f"x is {x.dtype}")
    m.require(e.size == 1, f"{e} is no single epsilon")
    mean = m.op(ReduceMean)
    axes = tuple(range(x.rank - scale.rank, x.rank))
    given = tuple(sorted(mean.reduced(mean.axes, x.rank)))
    m.require(mean.keepdims and given == axes, "the means are over other axes")
    fits = scale.rank and scale.shape == x.shape[axes[0] :] and m.type() == x
    m.require(fits, f"{scale} is not what is normalised")
    return m.becomes(
        RMSNormalization(axes[0] - x.rank, float(m.constant("e").item())), "x", "scale"
    )


@rule("Pow(x, 2)")
def square(m: Match) -> Rewrite:
    """= x * x, which is rounded once"""
    m.require(m.type().dtype.is_float, "x is of integers")
    m.require(m.type() == m.type("x"), "it gives x another shape")
    return m.becomes(Mul(), "x", "x")


@rule("Pow(x, 3)")
def cube(m: Match) -> Rewrite:
    """= x * x * x, which is rounded twice"""
    m.require(m.type().dtype.is_float, "x is of integers")
    m.require(m.type() == m.type("x"), "it gives x another shape")
    return m.becomes(Mul(), m.made(Mul(), "x", "x"), "x")


known_functions = Rules(
    "known_functions",
    (
        uniform_prelu,
        swish,
        hard_swish,
        mish,
        gelu,
        gelu_by_tanh,
        softplus,
        between,
        softmax,
        layer_normalization,
    ),
)
# Later, because the second half of a layer normalisation is one of these.
rms_normalizations = Rules("rms_normalizations", (rms_normalization,))
# Last, as all of these have squares or cubes in them.
squares = Rules("squares", (square, cube))
