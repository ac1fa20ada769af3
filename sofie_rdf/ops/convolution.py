"""Convolutions, and what is made of the same parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import (
    Dim,
    number_of,
    product,
    require_equal,
)
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
    family,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ir.windows import (
    Window,
    counts_of,
    index_of,
    positions_of,
    require_count,
    slices_of,
    taps_of,
    windows,
)
from sofie_rdf.kernels.choice import Choice
from sofie_rdf.kernels.convolution import CONVOLUTIONS, HEADER
from sofie_rdf.kernels.convolution_problem import (
    ConvProblem,
    long_axes,
    panels,
    product_scratch,
    tile_rows,
)
from sofie_rdf.ops._device_quantized import integer_convolution, requantized
from sofie_rdf.ops._device_windows import convolved
from sofie_rdf.ops._room import require_room
from sofie_rdf.ops._slopes_grid import moved
from sofie_rdf.ops.elementwise import FLOATS, Elementwise
from sofie_rdf.ops.layout import memory
from sofie_rdf.ops.linear import NoActivation

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


BYTES = frozenset({DType.INT8, DType.UINT8})

_ALL = slice(None)

# Sizes --------------------------------------------------------------------------------------------


def _three(values: Sequence[Dim], fill: int) -> Sizes:
    """One number for each of the three axes that kernels have."""
    return Sizes((*(fill,) * (3 - len(values)), *values))


def conv_sizes(
    counts: tuple[Dim, Dim, Dim, int], slides: Sequence[Window], told: Sequence[Sizes] = ()
) -> Struct:
    """What kernels are told; counts are events, channels, features, groups."""
    along = (
        _three([s.size for s in slides], 1),
        _three([s.kernel for s in slides], 1),
        _three([s.count for s in slides], 1),
        _three([s.stride for s in slides], 1),
        _three([s.dilation for s in slides], 1),
        _three([s.begin for s in slides], 0),
    )
    return Struct("sofie::ConvSizes", (Sizes(counts), *along, *told))


def _whole(operand: Operand) -> Tensor:
    """A tensor whose shape the kernel is told at run time."""
    return Tensor(operand, (operand.type.size,))


# References ---------------------------------------------------------------------------------------


def _padded(x: Array, slides: Sequence[Window]) -> Array:
    pads = [(0, 0), (0, 0), *((number_of(s.begin), number_of(s.end)) for s in slides)]
    sizes = (n + b + e for n, (b, e) in zip(x.shape, pads, strict=True))
    require_room("what is convolved, with its pads,", sizes, x)
    return np.pad(x, pads)


def _correlate(x: Array, w: Array, slides: Sequence[Window], groups: int) -> Array:
    """sum_{c, tap} w[m, c, tap] * x[n, c, ...], in the dtype of x."""
    padded: Any = _padded(x, slides)
    counts = counts_of(slides)
    events, features, channels = x.shape[0], w.shape[0] // groups, w.shape[1]
    positions = int(np.prod(counts, dtype=np.int64))
    y = np.zeros((events, groups, features, positions), x.dtype)
    weights: Any = w.reshape(groups, features, *w.shape[1:])
    for tap, where in slices_of(slides):
        columns = padded[index_of(..., *where)].reshape(events, groups, channels, positions)
        y += np.matmul(weights[index_of(..., *tap)], columns)
    return y.reshape(events, groups * features, *counts)


def along_channels(b: Array, rank: int) -> Array:
    """A vector as one number for each channel of a tensor with ``rank`` axes."""
    return b.reshape(-1, *(1,) * (rank - 2))


# The way back -------------------------------------------------------------------------------------


def _spread_back(op: Convolution, g: Value, w: Value, slides: Sequence[Window]) -> Value:
    """What each result adds to the elements of its window."""
    whole = g.apply(
        "ConvTranspose",
        w,
        strides=tuple(s.stride for s in slides),
        dilations=tuple(s.dilation for s in slides),
        group=op.group,
    )
    along = zip(whole.shape[2:], slides, strict=True)
    return whole.pad([(0, 0), (0, 0), *((0 - s.begin, s.begin + s.size - n) for n, s in along)])


def by_taps(small: Value, wide: Value, slides: Sequence[Window], groups: int) -> Value:
    """The derivative by weights, [features, channels / groups, taps]: tap after tap.

    ``small`` has a place for each window, ``wide`` what the windows lie on, with its pads.
    """
    limits.require(nodes=8 * taps_of(slides), what="the gradient of a kernel")
    events, places = small.shape[0], positions_of(slides)
    rows = small.reshape((events, groups, small.shape[1] // groups, places))
    found = []
    for tap in combinations(*(range(s.kernel) for s in slides)):
        part = wide
        for axis, (t, s) in enumerate(zip(tap, slides, strict=True), 2):
            first = t * s.dilation
            part = part.slice(axis, first, first + (s.count - 1) * s.stride + 1, s.stride)
        columns = part.reshape((events, groups, wide.shape[1] // groups, places))
        found.append(rows.matmul(columns.turned).sum((0,), keep=False))
    listed = [v.reshape((*v.shape, 1)) for v in found]
    return listed[0].concat(listed[1:], 3)


# Conv ---------------------------------------------------------------------------------------------


@family
class Convolution(Operator):
    """The attributes that convolutions have."""

    header: ClassVar[str] = HEADER
    # Which input the weights are.
    weights_at: ClassVar[int] = 1

    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] | None = None
    group: int = 1
    kernel_shape: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    @property
    def function(self) -> Elementwise:
        """What is applied to each result."""
        return NoActivation()

    @property
    def headers(self) -> tuple[str, ...]:
        return (*super().headers, *self.function.headers)

    def slides(self, x: Shape, w: Shape) -> tuple[Window, ...]:
        """The kernel's windows, an axis of space each."""
        return windows(
            x[2:],
            self.kernel(w[2:]),
            strides=self.strides,
            dilations=self.dilations,
            pads=self.pads,
            auto_pad=self.auto_pad,
        )

    def requires(self, inputs: Sequence[TensorType | None]) -> tuple[tuple[Dim, Dim], ...]:
        x, w = inputs[0], inputs[self.weights_at]
        assert x is not None and w is not None
        return tuple(pair for s in self.slides(x.shape, w.shape) for pair in s.requirements)

    def kernel(self, sizes: Shape) -> tuple[int, ...]:
        """The kernel's size: the weights', which the attribute may say a second time."""
        if self.kernel_shape is not None:
            require_count("kernel_shape", self.kernel_shape, len(sizes))
            for said, size in zip(self.kernel_shape, sizes, strict=True):
                require_equal(size, said, f"kernel_shape says {said}, the weights have {size}")
        known = tuple(d for d in sizes if isinstance(d, int))
        if len(known) != len(sizes):
            raise ShapeError("needs a kernel of known size")
        return known

    def output_shape_of(self, x: Shape, w: Shape, b: TensorType | None) -> Shape:
        """The shape of the result; `ShapeError` for what cannot be combined."""
        if len(x) != len(w) or not 3 <= len(x) <= 5:
            raise ShapeError(
                "needs x[N, C, ...] and w[M, C / group, ...] with 1 to 3 axes of space"
            )
        if self.group < 1:
            raise ShapeError(f"group is {self.group}")
        require_equal(x[1], w[1] * self.group, f"{x[1]} channels are not {self.group} * {w[1]}")
        if w[0] % self.group != 0:
            raise ShapeError(f"cannot divide {w[0]} features into {self.group} groups")
        if b is not None and b.rank != 1:
            raise ShapeError("needs a bias with one axis")
        if b is not None:
            require_equal(b.shape[0], w[0], f"{b.shape[0]} biases are not {w[0]}")
        return (x[0], w[0], *(s.count for s in self.slides(x, w)))

    def counts(self, x: Shape, w: Shape) -> tuple[Dim, Dim, Dim, int]:
        """Events, channels, features and groups."""
        return x[0], x[1], w[0], self.group

    def depth(self, w: Shape) -> Dim:
        """How many products are summed."""
        return product(w[1:])


class _FloatConvolution(Convolution):
    """A convolution of floating-point numbers, with a function of each result."""

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> TensorType:
        dtype = require_same_dtype(*(t for t in (x, w, b) if t is not None))
        if dtype not in FLOATS:
            raise TypeMismatch(f"is not defined for {dtype}")
        return TensorType(dtype, self.output_shape_of(x.shape, w.shape, b))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        x, w = inputs[:2]
        assert x is not None and w is not None
        slides = self.slides(x.type.shape, w.type.shape)
        counts = self.counts(x.type.shape, w.type.shape)
        return convolved(self.function.functor(), outputs[0], inputs, counts, slides)

    def sums(self, x: Array, w: Array, b: Array | None = None) -> Array:
        """The results without the function."""
        y = _correlate(x, w, self.slides(x.shape, w.shape), self.group)
        return y if b is None else y + along_channels(b, x.ndim)

    def reference(self, x: Array, w: Array, b: Array | None = None) -> Array:
        return np.asarray(self.function.reference(self.sums(x, w, b)))

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        x, w = inputs[:2]
        assert x is not None and w is not None
        positions = positions_of(self.slides(x.shape, w.shape))
        return x.shape[0] * w.shape[0] * self.depth(w.shape) * positions

    def problem(self, inputs: Sequence[TensorType | None], *, constant: bool = True) -> ConvProblem:
        """What is asked of a kernel, with weights that are constants or computed."""
        x, w, _, added = (*inputs, None, None)[:4]
        assert x is not None and w is not None
        counts, slides = self.counts(x.shape, w.shape), self.slides(x.shape, w.shape)
        return ConvProblem(x.dtype, counts, w.shape[1], slides, constant, added is not None)

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        types = [None if o is None else o.type for o in inputs]
        constant = all(o.constant for o in inputs[1:3] if o is not None)
        return CONVOLUTIONS.choose(self.problem(types, constant=constant))

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        return CONVOLUTIONS.choose(self.problem(inputs)).scratch

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, w, *_ = inputs
        assert x is not None and w is not None
        choice = self.choice(inputs, outputs)
        slides = long_axes(self.slides(x.type.shape, w.type.shape))
        sizes = conv_sizes(self.counts(x.type.shape, w.type.shape), slides, choice.told)
        return product_call(choice, (self.function.functor(), sizes), inputs, outputs)


def product_call(
    choice: Choice,
    arguments: tuple[Argument, ...],
    inputs: Sequence[Operand | None],
    outputs: Sequence[Operand],
) -> Call:
    """A product with weights that are packed beforehand, or that are given as they are.

    Packed ones need no memory where they are packed at each call.
    """
    x, *given, added = (*inputs, None, None)[:4]
    weights: list[Argument] = [memory(o) for o in given if o is not None]
    if choice.packed:
        outputs = outputs[:3]
        sources = tuple(Tensor(o) for o in given if o is not None)
        weights = [Packed(f"sofie::{choice.packed}", sources)]
    more = () if added is None else (memory(added),)
    tensors = (*map(memory, (*outputs, x)), *weights, *more)
    return Call(f"sofie::{choice.kernel}", (*arguments, *tensors), len(outputs), choice.header)


@operator(since=22, terms=2)
class Conv(_FloatConvolution):
    """y[n, m, i] = sum_{c, k} w[m, c, k] * x[n, c, stride * i + dilation * k - pad] + b[m]"""

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        x, w, g = back.x, back.input(1), back.g
        slides = self.slides(x.shape, w.shape)
        by_x = _spread_back(self, g, w, slides) if back.needs(0) else None
        by_w, by_b = None, None
        if back.needs(1):
            around = x.pad([(0, 0), (0, 0), *((s.begin, s.end) for s in slides)])
            by_w = by_taps(g, around, slides, self.group).reshape(w.shape)
        if back.needs(2):
            by_b = g.sum([a for a in range(g.rank) if a != 1], keep=False)
        return by_x, by_w, by_b


@operator(domain="sofie", terms=2, ulp=8)
class ConvLayer(_FloatConvolution):
    """y = activation(Conv(x, w, b) + added); nothing may be added"""

    activation: Elementwise = NoActivation()

    @property
    def function(self) -> Elementwise:
        return self.activation

    def infer(  # type: ignore[override]
        self, x: TensorType, w: TensorType, b: TensorType, added: TensorType | None = None
    ) -> TensorType:
        y = super().infer(x, w, b)
        if added is not None:
            require_same_dtype(x, added)
            if added.rank != y.rank:
                raise ShapeError(f"cannot add {added} to {y}")
            for one, other in zip(added.shape, y.shape, strict=True):
                require_equal(one, other)
        return y

    def reference(  # type: ignore[override]
        self, x: Array, w: Array, b: Array, added: Array | None = None
    ) -> Array:
        y = self.sums(x, w, b)
        return np.asarray(self.activation.reference(y if added is None else y + added))


# Integers -----------------------------------------------------------------------------------------


class _ByteConvolution(Convolution):
    """A convolution of 8-bit integers, in 32 bits."""

    header: ClassVar[str] = "sofie/kernels/convolution/quantized.hxx"

    def accept(self, what: str, *types: TensorType | None) -> DType:
        """The one element type of these, if it is one of 8 bits."""
        dtype = require_same_dtype(*(t for t in types if t is not None))
        if dtype not in BYTES:
            raise TypeMismatch(f"needs {what} of int8 or uint8, not {dtype}")
        return dtype

    def working(self, x: TensorType, w: TensorType) -> tuple[TensorType, ...]:
        """Sums and copies of inputs, offsets, and packed weights."""
        slides = self.slides(x.shape, w.shape)
        features = w.shape[0] // self.group
        packed = panels(DType.INT32, self.group, features, self.depth(w.shape))
        return (*product_scratch(DType.INT32, self.counts(x.shape, w.shape), slides), packed)

    def sums(self, x: Array, w: Array, x_zero: Array | None, w_zero: Array | None) -> Array:
        """The convolution of what is left when the zero points are subtracted."""
        left, right = x.astype(np.int32), w.astype(np.int32)
        if x_zero is not None:
            left = left - x_zero.astype(np.int32).reshape(())
        if w_zero is not None:
            right = right - w_zero.astype(np.int32).reshape(-1, *(1,) * (w.ndim - 1))
        return _correlate(left, right, self.slides(x.shape, w.shape), self.group)


def _require_one(name: str, type_: TensorType) -> None:
    if type_.size != 1:
        raise ShapeError(f"{name} must be one number")


def _require_one_or_each(name: str, type_: TensorType, features: Dim) -> None:
    if type_.size != 1 and (type_.rank != 1 or type_.shape[0] != features):
        raise ShapeError(f"{name} must be one number, or one for each feature")


@operator(since=10)
class ConvInteger(_ByteConvolution):
    """y = Conv(x - x_zero_point, w - w_zero_point) in 32-bit integers"""

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        x_zero_point: TensorType | None = None,
        w_zero_point: TensorType | None = None,
    ) -> TensorType:
        self.accept("x", x, x_zero_point)
        self.accept("w", w, w_zero_point)
        if x_zero_point is not None:
            _require_one("x_zero_point", x_zero_point)
        if w_zero_point is not None:
            _require_one_or_each("w_zero_point", w_zero_point, w.shape[0])
        return TensorType(DType.INT32, self.output_shape_of(x.shape, w.shape, None))

    def reference(
        self,
        x: Array,
        w: Array,
        x_zero_point: Array | None = None,
        w_zero_point: Array | None = None,
    ) -> Array:
        return self.sums(x, w, x_zero_point, w_zero_point)

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x, w = inputs[:2]
        assert x is not None and w is not None
        return self.working(x, w)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, w, *zeros = (*inputs, None, None)[:4]
        assert x is not None and w is not None
        slides = self.slides(x.type.shape, w.type.shape)
        sizes = conv_sizes(self.counts(x.type.shape, w.type.shape), slides)
        rows = tile_rows(w.type.shape[0] // self.group)
        kernel = f"sofie::integer_convolution<{rows}, {_given(zeros)}>"
        tensors = (*outputs, x, w, *(o for o in zeros if o is not None))
        return Call(kernel, (sizes, *map(_whole, tensors)), outputs=4)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        x, w = inputs[:2]
        assert x is not None and w is not None
        counts = self.counts(x.type.shape, w.type.shape)[1:]
        slides = self.slides(x.type.shape, w.type.shape)
        return integer_convolution(outputs[0], inputs, counts, slides)


def _given(operands: Sequence[Operand | None]) -> int:
    """1 if the first is there, plus 2 if the second is."""
    return sum(1 << i for i, o in enumerate(operands) if o is not None)


@operator(since=10)
class QLinearConv(_ByteConvolution):
    """y = round((ConvInteger(x, w) + b) * x_scale * w_scale / y_scale) + y_zero_point"""

    weights_at: ClassVar[int] = 3

    def infer(
        self,
        x: TensorType,
        x_scale: TensorType,
        x_zero_point: TensorType,
        w: TensorType,
        w_scale: TensorType,
        w_zero_point: TensorType,
        y_scale: TensorType,
        y_zero_point: TensorType,
        b: TensorType | None = None,
    ) -> TensorType:
        self.accept("x", x, x_zero_point)
        self.accept("w", w, w_zero_point)
        dtype = self.accept("y", y_zero_point)
        scales = require_same_dtype(x_scale, w_scale, y_scale)
        if scales is not DType.FLOAT32 or (b is not None and b.dtype is not DType.INT32):
            raise TypeMismatch("needs scales of float32 and a bias of int32")
        singles = {"x_scale": x_scale, "x_zero_point": x_zero_point}
        for name, type_ in {**singles, "y_scale": y_scale, "y_zero_point": y_zero_point}.items():
            _require_one(name, type_)
        _require_one_or_each("w_scale", w_scale, w.shape[0])
        _require_one_or_each("w_zero_point", w_zero_point, w.shape[0])
        return TensorType(dtype, self.output_shape_of(x.shape, w.shape, b))

    def reference(
        self,
        x: Array,
        x_scale: Array,
        x_zero_point: Array,
        w: Array,
        w_scale: Array,
        w_zero_point: Array,
        y_scale: Array,
        y_zero_point: Array,
        b: Array | None = None,
    ) -> Array:
        sums = self.sums(x, w, x_zero_point, w_zero_point)
        if b is not None:
            sums = sums + along_channels(b, x.ndim)
        # The scales are multiplied in float32, whatever the precision of the evaluation.
        single = [np.asarray(s, np.float32).reshape(-1) for s in (x_scale, w_scale, y_scale)]
        with np.errstate(all="ignore"):
            scale = along_channels(single[0] * single[1] / single[2], x.ndim)
            exact = sums.astype(np.float32) * scale
        range_, zero = np.iinfo(y_zero_point.dtype), int(y_zero_point.reshape(())[()])
        low, high = np.float32(range_.min - zero), np.float32(range_.max - zero)
        above = np.where(exact >= low, exact, low)
        inside = np.where(above <= high, above, high)
        return np.asarray(np.rint(inside) + np.float32(zero)).astype(y_zero_point.dtype)

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x, w = inputs[0], inputs[3]
        assert x is not None and w is not None
        return self.working(x, w)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, w = inputs[0], inputs[3]
        assert x is not None and w is not None
        slides = self.slides(x.type.shape, w.type.shape)
        sizes = conv_sizes(self.counts(x.type.shape, w.type.shape), slides)
        rows = tile_rows(w.type.shape[0] // self.group)
        tensors = (*outputs, *(i for i in inputs if i is not None))
        kernel = f"sofie::quantized_convolution<{rows}>"
        return Call(kernel, (sizes, *map(_whole, tensors)), outputs=4)

    def device_workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        y = self.infer(*inputs)  # type: ignore[arg-type]
        return (TensorType(DType.INT32, y.shape),)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        x, x_scale, x_zero, w, w_scale, w_zero, *rest = (i for i in inputs if i is not None)
        y, sums = outputs
        counts = self.counts(x.type.shape, w.type.shape)[1:]
        slides = self.slides(x.type.shape, w.type.shape)
        products = integer_convolution(sums, (x, w, x_zero, w_zero), counts, slides)
        shape, count = y.type.shape, w_scale.type.size
        places = (1,) * (len(shape) - 2)
        shapes = shape, (), (count, *places), (shape[1], *places)
        scales = (x_scale, w_scale, *rest)
        return (*products, *requantized(y, sums, scales, shapes, DType.FLOAT32))


# DeformConv ---------------------------------------------------------------------------------------


@operator(since=22, terms=4, header="sofie/kernels/convolution/deformed.hxx")
class DeformConv(Convolution):
    """y = Conv of x at places moved by offset (linear between points, 0 outside) and times mask"""

    offset_group: int = 1

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        offset: TensorType,
        b: TensorType | None = None,
        mask: TensorType | None = None,
    ) -> TensorType:
        dtype = require_same_dtype(*(t for t in (x, w, offset, b, mask) if t is not None))
        if dtype not in FLOATS:
            raise TypeMismatch(f"is not defined for {dtype}")
        shape = self.output_shape_of(x.shape, w.shape, b)
        if self.offset_group < 1 or x.shape[1] % self.offset_group != 0:
            raise ShapeError(f"cannot divide {x.shape[1]} channels into {self.offset_group} groups")
        taps, axes = taps_of(self.slides(x.shape, w.shape)), x.rank - 2
        parts = self.offset_group * taps
        for name, type_, count in (("offset", offset, parts * axes), ("mask", mask, parts)):
            if type_ is None:
                continue
            if type_.rank != x.rank:
                raise ShapeError(f"{name} has {type_.rank} axes, not {x.rank}")
            wanted = (x.shape[0], count, *shape[2:])
            for said, size in zip(type_.shape, wanted, strict=True):
                require_equal(said, size, f"{name} has the size {said} where {size} is needed")
        return TensorType(dtype, shape)

    def reference(
        self, x: Array, w: Array, offset: Array, b: Array | None = None, mask: Array | None = None
    ) -> Array:
        slides = self.slides(x.shape, w.shape)
        counts, groups, axes = counts_of(slides), self.offset_group, x.ndim - 2
        kernel = tuple(s.kernel for s in slides)
        moved = offset.reshape(x.shape[0], groups, *kernel, axes, *counts)
        factors = None if mask is None else mask.reshape(x.shape[0], groups, *kernel, *counts)
        parts = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
        features, channels = w.shape[0] // self.group, w.shape[1]
        weights: Any = w.reshape(self.group, features, *w.shape[1:])
        positions = int(np.prod(counts, dtype=np.int64))
        y = np.zeros((x.shape[0], self.group, features, positions), x.dtype)
        for tap in combinations(*map(range, kernel)):
            places = [
                _along_axis(i, counts, tap[i] * s.dilation - number_of(s.begin), s.stride)
                + moved[index_of(_ALL, _ALL, *tap, i)]
                for i, s in enumerate(slides)
            ]
            samples = _sampled(parts, places)
            if factors is not None:
                samples = samples * factors[index_of(_ALL, _ALL, *tap)][:, :, None]
            columns = samples.reshape(x.shape[0], self.group, channels, positions)
            y += np.matmul(weights[index_of(..., *tap)], columns)
        y = y.reshape(x.shape[0], w.shape[0], *counts)
        return y if b is None else y + along_channels(b, x.ndim)

    def formula(self, *inputs: Value | None) -> tuple[Value]:
        return (moved(self, inputs),)

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        x, w = inputs[:2]
        assert x is not None and w is not None
        positions = positions_of(self.slides(x.shape, w.shape))
        return x.shape[0] * w.shape[0] * self.depth(w.shape) * positions

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x, w = inputs[:2]
        assert x is not None and w is not None
        return (TensorType(x.dtype, (x.shape[1] * product(w.shape[2:]),)),)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, w, offset, *more = (*inputs, None, None)[:5]
        assert x is not None and w is not None and offset is not None
        slides = self.slides(x.type.shape, w.type.shape)
        sizes = conv_sizes(self.counts(x.type.shape, w.type.shape), slides)
        kernel = f"sofie::deformed_convolution<{x.type.rank - 2}, {_given(more)}>"
        tensors = (*outputs, x, w, offset, *(o for o in more if o is not None))
        return Call(kernel, (self.offset_group, sizes, *map(_whole, tensors)), outputs=2)


def _along_axis(axis: int, counts: tuple[int, ...], start: int, stride: int) -> Array:
    """start + stride * i, where i is the index along one axis."""
    shape = [1] * len(counts)
    shape[axis] = counts[axis]
    return (start + stride * np.arange(counts[axis])).reshape(shape)


def _sampled(x: Array, places: Sequence[Array]) -> Array:
    """x[n, g, c, ...] at places[axis][n, g, ...], linear between points and 0 outside."""
    sizes = x.shape[3:]
    inside = np.ones(places[0].shape, np.bool_)
    floors, parts = [], []
    for place, size in zip(places, sizes, strict=True):
        near = (place > -1) & (place < size)
        inside &= near
        known = np.where(near, place, 0)
        floors.append(np.floor(known).astype(np.int64))
        parts.append(known - np.floor(known))
    events = np.arange(x.shape[0]).reshape(-1, 1, *(1,) * len(sizes))
    groups = np.arange(x.shape[1]).reshape(1, -1, *(1,) * len(sizes))
    found = np.zeros((*places[0].shape, x.shape[2]), x.dtype)
    moved: Any = np.moveaxis(x, 2, -1)
    for corner in combinations((0, 1), repeat=len(sizes)):
        at = [f + c for f, c in zip(floors, corner, strict=True)]
        exists = inside.copy()
        weight: Any = 1
        for position, size, c, part in zip(at, sizes, corner, parts, strict=True):
            exists &= (position >= 0) & (position < size)
            weight = weight * (part if c else 1 - part)
        if not min(sizes):
            continue
        clipped = [np.clip(p, 0, s - 1) for p, s in zip(at, sizes, strict=True)]
        values = moved[index_of(events, groups, *clipped)]
        found += np.where(exists[..., None], values * np.asarray(weight)[..., None], 0)
    return np.moveaxis(found, -1, 2)
