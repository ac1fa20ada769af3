"""What a row of cases is: what the contract test feeds an operator.

The rows are in `tests/ops/rows`, a module for each family with a dictionary ``ROWS``. A row makes
the cases for one element type; the operator itself says, by its `infer`, which element types it
takes, and all of those are tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops._formats import is_integral, limits

Random: TypeAlias = np.random.Generator
# (random numbers, element type, shape, whether edges are wanted) -> values
Fill: TypeAlias = Callable[[Random, DType, Sequence[int], bool], Array]
Input: TypeAlias = TensorType | Array | None
Magnitude: TypeAlias = Callable[..., Array]

N, M = symbol("N"), symbol("M")

# How many bits an element has, where it is less than its byte.
_BITS = {
    DType.FLOAT6E2M3: 6,
    DType.FLOAT6E3M2: 6,
    DType.FLOAT4E2M1: 4,
    DType.INT4: 4,
    DType.UINT4: 4,
    DType.INT2: 2,
    DType.UINT2: 2,
}


# Values -------------------------------------------------------------------------------------------


def edges(dtype: DType) -> Array:
    """The numbers at which operators go wrong."""
    if dtype is DType.BOOL:
        return np.array([False, True])
    kind = dtype.numpy
    if dtype.is_half:
        few = edges(DType.FLOAT32)
        real_half = ml_dtypes.finfo(kind)
        own = [real_half.max, real_half.tiny, real_half.smallest_subnormal, real_half.eps]
        with np.errstate(over="ignore"):
            return np.asarray([*few, *own, *(-v for v in own)]).astype(np.float32).astype(kind)
    if dtype.is_storage:
        return np.arange(1 << _BITS.get(dtype, 8), dtype=np.uint8).view(kind)
    if not dtype.is_float:
        info = np.iinfo(dtype.value)
        near = [v for v in (0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 100) if v <= info.max]
        far = [info.max, info.max - 1, info.max // 2, info.max // 2 + 1, info.min, info.min + 1]
        below = [-v for v in near if -v >= info.min]
        return np.array([*near, *far, *below], kind)
    real = np.finfo(dtype.value)
    low, high = float(np.log(real.tiny)), float(np.log(real.max))
    positive = [0, 1, 0.5, 1.5, 2, 2.5, 3, 6, 10, 88, 88.8, 89, 103, 1e-3, 1e-30, 1e30, low, high]
    positive += [real.max, real.tiny, real.smallest_subnormal, 100 * real.smallest_subnormal]
    positive += [real.tiny / 2, real.eps, np.inf, np.pi / 2, 1 - real.epsneg, 1 + real.eps]
    positive += [2.0**real.nmant - 0.5, 2.0**real.nmant + 1, 2.0 ** (real.nmant + 1) + 2]
    one_sign = np.array(positive, kind)
    return np.concatenate([one_sign, -one_sign, np.array([np.nan], kind)])


def anything(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Numbers of ordinary size, or edges."""
    if extreme:
        return np.asarray(random.choice(edges(dtype), shape))
    if dtype is DType.BOOL:
        return np.asarray(random.integers(0, 2, shape), np.bool_)
    if dtype.is_float:
        spread = random.choice([0.01, 1.0, 1.0, 5.0, 30.0], shape)
        return np.asarray(random.normal(size=shape) * spread, dtype.numpy)
    if dtype.is_storage:
        codes = random.integers(0, 1 << _BITS.get(dtype, 8), shape, np.uint8, endpoint=False)
        values = np.asarray(codes).view(dtype.numpy)
        return np.where(np.isnan(values.astype(np.float32)), dtype.numpy.type(1), values)
    info = np.iinfo(dtype.value)
    low, high = max(info.min, -50), min(info.max, 50)
    return np.asarray(random.integers(low, high, shape, endpoint=True), dtype.numpy)


def sparse(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Ordinary numbers with few edges among them, for operators that mix many numbers."""
    usual = anything(random, dtype, shape, False)
    if not extreme:
        return usual
    return np.where(random.random(shape) < 0.02, anything(random, dtype, shape, True), usual)


def usual(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    """Never edges."""
    return anything(random, dtype, shape, False)


def small(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    """Whole numbers of which products and sums stay in the range of any element type."""
    low = 0 if dtype.numpy.kind == "u" else -2
    return np.asarray(random.integers(low, 3, shape), dtype.numpy)


def positive(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    """Variances: no negative ones, unless edges are wanted."""
    values = sparse(random, dtype, shape, extreme)
    return values if extreme else np.asarray(np.abs(values))


def convertible_to(to: DType) -> Fill:
    """What can be converted to this type; what else gives is for each machine to decide."""

    def fill(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
        values = anything(random, dtype, shape, extreme)
        if is_integral(dtype) or dtype is DType.BOOL or not is_integral(to):
            return values
        with np.errstate(all="ignore"):
            wide = values.astype(np.float64)
        low, high = limits(to)
        held = (np.trunc(wide) >= low) & (wide < float(high) + 1)
        return np.where(held, values, dtype.numpy.type(1))

    return fill


# Cases --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Case:
    """One node: an operator, and its inputs as types, as constants, or absent.

    ``exhaustive``: others are of its kind, and `make test` leaves it to `make test-all`.
    """

    op: Operator
    inputs: tuple[Input, ...]
    fills: tuple[Fill, ...] = (anything,)
    only_first_output: bool = False
    exhaustive: bool = False

    def fill(self, position: int) -> Fill:
        """How input number ``position`` is filled; the last fill holds for all that follow."""
        return self.fills[min(position, len(self.fills) - 1)]


Make: TypeAlias = Callable[[DType, bool], Iterable[Case]]


@dataclass(frozen=True, eq=False)
class Row:
    """``make(dtype, full)``: the cases of an operator, with all shapes for one element type.

    For operators that sum ``magnitude(op, *inputs)`` is the sum of magnitudes, in spacings at which
    the `terms` of a tolerance count, and ``count(*inputs)`` how many numbers are summed.
    ``slack(op, error, dtype, *inputs)`` says what such an error becomes further on, or what error
    the element type itself makes unavoidable. ``signed_zeros``: which zero it is, is defined.
    ``thorough``: half precision, and what is only stored, has as many cases as other types.
    ``widened``: the exact result is that of the same numbers in a wider type.
    """

    make: Make
    magnitude: Magnitude | None = None
    count: Callable[..., float] = lambda *inputs: 1.0  # noqa: ARG005
    slack: Callable[..., Array] | None = None
    signed_zeros: bool = True
    thorough: bool = False
    widened: bool = True

    def sum_for(self, number: int, op: Operator, *inputs: Array | None) -> Any:
        """The sum of magnitudes for one output; 0 where nothing is summed."""
        return _of_output(self.magnitude(op, *inputs), number) if self.magnitude else 0.0

    def error_for(self, number: int, op: Operator, error: Any, dtype: Any, *inputs: Any) -> Any:
        """What the error of a sum has become in one output."""
        if self.slack is None:
            return error
        return _of_output(self.slack(op, np.asarray(error), dtype, *inputs), number)


def _of_output(value: Any, number: int) -> Any:
    """A row may say something for each output: a tuple."""
    return value[number] if isinstance(value, tuple) else value


UNARY: tuple[Shape, ...] = ((N,), (N, 7), (), (1,), (5, 13), (3, 0, 2), (0,))
UNARY_SHORT: tuple[Shape, ...] = ((N,), (5, 13))
BINARY: tuple[tuple[Shape, ...], ...] = (
    ((N,), (N,)),
    ((N, 7), (7,)),
    ((7,), (N, 7)),
    ((N, 1), (M,)),
    ((N, 3), (N, 1)),
    ((), (N,)),
    ((N,), (1,)),
    ((), ()),
    ((5, 13), (5, 13)),
    ((3, 1, 5), (7, 1)),
    ((2, 3, 1, 5), (3, 4, 1)),
    ((0, 4), (1, 4)),
    ((N, 0), (1,)),
    ((1,), (0,)),
)
BINARY_SHORT: tuple[tuple[Shape, ...], ...] = (((N,), (N,)), ((N, 7), (7,)), ((5, 13), ()))
TERNARY: tuple[tuple[Shape, ...], ...] = (
    ((N,), (N,), (N,)),
    ((N, 1), (7,), (N, 7)),
    ((), (N,), (1,)),
    ((3, 1, 5), (7, 1), (2, 1, 1, 5)),
    ((5, 13), (5, 13), (5, 13)),
    ((0, 3), (3,), ()),
)
TERNARY_SHORT = TERNARY[:2]


def unary(*ops: Operator, fill: Fill = anything) -> Row:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        for number, op in enumerate(ops):
            for shape in UNARY if full and not number else UNARY_SHORT:
                yield Case(op, (TensorType(dtype, shape),), (fill,))

    return Row(make)


def binary(*ops: Operator, fills: tuple[Fill, ...] = (anything,)) -> Row:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        for number, op in enumerate(ops):
            for shapes in BINARY if full and not number else BINARY_SHORT:
                yield Case(op, tuple(TensorType(dtype, s) for s in shapes), fills)

    return Row(make)


def variadic(op: Operator) -> Row:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        shapes = (
            ((N,),),
            *(BINARY if full else BINARY_SHORT),
            *(TERNARY if full else TERNARY_SHORT),
        )
        for listed in (*shapes, ((N,),) * 5):
            yield Case(op, tuple(TensorType(dtype, s) for s in listed))

    return Row(make)


def layout(*pairs: tuple[Operator, tuple[Shape, ...]]) -> Row:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        for op, shapes in pairs if full else pairs[:3]:
            yield Case(op, tuple(TensorType(dtype, s) for s in shapes))

    return Row(make)
