"""Convolutions of single points one after the other: dense layers of the points.

A dense layer reads and writes the channels of a point as neighbours and goes on to the next layer
while they are near (`layers`); a convolution reads each channel from another part of memory. So the
points change places with the channels at both ends of a run, if more is computed between them.
"""

from __future__ import annotations

from sofie_rdf.ir.types import Shape
from sofie_rdf.ops.convolution import ConvLayer
from sofie_rdf.ops.layout import Transpose
from sofie_rdf.ops.linear import Dense
from sofie_rdf.passes.rewrite import Match, Rewrite, Rules, rule

__all__ = ["pointwise_runs"]

_LAST = Transpose((0, 2, 1))


def _require_points(m: Match, op: ConvLayer, x: Shape, w: tuple[int, ...]) -> None:
    m.require(len(x) == 3, "the points are along several axes")
    windows = op.slides(x, w)
    plain = all(s.kernel == s.stride == 1 and s.begin == s.end == 0 for s in windows)
    m.require(plain and op.group == 1, "it is of more than single points")


@rule("sofie.ConvLayer(sofie.ConvLayer(x, u, a), w, b)")
def two_convolutions(m: Match) -> Rewrite:
    """Two convolutions of single points are two dense layers, between two Transposes"""
    second, first = m.nodes
    assert isinstance(first.op, ConvLayer) and isinstance(second.op, ConvLayer)
    u, w = m.constant("u"), m.constant("w")
    _require_points(m, first.op, m.type("x").shape, u.shape)
    _require_points(m, second.op, m.graph.types[first.outputs[0]].shape, w.shape)
    m.require(u.shape[1] + w.shape[0] <= 2 * u.shape[0], "most channels are at the ends")
    points = m.made(
        Dense(first.op.activation), m.made(_LAST, "x"), m.changed("u", u[..., 0].T), "a"
    )
    return m.becomes(
        _LAST, m.made(Dense(second.op.activation), points, m.changed("w", w[..., 0].T), "b")
    )


@rule("Transpose(sofie.ConvLayer(x, w, b))")
def convolution_before(m: Match) -> Rewrite:
    """A convolution of single points whose channels become the last is a dense layer behind that"""
    op, w = m.op(ConvLayer), m.constant("w")
    m.require(m.op(Transpose).permutation(m.type().rank) == _LAST.perm, "the points are not first")
    _require_points(m, op, m.type("x").shape, w.shape)
    m.require(w.shape[1] <= w.shape[0], "it has more channels than features")
    return m.becomes(Dense(op.activation), m.made(_LAST, "x"), m.changed("w", w[..., 0].T), "b")


pointwise_runs = Rules("pointwise_runs", (two_convolutions, convolution_before))
