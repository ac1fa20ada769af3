"""Rows of convolutions that are one matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.convolution_small import SmallConv
from sofie_rdf.ops.elementwise import Elu, Relu, Tanh
from sofie_rdf.ops.linear import NoActivation
from tests.ops.cases import Case, N, Row, sparse
from tests.ops.rows.convolution import _layer_slack

# How many events, inputs and results: one register and several, one panel and two, tails of both.
_SIZES: tuple[tuple[Dim, tuple[int, ...], tuple[int, ...]], ...] = (
    (N, (4, 3, 3), (8, 3, 3)),
    (N, (1, 16), (2,)),
    (1, (2, 5), (16, 2)),
    (13, (3, 7), (5, 60)),
    (N, (1,), (33,)),
)


def _small_conv(dtype: DType, full: bool) -> Iterator[Case]:
    activations = (Relu(), NoActivation(), Tanh(), Elu(0.5))
    random = np.random.default_rng(3)
    for number, (events, inputs, results) in enumerate(_SIZES if full else _SIZES[:2]):
        k, n = int(np.prod(inputs)), int(np.prod(results))
        # Weights, weights that are zero, and places without one.
        w = random.normal(size=(k, n)) * (random.random((k, n)) < 0.9)
        w = np.where(random.random((k, n)) < 0.3, -0.0, w + 0.0)
        parameters = [p.astype(dtype.numpy) for p in (w, random.normal(size=n))]
        op = SmallConv(results, activations[number % len(activations)])
        yield Case(op, (TensorType(dtype, (events, *inputs)), *parameters), (sparse,))


def _magnitudes(op: Any, x: Array, w: Array, b: Array) -> Array:
    """The same sum of absolute values."""
    sizes = np.where((w == 0) & np.signbit(w), w, np.abs(w))
    return np.asarray(replace(op, activation=NoActivation()).reference(abs(x), sizes, abs(b)))


def _products(_: Array, w: Array, __: Array) -> float:
    return float(len(w))


ROWS: dict[tuple[str, str], Row] = {
    ("sofie", "SmallConv"): Row(
        _small_conv, _magnitudes, _products, _layer_slack, signed_zeros=False
    ),
}
