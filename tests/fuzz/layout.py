"""Steps that move elements: shapes, slices, indices, padding; and the arithmetic of sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.network import Dim, Net, Value, broadcast
from tests.fuzz.steps import dropped, step


def moved(net: Net, op: str, inputs: list[Value | None], shape: Any, **attributes: Any) -> Value:
    """A node whose numbers are those of its first input."""
    first = inputs[0]
    assert first is not None
    return net.add(op, inputs, tuple(shape), (first.low, first.high), **attributes)


@step(5)
def transposed(net: Net) -> Any:
    x = net.pick(lambda v: v.rank >= 1)
    if x is None:
        return None
    order = list(range(x.rank))
    for i in range(x.rank - 1, 0, -1):
        j = net.choose.whole(0, i)
        order[i], order[j] = order[j], order[i]
    reverse = order == list(range(x.rank))[::-1] and net.choose.chance(50)
    return moved(
        net, "Transpose", [x], [x.shape[a] for a in order], perm=None if reverse else order
    )


# Shapes -------------------------------------------------------------------------------------------


@step(6)
def reshaped(net: Net) -> Any:
    """Axes merged and divided; the shape is constant or computed."""
    x = net.pick()
    if x is None:
        return None
    shape = _regrouped(net, x)
    computed = net.choose.chance(40)
    sizes = net.sizes_of(shape) if computed else _words(net, x, shape)
    if sizes is None:
        return None
    return moved(net, "Reshape", [x, sizes], shape)


def _regrouped(net: Net, x: Value) -> list[Dim]:
    shape = list(x.shape)
    if len(shape) >= 2 and net.choose.chance(60):
        i = net.choose.whole(0, len(shape) - 2)
        shape[i : i + 2] = [net.product(shape[i : i + 2])]
    if net.choose.chance(50):
        known = [i for i, d in enumerate(shape) if d.is_static and d.static > 0]
        if known and len(shape) < 5:
            i = net.choose.one(known)
            size = shape[i].static
            part = net.choose.one([f for f in (1, 2, 3, 4, 5, size) if size % f == 0])
            shape[i : i + 1] = net.dims([part, size // part])
    return shape


def _words(net: Net, x: Value, shape: list[Dim]) -> Value | None:
    """The shape in numbers, with 0 for what stays and one -1."""
    words = []
    for i, dim in enumerate(shape):
        if i < x.rank and x.shape[i].text == dim.text and net.choose.chance(60):
            words.append(0)
        elif dim.is_static:
            words.append(dim.static)
        else:
            words.append(-1)
    if words.count(-1) > 1:
        return None
    known = [i for i, w in enumerate(words) if w > 0]
    if -1 not in words and known and net.choose.chance(30):
        words[net.choose.one(known)] = -1
    # A size of 0 is none of the zeros that keep an axis.
    kept = all(
        w != 0 or (i < x.rank and shape[i].text == x.shape[i].text) for i, w in enumerate(words)
    )
    return net.integers(words) if kept else None


@step(2)
def flattened(net: Net) -> Any:
    x = net.pick(lambda v: v.is_real and v.rank >= 1)
    if x is None:
        return None
    axis = net.choose.whole(0, x.rank)
    more = {} if axis == 1 else {"axis": axis}
    pair = [net.product(x.shape[:axis]), net.product(x.shape[axis:])]
    return moved(net, "Flatten", [x], pair, **more)


@step(3)
def more_axes(net: Net) -> Any:
    x = net.pick(lambda v: v.rank <= 3)
    if x is None:
        return None
    axes = sorted({net.choose.whole(0, x.rank) for _ in range(net.choose.whole(1, 2))})
    shape = list(x.shape)
    for a in axes:
        shape.insert(a, net.dim(1))
    named = [a - len(shape) if net.opset >= 11 and net.choose.chance(30) else a for a in axes]
    return net.add(**net.along("Unsqueeze", x, named, 13), shape=shape, span=(x.low, x.high))


@step(3)
def fewer_axes(net: Net) -> Any:
    x = net.pick(lambda v: any(d.text == "1" for d in v.shape))
    if x is None:
        return None
    ones = [a for a, d in enumerate(x.shape) if d.text == "1"]
    span = x.low, x.high
    if all(d.is_static for d in x.shape) and net.choose.chance(30):
        return net.add("Squeeze", [x], dropped(x, tuple(ones), keep=False, net=net), span)
    axes = [net.choose.one(ones)]
    shape: Any = dropped(x, tuple(axes), keep=False, net=net)
    return net.add(**net.along("Squeeze", x, axes, 13), shape=shape, span=span)


@step(2)
def expanded(net: Net) -> Any:
    """To the shape of another value, or by constants."""
    x = net.pick_real()
    if x is None:
        return None
    others = [v for v in net.values if broadcast(x.shape, v.shape) is not None]
    if net.choose.chance(60) and others:
        like = net.choose.one(others)
        shape = broadcast(x.shape, like.shape)
        sizes = net.add("Shape", [like], net.dims([like.rank]), (0, 6000), dtype="int64")
        net.values.remove(sizes)
        if like.rank == 0:
            return None
    else:
        words = [net.choose.one((1, 2, 3)) if d.text == "1" else 1 for d in x.shape]
        words = [2] * (net.choose.chance(20) and x.rank < 4) + words
        shape = broadcast(x.shape, net.dims(words))
        sizes = net.integers(words)
    if shape is None or not net.fits(shape):
        return None
    return moved(net, "Expand", [x, sizes], shape)


@step(2)
def tiled(net: Net) -> Any:
    x = net.pick(lambda v: v.rank >= 1 and v.dtype in (net.real, "int64", "bool"))
    if x is None:
        return None
    times = [net.choose.one((1, 1, 2, 3)) for _ in x.shape]
    shape = [d.times(t) for d, t in zip(x.shape, times, strict=True)]
    return moved(net, "Tile", [x, net.integers(times)], shape) if net.fits(shape) else None


# Parts --------------------------------------------------------------------------------------------


@step(5)
def joined(net: Net) -> Any:
    x = net.pick(lambda v: v.rank >= 1)
    if x is None:
        return None
    axis = net.choose.whole(0, x.rank - 1)

    def fits(v: Value) -> bool:
        pairs = enumerate(zip(v.shape, x.shape, strict=True))
        return all(a == axis or p.text == q.text for a, (p, q) in pairs)

    others = [v for v in net.values if v.dtype == x.dtype and v.rank == x.rank and fits(v)]
    parts = [net.choose.one(others) for _ in range(net.choose.whole(0, 3))]
    parts.insert(net.choose.whole(0, len(parts)), x)
    shape = (*x.shape[:axis], net.sum([p.shape[axis] for p in parts]), *x.shape[axis + 1 :])
    if not net.fits(shape):
        return None
    span = min(p.low for p in parts), max(p.high for p in parts)
    if net.opset >= 11 and net.choose.chance(30):
        axis -= x.rank
    return net.add("Concat", parts, shape, span, axis=axis)


@step(4)
def divided(net: Net) -> Any:
    """Split, whose parts are then used by themselves."""
    x = net.pick(lambda v: any(d.is_static and d.static >= 2 for d in v.shape))
    if x is None:
        return None
    axis = net.choose.one([a for a, d in enumerate(x.shape) if d.is_static and d.static >= 2])
    size = x.shape[axis].static
    count = net.choose.one([c for c in (2, 3, size) if c <= min(size, 6)])
    cuts = sorted(net.choose.whole(0, size) for _ in range(count - 1))
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
    more: dict[str, Any] = {"axis": axis}
    inputs: list[Value | None] = [x]
    if size % count == 0 and net.choose.chance(50):
        sizes = [size // count] * count
        more |= {"num_outputs": count} if net.opset >= 18 else {}
    elif net.opset < 13:
        more["split"] = sizes
    else:
        inputs.append(net.integers(sizes))
    lead, rest = x.shape[:axis], x.shape[axis + 1 :]
    results = [(x.dtype, (*lead, net.dim(s), *rest), (x.low, x.high)) for s in sizes]
    return net.several("Split", inputs, results, **more)


FAR = 10**9
FORWARD = ((0, 2), (1, FAR), (-2, FAR), (0, -1), (1, -1), (-3, -1), (0, FAR), (2, 4))
BACKWARD = ((-1, -FAR), (3, -FAR), (-1, 0), (FAR, -3), (2, 0))


def _cut(size: Dim, begin: int, end: int, by: int) -> Dim:
    """How many there are of begin:end:by."""
    last = None if end == -FAR else end
    return size.map(f"{{}}[{begin}:{end}:{by}]", lambda n: len(range(n)[begin:last:by]))


@step(5)
def sliced(net: Net) -> Any:
    x = net.pick(lambda v: v.rank >= 1)
    if x is None:
        return None
    axes = [a for a in range(x.rank) if net.choose.chance(60)] or [0]
    shape, cuts = list(x.shape), []
    for axis in axes:
        by = net.choose.one((1, 1, 1, 2, -1, -2)) if net.opset >= 10 else 1
        begin, end = net.choose.one(FORWARD if by > 0 else BACKWARD)
        cuts.append((begin, end, by))
        shape[axis] = _cut(x.shape[axis], begin, end, by)
    begins, ends, steps = (list(c) for c in zip(*cuts, strict=True))
    if net.opset < 10:
        return moved(net, "Slice", [x], shape, starts=begins, ends=ends, axes=axes)
    named = [a - x.rank if net.choose.chance(20) else a for a in axes]
    kind = net.choose.one((np.int64, np.int64, np.int32))
    lists = [net.constant(np.array(v, kind)) for v in (begins, ends, named)]
    if any(s != 1 for s in steps) or net.choose.chance(30):
        lists.append(net.constant(np.array(steps, kind)))
    return moved(net, "Slice", [x, *lists], shape)


@step(2, since=10)
def sliced_to_size(net: Net) -> Any:
    """x[:n] and x[n // 2:], with n a computed size."""
    x = net.pick(lambda v: v.rank >= 1 and not v.shape[0].is_static)
    if x is None:
        return None
    size = net.sizes_of([x.shape[0]])
    if size is None:
        return None
    half = net.add("Div", [size, net.integers([2])], net.dims([1]), (0, 6000))
    net.values.remove(half)
    first = x.shape[0].map("({}//2)", lambda n: n // 2)
    zero = net.integers([0])
    parts = [moved(net, "Slice", [x, zero, half, zero], (first, *x.shape[1:]))]
    last = Dim(f"({x.shape[0].text}-{first.text})", tuple(n - n // 2 for n in x.shape[0].sizes))
    parts.append(moved(net, "Slice", [x, half, size, zero], (last, *x.shape[1:])))
    return parts


@step(3)
def padded(net: Net) -> Any:
    x = net.pick_real(lambda v: 1 <= v.rank <= 4)
    if x is None:
        return None
    mode = net.choose.one(("constant", "constant", "reflect", "edge"))
    pads, shape = [], []
    for d in x.shape:
        most = min(3, d.least - 1) if mode == "reflect" else 3 if d.least else 0
        least = -1 if mode == "constant" and d.least > 3 else 0
        both = [net.choose.whole(least, max(0, most)) for _ in range(2)]
        if net.choose.chance(50):
            both = [0, 0]
        pads.append(both)
        shape.append(d.plus(sum(both)))
    if not net.fits(shape):
        return None
    words = [p[0] for p in pads] + [p[1] for p in pads]
    number = net.choose.one((0.0, 0.0, 1.5, -2.0))
    span = min(x.low, number), max(x.high, number)
    if net.opset < 11:
        more: dict[str, Any] = {"value": number} if mode == "constant" else {}
        return net.add("Pad", [x], shape, span, mode=mode, pads=words, **more)
    inputs: list[Value | None] = [x, net.integers(words)]
    if mode == "constant" and net.choose.chance(60):
        inputs.append(net.scalar(number, x.dtype))
    else:
        span = min(x.low, 0), max(x.high, 0)
    return net.add("Pad", inputs, shape, span, mode=mode)


@step(1, since=14)
def triangle(net: Net) -> Any:
    x = net.pick_real(lambda v: v.rank >= 2)
    if x is None:
        return None
    inputs: list[Value | None] = [x]
    if net.choose.chance(50):
        inputs.append(net.constant(np.int64(net.choose.whole(-2, 2))))
    span = min(x.low, 0), max(x.high, 0)
    return net.add("Trilu", inputs, x.shape, span, upper=net.choose.whole(0, 1))


# Indices ------------------------------------------------------------------------------------------


@step(4)
def gathered(net: Net) -> Any:
    """By constant indices, or by those of another value."""
    x = net.pick(lambda v: v.rank >= 1)
    if x is None:
        return None
    axis = net.choose.whole(0, x.rank - 1)
    least = x.shape[axis].least
    if least < 1:
        return None
    found = net.pick(lambda v: v.dtype in ("int32", "int64") and v.low >= 0 and v.high < least)
    if found is None or net.choose.chance(60):
        rng = net.choose.generator()
        sizes = net.choose.one(((), (1,), (3,), (2, 2)))
        low = 0 if net.opset < 11 else -least
        found = net.constant(rng.integers(low, least, sizes))
    shape = (*x.shape[:axis], *found.shape, *x.shape[axis + 1 :])
    return moved(net, "Gather", [x, found], shape, axis=axis) if net.fits(shape) else None


@step(2)
def embedded(net: Net) -> Any:
    """Rows of a table by whole numbers."""
    ids = net.pick(
        lambda v: v.dtype in ("int32", "int64") and v.low >= 0 and v.high <= 20 and v.rank < 4
    )
    if ids is None or not net.fits((*ids.shape, net.dim(4))):
        return None
    table = net.weights((int(ids.high) + 1, 4))
    return net.add("Gather", [table, ids], (*ids.shape, net.dim(4)), (-3, 3), dtype=net.real)


@step(2, since=11)
def gathered_elements(net: Net) -> Any:
    """The indices are those of TopK or ArgMin along the same axis."""
    x = net.pick_real(lambda v: v.rank >= 1 and v.shape[-1].least >= 1)
    if x is None:
        return None
    axis, one = x.rank - 1, (*x.shape[:-1], net.dim(1))
    span = (0.0, float(x.shape[-1].least - 1))
    at = net.add("ArgMin", [x], one, span, dtype="int64", axis=axis, keepdims=1)
    y = moved(net, "GatherElements", [x, at], one, axis=axis)
    if net.choose.chance(50):
        more = {"reduction": "add"} if net.opset >= 16 and net.choose.chance(40) else {}
        twice = (2 * min(x.low, y.low), 2 * max(x.high, y.high))
        net.add("ScatterElements", [x, at, y], x.shape, twice, axis=axis, **more)
    return y


@step(2, since=11)
def one_of_each(net: Net) -> Any:
    """GatherND and ScatterND by constant indices."""
    x = net.pick_real(lambda v: v.rank >= 2 and v.shape[0].least >= 2 and v.shape[1].least >= 2)
    if x is None:
        return None
    depth = net.choose.whole(1, 2)
    pairs = net.choose.one((((0, 1), (1, 0)), ((0, 0), (1, 1)), ((1, 1),)))
    index = net.constant(np.array([p[:depth] for p in pairs]))
    part = (net.dim(len(pairs)), *x.shape[depth:])
    y = moved(net, "GatherND", [x, index], part)
    if net.choose.chance(50):
        moved(net, "ScatterND", [x, index, net.add("Neg", [y], part, (-y.high, -y.low))], x.shape)
    return y


@step(1)
def one_hot(net: Net) -> Any:
    ids = net.pick(
        lambda v: v.dtype in ("int32", "int64") and v.low >= 0 and v.high < 8 and v.rank < 3
    )
    if ids is None or not net.fits((*ids.shape, net.dim(8))):
        return None
    numbers = net.constant(np.array(net.choose.one(((0, 1), (-1, 2))), net.real))
    depth = net.constant(np.array(8, np.int64))
    shape = (*ids.shape, net.dim(8))
    return net.add("OneHot", [ids, depth, numbers], shape, (-1, 2), dtype=net.real, axis=-1)


# Sizes as numbers ---------------------------------------------------------------------------------


@step(2, since=9)
def filled(net: Net) -> Any:
    """ConstantOfShape of the sizes of a value."""
    x = net.pick(lambda v: v.rank >= 1)
    if x is None:
        return None
    sizes = net.sizes_of(x.shape)
    if sizes is None:
        return None
    number = net.choose.one((0.0, 1.0, -0.5))
    value = _tensor(np.array([number], net.real))
    return net.add(
        "ConstantOfShape", [sizes], x.shape, (number, number), dtype=net.real, value=value
    )


def _tensor(array: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(array)


@step(2, since=11)
def counted(net: Net) -> Any:
    """0, 1, 2, ... along an axis, as positions are made, then added or compared."""
    x = net.pick(lambda v: v.rank >= 1 and v.is_real)
    if x is None:
        return None
    length = x.shape[-1]
    size = net.sizes_of([length])
    if size is None:
        return None
    no_axes = {**net.along("Squeeze", size, [0], 13)}
    end = net.add(**no_axes, shape=(), span=(0, 6000))
    net.values.remove(end)
    ends = [net.constant(np.array(n, np.int64)) for n in (0, 1)]
    span = (0.0, float(max(0, *(s - 1 for s in length.sizes))))
    found = net.add("Range", [ends[0], end, ends[1]], [length], span)
    if net.choose.chance(50):
        limit = net.constant(np.array(2, np.int64))
        return net.add("Less", [found, limit], [length], (0, 1), dtype="bool")
    return net.cast(found, net.real)


@step(1)
def size_as_number(net: Net) -> Any:
    """A size as a factor of the numbers: of no event, but of the call."""
    x = net.pick_real(lambda v: v.rank >= 1)
    if x is None:
        return None
    axis = net.choose.whole(0, x.rank - 1)
    size = net.sizes_of([x.shape[axis]])
    if size is None:
        return None
    number = net.cast(size, x.dtype)
    net.values.remove(number)
    most = x.bound * max(1, *x.shape[axis].sizes)
    return net.add("Mul", [x, number], x.shape, (-most, most))


# What the data decide -----------------------------------------------------------------------------


@step(1, since=9)
def decided(net: Net) -> Any:
    """NonZero and Compress."""
    x = net.pick(lambda v: v.dtype in ("bool", "int64", "float32") and v.rank >= 1)
    if x is None:
        return None
    if x.dtype == "bool" and x.rank == 1:
        y = net.pick_real(lambda v: v.rank >= 1 and v.shape[0].text == x.shape[0].text)
        if y is not None:
            return moved(net, "Compress", [y, x], (net.decided(), *y.shape[1:]), axis=0)
    most = float(max(s for d in x.shape for s in d.sizes))
    shape = (net.dim(x.rank), net.decided())
    return net.add("NonZero", [x], shape, (0, most), dtype="int64")


@step(1, since=11)
def sum_of_chosen(net: Net) -> Any:
    """The sum of the elements that a condition chooses, by their indices."""
    x = net.pick_real(lambda v: 1 <= v.rank <= 2)
    if x is None:
        return None
    zero = net.scalar(0.25, x.dtype)
    known = net.add("Greater", [x, zero], x.shape, (0, 1), dtype="bool")
    at = net.add("NonZero", [known], (), (0, 0), dtype="int64")
    rows = net.add("Transpose", [at], (), (0, 0), perm=[1, 0])
    chosen = net.add("GatherND", [x, rows], (), (x.low, x.high))
    net.values = [v for v in net.values if v not in (at, rows, chosen)]
    most = x.bound * 6000
    return net.add("ReduceSum", [chosen], (), (-most, most), keepdims=0)
