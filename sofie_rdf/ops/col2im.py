"""Blocks that are laid over an image: the opposite of taking patches out of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import UNKNOWN, Dim, number_of, require_equal
from sofie_rdf.ir.operator import (
    Call,
    Operand,
    Operator,
    Sizes,
    Struct,
    Tensor,
    from_input,
    operator,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.ir.windows import (
    Window,
    counts_of,
    index_of,
    positions_of,
    require_count,
    slices_of,
    taps_of,
    windows,
)
from sofie_rdf.ops._room import require_room
from sofie_rdf.ops.elementwise import NUMBERS

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value

_ALL = slice(None)


@operator(domain="sofie", header="sofie/kernels/convolution/transposed.hxx", terms=2)
class RuntimeCol2Im(Operator):
    """Col2Im where the sizes of the image and of its blocks are data"""

    decides_sizes: ClassVar[bool] = True

    dilations: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    def infer(self, x: TensorType, image_shape: TensorType, block_shape: TensorType) -> TensorType:
        axes = image_shape.shape[0] if image_shape.rank == 1 else None
        if x.dtype not in NUMBERS or {image_shape.dtype, block_shape.dtype} != {DType.INT64}:
            raise TypeMismatch("needs numbers, and sizes of int64")
        if not isinstance(axes, int) or block_shape.shape != (axes,) or x.rank != 3 or not axes:
            raise ShapeError("needs x[N, C * block, L], and as many sizes of blocks as of images")
        return TensorType(x.dtype, (x.shape[0], UNKNOWN, *(UNKNOWN,) * axes))

    def reference(self, x: Array, image_shape: Array, block_shape: Array) -> Array:
        image, block = (tuple(int(i) for i in s) for s in (image_shape, block_shape))
        fixed = Col2Im(image, block, self.dilations, self.pads, self.strides)
        # Only the shape is checked: numbers may be of a type wider than any DType.
        fixed.infer(TensorType(DType.FLOAT64, x.shape))
        return fixed.reference(x)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x, image, block), (y,) = inputs, outputs
        assert x is not None and image is not None and block is not None
        axes = y.type.rank - 2
        pads = self.pads or (0,) * (2 * axes)
        strides, dilations = self.strides or (1,) * axes, self.dilations or (1,) * axes
        require_count("strides", strides, axes)
        require_count("dilations", dilations, axes)
        require_count("pads", pads, 2 * axes, least=0)
        sizes = (Sizes(strides), Sizes(dilations), Sizes(pads[:axes]), Sizes(pads[axes:]))
        return Call("sofie::runtime_col2im", (*sizes, *map(Tensor, (y, x, image, block))))


@operator(since=18, header="sofie/kernels/convolution/transposed.hxx", terms=2)
class Col2Im(Operator):
    """y[n, c, stride * l + dilation * k - pad] += x[n, (c, k), l], where y begins with zeros"""

    runtime: ClassVar[type[Operator] | None] = RuntimeCol2Im

    image_shape: Shape = from_input(1)
    block_shape: tuple[int, ...] = from_input(2)
    dilations: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    @property
    def slides(self) -> tuple[Window, ...]:
        """The blocks, an axis each."""
        return windows(
            self.image_shape,
            self.block_shape,
            strides=self.strides,
            dilations=self.dilations,
            pads=self.pads,
        )

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype not in NUMBERS:
            raise TypeMismatch(f"is not defined for {x.dtype}")
        if x.rank != 3 or not self.image_shape:
            raise ShapeError("needs x[N, C * block, L] and the size of an image")
        slides = self.slides
        taps, blocks = taps_of(slides), positions_of(slides)
        require_equal(x.shape[2], blocks, f"{x.shape[2]} blocks are not {blocks}")
        if x.shape[1] % taps != 0:
            raise ShapeError(f"cannot divide {x.shape[1]} by the {taps} elements of a block")
        return TensorType(x.dtype, (x.shape[0], x.shape[1] // taps, *self.image_shape))

    def reference(self, x: Array) -> Array:
        slides = self.slides
        counts, kernel = counts_of(slides), tuple(s.kernel for s in slides)
        channels = x.shape[1] // taps_of(slides)
        columns: Any = x.reshape(x.shape[0], channels, *kernel, *counts)
        sizes = [number_of(s.size) + number_of(s.begin) + number_of(s.end) for s in slides]
        require_room("the image with its pads", (x.shape[0], channels, *sizes), x)
        padded: Any = np.zeros((x.shape[0], channels, *sizes), x.dtype)
        for tap, where in slices_of(slides):
            padded[index_of(..., *where)] += columns[index_of(_ALL, _ALL, *tap)]
        inner = (slice(number_of(s.begin), number_of(s.begin) + number_of(s.size)) for s in slides)
        return np.ascontiguousarray(padded[index_of(..., *inner)])

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,), (y,) = inputs, outputs
        assert x is not None
        slides = self.slides
        columns: tuple[tuple[Dim, ...], ...] = (
            self.image_shape,
            tuple(s.kernel for s in slides),
            tuple(s.stride for s in slides),
            tuple(s.dilation for s in slides),
            tuple(s.begin for s in slides),
            tuple(s.count for s in slides),
        )
        images = y.type.shape[0] * y.type.shape[1]
        arguments = (
            images,
            Struct(f"sofie::Col2ImShape<{len(slides)}>", tuple(map(Sizes, columns))),
            Tensor(y, (y.type.size,)),
            Tensor(x, (x.type.size,)),
        )
        return Call("sofie::col2im", arguments)

    def pullback(self, back: Backward) -> Value:
        # A convolution with a feature for each element of a block, which is that element.
        slides, x = self.slides, back.x
        kernel = tuple(s.kernel for s in slides)
        taps = math.prod(kernel)
        limits.spend(bytes=8 * taps * taps, what="the gradient of Col2Im")
        picks = np.eye(taps, dtype=x.dtype.numpy).reshape((taps, 1, *kernel))
        images = back.g.reshape((x.shape[0] * back.g.shape[1], 1, *back.g.shape[2:]))
        blocks = images.apply(
            "Conv",
            back.tape.constant(picks),
            strides=tuple(s.stride for s in slides),
            dilations=tuple(s.dilation for s in slides),
            pads=(*(s.begin for s in slides), *(s.end for s in slides)),
        )
        return blocks.reshape(x.shape)
