"""Random numbers, and Dropout: a seed for every node, the newest form for every opset."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.frontends.onnx.values import construct
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
    """The node's seed, which ONNX has as a float, and other writers as an integer.

    Without one it is 0: nodes draw different numbers all the same.
    """
    return float(node.attributes.get("seed", 0.0))


def _drawn(operator: type[Operator], inputs: int, attributes: Mapping[str, type]) -> None:
    @onnx_rule(operator.name, inputs=(inputs, inputs), attributes={**attributes, "seed": Real})
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
    attributes={"ratio": float, "seed": Real, "is_test": int},
)
def _dropout(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """In inference x itself, and a mask of which every element is true."""
    x, ratio, training = (*node.inputs, "", "")[:3]
    mask = node.outputs[1] if len(node.outputs) > 1 else ""
    # The mask was of the element type of x.
    true = build.fresh(mask) if mask and node.version < 10 else mask
    if node.version < 7 and not node.attributes.get("is_test", 0):
        ratio = build.constant(np.array(node.attributes.get("ratio", 0.5), np.float32))
        training = build.constant(np.array(True))
    if training and (training not in build.constants or build.constants[training].any()):
        op = RandomDropout(_seed(node))
        share = _share(build, ratio, origin)
        build(op, x, share, training, outputs=(node.outputs[0], true), origin=origin)
    else:
        build(Dropout(), x, outputs=node.outputs[:1], origin=origin)
        if mask:
            build(TrueLike(), x, outputs=(true,), origin=origin)
    if mask != true:
        build(Cast(build.type_of(x).dtype), true, outputs=(mask,), origin=origin)


def _share(build: Builder, ratio: str, origin: Origin) -> str:
    """The share of what is dropped, in float64."""
    if not ratio:
        return build.constant(np.array(0.5))
    if ratio in build.constants:
        return build.constant(build.constants[ratio].astype(np.float64))
    return build(Cast(DType.FLOAT64), ratio, origin=origin)
