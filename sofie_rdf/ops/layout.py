"""Operators that say that their shape is another, and those that put whole axes elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import ShapeError
from sofie_rdf.ir.dims import (
    UNKNOWN,
    Dim,
    SizesDiffer,
    ceil_div,
    maximum,
    minimum,
    name_of,
    number_of,
    product,
    require_equal,
    total,
)
from sofie_rdf.ir.operator import (
    Argument,
    Call,
    Launch,
    Operand,
    Operator,
    Sizes,
    Tensor,
    from_input,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType, broadcast, normal_axis
from sofie_rdf.kernels.choice import Choice
from sofie_rdf.kernels.transpose import READS, ReadProblem, merged
from sofie_rdf.ops._device_moves import parts, strided
from sofie_rdf.ops._room import require_room
from sofie_rdf.ops._slopes_indexing import moved_back
from sofie_rdf.ops.elementwise import INTEGERS

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


HEADER = "sofie/kernels/layout.hxx"


# Shared with the other families -------------------------------------------------------------------


def memory(operand: Operand | None) -> Tensor:
    """The memory of a value, without extents.

    The kernel is told the sizes apart, at run time, so that it is one for all shapes.
    """
    assert operand is not None
    return Tensor(operand, ())


def strides(shape: Shape) -> Shape:
    """How many elements lie between neighbours along each axis of a dense tensor."""
    return tuple(product(shape[axis + 1 :]) for axis in range(len(shape)))


@dataclass(frozen=True, slots=True)
class Walk:
    """y is dense and has these extents; x is read from ``start`` on, in these steps."""

    extents: Sequence[Dim]
    steps: Sequence[Dim]
    start: Dim = 0

    def choice(self, x: TensorType) -> Choice:
        return READS.choose(ReadProblem(x.dtype.nbytes, *merged(self.extents, self.steps)))

    def call(self, y: Operand, x: Operand) -> Call:
        choice = self.choice(x.type)
        sizes = map(Sizes, merged(self.extents, self.steps))
        arguments = (*sizes, self.start, memory(y), memory(x))
        return Call(f"sofie::{choice.kernel}", arguments, header=choice.header)


class Read(Operator):
    """An operator that reads its input in steps."""

    def walk(self, x: TensorType, y: TensorType) -> Walk:
        """The steps."""
        raise NotImplementedError(f"{self.name}.walk")

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:
        (x,) = inputs
        assert x is not None
        return self.walk(x.type, outputs[0].type).choice(x.type)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        return self.walk(x.type, outputs[0].type).call(outputs[0], x)


def transposed(shape: Shape, perm: Sequence[int]) -> Walk:
    """x, seen in this shape, with its axes in another order."""
    steps = strides(shape)
    return Walk([shape[a] for a in perm], [steps[a] for a in perm])


def require_index_types(*types: TensorType) -> None:
    """Positions are int32 or int64."""
    for type_ in types:
        if type_.dtype not in (DType.INT32, DType.INT64):
            require_same_dtype(type_, TensorType(DType.INT64))


def listed_length(type_: TensorType, what: str) -> int:
    """The number of elements of a list of sizes that is computed; it must be known itself."""
    if type_.dtype not in INTEGERS:
        require_same_dtype(type_, TensorType(DType.INT64))
    if type_.rank > 1 or not isinstance(type_.size, int):
        raise ShapeError(f"needs a list of known length for {what}, not {type_}")
    return type_.size


def unknown(type_: TensorType, rank: int) -> TensorType:
    """The same element type with sizes that only the data decide."""
    return TensorType(type_.dtype, (UNKNOWN,) * rank)


class _Layout(Operator):
    header: ClassVar[str] = HEADER
    moves: ClassVar[bool] = True

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        launches = strided(self.lower(inputs, outputs))
        return super().on_device(inputs, outputs) if launches is None else launches


class _Alias(_Layout):
    """The same elements in the same order, with another shape: no work at run time."""

    takes_sizes: ClassVar[bool] = True

    @property
    def is_alias(self) -> bool:
        return True

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs[:1]
        assert x is not None
        size = (x.type.size,)
        return Call("sofie::copy", (Tensor(outputs[0], size), Tensor(x, size)))

    def pullback(self, back: Backward) -> Value:
        return back.g.reshape(back.x.shape)


class Reshaped(_Layout):
    """The same elements with a shape that is computed: copied, as it is memory of its own."""

    decides_sizes: ClassVar[bool] = True
    kernel: ClassVar[str]

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, shape = inputs
        assert x is not None and shape is not None
        extra = (*self.arguments(), shape.type.size)
        return Call(self.kernel, (*extra, Sizes(x.type.shape), *map(memory, (*outputs, x, shape))))

    def arguments(self) -> tuple[Argument, ...]:
        return ()


# The same memory ----------------------------------------------------------------------------------


@operator(since=21)
class Identity(_Alias):
    """x"""

    def infer(self, x: TensorType) -> TensorType:
        return x

    def reference(self, x: Array) -> Array:
        return x


@operator(since=13)
class Dropout(_Alias):
    """x: nothing is dropped at inference"""

    def infer(self, x: TensorType) -> TensorType:
        return x

    def reference(self, x: Array) -> Array:
        return x


@operator(domain="sofie")
class RuntimeReshape(Reshaped):
    """x in a shape that is computed, in which 0 and -1 mean what they mean for Reshape"""

    kernel: ClassVar[str] = "sofie::runtime_reshape"
    allowzero: bool = False

    def infer(self, x: TensorType, shape: TensorType) -> TensorType:
        return unknown(x, listed_length(shape, "the shape"))

    def reference(self, x: Array, shape: Array) -> Array:
        return Reshape(tuple(shape.ravel().tolist()), self.allowzero).reference(x)

    def arguments(self) -> tuple[Argument, ...]:
        return (int(self.allowzero),)

    def pullback(self, back: Backward) -> Value:
        return back.g.reshape(back.x.shape)


@operator(since=21)
class Reshape(_Alias):
    """x in another shape; 0 keeps an axis (unless allowzero) and one -1 takes what is left"""

    shape: Shape = from_input(1)
    allowzero: bool = False
    runtime: ClassVar[type[Operator] | None] = RuntimeReshape

    def infer(self, x: TensorType) -> TensorType:
        shape = self._resolved(x.shape)
        for size, wanted in self._doubtful(x, shape):
            message = f"cannot give {wanted} elements the shape [{_listed(shape)}]"
            if isinstance(size, int) and isinstance(wanted, int):
                raise ShapeError(message)
            # One may be a name for the other; else the run tells.
            if all(isinstance(d, int) or name_of(d) for d in (size, wanted)):
                raise SizesDiffer(message, pair=(size, wanted))
        return TensorType(x.dtype, shape)

    def requires(self, inputs: Sequence[TensorType | None]) -> tuple[tuple[Dim, Dim], ...]:
        (x,) = inputs
        assert x is not None
        return self._doubtful(x, self._resolved(x.shape))

    @staticmethod
    def _doubtful(x: TensorType, shape: Shape) -> tuple[tuple[Dim, Dim], ...]:
        """The number of elements before and after, where they are not equal for certain."""
        size = product(shape)
        return () if size == x.size else ((size, x.size),)

    def _resolved(self, old: Shape) -> Shape:
        """The new shape, with what 0 and -1 stand for."""
        new = list(self.shape)
        kept = set() if self.allowzero else {i for i, d in enumerate(new) if d == 0}
        for i in kept:
            new[i] = old[normal_axis(i, len(old))]
        if new.count(-1) > 1 or any(isinstance(d, int) and d < -1 for d in new):
            raise ShapeError(f"has no meaning for the shape [{_listed(self.shape)}]")
        if -1 in new:
            # Axes that are kept are on both sides, and may be of size 0.
            elements = product(d for i, d in enumerate(old) if i not in kept)
            known = product(d for i, d in enumerate(new) if i not in kept and d != -1)
            new[new.index(-1)] = _rest(elements, known)
        return tuple(new)

    def reference(self, x: Array) -> Array:
        # One size that is not known here is what is left.
        known = Reshape(tuple(d if isinstance(d, int) else -1 for d in self.shape), self.allowzero)
        return np.reshape(x, known._resolved(x.shape))  # type: ignore[arg-type]


def _listed(shape: Shape) -> str:
    return ", ".join(map(str, shape))


def _rest(size: Dim, known: Dim) -> Dim:
    if known == 0:
        raise ShapeError("cannot tell what -1 means beside an axis of size 0")
    rest = size // known
    if isinstance(size, int) and isinstance(known, int) and rest * known != size:
        raise ShapeError(f"cannot divide {size} elements by {known}")
    return rest


@operator(since=21)
class Flatten(_Alias):
    """x as a matrix: the axes before ``axis`` are its rows, the others its columns"""

    axis: int = 1

    def infer(self, x: TensorType) -> TensorType:
        axis = normal_axis(self.axis, x.rank, end=True)
        return TensorType(x.dtype, (product(x.shape[:axis]), product(x.shape[axis:])))

    def reference(self, x: Array) -> Array:
        axis = normal_axis(self.axis, x.ndim, end=True)
        rows = int(np.prod(x.shape[:axis], dtype=np.int64))
        return np.reshape(x, (rows, int(np.prod(x.shape[axis:], dtype=np.int64))))


@operator(domain="sofie")
class RuntimeSqueeze(Reshaped):
    """x without those axes of size 1 whose numbers are computed"""

    kernel: ClassVar[str] = "sofie::runtime_squeeze"

    def infer(self, x: TensorType, axes: TensorType) -> TensorType:
        rank = x.rank - listed_length(axes, "the axes")
        if rank < 0:
            raise ShapeError(f"cannot remove {axes.size} axes of {x.rank}")
        return unknown(x, rank)

    def reference(self, x: Array, axes: Array) -> Array:
        return np.squeeze(x, tuple(axes.ravel().tolist()))

    def pullback(self, back: Backward) -> Value:
        return back.g.reshape(back.x.shape)


@operator(since=21)
class Squeeze(_Alias):
    """x without axes of size 1: those named, or all"""

    axes: tuple[int, ...] | None = from_input(1, default=None)
    runtime: ClassVar[type[Operator] | None] = RuntimeSqueeze

    def _axes(self, shape: Shape) -> set[int]:
        if self.axes is None:
            return {i for i, d in enumerate(shape) if d == 1}
        return {normal_axis(a, len(shape)) for a in self.axes}

    def infer(self, x: TensorType) -> TensorType:
        gone = self._axes(x.shape)
        for axis in gone:
            require_equal(x.shape[axis], 1, "can only remove axes of size 1")
        return TensorType(x.dtype, tuple(d for i, d in enumerate(x.shape) if i not in gone))

    def reference(self, x: Array) -> Array:
        return np.squeeze(x, tuple(self._axes(x.shape)))


@operator(domain="sofie")
class RuntimeUnsqueeze(Reshaped):
    """x with axes of size 1 put in, at places of the result that are computed"""

    kernel: ClassVar[str] = "sofie::runtime_unsqueeze"

    def infer(self, x: TensorType, axes: TensorType) -> TensorType:
        return unknown(x, x.rank + listed_length(axes, "the axes"))

    def reference(self, x: Array, axes: Array) -> Array:
        return np.expand_dims(x, tuple(axes.ravel().tolist()))

    def pullback(self, back: Backward) -> Value:
        return back.g.reshape(back.x.shape)


@operator(since=21)
class Unsqueeze(_Alias):
    """x with axes of size 1 put in, so that they stand at these places of the result"""

    axes: tuple[int, ...] = from_input(1)
    runtime: ClassVar[type[Operator] | None] = RuntimeUnsqueeze

    def infer(self, x: TensorType) -> TensorType:
        rank = x.rank + len(self.axes)
        new = {normal_axis(a, rank) for a in self.axes}
        if len(new) != len(self.axes):
            raise ShapeError(f"names an axis twice: {self.axes}")
        old = iter(x.shape)
        return TensorType(x.dtype, tuple(1 if i in new else next(old) for i in range(rank)))

    def reference(self, x: Array) -> Array:
        return np.expand_dims(x, self.axes)


# Parts --------------------------------------------------------------------------------------------


def _rows(types: Sequence[TensorType], axis: int) -> tuple[Dim, Shape]:
    """The tensors as matrices whose rows begin at ``axis``: how many rows, and their elements."""
    return product(types[0].shape[:axis]), tuple(product(t.shape[axis:]) for t in types)


@operator(since=13)
class Concat(_Layout):
    """The inputs one after the other along one axis"""

    axis: int
    takes_sizes: ClassVar[bool] = True

    def infer(self, *inputs: TensorType) -> TensorType:
        dtype = require_same_dtype(*inputs)
        first = inputs[0]
        axis = normal_axis(self.axis, first.rank)
        message = f"joins tensors that differ along other axes than {self.axis}"
        differ: list[tuple[Dim, Dim]] = []
        for other in inputs[1:]:
            if other.rank != first.rank:
                break
            pairs = zip(_without(other.shape, axis), _without(first.shape, axis), strict=True)
            differ += ((a, b) for a, b in pairs if a != b)
        if differ:
            raise SizesDiffer(message, pair=differ[0], more=tuple(differ[1:]))
        if any(other.rank != first.rank for other in inputs):
            raise ShapeError(message)
        joined = total(one.shape[axis] for one in inputs)
        return TensorType(dtype, (*first.shape[:axis], joined, *first.shape[axis + 1 :]))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        present = [i for i in inputs if i is not None]
        axis = normal_axis(self.axis, outputs[0].type.rank)
        rows, counts = _rows([i.type for i in present], axis)
        views = map(memory, (outputs[0], *present))
        return Call("sofie::concat", (rows, Sizes(counts), *views))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        present = [i for i in inputs if i is not None]
        axis = normal_axis(self.axis, outputs[0].type.rank)
        return parts(outputs[0], present, *_rows([i.type for i in present], axis), joined=True)

    def reference(self, *inputs: Array) -> Array:
        return np.concatenate(inputs, self.axis)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        axis, found = back.axis(self.axis), []
        start: Dim = 0
        for number in range(len(back.inputs)):
            end = start + back.input(number).shape[axis]
            found.append(back.g.slice(axis, start, end) if back.needs(number) else None)
            start = end
        return tuple(found)


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


def _cut(x: Array, parts: Sequence[int], axis: int) -> tuple[Array, ...]:
    if sum(parts) != x.shape[axis] or min(parts, default=0) < 0:
        raise ShapeError(f"cannot cut {x.shape[axis]} into {list(parts)}")
    return tuple(np.split(x, list(accumulate(parts))[:-1], axis))


@operator(domain="sofie")
class RuntimeSplit(_Layout):
    """x cut along one axis into parts whose sizes are computed"""

    axis: int = 0
    decides_sizes: ClassVar[bool] = True
    writes_all: ClassVar[bool] = True

    pullback = moved_back

    def infer(self, x: TensorType, split: TensorType) -> tuple[TensorType, ...]:
        axis = normal_axis(self.axis, x.rank)
        shape = (*x.shape[:axis], UNKNOWN, *x.shape[axis + 1 :])
        return (TensorType(x.dtype, shape),) * listed_length(split, "the parts")

    def reference(self, x: Array, split: Array) -> tuple[Array, ...]:
        return _cut(x, split.ravel().tolist(), self.axis)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, split = inputs
        assert x is not None
        axis = normal_axis(self.axis, x.type.rank)
        views = map(memory, (*outputs, x, split))
        return Call("sofie::runtime_split", (axis, Sizes(x.type.shape), *views), len(outputs))


@operator(since=18)
class Split(_Layout):
    """x cut along one axis into parts of these sizes, or into num_outputs equal ones"""

    axis: int = 0
    num_outputs: int | None = None
    split: Shape | None = from_input(1, default=None)
    takes_sizes: ClassVar[bool] = True
    # Outputs that nobody names are parts all the same.
    writes_all: ClassVar[bool] = True
    runtime: ClassVar[type[Operator] | None] = RuntimeSplit

    def _parts(self, whole: Dim) -> Shape:
        """The sizes of the parts; of equal ones the last may be smaller."""
        if self.split is not None:
            return self.split
        if self.num_outputs is None or self.num_outputs < 1:
            raise ShapeError("says neither into how many parts nor into which")
        number = self.num_outputs
        limits.require(nodes=number, what=f"a Split into {number} parts")
        if whole % number == 0:
            return (whole // number,) * number
        part = ceil_div(whole, number)
        return tuple(maximum(minimum(part, whole - i * part), 0) for i in range(number))

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        axis = normal_axis(self.axis, x.rank)
        parts = self._parts(x.shape[axis])
        if any(isinstance(p, int) and p < 0 for p in parts):
            raise ShapeError(f"has parts of negative size: [{_listed(parts)}]")
        if self.split is not None:
            message = f"cannot cut {x.shape[axis]} into [{_listed(parts)}]"
            require_equal(total(parts), x.shape[axis], message)
        before, behind = x.shape[:axis], x.shape[axis + 1 :]
        return tuple(TensorType(x.dtype, (*before, part, *behind)) for part in parts)

    def on_sizes(self, *inputs: Any) -> Any:
        return self.reference(*inputs)

    def reference(self, x: Array) -> tuple[Array, ...]:
        parts: Any = self._parts(x.shape[self.axis])
        return _cut(x, parts, self.axis)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        axis = normal_axis(self.axis, x.type.rank)
        rows, counts = _rows(self.infer(x.type), axis)
        views = map(memory, (*outputs, x))
        return Call("sofie::split", (rows, Sizes(counts), *views), len(outputs))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        axis = normal_axis(self.axis, x.type.rank)
        return parts(x, outputs, *_rows(self.infer(x.type), axis), joined=False)

    def pullback(self, back: Backward) -> Value:
        first, *others = map(back.slope, range(len(back.outputs)))
        return first.concat(others, back.axis(self.axis))


# Order --------------------------------------------------------------------------------------------


@operator(since=21)
class Transpose(Read, _Layout):
    """y[i_perm[0], i_perm[1], ...] = x[i_0, i_1, ...]; without perm the axes are reversed"""

    perm: tuple[int, ...] | None = None
    takes_sizes: ClassVar[bool] = True

    def permutation(self, rank: int) -> tuple[int, ...]:
        """The order of the axes, all counted from the front."""
        perm = tuple(range(rank))[::-1] if self.perm is None else self.perm
        normal = tuple(normal_axis(a, rank) for a in perm)
        if sorted(normal) != list(range(rank)):
            raise ShapeError(f"cannot order {rank} axes by {list(perm)}")
        return normal

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(x.dtype, tuple(x.shape[a] for a in self.permutation(x.rank)))

    def walk(self, x: TensorType, y: TensorType) -> Walk:  # noqa: ARG002
        return transposed(x.shape, self.permutation(x.rank))

    def reference(self, x: Array) -> Array:
        # Not ascontiguousarray, which makes a vector of a scalar.
        return np.asarray(np.transpose(x, self.perm), order="C")

    def pullback(self, back: Backward) -> Value:
        perm = self.permutation(back.x.rank)
        return back.g.transpose([perm.index(a) for a in range(len(perm))])


# Repeated -----------------------------------------------------------------------------------------


def _aligned(shape: Shape, rank: int) -> Shape:
    """The shape with axes of size 1 before it."""
    return (1,) * (rank - len(shape)) + shape


@operator(domain="sofie")
class RuntimeExpand(Reshaped):
    """x repeated along axes of size 1, as broadcasting against a shape that is computed"""

    kernel: ClassVar[str] = "sofie::runtime_expand"

    pullback = moved_back

    def infer(self, x: TensorType, shape: TensorType) -> TensorType:
        length = listed_length(shape, "the shape")
        rank = max(length, x.rank)
        # What is not broadcast against anything stays.
        return TensorType(x.dtype, (*x.shape[: rank - length], *(UNKNOWN,) * length))

    def reference(self, x: Array, shape: Array) -> Array:
        return Expand(tuple(shape.ravel().tolist())).reference(x)


@operator(since=13)
class Expand(Read, _Layout):
    """x repeated along axes of size 1, as broadcasting against a tensor of this shape"""

    shape: Shape = from_input(1)
    takes_sizes: ClassVar[bool] = True
    runtime: ClassVar[type[Operator] | None] = RuntimeExpand

    def infer(self, x: TensorType) -> TensorType:
        if any(isinstance(d, int) and d < 0 for d in self.shape):
            raise ShapeError(f"has no meaning for the shape [{_listed(self.shape)}]")
        return TensorType(x.dtype, broadcast((x.shape, self.shape)))

    def reference(self, x: Array) -> Array:
        shape = np.broadcast_shapes(x.shape, self.shape)  # type: ignore[arg-type]
        require_room("what is repeated", shape, x)
        return np.array(np.broadcast_to(x, shape))

    def walk(self, x: TensorType, y: TensorType) -> Walk:
        old = _aligned(x.shape, y.rank)
        steps = [0 if a != b else s for a, b, s in zip(old, y.shape, strides(old), strict=True)]
        return Walk(y.shape, steps)

    def pullback(self, back: Backward) -> Value:
        return back.g


@operator(domain="sofie")
class RuntimeTile(Reshaped):
    """x repeated as a whole along each axis, as often as is computed"""

    kernel: ClassVar[str] = "sofie::runtime_tile"

    pullback = moved_back

    def infer(self, x: TensorType, repeats: TensorType) -> TensorType:
        _one_for_each_axis(listed_length(repeats, "the repeats"), x)
        return unknown(x, x.rank)

    def reference(self, x: Array, repeats: Array) -> Array:
        return Tile(tuple(repeats.ravel().tolist())).reference(x)


def _one_for_each_axis(number: int, x: TensorType) -> None:
    if number != x.rank:
        raise ShapeError(f"needs {x.rank} repeats, one for each axis, not {number}")


@operator(since=13)
class Tile(Read, _Layout):
    """x repeated as a whole along each axis, so many times"""

    repeats: Shape = from_input(1)
    takes_sizes: ClassVar[bool] = True
    runtime: ClassVar[type[Operator] | None] = RuntimeTile

    def infer(self, x: TensorType) -> TensorType:
        _one_for_each_axis(len(self.repeats), x)
        if any(isinstance(r, int) and r < 0 for r in self.repeats):
            raise ShapeError(f"cannot repeat [{_listed(self.repeats)}] times")
        return TensorType(x.dtype, tuple(d * r for d, r in zip(x.shape, self.repeats, strict=True)))

    def reference(self, x: Array) -> Array:
        require_room("what is repeated", (*x.shape, *map(number_of, self.repeats)), x)
        return np.asarray(np.tile(x, self.repeats))  # type: ignore[arg-type]

    def walk(self, x: TensorType, y: TensorType) -> Walk:  # noqa: ARG002
        pairs = zip(self.repeats, x.shape, strict=True)
        steps = [s for step in strides(x.shape) for s in (0, step)]
        return Walk([d for pair in pairs for d in pair], steps)

    def pullback(self, back: Backward) -> Value:
        pairs = zip(self.repeats, back.x.shape, strict=True)
        apart = back.g.reshape(tuple(d for pair in pairs for d in pair))
        return apart.sum(range(0, apart.rank, 2), keep=False)
