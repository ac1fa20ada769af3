"""Random numbers that are those of an event, whatever else is computed with it.

Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011)
turns a counter and a key into four words of 32 bits. Both come from a tensor ``rows``, uint64[N,
3], which says of each row of the batch what it is: the seed, the number of the event (its entry),
and the number of the object in the event. `sofie_rdf.ops.draws` puts it into a graph.

An operator draws the numbers 0, 1, 2, ... of a row, in row-major order, for all that is at the
row's place along ``axis``. An axis of -1: there are no rows, and everything belongs to the first
one. Of the number i in the row (s, e, o) the counter has the words (i mod 2^32, o mod 2^32, e mod
2^32, e / 2^32). The key is mixed(s + stream), its low word first, where

    stream = mixed(mixed(the seed attribute as a double's bits) + node + 1)

and mixed is the finalizer of SplitMix64, which is a bijection. ``node`` is the operator's number
among those of its model, so that no two of them have a key in common.

The uniform number i is u = floor((2^32 w0 + w1) / 2^11) / 2^53, the second one, v, the same of w2
and w3. Everything is computed in float64 and then rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf.errors import GraphError, ShapeError, TypeMismatch
from sofie_rdf.ir.dims import Dim, Undecided, equal, product
from sofie_rdf.ir.operator import Call, Functor, Operand, Operator, Tensor, operator
from sofie_rdf.ir.rows import COLUMNS
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.elementwise import FLOATS, NUMBERS

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


__all__ = [
    "Bernoulli",
    "Multinomial",
    "RandomDropout",
    "RandomNormal",
    "RandomNormalLike",
    "RandomOperator",
    "RandomUniform",
    "RandomUniformLike",
    "RowsOfRound",
    "philox",
]

_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
_ALL = 2**64 - 1
# 2^64 over the golden ratio: what SplitMix64 counts by.
_STEP = 0x9E3779B97F4A7C15


def philox(counter: Sequence[Array], key: Array) -> tuple[Array, Array, Array, Array]:
    """Four words of 32 bits, as uint64, for each counter of four such words and key of 64 bits."""
    a, b, c, d = (np.asarray(word, np.uint64) for word in counter)
    k0, k1 = np.asarray(key & _LOW), np.asarray(key >> _WORD)
    for _ in range(10):
        left, right = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, c = (right >> _WORD) ^ b ^ k0, (left >> _WORD) ^ d ^ k1
        b, d = right & _LOW, left & _LOW
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & _LOW, (k1 + np.uint64(0xBB67AE85)) & _LOW
    return a, b, c, d


def _mixed(x: Array) -> Array:
    """The finalizer of SplitMix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def _words(*numbers: int) -> Array:
    """Numbers modulo 2^64; as an array, since those wrap around without a warning."""
    return np.array([number & _ALL for number in numbers], np.uint64)


def _uniform(high: Array, low: Array) -> Array:
    return np.asarray(((high << _WORD | low) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _needed(rows: Any) -> Any:
    if rows is None:
        raise GraphError("does not know which rows it draws numbers for")
    return rows


def _require_rows(rows: TensorType) -> None:
    if rows.dtype is not DType.UINT64 or rows.rank != 2 or rows.shape[1] != COLUMNS:
        raise TypeMismatch(f"needs rows of uint64[N, {COLUMNS}], not {rows}")


class RandomOperator(Operator):
    """What all operators that draw numbers have in common; ``rows`` is their last input."""

    header: ClassVar[str] = "sofie/kernels/random.hxx"
    is_random: ClassVar[bool] = True
    seed: float
    # The number of the operator in its model; -1: nobody has counted.
    node: int
    # The axis of the rows in all that it reads and writes, which is as long as a multiple of their
    # number; -1: everything is the first row's.
    axis: int

    @classmethod
    def rows_at(cls) -> int:
        """Which of the inputs the rows are."""
        most = cls.arity()[1]
        assert most is not None
        return most - 1

    def rows_in(self, inputs: Sequence[Operand | None]) -> Operand | None:
        return inputs[self.rows_at()] if len(inputs) > self.rows_at() else None

    def checked(self, y: TensorType, rows: TensorType | None) -> TensorType:
        """The type of what is drawn, if it has the rows."""
        if rows is None:
            return y
        _require_rows(rows)
        if not -1 <= self.axis < y.rank:
            raise ShapeError(f"has its rows along axis {self.axis} of {y}")
        if self.axis >= 0 and not self._fits(y.shape, rows.shape[0]):
            raise ShapeError(f"has {rows.shape[0]} rows along axis {self.axis} of {y}")
        return y

    def _fits(self, shape: Shape, rows: Dim) -> bool:
        """Whether the axis is a multiple of the rows, whatever the sizes will be."""
        try:
            return equal(self._of_a_row(shape, rows)[0], shape[self.axis])
        except Undecided:
            return False

    def _of_a_row(self, shape: Shape, rows: Dim) -> tuple[Dim, Dim]:
        """As much of the axis as is a multiple of the rows, and the multiple."""
        times = shape[self.axis] // rows if rows != 0 else 0
        return times * rows, times

    def by_rows(self, y: Operand, rows: Operand) -> Tensor:
        """What is drawn, as rows with what stands before and behind them."""
        shape = y.type.shape
        if self.axis < 0:
            return Tensor(y, (1, 1, product(shape)))
        count = rows.type.shape[0]
        inner = self._of_a_row(shape, count)[1] * product(shape[self.axis + 1 :])
        return Tensor(y, (product(shape[: self.axis]), count, inner))

    @property
    def stream(self) -> int:
        """What distinguishes this operator from all others of its model."""
        attribute = int(np.float64(self.seed).view(np.uint64))
        return int(_mixed(_mixed(_words(attribute)) + _words(self.node + 1))[0])

    def call(self, kernel: str, laws: Sequence[Functor], y: Operand, rest: Sequence[Any]) -> Call:
        """The call of a kernel for these outputs and inputs, the last of which are the rows.

        What is no view yet is read element by element.
        """
        *others, rows = rest
        _needed(rows)
        stream = Functor("sofie::Stream", (self.stream & 0xFFFFFFFF, self.stream >> 32))
        views = [o if isinstance(o, Tensor) else _flat(o) for o in others]
        drawn = self.by_rows(y, rows)
        return Call(kernel, (stream, *laws, drawn, *views, Tensor(rows)))

    def uniforms(self, shape: Sequence[int], rows: Array | None) -> tuple[Array, Array]:
        """u and v of each element."""
        rows = _needed(rows)
        if self.axis < 0:
            # Without any row it is one of zeros.
            rows = np.concatenate([rows, np.zeros((1, COLUMNS), np.uint64)])[:1]
        outer = 1 if self.axis < 0 else math.prod(shape[: self.axis])
        inner = math.prod(shape) // max(1, outer * len(rows))
        before, row, behind = np.indices((outer, len(rows), inner), np.uint64, sparse=True)
        number = before * np.uint64(inner) + behind
        seed, entry, thing = rows.T[:, None, :, None]
        counter = np.broadcast_arrays(
            number & _LOW, thing & _LOW, entry & _LOW, entry >> _WORD, seed + row * np.uint64(0)
        )
        *words, seeds = counter
        a, b, c, d = philox(words, _mixed(seeds + _words(self.stream)))
        return _uniform(a, b).reshape(shape), _uniform(c, d).reshape(shape)


def _flat(operand: Operand) -> Tensor:
    return Tensor(operand, (operand.type.size,))


class _Independent(RandomOperator):
    """Each element is drawn by itself, by one law."""

    @property
    def law(self) -> Functor:
        """The function object that makes an element of u and v."""
        raise NotImplementedError

    def drawn(self, shape: Sequence[int], rows: Array | None) -> Array:
        """The same with NumPy, of all elements."""
        raise NotImplementedError

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        return self.call("sofie::draw", [self.law], outputs[0], [self.rows_in(inputs)])


class _Normal(_Independent):
    mean: float
    scale: float

    @property
    def law(self) -> Functor:
        return Functor("sofie::NormalLaw", (float(self.mean), float(self.scale)))

    def drawn(self, shape: Sequence[int], rows: Array | None) -> Array:
        u, v = self.uniforms(shape, rows)
        radius = np.sqrt(-2 * np.log1p(-u))
        return np.asarray(self.mean + self.scale * radius * np.cos(2 * np.pi * v))


class _Uniform(_Independent):
    low: float
    high: float

    @property
    def law(self) -> Functor:
        return Functor("sofie::UniformLaw", (float(self.low), float(self.high)))

    def drawn(self, shape: Sequence[int], rows: Array | None) -> Array:
        u, _ = self.uniforms(shape, rows)
        return np.asarray(self.low + (self.high - self.low) * u)


class _OfShape(_Independent):
    """The shape of what is drawn is an attribute."""

    shape: Shape
    dtype: DType

    def infer(self, rows: TensorType | None = None) -> TensorType:
        return self.checked(TensorType(_accept_float(self.dtype), self.shape), rows)

    def reference(self, rows: Array | None = None) -> Array:
        return _rounded(self.drawn(_known(self.shape), rows), self.dtype.numpy)


class _Like(_Independent):
    """The shape of what is drawn is that of an input."""

    dtype: DType | None

    def infer(self, x: TensorType, rows: TensorType | None = None) -> TensorType:
        return self.checked(TensorType(_accept_float(self.dtype or x.dtype), x.shape), rows)

    def reference(self, x: Array, rows: Array | None = None) -> Array:
        return _rounded(self.drawn(x.shape, rows), self.dtype.numpy if self.dtype else x.dtype)

    def pullback(self, back: Backward) -> None:
        """Only the shape of x matters."""


def _known(shape: Shape) -> list[int]:
    return [d for d in shape if isinstance(d, int)]


def _rounded(exact: Array, dtype: np.dtype[Any]) -> Array:
    """Half precision is computed in float32."""
    return np.asarray(exact.astype(np.float32) if dtype.itemsize == 2 else exact, dtype)


def _accept_float(dtype: DType) -> DType:
    if dtype not in FLOATS:
        raise TypeMismatch(f"does not give {dtype}")
    return dtype


@operator(since=22, ulp=4, terms=8)
class RandomNormal(_OfShape, _Normal):
    """y[i] = mean + scale * sqrt(-2 ln(1 - u[i])) * cos(2 pi v[i])"""

    shape: Shape
    dtype: DType = DType.FLOAT32
    mean: float = 0.0
    scale: float = 1.0
    seed: float = 0.0
    node: int = -1
    axis: int = -1


@operator(since=22, ulp=4, terms=8)
class RandomNormalLike(_Like, _Normal):
    """y[i] = mean + scale * sqrt(-2 ln(1 - u[i])) * cos(2 pi v[i]), in the shape of x"""

    dtype: DType | None = None
    mean: float = 0.0
    scale: float = 1.0
    seed: float = 0.0
    node: int = -1
    axis: int = -1


@operator(since=22, ulp=4, terms=4)
class RandomUniform(_OfShape, _Uniform):
    """y[i] = low + (high - low) * u[i], which is less than high"""

    shape: Shape
    dtype: DType = DType.FLOAT32
    low: float = 0.0
    high: float = 1.0
    seed: float = 0.0
    node: int = -1
    axis: int = -1


@operator(since=22, ulp=4, terms=4)
class RandomUniformLike(_Like, _Uniform):
    """y[i] = low + (high - low) * u[i], which is less than high, in the shape of x"""

    dtype: DType | None = None
    low: float = 0.0
    high: float = 1.0
    seed: float = 0.0
    node: int = -1
    axis: int = -1


@operator(since=22)
class Bernoulli(RandomOperator):
    """y[i] = 1 if u[i] < x[i], else 0: 1 with the probability x[i]"""

    dtype: DType | None = None
    seed: float = 0.0
    node: int = -1
    axis: int = -1

    def infer(self, x: TensorType, rows: TensorType | None = None) -> TensorType:
        result = self.dtype or x.dtype
        if x.dtype not in FLOATS or result not in NUMBERS | {DType.BOOL}:
            raise TypeMismatch(f"does not make {result} of {x.dtype}")
        return self.checked(TensorType(result, x.shape), rows)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, rows = inputs[0], self.rows_in(inputs)
        return self.call("sofie::bernoulli", [], outputs[0], [x, rows])

    def reference(self, x: Array, rows: Array | None = None) -> Array:
        u, _ = self.uniforms(x.shape, rows)
        return np.asarray(u < x).astype(self.dtype.numpy if self.dtype else x.dtype)

    def pullback(self, back: Backward) -> None:
        """It is constant between its steps, as torch has it."""


@operator(since=22)
class Multinomial(RandomOperator):
    """y[n, s] = the first class c where sum_k<=c e^x[n, k] > u[n, s] * sum_k e^x[n, k]"""

    dtype: DType = DType.INT32
    sample_size: int = 1
    seed: float = 0.0
    node: int = -1
    axis: int = -1

    def infer(self, x: TensorType, rows: TensorType | None = None) -> TensorType:
        if x.dtype not in FLOATS or self.dtype not in (DType.INT32, DType.INT64):
            raise TypeMismatch(f"does not draw {self.dtype} from {x.dtype}")
        if x.rank != 2 or x.shape[1] == 0 or self.sample_size < 0:
            raise ShapeError("draws a number of samples from x[n, classes]")
        return self.checked(TensorType(self.dtype, (x.shape[0], self.sample_size)), rows)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, rows = inputs[0], self.rows_in(inputs)
        assert x is not None
        return self.call("sofie::multinomial", [], outputs[0], [Tensor(x), rows])

    def reference(self, x: Array, rows: Array | None = None) -> Array:
        u, _ = self.uniforms((len(x), self.sample_size), rows)
        wide = x.astype(np.float64)
        grown = np.exp(wide - np.max(wide, axis=1, keepdims=True))
        below = np.cumsum(grown, axis=1)
        above = below[:, None, :] > (u * below[:, -1:])[:, :, None]
        last = np.where(np.any(above, axis=2), np.argmax(above, axis=2), x.shape[1] - 1)
        return np.asarray(last, self.dtype.numpy)


@operator(domain="sofie", ulp=2)
class RandomDropout(RandomOperator):
    """y[i] = x[i] / (1 - ratio) where u[i] >= ratio, else 0; and where; x itself unless training"""

    seed: float = 0.0
    node: int = -1
    axis: int = -1

    def infer(
        self,
        x: TensorType,
        ratio: TensorType,
        training: TensorType,
        rows: TensorType | None = None,
    ) -> tuple[TensorType, TensorType]:
        if x.dtype not in FLOATS or ratio.dtype != DType.FLOAT64 or training.dtype != DType.BOOL:
            raise TypeMismatch("needs floating-point x, a ratio of float64, and training as a bool")
        if ratio.size != 1 or training.size != 1:
            raise ShapeError("needs one ratio, and one answer to whether to train")
        return x, self.checked(TensorType(DType.BOOL, x.shape), rows)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        others = [outputs[1], *inputs[:3], self.rows_in(inputs)]
        found = self.call("sofie::random_dropout", [], outputs[0], others)
        return Call(found.kernel, found.arguments, outputs=2)

    def reference(
        self, x: Array, ratio: Array, training: Array, rows: Array | None = None
    ) -> tuple[Array, Array]:
        share = ratio.reshape(()).astype(np.float64)
        if not training.reshape(()) or share == 0:
            return x, np.ones(x.shape, bool)
        u, _ = self.uniforms(x.shape, rows)
        kept = np.asarray(u >= share)
        with np.errstate(divide="ignore"):
            scaled = x * x.dtype.type(1 / (1 - share))
        return np.where(kept, scaled, x.dtype.type(0)), kept

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        if len(back.outputs) < 2 or back.needs(1):
            super().pullback(back)
        # What is kept is all of x unless training.
        ratio, training = (back.input(i).reshape(()) for i in (1, 2))
        factor = training.choose(1 / (1 - ratio), 1).apply("Cast", to=back.x.dtype)
        return (back.outputs[1].choose(back.g * factor, 0),)


@operator(domain="sofie", header="sofie/kernels/random.hxx")
class RowsOfRound(Operator):
    """The rows of a round of a loop: the seed s is mixed(s + (number + 1) * 0x9E3779B97F4A7C15)"""

    def infer(self, rows: TensorType, number: TensorType) -> TensorType:
        _require_rows(rows)
        if number.dtype is not DType.INT64 or number.size != 1:
            raise TypeMismatch(f"needs the number of the round as an int64, not {number}")
        return rows

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        rows, number = inputs
        assert rows is not None and number is not None
        views = Tensor(outputs[0]), Tensor(rows), Tensor(number, (1,))
        return Call("sofie::rows_of_round", views)

    def reference(self, rows: Array, number: Array) -> Array:
        found = np.array(rows)
        step = _words(int(number.reshape(())) + 1) * _words(_STEP)
        found[:, 0] = _mixed(found[:, 0] + step)
        return found
