"""Operators that pool: windows that slide over planes, and whole planes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product as combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import (
    UNKNOWN,
    Dim,
    maximum,
    number_of,
    product,
    require_equal,
)
from sofie_rdf.ir.operator import (
    Call,
    Functor,
    Launch,
    Operand,
    Operator,
    Sizes,
    Tensor,
    flag,
    from_input,
    lookup,
    operator,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ir.windows import Window, require_count, windows
from sofie_rdf.kernels.choice import Choice
from sofie_rdf.kernels.pooling import AVERAGE_POOL, MAX_POOL, POOL_HEADER, PoolProblem
from sofie_rdf.ops._device_rows import reduced
from sofie_rdf.ops._device_windows import pooled
from sofie_rdf.ops._room import require_room
from sofie_rdf.ops.elementwise import FLOATS

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


_MOST_AXES = 8
# The outputs and the scratch memory of `MaxPool` where the places of elements are wanted.
_WITH_PLACES = 4


class _Planes(Operator):
    """An operator on the planes x[n, c] of x[n, c, d1, d2, ...]."""

    header: ClassVar[str] = POOL_HEADER
    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def accept(self, x: TensorType) -> DType:
        """The element type of x, if that and its axes are such as the operator is defined for."""
        if x.dtype not in self.dtypes:
            raise TypeMismatch(f"is not defined for {x.dtype}")
        if x.rank < 2:
            raise ShapeError("needs a batch and channels, the first two axes of x")
        return x.dtype


def _as_planes(operand: Operand) -> Tensor:
    shape = operand.type.shape
    return Tensor(operand, (product(shape[:2]), product(shape[2:])))


# Windows ------------------------------------------------------------------------------------------


class _Pool(_Planes):
    """An operator on windows that slide over each plane."""

    kernel_shape: tuple[int, ...]
    auto_pad: str
    ceil_mode: bool
    dilations: tuple[int, ...] | None
    pads: tuple[int, ...] | None
    strides: tuple[int, ...] | None

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        """The windows along each axis behind the channels."""
        if len(shape) < 3:
            raise ShapeError("pools the axes behind the channels, of which there is none")
        if len(shape) - 2 > _MOST_AXES:
            raise ShapeError(f"pools at most {_MOST_AXES} axes")
        return windows(
            shape[2:],
            self.kernel_shape,
            strides=self.strides,
            dilations=self.dilations,
            pads=self.pads,
            auto_pad=self.auto_pad,
            ceil_mode=self.ceil_mode,
        )

    def infer(self, x: TensorType) -> TensorType | tuple[TensorType, ...]:
        dtype = self.accept(x)
        return TensorType(dtype, (*x.shape[:2], *(w.count for w in self.windows(x.shape))))

    def requires(self, inputs: Sequence[TensorType | None]) -> tuple[tuple[Dim, Dim], ...]:
        (x,) = inputs
        assert x is not None
        return tuple(pair for w in self.windows(x.shape) for pair in w.requirements)

    def problem(self, x: TensorType) -> PoolProblem:
        """What is asked of a kernel."""
        return PoolProblem(x.dtype, self.windows(x.shape))

    def numbers(self, x: Operand) -> Sizes:
        return Sizes(tuple(n for w in self.windows(x.type.shape) for n in w.numbers))

    def covered(self, x: Array, filler: Any) -> Iterator[Array]:
        """For each position in a window the elements there, of all windows at once."""
        along = self.windows(x.shape)
        ends = [_end(w) for w in along]
        needed = [max(0, end - w.size) for w, end in zip(along, ends, strict=True)]
        pads = [(number_of(w.begin), n) for w, n in zip(along, needed, strict=True)]
        sizes = (n + sum(p) for n, p in zip(x.shape[2:], pads, strict=True))
        require_room("what is pooled, with its pads,", (*x.shape[:2], *sizes), x)
        padded = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=filler)
        for at in combinations(*(range(w.kernel) for w in along)):
            index: tuple[Any, ...] = (..., *(_every(w, t) for w, t in zip(along, at, strict=True)))
            limits.spend(what="pooling")
            yield padded[index]

    def onto(self, back: Backward, each: Value) -> Value:
        """What each window adds to all of its elements."""
        along, flat = self.windows(back.x.shape), (product(back.x.shape[:2]), 1)
        whole = _through_ones("ConvTranspose", each.reshape((*flat, *each.shape[2:])), along)
        cut = zip(whole.shape[2:], along, strict=True)
        kept = whole.pad([(0, 0), (0, 0), *((0 - w.begin, w.begin + w.size - n) for n, w in cut)])
        return kept.reshape(back.x.shape)


def _end(window: Window) -> Any:
    """The position behind the last one that a window covers."""
    return (window.count - 1) * window.stride - window.begin + window.extent


def _every(window: Window, position: int) -> slice:
    first, count = position * window.dilation, number_of(window.count)
    return slice(first, first + (count - 1) * window.stride + 1 if count else first, window.stride)


@operator(since=22, ulp=2, terms=2)
class AveragePool(_Pool):
    """y[n, c, j] = the mean of window j of x[n, c]; pads are elements if count_include_pad"""

    kernel_shape: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: bool = False
    count_include_pad: bool = False
    dilations: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = inputs[0]
        assert x is not None
        return AVERAGE_POOL.choose(self.problem(x)).scratch

    def problem(self, x: TensorType) -> PoolProblem:
        return super().problem(x)._replace(pads=self.count_include_pad)

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        (x,) = inputs
        assert x is not None
        return AVERAGE_POOL.choose(self.problem(x.type))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        y, rows, members, table = outputs
        choice = self.choice(inputs, outputs)
        tensors = _as_planes(y), Tensor(rows), Tensor(members), Tensor(table), _as_planes(x)
        return Call(f"sofie::{choice.kernel}", (*tensors, self.numbers(x)), 4, choice.header)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        slides = self.windows(x.type.shape)
        ends = Sizes(tuple(s.end for s in slides))
        flag = Functor("bool", (self.count_include_pad,))
        return pooled("AveragePool<{}>", outputs[:1], x, slides, ends, flag)

    def reference(self, x: Array) -> Array:
        total = np.asarray(sum(self.covered(x, 0)))
        members = np.ones((), x.dtype)
        for window in self.windows(x.shape):
            members = np.multiply.outer(members, self._members(window).astype(x.dtype))
        return np.asarray(total / np.maximum(members, 1))

    def _members(self, window: Window) -> Array:
        """How many elements, and pads where they count, each window has along one axis."""
        size, begin, end = map(number_of, (window.size, window.begin, window.end))
        require_room("the windows of a pooling", (number_of(window.count), window.kernel))
        starts = np.arange(number_of(window.count)) * window.stride - begin
        positions = starts[:, np.newaxis] + np.arange(window.kernel) * window.dilation
        before, behind = (begin, end) if self.count_include_pad else (0, 0)
        counted = (positions >= -before) & (positions < size + behind)
        return np.asarray(np.sum(counted, axis=1))

    def pullback(self, back: Backward) -> Value:
        along = self.windows(back.x.shape)
        sizes = [w.begin + w.size + w.end if self.count_include_pad else w.size for w in along]
        ones = back.tape.filled(1, TensorType(back.x.dtype, (1, 1, *sizes)))
        widths = [(0 if self.count_include_pad else w.begin) for w in along]
        ends = [_end(w) + w.begin - b - n for w, b, n in zip(along, widths, sizes, strict=True)]
        members = ones.pad([(0, 0), (0, 0), *zip(widths, ends, strict=True)])
        return self.onto(back, back.g / _through_ones("Conv", members, along))


@operator(since=22)
class MaxPool(_Pool):
    """y[n, c, j] = the largest element of window j of x[n, c]; and its index in x, flattened"""

    kernel_shape: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: bool = False
    dilations: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    storage_order: int = 0
    strides: tuple[int, ...] | None = None
    dtypes: ClassVar[frozenset[DType]] = FLOATS | {DType.INT8, DType.UINT8}

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        y = super().infer(x)
        assert isinstance(y, TensorType)
        if self.storage_order not in (0, 1):
            raise ShapeError(f"storage_order is 0 or 1, not {self.storage_order}")
        return y, TensorType(DType.INT64, y.shape)

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = inputs[0]
        assert x is not None
        return MAX_POOL.choose(self.problem(x)).scratch

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:
        (x,) = inputs
        assert x is not None
        order = self.storage_order if len(outputs) == _WITH_PLACES else None
        return MAX_POOL.choose(self.problem(x.type)._replace(order=order))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        *results, rows, table = outputs
        choice = self.choice(inputs, outputs)
        work = () if len(results) > 1 else (Tensor(rows), Tensor(table))
        tensors = (*map(_as_planes, results), *work, _as_planes(x))
        arguments = (*tensors, self.numbers(x))
        return Call(f"sofie::{choice.kernel}", arguments, len(results) + len(work), choice.header)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        turned = flag(self.storage_order)
        kernel = f"MaxPool<{{}}, {turned}>"
        return pooled(kernel, outputs, x, self.windows(x.type.shape))

    def reference(self, x: Array) -> tuple[Array, Array]:
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        index = np.arange(x.size, dtype=np.int64).reshape(x.shape)
        if self.storage_order:
            planes = np.arange(x.size).reshape(*x.shape[:2], *x.shape[:1:-1])
            index = np.ascontiguousarray(np.moveaxis(planes, range(2, x.ndim), _reversed(x.ndim)))
        most: Any = None
        for value, where in zip(self.covered(x, lowest), self.covered(index, -1), strict=True):
            if most is None:
                most, best = value.copy(), where.copy()
                continue
            # The first of equal ones, and the first NaN; what is not there is never better.
            better = (value > most) | (np.isnan(value) & ~np.isnan(most)) | (best < 0)
            better &= where >= 0
            most, best = np.where(better, value, most), np.where(better, where, best)
        return np.asarray(most), np.asarray(best, np.int64)

    def pullback(self, back: Backward) -> Value:
        along, x = self.windows(back.x.shape), back.x
        attributes = {**self.attributes(), "storage_order": 0}
        best = x.outputs(MaxPool(**attributes))[1]
        g = back.g
        if any((w.begin, w.end) != (0, 0) for w in along) or self.ceil_mode:
            # Nothing is there of a window of pads alone.
            g = (best >= 0).choose(g, 0)
            best = (best >= 0).choose(best, 0)
        size = (x.type.size,)
        zeros = back.tape.filled(0, TensorType(x.dtype, size))
        flat = (v.reshape((v.type.size,)) for v in (best, g))
        return zeros.apply("ScatterElements", *flat, axis=0, reduction="add").reshape(x.shape)


def _reversed(rank: int) -> list[int]:
    return list(range(2, rank))[::-1]


@operator(since=22, ulp=4, terms=1)
class LpPool(_Pool):
    """y[n, c, j] = (the sum over window j of |x[n, c]|^p)^(1/p)"""

    kernel_shape: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: bool = False
    dilations: tuple[int, ...] | None = None
    p: int = 2
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    def infer(self, x: TensorType) -> TensorType | tuple[TensorType, ...]:
        require_count("p", (self.p,), 1)
        return super().infer(x)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        views = _as_planes(outputs[0]), _as_planes(x)
        return Call("sofie::lp_pool", (*views, self.numbers(x), self.p))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        return pooled("LpPool<{}>", outputs, x, self.windows(x.type.shape), self.p)

    def reference(self, x: Array) -> Array:
        total = sum(np.abs(v) ** self.p for v in self.covered(x, 0))
        return np.asarray(total ** (x.dtype.type(1) / self.p))

    def pullback(self, back: Backward) -> Value:
        share = (back.y.equals(0)).choose(0, back.g * _power(back.y, 1 - self.p))
        return self.onto(back, share) * _signed_power(back.x, self.p - 1)


# The way back -------------------------------------------------------------------------------------


def _through_ones(name: str, x: Value, along: Sequence[Window]) -> Value:
    """A convolution of one channel whose weights are ones, with these windows."""
    kernel = tuple(w.kernel for w in along)
    limits.spend(bytes=8 * math.prod(kernel), what="the gradient of a pooling")
    ones = x.tape.constant(np.ones((1, 1, *kernel), x.dtype.numpy))
    strides, dilations = (w.stride for w in along), (w.dilation for w in along)
    return x.apply(name, ones, strides=tuple(strides), dilations=tuple(dilations))


def _power(x: Value, exponent: float) -> Value:
    return x.apply("Pow", x.tape.number(exponent, x.dtype))


def _signed_power(x: Value, exponent: float) -> Value:
    """|x|^exponent with the sign of x."""
    return x.apply("Sign") * _power(x.apply("Abs"), exponent)


# Whole planes -------------------------------------------------------------------------------------


# The rules of reductions on devices for the kernels of a CPU.
_DEVICE_RULES = {
    "sofie::global_pool<sofie::PoolSum>": "ReduceMean",
    "sofie::global_pool<sofie::PoolMax>": "ReduceMax",
}


class _Global(_Planes):
    """An operator that makes one number of each plane."""

    kernel: ClassVar[str]

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(self.accept(x), (*x.shape[:2], *(1 for _ in x.shape[2:])))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        y = Tensor(outputs[0], (product(x.type.shape[:2]),))
        return Call(self.kernel, (y, _as_planes(x)))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        rule = _DEVICE_RULES.get(self.kernel)
        if rule is None:
            return super().on_device(inputs, outputs)
        return reduced(outputs[0], x, rule, range(2, x.type.rank))


def _inner_axes(x: Array) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@operator(since=22, ulp=2, terms=2)
class GlobalAveragePool(_Global):
    """y[n, c] = the mean of x[n, c]"""

    kernel: ClassVar[str] = "sofie::global_pool<sofie::PoolSum>"

    def reference(self, x: Array) -> Array:
        total = np.sum(x, _inner_axes(x), keepdims=True)
        return np.asarray(total / x.dtype.type(np.prod(x.shape[2:])), x.dtype)

    def pullback(self, back: Backward) -> Value:
        axes = tuple(range(2, back.x.rank))
        found = lookup("", "ReduceMean")(axes=axes).pullback(back)
        assert found is not None and not isinstance(found, tuple)
        return found


@operator(since=22)
class GlobalMaxPool(_Global):
    """y[n, c] = the largest element of x[n, c]"""

    kernel: ClassVar[str] = "sofie::global_pool<sofie::PoolMax>"

    def reference(self, x: Array) -> Array:
        return np.asarray(np.max(x, _inner_axes(x), keepdims=True, initial=-np.inf))

    def pullback(self, back: Backward) -> Value:
        x = back.x
        flat = x.reshape((*x.shape[:2], product(x.shape[2:])))
        best = flat.apply("ArgMax", axis=2)
        g = back.g.reshape((*x.shape[:2], 1))
        return flat.like().apply("ScatterElements", best, g, axis=2).reshape(x.shape)


@operator(since=22, ulp=4, terms=1)
class GlobalLpPool(_Global):
    """y[n, c] = (the sum over x[n, c] of |x|^p)^(1/p)"""

    p: int = 2
    kernel: ClassVar[str] = "sofie::global_lp_pool"

    def infer(self, x: TensorType) -> TensorType:
        require_count("p", (self.p,), 1)
        return super().infer(x)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        call = super().lower(inputs, outputs)
        return Call(call.kernel, (*call.arguments, self.p))

    def reference(self, x: Array) -> Array:
        total = np.sum(np.abs(x) ** self.p, _inner_axes(x), keepdims=True)
        return np.asarray(total ** (x.dtype.type(1) / self.p))

    on_device = Operator.on_device

    def formula(self, x: Value) -> tuple[Value]:
        axes = tuple(range(2, x.rank))
        size = x.apply("Abs")
        if not axes:
            return (size,)
        # Powers overflow where the norm does not.
        most = size.apply("ReduceMax", axes=axes)
        most = ((most > 0) & (most < math.inf)).choose(most, 1)
        return (_power(_power(size / most, self.p).sum(axes), 1 / self.p) * most,)

    def pullback(self, back: Backward) -> Value:
        share = (back.y.equals(0)).choose(0, back.g * _power(back.y, 1 - self.p))
        return share * _signed_power(back.x, self.p - 1)


# Neighbouring channels ----------------------------------------------------------------------------


@operator(since=13, ulp=8)
class LRN(_Planes):
    """y = x / (bias + alpha / size * the sum of x^2 over channels near that of x)^beta"""

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def infer(self, x: TensorType) -> TensorType:
        require_count("size", (self.size,), 1)
        self.accept(x)
        return x

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        rule = Functor("sofie::LocalResponse", (self.alpha, self.beta, self.bias, self.size))
        shape = (*x.type.shape[:2], product(x.type.shape[2:]))
        views = Tensor(outputs[0], shape), Tensor(x, shape)
        return Call("sofie::local_response", (rule, *views))

    def reference(self, x: Array) -> Array:
        squares = x * x
        total = np.zeros_like(x)
        before, channels = (self.size - 1) // 2, x.shape[1]
        # Neighbours farther away than there are channels do not exist.
        for shift in range(max(-before, -channels), min(self.size - before, channels)):
            count = max(0, channels - abs(shift))
            low, high = max(0, shift), max(0, -shift)
            total[:, high : high + count] += squares[:, low : low + count]
        alpha, bias = x.dtype.type(self.alpha / self.size), x.dtype.type(self.bias)
        return np.asarray(x / (bias + alpha * total) ** x.dtype.type(self.beta))

    def formula(self, x: Value) -> tuple[Value]:
        return (x * _power(self._scale(x), -self.beta),)

    def _scale(self, x: Value) -> Value:
        before = (self.size - 1) // 2
        near = self._near(x * x, before, self.size - 1 - before)
        return near * (self.alpha / self.size) + self.bias

    def pullback(self, back: Backward) -> Value:
        x, g = back.x, back.g
        before, behind = (self.size - 1) // 2, self.size - 1 - (self.size - 1) // 2
        size = self._scale(x)
        share = g * _power(size, -self.beta)
        across = self._near(share * x / size, behind, before)
        return share - x * across * (2 * self.alpha * self.beta / self.size)

    @staticmethod
    def _near(x: Value, before: int, behind: int) -> Value:
        """The sum over channels near each."""
        channels = x.shape[1]
        wide = x.pad([(before, behind) if a == 1 else (0, 0) for a in range(x.rank)])
        parts = [wide.slice(1, k, k + channels) for k in range(before + behind + 1)]
        return parts[0].apply("Sum", *parts[1:])


# The inverse --------------------------------------------------------------------------------------


class _Unpool(_Planes):
    """An operator that puts elements back where MaxPool has found them."""

    # Indices are those of the whole tensor, batch included.
    is_rowwise: ClassVar[bool] = False

    kernel_shape: tuple[int, ...]
    pads: tuple[int, ...] | None
    strides: tuple[int, ...] | None

    def pooled(self, x: TensorType, index: TensorType) -> TensorType:
        """The smallest tensor that MaxPool makes one like x of; indices are those of this one."""
        dtype = self.accept(x)
        if index.dtype is not DType.INT64:
            raise TypeMismatch(f"needs indices that are int64, not {index.dtype}")
        if index.rank != x.rank:
            raise ShapeError("needs an index for each element")
        for left, right in zip(x.shape, index.shape, strict=True):
            require_equal(left, right)
        return TensorType(dtype, self._before(x.shape))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        # What is beyond the tensor that was pooled is 0, and what is cut off goes nowhere.
        before, g = self._before(back.x.shape), back.g
        g = g.pad([(0, a - b) for a, b in zip(before, g.shape, strict=True)])
        index = back.input(1)
        flat = g.reshape((g.type.size,)).apply("Gather", index, axis=0)
        return flat.reshape(back.x.shape), None

    def _before(self, shape: Shape) -> Shape:
        rank = len(shape) - 2
        strides = (1,) * rank if self.strides is None else self.strides
        pads = (0,) * (2 * rank) if self.pads is None else self.pads
        require_count("kernel_shape", self.kernel_shape, rank)
        require_count("strides", strides, rank)
        require_count("pads", pads, 2 * rank, least=0)
        sizes = []
        for axis, size in enumerate(shape[2:]):
            covered = (size - 1) * strides[axis] + self.kernel_shape[axis]
            whole = covered - pads[axis] - pads[rank + axis]
            sizes.append(maximum(whole, 0) if isinstance(whole, int) else whole)
        return (*shape[:2], *sizes)

    def scattered(self, x: Array, index: Array, shape: tuple[int, ...]) -> Array:
        """x at its indices in the smallest tensor, which is a corner of one of this shape."""
        before = tuple(map(number_of, self._before(x.shape)))
        for sizes in (before, shape):
            require_room("what was pooled", sizes, x)
        corner = np.zeros(int(np.prod(before, dtype=np.int64)), x.dtype)
        if np.any((index < 0) | (index >= corner.size)):
            raise ValueError("an index is not one of the tensor that was pooled")
        corner[index.ravel()] = x.ravel()
        y = np.zeros(shape, x.dtype)
        where = np.unravel_index(index.ravel(), before)
        if any(np.any(at >= size) for at, size in zip(where, shape, strict=True)):
            raise ValueError("an index is not one of output_shape")
        common = tuple(slice(min(a, b)) for a, b in zip(before, shape, strict=True))
        y[common] = corner.reshape(before)[common]
        return y


@operator(domain="sofie")
class RuntimeMaxUnpool(_Unpool):
    """y is 0 but for x[i] at index[i] in the tensor that was pooled, in a computed shape"""

    kernel_shape: tuple[int, ...]
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    decides_sizes: ClassVar[bool] = True

    def infer(self, x: TensorType, index: TensorType, output_shape: TensorType) -> TensorType:
        pooled = self.pooled(x, index)
        if output_shape != TensorType(DType.INT64, (x.rank,)):
            raise ShapeError(f"needs an output_shape of {x.rank} numbers of type int64")
        return TensorType(pooled.dtype, (UNKNOWN,) * x.rank)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, index, shape = inputs
        assert x is not None and index is not None and shape is not None
        before = Sizes(self._before(x.type.shape))
        tensors = Tensor(outputs[0]), Tensor(x), Tensor(index), Tensor(shape)
        return Call("sofie::max_unpool", (*tensors, before))

    def reference(self, x: Array, index: Array, output_shape: Array) -> Array:
        return self.scattered(x, index, tuple(map(int, output_shape)))


@operator(since=22)
class MaxUnpool(_Unpool):
    """y is 0 but for x[i] at index[i] in the tensor that was pooled"""

    kernel_shape: tuple[int, ...]
    output_shape: Shape | None = from_input(2, default=None)
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    runtime: ClassVar[type[Operator] | None] = RuntimeMaxUnpool

    def infer(self, x: TensorType, index: TensorType) -> TensorType:
        pooled = self.pooled(x, index)
        shape = pooled.shape if self.output_shape is None else self.output_shape
        if len(shape) != x.rank or any(isinstance(d, int) and d < 0 for d in shape):
            raise ShapeError(f"cannot make a tensor of the shape {list(shape)}")
        return TensorType(pooled.dtype, shape)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, index = inputs
        assert x is not None and index is not None
        shapes = Sizes(self._before(x.type.shape)), Sizes(outputs[0].type.shape)
        tensors = Tensor(outputs[0]), Tensor(x), Tensor(index)
        return Call("sofie::max_unpool", (*tensors, *shapes))

    def reference(self, x: Array, index: Array) -> Array:
        before = self._before(x.shape) if self.output_shape is None else self.output_shape
        return self.scattered(x, index, tuple(map(number_of, before)))
