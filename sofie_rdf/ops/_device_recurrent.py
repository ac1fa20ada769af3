"""The kernel of devices for RNN, LSTM and GRU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.operator import Functor, Launch, Operand, flag
from sofie_rdf.ops._device import require_known

if TYPE_CHECKING:
    from sofie_rdf.ops.recurrent import Activation, Recurrent

__all__ = ["recurrent"]

# The local memory that every GPU has for a work-group, less some.
_LOCAL_BYTES = 40960
_KINDS = {"RNN": "rnn", "LSTM": "lstm", "GRU": "gru"}
# Which numbers the function objects of a device have.
_FIELDS = {"Affine": 2, "ScaledTanh": 2, "HardSigmoid": 2, "LeakyRelu": 1, "Elu": 1}
_FIELDS["ThresholdedRelu"] = 1


def recurrent(
    op: Recurrent, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
) -> tuple[Launch, ...]:
    """A kernel for each direction, which walks along the whole sequence."""
    x, w, r, *others = (*inputs, *(None,) * 8)[:8]
    assert x is not None and w is not None and r is not None
    require_known(*outputs, *(i for i in inputs if i is not None))
    hidden = r.type.shape[2]
    size = (4 + op.gates) * x.type.dtype.nbytes
    if not isinstance(hidden, int) or hidden * size > _LOCAL_BYTES:
        raise UnsupportedOperator(
            f"{op.name} with {hidden} states has no kernel for devices",
            remedy=f"At most {_LOCAL_BYTES // size} fit into the local memory of a work-group",
        )
    kind = "linear_gru" if op.apart else _KINDS[op.name]
    flags = ", ".join(flag(o) for o in (*others, not outputs[0].unread))
    form = f"sofie::device::RecurrentForm<sofie::device::Cell::{kind}, {flags}, {len(outputs)}>"
    # What is not written may be anything.
    y = outputs[-1] if outputs[0].unread else outputs[0]
    b, lengths, first, first_cell, peepholes = (o or x for o in others)
    written = y, *outputs[1:], *(y,) * (3 - len(outputs))
    tensors = *written, x, lengths, w, r, b, first, first_cell, peepholes
    batch = x.type.shape[0] if op.layout else x.type.shape[1]
    found = []
    for number, gates in enumerate(op.functions()):
        functors = [_functor(g) for g in (*gates, *(gates[-1],) * (3 - len(gates)))]
        template = (
            f"{x.type.dtype.on_device}, {form}, {hidden}, {', '.join(f.cxx for f in functors)}"
        )
        backward = op.direction == "reverse" or number == 1
        parameters = (
            *functors,
            float(op.limit or 0.0),
            *_sizes(op, x, hidden, number),
            Functor("bool", (backward,)),
            Functor("bool", (bool(getattr(op, "input_forget", False)),)),
        )
        kernel, header = f"sofie::device::Recurrent<{template}>", "sofie/device/recurrent.hxx"
        found.append(Launch(kernel, parameters, tensors, batch, header, "groups", 3))
    return tuple(found)


def _functor(gate: Activation) -> Functor:
    name = "GateThreshold" if gate.name == "ThresholdedRelu" else gate.name
    numbers = (float(gate.alpha), float(gate.beta))[: _FIELDS.get(gate.name, 0)]
    return Functor(f"sofie::device::{name}", numbers)


def _sizes(op: Recurrent, x: Operand, hidden: int, number: int) -> tuple[Dim, ...]:
    """Steps, batch, inputs, strides and beginnings, as the kernel has them."""
    count = op.directions
    if op.layout:
        batch, steps, inputs = x.type.shape
        each = count * hidden
        strides: tuple[Dim, ...] = inputs, steps * inputs, each, steps * each, each
        begins: tuple[Dim, Dim] = number * hidden, number * hidden
    else:
        steps, batch, inputs = x.type.shape
        strides = batch * inputs, inputs, batch * (count * hidden), hidden, hidden
        begins = batch * (number * hidden), batch * (number * hidden)
    return (steps, batch, inputs, *strides, *begins, number)
