"""Operators that read or write at positions: slices, borders, and indices that are data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import ShapeError, TypeMismatch, UnsupportedOperator
from sofie_rdf.ir.dims import (
    UNKNOWN,
    Dim,
    ceil_div,
    maximum,
    minimum,
    number_of,
    product,
    require_equal,
)
from sofie_rdf.ir.operator import (
    Argument,
    Call,
    Functor,
    Operand,
    Operator,
    Sizes,
    from_input,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType, normal_axis
from sofie_rdf.ops import _device_indexing, _slopes_indexing
from sofie_rdf.ops._room import require_room
from sofie_rdf.ops.elementwise import NUMBERS
from sofie_rdf.ops.layout import (
    Read,
    Walk,
    listed_length,
    memory,
    require_index_types,
    strides,
    unknown,
)

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


HEADER = "sofie/kernels/indexing.hxx"


class Indexing(Operator):
    header: ClassVar[str] = HEADER
    moves: ClassVar[bool] = True
    on_device = _device_indexing.moved


# Slices -------------------------------------------------------------------------------------------

# Ends that are at least so far away mean "to the end"; exporters write INT_MAX of 32 or 64 bits.
_FAR = 2**31 - 1


def _never_negative(dim: Dim) -> bool:
    return maximum(dim, 0) == dim


def _from_front(position: Dim, size: Dim) -> Dim:
    """The position, where negative ones count from the end."""
    if isinstance(position, int):
        return position + size if position < 0 else position
    if _never_negative(position):
        return position
    if _never_negative(0 - position):
        return position + size
    # 1 where it is negative, else 0.
    return position + size * (0 - minimum(maximum(position, -1), 0))


def _distance(start: Dim, end: Dim) -> Dim:
    """max(end - max(start, 0), 0), in such a form that equal sizes look equal."""
    if not _never_negative(start):
        # x[-3:] has min(3, size) elements.
        return maximum(minimum(end - start, end), 0)
    return maximum(end - start, 0)


def _place(position: Dim, size: Dim, before: Dim, behind: Dim) -> Dim:
    """The position from the front; ``before`` or ``behind`` where it is far beyond all elements."""
    if isinstance(position, int) and abs(position) >= _FAR:
        return before if position < 0 else behind
    return _from_front(position, size)


def _range(start: Dim, end: Dim, step: int, size: Dim) -> tuple[Dim, Dim]:
    """Where a slice begins, and how many elements it has."""
    if step > 0:
        first = _place(start, size, 0, size)
        last = minimum(_place(end, size, 0, size), size)
        return maximum(first, 0), ceil_div(_distance(first, last), step)
    first = minimum(_place(start, size, -1, size - 1), size - 1)
    last = maximum(_place(end, size, -1, size - 1), -1)
    return first, ceil_div(maximum(first - last, 0), -step)


@operator(domain="sofie")
class RuntimeSlice(Indexing):
    """x[start:end:step, ...] along these axes, all of which are computed"""

    decides_sizes: ClassVar[bool] = True

    pullback = _slopes_indexing.moved_back

    def infer(
        self,
        x: TensorType,
        starts: TensorType,
        ends: TensorType,
        axes: TensorType | None = None,
        steps: TensorType | None = None,
    ) -> TensorType:
        listed = [t for t in (starts, ends, axes, steps) if t is not None]
        lengths = {listed_length(t, "starts, ends, axes and steps") for t in listed}
        require_index_types(*listed)
        if len(lengths) != 1 or max(lengths) > x.rank:
            raise ShapeError(f"needs as many starts as ends, axes and steps, not {lengths}")
        if axes is None:
            (number,) = lengths
            return TensorType(x.dtype, ((UNKNOWN,) * number) + x.shape[number:])
        return unknown(x, x.rank)

    def reference(
        self,
        x: Array,
        starts: Array,
        ends: Array,
        axes: Array | None = None,
        steps: Array | None = None,
    ) -> Array:
        given = [None if a is None else tuple(a.ravel().tolist()) for a in (axes, steps)]
        return Slice(
            tuple(starts.ravel().tolist()), tuple(ends.ravel().tolist()), *given
        ).reference(x)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, starts, ends, axes, steps = (*inputs, None, None)[:5]
        return _runtime_slice(outputs[0], x, starts, ends, axes or (), steps or ())


@operator(domain="sofie")
class RuntimeSliceAlong(Indexing):
    """x[start:end:step, ...] along these axes, from and to positions that are computed"""

    axes: tuple[int, ...] | None = from_input(3, default=None)
    steps: tuple[int, ...] | None = from_input(4, default=None)
    decides_sizes: ClassVar[bool] = True
    runtime: ClassVar[type[Operator] | None] = RuntimeSlice

    pullback = _slopes_indexing.moved_back

    def infer(self, x: TensorType, starts: TensorType, ends: TensorType) -> TensorType:
        number = listed_length(starts, "starts")
        require_index_types(starts, ends)
        if listed_length(ends, "ends") != number:
            raise ShapeError("needs as many starts as ends")
        axes, _ = _normal_axes(self.axes, self.steps, number, x.rank)
        return TensorType(
            x.dtype, tuple(UNKNOWN if i in axes else d for i, d in enumerate(x.shape))
        )

    def reference(self, x: Array, starts: Array, ends: Array) -> Array:
        given = tuple(starts.ravel().tolist()), tuple(ends.ravel().tolist())
        return Slice(*given, self.axes, self.steps).reference(x)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, starts, ends = inputs
        return _runtime_slice(outputs[0], x, starts, ends, self.axes or (), self.steps or ())


def _runtime_slice(
    y: Operand,
    x: Operand | None,
    starts: Operand | None,
    ends: Operand | None,
    axes: Operand | tuple[int, ...],
    steps: Operand | tuple[int, ...],
) -> Call:
    """Lists that are known, or absent, are `Sizes`; those that are computed are views."""
    assert x is not None and starts is not None
    views = memory(y), memory(x), memory(starts), memory(ends)
    more = (memory(a) if isinstance(a, Operand) else Sizes(a) for a in (axes, steps))
    return Call("sofie::runtime_slice", (starts.type.size, Sizes(x.type.shape), *views, *more))


def _normal_axes(
    axes: Sequence[int] | None, steps: Sequence[int] | None, number: int, rank: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes that are cut, counted from the front, and the step along each."""
    normal = tuple(normal_axis(a, rank) for a in (range(number) if axes is None else axes))
    strides_ = (1,) * number if steps is None else tuple(steps)
    if not len(normal) == len(strides_) == number:
        raise ShapeError("needs as many starts as ends, axes and steps")
    if len(set(normal)) != number:
        raise ShapeError(f"names an axis twice: {list(axes or ())}")
    if 0 in strides_:
        raise ShapeError("cannot go on in steps of 0")
    return normal, strides_


@operator(since=13)
class Slice(Read, Indexing):
    """x[start:end:step, ...] along these axes, by Python's rules"""

    starts: Shape = from_input(1)
    ends: Shape = from_input(2)
    axes: tuple[int, ...] | None = from_input(3, default=None)
    steps: tuple[int, ...] | None = from_input(4, default=None)
    takes_sizes: ClassVar[bool] = True
    is_rowwise: ClassVar[bool] = False
    runtime: ClassVar[type[Operator] | None] = RuntimeSliceAlong

    def cut(self, rank: int) -> tuple[int, ...]:
        """The axes that are cut, counted from the front."""
        return _normal_axes(self.axes, self.steps, len(self.starts), rank)[0]

    def _ranges(self, shape: Shape) -> dict[int, tuple[Dim, Dim, int]]:
        """Where each axis that is cut begins, how many elements are left, and in what steps."""
        if len(self.starts) != len(self.ends):
            raise ShapeError("needs as many starts as ends")
        number = len(self.starts)
        axes, steps = _normal_axes(self.axes, self.steps, number, len(shape))
        found = {}
        for axis, step, start, end in zip(axes, steps, self.starts, self.ends, strict=True):
            found[axis] = (*_range(start, end, step, shape[axis]), step)
        return found

    def infer(self, x: TensorType) -> TensorType:
        ranges = self._ranges(x.shape)
        shape = (ranges[i][1] if i in ranges else d for i, d in enumerate(x.shape))
        return TensorType(x.dtype, tuple(shape))

    def reference(self, x: Array) -> Array:
        axes, steps = _normal_axes(self.axes, self.steps, len(self.starts), x.ndim)
        index = [slice(None)] * x.ndim
        for axis, step, start, end in zip(axes, steps, self.starts, self.ends, strict=True):
            index[axis] = slice(start, end, step)
        return np.array(x[tuple(index)])

    def walk(self, x: TensorType, y: TensorType) -> Walk:
        ranges = self._ranges(x.shape)
        steps = list(strides(x.shape))
        start: Dim = 0
        for axis, (first, _, step) in ranges.items():
            start = start + first * steps[axis]
            steps[axis] = steps[axis] * step
        return Walk(y.shape, steps, start)

    def pullback(self, back: Backward) -> Value:
        # Steps are places that were left out: zeros again, one axis after the other.
        g = back.g
        for axis, (first, count, step) in self._ranges(back.x.shape).items():
            if step < 0:
                g = g.slice(axis, -1, -_FAR, -1)
                first = first + (count - 1) * step
            wide = abs(step)
            if wide > 1:
                g = g.reshape((*g.shape[: axis + 1], 1, *g.shape[axis + 1 :]))
                g = g.pad([(0, wide - 1 if a == axis + 1 else 0) for a in range(g.rank)])
                g = g.reshape((*g.shape[:axis], count * wide, *g.shape[axis + 2 :]))
            behind = back.x.shape[axis] - first - count * wide
            g = g.pad([(first, behind) if a == axis else (0, 0) for a in range(g.rank)])
        return g


# Borders ------------------------------------------------------------------------------------------

_MODES = {"constant": 0, "edge": 1, "reflect": 2, "wrap": 3}


def _padded(x: Array, pads: Sequence[tuple[int, int]], mode: str, value: Any) -> Array:
    """Negative pads cut off, before anything is added."""
    cut = tuple(slice(max(-b, 0), n - max(-e, 0)) for n, (b, e) in zip(x.shape, pads, strict=True))
    added = [(max(b, 0), max(e, 0)) for b, e in pads]
    kept = x[cut]
    sizes = (n + b + e for n, (b, e) in zip(kept.shape, added, strict=True))
    require_room("what is padded", sizes, x)
    if mode == "constant":
        filled = np.empty(
            tuple(n + b + e for n, (b, e) in zip(kept.shape, added, strict=True)), x.dtype
        )
        filled[...] = value
        filled[tuple(slice(b, b + n) for n, (b, _) in zip(kept.shape, added, strict=True))] = kept
        return filled
    return np.pad(kept, added, mode=mode)  # type: ignore[call-overload, no-any-return]


class _Padding(Indexing):
    mode: str

    def check(self, x: TensorType, constant_value: TensorType | None) -> None:
        if self.mode not in _MODES:
            raise ShapeError(f"has no mode {self.mode!r}, only {', '.join(_MODES)}")
        if constant_value is not None:
            require_same_dtype(x, constant_value)
            require_equal(constant_value.size, 1, "needs one value to fill in")

    def fill(self, x: Array, constant_value: Array | None) -> Any:
        return np.zeros((), x.dtype) if constant_value is None else constant_value.reshape(())

    def call(self, kernel: str, arguments: Sequence[Argument], value: Operand | None) -> Call:
        """Without a value to fill in the kernel is handed none, and fills in zeros."""
        given = () if value is None else (memory(value),)
        return Call(kernel, (_MODES[self.mode], *arguments, *given))


@operator(domain="sofie")
class RuntimePad(_Padding):
    """x with borders of a width that is computed: a constant, or as the mode says"""

    mode: str = "constant"
    decides_sizes: ClassVar[bool] = True

    pullback = _slopes_indexing.moved_back

    def infer(
        self,
        x: TensorType,
        pads: TensorType,
        constant_value: TensorType | None = None,
        axes: TensorType | None = None,
    ) -> TensorType:
        self.check(x, constant_value)
        number = x.rank if axes is None else listed_length(axes, "the axes")
        if listed_length(pads, "the pads") != 2 * number:
            raise ShapeError(f"needs {2 * number} pads, two for each axis")
        return unknown(x, x.rank)

    def reference(
        self,
        x: Array,
        pads: Array,
        constant_value: Array | None = None,
        axes: Array | None = None,
    ) -> Array:
        listed = None if axes is None else tuple(axes.ravel().tolist())
        known = Pad(pads=tuple(pads.ravel().tolist()), mode=self.mode, axes=listed)
        return known.reference(x, constant_value)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, pads, value, axes = (*inputs, None, None)[:4]
        assert x is not None
        number: Dim = x.type.rank if axes is None else axes.type.size
        views = map(memory, (outputs[0], x, pads))
        listed: Argument = Sizes(()) if axes is None else memory(axes)
        return self.call("sofie::runtime_pad", (number, Sizes(x.type.shape), *views, listed), value)


@operator(since=25)
class Pad(_Padding):
    """x with borders of this width: a constant, or as the mode says; negative ones cut off"""

    pads: Shape = from_input(1)
    mode: str = "constant"
    axes: tuple[int, ...] | None = from_input(3, default=None)
    on_device = _device_indexing.pad
    takes_sizes: ClassVar[bool] = True
    runtime: ClassVar[type[Operator] | None] = RuntimePad

    def widths(self, rank: int) -> list[tuple[Dim, Dim]]:
        """How much is added before and behind each axis."""
        axes = [normal_axis(a, rank) for a in (range(rank) if self.axes is None else self.axes)]
        if len(self.pads) != 2 * len(axes) or len(set(axes)) != len(axes):
            raise ShapeError(f"needs {2 * len(axes)} pads, two for each axis")
        found: list[tuple[Dim, Dim]] = [(0, 0)] * rank
        for i, axis in enumerate(axes):
            found[axis] = self.pads[i], self.pads[len(axes) + i]
        return found

    def infer(self, x: TensorType, constant_value: TensorType | None = None) -> TensorType:
        self.check(x, constant_value)
        shape = tuple(b + d + e for d, (b, e) in zip(x.shape, self.widths(x.rank), strict=True))
        if any(isinstance(d, int) and d < 0 for d in shape):
            raise ShapeError(f"cuts off more than there is: {self.pads} of {x}")
        return TensorType(x.dtype, shape)

    def reference(self, x: Array, constant_value: Array | None = None) -> Array:
        widths: Any = self.widths(x.ndim)
        return _padded(x, widths, self.mode, self.fill(x, constant_value))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, value = (*inputs, None)[:2]
        assert x is not None
        borders = _joined_axes(x.type.shape, self.widths(x.type.rank))
        views = map(memory, (outputs[0], x))
        return self.call("sofie::pad", (*map(Sizes, borders), *views), value)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        widths = self.widths(back.x.rank)
        if self.mode != "constant":
            return (_unfolded(back, self, widths),)
        inner = back.g.pad([(0 - b, 0 - e) for b, e in widths])
        value = back.optional(1)
        if value is None or not back.needs(1):
            return (inner,)
        kept = back.x.like(1).pad(widths)
        return inner, (back.g - back.g * kept).sum(range(back.g.rank)).reshape(value.shape)


def _joined_axes(shape: Shape, widths: Sequence[tuple[Dim, Dim]]) -> tuple[Shape, Shape, Shape]:
    """Sizes and widths with as few axes as possible: neighbours without borders are one."""
    kept: list[tuple[Dim, tuple[Dim, Dim]]] = []
    for size, width in zip(shape, widths, strict=True):
        if kept and width == (0, 0) == kept[-1][1]:
            kept[-1] = (kept[-1][0] * size, width)
        else:
            kept.append((size, width))
    kept = kept or [(1, (0, 0))]
    return tuple(s for s, _ in kept), tuple(w[0] for _, w in kept), tuple(w[1] for _, w in kept)


# Indices that are data ----------------------------------------------------------------------------


def _added(x: Value, axis: int, indices: Value, g: Value) -> Value:
    """Zeros like x to which slices along an axis are added, at the indices of a list."""
    known = indices.known
    if known is not None and known.size == 1:
        size, first = x.shape[axis], int(known.reshape(())[()])
        before = first if first >= 0 else size + first
        return g.pad([(before, size - before - 1) if a == axis else (0, 0) for a in range(g.rank)])
    if not axis:
        # Whole slices, each of which is one piece of memory.
        places = indices.reshape((indices.type.size, 1))
        if places.dtype is not DType.INT64:
            places = places.apply("Cast", to=DType.INT64)
        return x.like().through(ScatterND("add"), places, g)
    wide = indices.reshape((indices.type.size, *(1,) * (x.rank - axis - 1))).expand(g.shape)
    return x.like().through(ScatterElements(axis, "add"), wide, g)


def _unfolded(back: Backward, op: Pad, widths: Sequence[tuple[Dim, Dim]]) -> Value:
    """What borders that repeat x add to it: axis after axis, in which each place is known."""
    g, shape = back.g, list(back.g.shape)
    for axis, (size, width) in enumerate(zip(back.x.shape, widths, strict=True)):
        if width == (0, 0):
            continue
        if not all(isinstance(d, int) for d in (size, *width)):
            raise UnsupportedOperator(
                f"Pad with mode={op.mode!r} has no gradient along an axis of open size",
                remedy="Fix that size when the model is read (shapes=), or pad with zeros",
            )
        limits.spend(bytes=8 * (number_of(shape[axis]) + number_of(size)), what="a border")
        known: Any = width
        places = _padded(np.arange(number_of(size)), [known], op.mode, 0)
        shape[axis] = size
        target = back.tape.filled(0, TensorType(g.dtype, tuple(shape)))
        g = _added(target, axis, back.tape.constant(places), g)
    return g


def _around(shape: Shape, axis: int) -> tuple[Dim, Dim]:
    """How many elements the axes before ``axis`` have, and how many those behind."""
    return product(shape[:axis]), product(shape[axis + 1 :])


@operator(since=13)
class Gather(Indexing):
    """y[..., i, ...] = x[..., indices[i], ...]: slices of x along one axis"""

    axis: int = 0
    on_device = _device_indexing.slices
    takes_sizes: ClassVar[bool] = True

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        require_index_types(indices)
        axis = normal_axis(self.axis, x.rank)
        return TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))

    def reference(self, x: Array, indices: Array) -> Array:
        _check_range(indices, x.shape[self.axis])
        return np.take(x, indices.astype(np.int64), self.axis)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, indices = inputs
        assert x is not None and indices is not None
        axis = normal_axis(self.axis, x.type.rank)
        outer, inner = _around(x.type.shape, axis)
        sizes = Sizes((outer, x.type.shape[axis], inner, indices.type.size))
        return Call("sofie::gather", (sizes, *map(memory, (*outputs, x, indices))))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        axis, x, indices = back.axis(self.axis), back.x, back.input(1)
        behind = x.shape[axis + 1 :]
        flat = indices.reshape((indices.type.size,))
        g = back.g.reshape((*x.shape[:axis], indices.type.size, *behind))
        return _added(x, axis, flat, g), None


def _check_range(indices: Array, size: int) -> None:
    if indices.size and (indices.min() < -size or indices.max() >= size):
        raise IndexError(f"an index does not exist among {size} elements")


def _same_rank(x: TensorType, *others: TensorType) -> None:
    if any(o.rank != x.rank for o in others) or not x.rank:
        raise ShapeError("needs tensors with the same number of axes, at least one")


@operator(since=13)
class GatherElements(Indexing):
    """y[i, j, ...] = x[i, ..., indices[i, j, ...], ...]: indices along one axis"""

    axis: int = 0
    on_device = _device_indexing.elements

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        require_index_types(indices)
        _same_rank(x, indices)
        _check_inside(x, indices, normal_axis(self.axis, x.rank))
        return TensorType(x.dtype, indices.shape)

    def reference(self, x: Array, indices: Array) -> Array:
        _check_range(indices, x.shape[self.axis])
        return np.asarray(x[_element_index(indices, self.axis)])

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, indices = inputs
        assert x is not None and indices is not None
        axis = normal_axis(self.axis, x.type.rank)
        sizes = Sizes(x.type.shape), Sizes(indices.type.shape)
        return Call("sofie::gather_elements", (axis, *sizes, *map(memory, (*outputs, x, indices))))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        add = ScatterElements(self.axis, "add")
        return back.x.like().through(add, back.input(1), back.g), None


def _check_inside(x: TensorType, indices: TensorType, axis: int) -> None:
    """The other axes of the indices are no longer than those of x, where that is known."""
    for i, (size, known) in enumerate(zip(indices.shape, x.shape, strict=True)):
        if i != axis and isinstance(size, int) and isinstance(known, int) and size > known:
            raise ShapeError(f"has indices for {size} places along axis {i}, which has {known}")


def _element_index(indices: Array, axis: int) -> tuple[Array, ...]:
    index: list[Array] = list(np.indices(indices.shape, sparse=True))
    index[axis] = np.asarray(indices, np.int64)
    return tuple(index)


@operator(since=13)
class GatherND(Indexing):
    """y[i] = x[indices[i, 0], indices[i, 1], ...]: elements or slices, within each batch"""

    batch_dims: int = 0
    on_device = _device_indexing.places

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        require_same_dtype(indices, TensorType(DType.INT64))
        batch, depth = self.batch_dims, _index_depth(indices, x.rank - self.batch_dims)
        if not 0 <= batch < min(x.rank, indices.rank):
            raise ShapeError(f"cannot have {batch} batch axes for {x} and {indices}")
        for a, b in zip(x.shape[:batch], indices.shape[:batch], strict=True):
            require_equal(a, b, "needs the same batch axes in x and in the indices")
        return TensorType(x.dtype, (*indices.shape[:-1], *x.shape[batch + depth :]))

    def reference(self, x: Array, indices: Array) -> Array:
        batch, depth = self.batch_dims, indices.shape[-1]
        index: list[Array] = []
        for axis in range(batch):
            shape = (1,) * axis + (-1,) + (1,) * (indices.ndim - 2 - axis)
            index.append(np.arange(x.shape[axis]).reshape(shape))
        for k in range(depth):
            _check_range(indices[..., k], x.shape[batch + k])
            index.append(indices[..., k])
        return (
            np.array(x[tuple(index)])
            if index
            else np.array(np.broadcast_to(x, (*indices.shape[:-1], *x.shape)))
        )

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, indices = inputs
        assert x is not None and indices is not None
        batch, (*_, depth) = self.batch_dims, indices.type.shape
        assert isinstance(depth, int)
        extents = x.type.shape[batch : batch + depth]
        slices = product(indices.type.shape[batch:-1])
        inner = product(x.type.shape[batch + depth :])
        sizes = Sizes((product(x.type.shape[:batch]), slices, inner))
        arguments = (sizes, Sizes(extents))
        return Call("sofie::gather_nd", (*arguments, *map(memory, (*outputs, x, indices))))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        if self.batch_dims:
            return _slopes_indexing.within_batches(back, self.batch_dims), None
        return back.x.like().through(ScatterND("add"), back.input(1), back.g), None


def _index_depth(indices: TensorType, most: int) -> int:
    """How many axes one index has; it must be known."""
    depth = indices.shape[-1] if indices.rank else None
    if not isinstance(depth, int) or depth > most:
        raise ShapeError(f"needs indices of at most {most} numbers, not {indices}")
    return depth


# Scattered ----------------------------------------------------------------------------------------

_REDUCTIONS = {
    "none": "sofie::UpdateReplace",
    "add": "sofie::UpdateAdd",
    "mul": "sofie::UpdateMul",
    "max": "sofie::UpdateMax",
    "min": "sofie::UpdateMin",
}


class _Scatter(Indexing):
    reduction: str

    # With a reduction it computes.
    @property
    def moves(self) -> bool:  # type: ignore[override]
        return self.reduction == "none"

    def check(self, x: TensorType, updates: TensorType) -> DType:
        if self.reduction not in _REDUCTIONS:
            listed = ", ".join(_REDUCTIONS)
            raise TypeMismatch(f"has no reduction {self.reduction!r}, only {listed}")
        dtype = require_same_dtype(x, updates)
        if self.reduction != "none" and dtype not in NUMBERS:
            raise TypeMismatch(f"cannot reduce {dtype} with {self.reduction!r}")
        return dtype

    def put(self, y: Array, index: tuple[Any, ...], updates: Array) -> None:
        """One update after the other: the last one stays."""
        with np.errstate(all="ignore"):
            match self.reduction:
                case "none":
                    y[index] = updates
                case "add":
                    np.add.at(y, index, updates)
                case "mul":
                    np.multiply.at(y, index, updates)
                case "max":
                    np.maximum.at(y, index, updates)
                case _:
                    np.minimum.at(y, index, updates)

    def call(
        self, kernel: str, sizes: Sequence[Argument], operands: Sequence[Operand | None]
    ) -> Call:
        return Call(kernel, (self.functor(), *sizes, *map(memory, operands)))

    def functor(self) -> Functor:
        """What an update does to the element that is there."""
        return Functor(_REDUCTIONS[self.reduction])


@operator(since=18, terms=1)
class ScatterElements(_Scatter):
    """x with updates[i, j, ...] at [i, ..., indices[i, j, ...], ...]: indices along one axis"""

    axis: int = 0
    reduction: str = "none"
    on_device = _device_indexing.scattered

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        self.check(x, updates)
        require_index_types(indices)
        _same_rank(x, indices, updates)
        axis = normal_axis(self.axis, x.rank)
        for a, b in zip(indices.shape, updates.shape, strict=True):
            require_equal(a, b, "needs one update for each index")
        _check_inside(x, indices, axis)
        return x

    def reference(self, x: Array, indices: Array, updates: Array) -> Array:
        _check_range(indices, x.shape[self.axis])
        wrapped = np.where(indices < 0, indices + x.shape[self.axis], indices)
        y = np.array(x)
        self.put(y, _element_index(wrapped, self.axis), updates)
        return y

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, indices, updates = inputs
        assert x is not None and indices is not None
        axis = normal_axis(self.axis, x.type.rank)
        sizes = (axis, Sizes(x.type.shape), Sizes(indices.type.shape))
        return self.call("sofie::scatter_elements", sizes, (*outputs, x, indices, updates))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        put = partial(ScatterElements, self.axis)
        return _slopes_indexing.scattered(back, put, GatherElements(self.axis), self.reduction)


@operator(since=18, terms=1)
class ScatterND(_Scatter):
    """x with updates[i] at [indices[i, 0], indices[i, 1], ...]: elements or slices"""

    reduction: str = "none"
    is_rowwise: ClassVar[bool] = False
    on_device = _device_indexing.scattered_places

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        self.check(x, updates)
        require_same_dtype(indices, TensorType(DType.INT64))
        depth = _index_depth(indices, x.rank)
        wanted = (*indices.shape[:-1], *x.shape[depth:])
        if len(wanted) != updates.rank:
            raise ShapeError(f"needs updates of the shape {list(map(str, wanted))}, not {updates}")
        for a, b in zip(updates.shape, wanted, strict=True):
            require_equal(a, b, "needs one update for each index")
        return x

    def reference(self, x: Array, indices: Array, updates: Array) -> Array:
        index = []
        for k in range(indices.shape[-1]):
            _check_range(indices[..., k], x.shape[k])
            index.append(
                np.where(indices[..., k] < 0, indices[..., k] + x.shape[k], indices[..., k])
            )
        y = np.array(x)
        # An index without numbers is that of all of x.
        first = np.zeros(indices.shape[:-1], np.int64)
        self.put(y[None], (first, *index), updates)
        return y

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, indices, updates = inputs
        assert x is not None and indices is not None
        depth = indices.type.shape[-1]
        assert isinstance(depth, int)
        inner = product(x.type.shape[depth:])
        sizes = Sizes((product(indices.type.shape[:-1]), inner)), Sizes(x.type.shape[:depth])
        return self.call("sofie::scatter_nd", sizes, (*outputs, x, indices, updates))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return _slopes_indexing.scattered(back, ScatterND, GatherND(), self.reduction)


@operator(since=24)
class TensorScatter(Indexing):
    """past_cache with update written along one axis from write_indices[batch] on"""

    axis: int = -2
    mode: str = "linear"
    pullback = _slopes_indexing.in_cache

    def infer(
        self, past_cache: TensorType, update: TensorType, write_indices: TensorType | None = None
    ) -> TensorType:
        require_same_dtype(past_cache, update)
        _same_rank(past_cache, update)
        axis = normal_axis(self.axis, past_cache.rank)
        if self.mode not in ("linear", "circular") or axis == 0:
            raise ShapeError(f"has no meaning with mode={self.mode!r} and axis={self.axis}")
        for i, (a, b) in enumerate(zip(past_cache.shape, update.shape, strict=True)):
            if i != axis:
                require_equal(a, b, "needs equal sizes but along its axis")
        if write_indices is not None:
            require_same_dtype(write_indices, TensorType(DType.INT64))
            if write_indices.rank != 1:
                raise ShapeError(f"needs one index for each batch, not {write_indices}")
            require_equal(write_indices.shape[0], past_cache.shape[0])
        return past_cache

    def reference(
        self, past_cache: Array, update: Array, write_indices: Array | None = None
    ) -> Array:
        y = np.moveaxis(past_cache.copy(), self.axis, 1)
        new = np.moveaxis(update, self.axis, 1)
        batch, size, length = y.shape[0], y.shape[1], new.shape[1]
        start = np.zeros(batch, np.int64) if write_indices is None else write_indices
        at = start[:, None] + np.arange(length)
        if self.mode == "circular":
            at %= max(size, 1)
        elif at.size and (at.min() < 0 or at.max() >= size):
            raise IndexError("writes beyond the end of the cache")
        y[np.arange(batch)[:, None], at] = new
        return np.array(np.moveaxis(y, 1, self.axis))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        cache, update, *indices = inputs
        assert cache is not None and update is not None
        shape, axis = cache.type.shape, normal_axis(self.axis, cache.type.rank)
        inner = product(shape[axis + 1 :])
        middle = product(shape[1:axis])
        sizes = Sizes((shape[0], middle, shape[axis], update.type.shape[axis], inner))
        views = map(memory, (*outputs, cache, update, *(i for i in indices if i is not None)))
        return Call("sofie::tensor_scatter", (int(self.mode == "circular"), sizes, *views))


# Whole axes ---------------------------------------------------------------------------------------


def _centred_pads(shape: Sequence[Dim], wanted: Sequence[Dim]) -> list[tuple[Dim, Dim]]:
    """What is added (or, negative, cut off) before and behind each axis to make it so long."""
    pads: list[tuple[Dim, Dim]] = []
    for old, new in zip(shape, wanted, strict=True):
        # Half of what is missing, rounded towards zero.
        before = maximum(new - old, 0) // 2 - maximum(old - new, 0) // 2
        pads.append((before, new - old - before))
    return pads


@operator(domain="sofie")
class RuntimeCenterCropPad(Indexing):
    """The middle of x, or x in the middle of zeros, in a shape that is computed"""

    axes: tuple[int, ...] | None = None
    decides_sizes: ClassVar[bool] = True

    pullback = _slopes_indexing.moved_back

    def infer(self, x: TensorType, shape: TensorType) -> TensorType:
        axes = [normal_axis(a, x.rank) for a in (range(x.rank) if self.axes is None else self.axes)]
        if listed_length(shape, "the shape") != len(axes):
            raise ShapeError(f"needs {len(axes)} sizes, one for each axis")
        return TensorType(
            x.dtype, tuple(UNKNOWN if i in axes else d for i, d in enumerate(x.shape))
        )

    def reference(self, x: Array, shape: Array) -> Array:
        return CenterCropPad(tuple(shape.ravel().tolist()), self.axes).reference(x)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, shape = inputs
        assert x is not None
        rank = x.type.rank
        axes = [normal_axis(a, rank) for a in (range(rank) if self.axes is None else self.axes)]
        sizes = Sizes(tuple(axes)), Sizes(x.type.shape)
        return Call("sofie::runtime_center", (*sizes, *map(memory, (*outputs, x, shape))))


@operator(since=18)
class CenterCropPad(Indexing):
    """The middle of x, or x in the middle of zeros, so that the axes are so long"""

    shape: Shape = from_input(1)
    axes: tuple[int, ...] | None = None
    runtime: ClassVar[type[Operator] | None] = RuntimeCenterCropPad

    def _wanted(self, old: Shape) -> Shape:
        rank = len(old)
        axes = [normal_axis(a, rank) for a in (range(rank) if self.axes is None else self.axes)]
        if len(self.shape) != len(axes) or any(isinstance(d, int) and d < 0 for d in self.shape):
            raise ShapeError(f"needs {len(axes)} sizes, one for each axis")
        wanted = dict(zip(axes, self.shape, strict=True))
        return tuple(wanted.get(i, d) for i, d in enumerate(old))

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(x.dtype, self._wanted(x.shape))

    def reference(self, x: Array) -> Array:
        pads: Any = _centred_pads(x.shape, self._wanted(x.shape))
        return _padded(x, pads, "constant", np.zeros((), x.dtype))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        pads = _centred_pads(x.type.shape, self._wanted(x.type.shape))
        borders = map(Sizes, _joined_axes(x.type.shape, pads))
        return Call("sofie::pad", (0, *borders, *map(memory, (outputs[0], x))))

    on_device = Operator.on_device

    def formula(self, x: Value) -> tuple[Value]:
        return (x.pad(_centred_pads(x.shape, self._wanted(x.shape))),)

    def pullback(self, back: Backward) -> Value:
        pads = _centred_pads(back.x.shape, self._wanted(back.x.shape))
        return back.g.pad([(0 - before, 0 - behind) for before, behind in pads])
