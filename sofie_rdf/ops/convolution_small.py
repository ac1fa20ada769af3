"""Convolutions of images of a few places, as one matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import Dim, number_of, product, require_equal
from sofie_rdf.ir.operator import (
    Call,
    Operand,
    Operator,
    Tensor,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.kernels.dense import DENSE, DenseProblem
from sofie_rdf.ops.elementwise import Elementwise
from sofie_rdf.ops.linear import NoActivation, packed

__all__ = ["SmallConv"]


@operator(domain="sofie", terms=2, ulp=8, header="sofie/kernels/convolution/small.hxx")
class SmallConv(Operator):
    """y[n, j] = activation(sum_k x[n, k] * w[k, j] + b[j]): k are all axes of x[n], j all of y[n]

    ``shape`` is that of y[n]. A weight of -0.0 is none: what x has there does not reach that
    result, not even if it is NaN.
    """

    shape: tuple[int, ...]
    activation: Elementwise = NoActivation()
    dtypes: ClassVar[frozenset[DType]] = frozenset({DType.FLOAT32, DType.FLOAT64})

    @property
    def headers(self) -> tuple[str, ...]:
        return (*super().headers, *self.activation.headers)

    def infer(self, x: TensorType, w: TensorType, b: TensorType) -> TensorType:
        dtype = require_same_dtype(x, w, b)
        if dtype not in self.dtypes:
            raise TypeMismatch(f"is not defined for {dtype}")
        results = math.prod(self.shape)
        if not x.rank or w.rank != 2 or b.shape != (results,) or results < 2:
            raise ShapeError(f"needs x[n, ...], w[k, {results}] and b[{results}], two at least")
        require_equal(product(x.shape[1:]), w.shape[0])
        require_equal(w.shape[1], results)
        return TensorType(dtype, (x.shape[0], *self.shape))

    def reference(self, x: Array, w: Array, b: Array) -> Array:
        rows, none = x.reshape(len(x), len(w)), (w == 0) & np.signbit(w)
        sums = np.matmul(rows, w)
        for row in np.flatnonzero(~np.isfinite(rows).all(axis=1)):
            sums[row] = np.where(none, 0, rows[row][:, None] * w).sum(axis=0)
        return np.asarray(self.activation.reference((sums + b).reshape(len(x), *self.shape)))

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:
        x, w = inputs[:2]
        assert x is not None and w is not None
        return x.shape[0] * product(w.shape)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, w, b = inputs
        assert x is not None and w is not None and b is not None
        rows, (k, n) = x.type.shape[0], w.type.shape
        kind = DENSE.choose(DenseProblem(x.type.dtype, None, number_of(k), number_of(n))).packed
        tensors = Tensor(outputs[0], (rows, n)), Tensor(x, (rows, k)), packed(kind, w, b)
        return Call("sofie::small_convolution", (self.activation.functor(), *tensors))
