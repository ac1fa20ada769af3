"""Rows of the losses of classifications."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.losses import NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss
from tests.ops.cases import Case, Make, N, Random, Row, sparse, usual

# One of the three classes that occur.
_IGNORED = 1


def _targets(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    return np.asarray(random.integers(0, 3, shape), dtype.numpy)


def _far(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    """Some targets are no class; these are ignored."""
    values = random.integers(0, 3, shape)
    return np.where(random.random(shape) < 0.3, -5, values).astype(dtype.numpy)


def _weights(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    return np.asarray(random.uniform(0.1, 2, shape), np.float32).astype(dtype.numpy)


def _losses(kind: type[Any], fill: Any) -> Make:
    shapes: tuple[tuple[Shape, DType], ...] = (
        ((N, 5), DType.INT64),
        ((N, 3, 7), DType.INT32),
        ((2, 4, 3, 33), DType.INT64),
        ((0, 3), DType.INT64),
        ((N, 130), DType.INT32),
    )

    def make(dtype: DType, full: bool) -> Iterator[Case]:
        for shape, target in shapes if full else shapes[:2]:
            types = TensorType(dtype, shape), TensorType(target, (shape[0], *shape[2:]))
            weight = TensorType(dtype, (shape[1],))
            for reduction in ("none", "sum", "mean"):
                op = kind(reduction=reduction)
                yield Case(op, types, (fill, _targets))
                yield Case(op, (*types, weight), (fill, _targets, _weights))
                ignoring = kind(reduction=reduction, ignore_index=_IGNORED)
                yield Case(ignoring, (*types, weight), (fill, _targets, _weights))
                yield Case(kind(reduction=reduction, ignore_index=-5), types, (fill, _far))
        x = TensorType(dtype, (N, 5)), TensorType(DType.INT64, (N,))
        yield Case(kind(reduction="none"), x, (fill, _targets), only_first_output=True)
        yield Case(kind(), x, (fill, _targets), only_first_output=True)

    return make


def _sizes_of_losses(op: Any, log_p: Array, target: Array, weight: Array | None) -> Array:
    """The loss with magnitudes instead of numbers."""
    counts = np.ones(target.shape, bool)
    if op.ignore_index is not None:
        counts = target != op.ignore_index
    label = np.where(counts, target, 0)
    if not target.size:
        return np.zeros(target.shape if op.reduction == "none" else ())
    chosen = np.abs(np.take_along_axis(log_p, label[:, None].astype(np.int64), 1)[:, 0])
    factor = np.where(counts, 1 if weight is None else np.abs(weight[label]), 0)
    losses = np.where(counts, chosen * factor, 0)
    if op.reduction == "none":
        return np.asarray(losses)
    total = np.sum(losses)
    if op.reduction == "sum":
        return np.asarray(total)
    # The sum may overflow before it is divided. The exact one has the next wider type.
    largest = np.finfo(np.float32 if log_p.dtype == np.float64 else np.float64).max
    return np.asarray(np.where(total > largest, np.inf, total / np.sum(factor)))


def _nll(op: Any, x: Array, target: Array, weight: Array | None = None) -> Array:
    return _sizes_of_losses(op, np.asarray(x), target, weight)


def _softmax(op: Any, x: Array, target: Array, weight: Array | None = None) -> tuple[Array, Array]:
    most = np.max(x, axis=1, keepdims=True, initial=-np.inf)
    total = np.sum(np.exp(x - most), axis=1, keepdims=True)
    log_p = np.asarray(np.abs(x - most) + np.abs(np.log(total)) + 1)
    return _sizes_of_losses(op, log_p, target, weight), log_p


ROWS: dict[tuple[str, str], Row] = {
    ("", "NegativeLogLikelihoodLoss"): Row(_losses(NegativeLogLikelihoodLoss, sparse), _nll),
    ("", "SoftmaxCrossEntropyLoss"): Row(
        _losses(SoftmaxCrossEntropyLoss, usual), _softmax, signed_zeros=False
    ),
}
