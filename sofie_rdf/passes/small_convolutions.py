"""Which convolutions are one matrix, from all that an event has to all that it gets."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from sofie_rdf.ir.types import Array
from sofie_rdf.ops.convolution import Conv, ConvLayer
from sofie_rdf.ops.convolution_small import SmallConv
from sofie_rdf.ops.convolution_transposed import ConvTranspose, ConvTransposeLayer
from sofie_rdf.ops.convolution_winograd import WinogradConv
from sofie_rdf.ops.linear import NoActivation
from sofie_rdf.passes.rewrite import Match, Rewrite, Rules, rule

__all__ = ["choose_matrices"]

# So many weights are read in no time; so many stay in the first cache, if most of them are products
# that are needed: of as many at most there is one.
_FEW, _MOST, _SHARE = 2048, 8192, 4
# An input or an output is no larger.
_LONGEST = 512

Convolution = Conv | ConvLayer | ConvTranspose | ConvTransposeLayer


@rule(
    "Conv(x, w)",
    "Conv(x, w, b)",
    "sofie.ConvLayer(x, w, b)",
    "ConvTranspose(x, w)",
    "ConvTranspose(x, w, b)",
    "sofie.ConvTransposeLayer(x, w, b)",
)
def as_matrix(m: Match) -> Rewrite:
    """A convolution of few places, for which finding its taps takes longer than zeros do"""
    old, x, w = m.root.op, m.type("x"), m.constant("w")
    assert isinstance(old, (Conv, ConvLayer, ConvTranspose, ConvTransposeLayer))
    m.require(not isinstance(old, WinogradConv), "")
    m.require(x.dtype in SmallConv.dtypes, f"its elements are {x.dtype}")
    y = old.infer(*(m.type(v) for v in ("x", "w", "b") if v in m.values))
    inputs = [n for n in x.shape[1:] if isinstance(n, int)]
    results = [n for n in y.shape[1:] if isinstance(n, int)]
    m.require(len(inputs) == len(results) == x.rank - 1, "the size of its image is not known")
    k, n = math.prod(inputs), math.prod(results)
    m.require(k > 0 and n > 1, "it has one result")
    m.require(max(k, n) <= _LONGEST and k * n <= _MOST, "its image is large")
    m.require(np.isfinite(w).all(), "it has weights that are not finite")
    taken = _matrix(old, np.ones_like(w), inputs, results[0]) != 0
    m.require(k * n <= max(_FEW, _SHARE * np.count_nonzero(taken)), "most of it would be zeros")
    # A zero in the kernel is a weight; -0 is none.
    matrix = np.where(taken, _matrix(old, w, inputs, results[0]) + 0.0, -0.0).astype(w.dtype)
    b = m.constant("b") if "b" in m.values else np.zeros(results[0], w.dtype)
    biases = np.repeat(b, n // results[0])
    changed = m.changed("w", matrix), m.changed("b" if "b" in m.values else "w", biases)
    return m.becomes(SmallConv(tuple(results), old.function), "x", *changed)


def _matrix(old: Convolution, w: Array, inputs: list[int], features: int) -> Array:
    """What each input alone gives, each in one row."""
    if isinstance(old, ConvLayer | ConvTransposeLayer):
        old = replace(old, activation=NoActivation())
    each = np.eye(math.prod(inputs), dtype=w.dtype).reshape(-1, *inputs)
    found = old.reference(each, w, np.zeros(features, w.dtype))
    return found.reshape(len(each), -1)


choose_matrices = Rules("choose_matrices", (as_matrix,))
