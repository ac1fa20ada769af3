"""Rows of the element-wise operators, of matrix products, normalisations, and changes of shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.operator import REGISTRY, Operator
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops._elementwise import floating
from sofie_rdf.ops.elementwise import (
    ALL,
    Between,
    BitShift,
    Cast,
    Celu,
    Clip,
    Elementwise,
    Elu,
    Gelu,
    HardSigmoid,
    HardSwish,
    IsInf,
    LeakyRelu,
    Mish,
    Mod,
    Pow,
    Relu,
    Selu,
    Shrink,
    Sigmoid,
    Softplus,
    Swish,
    Tanh,
    ThresholdedRelu,
)
from sofie_rdf.ops.layout import Concat, Flatten, Reshape, Squeeze, Transpose, Unsqueeze
from sofie_rdf.ops.linear import Dense, DenseLayers, Gemm, NoActivation
from sofie_rdf.ops.normalization import (
    BatchNormalization,
    FlatLogSoftmax,
    FlatSoftmax,
    LogSoftmax,
    Softmax,
)
from tests.ops.accuracy import sum_error
from tests.ops.cases import (
    BINARY,
    BINARY_SHORT,
    TERNARY,
    TERNARY_SHORT,
    UNARY,
    UNARY_SHORT,
    Case,
    M,
    Make,
    N,
    Random,
    Row,
    anything,
    binary,
    convertible_to,
    layout,
    positive,
    small,
    sparse,
    unary,
    usual,
    variadic,
)

COMPUTED = tuple(d for d in DType if d in ALL)


def _where(dtype: DType, full: bool) -> Iterator[Case]:
    for condition, x, y in TERNARY if full else TERNARY_SHORT:
        types = TensorType(DType.BOOL, condition), TensorType(dtype, x), TensorType(dtype, y)
        yield Case(REGISTRY["", "Where"](), types)


def _cast(dtype: DType, full: bool) -> Iterator[Case]:
    others = tuple(map(DType, "float32 float16 float8_e5m2 float4_e2m1fn int8 int4 bool".split()))
    for to in others if dtype.is_storage else DType:
        for shape in UNARY if full and to is DType.FLOAT64 else UNARY_SHORT[:1]:
            yield Case(Cast(to), (TensorType(dtype, shape),), (convertible_to(to),))
    if dtype in (DType.FLOAT32, DType.FLOAT64):
        few = (d for d in DType if d.value.startswith("float8"))
        x = (TensorType(dtype, (N,)),)
        yield from (Case(Cast(to, saturate=False), x) for to in few)
        power = DType.FLOAT8E8M0
        yield from (Case(Cast(power, s, m), x) for s in (True, False) for m in ("down", "nearest"))


def _pow(dtype: DType, full: bool) -> Iterator[Case]:
    for shapes in BINARY if full else BINARY_SHORT:
        yield Case(Pow(), tuple(TensorType(dtype, s) for s in shapes))
    for other in (d for d in COMPUTED if d is not dtype):
        types = TensorType(dtype, (N,)), TensorType(other, (N,))
        # A fraction that is no number of the base's type is for each machine to decide.
        fill = small if not dtype.is_float and other.is_float else anything
        inverse = fill is small
        yield Case(Pow(), types, (_ones if inverse else anything, fill))


def _ones(random: Random, dtype: DType, shape: Sequence[int], _: bool) -> Array:
    return np.asarray(random.integers(1, 5, shape), dtype.numpy)


def _clip(dtype: DType, full: bool) -> Iterator[Case]:
    scalar = TensorType(dtype, ())
    for shape in UNARY if full else UNARY_SHORT:
        x = TensorType(dtype, shape)
        yield Case(Clip(), (x, scalar, scalar))
    x = TensorType(dtype, (N,))
    if dtype is not DType.BOOL:
        yield Case(Clip(), (x, np.array(1, dtype.numpy), np.array(3, dtype.numpy)))
        yield Case(Clip(), (x, np.array(3, dtype.numpy), np.array(1, dtype.numpy)))
    yield Case(Clip(), (x,))
    yield Case(Clip(), (x, scalar))
    yield Case(Clip(), (x, None, scalar))
    yield Case(Clip(), (x, TensorType(dtype, (1,)), scalar))


# Layout -------------------------------------------------------------------------------------------

_RESHAPE = layout(
    (Reshape((-1, 2)), ((N, 4),)),
    (Reshape((0, 2, 2)), ((N, 4),)),
    (Reshape((20,)), ((4, 5),)),
    (Reshape(()), ((1, 1),)),
    (Reshape((-1,)), ((),)),
    (Reshape((2, 0), allowzero=True), ((0, 5),)),
    (Reshape((0, -1)), ((3, 0),)),
    (Reshape((0, 0, -1)), ((N, M, 6),)),
    (Reshape((N * 2, 2), allowzero=True), ((N, 4),)),
)
_FLATTEN = layout(
    (Flatten(), ((N, 3, 4),)),
    (Flatten(0), ((3, 4),)),
    (Flatten(2), ((N, 3, 4),)),
    (Flatten(-1), ((2, N, 3),)),
    (Flatten(3), ((2, N, 3),)),
    (Flatten(), ((N,),)),
    (Flatten(0), ((),)),
    (Flatten(), ((0, 3, 4),)),
    (Flatten(), ((3, 0, 4),)),
)
_SQUEEZE = layout(
    (Squeeze(None), ((1, 3, 1),)),
    (Squeeze((1,)), ((N, 1, 3),)),
    (Squeeze((-1, 0)), ((1, N, 1),)),
    (Squeeze(None), ((),)),
    (Squeeze(None), ((1, 0),)),
    (Squeeze(()), ((1, 2),)),
)
_UNSQUEEZE = layout(
    (Unsqueeze((0,)), ((N, 3),)),
    (Unsqueeze((-1,)), ((N, 3),)),
    (Unsqueeze((3, 0)), ((2, N),)),
    (Unsqueeze((0,)), ((),)),
    (Unsqueeze((1,)), ((0,),)),
)
_CONCAT = layout(
    (Concat(1), ((N, 3), (N, 4))),
    (Concat(0), ((N, 3), (M, 3), (2, 3))),
    (Concat(-1), ((2, 3, 5),)),
    (Concat(1), ((2, 3, 5), (2, 0, 5), (2, 70, 5))),
    (Concat(0), ((N,), (1,), (N,))),
    (Concat(-2), ((2, 1, 5), (2, N, 5))),
    (Concat(0), ((0, 3), (0, 3))),
)
_TRANSPOSE = layout(
    (Transpose(), ((N, 7),)),
    (Transpose((0, 2, 1)), ((N, 3, 17),)),
    (Transpose((2, 0, 1)), ((5, 33, 2),)),
    # By blocks of which a side fills a register, the last ones within others.
    (Transpose((0, 2, 1)), ((N, 4, 40),)),
    (Transpose((0, 2, 1)), ((N, 40, 8),)),
    (Transpose((0, 2, 1)), ((N, 37, 5),)),
    (Transpose(), ((33, 50),)),
    (Transpose((2, 1, 0)), ((17, N, 21),)),
    (Transpose((0, 2, 1)), ((N, 16, 4),)),
    (Transpose((0, 2, 1)), ((N, 5, 16),)),
    (Transpose((0, 2, 1)), ((N, 9, 15),)),
    (Transpose((0, 2, 1)), ((N, 13, 3),)),
    # Small planes side by side, as many as two registers hold, and the last ones.
    (Transpose((0, 2, 1)), ((33, 5, 2),)),
    (Transpose((0, 2, 1)), ((35, 4, 8),)),
    (Transpose((0, 2, 1)), ((9, 7, 9),)),
    (Transpose((1, 0, 3, 2)), ((6, 7, 3, 5),)),
    # Rows or columns that take turns.
    (Transpose((0, 2, 1)), ((2, 3, 1501),)),
    (Transpose((0, 2, 1)), ((3, 4, 700),)),
    (Transpose((0, 2, 1)), ((2, 5, 901),)),
    (Transpose((0, 2, 1)), ((9, 133, 7),)),
    (Transpose((0, 2, 1)), ((70, 20, 6),)),
    (Transpose((2, 3, 0, 1)), ((6, 3, 70, 7),)),
    (Transpose(), ((),)),
    (Transpose(), ((N,),)),
    (Transpose((1, 0, 3, 2)), ((2, N, 1, 5),)),
    (Transpose((3, 2, 1, 0)), ((2, 3, 4, 5),)),
    (Transpose((0, 3, 1, 2)), ((N, 4, 5, 3),)),
    (Transpose((4, 0, 2, 1, 3)), ((2, 3, 2, 3, 2),)),
    (Transpose((1, 2, 0)), ((1, 1, 1),)),
    (Transpose((1, 0)), ((0, 3),)),
    (Transpose((1, 0)), ((N, M),)),
)


# Sums ---------------------------------------------------------------------------------------------


def _matmul(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: list[tuple[Shape, Shape]] = [((N, 7), (7, 5)), ((3, 13), (13, 67)), ((7,), (7,))]
    if full:
        shapes += [
            ((7,), (7, 3)),
            ((N, 5), (5,)),
            ((2, 3, 7), (7, 17)),
            ((2, 1, 3, 4), (5, 4, 2)),
            ((N, 1, 4), (N, 4, 3)),
            ((N, 0), (0, 3)),
            ((N, 3), (3, 0)),
            ((N, M), (M, N)),
            ((1, 1), (1, 1)),
            ((2, 130), (130, 130)),
            ((N, 9), (9, 512)),
            ((37, 11), (11, 1024)),
        ]
    for a, b in shapes:
        yield Case(
            REGISTRY["", "MatMul"](), (TensorType(dtype, a), TensorType(dtype, b)), (sparse,)
        )


def _gemm(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: list[Shape | None] = [None, (5,)]
    if full:
        shapes += [(), (1,), (N, 1), (1, 5), (N, 5), (1, 1)]
    for c in shapes:
        yield Case(Gemm(), _gemm_types(dtype, (N, 7), (7, 5), c), (sparse,))
    scaled = Gemm(alpha=0.5, beta=0.25)
    for a, b in [(False, True), (True, False), (True, True)]:
        op = Gemm(alpha=0.5 if a else 1.0, beta=2.0, transA=a, transB=b)
        fill = sparse if dtype.is_float else small
        left, right = (7, N) if a else (N, 7), (5, 7) if b else (7, 5)
        yield Case(op, _gemm_types(dtype, left, right, (5,)), (fill,))
    yield Case(scaled, _gemm_types(dtype, (3, 7), (7, 17), (3, 17)), (small,))
    if full:
        yield Case(Gemm(beta=0.0), _gemm_types(dtype, (N, 7), (7, 5), (5,)), (sparse,))
        yield Case(Gemm(), _gemm_types(dtype, (N, 0), (0, 3), (3,)), (sparse,))
        yield Case(Gemm(transA=True), _gemm_types(dtype, (3, 0), (3, 4), (4,)), (sparse,))
        yield Case(Gemm(), _gemm_types(dtype, (1, 1), (1, 1), None), (sparse,))


def _gemm_types(dtype: DType, a: Shape, b: Shape, c: Shape | None) -> tuple[TensorType, ...]:
    return tuple(TensorType(dtype, s) for s in (a, b, c) if s is not None)


def _dense(dtype: DType, full: bool) -> Iterator[Case]:
    if not dtype.is_float:
        yield Case(Dense(), (*_gemm_types(dtype, (N, 5), (5, 3), (3,)),))
        return
    random = np.random.default_rng(3)

    def case(x: Shape, k: int, n: int, activation: Elementwise) -> Case:
        w = random.normal(size=(k, n)).astype(dtype.numpy)
        b = random.normal(size=n).astype(dtype.numpy)
        return Case(Dense(activation), (TensorType(dtype, x), w, b), (sparse,))

    yield case((N, 7), 7, 5, NoActivation())
    yield case((N, 20), 20, 33, Relu())
    yield case((3, 7), 7, 16, Tanh())
    yield case((N, 0), 0, 3, NoActivation())
    if full:
        yield case((7,), 7, 1, NoActivation())
        yield case((2, N, 3), 3, 70, Relu())
        yield case((N, 9), 9, 230, NoActivation())
        yield case((1, 64), 64, 64, Relu())
        # All chains side by side: rows that are computed twice, turns of rows, parts of long ones.
        yield case((N, 131), 131, 10, Relu())
        yield case((26, 300), 300, 3, Tanh())
        yield case((4, 768), 768, 16, NoActivation())
        yield case((5, 514), 514, 21, Relu())
        # Weights from afar, in panels of which the last one is not full.
        yield case((N, 1205), 1205, 420, Elu(0.5))
        wide = Sigmoid(), Elu(0.5), Selu(), Softplus(), LeakyRelu(), HardSigmoid()
        yield from (case((N, 7), 7, 5, activation) for activation in wide)
        narrow = Gelu(), Gelu("tanh"), Swish(), Celu(2.0)
        yield from (case((N, 3), 3, 2, activation) for activation in narrow)


FLAT = (FlatSoftmax, FlatLogSoftmax)


def _along_axis(kind: type[Any]) -> Make:
    def make(dtype: DType, full: bool) -> Iterator[Case]:
        pairs: list[tuple[int, Shape]] = [(-1, (N, 7)), (1, (2, N, 3)), (0, (N,)), (1, (5, 67))]
        if full:
            pairs += [(1, (2, 5, 33)), (0, (7, N)), (0, (1,)), (1, (N, 0)), (0, (0, 3))]
            pairs += [(-1, (N, 16)), (-1, (N, 1)), (1, (N, 1, 4))]
            # Columns: several rows in a register, one register and a rest, more than go together.
            pairs += [(0, (N, 3)), (1, (2, 69, 7)), (1, (N, 3, 5)), (1, (N, 4, 40))]
            pairs += [(1, (2, 17, 300))]
            pairs += [(0, ()), (2, (2, 3))] if issubclass(kind, FLAT) else [(-1, ())]
        for axis, shape in pairs:
            yield Case(kind(axis), (TensorType(dtype, shape),), (sparse,))

    return make


def _batch_normalization(dtype: DType, full: bool) -> Iterator[Case]:
    shapes: list[tuple[Shape, Dim]] = [((N, 4), 4), ((N, 3, 5), 3)]
    if full:
        shapes += [
            ((N,), 1),
            ((2, 33, 2, 2), 33),
            ((N, 1), 1),
            ((N, 0), 0),
            ((0, 4), 4),
            ((2, 3, M), 3),
        ]
    fills = sparse, sparse, sparse, sparse, positive
    for shape, channels in shapes:
        types = TensorType(dtype, shape), *(TensorType(dtype, (channels,)),) * 4
        yield Case(BatchNormalization(epsilon=2.0**-10), types, fills)


# Magnitudes ---------------------------------------------------------------------------------------


def _sum(_: Operator, *inputs: Array) -> Array:
    return np.asarray(sum(np.abs(i) for i in inputs))


def _mean(op: Operator, *inputs: Array) -> Array:
    return np.asarray(_sum(op, *inputs) / len(inputs))


def _product(_: Operator, a: Array, b: Array) -> Array:
    return np.asarray(np.matmul(np.abs(a), np.abs(b)))


def _affine(op: Any, a: Array, b: Array, c: Array | None = None) -> Array:
    left, right = a.T if op.transA else a, b.T if op.transB else b
    total = abs(op.alpha) * np.matmul(np.abs(left), np.abs(right))
    return np.asarray(total if c is None else total + abs(op.beta) * np.abs(c))


def _layer(_: Operator, x: Array, w: Array, b: Array) -> Array:
    return np.asarray(np.matmul(np.abs(x), np.abs(w)) + np.abs(b))


def _layer_slack(
    op: Any, error: Array, dtype: np.dtype[Any], x: Array, w: Array, b: Array
) -> Array:
    """What an error of the sum becomes behind the activation, and the activation's own error."""
    f, exact = op.activation, np.matmul(x, w) + b
    sides = [np.abs(f.reference(exact + e) - f.reference(exact)) for e in (error, -error)]
    behind = np.nan_to_num(np.fmax(*sides), nan=0, posinf=np.inf)
    row = ROWS[f.domain, f.name]
    if f.tolerance.terms and row.magnitude:
        behind = behind + sum_error(f.tolerance, row.magnitude(f, exact), 1, dtype)
    return row.slack(f, behind, dtype, exact) if row.slack else np.asarray(behind)


def _dense_layers(dtype: DType, full: bool) -> Iterator[Case]:
    random = np.random.default_rng(4)

    def case(x: Shape, *layers: tuple[int, Elementwise]) -> Case:
        parameters: list[Array] = []
        depth = x[-1]
        for n, _ in layers:
            assert isinstance(depth, int)
            parameters += random.normal(size=(depth, n)) / 2, random.normal(size=n)
            depth = n
        given = (TensorType(dtype, x), *(p.astype(dtype.numpy) for p in parameters))
        return Case(DenseLayers(tuple(f for _, f in layers)), given, (sparse,))

    yield case((N, 7), (50, Relu()), (33, Tanh()), (1, Sigmoid()))
    yield case((2, N, 3), (64, Relu()), (10, NoActivation()))
    if full:
        # Tiles of 8, 10 and 13 columns; fewer columns than a tile; several panels; few products.
        yield case((N, 5), (8, LeakyRelu()), (13, Relu()), (20, NoActivation()), (3, Relu()))
        yield case((N, 1), (230, Relu()), (260, NoActivation()), (2, Tanh()))
        yield case((29, 20), (17, Relu()), (100, Relu()))
        # Tiles of 6 rows: an even number of products, an odd one, one alone.
        yield case((8, 20), (64, Relu()), (60, NoActivation()))
        yield case((N, 1), (49, Relu()), (55, Relu()), (64, Relu()))
        yield case((1, 20), (30, Tanh()), (30, Relu()), (5, Sigmoid()))
        yield case((N, 4), (40, Gelu()), (33, Gelu()), (8, NoActivation()))
        yield case((7, 4), (16, Gelu()), (100, Gelu()), (5, Gelu()))
        yield case((20,), (30, Relu()), (1, NoActivation()))


def _through_layers(op: DenseLayers, x: Array, *parameters: Array) -> Array:
    """The sums of magnitudes, where no function makes an error or a number larger."""
    x = np.abs(x)
    for _, w, b in op.layers(parameters):
        x = _layer(op, x, w, b)
    return x


def _of_layers(_: Array, *parameters: Array) -> float:
    """As many products as have the error of all layers together."""
    return float(sum(np.sqrt(w.shape[0]) for w in parameters[::2]) ** 2)


def _line(op: Any, x: Array) -> Array:
    return np.asarray(abs(op.alpha) * np.abs(x) + abs(op.beta))


def _softmax_slack(op: Any, error: Array, dtype: np.dtype[Any], x: Array) -> Array:
    """The rounding of x - max x, an absolute error of the exponent."""
    vectors = x.reshape(op.view(x.shape))
    distance = np.abs(vectors - np.max(vectors, axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(error + _relative(op.reference(x), distance.reshape(x.shape), dtype))


def _relative(y: Array, exponent: Array, dtype: np.dtype[Any]) -> Array:
    """What the rounding of an exponent of this size does to y."""
    return np.asarray(
        np.nan_to_num(np.abs(y) * np.abs(exponent), nan=0, posinf=0) * np.finfo(dtype).eps
    )


def _gelu_slack(op: Any, error: Array, dtype: np.dtype[Any], x: Array) -> Array:
    """The rounding of x^2 / 2, or of 2 u, of which an exponential is taken in the left tail."""
    left = np.minimum(x, 0)
    cubic = 1.6 * left + 0.0714 * left * left * left
    exponent = left * left if op.approximate == "none" else 2 * cubic
    return _denormal_factor(op, error + _relative(op.reference(x), exponent, dtype), dtype, x)


def _of_density(_: Operator, g: Array, x: Array) -> Array:
    """|g| times the normal distribution and |x| times its density."""
    density = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    return np.asarray(
        np.abs(g) * (floating(math.erfc)(-x * np.sqrt(0.5)) / 2 + np.abs(x) * density)
    )


def _density_slack(op: Any, error: Array, dtype: np.dtype[Any], g: Array, x: Array) -> Array:
    """The rounding of x^2 / 2, of which an exponential is taken; all of it where that is 0."""
    y = op.reference(g, x)
    none = x < (-13.0 if dtype == np.float32 else -37.5)
    return error + _relative(y, x * x, dtype) + np.where(none, np.abs(y), 0)


def _hard_swish(_: Operator, x: Array) -> Array:
    return np.asarray(np.abs(x) * (np.abs(x) / 6 + 0.5))


def _denormal_factor(op: Operator, error: Array, dtype: np.dtype[Any], x: Array) -> Array:
    """x times a function of x that may be denormal: such numbers have fewer digits."""
    least = op.tolerance.ulp * float(np.finfo(dtype).smallest_subnormal)
    return np.asarray(error + np.abs(np.where(np.isfinite(x), x, 0)) * least)


def _inner(a: Array, *_: Array) -> float:
    """How many products a matrix product sums."""
    return float(max(1, a.shape[-1] if a.ndim else 1))


def _either_inner(a: Array, b: Array, *_: Array) -> float:
    """The same where the matrices may be transposed: at most the larger of what it can be."""
    return float(max(1, *(set(a.shape) & set(b.shape) or {1})))


def _number(*inputs: Array) -> float:
    return float(len(inputs))


def _result(op: Any, x: Array) -> Array:
    """Of a sum of positive numbers the magnitude is the sum itself; here relative to the result."""
    return np.asarray(op.reference(x))


def _log_softmax(op: Any, x: Array) -> Array:
    vectors = x.reshape(op.view(x.shape))
    most = np.max(vectors, axis=1, keepdims=True, initial=-np.inf)
    total = np.sum(np.exp(vectors - most), axis=1, keepdims=True)
    # An error relative to the sum is one relative to 1 of its logarithm.
    return np.asarray(np.abs(vectors - most) + np.abs(np.log(total)) + 1).reshape(x.shape)


def _size(x: Array) -> float:
    """At most as many numbers are in one distribution."""
    return float(min(max(1, *x.shape), 100)) if x.ndim else 1.0


def _normalised(op: Any, x: Array, scale: Array, bias: Array, mean: Array, var: Array) -> Array:
    shape = (1, -1) + (1,) * (x.ndim - 2) if x.ndim > 1 else (-1,)
    s, b, m, v = (p.reshape(shape) for p in (scale, bias, mean, var))
    return np.asarray(np.abs((x - m) * (s / np.sqrt(v + op.epsilon))) + np.abs(b))


_SIMPLE = """Abs Neg Sign Not BitwiseNot IsNaN Exp Log Sqrt Reciprocal Erf Tanh Sigmoid Softplus Sin
Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Floor Ceil Round Relu Softsign""".split()
_PAIRS = """Add Sub Mul Div BitwiseAnd BitwiseOr BitwiseXor And Or Xor Equal Less LessOrEqual
Greater GreaterOrEqual PRelu""".split()

ROWS: dict[tuple[str, str], Row] = {
    **{("", name): unary(REGISTRY["", name]()) for name in _SIMPLE},
    **{("", name): binary(REGISTRY["", name]()) for name in _PAIRS},
    ("", "IsInf"): unary(
        IsInf(), IsInf(detect_negative=False), IsInf(detect_positive=False), IsInf(False, False)
    ),
    ("", "LeakyRelu"): unary(LeakyRelu(), LeakyRelu(alpha=-2.0), LeakyRelu(alpha=0.0)),
    ("", "ThresholdedRelu"): unary(ThresholdedRelu(), ThresholdedRelu(alpha=-0.5)),
    ("", "Elu"): unary(Elu(), Elu(alpha=0.5), Elu(alpha=-3.0)),
    ("", "Celu"): unary(Celu(), Celu(alpha=2.0), Celu(alpha=0.125)),
    ("", "Selu"): unary(Selu(), Selu(alpha=0.5, gamma=-2.0)),
    ("sofie", "Between"): replace(
        unary(Between(0.0, 6.0), Between(-0.5, np.inf), Between(2.0, 1.0)), signed_zeros=False
    ),
    ("", "HardSigmoid"): replace(
        unary(HardSigmoid(), HardSigmoid(alpha=0.25, beta=-1.0)), magnitude=_line
    ),
    ("", "HardSwish"): replace(unary(HardSwish()), magnitude=_hard_swish),
    ("", "Swish"): replace(
        unary(Swish(), Swish(alpha=-0.5), Swish(alpha=2.0)), slack=_denormal_factor
    ),
    ("", "Mish"): replace(unary(Mish()), slack=_denormal_factor),
    ("", "Gelu"): replace(unary(Gelu(), Gelu("tanh")), slack=_gelu_slack),
    ("", "Shrink"): unary(Shrink(), Shrink(bias=0.25, lambd=1.5), Shrink(bias=3.0, lambd=2.0)),
    ("", "Cast"): Row(_cast, thorough=True),
    ("", "Mod"): binary(Mod(fmod=True), Mod()),
    ("", "Pow"): Row(_pow),
    ("", "BitShift"): binary(BitShift("LEFT"), BitShift("RIGHT")),
    ("", "Where"): Row(_where),
    # Neither IEEE 754 nor NumPy say which of 0 and -0 is the larger one.
    ("", "Clip"): Row(_clip, signed_zeros=False),
    ("", "Max"): replace(variadic(REGISTRY["", "Max"]()), signed_zeros=False),
    ("", "Min"): replace(variadic(REGISTRY["", "Min"]()), signed_zeros=False),
    ("", "Sum"): replace(variadic(REGISTRY["", "Sum"]()), magnitude=_sum, count=_number),
    ("", "Mean"): replace(variadic(REGISTRY["", "Mean"]()), magnitude=_mean, count=_number),
    ("", "Identity"): unary(REGISTRY["", "Identity"]()),
    ("", "Dropout"): unary(REGISTRY["", "Dropout"]()),
    ("", "Reshape"): _RESHAPE,
    ("", "Flatten"): _FLATTEN,
    ("", "Squeeze"): _SQUEEZE,
    ("", "Unsqueeze"): _UNSQUEEZE,
    ("", "Concat"): _CONCAT,
    ("", "Transpose"): _TRANSPOSE,
    ("", "MatMul"): Row(_matmul, _product, _inner),
    ("", "Gemm"): Row(_gemm, _affine, _either_inner),
    ("", "Softmax"): Row(_along_axis(Softmax), _result, _size, _softmax_slack),
    ("", "LogSoftmax"): Row(_along_axis(LogSoftmax), _log_softmax, _size),
    ("sofie", "FlatSoftmax"): Row(_along_axis(FlatSoftmax), _result, _size, _softmax_slack),
    ("sofie", "FlatLogSoftmax"): Row(_along_axis(FlatLogSoftmax), _log_softmax, _size),
    ("", "BatchNormalization"): Row(_batch_normalization, _normalised),
    ("sofie", "GeluSlope"): replace(
        # Infinity times a number that is 0 in one type, and no 0 in a wider one, is left out.
        binary(REGISTRY["sofie", "GeluSlope"](), fills=(usual, anything)),
        magnitude=_of_density,
        slack=_density_slack,
        signed_zeros=False,
    ),
    ("sofie", "Gate"): binary(REGISTRY["sofie", "Gate"]()),
    ("sofie", "Dense"): Row(_dense, _layer, _inner, _layer_slack),
    ("sofie", "DenseLayers"): Row(_dense_layers, _through_layers, _of_layers),
    ("sofie", "NoActivation"): unary(NoActivation()),
    ("sofie", "TrueLike"): unary(REGISTRY["sofie", "TrueLike"]()),
}
