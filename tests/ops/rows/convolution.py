"""Rows of convolutions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.col2im import Col2Im, RuntimeCol2Im
from sofie_rdf.ops.convolution import (
    Conv,
    ConvInteger,
    ConvLayer,
    DeformConv,
    QLinearConv,
)
from sofie_rdf.ops.convolution_causal import CausalConvWithState
from sofie_rdf.ops.convolution_transposed import ConvTranspose, ConvTransposeLayer
from sofie_rdf.ops.elementwise import Elu, Relu, Sigmoid, Tanh
from sofie_rdf.ops.linear import NoActivation
from tests.ops.cases import Case, Input, M, N, Row, sparse, usual

# x, w, attributes
_Setup = tuple[Shape, tuple[int, ...], dict[str, Any]]

_CONVOLUTIONS: tuple[_Setup, ...] = (
    ((N, 3, 7, 6), (5, 3, 3, 2), {"pads": (1, 0, 2, 1)}),
    ((N, 4, 25), (9, 4, 1), {}),
    ((N, 4, 9), (6, 2, 3), {"group": 2, "strides": (2,), "pads": (1, 1)}),
    ((N, 6, 5, 7), (6, 1, 3, 3), {"group": 6, "pads": (1, 1, 1, 1)}),
)
_MORE: tuple[_Setup, ...] = (
    ((2, 3, M, 5), (2, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": (2, 1)}),
    ((N, 2, M), (3, 2, 4), {"auto_pad": "SAME_LOWER", "dilations": (2,)}),
    ((N, 2, 8), (1, 2, 3), {"auto_pad": "VALID", "strides": (3,)}),
    ((N, 1, 9, 9), (1, 1, 3, 3), {"dilations": (2, 3), "kernel_shape": (3, 3)}),
    ((N, 2, 11, 10), (3, 2, 4, 3), {"strides": (3, 2), "pads": (2, 1, 0, 1), "dilations": (2, 1)}),
    ((N, 2, 4, 5, 6), (4, 2, 2, 3, 2), {"pads": (1, 1, 0, 0, 1, 1), "strides": (1, 2, 1)}),
    ((2, 3, 4, 3, 5), (17, 3, 1, 1, 1), {}),
    ((1, 40, 30, 30), (11, 40, 2, 2), {}),
    ((2, 150, 3, 7), (9, 150, 1, 1), {}),
    ((2, 150, 24, 23), (12, 150, 1, 1), {}),
    ((N, 8, 3, 3), (24, 1, 3, 3), {"group": 8, "pads": (1, 1, 1, 1), "strides": (2, 2)}),
    # Of one channel each: rows of packs and in one piece, strides, and channels that are not 4.
    ((2, 5, 9, 19), (5, 1, 5, 3), {"group": 5, "pads": (2, 1, 2, 1)}),
    ((2, 4, 9, 40), (4, 1, 3, 3), {"group": 4, "pads": (0, 1, 1, 1), "strides": (1, 2)}),
    ((1, 7, 8, 21), (7, 1, 2, 4), {"group": 7, "strides": (3, 1), "dilations": (1, 2)}),
    ((N, 6, 35), (6, 1, 3), {"group": 6, "auto_pad": "SAME_UPPER", "strides": (2,)}),
    ((2, 3, 4, 1), (3, 1, 3, 1), {"group": 3, "pads": (4, 0, 5, 0), "dilations": (2, 1)}),
    ((2, 4, 9, 20), (4, 1, 3, 3), {"group": 4, "strides": (1, 3)}),
    ((2, 4, M, 20), (4, 1, 3, 3), {"group": 4, "pads": (1, 0, 1, 0)}),
    ((2, 3, 4, 5, 6), (3, 1, 2, 3, 2), {"group": 3}),
    # Of one channel each, in the lanes: groups of three taps, two and one, borders, and many rows.
    ((2, 19, 9, 11), (19, 1, 3, 3), {"group": 19, "pads": (1, 1, 1, 1)}),
    ((N, 8, 7, 14), (8, 1, 5, 7), {"group": 8, "pads": (2, 3, 2, 3)}),
    ((2, 16, 9, 30), (16, 1, 3, 5), {"group": 16, "pads": (0, 1, 1, 2), "strides": (2, 2)}),
    ((N, 17, 40), (17, 1, 5), {"group": 17, "dilations": (2,)}),
    ((1, 9, 6, 29), (9, 1, 3, 4), {"group": 9, "strides": (1, 2), "dilations": (2, 2)}),
    ((N, 8, 5, 6), (8, 1, 2, 2), {"group": 8}),
    ((1, 8, 70, 60), (8, 1, 3, 3), {"group": 8, "pads": (1, 1, 1, 1), "strides": (3, 1)}),
    ((1, 8, 3, 2), (8, 1, 3, 3), {"group": 8, "pads": (4, 1, 4, 4)}),
    ((N, 3, 1, 1), (4, 3, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((N, 2, 6), (2, 2, 1), {"strides": (2,)}),
    # Many features, in the lanes: rows of halves of tiles in one piece and not, of 7, 6, 5, 4 and 2
    # columns; strides, points that are read where they are; long sums; wide rows; depth.
    ((N, 24, 2, 2), (48, 24, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 20, M, M), (48, 20, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((N, 4, 9, 7), (32, 4, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 5, 12, 13), (60, 5, 3, 3), {"strides": (2, 2), "pads": (0, 1, 2, 0)}),
    ((1, 40, 5, 10), (28, 40, 3, 3), {"pads": (1, 1, 1, 1), "dilations": (2, 1)}),
    ((2, 30, 7, 15), (64, 30, 1, 1), {"strides": (2, 2)}),
    ((2, 30, 7, 17), (32, 30, 1, 1), {"strides": (2, 2)}),
    ((1, 3, 4, 520), (32, 3, 3, 4), {"pads": (1, 9, 1, 0)}),
    ((N, 16, 50), (32, 16, 3), {"strides": (2,), "dilations": (3,)}),
    # Events of one row each, which are the rows of one image.
    ((20, 32, 60), (32, 32, 5), {"pads": (2, 2)}),
    ((2, 4, 5, 4, 6), (32, 4, 3, 2, 2), {"pads": (1, 0, 0, 1, 1, 0), "strides": (2, 1, 1)}),
    ((1, 150, 30, 31), (32, 150, 2, 2), {"strides": (2, 1)}),
    ((2, 4, M, 12), (32, 4, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 4, 6, 9), (48, 4, 3, 3), {}),
    ((2, 30, 6, 8), (12, 30, 3, 3), {"strides": (1, 2)}),
    ((2, 4, 3, 9), (32, 4, 3, 3), {"pads": (4, 12, 4, 12)}),
    # Copied for each tap: tiles of 3, 2 and 1 packs and what is left; rows of several packs; pads
    # that are wider than the image; lines done in several parts, or a part of one; sums of parts.
    ((2, 1, 28, 28), (16, 1, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((N, 2, 6, 5), (9, 2, 3, 3), {"strides": (2, 2), "pads": (1, 1, 0, 1)}),
    ((N, 3, 9, 37), (5, 3, 3, 5), {"strides": (1, 2), "pads": (0, 3, 1, 2), "dilations": (2, 3)}),
    ((2, 1, 4, 5), (12, 1, 3, 3), {"pads": (5, 19, 4, 20), "strides": (3, 1)}),
    ((1, 30, 21, 33), (8, 30, 2, 2), {"pads": (0, 1, 2, 0)}),
    ((2, 4, 1500), (10, 4, 21), {"strides": (2,), "pads": (7, 3)}),
    ((2, 2, 5, 4, 6), (6, 2, 3, 2, 2), {"pads": (1, 0, 2, 1, 1, 0), "strides": (2, 1, 1)}),
    ((2, 3, 5, 45), (20, 3, 1, 1), {}),
    ((2, 40, 9, 9), (8, 40, 3, 3), {"strides": (2, 2), "pads": (1, 1, 1, 1)}),
    ((2, 300, 3, 7), (10, 300, 1, 1), {}),
    ((1, 2, 700), (3, 2, 1), {}),
    # Points of few places: features in the lanes, of whole tiles of them, and of one panel; events
    # of one place, and more places than packs have.
    ((N, 20, 2, 2), (72, 20, 1, 1), {}),
    ((2, 300, 1, 3), (23, 300, 1, 1), {}),
    ((3, 40, 1), (120, 40, 1), {}),
    ((2, 17, 5, 11), (12, 17, 1, 1), {}),
    # Several groups side by side: 16, 8, 4 and 2 of them, and one; lanes and blocks that are not
    # full; channels of several images, features of several parts; rows that are done in parts.
    ((2, 39, 4, 9), (13, 3, 3, 3), {"group": 13, "strides": (1, 2), "pads": (1, 0, 0, 1)}),
    ((2, 21, 9, 16), (14, 3, 3, 3), {"group": 7, "pads": (0, 1, 2, 3)}),
    ((N, 16, 9, 11), (16, 4, 3, 3), {"group": 4, "pads": (1, 1, 1, 1)}),
    ((1, 20, 5, 7), (12, 5, 3, 2), {"group": 4}),
    ((2, 24, 7, 30), (24, 4, 3, 5), {"group": 6, "pads": (2, 1, 0, 3), "strides": (2, 2)}),
    ((2, 15, 6, 9), (24, 5, 2, 3), {"group": 3, "dilations": (1, 2)}),
    ((N, 34, 5, 6), (48, 17, 3, 3), {"group": 2, "pads": (1, 1, 1, 1)}),
    ((N, 16, 33), (16, 4, 5), {"group": 4, "strides": (2,), "pads": (2, 1)}),
    ((1, 16, 70, 60), (16, 4, 3, 3), {"group": 4, "pads": (1, 1, 1, 1)}),
    ((1, 16, 3, 2), (16, 4, 3, 3), {"group": 4, "pads": (4, 1, 4, 4)}),
    ((1, 16, 30, 8), (16, 4, 3, 1), {"group": 4, "strides": (4, 1), "pads": (0, 2, 5, 0)}),
    ((2, 15, 6, 21), (14, 15, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 16, 9, 24), (16, 16, 3, 3), {"pads": (2, 2, 2, 2), "dilations": (2, 2)}),
    # Both axes of an image are open: of one channel each, points, each tap copied, and groups.
    ((2, 19, M, M), (19, 1, 3, 3), {"group": 19, "pads": (1, 1, 1, 1), "strides": (2, 2)}),
    ((N, 8, M, M), (8, 1, 5, 3), {"group": 8, "auto_pad": "SAME_UPPER", "strides": (2, 1)}),
    ((2, 5, M, M), (5, 1, 3, 3), {"group": 5, "pads": (2, 1, 2, 1), "dilations": (2, 1)}),
    ((N, 20, M, M), (10, 20, 1, 1), {}),
    ((2, 30, M, M), (12, 30, 3, 3), {"pads": (1, 1, 1, 1), "strides": (2, 2)}),
    ((2, 16, M, M), (16, 4, 3, 3), {"group": 4, "pads": (1, 1, 1, 1)}),
    ((2, 30, M, M), (24, 30, 3, 3), {"pads": (1, 1, 1, 1), "strides": (2, 2)}),
    ((N, 40, M), (32, 40, 5), {"pads": (2, 2)}),
    ((0, 3, 4), (2, 3, 2), {}),
    ((2, 0, 4), (2, 0, 2), {}),
    ((2, 3, 4), (0, 3, 2), {}),
)


def _weights(dtype: DType, *shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype.numpy)


def _conv(dtype: DType, full: bool) -> Iterator[Case]:
    for x, w, attributes in (*_CONVOLUTIONS, *(_MORE if full else ())):
        op, first = Conv(**attributes), TensorType(dtype, x)
        yield Case(op, (first, _weights(dtype, *w), _weights(dtype, w[0])), (sparse,))
        if full:
            without = (x, w, attributes) not in (*_CONVOLUTIONS, *_MORE[::4])
            yield Case(op, (first, _weights(dtype, *w)), (sparse,), exhaustive=without)
    for x, w, attributes in (*_CONVOLUTIONS, *(_MORE[:4] if full else ())):
        types = TensorType(dtype, x), TensorType(dtype, w), TensorType(dtype, w[:1])
        yield Case(Conv(**attributes), types, (usual,))
        yield Case(Conv(**attributes), types[:2], (usual,))


def _conv_layer(dtype: DType, full: bool) -> Iterator[Case]:
    activations = (Relu(), NoActivation(), Tanh(), Sigmoid(), Elu(0.5))
    lanes = [
        setup
        for setup in _MORE
        if setup[1][0] in (5, 8, 10, 12, 14, 16, 20, 23, 24, 32, 48, 60, 72)
    ]
    setups = (*_CONVOLUTIONS, *(_MORE[:4] if full else ()), *(lanes if full else ()))
    for number, (x, w, attributes) in enumerate(setups):
        op = ConvLayer(activation=activations[number % len(activations)], **attributes)
        given = TensorType(dtype, x), _weights(dtype, *w), _weights(dtype, w[0])
        # Of most layers one of the two.
        is_more = number >= len(_CONVOLUTIONS)
        yield Case(op, given, (sparse,), exhaustive=is_more and number % 2 == 0)
        added = TensorType(dtype, op.output_shape_of(x, w, None))
        yield Case(op, (*given, added), (sparse,), exhaustive=is_more and number % 2 == 1)
    for x, w, attributes in _CONVOLUTIONS[: 2 if full else 1]:
        op = ConvLayer(activation=Relu(), **attributes)
        computed = [TensorType(dtype, s) for s in (x, w, w[:1])]
        yield Case(op, computed, (usual,))
        added = TensorType(dtype, op.output_shape_of(x, w, None))
        yield Case(op, (*computed, added), (usual,))


_TRANSPOSED: tuple[_Setup, ...] = (
    ((N, 3, 4, 5), (3, 2, 3, 3), {"strides": (2, 2), "pads": (1, 0, 0, 1)}),
    ((N, 4, 7), (4, 3, 3), {"group": 2}),
)
_MORE_TRANSPOSED: tuple[_Setup, ...] = (
    ((N, 2, 6), (2, 1, 4), {"strides": (3,), "output_padding": (2,), "dilations": (2,)}),
    ((N, 2, 3, 3), (2, 2, 3, 3), {"strides": (3, 2), "output_shape": (10, 8)}),
    ((N, 2, 3, 3), (2, 2, 3, 3), {"strides": (3, 2), "output_shape": (8, 5)}),
    ((N, 2, M, 3), (2, 1, 3, 3), {"strides": (2, 3), "auto_pad": "SAME_UPPER"}),
    ((2, 1, 3), (1, 1, 2), {"strides": (3,), "auto_pad": "SAME_LOWER"}),
    ((N, 2, M), (2, 1, 4), {"strides": (2,), "auto_pad": "SAME_LOWER"}),
    ((N, 2, 3), (2, 2, 3), {"auto_pad": "VALID", "kernel_shape": (3,)}),
    ((2, 3, 2, 3, 4), (3, 2, 2, 1, 3), {"strides": (1, 2, 2), "pads": (1, 0, 1, 0, 0, 1)}),
    ((1, 150, 9, 9), (150, 3, 2, 2), {}),
    ((0, 3, 4), (3, 2, 2), {}),
    ((2, 0, 4), (0, 2, 2), {}),
    ((2, 3, 4), (3, 2, 1), {"strides": (2,)}),
    # Features that are no multiple of 4, and events of which several are done at a time.
    ((70, 2, 3, 3), (2, 5, 3, 3), {"strides": (1, 4), "group": 2, "pads": (2, 1, 3, 0)}),
    ((1, 3, 2, 40), (3, 6, 2, 3), {"strides": (2, 4), "output_padding": (1, 3)}),
    ((1, 2, 20), (2, 4, 6), {"strides": (5,), "pads": (3, 2)}),
    # So many channels that not all of an image is done at a time.
    ((2, 2800, 70), (2800, 2, 4), {"strides": (2,), "pads": (1, 0)}),
    (
        (1, 2800, 13, 5),
        (2800, 1, 3, 2),
        {"strides": (2, 1), "dilations": (2, 1), "pads": (3, 0) * 2},
    ),
    ((1, 2800, 11, 6), (2800, 2, 4, 1), {"pads": (0, 0, 1, 0)}),
    ((1, 2800, 4, 4, 4), (2800, 1, 2, 3, 2), {"strides": (2, 1, 2), "pads": (1, 0, 0, 0, 1, 0)}),
    # So many taps that not all features are done at a time.
    ((1, 1, 8, 10), (1, 13, 17, 17), {"strides": (3, 2)}),
)


def _conv_transpose(dtype: DType, full: bool) -> Iterator[Case]:
    for x, w, attributes in (*_TRANSPOSED, *(_MORE_TRANSPOSED if full else ())):
        op, first = ConvTranspose(**attributes), TensorType(dtype, x)
        features = w[1] * attributes.get("group", 1)
        yield Case(op, (first, _weights(dtype, *w), _weights(dtype, features)), (sparse,))
        yield Case(op, (first, TensorType(dtype, w)), (usual,))
        if full:
            bias = TensorType(dtype, (features,))
            yield Case(op, (first, _weights(dtype, *w)), (sparse,))
            yield Case(op, (first, TensorType(dtype, w), bias), (usual,))


# With few features: phases with more and with fewer taps or outputs than others, several tiles,
# rows as long as a pack, outputs that no input reaches, what is cut off, many taps side by side.
_FEW_TRANSPOSED: tuple[_Setup, ...] = (
    ((N, 5, 28, 27), (5, 1, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((N, 4, 17, 16), (4, 2, 2, 2), {"strides": (2, 2)}),
    ((N, 3, 7, 9), (3, 3, 4, 4), {"strides": (2, 2), "pads": (1, 1, 1, 1)}),
    ((N, 2, 5, 31), (2, 4, 5, 3), {"strides": (3, 2), "pads": (2, 0, 1, 1)}),
    ((2, 2, 6, 5), (2, 1, 1, 1), {"strides": (2, 2), "output_padding": (1, 1)}),
    ((N, 3, 40), (3, 2, 5), {"strides": (2,), "pads": (4, 3)}),
    ((N, 1, 3, 3), (1, 1, 3, 2), {"strides": (2, 1), "output_shape": (9, 7)}),
    ((N, 2, 1, 6), (2, 3, 4, 5), {"strides": (4, 2), "pads": (3, 4, 0, 2)}),
)


def _transposed_layer(dtype: DType, full: bool) -> Iterator[Case]:
    setups = (*_TRANSPOSED, *((*_MORE_TRANSPOSED[:4], *_FEW_TRANSPOSED) if full else ()))
    for number, (x, w, attributes) in enumerate(setups):
        op = ConvTransposeLayer(activation=(Relu(), Tanh())[number % 2], **attributes)
        features = w[1] * attributes.get("group", 1)
        first, bias = TensorType(dtype, x), _weights(dtype, features)
        yield Case(op, (first, _weights(dtype, *w), bias), (sparse,))
        yield Case(op, (first, TensorType(dtype, w)), (usual,))


# Integers -----------------------------------------------------------------------------------------


def _numbers(dtype: DType, *values: int) -> Array:
    return np.array(values, dtype.numpy)


def _of_eight_bits(dtype: DType) -> bool:
    return dtype in (DType.INT8, DType.UINT8)


def _conv_integer(dtype: DType, full: bool) -> Iterator[Case]:
    if not _of_eight_bits(dtype):
        yield Case(ConvInteger(), (TensorType(dtype, (N, 1, 3)), TensorType(dtype, (1, 1, 2))))
        return
    other = DType.INT8 if full else DType.UINT8
    for number, (x, w, attributes) in enumerate((*_CONVOLUTIONS, *(_MORE if full else ()))):
        op, types = ConvInteger(**attributes), (TensorType(dtype, x), TensorType(other, w))
        zero, zeros = _numbers(dtype, 7).reshape(()), _numbers(other, *range(w[0]))
        zero_points: list[tuple[Input, ...]] = [(), (zero, zeros)]
        if full:
            of_weights = zeros[:1].reshape(()) if w[0] else None
            computed = TensorType(dtype, ()), TensorType(other, (w[0],))
            zero_points += [(zero,), (None, of_weights), computed]
        # Of most convolutions one of them.
        is_more = number >= len(_CONVOLUTIONS)
        for which, points in enumerate(zero_points):
            left = is_more and which != number % len(zero_points)
            yield Case(op, (*types, *points), exhaustive=left)


def _qlinear_conv(dtype: DType, full: bool) -> Iterator[Case]:
    other = DType.INT8 if full else DType.UINT8
    eight = _of_eight_bits(dtype)
    for x, w, attributes in (*_CONVOLUTIONS, *(_MORE[:6] if full else ())):
        for each in (True, False):
            count = w[0] if each else 1
            scales = np.linspace(0.002, 0.03, count, dtype=np.float32)
            zeros = _numbers(other, *range(count))
            given: tuple[Input, ...] = (
                TensorType(dtype, x),
                np.array(0.02, np.float32),
                _numbers(dtype, 3).reshape(()) if eight else TensorType(dtype, ()),
                TensorType(other, w),
                scales if each else scales.reshape(()),
                zeros if each else zeros.reshape(()),
                np.array(0.11, np.float32),
                _numbers(dtype, 5).reshape(()) if eight else TensorType(dtype, ()),
            )
            yield Case(QLinearConv(**attributes), given)
            bias = TensorType(DType.INT32, (w[0],))
            yield Case(QLinearConv(**attributes), (*given, bias))


# Others -------------------------------------------------------------------------------------------

# x, w, the result's space, offset groups, attributes
_DEFORMED: tuple[tuple[Shape, tuple[int, ...], Shape, int, dict[str, Any]], ...] = (
    ((N, 2, 5, 6), (3, 2, 2, 2), (4, 5), 1, {}),
    ((N, 4, 4, 3), (2, 2, 2, 3), (5, 3), 2, {"pads": (1, 1, 1, 1), "group": 2}),
    ((N, 2, 9), (3, 2, 3), (3,), 2, {"strides": (2,), "dilations": (2,)}),
    ((2, 1, 3, 4, 3), (2, 1, 2, 2, 2), (2, 3, 2), 1, {}),
    ((N, 2, M), (1, 2, 1), (M,), 1, {}),
)


def _deform_conv(dtype: DType, full: bool) -> Iterator[Case]:
    for x, w, space, groups, attributes in _DEFORMED if full else _DEFORMED[:2]:
        parts = groups * int(np.prod(w[2:]))
        given = (
            TensorType(dtype, x),
            _weights(dtype, *w),
            TensorType(dtype, (x[0], parts * len(space), *space)),
        )
        bias, mask = _weights(dtype, w[0]), TensorType(dtype, (x[0], parts, *space))
        op = DeformConv(offset_group=groups, **attributes)
        yield Case(op, given, (usual,))
        yield Case(op, (*given, bias, mask), (usual,))
        yield Case(op, (*given, None, mask), (usual,))
        yield Case(op, (*given, bias), (usual,))


_IMAGES: tuple[tuple[Shape, tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((N, 5, 5), (5, 5), (1, 5), {}),
    ((N, 18, 4), (5, 5), (3, 3), {"strides": (2, 2)}),
    ((N, 5, 15), (5, 5), (1, 5), {"pads": (0, 1, 0, 1)}),
    ((2, 4, 5), (6, 6), (2, 2), {"dilations": (1, 5)}),
    ((N, 10, 12), (3, 4, 5), (1, 1, 5), {}),
    ((2, 6, 4), (6,), (3,), {}),
)


def _col2im(dtype: DType, full: bool) -> Iterator[Case]:
    for x, image, block, attributes in _IMAGES if full else _IMAGES[:2]:
        yield Case(Col2Im(image, block, **attributes), (TensorType(dtype, x),), (sparse,))


def _runtime_col2im(dtype: DType, full: bool) -> Iterator[Case]:
    for x, image, block, attributes in _IMAGES if full else _IMAGES[:2]:
        sizes = np.array(image, np.int64), np.array(block, np.int64)
        yield Case(RuntimeCol2Im(**attributes), (TensorType(dtype, x), *sizes), (sparse,))


def _causal(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: Sequence[tuple[Shape, int]] = [((N, 4, 8), 4), ((N, 3, M), 2)]
    if full:
        shapes = [*shapes, ((2, 4, 1), 4), ((N, 2, 3), 1), ((N, 2, 2), 5), ((N, 1, 70), 3)]
    for x, k in shapes:
        assert isinstance(x[1], int)
        w, b = _weights(dtype, x[1], 1, k), _weights(dtype, x[1])
        past = TensorType(dtype, (*x[:2], k - 1))
        given = TensorType(dtype, x), w
        yield Case(CausalConvWithState(), given, (sparse,))
        yield Case(CausalConvWithState("silu"), (*given, b), (usual,))
        yield Case(CausalConvWithState(), (*given, None, past), (sparse,))
        computed = TensorType(dtype, w.shape), TensorType(dtype, b.shape)
        yield Case(CausalConvWithState("swish"), (given[0], *computed, past), (usual,))


# Magnitudes ---------------------------------------------------------------------------------------


def _absolute(op: Any, *inputs: Array | None) -> Array:
    """The same sum of absolute values; of several results of the first."""
    plain = replace(op, activation=_NONE[type(op)]) if type(op) in _NONE else op
    found = plain.reference(*(None if i is None else np.abs(i) for i in inputs))
    return np.asarray(found[0] if isinstance(found, tuple) else found)


_NONE: dict[type[Any], Any] = {
    ConvLayer: NoActivation(),
    ConvTransposeLayer: NoActivation(),
    CausalConvWithState: "none",
}


def _products(_: Array, w: Array, *__: Array) -> float:
    return float(max(1, np.prod(w.shape[1:])))


def _transposed_products(_: Array, w: Array, *__: Array) -> float:
    return float(max(1, w.size))


def _layer_slack(op: Any, error: Array, _: np.dtype[Any], *inputs: Array) -> Array:
    """What an error of the sum becomes behind the activation."""
    exact = replace(op, activation=NoActivation()).reference(*inputs)
    f = op.activation
    sides = [np.abs(f.reference(exact + e) - f.reference(exact)) for e in (error, -error)]
    return np.asarray(np.nan_to_num(np.fmax(*sides), nan=0, posinf=np.inf))


def _of_causal(op: Any, *inputs: Array | None) -> tuple[Any, ...]:
    """The sum of absolute values, and the state, which is copied."""
    return _absolute(op, *(None if i is None else np.abs(i) for i in inputs)), np.zeros(())


def _causal_slack(op: Any, error: Array, *_: Any) -> Array:
    """The derivative of x * sigmoid(x) is at most 1.1."""
    return error if op.activation == "none" else np.asarray(1.1 * error)


def _deformed(
    _: Any, x: Array, w: Array, __: Array, b: Array | None = None, mask: Array | None = None
) -> Array:
    """A bound: a sample between points is off by a rounding of the largest of them."""
    most = [float(np.max(np.abs(a), initial=0)) for a in (x, mask) if a is not None]
    each = np.sum(np.abs(w), axis=tuple(range(1, w.ndim))) * np.prod(most)
    each = each if b is None else each + np.abs(b)
    return np.asarray(each.reshape(-1, *(1,) * (x.ndim - 2)))


ROWS: dict[tuple[str, str], Row] = {
    ("", "Conv"): Row(_conv, _absolute, _products, signed_zeros=False),
    ("sofie", "ConvLayer"): Row(
        _conv_layer, _absolute, _products, _layer_slack, signed_zeros=False
    ),
    ("", "ConvTranspose"): Row(
        _conv_transpose, _absolute, _transposed_products, signed_zeros=False
    ),
    ("sofie", "ConvTransposeLayer"): Row(
        _transposed_layer, _absolute, _transposed_products, _layer_slack, signed_zeros=False
    ),
    ("", "ConvInteger"): Row(_conv_integer),
    ("", "QLinearConv"): Row(_qlinear_conv),
    ("", "DeformConv"): Row(_deform_conv, _deformed, _products, signed_zeros=False),
    ("", "Col2Im"): Row(_col2im, _absolute, signed_zeros=False),
    ("sofie", "RuntimeCol2Im"): Row(_runtime_col2im, _absolute, signed_zeros=False),
    ("", "CausalConvWithState"): Row(
        _causal, _of_causal, _products, _causal_slack, signed_zeros=False
    ),
}
