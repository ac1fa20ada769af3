"""Derivatives of what is scattered, gathered and cut, in terms of the same operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sofie_rdf.ir.dims import Dim, product
from sofie_rdf.ir.operator import lookup
from sofie_rdf.ir.types import DType, TensorType, normal_axis

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Tape, Value

__all__ = ["compressed", "counted", "in_cache", "moved_back", "scattered", "within_batches"]


def scattered(back: Backward, put: Any, take: Any, reduction: str) -> tuple[Value | None, ...]:
    """Of what is written, or put together with what is there.

    ``put`` makes the operator with a reduction, and ``take`` reads at the same places.
    """
    if reduction == "mul":
        return _of_products(back, put, take)
    if reduction in ("max", "min"):
        return _of_extrema(back, put, take)
    by_updates = back.g.through(take, back.input(1))
    if reduction == "add":
        return back.g, None, by_updates
    return back.g.through(put("none"), back.input(1), back.input(2).like()), None, by_updates


def _of_extrema(back: Backward, put: Any, take: Any) -> tuple[Value | None, ...]:
    """As in torch, all that are the extremum have equal shares."""
    x, at, updates = (back.input(i) for i in range(3))
    ones, none = updates.like(1), updates.like()
    own = x.equals(back.y).choose(x.like(1), 0)
    given = updates.equals(back.y.through(take, at)).choose(ones, none)
    share = back.g / own.through(put("add"), at, given)
    return own * share, None, given * share.through(take, at)


def _of_products(back: Backward, put: Any, take: Any) -> tuple[Value | None, ...]:
    """Without a division by zeros among the factors."""
    x, at, updates = (back.input(i) for i in range(3))
    by_x = back.g * x.like(1).through(put("mul"), at, updates)
    if not back.needs(2):
        return by_x, None, None
    zero = updates.equals(0)
    zeros = x.like().through(put("add"), at, zero.choose(updates.like(1), 0))
    safe = zero.choose(1, updates)
    others = (back.g * x.through(put("mul"), at, safe)).through(take, at) / safe
    # Of one zero the product of all others, and of others nothing next to a zero.
    wanted = zero.choose(updates.like(1), 0)
    return by_x, None, zeros.through(take, at).equals(wanted).choose(others, 0)


def counted(tape: Tape, start: Dim, limit: Dim, dtype: DType = DType.INT64, step: int = 1) -> Value:
    """Whole numbers from one on, as a list."""
    op = lookup("sofie", "KnownRange")(start=start, limit=limit, delta=step, dtype=DType.INT64)
    found = tape.value(tape.build(op, origin=tape.origin))
    return found if dtype is DType.INT64 else found.apply("Cast", to=dtype)


def moved_back(op: Any, back: Backward, *only: int) -> tuple[Value | None, ...]:
    """Of what moves elements to places that are computed: all that each of them became, summed up.

    The elements are numbered, and the numbers are moved; 0 is what is none of them.
    """
    given = [n for n, v in enumerate(back.inputs) if v is not None and v.dtype.is_float]
    inputs: list[Value | None] = list(back.inputs)
    ends: dict[int, tuple[Dim, Dim]] = {}
    count: Dim = 1
    for n in only or given:
        own = back.input(n)
        ends[n] = count, count + own.type.size
        inputs[n] = counted(back.tape, *ends[n]).reshape(own.shape)
        count = ends[n][1]
    first, *others = inputs
    assert first is not None
    slots = back.tape.filled(0, TensorType(back.y.dtype, (count,)))
    for at, slope in zip(first.outputs(op, *others), back.slopes, strict=True):
        if slope is None:
            continue
        if at.shape != slope.shape:
            at = at.apply("Assume", domain="sofie", shape=slope.shape)
        flat = (slope.type.size,)
        at, slope = at.reshape(flat), slope.reshape(flat)
        slots = slots.apply("ScatterElements", at, slope, axis=0, reduction="add")
    return tuple(
        slots.slice(0, *ends[n]).reshape(back.input(n).shape) if n in ends else None
        for n in range(len(inputs))
    )


def within_batches(back: Backward, batch: int) -> Value:
    """Of slices that are gathered within each batch: added to those of all batches, in one list.

    A place in the list is ``number of the batch * slices of a batch + place in the batch``, of
    which `passes.places` sees that it is in the same batch.
    """
    x, at = back.x, back.input(1)
    depth = at.shape[-1]
    assert isinstance(depth, int)
    count, extents = product(x.shape[:batch]), x.shape[batch : batch + depth]
    slices, inner = product(extents), x.shape[batch + depth :]

    def times(value: Value, size: Dim) -> Value:
        return value if size == 1 else value * back.tape.size(size, DType.INT64)

    numbers = counted(back.tape, 0, count).reshape((*x.shape[:batch], *(1,) * (at.rank - batch)))
    place = times(numbers, slices)
    for k, size in enumerate(extents):
        # Those that count from the end, too.
        own = at.slice(at.rank - 1, k, k + 1).apply("Mod", back.tape.size(size, DType.INT64))
        place = place + times(own, product(extents[k + 1 :]))
    zeros = back.tape.filled(0, TensorType(x.dtype, (count * slices, *inner)))
    listed = product(at.shape[:-1])
    g = back.g.reshape((listed, *inner))
    put = zeros.apply("ScatterND", place.reshape((listed, 1)), g, reduction="add")
    return put.reshape(x.shape)


def in_cache(op: Any, back: Backward) -> tuple[Value | None, ...]:
    """Of what is written into a cache, and of the cache around it."""
    update, first = back.input(1), back.optional(2)
    by_cache = back.g.through(op, update.like(), first)
    axis, rank = normal_axis(op.axis, update.rank), update.rank
    size, length = back.x.shape[axis], update.shape[axis]
    at = counted(back.tape, 0, length).reshape(
        tuple(length if a == axis else 1 for a in range(rank))
    )
    if first is not None:
        at = first.reshape((update.shape[0], *(1,) * (rank - 1))) + at
        if op.mode == "circular":
            at = at.apply("Mod", back.tape.size(size, DType.INT64))
    by_update = back.g.apply("GatherElements", at.expand(update.shape), axis=axis)
    return by_cache, by_update


def compressed(op: Any, back: Backward) -> tuple[Value | None, ...]:
    """Of slices that were chosen: the next one where the condition holds, zeros elsewhere."""
    x, g, condition = back.x, back.g, back.input(1)
    shape, axis = ((x.type.size,), 0) if op.axis is None else (x.shape, back.axis(op.axis))
    held = condition.apply("Cast", to=DType.INT64)
    held = held.pad([(0, shape[axis] - condition.shape[0])])
    number = held.apply("CumSum", axis=0) * held
    # The slice in front of them is that of what was not chosen.
    wide = g.pad([(1, 0) if a == axis else (0, 0) for a in range(len(shape))])
    return wide.apply("Gather", number, axis=axis).reshape(x.shape), None
