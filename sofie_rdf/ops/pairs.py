"""All pairs (i, j) of the elements of an axis with i > j: (1, 0), (2, 0), (2, 1), (3, 0), ...

That are the places below the diagonal of a matrix, row after row: what networks on particles do for
two of them is done once for both orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError
from sofie_rdf.ir.dims import Dim, product, quotient, require_equal
from sofie_rdf.ir.operator import (
    Call,
    Functor,
    Launch,
    Operand,
    Operator,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops._device import require_known
from sofie_rdf.ops.layout import memory

__all__ = ["PairIndices", "PairTerms", "Symmetric", "pairs_of"]


def pairs_of(size: Dim) -> Dim:
    """How many pairs so many elements have."""
    # Nothing that is divided can be negative, as far as its coefficients tell.
    return quotient(size * size + size, 2) - size


class _Pairs(Operator):
    header: ClassVar[str] = "sofie/kernels/pairs.hxx"
    moves: ClassVar[bool] = True


def _bool(value: bool) -> Functor:
    return Functor("bool", (value,))


def _launch(
    name: str, numbers: Sequence[Functor | Dim], tensors: Sequence[Operand]
) -> tuple[Launch, ...]:
    """The kernel of a device of this name, with an item for each element of the first tensor."""
    require_known(*tensors)
    header, count = "sofie/device/contract.hxx", tensors[0].type.size
    return (Launch(f"sofie::device::{name}", tuple(numbers), tuple(tensors), count, header),)


@operator(domain="sofie")
class PairIndices(_Pairs):
    """y[p] = i of the pairs p = (i, j) of so many elements, or j if it is the second one"""

    size: Dim
    second: bool = False

    def infer(self) -> TensorType:
        return TensorType(DType.INT64, (pairs_of(self.size),))

    def reference(self) -> Array:
        assert isinstance(self.size, int)
        return np.tril_indices(self.size, -1)[self.second].astype(np.int64)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        assert not inputs
        return Call("sofie::pair_indices", (int(self.second), self.size, memory(outputs[0])))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        assert not inputs
        return _launch("PairIndices", (_bool(self.second),), outputs)


@operator(domain="sofie")
class PairTerms(_Pairs):
    """y[..., p] = x[..., i] for all pairs p = (i, j) of the last axis, or x[..., j]: the second"""

    second: bool = False
    is_rowwise: ClassVar[bool] = False

    def infer(self, x: TensorType) -> TensorType:
        if not x.rank:
            raise ShapeError("needs an axis whose elements make pairs")
        return x.reshaped((*x.shape[:-1], pairs_of(x.shape[-1])))

    def reference(self, x: Array) -> Array:
        return np.asarray(x[..., np.tril_indices(x.shape[-1], -1)[self.second]])

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        *rows, size = x.type.shape
        numbers = int(self.second), product(rows), size
        return Call("sofie::pair_terms", (*numbers, memory(outputs[0]), memory(x)))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        size = x.type.shape[-1]
        numbers = size, pairs_of(size), _bool(self.second)
        return _launch("PairTerms", numbers, (outputs[0], x))


@operator(domain="sofie")
class Symmetric(_Pairs):
    """y[..., i, j] = y[..., j, i] = x[..., p] for all pairs p = (i, j); y[..., i, i] = diagonal"""

    size: Dim
    is_rowwise: ClassVar[bool] = False

    def infer(self, x: TensorType, diagonal: TensorType) -> TensorType:
        require_same_dtype(x, diagonal)
        require_equal(diagonal.size, 1, "needs one number for the diagonal")
        if not x.rank:
            raise ShapeError("needs an axis of pairs")
        require_equal(x.shape[-1], pairs_of(self.size), "needs an element for each pair")
        return x.reshaped((*x.shape[:-1], self.size, self.size))

    def reference(self, x: Array, diagonal: Array) -> Array:
        assert isinstance(self.size, int)
        y = np.full((*x.shape[:-1], self.size, self.size), diagonal.item(), x.dtype)
        rows, columns = np.tril_indices(self.size, -1)
        y[..., rows, columns] = x
        y[..., columns, rows] = x
        return y

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, diagonal = inputs
        assert x is not None and diagonal is not None
        numbers = product(x.type.shape[:-1]), self.size
        return Call("sofie::symmetric", (*numbers, *map(memory, (outputs[0], x, diagonal))))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        x, diagonal = inputs
        assert x is not None and diagonal is not None
        numbers = self.size, pairs_of(self.size)
        return _launch("Symmetric", numbers, (outputs[0], x, diagonal))
