"""Convolutions whose inputs are copied once for each tap: which, and how much at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sofie_rdf.ir.dims import Dim, align, ceil_div, maximum, minimum
from sofie_rdf.ir.windows import Window, positions_of, taps_of, three_axes
from sofie_rdf.kernels.lanes import HALVES

__all__ = ["COLUMNS_HEADER", "Columns", "columns_of"]

COLUMNS_HEADER = "sofie/kernels/convolution/columns.hxx"
# Of the kernel: the columns of a tile, those of a pack, and of a pack of AVX2, elements that are
# copied at a time, the largest stride along a row, and the features that have another tile.
_TILE, _PACK, _SMALL_PACK, _BUDGET, _STRIDE, _FEW_FEATURES = 48, 16, 8, 1 << 16, 2, 4
# What pays: products for each output, and outputs; where features may lie in the lanes, and else.
_FEW, _SOME, _MANY, _MOST_DEPTH, _SHORT = 49, 150, 128, 128, 512
# Outputs that are so few that features lie in the lanes (`convolution/last_columns.hxx`).
_LAST = 8


class Columns(NamedTuple):
    """Lines of the output that are done together, their columns, and the memory for that."""

    lines: Dim
    width: Dim
    stride: int
    copied: Dim
    masks: Dim


def columns_of(features: Dim, channels: Dim, slides: Sequence[Window], half: int) -> Columns | str:
    """What is done together, or why another kernel is faster.

    ``half`` is what features in lanes would have, or 0.
    """
    if not isinstance(features, int) or not isinstance(channels, int) or channels < 1:
        return "its features or channels are not known, or there is none"
    if not all(isinstance(d, int) for s in slides for d in (s.begin, s.end)):
        return "its padding is not known"
    depth, stride = channels * taps_of(slides), slides[-1].stride
    if features <= _FEW_FEATURES:
        return f"it has {_FEW_FEATURES} features at most"
    if stride > _STRIDE:
        return f"its stride along rows is {stride}, more than {_STRIDE}"
    if not _pays(features, depth, slides, half):
        return f"copying inputs for each tap takes longer than it saves of {depth} products"
    first, middle, last = three_axes(slides)
    most = max(_TILE, _BUDGET // depth // _TILE * _TILE)
    width = minimum(last.count, most)
    lines = maximum(minimum(first.count * middle.count, most // maximum(last.count, 1)), 1)
    known = isinstance(width, int) and isinstance(lines, int)
    together = lines * width if known else most
    pitch = align(together, _PACK) + 2 * _PACK
    packs = ceil_div(width if known else most, _SMALL_PACK)
    return Columns(lines, width, stride, depth * pitch + _PACK, 2 * last.kernel * packs)


def _pays(features: int, depth: int, slides: Sequence[Window], half: int) -> bool:
    """Whether copying takes less time than this saves, beside the kernel that there is else."""
    points, last = positions_of(slides), slides[-1].count
    if half:
        # Rows of the output that are whole tiles are fast in lanes.
        fills = half == HALVES[0] and last % half == 0
        many = not isinstance(points, int) or points >= _MANY
        return depth <= (_FEW if fills else _SOME) and many
    if depth <= _MOST_DEPTH or any(s.stride > 1 for s in slides):
        return True
    if isinstance(points, int) and points <= _LAST:
        return True
    # Points are read where they are.
    short = isinstance(points, int) and points < _SHORT
    return taps_of(slides) == 1 and (features > _PACK // 2 or short)
