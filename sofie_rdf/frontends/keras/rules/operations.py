"""Functions of keras.ops element by element, and those of its nn module."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Nested, Value
from sofie_rdf.frontends.keras.rules._tools import add, multiply
from sofie_rdf.frontends.keras.rules._types import as_float, as_value, dtype_named, promoted
from sofie_rdf.frontends.keras.rules.activations import FUNCTIONS
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, operation_rule
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import DType
from sofie_rdf.ops import elementwise as e
from sofie_rdf.ops.casts import Cast

# Functions of real numbers: whole numbers become float32.
_REAL: Mapping[str, Operator] = {
    "Arccos": e.Acos(),
    "Arccosh": e.Acosh(),
    "Arcsin": e.Asin(),
    "Arcsinh": e.Asinh(),
    "Arctan": e.Atan(),
    "Arctanh": e.Atanh(),
    "Cos": e.Cos(),
    "Cosh": e.Cosh(),
    "Erf": e.Erf(),
    "Exp": e.Exp(),
    "Log": e.Log(),
    "Reciprocal": e.Reciprocal(),
    "Sin": e.Sin(),
    "Sinh": e.Sinh(),
    "Sqrt": e.Sqrt(),
    "Tan": e.Tan(),
    "Tanh": e.Tanh(),
}
# Functions that keep the type, and that do nothing to whole numbers where they round.
_ANY: Mapping[str, Operator] = {
    "Abs": e.Abs(),
    "Absolute": e.Abs(),
    "BitwiseInvert": e.BitwiseNot(),
    "BitwiseNot": e.BitwiseNot(),
    "Negative": e.Neg(),
    "Sign": e.Sign(),
}
_ROUNDING: Mapping[str, Operator] = {"Ceil": e.Ceil(), "Floor": e.Floor()}


def _real(op: Operator) -> Any:
    def rule(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
        """One of our operators"""
        return build(op, as_float(build, inputs.first))

    return rule


def _any(op: Operator) -> Any:
    def rule(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
        """One of our operators"""
        return build(op, as_value(build, inputs.first))

    return rule


for _name, _op in (*_REAL.items(), *_ROUNDING.items()):
    operation_rule(_name)(_real(_op))
for _name, _op in _ANY.items():
    operation_rule(_name)(_any(_op))


# Two arguments -----------------------------------------------------------------------------------

_BINARY: Mapping[str, Operator] = {
    "Add": e.Add(),
    "BitwiseAnd": e.BitwiseAnd(),
    "BitwiseOr": e.BitwiseOr(),
    "BitwiseXor": e.BitwiseXor(),
    "Equal": e.Equal(),
    "Greater": e.Greater(),
    "GreaterEqual": e.GreaterOrEqual(),
    "Less": e.Less(),
    "LessEqual": e.LessOrEqual(),
    "Maximum": e.Max(),
    "Minimum": e.Min(),
    "Multiply": e.Mul(),
    "Power": e.Pow(),
    "Subtract": e.Sub(),
}
_LOGICAL: Mapping[str, Operator] = {
    "LogicalAnd": e.And(),
    "LogicalOr": e.Or(),
    "LogicalXor": e.Xor(),
}


def _pair(inputs: Inputs) -> tuple[Any, Any]:
    one, other = list(inputs.arguments.values())[:2]
    return one, other


def _binary(op: Operator) -> Any:
    def rule(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
        """One of our operators"""
        one, other = promoted(build, *_pair(inputs))
        if build.type(one).dtype is DType.BOOL and isinstance(op, (e.Add, e.Max)):
            return build(e.Or(), one, other)
        if build.type(one).dtype is DType.BOOL and isinstance(op, (e.Mul, e.Min)):
            return build(e.And(), one, other)
        return build(op, one, other)

    return rule


def _logical(op: Operator) -> Any:
    def rule(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
        """One of our operators"""
        return build(op, *(as_value(build, g, DType.BOOL) for g in _pair(inputs)))

    return rule


for _name, _op in _BINARY.items():
    operation_rule(_name, parameters="x1 x2")(_binary(_op))
for _name, _op in _LOGICAL.items():
    operation_rule(_name, parameters="x1 x2")(_logical(_op))


@operation_rule("NotEqual", parameters="x1 x2")
def not_equal(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x1 != x2"""
    return build(e.Not(), build(e.Equal(), *promoted(build, *_pair(inputs))))


@operation_rule("LogicalNot")
def logical_not(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """not x"""
    return build(e.Not(), as_value(build, inputs.first, DType.BOOL))


@operation_rule("Divide", "TrueDivide", parameters="x1 x2")
def divide(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x1 / x2, of real numbers"""
    one, other = promoted(build, *_pair(inputs))
    return build(e.Div(), as_float(build, one), as_float(build, other))


@operation_rule("DivideNoNan", parameters="x1 x2")
def divide_no_nan(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x1 / x2, and 0 where x2 is 0"""
    one, other = (as_float(build, v) for v in promoted(build, *_pair(inputs)))
    zero = build(e.Equal(), other, build.like(0, other))
    return build(e.Where(), zero, build.like(0, one), build(e.Div(), one, other))


@operation_rule("FloorDivide", parameters="x1 x2")
def floor_divide(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """floor(x1 / x2)"""
    one, other = promoted(build, *_pair(inputs))
    if build.type(one).dtype.is_float:
        return build(e.Floor(), build(e.Div(), one, other))
    return build(e.Div(), build(e.Sub(), one, build(e.Mod(), one, other)), other)


@operation_rule("Mod", parameters="x1 x2")
def mod(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x1 - floor(x1 / x2) * x2"""
    one, other = promoted(build, *_pair(inputs))
    if not build.type(one).dtype.is_float:
        return build(e.Mod(), one, other)
    rest = build(e.Mod(fmod=True), one, other)
    # The rest has the sign of x1; Keras's has that of x2.
    product = build(e.Less(), build(e.Mul(), build(e.Sign(), rest), other), build.like(0, rest))
    return build(e.Where(), product, build(e.Add(), rest, other), rest)


@operation_rule("Fmod", parameters="x1 x2")
def fmod(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """What is left of x1 / x2, with the sign of x1"""
    return build(e.Mod(fmod=True), *promoted(build, *_pair(inputs)))


@operation_rule("Logaddexp", parameters="x1 x2")
def logaddexp(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """log(exp(x1) + exp(x2))"""
    one, other = (as_float(build, v) for v in promoted(build, *_pair(inputs)))
    apart = build(e.Neg(), build(e.Abs(), build(e.Sub(), one, other)))
    return build(e.Add(), build(e.Max(), one, other), build(e.Softplus(), apart))


@operation_rule("Hypot", parameters="x1 x2")
def hypot(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """sqrt(x1^2 + x2^2), without squares that are too large"""
    one, other = (build(e.Abs(), as_float(build, v)) for v in promoted(build, *_pair(inputs)))
    large, small = build(e.Max(), one, other), build(e.Min(), one, other)
    none = build(e.Equal(), large, build.like(0, large))
    ratio = build(e.Div(), small, build(e.Where(), none, build.like(1, large), large))
    root = build(e.Sqrt(), add(build, build(e.Mul(), ratio, ratio), 1))
    return build(e.Mul(), large, root)


@operation_rule("Where", parameters="condition x1 x2")
def where(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x1 where the condition holds, else x2"""
    if inputs.get("x1") is None:
        raise UnsupportedOperator("is where() of a condition alone", remedy="Give x1 and x2")
    condition = as_value(build, inputs.get("condition"), DType.BOOL)
    return build(e.Where(), condition, *promoted(build, inputs.get("x1"), inputs.get("x2")))


# One argument ------------------------------------------------------------------------------------


@operation_rule("Square")
def square(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x^2"""
    return build(e.Mul(), inputs.x, inputs.x)


@operation_rule("Rsqrt")
def rsqrt(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """1 / sqrt(x)"""
    return build(e.Reciprocal(), build(e.Sqrt(), as_float(build, inputs.first)))


def _scaled(op: Operator, factor: float, *, before: bool = False) -> Any:
    def rule(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
        """A function times a number, or of a number times x"""
        x = as_float(build, inputs.first)
        return (
            build(op, multiply(build, x, factor))
            if before
            else multiply(build, build(op, x), factor)
        )

    return rule


operation_rule("Log2")(_scaled(e.Log(), 1 / math.log(2)))
operation_rule("Log10")(_scaled(e.Log(), 1 / math.log(10)))


def _factor(number: float) -> Any:
    def rule(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
        """x times a number"""
        return multiply(build, as_float(build, inputs.first), number)

    return rule


operation_rule("Deg2rad")(_factor(math.pi / 180))
operation_rule("Rad2deg")(_factor(180 / math.pi))


@operation_rule("Exp2")
def exp2(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """2^x"""
    x = as_float(build, inputs.first)
    return build(e.Pow(), build.like(2, x), x)


def _near_zero(build: LayerBuilder, x: str, near: Value, far: Value) -> Value:
    small = build(e.Less(), build(e.Abs(), x), build.like(0.5, x))
    return build(e.Where(), small, near, far)


@operation_rule("Expm1")
def expm1(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """exp(x) - 1; near 0, where that cancels, 2 t / (1 - t) with t = tanh(x / 2)"""
    x = as_float(build, inputs.first)
    t = build(e.Tanh(), multiply(build, x, 0.5))
    near = build(e.Div(), multiply(build, t, 2), build(e.Sub(), build.like(1, x), t))
    return _near_zero(build, x, near, add(build, build(e.Exp(), x), -1))


@operation_rule("Log1p")
def log1p(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """log(1 + x); near 0, where digits of x would be lost, 2 atanh(x / (2 + x))"""
    x = as_float(build, inputs.first)
    near = build(e.Atanh(), build(e.Div(), x, add(build, x, 2)))
    return _near_zero(build, x, multiply(build, near, 2), build(e.Log(), add(build, x, 1)))


@operation_rule("Round")
def round_(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The nearest number with so many decimals; half to even"""
    x, decimals = inputs.x, int(layer.config.get("decimals") or 0)
    if not build.type(x).dtype.is_float and decimals >= 0:
        return x
    y = build(e.Round(), multiply(build, as_float(build, x), 10.0**decimals))
    return y if not decimals else build(e.Div(), y, build.like(10.0**decimals, y))


@operation_rule("Trunc")
def trunc(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x without what is behind the point"""
    x = as_float(build, inputs.first)
    return build(e.Mul(), build(e.Sign(), x), build(e.Floor(), build(e.Abs(), x)))


@operation_rule("Isnan")
def isnan(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Whether x is NaN"""
    return build(e.IsNaN(), as_float(build, inputs.first))


def _infinite(*, positive: bool, negative: bool) -> Any:
    def rule(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
        """Whether x is infinite"""
        op = e.IsInf(detect_negative=negative, detect_positive=positive)
        return build(op, as_float(build, inputs.first))

    return rule


operation_rule("Isinf")(_infinite(positive=True, negative=True))
operation_rule("Isposinf")(_infinite(positive=True, negative=False))
operation_rule("Isneginf")(_infinite(positive=False, negative=True))


@operation_rule("Isfinite")
def isfinite(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Whether x is a number"""
    x = as_float(build, inputs.first)
    return build(e.Not(), build(e.Or(), build(e.IsNaN(), x), build(e.IsInf(), x)))


@operation_rule("NanToNum")
def nan_to_num(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x with numbers for NaN and infinities"""
    x, config = inputs.x, layer.config
    kind: Any = build.type(x).dtype.numpy
    largest = float(np.finfo(kind).max)
    y: Value = x
    for op, key, default in (
        (e.IsNaN(), "nan", 0.0),
        (e.IsInf(detect_negative=False), "posinf", largest),
        (e.IsInf(detect_positive=False), "neginf", -largest),
    ):
        number = config.get(key)
        other = build.like(default if number is None else number, x)
        y = build(e.Where(), build(op, x), other, y)
    return y


@operation_rule("Clip")
def clip(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """min(max(x, x_min), x_max)"""
    x, low, high = promoted(
        build, inputs.first, layer.config.get("x_min"), layer.config.get("x_max")
    )
    if build.rank(low) or build.rank(high):
        return build(e.Min(), build(e.Max(), x, low), high)
    return build(e.Clip(), x, low, high)


@operation_rule("Cast", "SaturateCast")
def cast(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x in another element type"""
    dtype = dtype_named(layer.config.get("dtype"))
    if layer.class_name == "SaturateCast" and not dtype.is_float:
        raise UnsupportedOperator(f"is saturate_cast to {dtype}, which is not supported")
    return build(Cast(dtype), inputs.x)


@operation_rule("Conj", "Conjugate", "Copy", "Real", "StopGradient")
def as_it_is(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x"""
    return as_value(build, inputs.first)


@operation_rule("Array", "ConvertToTensor")
def converted(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x, in another type where one is named"""
    dtype = layer.config.get("dtype")
    return as_value(build, inputs.first, None if dtype is None else dtype_named(dtype))


def _filled(number: float | None) -> Any:
    def rule(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
        """A number in the shape of x"""
        x, dtype = inputs.x, layer.config.get("dtype")
        wanted = build.type(x).dtype if dtype is None else dtype_named(dtype)
        given = inputs.get("fill_value") if number is None else number
        zero = build(e.TrueLike(), x)
        value = as_value(build, given, wanted)
        return build(e.Where(), zero, value, value)

    return rule


operation_rule("ZerosLike")(_filled(0))
operation_rule("OnesLike")(_filled(1))
operation_rule("FullLike", parameters="x fill_value")(_filled(None))


# nn ----------------------------------------------------------------------------------------------

_NN: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Celu": ("celu", ("alpha",)),
    "Elu": ("elu", ("alpha",)),
    "Gelu": ("gelu", ("approximate",)),
    "Glu": ("glu", ("axis",)),
    "HardShrink": ("hard_shrink", ("threshold",)),
    "HardSigmoid": ("hard_sigmoid", ()),
    "HardSilu": ("hard_silu", ()),
    "HardTanh": ("hard_tanh", ()),
    "LeakyRelu": ("leaky_relu", ("negative_slope",)),
    "LogSigmoid": ("log_sigmoid", ()),
    "LogSoftmax": ("log_softmax", ("axis",)),
    "Mish": ("mish", ()),
    "Relu": ("relu", ()),
    "ReLU": ("relu", ("negative_slope", "max_value", "threshold")),
    "Relu6": ("relu6", ()),
    "Selu": ("selu", ()),
    "Sigmoid": ("sigmoid", ()),
    "Silu": ("silu", ()),
    "SoftShrink": ("soft_shrink", ("threshold",)),
    "Softmax": ("softmax", ("axis",)),
    "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()),
    "Sparsemax": ("sparsemax", ("axis",)),
    "SparsePlus": ("sparse_plus", ()),
    "SparseSigmoid": ("sparse_sigmoid", ()),
    "Squareplus": ("squareplus", ("b",)),
    "TanhShrink": ("tanh_shrink", ()),
    "Threshold": ("threshold", ("threshold", "default_value")),
}


def _function(name: str, keys: tuple[str, ...]) -> Callable[..., Nested]:
    def rule(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
        """An activation function"""
        given = {k: layer.config[k] for k in keys if layer.config.get(k) is not None}
        if name == "softmax" and "axis" not in given:
            given["axis"] = None  # All axes.
        if name == "threshold":
            given = {k: float(v) for k, v in given.items()}
        return FUNCTIONS[name](build, as_float(build, inputs.first), **given)

    return rule


for _name, (_called, _keys) in _NN.items():
    operation_rule(_name)(_function(_called, _keys))
