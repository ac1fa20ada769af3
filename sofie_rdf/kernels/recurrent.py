"""The kernels of recurrent layers, and their memory."""

from __future__ import annotations

from typing import NamedTuple

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.operator import flag
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.kernels.choice import Candidate, Choice, Table

__all__ = ["RECURRENT", "RECURRENT_HEADER", "RecurrentProblem"]

RECURRENT_HEADER = "sofie/kernels/recurrent.hxx"

# How many rows of the batch the kernel computes together, and the columns that it adds at most to
# fill up its panels.
_ROWS = 24
_EXTRA = 64


class RecurrentProblem(NamedTuple):
    """A layer with so many gates and directions; ``kind`` is the C++ class that says which gates.

    ``batchwise`` says that the batch is the first axis, ``constant`` that all weights are known.
    """

    dtype: DType
    kind: str
    gates: int
    directions: int
    inputs: Dim
    hidden: Dim
    batchwise: bool = False
    constant: bool = True

    @property
    def form(self) -> str:
        return flag(self.batchwise)

    def scratch(self) -> tuple[TensorType, TensorType]:
        """Rows of the batch, and weights that are packed at each call."""
        # The kernel says what is where; this is never less than what it needs.
        columns = self.gates * self.hidden + self.gates * self.hidden // 8 + 2 * _EXTRA
        padded = self.hidden + _EXTRA
        rows = _ROWS * (2 * columns + 3 * padded) + _EXTRA
        packed = self.directions * ((self.inputs + self.hidden + 2) * columns + 3 * padded)
        return TensorType(self.dtype, (rows,)), TensorType(self.dtype, (packed,))


def _packed(problem: RecurrentProblem) -> Choice | str:
    if not problem.constant:
        return "its weights are computed, and not packed beforehand"
    sizes = map(str, (problem.directions, problem.inputs, problem.hidden))
    arguments = ", ".join((problem.kind, problem.dtype.cxx, *sizes))
    return Choice(
        f"recurrent<{problem.form}>",
        RECURRENT_HEADER,
        "its weights are packed once; how many rows are computed together is for the batch to say",
        packed=f"RecurrentWeights<{arguments}>",
        scratch=problem.scratch(),
    )


def _unpacked(problem: RecurrentProblem) -> Choice:
    return Choice(
        f"recurrent_unpacked<{problem.form}>",
        RECURRENT_HEADER,
        "it packs its weights at each call",
        scratch=problem.scratch(),
    )


RECURRENT: Table[RecurrentProblem] = Table(
    "recurrent layers",
    (Candidate("recurrent", _packed), Candidate("recurrent_unpacked", _unpacked)),
)
