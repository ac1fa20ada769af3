"""Functions of keras.ops that move elements: shapes, slices, concatenations, lookups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Nested, Value, flatten
from sofie_rdf.frontends.keras.rules._tools import at, axes_of, flip, part, transposed
from sofie_rdf.frontends.keras.rules._types import (
    as_value,
    dtype_named,
    promoted,
)
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, operation_rule
from sofie_rdf.frontends.keras.rules.reshaping import reshaped
from sofie_rdf.ir.types import DType, normal_axis
from sofie_rdf.ops.creation import Trilu
from sofie_rdf.ops.elementwise import Equal
from sofie_rdf.ops.indexing import Gather, GatherElements, Pad, Slice
from sofie_rdf.ops.layout import (
    Concat,
    Expand,
    Split,
    Squeeze,
    Tile,
    Unsqueeze,
)


@operation_rule("Reshape")
def reshape(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The same elements in another shape; an open size is the batch"""
    given = layer.config.get("newshape")
    sizes = [given] if isinstance(given, int) else list(given or ())
    own = build.shape(inputs.x)
    found = [own[i] if s is None and i < len(own) else s for i, s in enumerate(sizes)]
    return reshaped(build, inputs.x, found)


@operation_rule("Ravel")
def ravel(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """All elements along one axis"""
    return reshaped(build, inputs.x, (build.type(inputs.x).size,))


@operation_rule("Transpose")
def transpose(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The axes in another order, by default in the reverse one"""
    rank, axes = build.rank(inputs.x), layer.config.get("axes")
    order = reversed(range(rank)) if axes is None else (normal_axis(int(a), rank) for a in axes)
    return transposed(build, inputs.x, tuple(order))


@operation_rule("Swapaxes")
def swapaxes(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Two axes exchanged"""
    order = list(range(build.rank(inputs.x)))
    one, other = (normal_axis(int(layer.config[k]), len(order)) for k in ("axis1", "axis2"))
    order[one], order[other] = order[other], order[one]
    return transposed(build, inputs.x, order)


@operation_rule("Moveaxis")
def moveaxis(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Axes at other places, the others in their order"""
    rank = build.rank(inputs.x)
    ends = [layer.config[k] for k in ("source", "destination")]
    source, target = (
        [normal_axis(int(a), rank) for a in ([e] if isinstance(e, int) else e)] for e in ends
    )
    rest = iter([i for i in range(rank) if i not in source])
    fixed = dict(zip(target, source, strict=True))
    return transposed(
        build, inputs.x, [fixed[i] if i in fixed else next(rest) for i in range(rank)]
    )


@operation_rule("Squeeze")
def squeeze(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Without axes of size 1"""
    axis, shape = layer.config.get("axis"), build.shape(inputs.x)
    axes = (
        tuple(i for i, d in enumerate(shape) if d == 1)
        if axis is None
        else axes_of(axis, len(shape))
    )
    return build(Squeeze(axes), inputs.x) if axes else Value(inputs.x)


@operation_rule("ExpandDims")
def expand_dims(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """With axes of size 1"""
    axis = layer.config["axis"]
    axes = tuple(axis) if isinstance(axis, (list, tuple)) else (axis,)
    rank = build.rank(inputs.x) + len(axes)
    return build(Unsqueeze(tuple(sorted(normal_axis(int(a), rank) for a in axes))), inputs.x)


@operation_rule("Concatenate", parameters="xs")
def concatenate(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """One behind the other along an axis"""
    values = promoted(build, *flatten(inputs.first))
    axis = layer.config.get("axis", -1)
    if axis is None:
        values = [reshaped(build, v, (build.type(v).size,)) for v in values]
        axis = 0
    return build(Concat(normal_axis(int(axis), build.rank(values[0]))), *values)


@operation_rule("Stack", parameters="x")
def stack(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """One behind the other along a new axis"""
    values = promoted(build, *flatten(inputs.first))
    axis = normal_axis(int(layer.config.get("axis", 0)), build.rank(values[0]) + 1)
    return build(Concat(axis), *(build(Unsqueeze((axis,)), v) for v in values))


def _stacked(axis: int, least: int) -> Any:
    def rule(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
        """One behind the other along a certain axis"""
        values = promoted(build, *flatten(inputs.first))
        wide = []
        for v in values:
            if build.rank(v) == 1 and least == 2:
                v = build(Unsqueeze((0,)), v)
            wide.append(v)
        return build(Concat(0 if build.rank(wide[0]) == 1 else axis), *wide)

    return rule


operation_rule("Hstack", parameters="xs")(_stacked(1, 1))
operation_rule("Vstack", parameters="xs")(_stacked(0, 2))


@operation_rule("Split")
def split(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """Equal parts along an axis, or parts between places"""
    x = inputs.x
    axis = normal_axis(int(layer.config.get("axis", 0)), build.rank(x))
    given = layer.config["indices_or_sections"]
    if isinstance(given, int):
        size = build.size(x, axis)
        if given < 1 or size % given:
            raise GraphError(f"splits {size} into {given} equal parts")
        return build.all(Split(axis, split=(size // given,) * given), given, x)
    ends = [*given, None]
    return [part(build, x, axis, s, e) for s, e in zip([0, *given], ends, strict=True)]


@operation_rule("Unstack")
def unstack(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """The slices along an axis"""
    axis = normal_axis(int(layer.config.get("axis", 0)), build.rank(inputs.x))
    count = layer.config.get("num") or build.size(inputs.x, axis)
    return [at(build, inputs.x, axis, n) for n in range(int(count))]


@operation_rule("Flip")
def flip_(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The other way round along axes"""
    x: Value = inputs.x
    for axis in axes_of(layer.config.get("axis"), build.rank(x)):
        x = flip(build, x, axis)
    return x


@operation_rule("Repeat")
def repeat(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Each element so many times"""
    x, axis, times = inputs.x, layer.config.get("axis"), layer.config["repeats"]
    if not isinstance(times, int):
        raise UnsupportedOperator("repeats elements different numbers of times")
    if axis is None:
        x, axis = reshaped(build, x, (build.type(x).size,)), 0
    axis, shape = normal_axis(int(axis), build.rank(x)), list(build.shape(x))
    wide = build(Unsqueeze((axis + 1,)), x)
    repeats = [1] * build.rank(wide)
    repeats[axis + 1] = times
    shape[axis] = shape[axis] * times
    return reshaped(build, build(Tile(tuple(repeats)), wide), shape)


@operation_rule("Tile")
def tile(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """All of it so many times along each axis"""
    x, given = inputs.x, layer.config["repeats"]
    repeats = [given] if isinstance(given, int) else list(given)
    missing = len(repeats) - build.rank(x)
    if missing > 0:
        x = build(Unsqueeze(tuple(range(missing))), x)
    return build(Tile((*(1,) * -missing, *repeats)), x)


@operation_rule("BroadcastTo")
def broadcast_to(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x in a larger shape; an open size is that of x"""
    shape, own = list(layer.config["shape"]), build.shape(inputs.x)
    first = len(shape) - len(own)
    sizes = [own[i - first] if s is None and i >= first else s for i, s in enumerate(shape)]
    return build(Expand(tuple(sizes)), inputs.x)


@operation_rule("Pad", parameters="x constant_values")
def pad(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x with borders"""
    x, given, mode = inputs.x, layer.config["pad_width"], layer.config.get("mode", "constant")
    rank = build.rank(x)
    if isinstance(given, int):
        pairs = [(given, given)] * rank
    elif all(isinstance(g, int) for g in given):
        pairs = [(given[0], given[-1])] * rank
    else:
        pairs = [tuple(g) for g in given] * (rank if len(given) == 1 else 1)
    if mode not in ("constant", "reflect", "edge") or len(pairs) != rank:
        raise UnsupportedOperator(f"pads with mode {mode!r} and {given!r}")
    pads = (*(int(p[0]) for p in pairs), *(int(p[1]) for p in pairs))
    value = inputs.get("constant_values", layer.config.get("constant_values") or 0)
    filling = [as_value(build, value, build.type(x).dtype)] if mode == "constant" else []
    return build(Pad(pads, mode), x, *filling)


@operation_rule("Roll")
def roll(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Moved along an axis; what falls out comes in on the other side"""
    x, axis, shift = inputs.x, layer.config.get("axis"), layer.config["shift"]
    if not isinstance(axis, int) or not isinstance(shift, int):
        raise UnsupportedOperator("rolls along several axes, or along all as one")
    axis = normal_axis(axis, build.rank(x))
    shift %= build.size(x, axis)
    if not shift:
        return x
    return build(Concat(axis), part(build, x, axis, -shift, None), part(build, x, axis, 0, -shift))


@operation_rule("Tril", "Triu")
def triangle(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """What is below, or above, a diagonal; the rest is 0"""
    upper = layer.class_name == "Triu"
    return build(Trilu(k=int(layer.config.get("k") or 0), upper=upper), inputs.x)


# Lookups -----------------------------------------------------------------------------------------


@operation_rule("GetItem", parameters="x key")
def get_item(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x[key], with numbers, slices, dots and new axes"""
    x, key = inputs.x, inputs.arguments.get("key")
    listed = list(key) if isinstance(key, (list, tuple)) else [key]
    if any(isinstance(leaf, (Value, np.ndarray)) for leaf in flatten(listed)):
        raise UnsupportedOperator("is indexed by values", remedy="Use keras.ops.take")
    if ... not in listed:
        listed.append(...)
    place = listed.index(...)
    taken = sum(k is not None and k is not ... for k in listed)
    listed[place : place + 1] = [slice(None)] * (build.rank(x) - taken)
    x, new, gone, axis = _sliced(build, x, listed), [], [], 0
    kept = 0
    for k in listed:
        if k is None:
            new.append(kept)
            kept += 1
            continue
        if isinstance(k, int):
            gone.append((axis, k))
        else:
            kept += 1
        axis += 1
    for position, number in reversed(gone):
        x = at(build, x, position, number)
    return build(Unsqueeze(tuple(new)), x) if new else Value(x)


def _sliced(build: LayerBuilder, x: str, key: Sequence[Any]) -> Value:
    """The slices among the entries of a key."""
    starts, ends, axes, steps = [], [], [], []
    positions = [k for k in key if k is not None]
    largest = int(np.iinfo(np.int64).max)
    for axis, k in enumerate(positions):
        if not isinstance(k, slice) or k == slice(None):
            continue
        if not all(p is None or isinstance(p, int) for p in (k.start, k.stop, k.step)):
            raise UnsupportedOperator("has a slice whose ends are no numbers")
        step = 1 if k.step is None else k.step
        starts.append((0 if step > 0 else largest) if k.start is None else k.start)
        ends.append((largest if step > 0 else -largest) if k.stop is None else k.stop)
        axes.append(axis)
        steps.append(step)
    if not axes:
        return Value(x)
    return build(Slice(tuple(starts), tuple(ends), tuple(axes), tuple(steps)), x)


def _indices(build: LayerBuilder, given: Any) -> Value:
    x = as_value(build, given)
    return x if build.type(x).dtype in (DType.INT32, DType.INT64) else build.cast(x, DType.INT32)


@operation_rule("Take", parameters="x indices")
def take(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Slices of x by their numbers"""
    x, axis = as_value(build, inputs.first), layer.config.get("axis")
    if axis is None:
        x, axis = reshaped(build, x, (build.type(x).size,)), 0
    indices = _indices(build, inputs.get("indices"))
    return build(Gather(normal_axis(int(axis), build.rank(x))), x, indices)


@operation_rule("TakeAlongAxis", parameters="x indices")
def take_along_axis(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Elements of x by their numbers along an axis"""
    x, axis = as_value(build, inputs.first), layer.config.get("axis")
    indices = _indices(build, inputs.get("indices"))
    if axis is None:
        x, axis = reshaped(build, x, (build.type(x).size,)), 0
    axis = normal_axis(int(axis), build.rank(x))
    pairs = enumerate(zip(build.shape(x), build.shape(indices), strict=True))
    if any(p != q for i, (p, q) in pairs if i != axis):
        raise UnsupportedOperator("takes along an axis where the other sizes differ")
    return build(GatherElements(axis), x, indices)


@operation_rule("OneHot")
def one_hot(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """1 at the place that a number names, else 0"""
    config = layer.config
    dtype = dtype_named(config.get("dtype") or "float32")
    axis = int(config.get("axis", -1))
    return ones_at(build, inputs.x, int(config["num_classes"]), axis, dtype)


def ones_at(build: LayerBuilder, x: str, count: int, axis: int, dtype: DType) -> Value:
    """1 along a new axis at the place that a number names; 0 everywhere for one out of range"""
    axis = normal_axis(axis, build.rank(x) + 1)
    indices = build.cast(x, DType.INT64)
    shape = [1] * (build.rank(x) + 1)
    shape[axis] = count
    places = build.constant(np.arange(count).reshape(shape), "classes", np.int64)
    found = build(Equal(), build(Unsqueeze((axis,)), indices), places)
    return build.cast(found, dtype)


@operation_rule("Slice", parameters="inputs start_indices")
def slice_(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """A block of x that begins at numbers that are known"""
    starts, shape = inputs.get("start_indices"), layer.config["shape"]
    if any(isinstance(s, Value) for s in flatten(starts)):
        raise UnsupportedOperator("slices from a place that is computed")
    begins = [int(s) for s in np.asarray(starts).reshape(-1)]
    ends = [
        int(np.iinfo(np.int64).max) if n is None or n == -1 else b + int(n)
        for b, n in zip(begins, shape, strict=True)
    ]
    return build(Slice(tuple(begins), tuple(ends), tuple(range(len(begins)))), inputs.x)
