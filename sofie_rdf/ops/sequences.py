"""Operators on sequences of tensors, which are two tensors each: see `sofie_rdf.ir.sequences`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import UNKNOWN, Dim, maximum, product
from sofie_rdf.ir.operator import Call, Operand, Operator, Sizes, Tensor, operator
from sofie_rdf.ir.sequences import SEQUENCE_PARTS, pack, unpack
from sofie_rdf.ir.types import Array, DType, TensorType, normal_axis
from sofie_rdf.ops._slopes_indexing import moved_back

__all__ = [
    "SEQUENCE_PARTS",
    "ConcatSequence",
    "SequenceAt",
    "SequenceErase",
    "SequenceInsert",
    "SplitSequence",
    "pack",
    "unpack",
]


class _OnSequence(Operator):
    header: ClassVar[str] = "sofie/kernels/sequences.hxx"
    moves: ClassVar[bool] = True
    is_rowwise: ClassVar[bool] = False
    decides_sizes: ClassVar[bool] = True

    pullback = moved_back

    @staticmethod
    def check(elements: TensorType, shapes: TensorType, position: TensorType | None = None) -> None:
        """`TypeMismatch` or `ShapeError` for what is no sequence, or no place in one."""
        if elements.rank != 1 or shapes.rank != 2 or shapes.dtype is not DType.INT64:
            raise ShapeError("needs a sequence: elements with one axis, int64 shapes with two")
        if position is not None and (position.rank or position.dtype is not DType.INT64):
            raise TypeMismatch(f"needs one int64 for the place, not {position}")


def _place(position: Array, count: int) -> int:
    """A place among ``count`` that may be counted from the back."""
    place = int(position) + (count if position < 0 else 0)
    if not 0 <= place < count:
        raise ValueError(f"there is no place {int(position)} in a sequence of {count}")
    return place


def _memory(operand: Operand) -> Tensor:
    return Tensor(operand, (operand.type.size,))


def _all(operands: Sequence[Operand | None]) -> list[Operand]:
    return [o for o in operands if o is not None]


@operator(domain="sofie")
class SequenceAt(_OnSequence):
    """the tensor at a place of a sequence; it has ``rank`` axes"""

    rank: int

    def infer(self, elements: TensorType, shapes: TensorType, position: TensorType) -> TensorType:
        self.check(elements, shapes, position)
        return elements.reshaped((UNKNOWN,) * self.rank)

    def reference(self, elements: Array, shapes: Array, position: Array) -> Array:
        items = unpack(elements, shapes)
        item = items[_place(position, len(items))]
        if item.ndim != self.rank:
            raise ShapeError(f"finds a tensor with {item.ndim} axes, not {self.rank}")
        return item

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        tensors = map(Tensor, (*outputs, *_all(inputs)))
        return Call("sofie::sequence_at", tuple(tensors))


@operator(domain="sofie")
class SequenceInsert(_OnSequence):
    """a sequence with x at a place, before what was there; at its end where that is its length"""

    decides_sizes: ClassVar[bool] = False

    def infer(
        self, elements: TensorType, shapes: TensorType, x: TensorType, position: TensorType
    ) -> tuple[TensorType, TensorType]:
        self.check(elements, shapes, position)
        if x.dtype is not elements.dtype:
            raise TypeMismatch(f"puts {x.dtype} into a sequence of {elements.dtype}")
        count, axes = shapes.shape
        grown = elements.reshaped((elements.size + x.size,))
        return grown, shapes.reshaped((count + 1, maximum(axes, x.rank)))

    def reference(
        self, elements: Array, shapes: Array, x: Array, position: Array
    ) -> tuple[Array, Array]:
        items = unpack(elements, shapes)
        at_end = int(position) == len(items)
        items.insert(len(items) if at_end else _place(position, len(items)), x)
        found, rows = pack(items)
        missing = max(shapes.shape[1], x.ndim) - rows.shape[1]
        return found, np.pad(rows, ((0, 0), (missing, 0)), constant_values=-1)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        elements, shapes, x, position = _all(inputs)
        tensors = (*outputs, elements, shapes)
        places = (Sizes(x.type.shape), _memory(x), Tensor(position))
        return Call("sofie::sequence_insert", (*map(Tensor, tensors), *places), outputs=2)


@operator(domain="sofie")
class SequenceErase(_OnSequence):
    """a sequence without the tensor at a place"""

    def infer(
        self, elements: TensorType, shapes: TensorType, position: TensorType
    ) -> tuple[TensorType, TensorType]:
        self.check(elements, shapes, position)
        count, axes = shapes.shape
        if count == 0:
            raise ShapeError("finds nothing in an empty sequence")
        return elements.reshaped((UNKNOWN,)), shapes.reshaped((count - 1, axes))

    def reference(self, elements: Array, shapes: Array, position: Array) -> tuple[Array, Array]:
        items = unpack(elements, shapes)
        place = _place(position, len(items))
        rest = [item.reshape(-1) for i, item in enumerate(items) if i != place]
        return np.concatenate([elements[:0], *rest]), np.delete(shapes, place, axis=0)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        tensors = map(Tensor, (*outputs, *_all(inputs)))
        return Call("sofie::sequence_erase", tuple(tensors), outputs=2)


@operator(domain="sofie")
class ConcatSequence(_OnSequence):
    """the tensors of a sequence joined along their axis, or a new one; y has ``rank`` axes"""

    axis: int
    rank: int
    new_axis: bool = False

    def infer(self, elements: TensorType, shapes: TensorType) -> TensorType:
        self.check(elements, shapes)
        normal_axis(self.axis, self.rank)
        if shapes.shape[0] == 0:
            raise ShapeError("has nothing to join")
        return elements.reshaped((UNKNOWN,) * self.rank)

    def reference(self, elements: Array, shapes: Array) -> Array:
        items = unpack(elements, shapes)
        if not items:
            raise ValueError("an empty sequence has nothing to join")
        if any(item.ndim != self.rank - self.new_axis for item in items):
            raise ShapeError(f"needs tensors with {self.rank - self.new_axis} axes")
        return np.asarray((np.stack if self.new_axis else np.concatenate)(items, self.axis))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        axis = normal_axis(self.axis, self.rank)
        kernel = f"sofie::concat_sequence<{'true' if self.new_axis else 'false'}>"
        return Call(kernel, (*map(Tensor, (*outputs, *_all(inputs))), axis))


@operator(domain="sofie")
class SplitSequence(_OnSequence):
    """x cut along an axis into a sequence: parts of one size or of these, or its slices

    ``split`` is the size of all parts (the last may be smaller), or a list of sizes. Without it
    there is a part for each position, which keeps the axis if ``keepdims``.
    """

    axis: int = 0
    keepdims: bool = True

    def _rank(self, x: TensorType, split: TensorType | None) -> int:
        return x.rank - (split is None and not self.keepdims)

    def infer(
        self, x: TensorType, split: TensorType | None = None
    ) -> tuple[TensorType, TensorType]:
        axis = normal_axis(self.axis, x.rank)
        count: Dim = x.shape[axis]
        if split is not None:
            if split.dtype is not DType.INT64 or split.rank > 1:
                raise TypeMismatch(f"needs int64 sizes of parts, not {split}")
            count = split.shape[0] if split.rank else UNKNOWN
        rows = TensorType(DType.INT64, (count, self._rank(x, split)))
        return x.reshaped((x.size,)), rows

    def reference(self, x: Array, split: Array | None = None) -> tuple[Array, Array]:
        length = x.shape[self.axis]
        if split is None:
            sizes = [1] * length
        elif split.ndim:
            sizes = split.tolist()
        else:
            if split <= 0:
                raise ValueError("cannot cut into parts of no size")
            whole, rest = divmod(length, int(split))
            sizes = [int(split)] * whole + ([rest] if rest else [])
        if sum(sizes) != length or min(sizes, default=0) < 0:
            raise ValueError(f"cannot cut {length} into parts of {sizes}")
        ends = np.cumsum([0, *sizes])
        bare = split is None and not self.keepdims
        parts = [np.take(x, a if bare else np.arange(a, b), self.axis) for a, b in pairwise(ends)]
        elements, rows = pack(parts, x.dtype)
        return elements, rows.reshape(len(parts), x.ndim - bare)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, *given = _all(inputs)
        shape = x.type.shape
        axis = normal_axis(self.axis, len(shape))
        middle = product(shape[:axis]), shape[axis], product(shape[axis + 1 :])
        mode = "sizes" if given and given[0].type.rank else "size" if given else "each"
        bare = "true" if not given and not self.keepdims else "false"
        split = [_memory(given[0])] if given else []
        return Call(
            f"sofie::split_sequence<sofie::Parts::{mode}, {bare}>",
            (*map(Tensor, outputs), Tensor(x, middle), Sizes(shape), axis, *split),
            outputs=2,
        )
