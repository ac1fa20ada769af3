"""The kernel of attention, and its memory.

Queries are answered side by side, one in each lane of a register. The result of a query has the
same bits in any batch.
"""

from __future__ import annotations

from typing import NamedTuple

from sofie_rdf.ir.dims import Dim, ceil_div
from sofie_rdf.ir.operator import flag
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.kernels.choice import Candidate, Choice, Table

__all__ = ["ATTENTION", "ATTENTION_HEADER", "AttentionProblem"]

ATTENTION_HEADER = "sofie/kernels/attention.hxx"

# Of the kernel: the queries of the largest block; columns come in multiples of it.
_BLOCK = 32


class AttentionProblem(NamedTuple):
    """Queries attend to keys, those of the past included, and take from as many values.

    ``function`` is the one of C++ for such operands. ``heads_last`` says that heads are behind
    rows; it is None where the function is told strides.
    """

    dtype: DType
    function: str
    keys: Dim
    head_size: Dim
    value_size: Dim
    heads_last: bool | None = None

    @property
    def kernel(self) -> str:
        order = "" if self.heads_last is None else f"<{flag(self.heads_last)}>"
        return f"{self.function}{order}"

    def scratch(self) -> tuple[TensorType, ...]:
        """Keys and values of one head, a block of queries, their scores, and what a mask says."""
        columns, width = (ceil_div(d, _BLOCK) * _BLOCK for d in (self.keys, self.value_size))
        numbers = (self.head_size + 2 * _BLOCK) * columns + self.keys * width
        return (TensorType(self.dtype, (numbers + _BLOCK * self.head_size,)),)


def _in_blocks(problem: AttentionProblem) -> Choice:
    return Choice(
        problem.kernel,
        ATTENTION_HEADER,
        "a lane for each query needs nothing from another lane for its softmax",
        scratch=problem.scratch(),
    )


ATTENTION: Table[AttentionProblem] = Table("attention", (Candidate("attention", _in_blocks),))
