"""The kernels of products of two matrices that are both computed, and of integers of 8 bits."""

from __future__ import annotations

from typing import NamedTuple

from sofie_rdf.ir.dims import Dim, align
from sofie_rdf.ir.operator import flag
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.kernels.choice import (
    GENERIC,
    IS_ASSEMBLER,
    NO_FLOATS,
    Candidate,
    Choice,
    Elsewhere,
    Table,
)

__all__ = [
    "GEMM",
    "INTEGER_PRODUCTS",
    "MATMUL",
    "MATMUL_HEADER",
    "REQUANTIZED",
    "SCALED",
    "GemmProblem",
    "IntegerProblem",
    "MatMulProblem",
]

MATMUL_HEADER = "sofie/kernels/products.hxx"


class MatMulProblem(NamedTuple):
    """y[..., rows, columns] = sum_k a[..., rows, k] * b[..., k, columns], of any rows."""

    dtype: DType
    columns: Dim


def _dots(problem: MatMulProblem) -> Choice | str:
    if not problem.dtype.is_float:
        return "its elements are integers"
    if problem.columns != 1:
        return f"it has {problem.columns} columns, and not one"
    return Choice(
        "matmul_dots", MATMUL_HEADER, "its only column is a row in memory, and summed up along it"
    )


def _tiled(problem: MatMulProblem) -> Choice | str:
    if problem.dtype is not DType.FLOAT32:
        return NO_FLOATS
    if not isinstance(problem.columns, int):
        return "how many columns it has is not known"
    return Choice(
        "matmul_tiled",
        MATMUL_HEADER,
        "tiles of several rows read the second matrix less often",
        elsewhere=(Elsewhere((GENERIC,), "matmul_rows", MATMUL_HEADER, IS_ASSEMBLER),),
    )


def _rows(problem: MatMulProblem) -> Choice | str:
    if problem.dtype.is_float and not isinstance(problem.columns, int):
        return "how many columns it has is not known"
    return Choice("matmul_rows", MATMUL_HEADER, "its rows are computed one by one")


def _any(_: MatMulProblem) -> Choice:
    return Choice("matmul", MATMUL_HEADER, "one column is summed up along it, others are in tiles")


MATMUL: Table[MatMulProblem] = Table(
    "products of matrices",
    (
        Candidate("matmul_dots", _dots),
        Candidate("matmul_tiled", _tiled),
        Candidate("matmul_rows", _rows),
        Candidate("matmul", _any),
    ),
)


class GemmProblem(NamedTuple):
    """A product whose first and second matrix may be transposed, times a factor."""

    transposed: tuple[bool, bool]


def _gemm(problem: GemmProblem) -> Choice:
    kernel = f"gemm<{', '.join(map(flag, problem.transposed))}>"
    return Choice(kernel, MATMUL_HEADER, "it reads its matrices as they are")


GEMM: Table[GemmProblem] = Table("products of two matrices", (Candidate("gemm", _gemm),))


# Integers of 8 bits -------------------------------------------------------------------------------

_INTEGERS_HEADER = "sofie/kernels/products/integers.hxx"
_REQUANTIZED_HEADER = "sofie/kernels/products/requantized.hxx"
_ANY_INTEGERS_HEADER = "sofie/kernels/quantization.hxx"
# Of the kernel for constant weights: the rows that go through them together, and the most bytes of
# a register.
INTEGER_ROWS, _BYTES = 64, 64
# The sums that are quantised again at a time.
_UNIT = 8
SCALED, REQUANTIZED = "scaled", "requantized"


class IntegerProblem(NamedTuple):
    """y[rows, columns] = sum_k (a[rows, k] - p) * (b[k, columns] - q), in 32 bits.

    ``one_matrix`` says whether b is one for all rows, ``one_zero`` whether p is, and ``constant``
    whether b and q are known. ``then`` says what becomes of the sums: nothing, float32 by factors
    and offsets (`SCALED`), or the 8 bits of another scale (`REQUANTIZED`). In float8 they are no
    ``bytes``.
    """

    rows: Dim
    depth: Dim
    columns: Dim
    one_matrix: bool
    one_zero: bool
    constant: bool
    then: str = ""
    bytes: bool = True

    def scratch(self) -> tuple[TensorType, ...]:
        """Some rows as VNNI or pairs of 16 bits want them, and what is quantised again."""
        if not self.one_matrix or not self.one_zero or not self.bytes:
            return ()
        rows = 1 if self.rows == 1 else INTEGER_ROWS
        size = rows * align(self.depth, _BYTES) // 2
        if self.then == REQUANTIZED:
            size += (rows + 2) * self.columns + 3 * _UNIT
        return (TensorType(DType.INT32, (size,)),)


_OF_CONSTANTS = {
    "": "integer_product",
    SCALED: "integer_dense",
    REQUANTIZED: "qlinear_product",
}


def _constant_integers(problem: IntegerProblem) -> Choice | str:
    if not problem.one_matrix:
        return "its second matrix is not one for all rows"
    if not problem.one_zero:
        return "its rows have not one zero point and one scale"
    if not problem.bytes:
        return "its numbers are not integers"
    if not problem.constant:
        return "its second matrix is not constant"
    return Choice(
        _OF_CONSTANTS[problem.then],
        _REQUANTIZED_HEADER if problem.then == REQUANTIZED else _INTEGERS_HEADER,
        "constant weights are packed for VNNI where the CPU has it, else as pairs of 16 bits",
        packed=f"IntegerWeights<{problem.columns}>",
        scratch=problem.scratch(),
    )


def _any_integers(problem: IntegerProblem) -> Choice | str:
    if problem.then == SCALED:
        return "it has no factors"
    kernel = "qlinear_matmul" if problem.then == REQUANTIZED else "matmul_integer"
    return Choice(kernel, _ANY_INTEGERS_HEADER, "it reads its matrices as they are")


INTEGER_PRODUCTS: Table[IntegerProblem] = Table(
    "products of integers of 8 bits",
    (
        Candidate("integer_product", _constant_integers),
        Candidate("matmul_integer", _any_integers),
    ),
)
