"""The kernel of ensembles of decision trees, the form of their nodes, and its memory.

Whether thresholds become ranks, and from how many events on trees are compared as a whole, depends
on the trees and not on any shape: `trees/forest.hxx` decides that once, when they are packed.
"""

from __future__ import annotations

from typing import NamedTuple

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.kernels.choice import Candidate, Choice, Table

__all__ = ["TREES", "TREES_HEADER", "TreesProblem"]

TREES_HEADER = "sofie/kernels/trees.hxx"

# The most lanes that a block of events has, and the most events that walk through a tree together.
_BLOCK = {DType.FLOAT32: 32, DType.FLOAT64: 16}
_WALKS = 256
# Their numbers and totals have as much space, unless a block needs more.
_NUMBERS = 2**15


class TreesProblem(NamedTuple):
    """So many trees with so many nodes, over features, with weights for outputs."""

    dtype: DType
    weights: DType
    aggregate: str
    features: Dim
    trees: Dim
    nodes: Dim
    outputs: Dim

    def scratch(self) -> tuple[TensorType, TensorType]:
        """The totals of some events, and their features, negatives of these, and a NaN."""
        block = _BLOCK[self.dtype]
        totals, columns = (_space(n, block) for n in (self.outputs, 2 * self.features + 1))
        return TensorType(DType.FLOAT64, (totals,)), TensorType(self.dtype, (columns,))

    def choice(self, way: str, why: str) -> Choice:
        kinds = f"{self.dtype.cxx}, {self.weights.cxx}, {way}"
        return Choice(
            "trees",
            TREES_HEADER,
            f"{why}; thresholds become ranks with AVX2 and AVX-512, where the trees are for it",
            packed=f"Forest<{kinds}, sofie::Aggregate::{self.aggregate}>",
            scratch=self.scratch(),
        )


def _space(each: Dim, block: int) -> Dim:
    """How many numbers the events have that are done together, with ``each`` of them."""
    if not isinstance(each, int):
        return each * block
    return max(each * block, min(each * _WALKS, _NUMBERS))


def _narrow(problem: TreesProblem) -> Choice | str:
    features, trees, nodes = problem.features, problem.trees, problem.nodes
    if problem.dtype is not DType.FLOAT32:
        return "its thresholds are not float32"
    if not (isinstance(features, int) and isinstance(trees, int) and isinstance(nodes, int)):
        return "how many features or nodes it has is not known"
    # There are at most 4 nodes for each that is given.
    bits = (2 * features).bit_length() + (4 * nodes + 8 * trees).bit_length()
    if bits > 32:
        return f"a column and a node take {bits} bits, and not up to 32"
    return problem.choice("std::uint32_t", "a column and a node are in 32 bits of a node")


def _wide(problem: TreesProblem) -> Choice:
    return problem.choice("std::uint64_t", "a column and a node are in 64 bits of a node")


TREES: Table[TreesProblem] = Table(
    "trees", (Candidate("trees, 8 bytes a node", _narrow), Candidate("trees", _wide))
)
