"""Normalisations, with statistics of the training, of the event, or of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sofie_rdf.errors import GraphError
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Nested, Value
from sofie_rdf.frontends.keras.rules._tools import add, axes_of, moved_back, transposed
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, keras_rule, passed
from sofie_rdf.ir.types import Array, DType, normal_axis
from sofie_rdf.ops.elementwise import Add, Div, Min, Mul, Reciprocal, Sqrt, Sub
from sofie_rdf.ops.layout import Transpose
from sofie_rdf.ops.normalization import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
)
from sofie_rdf.ops.reduction import ReduceMean, ReduceSumSquare

__all__ = ["layer_normalized", "rms_normalized"]


def _axis(layer: Layer, rank: int, default: int = -1) -> int:
    """The one axis of a layer; Keras 2 wrote a list of one."""
    given = layer.config.get("axis", default)
    listed = given if isinstance(given, (list, tuple)) else [given]
    if len(listed) != 1:
        raise GraphError(f"normalises over the axes {given}, of which there must be one")
    return normal_axis(int(listed[0]), rank)


def _behind_transpose(build: LayerBuilder, x: str) -> bool:
    """Whether x comes from an operator that has its channels first, but for a function."""
    makers = {o: n for n in build.graph.nodes[-12:] for o in n.outputs}
    node = makers.get(x)
    for _ in range(4):
        if node is None or isinstance(node.op, Transpose):
            break
        node = makers.get(node.inputs[0]) if len(node.inputs) == 1 else None
    return node is not None


@keras_rule(
    "BatchNormalization",
    "SyncBatchNormalization",
    weights="gamma?scale beta?center moving_mean moving_variance",
    parameters="inputs training mask",
    mask=passed,
)
def batch_normalization(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, for each channel"""
    x = inputs.x
    axis, size = _axis(layer, build.rank(x)), None
    size = build.size(x, axis)
    epsilon = float(layer.config.get("epsilon", 1e-3))
    ones, zeros = (np.full(size, n, layer.dtype.numpy) for n in (1, 0))
    scale = layer.weight("gamma", (size,)) if layer.config.get("scale", True) else ones
    offset = layer.weight("beta", (size,)) if layer.config.get("center", True) else zeros
    mean = layer.weight("moving_mean", (size,))
    variance = layer.weight("moving_variance", (size,))
    statistics = (scale, offset, mean, variance)
    rank = build.rank(x)
    if axis != 1 and not _behind_transpose(build, x):
        return _plain(build, x, axis, statistics, epsilon)
    order = (0, axis, *(i for i in range(1, rank) if i != axis))
    names = ("gamma", "beta", "mean", "variance")
    constants = [build.constant(a, n) for a, n in zip(statistics, names, strict=True)]
    y = build(BatchNormalization(epsilon=epsilon), transposed(build, x, order), *constants)
    return transposed(build, y, moved_back(order))


def _plain(
    build: LayerBuilder, x: str, axis: int, statistics: tuple[Array, ...], epsilon: float
) -> Value:
    """Element by element: no axis has to go elsewhere for it."""
    shape = [1] * build.rank(x)
    shape[axis] = -1
    dtype = build.type(x).dtype.numpy
    scale, offset, mean, variance = (a.astype(np.float64).reshape(shape) for a in statistics)
    factor = scale / np.sqrt(variance + epsilon)
    y = build(Sub(), x, build.constant(mean, "mean", dtype)) if mean.any() else Value(x)
    y = build(Mul(), y, build.constant(factor, "gamma", dtype))
    return build(Add(), y, build.constant(offset, "beta", dtype)) if offset.any() else y


# Of the event ------------------------------------------------------------------------------------


def _over_last(
    build: LayerBuilder, x: str, axes: tuple[int, ...], op: Any, weights: list[Value]
) -> Value:
    """A normalisation over these axes, which go to the end for it."""
    rank = build.rank(x)
    order = (*(i for i in range(rank) if i not in axes), *axes)
    y = build(op, transposed(build, x, order), *weights)
    return transposed(build, y, moved_back(order))


def _weight(build: LayerBuilder, layer: Layer, x: str, name: str, axes: tuple[int, ...]) -> Array:
    """A weight for these axes, in their order."""
    shape = [build.size(x, a) for a in axes]
    found = layer.weight(name)
    if found.size != np.prod(shape):
        layer.weight(name, shape)  # An error that says both.
    return found.reshape(shape)


def layer_normalized(
    build: LayerBuilder,
    x: str,
    axes: tuple[int, ...],
    gamma: Array | None,
    beta: Array | None,
    epsilon: float,
) -> Value:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta over these axes"""
    dtype = build.type(x).dtype.numpy
    shape = [build.size(x, a) for a in axes]
    scale = np.ones(shape, dtype) if gamma is None else gamma.astype(dtype)
    weights = [build.constant(scale, "gamma")]
    if beta is not None:
        weights.append(build.constant(beta.astype(dtype), "beta"))
    op = LayerNormalization(axis=-len(axes), epsilon=epsilon, stash_type=_wider(build, x))
    return _over_last(build, x, axes, op, weights)


def rms_normalized(
    build: LayerBuilder, x: str, axes: tuple[int, ...], scale: Array | None, epsilon: float
) -> Value:
    """x / sqrt(mean(x^2) + epsilon) * scale over these axes"""
    dtype = build.type(x).dtype.numpy
    shape = [build.size(x, a) for a in axes]
    factor = np.ones(shape, dtype) if scale is None else scale.reshape(shape).astype(dtype)
    op = RMSNormalization(axis=-len(axes), epsilon=epsilon, stash_type=_wider(build, x))
    return _over_last(build, x, axes, op, [build.constant(factor, "scale")])


def _layer_weights(layer: Layer) -> list[str]:
    config, scaled = layer.config, layer.config.get("rms_scaling")
    found = ["gamma"] if config.get("scale", True) or scaled else []
    return [*found, "beta"] if config.get("center", True) and not scaled else found


@keras_rule("LayerNormalization", weights=_layer_weights, mask=passed, casts=False)
def layer_normalization(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta; x / ... * gamma with rms_scaling"""
    x = build.cast(inputs.x, _wider(build, inputs.x))
    axes = axes_of(layer.config.get("axis", -1), build.rank(x))
    names = _layer_weights(layer)
    gamma, beta = (
        _weight(build, layer, x, n, axes) if n in names else None for n in ("gamma", "beta")
    )
    epsilon = float(layer.config.get("epsilon", 1e-3))
    if layer.config.get("rms_scaling"):
        y = _over_deviation(build, x, axes, gamma, epsilon)
    else:
        y = layer_normalized(build, x, axes, gamma, beta, epsilon)
    return build.cast(y, layer.dtype)


def _wider(build: LayerBuilder, x: str) -> DType:
    """The type in which Keras computes statistics: at least float32."""
    dtype = build.type(x).dtype
    return dtype if dtype in (DType.FLOAT32, DType.FLOAT64) else DType.FLOAT32


def _over_deviation(
    build: LayerBuilder, x: str, axes: tuple[int, ...], gamma: Array | None, epsilon: float
) -> Value:
    """x / sqrt(variance + epsilon) * gamma"""
    centred = build(Sub(), x, build(ReduceMean(axes), x))
    variance = build(ReduceMean(axes), build(Mul(), centred, centred))
    y = build(Div(), x, build(Sqrt(), add(build, variance, epsilon)))
    if gamma is None:
        return y
    shape = [build.size(x, a) if a in axes else 1 for a in range(build.rank(x))]
    dtype = build.type(x).dtype.numpy
    return build(Mul(), y, build.constant(gamma.reshape(shape), "gamma", dtype))


@keras_rule("RMSNormalization", weights="scale")
def rms_normalization(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x / sqrt(mean(x^2) + epsilon) * scale"""
    x = inputs.x
    axes = axes_of(layer.config.get("axis", -1), build.rank(x))
    scale = _weight(build, layer, x, "scale", axes)
    return rms_normalized(build, x, axes, scale, float(layer.config.get("epsilon", 1e-6)))


@keras_rule("GroupNormalization", weights="gamma?scale beta?center", mask=passed, casts=False)
def group_normalization(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, for each group of channels"""
    config = layer.config
    x = build.cast(inputs.x, _wider(build, inputs.x))
    rank = build.rank(x)
    axis = _axis(layer, rank)
    channels = build.size(x, axis)
    groups = channels if config.get("groups") == -1 else int(config.get("groups", 32))
    order = (0, axis, *(i for i in range(1, rank) if i != axis))
    dtype = build.type(x).dtype.numpy
    weights = []
    for name, flag, default in (("gamma", "scale", 1), ("beta", "center", 0)):
        used = config.get(flag, True)
        array = layer.weight(name, (channels,)) if used else np.full(channels, default)
        weights.append(build.constant(array, name, dtype))
    op = GroupNormalization(
        num_groups=groups,
        epsilon=float(config.get("epsilon", 1e-3)),
        stash_type=build.type(x).dtype,
    )
    y = build(op, transposed(build, x, order), *weights)
    return build.cast(transposed(build, y, moved_back(order)), layer.dtype)


@keras_rule("UnitNormalization", mask=passed)
def unit_normalization(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x / |x|, at most 1e12 x"""
    x = inputs.x
    axes = axes_of(layer.config.get("axis", -1), build.rank(x))
    length = build(Sqrt(), build(ReduceSumSquare(axes), x))
    factor = build(Min(), build(Reciprocal(), length), build.like(1e12, x))
    return build(Mul(), x, factor)


# Of the data -------------------------------------------------------------------------------------


def _statistics(layer: Layer) -> list[str]:
    return [] if layer.config.get("mean") is not None else ["mean", "variance", "count"]


@keras_rule("Normalization", weights=_statistics, mask=passed, casts=False)
def normalization(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """(x - mean) / sqrt(variance); inverted x * sqrt(variance) + mean"""
    x, config = build.cast(inputs.x, layer.dtype), layer.config
    axis = config.get("axis", -1)
    axes = () if axis is None else axes_of(axis, build.rank(x))
    if config.get("mean") is None:
        mean, variance = layer.weight("mean"), layer.weight("variance")
    else:
        mean, variance = (_numbers(config[k]) for k in ("mean", "variance"))
    dtype = layer.dtype.numpy
    shapes = [build.size(x, a) if a in axes else 1 for a in range(build.rank(x))]
    arrays = []
    for array in (mean, variance):
        fitted = _aligned(np.asarray(array, np.float64), axes, len(shapes))
        arrays.append(np.broadcast_to(fitted, shapes).astype(dtype))
    spread = np.maximum(np.sqrt(arrays[1]), dtype.type(1e-7))
    centre, width = build.constant(arrays[0], "mean"), build.constant(spread, "deviation")
    if config.get("invert"):
        return build(Add(), build(Mul(), x, width), centre)
    return build(Div(), build(Sub(), x, centre), width)


def _numbers(given: Any) -> Array:
    """Numbers of a config: a list, or an array that Keras has written as one."""
    if isinstance(given, Mapping):
        given = (given.get("config") or {}).get("value")
    return np.asarray(given, np.float64)


def _aligned(array: Array, axes: tuple[int, ...], rank: int) -> Array:
    """The array with its axes at ``axes``, the last at the last."""
    shape = [1] * rank
    for size, axis in zip(array.shape[::-1], axes[::-1], strict=False):
        shape[axis] = size
    return array.reshape(shape)


@keras_rule("Rescaling", mask=passed, casts=False)
def rescaling(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x * scale + offset"""
    x, dtype = build.cast(inputs.x, layer.dtype), layer.dtype.numpy
    scale, offset = (_numbers(layer.config.get(k, d)) for k, d in (("scale", 1), ("offset", 0)))
    y = build(Mul(), x, build.constant(scale, "scale", dtype))
    return build(Add(), y, build.constant(offset, "offset", dtype)) if offset.any() else y


# Of weights --------------------------------------------------------------------------------------


def _inner(layer: Layer) -> Mapping[str, Layer]:
    return {"layer": layer.child("layer")}


@keras_rule("SpectralNormalization", weights="vector_u", children=_inner)
def spectral_normalization(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """The layer inside: its weights were divided by their largest singular value in training"""
    return build.run(layer.child("layer"), {"inputs": inputs.first})
