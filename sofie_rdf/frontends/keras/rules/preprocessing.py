"""Layers that prepare numbers: images in another size, categories, and lists of whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Value
from sofie_rdf.frontends.keras.rules._tools import (
    channels_first,
    channels_last,
    is_channels_last,
)
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, keras_rule
from sofie_rdf.frontends.keras.rules.operations_shapes import ones_at
from sofie_rdf.frontends.keras.rules.reshaping import resized
from sofie_rdf.ir.types import DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import Add, Equal, Less, Mod, Mul, Not, Where
from sofie_rdf.ops.indexing import Pad, Slice
from sofie_rdf.ops.layout import Squeeze, Unsqueeze
from sofie_rdf.ops.reduction import ReduceMax, ReduceSum

__all__: list[str] = []


# Images ------------------------------------------------------------------------------------------


def _middle(build: LayerBuilder, x: str, height: int, width: int) -> Value:
    """The middle of an image [N, C, H, W]."""
    starts = [int((build.size(x, a) - s) / 2) for a, s in ((2, height), (3, width))]
    ends = (starts[0] + height, starts[1] + width)
    return build(Slice(tuple(starts), ends, (2, 3)), x)


def _with_ratio(build: LayerBuilder, layer: Layer, x: str, target: tuple[int, int]) -> Value:
    """What of the image is resized, where its sides must keep their ratio."""
    height, width = build.size(x, 2), build.size(x, 3)
    high, wide = int(width * target[0] / target[1]), int(height * target[1] / target[0])
    if layer.config.get("crop_to_aspect_ratio"):
        return _middle(build, x, max(min(height, high), 1), max(min(width, wide), 1))
    if not layer.config.get("pad_to_aspect_ratio"):
        return Value(x)
    above, left = int((max(height, high) - height) / 2), int((max(width, wide) - width) / 2)
    value = build.like(float(layer.config.get("fill_value") or 0), x)
    return build(Pad((0, 0, above, left, 0, 0, above, left)), x, value)


@keras_rule("Resizing", casts=False)
def resizing(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """An image in another size"""
    x, config = inputs.x, layer.config
    if build.rank(x) != 4:
        raise UnsupportedOperator(f"is Resizing of {build.type(x)}, which is no batch of images")
    before = build.type(x).dtype
    x = build.cast(x, layer.dtype) if before.is_float else build.cast(x, DType.FLOAT32)
    last = is_channels_last(config)
    x = channels_first(build, x) if last else Value(x)
    target = int(config["height"]), int(config["width"])
    y = resized(
        build,
        _with_ratio(build, layer, x, target),
        str(config.get("interpolation", "bilinear")).lower(),
        sizes=target,
        antialias=bool(config.get("antialias")),
    )
    y = channels_last(build, y) if last else y
    # A model of Keras casts what it takes in, so that whole numbers are given back as real ones.
    return build.cast(y, layer.dtype)


@keras_rule("CenterCrop")
def center_crop(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The middle of an image; one that is too small is enlarged until it is not"""
    x, config = inputs.x, layer.config
    if build.rank(x) != 4:
        raise UnsupportedOperator(f"is CenterCrop of {build.type(x)}, which is no batch of images")
    last, dtype = is_channels_last(config), layer.dtype
    x = build.cast(x, dtype)
    x = channels_first(build, x) if last else Value(x)
    height, width = int(config["height"]), int(config["width"])
    own = build.size(x, 2), build.size(x, 3)
    if own[0] >= height and own[1] >= width:
        starts = (own[0] - height) // 2, (own[1] - width) // 2
        ends = (starts[0] + height, starts[1] + width)
        y = build(Slice(starts, ends, (2, 3)), x)
    else:
        high, wide = int(own[1] * height / width), int(own[0] * width / height)
        x = _middle(build, x, max(min(own[0], high), 1), max(min(own[1], wide), 1))
        y = resized(build, x, "bilinear", sizes=(height, width))
    return channels_last(build, y) if last else y


# Categories --------------------------------------------------------------------------------------


def _encoded(
    build: LayerBuilder, x: str, mode: str, depth: int, dtype: DType, weights: str | None = None
) -> Value:
    """Numbers of categories as they are, as ones at their places, or counted"""
    if mode == "int":
        return build.cast(x, dtype)
    if mode == "one_hot":
        if build.rank(x) > 1 and build.shape(x)[-1] == 1:
            x = build(Squeeze((-1,)), x)
        return ones_at(build, x, depth, -1, dtype)
    if mode not in ("binary", "count", "multi_hot"):
        raise UnsupportedOperator(f"has the output_mode {mode!r}, which is not supported")
    # A vector is one sample.
    axis = 1 if build.rank(x) > 1 else 0
    ones = ones_at(build, x, depth, -1, DType.FLOAT32 if weights else dtype)
    if mode != "count":
        return build(ReduceMax((axis,), keepdims=False), ones)
    if weights is not None:
        ones = build(Mul(), build.cast(ones, dtype), build(Unsqueeze((-1,)), weights))
    return build(ReduceSum((axis,), keepdims=False), ones)


def _dense_only(layer: Layer) -> None:
    if layer.config.get("sparse"):
        raise UnsupportedOperator("gives sparse tensors", remedy="Make it with sparse=False")


@keras_rule("CategoryEncoding", parameters="inputs count_weights", casts=False)
def category_encoding(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Numbers of categories as ones at their places, or counted"""
    _dense_only(layer)
    mode = str(layer.config.get("output_mode", "multi_hot"))
    weights = inputs.value("count_weights")
    weights = None if weights is None else build.cast(weights, layer.dtype)
    depth = int(layer.config["num_tokens"])
    return _encoded(build, inputs.x, mode, depth, layer.dtype, weights)


@keras_rule("Discretization", casts=False)
def discretization(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """How many boundaries are not above x"""
    _dense_only(layer)
    config, mode = layer.config, str(layer.config.get("output_mode", "int"))
    bounds = config.get("bin_boundaries")
    if not bounds:
        raise UnsupportedOperator(
            "has no boundaries", remedy="Call adapt(...) before the model is saved"
        )
    x = inputs.x
    x = x if build.type(x).dtype.is_float else build.cast(x, DType.FLOAT32)
    edges = build.constant(np.asarray(bounds), "boundaries", build.type(x).dtype.numpy)
    below = build(Less(), build(Unsqueeze((-1,)), x), edges)
    passed = build(Cast(DType.INT64), build(Not(), below))
    bins = build(ReduceSum((-1,), keepdims=False), passed)
    whole = DType.INT64 if build.is_keras_2 else DType.INT32
    return _encoded(build, bins, mode, len(bounds) + 1, whole if mode == "int" else layer.dtype)


@keras_rule("IntegerLookup", casts=False)
def integer_lookup(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """The place of a number in a list; the first places are for those that are not in it"""
    _dense_only(layer)
    config = layer.config
    words, mode = _vocabulary(config), str(config.get("output_mode", "int"))
    if config.get("invert") or mode == "tf_idf":
        what = "inverted" if config.get("invert") else "weighted by tf_idf"
        raise UnsupportedOperator(f"is an IntegerLookup that is {what}")
    unknown, mask = int(config.get("num_oov_indices", 1)), config.get("mask_token")
    if unknown > 1 and config.get("oov_method") not in (None, "floormod"):
        raise UnsupportedOperator(f"has the oov_method {config['oov_method']!r}")
    first = 1 if mask is not None and mode == "int" else 0
    x = build.cast(inputs.x, DType.INT64)
    # Numbers that the list itself begins with for these purposes are no words.
    places = _places(build, x, words, first + unknown)
    missing = build(Less(), places, build.constant(np.int64(0)))
    if unknown == 0:
        other = build.constant(np.int64(-1))
    elif unknown == 1:
        other = build.constant(np.int64(first))
    else:
        rest = build(Mod(), x, build.constant(np.int64(unknown)))
        other = build(Add(), rest, build.constant(np.int64(first)))
    found = build(Where(), missing, other, places)
    if first:
        masked = build(Equal(), x, build.constant(mask, dtype=np.int64))
        found = build(Where(), masked, build.constant(np.int64(0)), found)
    depth = first + unknown + len(words)
    if config.get("pad_to_max_tokens"):
        depth = int(config.get("max_tokens") or depth)
    dtype = DType.INT64 if mode == "int" else DType.FLOAT32
    return _encoded(build, found, mode, depth, dtype)


def _vocabulary(config: Any) -> list[int]:
    words = config.get("vocabulary")
    if isinstance(words, dict):
        words = (words.get("config") or {}).get("value")
    if not isinstance(words, (list, tuple)) or not all(isinstance(w, int) for w in words):
        raise UnsupportedOperator(
            "has a list of numbers that is not in its config",
            remedy="Make it with vocabulary=[...]",
        )
    return list(words)


def _places(build: LayerBuilder, x: str, words: list[int], first: int) -> Value:
    """first + the place of x in the list, or -1."""
    if not words:
        raise GraphError("has an empty list")
    table = build.constant(np.asarray(words, np.int64), "vocabulary")
    same = build(Equal(), build(Unsqueeze((-1,)), x), table)
    numbers = build.constant(np.arange(first, first + len(words), dtype=np.int64), "places")
    low = build.constant(np.int64(-1))
    return build(ReduceMax((-1,), keepdims=False), build(Where(), same, numbers, low))


# What has no place in a network of numbers -------------------------------------------------------


def _refused(reason: str, remedy: str) -> Any:
    def rule(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
        """Refused by name"""
        raise UnsupportedOperator(f"is {layer.class_name}, which {reason}", remedy=remedy)

    return rule


for _name in ("HashedCrossing", "Hashing", "StringLookup", "TextVectorization"):
    keras_rule(_name)(_refused("works on texts or hashes", "Do it before the network"))
for _name in (
    "AutoContrast",
    "ContrastLimitedAdaptiveHistogramEqualization",
    "Equalization",
    "MaxNumBoundingBoxes",
    "MelSpectrogram",
    "Pipeline",
    "STFTSpectrogram",
    "Solarization",
):
    keras_rule(_name)(_refused("is not supported", "Do it before the network"))
keras_rule("RandomCrop")(
    _refused(
        "changes the size of images while it trains and at other times not, in some versions",
        "Use CenterCrop or Resizing",
    )
)
for _name in ("FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper"):
    keras_rule(_name)(
        _refused("is code of another framework", "Write it with layers of Keras and keras.ops")
    )
for _name in ("CuDNNGRU", "CuDNNLSTM"):
    keras_rule(_name)(_refused("exists on a GPU alone", "Load and save it with GRU or LSTM"))
