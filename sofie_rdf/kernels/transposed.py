"""The kernels of transposed convolutions: which one computes which, and what it does at a time."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

from sofie_rdf.ir.dims import Dim, align, maximum, minimum
from sofie_rdf.ir.operator import Sizes
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ir.windows import Window, positions_of, taps_of, three_axes
from sofie_rdf.kernels.choice import (
    Candidate,
    Choice,
    Table,
)

__all__ = ["TRANSPOSED", "TRANSPOSED_HEADER", "TransposedProblem"]

TRANSPOSED_HEADER = "sofie/kernels/convolution/transposed.hxx"

# Of the kernel: the widest tile, a pack beyond what counts, and how many columns, inputs and
# products are kept at a time, so that the second cache has all of them.
_WIDTH, _MARGIN, _MOST, _INPUTS, _PRODUCTS = 48, 16, 528, 1 << 17, 1 << 17


class Spread(NamedTuple):
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


# The table ----------------------------------------------------------------------------------------


class TransposedProblem(NamedTuple):
    """A transposed convolution: ``counts`` are events, channels, features and groups.

    The windows are those of the output, along axes with anything to do, and ``products`` how many
    products an input is in.
    """

    dtype: DType
    counts: tuple[Dim, Dim, Dim, int]
    slides: tuple[Window, ...]
    products: Dim
    constant: bool = True

    @property
    def parts(self) -> Spread:
        return Spread.of(self.counts, self.slides)

    @property
    def told(self) -> tuple[Sizes, Sizes]:
        """What is done at a time, and how much memory there is for what."""
        parts = self.parts
        memory = parts.inputs, parts.products, parts.steps, parts.groups
        return Sizes((parts.columns, parts.features)), Sizes(memory)

    @property
    def scratch(self) -> tuple[TensorType, ...]:
        """Sums and inputs, where steps read, and weights that are packed at each call."""
        parts, (_, channels, _, groups) = self.parts, self.counts
        needed = parts.inputs + parts.products + parts.row
        steps = parts.steps + parts.groups + parts.lines
        weights = groups * align(self.products, 8) * (channels // groups)
        return (
            TensorType(self.dtype, (needed,)),
            TensorType(DType.INT32, (steps,)),
            TensorType(self.dtype, (weights,)),
        )


def _any(problem: TransposedProblem) -> Choice:
    told, scratch = problem.told, problem.scratch
    if not problem.constant:
        kernel, why = "transposed_convolution_computed", "it packs its weights at each call"
        return Choice(kernel, TRANSPOSED_HEADER, why, told=told, scratch=scratch)
    return Choice(
        "transposed_convolution",
        TRANSPOSED_HEADER,
        "it takes every one: a product over all places of the input, and sums of its rows",
        packed=f"ConvTransposedWeights<{problem.dtype.cxx}, {problem.counts[3]}>",
        told=told,
        scratch=scratch,
    )


TRANSPOSED: Table[TransposedProblem] = Table(
    "transposed convolution", (Candidate("transposed_convolution", _any),)
)
