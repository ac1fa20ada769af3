"""Convolutions of sequences that go on: what they saw last is a state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import Dim, require_equal
from sofie_rdf.ir.operator import (
    Call,
    Operand,
    Operator,
    Sizes,
    Tensor,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, TensorType
from sofie_rdf.ops.elementwise import FLOATS, Elementwise, Swish
from sofie_rdf.ops.linear import NoActivation

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Value


@operator(since=27, terms=2, ulp=8, header="sofie/kernels/convolution/deformed.hxx")
class CausalConvWithState(Operator):
    """y[n, c, i] = f(sum_k w[c, k] * s[n, c, i + k] + b[c]), s = (state, x); and the end of s"""

    activation: str = "none"

    @property
    def function(self) -> Elementwise:
        if self.activation not in ("none", "silu", "swish"):
            raise ShapeError(f"activation is {self.activation!r}, and not none, silu or swish")
        return NoActivation() if self.activation == "none" else Swish()

    @property
    def headers(self) -> tuple[str, ...]:
        return (*super().headers, *self.function.headers)

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        b: TensorType | None = None,
        past: TensorType | None = None,
    ) -> tuple[TensorType, TensorType]:
        dtype = require_same_dtype(*(t for t in (x, w, b, past) if t is not None))
        if self.function not in (NoActivation(), Swish()) or dtype not in FLOATS:
            raise TypeMismatch(f"is not defined for {dtype}")
        if x.rank != 3 or w.rank != 3 or w.shape[1] != 1 or w.shape[2] == 0:
            raise ShapeError("needs x[N, C, L] and w[C, 1, k]")
        require_equal(w.shape[0], x.shape[1], f"{w.shape[0]} kernels are not {x.shape[1]}")
        state = (*x.shape[:2], w.shape[2] - 1)
        for name, type_, shape in (("b", b, x.shape[1:2]), ("past_state", past, state)):
            if type_ is None:
                continue
            if type_.rank != len(shape):
                raise ShapeError(f"{name} has {type_.rank} axes, not {len(shape)}")
            for said, size in zip(type_.shape, shape, strict=True):
                require_equal(said, size, f"{name} has the size {said} where {size} is needed")
        return x, TensorType(dtype, state)

    def reference(
        self, x: Array, w: Array, b: Array | None = None, past: Array | None = None
    ) -> tuple[Array, Array]:
        before = w.shape[2] - 1
        state = np.zeros((*x.shape[:2], before), x.dtype) if past is None else past
        sequence = np.concatenate([state, x], axis=2)
        y = np.zeros(x.shape, x.dtype)
        for k in range(before + 1):
            y += w[:, :, k] * sequence[:, :, k : k + x.shape[2]]
        if b is not None:
            y = y + b[:, None]
        end = np.ascontiguousarray(sequence[:, :, x.shape[2] :])
        return self.function.reference(y), end  # type: ignore[return-value]

    def formula(
        self, x: Value, w: Value, b: Value | None = None, past: Value | None = None
    ) -> tuple[Value, Value]:
        count, channels, length = x.shape
        if past is None:
            past = x.tape.number(0, x.dtype).expand((count, channels, w.shape[2] - 1))
        sequence = past.concat([x], 2)
        y = sequence.apply("Conv", w, b, group=channels)
        return y.through(self.function), sequence.slice(2, length, length + w.shape[2] - 1)

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        x, w = inputs[:2]
        assert x is not None and w is not None
        return x.size * w.shape[2]

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x, w = inputs[:2]
        assert x is not None and w is not None
        size = x.shape[2] + w.shape[2] + 64 // x.dtype.nbytes
        return (TensorType(x.dtype, (size,)),)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, w, b, past = (*inputs, None, None)[:4]
        assert x is not None and w is not None
        sizes = Sizes((*x.type.shape, w.type.shape[2]))
        operands = [o for o in (*outputs, x, w, b, past) if o is not None]
        tensors = [Tensor(o, (o.type.size,)) for o in operands]
        kernel = f"sofie::causal_convolution<{(b is not None) + 2 * (past is not None)}>"
        return Call(kernel, (self.function.functor(), sizes, *tensors), outputs=3)
