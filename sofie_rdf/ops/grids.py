"""Tensors sampled at positions that the data decide, and grids of such positions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import UNKNOWN, product, require_equal
from sofie_rdf.ir.operator import (
    Call,
    Functor,
    Operand,
    Operator,
    Sizes,
    Tensor,
    from_input,
    operator,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ops._room import require_room
from sofie_rdf.ops._slopes_grid import positions, sampled
from sofie_rdf.ops.elementwise import ALL, FLOATS, NUMBERS
from sofie_rdf.ops.resampling import as_type

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value

_HEADER = "sofie/kernels/resampling/grids.hxx"
# In the order of the enumerators in the header; opset 16 has other words for the same.
MODES = ("nearest", "linear", "cubic")
PADDINGS = ("zeros", "border", "reflection")
_WORDS = {"bilinear": "linear", "bicubic": "cubic"}


@operator(since=22, header=_HEADER, ulp=2, terms=4)
class GridSample(Operator):
    """y[n, c, p] = x[n, c], interpolated at the position grid[n, p], of which 1 and -1 are edges"""

    align_corners: bool = False
    mode: str = "linear"
    padding_mode: str = "zeros"

    @property
    def _mode(self) -> str:
        return _WORDS.get(self.mode, self.mode)

    def infer(self, x: TensorType, grid: TensorType) -> TensorType:
        if self._mode not in MODES or self.padding_mode not in PADDINGS:
            raise ShapeError(f"has no meaning for {self.mode!r} with {self.padding_mode!r}")
        if x.dtype not in (ALL if self._mode == "nearest" else NUMBERS) or grid.dtype not in FLOATS:
            raise TypeMismatch(f"is not defined for {x.dtype} at positions in {grid.dtype}")
        if not 3 <= x.rank <= 5 or grid.rank != x.rank:
            raise ShapeError("samples lines, images or volumes, x[n, c, ...] at grid[n, ..., axis]")
        require_equal(x.shape[0], grid.shape[0])
        require_equal(grid.shape[-1], x.rank - 2)
        return TensorType(x.dtype, (*x.shape[:2], *grid.shape[1:-1]))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, grid = inputs
        assert x is not None and grid is not None
        numbers = MODES.index(self._mode), PADDINGS.index(self.padding_mode), self.align_corners
        rule = Functor("sofie::GridRule", numbers)
        shape = outputs[0].type.shape
        y = Tensor(outputs[0], (*shape[:2], product(shape[2:])))
        return Call(
            "sofie::grid_sample", (rule, y, Tensor(x), Tensor(grid), Sizes(x.type.shape[2:]))
        )

    def formula(self, x: Value, grid: Value) -> tuple[Value]:
        # In float32, a position far outside is reflected to another place.
        return (self._sampled(x, grid.cast(DType.FLOAT64), guarded=True),)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        # A tap that counts for nothing has a derivative by its position.
        return back.by_formula(lambda x, grid: (self._sampled(x, grid, guarded=False),))

    def _sampled(self, x: Value, grid: Value, *, guarded: bool) -> Value:
        mode, padding, corners = self._mode, self.padding_mode, self.align_corners
        return sampled(x, grid, mode=mode, padding=padding, corners=corners, guarded=guarded)

    def reference(self, x: Array, grid: Array) -> Array:
        computed = x if self._mode == "nearest" or x.dtype.kind == "f" else x.astype(np.float64)
        return as_type(self.sampled(computed, grid), x.dtype)

    def sampled(self, x: Array, grid: Array, magnitudes: bool = False) -> Array:
        """The sums over all taps; with ``magnitudes`` all weights are positive."""
        rank = x.ndim - 2
        shape = (*x.shape[:2], *grid.shape[1:-1])
        if not x.size:
            return np.zeros(shape, x.dtype)
        points = grid.reshape(len(grid), -1, rank)
        along = [self._taps(points[..., rank - 1 - a], x.shape[2 + a]) for a in range(rank)]
        flat = x.reshape(*x.shape[:2], -1)
        total: Any = np.zeros((), x.dtype)
        for taps in combinations(*(range(w.shape[-1]) for _, w in along)):
            offset, weight = np.zeros((), np.int64), np.ones((), points.dtype)
            for axis, tap in enumerate(taps):
                offset = offset * x.shape[2 + axis] + along[axis][0][..., tap]
                weight = weight * along[axis][1][..., tap]
            weight = np.abs(weight) if magnitudes else weight
            values = np.take_along_axis(flat, np.expand_dims(offset, 1), 2)
            counts = np.expand_dims(weight, 1)
            if self._mode == "nearest":
                total = np.where(counts == 0, x.dtype.type(0), values)
            else:
                # What counts for nothing may be infinite.
                part = values * counts.astype(x.dtype)
                total = total + np.where(counts == 0, x.dtype.type(0), part)
        return np.asarray(total).reshape(shape)

    def _taps(self, positions: Array, size: int) -> tuple[Array, Array]:
        """Along one axis the elements that each sample is made of, and what they count."""
        low, high = (0.0, size - 1.0) if self.align_corners else (-0.5, size - 0.5)
        at = (positions + 1) * (high - low) / 2 + low
        if self._mode == "nearest":
            at = np.rint(at)
        known = np.isfinite(at) | (self.padding_mode != "zeros")
        at = np.clip(np.nan_to_num(at), -(2.0**40), 2.0**40)
        if self.padding_mode == "border":
            at = np.where((at < low) | (at > high), np.clip(at, 0, size - 1), at)
        elif self.padding_mode == "reflection":
            at = _reflected(at, low, high)
        places, weights = self._neighbours(at)
        if self.padding_mode == "zeros":
            known = known[..., np.newaxis] & (places >= 0) & (places < size)
            weights = np.where(known, weights, 0)
        elif self.padding_mode == "reflection":
            places = _reflected(places.astype(np.float64), low, high).astype(np.int64)
        return np.clip(places, 0, size - 1), weights

    def _neighbours(self, at: Array) -> tuple[Array, Array]:
        below = np.floor(at)
        taps = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}[self._mode]
        places = below.astype(np.int64)[..., np.newaxis] + np.array(taps)
        d = np.abs(at[..., np.newaxis] - places)
        if self._mode == "nearest":
            return places, np.ones_like(d)
        if self._mode == "linear":
            return places, 1 - d
        a = -0.75
        # As products, so that what is nearly 0 is exact.
        near = (1 - d) * (1 + d - (a + 2) * d**2)
        return places, np.where(d <= 1, near, a * (d - 1) * (d - 2) ** 2)


def _reflected(at: Array, low: float, high: float) -> Array:
    """A triangular wave: ``at`` between ``low`` and ``high``, reflected there outside of them."""
    span = high - low
    if span <= 0:
        return np.full_like(at, low)
    phase = np.mod(at - low, 2 * span)
    wave = low + np.where(phase > span, 2 * span - phase, phase)
    return np.where((at < low) | (at > high), wave, at)


class _AffineGrid(Operator):
    header: ClassVar[str] = _HEADER
    align_corners: bool

    def accept(self, theta: TensorType) -> int:
        """How many axes the images have, if theta is such as is defined."""
        if theta.dtype not in FLOATS:
            raise TypeMismatch(f"is not defined for {theta.dtype}")
        if theta.rank != 3 or theta.shape[1:] not in ((2, 3), (3, 4)):
            raise ShapeError("needs matrices [n, 2, 3] for images or [n, 3, 4] for volumes")
        return 2 if theta.shape[1] == 2 else 3

    def positions(self, theta: Array, size: Sequence[int]) -> Array:
        if len(theta) != size[0]:
            raise ValueError(f"{len(theta)} matrices for {size[0]} images")
        require_room("a grid", (len(theta), *size[2:], 2 * theta.shape[1]))
        axes = []
        for count in size[2:]:
            steps = np.arange(count, dtype=theta.dtype)
            centred = 2 * steps - (count - 1)
            axes.append(centred / max(count - 1 if self.align_corners else count, 1))
        # The last axis is the first coordinate.
        grid = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], axis=-1)
        moved = np.einsum("nkj,...j->n...k", theta[:, :, :-1], grid)
        offset = theta[:, :, -1].reshape(len(theta), *(1,) * len(axes), len(axes))
        return np.asarray(moved + offset, theta.dtype)


@operator(domain="sofie", ulp=2, terms=4)
class RuntimeAffineGrid(_AffineGrid):
    """y[n, i, j] = theta[n] (x_j, y_i, 1), of images whose size is computed"""

    align_corners: bool = False
    decides_sizes: ClassVar[bool] = True

    def infer(self, theta: TensorType, size: TensorType) -> TensorType:
        rank = self.accept(theta)
        if size != TensorType(DType.INT64, (rank + 2,)):
            raise ShapeError(f"needs a size of {rank + 2} numbers of type int64")
        return TensorType(theta.dtype, (theta.shape[0], *(UNKNOWN,) * rank, rank))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        theta, size = inputs
        assert theta is not None and size is not None
        tensors = Tensor(outputs[0]), Tensor(theta), Tensor(size)
        return Call("sofie::affine_grid", (*tensors, int(self.align_corners)))

    def reference(self, theta: Array, size: Array) -> Array:
        return self.positions(theta, size.tolist())


@operator(since=20, ulp=2, terms=4)
class AffineGrid(_AffineGrid):
    """y[n, i, j] = theta[n] (x_j, y_i, 1), where x and y go from -1 to 1"""

    size: Shape = from_input(1)
    align_corners: bool = False
    runtime: ClassVar[type[Operator] | None] = RuntimeAffineGrid

    def infer(self, theta: TensorType) -> TensorType:
        rank = self.accept(theta)
        if len(self.size) != rank + 2 or any(isinstance(d, int) and d < 0 for d in self.size):
            raise ShapeError(f"needs {rank + 2} sizes, not {list(map(str, self.size))}")
        images = require_equal(theta.shape[0], self.size[0])
        return TensorType(theta.dtype, (images, *self.size[2:], rank))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (theta,) = inputs
        assert theta is not None
        tensors = Tensor(outputs[0]), Tensor(theta)
        return Call("sofie::affine_grid", (*tensors, Sizes(self.size[2:]), int(self.align_corners)))

    def formula(self, theta: Value) -> tuple[Value]:
        return (positions(theta, self.size[2:], self.align_corners),)

    def reference(self, theta: Array) -> Array:
        return self.positions(theta, self.size)  # type: ignore[arg-type]
