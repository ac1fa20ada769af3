"""Convolutions whose inputs are copied once for each tap: which, and how much at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sofie_rdf.ir.dims import Dim, number_of
from sofie_rdf.ops._lanes import HALVES
from sofie_rdf.ops._windows import Window, counts_of, taps_of, three_axes

__all__ = ["COLUMNS_HEADER", "Columns", "columns_of"]

COLUMNS_HEADER = "sofie/kernels/convolution_columns.hxx"
# Of the kernel: the columns of a tile, those of a pack, elements that are copied at a time, and the
# largest stride along a row.
_TILE, _PACK, _BUDGET, _STRIDE = 48, 16, 1 << 16, 2
# What pays: products for each output, and outputs; where features may lie in the lanes, and else.
_FEW, _SOME, _MANY, _MOST_DEPTH, _SHORT = 49, 150, 128, 128, 512


@dataclass(frozen=True, slots=True)
class Columns:
    """Lines of the output that are done together, their columns, and the memory for that."""

    lines: int
    width: int
    stride: int
    copied: int
    masks: int


def columns_of(features: Dim, channels: Dim, slides: Sequence[Window], half: int) -> Columns | None:
    """What is done together; None where another kernel is faster, or sizes are open.

    ``half`` is what features in lanes would have, or 0.
    """
    sizes = [features, channels, *(d for s in slides for d in (s.size, s.count, s.begin, s.end))]
    known = [d for d in sizes if isinstance(d, int)]
    if len(known) != len(sizes) or not isinstance(features, int) or not isinstance(channels, int):
        return None
    depth, stride = channels * taps_of(slides), slides[-1].stride
    if features <= 4 or stride > _STRIDE or min(known[:2]) < 1:
        return None
    points = math.prod(counts_of(slides))
    if not _pays(features, depth, points, slides, half):
        return None
    first, middle, last = three_axes(slides)
    lines, width = number_of(first.count) * number_of(middle.count), number_of(last.count)
    most = max(_TILE, _BUDGET // depth // _TILE * _TILE)
    if width > most:
        lines, width = 1, most
    elif width > 0:
        lines = max(1, min(lines, most // width))
    pitch = -(-lines * width // _PACK) * _PACK + 2 * _PACK
    packs = -(-width // _PACK)
    return Columns(lines, width, stride, depth * pitch + _PACK, 2 * last.kernel * packs)


def _pays(features: int, depth: int, points: int, slides: Sequence[Window], half: int) -> bool:
    """Whether copying takes less time than this saves, beside the kernel that there is else."""
    if half:
        # Rows of the output that are whole tiles are fast in lanes.
        fills = half == HALVES[0] and number_of(slides[-1].count) % half == 0
        return depth <= (_FEW if fills else _SOME) and points >= _MANY
    if depth <= _MOST_DEPTH or any(s.stride > 1 for s in slides):
        return True
    # Points are read where they are.
    return taps_of(slides) == 1 and (features > _PACK // 2 or points < _SHORT)
