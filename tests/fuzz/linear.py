"""Steps of linear algebra: products, dense layers, attention, Einsum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.fuzz.network import Dim, Net, Value, broadcast
from tests.fuzz.pointwise import unary
from tests.fuzz.steps import step


def has_features(v: Value) -> bool:
    """Whether the last of its axes has a known size that is not 0."""
    return v.rank >= 1 and v.shape[-1].is_static and v.shape[-1].static > 0


def times(net: Net, x: Value, columns: int) -> Value:
    """x @ w, w a constant."""
    rows = x.shape[-1].static
    w = net.weights((rows, columns), 1 / math.sqrt(rows))
    most = x.bound * 3 * math.sqrt(rows)
    return net.add("MatMul", [x, w], (*x.shape[:-1], net.dim(columns)), (-most, most))


@step(4)
def product(net: Net) -> Any:
    x = net.pick_real(has_features)
    columns = net.choose.one((1, 2, 3, 5, 8, 16, 17, 33, 70))
    if x is None or not net.fits((*x.shape[:-1], net.dim(columns))):
        return None
    if net.choose.chance(10):
        rows = x.shape[-1].static
        w = net.weights((rows,))
        return net.add("MatMul", [x, w], x.shape[:-1], (-3 * rows * x.bound, 3 * rows * x.bound))
    return times(net, x, columns)


@step(6)
def dense(net: Net) -> Any:
    """Normalisation, product, offset, activation: as layers are exported, with parts left out."""
    x = net.pick_real(lambda v: has_features(v) and v.rank >= 2)
    columns = net.choose.one((1, 3, 4, 7, 16, 20, 64))
    if x is None or not net.fits((*x.shape[:-1], net.dim(columns))):
        return None
    if net.choose.chance(40):
        x = affine(net, x)
    y = times(net, net.tame(x), columns)
    if net.choose.chance(80):
        b = net.weights((columns,))
        pair = [y, b] if net.choose.chance(80) else [b, y]
        y = net.add("Add", pair, y.shape, (y.low - 3, y.high + 3))
    if net.choose.chance(40):
        y = affine(net, y)
    return unary(net, net.tame(y)) if net.choose.chance(70) else y


def affine(net: Net, x: Value) -> Value:
    """x with constants added, multiplied, ... or a BatchNormalization where that is possible."""
    size = x.shape[-1].static
    if x.rank == 2 and net.choose.chance(40):
        return batch_normalization(net, x)
    for _ in range(net.choose.whole(1, 3)):
        sizes = (size,) if net.choose.chance(70) else ()
        rng = net.choose.generator()
        op = net.choose.one(("Add", "Sub", "Mul", "Div"))
        c = net.constant((rng.choice((-1, 1), sizes) * rng.uniform(0.3, 2, sizes)).astype(x.dtype))
        pair = [c, x] if op in ("Sub", "Mul", "Add") and net.choose.chance(25) else [x, c]
        most = x.bound * 4 + 2
        x = net.add(op, pair, x.shape, (-most, most))
    return x


def batch_normalization(net: Net, x: Value) -> Value:
    channels = x.shape[1].static
    rng = net.choose.generator()
    numbers = [rng.uniform(0.5, 2, channels), *rng.normal(size=(2, channels))]
    numbers.append(rng.uniform(0.2, 3, channels))
    parameters = [net.constant(n.astype(x.dtype)) for n in numbers]
    most = 2 * (x.bound + 4) / math.sqrt(0.2) + 4
    more: dict[str, Any] = {"epsilon": 0.01} if net.choose.chance(30) else {}
    return net.add("BatchNormalization", [x, *parameters], x.shape, (-most, most), **more)


@step(3)
def gemm(net: Net) -> Any:
    x = net.pick_real(lambda v: v.rank == 2)
    if x is None:
        return None
    flipped = net.choose.chance(40)
    (inner, outer) = x.shape if flipped else x.shape[::-1]
    columns = net.choose.one((1, 2, 5, 8, 18))
    if not inner.is_static or not inner.static or not net.fits((outer, net.dim(columns))):
        return None
    turned = net.choose.chance(50)
    sizes = (columns, inner.static) if turned else (inner.static, columns)
    inputs = [x, net.weights(sizes, 1 / math.sqrt(inner.static))]
    if net.opset < 11 or net.choose.chance(70):
        inputs.append(net.weights(net.choose.one(((columns,), (1,), (), (1, columns)))))
    more: dict[str, Any] = {"transA": 1} if flipped else {}
    if turned:
        more["transB"] = 1
    if net.choose.chance(30):
        more |= {"alpha": 0.5, "beta": net.choose.one((2.0, 0.0))}
    most = 3 * math.sqrt(inner.static) * x.bound + 6
    return net.add("Gemm", inputs, (outer, net.dim(columns)), (-most, most), **more)


@step(3)
def product_of_two(net: Net) -> Any:
    """A matrix product of two values that both change, one turned where that makes them fit."""
    a = net.pick_real(lambda v: v.rank >= 2)
    if a is None:
        return None
    others = [v for v in net.values if v.dtype == a.dtype and v.rank >= 2 and _fit(net, a, v)]
    if not others:
        return None
    b = net.tame(net.choose.one(others))
    if a.shape[-1].text != b.shape[-2].text:
        b = turned(net, b)
    lead = broadcast(a.shape[:-2], b.shape[:-2])
    assert lead is not None
    most = max(1, max(a.shape[-1].sizes)) * a.bound * b.bound
    return net.add("MatMul", [a, b], (*lead, a.shape[-2], b.shape[-1]), (-most, most))


def _fit(net: Net, a: Value, b: Value) -> bool:
    lead = broadcast(a.shape[:-2], b.shape[:-2])
    if lead is None or a.shape[-1].text not in (b.shape[-1].text, b.shape[-2].text):
        return False
    other = b.shape[-1] if a.shape[-1].text == b.shape[-2].text else b.shape[-2]
    return net.fits((*lead, a.shape[-2], other))


def turned(net: Net, x: Value) -> Value:
    """x with its last two axes exchanged."""
    order = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    return net.add("Transpose", [x], [x.shape[i] for i in order], (x.low, x.high), perm=order)


@step(2, since=23)
def attention_in_one(net: Net) -> Any:
    """ONNX's own operator, of three axes or four."""
    x = net.pick_real(lambda v: v.rank == 3 and has_features(v) and v.shape[1].least > 0, 4.0)
    if x is None:
        return None
    heads, size = net.choose.one((1, 2, 3)), net.choose.one((2, 4, 5))
    (n, t, _), width = x.shape, net.dim(heads * size)
    if not net.fits((n, net.dim(heads), t, t)) or not net.fits((n, t, width)):
        return None
    parts = [times(net, x, heads * size) for _ in range(3)]
    more: dict[str, Any] = {"is_causal": 1} if net.choose.chance(40) else {}
    if net.choose.chance(50):
        more |= {"q_num_heads": heads, "kv_num_heads": heads}
        return net.add("Attention", parts, (n, t, width), (-20, 20), **more)
    parts = [_in_heads(net, p, heads, size) for p in parts]
    return net.add("Attention", parts, parts[0].shape, (-20, 20), **more)


@step(3)
def attention(net: Net) -> Any:
    """Attention in heads, spelled out as exporters do, sometimes with a mask."""
    x = net.pick_real(lambda v: v.rank == 3 and has_features(v) and v.shape[1].least > 0, 4.0)
    if x is None:
        return None
    heads, size = net.choose.one((1, 2, 3)), net.choose.one((2, 4, 5))
    n, t, _ = x.shape
    if not net.fits((n, net.dim(heads), t, t)) or not net.fits((n, t, net.dim(heads * size))):
        return None
    q, k, v = (_in_heads(net, times(net, x, heads * size), heads, size) for _ in range(3))
    scores = net.add("MatMul", [q, turned(net, k)], (*q.shape[:3], t), (-200.0, 200.0))
    scale = net.scalar(math.sqrt(size), x.dtype)
    scores = net.add("Div", [scores, scale], scores.shape, (-100.0, 100.0))
    axis = 3 if net.opset < 13 else net.choose.one((-1, 3))
    weights = net.add("Softmax", [scores], scores.shape, (0, 1), axis=axis)
    mixed = net.add("MatMul", [weights, v], v.shape, (v.low, v.high))
    back = net.add("Transpose", [mixed], (n, t, *v.shape[1::2]), (v.low, v.high), perm=[0, 2, 1, 3])
    return _reshaped(net, back, (n, t, net.dim(heads * size)), (0, 0, heads * size))


def _in_heads(net: Net, x: Value, heads: int, size: int) -> Value:
    n, t, _ = x.shape
    split = _reshaped(net, x, (n, t, net.dim(heads), net.dim(size)), (0, 0, heads, size))
    order = (n, net.dim(heads), t, net.dim(size))
    return net.add("Transpose", [split], order, (x.low, x.high), perm=[0, 2, 1, 3])


def _reshaped(net: Net, x: Value, shape: tuple[Dim, ...], words: tuple[int, ...]) -> Value:
    """Reshape by constant words, or by sizes that are computed."""
    sizes = net.sizes_of(shape) if net.choose.chance(50) else None
    return net.add("Reshape", [x, sizes or net.integers(words)], shape, (x.low, x.high))


EQUATIONS = ("ij,jk->ik", "...i,ij->...j", "bti,ij->btj", "bti,bsi->bts", "bti->bit", "bti->b")


@step(2, since=12)
def einsum(net: Net) -> Any:
    equation = net.choose.one(EQUATIONS)
    first = equation.split(",")[0].split("->")[0]
    rank = len(first) if "." not in first else 0
    x = net.pick_real(lambda v: has_features(v) and (v.rank == rank or (not rank and v.rank < 5)))
    if x is None:
        return None
    inner, outer = x.shape[-1].static, net.dim(net.choose.one((1, 3, 5)))
    inputs, shape = [x], (*x.shape[:-1], outer)
    if equation == "bti,bsi->bts":
        inputs, shape = [x, x], (*x.shape[:2], x.shape[1])
    elif equation == "bti->bit":
        shape = (x.shape[0], x.shape[2], x.shape[1])
    elif equation == "bti->b":
        shape = x.shape[:1]
    else:
        inputs.append(net.weights((inner, outer.static)))
    if not net.fits(shape):
        return None
    most = 3.0 * max(1, *x.shape[-2].sizes if rank == 3 else (1,)) * inner * x.bound
    most *= x.bound if len(inputs) == 2 and inputs[1] is x else 1
    return net.add("Einsum", inputs, shape, (-most, most), equation=equation)


@step(2)
def residual(net: Net) -> Any:
    """x + f(x), f of two layers."""
    x = net.pick_real(has_features)
    if x is None or not net.fits((*x.shape[:-1], net.dim(9))):
        return None
    inner = unary(net, net.tame(times(net, x, net.choose.one((3, 9)))))
    y = times(net, net.tame(inner), x.shape[-1].static)
    pair = [x, y] if net.choose.chance(50) else [y, x]
    return net.add("Add", pair, x.shape, (x.low + y.low, x.high + y.high))


@step(1, since=10)
def byte_product(net: Net) -> Any:
    x = net.pick(lambda v: v.dtype in ("uint8", "int8") and v.rank >= 2 and has_features(v))
    if x is None:
        return None
    rng = net.choose.generator()
    w = net.constant(rng.integers(-90, 90, (x.shape[-1].static, 4)).astype(np.int8))
    zero = net.constant(np.array(net.choose.one((0, 3)), x.dtype))
    span = (-1e6, 1e6)
    shape = (*x.shape[:-1], net.dim(4))
    return net.add("MatMulInteger", [x, w, zero], shape, span, dtype="int32")
