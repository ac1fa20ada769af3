"""QONNX: numbers that are rounded to few bits and stay floats, as Brevitas exports them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules._formula import Formula
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array
from sofie_rdf.ops.activations import Ceil, Floor, Round
from sofie_rdf.ops.elementwise import Add, Clip, Div, GreaterOrEqual, Mul, Sub, Where

_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas")
_ROUNDING: Mapping[str, Operator] = {"ROUND": Round(), "CEIL": Ceil(), "FLOOR": Floor()}
_FLOAT32 = np.finfo(np.float32)
_RANGE = {"signed": int, "narrow": int, "rounding_mode": str}


def _formula(node: OnnxNode, build: Builder, origin: Origin) -> Formula:
    return Formula(build, build.type_of(node.inputs[0]).dtype, origin)


def _known(build: Builder, node: OnnxNode, number: int, what: str) -> Array:
    """The numbers of an input that must be a constant."""
    found = build.value_of(node.inputs[number])
    if found is None or found.dtype == object:
        raise UnsupportedOperator(
            f"{node.op_type} with {what} that is computed is not supported",
            remedy="Make it an initializer: qonnx-cleanup does",
        )
    return found.astype(np.float64)


def _bits(build: Builder, node: OnnxNode, number: int) -> int:
    """The number of bits, which is one whole number."""
    given = _known(build, node, number, "a number of bits")
    if given.size != 1:
        raise UnsupportedOperator(f"{node.op_type} with {given.size} numbers of bits")
    bits = float(given.reshape(()))
    if not (1 <= bits <= 64 and bits == int(bits)):
        raise UnsupportedOperator(f"{node.op_type} to {bits:g} bits is not supported")
    return int(bits)


def _bounds(node: OnnxNode, bits: int) -> tuple[int, int]:
    """The least and the largest whole number."""
    signed, narrow = (bool(node.attributes[name]) for name in ("signed", "narrow"))
    if signed:
        return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - narrow


def _require(node: OnnxNode, *names: str) -> None:
    for name in names:
        if name not in node.attributes:
            raise GraphError(f"{node.op_type} lacks its attribute {name!r}")


def _rounding(node: OnnxNode, default: str) -> Operator:
    mode = node.attributes.get("rounding_mode", default)
    if mode.upper() not in _ROUNDING:
        raise UnsupportedOperator(
            f"{node.op_type} with rounding_mode={mode!r} is not supported",
            remedy=f"One of {', '.join(_ROUNDING)} is",
        )
    return _ROUNDING[mode.upper()]


def _sign(f: Formula, x: str) -> str:
    return f(Where(), f(GreaterOrEqual(), x, 0.0), 1.0, -1.0)


def _quant(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """(round(clip(x / scale + zero)) - zero) * scale; one bit with a sign is 1 or -1"""
    _require(node, "signed", "narrow")
    x, scale, zero = node.inputs[:3]
    bits, rounding = _bits(build, node, 3), _rounding(node, "ROUND")
    f = _formula(node, build, origin)
    y = f(Add(), f(Div(), x, scale), zero)
    if bits == 1 and node.attributes["signed"]:
        y = _sign(f, y)
    else:
        y = f(rounding, f(Clip(), y, *_bounds(node, bits)))
    f.give(f(Mul(), f(Sub(), y, zero), scale), node)


def _bipolar(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """scale where x >= 0, and -scale elsewhere"""
    x, scale = node.inputs
    f = _formula(node, build, origin)
    f.give(f(Mul(), _sign(f, x), scale), node)


def _trunc(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """Quant of numbers that have more bits: the lowest ones go, by a power of two"""
    if len(node.inputs) != 7:
        raise UnsupportedOperator(
            f"Trunc with {len(node.inputs)} inputs is not supported",
            remedy="Write it by a newer qonnx, which gives Trunc an output scale: it has 7 inputs",
        )
    _require(node, "signed", "narrow", "rounding_mode")
    x, scale, zero, _, given = node.inputs[:5]
    bits, rounding = _bits(build, node, 6), _rounding(node, "FLOOR")
    scales = [_known(build, node, n, "a scale") for n in (1, 4)]
    if any(np.any(~np.isfinite(s) | (s <= 0)) for s in scales):
        raise GraphError("Trunc has a scale that is not positive")
    f = _formula(node, build, origin)
    with np.errstate(over="ignore"):
        power = 2 ** np.rint(np.log2(scales[1]) - np.log2(scales[0]))
    if np.any((power < _FLOAT32.tiny) | (power > _FLOAT32.max)):
        raise GraphError("Trunc has scales of which one is nothing beside the other")
    shift = build.constant(power.astype(f.dtype.numpy))
    y = f(Round(), f(Add(), f(Div(), x, scale), zero))
    y = f(rounding, f(Clip(), f(Div(), y, shift), *_bounds(node, bits)))
    f.give(f(Mul(), f(Sub(), y, f(Div(), zero, shift)), given), node)


for _domain in _DOMAINS:
    onnx_rule("Quant", domain=_domain, inputs=(4, 4), attributes=_RANGE)(_quant)
    onnx_rule("BipolarQuant", domain=_domain, inputs=(2, 2))(_bipolar)
    onnx_rule("Trunc", domain=_domain, inputs=(5, 7), attributes=_RANGE)(_trunc)
