"""Samples of images in terms of other operators: the way that derivatives go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.ir.dims import Dim, product
from sofie_rdf.ir.types import DType, Shape
from sofie_rdf.ops._slopes_indexing import counted

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Value
    from sofie_rdf.ir.windows import Window

__all__ = ["keys", "moved", "pooled", "positions", "sampled"]

# Farther outside all positions are alike.
_FAR = 2.0**40


def sampled(
    x: Value, grid: Value, *, mode: str, padding: str, corners: bool, guarded: bool = False
) -> Value:
    """x at the positions of a grid, as `GridSample` has it.

    Where it is ``guarded``, what counts for nothing may be infinite.
    """
    rank, points = x.rank - 2, product(grid.shape[1:-1])
    sizes = x.shape[2:]
    flat = x.reshape((*x.shape[:2], product(sizes)))
    listed = grid.reshape((grid.shape[0], points, rank))
    axes = []
    for axis, dim in enumerate(sizes):
        at = listed.slice(2, rank - 1 - axis, rank - axis).reshape((grid.shape[0], points))
        line = _Line(grid.tape.size(dim, grid.dtype), mode, padding, corners)
        axes.append(line.taps(line.inside(at)))
    parts = [_values(flat, taps, sizes, guarded) for taps in combinations(*axes)]
    return sum(parts[1:], parts[0]).reshape((*x.shape[:2], *grid.shape[1:-1]))


@dataclass(frozen=True)
class _Line:
    """One axis, with so many elements."""

    size: Value
    mode: str
    padding: str
    corners: bool

    @property
    def low(self) -> float:
        return 0.0 if self.corners else -0.5

    @property
    def span(self) -> Value:
        return self.size - 1 if self.corners else self.size

    def inside(self, at: Value) -> Value:
        """Where a position is among the elements, which padding moves to some of them."""
        at = (at + 1) * (self.span * 0.5) + self.low
        # NaN is nowhere: far outside, or at the first element.
        at = at.equals(at).choose(at, -_FAR if self.padding == "zeros" else 0)
        at = (at > -_FAR).choose(at, -_FAR)
        at = (at < _FAR).choose(at, _FAR)
        if self.padding == "zeros":
            return at
        if self.padding == "reflection":
            at = self._reflected(at)
        if self.mode == "cubic":
            outside = (at < self.low) | (at > self.span + self.low)
            return outside.choose(self.clipped(at), at)
        # As torch has it, nothing changes at the borders themselves.
        return self.clipped(at)

    def clipped(self, at: Value) -> Value:
        at = (at > 0).choose(at, 0)
        last = self.size - 1
        return (at < last).choose(at, last)

    def _reflected(self, at: Value) -> Value:
        """A triangular wave between the two ends."""
        low, span = self.low, self.span
        # A span of nothing has one place, which is the first.
        span = (span > 0).choose(span, 1)
        phase = (at - low).apply("Mod", 2 * span)
        wave = (phase > span).choose(2 * span - phase, phase) + low
        wave = ((at < low) | (at > span + low)).choose(wave, at)
        return (self.span > 0).choose(wave, low)

    def taps(self, at: Value) -> list[tuple[Value, Value]]:
        """The elements that a sample is made of, and what each counts."""
        below = at.apply("Round" if self.mode == "nearest" else "Floor")
        found = []
        for number in {"nearest": (0,), "linear": (0, 1)}.get(self.mode, (-1, 0, 1, 2)):
            place = below + number
            part = self._part(at - below, number)
            if self.padding == "zeros":
                part = ((place >= 0) & (place < self.size)).choose(part, 0)
            elif self.padding == "reflection" and self.mode == "cubic":
                place = self._reflected(place)
            found.append((self.clipped(place).apply("Cast", to=DType.INT64), part))
        return found

    def _part(self, beyond: Value, number: int) -> Value:
        """What the element counts that is so many behind the one below a position."""
        if self.mode == "nearest":
            return beyond.like(1)
        if self.mode == "linear":
            return beyond if number else 1 - beyond
        return keys(
            beyond - number if number < 1 else number - beyond, -0.75, near=number in (0, 1)
        )


def keys(d: Value, a: float, *, near: bool) -> Value:
    """What an element at this distance counts by Keys' cubic convolution: within 1, or beyond."""
    if near:
        return (1 - d) * (1 + d - (a + 2) * (d * d))
    return (d - 1) * ((d - 2) * (d - 2)) * a


def _values(
    flat: Value, taps: Sequence[tuple[Value, Value]], sizes: Shape, guarded: bool = False
) -> Value:
    """One element for each sample, times what it counts: [batch, channels, samples]."""
    offset, weight = taps[0]
    for (place, part), size in zip(taps[1:], sizes[1:], strict=True):
        offset, weight = offset * flat.tape.size(size, DType.INT64) + place, weight * part
    shape = (offset.shape[0], 1, offset.shape[1])
    wide = (*flat.shape[:2], offset.shape[1])
    values = flat.apply("GatherElements", offset.reshape(shape).expand(wide), axis=2)
    counts = weight.reshape(shape).cast(flat.dtype)
    return counts.equals(0).choose(0, values * counts) if guarded else values * counts


def moved(op: Any, inputs: Sequence[Value | None]) -> Value:
    """A convolution of what is at other places, as `DeformConv` has it."""
    x, w, offset, b, mask = (*inputs, None, None)[:5]
    assert x is not None and w is not None and offset is not None
    slides, groups, axes = op.slides(x.shape, w.shape), op.offset_group, x.rank - 2
    counts = [s.count for s in slides]
    taps, positions = product(s.kernel for s in slides), product(counts)
    images, many = x.shape[0] * groups, taps * positions
    listed = offset.reshape((images, taps, axes, positions))
    along = []
    for i, size in enumerate(x.shape[2:]):
        own = listed.slice(2, i, i + 1).reshape((images, many))
        at = _starts(x, slides, i).reshape((1, many)) + own
        known = x.tape.size(size, x.dtype)
        at = ((at > -1) & (at < known)).choose(at, -1)
        line = _Line(known, "linear", "zeros", True)
        along.append(line.taps(at))
    flat = x.reshape((images, x.shape[1] // groups, product(x.shape[2:])))
    parts = [_values(flat, chosen, x.shape[2:]) for chosen in combinations(*along)]
    samples = sum(parts[1:], parts[0])
    if mask is not None:
        samples = samples * mask.reshape((images, 1, many))
    features, channels = w.shape[0] // op.group, w.shape[1]
    columns = samples.reshape((x.shape[0], op.group, channels * taps, positions))
    y = w.reshape((op.group, features, channels * taps)).matmul(columns)
    y = y.reshape((x.shape[0], w.shape[0], *counts))
    return y if b is None else y + b.reshape((*b.shape, *(1,) * axes))


def _starts(x: Value, slides: Sequence[Window], axis: int) -> Value:
    """Where the elements of the kernel are along one axis: [taps, positions]."""
    tape, rank, slide = x.tape, len(slides), slides[axis]
    taps = counted(tape, 0, slide.kernel, x.dtype) * slide.dilation
    begins = counted(tape, 0, slide.count, x.dtype) * slide.stride
    begins = begins - tape.size(slide.begin, x.dtype)
    own = tuple(slide.kernel if a == axis else 1 for a in range(rank))
    there = tuple(slide.count if a == axis else 1 for a in range(rank))
    both: Value = taps.reshape((*own, *(1,) * rank)) + begins.reshape((*(1,) * rank, *there))
    return both.expand((*(s.kernel for s in slides), *(s.count for s in slides)))


def pooled(op: Any, x: Value, rois: Value, images: Value) -> Value:
    """Regions of images that are sampled at so many points, as `RoiAlign` has it."""
    if op.sampling_ratio <= 0:
        raise UnsupportedOperator(
            "RoiAlign has no gradient here where the size of a region says at how many points it "
            "is sampled",
            remedy="Give sampling_ratio, such as 2",
        )
    (count, channels, *sizes), regions = x.shape, rois.shape[0]
    parts = op.output_height, op.output_width
    axes = [
        _points(op, rois, 1 - i, size, part)
        for i, (size, part) in enumerate(zip(sizes, parts, strict=True))
    ]
    dots = [part * op.sampling_ratio for part in parts]
    table = x.transpose((0, 2, 3, 1)).reshape((product((count, *sizes)), channels))
    corners = []
    for (row, height), (column, width) in combinations(*axes):
        place = images.reshape((regions, 1)) * x.tape.size(sizes[0], DType.INT64) + row
        place = place.reshape((regions, dots[0], 1)) * x.tape.size(sizes[1], DType.INT64)
        place = place + column.reshape((regions, 1, dots[1]))
        weight = height.reshape((regions, dots[0], 1)) * width.reshape((regions, 1, dots[1]))
        weight = weight.reshape((*weight.shape, 1)).cast(x.dtype)
        values = table.apply("Gather", place, axis=0) * weight
        each = (regions, parts[0], op.sampling_ratio, parts[1], op.sampling_ratio, channels)
        corners.append(values.reshape(each))
    if op.mode.lower() == "max":
        stack = corners[0].reshape((1, *corners[0].shape))
        stack = stack.concat([c.reshape((1, *c.shape)) for c in corners[1:]], 0)
        y = stack.apply("ReduceMax", axes=(0, 3, 5), keepdims=False)
    else:
        y = sum(corners[1:], corners[0]).apply("ReduceMean", axes=(2, 4), keepdims=False)
    return y.transpose((0, 3, 1, 2))


def _points(op: Any, rois: Value, first: int, size: Dim, parts: int) -> list[tuple[Value, Value]]:
    """Along one axis the elements beside each point, and what they count: [regions, points]."""
    tape, half = rois.tape, op.coordinate_transformation_mode == "half_pixel"
    begin, end = (
        rois.slice(1, i, i + 1) * op.spatial_scale - (0.5 if half else 0.0)
        for i in (first, first + 2)
    )
    extent = end - begin
    if not half:
        extent = extent.apply("Max", tape.number(1, rois.dtype))
    steps = (np.arange(parts * op.sampling_ratio) + 0.5) / op.sampling_ratio / parts
    at = begin + extent * tape.constant(steps[np.newaxis].astype(rois.dtype.numpy))
    known = tape.size(size, rois.dtype)
    line = _Line(known, "linear", "border", True)
    inside = (at >= -1) & (at <= known)
    taps = line.taps(line.clipped(at))
    return [(place, inside.choose(part, 0)) for place, part in taps]


def positions(theta: Value, sizes: Shape, corners: bool) -> Value:
    """The grid of matrices, as `AffineGrid` has it."""
    tape, rank, dtype = theta.tape, len(sizes), theta.dtype
    axes = []
    for axis, size in enumerate(sizes):
        known = tape.size(size, dtype)
        span = known - 1 if corners else known
        span = span.apply("Max", tape.number(1, dtype))
        at = (counted(tape, 0, size, dtype) * 2 - (known - 1)) / span
        at = at.reshape(tuple(size if a == axis else 1 for a in range(rank)))
        axes.append(at.expand(sizes).reshape((1, product(sizes))))
    # The last axis is the first coordinate.
    axes = axes[::-1]
    grid = axes[0].concat([*axes[1:], axes[0].like(1)], 0)
    return theta.matmul(grid).turned.reshape((theta.shape[0], *sizes, rank))
