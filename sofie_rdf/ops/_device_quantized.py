"""The kernels of devices for integers of few bits: with scales, and their products."""

from __future__ import annotations

from collections.abc import Sequence

from sofie_rdf.errors import TypeMismatch
from sofie_rdf.ir.dims import Dim, ceil_div, minimum, product
from sofie_rdf.ir.operator import Launch, Operand, Sizes, flag
from sofie_rdf.ir.types import DType, Shape, TensorType
from sofie_rdf.ir.windows import Window
from sofie_rdf.ops._device import TILE_ALONE, gemm_tile, require_known, strides, tile_class
from sofie_rdf.ops._device_windows import window_sizes

__all__ = [
    "dequantized",
    "extremes_of",
    "integer_convolution",
    "integer_products",
    "quantized",
    "quantized_dynamically",
    "requantized",
]

HEADER = "sofie/device/quantize.hxx"
_ITEMS = 256
# A part of a tensor whose extremes a work-group looks for, and the most parts there are.
_PART, _PARTS = 16 * _ITEMS, 512
INTEGERS = DType.INT8, DType.UINT8, DType.INT16, DType.UINT16, DType.INT32
Given = Sequence["Operand | None"]


def _require(*operands: Operand) -> None:
    require_known(*operands)
    for one in operands:
        if one.type.dtype not in (*INTEGERS, DType.FLOAT32):
            raise TypeMismatch(
                f"devices know no quantised {one.type.dtype}",
                remedy="Quantise to 8 or 16 bits, with scales in float32",
            )


def _scaled(kernel: str, y: Operand, given: Given, blocks: tuple[bool, Sizes]) -> Launch:
    present = [o for o in given if o is not None]
    _require(y, *present)
    each, shape = blocks
    # A struct in braces: whether each has its own, and the shape.
    parameters = int(each), shape
    return Launch(f"sofie::device::{kernel}", parameters, (y, *present), y.type.size, HEADER)


def quantized(
    y: Operand, given: Given, blocks: tuple[bool, Sizes], precision: DType
) -> tuple[Launch, ...]:
    """x / scale + zero, rounded; the division is in this type."""
    if precision not in (DType.FLOAT32, DType.FLOAT64):
        raise TypeMismatch(f"devices do not divide in {precision}", remedy="Divide in float32")
    return (_scaled(f"Quantize<{precision.on_device}>", y, given, blocks),)


def dequantized(y: Operand, given: Given, blocks: tuple[bool, Sizes]) -> tuple[Launch, ...]:
    """(x - zero) * scale, in float32."""
    return (_scaled("Dequantize", y, given, blocks),)


def extremes_of(x: TensorType) -> TensorType:
    """The least and the largest element of each part of x."""
    return TensorType(DType.FLOAT32, (_parts(x), 2))


def _parts(x: TensorType) -> Dim:
    return minimum(ceil_div(x.size, _PART), _PARTS)


def quantized_dynamically(x: Operand, outputs: Sequence[Operand]) -> tuple[Launch, ...]:
    """Extremes of parts, then of all, then what they say of each element."""
    y, scale, zero, extremes = outputs
    parts, whole = _parts(x.type), x.type.size
    find = f"sofie::device::Extremes<{_ITEMS}>"
    join = f"sofie::device::DynamicScale<{_ITEMS}>"
    blocks = False, Sizes((1, 1, whole, 1, 0))
    return (
        Launch(find, (whole, parts), (extremes, x), parts, HEADER, "groups"),
        Launch(join, (2 * parts,), (scale, zero, extremes), 1, HEADER, "groups", outputs=2),
        *quantized(y, (x, scale, zero), blocks, DType.FLOAT32),
    )


def integer_products(
    y: Operand,
    given: Given,
    sizes: tuple[Dim, Dim, Dim],
    zeros: tuple[tuple[Dim, Dim], tuple[Dim, Dim]],
    batch: tuple[Sizes, Sizes, Sizes],
) -> tuple[Launch, ...]:
    """(a - a_zero) @ (b - b_zero) for m, k and n; ``zeros`` are steps per matrix and per vector."""
    m, k, n = sizes
    present = [o for o in given if o is not None]
    flags = ", ".join(flag(o) for o in (*given, None, None)[2:4])
    parameters = m, n, k, *map(Sizes, zeros), *batch

    def cut(tile: tuple[int, ...]) -> tuple[str, Dim]:
        kernel = f"sofie::device::IntegerGemm<{tile_class(tile)}, {len(batch[0].dims)}, {flags}>"
        return kernel, product(batch[0].dims) * ceil_div(m, tile[0]) * ceil_div(n, tile[1])

    kernel, count = cut(gemm_tile(n))
    alone = cut(TILE_ALONE)
    return (Launch(kernel, parameters, (y, *present), count, HEADER, "groups", alone=alone),)


def integer_convolution(
    y: Operand, given: Given, counts: tuple[Dim, Dim, int], slides: Sequence[Window]
) -> tuple[Launch, ...]:
    """conv(x - x_zero, w - w_zero) for channels, features and groups."""
    present = [o for o in given if o is not None]
    *_, x_zero, w_zero = (*given, None, None)[:4]
    each = w_zero is not None and w_zero.type.size != 1
    kernel = f"sofie::device::IntegerConv<{len(slides)}, {flag(x_zero)}, {flag(w_zero)}>"
    parameters = *counts, window_sizes(slides), int(each)
    return (Launch(kernel, parameters, (y, *present), y.type.size, HEADER),)


def requantized(
    y: Operand, sums: Operand, given: Sequence[Operand], shapes: Sequence[Shape], precision: DType
) -> tuple[Launch, ...]:
    """Sums in int32 as integers of y: the scales of a, b and y, the zero point, and maybe a bias.

    ``shapes`` are those of y, and of what is broadcast to it: the scales of a and b, and the bias.
    """
    _require(y, *given)
    shape, *others = shapes
    rank = len(shape)
    broadcast = [strides((*(1,) * (rank - len(one)), *one)) for one in others]
    kernel = f"sofie::device::Requantize<{precision.on_device}, {rank}>"
    tensors, count = (y, sums, *given), product(shape)
    return (Launch(kernel, (Sizes(shape), *broadcast), tensors, count, HEADER),)
