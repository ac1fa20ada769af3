"""Random numbers, and Dropout: a seed for every node, the newest form for every opset."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sofie_rdf.frontends.onnx_rules.engine import OnnxNode, onnx_rule
from sofie_rdf.frontends.onnx_values import construct
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import TrueLike
from sofie_rdf.ops.layout import Dropout
from sofie_rdf.ops.random import (
    Bernoulli,
    Multinomial,
    RandomDropout,
    RandomNormal,
    RandomNormalLike,
    RandomUniform,
    RandomUniformLike,
)


def _seed(node: OnnxNode) -> float:
    """The node's seed. Without one it is the CRC-32 of the name of its first output, so that two
    nodes draw different numbers, and a model the same ones whenever it is read.
    """
    given = node.attributes.get("seed")
    return float(zlib.crc32(node.outputs[0].encode()) if given is None else given)


def _drawn(operator: type[Operator], inputs: int, attributes: Mapping[str, type]) -> None:
    @onnx_rule(operator.name, inputs=(inputs, inputs), attributes={**attributes, "seed": float})
    def rule(node: OnnxNode, build: Builder, origin: Origin) -> None:
        values: dict[str, Any] = {**node.attributes, "seed": _seed(node)}
        build(construct(operator, values), *node.inputs, outputs=node.outputs, origin=origin)


_drawn(RandomNormal, 0, {"dtype": int, "mean": float, "scale": float, "shape": tuple})
_drawn(RandomNormalLike, 1, {"dtype": int, "mean": float, "scale": float})
_drawn(RandomUniform, 0, {"dtype": int, "high": float, "low": float, "shape": tuple})
_drawn(RandomUniformLike, 1, {"dtype": int, "high": float, "low": float})
_drawn(Bernoulli, 1, {"dtype": int})
_drawn(Multinomial, 1, {"dtype": int, "sample_size": int})


@onnx_rule(
    "Dropout",
    inputs=(1, 3),
    outputs=2,
    attributes={
        "ratio": float,
        "seed": int,
        "is_test": int,
        "consumed_inputs": tuple,
    },
)
def _dropout(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """In inference x itself, and a mask of which every element is true."""
    training = node.inputs[2] if len(node.inputs) > 2 else ""
    if training and (training not in build.constants or build.constants[training].any()):
        _training_dropout(node, build, origin)
        return
    x = node.inputs[0]
    build(Dropout(), x, outputs=node.outputs[:1], origin=origin)
    if len(node.outputs) > 1 and node.outputs[1]:
        mask, old = node.outputs[1:], node.version < 10
        true = build(TrueLike(), x, outputs=() if old else mask, origin=origin)
        if old:  # The mask was of the element type of x.
            build(Cast(build.types[x].dtype), true, outputs=mask, origin=origin)


def _training_dropout(node: OnnxNode, build: Builder, origin: Origin) -> None:
    x, ratio, training = node.inputs
    if not ratio:
        ratio = build.constant(np.array(0.5))
    elif ratio in build.constants:
        ratio = build.constant(build.constants[ratio].astype(np.float64))
    else:
        ratio = build(Cast(DType.FLOAT64), ratio, origin=origin)
    build(RandomDropout(_seed(node)), x, ratio, training, outputs=node.outputs, origin=origin)
