"""What is asked of the kernels of convolutions, and the memory of those that take all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sofie_rdf.ir.dims import Dim, align, maximum, minimum, never_negative
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ir.windows import Window, taps_of, three_axes
from sofie_rdf.kernels.choice import NO_FLOATS
from sofie_rdf.kernels.lanes import half_of_lanes

__all__ = [
    "ConvProblem",
    "half_of",
    "half_or_reason",
    "long_axes",
    "panels",
    "product_scratch",
    "tile_rows",
]

# Of the kernel: the steps and tiles that are done together, how many elements are copied at a time,
# what a pointwise convolution takes as one row, the elements between channels, and the bytes of a
# tile's row where registers have 64 bytes, for tiles of so many rows; no tile needs more elsewhere.
_DEPTH, _TILES, _BUDGET, _SHORT, _BETWEEN = 128, 4, 1 << 17, 512, 96
_ROW_BYTES = {8: 192, 4: 384, 2: 512, 1: 512}


class ConvProblem(NamedTuple):
    """A convolution: ``counts`` are events, channels, features and groups.

    ``constant`` says that its weights are known, ``added`` that a tensor is added to its sums.
    """

    dtype: DType
    counts: tuple[Dim, Dim, Dim, int]
    group_channels: Dim
    windows: tuple[Window, ...]
    constant: bool = True
    added: bool = False

    @property
    def slides(self) -> Sequence[Window]:
        """The axes along which there is anything to do."""
        return long_axes(self.windows)

    @property
    def features(self) -> Dim:
        return self.counts[2]

    @property
    def groups(self) -> int:
        return self.counts[3]

    @property
    def depth(self) -> Dim:
        """How many products are summed."""
        return self.group_channels * taps_of(self.windows)

    @property
    def rows(self) -> int:
        return tile_rows(self.features // self.groups)

    def scratch(self, elements: Dim = 0, offsets: Dim = 0) -> tuple[TensorType, ...]:
        """The memory of the plain product, or so much where another kernel needs more.

        The plain product is what runs with weights that are computed, and on instruction sets that
        lack the other kernel.
        """
        first, second = product_scratch(self.dtype, self.counts, self.slides)
        return (
            TensorType(first.dtype, (maximum(first.shape[0], elements),)),
            TensorType(second.dtype, (maximum(second.shape[0], offsets),)),
            panels(self.dtype, self.groups, self.features // self.groups, self.depth),
        )


# Sizes --------------------------------------------------------------------------------------------


def long_axes(slides: Sequence[Window]) -> Sequence[Window]:
    """The axes along which there is anything to do: an image of one column is a row."""
    return [s for s in slides if (s.size, s.count, s.kernel, s.begin) != (1, 1, 1, 0)] or slides[:1]


def tile_rows(features: Dim) -> int:
    """How many rows a tile has, so that few of them are wasted."""
    if not isinstance(features, int) or features <= 0:
        return 8
    return 8 if features > 4 else 4 if features > 2 else features


def product_scratch(
    dtype: DType, counts: tuple[Dim, Dim, Dim, int], slides: Sequence[Window]
) -> tuple[TensorType, TensorType]:
    """What the product needs: sums and copied channels; and where each of its steps reads."""
    events, channels, features, groups = counts[0], counts[1], counts[2], counts[3]
    channels, features = channels // groups, features // groups
    depth, rows = channels * taps_of(slides), tile_rows(features)
    width = _ROW_BYTES[rows] // dtype.nbytes
    few = isinstance(depth, int) and depth <= _DEPTH
    sums = (rows if few else maximum(_TILES * align(features, rows), rows)) * width
    size = sums + _copied(events, channels, slides) + width
    return TensorType(dtype, (size,)), TensorType(DType.INT32, (depth,))


def _copied(events: Dim, channels: Dim, slides: Sequence[Window]) -> Dim:
    """How many elements of the channels are copied at a time: a row for the output at least."""
    depth, height, width = three_axes(slides)
    parts = depth.kernel * height.stride * width.stride
    row = width.count + (width.extent - 1) // width.stride
    reach = (height.extent - 1) // height.stride
    rows = height.count
    if taps_of(slides) == 1:
        # It may be seen as an image of another form.
        row, rows = maximum(row, _SHORT), rows * depth.count
    whole = channels * (parts * row * (rows + reach) + _BETWEEN)
    least = channels * (parts * row * (1 + reach) + _BETWEEN)
    most = maximum(least, _BUDGET)
    # A number where one event needs all of it: memory is planned better then.
    return most if never_negative(whole - most) else minimum(events * whole, most)


def panels(dtype: DType, groups: int, features: Dim, depth: Dim) -> TensorType:
    """Weights in the form that the product wants, where they are packed at run time."""
    size = groups * align(features, tile_rows(features)) * align(depth, 4)
    return TensorType(dtype, (size,))


def half_of(problem: ConvProblem) -> int:
    """How many columns half a tile of features in lanes would have; 0 where there is none."""
    found = half_or_reason(problem)
    return 0 if isinstance(found, str) else found


def half_or_reason(problem: ConvProblem) -> int | str:
    if problem.groups > 1:
        return "its channels are in groups"
    if problem.dtype is not DType.FLOAT32:
        return NO_FLOATS
    return half_of_lanes(problem.features, problem.depth, problem.slides)
