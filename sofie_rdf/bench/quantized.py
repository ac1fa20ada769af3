"""Networks whose products are of integers of 8 bits, as dynamic quantisation leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sofie_rdf.bench.onnx_net import Net
from sofie_rdf.ir.types import Array

__all__ = ["quantized"]


def _integers(weights: Array, *, signed: bool) -> tuple[Array, float, Array]:
    """The weights in 8 bits, their scale and their zero point."""
    if signed:
        scale = float(np.abs(weights).max()) / 127
        return np.rint(weights / scale).astype(np.int8), scale, np.zeros((), np.int8)
    scale = float(weights.max() - weights.min()) / 255
    zero = np.rint(-weights.min() / scale)
    return np.rint(weights / scale + zero).astype(np.uint8), scale, zero.astype(np.uint8)


def _layer(net: Net, x: str, before: int, after: int, *, signed: bool) -> str:
    """A linear layer as onnxruntime's quantize_dynamic writes it."""
    weights = net.constants[net.weights(before, after, fan_in=before)]
    integers, factor, zero = _integers(weights, signed=signed)
    y = net.add("DynamicQuantizeLinear", x)
    scale, x_zero = f"{y}_scale", f"{y}_zero"
    net.nodes[-1].output.extend((scale, x_zero))
    product = net.add("MatMulInteger", y, net.constant(integers), x_zero, net.constant(zero))
    scales = net.add("Mul", scale, net.constant(np.array(factor, np.float32)))
    scaled = net.add("Mul", net.add("Cast", product, to=1), scales)
    return net.add("Add", scaled, net.offsets(after))


def quantized(widths: Sequence[int], *, signed: bool) -> bytes:
    """Layers of these widths with ReLU between them, with weights in int8 or uint8."""
    net, value = Net(), "x"
    for before, after in pairwise(widths[:-1]):
        value = net.add("Relu", _layer(net, value, before, after, signed=signed))
    value = _layer(net, value, *widths[-2:], signed=signed)
    return net.finish(value, ("N", widths[0]), ("N", widths[-1]))
