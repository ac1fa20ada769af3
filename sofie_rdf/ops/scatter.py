"""Elements written at positions whose coordinates are tensors of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.operator import (
    Argument,
    Call,
    Operand,
    Operator,
    Sizes,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, TensorType, broadcast
from sofie_rdf.ops.layout import memory, strides


@operator(domain="sofie", header="sofie/kernels/indexing/scatter.hxx")
class ScatterAt(Operator):
    """x with updates[p] at [a[p], b[p], ...]: one tensor of indices for each axis, broadcast"""

    moves: ClassVar[bool] = True
    is_rowwise: ClassVar[bool] = False

    def infer(self, x: TensorType, updates: TensorType, *indices: TensorType) -> TensorType:
        require_same_dtype(x, updates)
        if not indices or len(indices) != x.rank or not updates.rank:
            raise ShapeError(f"needs indices for each of {x.rank} axes")
        for one in indices:
            if one.dtype is not DType.INT64:
                raise TypeMismatch(f"needs indices of type int64, not {one.dtype}")
            if one.rank != updates.rank or broadcast((one.shape, updates.shape)) != updates.shape:
                raise ShapeError(f"cannot have indices {one} for updates {updates}")
        return x

    def reference(self, x: Array, updates: Array, *indices: Array) -> Array:
        places = []
        for one, size in zip(indices, x.shape, strict=True):
            if one.size and (one.min() < -size or one.max() >= size):
                raise IndexError(f"an index does not exist among {size} elements")
            wrapped = np.where(one < 0, one + size, one)
            places.append(np.broadcast_to(wrapped, updates.shape))
        y = np.array(x)
        # One after the other: the last one stays.
        y[tuple(places)] = updates
        return y

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, updates, *indices = inputs
        assert x is not None and updates is not None
        steps = []
        for one in indices:
            assert one is not None
            shape = one.type.shape
            steps += [0 if d == 1 else s for d, s in zip(shape, strides(shape), strict=True)]
        sizes = (x.type.shape, updates.type.shape, tuple(steps))
        operands: list[Argument] = list(map(memory, (*outputs, x, updates, *indices)))
        return Call("sofie::scatter_at", (*map(Sizes, sizes), *operands))
