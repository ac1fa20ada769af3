"""com.microsoft: networks of whole numbers that onnxruntime's quantisation tools write.

An operator on quantised numbers is the one on floats between DequantizeLinear and QuantizeLinear,
as onnxruntime defines it. Products are those of whole numbers, and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sofie_rdf.errors import GraphError, ShapeError, TypeMismatch
from sofie_rdf.frontends.onnx.rules._formula import Formula
from sofie_rdf.frontends.onnx.rules.contrib_fused import MICROSOFT, optional
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import DType, normal_axis
from sofie_rdf.ops.elementwise import Add, Div, Floor, LeakyRelu, Mul, Sigmoid, Where
from sofie_rdf.ops.layout import Concat, Transpose
from sofie_rdf.ops.normalization import FlatSoftmax, Softmax
from sofie_rdf.ops.pooling import AveragePool, GlobalAveragePool
from sofie_rdf.ops.quantization import (
    DequantizeLinear,
    DynamicQuantizeLinear,
    MatMulInteger,
    QuantizeLinear,
)

# Elements -----------------------------------------------------------------------------------------


def _floats(build: Builder, origin: Origin) -> Formula:
    return Formula(build, DType.FLOAT32, origin)


def _real(f: Formula, x: str, scale: str, zero: str) -> str:
    """The numbers that x stands for; there is one scale, and one zero point or none."""
    _require_one(f, scale, zero)
    return f(DequantizeLinear(), x, scale, *([zero] if zero else []))


def _give_quantized(f: Formula, y: str, scale: str, zero: str, x: str, node: OnnxNode) -> None:
    """y as whole numbers of the type of the zero point; without one, of the type of x."""
    _require_one(f, scale, zero)
    op = QuantizeLinear(output_dtype=None if zero else f.build.type_of(x).dtype)
    f.give(f(op, y, scale, *([zero] if zero else [])), node)


def _require_one(f: Formula, *values: str) -> None:
    for value in filter(None, values):
        if f.build.type_of(value).size != 1:
            raise ShapeError(f"needs one scale and one zero point, not {f.build.type_of(value)}")


def _binary(name: str, op: Callable[[], Any]) -> None:
    """Inputs are a, its scale and zero point, the same of b, and scale and zero point of y."""

    @onnx_rule(name, domain=MICROSOFT, inputs=(1, 8))
    def rule(node: OnnxNode, build: Builder, origin: Origin) -> None:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale = _named(node, 7, absent=(2, 5))
        f = _floats(build, origin)
        y = f(op(), _real(f, a, a_scale, a_zero), _real(f, b, b_scale, b_zero))
        _give_quantized(f, y, y_scale, optional(node, 7), a, node)

    rule.__doc__ = f"{op.__name__} of numbers with scales, quantised again"


def _named(node: OnnxNode, count: int, absent: tuple[int, ...]) -> list[str]:
    """The first inputs, of which only those at some places may be absent."""
    given = [optional(node, number) for number in range(count)]
    for number, value in enumerate(given):
        if not value and number not in absent:
            raise GraphError(f"{node.op_type} lacks an input: it has {list(node.inputs)}")
    return given


_binary("QLinearAdd", Add)
_binary("QLinearMul", Mul)


# (node, rank of x) -> operator on floats
_Make = Callable[[OnnxNode, int], Any]


def _unary(name: str, formula: str, attributes: dict[str, type], make: _Make) -> None:
    """Inputs are x, its scale and zero point, and scale and zero point of y."""

    @onnx_rule(name, domain=MICROSOFT, inputs=(1, 5), attributes=attributes)
    def rule(node: OnnxNode, build: Builder, origin: Origin) -> None:
        x, x_scale, x_zero, y_scale = _named(node, 4, absent=(2,))
        f = _floats(build, origin)
        real = _real(f, x, x_scale, x_zero)
        rank = build.type_of(x).rank
        last = bool(node.attributes.get("channels_last", 0))
        if last:
            real = f(Transpose((0, rank - 1, *range(1, rank - 1))), real)
        y = f(make(node, rank), real)
        if last:
            y = f(Transpose((0, *range(2, rank), 1)), y)
        _give_quantized(f, y, y_scale, optional(node, 4), x, node)

    rule.__doc__ = formula


def _leaky_relu(node: OnnxNode, _: int) -> LeakyRelu:
    return LeakyRelu(node.attributes.get("alpha", 0.01))


def _average_pool(node: OnnxNode, _: int) -> AveragePool:
    given = {n: v for n, v in node.attributes.items() if n != "channels_last"}
    if "kernel_shape" not in given:
        raise GraphError("QLinearAveragePool lacks its attribute 'kernel_shape'")
    for name in ("ceil_mode", "count_include_pad"):
        given[name] = bool(given.get(name, 0))
    return AveragePool(**given)


def _softmax(node: OnnxNode, rank: int) -> Softmax | FlatSoftmax:
    opset = node.attributes.get("opset")
    if opset is None:
        raise GraphError("QLinearSoftmax lacks its attribute 'opset'")
    if opset >= 13:
        return Softmax(node.attributes.get("axis", -1))
    return FlatSoftmax(normal_axis(node.attributes.get("axis", 1), rank, end=True))


_POOL = {
    **dict.fromkeys(("kernel_shape", "pads", "strides"), tuple),
    **dict.fromkeys(("ceil_mode", "channels_last", "count_include_pad"), int),
    "auto_pad": str,
}
_unary("QLinearLeakyRelu", "LeakyRelu, quantised again", {"alpha": float}, _leaky_relu)
_unary("QLinearSigmoid", "Sigmoid, quantised again", {}, lambda *_: Sigmoid())
_unary("QLinearAveragePool", "AveragePool, quantised again", _POOL, _average_pool)
_unary(
    "QLinearGlobalAveragePool",
    "GlobalAveragePool, quantised again",
    {"channels_last": int},
    lambda *_: GlobalAveragePool(),
)


@onnx_rule(
    "QLinearSoftmax",
    domain=MICROSOFT,
    inputs=(1, 5),
    attributes={"axis": int, "opset": int},
)
def _quantized_softmax(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Softmax, quantised again: 1 has floor(1 / y_scale) steps, which onnxruntime defines"""
    x, x_scale, x_zero, y_scale = _named(node, 4, absent=(2,))
    f = _floats(build, origin)
    y = f(_softmax(node, build.type_of(x).rank), _real(f, x, x_scale, x_zero))
    _require_one(f, y_scale)
    steps = f(Mul(), y, f(Floor(), f(Div(), 1.0, y_scale)))
    _give_quantized(f, steps, f.constant(1), optional(node, 4), x, node)


@onnx_rule("QLinearConcat", domain=MICROSOFT, inputs=(5, 10_000), attributes={"axis": int})
def _concat(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Concat of numbers that have scales of their own, quantised again"""
    y_scale, y_zero, *rest = node.inputs
    if len(rest) % 3 or "axis" not in node.attributes:
        raise GraphError("QLinearConcat has x, scale and zero point of each input, and an axis")
    f = _floats(build, origin)
    parts = [_real(f, *rest[i : i + 3]) for i in range(0, len(rest), 3)]
    y = f(Concat(node.attributes["axis"]), *parts)
    _give_quantized(f, y, y_scale, y_zero, rest[0], node)


@onnx_rule("QLinearWhere", domain=MICROSOFT, inputs=(9, 9))
def _where(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Where of numbers that have scales of their own, quantised again"""
    condition, x, x_scale, x_zero, y, y_scale, y_zero, scale, zero = node.inputs
    f = _floats(build, origin)
    chosen = f(Where(), condition, _real(f, x, x_scale, x_zero), _real(f, y, y_scale, y_zero))
    _give_quantized(f, chosen, scale, zero, x, node)


_BLOCKS = {"axis": int, "block_size": int}


@onnx_rule("QuantizeLinear", domain=MICROSOFT, inputs=(2, 3), attributes=_BLOCKS)
def _quantize(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """As in ONNX, for element types that older operator sets do not have"""
    op = QuantizeLinear(**node.attributes)
    build(op, *node.inputs, outputs=node.outputs, origin=origin)


@onnx_rule("DequantizeLinear", domain=MICROSOFT, inputs=(2, 3), attributes=_BLOCKS)
def _dequantize(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """As in ONNX, for element types that older operator sets do not have"""
    op = DequantizeLinear(**node.attributes)
    build(op, *node.inputs, outputs=node.outputs, origin=origin)


# Products -----------------------------------------------------------------------------------------


def whole_product(f: Formula, a: str, b: str, a_zero: str, b_zero: str) -> str:
    """The product of whole numbers less their zero points."""
    zeros = [a_zero, b_zero]
    while zeros and not zeros[-1]:
        zeros.pop()
    return f(MatMulInteger(), a, b, *zeros)


def scaled_product(f: Formula, product: str, *scales: str) -> str:
    """A product as floats, by scales that are multiplied first."""
    first, *rest = scales
    for scale in rest:
        first = f(Mul(), first, scale)
    return f(Mul(), f.cast(product), first)


@onnx_rule("MatMulIntegerToFloat", domain=MICROSOFT, inputs=(4, 7))
def _matmul_to_float(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """(a - a_zero) @ (b - b_zero) * a_scale * b_scale + bias"""
    a, b, a_scale, b_scale = node.inputs[:4]
    f = _floats(build, origin)
    _require_one(f, a_scale, optional(node, 4))
    y = whole_product(f, a, b, optional(node, 4), optional(node, 5))
    f.give(_biased(f, scaled_product(f, y, a_scale, b_scale), optional(node, 6)), node)


@onnx_rule("DynamicQuantizeMatMul", domain=MICROSOFT, inputs=(3, 5))
def _dynamic_matmul(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """MatMulIntegerToFloat of x as DynamicQuantizeLinear quantises it"""
    x, b, b_scale = node.inputs[:3]
    f = _floats(build, origin)
    names = [build.fresh(stem) for stem in ("quantized", "scale", "zero")]
    build(DynamicQuantizeLinear(), x, outputs=names, origin=origin)
    quantized, scale, zero = names
    y = whole_product(f, quantized, b, zero, optional(node, 3))
    f.give(_biased(f, scaled_product(f, y, scale, b_scale), optional(node, 4)), node)


def _biased(f: Formula, y: str, bias: str) -> str:
    return f(Add(), y, bias) if bias else y


@onnx_rule(
    "QGemm",
    domain=MICROSOFT,
    inputs=(6, 9),
    attributes={"alpha": float, "transA": int, "transB": int},
)
def _qgemm(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """alpha * a_scale * b_scale * (op(a) @ op(b) + c), quantised again if there is a scale of y"""
    a, a_scale, a_zero, b, b_scale, b_zero = node.inputs[:6]
    c, y_scale, y_zero = (optional(node, number) for number in (6, 7, 8))
    f = _floats(build, origin)
    _require_one(f, a_scale, a_zero)
    if any(build.type_of(v).rank != 2 for v in (a, b)):
        raise ShapeError("QGemm multiplies matrices, which have two axes")
    a, b = (
        f(Transpose((1, 0)), v) if node.attributes.get(name, 0) else v
        for v, name in ((a, "transA"), (b, "transB"))
    )
    total = whole_product(f, a, b, a_zero, b_zero)
    if c:
        if build.type_of(c).dtype is not DType.INT32:
            raise TypeMismatch(f"QGemm needs int32 for c, not {build.type_of(c)}")
        total = f(Add(), total, c)
    scale = f(Mul(), a_scale, b_scale)
    alpha = node.attributes.get("alpha", 1.0)
    scale = scale if alpha == 1 else f(Mul(), alpha, scale)
    if not y_scale:
        if y_zero:
            raise GraphError("QGemm has a zero point of y, but no scale")
        f.give(scaled_product(f, total, scale), node)
        return
    _require_one(f, y_scale, y_zero)
    # The scales are divided first, and the product is rounded once: onnxruntime does so.
    steps = scaled_product(f, total, f(Div(), scale, y_scale))
    _give_quantized(f, steps, f.constant(1), y_zero, a, node)
