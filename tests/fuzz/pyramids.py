"""Steps as detectors of objects have them: strides over open axes, branches that are joined again,
and sizes that are inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import numpy_helper

from tests.fuzz.layout import moved
from tests.fuzz.network import Dim, Net, Value
from tests.fuzz.steps import step
from tests.fuzz.windows import is_plane


def _halved(axis: Dim) -> Dim:
    return axis.map("({}//2)", lambda n: n // 2)


def _pooled(net: Net, x: Value, op: str) -> Value:
    """Half as high and as wide."""
    axes = x.shape[2:]
    shape = (*x.shape[:2], *map(_halved, axes))
    two = [2] * len(axes)
    return net.add(op, [x], shape, (x.low, x.high), kernel_shape=two, strides=two)


def _in_one_row(net: Net, x: Value) -> Value:
    """All places of a plane along one axis."""
    if x.rank == 3:
        return x
    shape = (*x.shape[:2], net.product(x.shape[2:]))
    return moved(net, "Reshape", [x, net.constant(np.array([0, 0, -1]))], shape)


def _is_large(v: Value) -> bool:
    return is_plane(v) and all(d.least >= 2 for d in v.shape[2:])


@step(3)
def pyramid(net: Net) -> Any:
    """A plane and smaller ones, one after the other, whose places then follow each other."""
    x = net.pick_real(_is_large)
    if x is None:
        return None
    levels = [x]
    for _ in range(net.choose.whole(1, 3)):
        if not _is_large(levels[-1]):
            break
        op = net.choose.one(("MaxPool", "MaxPool", "AveragePool"))
        levels.append(_pooled(net, levels[-1], op))
    parts = [_in_one_row(net, level) for level in levels]
    if net.choose.chance(30):
        parts.reverse()
    shape = (*x.shape[:2], net.sum([p.shape[2] for p in parts]))
    if not net.fits(shape):
        return None
    whole = net.add("Concat", parts, shape, (x.low, x.high), axis=2)
    how = net.choose.one(("", "Sigmoid", "Tanh"))
    span = (0.0 if how == "Sigmoid" else -1.0, 1.0)
    return net.add(how, [whole], shape, span) if how else whole


@step(2, since=13)
def down_and_up(net: Net) -> Any:
    """A smaller plane as large as the first again, and both beside each other."""
    x = net.pick(lambda v: v.dtype == "float32" and v.rank in (3, 4) and _is_large(v))
    if x is None:
        return None
    x = net.tame(x)
    small = _pooled(net, x, "MaxPool")
    sizes = net.sizes_of(x.shape)
    shape = (x.shape[0], x.shape[1].times(2), *x.shape[2:])
    if sizes is None or not net.fits(shape):
        return None
    given: dict[str, Any] = {"mode": "nearest", "nearest_mode": "floor"}
    given["coordinate_transformation_mode"] = "asymmetric"
    large = net.add("Resize", [small, None, None, sizes], x.shape, (x.low, x.high), **given)
    return net.add("Concat", [x, large], shape, (x.low, x.high), axis=1)


# Sizes that are inputs ----------------------------------------------------------------------------


def _told(net: Net, sizes: Sequence[int]) -> Value:
    """An input that is this size in each call."""
    return net.told([np.array([size], np.int64) for size in sizes])


def _filled(net: Net, sizes: Sequence[Value], shape: Sequence[Dim]) -> Value:
    """The same number everywhere, in a tensor of these sizes."""
    count = net.dims([len(sizes)])
    wanted = net.add("Concat", sizes, count, (0, 6000), axis=0)
    net.values.remove(wanted)
    if net.choose.chance(50):
        one = net.constant(np.ones((1,) * len(shape), net.real))
        return net.add("Expand", [one, wanted], shape, (1, 1))
    value = numpy_helper.from_array(np.ones(1, net.real))
    return net.add("ConstantOfShape", [wanted], shape, (1, 1), dtype=net.real, value=value)


@step(3, since=9)
def told_sizes(net: Net) -> Any:
    """Beside a value, or added to it, what inputs say the sizes of; in one part or in two."""
    if net.depth or net.decisions or net.told_what == "numbers":
        return None
    x = net.pick_real(lambda v: v.rank >= 2)
    if x is None:
        return None
    net.told_what = "sizes"
    axis = net.choose.whole(0, x.rank - 1)
    pieces = []
    for part in _parts(net, x.shape[axis]):
        # Sizes that only the run knows are never broadcast: all are those of x.
        dims = [part if a == axis else d for a, d in enumerate(x.shape)]
        open_ = [d is part or not d.is_static for d in dims]
        sizes = [
            _told(net, d.sizes) if o else net.integers([d.static])
            for d, o in zip(dims, open_, strict=True)
        ]
        pieces.append(_filled(net, sizes, dims))
    told = pieces[0]
    if len(pieces) > 1:
        told = net.add("Concat", pieces, x.shape, (1, 1), axis=axis)
    if net.choose.chance(40):
        return net.add("Add", [x, told], x.shape, (x.low + 1, x.high + 1))
    cut = net.choose.whole(0, x.rank - 1)
    shape = [*x.shape]
    shape[cut] = net.sum([x.shape[cut], x.shape[cut]])
    if not net.fits(shape):
        return None
    both = [told, x] if net.choose.chance(50) else [x, told]
    return net.add("Concat", both, shape, (min(x.low, 1), max(x.high, 1)), axis=cut)


def _parts(net: Net, size: Dim) -> list[Dim]:
    """The size, or two that it is the sum of; their names are those of no other."""
    label = net.fresh()
    if net.choose.chance(30):
        return [Dim(f"{label} whole", size.sizes)]
    first = tuple(net.choose.whole(0, n) for n in size.sizes)
    second = tuple(n - m for n, m in zip(size.sizes, first, strict=True))
    return [Dim(f"{label} first", first), Dim(f"{label} second", second)]
