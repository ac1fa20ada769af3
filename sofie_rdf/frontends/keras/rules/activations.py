"""Activation functions: as layers, and by name in the arguments of other layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from sofie_rdf.errors import UnsupportedOperator, nearest
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Value
from sofie_rdf.frontends.keras.rules._tools import add, axes_of, multiply, part
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, keras_rule, passed
from sofie_rdf.frontends.keras.weights import NoWeights, Weights
from sofie_rdf.ir.types import DType, normal_axis
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import (
    Add,
    Celu,
    Clip,
    Div,
    Elu,
    Exp,
    Gelu,
    Greater,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    LessOrEqual,
    Mish,
    Mul,
    Neg,
    PRelu,
    Relu,
    Selu,
    Shrink,
    Sigmoid,
    Softplus,
    Softsign,
    Sqrt,
    Sub,
    Swish,
    Tanh,
    Where,
)
from sofie_rdf.ops.normalization import LogSoftmax, Softmax
from sofie_rdf.ops.reduction import CumSum, ReduceLogSumExp, ReduceSum
from sofie_rdf.ops.selection import TopK

__all__ = ["FUNCTIONS", "activated", "apply", "function_name", "softmax"]

Function: TypeAlias = Callable[..., Value]


def clip(build: LayerBuilder, x: str, low: float | None, high: float | None) -> Value:
    """min(max(x, low), high), with one of them or both"""
    bounds = ["" if b is None else build.like(b, x) for b in (low, high)]
    return build(Clip(), x, *bounds)


def relu(
    build: LayerBuilder,
    x: str,
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,
) -> Value:
    """x from the threshold on, up to max_value; slope * (x - threshold) below it"""
    slope, limit = float(negative_slope or 0), None if max_value is None else float(max_value)
    threshold = float(threshold or 0)
    if not threshold:
        if slope == 0:
            return build(Relu(), x) if limit is None else clip(build, x, 0.0, limit)
        y = build(LeakyRelu(slope), x)
        return y if limit is None else clip(build, y, None, limit)
    above = build(Greater(), x, build.like(threshold, x))
    below = multiply(build, add(build, x, -threshold), slope) if slope else build.like(0, x)
    y = Value(x) if limit is None else clip(build, x, None, limit)
    return build(Where(), above, y, below)


def softmax(build: LayerBuilder, x: str, axis: Any = -1) -> Value:
    """exp(x) / sum(exp(x)) along one axis, or along several as if they were one"""
    axes = axes_of(axis, build.rank(x))
    if len(axes) == 1:
        return build(Softmax(axes[0]), x)
    return build(Exp(), build(Sub(), x, build(ReduceLogSumExp(axes), x)))


def sparse_plus(build: LayerBuilder, x: str) -> Value:
    """0 below -1, x above 1, (x + 1)^2 / 4 between"""
    up = add(build, x, 1.0)
    middle = multiply(build, build(Mul(), up, up), 0.25)
    low = build(LessOrEqual(), x, build.like(-1, x))
    high = build(Greater(), build.like(1, x), x)
    return build(Where(), low, build.like(0, x), build(Where(), high, middle, x))


def squareplus(build: LayerBuilder, x: str, b: float = 4) -> Value:
    """(x + sqrt(x^2 + b)) / 2"""
    root = build(Sqrt(), add(build, build(Mul(), x, x), float(b)))
    return multiply(build, build(Add(), x, root), 0.5)


def glu(build: LayerBuilder, x: str, axis: int = -1) -> Value:
    """a * sigmoid(b) for the halves a and b of x"""
    axis = normal_axis(axis, build.rank(x))
    half = build.size(x, axis) // 2
    if 2 * half != build.size(x, axis):
        raise UnsupportedOperator("glu halves an axis of an odd size")
    gate = build(Sigmoid(), part(build, x, axis, half, None))
    return build(Mul(), part(build, x, axis, 0, half), gate)


def threshold(build: LayerBuilder, x: str, threshold: float, default_value: float) -> Value:
    """x above the threshold, else the default"""
    above = build(Greater(), x, build.like(threshold, x))
    return build(Where(), above, x, build.like(default_value, x))


def sparsemax(build: LayerBuilder, x: str, axis: int = -1) -> Value:
    """max(x - t, 0), with Keras's own t: the sum of the cumulated sums of the k largest numbers

    The nearest point of the simplex, which Keras means, has the last of these sums instead. All of
    its backends compute the same, which is what networks have learnt with.
    """
    axis = normal_axis(axis, build.rank(x))
    count = build.size(x, axis)
    ordered = build(TopK((count,), axis), x)
    shape = [1] * build.rank(x)
    shape[axis] = count
    ranks = build.constant(np.arange(1, count + 1).reshape(shape), "ranks", _dtype(build, x))
    sums = build(CumSum(axis), ordered)
    inside = build(
        Greater(),
        build(Sub(), ordered, build(Div(), add(build, sums, -1.0), ranks)),
        build.like(0, x),
    )
    number = build(ReduceSum((axis,)), build(Cast(build.type(x).dtype), inside))
    total = build(ReduceSum((axis,)), build(Where(), inside, sums, build.like(0, x)))
    limit = build(Div(), add(build, total, -1.0), number)
    return build(Relu(), build(Sub(), x, limit))


def _dtype(build: LayerBuilder, x: str) -> Any:
    return build.type(x).dtype.numpy


def hard_sigmoid(build: LayerBuilder, x: str) -> Value:
    """relu6(x + 3) / 6; in Keras 2 it was min(max(0.2 x + 0.5, 0), 1)"""
    return build(HardSigmoid(0.2, 0.5) if build.is_keras_2 else HardSigmoid(1 / 6, 0.5), x)


def log_softmax(build: LayerBuilder, x: str, axis: int = -1) -> Value:
    """x - log(sum(exp(x)))"""
    return build(LogSoftmax(axis), x)


def _plain(op: Any) -> Function:
    return lambda build, x: build(op, x)


# By the names that Keras's activations and functions have.
FUNCTIONS: Mapping[str, Function] = {
    "linear": lambda _, x: Value(x),
    "relu": relu,
    "relu6": lambda build, x: clip(build, x, 0.0, 6.0),
    "leaky_relu": lambda build, x, negative_slope=0.2: build(LeakyRelu(float(negative_slope)), x),
    "softmax": softmax,
    "log_softmax": log_softmax,
    "elu": lambda build, x, alpha=1.0: build(Elu(float(alpha)), x),
    "selu": _plain(Selu()),
    "celu": lambda build, x, alpha=1.0: build(Celu(float(alpha)), x),
    "softplus": _plain(Softplus()),
    "softsign": _plain(Softsign()),
    "soft_shrink": lambda build, x, threshold=0.5: build(
        Shrink(float(threshold), float(threshold)), x
    ),
    "hard_shrink": lambda build, x, threshold=0.5: build(Shrink(0.0, float(threshold)), x),
    "sparse_plus": sparse_plus,
    "sparsemax": sparsemax,
    "silu": _plain(Swish()),
    "swish": _plain(Swish()),
    "squareplus": squareplus,
    "gelu": lambda build, x, approximate=False: build(Gelu("tanh" if approximate else "none"), x),
    "glu": glu,
    "tanh": _plain(Tanh()),
    "tanh_shrink": lambda build, x: build(Sub(), x, build(Tanh(), x)),
    "hard_tanh": lambda build, x: clip(build, x, -1.0, 1.0),
    "threshold": threshold,
    "sigmoid": _plain(Sigmoid()),
    "log_sigmoid": lambda build, x: build(Neg(), build(Softplus(), build(Neg(), x))),
    "sparse_sigmoid": _plain(HardSigmoid(0.5, 0.5)),
    "hard_sigmoid": hard_sigmoid,
    "hard_silu": _plain(HardSwish()),
    "hard_swish": _plain(HardSwish()),
    "mish": _plain(Mish()),
    "exponential": _plain(Exp()),
}


def function_name(spec: Any) -> str:
    """The name of an activation function in a config; "" for one that is a layer."""
    if spec is None:
        return "linear"
    if isinstance(spec, str):
        return spec
    if isinstance(spec, Mapping):
        if spec.get("class_name") == "function" and isinstance(spec.get("config"), str):
            return str(spec["config"])
        if isinstance(spec.get("config"), Mapping):
            # Some of Keras's functions are written as classes: Mish is mish.
            kind = str(spec.get("class_name"))
            if kind.lower() in FUNCTIONS and "trainable" not in spec["config"]:
                return kind.lower()
            return ""
    raise UnsupportedOperator(f"has the activation {spec!r}, which is not known")


def activated(build: LayerBuilder, layer: Layer, x: str, key: str = "activation") -> Value:
    """x behind the activation function that an argument of a layer names."""
    return apply(build, layer.config.get(key), x, layer.store.child(key))


def apply(build: LayerBuilder, spec: Any, x: str, store: Weights | None = None) -> Value:
    """x behind a function, or a layer, that a config names."""
    name = function_name(spec)
    if not name:
        found: Value = build.run(Layer.of(spec, store or NoWeights()), {"inputs": Value(x)})
        return found
    name = name.rpartition(">")[2]
    custom = build.custom.get(name)
    if custom is not None:
        made = custom(build, Layer("function", {"name": name}), Inputs({"x": Value(x)}))
        return Value(made)
    if name not in FUNCTIONS or name == "threshold":
        near = nearest(name, FUNCTIONS)
        raise UnsupportedOperator(
            f"has the activation {name!r}, which is not known",
            remedy=near or f'Say what it is: custom_objects={{"{name}": rule}}; see from_keras',
        )
    return FUNCTIONS[name](build, x)


# Layers ------------------------------------------------------------------------------------------


@keras_rule("Activation", mask=passed)
def activation(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """A function by its name"""
    return activated(build, layer, inputs.x)


@keras_rule("ReLU", mask=passed)
def relu_layer(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """max(x, 0), with a slope, a limit and a threshold"""
    keys = ("negative_slope", "max_value", "threshold")
    given = {k: layer.config[k] for k in keys if layer.config.get(k) is not None}
    return relu(build, inputs.x, **given)


@keras_rule("LeakyReLU", mask=passed)
def leaky_relu_layer(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x, and slope * x where that is negative"""
    # Keras 2 called it alpha.
    slope = layer.config.get("negative_slope", layer.config.get("alpha", 0.3))
    return build(LeakyRelu(float(slope)), inputs.x)


@keras_rule("ELU", mask=passed)
def elu_layer(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x, and alpha * (exp(x) - 1) where that is negative"""
    return build(Elu(float(layer.config.get("alpha", 1.0))), inputs.x)


@keras_rule("ThresholdedReLU", mask=passed)
def thresholded_relu(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x above theta, else 0; a layer of Keras 2"""
    return threshold(build, inputs.x, float(layer.config.get("theta", 1.0)), 0.0)


@keras_rule("PReLU", weights="alpha", mask=passed)
def prelu(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x, and alpha * x where that is negative"""
    shape = [d if isinstance(d, int) else None for d in build.shape(inputs.x)[1:]]
    shared = layer.config.get("shared_axes") or []
    for axis in shared if isinstance(shared, (list, tuple)) else [shared]:
        shape[axis - 1] = 1
    return build(PRelu(), inputs.x, build.constant(layer.weight("alpha", shape), "alpha"))


@keras_rule("Softmax", parameters="inputs mask", mask=passed)
def softmax_layer(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """exp(x) / sum(exp(x)); what is masked is 0"""
    x, mask = inputs.x, inputs.value("mask")
    if mask is not None:
        if build.type(mask).dtype is not DType.BOOL:
            mask = build(Greater(), mask, build.like(0.5, mask))
        x = build(Where(), mask, x, build.like(lowest(build.type(x).dtype), x))
    y = softmax(build, x, layer.config.get("axis", -1))
    return y if mask is None else build(Where(), mask, y, build.like(0, y))


def lowest(dtype: DType) -> float:
    """What Keras adds to scores that take no part."""
    return -3e4 if dtype is DType.FLOAT16 else -1e9
