"""The kernels of reductions over axes that are known."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.types import DType, Shape
from sofie_rdf.kernels.choice import (
    AVX2,
    GENERIC,
    IS_AVX512,
    NO_FLOATS,
    Candidate,
    Choice,
    Elsewhere,
    Table,
)

__all__ = ["REDUCTIONS", "REDUCTION_HEADER", "ReductionProblem"]

REDUCTION_HEADER = "sofie/kernels/reduction.hxx"

# The fewest columns that are not in the lanes together with other rows.
_COLUMNS = 4
# Classes of C++ whose results are looked at once more, the one by numbers and the other by rows.
_NORM, _LOG_SUM = "ReduceL2", "ReduceLogSumExp"


class ReductionProblem(NamedTuple):
    """``rule``, a class of C++, over these axes of a tensor.

    Neighbours of one kind are seen as one axis, and those of size 1 do not exist. What is kept at
    the end is the inner axis, and what is reduced before it the run.
    """

    dtype: DType
    rule: str
    shape: Shape
    axes: Collection[int]

    @property
    def groups(self) -> tuple[tuple[bool, Dim], ...]:
        """Axes of one kind after each other: whether they are reduced, and their size."""
        found: list[tuple[bool, Dim]] = []
        for axis, size in enumerate(self.shape):
            reduced = axis in self.axes
            if size == 1:
                continue
            if found and found[-1][0] == reduced:
                found[-1] = reduced, found[-1][1] * size
            else:
                found.append((reduced, size))
        return tuple(found)

    @property
    def form(self) -> _Form:
        groups = list(self.groups)
        inner = groups.pop()[1] if groups and not groups[-1][0] else 1
        run = groups.pop()[1] if groups and groups[-1][0] else 1
        return _Form(inner, run, any(reduced for reduced, _ in groups))


class _Form(NamedTuple):
    """The inner axis, the run, and whether other axes are reduced, too."""

    inner: Dim
    run: Dim
    has_sets: bool


def _chosen(way: str, problem: ReductionProblem, why: str) -> Choice:
    return Choice(_kernel(way, problem), REDUCTION_HEADER, why)


def _kernel(way: str, problem: ReductionProblem) -> str:
    return f"reduce<sofie::ReductionWay::{way}, sofie::{problem.rule}>"


def _offer(way: str, problem: ReductionProblem, why: str) -> Choice | str:
    """A way that only AVX-512 has."""
    if problem.dtype is not DType.FLOAT32:
        return NO_FLOATS
    plain = _kernel("lanes", problem)
    other = Elsewhere((AVX2, GENERIC), plain, REDUCTION_HEADER, IS_AVX512)
    return _chosen(way, problem, why)._replace(elsewhere=(other,))


def _rows(problem: ReductionProblem) -> Choice | str:
    if problem.form.inner != 1 or problem.form.has_sets:
        return "its results are columns, or their numbers are not side by side"
    return _offer("rows", problem, "rows that follow each other become one number each")


def _columns(problem: ReductionProblem) -> Choice | str:
    inner = problem.form.inner
    if problem.rule in {_NORM, _LOG_SUM}:
        return f"{problem.rule} has none for columns"
    if problem.form.has_sets or (isinstance(inner, int) and inner < _COLUMNS):
        return f"it has not {_COLUMNS} columns and more of rows that follow each other"
    return _offer("columns", problem, "columns of a register are reduced side by side")


def _pieces(problem: ReductionProblem) -> Choice | str:
    if problem.form.inner != 1 or not problem.form.has_sets:
        return "its results are columns, or its rows are whole"
    if problem.rule == _LOG_SUM:
        return f"{problem.rule} has none for pieces"
    return _offer("pieces", problem, "rows in pieces stay in one register")


def _lanes(problem: ReductionProblem) -> Choice:
    return _chosen("lanes", problem, "results, or numbers of a result, lie in the lanes")


REDUCTIONS: Table[ReductionProblem] = Table(
    "reductions",
    (
        Candidate("reduction in rows", _rows),
        Candidate("reduction in columns", _columns),
        Candidate("reduction in pieces", _pieces),
        Candidate("reduction in lanes", _lanes),
    ),
)
