"""Which convolutions are computed with fewer multiplications."""

from __future__ import annotations

import numpy as np

from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.kernels.winograd import why_no_winograd
from sofie_rdf.ops.convolution import Conv, ConvLayer
from sofie_rdf.ops.convolution_transposed import ConvTranspose, ConvTransposeLayer
from sofie_rdf.ops.convolution_winograd import WinogradConv
from sofie_rdf.passes import switches
from sofie_rdf.passes.rewrite import Match, Rewrite, Rules, rule

__all__ = ["choose_winograd", "turn_transposed"]

# The error is that of a sum of larger weights, by so much at most.
_SPREAD = 8.0


@rule(
    "Conv(x, w)",
    "Conv(x, w, b)",
    "sofie.ConvLayer(x, w, b)",
    "sofie.ConvLayer(x, w, b, added)",
)
def winograd(m: Match) -> Rewrite:
    """A convolution that is large enough, whose kernel is not, and that skips no place"""
    old = m.root.op
    assert isinstance(old, (Conv, ConvLayer))
    m.require(not isinstance(old, WinogradConv), "")
    op = _chosen(m, old, m.constant("w"))
    return m.becomes(op, *(v for v in ("x", "w", "b", "added") if v in m.values))


@rule("ConvTranspose(x, w)", "ConvTranspose(x, w, b)", "sofie.ConvTransposeLayer(x, w, b)")
def winograd_of_transposed(m: Match) -> Rewrite:
    """A transposed convolution without strides, which is one with the kernel turned round"""
    old, w = m.root.op, m.constant("w")
    assert isinstance(old, (ConvTranspose, ConvTransposeLayer))
    layer, turned = _turned_round(m, old, w)
    op = _chosen(m, layer, turned)
    return m.becomes(op, "x", m.changed("w", turned), *(v for v in ("b",) if v in m.values))


_SKIPS = "it has strides, dilations or groups"


def _turned_round(
    m: Match, old: ConvTranspose | ConvTransposeLayer, w: Array
) -> tuple[ConvLayer, Array]:
    """The convolution, and its weights, that a transposed one without strides is."""
    x = m.type("x")
    spread = old.spread(x.shape, w.shape)
    plain = all(s.stride == s.dilation == 1 for s in spread)
    m.require(plain and old.group == 1, _SKIPS)
    begins = [s.kernel - 1 - s.begin for s in spread]
    ends = [s.size - s.count + s.begin for s in spread]
    pads = [p for p in (*begins, *ends) if isinstance(p, int) and p >= 0]
    m.require(len(pads) == 2 * len(spread), "more is cut off than the kernel adds")
    turned = np.flip(w.swapaxes(0, 1), axis=tuple(range(2, w.ndim))).copy()
    return ConvLayer(pads=tuple(pads), activation=old.function), turned


def _chosen(m: Match, old: Conv | ConvLayer, w: Array) -> WinogradConv:
    """The convolution of x with these weights, if it takes fewer multiplications."""
    x = m.type("x")
    if "b" in m.values:
        m.constant("b")
    m.require(switches.winograd(), f"{switches.WINOGRAD}=0 says so")
    op = WinogradConv(**old.attributes())
    reason = why_no_winograd(op.problem((x, TensorType(x.dtype, w.shape))))
    m.require(not reason, reason)
    m.require(_spread(w) <= _SPREAD, "of the weights of a feature few are not near 0")
    return op


def _spread(w: Array) -> float:
    """How much larger the sum of a feature's weights is if each is the largest of its kernel."""
    size = np.abs(w).reshape(len(w), -1, w.shape[-1] * w.shape[-2])
    largest = size.shape[2] * size.max(axis=2).sum(axis=1, dtype=np.float64)
    with np.errstate(all="ignore"):
        ratios = largest / size.sum(axis=(1, 2), dtype=np.float64)
    # Of a feature whose weights are 0 or no numbers there is nothing to compare.
    return float(np.max(np.nan_to_num(ratios, nan=0), initial=0))


# Fewer features fill no tile of a convolution; of more channels a product for all taps is faster.
_FEATURES, _CHANNELS = 5, 16


@rule("ConvTranspose(x, w)", "ConvTranspose(x, w, b)", "sofie.ConvTransposeLayer(x, w, b)")
def plain_of_transposed(m: Match) -> Rewrite:
    """A transposed convolution without strides and with some features, which is summed directly"""
    old, w = m.root.op, m.constant("w")
    assert isinstance(old, (ConvTranspose, ConvTransposeLayer))
    if "b" in m.values:
        m.constant("b")
    m.require(m.type("x").dtype is DType.FLOAT32, f"its elements are {m.type('x').dtype}")
    m.require(w.shape[1] >= _FEATURES, f"it has fewer than {_FEATURES} features")
    few = w.shape[0] <= min(_CHANNELS, w.shape[1])
    m.require(few, f"it has more than {_CHANNELS} channels, or more than features")
    layer, turned = _turned_round(m, old, w)
    return m.becomes(layer, "x", m.changed("w", turned), *(v for v in ("b",) if v in m.values))


choose_winograd = Rules("choose_winograd", (winograd, winograd_of_transposed))
turn_transposed = Rules("turn_transposed", (plain_of_transposed,))
