"""Dense layers, embeddings, masks, and layers that do nothing but while training."""

from __future__ import annotations

from typing import Any

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.keras.layer import Inputs, Layer, Nested, Value, masked
from sofie_rdf.frontends.keras.rules.activations import activated
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder, keras_rule, passed
from sofie_rdf.ir.types import DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.contraction import Einsum
from sofie_rdf.ops.elementwise import Add, Div, Equal, Mul, Not, Tanh, Where
from sofie_rdf.ops.indexing import Gather
from sofie_rdf.ops.layout import Unsqueeze
from sofie_rdf.ops.linear import Gemm, MatMul
from sofie_rdf.ops.reduction import ReduceMax

__all__ = ["not_equal", "product_and_bias"]


def product_and_bias(build: LayerBuilder, x: str, kernel: Any, bias: Any) -> Value:
    """x kernel + bias over the last axis; ``bias`` may be None"""
    x = build.cast(x, DType.of(kernel))
    weight = build.constant(kernel, "kernel")
    if build.rank(x) == 2:
        return build(
            Gemm(), x, weight, *([build.constant(bias, "bias")] if bias is not None else [])
        )
    y = build(MatMul(), x, weight)
    return y if bias is None else build(Add(), y, build.constant(bias, "bias"))


@keras_rule("Dense", weights="kernel bias?use_bias", mask=passed)
def dense(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x kernel + bias over the last axis"""
    units = layer.config.get("units")
    kernel = layer.weight("kernel", (build.size(inputs.x, -1), units))
    bias = layer.weight("bias", (units,)) if layer.config.get("use_bias", True) else None
    return activated(build, layer, product_and_bias(build, inputs.x, kernel, bias))


@keras_rule("EinsumDense", weights="kernel bias?bias_axes", parameters="inputs")
def einsum_dense(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Sums of products of x and the kernel over the axes that an equation names"""
    kernel = layer.weight("kernel")
    x = build.cast(inputs.x, DType.of(kernel))
    equation = str(layer.config["equation"]).replace(" ", "")
    names = equation.replace("->", ",").split(",")
    if len(names) != 3:
        raise GraphError(f"has the equation {equation!r}, which is none of two inputs")
    y = build(Einsum(spelled(equation, build.rank(x))), x, build.constant(kernel, "kernel"))
    if layer.config.get("bias_axes"):
        y = build(Add(), y, build.constant(layer.weight("bias"), "bias"))
    return activated(build, layer, y)


def spelled(equation: str, rank: int) -> str:
    """The equation with letters for the axes that dots stand for."""
    if "..." not in equation:
        return equation
    first = equation.partition(",")[0]
    count = rank - len(first.replace("...", ""))
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation]
    return equation.replace("...", "".join(free[:count]))


# Embeddings --------------------------------------------------------------------------------------


def not_equal(build: LayerBuilder, x: str, number: float) -> Value:
    """x != number; NaN is not"""
    return build(Not(), build(Equal(), x, build.like(number, x)))


def _embedding_mask(build: LayerBuilder, layer: Layer, inputs: Inputs, _: Nested) -> Value | None:
    return not_equal(build, inputs.x, 0) if layer.config.get("mask_zero") else None


def _embedded(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    size = layer.config.get("input_dim"), layer.config.get("output_dim")
    table = build.constant(layer.weight("embeddings", size), "embeddings")
    x = inputs.x
    if build.type(x).dtype not in (DType.INT32, DType.INT64):
        x = build(Cast(DType.INT32), x)
    return build(Gather(0), table, x)


@keras_rule("Embedding", weights="embeddings", mask=_embedding_mask, makes_mask=True, casts=False)
def embedding(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Row x of a table"""
    return _embedded(build, layer, inputs)


def _reversible_weights(layer: Layer) -> list[str]:
    tied = layer.config.get("tie_weights", True)
    return ["embeddings"] if tied else ["embeddings", "reverse_embeddings"]


@keras_rule(
    "ReversibleEmbedding", weights=_reversible_weights, parameters="inputs reverse", casts=False
)
def reversible_embedding(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """Row x of a table; in reverse the products of x with all rows"""
    config = layer.config
    if not inputs.get("reverse"):
        mask = _embedding_mask(build, layer, inputs, None)
        return masked(_embedded(build, layer, inputs), mask)
    tied = config.get("tie_weights", True)
    kernel = layer.weight("embeddings").T if tied else layer.weight("reverse_embeddings")
    if config.get("reverse_dtype"):
        kernel = kernel.astype(DType(config["reverse_dtype"]).numpy)
    y = product_and_bias(build, inputs.x, np.ascontiguousarray(kernel), None)
    cap = config.get("logit_soft_cap")
    if cap is not None:
        y = build(Mul(), build(Tanh(), build(Div(), y, build.like(cap, y))), build.like(cap, y))
    return y


# Masks -------------------------------------------------------------------------------------------


@keras_rule("Masking")
def masking(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Value:
    """x, and 0 with a mask where all numbers of a step are the mask's value"""
    x, value = inputs.x, layer.config.get("mask_value", 0.0)
    if not isinstance(value, (int, float)):
        raise UnsupportedOperator("has a mask_value that is no number")
    differs = build(Cast(DType.UINT8), not_equal(build, x, value))
    some = build(Cast(DType.BOOL), build(ReduceMax((-1,), keepdims=False), differs))
    wide = build(Unsqueeze((-1,)), some)
    return masked(build(Where(), wide, x, build.like(0, x)), some)


# What only trains --------------------------------------------------------------------------------


def _as_it_is(build: LayerBuilder, layer: Layer, inputs: Inputs) -> Nested:
    """x: it does something only while a model is trained"""
    return inputs.first


for _name in (
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
):
    keras_rule(_name, parameters="inputs training noise_shape", mask=passed)(_as_it_is)

for _name in (
    "AugMix",
    "AutoContrastTraining",
    "CutMix",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
):
    keras_rule(_name)(_as_it_is)
