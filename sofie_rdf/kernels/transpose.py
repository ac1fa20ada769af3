"""The kernels that read a tensor in steps, as transposes, slices and repetitions do.

Only bytes are moved, so all of them give the same bits. Where a plane of elements has its rows and
columns in another order, which kernel is fastest depends on its size and on that of an element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.types import Shape
from sofie_rdf.kernels.choice import (
    AVX2,
    AVX512,
    GENERIC,
    IS_AVX512,
    Candidate,
    Choice,
    Elsewhere,
    Table,
)

__all__ = ["READS", "READ_HEADER", "Planes", "ReadProblem", "merged"]

READ_HEADER = "sofie/kernels/layout.hxx"

# Of the kernels: the bytes of a register that picks elements, the rows or columns that it picks
# them from in turn, from how many elements on that pays for its table; the numbers of 4 bytes of a
# register in each set; those of a unit; and the bytes of a block's rows or columns.
_REGISTER, _TURNS, _TABLE = 64, 7, 8000
_LANES = {AVX512: 16, AVX2: 8, GENERIC: 4}
_MANY, _FEW = 16, 4
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


@dataclass(frozen=True, slots=True)
class Planes:
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

    def in_turn(self, least: int, turns: Sequence[int]) -> tuple[int, int] | None:
        """How many rows, or columns, take turns, and the length of each, which is no less."""
        if self.columns in turns and self.rows >= least and self.from_step == self.columns:
            return self.columns, self.rows
        if self.rows in turns and self.columns >= least and self.to_step == self.rows:
            return self.rows, self.columns
        return None

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


@dataclass(frozen=True, slots=True)
class ReadProblem:
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


def _elements(planes: Planes) -> str:
    return f"sofie::move_single_elements<{planes.nbytes}>"


def _blocks(planes: Planes) -> str:
    if planes.block is None:
        return _elements(planes)
    rows, columns = planes.block
    return f"sofie::transpose_by_blocks<{planes.nbytes}, {rows}, {columns}>"


def _without_avx512(planes: Planes) -> str:
    """What moves them in all sets."""
    blocks = _blocks(planes)
    if planes.nbytes != 4 or not planes.in_turn(_LANES[GENERIC], (2, 3)):
        return blocks
    return f"sofie::move_interleaved<{blocks}>"


def _plain(planes: Planes, simd: str) -> str:
    """The kernel that a set without texts for AVX-512 has."""
    if planes.nbytes == 4 and planes.in_turn(_LANES[simd], (2, 3)):
        return f"read_interleaved<{_blocks(planes)}>"
    if planes.block is None:
        return "read_single_elements"
    return f"read_blocks<{_blocks(planes)}>"


def _choice(kernel: str, planes: Planes, why: str, other: str = "") -> Choice:
    """A kernel, and what another set runs: where it has texts for AVX-512, ``other`` is given."""
    sets = (AVX2, GENERIC) if other else (AVX512, AVX2, GENERIC)
    reason = IS_AVX512 if other else "its rows or columns in turn do not fill a register"
    kernel = f"{kernel}<{other or _blocks(planes)}>"
    plain: dict[str, tuple[str, ...]] = {}
    for simd in sets:
        found = _plain(planes, simd)
        plain[found] = (*plain.get(found, ()), simd)
    plain.pop(kernel, None)
    others = (Elsewhere(at, found, READ_HEADER, reason) for found, at in plain.items())
    return Choice(kernel, READ_HEADER, why, elsewhere=tuple(others))


def _rows(problem: ReadProblem) -> Choice | str:
    found = problem.planes
    if found != _ROWS:
        return found if isinstance(found, str) else "its rows become columns"
    return Choice("read_rows", READ_HEADER, "pieces of rows are copied as they are")


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
    return _choice("read_small_planes", of, why, _without_avx512(of))


def _interleaved(of: Planes) -> Choice | str:
    if of.nbytes != 4 or not of.in_turn(_LANES[GENERIC], (2, 3)):
        return "it has no two or three rows or columns of elements of 4 bytes that take turns"
    return _choice("read_interleaved", of, "elements of two or three rows take turns in registers")


def _in_turn(of: Planes) -> Choice | str:
    found = of.in_turn(of.picked, range(_TURNS + 1))
    if found is None:
        return f"it has no {_TURNS} or fewer rows or columns that take turns"
    turns, length = found
    if of.nbytes == 1 and turns == 4:
        return "blocks of four bytes are as fast"
    if isinstance(of.planes, int) and of.planes * turns * length < _TABLE:
        return f"it has not the {_TABLE} elements that pay for a table"
    why = "elements of several rows are picked in turn by a table"
    return _choice("read_in_turn", of, why, _without_avx512(of))


def _units(of: Planes) -> Choice | str:
    if of.nbytes != 4:
        return f"its elements have {of.nbytes} bytes, and not 4"
    if min(of.rows, of.columns) < _FEW or max(of.rows, of.columns) < _MANY:
        return f"it has not {_MANY} by {_FEW} numbers"
    why = f"{_MANY} by {_FEW} numbers are in four registers"
    return _choice("read_units", of, why, _without_avx512(of))


def _in_blocks(of: Planes) -> Choice | str:
    if of.block is None:
        return "it has no block of two rows or columns that fill 16 bytes"
    why = "blocks have a side that fills 16 bytes"
    return Choice(f"read_blocks<{_blocks(of)}>", READ_HEADER, why)


def _singly(_: Planes) -> Choice:
    return Choice("read_single_elements", READ_HEADER, "its elements are moved one by one")


def _any(_: ReadProblem) -> Choice:
    why = "the kernel finds its planes when it runs, and chooses by the same rule"
    return Choice("read_strided", READ_HEADER, why)


READS: Table[ReadProblem] = Table(
    "moves of elements",
    (
        Candidate("read_rows", _rows),
        Candidate("read_small_planes", _of_planes(_small)),
        Candidate("read_interleaved", _of_planes(_interleaved)),
        Candidate("read_in_turn", _of_planes(_in_turn)),
        Candidate("read_units", _of_planes(_units)),
        Candidate("read_blocks", _of_planes(_in_blocks)),
        Candidate("read_single_elements", _of_planes(_singly)),
        Candidate("read_strided", _any),
    ),
)
