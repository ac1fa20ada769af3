"""The kernels that read a tensor in steps, as transposes, slices and repetitions do.

Only bytes are moved, so all of them give the same bits. Where a plane of elements has its rows and
columns in another order, which kernel is fastest depends on its size and on that of an element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.types import Shape
from sofie_rdf.kernels.choice import (
    AVX2,
    AVX512,
    GENERIC,
    IS_AVX512,
    SETS,
    Candidate,
    Choice,
    Elsewhere,
    Table,
)

__all__ = ["READS", "READ_HEADER", "Planes", "ReadProblem", "merged"]

READ_HEADER = "sofie/kernels/layout.hxx"

# Of the kernels: the bytes of a register that picks elements, the numbers of 4 bytes of a register
# in each set, the fewest rows and columns of squares, and the bytes of a block's rows or columns.
_REGISTER = 64
_LANES = {AVX512: 16, AVX2: 8, GENERIC: 4}
_SQUARE = 8
_BLOCK = 16


def merged(extents: Sequence[Dim], steps: Sequence[Dim]) -> tuple[Shape, Shape]:
    """The same walk through memory with as few axes as it has, at least one."""
    kept: list[tuple[Dim, Dim]] = []
    for extent, step in zip(extents, steps, strict=True):
        if extent == 1:
            continue
        if kept and kept[-1][1] == extent * step:
            kept[-1] = (kept[-1][0] * extent, step)
        else:
            kept.append((extent, step))
    return (tuple(e for e, _ in kept), tuple(s for _, s in kept)) if kept else ((1,), (1,))


class Planes(NamedTuple):
    """Elements of so many bytes in rows, which become columns: y[p][j][i] = x[p][i][j].

    The elements of a row are side by side in x, and those of a column in y. Steps are in elements:
    from a column to the next in y, from a row to the next in x, and from a plane to the next. How
    many planes there are may be known at run time only.
    """

    nbytes: int
    rows: int
    columns: int
    to_step: int
    from_step: int
    planes: Dim
    to_plane: int
    from_plane: int

    @property
    def size(self) -> int:
        return self.rows * self.columns

    @property
    def picked(self) -> int:
        """How many elements a register has from which they are picked: no bytes, but pairs."""
        return _REGISTER // max(self.nbytes, 2)

    def in_turn(self, simd: str) -> bool:
        """Whether two or three rows, or columns, take turns: a register of each in this set."""
        full = _BLOCK if self.nbytes < 4 else 4 * _LANES[simd]
        least, turns = full // self.nbytes, (2, 3)
        apart = self.columns in turns and self.from_step == self.columns and self.rows >= least
        joined = self.rows in turns and self.to_step == self.rows and self.columns >= least
        return apart or joined

    @property
    def block(self) -> tuple[int, int] | None:
        """Rows and columns of the largest block that the planes have, of which one fills 16 bytes.

        More than 8 rows of bytes side by side would be more code for no more speed.
        """
        full = _BLOCK // self.nbytes
        side = min(full, 8)
        while side >= 2:
            if self.rows >= side and self.columns >= full:
                return side, full
            if self.rows >= full and self.columns >= side:
                return full, side
            side //= 2
        return None


_ROWS = "its elements are in the same order along the last axis, or one has no neighbour"
_OPEN = "sizes of its planes are not known"


class ReadProblem(NamedTuple):
    """y, which is dense, is read from x: ``extents`` of y, and ``steps`` in x, both `merged`."""

    nbytes: int
    extents: Shape
    steps: Shape

    @property
    def planes(self) -> Planes | str:
        """What is transposed; else why nothing is, or why that is not known."""
        sizes, steps = self.extents, self.steps
        inner = [d for d in sizes[1:] if isinstance(d, int)]
        known = [s for s in steps if isinstance(s, int)]
        if len(sizes) == 1 or (steps[-1] == 1 and isinstance(sizes[-1], int)):
            return _ROWS
        if len(inner) < len(sizes) - 1 or len(known) < len(steps):
            return _OPEN
        if 0 in sizes:
            return _ROWS
        dense = [axis for axis, step in enumerate(known[:-1]) if step == 1]
        if not dense:
            return _ROWS
        to = [1]
        for size in reversed(inner):
            to.insert(0, to[0] * size)
        across = dense[-1]
        if across == 0 and not isinstance(sizes[0], int):
            return _OPEN
        others = [axis for axis in range(len(sizes) - 1) if axis != across]
        plane: tuple[Dim, int, int] = (1, 0, 0)
        if others:
            plane = sizes[others[-1]], to[others[-1]], known[others[-1]]
        columns = sizes[across]
        assert isinstance(columns, int)
        return Planes(self.nbytes, inner[-1], columns, to[across], known[-1], *plane)


# Each function of C++ that moves planes is a template argument of the one that a header calls.


def _blocks(planes: Planes) -> str:
    if planes.block is None:
        return f"sofie::move_single_elements<{planes.nbytes}>"
    rows, columns = planes.block
    return f"sofie::transpose_by_blocks<{planes.nbytes}, {rows}, {columns}>"


def _plain(planes: Planes, simd: str) -> str:
    """What moves them in a set that has no texts for AVX-512."""
    blocks = _blocks(planes)
    if planes.in_turn(simd):
        return f"sofie::move_interleaved<{planes.nbytes}, {blocks}>"
    return blocks


def _choice(mover: str, planes: Planes, why: str, *, everywhere: bool = False) -> Choice:
    """A kernel, and what sets without it run: it is for AVX-512 alone, or ``everywhere``."""
    reason = "its rows or columns in turn do not fill a register" if everywhere else IS_AVX512
    plain: dict[str, tuple[str, ...]] = {}
    for simd in SETS if everywhere else (AVX2, GENERIC):
        found = _plain(planes, simd)
        plain[found] = (*plain.get(found, ()), simd)
    plain.pop(mover, None)
    others = (Elsewhere(at, _read(found), READ_HEADER, reason) for found, at in plain.items())
    return Choice(_read(mover), READ_HEADER, why, elsewhere=tuple(others))


def _read(mover: str) -> str:
    return f"read_planes<{mover}>"


def _rows(problem: ReadProblem) -> Choice | str:
    found = problem.planes
    if found != _ROWS:
        return found if isinstance(found, str) else "its rows become columns"
    return Choice(_read("nullptr"), READ_HEADER, "pieces of rows are copied as they are")


def _of_planes(offer: Callable[[Planes], Choice | str]) -> Callable[[ReadProblem], Choice | str]:
    """The same for problems, of which some have no planes."""

    def offer_for(problem: ReadProblem) -> Choice | str:
        planes = problem.planes
        return planes if isinstance(planes, str) else offer(planes)

    return offer_for


def _small(of: Planes) -> Choice | str:
    most = 2 * of.picked
    if of.size > most:
        return f"its planes have {of.size} elements, more than {most}"
    dense = (of.from_step, of.to_step) == (of.columns, of.rows)
    if not dense or not of.from_plane == of.to_plane == of.size:
        return "its planes or their rows are not side by side"
    if isinstance(of.planes, int) and of.planes * of.size < most:
        return "its planes do not fill two registers"
    why = "as many planes as two registers hold are picked from these by a table"
    mover = f"sofie::move_small_planes<{of.nbytes}, {_plain(of, GENERIC)}>"
    return _choice(mover, of, why)


def _interleaved(of: Planes) -> Choice | str:
    if not of.in_turn(GENERIC):
        return "it has no two or three rows or columns that take turns"
    why = "elements of two or three rows take turns in registers"
    return _choice(_plain(of, GENERIC), of, why, everywhere=True)


def _squares(of: Planes) -> Choice | str:
    if of.nbytes != 4:
        return f"its elements have {of.nbytes} bytes, and not 4"
    if min(of.rows, of.columns) < _SQUARE:
        return f"it has not {_SQUARE} by {_SQUARE} numbers"
    return _choice(f"sofie::move_squares<{_blocks(of)}>", of, "16 by 16 numbers are in registers")


def _in_blocks(of: Planes) -> Choice | str:
    if of.block is None:
        return "it has no block of two rows or columns that fill 16 bytes"
    return Choice(_read(_blocks(of)), READ_HEADER, "blocks have a side that fills 16 bytes")


def _singly(of: Planes) -> Choice:
    return Choice(_read(_blocks(of)), READ_HEADER, "its elements are moved one by one")


def _any(_: ReadProblem) -> Choice:
    why = "the kernel finds its planes when it runs, and chooses by the same rule"
    return Choice("read_strided", READ_HEADER, why)


READS: Table[ReadProblem] = Table(
    "moves of elements",
    (
        Candidate("rows as they are", _rows),
        Candidate("small planes", _of_planes(_small)),
        Candidate("elements in turn", _of_planes(_interleaved)),
        Candidate("squares", _of_planes(_squares)),
        Candidate("blocks", _of_planes(_in_blocks)),
        Candidate("single elements", _of_planes(_singly)),
        Candidate("planes of any size", _any),
    ),
)
