"""Reductions over axes: sums, products, extrema, norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import ShapeError, TypeMismatch, UnsupportedOperator
from sofie_rdf.ir.dims import UNKNOWN, Dim, maximum, minimum, product
from sofie_rdf.ir.operator import (
    Call,
    Functor,
    Launch,
    Operand,
    Operator,
    Sizes,
    Tensor,
    family,
    from_input,
    operator,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType, normal_axis
from sofie_rdf.kernels.choice import Choice
from sofie_rdf.kernels.reduction import REDUCTIONS, ReductionProblem
from sofie_rdf.ops._device_rows import reduced
from sofie_rdf.ops._unrolled import parts
from sofie_rdf.ops.elementwise import FLOATS

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


SUMMED = FLOATS | {DType.INT32, DType.INT64, DType.UINT32, DType.UINT64}
ORDERED = SUMMED | {DType.INT8, DType.UINT8, DType.BOOL}

Axes = tuple[int, ...]
O = TypeVar("O", bound=type[Operator])  # noqa: E741


def _twice(
    runtime: type[Operator],
    said: tuple[str, str],
    same: Sequence[str],
    *,
    since: int,
    ulp: float = 0.0,
    terms: float = 0.0,
) -> Callable[[O], O]:
    """`operator` for an operator over known axes, and for its form whose axes are computed.

    That is ``Runtime...``, of the class ``runtime``; these members are the ``same``, and ``said``
    is how docstrings go on behind the formula.
    """

    def register(cls: O) -> O:
        formula = (cls.__doc__ or "").partition(said[0])[0]
        members = {name: getattr(cls, name) for name in same}
        members |= {"__doc__": formula + said[1], "__module__": cls.__module__}
        made = type(f"Runtime{cls.__name__}", (runtime,), members)
        cls.runtime = operator(domain="sofie", ulp=ulp, terms=terms)(made)
        return operator(since=since, ulp=ulp, terms=terms)(cls)

    return register


class _Reduction(Operator):
    """What the form with known axes and the one with computed axes have in common."""

    header: ClassVar[str] = "sofie/kernels/reduction.hxx"
    dtypes: ClassVar[frozenset[DType]] = SUMMED
    keepdims: bool
    noop_with_empty_axes: bool

    @property
    def kernel(self) -> str:
        """The C++ class with the arithmetic."""
        return self.name.removeprefix("Runtime")

    def over(self, x: Array, axes: Axes) -> Array:
        """The meaning, with the axes that are reduced kept as axes of size 1."""
        raise NotImplementedError(self.name)

    def accept(self, x: TensorType) -> None:
        """`TypeMismatch` for an element type that the operator is not defined for."""
        if x.dtype not in self.dtypes:
            raise TypeMismatch(f"is not defined for {x.dtype}")

    def reduced(self, axes: Sequence[int] | None, rank: int) -> Axes:
        """The axes that are reduced, counted from the front."""
        if not axes:
            return () if self.noop_with_empty_axes else tuple(range(rank))
        normal = tuple(normal_axis(a, rank) for a in axes)
        if len(set(normal)) != len(normal):
            raise ShapeError(f"names an axis twice: {list(axes)}")
        return normal

    def evaluated(self, x: Array, axes: Sequence[int] | None) -> Array:
        """The meaning in NumPy."""
        reduced = self.reduced(axes, x.ndim)
        # A term of each element remains of a reduction over no axes: over a new one of size 1.
        y = self.over(x, reduced) if reduced else self.over(x[..., None], (-1,))[..., 0]
        return np.asarray(y if self.keepdims else np.squeeze(y, reduced))


def _mask(axes: Axes) -> int:
    return sum(1 << a for a in axes)


def _dynamic(shape: Shape) -> int:
    return _mask(tuple(i for i, d in enumerate(shape) if not isinstance(d, int)))


@family
class KnownReduction(_Reduction):
    """A reduction over axes that are known when the model is read."""

    axes: tuple[int, ...] | None = from_input(1, default=None)
    keepdims: bool = True
    noop_with_empty_axes: bool = False

    def infer(self, x: TensorType) -> TensorType:
        self.accept(x)
        axes = self.reduced(self.axes, x.rank)
        kept = (
            1 if i in axes else d for i, d in enumerate(x.shape) if self.keepdims or i not in axes
        )
        return TensorType(x.dtype, tuple(kept))

    def reference(self, x: Array) -> Array:
        return self.evaluated(x, self.axes)

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        (x,) = inputs
        assert x is not None
        axes = self.reduced(self.axes, x.type.rank)
        return REDUCTIONS.choose(ReductionProblem(x.type.dtype, self.kernel, x.type.shape, axes))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        choice = self.choice(inputs, outputs)
        flat = Tensor(outputs[0], (outputs[0].type.size,)), Tensor(x, (x.type.size,))
        mask = _mask(self.reduced(self.axes, x.type.rank))
        shape = x.type.shape
        arguments = (*flat, Sizes(shape), mask, _dynamic(shape))
        return Call(f"sofie::{choice.kernel}", arguments, header=choice.header)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        return reduced(outputs[0], x, self.kernel, self.reduced(self.axes, x.type.rank))

    def spread(self, back: Backward, value: Value) -> Value:
        """What has the shape of the result, for each element of x."""
        axes = self.reduced(self.axes, back.x.rank)
        kept = tuple(1 if i in axes else d for i, d in enumerate(back.x.shape))
        return value.reshape(kept).expand(back.x.shape)

    def shared(self, back: Backward) -> Value:
        """Of several largest elements all have the same share."""
        axes = self.reduced(self.axes, back.x.rank)
        is_one = back.x.equals(self.spread(back, back.y)).apply("Cast", to=back.x.dtype)
        share = is_one / is_one.sum(axes)
        return self.spread(back, back.g) * share


@family
class _Runtime(_Reduction):
    """A reduction over axes that are computed: with ``keepdims`` they decide all sizes."""

    decides_sizes: ClassVar[bool] = True
    keepdims: bool = True
    noop_with_empty_axes: bool = False

    def infer(self, x: TensorType, axes: TensorType) -> TensorType:
        self.accept(x)
        if axes.dtype is not DType.INT64:
            raise TypeMismatch(f"needs axes of type int64, not {axes.dtype}")
        if axes.rank != 1:
            raise ShapeError("needs a list of axes")
        return TensorType(x.dtype, self._shape(x.shape, axes.shape[0]))

    def _shape(self, shape: Shape, count: Dim) -> Shape:
        rank = len(shape)
        if count == 0 and self.noop_with_empty_axes:
            return shape
        if count in (0, rank):
            return (1,) * rank if self.keepdims else ()
        if self.keepdims:
            return (UNKNOWN,) * rank
        if not isinstance(count, int):
            raise ShapeError("needs a known number of axes, which decides how many remain")
        if count > rank:
            raise ShapeError(f"cannot reduce {count} axes of {rank}")
        return (UNKNOWN,) * (rank - count)

    def reference(self, x: Array, axes: Array) -> Array:
        return self.evaluated(x, tuple(axes.tolist()))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, axes = inputs
        assert x is not None and axes is not None
        keep = "true" if self.keepdims else "false"
        none_is_all = 0 if self.noop_with_empty_axes else 1
        shape = x.type.shape
        views = Tensor(outputs[0]), Tensor(x, (x.type.size,)), Tensor(axes)
        arguments = (*views, Sizes(shape), none_is_all, _dynamic(shape))
        return Call(f"sofie::reduce_runtime<sofie::{self.kernel}, {keep}>", arguments)


# What is computed ---------------------------------------------------------------------------------


def _sum(x: Array, axes: Axes) -> Array:
    kind = None if x.dtype == object else x.dtype
    return np.asarray(np.sum(x, axis=axes, keepdims=True, dtype=kind))


def _extremum(x: Array, axes: Axes, function: Any, of_sizes: Any, identity: Any) -> Array:
    if x.dtype != object:
        return np.asarray(function.reduce(x, axis=axes, keepdims=True, initial=identity))
    for axis in axes:
        x = np.asarray(np.frompyfunc(of_sizes, 2, 1).reduce(x, axis=axis, keepdims=True))
    return x


def _least(dtype: np.dtype[Any]) -> Any:
    """What is not above any number of this type."""
    if dtype.kind == "f":
        return -np.inf
    return False if dtype.kind == "b" else np.iinfo(dtype).min if dtype.kind in "iu" else None


def _largest(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "f":
        return np.inf
    return True if dtype.kind == "b" else np.iinfo(dtype).max if dtype.kind in "iu" else None


def _others(x: Value, axes: Axes) -> Value:
    """The product of all other elements, for each: zeros among them are no trouble."""
    if not axes:
        return x.like(1)
    order = (*(a for a in range(x.rank) if a not in axes), *axes)
    turned = x.transpose(order)
    flat = turned.reshape((*turned.shape[: -len(axes)], product(x.shape[a] for a in axes)))
    before = flat.through(CumProd(-1, exclusive=True))
    behind = flat.through(CumProd(-1, exclusive=True, reverse=True))
    found = (before * behind).reshape(turned.shape)
    return found.transpose([order.index(a) for a in range(x.rank)])


# The operators ------------------------------------------------------------------------------------

_reduction = partial(
    _twice,
    _Runtime,
    (" over the ", " over axes that are computed"),
    ("dtypes", "takes_sizes", "over"),
)


@_reduction(since=13, ulp=0.5, terms=1)
class ReduceSum(KnownReduction):
    """sum_i x[i] over the axes; 0 of nothing"""

    takes_sizes: ClassVar[bool] = True

    def over(self, x: Array, axes: Axes) -> Array:
        return _sum(x, axes)

    def pullback(self, back: Backward) -> Value:
        return self.spread(back, back.g)


@_reduction(since=18, ulp=1, terms=1)
class ReduceMean(KnownReduction):
    """sum_i x[i] / n over the n elements along the axes; of integers towards zero"""

    def over(self, x: Array, axes: Axes) -> Array:
        total = _sum(x, axes)
        count = int(np.prod([x.shape[a] for a in axes], dtype=np.int64))
        if x.dtype.kind == "f":
            return np.asarray(total / x.dtype.type(count))
        if not count:
            return np.zeros_like(total)
        # Towards zero. The magnitude as a number without sign, which the least number has, too.
        size = np.where(total < 0, np.negative(total), total).astype(f"u{x.dtype.itemsize}")
        quotient: Array = (size.astype(np.uint64) // np.uint64(count)).astype(x.dtype)
        return np.where(total < 0, np.negative(quotient), quotient).astype(x.dtype)

    def pullback(self, back: Backward) -> Value:
        axes, x = self.reduced(self.axes, back.x.rank), back.x
        count = product(x.shape[a] for a in axes)
        if isinstance(count, int):
            return self.spread(back, back.g / count)
        sizes = x.apply("Shape").apply("Gather", back.tape.constant(np.array(axes, np.int64)))
        number = sizes.apply("ReduceProd", keepdims=False).apply("Cast", to=x.dtype)
        return self.spread(back, back.g / number)


@_reduction(since=20)
class ReduceMax(KnownReduction):
    """max_i x[i] over the axes; NaN if any is, and the least number of the type of nothing"""

    takes_sizes: ClassVar[bool] = True
    dtypes: ClassVar[frozenset[DType]] = ORDERED

    def over(self, x: Array, axes: Axes) -> Array:
        return _extremum(x, axes, np.maximum, maximum, _least(x.dtype))

    def pullback(self, back: Backward) -> Value:
        return self.shared(back)


@_reduction(since=20)
class ReduceMin(KnownReduction):
    """min_i x[i] over the axes; NaN if any is, and the largest number of the type of nothing"""

    takes_sizes: ClassVar[bool] = True
    dtypes: ClassVar[frozenset[DType]] = ORDERED

    def over(self, x: Array, axes: Axes) -> Array:
        return _extremum(x, axes, np.minimum, minimum, _largest(x.dtype))

    def pullback(self, back: Backward) -> Value:
        return self.shared(back)


@_reduction(since=18, ulp=1, terms=1)
class ReduceProd(KnownReduction):
    """prod_i x[i] over the axes; 1 of nothing"""

    takes_sizes: ClassVar[bool] = True

    def over(self, x: Array, axes: Axes) -> Array:
        kind = None if x.dtype == object else x.dtype
        return np.asarray(np.prod(x, axis=axes, keepdims=True, dtype=kind))

    def pullback(self, back: Backward) -> Value:
        return self.spread(back, back.g) * _others(back.x, self.reduced(self.axes, back.x.rank))


@_reduction(since=18, ulp=0.5, terms=1)
class ReduceL1(KnownReduction):
    """sum_i |x[i]| over the axes"""

    def over(self, x: Array, axes: Axes) -> Array:
        return _sum(np.abs(x), axes)

    def pullback(self, back: Backward) -> Value:
        x, g = back.x, self.spread(back, back.g)
        return (x > 0).choose(g, (x < 0).choose(-g, 0))


@_reduction(since=18, ulp=2, terms=1)
class ReduceL2(KnownReduction):
    """sqrt(sum_i x[i]^2) over the axes; of integers towards zero"""

    def over(self, x: Array, axes: Axes) -> Array:
        wide = x if x.dtype.kind == "f" else x.astype(np.float64)
        most = np.max(np.abs(wide), axis=axes, keepdims=True, initial=0)
        scale = np.where((most > 0) & np.isfinite(most), most, most.dtype.type(1))
        norm = scale * np.sqrt(_sum(np.square(wide / scale), axes))
        if x.dtype.kind == "f":
            return np.asarray(norm)
        # A square root that is whole is so only if it is of the sum itself.
        norm = np.sqrt(_sum(np.square(wide), axes))
        highest = np.nextafter(2.0 ** (8 * x.dtype.itemsize - (x.dtype.kind == "i")), 0)
        return np.asarray(np.minimum(norm, highest)).astype(x.dtype)

    def pullback(self, back: Backward) -> Value:
        norm = self.spread(back, back.y)
        share = self.spread(back, back.g) * (back.x / norm)
        return norm.equals(0).choose(0, share)


@_reduction(since=18, ulp=1, terms=1)
class ReduceSumSquare(KnownReduction):
    """sum_i x[i]^2 over the axes"""

    def over(self, x: Array, axes: Axes) -> Array:
        return _sum(np.square(x), axes)

    def pullback(self, back: Backward) -> Value:
        return self.spread(back, back.g) * (2 * back.x)


@_reduction(since=28, ulp=4, terms=1)
class ReduceLogSum(KnownReduction):
    """ln sum_i x[i] over the axes"""

    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def over(self, x: Array, axes: Axes) -> Array:
        return np.asarray(np.log(_sum(x, axes)))

    def pullback(self, back: Backward) -> Value:
        total = back.x.through(ReduceSum(self.axes, self.keepdims, self.noop_with_empty_axes))
        return self.spread(back, back.g / total)


@_reduction(since=28, ulp=4, terms=2)
class ReduceLogSumExp(KnownReduction):
    """ln sum_i e^x[i] over the axes, as max x + ln sum_i e^(x[i] - max x)"""

    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def over(self, x: Array, axes: Axes) -> Array:
        most = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
        shift = np.where(np.isfinite(most), most, most.dtype.type(0))
        return np.asarray(np.log(_sum(np.exp(x - shift), axes)) + shift)

    def pullback(self, back: Backward) -> Value:
        return self.spread(back, back.g) * (back.x - self.spread(back, back.y)).apply("Exp")


# Along one axis -----------------------------------------------------------------------------------


class _Scan(Operator):
    """What stands before each element combined, along one axis."""

    header: ClassVar[str] = "sofie/kernels/reduction/scans.hxx"
    takes_sizes: ClassVar[bool] = True
    # The C++ class that combines two elements.
    combine: ClassVar[str]
    exclusive: bool
    reverse: bool

    def accept(self, x: TensorType) -> None:
        """`TypeMismatch` for an element type that the operator is not defined for."""
        if x.dtype not in SUMMED:
            raise TypeMismatch(f"is not defined for {x.dtype}")

    def along(self, x: Array, axis: int) -> Array:
        """The meaning in NumPy."""
        ordered = np.flip(x, axis) if self.reverse else x
        function: Any = np.cumsum if self.combine == "Total" else np.cumprod
        if self.exclusive:
            # One place further on, behind the result of no elements.
            ordered = np.roll(ordered, 1, axis)
            ordered[(slice(None),) * (axis % x.ndim) + (slice(0, 1),)] = (
                0 if self.combine == "Total" else 1
            )
        y = function(ordered, axis, dtype=None if x.dtype == object else x.dtype)
        return np.asarray(np.flip(y, axis) if self.reverse else y, order="C")


@family
class _KnownScan(_Scan):
    axis: int = from_input(1)
    exclusive: bool = False
    reverse: bool = False

    def infer(self, x: TensorType) -> TensorType:
        self.accept(x)
        normal_axis(self.axis, x.rank)
        return x

    def reference(self, x: Array) -> Array:
        return self.along(x, self.axis)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        shape, axis = x.type.shape, normal_axis(self.axis, x.type.rank)
        view = product(shape[:axis]), shape[axis], product(shape[axis + 1 :])
        views = Tensor(outputs[0], view), Tensor(x, view)
        flags = int(self.exclusive), int(self.reverse)
        return Call(f"sofie::scan<sofie::{self.combine}>", (*views, *flags))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        shape, axis = x.type.shape, normal_axis(self.axis, x.type.rank)
        inner = product(shape[axis + 1 :])
        combine = "false" if self.combine == "Total" else "true"
        kernel = f"sofie::device::Scan<{combine}>"
        parameters = (
            shape[axis],
            inner,
            Functor("bool", (self.exclusive,)),
            Functor("bool", (self.reverse,)),
        )
        count = product(shape[:axis]) * inner
        return (Launch(kernel, parameters, (outputs[0], x), count, "sofie/device/copy.hxx"),)


@family
class _RuntimeScan(_Scan):
    exclusive: bool = False
    reverse: bool = False
    takes_sizes: ClassVar[bool] = False
    # Its axis may be that of the batch.
    is_rowwise: ClassVar[bool] = False

    def infer(self, x: TensorType, axis: TensorType) -> TensorType:
        self.accept(x)
        if axis.dtype not in (DType.INT32, DType.INT64) or axis.size != 1 or not x.rank:
            raise ShapeError("needs a tensor with axes, and one of them")
        return x

    def reference(self, x: Array, axis: Array) -> Array:
        return self.along(x, int(axis.reshape(())))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, axis = inputs
        assert x is not None and axis is not None
        size = (x.type.size,)
        views = Tensor(outputs[0], size), Tensor(x, size), Tensor(axis)
        arguments = (*views, Sizes(x.type.shape), int(self.exclusive), int(self.reverse))
        return Call(f"sofie::scan_runtime<sofie::{self.combine}>", arguments)


_scan = partial(
    _twice, _RuntimeScan, (" along one axis", " along an axis that is computed"), ("combine",)
)


@_scan(since=14, ulp=0.5, terms=1)
class CumSum(_KnownScan):
    """y[i] = sum of x[j] for j <= i along one axis; j < i if exclusive, j >= i if reverse"""

    combine: ClassVar[str] = "Total"

    def pullback(self, back: Backward) -> Value:
        return back.g.through(CumSum(self.axis, self.exclusive, not self.reverse))


@_scan(since=26, ulp=1, terms=1)
class CumProd(_KnownScan):
    """y[i] = product of x[j] for j <= i along one axis; j < i if exclusive, j >= i if reverse"""

    combine: ClassVar[str] = "Product"

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        size = back.x.shape[back.axis(self.axis)]
        if not isinstance(size, int):
            raise UnsupportedOperator(
                "CumProd has no gradient along an axis of open size",
                remedy="Fix that size when the model is read: shapes={...} of `load`",
            )
        limits.require(nodes=6 * size, what="the gradient of CumProd")
        return back.by_formula(lambda x: (self._steps(x, size),))

    def _steps(self, x: Value, size: int) -> Value:
        """One product after the other: zeros are no trouble."""
        if not size:
            return x
        each = parts(x, size, normal_axis(self.axis, x.rank))
        each = each[::-1] if self.reverse else each
        found = [each[0].like(1) if self.exclusive else each[0]]
        for factor in each[: size - 1] if self.exclusive else each[1:]:
            found.append(found[-1] * factor)
        found = found[::-1] if self.reverse else found
        return found[0].concat(found[1:], normal_axis(self.axis, x.rank))


@operator(since=22, ulp=4, terms=1)
class LpNormalization(Operator):
    """x / (sum_i |x[i]|^p)^(1/p) along one axis, for p = 1 or 2; 0 where that norm is 0"""

    axis: int = -1
    p: int = 2
    header: ClassVar[str] = "sofie/kernels/normalization/norms.hxx"
    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def __post_init__(self) -> None:
        if self.p not in (1, 2):
            raise UnsupportedOperator(f"LpNormalization has no norm with p = {self.p}")

    @property
    def norm(self) -> KnownReduction:
        """The operator that computes the norms."""
        return (ReduceL1 if self.p == 1 else ReduceL2)((self.axis,))

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype not in self.dtypes:
            raise TypeMismatch(f"is not defined for {x.dtype}")
        normal_axis(self.axis, x.rank)
        return x

    def reference(self, x: Array) -> Array:
        norm = self.norm.reference(x)
        return np.asarray(np.where(norm == 0, x.dtype.type(0), x / np.where(norm == 0, 1, norm)))

    def view(self, shape: Shape) -> tuple[Dim, Dim, Dim]:
        """[outer, n, inner] with the axis in the middle."""
        axis = normal_axis(self.axis, len(shape))
        return product(shape[:axis]), shape[axis], product(shape[axis + 1 :])

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        (x,) = inputs
        assert x is not None
        # The norms of some vectors at a time.
        return (TensorType(x.dtype, (maximum(self.view(x.shape)[2], 256),)),)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        view = self.view(x.type.shape)
        y, norms = outputs
        tensors = Tensor(y, view), Tensor(norms), Tensor(x, view)
        kernel = f"sofie::normalize<sofie::{self.norm.kernel}>"
        return Call(kernel, (*tensors, _dynamic(view)), outputs=2)

    def formula(self, x: Value) -> tuple[Value]:
        norm = x.through(self.norm)
        none = norm.equals(0)
        return (none.choose(0, x / none.choose(1, norm)),)

    def pullback(self, back: Backward) -> Value:
        norm = back.x.through(self.norm)
        y, axis = back.y, (back.axis(self.axis),)
        along = back.x.apply("Sign") if self.p == 1 else y
        by_x = (back.g - along * (back.g * y).sum(axis)) / norm
        return norm.equals(0).choose(0, by_x)
