"""Attention: Keras's layers of many heads, and the older ones of one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from string import ascii_letters
from typing import Any

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Nested, Value
from sofie_rdf.frontends.keras.rules._tools import add, multiply
from sofie_rdf.frontends.keras.rules.activations import lowest, softmax
from sofie_rdf.frontends.keras.rules.core import product_and_bias
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, keras_rule, passed
from sofie_rdf.frontends.keras.rules.reshaping import reshaped
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.types import Array, DType, normal_axis
from sofie_rdf.ops.attention import Attention
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.contraction import Einsum
from sofie_rdf.ops.creation import KnownRange
from sofie_rdf.ops.elementwise import Abs, Add, And, Less, Mul, Not, Sigmoid, Sub, Tanh, Where
from sofie_rdf.ops.layout import Expand, Transpose, Unsqueeze
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.ops.reduction import ReduceSum

__all__ = ["added", "causal_mask", "in_heads"]

_PARAMETERS = (
    "query value key query_mask value_mask key_mask attention_mask return_attention_scores "
    "training use_causal_mask"
)


# Masks -------------------------------------------------------------------------------------------


def _distances(build: LayerBuilder, rows: Dim, columns: Dim) -> tuple[Value, Value]:
    """The numbers of rows [T, 1] and of columns [S]."""
    row = build(KnownRange(0, rows, 1, DType.INT64))
    return build(Unsqueeze((1,)), row), build(KnownRange(0, columns, 1, DType.INT64))


def causal_mask(build: LayerBuilder, rows: Dim, columns: Dim) -> Value:
    """[1, T, S]: whether a row may see a column, which is not behind it."""
    row, column = _distances(build, rows, columns)
    return build(Unsqueeze((0,)), build(Not(), build(Less(), row, column)))


def _window_mask(build: LayerBuilder, rows: Dim, columns: Dim, window: int) -> Value:
    """[1, T, S]: whether a column is nearer to a row than the window is wide."""
    row, column = _distances(build, rows, columns)
    far = build(Abs(), build(Sub(), row, column))
    near = build(Less(), far, build.constant(np.int64(window)))
    return build(Unsqueeze((0,)), near)


def _both(build: LayerBuilder, one: Value | None, other: Value | None) -> Value | None:
    if one is None or other is None:
        return one if other is None else other
    return build(And(), one, other)


def _given_masks(build: LayerBuilder, inputs: Inputs) -> Value | None:
    """The masks of the values and the one that is given, such that they broadcast to [N, T, S]."""
    found: Value | None = None
    for name, axis in (("query_mask", -1), ("value_mask", -2), ("key_mask", -2)):
        mask = inputs.value(name)
        if mask is not None:
            wide = build(Unsqueeze((axis,)), build.cast(mask, DType.BOOL))
            found = _both(build, found, wide)
    mask = inputs.value("attention_mask")
    return _both(build, None if mask is None else build.cast(mask, DType.BOOL), found)


def _whole_mask(
    build: LayerBuilder,
    layer: Layer,
    inputs: Inputs,
    mask: Value | None,
    query: str,
    value: str,
) -> Value | None:
    """The masks that are given, and those that the layer makes."""
    rows, columns = build.shape(query)[1], build.shape(value)[1]
    if inputs.get("use_causal_mask"):
        mask = _both(build, mask, causal_mask(build, rows, columns))
    window = layer.config.get("sliding_window")
    if window is not None:
        mask = _both(build, mask, _window_mask(build, rows, columns, int(window)))
    return mask


def added(build: LayerBuilder, mask: Value, dtype: DType) -> Value:
    """What is added to scores: 0, and so much below it where the mask is false that no digit stays.

    A row that may see nothing sees all values alike then, as Keras has it. Only where it makes the
    scores one by one, for dropout or because they are wanted, such a row gives 0.
    """
    low = -0.7 * (65500.0 if dtype is DType.FLOAT16 else 3.38953e38)
    numbers = (build.constant(n, "masked", dtype.numpy) for n in (0.0, low))
    return build(Where(), mask, *numbers)


# Heads -------------------------------------------------------------------------------------------


def _dense(layer: Layer, attribute: str) -> Layer:
    """A projection: older files call it by a private name."""
    store = layer.store.child(attribute)
    if store.is_empty:
        other = f"_{attribute}" if not attribute.startswith("_") else attribute[1:]
        store = layer.store.child(other)
    keys = ("dtype", "trainable")
    config: dict[str, Any] = {k: layer.config[k] for k in keys if k in layer.config}
    config["bias_axes"] = "x" if layer.config.get("use_bias", True) else None
    config["name"] = f"{layer.name}/{attribute.strip('_').removesuffix('_dense')}"
    return Layer("EinsumDense", config, store, "keras.layers")


def _projections(layer: Layer) -> dict[str, Layer]:
    gate = ["gate"] if layer.config.get("use_gate") else []
    names = [f"{n}_dense" for n in ("query", "key", *gate, "value", "output")]
    if layer.class_name != "MultiHeadAttention":
        names = [f"_{n}" for n in names]
    elif gate:
        names[2] = "_gate_dense"
    return {n: _dense(layer, n) for n in names}


def _by_role(layer: Layer) -> dict[str, Layer]:
    return {k.strip("_").removesuffix("_dense"): v for k, v in _projections(layer).items()}


def _projected(build: LayerBuilder, dense: Layer, x: str, heads: int, size: int) -> Value:
    """[..., F] as [..., heads * size]."""
    kernel = dense.weight("kernel", (build.size(x, -1), heads, size))
    bias = dense.weight("bias", (heads, size)).reshape(-1) if dense.config["bias_axes"] else None
    return product_and_bias(build, x, kernel.reshape(kernel.shape[0], -1), bias)


def _put_together(
    build: LayerBuilder, dense: Layer, y: str, heads: int, size: int, shape: Sequence[int] | None
) -> Value:
    """[..., heads * size] as [..., *shape]."""
    kernel = dense.weight("kernel")
    out = kernel.shape[2:]
    if kernel.shape[:2] != (heads, size) or (shape is not None and out != tuple(shape)):
        dense.weight("kernel", (heads, size, *(shape or out)))  # An error that says both.
    bias = dense.weight("bias", out).reshape(-1) if dense.config["bias_axes"] else None
    flat = product_and_bias(build, y, kernel.reshape(heads * size, -1), bias)
    return reshaped(build, flat, (*build.shape(flat)[:-1], *out))


def _wanted(layer: Layer) -> Sequence[int] | None:
    given = layer.config.get("output_shape")
    return (given,) if isinstance(given, int) else given


def _sizes(layer: Layer) -> tuple[int, int, int, int]:
    """The numbers of heads of queries and of keys, and the sizes of keys and of values."""
    config = layer.config
    if layer.class_name == "MultiHeadAttention":
        size, heads = int(config["key_dim"]), int(config["num_heads"])
        return heads, heads, size, int(config.get("value_dim") or size)
    size = int(config["head_dim"])
    return int(config["num_query_heads"]), int(config["num_key_value_heads"]), size, size


@keras_rule(
    "MultiHeadAttention",
    "GroupQueryAttention",
    "GroupedQueryAttention",
    children=_projections,
    parameters=_PARAMETERS,
    mask=passed,
)
def heads_of_attention(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """softmax(q k^T / sqrt(size) + mask) v for each head, put together by a dense layer"""
    query, value = inputs.value("query"), inputs.value("value")
    if query is None or value is None:
        raise GraphError("needs a query and a value")
    key = inputs.value("key") or value
    mask = _given_masks(build, inputs)
    if layer.class_name == "MultiHeadAttention" and not build.is_keras_2:
        # Keras takes the masks off, for whoever reads these values later.
        for one in (query, value, key):
            one.mask = None
    if build.rank(query) != 3 or not _on_axis_one(layer) or build.is_keras_2:
        return _spelled_out(build, layer, (query, key, value), mask, inputs)
    heads, shared, size, width = _sizes(layer)
    roles = _by_role(layer)
    scores = bool(inputs.get("return_attention_scores"))
    causal, wide = bool(inputs.get("use_causal_mask")), None
    if mask is not None or layer.config.get("sliding_window") is not None:
        whole = _whole_mask(build, layer, inputs, mask, query, value)
        wide = in_heads(build, whole, build.shape(value)[1])
        causal = False
        if wide is not None and not scores and not layer.config.get("dropout"):
            wide = added(build, wide, build.type(query).dtype)
    op = Attention(
        is_causal=causal, q_num_heads=heads, kv_num_heads=shared, qk_matmul_output_mode=3
    )
    q = _projected(build, roles["query"], query, heads, size)
    k = _projected(build, roles["key"], key, shared, size)
    v = _projected(build, roles["value"], value, shared, width)
    found = build.all(op, 4 if scores else 1, q, k, v, wide or "")
    y = found[0]
    if layer.config.get("use_gate"):
        gate = build(Sigmoid(), _projected(build, roles["gate"], query, heads, width))
        y = build(Mul(), y, gate)
    output = _put_together(build, roles["output"], y, heads, width, _wanted(layer))
    return [output, found[3]] if scores else output


def in_heads(build: LayerBuilder, mask: Value | None, keys: Dim) -> Value | None:
    """A mask with axes of size 1 for the heads and in front of it, and one element for each key."""
    while mask is not None and build.rank(mask) < 4:
        place = 0 if build.rank(mask) < 3 else 1
        mask = build(Unsqueeze((place,)), mask)
    if mask is not None and build.shape(mask)[-1] == 1 != keys:
        mask = build(Expand((*build.shape(mask)[:-1], keys)), mask)
    return mask


def _on_axis_one(layer: Layer) -> bool:
    axes = layer.config.get("attention_axes")
    return axes is None or list(axes if isinstance(axes, (list, tuple)) else [axes]) in ([1], [-2])


# Several axes ------------------------------------------------------------------------------------


def _equations(rank: int, axes: Sequence[int]) -> tuple[str, str]:
    """The sums of products for keys and queries, and for scores and values.

    ``rank`` counts the batch, the axes of attention and others, heads and sizes.
    """
    target = ascii_letters[:rank]
    source = "".join(
        ascii_letters[rank + i] if i in axes else letter for i, letter in enumerate(target)
    )
    batch = [c for i, c in enumerate(target[:-1]) if i not in axes]
    scores = "".join([*batch, *(target[i] for i in axes), *(source[i] for i in axes)])
    return f"{source},{target}->{scores}", f"{scores},{source}->{target}"


def _spelled_out(
    build: LayerBuilder,
    layer: Layer,
    values: tuple[Value, Value, Value],
    mask: Value | None,
    inputs: Inputs,
) -> Nested:
    """Attention along any axes, as Keras spells it out."""
    query, key, value = values
    heads, shared, size, width = _sizes(layer)
    if heads != shared:
        raise UnsupportedOperator("shares keys among heads of more than three axes")
    rank, roles = build.rank(query), _by_role(layer)
    given = layer.config.get("attention_axes")
    axes = list(range(1, rank - 1)) if given is None else given
    axes = [
        normal_axis(int(a), rank) for a in (axes if isinstance(axes, (list, tuple)) else [axes])
    ]
    mask = _whole_mask(build, layer, inputs, mask, query, value)
    q, k, v = (
        reshaped(build, flat, (*build.shape(flat)[:-1], heads, each))
        for flat, each in (
            (_projected(build, roles["query"], query, heads, size), size),
            (_projected(build, roles["key"], key, heads, size), size),
            (_projected(build, roles["value"], value, heads, width), width),
        )
    )
    products, combined = _equations(rank + 1, axes)
    scores = build(Einsum(products), k, multiply(build, q, 1 / math.sqrt(size)))
    weights = _masked_softmax(build, scores, mask, len(axes))
    y = build(Einsum(combined), weights, v)
    if layer.config.get("use_gate"):
        gate = build(Sigmoid(), _projected(build, roles["gate"], query, heads, width))
        y = build(Mul(), y, reshaped(build, gate, build.shape(y)))
    flat = reshaped(build, y, (*build.shape(y)[:-2], heads * width))
    output = _put_together(build, roles["output"], flat, heads, width, _wanted(layer))
    return [output, weights] if inputs.get("return_attention_scores") else output


def _masked_softmax(build: LayerBuilder, scores: str, mask: Value | None, count: int) -> Value:
    """The softmax over the last axes; what is masked is 0, in Keras 2 what little is left."""
    rank = build.rank(scores)
    axes = list(range(rank - count, rank))
    if mask is None:
        return softmax(build, scores, axes)
    while build.rank(mask) < rank:
        place = build.rank(mask) + 1 - 2 * count - 1
        mask = build(Unsqueeze((max(place, 0),)), mask)
    if build.is_keras_2:
        hidden = build(Cast(build.type(scores).dtype), build(Not(), mask))
        low = multiply(build, hidden, lowest(build.type(scores).dtype))
        return softmax(build, build(Add(), scores, low), axes)
    shown = build(Where(), mask, scores, build.like(lowest(build.type(scores).dtype), scores))
    return build(Where(), mask, softmax(build, shown, axes), build.like(0, scores))


# One head ----------------------------------------------------------------------------------------


def _attention_weights(layer: Layer) -> list[str]:
    additive = layer.class_name == "AdditiveAttention"
    found = ["scale"] if layer.config.get("use_scale", additive) else []
    concat = layer.config.get("score_mode", "dot") == "concat"
    return [*found, "concat_score_weight"] if concat and not additive else found


def _query_mask(build: LayerBuilder, layer: Layer, inputs: Inputs, mask: Nested) -> Nested:
    return mask[0] if isinstance(mask, (list, tuple)) else None


@keras_rule(
    "AdditiveAttention",
    "Attention",
    weights=_attention_weights,
    parameters="inputs mask training return_attention_scores use_causal_mask",
    mask=_query_mask,
)
def attention(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """softmax(scores(q, k) + mask) v; the scores are products, or sums of a function"""
    values = inputs.tensors
    if not isinstance(inputs.first, (list, tuple)) or not 2 <= len(values) <= 3:
        raise GraphError("needs a list of a query, a value, and perhaps a key")
    q, v = values[:2]
    k = values[2] if len(values) > 2 else v
    masks = inputs.get("mask") or (None, None)
    names = _attention_weights(layer)
    numbers: Mapping[str, Array] = {n: layer.weight(n) for n in names}
    scores = _scores(build, layer, q, k, numbers)
    mask = masks[1]
    if mask is not None and build.rank(mask) == 2:
        mask = build(Unsqueeze((-2,)), mask)
    if inputs.get("use_causal_mask"):
        rows, columns = build.shape(scores)[-2:]
        mask = _both(build, mask, causal_mask(build, rows, columns))
    if mask is not None:
        limit = 65504.0 if build.type(scores).dtype is DType.FLOAT16 else 1e9
        scores = build(Where(), mask, scores, add(build, scores, -limit))
    weights = softmax(build, scores, -1)
    y = build(MatMul(), weights, v)
    if masks[0] is not None:
        y = build(Where(), build(Unsqueeze((-1,)), masks[0]), y, build.like(0, y))
    return [y, weights] if inputs.get("return_attention_scores") else y


def _scores(
    build: LayerBuilder, layer: Layer, q: str, k: str, numbers: Mapping[str, Array]
) -> Value:
    constants = {name: build.constant(array, name) for name, array in numbers.items()}
    scale = constants.get("scale")
    mode = layer.config.get("score_mode", "dot")
    if layer.class_name == "Attention" and mode == "dot":
        rank = build.rank(k)
        turned = build(Transpose((*range(rank - 2), rank - 1, rank - 2)), k)
        products = build(MatMul(), q, turned)
        return products if scale is None else build(Mul(), products, scale)
    if layer.class_name == "Attention" and mode != "concat":
        raise UnsupportedOperator(f"has the score_mode {mode!r}, which is not known")
    sums = build(Add(), build(Unsqueeze((-2,)), q), build(Unsqueeze((-3,)), k))
    if layer.class_name == "Attention":
        sums = sums if scale is None else build(Mul(), sums, scale)
        total = build(ReduceSum((-1,), keepdims=False), build(Tanh(), sums))
        return build(Mul(), total, constants["concat_score_weight"])
    grown = build(Tanh(), sums)
    grown = grown if scale is None else build(Mul(), grown, scale)
    return build(ReduceSum((-1,), keepdims=False), grown)
