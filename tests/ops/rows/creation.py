"""Rows of the operators that make tensors from sizes, numbers and little else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.creation import (
    EyeLike,
    KnownRange,
    OneHot,
    Range,
    RuntimeOneHot,
    RuntimeTrilu,
    Trilu,
)
from sofie_rdf.ops.creation import Shape as ShapeOf
from sofie_rdf.ops.creation import Size as SizeOf
from tests.ops.cases import Case, Fill, M, N, Random, Row, anything, layout
from tests.ops.rows.layout import exactly

INT64 = DType.INT64


def _range(dtype: DType, full: bool) -> Iterator[Case]:
    numbers: tuple[tuple[int, int, int], ...] = ((1, 10, 2), (0, 100, 7), (5, 5, 1), (7, 3, 1))
    if not dtype.value.startswith("u"):
        numbers = (*numbers, (10, -5, -4), (-3, 3, 1), (3, -9, -3))
    scalar = TensorType(dtype, ())
    for values in numbers if full else (*numbers[:2], numbers[-1]):
        yield Case(Range(), (scalar,) * 3, tuple(exactly(v) for v in values))
    if dtype.is_float:
        yield Case(Range(), (scalar,) * 3, (exactly(0.1), exactly(2.03), exactly(0.3)))


def _known_range(dtype: DType, _: bool) -> Iterator[Case]:
    kind = float if dtype.is_float else int
    for start, limit, delta in ((0, 100, 3), (5, 2, 1), (10, 0, -4)):
        if delta > 0 or not dtype.value.startswith("u"):
            yield Case(KnownRange(kind(start), kind(limit), kind(delta), dtype), ())


def _eye(dtype: DType, full: bool) -> Iterator[Case]:
    cases: tuple[tuple[EyeLike, Shape], ...] = (
        (EyeLike(), (N, 5)),
        (EyeLike(k=-2), (N, 5)),
        (EyeLike(DType.FLOAT64, 1), (4, N)),
        (EyeLike(DType.BOOL, 3), (7, 5)),
        (EyeLike(DType.FLOAT16), (3, 3)),
        (EyeLike(DType.INT16, 100), (7, 5)),
        (EyeLike(k=-(2**63)), (0, 5)),
    )
    for op, shape in cases if full else cases[:2]:
        yield Case(op, (TensorType(dtype, shape),))


_TRILU = layout(
    *((Trilu(k, upper), ((N, 4, 5),)) for k in (0, 2, -2) for upper in (True, False)),
    (Trilu(1), ((3, N),)),
    (Trilu(9, False), ((N, 3),)),
    (Trilu(-(10**6)), ((3, 4),)),
    (Trilu((1,)), ((2, 1, 3),)),
    (Trilu(), ((N, 0, 3),)),
)


def _runtime_trilu(dtype: DType, full: bool) -> Iterator[Case]:
    cases = ((True, 0, ()), (False, -1, ()), (True, 2, (1,)), (False, 2**63 - 1, ()))
    for upper, k, shape in cases if full else cases[:2]:
        types = TensorType(dtype, (N, 4, 3)), TensorType(INT64, shape)
        yield Case(RuntimeTrilu(upper), types, (anything, exactly(k)))


def near(size: int) -> Fill:
    """Indices of so many elements, from the front and from the end, and some beyond."""

    def fill(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
        if extreme:
            return anything(random, dtype, shape, True)
        low = 0 if dtype.value.startswith("u") else -size - 1
        return np.asarray(random.integers(low, size + 2, shape), dtype.numpy)

    return fill


def _one_hot(dtype: DType, full: bool) -> Iterator[Case]:
    values = TensorType(dtype, (2,))
    cases: tuple[tuple[OneHot, Shape], ...] = (
        (OneHot(5), (N,)),
        (OneHot(4, axis=1), (N, 3)),
        (OneHot(3.0, axis=0), (2, N)),
        (OneHot((6,), axis=-2), (N, 2, 3)),
        (OneHot(M), (N, M)),
        (OneHot(0), (N,)),
        (OneHot(2), ()),
    )
    for op, shape in cases if full else cases[:2]:
        yield Case(op, (TensorType(INT64, shape), values), (near(5), anything))
    for index in DType if full else ():
        if index.is_integer or index in (DType.FLOAT32, DType.FLOAT64, DType.FLOAT16):
            yield Case(OneHot(5), (TensorType(index, (N,)), values), (near(5), anything))


def _runtime_one_hot(dtype: DType, full: bool) -> Iterator[Case]:
    values = TensorType(dtype, (2,))
    cases: tuple[tuple[int, Shape, DType, Shape], ...] = (
        (-1, (N,), INT64, ()),
        (1, (N, 3), DType.FLOAT32, (1,)),
        (0, (2, N), DType.INT32, ()),
    )
    for axis, shape, kind, one in cases if full else cases[:1]:
        types = TensorType(INT64, shape), TensorType(kind, one), values
        yield Case(RuntimeOneHot(axis), types, (near(5), exactly(5), anything))


ROWS: dict[tuple[str, str], Row] = {
    ("", "Shape"): layout(
        (ShapeOf(), ((N, M, 3),)),
        (ShapeOf(-2), ((N, M, 3),)),
        (ShapeOf(0, -1), ((N, M, 3),)),
        (ShapeOf(2, 1), ((N, 3),)),
        (ShapeOf(-9, 9), ((N, 3),)),
        (ShapeOf(), ((),)),
    ),
    ("", "Size"): layout((SizeOf(), ((N, M, 3),)), (SizeOf(), ((),)), (SizeOf(), ((0, N),))),
    ("", "Range"): Row(_range),
    ("sofie", "KnownRange"): Row(_known_range),
    ("", "EyeLike"): Row(_eye),
    ("", "Trilu"): _TRILU,
    ("sofie", "RuntimeTrilu"): Row(_runtime_trilu),
    ("", "OneHot"): Row(_one_hot),
    ("sofie", "RuntimeOneHot"): Row(_runtime_one_hot),
}
