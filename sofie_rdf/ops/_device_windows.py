"""The kernels of devices for windows along axes of space, and for the best elements of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sofie_rdf.ir.dims import Dim, ceil_div, product
from sofie_rdf.ir.operator import Functor, Launch, Operand, Sizes, flag
from sofie_rdf.ir.windows import Window
from sofie_rdf.ops._device import device_functor, require_known, tile_class

__all__ = ["convolved", "pooled", "selected", "spread_out", "window_sizes"]

HEADER = "sofie/device/windows.hxx"


def window_sizes(slides: Sequence[Window]) -> tuple[Sizes, ...]:
    """The members of `sofie::device::Windows`."""
    names = "size", "count", "kernel", "stride", "dilation", "begin"
    return tuple(Sizes(tuple(getattr(s, name) for s in slides)) for name in names)


# Images, channels, features and groups.
Counts = tuple[Dim, Dim, Dim, int]
# The rows and columns of a tile, its depth, and the rows and columns of an item: for a group of at
# most so many features, or more.
_TILES = {8: (8, 128, 16, 1, 4), 32: (32, 64, 16, 2, 4), 64: (64, 64, 16, 4, 4)}
# A group of fewer features is not worth tiles.
_FEW = 4


def convolved(
    functor: Functor,
    y: Operand,
    given: Sequence[Operand | None],
    counts: Counts,
    slides: Sequence[Window],
) -> tuple[Launch, ...]:
    """function(conv(x, w) + b + added); b and added may be None."""
    places = counts[0] * product(s.count for s in slides)
    alone = f"Conv<{{}}, {len(slides)}, {{}}, {{}}>"
    return (_convolution(functor, y, given, counts, slides, ("Forward", alone, 1, places)),)


def spread_out(
    functor: Functor,
    y: Operand,
    given: Sequence[Operand | None],
    counts: Counts,
    slides: Sequence[Window],
) -> tuple[Launch, ...]:
    """function(transposed conv(x, w) + b); b may be None. The sizes of windows are those of y."""
    phases = math.prod(s.stride for s in slides)
    places = counts[0] * product(ceil_div(s.size, s.stride) for s in slides)
    alone = f"ConvTranspose<{{}}, {len(slides)}, {{}}>"
    return (_convolution(functor, y, given, counts, slides, ("Transposed", alone, phases, places)),)


def _convolution(
    functor: Functor,
    y: Operand,
    given: Sequence[Operand | None],
    counts: Counts,
    slides: Sequence[Window],
    kind: tuple[str, str, int, Dim],
) -> Launch:
    """By tiles, where a group has features enough; and for an item alone.

    The kind is the geometry, the kernel by item, how many phases there are, and how many columns
    each has.
    """
    geometry, alone, phases, columns = kind
    x, w, b, added = (*given, None, None)[:4]
    tensors = y, *(o for o in (x, w, b, added) if o is not None)
    require_known(*tensors)
    named = device_functor(functor)
    outer = counts[2] // counts[3]
    few = isinstance(outer, int) and outer < _FEW
    mixed = geometry == "Transposed" and any(s.stride > 1 and s.dilation > 1 for s in slides)
    widest = max(_TILES)
    tile = _TILES[next((n for n in _TILES if isinstance(outer, int) and outer <= n), widest)]
    across = ceil_div(columns, tile[1])
    parameters = named, *counts, window_sizes(slides), across
    by_item = "sofie::device::" + alone.format(named.cxx, flag(b), flag(added))
    if few or mixed:
        return Launch(by_item, parameters, tensors, y.type.size, HEADER)
    kinds = f"sofie::device::{geometry}", y.type.dtype.on_device, named.cxx
    flags = len(slides), flag(b), flag(added)
    kernel = f"sofie::device::ConvTiles<{', '.join(map(str, (*kinds, tile_class(tile), *flags)))}>"
    count = phases * counts[3] * ceil_div(outer, tile[0]) * across
    header, one = "sofie/device/convolution.hxx", (by_item, y.type.size)
    return Launch(kernel, parameters, tensors, count, header, "groups", alone=one)


def pooled(
    kernel: str,
    outputs: Sequence[Operand],
    x: Operand,
    slides: Sequence[Window],
    *more: Sizes | Functor | Dim,
) -> tuple[Launch, ...]:
    """A pooling of windows by the kernel of this name; ``{}`` in it is their number of axes."""
    require_known(*outputs, x)
    named = f"sofie::device::{kernel.format(len(slides))}"
    tensors, count = (*outputs, x), outputs[0].type.size
    parameters = window_sizes(slides), *more
    return (Launch(named, parameters, tensors, count, HEADER, outputs=len(outputs)),)


def selected(
    kernel: str,
    outputs: Sequence[Operand],
    x: Operand,
    view: tuple[Dim, Dim, Dim],
    order: tuple[bool, bool, bool],
    *k: Dim,
) -> tuple[Launch, ...]:
    """The first elements of rows [outer, size, inner] in an order: largest, NaN, last first."""
    require_known(*outputs, x)
    outer, size, inner = view
    ordered = f"sofie::device::Order<{', '.join(map(flag, order))}>"
    named = f"sofie::device::{kernel}<{x.type.dtype.on_device}, {ordered}>"
    header, tensors = "sofie/device/select.hxx", (*outputs, x)
    parameters = size, inner, *k
    count = outer * inner
    return (Launch(named, parameters, tensors, count, header, "groups", len(outputs)),)
