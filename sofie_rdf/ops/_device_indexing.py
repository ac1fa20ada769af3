"""What the operators of `indexing` do on devices: their methods ``on_device``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from sofie_rdf.ir.dims import Dim, product
from sofie_rdf.ir.operator import Launch, Operand, Operator, Parameter, Sizes
from sofie_rdf.ir.types import normal_axis
from sofie_rdf.ops._device import device_functor, mapped_copy, require_known
from sofie_rdf.ops._device_moves import dense, gathered, gathered_elements, padded, strided

if TYPE_CHECKING:
    from sofie_rdf.ops.indexing import (
        Gather,
        GatherElements,
        GatherND,
        Pad,
        ScatterElements,
        ScatterND,
    )

__all__ = ["elements", "moved", "pad", "places", "scattered", "scattered_places", "slices"]

# As the kernel numbers them.
MODES = ("constant", "edge", "reflect", "wrap")
SCATTER = "sofie/device/scatter.hxx"
# An element of a slice is written by so many items, each of which has some places.
_PARTS = 64

Inputs: TypeAlias = Sequence["Operand | None"]
Outputs: TypeAlias = Sequence[Operand]


def moved(self: Operator, inputs: Inputs, outputs: Outputs) -> tuple[Launch, ...]:
    """A strided copy, where the operator is one on a CPU, too."""
    launches = strided(self.lower(inputs, outputs))
    return Operator.on_device(self, inputs, outputs) if launches is None else launches


def slices(self: Gather, inputs: Inputs, outputs: Outputs) -> tuple[Launch, ...]:
    """Slices along an axis."""
    x, indices = inputs
    assert x is not None and indices is not None
    shape, axis = x.type.shape, normal_axis(self.axis, x.type.rank)
    sizes = product(shape[:axis]), shape[axis], product(shape[axis + 1 :])
    return gathered(outputs[0], x, indices, sizes)


def elements(self: GatherElements, inputs: Inputs, outputs: Outputs) -> tuple[Launch, ...]:
    """Elements along an axis."""
    x, indices = inputs
    assert x is not None and indices is not None
    return gathered_elements(outputs[0], x, indices, normal_axis(self.axis, x.type.rank))


def pad(self: Pad, inputs: Inputs, outputs: Outputs) -> tuple[Launch, ...]:
    """Borders."""
    x, value = (*inputs, None)[:2]
    assert x is not None
    return padded(outputs[0], x, value, self.widths(x.type.rank), MODES.index(self.mode))


def places(self: GatherND, inputs: Inputs, outputs: Outputs) -> tuple[Launch, ...]:
    """Slices at places with several coordinates."""
    x, indices = inputs
    assert x is not None and indices is not None
    require_known(*outputs, x)
    batch, (*_, depth) = self.batch_dims, indices.type.shape
    assert isinstance(depth, int)
    rest = x.type.shape[batch:]
    parameters = product(indices.type.shape[batch:-1]), product(rest[depth:]), Sizes(rest[:depth])
    kernel = f"sofie::device::GatherND<{depth}>"
    return (Launch(kernel, parameters, (outputs[0], x, indices), outputs[0].type.size, SCATTER),)


def _written(
    y: Operand, given: Inputs, kernel: str, parameters: tuple[Parameter, ...], count: Dim
) -> tuple[Launch, ...]:
    """A copy of x, and the updates of it."""
    x, indices, updates = given
    assert x is not None and indices is not None and updates is not None
    require_known(y, x, updates)
    write = Launch(kernel, parameters, (y, indices, updates), count, SCATTER)
    return (*mapped_copy(y, x), write)


def scattered(self: ScatterElements, inputs: Inputs, outputs: Outputs) -> tuple[Launch, ...]:
    """Updates along an axis: an item has a line of them."""
    x, indices, _ = inputs
    assert x is not None and indices is not None
    rank, axis = x.type.rank, normal_axis(self.axis, x.type.rank)
    count, steps, targets = (
        indices.type.shape[axis],
        list(dense(indices.type.shape)),
        list(dense(x.type.shape)),
    )
    lines = [1 if i == axis else d for i, d in enumerate(indices.type.shape)]
    functor = device_functor(self.functor())
    sizes = *map(Sizes, map(tuple, (lines, steps, targets))), count, steps[axis]
    parameters = functor, *sizes, x.type.shape[axis], targets[axis]
    kernel = f"sofie::device::ScatterElements<{functor.cxx}, {rank}>"
    return _written(outputs[0], inputs, kernel, parameters, product(lines))


def scattered_places(self: ScatterND, inputs: Inputs, outputs: Outputs) -> tuple[Launch, ...]:
    """Updates at places with several coordinates: an item has some of the places."""
    x, indices, _ = inputs
    assert x is not None and indices is not None
    depth = indices.type.shape[-1]
    assert isinstance(depth, int)
    functor = device_functor(self.functor())
    inner, extents = product(x.type.shape[depth:]), Sizes(x.type.shape[:depth])
    parameters = functor, product(indices.type.shape[:-1]), inner, _PARTS, extents
    kernel = f"sofie::device::ScatterND<{functor.cxx}, {depth}>"
    return _written(outputs[0], inputs, kernel, parameters, _PARTS * inner)
