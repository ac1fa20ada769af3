"""Element-wise operators: each is a formula, its function object is in the C++ header it names.

Those of one argument are in `activations`, and all of them are known here.
"""

from __future__ import annotations

import math
import operator as operators
from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf.errors import TypeMismatch, UnsupportedOperator
from sofie_rdf.ir import dims
from sofie_rdf.ir.operator import Call, Functor, Operand, Tolerance, operator
from sofie_rdf.ir.types import Array, DType, TensorType, broadcast
from sofie_rdf.ops._elementwise import (
    ACTIVATIONS,
    ALL,
    BOOL,
    FLOATS,
    FUNCTIONS,
    INTEGERS,
    NORMAL_DISTRIBUTION,
    NUMBERS,
    SIGNED,
    STORED,
    UNSIGNED,
    Binary,
    Comparison,
    Elementwise,
    Unary,
    Variadic,
    reduce_sizes,
    typed,
)
from sofie_rdf.ops.activations import (
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    BitwiseNot,
    Ceil,
    Celu,
    Cos,
    Cosh,
    Elu,
    Erf,
    Exp,
    Floor,
    Gelu,
    HardSigmoid,
    HardSwish,
    IsInf,
    IsNaN,
    LeakyRelu,
    Log,
    Mish,
    Neg,
    Not,
    Reciprocal,
    Relu,
    Round,
    Selu,
    Shrink,
    Sigmoid,
    Sign,
    Sin,
    Sinh,
    Softplus,
    Softsign,
    Sqrt,
    Swish,
    Tan,
    Tanh,
    ThresholdedRelu,
    TrueLike,
)
from sofie_rdf.ops.casts import Cast

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value

__all__ = [
    "ACTIVATIONS",
    "ALL",
    "BOOL",
    "FLOATS",
    "FUNCTIONS",
    "INTEGERS",
    "NORMAL_DISTRIBUTION",
    "NUMBERS",
    "SIGNED",
    "STORED",
    "UNSIGNED",
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Between",
    "Binary",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Comparison",
    "Cos",
    "Cosh",
    "Div",
    "Elementwise",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pow",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "TrueLike",
    "Unary",
    "Variadic",
    "Where",
    "Xor",
    "reduce_sizes",
]


@operator(since=14)
class Add(Binary):
    """a + b"""

    on_size: ClassVar[Any] = operators.add

    def reference(self, a: Array, b: Array) -> Array:
        return np.add(a, b)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return back.g, back.g


@operator(since=14)
class Sub(Binary):
    """a - b"""

    on_size: ClassVar[Any] = operators.sub

    def reference(self, a: Array, b: Array) -> Array:
        return np.subtract(a, b)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return back.g, -back.g if back.needs(1) else None


@operator(since=14)
class Mul(Binary):
    """a * b"""

    on_size: ClassVar[Any] = operators.mul

    def reference(self, a: Array, b: Array) -> Array:
        return np.multiply(a, b)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        a, b = back.x, back.input(1)
        return back.g * b if back.needs(0) else None, back.g * a if back.needs(1) else None


def _truncated(a: Array, b: Array) -> Array:
    """Integer a / b towards zero; 0 for b = 0."""
    safe = np.where(b == 0, typed(1, b), b)
    quotient = np.asarray(np.floor_divide(a, safe))
    inexact = (quotient * safe != a) & ((a < 0) != (safe < 0))
    return np.where(b == 0, 0, quotient + inexact).astype(a.dtype)


@operator(since=14)
class Div(Binary):
    """a / b; of integers towards zero, and 0 for b = 0"""

    on_size: ClassVar[Any] = dims.quotient

    def reference(self, a: Array, b: Array) -> Array:
        return np.divide(a, b) if a.dtype.kind == "f" else _truncated(a, b)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        b = back.input(1)
        if not back.needs(1):
            return back.g / b, None
        return back.g / b, -back.g * (back.x / b / b)


@operator(since=13, header=FUNCTIONS)
class Mod(Binary):
    """a - b * floor(a / b); a - b * trunc(a / b) with fmod=1; of integers 0 for b = 0"""

    on_size: ClassVar[Any] = dims.remainder

    fmod: bool = False

    def reference(self, a: Array, b: Array) -> Array:
        if a.dtype.kind == "f":
            return np.asarray(np.fmod(a, b) if self.fmod else np.mod(a, b))
        safe = np.where(b == 0, typed(1, b), b)
        rest = np.fmod(a, safe) if self.fmod else np.mod(a, safe)
        return np.where(b == 0, 0, rest).astype(a.dtype)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        if not back.needs(1):
            return back.g, None
        ratio = back.x / back.input(1)
        if not self.fmod:
            return back.g, -back.g * ratio.apply("Floor")
        # Towards zero.
        whole = ratio.apply("Sign") * ratio.apply("Abs").apply("Floor")
        return back.g, -back.g * whole


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
        exponent = np.where(b < 0, typed(0, b), b).astype(np.uint64)
        whole = np.power(a.astype(np.uint64), exponent).astype(a.dtype)
        signs = np.where(b % typed(2, b) != 0, a, typed(1, a))
        units = (a == 1) | (a == -1)
        return np.where(b < 0, np.where(units, signs, typed(0, a)), whole)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        a, b, g = back.x, back.input(1), back.g
        if b.dtype is not a.dtype:
            b = b.apply("Cast", to=a.dtype)
        by_a = (b.equals(0)).choose(0, g * (b * a.apply("Pow", b - 1)))
        if not back.needs(1):
            return by_a, None
        flat = a.equals(0) & (b >= 0)
        by_b = flat.choose(0, g * (back.y * a.apply("Log")))
        return by_a, by_b


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
        most = typed(8 * a.dtype.itemsize - 1, b)
        beyond = (b < 0) | (b > most)
        if self.direction == "RIGHT" and a.dtype.kind == "i":
            return np.asarray(np.right_shift(a, np.where(beyond, most, b)))
        shift = np.left_shift if self.direction == "LEFT" else np.right_shift
        return np.where(beyond, typed(0, a), shift(a, np.where(beyond, typed(0, b), b)))


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

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        x, slope, g = back.x, back.input(1), back.g
        above = x > 0
        by_slope = above.choose(0, g * x) if back.needs(1) else None
        return above.choose(g, g * slope), by_slope


@operator(domain="sofie")
class Gate(Binary):
    """0 where y <= 0, else g: what comes back through a ReLU whose result is y"""

    dtypes: ClassVar[frozenset[DType]] = frozenset({DType.FLOAT32, DType.FLOAT64})
    tolerance: ClassVar[Tolerance] = Tolerance()

    def reference(self, g: Array, y: Array) -> Array:
        return np.where(y <= 0, typed(0, g), g)


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

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        condition, g = back.x, back.g
        by_x = condition.choose(g, 0) if back.needs(1) else None
        return None, by_x, condition.choose(0, g) if back.needs(2) else None


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

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        x, low, high = back.x, back.optional(1), back.optional(2)
        by_x, by_low, by_high = back.g, None, None
        if low is not None:
            low = low.reshape(())
            by_x = (x >= low).choose(by_x, 0)
            if back.needs(1):
                by_low = (x < low).choose(back.g, 0)
                by_low = by_low if high is None else (low < high.reshape(())).choose(by_low, 0)
        if high is not None:
            high = high.reshape(())
            by_x = (x <= high).choose(by_x, 0)
            if back.needs(2):
                above = x > high if low is None else (x > high) | (high < low)
                by_high = above.choose(back.g, 0)
        return by_x, by_low, by_high


@operator(domain="sofie")
class Between(Unary):
    """min(max(x, low), high)"""

    low: float = -math.inf
    high: float = math.inf

    def reference(self, x: Array) -> Array:
        return np.asarray(np.minimum(np.maximum(x, typed(self.low, x)), typed(self.high, x)))

    def pullback(self, back: Backward) -> Value:
        g = back.g if self.low == -math.inf else (back.x >= self.low).choose(back.g, 0)
        return g if self.high == math.inf else (back.x <= self.high).choose(g, 0)


def _of_the_chosen(back: Backward, name: str) -> tuple[Value | None, ...]:
    """Two after two: to the one that was chosen, and to both by half where they are equal."""
    xs = [back.input(number) for number in range(len(back.inputs))]
    best = [xs[0]] if len(xs) > 1 else []
    for x in xs[1:-1]:
        best.append(best[-1].apply(name, x))
    found: list[Value | None] = []
    g = back.g
    for a, b in zip(best[::-1], xs[:0:-1], strict=True):
        tied = a.equals(b).choose(g * 0.5, g)
        below, above = (a < b, a > b) if name == "Max" else (a > b, a < b)
        found.append(above.choose(0, tied))
        g = below.choose(0, tied)
    return (g, *found[::-1])


@operator(since=13)
class Max(Variadic):
    """the largest of all; NaN if any is"""

    on_size: ClassVar[Any] = dims.maximum

    def reference(self, *inputs: Array) -> Array:
        return np.asarray(reduce(np.maximum, inputs))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return _of_the_chosen(back, "Max")


@operator(since=13)
class Min(Variadic):
    """the smallest of all; NaN if any is"""

    on_size: ClassVar[Any] = dims.minimum

    def reference(self, *inputs: Array) -> Array:
        return np.asarray(reduce(np.minimum, inputs))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return _of_the_chosen(back, "Min")


@operator(since=13, terms=1)
class Sum(Variadic):
    """a + b + ..."""

    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def reference(self, *inputs: Array) -> Array:
        return np.asarray(reduce(np.add, inputs))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return (back.g,) * len(back.inputs)


# A sum is rounded to its own spacing, which divided by n is up to twice the spacing of the mean.
@operator(since=13, ulp=0.5, terms=2)
class Mean(Variadic):
    """(a + b + ...) / how many"""

    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def reference(self, *inputs: Array) -> Array:
        total = reduce(np.add, inputs)
        return np.asarray(total / total.dtype.type(len(inputs)))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return (back.g / len(back.inputs),) * len(back.inputs)
