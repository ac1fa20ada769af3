"""Operators that move elements, or only say that their shape is another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError
from sofie_rdf.ir.dims import Dim, product
from sofie_rdf.ir.operator import (
    Call,
    Operand,
    Operator,
    Tensor,
    from_input,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, Shape, TensorType, normal_axis


class _Alias(Operator):
    """The same elements in the same order, with another shape: no work at run time."""

    @property
    def is_alias(self) -> bool:
        return True

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs[:1]
        assert x is not None
        size = (x.type.size,)
        return Call("sofie::copy", (Tensor(outputs[0], size), Tensor(x, size)))


class _Layout(Operator):
    header: ClassVar[str] = "sofie/kernels/layout.hxx"


@operator(since=21, header="sofie/kernels/layout.hxx")
class Identity(_Alias):
    """x"""

    def infer(self, x: TensorType) -> TensorType:
        return x

    def reference(self, x: Array) -> Array:
        return x


@operator(since=13, header="sofie/kernels/layout.hxx")
class Dropout(_Alias):
    """x: nothing is dropped at inference"""

    def infer(self, x: TensorType) -> TensorType:
        return x

    def reference(self, x: Array) -> Array:
        return x


@operator(since=21, header="sofie/kernels/layout.hxx")
class Reshape(_Alias):
    """x in another shape; 0 keeps an axis (unless allowzero) and one -1 takes what is left"""

    shape: Shape = from_input(1)
    allowzero: bool = False

    def infer(self, x: TensorType) -> TensorType:
        shape = self._resolved(x.shape)
        if product(shape) != x.size:
            raise ShapeError(f"cannot give {x.size} elements the shape [{_listed(shape)}]")
        return TensorType(x.dtype, shape)

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
    if rest * known != size:
        raise ShapeError(f"cannot divide {size} elements by {known}")
    return rest


@operator(since=21, header="sofie/kernels/layout.hxx")
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


@operator(since=21, header="sofie/kernels/layout.hxx")
class Squeeze(_Alias):
    """x without axes of size 1: those named, or all"""

    axes: tuple[int, ...] | None = from_input(1, None)

    def _axes(self, shape: Shape) -> set[int]:
        if self.axes is None:
            return {i for i, d in enumerate(shape) if d == 1}
        return {normal_axis(a, len(shape)) for a in self.axes}

    def infer(self, x: TensorType) -> TensorType:
        gone = self._axes(x.shape)
        if any(x.shape[a] != 1 for a in gone):
            raise ShapeError("can only remove axes of size 1")
        return TensorType(x.dtype, tuple(d for i, d in enumerate(x.shape) if i not in gone))

    def reference(self, x: Array) -> Array:
        return np.squeeze(x, tuple(self._axes(x.shape)))


@operator(since=21, header="sofie/kernels/layout.hxx")
class Unsqueeze(_Alias):
    """x with axes of size 1 put in, so that they stand at these places of the result"""

    axes: tuple[int, ...] = from_input(1)

    def infer(self, x: TensorType) -> TensorType:
        rank = x.rank + len(self.axes)
        new = {normal_axis(a, rank) for a in self.axes}
        if len(new) != len(self.axes):
            raise ShapeError(f"names an axis twice: {self.axes}")
        old = iter(x.shape)
        return TensorType(x.dtype, tuple(1 if i in new else next(old) for i in range(rank)))

    def reference(self, x: Array) -> Array:
        return np.expand_dims(x, self.axes)


@operator(since=13, header="sofie/kernels/layout.hxx")
class Concat(_Layout):
    """The inputs one after the other along one axis"""

    axis: int

    def infer(self, *inputs: TensorType) -> TensorType:
        dtype = require_same_dtype(*inputs)
        first = inputs[0]
        axis = normal_axis(self.axis, first.rank)
        for other in inputs[1:]:
            if _without(other.shape, axis) != _without(first.shape, axis):
                raise ShapeError(f"joins tensors that differ along other axes than {self.axis}")
        total: Dim = 0
        for one in inputs:
            total = total + one.shape[axis]
        return TensorType(dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        present = [i for i in inputs if i is not None]
        axis = normal_axis(self.axis, outputs[0].type.rank)
        views = (Tensor(o, _split(o.type.shape, axis)) for o in (outputs[0], *present))
        return Call("sofie::concat", tuple(views))

    def reference(self, *inputs: Array) -> Array:
        return np.concatenate(inputs, self.axis)


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


def _split(shape: Shape, axis: int) -> Shape:
    """The shape as a matrix whose rows begin at ``axis``."""
    return product(shape[:axis]), product(shape[axis:])


@operator(since=21, header="sofie/kernels/layout.hxx")
class Transpose(_Layout):
    """y[i_perm[0], i_perm[1], ...] = x[i_0, i_1, ...]; without perm the axes are reversed"""

    perm: tuple[int, ...] | None = None

    def permutation(self, rank: int) -> tuple[int, ...]:
        """The order of the axes, all counted from the front."""
        perm = tuple(range(rank))[::-1] if self.perm is None else self.perm
        normal = tuple(normal_axis(a, rank) for a in perm)
        if sorted(normal) != list(range(rank)):
            raise ShapeError(f"cannot order {rank} axes by {list(perm)}")
        return normal

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(x.dtype, tuple(x.shape[a] for a in self.permutation(x.rank)))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        shape, perm = joined(x.type.shape, self.permutation(x.type.rank))
        moved = tuple(shape[a] for a in perm)
        kernel = f"sofie::transpose<{', '.join(map(str, perm))}>"
        return Call(kernel, (Tensor(outputs[0], moved), Tensor(x, shape)))

    def reference(self, x: Array) -> Array:
        # Not ascontiguousarray, which makes a vector of a scalar.
        return np.asarray(np.transpose(x, self.perm), order="C")


def joined(shape: Shape, perm: Sequence[int]) -> tuple[Shape, tuple[int, ...]]:
    """The same permutation with as few axes as it has: those that stay neighbours become one."""
    kept = [a for a in perm if shape[a] != 1]
    groups: list[list[int]] = []
    for axis in kept:
        previous = groups[-1][-1] if groups else None
        between = () if previous is None else shape[previous + 1 : axis]
        if previous is not None and previous < axis and all(d == 1 for d in between):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if not groups:
        return (1,), (0,)
    order = sorted(range(len(groups)), key=lambda g: groups[g][0])
    sizes = tuple(product(shape[a] for a in groups[g]) for g in order)
    return sizes, tuple(order.index(g) for g in range(len(groups)))
