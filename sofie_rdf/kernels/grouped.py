"""Convolutions in groups of few channels and features: when groups lie side by side, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sofie_rdf.ir.dims import Dim, ceil_div, maximum, minimum, never_negative, number_of
from sofie_rdf.ir.windows import Window, taps_of, three_axes

__all__ = [
    "GROUPED_HEADER",
    "LANES",
    "TOO_LARGE",
    "GroupLanes",
    "block_columns",
    "group_lanes",
    "lines_at_hand",
]

GROUPED_HEADER = "sofie/kernels/convolution/grouped.hxx"
# Of the kernel: the lanes, and the columns of a row of outputs that it may do together.
LANES, _COLUMNS = 16, (14, 8)
# The numbers of a block that are at hand at a time, and at most; and of its lanes the part that has
# features, at least, for that to pay.
_BUDGET, _MOST, _FILLED = 1 << 15, 1 << 19, 0.7

TOO_LARGE = "a line of its image does not stay at hand, or there is none"


class GroupLanes(NamedTuple):
    """Lines and columns of the output, and groups, that are done together; and the memory."""

    lines: Dim
    columns: int
    stride: int
    together: int
    elements: Dim
    taps: int


def block_columns(across: Window) -> int:
    """How many columns of a row are done together: so that few of the last ones are in vain."""
    count = across.count
    if not isinstance(count, int):
        return _COLUMNS[-1]
    return min(_COLUMNS, key=lambda c: -(-count // c) * c)


def lines_at_hand(down: Window, start: Dim, line: Dim) -> tuple[Dim, Dim] | None:
    """How many lines are done together, and the numbers that they need; None if one needs too many.

    ``start`` are the numbers that no line adds to, and each line needs ``line`` more.
    """
    fit = maximum(_BUDGET - start, 0) // maximum(line, 1)
    lines, least = maximum(minimum(fit, down.count), 1), start + line
    if isinstance(least, int):
        return (lines, start + lines * line) if down.count and least <= _MOST else None
    return lines, maximum(least, _BUDGET)


def group_lanes(
    groups: int, channels: Dim, features: Dim, slides: Sequence[Window]
) -> GroupLanes | str:
    """What is done together, of groups with so many channels and features each; or why not."""
    if len(slides) > 2 or not all(never_negative(s.begin) for s in slides):
        return "it has three axes, or padding that may be negative"
    if not isinstance(channels, int) or not isinstance(features, int) or channels * features < 1:
        return "its features or channels are not known, or there is none"
    _, down, across = three_axes(slides)
    if across.stride > 2:
        return f"its stride along rows is {across.stride}, more than 2"
    together = 1
    while 2 * together * min(features, LANES) <= LANES and together < LANES:
        together *= 2
    columns = block_columns(across)
    images = number_of(ceil_div(channels, LANES // together))
    parts = number_of(ceil_div(features, LANES // together))

    blocks = number_of(ceil_div(groups, together))
    # Points are rather read where they are.
    if taps_of(slides) == 1:
        return "points are rather read where they are"
    if groups * features < _FILLED * blocks * parts * LANES:
        return f"{groups} groups of {features} features leave too many lanes empty"
    # Images with their padding, and sums; before them, where they are.
    gap, before = columns + LANES, 2 * (images + parts)
    line = images * down.stride * across.pitch + across.count
    start = images * ((down.extent - down.stride) * across.pitch + 2 * LANES) + gap + before
    found = lines_at_hand(down, start * LANES, line * LANES)
    if found is None:
        return TOO_LARGE
    lines, elements = found
    taps = 2 * channels * taps_of(slides)
    return GroupLanes(lines, columns, across.stride, together, elements, taps)
