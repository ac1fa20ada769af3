"""Convolutions with what stands around them: offsets, scalings, sums, activations, borders.

Constants are combined in float64 and then rounded, as for dense layers (`affine`).
"""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np

from sofie_rdf.ir.dims import product
from sofie_rdf.ir.graph import Node
from sofie_rdf.ir.types import Array, Shape
from sofie_rdf.ops.convolution import Conv, ConvLayer
from sofie_rdf.ops.convolution_transposed import ConvTranspose, ConvTransposeLayer
from sofie_rdf.ops.elementwise import Add, Relu, Unary
from sofie_rdf.ops.indexing import Pad
from sofie_rdf.ops.layout import Transpose
from sofie_rdf.ops.linear import Dense, NoActivation
from sofie_rdf.ops.pooling import AveragePool, MaxPool
from sofie_rdf.passes.affine import Wide, rounded, step_at, steps_before, wide
from sofie_rdf.passes.rewrite import Match, New, NoMatch, Rewrite, Rules, rule
from sofie_rdf.passes.simplify import reshape

__all__ = [
    "fuse_borders",
    "fuse_convolution_inputs",
    "fuse_convolutions",
    "is_pointwise",
    "spread_points",
]

CHANNELS = 1
# Images of as many places fill a small part of a convolution's tile, while its weights are read as
# often; a dense layer has the features in its lanes. With few channels that matters little.
_FEW_PLACES, _LEAST_CHANNELS = 9, 16
_POINTS_LAST = Transpose((0, 2, 1))


def _layer(op: Conv | ConvTranspose) -> ConvLayer | ConvTransposeLayer:
    """The same convolution as a layer."""
    kind = ConvLayer if isinstance(op, Conv) else ConvTransposeLayer
    return kind(**{f.name: getattr(op, f.name) for f in fields(op)})


def is_pointwise(op: ConvLayer, x: Shape, w: tuple[int, ...]) -> bool:
    """Whether it is a matrix product with the channels of each point."""
    windows = op.slides(x, w)
    plain = all(s.kernel == s.stride == 1 and s.begin == s.end == 0 for s in windows)
    return plain and op.group == 1


def _no_bias(m: Match, features: int) -> New:
    weights = m.value("w")
    name = "bias".join(weights.rsplit("weight", 1)) if "weight" in weights else f"{weights}_bias"
    return New(name, np.zeros(features, m.type().dtype.numpy))


@rule("Conv(x, w)", "Conv(x, w, b)", "ConvTranspose(x, w)", "ConvTranspose(x, w, b)")
def convolution(m: Match) -> Rewrite:
    """Conv(x, w, b) as a layer without activation, where w and b are constants"""
    m.constant("w")
    features = m.type().shape[CHANNELS]
    assert isinstance(features, int)
    op = m.root.op
    assert isinstance(op, Conv | ConvTranspose)
    if "b" not in m.values:
        return m.becomes(_layer(op), "x", "w", _no_bias(m, features))
    m.constant("b")
    return m.becomes(_layer(op), "x", "w", "b")


# What follows -------------------------------------------------------------------------------------

_LAYERS = "sofie.ConvLayer(x, w, b)", "sofie.ConvTransposeLayer(x, w, b)"


def _around(*forms: str) -> tuple[str, ...]:
    return tuple(form.format(layer) for form in forms for layer in _LAYERS)


@rule(
    *_around(
        "Add({}, c)",
        "Sub({}, c)",
        "Sub(c, {})",
        "Mul({}, c)",
        "Div({}, c)",
        "Neg({})",
        "BatchNormalization({}, scale, bias, mean, var)",
    )
)
def convolution_scaled(m: Match) -> Rewrite:
    """(w * x + b) * s + t = (w * s) * x + (b * s + t), with one s and t for each feature"""
    layer, dtype = _of_layer(m), m.type().dtype
    m.require(layer.activation == NoActivation(), f"{layer.activation.name} comes before it")
    w, b = wide(m.constant("w")), wide(m.constant("b"))
    step = step_at(m, m.root, m.value(type(layer)), CHANNELS)
    with np.errstate(all="ignore"):
        biases = m.changed("b", rounded(m, b * step.scale + step.offset, dtype))
        if (step.scale == 1).all():
            return m.becomes(layer, "x", "w", biases)
        weights = _scaled(layer, w, step.scale, of_features=True)
        weights = _weights(m, layer, weights)
        return m.becomes(layer, "x", m.changed("w", weights), biases)


def _of_layer(m: Match) -> ConvLayer | ConvTransposeLayer:
    (found,) = (n.op for n in m.nodes if isinstance(n.op, ConvLayer | ConvTransposeLayer))
    return found


def _scaled(layer: ConvLayer | ConvTransposeLayer, w: Wide, by: Wide, *, of_features: bool) -> Wide:
    """Weights times a number for each feature, or for each channel that they take in."""
    # Axis 0 is the first of both in all groups, axis 1 the other one in a group.
    first = isinstance(layer, ConvLayer) == of_features
    if first:
        return w * by.reshape(-1, *(1,) * (w.ndim - 1))
    grouped = w.reshape(layer.group, -1, *w.shape[1:])
    scales = by.reshape(layer.group, 1, -1, *(1,) * (w.ndim - 2))
    return np.asarray((grouped * scales).reshape(w.shape))


def _weights(m: Match, layer: ConvLayer | ConvTransposeLayer, exact: Wide) -> Array:
    return rounded(m, exact, m.type().dtype, 0 if isinstance(layer, ConvLayer) else 1)


# The kernels of features of one channel each add no tensor, but pay on images of few places.
_MANY_PLACES = 1024


@rule("Add(sofie.ConvLayer(x, w, b), added)")
def convolution_added(m: Match) -> Rewrite:
    """(w * x + b) + added, while the sums are at hand"""
    layer = m.op(ConvLayer)
    m.require(layer.activation == NoActivation(), f"{layer.activation.name} comes before it")
    m.require(m.type("added") == m.type(ConvLayer) == m.type(), "the shapes differ")
    alone = layer.group > 1 and m.type("w").shape[:2] == (layer.group, 1)
    places = product(m.type().shape[2:])
    is_large = isinstance(places, int) and places > _MANY_PLACES
    m.require(not alone or is_large, "its features are of one channel each, and images are small")
    return m.becomes(layer, "x", "w", "b", "added")


@rule(*_around("Unary({})"), "Unary(sofie.ConvLayer(x, w, b, added))")
def convolution_activated(m: Match) -> Rewrite:
    """f(w * x + b) or f(w * x + b + added), computed while the sums are at hand"""
    layer = _of_layer(m)
    m.require(layer.activation == NoActivation(), f"{layer.activation.name} comes before it")
    m.require(m.type() == m.type(type(layer)), f"its result is {m.type().dtype}")
    more = ("added",) if "added" in m.values else ()
    return m.becomes(replace(layer, activation=m.op(Unary)), "x", "w", "b", *more)


# What precedes ------------------------------------------------------------------------------------


@rule(*_LAYERS, "sofie.ConvLayer(x, w, b, added)")
def convolution_of_scaled(m: Match) -> Rewrite:
    """w * (x * s + t) + b = (w * s) * x + (w * t + b), with one s and t for each channel"""
    layer = _of_layer(m)
    old_w, old_b = wide(m.constant("w")), wide(m.constant("b"))
    steps, end = steps_before(m, CHANNELS)
    if steps is None:
        raise NoMatch(end)
    m.require(not steps.objection(), steps.objection())
    s, t = steps.affine.scale, steps.affine.offset
    # An output at a border sums up fewer products, and t would be in fewer of them.
    m.require(not t.any() or _takes_all(layer, m), "at borders not all products are summed up")
    with np.errstate(all="ignore"):
        w = _weights(m, layer, _scaled(layer, old_w, s, of_features=False))
        # With the weights as they are now: see `fuse.affine_before`.
        b = rounded(m, old_b + _sums(layer, wide(w), t / s), m.type().dtype)
    more = ("added",) if "added" in m.values else ()
    full = m.absorb(steps.nodes, x=steps.source)
    return full.becomes(layer, "x", full.changed("w", w), full.changed("b", b), *more)


def _takes_all(layer: ConvLayer | ConvTransposeLayer, m: Match) -> bool:
    """Whether each output is a sum over all of the kernel."""
    if isinstance(layer, ConvTransposeLayer):
        return False
    slides = layer.slides(m.type("x").shape, m.type("w").shape)
    return all(s.begin == 0 and s.end == 0 for s in slides)


def _sums(layer: ConvLayer | ConvTransposeLayer, w: Wide, t: Wide) -> Wide:
    """For each feature the sum of weights times t."""
    if not t.any():
        return np.zeros(())
    products = _scaled(layer, w, t, of_features=False)
    return np.asarray(products.reshape(len(w), -1).sum(axis=1))


@rule("sofie.ConvTransposeLayer(x, w, b)")
def spread_point(m: Match) -> Rewrite:
    """A transposed convolution of single points is a dense layer to all places of its kernel"""
    op, x, w = m.op(ConvTransposeLayer), m.type("x"), m.constant("w")
    spread = op.spread(x.shape, w.shape)
    m.require(all(s.count == 1 for s in spread), "it is of more than single points")
    whole = all(s.begin == 0 and s.size == s.kernel and s.dilation == 1 for s in spread)
    m.require(whole and op.group == 1, "its result is not the kernel, or in groups")
    taps = w[0, 0].size
    events = x.reshaped((x.shape[0], len(w)))
    flat = reshape(x, events)
    back = reshape(x.reshaped((x.shape[0], w[0].size)), m.type())
    m.require(flat and back, "its shape is too complicated")
    assert flat is not None and back is not None
    bias = m.changed("b", np.repeat(m.constant("b"), taps))
    weights = m.changed("w", w.reshape(len(w), -1))
    return m.becomes(back, m.made(Dense(op.activation), m.made(flat, "x"), weights, bias))


@rule("sofie.ConvLayer(x, w, b)")
def single_place(m: Match) -> Rewrite:
    """A convolution whose kernel is as large as its image is a dense layer of the whole image"""
    op, x, w = m.op(ConvLayer), m.type("x"), m.constant("w")
    m.require(op.group == 1, "its channels are in groups")
    slides = op.slides(x.shape, w.shape)
    whole = all((s.size, s.count, s.begin) == (s.kernel, 1, 0) for s in slides)
    m.require(whole and all(s.dilation == 1 for s in slides), "its image is larger than its kernel")
    m.require(w.size > 0, "it has no weights")
    flat = reshape(x, x.reshaped((x.shape[0], w[0].size)))
    back = reshape(x.reshaped((x.shape[0], len(w))), m.type())
    m.require(flat and back, "its shape is too complicated")
    assert flat is not None and back is not None
    weights = m.changed("w", w.reshape(len(w), -1).T)
    return m.becomes(back, m.made(Dense(op.activation), m.made(flat, "x"), weights, "b"))


@rule("sofie.ConvLayer(x, w, b)", "sofie.ConvLayer(x, w, b, added)")
def few_places(m: Match) -> Rewrite:
    """A convolution of single points with few places is a dense layer between two transposes"""
    op, x, w = m.op(ConvLayer), m.type("x"), m.constant("w")
    m.require(is_pointwise(op, x.shape, w.shape), "it is of more than single points")
    sizes = [d for d in x.shape[2:] if isinstance(d, int)]
    m.require(len(sizes) == x.rank - 2, "the size of its image is not known")
    places = math.prod(sizes)
    m.require(0 < places <= _FEW_PLACES, "its image is large, or empty")
    m.require(min(w.shape[:2]) >= _LEAST_CHANNELS, "it has few channels")
    flat = reshape(x, x.reshaped((*x.shape[:2], places)))
    back = reshape(x.reshaped((x.shape[0], len(w), places)), m.type())
    m.require(flat and back, "its shape is too complicated")
    assert flat is not None and back is not None
    added = "added" in m.values
    points = m.made(_POINTS_LAST, m.made(flat, "x"))
    weights = m.changed("w", w.reshape(len(w), -1).T)
    layer = Dense(NoActivation() if added else op.activation)
    image = (back, m.made(_POINTS_LAST, m.made(layer, points, weights, "b")))
    if not added:
        return m.becomes(*image)
    total = Add(), m.made(*image), "added"
    if op.activation == NoActivation():
        return m.becomes(*total)
    return m.becomes(op.activation, m.made(*total))


# Borders ------------------------------------------------------------------------------------------


def _spatial_pads(m: Match, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """The pads of the layer together with those of the Pad before it."""
    op, x = m.op(Pad), m.type("x")
    widths = op.widths(x.rank)
    m.require(op.mode == "constant", f"the border is by {op.mode}")
    m.require(all(w == (0, 0) for w in widths[:2]), "the batch or the channels have a border")
    sizes = [d for w in widths[2:] for d in w]
    m.require(all(isinstance(d, int) and d >= 0 for d in sizes), "the border cuts off")
    own = given or (0,) * (2 * (x.rank - 2))
    added = [w[0] for w in widths[2:]] + [w[1] for w in widths[2:]]
    return tuple(a + b for a, b in zip(own, added, strict=True) if isinstance(b, int))


def _border(m: Match) -> float:
    """The number of which the border consists."""
    return float(np.asarray(m.constant("value")).item()) if "value" in m.values else 0.0


@rule(
    *(
        f"{layer}(Pad({inputs}), {more})"
        for inputs in ("x", "x, value")
        for layer, more in (
            ("Conv", "w"),
            ("Conv", "w, b"),
            ("sofie.ConvLayer", "w, b"),
            ("sofie.ConvLayer", "w, b, added"),
        )
    )
)
def padded_convolution(m: Match) -> Rewrite:
    """Conv of x in a border of zeros: the border is made where the channels are copied anyway"""
    op = m.root.op
    assert isinstance(op, Conv | ConvLayer)
    m.require(op.auto_pad in ("NOTSET", "VALID"), f"the pads are {op.auto_pad}")
    m.require(_border(m) == 0, f"the border is of {_border(m)}")
    own = op.pads if op.auto_pad == "NOTSET" else None
    pads = _spatial_pads(m, own)
    more = [name for name in ("w", "b", "added") if name in m.values]
    return m.becomes(replace(op, auto_pad="NOTSET", pads=pads), "x", *more)


@rule("MaxPool(Pad(x))", "MaxPool(Pad(x, value))")
def padded_max_pool(m: Match) -> Rewrite:
    """MaxPool of x in a border of -inf, or of 0 where no x is below: as in its own border"""
    op = m.op(MaxPool)
    m.require(len(m.root.outputs) == 1, "places in x with a border are asked for")
    least = 0 if _is_never_negative(m.maker(m.value("x"))) else -np.inf
    m.require(_border(m) in (-np.inf, least), f"the border is of {_border(m)}")
    return m.becomes(replace(op, auto_pad="NOTSET", pads=_pool_pads(m, op)), "x")


def _is_never_negative(node: Node | None) -> bool:
    return node is not None and Relu() in (node.op, getattr(node.op, "activation", None))


@rule("AveragePool(Pad(x))", "AveragePool(Pad(x, value))")
def padded_average_pool(m: Match) -> Rewrite:
    """AveragePool of x in a border of zeros, which are counted"""
    op = m.op(AveragePool)
    m.require(_border(m) == 0, f"the border is of {_border(m)}")
    plain = op.count_include_pad or not any(op.pads or ())
    m.require(plain, "the border counts, the pads do not")
    pads = _pool_pads(m, op)
    return m.becomes(replace(op, auto_pad="NOTSET", pads=pads, count_include_pad=True), "x")


def _pool_pads(m: Match, op: MaxPool | AveragePool) -> tuple[int, ...]:
    m.require(op.auto_pad in ("NOTSET", "VALID"), f"the pads are {op.auto_pad}")
    # The last window may begin in pads, but not behind them: a border is no pad there.
    m.require(not op.ceil_mode, "ceil_mode counts windows that begin in the border")
    pads = _spatial_pads(m, op.pads if op.auto_pad == "NOTSET" else None)
    kernel = (*op.kernel_shape, *op.kernel_shape)
    fits = all(p < k for p, k in zip(pads, kernel, strict=True))
    m.require(fits, "a window would lie in the border")
    return pads


fuse_borders = Rules("fuse_borders", (padded_convolution, padded_max_pool, padded_average_pool))
fuse_convolutions = Rules(
    "fuse_convolutions", (convolution, convolution_scaled, convolution_added, convolution_activated)
)
# Later, for the reason that dense layers have.
fuse_convolution_inputs = Rules("fuse_convolution_inputs", (convolution_of_scaled,))
# When all that belongs to a layer is in it.
spread_points = Rules("spread_points", (spread_point, single_place, few_places))
