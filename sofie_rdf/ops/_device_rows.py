"""The kernels of devices that combine many elements: reductions and normalisations."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sofie_rdf.ir.dims import Dim, product
from sofie_rdf.ir.operator import Launch, Operand, Sizes
from sofie_rdf.ir.types import Shape
from sofie_rdf.ops._broadcast import collapse
from sofie_rdf.ops._device import require_known, strides

__all__ = ["normalized", "reduced", "softmax"]

# Up to so many elements, one item adds them up.
_FEW = 64


def _items(size: Dim) -> int:
    """How many work-items a row is shared among."""
    return 32 if isinstance(size, int) and size <= 64 else 128


def reduced(y: Operand, x: Operand, rule: str, axes: Collection[int]) -> tuple[Launch, ...]:
    """The reduction of x over axes, by the rule of this name."""
    require_known(y, x)
    kept, over = _split(x.type.shape, axes)
    count = product(d for d, _ in over)
    results = product(d for d, _ in kept)
    named, dtype = f"sofie::device::{rule}", x.type.dtype.on_device
    lists = [Sizes(tuple(values)) for pairs in (kept, over) for values in zip(*pairs, strict=True)]
    sizes, parameters = f"{len(kept)}, {len(over)}", (*lists, count)
    by_item = f"sofie::device::ReduceByItem<{named}, {sizes}>"
    header = "sofie/device/reduce.hxx"
    if isinstance(count, int) and count <= _FEW:
        return (Launch(by_item, parameters, (y, x), results, header),)
    kernel = f"sofie::device::ReduceByGroup<{dtype}, {named}, {sizes}>"
    alone = by_item, results
    return (Launch(kernel, parameters, (y, x), results, header, "groups", alone=alone),)


Walk = list[tuple[Dim, Dim]]


def _split(shape: Shape, axes: Collection[int]) -> tuple[Walk, Walk]:
    """The extents and strides of axes that are kept, and of others; neighbours are one."""
    kept: Walk = []
    over: Walk = []
    step: Dim = 1
    last = None
    for axis in reversed(range(len(shape))):
        one = over if axis in axes else kept
        if one is last:
            size, stride = one[0]
            one[0] = size * shape[axis], stride
        elif shape[axis] != 1:
            one.insert(0, (shape[axis], step))
            last = one
        step = step * shape[axis]
    return kept or [(1, 0)], over or [(1, 0)]


def softmax(y: Operand, x: Operand, view: tuple[Dim, Dim, Dim], *, log: bool) -> tuple[Launch, ...]:
    """The softmax over the middle axis, or its logarithm."""
    require_known(y, x)
    outer, size, inner = view
    flag = "true" if log else "false"
    kernel, alone = (
        f"sofie::device::Softmax<{x.type.dtype.on_device}, {flag}, {items}>"
        for items in (_items(size), 1)
    )
    count, header = outer * inner, "sofie/device/rows.hxx"
    parameters = size, inner
    return (Launch(kernel, parameters, (y, x), count, header, "groups", alone=(alone, count)),)


def normalized(
    outputs: Sequence[Operand],
    x: Operand,
    rows: tuple[Dim, Dim],
    factors: Sequence[tuple[Operand, Shape]],
    shape: Shape,
    epsilon: float,
    *,
    centred: bool = True,
) -> tuple[Launch, ...]:
    """Rows by mean and variance, scaled and shifted by factors that broadcast to this shape."""
    require_known(*outputs, x, *(f for f, _ in factors))
    count, size = rows
    extents, shapes = collapse(shape, [s for _, s in factors])
    listed = [strides(s) for s in shapes]
    listed += [Sizes((0,) * len(extents))] * (2 - len(listed))
    statistics = "".join(f", {o.type.dtype.on_device}" for o in outputs[1:])
    flag = "true" if centred else "false"
    kind = f"{x.type.dtype.on_device}, {flag}, {len(extents)}"
    kernel, alone = (
        f"sofie::device::Normalize<{kind}, {items}{statistics}>" for items in (_items(size), 1)
    )
    parameters = float(epsilon), size, Sizes(extents), *listed
    tensors = *outputs, x, *(f for f, _ in factors)
    header, written = "sofie/device/rows.hxx", len(outputs)
    return (Launch(kernel, parameters, tensors, count, header, "groups", written, (alone, count)),)
