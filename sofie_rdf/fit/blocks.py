"""Events in blocks of a fixed size, on several threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from sofie_rdf.ir.types import Array, concrete
from sofie_rdf.runtime.compile.pieces import in_pieces
from sofie_rdf.runtime.compile.session import Compiled

__all__ = ["Blocks", "Feed"]

# The inputs of some events, by name.
Feed: TypeAlias = dict[str, Array]


@dataclass(frozen=True)
class Blocks:
    """A compiled model, and events in blocks as its scratch memory wants them.

    Which events are one block depends neither on threads nor on time: sums of blocks in their order
    are the same each time.
    """

    compiled: Compiled
    batch: str
    sizes: Mapping[str, int]

    @property
    def size(self) -> int:
        """How many events are a block."""
        one = {**self.sizes, self.batch: 1}
        graph = self.compiled.graph
        shapes = [concrete(graph.types[name].shape, one) for name in graph.inputs]
        elements = sum(math.prod(shape) for shape in shapes)
        return self.compiled.rows_at_once(self.batch, elements, one)

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return -(-self.sizes[self.batch] // self.size)

    def outputs(self, feeds: Feed) -> Feed:
        """The outputs for some events."""
        rows = next(len(a) for name, a in feeds.items() if self._has_rows(name))
        return self.compiled.infer(feeds, {**self.sizes, self.batch: rows})

    def run(self, feeds: Callable[[slice], Feed], add: Callable[[int, slice, Feed], None]) -> None:
        """``add(number, rows, inputs)`` for all blocks, on as many threads as batches have."""
        step, rows = self.size, self.sizes[self.batch]

        def call(first: int, last: int) -> None:
            for number in range(first, last):
                piece = slice(number * step, min(rows, (number + 1) * step))
                # Each thread has such a state of its own.
                with np.errstate(all="ignore"):
                    add(number, piece, feeds(piece))

        in_pieces(call, self.count, 1)

    def _has_rows(self, name: str) -> bool:
        shape = self.compiled.graph.types[name].shape
        return bool(shape) and str(shape[0]) == self.batch
