"""Operators that make tensors from sizes, numbers and little else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir import dims
from sofie_rdf.ir.dims import UNKNOWN, Dim, maximum, product, require_equal
from sofie_rdf.ir.operator import (
    Argument,
    Call,
    Functor,
    Launch,
    Operand,
    Operator,
    Sizes,
    from_input,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, TensorType, normal_axis
from sofie_rdf.ops._device_moves import diagonal, one_hot, triangle, written
from sofie_rdf.ops._room import require_room
from sofie_rdf.ops._slopes_indexing import counted, moved_back
from sofie_rdf.ops.elementwise import ALL, NUMBERS
from sofie_rdf.ops.layout import memory

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


class _Creation(Operator):
    header: ClassVar[str] = "sofie/kernels/creation.hxx"
    moves: ClassVar[bool] = True


def _require(dtype: DType, allowed: frozenset[DType]) -> None:
    if dtype not in allowed:
        raise TypeMismatch(f"is not defined for {dtype}")


# Sizes --------------------------------------------------------------------------------------------


def _write_sizes(sizes: tuple[Dim, ...], y: Operand) -> Call:
    return Call("sofie::write_sizes", (Sizes(sizes), memory(y)))


@operator(since=25)
class Shape(_Creation):
    """The sizes of the axes of x, from ``start`` to ``end``"""

    start: int = 0
    end: int | None = None

    def sizes_of(self, x: TensorType) -> tuple[Dim, ...]:
        return x.shape[self.start : self.end]

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(DType.INT64, (len(self.sizes_of(x)),))

    def reference(self, x: Array) -> Array:
        return np.array(x.shape[self.start : self.end], np.int64)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        return _write_sizes(self.sizes_of(x.type), outputs[0])

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        return written(outputs[0], self.sizes_of(x.type))


@operator(since=25)
class Size(_Creation):
    """The number of elements of x"""

    def sizes_of(self, x: TensorType) -> Dim:
        return x.size

    def infer(self, x: TensorType) -> TensorType:  # noqa: ARG002
        return TensorType(DType.INT64)

    def reference(self, x: Array) -> Array:
        return np.array(x.size, np.int64)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        return _write_sizes((x.type.size,), outputs[0])

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        return written(outputs[0], (x.type.size,))


# Numbers in a row ---------------------------------------------------------------------------------


def _arange(start: Any, limit: Any, delta: Any, dtype: np.dtype[Any]) -> Array:
    """start + i * delta, rounded once."""
    if delta == 0:
        raise ShapeError("cannot go on in steps of 0")
    if dtype.kind == "f":
        wide = np.promote_types(dtype, np.float64)
        first, last, step = (wide.type(v) for v in (start, limit, delta))
        count = max(int(np.ceil((last - first) / step)), 0)
        require_room("a range", (2 * count,))
        return np.asarray(first + np.arange(count).astype(wide) * step, dtype)
    count = max(-((int(start) - int(limit)) // int(delta)), 0)
    require_room("a range", (count,))
    return np.array(range(int(start), int(limit), int(delta)), dtype)


@operator(since=27, ulp=1)
class Range(_Creation):
    """y[i] = start + i * delta, as long as it has not reached limit"""

    stash_type: int = 1
    decides_sizes: ClassVar[bool] = True
    moves: ClassVar[bool] = False
    is_rowwise: ClassVar[bool] = False

    def infer(self, start: TensorType, limit: TensorType, delta: TensorType) -> TensorType:
        dtype = require_same_dtype(start, limit, delta)
        _require(dtype, NUMBERS)
        for given in (start, limit, delta):
            require_equal(given.size, 1, "needs one number each for start, limit and delta")
        return TensorType(dtype, (UNKNOWN,))

    def reference(self, start: Array, limit: Array, delta: Array) -> Array:
        return _arange(start.item(), limit.item(), delta.item(), start.dtype)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        # The limit decides how many there are, and nothing else.
        start, delta, g = back.x, back.input(2), back.g
        steps = counted(back.tape, 0, g.shape[0], g.dtype)
        by_start, by_delta = g.sum([0], keep=False), (g * steps).sum([0], keep=False)
        return by_start.reshape(start.shape), None, by_delta.reshape(delta.shape)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        return Call("sofie::runtime_range", tuple(map(memory, (*outputs, *inputs))))


@operator(domain="sofie", ulp=1)
class KnownRange(_Creation):
    """y[i] = start + i * delta, as long as it has not reached limit; all three are known"""

    start: Dim | float
    limit: Dim | float
    delta: int | float
    dtype: DType

    def infer(self) -> TensorType:
        _require(self.dtype, NUMBERS - frozenset(d for d in DType if d.is_half))
        return TensorType(self.dtype, (self._count(),))

    def _count(self) -> Dim:
        start, limit, delta = self.start, self.limit, self.delta
        if delta == 0:
            raise ShapeError("cannot go on in steps of 0")
        if self.dtype.is_float:
            return len(_arange(start, limit, delta, self.dtype.numpy))
        assert not isinstance(start, float) and not isinstance(limit, float)
        assert isinstance(delta, int)
        distance = limit - start if delta > 0 else start - limit
        return maximum(dims.ceil_div(distance, abs(delta)), 0)

    def on_sizes(self, *_: Any) -> Array:
        start: Any = self.start
        count: Any = self._count()
        return np.array([start + i * self.delta for i in range(count)] or [], dtype=object)

    def reference(self) -> Array:
        return _arange(self.start, self.limit, self.delta, self.dtype.numpy)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        assert not inputs
        y = memory(outputs[0])
        (count,) = outputs[0].type.shape
        if self.dtype.is_float:
            numbers: tuple[Argument, ...] = (
                Functor("sofie::Progression", (float(self.start), float(self.delta))),  # type: ignore[arg-type]
            )
        else:
            numbers = (self.start, self.delta)  # type: ignore[assignment]
        return Call("sofie::fill_range", (count, *numbers, y))

    def on_device(
        self,
        inputs: Sequence[Operand | None],  # noqa: ARG002
        outputs: Sequence[Operand],
    ) -> tuple[Launch, ...]:
        number = "double" if self.dtype.is_float else "sofie::device::Index"
        numbers: tuple[Any, ...] = (self.start, self.delta)
        if self.dtype.is_float:
            numbers = tuple(map(float, numbers))
        kernel, y = f"sofie::device::Range<{number}>", outputs[0]
        return (Launch(kernel, numbers, (y,), y.type.size, "sofie/device/copy.hxx"),)


# Matrices of zeros and ones -----------------------------------------------------------------------


def bits_of_one(dtype: DType) -> Functor:
    """The bits of the number 1 of this type, as two numbers of 32 bits."""
    one = np.ones(1, dtype.numpy)
    bits = int(one.view(f"u{one.itemsize}")[0])
    return Functor("sofie::ElementBits", (bits & 0xFFFFFFFF, bits >> 32))


@operator(since=22)
class EyeLike(_Creation):
    """y[i, j] = 1 where j - i = k, else 0, in the shape of x"""

    dtype: DType | None = None
    k: int = 0
    is_rowwise: ClassVar[bool] = False

    def infer(self, x: TensorType) -> TensorType:
        if x.rank != 2:
            raise ShapeError(f"makes matrices, which have two axes, not {x}")
        dtype = self.dtype or x.dtype
        _require(dtype, ALL | {DType.FLOAT16, DType.BFLOAT16})
        return TensorType(dtype, x.shape)

    def reference(self, x: Array) -> Array:
        dtype = x.dtype if self.dtype is None else self.dtype.numpy
        rows, columns = x.shape
        return np.asarray(np.eye(rows, columns, k=self.k), dtype)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        assert len(inputs) == 1
        sizes = Sizes((*outputs[0].type.shape, _clamped(self.k)))
        return Call("sofie::eye", (bits_of_one(outputs[0].type.dtype), sizes, memory(outputs[0])))

    def on_device(
        self,
        inputs: Sequence[Operand | None],  # noqa: ARG002
        outputs: Sequence[Operand],
    ) -> tuple[Launch, ...]:
        return diagonal(outputs[0], _clamped(self.k))

    def pullback(self, back: Backward) -> None:
        """Only the shape of x matters."""


def _clamped(k: int) -> int:
    """A diagonal that far away is beyond every matrix."""
    return max(-(2**62), min(k, 2**62))


class _Triangle(_Creation):
    upper: bool
    is_rowwise: ClassVar[bool] = False

    def check(self, x: TensorType) -> TensorType:
        if x.rank < 2:
            raise ShapeError(f"needs matrices in the last two axes, not {x}")
        return x

    def kept(self, x: Array, k: int) -> Array:
        rows, columns = (np.arange(n) for n in x.shape[-2:])
        distance = columns - rows[:, None]
        mask = distance >= k if self.upper else distance <= k
        return np.where(mask, x, np.zeros((), x.dtype))

    def call(self, y: Operand, x: Operand, k: Argument) -> Call:
        *batch, rows, columns = x.type.shape
        sizes = Sizes((product(batch), rows, columns))
        views = memory(y), memory(x)
        return Call("sofie::triangle", (int(self.upper), sizes, *views, k))


@operator(domain="sofie")
class RuntimeTrilu(_Triangle):
    """x with zeros where j - i < k (upper) or j - i > k (lower), for a k that is computed"""

    upper: bool = True

    def infer(self, x: TensorType, k: TensorType) -> TensorType:
        require_same_dtype(k, TensorType(DType.INT64))
        require_equal(k.size, 1, "needs one number for k")
        return self.check(x)

    def reference(self, x: Array, k: Array) -> Array:
        return self.kept(x, int(k.item()))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, k = inputs
        assert x is not None
        return self.call(outputs[0], x, memory(k))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return back.g.through(self, back.input(1)), None


@operator(since=14)
class Trilu(_Triangle):
    """x with zeros where j - i < k (upper) or j - i > k (lower)"""

    k: int | tuple[int, ...] = from_input(1, default=0)
    upper: bool = True
    runtime: ClassVar[type[Operator] | None] = RuntimeTrilu

    def _k(self) -> int:
        # Some exporters write a list of one.
        (k,) = self.k if isinstance(self.k, tuple) else (self.k,)
        return k

    def infer(self, x: TensorType) -> TensorType:
        return self.check(x)

    def reference(self, x: Array) -> Array:
        return self.kept(x, self._k())

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        return self.call(outputs[0], x, _clamped(self._k()))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        return triangle(outputs[0], x, _clamped(self._k()), upper=self.upper)

    def pullback(self, back: Backward) -> Value:
        return back.g.through(self)


# One of many --------------------------------------------------------------------------------------


class _OneHot(_Creation):
    # The indices may be numbers of any type, and become integers.
    moves: ClassVar[bool] = False
    axis: int

    def check(self, indices: TensorType, values: TensorType, depth: Dim) -> TensorType:
        _require(indices.dtype, NUMBERS)
        _require(values.dtype, ALL)
        if values.rank != 1:
            raise ShapeError(f"needs a value for off and one for on, not {values}")
        require_equal(values.shape[0], 2, "needs a value for off and one for on")
        axis = normal_axis(self.axis, indices.rank + 1)
        return TensorType(values.dtype, (*indices.shape[:axis], depth, *indices.shape[axis:]))

    def hot(self, indices: Array, depth: int, values: Array) -> Array:
        """Negative indices count from the end; those that do not exist are off everywhere."""
        axis = normal_axis(self.axis, indices.ndim + 1)
        require_room("one-hot rows", (indices.size, depth))
        near = np.where(np.abs(indices) <= depth, indices, depth).astype(np.int64)
        place = np.expand_dims(np.where(near < 0, near + depth, near), axis)
        wanted = np.arange(depth).reshape((-1,) + (1,) * (indices.ndim - axis))
        found: Array = np.where(place == wanted, values[1], values[0])
        return found

    def split(self, indices: TensorType) -> tuple[Dim, Dim]:
        axis = normal_axis(self.axis, indices.rank + 1)
        return product(indices.shape[:axis]), product(indices.shape[axis:])


@operator(domain="sofie")
class RuntimeOneHot(_OneHot):
    """y[..., j, ...] = values[1] where j = indices[...], else values[0]; how many j is computed"""

    axis: int = -1
    decides_sizes: ClassVar[bool] = True

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return moved_back(self, back, 2)

    def infer(self, indices: TensorType, depth: TensorType, values: TensorType) -> TensorType:
        _require(depth.dtype, NUMBERS)
        require_equal(depth.size, 1, "needs one number for its depth")
        return self.check(indices, values, UNKNOWN)

    def reference(self, indices: Array, depth: Array, values: Array) -> Array:
        return self.hot(indices, int(depth.item()), values)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        indices, depth, values = inputs
        assert indices is not None
        axis = normal_axis(self.axis, indices.type.rank + 1)
        views = map(memory, (*outputs, indices, depth, values))
        return Call("sofie::runtime_one_hot", (axis, Sizes(indices.type.shape), *views))


@operator(since=28)
class OneHot(_OneHot):
    """y[..., j, ...] = values[1] where j = indices[...], else values[0]"""

    depth: Dim | float | tuple[Dim, ...] | tuple[float, ...] = from_input(1)
    axis: int = -1
    runtime: ClassVar[type[Operator] | None] = RuntimeOneHot

    def _depth(self) -> Dim:
        """ONNX allows a list of one, and numbers of any type."""
        (depth,) = self.depth if isinstance(self.depth, tuple) else (self.depth,)
        whole = int(depth) if isinstance(depth, float) else depth
        if isinstance(whole, int) and whole < 0:
            raise ShapeError(f"cannot have the depth {whole}")
        return whole

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return moved_back(self, back, 1)

    def infer(self, indices: TensorType, values: TensorType) -> TensorType:
        return self.check(indices, values, self._depth())

    def reference(self, indices: Array, values: Array) -> Array:
        depth: Any = self._depth()
        return self.hot(indices, depth, values)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        indices, values = inputs
        assert indices is not None
        outer, inner = self.split(indices.type)
        views = map(memory, (*outputs, indices, values))
        return Call("sofie::one_hot", (Sizes((outer, self._depth(), inner)), *views))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        indices, values = inputs
        assert indices is not None and values is not None
        _, inner = self.split(indices.type)
        return one_hot(outputs[0], indices, values, self._depth(), inner)
