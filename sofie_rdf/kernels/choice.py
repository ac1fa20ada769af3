"""How a kernel is chosen: by a table of candidates, the best first.

A table is asked about a problem: shapes, element types, and which inputs are constants. Each
candidate answers with a `Choice`, or with the reason why it is not for this problem. The first
choice is taken, and knows why those before it were refused.

An emitted header is one text for all instruction sets. So a choice names the kernel that the header
calls, and says which other one that is where an instruction set has no text of its own for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.ir.operator import Sizes
from sofie_rdf.ir.types import TensorType

__all__ = [
    "AVX2",
    "AVX512",
    "GENERIC",
    "IS_ASSEMBLER",
    "IS_AVX512",
    "NO_FLOATS",
    "SETS",
    "Candidate",
    "Choice",
    "Elsewhere",
    "Refusal",
    "Table",
]

# As SOFIE_RDF_SIMD names them, the best first.
AVX512, AVX2, GENERIC = "avx512", "avx2", "generic"
SETS = (AVX512, AVX2, GENERIC)

# Reasons of several families.
NO_FLOATS = "its elements are not float32"
IS_AVX512 = "it is written for AVX-512"
IS_ASSEMBLER = "it is written for AVX-512 and AVX2"

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The kernel that a call runs on instruction sets without a text of its own, and why."""

    sets: tuple[str, ...]
    kernel: str
    header: str
    why: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a candidate was not taken."""

    kernel: str
    reason: str


class Choice(NamedTuple):
    """A kernel with its template arguments, in the namespace ``sofie``, and its header.

    ``packed`` is the class in which it wants constant weights, "" for weights as they are. ``told``
    is what it is told beside the sizes of the problem, and ``scratch`` is its memory.
    """

    kernel: str
    header: str
    why: str
    packed: str = ""
    told: tuple[Sizes, ...] = ()
    scratch: tuple[TensorType, ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()
    refused: tuple[Refusal, ...] = ()

    def on(self, simd: str) -> Choice:
        """What runs on an instruction set; "" is for what the header calls."""
        for other in self.elsewhere:
            if simd in other.sets:
                lacking = Refusal(self.kernel, other.why)
                return Choice(
                    other.kernel,
                    other.header,
                    _REST,
                    told=self.told,
                    scratch=self.scratch,
                    packed=self.packed,
                    refused=(*self.refused, lacking),
                )
        return self._replace(elsewhere=()) if simd else self


_REST = "it is what the better kernel calls with this instruction set"


@dataclass(frozen=True, slots=True)
class Candidate(Generic[P]):
    """A kernel that may compute a problem: its choice, or why it is not for that."""

    name: str
    offer: Callable[[P], Choice | str]


@dataclass(frozen=True, slots=True)
class Table(Generic[P]):
    """The kernels of a family, the best first."""

    family: str
    candidates: tuple[Candidate[P], ...]

    def choose(self, problem: P) -> Choice:
        """The first one that is for this problem."""
        refused: list[Refusal] = []
        for candidate in self.candidates:
            found = candidate.offer(problem)
            if isinstance(found, Choice):
                return found._replace(refused=(*refused, *found.refused))
            refused.append(Refusal(candidate.name, found))
        reasons = "; ".join(f"{r.kernel}: {r.reason}" for r in refused)
        raise UnsupportedOperator(f"no kernel of {self.family} is for this ({reasons})")
