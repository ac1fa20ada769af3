"""The kernels of transposed convolutions: which one computes which, and what it does at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from sofie_rdf.ir.dims import Dim, align, maximum, minimum, number_of
from sofie_rdf.ir.operator import Sizes
from sofie_rdf.ir.types import DType, Shape, TensorType
from sofie_rdf.ir.windows import Window, positions_of, taps_of, three_axes
from sofie_rdf.kernels.choice import (
    AVX2,
    GENERIC,
    IS_AVX512,
    NO_FLOATS,
    Candidate,
    Choice,
    Elsewhere,
    Table,
)

__all__ = ["TRANSPOSED", "TRANSPOSED_HEADER", "TransposedProblem"]

TRANSPOSED_HEADER = "sofie/kernels/convolution/transposed.hxx"
_FEW_HEADER = "sofie/kernels/convolution/transposed_few_features.hxx"

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


# Of the kernel: up to so many features, phases along each axis, and numbers of the copied input;
# with more channels a product with all taps, of many events at once, is faster.
_FEW_FEATURES, _FEW_STRIDES, _FEW_INPUTS, _FEW_CHANNELS = 4, (4, 2), 1 << 16, 32


@dataclass(frozen=True, slots=True)
class FewSpread:
    """The memory of a transposed convolution with few features."""

    stride: int
    elements: int
    offsets: int

    @staticmethod
    def of(x: Shape, features: Dim, spread: Sequence[Window]) -> FewSpread | str:
        """For windows of the output, or why that is too much, or not to be known."""
        sizes = (*x[1:], features, *(d for s in spread for d in (s.size, s.begin)))
        if len(spread) > 2 or len(spread) != len(x) - 2 or any(s.dilation > 1 for s in spread):
            return "it has three axes, an axis of one place, or dilations"
        if not all(isinstance(d, int) for d in sizes) or any(s.size == 0 for s in spread):
            return "a size of its images is not known, or 0"
        _, height, width = three_axes(spread)
        strides = zip((height.stride, width.stride), _FEW_STRIDES, strict=True)
        many = number_of(features) > _FEW_FEATURES or any(s > most for s, most in strides)
        if many or 0 in (*x[1:], features):
            most = " x ".join(map(str, _FEW_STRIDES))
            return f"it has more than {_FEW_FEATURES} features, strides beyond {most}, or no input"
        channels = number_of(x[1])
        if channels > _FEW_CHANNELS:
            return f"with more than {_FEW_CHANNELS} channels one product with all taps is faster"
        (before, behind), across = _zeros(height), number_of(width.count) + max(_zeros(width))
        whole = number_of(align(across, _MARGIN))
        across = whole if 7 * whole <= 8 * across else across
        inputs = channels * (before + number_of(height.count) + behind) * across + _MARGIN
        lines = -(-number_of(height.size) // height.stride)
        sums = number_of(features) * width.kernel * (lines * across + 2 * _MARGIN)
        if inputs > _FEW_INPUTS:
            return "its inputs do not stay at hand"
        offsets = channels * -(-height.kernel // height.stride)
        return FewSpread(height.stride, inputs + sums + 2 * _MARGIN, offsets)


def _zeros(axis: Window) -> tuple[int, int]:
    """How many zeros outputs reach before and behind the inputs of an axis."""
    begin, size, count = map(number_of, (axis.begin, axis.size, axis.count))
    before = -(-axis.kernel // axis.stride) - 1 - begin // axis.stride
    return max(0, before), max(0, (size - 1 + begin) // axis.stride + 1 - count)


# The table ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TransposedProblem:
    """A transposed convolution: ``counts`` are events, channels, features and groups.

    The windows are those of the output, along axes with anything to do. ``inputs`` is the shape of
    x, and ``products`` how many products an input is in.
    """

    dtype: DType
    counts: tuple[Dim, Dim, Dim, int]
    inputs: Shape
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

    def scratch(self, few: FewSpread | None = None) -> tuple[TensorType, ...]:
        """Sums and inputs, where steps read, and weights that are packed at each call.

        There is so much as the kernel of all of them needs, or that of few features.
        """
        parts, (_, channels, _, groups) = self.parts, self.counts
        needed = parts.inputs + parts.products + parts.row
        steps = parts.steps + parts.groups + parts.lines
        if few:
            needed, steps = maximum(needed, few.elements), maximum(steps, few.offsets)
        weights = groups * align(self.products, 8) * (channels // groups)
        return (
            TensorType(self.dtype, (needed,)),
            TensorType(DType.INT32, (steps,)),
            TensorType(self.dtype, (weights,)),
        )


def _few(problem: TransposedProblem) -> Choice | str:
    if not problem.constant:
        return "its weights are computed, and not packed beforehand"
    if problem.dtype is not DType.FLOAT32 or problem.counts[3] != 1:
        return "its channels are in groups" if problem.counts[3] != 1 else NO_FLOATS
    found = FewSpread.of(problem.inputs, problem.counts[2], problem.slides)
    if isinstance(found, str):
        return found
    other = Elsewhere((AVX2, GENERIC), "transposed_convolution", TRANSPOSED_HEADER, IS_AVX512)
    return Choice(
        "few_transposed_convolution",
        _FEW_HEADER,
        "of few features the sums stay in registers",
        packed=f"FewTransposedWeights<float, {found.stride}>",
        told=problem.told,
        scratch=problem.scratch(found),
        elsewhere=(other,),
    )


def _any(problem: TransposedProblem) -> Choice:
    told, scratch = problem.told, problem.scratch()
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
    "transposed convolution",
    (Candidate("few_transposed_convolution", _few), Candidate("transposed_convolution", _any)),
)
