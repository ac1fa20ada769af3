"""Rows of the reductions, of cumulative sums, and of vectors scaled to a norm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from sofie_rdf.ir.operator import REGISTRY, Operator
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from tests.ops.accuracy import computed
from tests.ops.cases import Case, Fill, M, N, Random, Row, Sequence, anything, small, sparse

NAMES = "Sum Mean Max Min Prod L1 L2 SumSquare LogSum LogSumExp".split()
Axes = tuple[int, ...]

# The last axis, the one before it, several, all, none; short and long ones for all paths.
KNOWN: tuple[tuple[Axes | None, Shape], ...] = (
    ((-1,), (N, 7)),
    ((1,), (N, 5, 3)),
    (None, (5, 13)),
    ((-1,), (N, 131)),
    ((1,), (N, 3, 37)),
    ((0,), (N, 7)),
    ((0,), (M, N)),
    ((0, 2), (3, N, 4)),
    ((1, 3), (N, 3, 2, 5)),
    ((-2, -1), (N, 7, 3)),
    ((2,), (N, M, 1, 2)),
    ((0, 1, 3), (2, 3, 40, 9)),
    ((1,), (N, 300, 2)),
    ((1,), (N, 5, 11)),
    ((1,), (N, 1)),
    ((), (N, 3)),
    ((1,), (N, 0)),
    ((1,), (N, 3, 0)),
    ((0, 1), (0, 3)),
    (None, ()),
    ((-1,), (1,)),
    ((-1,), (3, 3000)),
    # So many columns that some are summed together, of 0, 3 and 6 rows behind blocks of 8.
    ((1,), (N, 16, 64)),
    ((1,), (3, 27, 140)),
    ((0,), (6, 128)),
    # Sets of rows: more than are done together, of the batch, of three axes that lie apart.
    ((0, 2), (3, 530, 17)),
    ((0, 2), (N, 3, 37)),
    ((1, 3), (N, 3, 4, 19)),
    ((1, 3, 5), (2, 3, N, 2, 3, 18)),
    # Rows in pieces, which are copied: more than sixteen, of several events, fewer at a time.
    ((0, 2), (5, 35, 3)),
    ((1, 3), (3, 4, 17, 16)),
    ((0, 2), (300, 3, 11)),
)
RUNTIME: tuple[tuple[int, Shape], ...] = ((1, (N, 7)), (2, (2, N, 5)), (0, (N, 3)), (1, (5,)))


def _factors(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Numbers of which a product does not leave the range on the way."""
    if not dtype.is_float:
        return anything(random, dtype, shape, extreme)
    usual = np.asarray(random.choice([1, -1, 1.5, 0.5, 2, 0.75], shape), dtype.numpy)
    rare = random.choice(np.array([0, np.inf, -np.inf, np.nan], dtype.numpy), shape)
    return np.where(random.random(shape) < 0.02, rare, usual) if extreme else usual


def _above_zero(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    values = sparse(random, dtype, shape, extreme)
    return np.asarray(np.abs(values)) if dtype.is_float else values


def _of_ints(of_floats: Fill, of_ints: Fill) -> Fill:
    def fill(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
        return (of_floats if dtype.is_float else of_ints)(random, dtype, shape, extreme)

    return fill


FILLS: dict[str, Fill] = {
    "Prod": _factors,
    "LogSum": _above_zero,
    "L2": _of_ints(sparse, small),
    "Max": _of_ints(sparse, anything),
    "Min": _of_ints(sparse, anything),
}


def _known(name: str) -> Row:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        cls: Any = REGISTRY["", f"Reduce{name}"]
        fill = FILLS.get(name, _of_ints(sparse, anything))
        for number, (axes, shape) in enumerate(KNOWN if full else KNOWN[:4]):
            op = cls(axes, keepdims=number % 2 == 0)
            yield Case(op, (TensorType(dtype, shape),), (fill,))
        if full:
            op = cls((), noop_with_empty_axes=True)
            yield Case(op, (TensorType(dtype, (N, 3)),), (fill,))
            yield Case(cls(None, False, True), (TensorType(dtype, ()),), (fill,))

    return _summing(name, make)


def _runtime(name: str) -> Row:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        cls: Any = REGISTRY["sofie", f"RuntimeReduce{name}"]
        fill = FILLS.get(name, _of_ints(sparse, anything))
        for count, shape in RUNTIME if full else RUNTIME[:1]:
            for keep in (True, False):
                types = TensorType(dtype, shape), TensorType(DType.INT64, (count,))
                yield Case(cls(keep), types, (fill, _axes(len(shape))))
        if full:
            types = TensorType(dtype, (N, 3)), TensorType(DType.INT64, (0,))
            yield Case(cls(True, True), types, (fill, _axes(2)))

    return _summing(name, make)


def _axes(rank: int) -> Fill:
    def fill(random: Random, _: DType, shape: Sequence[int], __: bool) -> Array:
        chosen = random.permutation(rank)[: shape[0]]
        return np.asarray(chosen - rank * random.integers(0, 2, chosen.shape), np.int64)

    return fill


# Magnitudes ---------------------------------------------------------------------------------------


def _summing(name: str, make: Any) -> Row:
    if name in ("Max", "Min"):
        return Row(make, signed_zeros=False)
    slack = _log_slack if name == "LogSum" else None
    return Row(make, _magnitude(name), _count, slack, signed_zeros=False)


def _as(op: Any, name: str) -> Any:
    """Another reduction over the same axes."""
    domain, prefix = (op.domain, "Runtime" if op.domain else "")
    values = {f.name: getattr(op, f.name) for f in fields(op)}
    return REGISTRY[domain, f"{prefix}Reduce{name}"](**values)


def _magnitude(name: str) -> Any:
    def magnitude(op: Operator, x: Array, *axes: Array) -> Array:
        size = np.abs(x) if x.dtype.kind == "f" else x
        if name == "LogSumExp":
            largest = np.abs(np.where(np.isneginf(x), 0, x))
            return np.asarray(_as(op, "Max").reference(largest, *axes) + 8)
        kind = {"LogSum": "Sum", "L1": "Sum"}.get(name, name)
        return np.asarray(_as(op, kind).reference(size, *axes))

    return magnitude


def _count(x: Array, *_: Array) -> float:
    return float(max(1, min(x.size, 3000)))


def _log_slack(op: Any, error: Array, _: np.dtype[Any], x: Array, *axes: Array) -> Array:
    """What an error of the sum is in its logarithm."""
    exact = _as(op, "Sum").reference(x, *axes)
    sides = [np.abs(np.log(exact + e) - np.log(exact)) for e in (error, -error)]
    return np.asarray(np.nan_to_num(np.fmax(*sides), nan=0, posinf=np.inf))


# Along one axis -----------------------------------------------------------------------------------

ALONG: tuple[tuple[int, Shape], ...] = (
    (-1, (N, 7)),
    (1, (N, 5, 3)),
    (0, (N,)),
    (1, (2, 9, 37)),
    (-2, (N, 4, M)),
    (-1, (3, 300)),
    (-1, (N, 40)),
    (0, (N, 3)),
    (1, (2, N, 70)),
    (0, (1,)),
    (1, (N, 0)),
    (1, (2, 3, 0)),
)


def _scan(name: str) -> Row:
    fill = _of_ints(sparse, anything) if name == "CumSum" else _factors

    def make(dtype: DType, full: bool) -> Iterator[Case]:
        cls: Any = REGISTRY["", name]
        for axis, shape in ALONG if full else ALONG[:2]:
            for exclusive, reverse in [(False, False), (True, False), (False, True), (True, True)]:
                yield Case(cls(axis, exclusive, reverse), (TensorType(dtype, shape),), (fill,))

    return Row(make, _scanned, _count, signed_zeros=False)


def _runtime_scan(name: str) -> Row:
    fill = _of_ints(sparse, anything) if name == "CumSum" else _factors

    def make(dtype: DType, full: bool) -> Iterator[Case]:
        cls: Any = REGISTRY["sofie", f"Runtime{name}"]
        for axis in (TensorType(DType.INT64, ()), TensorType(DType.INT32, (1,))):
            for flags in [(False, False), (True, True)] if full else [(False, False)]:
                yield Case(cls(*flags), (TensorType(dtype, (N, 5, 3)), axis), (fill, _one_axis))

    return Row(make, _scanned, _count, signed_zeros=False)


def _one_axis(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    return np.asarray(random.integers(-3, 3, shape), dtype.numpy)


def _scanned(op: Any, x: Array, *axis: Array) -> Array:
    return np.asarray(op.reference(np.abs(x) if x.dtype.kind == "f" else x, *axis))


def _lp_normalization(dtype: DType, full: bool) -> Iterator[Case]:
    cls: Any = REGISTRY["", "LpNormalization"]
    for axis, shape in (*ALONG, (-1, (N, 300)), (-1, (N, 16)), (0, (3, M))) if full else ALONG[:2]:
        for p in (1, 2):
            yield Case(cls(axis, p), (TensorType(dtype, shape),), (_with_zeros,))


def _with_zeros(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    values = sparse(random, dtype, shape, extreme)
    return values if random.integers(8) else np.zeros_like(values)


def _result(op: Any, x: Array) -> Array:
    return np.asarray(np.abs(op.reference(x)))


def _lp_slack(op: Any, error: Array, dtype: np.dtype[Any], x: Array) -> Array:
    """Divided by a norm beyond the largest number, all is 0."""
    beyond = op.norm.reference(x) > np.finfo(computed(dtype)).max
    return np.asarray(error + np.where(beyond, _result(op, x), 0))


ROWS: dict[tuple[str, str], Row] = {
    **{("", f"Reduce{name}"): _known(name) for name in NAMES},
    **{("sofie", f"RuntimeReduce{name}"): _runtime(name) for name in NAMES},
    ("", "CumSum"): _scan("CumSum"),
    ("", "CumProd"): _scan("CumProd"),
    ("sofie", "RuntimeCumSum"): _runtime_scan("CumSum"),
    ("sofie", "RuntimeCumProd"): _runtime_scan("CumProd"),
    ("", "LpNormalization"): Row(_lp_normalization, _result, _count, _lp_slack),
}
