"""Convolutions in groups of few channels and features: when groups lie side by side, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sofie_rdf.ir.dims import Dim, ceil_div, number_of
from sofie_rdf.ops._windows import Window, taps_of, three_axes

__all__ = ["GROUPED_HEADER", "GroupLanes", "group_lanes"]

GROUPED_HEADER = "sofie/kernels/convolution_grouped.hxx"
# Of the kernel: the lanes, and the columns of a row of outputs that it may do together.
_LANES, _COLUMNS = 16, (14, 8)
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
    lines = number_of(down.count)
    if min(number_of(s.begin) for s in slides) < 0 or across.stride > 2 or not lines:
        return None
    together = 1
    while 2 * together * min(features, _LANES) <= _LANES and together < _LANES:
        together *= 2
    columns = min(_COLUMNS, key=lambda c: -(-number_of(across.count) // c) * c)
    images = number_of(ceil_div(channels, _LANES // together))
    parts = number_of(ceil_div(features, _LANES // together))

    def elements(lines: int) -> int:
        """Images with their padding, and sums; before them, where they are."""
        read = (lines - 1) * down.stride + down.extent
        places = images * (read * across.pitch + 2 * _LANES) + lines * number_of(across.count)
        behind = columns + _LANES
        return (places + behind + 2 * (images + parts)) * _LANES

    blocks = number_of(ceil_div(groups, together))
    # Points are rather read where they are.
    if taps_of(slides) == 1 or groups * features < _FILLED * blocks * parts * _LANES:
        return None
    while lines > 1 and elements(lines) > _BUDGET:
        lines = (lines + 1) // 2
    if elements(lines) > _MOST:
        return None
    taps = 2 * channels * taps_of(slides)
    return GroupLanes(lines, columns, across.stride, together, elements(lines), taps)
