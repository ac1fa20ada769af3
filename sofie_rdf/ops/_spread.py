"""What a transposed convolution does at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from sofie_rdf.ir.dims import Dim, align, maximum, minimum
from sofie_rdf.ops._windows import Window, positions_of, taps_of, three_axes

__all__ = ["Spread"]

# Of the kernel: the widest tile, a pack beyond what counts, and how many columns, inputs and
# products are kept at a time, so that the second cache has all of them.
_WIDTH, _MARGIN, _MOST, _INPUTS, _PRODUCTS = 48, 16, 528, 1 << 17, 1 << 17


@dataclass(frozen=True, slots=True)
class Spread:
    """What a transposed convolution does at a time, and how much memory it has for what."""

    columns: Dim
    features: Dim
    inputs: Dim
    products: Dim
    row: Dim
    steps: Dim
    groups: Dim
    lines: Dim

    @staticmethod
    def of(counts: tuple[Dim, Dim, Dim, int], spread: Sequence[Window]) -> Spread:
        """For windows of the output; counts are events, channels, features, groups."""
        events, channels, features, groups = counts[0], counts[1], counts[2], counts[3]
        channels, features, taps = channels // groups, features // groups, taps_of(spread)
        # So many features have products that are whole tiles, and are summed up side by side.
        whole = max(4, 8 // gcd(8, taps))
        columns = _columns(events, channels, taps * whole, spread)
        fit = _PRODUCTS // (taps * columns) if isinstance(columns, int) and columns > 0 else 0
        some = minimum(features, _share(features, max(whole, fit), whole))
        depth, height, width = three_axes(spread)
        across, rows = align(columns, _WIDTH), align(taps * some, 8)
        packs = width.size // (2 * width.stride) + 2
        return Spread(
            columns=columns,
            features=some,
            inputs=channels * across + _MARGIN,
            products=rows * (across + 2 * _MARGIN) + _MARGIN,
            row=4 * (width.size + 2 * _MARGIN * width.stride),
            steps=channels,
            groups=2 * packs * (width.kernel + width.stride),
            lines=height.size * (depth.kernel * height.kernel + 1) + 1,
        )


def _share(count: Dim, most: int, whole: int) -> int:
    """In equal parts of ``most`` at most, and of multiples of ``whole``."""
    if not isinstance(count, int) or count <= most:
        return most
    parts = -(-count // most)
    return -(-count // (parts * whole)) * whole


def _columns(events: Dim, channels: Dim, rows: int, spread: Sequence[Window]) -> Dim:
    """How many columns are done at a time: whole events, or what one output needs at least."""
    fit = _PRODUCTS // rows
    if isinstance(channels, int) and channels > 0:
        fit = min(fit, _INPUTS // channels)
    fit = max(_WIDTH, fit // _WIDTH * _WIDTH)
    points = positions_of(spread)
    if not isinstance(points, int) or points > fit:
        first, inside = spread[0], positions_of(spread[1:])
        # Enough for one output, and one more place for those that follow.
        return maximum(min(fit, _MOST), inside * ((first.extent - 1) // first.stride + 2))
    fit = max(min(fit, _MOST), points)
    # A number also where the batch is open: memory is planned better then.
    fit = fit // points if points else 1
    return (min(events, fit) if isinstance(events, int) else fit) * points
