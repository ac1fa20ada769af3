"""Pooling: over windows, over whole images, and to a size that is wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Value, listed
from sofie_rdf.frontends.keras.rules._tools import (
    channels_first,
    channels_last,
    is_channels_last,
    part,
    transposed,
)
from sofie_rdf.frontends.keras.rules.convolution import Windows, same_pads
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, keras_rule
from sofie_rdf.ir.types import DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import Div, Where
from sofie_rdf.ops.layout import Concat, Unsqueeze
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.ops.pooling import AveragePool, MaxPool
from sofie_rdf.ops.reduction import ReduceMax, ReduceMean, ReduceSum

__all__ = ["pooled"]


def pooled(build: LayerBuilder, x: str, windows: Windows, *, largest: bool) -> Value:
    """The largest number, or the mean, of each window of [N, C, ...]"""
    if build.rank(x) != len(windows.sizes) + 2:
        raise UnsupportedOperator(f"pools {build.type(x)}, which has too many or too few axes")
    kind = MaxPool if largest else AveragePool
    op = kind(
        kernel_shape=windows.sizes,
        strides=windows.strides,
        **same_pads(build.shape(x)[2:], windows),
    )
    return build(op, x)


def _windows(layer: Layer, count: int) -> Windows:
    sizes = listed(layer.config["pool_size"], count, "pool_size")
    given = layer.config.get("strides")
    strides = sizes if given is None else listed(given, count, "strides")
    padding = str(layer.config.get("padding", "valid")).lower()
    if padding not in ("valid", "same") or min(strides) < 1:
        raise UnsupportedOperator(f"pools with padding {padding!r} and strides {strides}")
    return Windows(sizes, strides, (1,) * count, padding)


@keras_rule(
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
)
def pooling(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The largest number, or the mean, of each window"""
    windows = _windows(layer, int(layer.class_name[-2]))
    last = is_channels_last(layer.config)
    x = channels_first(build, inputs.x) if last else inputs.x
    y = pooled(build, x, windows, largest=layer.class_name.startswith("Max"))
    return channels_last(build, y) if last else y


# Global ------------------------------------------------------------------------------------------


def _images(build: LayerBuilder, layer: Layer, x: str) -> tuple[int, ...]:
    first = 1 if is_channels_last(layer.config) else 2
    count = int(layer.class_name[-2])
    if build.rank(x) != count + 2:
        raise UnsupportedOperator(f"pools {build.type(x)}, which has not {count + 2} axes")
    return tuple(range(first, first + count))


@keras_rule("GlobalAveragePooling1D", parameters="inputs mask", mask=lambda *_: None)
def global_average_1d(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The mean of all steps that are not masked"""
    x, mask = inputs.x, inputs.value("mask")
    (axis,) = _images(build, layer, x)
    keep = bool(layer.config.get("keepdims"))
    if mask is None:
        return build(ReduceMean((axis,), keepdims=keep), x)
    wide = build(Unsqueeze((3 - axis,)), build.cast(mask, DType.BOOL))
    total = build(ReduceSum((axis,), keepdims=keep), build(Where(), wide, x, build.like(0, x)))
    number = build(ReduceSum((axis,), keepdims=keep), build(Cast(build.type(x).dtype), wide))
    return build(Div(), total, number)


@keras_rule(
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
)
def global_pooling(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The largest number, or the mean, of each channel"""
    axes = _images(build, layer, inputs.x)
    keep = bool(layer.config.get("keepdims"))
    kind = ReduceMax if "Max" in layer.class_name else ReduceMean
    return build(kind(axes, keepdims=keep), inputs.x)


# Adaptive ----------------------------------------------------------------------------------------


@keras_rule(
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
)
def adaptive_pooling(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The largest number, or the mean, of windows such that there are as many as are wanted

    Window i of n goes from floor(i * size / n) up to ceil((i + 1) * size / n).
    """
    x = inputs.x
    axes = _images(build, layer, x)
    wanted = listed(layer.config["output_size"], len(axes), "output_size")
    for axis, count in zip(axes, wanted, strict=True):
        size = build.size(x, axis)
        windows = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        if "Max" in layer.class_name:
            x = _largest(build, x, axis, windows)
        else:
            x = _means(build, x, axis, windows)
    return Value(x)


def _largest(build: LayerBuilder, x: str, axis: int, windows: Sequence[tuple[int, int]]) -> Value:
    parts = [build(ReduceMax((axis,)), part(build, x, axis, *window)) for window in windows]
    return parts[0] if len(parts) == 1 else build(Concat(axis), *parts)


def _means(build: LayerBuilder, x: str, axis: int, windows: Sequence[tuple[int, int]]) -> Value:
    """By a product with a matrix."""
    weights = np.zeros((build.size(x, axis), len(windows)), build.type(x).dtype.numpy)
    for column, (start, end) in enumerate(windows):
        weights[start:end, column] = 1 / (end - start)
    last = build.rank(x) - 1
    order = [i for i in range(last + 1) if i != axis] + [axis]
    y = build(MatMul(), transposed(build, x, order), build.constant(weights, "windows"))
    return transposed(build, y, [int(i) for i in np.argsort(order)])
