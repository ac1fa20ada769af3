"""Layers that change shapes: Flatten, Reshape, Permute, cropping, padding with zeros, resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Value
from sofie_rdf.frontends.keras.rules._tools import (
    channels_first,
    channels_last,
    is_channels_last,
    transposed,
)
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, keras_rule
from sofie_rdf.ir.dims import Dim, product
from sofie_rdf.ops.indexing import Pad, Slice
from sofie_rdf.ops.layout import Expand, Reshape, Unsqueeze
from sofie_rdf.ops.resampling import Resize

__all__ = ["reshaped"]


def reshaped(build: LayerBuilder, x: str, shape: Sequence[Dim]) -> Value:
    """x with other axes; one size of ``shape`` may be -1."""
    given = list(shape)
    if given.count(-1) > 1:
        raise GraphError(f"has the shape {given}, with two sizes of -1")
    if -1 in given:
        rest = product(d for d in given if d != -1)
        total = build.type(x).size
        if rest == 0:
            raise GraphError(f"cannot be reshaped to {given}")
        given[given.index(-1)] = total // rest
    if tuple(given) == build.shape(x):
        return Value(x)
    return build(Reshape(tuple(given)), x)


@keras_rule("Flatten")
def flatten_layer(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """One axis beside the batch; channels go last"""
    x = inputs.x
    if not is_channels_last(layer.config) and build.rank(x) > 1:
        x = channels_last(build, x)
    shape = build.shape(x)
    return reshaped(build, x, (shape[0], product(shape[1:])))


@keras_rule("Reshape")
def reshape_layer(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The same numbers of each event in another shape"""
    target: list[Dim] = [int(d) for d in layer.config["target_shape"]]
    shape = build.shape(inputs.x)
    if -1 in target:
        # The size is worked out event by event: the batch may be 0.
        rest = product(d for d in target if d != -1)
        target[target.index(-1)] = product(shape[1:]) // rest
    return reshaped(build, inputs.x, (shape[0], *target))


@keras_rule("Permute")
def permute(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The axes beside the batch in another order"""
    return transposed(build, inputs.x, (0, *layer.config["dims"]))


@keras_rule("RepeatVector")
def repeat_vector(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """[N, F] as [N, n, F]"""
    batch, features = build.shape(inputs.x)
    return build(
        Expand((batch, int(layer.config["n"]), features)), build(Unsqueeze((1,)), inputs.x)
    )


def _pairs(given: Any, count: int) -> list[tuple[int, int]]:
    """What is taken or added before and behind, for each axis."""
    if isinstance(given, int):
        return [(given, given)] * count
    if count == 1 and all(isinstance(g, int) for g in given):
        return [(int(given[0]), int(given[-1]))]
    found = []
    for one in given:
        before, behind = (one, one) if isinstance(one, int) else one
        found.append((int(before), int(behind)))
    if len(found) != count:
        raise GraphError(f"has {given!r}, which is no pair for each of {count} axes")
    return found


def _spatial(layer: Layer, count: int) -> list[int]:
    """The axes of an image."""
    first = 1 if is_channels_last(layer.config) else 2
    return list(range(first, first + count))


@keras_rule("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The image without its borders"""
    count = int(layer.class_name[-2])
    axes, starts, ends = _spatial(layer, count), [], []
    for axis, (before, behind) in zip(axes, _pairs(layer.config["cropping"], count), strict=True):
        size = build.shape(inputs.x)[axis]
        if isinstance(size, int) and size <= before + behind:
            raise GraphError(f"crops {before} and {behind} of {size}")
        starts.append(before)
        ends.append(-behind if behind else 2**62)
    return build(Slice(tuple(starts), tuple(ends), tuple(axes)), inputs.x)


@keras_rule("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The image with borders of zeros"""
    count, x = int(layer.class_name[-2]), inputs.x
    pads = _pairs(layer.config["padding"], count)
    axes = tuple(_spatial(layer, count))
    both = (*(p[0] for p in pads), *(p[1] for p in pads))
    return build(Pad(both, axes=axes), x, build.like(0, x))


# Resizing ----------------------------------------------------------------------------------------


@keras_rule("UpSampling1D", "UpSampling2D", "UpSampling3D")
def up_sampling(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The image enlarged by whole factors"""
    count, x = int(layer.class_name[-2]), inputs.x
    given = layer.config["size"]
    sizes = [given] * count if isinstance(given, int) else [int(s) for s in given]
    sizes = sizes * count if len(sizes) < count else sizes
    last = is_channels_last(layer.config) or count == 1
    x = channels_first(build, x) if last else Value(x)
    y = resized(build, x, scales=sizes, how=str(layer.config.get("interpolation", "nearest")))
    return channels_last(build, y) if last else y


def resized(
    build: LayerBuilder,
    x: str,
    how: str,
    *,
    scales: Sequence[float] | None = None,
    sizes: Sequence[int] | None = None,
    antialias: bool = False,
) -> Value:
    """An image [N, C, ...] in another size, sampled as Keras does: pixels have centres."""
    # Keras's backends do not agree on what a bicubic curve is.
    torch = build.backend == "torch" and not antialias
    kinds: dict[str, dict[str, Any]] = {
        "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
        "bilinear": {"mode": "linear", "exclude_outside": antialias},
        "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.75}
        if torch
        else {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": True},
    }
    if how not in kinds:
        raise UnsupportedOperator(
            f"has the interpolation {how!r}, which is not supported",
            remedy=f"One of {list(kinds)} is",
        )
    axes = tuple(range(2, build.rank(x)))
    options: dict[str, Any] = dict(kinds[how])
    if scales is not None:
        options["scales"] = tuple(float(s) for s in scales)
    else:
        options["sizes"] = tuple(int(s) for s in sizes or ())
    return build(Resize(axes=axes, antialias=antialias, **options), x)
