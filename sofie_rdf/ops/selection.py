"""Where the largest elements are, which elements differ, which are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import UNKNOWN, Dim, product, require_equal
from sofie_rdf.ir.operator import (
    Argument,
    Call,
    Launch,
    Operand,
    Operator,
    Sizes,
    Struct,
    Tensor,
    from_input,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType, normal_axis
from sofie_rdf.ops import _slopes_indexing
from sofie_rdf.ops._device_windows import selected
from sofie_rdf.ops._floats import NOTHING
from sofie_rdf.ops.elementwise import ALL, FLOATS, NUMBERS

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


INT64 = DType.INT64
# Up to so many elements are selected in a list on the stack.
_FEW = 64


class _Selection(Operator):
    header: ClassVar[str] = "sofie/kernels/selection.hxx"
    dtypes: ClassVar[frozenset[DType]] = NUMBERS

    def accept(self, x: TensorType) -> None:
        """`TypeMismatch` for an element type that the operator is not defined for."""
        if x.dtype not in self.dtypes:
            raise TypeMismatch(f"is not defined for {x.dtype}")


def _split(shape: tuple[Any, ...], axis: int) -> tuple[Any, Any, Any]:
    """[outer, n, inner]: the shape with ``axis``, counted from the front, in the middle."""
    return product(shape[:axis]), shape[axis], product(shape[axis + 1 :])


def _first(inputs: Sequence[Operand | None]) -> Operand:
    assert inputs[0] is not None
    return inputs[0]


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _written(
    outputs: Sequence[Operand], most: int, shape: Shape | None = None
) -> tuple[Argument, ...]:
    """The results in this shape, of which the last ones may be absent; then the workspace."""
    *results, work = outputs
    absent = (NOTHING,) * (most - len(results))
    return (*(Tensor(o, shape) for o in results), *absent, Tensor(work))


# The largest --------------------------------------------------------------------------------------


class _ArgBest(_Selection):
    """Positions of the largest, or smallest, elements; NaN is chosen before all others."""

    largest: ClassVar[bool]
    axis: int
    keepdims: bool
    select_last_index: bool

    def infer(self, x: TensorType) -> TensorType:
        self.accept(x)
        axis = normal_axis(self.axis, x.rank)
        if x.shape[axis] == 0:
            raise ShapeError("cannot choose one of no elements")
        middle = (1,) if self.keepdims else ()
        return TensorType(INT64, (*x.shape[:axis], *middle, *x.shape[axis + 1 :]))

    def reference(self, x: Array) -> Array:
        function = np.argmax if self.largest else np.argmin
        if x.shape[self.axis] == 0:
            found = np.zeros(np.sum(x, self.axis, keepdims=self.keepdims).shape, np.int64)
            if found.size:
                raise ValueError("cannot choose one of no elements")
            return found
        if not self.select_last_index:
            return np.asarray(function(x, self.axis, keepdims=self.keepdims))
        found = function(np.flip(x, self.axis), self.axis, keepdims=self.keepdims)
        return np.asarray(x.shape[self.axis] - 1 - found)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x = _first(inputs)
        view = _split(x.type.shape, normal_axis(self.axis, x.type.rank))
        kernel = f"sofie::arg_best<{_flag(self.largest)}, {_flag(self.select_last_index)}>"
        return Call(kernel, (Tensor(outputs[0], (outputs[0].type.size,)), Tensor(x, view)))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        x = _first(inputs)
        view = _split(x.type.shape, normal_axis(self.axis, x.type.rank))
        order = self.largest, True, self.select_last_index
        return selected("SelectPlace", outputs, x, view, order)


@operator(since=13)
class ArgMax(_ArgBest):
    """the first (or last) i for which x[i] is largest along one axis; NaN is larger than all"""

    largest: ClassVar[bool] = True
    axis: int = 0
    keepdims: bool = True
    select_last_index: bool = False


@operator(since=13)
class ArgMin(_ArgBest):
    """the first (or last) i for which x[i] is smallest along one axis; NaN before all"""

    largest: ClassVar[bool] = False
    axis: int = 0
    keepdims: bool = True
    select_last_index: bool = False


@operator(since=13)
class Hardmax(_Selection):
    """1 for the first one of the largest along one axis, 0 for the others"""

    axis: int = -1
    dtypes: ClassVar[frozenset[DType]] = FLOATS

    def infer(self, x: TensorType) -> TensorType:
        self.accept(x)
        normal_axis(self.axis, x.rank)
        return x

    def reference(self, x: Array) -> Array:
        y = np.zeros_like(x)
        if x.size:
            where = np.argmax(x, self.axis, keepdims=True)
            np.put_along_axis(y, where, x.dtype.type(1), self.axis)
        return y

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x = _first(inputs)
        view = _split(x.type.shape, normal_axis(self.axis, x.type.rank))
        return Call("sofie::hardmax", (Tensor(outputs[0], view), Tensor(x, view)))

    def formula(self, x: Value) -> tuple[Value]:
        axis = normal_axis(self.axis, x.rank)
        first = x.apply("ArgMax", axis=axis, keepdims=True)
        along = (x.shape[axis], *(1,) * (x.rank - 1 - axis))
        places = _slopes_indexing.counted(x.tape, 0, x.shape[axis]).reshape(along)
        return (places.equals(first).apply("Cast", to=x.dtype),)

    def pullback(self, back: Backward) -> None:
        """It is constant between its steps."""


# TopK ---------------------------------------------------------------------------------------------


class _TopK(_Selection):
    """What the form with a known k and the one with a computed k have in common."""

    axis: int
    largest: bool
    sorted: bool

    def pair(self, x: TensorType, k: Dim) -> tuple[TensorType, TensorType]:
        """The types of the outputs."""
        self.accept(x)
        axis = normal_axis(self.axis, x.rank)
        n = x.shape[axis]
        if isinstance(k, int) and (k < 0 or (isinstance(n, int) and k > n)):
            raise ShapeError(f"cannot select {k} of {n} elements")
        shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
        return TensorType(x.dtype, shape), TensorType(INT64, shape)

    def top(self, x: Array, k: int) -> tuple[Array, Array]:
        """The meaning in NumPy: NaN is the largest, and of equal ones the first comes first."""
        if self.largest:
            # Stable in the order from behind, which is then turned round.
            order = np.argsort(np.flip(x, self.axis), self.axis, kind="stable")
            order = x.shape[self.axis] - 1 - np.flip(order, self.axis)
        else:
            order = np.argsort(x, self.axis, kind="stable")
        chosen = np.take(order, np.arange(k), self.axis)
        return np.take_along_axis(x, chosen, self.axis), chosen

    def views(self, inputs: Sequence[Operand | None]) -> tuple[Tensor, int, str]:
        """x as [outer, n, inner], the axis counted from the front, and the template argument."""
        x = _first(inputs)
        axis = normal_axis(self.axis, x.type.rank)
        return Tensor(x, _split(x.type.shape, axis)), axis, _flag(self.largest)

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = inputs[0]
        assert x is not None
        # An element of 8 bytes and its position are two words; few of them are on the stack.
        words = 2 if x.dtype.nbytes == 8 else 1
        return (TensorType(INT64, (self.most(x) * words,)),)

    def most(self, x: TensorType) -> Dim:
        """How many elements are listed at most: all of them twice, where they are sorted."""
        return 2 * x.shape[normal_axis(self.axis, x.rank)]

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        best = back.x.outputs(self, *back.inputs[1:])[1]
        zeros = back.x.like()
        return zeros.apply("ScatterElements", best, back.g, axis=self.axis, reduction="add"), None


@operator(domain="sofie")
class RuntimeTopK(_TopK):
    """the k largest (or smallest) elements along one axis and their positions, k computed"""

    axis: int = -1
    largest: bool = True
    sorted: bool = True
    decides_sizes: ClassVar[bool] = True

    def infer(self, x: TensorType, k: TensorType) -> tuple[TensorType, TensorType]:
        if k.dtype is not INT64 or k.size != 1:
            raise ShapeError("needs one k of type int64")
        return self.pair(x, UNKNOWN)

    def reference(self, x: Array, k: Array) -> tuple[Array, Array]:
        return self.top(x, int(k.reshape(())))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, axis, largest = self.views(inputs)
        k = inputs[1]
        assert k is not None
        tensors = *_written(outputs, 2), x, Tensor(k)
        arguments: tuple[Argument, ...] = (*tensors, Sizes(x.operand.type.shape), axis)
        return Call(f"sofie::top_k_runtime<{largest}>", arguments, outputs=len(outputs))


@operator(since=24)
class TopK(_TopK):
    """the k largest (or smallest) elements along one axis and their positions, the first first

    Equal elements come in the order of their positions; NaN is larger than all numbers.
    """

    k: Shape = from_input(1)
    axis: int = -1
    largest: bool = True
    sorted: bool = True
    runtime: ClassVar[type[Operator] | None] = RuntimeTopK

    @property
    def count(self) -> Dim:
        """How many are selected."""
        if len(self.k) != 1:
            raise ShapeError("needs one k")
        return self.k[0]

    def most(self, x: TensorType) -> Dim:
        k = self.count
        return 0 if isinstance(k, int) and k <= _FEW else super().most(x)

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        return self.pair(x, self.count)

    def reference(self, x: Array) -> tuple[Array, Array]:
        return self.top(x, int(self.count))  # type: ignore[arg-type]

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, axis, largest = self.views(inputs)
        written = _written(outputs, 2, _split(outputs[0].type.shape, axis))
        return Call(f"sofie::top_k<{largest}>", (*written, x), outputs=len(outputs))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        x = _first(inputs)
        view = _split(x.type.shape, normal_axis(self.axis, x.type.rank))
        order = self.largest, self.largest, False
        return selected("Select", outputs, x, view, order, self.count)


# Elements that are not zero, wanted, or different -------------------------------------------------


@operator(since=13)
class NonZero(_Selection):
    """the positions of the elements that are not 0: y[a, c] is that of element c along axis a"""

    dtypes: ClassVar[frozenset[DType]] = ALL
    decides_sizes: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        self.accept(x)
        return TensorType(INT64, (x.rank, UNKNOWN))

    def reference(self, x: Array) -> Array:
        found = np.nonzero(np.atleast_1d(x))
        return np.asarray(found, np.int64)[: x.ndim]

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x = _first(inputs)
        flat = Tensor(x, (x.type.size,))
        return Call("sofie::nonzero", (Tensor(outputs[0]), flat, Sizes(x.type.shape)))


def _along(shape: Shape, axis: int | None) -> tuple[Shape, int]:
    """The shape and the axis whose slices are chosen from; without an axis all elements."""
    return ((product(shape),), 0) if axis is None else (shape, normal_axis(axis, len(shape)))


@operator(since=28)
class Compress(_Selection):
    """the slices x[i] along an axis (the elements, without one) for which condition[i] holds"""

    axis: int | None = None
    moves: ClassVar[bool] = True
    dtypes: ClassVar[frozenset[DType]] = frozenset(DType)
    decides_sizes: ClassVar[bool] = True
    pullback = _slopes_indexing.compressed

    def infer(self, x: TensorType, condition: TensorType) -> TensorType:
        if condition.dtype is not DType.BOOL:
            raise TypeMismatch(f"needs a bool condition, not {condition.dtype}")
        if condition.rank != 1:
            raise ShapeError("needs a condition with one axis")
        shape, axis = _along(x.shape, self.axis)
        return TensorType(x.dtype, (*shape[:axis], UNKNOWN, *shape[axis + 1 :]))

    def reference(self, x: Array, condition: Array) -> Array:
        whole, axis = (x.reshape(-1), 0) if self.axis is None else (x, self.axis)
        wanted = np.flatnonzero(condition[: whole.shape[axis]])
        return np.asarray(np.take(whole, wanted, axis))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, condition = inputs
        assert x is not None and condition is not None
        shape, axis = _along(x.type.shape, self.axis)
        tensors = Tensor(outputs[0]), Tensor(x, _split(shape, axis)), Tensor(condition)
        return Call("sofie::compress", (*tensors, Sizes(shape), axis))


def _ranks(x: Array) -> Array:
    """Numbers in the order of the elements; all NaN are one, and larger than all numbers."""
    return np.unique(x, return_inverse=True)[1].reshape(x.shape)


@operator(since=28)
class Unique(_Selection):
    """the slices (or elements) that differ; where each is first, which each is, how many of each"""

    axis: int | None = None
    sorted: bool = True
    dtypes: ClassVar[frozenset[DType]] = ALL
    decides_sizes: ClassVar[bool] = True

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        self.accept(x)
        shape, axis = _along(x.shape, self.axis)
        some = TensorType(INT64, (UNKNOWN,))
        y = TensorType(x.dtype, (*shape[:axis], UNKNOWN, *shape[axis + 1 :]))
        return y, some, TensorType(INT64, (shape[axis],)), some

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = inputs[0]
        assert x is not None
        shape, axis = _along(x.shape, self.axis)
        return (TensorType(INT64, (3 * shape[axis],)),)

    def reference(self, x: Array) -> tuple[Array, ...]:
        whole, axis = (x.reshape(-1), 0) if self.axis is None else (x, self.axis)
        n = whole.shape[axis]
        flat = whole.size // n if n else 0
        rows = np.moveaxis(_ranks(whole), axis, 0).reshape(n, flat)
        # A row without elements is as any other; NumPy would not take it.
        rows = rows if flat else np.zeros((n, 1), np.int64)
        _, first, inverse, counts = np.unique(
            rows, axis=0, return_index=True, return_inverse=True, return_counts=True
        )
        inverse = inverse.reshape(-1)
        if not self.sorted:
            order = np.argsort(first)
            first, counts = first[order], counts[order]
            inverse = np.argsort(order)[inverse]
        y = np.take(whole, first, axis)
        return (y, *(np.asarray(a, np.int64) for a in (first, inverse, counts)))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x = _first(inputs)
        shape, axis = _along(x.type.shape, self.axis)
        tensors = *_written(outputs, 4), Tensor(x, _split(shape, axis))
        lists = Sizes(shape), Sizes((axis, int(self.sorted)))
        along = Struct(f"sofie::UniqueAxis<{len(shape)}>", lists)
        return Call("sofie::unique", (*tensors, along), outputs=len(outputs))


# Boxes --------------------------------------------------------------------------------------------


@operator(since=11)
class NonMaxSuppression(_Selection):
    """(batch, class, box) of the boxes with the highest scores that overlap no better one too much

    Boxes overlap too much if the area that they share is more than ``iou_threshold`` of the area
    that they cover together. Only scores above ``score_threshold`` count, if there is one.
    """

    center_point_box: bool = False
    dtypes: ClassVar[frozenset[DType]] = frozenset({DType.FLOAT32})
    decides_sizes: ClassVar[bool] = True

    def infer(
        self,
        boxes: TensorType,
        scores: TensorType,
        max_output_boxes_per_class: TensorType | None = None,
        iou_threshold: TensorType | None = None,
        score_threshold: TensorType | None = None,
    ) -> TensorType:
        thresholds = [t for t in (iou_threshold, score_threshold) if t is not None]
        self.accept(boxes)
        require_same_dtype(boxes, scores, *thresholds)
        if boxes.rank != 3 or scores.rank != 3 or boxes.shape[2] != 4:
            raise ShapeError("needs boxes[batch, n, 4] and scores[batch, class, n]")
        require_equal(boxes.shape[0], scores.shape[0])
        require_equal(boxes.shape[1], scores.shape[2])
        most = max_output_boxes_per_class
        if most is not None and most.dtype is not INT64:
            raise TypeMismatch(f"needs a number of boxes of type int64, not {most.dtype}")
        if any(t.size not in (0, 1) for t in (*thresholds, *((most,) if most else ()))):
            raise ShapeError("needs one number of boxes, and one of each threshold")
        return TensorType(INT64, (UNKNOWN, 3))

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        scores = inputs[1]
        assert scores is not None
        batches, classes, n = scores.shape
        return (TensorType(INT64, ((batches * classes + 2) * n,)),)

    def reference(
        self,
        boxes: Array,
        scores: Array,
        max_output_boxes_per_class: Array | None = None,
        iou_threshold: Array | None = None,
        score_threshold: Array | None = None,
    ) -> Array:
        given = (max_output_boxes_per_class, iou_threshold, score_threshold)
        most, threshold, least = (None if g is None or not g.size else g.item() for g in given)
        low, high = self._corners(boxes.astype(np.float64))
        found: list[tuple[int, int, int]] = []
        for batch, label in np.ndindex(scores.shape[:2]):
            score = scores[batch, label]
            order = np.argsort(-score, kind="stable")
            order = order[score[order] > least if least is not None else ~np.isnan(score[order])]
            kept: list[int] = []
            while len(order) and len(kept) < (most or 0):
                best, order = int(order[0]), order[1:]
                kept.append(best)
                part = _overlap(low[batch], high[batch], best, order)
                order = order[~(part > (threshold or 0))]
            found += [(batch, label, box) for box in kept]
        return np.asarray(found, np.int64).reshape(-1, 3)

    def _corners(self, boxes: Array) -> tuple[Array, Array]:
        first, second = boxes[..., :2], boxes[..., 2:]
        if self.center_point_box:
            return first - second / 2, first + second / 2
        return np.minimum(first, second), np.maximum(first, second)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        boxes, scores, *rest = inputs
        assert boxes is not None and scores is not None
        given = [o if o is not None and o.type.size != 0 else None for o in rest]
        given += [None] * (3 - len(given))
        flags = ", ".join(_flag(g is not None) for g in given)
        y, work = (Tensor(o) for o in outputs)
        scalars = [Tensor(g, (1,)) for g in given if g is not None]
        arguments: tuple[Argument, ...] = (
            y,
            work,
            int(self.center_point_box),
            Tensor(boxes),
            Tensor(scores),
            *scalars,
        )
        return Call(f"sofie::non_max_suppression<{flags}>", arguments, outputs=2)


def _overlap(low: Array, high: Array, one: int, others: Array) -> Array:
    """The area that a box shares with each of others, relative to what they cover together."""
    sides = np.minimum(high[one], high[others]) - np.maximum(low[one], low[others])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    areas = np.prod(high - low, axis=-1)
    together = areas[one] + areas[others] - shared
    usable = (areas[one] > 0) & (areas[others] > 0) & (together > 0)
    return np.where(usable, shared / np.where(usable, together, 1), 0)
