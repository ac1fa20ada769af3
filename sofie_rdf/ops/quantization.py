"""Quantisation: numbers as integers (or floats) of few bits, with a scale and a zero point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import Dim, ceil_div, product, require_equal
from sofie_rdf.ir.operator import (
    Argument,
    Call,
    Launch,
    Operand,
    Operator,
    Packed,
    Sizes,
    Struct,
    Tensor,
    flag,
    operator,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType, broadcast, normal_axis
from sofie_rdf.kernels.choice import Choice
from sofie_rdf.kernels.matmul import INTEGER_PRODUCTS, REQUANTIZED, SCALED, IntegerProblem
from sofie_rdf.ops._broadcast import collapse
from sofie_rdf.ops._device_quantized import (
    dequantized,
    extremes_of,
    integer_products,
    quantized,
    quantized_dynamically,
    requantized,
)
from sofie_rdf.ops._floats import NOTHING
from sofie_rdf.ops._formats import converted, is_integral, limits

HEADER = "sofie/kernels/quantization.hxx"

_FEW_BITS = frozenset(d for d in DType if d.is_storage and d is not DType.FLOAT8E8M0)
QUANTIZED = _FEW_BITS | {DType.INT8, DType.UINT8, DType.INT16, DType.UINT16}
BYTES = frozenset({DType.INT8, DType.UINT8})
FLOAT8 = frozenset(d for d in _FEW_BITS if d.value.startswith("float8"))
REAL = frozenset({DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16})
SCALES = REAL | {DType.FLOAT8E8M0}


def _require(dtype: DType, known: frozenset[DType], what: str) -> None:
    if dtype not in known:
        listed = ", ".join(d.value for d in DType if d in known)
        raise TypeMismatch(f"is not defined for {what} in {dtype}, only for {listed}")


# Scales for a tensor, for an axis, for blocks -----------------------------------------------------


class _Scaled(Operator):
    """What QuantizeLinear and DequantizeLinear have in common: how scales lie over a tensor."""

    header: ClassVar[str] = HEADER
    moves: ClassVar[bool] = True

    axis: int
    block_size: int

    def _check(self, x: TensorType, scale: TensorType, zero: TensorType | None) -> None:
        single = self._is_single(scale.shape)
        if zero is not None and not (single and self._is_single(zero.shape)):
            if zero.rank != scale.rank:
                raise ShapeError(f"has a scale {scale} and a zero point {zero} of other axes")
            for p, q in zip(scale.shape, zero.shape, strict=True):
                require_equal(p, q, f"has {p} scales, but {q} zero points")
        if single:
            return
        axis = normal_axis(self.axis, x.rank)
        if self._is_blocked(scale.shape):
            if scale.rank != x.rank or self.block_size < 1:
                raise ShapeError(f"needs as many axes of scales as {x} has, not {scale}")
            for i, (size, scales) in enumerate(zip(x.shape, scale.shape, strict=True)):
                wanted = ceil_div(size, self.block_size) if i == axis else size
                require_equal(wanted, scales, f"needs {wanted} scales along axis {i}, not {scales}")
        else:
            wanted, given = x.shape[axis], scale.shape[0]
            require_equal(wanted, given, f"needs {wanted} scales, not {given}")

    def _is_single(self, scale: Shape) -> bool:
        return not self.block_size and scale in ((), (1,))

    def _is_blocked(self, scale: Shape) -> bool:
        if not self.block_size and len(scale) > 1:
            raise ShapeError("needs a block_size for scales with more than one axis")
        return self.block_size != 0

    def _blocks(self, x: Shape, scale: Shape) -> tuple[bool, Sizes]:
        """Whether each element of an inner row has its scale, and what `sofie::Blocks` says."""
        if self._is_single(scale):
            return False, Sizes((1, 1, product(x), 1, 0))
        axis = normal_axis(self.axis, len(x))
        outer, length, inner = product(x[:axis]), x[axis], product(x[axis + 1 :])
        if not self._is_blocked(scale):
            # Along the last axis, all of a row have their own.
            shape = (outer, 1, length, 1, 0) if inner == 1 else (outer, length, inner, 1, 0)
            return inner == 1, Sizes(shape)
        scales = ceil_div(length, self.block_size) * inner
        return inner != 1, Sizes((outer, length, inner, self.block_size, scales))

    def _spread(self, scale: Array, x: Array) -> Array:
        """The scales in a shape that broadcasts to that of x."""
        if self._is_single(scale.shape):
            return scale.reshape(())
        axis = normal_axis(self.axis, x.ndim)
        if self._is_blocked(scale.shape):
            return np.repeat(scale, self.block_size, axis).take(range(x.shape[axis]), axis)
        return scale.reshape([-1 if i == axis else 1 for i in range(x.ndim)])

    def _views(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[bool, Sizes, Tensor, list[Tensor]]:
        x, scale = inputs[:2]
        assert x is not None and scale is not None
        each, blocks = self._blocks(x.type.shape, scale.type.shape)
        views = [Tensor(i, (i.type.size,)) for i in inputs if i is not None]
        return each, blocks, Tensor(outputs[0], (outputs[0].type.size,)), views


@operator(since=28, header=HEADER)
class QuantizeLinear(_Scaled):
    """y = saturate(round(x / scale) + zero_point)

    One scale for the tensor, for each position of ``axis``, or for each ``block_size`` of them.
    The division is in the type of the scale, or in ``precision``.
    """

    quantizes: ClassVar[bool] = True

    axis: int = 1
    saturate: bool = True
    block_size: int = 0
    output_dtype: DType | None = None
    precision: DType | None = None

    def infer(self, x: TensorType, scale: TensorType, zero: TensorType | None = None) -> TensorType:
        _require(x.dtype, REAL | {DType.INT32}, "numbers")
        _require(scale.dtype, SCALES | {DType.INT32}, "scales")
        dtype = self.output_dtype or (zero.dtype if zero is not None else DType.UINT8)
        if zero is not None and zero.dtype is not dtype:
            raise TypeMismatch(f"gives {dtype} with a zero point in {zero.dtype}")
        _require(dtype, QUANTIZED, "results")
        self._check(x, scale, zero)
        return x.reshaped(x.shape) if dtype is x.dtype else TensorType(dtype, x.shape)

    def _precision(self, scale: DType) -> DType:
        """The type in which it divides."""
        asked = self.precision or scale
        if asked is DType.INT32:
            return DType.FLOAT64
        return DType.FLOAT32 if asked is DType.FLOAT8E8M0 else asked

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        each, blocks, y, views = self._views(inputs, outputs)
        precision = self._precision(views[1].operand.type.dtype).cxx
        kernel = f"sofie::quantize<{'true' if each else 'false'}, {precision}>"
        return Call(kernel, (y, int(self.saturate), blocks, *views))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        x, scale = inputs[:2]
        assert x is not None and scale is not None
        blocks = self._blocks(x.type.shape, scale.type.shape)
        return quantized(outputs[0], inputs, blocks, self._precision(scale.type.dtype))

    def reference(self, x: Array, scale: Array, zero: Array | None = None) -> Array:
        precision = self._precision(DType.of(scale))
        dtype = self.output_dtype or (DType.UINT8 if zero is None else DType.of(zero))
        spread = converted(self._spread(scale, x), precision)
        quotient = _divided(converted(x, precision), spread)
        offset = np.zeros((), np.float32) if zero is None else self._spread(zero, x)
        return _quantized(quotient, offset, dtype, saturate=self.saturate)


def _divided(x: Array, y: Array) -> Array:
    """x / y, in half precision by way of float32, which is exact enough to round once more."""
    quotient = np.asarray(x.astype(np.float32) / y.astype(np.float32))
    if x.dtype == np.float64:
        quotient = np.asarray(x / y)
    return quotient.astype(x.dtype).astype(quotient.dtype)


def _quantized(x: Array, offset: Array, dtype: DType, *, saturate: bool = True) -> Array:
    """The nearest elements of this type to x + offset; integers are rounded before the sum."""
    if not is_integral(dtype):
        return converted(x + offset.astype(x.dtype), dtype, saturate=saturate)
    low, high = limits(dtype)
    rounded = np.rint(x.astype(np.float64)) + offset.astype(np.float64)
    clipped = np.clip(np.where(np.isnan(rounded), low, rounded), low, high)
    return converted(clipped.astype(np.int64), dtype)


@operator(since=28, header=HEADER)
class DequantizeLinear(_Scaled):
    """y = (x - zero_point) * scale

    One scale for the tensor, for each position of ``axis``, or for each ``block_size`` of them.
    """

    axis: int = 1
    block_size: int = 0
    output_dtype: DType | None = None

    def infer(self, x: TensorType, scale: TensorType, zero: TensorType | None = None) -> TensorType:
        _require(x.dtype, QUANTIZED | {DType.INT32}, "quantised numbers")
        _require(scale.dtype, SCALES, "scales")
        dtype = self.output_dtype or scale.dtype
        _require(dtype, REAL, "results")
        if zero is not None and zero.dtype is not x.dtype:
            raise TypeMismatch(f"has a zero point in {zero.dtype} for numbers in {x.dtype}")
        self._check(x, scale, zero)
        return TensorType(dtype, x.shape)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        each, blocks, y, views = self._views(inputs, outputs)
        kernel = f"sofie::dequantize<{'true' if each else 'false'}>"
        return Call(kernel, (y, blocks, *views))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        x, scale = inputs[:2]
        assert x is not None and scale is not None
        return dequantized(outputs[0], inputs, self._blocks(x.type.shape, scale.type.shape))

    def reference(self, x: Array, scale: Array, zero: Array | None = None) -> Array:
        kind = np.int64 if is_integral(DType.of(x)) else np.float32
        number = x.astype(kind)
        if zero is not None:
            number = number - self._spread(zero, x).astype(kind)
        wide = self._spread(scale, x).astype(np.float32)
        # Differences of more than 32 bits wrap around.
        small = number.astype(np.int32) if kind is np.int64 else number
        result = np.asarray(small.astype(np.float32) * wide)
        return converted(result, self.output_dtype or DType.of(scale))


@operator(since=11, header=HEADER)
class DynamicQuantizeLinear(Operator):
    """scale = (max(x, 0) - min(x, 0)) / 255, and x quantised with it to 0 ... 255

    The outputs are y, the scale, and the zero point round(-min(x, 0) / scale).
    """

    quantizes: ClassVar[bool] = True

    moves: ClassVar[bool] = True
    is_rowwise: ClassVar[bool] = False
    writes_all: ClassVar[bool] = True

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType, TensorType]:
        _require(x.dtype, frozenset({DType.FLOAT32}), "numbers")
        one = TensorType(DType.FLOAT32, ()), TensorType(DType.UINT8, ())
        return TensorType(DType.UINT8, x.shape), *one

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        y, scale, zero = outputs
        size = (x.type.size,)
        views = Tensor(y, size), Tensor(scale, (1,)), Tensor(zero, (1,)), Tensor(x, size)
        return Call("sofie::dynamic_quantize", views, outputs=3)

    def device_workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        (x,) = inputs
        assert x is not None
        return (extremes_of(x),)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        return quantized_dynamically(x, outputs)

    def reference(self, x: Array) -> tuple[Array, Array, Array]:
        low = np.min(x, initial=0).astype(x.dtype)
        high = np.max(x, initial=0).astype(x.dtype)
        scale = np.asarray((high - low) / x.dtype.type(255))
        none = np.zeros((), np.uint8)
        zero = _quantized(np.asarray(0 - low / scale), none, DType.UINT8)
        return _quantized(np.asarray(x / scale), zero, DType.UINT8), scale, zero


# Matrix products ----------------------------------------------------------------------------------


def _as_matrices(a: Shape, b: Shape) -> tuple[Shape, Shape]:
    return (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b


def _product_shape(a: Shape, b: Shape) -> Shape:
    """The shape of numpy.matmul."""
    if not a or not b:
        raise ShapeError("does not multiply scalars")
    left, right = _as_matrices(a, b)
    require_equal(left[-1], right[-2], f"the inner sizes {left[-1]} and {right[-2]} differ")
    batch = broadcast((left[:-2], right[:-2]))
    rows = (left[-2],) if len(a) > 1 else ()
    columns = (right[-1],) if len(b) > 1 else ()
    return (*batch, *rows, *columns)


def _per_vector(one: TensorType, matrices: Shape, axis: int) -> tuple[Dim, Dim]:
    """How far apart the numbers of neighbouring matrices and of neighbouring vectors are.

    ``axis`` is that of the vectors in ``matrices``: -2 for rows, -1 for columns.
    """
    count = matrices[axis]
    if one.rank == 0 or all(d == 1 for d in one.shape):
        return 0, 0
    if one.rank == 1:
        require_equal(count, one.shape[0], f"needs {count} numbers, not {one.shape[0]}")
        return 0, 1
    ones = {-1: (1, count), -2: (count, 1)}[axis]
    batch = matrices[:-2]
    if one.shape[-2:] != ones or one.shape[:-2] not in (batch, (1,) * len(batch)):
        wanted = ", ".join(map(str, (*batch, *ones)))
        raise ShapeError(f"needs one number, or [{wanted}] of them, not {one}")
    return (count if one.shape[:-2] == batch else 0), 1


def _batch_sizes(a: Shape, b: Shape) -> tuple[Sizes, Sizes, Sizes]:
    """The shape of the batch, and how far apart neighbouring matrices of a and b are."""
    outer, (p, q) = collapse(broadcast((a[:-2], b[:-2])), (a[:-2], b[:-2]))

    def strides(shape: Shape) -> Sizes:
        return Sizes(tuple(0 if d == 1 else product(shape[i + 1 :]) for i, d in enumerate(shape)))

    return Sizes(outer), strides(p), strides(q)


def _spread_over(number: Array, axis: int) -> Array:
    """One number, one for each row, or one for each column, so that it broadcasts to matrices."""
    if number.size == 1:
        return number.reshape(())
    return number[:, None] if number.ndim == 1 and axis == -2 else number


def _centred_product(a: Array, a_zero: Array, b: Array, b_zero: Array) -> Array:
    """The products of a and b, of which vectors are matrices, less their zero points."""
    left, right = _as_matrices(a.shape, b.shape)
    less_a, less_b = _spread_over(a_zero, -2), _spread_over(b_zero, -1)
    rows = a.reshape(left) - less_a.astype(a.dtype)
    return np.asarray(np.matmul(rows, b.reshape(right) - less_b.astype(b.dtype)))


class _QuantizedProduct(Operator):
    header: ClassVar[str] = HEADER

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        a, b = self._factors(inputs)
        left, right = _as_matrices(a.shape, b.shape)
        batch = product(broadcast((left[:-2], right[:-2])))
        return batch * left[-2] * left[-1] * right[-1]

    def _factors(self, inputs: Sequence[Any]) -> tuple[Any, Any]:
        raise NotImplementedError


def _integer_problem(
    types: Sequence[TensorType | None], *, constant: bool, then: str = ""
) -> IntegerProblem:
    """Of a, b and their zero points."""
    a, b, a_zero, b_zero = types
    assert a is not None and b is not None
    one_matrix = b.rank == 2 and (b_zero is None or b_zero.rank < 2)
    one_zero = a_zero is None or a_zero.size == 1
    rows, (depth, columns) = product(a.shape[:-1]), _as_matrices(a.shape, b.shape)[1][-2:]
    return IntegerProblem(rows, depth, columns, one_matrix, one_zero, constant, then)


def _rows_and_steps(a: TensorType) -> Sizes:
    return Sizes((product(a.shape[:-1]), a.shape[-1]))


@operator(since=10, header=HEADER)
class MatMulInteger(_QuantizedProduct):
    """y[..., m, n] = sum_k (a[..., m, k] - a_zero) * (b[..., k, n] - b_zero), in int32"""

    def infer(
        self,
        a: TensorType,
        b: TensorType,
        a_zero: TensorType | None = None,
        b_zero: TensorType | None = None,
    ) -> TensorType:
        for one, zero in ((a, a_zero), (b, b_zero)):
            _require(one.dtype, BYTES, "matrices")
            if zero is not None and zero.dtype is not one.dtype:
                raise TypeMismatch(f"has a zero point in {zero.dtype} for numbers in {one.dtype}")
        shape = _product_shape(a.shape, b.shape)
        left, right = _as_matrices(a.shape, b.shape)
        if a_zero is not None:
            _per_vector(a_zero, left, -2)
        if b_zero is not None:
            _per_vector(b_zero, right, -1)
        return TensorType(DType.INT32, shape)

    def _factors(self, inputs: Sequence[Any]) -> tuple[Any, Any]:
        return inputs[0], inputs[1]

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        a, b, a_zero, b_zero = (*inputs, None, None)[:4]
        assert a is not None and b is not None
        return _integer_problem((a, b, a_zero, b_zero), constant=True).scratch()

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        a, b, a_zero, b_zero = (*inputs, None, None)[:4]
        assert a is not None and b is not None
        types = a.type, b.type, *(None if z is None else z.type for z in (a_zero, b_zero))
        constant = b.constant and (b_zero is None or b_zero.constant)
        return INTEGER_PRODUCTS.choose(_integer_problem(types, constant=constant))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        a, b, a_zero, b_zero = (*inputs, None, None)[:4]
        assert a is not None and b is not None
        choice = self.choice(inputs, outputs)
        if choice.packed:
            sources = Tensor(b), *(() if b_zero is None else (_flat(b_zero),))
            weights = Packed(f"sofie::{choice.packed}", sources)
            zero = () if a_zero is None else (_flat(a_zero),)
            given = (*map(_flat, outputs), _flat(a), weights, _rows_and_steps(a.type), *zero)
            return Call(f"sofie::{choice.kernel}", given, outputs=2, header=choice.header)
        left, right = _as_matrices(a.type.shape, b.type.shape)
        sizes = (left[-2], left[-1], right[-1])
        of_a = _per_vector(a_zero.type, left, -2) if a_zero else (0, 0)
        of_b = _per_vector(b_zero.type, right, -1) if b_zero else (0, 0)
        zeros = [NOTHING if z is None else _flat(z) for z in (a_zero, b_zero)]
        views = _flat(outputs[0]), _flat(a), _flat(b)
        numbers = Sizes((*sizes, *of_a, *of_b)), *_batch_sizes(left, right)
        return Call(f"sofie::{choice.kernel}", (*views, *numbers, *zeros))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        a, b, a_zero, b_zero = (*inputs, None, None)[:4]
        assert a is not None and b is not None
        left, right = _as_matrices(a.type.shape, b.type.shape)
        of_a = _per_vector(a_zero.type, left, -2) if a_zero else (0, 0)
        of_b = _per_vector(b_zero.type, right, -1) if b_zero else (0, 0)
        sizes = left[-2], left[-1], right[-1]
        return integer_products(outputs[0], inputs, sizes, (of_a, of_b), _batch_sizes(left, right))

    def reference(
        self, a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None
    ) -> Array:
        none = np.zeros((), np.int32)
        zeros = none if a_zero is None else a_zero, none if b_zero is None else b_zero
        total = _centred_product(a.astype(np.int32), zeros[0], b.astype(np.int32), zeros[1])
        return total.reshape(_product_shape(a.shape, b.shape))


def _flat(operand: Operand) -> Tensor:
    return Tensor(operand, (operand.type.size,))


@operator(domain="sofie", header=HEADER)
class IntegerDense(_QuantizedProduct):
    """y[..., n] = float(sum_k (a[..., k] - a_zero) * (w[k, n] - w_zero[n])) * factor[n] + b[n]

    All but a, a_zero and the factor are constant. Numbers below zero become zero if ``relu``.
    """

    relu: bool = False

    def infer(
        self,
        a: TensorType,
        w: TensorType,
        a_zero: TensorType,
        w_zero: TensorType,
        factor: TensorType,
        b: TensorType,
    ) -> TensorType:
        shape = MatMulInteger().infer(a, w, a_zero, w_zero).shape
        if not a.rank or w.rank != 2 or a_zero.size != 1 or w_zero.rank > 1:
            raise ShapeError("needs a[..., k], w[k, n], and one zero point of a")
        for one, what in ((factor, "factors"), (b, "offsets")):
            _require(one.dtype, frozenset({DType.FLOAT32}), what)
        if b.shape != w.shape[1:] or factor.shape not in ((), (1,), b.shape):
            raise ShapeError(f"needs one factor or b[n] of them, not {factor} and {b}")
        return TensorType(DType.FLOAT32, shape)

    def _factors(self, inputs: Sequence[Any]) -> tuple[Any, Any]:
        return inputs[0], inputs[1]

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        return _integer_problem(inputs[:4], constant=True, then=SCALED).scratch()

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        types = [i.type for i in inputs if i is not None]
        constant = all(i is not None and i.constant for i in (inputs[1], inputs[3]))
        return INTEGER_PRODUCTS.choose(_integer_problem(types[:4], constant=constant, then=SCALED))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        choice = self.choice(inputs, outputs)
        a, w, a_zero, w_zero, factor, b = (_flat(i) for i in inputs if i is not None)
        weights = Packed(f"sofie::{choice.packed}", (Tensor(w.operand), w_zero))
        sizes = _rows_and_steps(a.operand.type)
        kernel = f"sofie::{choice.kernel}<{flag(self.relu)}>"
        results = tuple(map(_flat, outputs))
        given: tuple[Argument, ...] = (*results, a, weights, sizes, a_zero, factor, b)
        return Call(kernel, given, outputs=2, header=choice.header)

    def reference(
        self, a: Array, w: Array, a_zero: Array, w_zero: Array, factor: Array, b: Array
    ) -> Array:
        sums = MatMulInteger().reference(a, w, a_zero, w_zero).astype(np.float32)
        y = sums * factor + b
        return np.where(y < 0, np.float32(0), y) if self.relu else y


@operator(since=21, header=HEADER)
class QLinearMatMul(_QuantizedProduct):
    """y = saturate(round((a - a_zero) * a_scale @ (b - b_zero) * b_scale / y_scale) + y_zero)

    Scales and zero points are one number, or one for each row of a and each column of b.
    """

    moves: ClassVar[bool] = True

    def infer(
        self,
        a: TensorType,
        a_scale: TensorType,
        a_zero: TensorType,
        b: TensorType,
        b_scale: TensorType,
        b_zero: TensorType,
        y_scale: TensorType,
        y_zero: TensorType,
    ) -> TensorType:
        kind = BYTES if a.dtype in BYTES else FLOAT8
        _require(a.dtype, BYTES | FLOAT8, "matrices")
        _require(b.dtype, kind, "the other matrix")
        _require(y_zero.dtype, BYTES | FLOAT8, "results")
        scales = (a_scale, b_scale, y_scale)
        _require(a_scale.dtype, REAL, "scales")
        if any(s.dtype is not a_scale.dtype for s in scales):
            raise TypeMismatch("has scales of different types")
        for one, zero in ((a, a_zero), (b, b_zero)):
            if zero.dtype is not one.dtype:
                raise TypeMismatch(f"has a zero point in {zero.dtype} for numbers in {one.dtype}")
        if y_scale.size != 1 or y_zero.size != 1:
            raise ShapeError("needs one scale and one zero point of the result")
        shape = _product_shape(a.shape, b.shape)
        self._strides(a, a_scale, a_zero, b, b_scale, b_zero)
        return TensorType(y_zero.dtype, shape)

    def _factors(self, inputs: Sequence[Any]) -> tuple[Any, Any]:
        return inputs[0], inputs[3]

    def _strides(
        self,
        a: TensorType,
        a_scale: TensorType,
        a_zero: TensorType,
        b: TensorType,
        b_scale: TensorType,
        b_zero: TensorType,
    ) -> tuple[Dim, ...]:
        left, right = _as_matrices(a.shape, b.shape)
        zeros = *_per_vector(a_zero, left, -2), *_per_vector(b_zero, right, -1)
        return (*zeros, *_per_vector(a_scale, left, -2), *_per_vector(b_scale, right, -1))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        given = [i for i in inputs if i is not None]
        types = [i.type for i in given]
        left, right = _as_matrices(types[0].shape, types[3].shape)
        choice = self.choice(inputs, outputs)
        if choice.packed:
            a, a_scale, a_zero, b, b_scale, b_zero, *of_y = given
            weights = Packed(f"sofie::{choice.packed}", (Tensor(b), _flat(b_zero)))
            numbers = map(_flat, (a, a_scale, a_zero, b_scale, *of_y))
            sizes = _rows_and_steps(a.type)
            results = tuple(map(_flat, outputs))
            read: tuple[Argument, ...] = (*results, weights, sizes, *numbers)
            return Call(f"sofie::{choice.kernel}", read, 2, choice.header)
        sizes = Sizes((left[-2], left[-1], right[-1], *self._strides(*types[:6])))
        three = (outputs[0], *given[6:]), given[:3], given[3:6]
        tensors = (Struct("sofie::Quantized", tuple(map(_flat, each))) for each in three)
        return Call(f"sofie::{choice.kernel}", (*tensors, sizes, *_batch_sizes(left, right)))

    def _problem(self, types: Sequence[TensorType], *, constant: bool) -> IntegerProblem:
        a, a_scale, a_zero, b, b_scale, b_zero, _, y_zero = types
        found = _integer_problem((a, b, a_zero, b_zero), constant=constant, then=REQUANTIZED)
        return found._replace(
            one_matrix=found.one_matrix and b_scale.rank < 2,
            one_zero=found.one_zero and a_scale.size == 1,
            bytes=all(t.dtype in BYTES for t in (a, b, y_zero)),
        )

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        given = [i for i in inputs if i is not None]
        constant = given[3].constant and given[5].constant
        return INTEGER_PRODUCTS.choose(self._problem([i.type for i in given], constant=constant))

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        return self._problem([t for t in inputs if t is not None], constant=True).scratch()

    def device_workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        types = [t for t in inputs if t is not None]
        return (TensorType(DType.INT32, self.infer(*types).shape),)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        a, a_scale, a_zero, b, b_scale, b_zero, *rest = (i for i in inputs if i is not None)
        y, sums = outputs
        left, right = _as_matrices(a.type.shape, b.type.shape)
        zeros = _per_vector(a_zero.type, left, -2), _per_vector(b_zero.type, right, -1)
        sizes = left[-2], left[-1], right[-1]
        products = integer_products(
            sums, (a, b, a_zero, b_zero), sizes, zeros, _batch_sizes(left, right)
        )
        shape = (*broadcast((left[:-2], right[:-2])), left[-2], right[-1])
        of_a, of_b = a_scale.type.shape, b_scale.type.shape
        shapes = shape, (*of_a, 1) if len(of_a) == 1 else of_a, of_b, ()
        scales = (a_scale, b_scale, *rest)
        return (*products, *requantized(y, sums, scales, shapes, DType.FLOAT64))

    def reference(self, *inputs: Array) -> Array:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
        whole = is_integral(DType.of(a))
        kind = np.int32 if whole else np.float32
        total = _centred_product(a.astype(kind), a_zero.astype(kind), b.astype(kind), b_zero)
        real = np.float32
        factor = _spread_over(a_scale.astype(real), -2) * _spread_over(b_scale.astype(real), -1)
        scaled = total.astype(np.float64 if whole else real) * (
            factor / y_scale.astype(real).reshape(())
        )
        quantized = _quantized(np.asarray(scaled), y_zero.reshape(()), DType.of(y_zero))
        return quantized.reshape(_product_shape(a.shape, b.shape))
