"""The kernels of products of two matrices that are both computed."""

from __future__ import annotations

from dataclasses import dataclass

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.operator import flag
from sofie_rdf.ir.types import DType
from sofie_rdf.kernels.choice import (
    GENERIC,
    IS_ASSEMBLER,
    NO_FLOATS,
    Candidate,
    Choice,
    Elsewhere,
    Table,
)

__all__ = ["GEMM", "MATMUL", "MATMUL_HEADER", "GemmProblem", "MatMulProblem"]

MATMUL_HEADER = "sofie/kernels/products.hxx"
# Of the kernel: the rows that tiles have at least.
TILE_ROWS = 4


@dataclass(frozen=True, slots=True)
class MatMulProblem:
    """y[..., rows, columns] = sum_k a[..., rows, k] * b[..., k, columns]."""

    dtype: DType
    rows: Dim
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
    if not isinstance(problem.rows, int) or problem.rows < TILE_ROWS:
        return f"it has fewer than {TILE_ROWS} rows, or how many is not known"
    return Choice(
        "matmul_tiled",
        MATMUL_HEADER,
        "tiles of several rows read the second matrix less often",
        elsewhere=(Elsewhere((GENERIC,), "matmul_rows", MATMUL_HEADER, IS_ASSEMBLER),),
    )


def _rows(problem: MatMulProblem) -> Choice | str:
    if problem.dtype.is_float and not isinstance(problem.columns, int):
        return "how many columns it has is not known"
    if problem.dtype is DType.FLOAT32 and not isinstance(problem.rows, int):
        return "how many rows it has is not known"
    return Choice("matmul_rows", MATMUL_HEADER, "its rows are computed one by one")


def _any(_: MatMulProblem) -> Choice:
    why = f"one column is summed up along it; rows go one by one, or from {TILE_ROWS} on in tiles"
    return Choice("matmul", MATMUL_HEADER, why)


MATMUL: Table[MatMulProblem] = Table(
    "products of matrices",
    (
        Candidate("matmul_dots", _dots),
        Candidate("matmul_tiled", _tiled),
        Candidate("matmul_rows", _rows),
        Candidate("matmul", _any),
    ),
)


@dataclass(frozen=True, slots=True)
class GemmProblem:
    """A product whose first and second matrix may be transposed, times a factor."""

    transposed: tuple[bool, bool]


def _gemm(problem: GemmProblem) -> Choice:
    kernel = f"gemm<{', '.join(map(flag, problem.transposed))}>"
    return Choice(kernel, MATMUL_HEADER, "it reads its matrices as they are")


GEMM: Table[GemmProblem] = Table("products of two matrices", (Candidate("gemm", _gemm),))
