"""com.microsoft: layers that onnxruntime's optimiser has joined, in terms of ONNX's operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sofie_rdf.errors import GraphError, ShapeError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules._formula import Formula
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ops.convolution import Conv
from sofie_rdf.ops.elementwise import (
    Add,
    Clip,
    Elu,
    Gelu,
    HardSigmoid,
    LeakyRelu,
    Mul,
    Relu,
    Sigmoid,
    Softplus,
    Softsign,
    Swish,
    Tanh,
    ThresholdedRelu,
)
from sofie_rdf.ops.layout import Transpose
from sofie_rdf.ops.linear import Gemm, MatMul

MICROSOFT = "com.microsoft"


def formula_of(node: OnnxNode, build: Builder, origin: Origin) -> Formula:
    """Arithmetic in the element type of the first input."""
    return Formula(build, build.type_of(node.inputs[0]).dtype, origin)


def optional(node: OnnxNode, number: int) -> str:
    """The name of an input that may be absent: empty if it is."""
    return node.inputs[number] if number < len(node.inputs) else ""


def refuse_inputs(node: OnnxNode, names: Mapping[int, str], remedy: str) -> None:
    """`UnsupportedOperator` if one of these inputs is there."""
    for number, name in names.items():
        if optional(node, number):
            raise UnsupportedOperator(
                f"{node.op_type} with the input {name!r} is not supported", remedy=remedy
            )


def refuse_outputs(node: OnnxNode, names: Mapping[int, str], remedy: str) -> None:
    """`UnsupportedOperator` if one of these outputs is wanted."""
    for number, name in names.items():
        if number < len(node.outputs) and node.outputs[number]:
            raise UnsupportedOperator(
                f"{node.op_type} with the output {name!r} is not supported", remedy=remedy
            )


UNFUSED = "Save the model with a lower graph_optimization_level of onnxruntime"

# Activations --------------------------------------------------------------------------------------

_ACTIVATIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "Elu": (1, Elu),
    "HardSigmoid": (2, HardSigmoid),
    "LeakyRelu": (1, LeakyRelu),
    "Relu": (0, Relu),
    "Sigmoid": (0, Sigmoid),
    "Softplus": (0, Softplus),
    "Softsign": (0, Softsign),
    "Tanh": (0, Tanh),
    "ThresholdedRelu": (1, ThresholdedRelu),
}


def _activated(f: Formula, node: OnnxNode, x: str, numbers: Sequence[float]) -> str:
    """The activation that the node names, with these parameters."""
    name = node.attributes.get("activation", "")
    if not name:
        return x
    if name == "Clip":
        _require_numbers(node, name, 2, numbers)
        return f(Clip(), x, *numbers)
    if name not in _ACTIVATIONS:
        raise UnsupportedOperator(f"{node.op_type} has no activation {name!r}", remedy=UNFUSED)
    count, operator = _ACTIVATIONS[name]
    _require_numbers(node, name, count, numbers)
    return f(operator(*numbers[:count]), x)


def _require_numbers(node: OnnxNode, name: str, count: int, numbers: Sequence[float]) -> None:
    if len(numbers) < count:
        raise GraphError(f"{node.op_type} lacks parameters of its activation {name}: {count}")


_CONVOLUTION = {
    "auto_pad": str,
    "dilations": tuple,
    "group": int,
    "kernel_shape": tuple,
    "pads": tuple,
    "strides": tuple,
}


@onnx_rule(
    "FusedConv",
    domain=MICROSOFT,
    inputs=(2, 4),
    attributes={**_CONVOLUTION, "activation": str, "activation_params": tuple},
)
def _fused_conv(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """activation(Conv(x, w) + b + z)"""
    f = formula_of(node, build, origin)
    given = {name: node.attributes[name] for name in _CONVOLUTION if name in node.attributes}
    bias, other = optional(node, 2), optional(node, 3)
    y = f(Conv(**given), *node.inputs[:2], *([bias] if bias else []))
    if other:
        y = _same_shape(f, node, y, f(Add(), y, other))
    numbers = node.attributes.get("activation_params", ())
    f.give(_activated(f, node, y, numbers), node)


def _same_shape(f: Formula, node: OnnxNode, x: str, total: str) -> str:
    """The sum, if what was added to x did not make it larger."""
    shape, wanted = f.build.type_of(total).shape, f.build.type_of(x).shape
    if shape != wanted:
        raise ShapeError(f"{node.op_type} adds what has other sizes than {f.build.type_of(x)}")
    return total


_GEMM = {"alpha": float, "beta": float, "transA": int, "transB": int}
_OF_ACTIVATION = ("activation_alpha", "activation_beta", "activation_gamma")


@onnx_rule(
    "FusedGemm",
    domain=MICROSOFT,
    inputs=(2, 3),
    attributes={**_GEMM, "activation": str, **dict.fromkeys(_OF_ACTIVATION, float)},
)
def _fused_gemm(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """activation(alpha * op(a) @ op(b) + beta * c)"""
    f = formula_of(node, build, origin)
    given = {n: v for n, v in node.attributes.items() if n in _GEMM}
    turned = {n: bool(v) for n, v in given.items() if n.startswith("trans")}
    y = f(Gemm(**{**given, **turned}), *(i for i in node.inputs if i))
    numbers = [node.attributes[n] for n in _OF_ACTIVATION if n in node.attributes]
    f.give(_activated(f, node, y, numbers), node)


_PRODUCT = {
    "alpha": float,
    **dict.fromkeys(("transA", "transB", "transBatchA", "transBatchB"), int),
}


@onnx_rule("FusedMatMul", domain=MICROSOFT, inputs=(2, 2), attributes=_PRODUCT)
def _fused_matmul(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """alpha * op(a) @ op(b)

    transA swaps the last two axes. transBatchA first puts the first axis behind those of the batch.
    """
    f = formula_of(node, build, origin)
    factors = [
        _turned(f, value, node.attributes, side)
        for value, side in zip(node.inputs, "AB", strict=True)
    ]
    y = f(MatMul(), *factors)
    alpha = node.attributes.get("alpha", 1.0)
    f.give(y if alpha == 1 else f(Mul(), y, alpha), node)


def _turned(f: Formula, x: str, attributes: Mapping[str, Any], side: str) -> str:
    rank = f.build.type_of(x).rank
    if rank < 2:
        return x
    *batch, row, column = range(rank)
    if attributes.get(f"transBatch{side}", 0):
        *batch, row = [*batch[1:], row, 0] if batch else [row]
    if attributes.get(f"trans{side}", 0):
        row, column = column, row
    perm = (*batch, row, column)
    return x if perm == tuple(range(rank)) else f(Transpose(perm), x)


# Functions of elements ----------------------------------------------------------------------------


@onnx_rule("Gelu", domain=MICROSOFT)
def _gelu(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """x * (1 + erf(x / sqrt 2)) / 2"""
    build(Gelu(), *node.inputs, outputs=node.outputs, origin=origin)


@onnx_rule("QuickGelu", domain=MICROSOFT, attributes={"alpha": float})
def _quick_gelu(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """x * sigmoid(alpha * x), alpha is 1.702 if it is not given"""
    alpha = node.attributes.get("alpha", 1.702)
    build(Swish(alpha), *node.inputs, outputs=node.outputs, origin=origin)


@onnx_rule("BiasGelu", domain=MICROSOFT, inputs=(2, 2))
def _bias_gelu(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Gelu(x + bias)"""
    _gelu_behind_bias(Gelu(), node, build, origin)


@onnx_rule("FastGelu", domain=MICROSOFT, inputs=(1, 2))
def _fast_gelu(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Gelu(x + bias) in the form with tanh; the bias may be absent"""
    _gelu_behind_bias(Gelu("tanh"), node, build, origin)


def _gelu_behind_bias(op: Gelu, node: OnnxNode, build: Builder, origin: Origin) -> None:
    f = formula_of(node, build, origin)
    x, bias = node.inputs[0], optional(node, 1)
    if bias:
        if build.type_of(bias).rank != 1:
            raise ShapeError(f"{node.op_type} needs a bias with one axis")
        x = _same_shape(f, node, x, f(Add(), x, bias))
    build(op, x, outputs=node.outputs, origin=origin)
