"""Rows of convolutions that take fewer multiplications."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.convolution_winograd import WinogradConv
from sofie_rdf.ops.elementwise import Elu, Relu, Tanh
from sofie_rdf.ops.linear import NoActivation
from tests.ops.cases import Case, M, N, Random, Row, anything, edges
from tests.ops.rows.convolution import _absolute, _layer_slack, _products, _weights

# x, w, attributes. Tiles are of 4 x 4 outputs, and up to 48 are done at a time; events of few tiles
# are computed like any other convolution.
_CONVOLUTIONS: tuple[tuple[Shape, tuple[int, ...], dict[str, Any]], ...] = (
    ((N, 8, 16, 12), (8, 8, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((N, 4, 13, 18), (13, 4, 5, 5), {"pads": (2, 2, 2, 2)}),
)
_MORE: tuple[tuple[Shape, tuple[int, ...], dict[str, Any]], ...] = (
    ((N, 4, 11, 21), (6, 4, 3, 3), {}),
    ((N, 5, 9, 75), (17, 5, 5, 5), {"pads": (0, 3, 4, 1)}),
    ((1, 4, 6, 270), (5, 4, 3, 3), {"pads": (5, 0, 0, 7)}),
    ((2, 4, 68, 3), (9, 4, 4, 4), {"auto_pad": "SAME_UPPER"}),
    ((2, 6, 15, 14), (7, 6, 3, 5), {"auto_pad": "SAME_LOWER"}),
    ((1, 4, 14, 80), (40, 4, 3, 2), {"strides": (1, 1), "dilations": (1, 1)}),
    ((1, 90, 13, 17), (9, 90, 5, 4), {"pads": (2, 2, 2, 2)}),
    ((2, 4, 5, 13, 14), (5, 4, 3, 3, 3), {"pads": (1, 1, 1, 1, 1, 1)}),
    ((N, 4, 3, 12, 15), (6, 4, 5, 5, 5), {"pads": (3, 2, 2, 5, 2, 2)}),
    ((2, 4, 8, 8), (5, 4, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 4, M, 40), (5, 4, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((N, 4, 3, 3), (5, 4, 5, 5), {"pads": (20, 20, 20, 20)}),
    # Whole packs of channels and many features: both in the lanes. Tiles of 4 x 4 and of 2 x 2.
    ((N, 16, 14, 14), (32, 16, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((3, 16, 16, 16), (60, 16, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 48, 17, 22), (64, 48, 3, 3), {"pads": (0, 2, 3, 1)}),
    ((1, 80, 27, 58), (32, 80, 3, 2), {"pads": (1, 1, 1, 1)}),
    ((N, 16, 7, 7), (64, 16, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((3, 32, 8, 9), (28, 32, 2, 2), {}),
    ((2, 32, 15, 15), (44, 32, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 16, M, 20), (32, 16, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 16, 5, 6), (32, 16, 3, 3), {"pads": (6, 0, 0, 7)}),
    ((2, 16, M, M), (32, 16, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 16, 5, 700), (32, 16, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((0, 4, 16, 16), (5, 4, 3, 3), {}),
    ((2, 4, 0, 16), (5, 4, 3, 3), {"pads": (2, 1, 2, 1)}),
)


def _few(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Ordinary numbers, with one edge in about half of the events."""
    usual = anything(random, dtype, shape, False)
    if extreme and usual.size:
        flat = usual.reshape(shape[0], -1)
        for event in flat[random.random(shape[0]) < 0.5]:
            event[random.integers(event.size)] = random.choice(edges(dtype))
    return usual


def _winograd(dtype: DType, full: bool) -> Iterator[Case]:
    activations = (NoActivation(), Relu(), Tanh(), Elu(0.5))
    for number, (x, w, attributes) in enumerate((*_CONVOLUTIONS, *(_MORE if full else ()))):
        op = WinogradConv(activation=activations[number % len(activations)], **attributes)
        given = TensorType(dtype, x), _weights(dtype, *w)
        bias = _weights(dtype, w[0])
        yield Case(op, (*given, bias), (_few,))
        if number < 3:
            yield Case(op, given, (_few,))
            added = TensorType(dtype, op.output_shape_of(x, w, None))
            yield Case(op, (*given, bias, added), (_few,))
    x, w, attributes = _CONVOLUTIONS[0]
    for factor in (1e-20, 1e-30, 1e20, np.inf, 0) if full else ():
        weights = _weights(dtype, *w)
        weights[3] *= dtype.numpy.type(factor)
        yield Case(WinogradConv(**attributes), (TensorType(dtype, x), weights), (_few,))


def _dilated(x: Array, reach: int) -> Array:
    """The largest of what is no further than ``reach`` in height and width."""
    for axis in (-2, -1):
        padding = [(0, 0)] * x.ndim
        padding[axis] = (reach, reach)
        wide = np.pad(x, padding)
        x = np.lib.stride_tricks.sliding_window_view(wide, 2 * reach + 1, axis).max(-1)
    return x


def _ordinary(x: Array, small: float) -> Array:
    """Of which events or features the largest number is neither very large nor very small."""
    largest = np.max(np.abs(x), axis=tuple(range(1, x.ndim)), initial=0)
    return np.asarray((largest == 0) | ((largest >= small) & (largest <= 2.0**40)))


def _of_tiles(op: Any, x: Array, w: Array, *others: Array | None) -> Array:
    """The sum of absolute values in which inputs and weights are the largest that are near."""
    op = replace(op, activation=NoActivation())
    absolute = _absolute(op, x, w, *others)
    ordinary = _ordinary(x, 2.0**-40) & _ordinary(w, 2.0**-80).all()
    if not ordinary.any():
        return absolute
    slides = op.slides(x.shape, w.shape)
    pads = [(0, 0), (0, 0), *((s.begin, s.end) for s in slides)]
    near = _dilated(np.pad(np.abs(x[ordinary]), pads), op.inputs_of_a_tile(x.shape, w.shape) - 1)
    added = [None if i is None else i[ordinary] if i.ndim > 1 else i for i in others]
    whole = replace(op, pads=None, auto_pad="NOTSET")
    found = absolute.copy()
    largest = np.broadcast_to(np.max(np.abs(w), axis=(-2, -1), keepdims=True), w.shape)
    found[ordinary] = _absolute(whole, near, largest, *added)
    return found


ROWS: dict[tuple[str, str], Row] = {
    ("sofie", "WinogradConv"): Row(
        _winograd, _of_tiles, _products, _layer_slack, signed_zeros=False
    ),
}
