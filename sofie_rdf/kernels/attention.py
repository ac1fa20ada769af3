"""The kernels of attention, and their memory.

Queries are answered side by side, one in each lane of a register, or one by one. The result of a
query has the same bits in any batch, so neither the batch nor the data decide which.
"""

from __future__ import annotations

from dataclasses import dataclass

from sofie_rdf.ir.dims import Dim, ceil_div
from sofie_rdf.ir.operator import flag
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.kernels.choice import (
    AVX2,
    AVX512,
    GENERIC,
    SETS,
    Candidate,
    Choice,
    Elsewhere,
    Table,
)

__all__ = ["ATTENTION", "ATTENTION_HEADER", "AttentionProblem"]

ATTENTION_HEADER = "sofie/kernels/attention.hxx"

# Of the kernel: from how many queries on they are answered side by side, by the set and the bytes
# of a number. That is half a register, but one query of floats where their blocks are in assembler.
_LEAST = {
    AVX512: {4: 1, 8: 4},
    AVX2: {4: 4, 8: 2},
    GENERIC: {4: 2, 8: 1},
}
# The queries of the largest block; columns come in multiples of it.
_BLOCK = 32


@dataclass(frozen=True, slots=True)
class AttentionProblem:
    """Queries attend to keys, those of the past included, and take from as many values.

    ``function`` is the one of C++ for such operands. ``heads_last`` says that heads are behind
    rows; it is None where the function is told strides. ``scores`` says that somebody wants them.
    """

    dtype: DType
    function: str
    queries: Dim
    keys: Dim
    head_size: Dim
    value_size: Dim
    scores: bool = False
    heads_last: bool | None = None

    def kernel(self, form: str = "", *sizes: Dim) -> str:
        order = () if self.heads_last is None else (flag(self.heads_last),)
        arguments = ", ".join((*order, *map(str, sizes)))
        return f"{self.function}{form}" + (f"<{arguments}>" if arguments else "")

    def least(self, simd: str) -> int:
        """From how many queries on they are answered side by side."""
        return _LEAST[simd][self.dtype.nbytes]

    def scratch(self) -> tuple[TensorType, ...]:
        """Keys and values of one head, a block of queries, their scores, and what a mask says."""
        columns, width = (ceil_div(d, _BLOCK) * _BLOCK for d in (self.keys, self.value_size))
        numbers = (self.head_size + 2 * _BLOCK) * columns + self.keys * width
        return (TensorType(self.dtype, (numbers + _BLOCK * self.head_size,)),)


_BY_ONE = "_one_by_one"
_FEW = "its queries do not fill half a register"


def _in_blocks(problem: AttentionProblem) -> Choice | str:
    if problem.scores:
        return "somebody wants the scores, which blocks do not keep"
    queries = problem.queries
    if not isinstance(queries, int):
        return "how many queries it has is not known"
    few = tuple(simd for simd in SETS if queries < problem.least(simd))
    if few == SETS:
        return _FEW
    other = Elsewhere(few, problem.kernel(_BY_ONE), ATTENTION_HEADER, _FEW)
    return Choice(
        problem.kernel("_in_blocks", *((queries,) if few else ())),
        ATTENTION_HEADER,
        "a lane for each query needs nothing from another lane for its softmax",
        scratch=problem.scratch(),
        elsewhere=(other,) if few else (),
    )


def _one_by_one(problem: AttentionProblem) -> Choice | str:
    if not problem.scores and not isinstance(problem.queries, int):
        return "how many queries it has is not known"
    return Choice(
        problem.kernel(_BY_ONE),
        ATTENTION_HEADER,
        "all scores of a query are there before its softmax",
        scratch=problem.scratch(),
    )


def _any(problem: AttentionProblem) -> Choice:
    why = "few queries go one by one, others side by side; the kernel counts them when it runs"
    return Choice(problem.kernel(), ATTENTION_HEADER, why, scratch=problem.scratch())


ATTENTION: Table[AttentionProblem] = Table(
    "attention",
    (
        Candidate("attention_in_blocks", _in_blocks),
        Candidate("attention_one_by_one", _one_by_one),
        Candidate("attention", _any),
    ),
)
