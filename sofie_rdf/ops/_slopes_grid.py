"""Samples of a grid in terms of other operators: the way that derivatives go."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as combinations
from typing import TYPE_CHECKING

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.ir.dims import product
from sofie_rdf.ir.types import DType

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Value

__all__ = ["sampled"]

# Farther outside all positions are alike.
_FAR = 2.0**40


def sampled(x: Value, grid: Value, *, mode: str, padding: str, corners: bool) -> Value:
    """x at the positions of a grid: ``nearest`` or ``linear``, as `GridSample` has it."""
    rank, points = x.rank - 2, product(grid.shape[1:-1])
    sizes = [size for size in x.shape[2:] if isinstance(size, int)]
    if mode == "cubic" or len(sizes) < rank:
        why = "with mode='cubic'" if mode == "cubic" else "of images of open size"
        raise UnsupportedOperator(
            f"GridSample has no gradient here {why}",
            remedy="Use mode='linear'"
            if mode == "cubic"
            else "Fix the sizes when the model is read: shapes={...} of `load`",
        )
    flat = x.reshape((*x.shape[:2], product(sizes)))
    listed = grid.reshape((grid.shape[0], points, rank))
    axes = []
    for axis, size in enumerate(sizes):
        at = listed.slice(2, rank - 1 - axis, rank - axis).reshape((grid.shape[0], points))
        axes.append(_taps(_inside(at, size, padding, corners), size, mode, padding))
    total: Value | None = None
    for taps in combinations(*axes):
        part = _values(flat, taps, sizes)
        total = part if total is None else total + part
    assert total is not None
    return total.reshape((*x.shape[:2], *grid.shape[1:-1]))


def _inside(at: Value, size: int, padding: str, corners: bool) -> Value:
    """Where a position is among the elements of an axis, which padding moves to some of them."""
    low, high = (0.0, size - 1.0) if corners else (-0.5, size - 0.5)
    at = (at + 1) * ((high - low) / 2) + low
    # NaN is nowhere: far outside, or at the first element.
    at = at.equals(at).choose(at, -_FAR if padding == "zeros" else 0)
    at = (at > -_FAR).choose(at, -_FAR)
    at = (at < _FAR).choose(at, _FAR)
    if padding == "zeros":
        return at
    if padding == "reflection":
        at = _reflected(at, low, high - low)
    # As torch has it, nothing changes at the borders themselves.
    at = (at > 0).choose(at, 0)
    return (at < size - 1).choose(at, size - 1)


def _reflected(at: Value, low: float, span: float) -> Value:
    """A triangular wave between ``low`` and ``low + span``."""
    if span <= 0:
        return at.like(low)
    phase = (at - low).apply("Mod", at.tape.number(2 * span, at.dtype))
    wave = (phase > span).choose(2 * span - phase, phase) + low
    return ((at < low) | (at > low + span)).choose(wave, at)


def _taps(at: Value, size: int, mode: str, padding: str) -> list[tuple[Value, Value]]:
    """The elements that a sample is made of along an axis, and what each counts."""
    below = at.apply("Round" if mode == "nearest" else "Floor")
    found = []
    parts = [at.like(1)] if mode == "nearest" else [1 - (at - below), at - below]
    for number, part in enumerate(parts):
        place = below + number
        if padding == "zeros":
            part = ((place >= 0) & (place < size)).choose(part, 0)
        place = (place > 0).choose(place, 0)
        place = (place < size - 1).choose(place, size - 1)
        found.append((place.apply("Cast", to=DType.INT64), part))
    return found


def _values(flat: Value, taps: Sequence[tuple[Value, Value]], sizes: Sequence[int]) -> Value:
    """One element for each sample, times what it counts: [batch, channels, samples]."""
    offset, weight = taps[0]
    for (place, part), size in zip(taps[1:], sizes[1:], strict=True):
        offset, weight = offset * size + place, weight * part
    shape = (offset.shape[0], 1, offset.shape[1])
    wide = (*flat.shape[:2], offset.shape[1])
    values = flat.apply("GatherElements", offset.reshape(shape).expand(wide), axis=2)
    counts = weight.reshape(shape)
    return values * (counts if counts.dtype is flat.dtype else counts.apply("Cast", to=flat.dtype))
