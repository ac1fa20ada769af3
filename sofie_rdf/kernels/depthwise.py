"""Convolutions of which each feature is of one channel: when channels lie side by side, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sofie_rdf.ir.dims import Dim, never_negative
from sofie_rdf.ir.windows import Window, taps_of, three_axes
from sofie_rdf.kernels.grouped import LANES, TOO_LARGE, block_columns, lines_at_hand

__all__ = ["DEPTHWISE_HEADER", "DEPTHWISE_LANES_HEADER", "ChannelLanes", "channel_lanes"]

DEPTHWISE_HEADER = "sofie/kernels/convolution/depthwise.hxx"
DEPTHWISE_LANES_HEADER = "sofie/kernels/convolution/depthwise_lanes.hxx"
# The channels from which that pays.
_LEAST = 8


class ChannelLanes(NamedTuple):
    """Lines of the output that are done together, columns, and the memory for that."""

    lines: Dim
    columns: int
    stride: int
    elements: Dim


def channel_lanes(channels: Dim, slides: Sequence[Window]) -> ChannelLanes | str:
    """What is done together, or why lines of a channel are."""
    _, down, across = three_axes(slides)
    if not isinstance(channels, int) or channels < _LEAST or across.stride > 2:
        return f"it has fewer than {_LEAST} channels, or a stride of more than 2"
    if not all(never_negative(s.begin) for s in slides):
        return "its padding may be negative"
    columns = block_columns(across)
    # Where rows are, weights, lines of the input with their padding, and sums.
    weights = -(-taps_of(slides) // LANES) * LANES
    start = 5 + weights + (down.extent - down.stride) * across.pitch + columns + 3 * LANES
    line = down.stride * across.pitch + across.count
    found = lines_at_hand(down, start * LANES, line * LANES)
    if found is None:
        return TOO_LARGE
    lines, elements = found
    return ChannelLanes(lines, columns, across.stride, elements)
