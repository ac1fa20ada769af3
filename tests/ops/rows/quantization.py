"""Rows of the conversions by bits and of quantisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.casts import BitCast
from sofie_rdf.ops.quantization import (
    BYTES,
    QUANTIZED,
    DequantizeLinear,
    DynamicQuantizeLinear,
    IntegerDense,
    MatMulInteger,
    QLinearMatMul,
    QuantizeLinear,
)
from tests.ops.cases import UNARY, Case, Fill, M, N, Random, Row, anything, small

INT8, FLOAT32, FLOAT16 = DType.INT8, DType.FLOAT32, DType.FLOAT16


def _bit_cast(dtype: DType, full: bool) -> Iterator[Case]:
    for to in DType:
        for shape in UNARY if full and to is DType.INT32 else ((N, 3),):
            yield Case(BitCast(to), (TensorType(dtype, shape),))


def _scales(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    """Positive numbers; powers of two among them, with which quotients fall between integers."""
    if dtype is DType.INT32:
        return np.asarray(random.integers(1, 9, shape), np.int32)
    values = np.where(random.random(shape) < 0.5, 0.25, random.uniform(0.01, 3, shape))
    if dtype is DType.FLOAT8E8M0:
        values = np.exp2(random.integers(-3, 3, shape))
    return np.asarray(values.astype(np.float32)).astype(dtype.numpy)


def _zeros(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    """Zero points: small whole numbers."""
    least = 0 if dtype.value.startswith("u") else -1
    return np.asarray(random.integers(least, 2, shape), np.int64).astype(dtype.numpy)


# (attributes, shape of x, shape of the scales)
_LAYOUTS: tuple[tuple[dict[str, int], Shape, Shape], ...] = (
    ({}, (N, 7), ()),
    ({}, (N, 3, 5), (3,)),
    ({"axis": -1}, (N, 35), (35,)),
    ({"axis": 0}, (4, N), (4,)),
    ({}, (N, 7), (1,)),
    ({"axis": 0}, (N,), ()),
    ({}, (), ()),
    ({"axis": 1, "block_size": 2}, (N, 4), (N, 2)),
    ({"axis": 1, "block_size": 3}, (N, 7, 2), (N, 3, 2)),
    ({"axis": -1, "block_size": 20}, (N, 2, 50), (N, 2, 3)),
    ({"axis": 0, "block_size": 2}, (5, 3), (3, 3)),
    ({}, (N, 0), (0,)),
    ({}, (0, 3), (3,)),
    ({"axis": 1}, (2, M, 3), (M,)),
    # Whole blocks of packs, and what is left behind them.
    ({}, (3, 131), ()),
    ({"axis": 0}, (2, 128), (2,)),
)


def _quantize(dtype: DType, full: bool) -> Iterator[Case]:
    fills: tuple[Fill, ...] = anything, _scales, _zeros
    x = TensorType(dtype, (N, 5))
    scale = TensorType(FLOAT32, (5,))
    if full:
        for attributes, shape, scales in _LAYOUTS:
            types = TensorType(dtype, shape), TensorType(FLOAT32, scales), TensorType(INT8, scales)
            yield Case(QuantizeLinear(**attributes), types, fills)
        yield Case(QuantizeLinear(), (TensorType(dtype, (N, 70)), TensorType(FLOAT32, ())), fills)
    if dtype in (FLOAT32, FLOAT16):
        for to in (t for t in DType if t in QUANTIZED):
            yield Case(QuantizeLinear(output_dtype=to), (x, scale), fills)
            yield Case(QuantizeLinear(saturate=False), (x, scale, TensorType(to, (5,))), fills)
    for other in (DType.BFLOAT16, FLOAT16, DType.INT32, DType.FLOAT8E8M0):
        yield Case(QuantizeLinear(), (x, TensorType(other, (5,))), fills)
    yield Case(QuantizeLinear(precision=FLOAT16), (x, scale, TensorType(INT8, (5,))), fills)
    yield Case(QuantizeLinear(), (x, scale), fills)


def _dequantize(dtype: DType, full: bool) -> Iterator[Case]:
    fills: tuple[Fill, ...] = anything, _scales, _zeros
    for attributes, shape, scales in _LAYOUTS if full else _LAYOUTS[:3]:
        types = TensorType(dtype, shape), TensorType(FLOAT32, scales), TensorType(dtype, scales)
        yield Case(DequantizeLinear(**attributes), types, fills)
        yield Case(DequantizeLinear(**attributes), types[:2], fills)
    x, zero = TensorType(dtype, (N, 5)), TensorType(dtype, (5,))
    for other in (DType.BFLOAT16, FLOAT16):
        yield Case(DequantizeLinear(), (x, TensorType(other, (5,)), zero), fills)
        half = DequantizeLinear(output_dtype=other)
        yield Case(half, (x, TensorType(FLOAT32, (5,))), fills)
        yield Case(half, (x, TensorType(DType.FLOAT8E8M0, (5,))), fills)


def _dynamic(dtype: DType, _: bool) -> Iterator[Case]:
    for shape in ((N,), (N, 7), (5, 13), (), (1,), (0,), (3, 0), (3, 131), (2, 64)):
        yield Case(DynamicQuantizeLinear(), (TensorType(dtype, shape),), (_finite,))


def _finite(random: Random, dtype: DType, shape: Sequence[int], extreme: bool) -> Array:
    values = anything(random, dtype, shape, extreme)
    return np.where(np.abs(values) < 1e37, values, dtype.numpy.type(1))


_PRODUCTS: tuple[tuple[Shape, Shape], ...] = (
    ((N, 7), (7, 5)),
    ((3, 13), (13, 67)),
    ((7,), (7,)),
    ((7,), (7, 3)),
    ((N, 5), (5,)),
    ((2, 3, 7), (7, 17)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((N, 1, 4), (N, 4, 3)),
    ((N, 0), (0, 3)),
    ((N, 3), (3, 0)),
    ((N, M), (M, N)),
    ((2, 130), (130, 130)),
)
# (a, b, the numbers of a, those of b)
_VECTORS: tuple[tuple[Shape, ...], ...] = (
    ((N, 7), (7, 33), (N,), (33,)),
    ((4, 7), (7, 3), (1,), (3,)),
    ((N, 3, 7), (N, 7, 5), (N, 3, 1), (N, 1, 5)),
    ((2, 3, 4), (4, 5), (2, 3, 1), ()),
    ((3, 4), (2, 4, 5), (3, 1), (2, 1, 5)),
    ((2, 3, 4), (4, 5), (1, 3, 1), (1, 5)),
)


def _matmul_integer(dtype: DType, full: bool) -> Iterator[Case]:
    one = TensorType(dtype, ())
    for a, b in _PRODUCTS if full else _PRODUCTS[:2]:
        types = TensorType(dtype, a), TensorType(dtype, b)
        yield Case(MatMulInteger(), types)
        yield Case(MatMulInteger(), (*types, one, one))
    a, b = TensorType(dtype, (N, 7)), TensorType(INT8, (7, 5))
    yield Case(MatMulInteger(), (a, b, None, TensorType(INT8, (5,))))
    yield Case(MatMulInteger(), (a, b, one))
    for shapes in _VECTORS:
        yield Case(MatMulInteger(), tuple(TensorType(dtype, s) for s in shapes))
    yield from _constant_weights(dtype)


def _constant_weights(dtype: DType) -> Iterator[Case]:
    """Weights in a form of their own: several tiles, odd numbers of steps, none, and one column."""
    random, one = np.random.default_rng(3), TensorType(dtype, ())
    setups: Sequence[tuple[Shape, tuple[int, int]]] = (
        ((N, 7), (7, 5)),
        ((2, N, 65), (65, 70)),
        ((N, 1), (1, 33)),
        ((9,), (9, 64)),
        ((N, 0), (0, 4)),
    )
    for x, shape in setups:
        for kind in (np.int8, np.uint8):
            range_ = np.iinfo(kind)
            w = random.integers(range_.min, range_.max, shape, kind, endpoint=True)
            zeros = random.integers(range_.min, range_.max, shape[1], kind, endpoint=True)
            yield Case(MatMulInteger(), (TensorType(dtype, x), w))
            yield Case(MatMulInteger(), (TensorType(dtype, x), w, one, zeros))
            yield Case(MatMulInteger(), (TensorType(dtype, x), w, one, zeros[0].reshape(())))


def _integer_dense(dtype: DType, _: bool) -> Iterator[Case]:
    """Rows and columns of all kinds of tiles; extreme numbers in all places, and everywhere."""
    random = np.random.default_rng(4)
    for x, (depth, columns) in (
        ((N, 7), (7, 5)),
        ((2, N, 4), (4, 49)),
        ((N, 36), (36, 33)),
        ((3, 0), (0, 3)),
        ((65, 13), (13, 97)),
        ((17, 300), (300, 24)),
        ((4, 130), (130, 40)),
        ((19,), (19, 130)),
    ):
        for kind in (np.int8, np.uint8):
            limits = np.iinfo(kind)
            w = random.integers(limits.min, limits.max, (depth, columns), kind, endpoint=True)
            w[: depth // 2] = limits.min
            w[:, -1] = limits.max
            for zeros in (np.zeros((), kind), w[:1].reshape(-1), np.array(3, kind)):
                if depth == 0 and zeros.ndim:
                    continue
                factors = TensorType(FLOAT32, (columns,) if zeros.ndim else ())
                b = random.normal(size=columns).astype(np.float32)
                given = (TensorType(dtype, x), w, TensorType(dtype, ()), zeros, factors, b)
                yield Case(IntegerDense(relu=bool(zeros.ndim)), given)


def _qlinear_matmul(dtype: DType, full: bool) -> Iterator[Case]:
    numbers: Fill = small if dtype.value.startswith("float8") else anything
    fills = numbers, _scales, _zeros, numbers, _scales, _zeros, _scales, _zeros

    def case(a: Shape, b: Shape, p: Shape, q: Shape, real: DType, to: DType) -> Case:
        shapes = (a, p, p, b, q, q, (), ())
        kinds = (dtype, real, dtype, dtype, real, dtype, real, to)
        types = (TensorType(d, s) for d, s in zip(kinds, shapes, strict=True))
        return Case(QLinearMatMul(), tuple(types), fills)

    for a, b in _PRODUCTS if full else _PRODUCTS[:2]:
        yield case(a, b, (), (), FLOAT32, dtype)
    for a, b, p, q in _VECTORS:
        yield case(a, b, p, q, FLOAT32, dtype)
    for real in (FLOAT16, DType.BFLOAT16):
        yield case((N, 7), (7, 5), (1,), (5,), real, dtype)
    if dtype in BYTES:
        yield from _requantized(dtype, fills)
    for to in (INT8, DType.FLOAT8E4M3FN, DType.FLOAT8E5M2FNUZ):
        yield case((N, 7), (7, 5), (), (), FLOAT32, to)


def _requantized(dtype: DType, fills: tuple[Fill, ...]) -> Iterator[Case]:
    """Constant weights: fewer columns than are quantised at a time, whole units and others."""
    random = np.random.default_rng(5)
    for x, shape in (
        ((N, 7), (7, 5)),
        ((2, N, 64), (64, 70)),
        ((3, 0), (0, 9)),
        ((65, 13), (13, 96)),
    ):
        for kind, real in ((np.int8, FLOAT32), (np.uint8, FLOAT32), (np.int8, FLOAT16)):
            limits = np.iinfo(kind)
            w = random.integers(limits.min, limits.max, shape, kind, endpoint=True)
            one, numbers = TensorType(real, ()), w[:1].reshape(-1)
            for zero, scale in ((np.zeros((), kind), one), (numbers, TensorType(real, shape[1:]))):
                if len(numbers) == 0 and zero.ndim:
                    continue
                for to in (DType.UINT8, INT8):
                    of_a = TensorType(dtype, x), one, TensorType(dtype, ())
                    given = (*of_a, w, scale, zero, one, TensorType(to, ()))
                    yield Case(QLinearMatMul(), given, fills)


_ROWS = {
    "BitCast": _bit_cast,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _matmul_integer,
    "QLinearMatMul": _qlinear_matmul,
}
# What is rounded to few bits is so in the type in which the operator says that it computes.
ROWS: dict[tuple[str, str], Row] = {
    ("", name): Row(make, thorough=True, widened=False) for name, make in _ROWS.items()
}
ROWS["sofie", "IntegerDense"] = Row(_integer_dense, thorough=True, widened=False)
