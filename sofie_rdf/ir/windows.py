"""Windows that slide along axes: what they cover and how many there are, for any sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product as combinations
from typing import Any

from sofie_rdf.errors import ShapeError
from sofie_rdf.ir.dims import Dim, ceil_div, maximum, minimum, number_of, product
from sofie_rdf.ir.types import Shape

__all__ = [
    "Window",
    "counts_of",
    "index_of",
    "positions_of",
    "require_count",
    "slices_of",
    "taps_of",
    "three_axes",
    "windows",
]

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True, slots=True)
class Window:
    """Along one axis of ``size``, padded by ``begin`` and ``end``: ``count`` windows.

    Window j covers the positions ``j * stride - begin + t * dilation`` for t < ``kernel``.
    """

    size: Dim
    count: Dim
    kernel: int
    stride: int
    dilation: int
    begin: Dim
    end: Dim

    @property
    def extent(self) -> int:
        """How many positions there are from the first to the last that a window covers."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def pitch(self) -> Dim:
        """The positions that windows reach or elements have, whichever are more."""
        reach = (self.count - 1) * self.stride + self.extent
        return maximum(reach, self.begin + self.size)

    @property
    def requirements(self) -> tuple[tuple[Dim, Dim], ...]:
        """Pairs of sizes that are equal where a window fits, if only the run can tell."""
        room = self.size + self.begin + self.end
        fits = minimum(room, self.extent)
        # Where the padding is made for the windows, it depends on the size.
        made = not (isinstance(self.begin, int) and isinstance(self.end, int))
        return () if made or self.extent == 1 or fits == self.extent else ((fits, self.extent),)

    @property
    def numbers(self) -> tuple[Dim, ...]:
        """All of it, in the order in which kernels take it."""
        ends = (self.begin, self.end)
        return (self.size, self.count, self.kernel, self.stride, self.dilation, *ends)


def windows(
    spatial: Shape,
    kernel: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: bool = False,
) -> tuple[Window, ...]:
    """The windows of a pooling or a convolution, an axis each; ``pads`` are all begins, all ends.

    With ``ceil_mode`` a last window may go beyond the padding, but does not begin there.
    """
    rank = len(spatial)
    strides = (1,) * rank if strides is None else strides
    dilations = (1,) * rank if dilations is None else dilations
    pads = (0,) * (2 * rank) if pads is None or auto_pad != "NOTSET" else pads
    if auto_pad not in AUTO_PADS:
        raise ShapeError(f"auto_pad is {auto_pad!r}, and not one of {', '.join(AUTO_PADS)}")
    require_count("kernel_shape", kernel, rank)
    require_count("strides", strides, rank)
    require_count("dilations", dilations, rank)
    require_count("pads", pads, 2 * rank, least=0)
    along = zip(spatial, kernel, strides, dilations, pads[:rank], pads[rank:], strict=True)
    return tuple(_along(*one, auto_pad=auto_pad, ceil_mode=ceil_mode) for one in along)


def require_count(name: str, values: Sequence[int], count: int, least: int = 1) -> None:
    """`ShapeError` unless there are ``count`` values of at least ``least``."""
    if len(values) != count:
        raise ShapeError(f"{name} has {len(values)} numbers where {count} are needed")
    if any(v < least for v in values):
        raise ShapeError(f"{name} is {list(values)}: no number may be less than {least}")


def _along(
    size: Dim,
    kernel: int,
    stride: int,
    dilation: int,
    begin: Dim,
    end: Dim,
    *,
    auto_pad: str,
    ceil_mode: bool,
) -> Window:
    extent = (kernel - 1) * dilation + 1
    if auto_pad.startswith("SAME"):
        count = ceil_div(size, stride)
        total = maximum((count - 1) * stride + extent - size, 0)
        smaller = total // 2
        upper = auto_pad == "SAME_UPPER"
        begin, end = (smaller, total - smaller) if upper else (total - smaller, smaller)
    else:
        reach = size + begin + end - extent
        if ceil_mode and auto_pad == "NOTSET":
            count = minimum(ceil_div(reach, stride) + 1, ceil_div(size + begin, stride))
        else:
            count = reach // stride + 1
        if isinstance(reach, int) and reach < 0:
            padded = f"{size} elements" + (f" padded by {begin} and {end}" if begin or end else "")
            raise ShapeError(f"a window of {extent} does not fit into {padded}")
    return Window(size, count, kernel, stride, dilation, begin, end)


# Of several axes, for kernels and references ------------------------------------------------------


# An axis along which there is one place.
_ONE = Window(1, 1, 1, 1, 1, 0, 0)


def three_axes(slides: Sequence[Window]) -> tuple[Window, Window, Window]:
    """Along depth, height and width, of which the first ones may be missing."""
    depth, height, width = (*(_ONE,) * (3 - len(slides)), *slides)
    return depth, height, width


def positions_of(slides: Sequence[Window]) -> Dim:
    return product(s.count for s in slides)


def taps_of(slides: Sequence[Window]) -> int:
    return math.prod(s.kernel for s in slides)


def index_of(*parts: Any) -> Any:
    """An index of an array, an axis each."""
    return parts


def counts_of(slides: Sequence[Window]) -> tuple[int, ...]:
    return tuple(number_of(s.count) for s in slides)


def slices_of(slides: Sequence[Window]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """For each tap of the kernel what it reads of the padded input."""
    lengths = [max(0, (number_of(s.count) - 1) * s.stride + 1) for s in slides]
    for tap in combinations(*(range(s.kernel) for s in slides)):
        begins = [t * s.dilation for t, s in zip(tap, slides, strict=True)]
        along = zip(begins, lengths, slides, strict=True)
        yield tap, tuple(slice(b, b + length, s.stride) for b, length, s in along)
