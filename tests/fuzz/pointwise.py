"""Steps that compute every element by itself, with broadcasting; casts and whole numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.fuzz.network import Net, Value, broadcast
from tests.fuzz.steps import step

Span = tuple[float, float]


def rising(function: Callable[[float], float]) -> Callable[[Span], Span]:
    """The span of a function that never falls."""
    return lambda span: (function(span[0]), function(span[1]))


def grown(factor: float = 1.1) -> Callable[[Span], Span]:
    """A span for functions that stay near x or near 0."""

    def of(span: Span) -> Span:
        most = factor * max(map(abs, span)) + 2
        return -most, most

    return of


def fixed(low: float, high: float) -> Callable[[Span], Span]:
    return lambda _: (low, high)


# The opset of a function, where it is defined, and between which numbers its results lie.
EVERYWHERE = (-40.0, 40.0)
UNARY: dict[str, tuple[int, Span, Callable[[Span], Span]]] = {
    "Abs": (6, EVERYWHERE, lambda s: (0.0, max(map(abs, s)))),
    "Neg": (6, EVERYWHERE, lambda s: (-s[1], -s[0])),
    "Sign": (9, EVERYWHERE, fixed(-1, 1)),
    "Relu": (6, EVERYWHERE, rising(lambda x: max(x, 0.0))),
    "Sigmoid": (6, EVERYWHERE, fixed(0, 1)),
    "Tanh": (6, EVERYWHERE, fixed(-1, 1)),
    "Exp": (6, (-20.0, 4.0), rising(math.exp)),
    "Log": (6, (0.01, 1e4), rising(math.log)),
    "Sqrt": (6, (0.0, 1e4), rising(math.sqrt)),
    "Reciprocal": (6, (0.1, 1e3), lambda s: (1 / s[1], 1 / s[0])),
    "Floor": (6, EVERYWHERE, rising(math.floor)),
    "Ceil": (6, EVERYWHERE, rising(math.ceil)),
    "Round": (11, EVERYWHERE, rising(lambda x: float(round(x)))),
    "Erf": (9, EVERYWHERE, fixed(-1, 1)),
    "Sin": (7, EVERYWHERE, fixed(-1, 1)),
    "Cos": (7, EVERYWHERE, fixed(-1, 1)),
    "Tan": (7, (-1.2, 1.2), fixed(-2.6, 2.6)),
    "Asin": (7, (-0.9, 0.9), fixed(-1.6, 1.6)),
    "Acos": (7, (-0.9, 0.9), fixed(0, 3.2)),
    "Atan": (7, EVERYWHERE, fixed(-1.6, 1.6)),
    "Sinh": (9, (-4.0, 4.0), rising(math.sinh)),
    "Cosh": (9, (-4.0, 4.0), fixed(1, 28)),
    "Asinh": (9, EVERYWHERE, rising(math.asinh)),
    "Acosh": (9, (1.1, 50.0), fixed(0, 5)),
    "Atanh": (9, (-0.9, 0.9), fixed(-1.5, 1.5)),
    "Softplus": (6, EVERYWHERE, rising(lambda x: max(x, 0.0) + 0.7)),
    "Softsign": (6, EVERYWHERE, fixed(-1, 1)),
    "HardSwish": (14, EVERYWHERE, grown()),
    "Mish": (18, EVERYWHERE, grown()),
    "Gelu": (20, EVERYWHERE, grown()),
    "Swish": (24, EVERYWHERE, grown()),
    "Identity": (6, EVERYWHERE, lambda s: s),
    "Dropout": (7, EVERYWHERE, lambda s: s),
}
# Those with numbers to choose.
SHAPED: dict[str, tuple[int, tuple[str, ...]]] = {
    "LeakyRelu": (6, ("alpha",)),
    "Elu": (6, ("alpha",)),
    "Celu": (12, ("alpha",)),
    "Selu": (6, ("alpha", "gamma")),
    "HardSigmoid": (6, ("alpha", "beta")),
    "ThresholdedRelu": (10, ("alpha",)),
    "Shrink": (9, ("bias", "lambd")),
}


def unary(net: Net, x: Value) -> Value:
    """Any function of one argument, of x made fit for it."""
    known = [n for n, (since, *_) in UNARY.items() if since <= net.opset]
    shaped = [n for n, (since, _) in SHAPED.items() if since <= net.opset]
    name = net.choose.one((*known, *shaped))
    if name in SHAPED:
        chosen: dict[str, Any] = {a: net.choose.one((0.5, 0.1, 1.0, 1.7)) for a in SHAPED[name][1]}
        given = chosen if net.choose.chance(70) and name != "Celu" else {}
        return net.add(name, [x], x.shape, grown(3.2)((x.low, x.high)), **given)
    _, (low, high), span = UNARY[name]
    x = net.within(x, low, high)
    more: dict[str, Any] = {}
    if name == "Gelu" and net.choose.chance(50):
        more["approximate"] = "tanh"
    return net.add(name, [x], x.shape, span((x.low, x.high)), **more)


@step(8)
def a_function(net: Net) -> Any:
    x = net.pick_real()
    return x and unary(net, x)


# Two and more arguments ---------------------------------------------------------------------------


def beside(net: Net, x: Value) -> Value:
    """Something that can be broadcast with x: another value, a constant, x itself."""
    how = net.choose.whole(0, 9)
    if how < 4:
        fitting = [
            v
            for v in net.values
            if v.dtype == x.dtype
            and (shape := broadcast(v.shape, x.shape)) is not None
            and net.fits(shape)
        ]
        found = net.choose.one([*fitting, x])
        return net.tame(found) if found is not x else x
    if how == 4:
        return x
    return constant_beside(net, x)


def constant_beside(net: Net, x: Value) -> Value:
    """A constant whose shape is the end of x's, with ones among it, or has more axes."""
    sizes = [d.static if d.is_static and net.choose.chance(75) else 1 for d in x.shape]
    sizes = sizes[net.choose.whole(0, len(sizes)) :]
    if net.choose.chance(8) and len(sizes) == x.rank < 4:
        sizes = [1, *sizes]
    if x.is_real:
        return net.weights(sizes, net.choose.one((0.3, 1.0, 3.0)), x.dtype)
    rng = net.choose.generator()
    if x.dtype == "bool":
        return net.constant(rng.random(tuple(sizes)) < 0.5)
    return net.constant(rng.integers(-5, 6, size=tuple(sizes)).astype(x.dtype))


def binary_span(op: str, a: Value, b: Value) -> Span:
    corners = [
        {"Add": p + q, "Sub": p - q, "Mul": p * q, "Div": p / (q or 1e-3), "PRelu": p * q}[op]
        for p in (a.low, a.high)
        for q in (b.low, b.high)
    ]
    if op == "PRelu":
        corners += [a.low, a.high]
    return min(corners), max(corners)


def arithmetic(net: Net, op: str, a: Value, b: Value) -> Value | None:
    """a op b, where that has a shape and divides by nothing near 0."""
    if op == "Div" and b.is_real and min(abs(b.low), abs(b.high)) * (b.low * b.high > 0) < 0.05:
        magnitude = net.add("Abs", [b], b.shape, (0.0, b.bound))
        half = net.scalar(0.5, b.dtype)
        b = net.add("Add", [magnitude, half], b.shape, (0.5, b.bound + 0.5))
    shape = broadcast(a.shape, b.shape)
    if shape is None or not net.fits(shape):
        return None
    if op == "PRelu" and (len(shape) != a.rank or any(map(_differ, shape, a.shape))):
        return None
    return net.add(op, [a, b], shape, binary_span(op, a, b))


def _differ(p: Any, q: Any) -> bool:
    return bool(p.text != q.text)


@step(12)
def two(net: Net) -> Any:
    a = net.pick_real()
    if a is None:
        return None
    b = beside(net, a)
    if net.choose.chance(30):
        a, b = b, a
    return arithmetic(
        net, net.choose.one(("Add", "Add", "Sub", "Mul", "Mul", "Div", "PRelu")), a, b
    )


@step(3)
def several(net: Net) -> Any:
    """Max, Min, Sum and Mean of one to four."""
    a = net.pick_real()
    if a is None:
        return None
    listed = [a, *(beside(net, a) for _ in range(net.choose.whole(0, 3)))]
    shape = broadcast(*(v.shape for v in listed))
    if shape is None or not net.fits(shape):
        return None
    op = net.choose.one(("Max", "Min", "Sum", "Mean"))
    bounds = [v.bound for v in listed]
    most = sum(bounds) if op == "Sum" else max(bounds)
    return net.add(op, listed, shape, (-most, most))


@step(2)
def power(net: Net) -> Any:
    x = net.pick_real(limit=8.0)
    if x is None:
        return None
    exponent = net.choose.one((2.0, 3.0, 0.5, -1.0, 1.0, 0.0, 1.7, 4.0))
    if exponent not in (2.0, 3.0, 4.0, 1.0, 0.0):
        x = net.within(x, 0.1, 8.0)
    most = max(x.bound, 10.0 if exponent < 0 else 1.0) ** abs(exponent)
    kind = net.choose.one((x.dtype, "int64")) if exponent > 1 and exponent == int(exponent) else ""
    kind = kind if net.opset >= 12 else ""
    return net.add("Pow", [x, net.scalar(exponent, kind or x.dtype)], x.shape, (-most, most))


@step(3)
def comparison(net: Net) -> Any:
    a = net.pick_real()
    if a is None:
        return None
    known = ["Less", "Greater"] + ["Equal"] * (net.opset >= 11)
    known += ["LessOrEqual", "GreaterOrEqual"] * (net.opset >= 12)
    b = beside(net, a)
    shape = broadcast(a.shape, b.shape)
    if shape is None or not net.fits(shape):
        return None
    return net.add(net.choose.one(known), [a, b], shape, (0, 1), dtype="bool")


@step(3)
def logic(net: Net) -> Any:
    a = net.pick(lambda v: v.dtype == "bool")
    if a is None:
        return None
    if net.choose.chance(30):
        return net.add("Not", [a], a.shape, (0, 1))
    b = beside(net, a)
    shape = broadcast(a.shape, b.shape)
    if shape is None or not net.fits(shape):
        return None
    return net.add(net.choose.one(("And", "Or", "Xor", "Equal")), [a, b], shape, (0, 1))


@step(4)
def where(net: Net) -> Any:
    condition, a = net.pick(lambda v: v.dtype == "bool"), net.pick_real()
    if a is None or condition is None:
        return None
    b = beside(net, a)
    shape = broadcast(condition.shape, a.shape, b.shape)
    if shape is None or not net.fits(shape):
        return None
    span = min(a.low, b.low), max(a.high, b.high)
    return net.add("Where", [condition, a, b], shape, span, dtype=a.dtype)


@step(2)
def clip(net: Net) -> Any:
    x = net.pick_real()
    if x is None:
        return None
    low, high = -net.choose.one((0.0, 0.5, 2.0)), net.choose.one((0.25, 1.0, 6.0))
    if net.opset < 11:
        return net.add("Clip", [x], x.shape, (low, high), min=low, max=high)
    limits = [net.scalar(low, x.dtype), net.scalar(high, x.dtype)]
    how = net.choose.whole(0, 3)
    if how == 0:
        return net.add("Clip", [x, limits[0]], x.shape, (low, max(low, x.high)))
    if how == 1:
        return net.add("Clip", [x, None, limits[1]], x.shape, (min(high, x.low), high))
    return net.add("Clip", [x, *limits], x.shape, (low, high))


@step(2, since=9)
def spelled_out(net: Net) -> Any:
    """What exporters write for activations, in many nodes."""
    x = net.pick_real(limit=10.0)
    if x is None:
        return None
    span = -10.0, 10.0
    how = net.choose.whole(0, 3)
    if how == 0:
        inner = net.add("Sigmoid", [x], x.shape, (0, 1))
    elif how == 1:
        inner = net.add("Tanh", [net.add("Softplus", [x], x.shape, (0, 11))], x.shape, (0, 1))
    elif how == 2:
        inner = net.add("HardSigmoid", [x], x.shape, (0, 1), alpha=1 / 6, beta=0.5)
    else:
        root = net.scalar(math.sqrt(2), x.dtype)
        part = net.add("Erf", [net.add("Div", [x, root], x.shape, span)], x.shape, (-1, 1))
        inner = net.add("Add", [part, net.scalar(1.0, x.dtype)], x.shape, (0, 2))
        x = net.add("Mul", [x, net.scalar(0.5, x.dtype)], x.shape, span)
    pair = [x, inner] if net.choose.chance(50) else [inner, x]
    return net.add("Mul", pair, x.shape, span)


@step(1)
def double_steps(net: Net) -> Any:
    """The same function twice, and pairs that cancel."""
    x = net.pick_real()
    if x is None:
        return None
    op = net.choose.one(("Relu", "Abs", "Floor", "Neg", "Ceil"))
    span = -x.bound - 1, x.bound + 1
    return net.add(op, [net.add(op, [x], x.shape, span)], x.shape, span)


@step(2)
def neutral(net: Net) -> Any:
    """x * 1, x + 0, ..., of any shape."""
    x = net.pick_real()
    if x is None:
        return None
    op = net.choose.one(("Add", "Sub", "Mul", "Div"))
    number = 1.0 if op in ("Mul", "Div") else net.choose.one((0.0, -0.0))
    ones = [1] * net.choose.whole(0, min(x.rank + 1, 4))
    shape = broadcast(x.shape, net.dims(ones))
    assert shape is not None
    other = net.constant(np.full(ones, number, x.dtype))
    return net.add(op, [x, other], shape, (x.low, x.high))


# Element types ------------------------------------------------------------------------------------


@step(3)
def cast(net: Net) -> Any:
    x = net.pick(lambda v: v.bound < 1e4)
    if x is None:
        return None
    wanted = ["float32", "float64", "int32", "int64", "bool", "int8", "uint8", "float16", net.real]
    dtype = net.choose.one([w for w in wanted if w != x.dtype] or ["float64"])
    if dtype in ("int8", "uint8") and x.is_real:
        x = net.within(net.tame(x), 0.0 if dtype == "uint8" else -40.0, 40.0)
    elif dtype in ("int8", "uint8"):
        return None
    return net.cast(x, dtype)


@step(3)
def back(net: Net) -> Any:
    """Anything as numbers of the network's type."""
    x = net.pick(lambda v: v.dtype != net.real and v.bound < 1e5)
    return x and net.cast(x, net.real)


@step(3)
def half(net: Net) -> Any:
    """A little arithmetic in float16."""
    x = net.pick_real(limit=8.0)
    if x is None or net.opset < 13:
        return None
    x = net.cast(x, "float16")
    for _ in range(net.choose.whole(1, 2)):
        op = net.choose.one(("Add", "Mul", "Relu", "Tanh", "Neg"))
        if op in ("Add", "Mul"):
            y = net.constant(np.array(net.choose.one((0.5, 1.25, 2.0)), np.float16))
            x = net.add(op, [x, y], x.shape, (-2 * x.bound - 2, 2 * x.bound + 2))
        else:
            x = net.add(op, [x], x.shape, (-x.bound, x.bound))
    return net.cast(x, net.real) if net.choose.chance(80) else x


INTEGERS = ("int32", "int64")


@step(4)
def whole_numbers(net: Net) -> Any:
    """Arithmetic of integers, which never overflows."""
    a = net.pick(lambda v: v.dtype in INTEGERS and v.bound < 1e4)
    if a is None:
        return None
    known = ["Add", "Sub", "Mul", "Abs", "Neg", "Sign", "Div", "Equal", "Less", "Greater"]
    known += ["Mod", "BitShift"] * (net.opset >= 11) + ["Max", "Min"] * (net.opset >= 12)
    known += ["BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"] * (net.opset >= 18)
    op = net.choose.one(known)
    if op in ("Abs", "Neg", "Sign", "BitwiseNot"):
        return net.add(op, [a], a.shape, (-a.bound - 1, a.bound + 1))
    if op == "BitShift":
        shifted = net.cast(net.add("Abs", [a], a.shape, (0, a.bound)), "uint32")
        by = net.constant(np.array(net.choose.whole(0, 3), np.uint32))
        way = net.choose.one(("LEFT", "RIGHT"))
        return net.add("BitShift", [shifted, by], a.shape, (0, 8 * a.bound), direction=way)
    return _two_integers(net, op, a)


def _two_integers(net: Net, op: str, a: Value) -> Value | None:
    b = beside(net, a)
    if op in ("Div", "Mod"):
        number = net.choose.one((1, 2, 3, 7, -2))
        b = net.constant(np.array(number, a.dtype))
        if op == "Div":
            # Of negative numbers C++ and Python have different quotients, and ONNX says nothing.
            a = net.add("Abs", [a], a.shape, (0, a.bound))
            b = net.constant(np.array(abs(number), a.dtype))
    shape = broadcast(a.shape, b.shape)
    if shape is None or not net.fits(shape) or b.bound > 1e4:
        return None
    if op in ("Equal", "Less", "Greater"):
        return net.add(op, [a, b], shape, (0, 1), dtype="bool")
    most = a.bound * b.bound if op == "Mul" else 2 * (a.bound + b.bound) + 2
    more: dict[str, Any] = {"fmod": 1} if op == "Mod" and net.choose.chance(30) else {}
    return net.add(op, [a, b], shape, (-most, most), **more)


@step(1, since=10)
def modulo(net: Net) -> Any:
    x = net.pick_real()
    if x is None:
        return None
    divisor = net.choose.one((0.75, 2.0, -1.5))
    return net.add("Mod", [x, net.scalar(divisor, x.dtype)], x.shape, (-2, 2), fmod=1)


@step(1, since=10)
def is_special(net: Net) -> Any:
    x = net.pick_real()
    if x is None or net.real != "float32":
        return None
    return net.add(net.choose.one(("IsNaN", "IsInf")), [x], x.shape, (0, 1), dtype="bool")


# Quantisation -------------------------------------------------------------------------------------


@step(2, since=13)
def quantized(net: Net) -> Any:
    """QuantizeLinear and back, for all at once or along an axis."""
    x = net.pick(lambda v: v.dtype == "float32")
    if x is None:
        return None
    x = net.tame(x)
    axes = [a for a, d in enumerate(x.shape) if d.is_static and d.static]
    axis = net.choose.one(axes) if axes and net.choose.chance(40) else None
    sizes = () if axis is None else (x.shape[axis].static,)
    rng = net.choose.generator()
    kind = net.choose.one((np.int8, np.uint8))
    scale = net.constant(rng.uniform(0.05, 0.4, sizes).astype(np.float32))
    zero = net.constant(rng.integers(0, 100, sizes).astype(kind))
    more: dict[str, Any] = {} if axis is None else {"axis": axis}
    name = np.dtype(kind).name
    q = net.add("QuantizeLinear", [x, scale, zero], x.shape, (-128, 255), dtype=name, **more)
    span = (-150.0, 150.0)
    return net.add("DequantizeLinear", [q, scale, zero], x.shape, span, dtype="float32", **more)


@step(1, since=11)
def dynamically_quantized(net: Net) -> Any:
    x = net.pick(lambda v: v.dtype == "float32" and all(d.least for d in v.shape))
    if x is None:
        return None
    x = net.tame(x)
    results = [
        ("uint8", x.shape, (0.0, 255.0)),
        ("float32", (), (0.0, 1.0)),
        ("uint8", (), (0.0, 255.0)),
    ]
    q, scale, zero = net.several("DynamicQuantizeLinear", [x], results)
    span = -2 * x.bound, 2 * x.bound
    return net.add("DequantizeLinear", [q, scale, zero], x.shape, span, dtype="float32")
