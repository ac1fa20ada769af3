"""Recurrent layers step after step, in terms of other operators: the way that derivatives go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from sofie_rdf import limits
from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.ir.dims import Dim, number_of
from sofie_rdf.ir.operator import lookup

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Value
    from sofie_rdf.ops.recurrent import Activation, Gates, Recurrent

__all__ = ["Layer", "parts", "unrolled"]

# About how many nodes a step has, there and back.
_NODES = 50


@dataclass(frozen=True, eq=False)
class Layer:
    """One direction of a layer.

    ``r`` is what h is multiplied with, for runs of gates that are summed up together, and
    ``inner`` an offset that stays beside h.
    """

    r: Sequence[Value]
    inner: Value | None
    peepholes: Sequence[Value] | None
    gates: Gates
    clip: float | None

    def activated(self, number: int, x: Value) -> Value:
        """The function of a gate, of what is clipped."""
        if self.clip is not None:
            x = x.apply("Between", domain="sofie", low=-self.clip, high=self.clip)
        return _function(self.gates[number], x)

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
    if not isinstance(steps, int):
        raise UnsupportedOperator(
            f"{op.name} has no gradient here for sequences of open length",
            remedy="Fix the length when the model is read: shapes={...} of `load`",
        )
    limits.require(nodes=_NODES * steps * count, what=f"the gradient of {op.name}")
    hidden = r.shape[2]
    there = _there(lengths, steps)
    if there:
        # What is behind the end of a sequence may be anything.
        wide = there[0].concat(there[1:], 0).reshape((*x.shape[:2], 1))
        x = wide.choose(x, 0)
    every: list[Value] = []
    ends: tuple[list[Value], list[Value]] = [], []
    for d, gates in enumerate(op.functions()):
        backward = op.direction == "reverse" or d == 1
        state = [_first(s, op, d, (x.shape[1], hidden), x) for s in (h, c)]
        layer, own = _layer(op, d, gates, x, (w, r), b, p)
        found: list[Value] = [x] * steps
        for step in range(steps)[:: -1 if backward else 1]:
            after = list(op.advanced(layer, own[step], *state))
            state = _kept(there[step], after, state) if there else after
            found[step] = there[step].choose(state[0], 0) if there else state[0]
        whole = found[0].concat(found[1:], 0)
        every.append(whole.reshape((steps, 1, *found[0].shape)))
        for kept, final in zip(ends, state, strict=True):
            kept.append(final.reshape((1, *final.shape)))
    y = every[0].concat(every[1:], 1)
    last = [s[0].concat(s[1:], 0) for s in ends][: 2 if op.has_cell else 1]
    if op.layout:
        y, last = y.transpose((2, 0, 1, 3)), [s.transpose((1, 0, 2)) for s in last]
    return (y, *last)


def _there(lengths: Value | None, steps: int) -> list[Value]:
    """For each step, which sequences have it: [batch, 1]; nothing where all have all."""
    if lengths is None:
        return []
    column = lengths.reshape((*lengths.shape, 1))
    return [column > step for step in range(steps)]


def _kept(there: Value, after: Sequence[Value], before: Sequence[Value]) -> list[Value]:
    """The states after a step, of sequences that have it."""
    return [there.choose(new, old) for new, old in zip(after, before, strict=False)]


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
) -> tuple[Layer, Sequence[Value]]:
    """A direction, and x W + b of all of its gates, for each step."""
    hidden, size = weights[1].shape[2], op.gates * weights[1].shape[2]
    w, r = (_part(v, 0, d) for v in weights)
    total, inner = x.matmul(w.turned), None
    if b is not None:
        flat = _part(b, 0, d)
        beside = flat.slice(0, size, 2 * size)
        if op.apart:
            # The last gate adds it to what it sees of h alone.
            inner = beside.slice(0, size - hidden, size)
            beside = beside.slice(0, 0, size - hidden).pad([(0, hidden)])
        total = total + (flat.slice(0, 0, size) + beside)
    peepholes = None
    if p is not None:
        peepholes = parts(_part(p, 0, d), 3, 0)
    runs = [0, *op.runs, op.gates]
    turned = [r.slice(0, first * hidden, last * hidden).turned for first, last in pairwise(runs)]
    own = [v.reshape(v.shape[1:]) for v in parts(total, total.shape[0], 0)]
    return Layer(turned, inner, peepholes, gates, op.limit), own


def parts(value: Value, count: Dim, axis: int = -1) -> Sequence[Value]:
    """So many equal parts along an axis."""
    axis, count = axis % value.rank, number_of(count)
    if count == 1:
        return [value]
    sizes = (value.shape[axis] // count,) * count
    return value.outputs(lookup("", "Split")(axis=axis, split=sizes))
