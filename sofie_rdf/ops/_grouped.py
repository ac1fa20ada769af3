"""Convolutions in groups of few channels and features: when groups lie side by side, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sofie_rdf.ir.dims import Dim, ceil_div, number_of
from sofie_rdf.ops._windows import Window, taps_of, three_axes

__all__ = ["GROUPED_HEADER", "LANES", "GroupLanes", "block_columns", "group_lanes", "lines_at_hand"]

GROUPED_HEADER = "sofie/kernels/convolution_grouped.hxx"
# Of the kernel: the lanes, and the columns of a row of outputs that it may do together.
LANES, _COLUMNS = 16, (14, 8)
# The numbers of a block that are at hand at a time, and at most; and of its lanes the part that has
# features, at least, for that to pay.
_BUDGET, _MOST, _FILLED = 1 << 15, 1 << 19, 0.7


@dataclass(frozen=True, slots=True)
class GroupLanes:
    """Lines and columns of the output, and groups, that are done together; and the memory."""

    lines: int
    columns: int
    stride: int
    together: int
    elements: int
    taps: int


def block_columns(across: Window) -> int:
    """How many columns of a row are done together: so that few of the last ones are in vain."""
    return min(_COLUMNS, key=lambda c: -(-number_of(across.count) // c) * c)


def lines_at_hand(down: Window, elements: Callable[[int], int]) -> int | None:
    """How many lines are done together if they need so many numbers; None if one needs too many."""
    lines = number_of(down.count)
    while lines > 1 and elements(lines) > _BUDGET:
        lines = (lines + 1) // 2
    return lines if lines and elements(lines) <= _MOST else None


def group_lanes(
    groups: int, channels: Dim, features: Dim, slides: Sequence[Window]
) -> GroupLanes | None:
    """What is done together, of groups with so many channels and features each; or None."""
    known = all(isinstance(d, int) for s in slides for d in (s.size, s.count, s.begin))
    if not known or len(slides) > 2:
        return None
    if not isinstance(channels, int) or not isinstance(features, int) or channels * features < 1:
        return None
    _, down, across = three_axes(slides)
    if min(number_of(s.begin) for s in slides) < 0 or across.stride > 2:
        return None
    together = 1
    while 2 * together * min(features, LANES) <= LANES and together < LANES:
        together *= 2
    columns = block_columns(across)
    images = number_of(ceil_div(channels, LANES // together))
    parts = number_of(ceil_div(features, LANES // together))

    def elements(lines: int) -> int:
        """Images with their padding, and sums; before them, where they are."""
        read = (lines - 1) * down.stride + down.extent
        places = images * (read * across.pitch + 2 * LANES) + lines * number_of(across.count)
        behind = columns + LANES
        return (places + behind + 2 * (images + parts)) * LANES

    blocks = number_of(ceil_div(groups, together))
    # Points are rather read where they are.
    if taps_of(slides) == 1 or groups * features < _FILLED * blocks * parts * LANES:
        return None
    lines = lines_at_hand(down, elements)
    if lines is None:
        return None
    taps = 2 * channels * taps_of(slides)
    return GroupLanes(lines, columns, across.stride, together, elements(lines), taps)
