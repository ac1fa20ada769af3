"""What the operators of `indexing` do on devices: their methods ``on_device``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from sofie_rdf.ir.dims import product
from sofie_rdf.ir.operator import Launch, Operand, Operator
from sofie_rdf.ir.types import normal_axis
from sofie_rdf.ops._device_moves import gathered, gathered_elements, padded, strided

if TYPE_CHECKING:
    from sofie_rdf.ops.indexing import Gather, GatherElements, Pad

__all__ = ["elements", "moved", "pad", "slices"]

# As the kernel numbers them.
MODES = ("constant", "edge", "reflect", "wrap")

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
