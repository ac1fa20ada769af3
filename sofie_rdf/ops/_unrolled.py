"""Recurrent layers step after step, in terms of other operators: the way that derivatives go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sofie_rdf import limits
from sofie_rdf.errors import UnsupportedOperator

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Value
    from sofie_rdf.ops.recurrent import Activation, Gates, Recurrent

__all__ = ["Layer", "unrolled"]

# About how many nodes a step has, there and back.
_NODES = 80


@dataclass(frozen=True, eq=False)
class Layer:
    """One direction of a layer: what x adds to the sums of all gates, and the other weights.

    ``r`` and ``r_bias`` are of each gate, ``r`` turned; ``inner`` says that offsets are apart.
    """

    r: Sequence[Value]
    r_bias: Sequence[Value | None]
    peepholes: Sequence[Value] | None
    gates: Gates
    clip: float | None

    def activated(self, number: int, x: Value) -> Value:
        """The function of a gate, of what is clipped."""
        if self.clip is not None:
            x = x.apply("Between", domain="sofie", low=-self.clip, high=self.clip)
        return _function(self.gates[number], x)

    def sum(self, gate: int, own: Value, h: Value) -> Value:
        """x W + h R + b of a gate, of which x W + b is there."""
        return own + h.matmul(self.r[gate])

    def peephole(self, number: int, total: Value, c: Value) -> Value:
        """A sum with what its gate sees of the cell."""
        return total if self.peepholes is None else total + self.peepholes[number] * c


_WITH: Mapping[str, Callable[[Activation, Value], Value]] = {
    "Affine": lambda a, x: x * a.alpha + a.beta,
    "LeakyRelu": lambda a, x: x.apply("LeakyRelu", alpha=a.alpha),
    "ThresholdedRelu": lambda a, x: x.apply("ThresholdedRelu", alpha=a.alpha),
    "ScaledTanh": lambda a, x: (x * a.beta).apply("Tanh") * a.alpha,
    "HardSigmoid": lambda a, x: x.apply("HardSigmoid", alpha=a.alpha, beta=a.beta),
    "Elu": lambda a, x: x.apply("Elu", alpha=a.alpha),
}


def _function(activation: Activation, x: Value) -> Value:
    known = _WITH.get(activation.name)
    return known(activation, x) if known else x.apply(activation.name)


def unrolled(
    op: Recurrent,
    x: Value,
    w: Value,
    r: Value,
    b: Value | None,
    lengths: Value | None,
    h: Value | None,
    c: Value | None = None,
    p: Value | None = None,
) -> tuple[Value, ...]:
    """All states, the last h, and the last c of a cell that has one."""
    x = x.transpose((1, 0, 2)) if op.layout else x
    steps, count = x.shape[0], op.directions
    if not isinstance(steps, int) or lengths is not None:
        what = "sequences of open length" if lengths is None else "sequence_lens"
        raise UnsupportedOperator(
            f"{op.name} has no gradient here for {what}",
            remedy="Fix the length when the model is read: shapes={...} of `load`",
        )
    limits.require(nodes=_NODES * steps * count, what=f"the gradient of {op.name}")
    hidden = r.shape[2]
    every: list[Value] = []
    ends: tuple[list[Value], list[Value]] = [], []
    for d, gates in enumerate(op.functions()):
        backward = op.direction == "reverse" or d == 1
        state = [_first(s, op, d, (x.shape[1], hidden), x) for s in (h, c)]
        layer, own = _layer(op, d, gates, x, (w, r), b, p)
        found: list[Value] = [x] * steps
        for step in range(steps)[:: -1 if backward else 1]:
            sums = [_part(s, 0, step) for s in own]
            state = list(op.advanced(layer, sums, *state))
            found[step] = state[0]
        rows = [v.reshape((1, 1, *v.shape)) for v in found]
        every.append(rows[0].concat(rows[1:], 0))
        for kept, final in zip(ends, state, strict=True):
            kept.append(final.reshape((1, *final.shape)))
    y = every[0].concat(every[1:], 1)
    last = [s[0].concat(s[1:], 0) for s in ends][: 2 if op.has_cell else 1]
    if op.layout:
        y, last = y.transpose((2, 0, 1, 3)), [s.transpose((1, 0, 2)) for s in last]
    return (y, *last)


def _part(value: Value, axis: int, number: int) -> Value:
    """One place along an axis, which goes away."""
    part = value.slice(axis, number, number + 1)
    return part.reshape((*value.shape[:axis], *value.shape[axis + 1 :]))


def _first(
    given: Value | None, op: Recurrent, d: int, shape: tuple[object, ...], x: Value
) -> Value:
    if given is not None:
        return _part(given, 1 if op.layout else 0, d)
    zero = x.tape.number(0, x.dtype)
    return zero.expand(shape)  # type: ignore[arg-type]


def _layer(
    op: Recurrent,
    d: int,
    gates: Gates,
    x: Value,
    weights: tuple[Value, Value],
    b: Value | None,
    p: Value | None,
) -> tuple[Layer, list[Value]]:
    """A direction, and x W + b of each of its gates for all steps."""
    count, hidden = op.gates, weights[1].shape[2]
    w, r = (_part(v, 0, d) for v in weights)

    def gate(value: Value, number: int) -> Value:
        return value.slice(0, number * hidden, (number + 1) * hidden)

    offsets: list[Value | None] = [None] * (2 * count)
    if b is not None:
        flat = _part(b, 0, d)
        offsets = [gate(flat, n) for n in range(2 * count)]
    own = []
    for number in range(count):
        total = x.matmul(gate(w, number).turned)
        offset = offsets[number]
        total = total if offset is None else total + offset
        inner = offsets[count + number]
        # What of a gate's sums stays apart is for the cell to add.
        is_apart = number in op.apart
        own.append(total if inner is None or is_apart else total + inner)
    peepholes = None if p is None else [gate(_part(p, 0, d), n) for n in range(3)]
    turned = [gate(r, n).turned for n in range(count)]
    return Layer(turned, offsets[count:], peepholes, gates, op.limit), own
