"""Functions of keras.ops that reduce axes, and products of matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Nested, Value, flatten
from sofie_rdf.frontends.keras.rules._tools import axes_of
from sofie_rdf.frontends.keras.rules._types import as_float, as_value, dtype_named, promoted
from sofie_rdf.frontends.keras.rules.attention import added, in_heads
from sofie_rdf.frontends.keras.rules.core import spelled
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, operation_rule
from sofie_rdf.frontends.keras.rules.normalization import layer_normalized, rms_normalized
from sofie_rdf.frontends.keras.rules.reshaping import reshaped, resized
from sofie_rdf.ir.types import Array, DType, normal_axis
from sofie_rdf.ops.attention import Attention
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.contraction import Einsum
from sofie_rdf.ops.elementwise import Abs, Div, Max, Min, Mul, Pow, Reciprocal, Sqrt, Sub
from sofie_rdf.ops.layout import Squeeze, Transpose, Unsqueeze
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.ops.reduction import (
    CumProd,
    CumSum,
    ReduceL1,
    ReduceL2,
    ReduceLogSumExp,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    ReduceSumSquare,
)
from sofie_rdf.ops.selection import ArgMax, ArgMin, TopK

_REDUCTIONS: Mapping[str, Any] = {
    "Amax": ReduceMax,
    "Amin": ReduceMin,
    "Logsumexp": ReduceLogSumExp,
    "Max": ReduceMax,
    "Mean": ReduceMean,
    "Min": ReduceMin,
    "Prod": ReduceProd,
    "Sum": ReduceSum,
}


def _axes(build: LayerBuilder, layer: Layer, x: str) -> tuple[tuple[int, ...], bool]:
    """The axes that a function reduces, and whether they stay."""
    axes = axes_of(layer.config.get("axis"), build.rank(x))
    return axes, bool(layer.config.get("keepdims"))


def _reduction(kind: Any) -> Any:
    def rule(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
        """A reduction over axes"""
        x = as_value(build, inputs.first)
        if layer.config.get("initial") is not None:
            raise UnsupportedOperator(f"is {layer.class_name} with initial=")
        dtype = build.type(x).dtype
        if kind in (ReduceMean, ReduceLogSumExp):
            x = as_float(build, x)
        elif kind in (ReduceSum, ReduceProd) and not dtype.is_float:
            small = dtype in (DType.BOOL, DType.INT8, DType.INT16)
            x = build.cast(x, DType.INT32) if small else x
        if layer.config.get("dtype"):
            x = build.cast(x, dtype_named(layer.config["dtype"]))
        axes, keep = _axes(build, layer, x)
        return build(kind(axes, keepdims=keep), x) if axes else x

    return rule


for _name, _kind in _REDUCTIONS.items():
    operation_rule(_name)(_reduction(_kind))


def _some(build: LayerBuilder, layer: Layer, x: str, kind: Any) -> Value:
    axes, keep = _axes(build, layer, x)
    number = build(Cast(DType.UINT8), build.cast(x, DType.BOOL))
    return build(Cast(DType.BOOL), build(kind(axes, keepdims=keep), number))


@operation_rule("Any")
def any_(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Whether one is true"""
    return _some(build, layer, inputs.x, ReduceMax)


@operation_rule("All")
def all_(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Whether all are true"""
    return _some(build, layer, inputs.x, ReduceMin)


@operation_rule("CountNonzero")
def count_nonzero(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """How many are not 0"""
    axes, _ = _axes(build, layer, inputs.x)
    number = build(Cast(DType.INT32), build.cast(inputs.x, DType.BOOL))
    return build(ReduceSum(axes, keepdims=False), number)


@operation_rule("Ptp")
def ptp(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The largest minus the smallest"""
    axes, keep = _axes(build, layer, inputs.x)
    largest, smallest = (build(k(axes, keepdims=keep), inputs.x) for k in (ReduceMax, ReduceMin))
    return build(Sub(), largest, smallest)


@operation_rule("Average", parameters="x weights")
def average(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The mean, with weights where there are any"""
    x, weights = as_float(build, inputs.first), inputs.get("weights")
    axes, _ = _axes(build, layer, x)
    if weights is None:
        return build(ReduceMean(axes, keepdims=False), x)
    w = as_value(build, weights, build.type(x).dtype)
    if build.rank(w) != build.rank(x):
        if len(axes) != 1 or build.rank(w) != 1:
            raise UnsupportedOperator("has weights of another shape")
        w = build(Unsqueeze(tuple(i for i in range(build.rank(x)) if i != axes[0])), w)
    total = build(ReduceSum(axes, keepdims=False), build(Mul(), x, w))
    return build(Div(), total, build(ReduceSum(axes, keepdims=False), w))


def _variance(build: LayerBuilder, x: str, axes: Sequence[int], *, keep: bool) -> Value:
    centred = build(Sub(), x, build(ReduceMean(tuple(axes)), x))
    return build(ReduceMean(tuple(axes), keepdims=keep), build(Mul(), centred, centred))


@operation_rule("Var", "Std")
def variance(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The mean of the squared distances from the mean, or its root"""
    x = as_float(build, inputs.first)
    axes, keep = _axes(build, layer, x)
    y = _variance(build, x, axes, keep=keep)
    return build(Sqrt(), y) if layer.class_name == "Std" else y


@operation_rule("Moments")
def moments(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """The mean and the variance"""
    x, keep = inputs.x, bool(layer.config.get("keepdims"))
    axes = axes_of(layer.config.get("axes"), build.rank(x))
    return [build(ReduceMean(axes, keepdims=keep), x), _variance(build, x, axes, keep=keep)]


@operation_rule("Argmax", "Argmin")
def argmax(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The place of the first largest, or smallest"""
    x, axis, keep = inputs.x, layer.config.get("axis"), bool(layer.config.get("keepdims"))
    rank = build.rank(x)
    if axis is None:
        x, axis = reshaped(build, x, (build.type(x).size,)), 0
    kind = ArgMax if layer.class_name == "Argmax" else ArgMin
    found = build(kind(normal_axis(int(axis), build.rank(x)), keepdims=True), x)
    place = build(Cast(DType.INT32), found)
    if layer.config.get("axis") is None:
        return reshaped(build, place, (1,) * rank if keep else ())
    return place if keep else build(Squeeze((normal_axis(int(axis), rank),)), place)


@operation_rule("Cumsum", "Cumprod")
def cumulated(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Sums or products of all up to here"""
    x, axis = inputs.x, layer.config.get("axis")
    if axis is None:
        x, axis = reshaped(build, x, (build.type(x).size,)), 0
    dtype = layer.config.get("dtype")
    if dtype:
        x = build.cast(x, dtype_named(dtype))
    elif build.type(x).dtype is DType.BOOL:
        x = build.cast(x, DType.INT32)
    kind = CumSum if layer.class_name == "Cumsum" else CumProd
    return build(kind(normal_axis(int(axis), build.rank(x))), x)


@operation_rule("Norm")
def norm(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The length of vectors"""
    x, order = as_float(build, inputs.first), layer.config.get("ord")
    axes, keep = _axes(build, layer, x)
    if order not in (None, "euclidean", "fro") and len(axes) > 1:
        raise UnsupportedOperator(f"is the norm of order {order!r} of matrices")
    if order in (None, 2, "euclidean", "fro"):
        return build(ReduceL2(axes, keepdims=keep), x)
    if order == 1:
        return build(ReduceL1(axes, keepdims=keep), x)
    if order in (math.inf, -math.inf, "inf"):
        kind = ReduceMin if order == -math.inf else ReduceMax
        return build(kind(axes, keepdims=keep), build(Abs(), x))
    powers = build(Pow(), build(Abs(), x), build.like(order, x))
    total = build(ReduceSum(axes, keepdims=keep), powers)
    return build(Pow(), total, build.like(1 / order, x))


@operation_rule("Normalize")
def normalize(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x over its length, which is at least epsilon"""
    x, config = as_float(build, inputs.first), layer.config
    epsilon, order = config.get("epsilon"), int(config.get("order", 2))
    epsilon = 1e-7 if epsilon is None else float(epsilon)
    axes = axes_of(config.get("axis", -1), build.rank(x))
    if order == 2:
        length = build(Sqrt(), build(ReduceSumSquare(axes), x))
        return build(
            Mul(), x, build(Min(), build(Reciprocal(), length), build.like(1 / epsilon, x))
        )
    if order == 1:
        length = build(ReduceL1(axes), x)
    else:
        powers = build(Pow(), build(Abs(), x), build.like(order, x))
        length = build(Pow(), build(ReduceSum(axes), powers), build.like(1 / order, x))
    return build(Div(), x, build(Max(), length, build.like(epsilon, x)))


@operation_rule("TopK")
def top_k(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """The largest numbers of the last axis, and their places"""
    config = layer.config
    op = TopK((int(config["k"]),), -1, sorted=bool(config.get("sorted", True)))
    values, places = build.all(op, 2, inputs.x)
    return [values, build(Cast(DType.INT32), places)]


@operation_rule("Sort", "Argsort")
def sort(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The numbers along an axis, the smallest first; or their places"""
    x, axis = inputs.x, layer.config.get("axis", -1)
    if axis is None:
        x, axis = reshaped(build, x, (build.type(x).size,)), 0
    axis = normal_axis(int(axis), build.rank(x))
    op = TopK((build.size(x, axis),), axis, largest=False)
    values, places = build.all(op, 2, x)
    return values if layer.class_name == "Sort" else build(Cast(DType.INT32), places)


# Products ----------------------------------------------------------------------------------------


@operation_rule("Matmul", parameters="x1 x2")
def matmul(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Products of matrices"""
    return build(MatMul(), *promoted(build, inputs.first, inputs.get("x2")))


@operation_rule("Dot", parameters="x1 x2")
def dot(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Sums over the last axis of x1 and the last but one of x2"""
    one, other = promoted(build, inputs.first, inputs.get("x2"))
    if not build.rank(one) or not build.rank(other):
        return build(Mul(), one, other)
    if build.rank(other) <= 2:
        return build(MatMul(), one, other)
    return _tensordot(build, one, other, [build.rank(one) - 1], [build.rank(other) - 2])


@operation_rule("Inner", parameters="x1 x2")
def inner(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Sums over the last axes"""
    one, other = promoted(build, inputs.first, inputs.get("x2"))
    return _tensordot(build, one, other, [build.rank(one) - 1], [build.rank(other) - 1])


@operation_rule("Outer", parameters="x1 x2")
def outer(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """All products"""
    one, other = promoted(build, inputs.first, inputs.get("x2"))
    flat = [reshaped(build, v, (build.type(v).size,)) for v in (one, other)]
    return build(Mul(), build(Unsqueeze((1,)), flat[0]), build(Unsqueeze((0,)), flat[1]))


@operation_rule("Tensordot", parameters="x1 x2")
def tensordot(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Sums over axes of both"""
    one, other = promoted(build, inputs.first, inputs.get("x2"))
    axes = layer.config.get("axes", 2)
    if isinstance(axes, int):
        first = build.rank(one) - axes
        return _tensordot(build, one, other, list(range(first, first + axes)), list(range(axes)))
    pair = [[a] if isinstance(a, int) else list(a) for a in axes]
    return _tensordot(build, one, other, pair[0], pair[1])


def _tensordot(
    build: LayerBuilder, one: str, other: str, left: Sequence[int], right: Sequence[int]
) -> Value:
    ranks = build.rank(one), build.rank(other)
    names = iter("abcdefghijklmnopqrstuvwxyz")
    a, b = ([next(names) for _ in range(r)] for r in ranks)
    for i, j in zip(left, right, strict=True):
        b[normal_axis(j, ranks[1])] = a[normal_axis(i, ranks[0])]
    kept = [c for c in a if c not in b] + [c for c in b if c not in a]
    return build(Einsum(f"{''.join(a)},{''.join(b)}->{''.join(kept)}"), one, other)


@operation_rule("Einsum", parameters="a b c d e f g h")
def einsum(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Sums of products over the axes that an equation names"""
    values = promoted(build, *flatten(list(inputs.arguments.values())))
    equation = str(layer.config["subscripts"]).replace(" ", "")
    if "..." in equation:
        ranks = {build.rank(v) for v in values}
        if len(values) > 1 and len(ranks) > 1:
            raise UnsupportedOperator(f"has the equation {equation!r} with dots of two lengths")
        equation = spelled(equation, build.rank(values[0]))
    return build(Einsum(equation), *values)


# Layers as functions -----------------------------------------------------------------------------


def _array(build: LayerBuilder, given: Any) -> Array | None:
    """A weight that is a constant."""
    if given is None:
        return None
    if isinstance(given, Value):
        found = build.graph.constants.get(given)
        if found is None:
            raise UnsupportedOperator("has weights that are computed")
        return found
    return np.asarray(given)


@operation_rule("LayerNorm", parameters="x gamma beta")
def layer_norm(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta"""
    if layer.config.get("rms_scaling"):
        raise UnsupportedOperator("is layer_normalization with rms_scaling")
    x = inputs.x
    axes = axes_of(layer.config.get("axis", -1), build.rank(x))
    gamma, beta = (_array(build, inputs.get(k)) for k in ("gamma", "beta"))
    shape = [build.size(x, a) for a in axes]
    gamma, beta = (None if w is None else w.reshape(shape) for w in (gamma, beta))
    return layer_normalized(build, x, axes, gamma, beta, _epsilon(layer))


@operation_rule("RMSNorm", parameters="x scale")
def rms_norm(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x / sqrt(mean(x^2) + epsilon) * scale"""
    axes = axes_of(layer.config.get("axis", -1), build.rank(inputs.x))
    scale = _array(build, inputs.get("scale"))
    return rms_normalized(build, inputs.x, axes, scale, _epsilon(layer))


def _epsilon(layer: Layer) -> float:
    given = layer.config.get("epsilon")
    return 1e-7 if given is None else float(given)


@operation_rule("DotProductAttention", parameters="query key value bias mask scale")
def dot_product_attention(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """softmax(scale * q k^T + bias) v of [N, T, heads, size]"""
    config = layer.config
    q, k, v = (inputs.value(n) for n in ("query", "key", "value"))
    bias, mask = inputs.value("bias"), inputs.value("mask")
    if q is None or k is None or v is None or build.rank(q) != 4:
        raise GraphError("needs a query, a key and a value of four axes")
    if bias is not None and mask is not None:
        raise UnsupportedOperator("has a bias and a mask")
    op = Attention(
        is_causal=bool(config.get("is_causal")),
        scale=None if inputs.get("scale") is None else float(inputs.get("scale")),
        softcap=float(config.get("attn_logits_soft_cap") or 0),
    )
    heads = [build(Transpose((0, 2, 1, 3)), x) for x in (q, k, v)]
    if mask is not None:
        bias = added(build, build.cast(mask, DType.BOOL), build.type(q).dtype)
    found = build(op, *heads, in_heads(build, bias, build.shape(k)[1]) or "")
    return build(Transpose((0, 2, 1, 3)), found)


@operation_rule("Resize", parameters="images")
def resize(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """An image in another size"""
    config, x = layer.config, inputs.x
    if config.get("crop_to_aspect_ratio") or config.get("pad_to_aspect_ratio"):
        raise UnsupportedOperator("is resize() that keeps the aspect ratio")
    last = config.get("data_format") in (None, "channels_last")
    if build.rank(x) != 4:
        raise UnsupportedOperator("is resize() of an image without a batch")
    x = build(Transpose((0, 3, 1, 2)), x) if last else x
    y = resized(
        build,
        as_float(build, x),
        str(config.get("interpolation", "bilinear")),
        sizes=[int(s) for s in config["size"]],
        antialias=bool(config.get("antialias")),
    )
    return build(Transpose((0, 2, 3, 1)), y) if last else y
