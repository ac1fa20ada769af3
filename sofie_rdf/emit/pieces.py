"""A large batch in pieces of some rows, so that what is between its layers stays in a cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sofie_rdf.emit.literals import size
from sofie_rdf.emit.ports import Interface
from sofie_rdf.ir.dims import Dim, Size, evaluate, substitute, symbol, symbols_of

__all__ = ["LEAST", "NO_PIECES", "Pieces"]

# Bytes of scratch memory: the second cache of most CPUs holds as much.
LEAST = 1 << 20
# For more than this, no cache would hold the weights that each piece reads anew.
_MOST = 1 << 25


@dataclass(frozen=True)
class Pieces:
    """What pieces of a batch are made of: scratch memory in bytes, and the rows in it.

    ``rows`` is the named size of the batch, if its rows keep apart; else "".
    """

    rows: str
    scratch: Dim
    weights: int

    @property
    def nbytes(self) -> int:
        """The scratch memory of a piece: enough that weights are not read more often than that."""
        return max(LEAST, min(self.weights, _MOST))

    @property
    def is_cut(self) -> bool:
        """Whether large batches are computed in pieces."""
        return bool(self.rows) and self.rows in symbols_of(self.scratch)

    @property
    def _one(self) -> Dim:
        """The scratch memory of one row."""
        return substitute(self.scratch, {self.rows: 1})

    def most(self, sizes: Mapping[str, int]) -> int:
        """The scratch memory of a call."""
        every = evaluate(self.scratch, sizes)
        if not self.is_cut:
            return every
        # As `sofie::in_pieces`.
        rows, more = sizes[self.rows], every - evaluate(self._one, sizes)
        if more <= 2 * self.nbytes:
            return every
        count = min(rows, -(-more // self.nbytes))
        return evaluate(self.scratch, {**sizes, self.rows: -(-rows // count)})

    def lines(self, interface: Interface, every: str) -> Iterable[str]:
        """Where a batch is large, pieces of it go through `infer`; ``every`` are its bytes."""
        batch, parameters = interface.sizes[self.rows], "sofie::Size row_, sofie::Size rows_"
        one = size(self._one, interface.sizes)
        more = f"{every} - {one if one.isdigit() else f'({one})'}"
        given = {n: f"static_cast<std::size_t>({n})" for n in interface.sizes.values()}
        given[batch] = "static_cast<std::size_t>(rows_)"
        ports = (self._moved(interface, port.name, port.type.size) for port in interface.passed)
        yield f"   const auto piece_ = [&]({parameters}) {{"
        yield f"      {interface.computing}({', '.join([*given.values(), *ports])});"
        yield "   };"
        yield f"   if (sofie::in_pieces({batch}, {more}, {self.nbytes}, piece_))"
        yield "      return;"

    def _moved(self, interface: Interface, name: str, elements: Dim) -> str:
        """A pointer to the first row of a piece."""
        if not isinstance(elements, Size):
            return name  # Of no elements.
        each = size(elements // symbol(self.rows), interface.sizes)
        return f"{name} + row_ * {each if each.isdigit() else f'({each})'}"


# Of code that does not cut batches.
NO_PIECES = Pieces("", 0, 0)
