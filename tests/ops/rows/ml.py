"""Cases for classical models and n-grams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.ml import (
    Categories,
    Labels,
    Lookup,
    NGrams,
    Normalizer,
    PairwiseProbabilities,
    PairwiseVotes,
    Probit,
    SoftmaxZero,
    SquaredDistances,
    TwoScores,
)
from tests.ops.cases import Case, Fill, M, N, Random, Row, anything, sparse, unary, usual


def _rows(*ops: Any, shapes: Sequence[Shape], fill: Fill = sparse) -> Any:
    """Every operator with every shape, for one input."""

    def make(dtype: DType, full: bool) -> Iterator[Case]:
        for number, op in enumerate(ops):
            for shape in shapes if full or not number else shapes[:1]:
                yield Case(op, (TensorType(dtype, shape),), (fill,))

    return make


_MATRICES: tuple[Shape, ...] = ((N, 7), (N, 1), (2, N, 17), (5,), (N, 0), (0, 3))


def _with_zeros(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    values = sparse(random, dtype, shape, extreme)
    near = random.choice(np.array([0.0, -0.0, 5e-8]), shape).astype(dtype.numpy)
    found = np.where(random.random(shape) < 0.4, near, values)
    # An infinite score is no distribution; at the limit of what counts as zero anything may be.
    return np.asarray(np.clip(found, -1e4, 1e4) if dtype.is_float else found, dtype.numpy)


def _softmax_slack(_: Any, error: Array, dtype: np.dtype[Any], x: Array) -> Array:
    """The rounding of x - max x, an absolute error of the exponent."""
    distance = np.max(np.abs(x), axis=-1, keepdims=True, initial=0.0) + np.abs(x)
    rounding = np.nan_to_num(distance, nan=0, posinf=0) * np.finfo(dtype).eps
    return np.asarray(np.nan_to_num(error) + rounding)


def _chances(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Probabilities, also near 0 and 1; and what is none."""
    exponent = random.uniform(-6, 0, shape)
    values = np.where(random.random(shape) < 0.5, 10**exponent, 1 - 10**exponent)
    if extreme:
        odd = random.choice([0.0, 1.0, 0.5, -1.0, 2.0, np.nan, np.inf, 1e-30], shape)
        values = np.where(random.random(shape) < 0.1, odd, values)
    return np.asarray(values, dtype.numpy)


def _labels(dtype: DType, full: bool) -> Iterator[Case]:
    three = np.array([7, -3, 2**40])
    yield Case(Labels(), (TensorType(dtype, (N, 3)), three), (anything,))
    yield Case(Labels(0.5, True), (TensorType(dtype, (N, 1)), three[:2]), (_chances,))
    if full:
        yield Case(Labels(), (TensorType(dtype, (N, 1)), three[:1]), (anything,))
        yield Case(Labels(0.0, True), (TensorType(dtype, (N, 2)), three[:2]), (anything,))
        yield Case(Labels(), (TensorType(dtype, (0, 3)), TensorType(DType.INT64, (3,))))


def _whole(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Few numbers, NaN among them."""
    values = np.asarray(random.integers(-2, 6, shape), dtype.numpy)
    if dtype.is_float and extreme:
        return np.where(random.random(shape) < 0.1, np.array(np.nan, dtype.numpy), values)
    return values


def _lookup(dtype: DType, full: bool) -> Iterator[Case]:
    if dtype not in (DType.FLOAT32, DType.FLOAT64, DType.INT64, DType.INT32, DType.INT16):
        list_ = TensorType(dtype, (1,))
        yield Case(Lookup(), (TensorType(dtype, (N,)), list_, TensorType(dtype, (2,))))
        return
    keys = np.array([-2, 0, 1, 3, 5], dtype.numpy)
    values = np.array([1.5, -0.0, 3.25, 7, 9, -1], np.float32)
    for shape in ((N,), (N, 3), (), (0, 2)) if full else ((N,),):
        yield Case(Lookup(), (TensorType(dtype, shape), keys, values), (_whole,))
    yield Case(Lookup(), (TensorType(dtype, (N,)), keys[:0], values[:1]), (_whole,))
    yield Case(Lookup(), (TensorType(dtype, (N,)), keys, np.arange(6)), (_whole,))
    if dtype.is_float:
        keys = np.append(keys, np.nan).astype(dtype.numpy)
        yield Case(Lookup(), (TensorType(dtype, (N,)), keys, np.arange(7)), (_whole,))


def _categories(dtype: DType, full: bool) -> Iterator[Case]:
    known = np.array([3, -2, 0, 5, 3])
    for shape in ((N,), (N, 3), (), (0, 2)) if full else ((N,),):
        yield Case(Categories(), (TensorType(dtype, shape), known), (_whole,))
    every = np.arange(-2, 6)
    yield Case(Categories(False), (TensorType(dtype, (N, 2)), every), (_whole,))
    yield Case(Categories(), (TensorType(dtype, (N,)), known[:0]), (_whole,))


def _distances(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: list[tuple[Shape, Shape]] = [((N, 7), (5, 7)), ((N, 37), (2, 37))]
    if full:
        shapes += [((N, 1), (1, 1)), ((N, 0), (3, 0)), ((N, 3), (0, 3)), ((4, M), (N, M))]
    for shape in shapes:
        yield Case(SquaredDistances(), tuple(TensorType(dtype, s) for s in shape), (sparse,))


def _distance_terms(_: Any, x: Array, v: Array) -> Array:
    """A difference is rounded, too."""
    whole = np.abs(x)[:, None, :] + np.abs(v)[None, :, :]
    return np.asarray(np.sum(whole * np.abs(x[:, None, :] - v[None, :, :]), axis=-1))


def _pairwise(dtype: DType, full: bool) -> Iterator[Case]:
    for classes in (2, 4, 7) if full else (3,):
        pairs = classes * (classes - 1) // 2
        yield Case(PairwiseVotes(classes), (TensorType(dtype, (N, pairs)),), (anything,))


def _probabilities(dtype: DType, full: bool) -> Iterator[Case]:
    random = np.random.default_rng(4)
    for classes in (2, 4, 7) if full else (3,):
        pairs = classes * (classes - 1) // 2
        a = -np.abs(random.normal(size=pairs)) - 0.1
        sigmoids = a, random.normal(size=pairs) / 4
        if not dtype.is_float:
            yield Case(PairwiseProbabilities(classes), (TensorType(dtype, (N, pairs)),) * 3)
            continue
        constants = (s.astype(dtype.numpy) for s in sigmoids)
        x = TensorType(dtype, (N, pairs))
        yield Case(PairwiseProbabilities(classes), (x, *constants), (_scores,))


def _scores(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    return np.asarray(random.normal(size=shape), dtype.numpy)


def _one(op: Any, x: Array, *_: Array) -> Array:
    """Rounds end at a difference of 0.005: rounding may decide for one more."""
    return np.full((len(x), op.classes), 1.0)


def _n_grams(dtype: DType, full: bool) -> Iterator[Case]:
    pool = np.array(
        [
            [1, 0, 2, 0, 0],
            [1, 3, 3, 0, 0],
            [2, 1, 1, 2, 0],
            [2, 2, 2, 2, 0],
            [3, 3, 0, 1, 2],
            [3, 5, 1, 1, 1],
        ]
    )
    weights = np.array([0.5, 2, 3, 0.25, 1, 4], np.float32)
    for mode in ("TF", "IDF", "TFIDF"):
        for limits in ((1, 3, 0), (2, 2, 1), (1, 3, 5)) if full else ((1, 3, 1),):
            op = NGrams(6, *limits, mode)
            width = 3 if limits[1] == 3 else 2
            for shape in ((N, 9), (N, 2), (12,), (N, 0)):
                x = TensorType(dtype, shape)
                yield Case(op, (x, pool[:, : width + 2], weights), (_whole,))


def _size(op: Normalizer, x: Array) -> Array:
    return np.asarray(np.abs(op.reference(x)))


_COLUMN: tuple[Shape, ...] = ((N, 1), (1, 1), (0, 1))

ROWS: dict[tuple[str, str], Row] = {
    ("sofie", "SoftmaxZero"): Row(
        _rows(SoftmaxZero(), shapes=_MATRICES, fill=_with_zeros),
        magnitude=lambda op, x: op.reference(x),
        count=lambda x: float(max(1, x.shape[-1])),
        slack=_softmax_slack,
    ),
    ("sofie", "Probit"): unary(Probit(), fill=_chances),
    ("sofie", "TwoScores"): Row(
        _rows(
            *(TwoScores(f) for f in ("complement", "opposite", "logistic")),
            shapes=_COLUMN,
            fill=anything,
        )
    ),
    ("sofie", "Labels"): Row(_labels),
    ("sofie", "Normalizer"): Row(
        _rows(*map(Normalizer, ("MAX", "L1", "L2")), shapes=_MATRICES, fill=usual),
        magnitude=_size,
        count=lambda x: float(max(1, x.shape[-1])),
    ),
    ("sofie", "Lookup"): Row(_lookup),
    ("sofie", "Categories"): Row(_categories),
    ("sofie", "SquaredDistances"): Row(
        _distances,
        _distance_terms,
        lambda x, v: float(max(1, x.shape[1])),  # noqa: ARG005
    ),
    ("sofie", "PairwiseVotes"): Row(_pairwise),
    ("sofie", "PairwiseProbabilities"): Row(_probabilities, _one),
    ("sofie", "NGrams"): Row(_n_grams),
}
