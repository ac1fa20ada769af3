"""Convolutions with fewer multiplications, where they are large enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.operator import Call, Operand, Operator, operator
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.kernels.choice import Choice
from sofie_rdf.kernels.winograd import (
    LEAST_CHANNELS,
    LEAST_FEATURES,
    WINOGRAD,
    WINOGRAD_HEADER,
    WINOGRAD_SIZES,
    inputs_of_a_tile,
)
from sofie_rdf.ops.convolution import ConvLayer
from sofie_rdf.ops.elementwise import FLOATS

__all__ = ["WinogradConv"]


@operator(domain="sofie", terms=2, ulp=8, header=WINOGRAD_HEADER)
class WinogradConv(ConvLayer):
    """y = activation(Conv(x, w, b) + added), 4 x 4 results of a channel by 6 x 6 or 8 x 8 products

    Its error is that of a sum in which each input is as large as the largest of its channel that
    is less than a tile away in height and width, and each weight as large as the largest of its
    channel, feature and depth: an input of 0 beside one of 1e6 adds what is lost of 1e6. An event
    of which the largest input is not finite or not between 2^-40 and 2^40 is computed as in
    `ConvLayer`, and every event is where the largest weight of a feature is not between 2^-80 and
    2^40. What is 0 throughout fits as well.
    """

    # Half precision is computed as float32.
    dtypes: ClassVar[frozenset[DType]] = FLOATS - {DType.FLOAT64}
    # It is a form for CPUs.
    on_device = Operator.on_device

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        b: TensorType | None = None,
        added: TensorType | None = None,
    ) -> TensorType:
        y = super().infer(x, w, b, added)  # type: ignore[arg-type]
        if x.dtype not in self.dtypes:
            raise TypeMismatch(f"is not defined for {x.dtype}")
        features, channels = w.shape[:2]
        if not isinstance(features, int) or not isinstance(channels, int) or x.rank < 4:
            raise ShapeError("needs known channels and features, and 2 or 3 axes of space")
        if features < LEAST_FEATURES or channels < LEAST_CHANNELS:
            needed = f"{LEAST_FEATURES} features and {LEAST_CHANNELS} channels"
            raise ShapeError(f"needs {needed}")
        if {1} != {self.group, *(self.strides or (1,)), *(self.dilations or (1,))}:
            raise ShapeError("needs one group, and strides and dilations of 1")
        if not {*self.kernel(w.shape[2:])[-2:]} <= {*range(2, max(WINOGRAD_SIZES) + 1)}:
            raise ShapeError(f"needs a kernel of 2 to {max(WINOGRAD_SIZES)} in height and width")
        return y

    def reference(
        self, x: Array, w: Array, b: Array | None = None, added: Array | None = None
    ) -> Array:
        return super().reference(x, w, b, added)  # type: ignore[arg-type]

    def inputs_of_a_tile(self, x: Shape, w: Shape) -> int:
        """How many a tile has along an axis."""
        types = (TensorType(DType.FLOAT32, shape) for shape in (x, w))
        return inputs_of_a_tile(self.problem(tuple(types)))

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        return WINOGRAD.choose(self.problem([None if o is None else o.type for o in inputs]))

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        return WINOGRAD.choose(self.problem(inputs)).scratch

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        if any(o is not None and not o.constant for o in inputs[1:3]):
            raise TypeMismatch("needs constant weights")
        return super().lower(inputs, outputs)
