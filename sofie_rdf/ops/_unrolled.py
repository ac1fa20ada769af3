"""Recurrent layers in terms of other operators, step after step: the way that derivatives go."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from sofie_rdf.ir.dims import Dim, number_of
from sofie_rdf.ir.operator import lookup
from sofie_rdf.ops._slopes_control import Step, looped
from sofie_rdf.ops._slopes_indexing import counted

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Value
    from sofie_rdf.ops.attention import LinearAttention
    from sofie_rdf.ops.recurrent import Activation, Gates, Recurrent

__all__ = ["Layer", "linear_attention", "parts", "unrolled"]

# So many steps are nodes one by one; more of them are a Loop.
_MOST_STEPS = 64


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

    @property
    def values(self) -> list[Value]:
        """All that the steps read."""
        inner = [] if self.inner is None else [self.inner]
        return [*self.r, *inner, *(self.peepholes or ())]

    def among(self, values: Sequence[Value]) -> Layer:
        """The same with these values."""
        rest = iter(values)
        r = [next(rest) for _ in self.r]
        inner = None if self.inner is None else next(rest)
        return replace(self, r=r, inner=inner, peepholes=self.peepholes and list(rest))

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
    there = _there(lengths, x)
    if there is not None:
        # What is behind the end of a sequence may be anything.
        x = there.choose(x, 0)
    every: list[Value] = []
    ends: tuple[list[Value], list[Value]] = [], []
    for d, gates in enumerate(op.functions()):
        state = [_first(s, op, d, (x.shape[1], r.shape[2]), x) for s in (h, c)]
        layer, own = _layer(op, d, gates, x, (w, r), b, p)
        backward = op.direction == "reverse" or d == 1
        found, state = _direction(op, layer, own, there, state, backward=backward)
        every.append(found.reshape((found.shape[0], 1, *found.shape[1:])))
        for kept, final in zip(ends, state, strict=True):
            kept.append(final.reshape((1, *final.shape)))
    y = every[0].concat(every[1:], 1)
    last = [s[0].concat(s[1:], 0) for s in ends][: 2 if op.has_cell else 1]
    if op.layout:
        y, last = y.transpose((2, 0, 1, 3)), [s.transpose((1, 0, 2)) for s in last]
    return (y, *last)


def _direction(
    op: Recurrent,
    layer: Layer,
    own: Value,
    there: Value | None,
    state: list[Value],
    *,
    backward: bool,
) -> tuple[Value, list[Value]]:
    """All states of one direction, and the last one: step after step, or a Loop where many are."""

    def step(
        before: Sequence[Value], slices: Sequence[Value], others: Sequence[Value]
    ) -> tuple[Sequence[Value], Sequence[Value]]:
        after = list(op.advanced(layer.among(others), slices[0], *before))
        if len(slices) == 1:
            return after, after[:1]
        own = slices[1]
        kept = [own.choose(new, old) for new, old in zip(after, before, strict=True)]
        return kept, [own.choose(kept[0], 0)]

    scanned = [own] if there is None else [own, there]
    last, found = stepped(step, state, scanned, layer.values, backward=backward)
    return found, last


def stepped(
    step: Step,
    state: Sequence[Value],
    scanned: Sequence[Value],
    others: Sequence[Value],
    *,
    backward: bool,
) -> tuple[list[Value], Value]:
    """The last state, and what all steps give: nodes one by one, or a Loop where many are."""
    count = scanned[0].shape[0]
    if not isinstance(count, int) or not 0 < count <= _MOST_STEPS:
        last, (found,) = looped(step, state, scanned, others, backward=backward)
        return last, found
    slices = [[v.reshape(v.shape[1:]) for v in parts(one, count, 0)] for one in scanned]
    every: list[Value] = [scanned[0]] * count
    for number in range(count)[:: -1 if backward else 1]:
        after, (every[number],) = step(state, [one[number] for one in slices], others)
        state = after
    shape = (count, *every[0].shape)
    return list(state), every[0].concat(every[1:], 0).reshape(shape)


def linear_attention(
    op: LinearAttention,
    query: Value,
    key: Value,
    value: Value,
    past: Value | None = None,
    decay: Value | None = None,
    beta: Value | None = None,
) -> tuple[Value, Value]:
    """All results, and the last state."""
    tape, (count, steps, _) = query.tape, query.shape
    q, k, v = op.split(query.shape, key.shape, value.shape)
    heads, size, width = k[2], k[3], v[3]
    shared = op.q_num_heads // op.kv_num_heads
    group = (heads, shared, size)
    scanned = [
        (query * (op.scale or 1 / math.sqrt(max(number_of(size), 1)))).reshape((*q[:2], *group)),
        key.reshape((*k, 1)),
        value.reshape((*k[:3], 1, width)),
    ]
    if decay is not None:
        each = 1 if decay.shape[2] == heads else size
        scanned.append(decay.apply("Exp").reshape((count, steps, heads, each, 1)))
    if beta is not None:
        scanned.append(beta.reshape((count, steps, beta.shape[2], 1, 1)))
    if past is None:
        state = tape.number(0, query.dtype).expand((count, heads, size, width))
    else:
        state = past if past.dtype is query.dtype else past.apply("Cast", to=query.dtype)

    def step(
        before: Sequence[Value], slices: Sequence[Value], _: Sequence[Value]
    ) -> tuple[Sequence[Value], Sequence[Value]]:
        (s,), (q, k, stored, *rest) = before, slices
        if decay is not None:
            s = s * rest[0]
        if beta is not None:
            stored = rest[-1] * (stored - k.turned.matmul(s))
        s = s + k * stored
        return [s], [q.matmul(s)]

    timed = [v.transpose((1, 0, *range(2, v.rank))) for v in scanned]
    (last,), y = stepped(step, [state], timed, [], backward=False)
    y = y.transpose((1, 0, *range(2, y.rank))).reshape((count, steps, q[2] * width))
    wanted = (query if past is None else past).dtype
    return y, last if last.dtype is wanted else last.apply("Cast", to=wanted)


def _there(lengths: Value | None, x: Value) -> Value | None:
    """For each step, which sequences have it: [steps, batch, 1]; None where all have all."""
    if lengths is None:
        return None
    steps = x.shape[0]
    numbers = counted(x.tape, 0, steps, lengths.dtype).reshape((steps, 1, 1))
    return lengths.reshape((1, *lengths.shape, 1)) > numbers


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
) -> tuple[Layer, Value]:
    """A direction, and x W + b of all of its gates, for all steps."""
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
    return Layer(turned, inner, peepholes, gates, op.limit), total


def parts(value: Value, count: Dim, axis: int = -1) -> Sequence[Value]:
    """So many equal parts along an axis."""
    axis, count = axis % value.rank, number_of(count)
    if count == 1:
        return [value]
    sizes = (value.shape[axis] // count,) * count
    return value.outputs(lookup("", "Split")(axis=axis, split=sizes))
