"""Transposed convolutions: each input is added to all outputs of its window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import Dim, maximum, minimum, number_of, product, require_equal
from sofie_rdf.ir.operator import Call, Launch, Operand, family, operator, require_same_dtype
from sofie_rdf.ir.types import Array, Shape, TensorType
from sofie_rdf.ir.windows import Window, index_of, require_count, slices_of
from sofie_rdf.kernels.choice import Choice
from sofie_rdf.kernels.convolution_problem import long_axes
from sofie_rdf.kernels.transposed import TRANSPOSED, TRANSPOSED_HEADER, TransposedProblem
from sofie_rdf.ops._device_windows import spread_out
from sofie_rdf.ops._room import require_room
from sofie_rdf.ops.convolution import (
    Conv,
    Convolution,
    along_channels,
    by_taps,
    conv_sizes,
    product_call,
)
from sofie_rdf.ops.elementwise import FLOATS, Elementwise
from sofie_rdf.ops.linear import NoActivation

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


@family
class _Transposed(Convolution):
    """A transposed convolution of floating-point numbers, with a function of each result."""

    header: ClassVar[str] = TRANSPOSED_HEADER

    output_padding: tuple[int, ...] | None = None
    output_shape: tuple[int, ...] | None = None

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> TensorType:
        dtype = require_same_dtype(*(t for t in (x, w, b) if t is not None))
        if dtype not in FLOATS:
            raise TypeMismatch(f"is not defined for {dtype}")
        if x.rank != w.rank or not 3 <= x.rank <= 5:
            raise ShapeError(
                "needs x[N, C, ...] and w[C, M / group, ...] with 1 to 3 axes of space"
            )
        require_equal(x.shape[1], w.shape[0], f"{x.shape[1]} channels are not {w.shape[0]}")
        if self.group < 1 or w.shape[0] % self.group != 0:
            raise ShapeError(f"cannot divide {w.shape[0]} channels into {self.group} groups")
        features = w.shape[1] * self.group
        if b is not None and b.rank != 1:
            raise ShapeError("needs a bias with one axis")
        if b is not None:
            require_equal(b.shape[0], features, f"{b.shape[0]} biases are not {features}")
        spread = self.spread(x.shape, w.shape)
        return TensorType(dtype, (x.shape[0], features, *(s.size for s in spread)))

    def spread(self, x: Shape, w: Shape) -> tuple[Window, ...]:
        """The windows of the output of which each belongs to one input: `size` is the output's."""
        rank, kernel = len(x) - 2, self.kernel(w[2:])
        strides, dilations = self.strides or (1,) * rank, self.dilations or (1,) * rank
        pads, added = self.pads or (0,) * (2 * rank), self.output_padding or (0,) * rank
        require_count("strides", strides, rank)
        require_count("dilations", dilations, rank)
        require_count("pads", pads, 2 * rank, least=0)
        require_count("output_padding", added, rank, least=0)
        shape = self.output_shape
        if shape is not None:
            require_count("output_shape", shape[-rank:], rank, least=0)
        found = []
        for i in range(rank):
            extent = (kernel[i] - 1) * dilations[i] + 1
            full = strides[i] * (x[2 + i] - 1) + added[i] + extent
            wanted = None if shape is None else shape[-rank:][i]
            size, begin = self._cut(full, pads[i], pads[rank + i], wanted, strides[i] * x[2 + i])
            if isinstance(size, int) and size < 0:
                raise ShapeError(f"the pads {list(pads)} are more than the output")
            one = Window(size, x[2 + i], kernel[i], strides[i], dilations[i], begin, 0)
            found.append(one)
        return tuple(found)

    def requires(self, inputs: Sequence[TensorType | None]) -> tuple[tuple[Dim, Dim], ...]:
        x, w = inputs[:2]
        assert x is not None and w is not None
        least = (minimum(s.size, 0) for s in self.spread(x.shape, w.shape))
        return tuple((size, 0) for size in least if size != 0)

    def _cut(
        self, full: Dim, begin: int, end: int, wanted: Dim | None, same: Dim
    ) -> tuple[Dim, Dim]:
        """The size of the output, and how much of ``full`` is cut off before it."""
        if self.auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
            raise ShapeError(f"auto_pad is {self.auto_pad!r}")
        if wanted is None and self.auto_pad.startswith("SAME"):
            wanted = same
        if wanted is None:
            used = (begin, end) if self.auto_pad == "NOTSET" else (0, 0)
            return full - used[0] - used[1], used[0]
        total = maximum(full - wanted, 0)
        return wanted, total // 2 if self.auto_pad == "SAME_UPPER" else total - total // 2

    def reference(self, x: Array, w: Array, b: Array | None = None) -> Array:
        spread = self.spread(x.shape, w.shape)
        events, channels, groups = x.shape[0], w.shape[0] // self.group, self.group
        features = w.shape[1]
        begins = [number_of(s.begin) for s in spread]
        # Where all of it has room, before the pads are cut off.
        sizes = [(n - 1) * s.stride + s.extent for n, s in zip(x.shape[2:], spread, strict=True)]
        ends = [number_of(s.size) + f for s, f in zip(spread, begins, strict=True)]
        room = [max(0, *pair) for pair in zip(sizes, ends, strict=True)]
        require_room("the result before it is cut", (events, groups * features, *room), x)
        full: Any = np.zeros((events, groups * features, *room), x.dtype)
        inputs = x.reshape(events, groups, channels, int(np.prod(x.shape[2:])))
        weights: Any = w.reshape(groups, channels, features, *w.shape[2:])
        steps = [
            Window(0, n, s.kernel, s.stride, s.dilation, 0, 0)
            for n, s in zip(x.shape[2:], spread, strict=True)
        ]
        for tap, where in slices_of(steps):
            part = np.matmul(np.swapaxes(weights[index_of(..., *tap)], 1, 2), inputs)
            full[index_of(..., *where)] += part.reshape(events, groups * features, *x.shape[2:])
        y = full[index_of(..., *map(slice, begins, ends))]
        y = np.ascontiguousarray(y if b is None else y + along_channels(b, x.ndim))
        return np.asarray(self.function.reference(y))

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        x, w = inputs[:2]
        assert x is not None and w is not None
        return x.size * product(w.shape[1:])

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        x, w = inputs[:2]
        assert x is not None and w is not None
        shape = x.type.shape
        counts = shape[0], shape[1], w.type.shape[1] * self.group, self.group
        spread = self.spread(x.type.shape, w.type.shape)
        return spread_out(self.function.functor(), outputs[0], inputs, counts, spread)

    def problem(
        self, inputs: Sequence[TensorType | None], *, constant: bool = True
    ) -> TransposedProblem:
        """What is asked of a kernel, with weights that are constants or computed."""
        x, w = inputs[:2]
        assert x is not None and w is not None
        counts = x.shape[0], x.shape[1], w.shape[1] * self.group, self.group
        slides = tuple(long_axes(self.spread(x.shape, w.shape)))
        products = product(w.shape[1:])
        return TransposedProblem(x.dtype, counts, slides, products, constant)

    def choice(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Choice:  # noqa: ARG002
        types = [None if o is None else o.type for o in inputs]
        constant = all(o.constant for o in inputs[1:] if o is not None)
        return TRANSPOSED.choose(self.problem(types, constant=constant))

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        return TRANSPOSED.choose(self.problem(inputs)).scratch

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, w = inputs[:2]
        assert x is not None and w is not None
        # For a kernel `in` is the input, and `out` the output, as ever.
        slides = [
            Window(s.count, s.size, s.kernel, s.stride, s.dilation, s.begin, 0)
            for s in long_axes(self.spread(x.type.shape, w.type.shape))
        ]
        choice, features = self.choice(inputs, outputs), w.type.shape[1] * self.group
        counts = x.type.shape[0], x.type.shape[1], features, self.group
        arguments = (self.function.functor(), conv_sizes(counts, slides, choice.told))
        return product_call(choice, arguments, inputs, outputs)


@operator(since=22, terms=2)
class ConvTranspose(_Transposed):
    """y[n, m, stride * i + dilation * k - pad] += sum_c w[c, m, k] * x[n, c, i], and b[m] once"""

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        x, w, g = back.x, back.input(1), back.g
        spread = self.spread(x.shape, w.shape)
        ends = [(s.count - 1) * s.stride + s.extent - s.begin - s.size for s in spread]
        around = g.pad([(0, 0), (0, 0), *((s.begin, e) for s, e in zip(spread, ends, strict=True))])
        by_x, by_w, by_b = None, None, None
        if back.needs(0):
            strides, dilations = (s.stride for s in spread), (s.dilation for s in spread)
            op = Conv(group=self.group, strides=tuple(strides), dilations=tuple(dilations))
            by_x = around.through(op, w)
        if back.needs(1):
            by_w = by_taps(x, around, spread, self.group).reshape(w.shape)
        if back.needs(2):
            by_b = g.sum([a for a in range(g.rank) if a != 1], keep=False)
        return by_x, by_w, by_b


@operator(domain="sofie", terms=2, ulp=8)
class ConvTransposeLayer(_Transposed):
    """y = activation(ConvTranspose(x, w, b))"""

    activation: Elementwise = NoActivation()

    @property
    def function(self) -> Elementwise:
        return self.activation
