"""Convolutions of one to three dimensions: plain, by channel, separable and transposed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Value, listed
from sofie_rdf.frontends.keras.rules._tools import (
    channels_first,
    channels_last,
    is_channels_last,
)
from sofie_rdf.frontends.keras.rules.activations import activated
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, keras_rule
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.convolution import Conv
from sofie_rdf.ops.convolution_transposed import ConvTranspose

__all__ = ["Windows", "convolve", "kernel_first", "same_pads", "windows_of"]


class Windows(NamedTuple):
    """How a kernel goes over an image."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: str

    @property
    def reach(self) -> tuple[int, ...]:
        """How many pixels a kernel covers."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.sizes, self.dilations, strict=True))


def windows_of(config: Mapping[str, Any], count: int) -> Windows:
    """What the arguments of a layer say, for this number of dimensions."""
    sizes = listed(config.get("kernel_size"), count, "kernel_size")
    strides = listed(config.get("strides", 1), count, "strides")
    dilations = listed(config.get("dilation_rate", 1), count, "dilation_rate")
    padding = str(config.get("padding", "valid")).lower()
    if padding not in ("valid", "same", "causal") or (padding == "causal" and count > 1):
        raise UnsupportedOperator(f"has the padding {padding!r}, which is not known")
    if min(strides) < 1 or min(dilations) < 1 or min(sizes) < 1:
        raise GraphError("has a kernel, strides or dilations of 0")
    return Windows(sizes, strides, dilations, padding)


def same_pads(shape: Sequence[Any], windows: Windows) -> dict[str, Any]:
    """The arguments of our operators for borders such that only strides make the image smaller."""
    if windows.padding == "valid":
        return {}
    if windows.padding == "causal":
        return {"pads": (windows.reach[0] - 1, 0)}
    before, behind = [], []
    for size, reach, stride in zip(shape, windows.reach, windows.strides, strict=True):
        if stride == 1:
            total = reach - 1
        elif isinstance(size, int):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        else:
            # Only the run knows: the operator works it out.
            return {"auto_pad": "SAME_UPPER"}
        before.append(total // 2)
        behind.append(total - total // 2)
    return {"pads": (*before, *behind)} if any((*before, *behind)) else {}


def kernel_first(kernel: Array) -> Array:
    """[..., in, out] as [out, in, ...]"""
    rank = kernel.ndim
    return np.ascontiguousarray(kernel.transpose(rank - 1, rank - 2, *range(rank - 2)))


def convolve(
    build: LayerBuilder,
    x: str,
    kernel: Array,
    bias: Array | None,
    windows: Windows,
    groups: int = 1,
) -> Value:
    """A convolution of [N, C, ...] with a kernel [out, in, ...]"""
    op = Conv(
        group=groups,
        kernel_shape=windows.sizes,
        strides=windows.strides,
        dilations=windows.dilations,
        **same_pads(build.shape(x)[2:], windows),
    )
    weights = [build.constant(kernel, "kernel")]
    if bias is not None:
        weights.append(build.constant(bias, "bias"))
    return build(op, build.cast(x, DType.of(kernel)), *weights)


class _Image(NamedTuple):
    """The input with channels first, and what is known of it."""

    x: Value
    channels: int
    last: bool


def _image(build: LayerBuilder, layer: Layer, inputs: Inputs, count: int) -> _Image:
    x, last = inputs.x, is_channels_last(layer.config)
    if build.rank(x) != count + 2:
        raise UnsupportedOperator(
            f"{layer.class_name} on {build.type(x)}, which has not {count + 2} axes"
        )
    x = channels_first(build, x) if last else Value(x)
    return _Image(x, build.size(x, 1), last)


def _finished(build: LayerBuilder, layer: Layer, image: _Image, y: Value) -> Value:
    # A function that looks along an axis counts as the layer's user does.
    y = channels_last(build, y) if image.last else y
    return activated(build, layer, y)


def _bias(layer: Layer, size: int) -> Array | None:
    return layer.weight("bias", (size,)) if layer.config.get("use_bias", True) else None


@keras_rule("Conv1D", "Conv2D", "Conv3D", weights="kernel bias?use_bias")
def conv(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """A convolution"""
    count = int(layer.class_name[-2])
    image = _image(build, layer, inputs, count)
    windows, groups = windows_of(layer.config, count), int(layer.config.get("groups") or 1)
    filters = int(layer.config["filters"])
    kernel = layer.weight("kernel", (*windows.sizes, image.channels // groups, filters))
    y = convolve(build, image.x, kernel_first(kernel), _bias(layer, filters), windows, groups)
    return _finished(build, layer, image, y)


def _depthwise_kernel(kernel: Array) -> Array:
    """[..., in, multiplier] as [in * multiplier, 1, ...]"""
    rank = kernel.ndim
    turned = kernel.transpose(rank - 2, rank - 1, *range(rank - 2))
    return np.ascontiguousarray(turned.reshape(-1, 1, *turned.shape[2:]))


@keras_rule("DepthwiseConv1D", "DepthwiseConv2D", weights="kernel bias?use_bias")
def depthwise_conv(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """A convolution of each channel by itself"""
    count = int(layer.class_name[-2])
    image = _image(build, layer, inputs, count)
    windows, times = windows_of(layer.config, count), int(layer.config.get("depth_multiplier", 1))
    kernel = layer.weight("kernel", (*windows.sizes, image.channels, times))
    bias = _bias(layer, image.channels * times)
    y = convolve(build, image.x, _depthwise_kernel(kernel), bias, windows, image.channels)
    return _finished(build, layer, image, y)


@keras_rule(
    "SeparableConv1D",
    "SeparableConv2D",
    weights="depthwise_kernel pointwise_kernel bias?use_bias",
)
def separable_conv(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """A convolution of each channel by itself, then one of points"""
    count = int(layer.class_name[-2])
    image = _image(build, layer, inputs, count)
    windows, times = windows_of(layer.config, count), int(layer.config.get("depth_multiplier", 1))
    channels, filters = image.channels, int(layer.config["filters"])
    kernel = layer.weight("depthwise_kernel", (*windows.sizes, channels, times))
    y = convolve(build, image.x, _depthwise_kernel(kernel), None, windows, channels)
    points = layer.weight("pointwise_kernel", (*(1,) * count, channels * times, filters))
    ones = (1,) * count
    single = Windows(ones, ones, ones, "valid")
    y = convolve(build, y, kernel_first(points), _bias(layer, filters), single)
    return _finished(build, layer, image, y)


# Transposed --------------------------------------------------------------------------------------


def _crop(reach: int, stride: int, padding: str, more: int | None) -> tuple[int, int]:
    """What is cut off before and behind of the whole transposed convolution; negative: added.

    The whole has (n - 1) * stride + reach pixels. Keras wants n * stride of them for ``same``, and
    (n - 1) * stride + max(reach, stride) for ``valid``, unless output_padding says otherwise.
    """
    if padding == "valid":
        return 0, -(max(reach, stride) - reach if more is None else more)
    kept = stride + reach - 2 if more is None else reach + reach % 2 - 2 + more
    left = min(kept // 2 + kept % 2, reach - 1)
    return reach - 1 - left, reach - 1 - (kept - left)


@keras_rule("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", weights="kernel bias?use_bias")
def conv_transpose(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """A transposed convolution"""
    count = int(layer.class_name[4])
    image = _image(build, layer, inputs, count)
    windows, filters = windows_of(layer.config, count), int(layer.config["filters"])
    given = layer.config.get("output_padding")
    more = (None,) * count if given is None else listed(given, count, "output_padding")
    crops = [
        _crop(reach, stride, windows.padding, one)
        for reach, stride, one in zip(windows.reach, windows.strides, more, strict=True)
    ]
    kernel = layer.weight("kernel", (*windows.sizes, filters, image.channels))
    op = ConvTranspose(
        kernel_shape=windows.sizes,
        strides=windows.strides,
        dilations=windows.dilations,
        pads=(*(c[0] for c in crops), *(max(c[1], 0) for c in crops)),
        output_padding=tuple(max(-c[1], 0) for c in crops),
    )
    weights = [build.constant(kernel_first(kernel), "kernel")]
    bias = _bias(layer, filters)
    if bias is not None:
        weights.append(build.constant(bias, "bias"))
    y = build(op, build.cast(image.x, DType.of(kernel)), *weights)
    return _finished(build, layer, image, y)
