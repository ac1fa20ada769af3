"""The kernels of devices for windows along axes of space, and for the best elements of rows."""

from __future__ import annotations

from collections.abc import Sequence

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.operator import Functor, Launch, Operand, Sizes
from sofie_rdf.ops._device import device_functor, require_known
from sofie_rdf.ops._windows import Window

__all__ = ["convolved", "pooled", "selected", "spread_out"]

HEADER = "sofie/device/windows.hxx"


def _windows(slides: Sequence[Window]) -> tuple[Sizes, ...]:
    names = "size", "count", "kernel", "stride", "dilation", "begin"
    return tuple(Sizes(tuple(getattr(s, name) for s in slides)) for name in names)


def _flag(value: object) -> str:
    return "true" if value else "false"


Counts = tuple[Dim, Dim, int]


def convolved(
    functor: Functor,
    y: Operand,
    given: Sequence[Operand | None],
    counts: Counts,
    slides: Sequence[Window],
) -> tuple[Launch, ...]:
    """function(conv(x, w) + b + added) for channels, features and groups; b, added may be None."""
    x, w, b, added = (*given, None, None)[:4]
    present = [o for o in (x, w, b, added) if o is not None]
    require_known(y, *present)
    named = device_functor(functor)
    kind = f"{named.cxx}, {len(slides)}, {_flag(b)}, {_flag(added)}"
    parameters = named, *counts, _windows(slides)
    tensors = y, *present
    return (Launch(f"sofie::device::Conv<{kind}>", parameters, tensors, y.type.size, HEADER),)


def spread_out(
    functor: Functor,
    y: Operand,
    given: Sequence[Operand | None],
    counts: Counts,
    slides: Sequence[Window],
) -> tuple[Launch, ...]:
    """function(transposed conv(x, w) + b) for channels, features and groups; b may be None."""
    x, w, b = (*given, None)[:3]
    present = [o for o in (x, w, b) if o is not None]
    require_known(y, *present)
    named = device_functor(functor)
    kernel = f"sofie::device::ConvTranspose<{named.cxx}, {len(slides)}, {_flag(b)}>"
    parameters = named, *counts, _windows(slides)
    return (Launch(kernel, parameters, (y, *present), y.type.size, HEADER),)


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
    parameters = _windows(slides), *more
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
    ordered = f"sofie::device::Order<{', '.join(map(_flag, order))}>"
    named = f"sofie::device::{kernel}<{x.type.dtype.cxx}, {ordered}>"
    header, tensors = "sofie/device/select.hxx", (*outputs, x)
    parameters = size, inner, *k
    count = outer * inner
    return (Launch(named, parameters, tensors, count, header, "groups", len(outputs)),)
