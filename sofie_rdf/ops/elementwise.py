"""Element-wise operators: each is a formula, its function object is in the C++ header it names."""

from __future__ import annotations

import math
import operator as operators
from collections.abc import Sequence
from dataclasses import fields
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from sofie_rdf.errors import TypeMismatch, UnsupportedOperator
from sofie_rdf.ir import dims
from sofie_rdf.ir.operator import (
    Call,
    Functor,
    Operand,
    Operator,
    Tensor,
    Tolerance,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, TensorType, broadcast
from sofie_rdf.ops._broadcast import collapse
from sofie_rdf.ops.casts import Cast as Cast

ALL = frozenset(d for d in DType if not d.is_storage)
STORED = frozenset(DType)
BOOL = frozenset({DType.BOOL})
FLOATS = frozenset(d for d in ALL if d.is_float)
INTEGERS = frozenset(d for d in DType if d.is_integer)
UNSIGNED = frozenset(d for d in INTEGERS if d.value.startswith("u"))
NUMBERS = FLOATS | INTEGERS
SIGNED = NUMBERS - UNSIGNED

# Function objects that need more than arithmetic are where only models that have them read them.
ACTIVATIONS = "sofie/kernels/activations.hxx"
NORMAL_DISTRIBUTION = "sofie/kernels/normal_distribution.hxx"
FUNCTIONS = "sofie/kernels/functions.hxx"


class Elementwise(Operator):
    """y[i] = f(a[i], b[i], ...), with NumPy's broadcasting."""

    header: ClassVar[str] = "sofie/kernels/elementwise.hxx"
    # Rounded correctly, unless an operator says otherwise.
    tolerance: ClassVar[Tolerance] = Tolerance(ulp=0.5)
    dtypes: ClassVar[frozenset[DType]] = NUMBERS
    result: ClassVar[DType | None] = None
    # The same function of symbolic sizes, where shape arithmetic uses the operator.
    on_size: ClassVar[Any] = None

    def on_sizes(self, *inputs: Array) -> Array:
        if self.on_size is None:
            return super().on_sizes(*inputs)
        return np.asarray(reduce_sizes(type(self).on_size, inputs, self), dtype=object)

    def infer(self, *inputs: TensorType) -> TensorType:
        dtype = self.accept(*inputs)
        return TensorType(self.result or dtype, broadcast(t.shape for t in inputs))

    def accept(self, *inputs: TensorType) -> DType:
        """The element type of the inputs, if the operator is defined for it."""
        dtype = require_same_dtype(*inputs)
        if dtype not in self.dtypes:
            known = ", ".join(d.value for d in DType if d in self.dtypes)
            raise TypeMismatch(f"is not defined for {dtype}, only for {known}")
        return dtype

    def functor(self) -> Functor:
        """The C++ function object of the same name, holding the attributes."""
        values = (getattr(self, f.name) for f in fields(self))
        namespace = self.domain.replace(".", "::") or "sofie"
        return Functor(f"{namespace}::{self.name}", tuple(values))

    def inner_functor(self) -> Functor:
        """The same between two layers, where the next sum rounds more than it may."""
        return self.functor()

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        present = [i for i in inputs if i is not None]
        (y,) = outputs
        shape, shapes = collapse(y.type.shape, [i.type.shape for i in present])
        # Where the inner loop is of any length, known outer sizes would not make it faster.
        loose = not isinstance(shape[-1], int)
        views = (Tensor(i, s, loose) for i, s in zip(present, shapes, strict=True))
        return Call("sofie::map", (self.functor(), Tensor(y, shape, loose), *views))


def reduce_sizes(function: Any, inputs: Sequence[Array], op: Operator) -> Any:
    """The function of sizes, element by element; of two after two where it takes any number."""
    if isinstance(op, Variadic):
        return reduce(np.frompyfunc(function, 2, 1), inputs)
    return np.frompyfunc(function, len(inputs), 1)(*inputs)


class Unary(Elementwise):
    """y[i] = f(x[i])"""

    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        return super().infer(x)


class Binary(Elementwise):
    """y[i] = f(a[i], b[i])"""

    def infer(self, a: TensorType, b: TensorType) -> TensorType:  # type: ignore[override]
        return super().infer(a, b)


class Comparison(Binary):
    """y[i] = whether a[i] and b[i] compare so"""

    result: ClassVar[DType | None] = DType.BOOL
    tolerance: ClassVar[Tolerance] = Tolerance()


class Variadic(Elementwise):
    """y[i] = f(a[i], b[i], c[i], ...) of one or more tensors"""


def _typed(value: float, x: Array) -> Any:
    return x.dtype.type(value)


def _floating(function: Any) -> Any:
    """A function of Python floats as a function of arrays, in the dtype of its argument."""
    elementwise = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(elementwise(x.astype(np.float64)), dtype=x.dtype)


# One argument -------------------------------------------------------------------------------------


@operator(since=13)
class Abs(Unary):
    """|x|"""

    dtypes: ClassVar[frozenset[DType]] = NUMBERS

    def reference(self, x: Array) -> Array:
        return np.abs(x)


@operator(since=13)
class Neg(Unary):
    """-x"""

    on_size: ClassVar[Any] = operators.neg

    dtypes: ClassVar[frozenset[DType]] = SIGNED

    def reference(self, x: Array) -> Array:
        return np.negative(x)


@operator(since=13)
class Sign(Unary):
    """-1, 0 or 1 as x is negative, zero or positive; NaN for NaN"""

    dtypes: ClassVar[frozenset[DType]] = NUMBERS

    def reference(self, x: Array) -> Array:
        return np.sign(x)


@operator(since=1)
class Not(Unary):
    """not x"""

    on_size: ClassVar[Any] = operators.not_

    dtypes: ClassVar[frozenset[DType]] = BOOL

    def reference(self, x: Array) -> Array:
        return np.logical_not(x)


@operator(since=18)
class BitwiseNot(Unary):
    """~x"""

    dtypes: ClassVar[frozenset[DType]] = INTEGERS

    def reference(self, x: Array) -> Array:
        return np.bitwise_not(x)


@operator(since=20)
class IsNaN(Unary):
    """whether x is not a number"""

    result: ClassVar[DType | None] = DType.BOOL

    def reference(self, x: Array) -> Array:
        return np.isnan(x)


@operator(since=20)
class IsInf(Unary):
    """whether x is infinite, of a sign that is asked for"""

    detect_negative: bool = True
    detect_positive: bool = True
    result: ClassVar[DType | None] = DType.BOOL

    def reference(self, x: Array) -> Array:
        wanted = np.where(x > 0, self.detect_positive, self.detect_negative)
        return np.asarray(np.isinf(x) & wanted)


@operator(domain="sofie")
class TrueLike(Unary):
    """true, in the shape of x: the mask of a Dropout that drops nothing"""

    dtypes: ClassVar[frozenset[DType]] = ALL
    result: ClassVar[DType | None] = DType.BOOL

    def functor(self) -> Functor:
        return Functor("sofie::TrueLike")

    def reference(self, x: Array) -> Array:
        return np.ones(x.shape, np.bool_)


@operator(since=13, ulp=2, header=ACTIVATIONS)
class Exp(Unary):
    """e^x"""

    def reference(self, x: Array) -> Array:
        return np.exp(x)


@operator(since=13, ulp=2, header=ACTIVATIONS)
class Log(Unary):
    """ln x; -inf at 0, NaN below"""

    def reference(self, x: Array) -> Array:
        return np.log(x)


@operator(since=13)
class Sqrt(Unary):
    """the square root of x; NaN below 0"""

    def reference(self, x: Array) -> Array:
        return np.sqrt(x)


@operator(since=13)
class Reciprocal(Unary):
    """1 / x"""

    def reference(self, x: Array) -> Array:
        return np.reciprocal(x)


@operator(since=13, ulp=4, header=NORMAL_DISTRIBUTION)
class Erf(Unary):
    """(2 / sqrt(pi)) * integral of e^(-t^2) from 0 to x"""

    def reference(self, x: Array) -> Array:
        return np.asarray(_floating(math.erf)(x))


@operator(since=13, ulp=4, header=ACTIVATIONS)
class Tanh(Unary):
    """(e^x - e^-x) / (e^x + e^-x)"""

    def reference(self, x: Array) -> Array:
        return np.tanh(x)


@operator(since=13, ulp=4, header=ACTIVATIONS)
class Sigmoid(Unary):
    """1 / (1 + e^-x)"""

    def reference(self, x: Array) -> Array:
        small = np.exp(-np.abs(x))
        return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


@operator(since=22, ulp=4, header=ACTIVATIONS)
class Softplus(Unary):
    """ln(1 + e^x)"""

    def reference(self, x: Array) -> Array:
        return np.asarray(np.logaddexp(x, _typed(0, x)))


@operator(since=22, ulp=4, header=FUNCTIONS)
class Sin(Unary):
    """sin x, x in radians"""

    def reference(self, x: Array) -> Array:
        return np.sin(x)


@operator(since=22, ulp=4, header=FUNCTIONS)
class Cos(Unary):
    """cos x, x in radians"""

    def reference(self, x: Array) -> Array:
        return np.cos(x)


@operator(since=22, ulp=4, header=FUNCTIONS)
class Tan(Unary):
    """tan x, x in radians"""

    def reference(self, x: Array) -> Array:
        return np.tan(x)


@operator(since=22, ulp=4, header=FUNCTIONS)
class Asin(Unary):
    """the angle in [-pi/2, pi/2] whose sine is x; NaN outside [-1, 1]"""

    def reference(self, x: Array) -> Array:
        return np.arcsin(x)


@operator(since=22, ulp=4, header=FUNCTIONS)
class Acos(Unary):
    """the angle in [0, pi] whose cosine is x; NaN outside [-1, 1]"""

    def reference(self, x: Array) -> Array:
        return np.arccos(x)


@operator(since=22, ulp=4, header=FUNCTIONS)
class Atan(Unary):
    """the angle in [-pi/2, pi/2] whose tangent is x"""

    def reference(self, x: Array) -> Array:
        return np.arctan(x)


@operator(since=22, ulp=4, header=FUNCTIONS)
class Sinh(Unary):
    """(e^x - e^-x) / 2"""

    def reference(self, x: Array) -> Array:
        return np.sinh(x)


@operator(since=22, ulp=4, header=FUNCTIONS)
class Cosh(Unary):
    """(e^x + e^-x) / 2"""

    def reference(self, x: Array) -> Array:
        return np.cosh(x)


@operator(since=22, ulp=4, header=FUNCTIONS)
class Asinh(Unary):
    """the x of which sinh is taken"""

    def reference(self, x: Array) -> Array:
        return np.arcsinh(x)


@operator(since=22, ulp=4, header=FUNCTIONS)
class Acosh(Unary):
    """the x >= 0 of which cosh is taken; NaN below 1"""

    def reference(self, x: Array) -> Array:
        return np.arccosh(x)


@operator(since=22, ulp=4, header=FUNCTIONS)
class Atanh(Unary):
    """the x of which tanh is taken; NaN outside [-1, 1]"""

    def reference(self, x: Array) -> Array:
        return np.arctanh(x)


@operator(since=13)
class Floor(Unary):
    """the largest integer not above x"""

    def reference(self, x: Array) -> Array:
        return np.floor(x)


@operator(since=13)
class Ceil(Unary):
    """the smallest integer not below x"""

    def reference(self, x: Array) -> Array:
        return np.ceil(x)


@operator(since=22)
class Round(Unary):
    """the nearest integer; halves go to the even one"""

    def reference(self, x: Array) -> Array:
        return np.rint(x)


@operator(since=14)
class Relu(Unary):
    """max(x, 0)"""

    dtypes: ClassVar[frozenset[DType]] = SIGNED

    def reference(self, x: Array) -> Array:
        return np.where(x < 0, _typed(0, x), x)


@operator(since=16, ulp=2)
class LeakyRelu(Unary):
    """x if x >= 0 else alpha * x"""

    alpha: float = 0.01

    def reference(self, x: Array) -> Array:
        return np.where(x < 0, _typed(self.alpha, x) * x, x)


@operator(since=22)
class ThresholdedRelu(Unary):
    """x if x > alpha else 0"""

    alpha: float = 1.0

    def reference(self, x: Array) -> Array:
        return np.where(x <= _typed(self.alpha, x), _typed(0, x), x)


@operator(since=22, ulp=4, header=ACTIVATIONS)
class Elu(Unary):
    """x if x >= 0 else alpha * (e^x - 1)"""

    alpha: float = 1.0

    def reference(self, x: Array) -> Array:
        return np.where(x < 0, _typed(self.alpha, x) * np.expm1(x), x)


@operator(since=12, ulp=4, header=ACTIVATIONS)
class Celu(Unary):
    """x if x >= 0 else alpha * (e^(x / alpha) - 1)"""

    alpha: float = 1.0

    def reference(self, x: Array) -> Array:
        alpha = _typed(self.alpha, x)
        return np.where(x < 0, alpha * np.expm1(x / alpha), x)


@operator(since=22, ulp=4, header=ACTIVATIONS)
class Selu(Unary):
    """gamma * (x if x >= 0 else alpha * (e^x - 1))"""

    alpha: float = 1.67326319217681884765625
    gamma: float = 1.05070102214813232421875

    def reference(self, x: Array) -> Array:
        alpha, gamma = _typed(self.alpha, x), _typed(self.gamma, x)
        return np.asarray(gamma * np.where(x < 0, alpha * np.expm1(x), x))


@operator(since=22, terms=1)
class HardSigmoid(Unary):
    """max(0, min(1, alpha * x + beta))"""

    alpha: float = 0.2
    beta: float = 0.5

    def reference(self, x: Array) -> Array:
        line = _typed(self.alpha, x) * x + _typed(self.beta, x)
        return np.asarray(np.clip(line, 0, 1).astype(x.dtype))


@operator(since=22, ulp=1, terms=1)
class HardSwish(Unary):
    """x * max(0, min(1, x / 6 + 1/2))"""

    def reference(self, x: Array) -> Array:
        return np.asarray(x * HardSigmoid(1 / 6, 0.5).reference(x))


@operator(since=24, ulp=4, header=ACTIVATIONS)
class Swish(Unary):
    """x / (1 + e^(-alpha * x))"""

    alpha: float = 1.0

    def reference(self, x: Array) -> Array:
        return np.asarray(x * Sigmoid().reference(_typed(self.alpha, x) * x))


@operator(since=22, ulp=8, header=ACTIVATIONS)
class Mish(Unary):
    """x * tanh(ln(1 + e^x))"""

    def reference(self, x: Array) -> Array:
        return np.asarray(x * np.tanh(Softplus().reference(x)))


@operator(since=20, ulp=8, header=NORMAL_DISTRIBUTION)
class Gelu(Unary):
    """x * (1 + erf(x / sqrt 2)) / 2

    With approximate="tanh": x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3))) / 2.
    """

    approximate: str = "none"

    def __post_init__(self) -> None:
        if self.approximate not in ("none", "tanh"):
            raise UnsupportedOperator(f"Gelu has no approximation {self.approximate!r}")

    def functor(self) -> Functor:
        return Functor("sofie::GeluTanh" if self.approximate == "tanh" else "sofie::Gelu")

    def inner_functor(self) -> Functor:
        # -0 where x < -13: the result would be -1e-37 or a denormal number, which is slow to read.
        return Functor("sofie::InnerGelu") if self.approximate == "none" else self.functor()

    def reference(self, x: Array) -> Array:
        if self.approximate == "none":
            erfc = _floating(math.erfc)(x * _typed(-math.sqrt(0.5), x))
            return np.asarray(_typed(0.5, x) * x * erfc)
        u = _typed(math.sqrt(2 / math.pi), x) * (x + _typed(0.044715, x) * (x * x * x))
        return np.asarray(x * Sigmoid().reference(u + u))


@operator(since=22, ulp=2)
class Softsign(Unary):
    """x / (1 + |x|)"""

    def reference(self, x: Array) -> Array:
        return np.asarray(x / (1 + np.abs(x)))


@operator(since=9)
class Shrink(Unary):
    """x + bias if x < -lambd; x - bias if x > lambd; else 0"""

    bias: float = 0.0
    lambd: float = 0.5
    dtypes: ClassVar[frozenset[DType]] = NUMBERS

    def functor(self) -> Functor:
        return Functor("sofie::Shrink", (self.lambd, self.bias))

    def reference(self, x: Array) -> Array:
        kind = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        wide, bias, lambd = x.astype(kind), kind.type(self.bias), kind.type(self.lambd)
        outside = np.where(wide < -lambd, wide + bias, np.where(wide > lambd, wide - bias, 0))
        return np.where(np.isnan(wide), wide, outside).astype(x.dtype)


# Two and more arguments ---------------------------------------------------------------------------


@operator(since=14)
class Add(Binary):
    """a + b"""

    on_size: ClassVar[Any] = operators.add

    def reference(self, a: Array, b: Array) -> Array:
        return np.add(a, b)


@operator(since=14)
class Sub(Binary):
    """a - b"""

    on_size: ClassVar[Any] = operators.sub

    def reference(self, a: Array, b: Array) -> Array:
        return np.subtract(a, b)


@operator(since=14)
class Mul(Binary):
    """a * b"""

    on_size: ClassVar[Any] = operators.mul

    def reference(self, a: Array, b: Array) -> Array:
        return np.multiply(a, b)


def _truncated(a: Array, b: Array) -> Array:
    """Integer a / b towards zero; 0 for b = 0."""
    safe = np.where(b == 0, _typed(1, b), b)
    quotient = np.asarray(np.floor_divide(a, safe))
    inexact = (quotient * safe != a) & ((a < 0) != (safe < 0))
    return np.where(b == 0, 0, quotient + inexact).astype(a.dtype)


@operator(since=14)
class Div(Binary):
    """a / b; of integers towards zero, and 0 for b = 0"""

    on_size: ClassVar[Any] = dims.quotient

    def reference(self, a: Array, b: Array) -> Array:
        return np.divide(a, b) if a.dtype.kind == "f" else _truncated(a, b)


@operator(since=13, header=FUNCTIONS)
class Mod(Binary):
    """a - b * floor(a / b); a - b * trunc(a / b) with fmod=1; of integers 0 for b = 0"""

    on_size: ClassVar[Any] = dims.remainder

    fmod: bool = False

    def reference(self, a: Array, b: Array) -> Array:
        if a.dtype.kind == "f":
            return np.asarray(np.fmod(a, b) if self.fmod else np.mod(a, b))
        safe = np.where(b == 0, _typed(1, b), b)
        rest = np.fmod(a, safe) if self.fmod else np.mod(a, safe)
        return np.where(b == 0, 0, rest).astype(a.dtype)


@operator(since=15, ulp=4, header=FUNCTIONS)
class Pow(Binary):
    """a to the power b, in the element type of a"""

    def accept(self, *inputs: TensorType) -> DType:
        for one in inputs:
            super().accept(one)
        return inputs[0].dtype

    def reference(self, a: Array, b: Array) -> Array:
        if a.dtype.kind == b.dtype.kind == "f":
            return np.power(a, b).astype(a.dtype)
        if a.dtype.kind == "f" or b.dtype.kind == "f":
            return np.power(a.astype(np.float64), b.astype(np.float64)).astype(a.dtype)
        # Modulo 2^64, of which the lowest bits are the result modulo any smaller power of 2.
        exponent = np.where(b < 0, _typed(0, b), b).astype(np.uint64)
        whole = np.power(a.astype(np.uint64), exponent).astype(a.dtype)
        signs = np.where(b % _typed(2, b) != 0, a, _typed(1, a))
        units = (a == 1) | (a == -1)
        return np.where(b < 0, np.where(units, signs, _typed(0, a)), whole)


@operator(since=28)
class BitShift(Binary):
    """a << b, or a >> b, which keeps the sign; for b outside of 0 ... bits - 1 no bit is left"""

    direction: str = "LEFT"
    dtypes: ClassVar[frozenset[DType]] = INTEGERS

    def __post_init__(self) -> None:
        if self.direction not in ("LEFT", "RIGHT"):
            raise UnsupportedOperator(f"BitShift has no direction {self.direction!r}")

    def functor(self) -> Functor:
        return Functor("sofie::BitShift", (self.direction == "LEFT",))

    def reference(self, a: Array, b: Array) -> Array:
        most = _typed(8 * a.dtype.itemsize - 1, b)
        beyond = (b < 0) | (b > most)
        if self.direction == "RIGHT" and a.dtype.kind == "i":
            return np.asarray(np.right_shift(a, np.where(beyond, most, b)))
        shift = np.left_shift if self.direction == "LEFT" else np.right_shift
        return np.where(beyond, _typed(0, a), shift(a, np.where(beyond, _typed(0, b), b)))


@operator(since=18)
class BitwiseAnd(Binary):
    """a & b"""

    dtypes: ClassVar[frozenset[DType]] = INTEGERS

    def reference(self, a: Array, b: Array) -> Array:
        return np.bitwise_and(a, b)


@operator(since=18)
class BitwiseOr(Binary):
    """a | b"""

    dtypes: ClassVar[frozenset[DType]] = INTEGERS

    def reference(self, a: Array, b: Array) -> Array:
        return np.bitwise_or(a, b)


@operator(since=18)
class BitwiseXor(Binary):
    """a ^ b"""

    dtypes: ClassVar[frozenset[DType]] = INTEGERS

    def reference(self, a: Array, b: Array) -> Array:
        return np.bitwise_xor(a, b)


@operator(since=7)
class And(Binary):
    """a and b"""

    on_size: ClassVar[Any] = operators.and_

    dtypes: ClassVar[frozenset[DType]] = BOOL

    def reference(self, a: Array, b: Array) -> Array:
        return np.logical_and(a, b)


@operator(since=7)
class Or(Binary):
    """a or b"""

    on_size: ClassVar[Any] = operators.or_

    dtypes: ClassVar[frozenset[DType]] = BOOL

    def reference(self, a: Array, b: Array) -> Array:
        return np.logical_or(a, b)


@operator(since=7)
class Xor(Binary):
    """a or b but not both"""

    dtypes: ClassVar[frozenset[DType]] = BOOL

    def reference(self, a: Array, b: Array) -> Array:
        return np.logical_xor(a, b)


@operator(since=19)
class Equal(Comparison):
    """a == b"""

    on_size: ClassVar[Any] = dims.equal

    dtypes: ClassVar[frozenset[DType]] = ALL

    def reference(self, a: Array, b: Array) -> Array:
        return np.equal(a, b)


@operator(since=13)
class Less(Comparison):
    """a < b"""

    on_size: ClassVar[Any] = dims.less

    def reference(self, a: Array, b: Array) -> Array:
        return np.less(a, b)


@operator(since=16)
class LessOrEqual(Comparison):
    """a <= b"""

    on_size: ClassVar[Any] = dims.less_or_equal

    def reference(self, a: Array, b: Array) -> Array:
        return np.less_equal(a, b)


@operator(since=13)
class Greater(Comparison):
    """a > b"""

    on_size: ClassVar[Any] = dims.greater

    def reference(self, a: Array, b: Array) -> Array:
        return np.greater(a, b)


@operator(since=16)
class GreaterOrEqual(Comparison):
    """a >= b"""

    on_size: ClassVar[Any] = dims.greater_or_equal

    def reference(self, a: Array, b: Array) -> Array:
        return np.greater_equal(a, b)


@operator(since=16)
class PRelu(Binary):
    """x if x >= 0 else slope * x"""

    dtypes: ClassVar[frozenset[DType]] = NUMBERS

    def reference(self, x: Array, slope: Array) -> Array:
        return np.where(x < 0, slope * x, x)


@operator(since=16)
class Where(Elementwise):
    """x where the condition holds, y elsewhere"""

    on_size: ClassVar[Any] = dims.choose

    moves: ClassVar[bool] = True
    dtypes: ClassVar[frozenset[DType]] = STORED
    tolerance: ClassVar[Tolerance] = Tolerance()

    def infer(  # type: ignore[override]
        self, condition: TensorType, x: TensorType, y: TensorType
    ) -> TensorType:
        if condition.dtype is not DType.BOOL:
            raise TypeMismatch(f"needs a bool condition, not {condition.dtype}")
        return TensorType(self.accept(x, y), broadcast((condition.shape, x.shape, y.shape)))

    def reference(self, condition: Array, x: Array, y: Array) -> Array:
        return np.where(condition, x, y)


@operator(since=13)
class Clip(Elementwise):
    """min(max(x, low), high) for the bounds that are given; high wins where they cross"""

    def infer(  # type: ignore[override]
        self, x: TensorType, low: TensorType | None = None, high: TensorType | None = None
    ) -> TensorType:
        bounds = [b for b in (low, high) if b is not None]
        if any(b.shape not in ((), (1,)) for b in bounds):
            raise TypeMismatch("needs bounds that are scalars")
        return TensorType(self.accept(x, *bounds), x.shape)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        low, high = (*inputs[1:], None, None)[:2]
        call = super().lower(inputs, outputs)
        name = "Clip" if low and high else "Max" if low else "Min" if high else "Identity"
        return Call(call.kernel, (Functor(f"sofie::{name}"), *call.arguments[1:]))

    def reference(self, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
        y = x if low is None else np.maximum(x, low.reshape(()))
        return y if high is None else np.minimum(y, high.reshape(()))


@operator(domain="sofie")
class Between(Unary):
    """min(max(x, low), high)"""

    low: float = -math.inf
    high: float = math.inf

    def reference(self, x: Array) -> Array:
        return np.asarray(np.minimum(np.maximum(x, _typed(self.low, x)), _typed(self.high, x)))


@operator(since=13)
class Max(Variadic):
    """the largest of all; NaN if any is"""

    on_size: ClassVar[Any] = dims.maximum

    def reference(self, *inputs: Array) -> Array:
        return np.asarray(reduce(np.maximum, inputs))


@operator(since=13)
class Min(Variadic):
    """the smallest of all; NaN if any is"""

    on_size: ClassVar[Any] = dims.minimum

    def reference(self, *inputs: Array) -> Array:
        return np.asarray(reduce(np.minimum, inputs))


@operator(since=13, terms=1)
class Sum(Variadic):
    """a + b + ..."""

    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def reference(self, *inputs: Array) -> Array:
        return np.asarray(reduce(np.add, inputs))


@operator(since=13, ulp=0.5, terms=1)
class Mean(Variadic):
    """(a + b + ...) / how many"""

    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def reference(self, *inputs: Array) -> Array:
        total = reduce(np.add, inputs)
        return np.asarray(total / total.dtype.type(len(inputs)))
