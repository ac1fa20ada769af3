"""Matrix products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch, UnsupportedOperator
from sofie_rdf.ir.dims import Dim, number_of, product, require_equal
from sofie_rdf.ir.operator import (
    Argument,
    Call,
    Functor,
    Launch,
    Operand,
    Operator,
    Packed,
    Tensor,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType, broadcast
from sofie_rdf.kernels.choice import Choice
from sofie_rdf.kernels.dense import DENSE, DENSE_LAYERS, DenseProblem, LayersProblem
from sofie_rdf.kernels.matmul import GEMM, MATMUL, GemmProblem, MatMulProblem
from sofie_rdf.ops._broadcast import collapse
from sofie_rdf.ops._device import device_gemm, identity
from sofie_rdf.ops.elementwise import FLOATS, NUMBERS, Elementwise

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


class Linear(Operator):
    """A sum over products: sum_k a[..., k] * b[k, ...]."""

    header: ClassVar[str] = "sofie/kernels/dense.hxx"

    def accept(self, *types: TensorType) -> DType:
        dtype = require_same_dtype(*types)
        if dtype not in NUMBERS:
            raise TypeMismatch(f"is not defined for {dtype}")
        return dtype


def require_equal_inner(a: Dim, b: Dim) -> None:
    require_equal(a, b, f"the inner sizes {a} and {b} differ")


@operator(since=13, header="sofie/kernels/products.hxx", terms=2)
class MatMul(Linear):
    """y[..., m, n] = sum_k a[..., m, k] * b[..., k, n], as numpy.matmul"""

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        dtype = self.accept(a, b)
        if not a.rank or not b.rank:
            raise ShapeError("does not multiply scalars")
        left, right = _as_matrices(a.shape, b.shape)
        require_equal_inner(left[-1], right[-2])
        batch = broadcast((left[:-2], right[:-2]))
        rows = (left[-2],) if a.rank > 1 else ()
        columns = (right[-1],) if b.rank > 1 else ()
        return TensorType(dtype, (*batch, *rows, *columns))

    def reference(self, a: Array, b: Array) -> Array:
        return np.asarray(np.matmul(a, b))

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        a, b = inputs
        assert a is not None and b is not None
        left, right = _as_matrices(a.shape, b.shape)
        batch = product(broadcast((left[:-2], right[:-2])))
        return batch * left[-2] * left[-1] * right[-1]

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        a, b = inputs
        assert a is not None and b is not None
        _, right = _as_matrices(a.type.shape, b.type.shape)
        return MATMUL.choose(MatMulProblem(a.type.dtype, right[-1]))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        a, b = inputs
        assert a is not None and b is not None
        choice = self.choice(inputs, outputs)
        left, right = _as_matrices(a.type.shape, b.type.shape)
        batch = broadcast((left[:-2], right[:-2]))
        outer, (p, q) = collapse(batch, (left[:-2], right[:-2]))
        y = Tensor(outputs[0], (*outer, left[-2], right[-1]))
        operands = Tensor(a, (*p, *left[-2:])), Tensor(b, (*q, *right[-2:]))
        return Call(f"sofie::{choice.kernel}", (y, *operands), header=choice.header)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        a, b = inputs
        assert a is not None and b is not None
        left, right = _as_matrices(a.type.shape, b.type.shape)
        outer, (p, q) = collapse(broadcast((left[:-2], right[:-2])), (left[:-2], right[:-2]))
        rows = left[-2]
        if all(size == 1 for size in q):
            # One matrix for all: the batch is more rows.
            rows, outer, p, q = product((*p, rows)), (), (), ()
        sizes = rows, right[-1], left[-1]
        return device_gemm(identity(), outputs[0], (a, b), sizes, batch=(outer, p, q))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        a, b, g = back.x, back.input(1), back.g
        left, right = _as_matrices(a.shape, b.shape)
        rows, columns = left[-2:-1] if a.rank > 1 else (1,), right[-1:] if b.rank > 1 else (1,)
        outer = g.shape[: g.rank - (a.rank > 1) - (b.rank > 1)]
        g = g.reshape((*outer, *rows, *columns))
        x, w = a.reshape(left), b.reshape(right)
        by_a = g.matmul(w.turned) if back.needs(0) else None
        if back.needs(1) and w.rank == 2 < x.rank:
            # One product of tall matrices, and not the sum of many.
            x, g = (v.reshape((product(v.shape[:-1]), v.shape[-1])) for v in (x, g))
        by_b = x.turned.matmul(g) if back.needs(1) else None
        return (
            by_a and by_a.summed_to(left).reshape(a.shape),
            by_b and by_b.summed_to(right).reshape(b.shape),
        )


def _as_matrices(a: Shape, b: Shape) -> tuple[Shape, Shape]:
    return (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b


@operator(since=13, header="sofie/kernels/products.hxx", terms=2)
class Gemm(Linear):
    """y = alpha * op(a) @ op(b) + beta * c, where op transposes if transA, transB"""

    alpha: float = 1.0
    beta: float = 1.0
    transA: bool = False
    transB: bool = False

    def infer(self, a: TensorType, b: TensorType, c: TensorType | None = None) -> TensorType:
        dtype = self.accept(*(t for t in (a, b, c) if t is not None))
        if a.rank != 2 or b.rank != 2:
            raise ShapeError("multiplies matrices, which have two axes")
        (m, k), (rows, n) = self._oriented(a.shape, b.shape)
        require_equal_inner(k, rows)
        if c is not None and broadcast((c.shape, (m, n))) != (m, n):
            raise ShapeError(f"cannot broadcast {c} to [{m}, {n}]")
        return TensorType(dtype, (m, n))

    def _oriented(self, a: Shape, b: Shape) -> tuple[Shape, Shape]:
        return a[::-1] if self.transA else a, b[::-1] if self.transB else b

    def reference(self, a: Array, b: Array, c: Array | None = None) -> Array:
        left, right = a.T if self.transA else a, b.T if self.transB else b
        y = np.matmul(left, right)
        # Python's and C++'s conversion agree for the fractions that integers get.
        scaled = (y * self.alpha).astype(a.dtype) if self.alpha != 1 else y
        if c is None or self.beta == 0:
            return np.asarray(scaled)
        offset = (c * self.beta).astype(a.dtype) if self.beta != 1 else c
        return np.asarray(scaled + offset)

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        a, b = inputs[:2]
        assert a is not None and b is not None
        (m, k), (_, n) = self._oriented(a.shape, b.shape)
        return m * k * n

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        return GEMM.choose(GemmProblem((self.transA, self.transB)))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        a, b, c = (*inputs, None)[:3]
        assert a is not None and b is not None
        choice = self.choice(inputs, outputs)
        scale = Functor("sofie::GemmScale", (self.alpha, self.beta))
        arguments: list[Argument] = [scale, *map(Tensor, (outputs[0], a, b))]
        if c is not None and self.beta != 0:
            arguments.append(Tensor(c, (1,) * (2 - c.type.rank) + c.type.shape))
        return Call(f"sofie::{choice.kernel}", tuple(arguments), header=choice.header)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        a, b, c = (*inputs, None)[:3]
        assert a is not None and b is not None
        scaled = self.alpha != 1 or (self.beta != 1 and c is not None)
        if scaled and not a.type.dtype.is_float:
            raise UnsupportedOperator("Gemm scales no integers on devices")
        (m, k), (_, n) = self._oriented(a.type.shape, b.type.shape)
        if self.beta == 0:
            c = None
        return device_gemm(
            identity(),
            outputs[0],
            (a, b) if c is None else (a, b, c),
            (m, n, k),
            turned=(self.transA, self.transB),
            scale=(self.alpha, self.beta),
        )

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        a, b, g = back.x, back.input(1), back.g
        one, two = self.transA, self.transB
        by_a, by_b, by_c = None, None, None
        if back.needs(0):
            by_a = self._product(b, g, two, True) if one else self._product(g, b, False, not two)
        if back.needs(1):
            by_b = self._product(g, a, True, one) if two else self._product(a, g, not one, False)
        if back.needs(2):
            by_c = g if self.beta == 1 else g * self.beta
        return by_a, by_b, by_c

    def _product(self, a: Value, b: Value, turn_a: bool, turn_b: bool) -> Value:
        return a.through(Gemm(self.alpha, transA=turn_a, transB=turn_b), b)


@operator(domain="sofie")
class NoActivation(Elementwise):
    """x"""

    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        return super().infer(x)

    def functor(self) -> Functor:
        return Functor("sofie::Identity")

    def reference(self, x: Array) -> Array:
        return x

    def pullback(self, back: Backward) -> Value:
        return back.g


@operator(domain="sofie", terms=2, ulp=8)
class Dense(Linear):
    """y[..., n] = activation(sum_k x[..., k] * w[k, n] + b[n]) with constant w and b"""

    activation: Elementwise = NoActivation()

    def infer(self, x: TensorType, w: TensorType, b: TensorType) -> TensorType:
        dtype = self.accept(x, w, b)
        if dtype not in FLOATS:
            raise TypeMismatch(f"is not defined for {dtype}")
        if not x.rank or w.rank != 2 or b.shape != w.shape[1:]:
            raise ShapeError("needs x[..., k], w[k, n] and b[n]")
        require_equal_inner(x.shape[-1], w.shape[0])
        return TensorType(dtype, (*x.shape[:-1], w.shape[1]))

    def reference(self, x: Array, w: Array, b: Array) -> Array:
        return np.asarray(self.activation.reference(np.matmul(x, w) + b))

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        x, w = inputs[:2]
        assert x is not None and w is not None
        return product(x.shape) * w.shape[1]

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        x, w, _ = inputs
        assert x is not None and w is not None
        k, n = map(number_of, w.type.shape)
        return DENSE.choose(DenseProblem(x.type.dtype, product(x.type.shape[:-1]), k, n))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, w, b = inputs
        assert x is not None and w is not None and b is not None
        choice, (k, n) = self.choice(inputs, outputs), w.type.shape
        rows = product(x.type.shape[:-1])
        operands = Tensor(outputs[0], (rows, n)), Tensor(x, (rows, k))
        arguments = (self.activation.functor(), *operands, packed(choice.packed, w, b))
        return Call(f"sofie::{choice.kernel}", arguments, header=choice.header)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        x, w, b = inputs
        assert x is not None and w is not None and b is not None
        k, n = w.type.shape
        sizes = product(x.type.shape[:-1]), n, k
        return device_gemm(self.activation.functor(), outputs[0], (x, w, b), sizes)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        x, w, b = back.x, back.input(1), back.input(2)
        bent = replace(back, inputs=(x.matmul(w) + b,), needed=(True,))
        bent = replace(bent, node=replace(back.node, op=self.activation, inputs=("",)))
        g = self.activation.pullback(bent)
        assert not isinstance(g, tuple)
        if g is None:
            return None, None, None
        by_product = replace(back, slopes=(g,), inputs=(x, w), needed=back.needed[:2])
        return (*MatMul().pullback(by_product), g)


def packed(kind: str, w: Operand, b: Operand) -> Packed:
    """Weights and offsets as the kernel of a dense layer wants them, or wide ones in few bits."""
    k, n = w.type.shape
    wide = isinstance(n, int) and n >= _NARROW_COLUMNS and k != 0
    if w.type.dtype is not DType.FLOAT32 or not wide:
        return Packed(f"sofie::{kind}", (Tensor(w), Tensor(b)))
    narrow = f"sofie::NarrowWeights<{{}}, {k}, {n}>"
    return Packed(f"sofie::{kind}", (Tensor(w), Tensor(b)), narrow, _NARROW_HEADER)


# From how many columns on one row is summed up in one chain: 6 packs of 16.
_NARROW_COLUMNS, _NARROW_HEADER = 81, "sofie/kernels/dense/few_bits.hxx"

T = TypeVar("T")


@operator(domain="sofie", header="sofie/kernels/dense/layers.hxx", terms=2, ulp=8)
class DenseLayers(Linear):
    """y = f_n(... f_1(x @ w_1 + b_1) ... @ w_n + b_n): a few rows go through all layers together

    Only the last layer may have a single column, which is summed up in an order of its own.
    """

    activations: tuple[Elementwise, ...]
    dtypes: ClassVar[frozenset[DType]] = frozenset({DType.FLOAT32, DType.FLOAT64})

    def infer(self, x: TensorType, *parameters: TensorType) -> TensorType:
        count = len(self.activations)
        if not count or len(parameters) != 2 * count:
            raise ShapeError(f"needs x, and a matrix and an offset for each of {count} layers")
        if x.dtype not in self.dtypes:
            raise TypeMismatch(f"is not defined for {x.dtype}")
        for number, (dense, w, b) in enumerate(self.layers(parameters), 1):
            x = dense.infer(x, w, b)
            if number < count and x.shape[-1] in (0, 1):
                raise ShapeError(f"has {x.shape[-1]} columns before its last layer")
        return x

    def layers(self, parameters: Sequence[T]) -> Iterator[tuple[Dense, T, T]]:
        """Each layer as an operator, and its two parameters."""
        for activation, w, b in zip(
            self.activations, parameters[::2], parameters[1::2], strict=True
        ):
            yield Dense(activation), w, b

    def reference(self, x: Array, *parameters: Array) -> Array:
        for dense, w, b in self.layers(parameters):
            x = dense.reference(x, w, b)
        return x

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        x, *parameters = inputs
        assert x is not None
        rows = product(x.shape[:-1])
        return rows * sum(product(w.shape) for w in parameters[::2] if w is not None)

    def problem(self, inputs: Sequence[TensorType | None]) -> LayersProblem:
        x, *parameters = inputs
        assert x is not None
        columns = (w.shape[1] for w in parameters[::2] if w is not None)
        return LayersProblem(x.dtype, product(x.shape[:-1]), (x.shape[-1], *columns))

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        return DENSE_LAYERS.choose(self.problem([None if o is None else o.type for o in inputs]))

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        return DENSE_LAYERS.choose(self.problem(inputs)).scratch

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, *parameters = inputs
        y, scratch = outputs
        assert x is not None
        problem = self.problem([None if o is None else o.type for o in inputs])
        choice = DENSE_LAYERS.choose(problem)
        layers: list[Argument] = []
        for kind, (dense, w, b) in zip(problem.packed, self.layers(parameters), strict=True):
            assert w is not None and b is not None
            layers += [dense.activation.inner_functor(), packed(kind, w, b)]
        layers[-2] = self.activations[-1].functor()
        k, n = x.type.shape[-1], y.type.shape[-1]
        rows = problem.rows
        tensors = Tensor(y, (rows, n)), Tensor(scratch), Tensor(x, (rows, k))
        return Call(f"sofie::{choice.kernel}", (*tensors, *layers), 2, choice.header)
