"""Convolutions whose features lie side by side in the lanes of registers: which, and how."""

from __future__ import annotations

from collections.abc import Sequence

from sofie_rdf.ir.dims import Dim, align, maximum, minimum, never_negative
from sofie_rdf.ir.windows import Window, positions_of, three_axes

__all__ = [
    "HALVES",
    "LANES_HEADER",
    "MOST_HALVES",
    "best_half",
    "half_of_lanes",
    "is_short",
    "scratch_of_lanes",
]

LANES_HEADER = "sofie/kernels/convolution/lanes.hxx"
# Of the kernel: the columns that half a tile may have, how many halves are done at a time, the
# features of a tile; the products for which that pays, and what half a tile needs beside them.
HALVES, MOST_HALVES, _FEATURES, _LEAST_DEPTH, _HALF_STEPS = (7, 6, 5, 4, 2), 64, 32, 16, 120
# Of points in an image: the products, and the places, for which lanes pay nevertheless.
_DEEP, _SMALL = 512, 256
# Of eight features and strides: the places up to which that pays, and the products of a feature.
_FEW_PLACES, _MANY_PRODUCTS = 64, 300_000
# The longest row that is copied.
_WIDEST = 1 << 15
# Elements that are copied at a time, those between channels, and those behind the last.
_BUDGET, _BETWEEN, _MARGIN = 1 << 17, 96, 16


def best_half(columns: int, depth: int, line: int = 0) -> int:
    """How many columns half a tile should have, which sums ``depth`` products for each.

    ``line`` columns must be done at a time.
    """
    # Each half takes the time of half a column more, and so many steps before and behind.
    fit = [h for h in HALVES if line <= MOST_HALVES * h]
    return min(fit, key=lambda half: -(-columns // half) * (depth * (2 * half + 1) + _HALF_STEPS))


def is_short(features: Dim) -> bool:
    """Whether features end with a panel of 16."""
    return isinstance(features, int) and 0 < features % _FEATURES <= _FEATURES // 2


def half_of_lanes(features: Dim, depth: Dim, slides: Sequence[Window]) -> int | str:
    """How many columns half a tile has, or why features do not lie in the lanes.

    Where rows are of any length the kernel decides it, and this is the largest one.
    """
    count = slides[-1].count
    if not isinstance(features, int) or not isinstance(depth, int):
        return "its features or channels are not known"
    points = all((s.kernel, s.stride, s.begin, s.end) == (1, 1, 0, 0) for s in slides)
    places = positions_of(slides)
    if points and depth >= _DEEP and isinstance(places, int) and places <= _SMALL:
        # Reading their weights takes as long as all else.
        points = False
    filled = 8 * features >= 5 * (-(-features // 16) * 16)
    fills = features % 4 == 0 and (filled or _half_pays(features, depth, places, slides[-1]))
    if points:
        return "it is of single points"
    if not fills:
        return f"its {features} features do not fill the lanes"
    if depth < _LEAST_DEPTH:
        return f"each output has {depth} products, fewer than {_LEAST_DEPTH}"
    if not isinstance(count, int):
        return HALVES[0]
    if (count - 1) * slides[-1].stride + slides[-1].extent > _WIDEST:
        return f"its rows are longer than {_WIDEST}"
    if count < 1:
        return "its rows are empty"
    return best_half(count, depth)


def _half_pays(features: int, depth: int, places: Dim, last: Window) -> bool:
    """Whether lanes of which half are empty take less time than copying what strides have apart."""
    if features != _FEATURES // 4 or last.stride < 2 or not isinstance(places, int):
        return False
    return places <= _FEW_PLACES or depth * places >= _MANY_PRODUCTS


def scratch_of_lanes(events: Dim, channels: Dim, slides: Sequence[Window], half: int) -> Dim:
    """The elements that the kernel needs: sums, and channels with their padding."""
    depth, height, width = three_axes(slides)
    known = isinstance(width.count, int)
    across = align(width.count, half) if known else width.count + half - 1
    row = (across - 1) * width.stride + width.extent
    # Events that are one row each are the rows of one image. An open height may be 1.
    may_be_row = height.kernel == 1 and not isinstance(height.size, int)
    rows = events if len(slides) == 1 else height.count
    rows = maximum(rows, events) if may_be_row else rows
    lines = (maximum(rows, 1) - 1) * height.stride + height.extent
    whole = channels * (depth.kernel * lines * row + _BETWEEN)
    least = channels * (depth.kernel * height.extent * row + _BETWEEN)
    most = maximum(least, _BUDGET)
    copied = most if never_negative(whole - most) else minimum(whole, most)
    # A row has masks where sums will be.
    sums = maximum((MOST_HALVES * half + _MARGIN) * _FEATURES, row)
    return sums + copied + 4 * _MARGIN
