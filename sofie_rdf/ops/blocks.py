"""Blocks of pixels that become channels, and channels that become blocks of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError
from sofie_rdf.ir.dims import Dim, number_of
from sofie_rdf.ir.operator import operator
from sofie_rdf.ir.types import Array, Shape, TensorType
from sofie_rdf.ops._device_indexing import moved
from sofie_rdf.ops.layout import Read, Walk, transposed

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


class _Blocks(Read):
    """An operator that moves blocks of pixels between the plane and the channels."""

    header: ClassVar[str] = "sofie/kernels/layout.hxx"
    moves: ClassVar[bool] = True
    on_device = moved
    blocksize: int
    mode: str

    def accept(self, x: TensorType) -> None:
        if x.rank != 4:
            raise ShapeError("needs x[n, c, h, w]")
        if self.blocksize < 1:
            raise ShapeError(f"cannot make blocks of size {self.blocksize}")
        if self.mode not in ("DCR", "CRD"):
            raise ShapeError(f"mode is DCR or CRD, not {self.mode!r}")

    def split(self, shape: Shape) -> tuple[Shape, tuple[int, ...]]:
        """x with blocks as axes of their own, and the order of these axes in the result."""
        raise NotImplementedError

    def divided(self, shape: Shape) -> tuple[tuple[Dim, int], ...]:
        """The sizes of x that are divided, and by what."""
        raise NotImplementedError

    def requires(self, inputs: Sequence[TensorType | None]) -> tuple[tuple[Dim, Dim], ...]:
        (x,) = inputs
        assert x is not None
        pairs = ((size // by * by, size) for size, by in self.divided(x.shape))
        return tuple((left, right) for left, right in pairs if left != right)

    def walk(self, x: TensorType, y: TensorType) -> Walk:  # noqa: ARG002
        return transposed(*self.split(x.shape))

    def moved(self, x: Array) -> Array:
        shape, perm = self.split(x.shape)
        split = x.reshape([number_of(d) for d in shape])
        return np.ascontiguousarray(np.transpose(split, perm))


def _exact(size: Dim, by: int, what: str) -> Dim:
    """size / by; where only the run can tell that this is exact, `requires` asks it."""
    quotient = size // by
    if isinstance(size, int) and quotient * by != size:
        raise ShapeError(f"cannot divide {size} {what} by {by}")
    return quotient


@operator(since=28)
class SpaceToDepth(_Blocks):
    """y[n, (i, j, c), h, w] = x[n, c, (h, i), (w, j)]; in mode CRD the channels are (c, i, j)"""

    blocksize: int
    mode: str = "DCR"

    def infer(self, x: TensorType) -> TensorType:
        self.accept(x)
        (n, c, h, _, w, _), _ = self.split(x.shape)
        return TensorType(x.dtype, (n, c * self.blocksize**2, h, w))

    def divided(self, shape: Shape) -> tuple[tuple[Dim, int], ...]:
        return tuple((size, self.blocksize) for size in shape[2:])

    def split(self, shape: Shape) -> tuple[Shape, tuple[int, ...]]:
        n, c, height, width = shape
        b = self.blocksize
        rows, columns = _exact(height, b, "rows"), _exact(width, b, "columns")
        perm = (0, 3, 5, 1, 2, 4) if self.mode == "DCR" else (0, 1, 3, 5, 2, 4)
        return (n, c, rows, b, columns, b), perm

    def reference(self, x: Array) -> Array:
        b = self.blocksize
        shape = (len(x), x.shape[1] * b * b, x.shape[2] // b, x.shape[3] // b)
        return self.moved(x).reshape(shape)

    def pullback(self, back: Backward) -> Value:
        return back.g.through(DepthToSpace(self.blocksize, self.mode))


@operator(since=28)
class DepthToSpace(_Blocks):
    """y[n, c, (h, i), (w, j)] = x[n, (i, j, c), h, w]; in mode CRD the channels are (c, i, j)"""

    blocksize: int
    mode: str = "DCR"

    def infer(self, x: TensorType) -> TensorType:
        self.accept(x)
        b = self.blocksize
        n, c, h, w = x.shape
        return TensorType(x.dtype, (n, _exact(c, b * b, "channels"), h * b, w * b))

    def divided(self, shape: Shape) -> tuple[tuple[Dim, int], ...]:
        return ((shape[1], self.blocksize**2),)

    def split(self, shape: Shape) -> tuple[Shape, tuple[int, ...]]:
        n, c, h, w = shape
        b = self.blocksize
        depth = _exact(c, b * b, "channels")
        if self.mode == "DCR":
            return (n, b, b, depth, h, w), (0, 3, 4, 1, 5, 2)
        return (n, depth, b, b, h, w), (0, 1, 4, 2, 5, 3)

    def reference(self, x: Array) -> Array:
        b = self.blocksize
        shape = (len(x), x.shape[1] // (b * b), x.shape[2] * b, x.shape[3] * b)
        return self.moved(x).reshape(shape)

    def pullback(self, back: Backward) -> Value:
        return back.g.through(SpaceToDepth(self.blocksize, self.mode))
