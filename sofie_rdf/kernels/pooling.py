"""The kernels of windows that slide over planes: which one computes which, and its memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from sofie_rdf.ir.dims import never_negative, product
from sofie_rdf.ir.operator import flag
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ir.windows import Window
from sofie_rdf.kernels.choice import (
    GENERIC,
    IS_ASSEMBLER,
    NO_FLOATS,
    Candidate,
    Choice,
    Elsewhere,
    Table,
)

__all__ = ["AVERAGE_POOL", "MAX_POOL", "POOL_HEADER", "PoolProblem"]

POOL_HEADER = "sofie/kernels/pooling.hxx"
_PAIRS_HEADER = "sofie/kernels/pooling/pairs.hxx"

# What a kernel may read behind the last element of a row: a register of the smallest elements. The
# floats of rows that are pooled at a time, and those of a register of AVX2.
_SLACK, _BUFFER, _SMALL_PACK = 64, 4096, 8


class PoolProblem(NamedTuple):
    """Windows over planes; ``pads`` says of a mean whether pads count.

    ``order`` says how the places of the largest elements are counted, if they are wanted.
    """

    dtype: DType
    windows: tuple[Window, ...]
    pads: bool | None = None
    order: int | None = None

    def scratch(self) -> tuple[TensorType, ...]:
        """Rows of x with their pads, and a table: what all of these kernels need.

        A mean has how many elements each window of a row has between them.
        """
        row, table = self._rows()
        members = TensorType(self.dtype, (self.windows[-1].count + _SLACK,))
        return (row, table) if self.pads is None else (row, members, table)

    def _rows(self) -> tuple[TensorType, TensorType]:
        *outer, last = self.windows
        row = (last.count + _SLACK) * last.stride + last.extent
        if self.dtype is not DType.FLOAT32:
            return TensorType(self.dtype, (row,)), TensorType(DType.INT32, (1,))
        masks = 2 * (last.size // _SMALL_PACK + last.count // _SMALL_PACK + 2)
        lists = product(w.count for w in outer) * (2 + math.prod(w.kernel for w in outer))
        table = TensorType(DType.INT32, (masks + lists,))
        return TensorType(self.dtype, (_BUFFER + row,)), table


def _why_no_pairs(problem: PoolProblem) -> str:
    if problem.dtype is not DType.FLOAT32:
        return NO_FLOATS
    if len(problem.windows) != 2 or not all(map(_is_pairs, problem.windows)):
        return "its windows are not pairs of neighbours in rows, and of rows, all of them elements"
    return ""


def _is_pairs(window: Window) -> bool:
    pairs = (window.kernel, window.stride, window.dilation, window.begin) == (2, 2, 1, 0)
    return pairs and never_negative(window.size - 2 * window.count)


# The tables ---------------------------------------------------------------------------------------

_REST = "it takes every one: rows are pooled into a buffer, and that along itself"


def _pairs(kernel: str, plain: str) -> Callable[[PoolProblem], Choice | str]:
    def offer(problem: PoolProblem) -> Choice | str:
        return _why_no_pairs(problem) or Choice(
            kernel,
            _PAIRS_HEADER,
            "windows of 2 x 2 that touch each other are read once",
            scratch=problem.scratch(),
            elsewhere=(Elsewhere((GENERIC,), plain, POOL_HEADER, IS_ASSEMBLER),),
        )

    return offer


def _flag(problem: PoolProblem) -> str:
    return flag(problem.pads)


def _average(problem: PoolProblem) -> Choice:
    kernel = f"average_pool<{_flag(problem)}>"
    return Choice(kernel, POOL_HEADER, _REST, scratch=problem.scratch())


def _largest(problem: PoolProblem) -> Choice:
    return Choice("max_pool", POOL_HEADER, _REST, scratch=problem.scratch())


def _indexed(problem: PoolProblem) -> Choice | str:
    if problem.order is None:
        return "nobody asks where the largest elements are"
    kernel = f"max_pool_indexed<{flag(problem.order)}>"
    return Choice(kernel, POOL_HEADER, "it finds where the largest elements are")


AVERAGE_POOL: Table[PoolProblem] = Table(
    "means of windows",
    (
        Candidate("average_pool_pairs", _pairs("average_pool_pairs", "average_pool<false>")),
        Candidate("average_pool", _average),
    ),
)
MAX_POOL: Table[PoolProblem] = Table(
    "largest elements of windows",
    (
        Candidate("max_pool_indexed", _indexed),
        Candidate("max_pool_pairs", _pairs("max_pool_pairs", "max_pool")),
        Candidate("max_pool", _largest),
    ),
)
