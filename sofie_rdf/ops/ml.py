"""What classical models need beside linear algebra: ai.onnx.ml, and n-grams."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import GraphError, ShapeError, TypeMismatch
from sofie_rdf.ir.dims import Dim, product, require_equal
from sofie_rdf.ir.operator import Call, Functor, Operand, Operator, Tensor, operator
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops.elementwise import FLOATS, Unary

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value

__all__ = [
    "Categories",
    "Labels",
    "Lookup",
    "NGrams",
    "Normalizer",
    "PairwiseProbabilities",
    "PairwiseVotes",
    "Probit",
    "SoftmaxZero",
    "SquaredDistances",
    "TwoScores",
]


class _Ml(Operator):
    header: ClassVar[str] = "sofie/kernels/ml.hxx"


def _accept(x: TensorType, rank: int | None = None) -> None:
    if x.dtype not in FLOATS:
        raise TypeMismatch(f"is not defined for {x.dtype}")
    if rank is not None and x.rank != rank:
        raise ShapeError(f"needs {rank} axes, not {x.rank}")


def _tensors(*operands: Operand | None) -> tuple[Tensor, ...]:
    return tuple(Tensor(o) for o in operands if o is not None)


def _rows(operand: Operand) -> Tensor:
    """A tensor as a matrix of its last axis."""
    return Tensor(operand, _as_rows(operand.type.shape))


def _as_rows(shape: Shape) -> Shape:
    return product(shape[:-1]), shape[-1] if shape else 1


def _numbers(x: Value) -> Value:
    """x, where NaN is less than all numbers."""
    return x.apply("IsNaN").choose(-math.inf, x)


def _choice(what: str, value: str, known: Sequence[str]) -> int:
    if value not in known:
        raise GraphError(f"does not know the {what} {value!r}")
    return list(known).index(value)


# Scores -------------------------------------------------------------------------------------------

# Below this a score counts as zero: what rounding leaves of sums that are none.
_ZERO = 1e-7


@operator(domain="sofie", ulp=8, terms=2)
class SoftmaxZero(_Ml):
    """softmax(x) along the last axis over what is not 0; 0 (|x| <= 1e-7) stays 0"""

    def infer(self, x: TensorType) -> TensorType:
        _accept(x)
        return x

    def reference(self, x: Array) -> Array:
        zero = np.abs(x) <= _ZERO
        most = np.max(np.where(zero, -np.inf, x), axis=-1, keepdims=True, initial=-np.inf)
        grown = np.where(zero, 0, np.exp(np.where(zero, 0, x - np.where(zero, 0, most))))
        total = np.sum(grown, axis=-1, keepdims=True)
        return np.asarray(np.where(zero, 0, grown / np.where(total == 0, 1, total)), x.dtype)

    def formula(self, x: Value) -> tuple[Value]:
        axes = (x.rank - 1,)
        zero = x.apply("Abs") <= _ZERO
        most = zero.choose(-math.inf, x).apply("ReduceMax", axes=axes)
        grown = zero.choose(0, (x - most).apply("Exp"))
        return (zero.choose(0, grown / grown.sum(axes)),)

    def pullback(self, back: Backward) -> Value:
        return back.y * (back.g - (back.g * back.y).sum([back.y.rank - 1]))


@operator(domain="sofie", header="sofie/kernels/ml.hxx", ulp=8)
class Probit(Unary):
    """the x for which a standard normal number is smaller than x with probability p"""

    def reference(self, x: Array) -> Array:
        quantile = np.frompyfunc(_quantile, 1, 1)
        return np.asarray(quantile(x.astype(np.float64)), dtype=x.dtype)

    def pullback(self, back: Backward) -> Value:
        # As torch.special.ndtri has it.
        return back.g * (back.y * back.y * 0.5).apply("Exp") * math.sqrt(2 * math.pi)

    # There is no such function on devices.
    on_device = Operator.on_device


def _quantile(p: float) -> float:
    if 0 < p < 1:
        return NormalDist().inv_cdf(p)
    return {0.0: -np.inf, 1.0: np.inf}.get(p, np.nan)


_FORMS = ("complement", "opposite", "logistic")


@operator(domain="sofie", ulp=4)
class TwoScores(_Ml):
    """(1 - x, x), (-x, x) or (1 / (1 + e^x), 1 / (1 + e^-x)): two scores from x[n, 1]"""

    form: str = "complement"

    def __post_init__(self) -> None:
        _choice("form", self.form, _FORMS)

    def infer(self, x: TensorType) -> TensorType:
        _accept(x, 2)
        require_equal(x.shape[1], 1)
        return TensorType(x.dtype, (x.shape[0], 2))

    def reference(self, x: Array) -> Array:
        first = {"complement": 1 - x, "opposite": -x}.get(self.form)
        if first is None:
            with np.errstate(over="ignore"):
                return np.concatenate([1 / (1 + np.exp(x)), 1 / (1 + np.exp(-x))], axis=1)
        return np.concatenate([first, x], axis=1)

    def formula(self, x: Value) -> tuple[Value]:
        first = 1 - x if self.form == "complement" else -x
        both = first.concat([x], axis=1)
        return (both.apply("Sigmoid") if self.form == "logistic" else both,)

    def pullback(self, back: Backward) -> Value:
        g = back.g.slice(1, 1, 2) - back.g.slice(1, 0, 1)
        if self.form != "logistic":
            return g
        return g * back.y.slice(1, 0, 1) * back.y.slice(1, 1, 2)


@operator(domain="sofie")
class Labels(_Ml):
    """labels[argmax x[n]], the first of equals; or labels[x[n, -1] > threshold] if ``binary``"""

    threshold: float = 0.0
    binary: bool = False
    is_stepwise: ClassVar[bool] = True

    def infer(self, x: TensorType, labels: TensorType) -> TensorType:
        _accept(x, 2)
        if labels.dtype != DType.INT64 or labels.rank != 1:
            raise TypeMismatch(f"needs a list of labels of int64, not {labels}")
        require_equal(labels.shape[0], 2 if self.binary else x.shape[1])
        if labels.shape[0] == 0 or x.shape[1] == 0:
            raise ShapeError("needs a class")
        return TensorType(DType.INT64, (x.shape[0],))

    def reference(self, x: Array, labels: Array) -> Array:
        if self.binary:
            return np.asarray(labels[(x[:, -1] > self.threshold).astype(np.int64)])
        return np.asarray(labels[np.argmax(np.where(np.isnan(x), -np.inf, x), axis=1)])

    def formula(self, x: Value, labels: Value) -> tuple[Value]:
        if self.binary:
            last = x.slice(1, x.shape[1] - 1, x.shape[1]).reshape(x.shape[:1])
            place = (last.cast(DType.FLOAT64) > self.threshold).cast(DType.INT64)
        else:
            place = _numbers(x).apply("ArgMax", axis=1, keepdims=False)
        return (labels.apply("Gather", place, axis=0),)


# Features -----------------------------------------------------------------------------------------

_NORMS = ("MAX", "L1", "L2")
_SIZES = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}


@operator(domain="sofie", ulp=4, terms=2)
class Normalizer(_Ml):
    """x / max x, x / sum |x| or x / sqrt(sum x^2) along the last axis; where that is 0, x"""

    norm: str = "MAX"

    def __post_init__(self) -> None:
        _choice("norm", self.norm, _NORMS)

    def infer(self, x: TensorType) -> TensorType:
        _accept(x)
        return x

    def reference(self, x: Array) -> Array:
        if self.norm == "MAX":
            size = np.fmax.reduce(x, axis=-1, keepdims=True, initial=-np.inf)
        elif self.norm == "L1":
            size = np.sum(np.abs(x), axis=-1, keepdims=True)
        else:
            size = np.sqrt(np.sum(x * x, axis=-1, keepdims=True))
        return np.asarray(x / np.where(size == 0, x.dtype.type(1), size))

    def formula(self, x: Value) -> tuple[Value]:
        numbers = _numbers(x) if self.norm == "MAX" else x
        size = numbers.apply(_SIZES[self.norm], axes=(x.rank - 1,))
        return (x / size.equals(0).choose(1, size),)


_KEYS = FLOATS | {DType.INT64, DType.INT32, DType.INT16}


@operator(domain="sofie")
class Lookup(_Ml):
    """values[i] where keys[i] = x, else the last of the values; keys ascend and NaN is the last"""

    def infer(self, x: TensorType, keys: TensorType, values: TensorType) -> TensorType:
        if x.dtype != keys.dtype or x.dtype not in _KEYS or values.dtype not in _KEYS:
            raise TypeMismatch(f"does not look up {x.dtype} among {keys.dtype}")
        if keys.rank != 1 or values.rank != 1:
            raise ShapeError("needs lists of keys and of values")
        require_equal(values.shape[0], keys.shape[0] + 1)
        return TensorType(values.dtype, x.shape)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, *lists = inputs
        assert x is not None
        flat = (Tensor(o, (o.type.size,)) for o in (outputs[0], x))
        return Call("sofie::lookup", (*flat, *_tensors(*lists)))

    def reference(self, x: Array, keys: Array, values: Array) -> Array:
        if not len(keys):
            return np.full(x.shape, values[-1])
        place = np.minimum(np.searchsorted(keys, x), len(keys) - 1)
        same = keys[place] == x
        if x.dtype.kind == "f":
            same |= np.isnan(keys[place]) & np.isnan(x)
        return np.asarray(np.where(same, values[place], values[-1]))


@operator(domain="sofie")
class Categories(_Ml):
    """y[..., i] = 1 where x = categories[i], else 0; others than these only if ``zeros``"""

    zeros: bool = True

    def infer(self, x: TensorType, categories: TensorType) -> TensorType:
        if x.dtype != DType.INT64 or categories.dtype != DType.INT64 or categories.rank != 1:
            raise TypeMismatch("needs numbers and categories of int64")
        return TensorType(DType.FLOAT32, (*x.shape, categories.shape[0]))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, categories = inputs
        assert x is not None and categories is not None
        y = Tensor(outputs[0], (x.type.size, categories.type.shape[0]))
        kernel = f"sofie::categories<{'true' if self.zeros else 'false'}>"
        return Call(kernel, (y, Tensor(x, (x.type.size,)), Tensor(categories)))

    def reference(self, x: Array, categories: Array) -> Array:
        same = x[..., None] == categories
        if not self.zeros and not np.all(np.any(same, axis=-1)):
            raise ValueError("a number is none of the categories")
        return np.asarray(same, np.float32)


# Support vectors ----------------------------------------------------------------------------------


@operator(domain="sofie", terms=2, ulp=1)
class SquaredDistances(_Ml):
    """y[n, s] = sum_k (x[n, k] - v[s, k])^2"""

    def infer(self, x: TensorType, v: TensorType) -> TensorType:
        _accept(x, 2)
        _accept(v, 2)
        if x.dtype != v.dtype:
            raise TypeMismatch(f"mixes {x.dtype} and {v.dtype}")
        require_equal(x.shape[1], v.shape[1])
        return TensorType(x.dtype, (x.shape[0], v.shape[0]))

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        x, v = inputs
        assert x is not None and v is not None
        return product(x.shape) * v.shape[0]

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        return Call("sofie::squared_distances", _tensors(*outputs, *inputs))

    def reference(self, x: Array, v: Array) -> Array:
        result = np.zeros((len(x), len(v)), x.dtype)
        for k in range(x.shape[1]):
            result += (x[:, k, None] - v[None, :, k]) ** 2
        return result

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        x, v, g = back.x, back.input(1), back.g
        apart = x.reshape((x.shape[0], 1, x.shape[1])) - v
        slopes = g.reshape((*g.shape, 1)) * apart * 2
        return slopes.sum([1], keep=False), -slopes.sum([0], keep=False)


def _pairs(classes: int) -> int:
    return classes * (classes - 1) // 2


class _Pairwise(_Ml):
    classes: int

    def __post_init__(self) -> None:
        if not 2 <= self.classes <= 1024:
            raise GraphError(f"compares {self.classes} classes in pairs")

    def accept(self, x: TensorType) -> None:
        _accept(x, 2)
        require_equal(x.shape[1], _pairs(self.classes))

    @property
    def sides(self) -> tuple[Array, Array]:
        """The two classes of each pair: (0, 1), (0, 2), ..., (1, 2), ..."""
        return np.triu_indices(self.classes, 1)


@operator(domain="sofie")
class PairwiseVotes(_Pairwise):
    """y[n, c]: how often class c wins: pair (i, j), i < j, is won by i if its score is > 0"""

    classes: int
    is_stepwise: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        self.accept(x)
        return TensorType(x.dtype, (x.shape[0], self.classes))

    def reference(self, x: Array) -> Array:
        votes = np.zeros((len(x), self.classes), x.dtype)
        for pair, (i, j) in enumerate(zip(*self.sides, strict=True)):
            votes[:, i] += x[:, pair] > 0
            votes[:, j] += ~(x[:, pair] > 0)
        return votes

    def formula(self, x: Value) -> tuple[Value]:
        limits.spend(bytes=16 * _pairs(self.classes), what="the pairs of classes")
        first, second = (x.tape.constant(side.astype(np.int64)) for side in self.sides)
        votes = x.tape.filled(0, TensorType(x.dtype, (x.shape[0], self.classes)))
        place = (x > 0).choose(first, second)
        return (votes.apply("ScatterElements", place, x.like(1), axis=1, reduction="add"),)


# The coupling ends after as many rounds, or when the probabilities are this near to being right.
_ROUNDS, _NEAR = 100, 0.005
_LEAST = 1e-7


@operator(domain="sofie", ulp=16, terms=16)
class PairwiseProbabilities(_Pairwise):
    """y[n, c]: class probabilities from r = 1 / (1 + e^(a x + b)) for each pair of classes

    The second method of Wu, Lin and Weng (2004): the p that minimises
    sum over pairs (r_ji p_i - r_ij p_j)^2, found in rounds over the classes.
    """

    classes: int

    def infer(self, x: TensorType, a: TensorType, b: TensorType) -> TensorType:
        self.accept(x)
        if any(t.dtype != x.dtype or t.shape != (_pairs(self.classes),) for t in (a, b)):
            raise TypeMismatch("needs a and b for each pair of classes, of the type of x")
        return TensorType(x.dtype, (x.shape[0], self.classes))

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:  # noqa: ARG002
        return (TensorType(DType.FLOAT64, (self.classes * (2 * self.classes + 2),)),)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        return Call("sofie::pairwise_probabilities", _tensors(*outputs, *inputs), outputs=2)

    def reference(self, x: Array, a: Array, b: Array) -> Array:
        count = self.classes
        i, j = self.sides
        r = np.zeros((len(x), count, count), np.longdouble)
        with np.errstate(over="ignore"):
            won = 1 / (1 + np.exp((a * x + b).astype(np.longdouble)))
        won = np.clip(won, _LEAST, 1 - np.longdouble(_LEAST))
        r[:, i, j], r[:, j, i] = won, 1 - won
        return np.asarray(_coupled(r, count), x.dtype)


def _coupled(r: Array, count: int) -> Array:
    """Probabilities from those of pairs; r[n, i, i] is 0."""
    q = -np.swapaxes(r, 1, 2) * r
    diagonal = np.sum(np.swapaxes(r, 1, 2) ** 2, axis=2)
    q[:, np.arange(count), np.arange(count)] = diagonal
    p = np.full(r.shape[:2], 1 / np.longdouble(count))
    going = np.ones(len(r), bool)
    for _ in range(max(_ROUNDS, count)):
        qp = np.einsum("nij,nj->ni", q, p)
        off = np.max(np.abs(qp - np.sum(p * qp, axis=1, keepdims=True)), axis=1, initial=0)
        going &= ~(off < _NEAR / count)
        if not going.any():
            break
        pqp = np.sum(p * qp, axis=1)
        for t in range(count):
            step = np.where(going, (pqp - qp[:, t]) / q[:, t, t], 0)
            p[:, t] += step
            pqp = (pqp + step * (step * q[:, t, t] + 2 * qp[:, t])) / (1 + step) ** 2
            qp = (qp + step[:, None] * q[:, t]) / (1 + step)[:, None]
            p /= (1 + step)[:, None]
    return p


# N-grams ------------------------------------------------------------------------------------------

_MODES = ("TF", "IDF", "TFIDF")


@operator(domain="sofie")
class NGrams(_Ml):
    """y[n, i]: how often n-gram number i occurs in x[n]; with IDF whether; times its weight

    The n-grams are rows of ``pool``: the length, the number of the output, and the tokens; those
    beyond its length are 0. With skips 0, 1, ... ``max_skip`` tokens may be between two of it.
    """

    outputs: int
    min_length: int
    max_length: int
    max_skip: int
    mode: str = "TF"

    def __post_init__(self) -> None:
        _choice("mode", self.mode, _MODES)
        if not 1 <= self.min_length <= self.max_length or self.max_skip < 0 or self.outputs < 0:
            raise GraphError("has lengths or skips that cannot be")

    def infer(self, x: TensorType, pool: TensorType, weights: TensorType) -> TensorType:
        if x.dtype != DType.INT64 or pool.dtype != DType.INT64 or weights.dtype != DType.FLOAT32:
            raise TypeMismatch("needs tokens of int64, and weights of float32")
        if x.rank not in (1, 2) or pool.rank != 2 or pool.shape[1] != self.max_length + 2:
            raise ShapeError(f"does not take {x} with a pool {pool}")
        require_equal(weights.shape[0], pool.shape[0])
        return TensorType(DType.FLOAT32, (*x.shape[:-1], self.outputs))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, *lists = inputs
        assert x is not None
        numbers = (self.min_length, self.max_length, self.max_skip, _MODES.index(self.mode))
        arguments = (Functor("sofie::NGramLimits", numbers), _rows(outputs[0]), _rows(x))
        return Call("sofie::n_grams", (*arguments, *_tensors(*lists)))

    def reference(self, x: Array, pool: Array, weights: Array) -> Array:
        rows = x.reshape(len(x) if x.ndim == 2 else 1, x.shape[-1])
        found = np.zeros((len(rows), self.outputs), np.float64)
        for gram, weight in zip(pool, weights, strict=True):
            length, place, tokens = int(gram[0]), int(gram[1]), gram[2:]
            if self.min_length <= length <= self.max_length:
                times = self._times(rows, tokens[:length])
                if self.mode == "IDF":
                    times = np.minimum(times, 1)
                found[:, place] += times * (1 if self.mode == "TF" else float(weight))
        return np.asarray(found.reshape(*x.shape[:-1], self.outputs), np.float32)

    def _times(self, rows: Array, tokens: Array) -> Any:
        """How often the tokens follow each other, at each distance that the skips allow."""
        skips = range(1 if len(tokens) == 1 else self.max_skip + 1)
        total = np.zeros(len(rows), np.int64)
        for distance in (s + 1 for s in skips):
            positions = rows.shape[1] - distance * (len(tokens) - 1)
            if positions > 0:
                same = np.ones((len(rows), positions), bool)
                for number, token in enumerate(tokens):
                    same &= rows[:, number * distance : number * distance + positions] == token
                total += np.sum(same, axis=1)
        return total
