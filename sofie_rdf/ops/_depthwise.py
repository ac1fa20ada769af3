"""Convolutions of which each feature is of one channel: when channels lie side by side, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sofie_rdf.ir.dims import Dim, number_of
from sofie_rdf.ops._grouped import LANES, block_columns, lines_at_hand
from sofie_rdf.ops._windows import Window, taps_of, three_axes

__all__ = ["DEPTHWISE_HEADER", "DEPTHWISE_LANES_HEADER", "ChannelLanes", "channel_lanes"]

DEPTHWISE_HEADER = "sofie/kernels/convolution_depthwise.hxx"
DEPTHWISE_LANES_HEADER = "sofie/kernels/convolution_depthwise_lanes.hxx"
# The channels from which that pays.
_LEAST = 8


@dataclass(frozen=True, slots=True)
class ChannelLanes:
    """Lines of the output that are done together, columns, and the memory for that."""

    lines: int
    columns: int
    stride: int
    elements: int


def channel_lanes(channels: Dim, slides: Sequence[Window]) -> ChannelLanes | None:
    """What is done together; None where lines of a channel are. All sizes are known."""
    _, down, across = three_axes(slides)
    begins = [number_of(s.begin) for s in slides]
    if not isinstance(channels, int) or channels < _LEAST or min(begins) < 0 or across.stride > 2:
        return None
    columns = block_columns(across)
    lines = lines_at_hand(down, lambda lines: _elements(slides, columns, lines))
    if lines is None:
        return None
    return ChannelLanes(lines, columns, across.stride, _elements(slides, columns, lines))


def _elements(slides: Sequence[Window], columns: int, lines: int) -> int:
    """Where rows are, weights, lines of the input with their padding, and sums."""
    _, rows, across = three_axes(slides)
    read = (lines - 1) * rows.stride + rows.extent
    weights = -(-taps_of(slides) // LANES) * LANES
    behind = columns + 3 * LANES
    places = 5 + weights + read * across.pitch + lines * number_of(across.count) + behind
    return places * LANES
