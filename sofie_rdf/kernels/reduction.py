"""The kernels of reductions over axes that are known."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sofie_rdf.ir.dims import Dim, product
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

# Of the kernels: the longest row, the most pieces and sets, the fewest columns that are done
# together, the fewest that are not in the lanes together with other rows, and those of a register.
_ROW, _PIECES, _TOGETHER, _FEW, _LANES = 8192, 512, 64, 4, 16
# Classes of C++ that sum, take the largest or the least; all with a text; and those with one for
# rows whose results are looked at once more.
_COLUMNS = frozenset({"ReduceSum", "ReduceMean", "ReduceLogSum", "ReduceMax", "ReduceMin"})
_PLAIN = _COLUMNS | {"ReduceProd", "ReduceL1", "ReduceSumSquare"}
_NORM, _LOG_SUM = "ReduceL2", "ReduceLogSumExp"


@dataclass(frozen=True, slots=True)
class ReductionProblem:
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
        outer = [size for reduced, size in groups if reduced]
        return _Form(inner, run, tuple(outer), len(groups) - len(outer))


@dataclass(frozen=True, slots=True)
class _Form:
    """The inner axis, the run, the other axes that are reduced, and how many others are kept."""

    inner: Dim
    run: Dim
    sets: Shape
    kept: int

    @property
    def is_open(self) -> bool:
        return not all(isinstance(d, int) for d in (self.run, *self.sets))


def _offer(kernel: str, problem: ReductionProblem, why: str) -> Choice:
    """A kernel that only AVX-512 has."""
    rule = f"<sofie::{problem.rule}>"
    other = Elsewhere((AVX2, GENERIC), f"{_LANES_KERNEL}{rule}", REDUCTION_HEADER, IS_AVX512)
    return Choice(f"{kernel}{rule}", REDUCTION_HEADER, why, elsewhere=(other,))


_ROWS_KERNEL, _PIECES_KERNEL = "reduce_by_rows", "reduce_by_pieces"
_COLUMNS_KERNEL, _LANES_KERNEL = "reduce_by_columns", "reduce_by_lanes"
_OPEN = "how many numbers become one is not known"


def _rows(problem: ReductionProblem) -> Choice | str:
    if problem.dtype is not DType.FLOAT32:
        return NO_FLOATS
    form = problem.form
    if form.inner != 1 or form.sets:
        return "its results are columns, or their numbers are not side by side"
    if not isinstance(form.run, int):
        return _OPEN
    if not 0 < form.run <= _ROW:
        return f"its rows have {form.run} numbers; up to {_ROW} are not summed up pairwise"
    return _offer(_ROWS_KERNEL, problem, "rows that follow each other become one number each")


def _pieces(problem: ReductionProblem) -> Choice | str:
    if problem.dtype is not DType.FLOAT32:
        return NO_FLOATS
    form = problem.form
    if not isinstance(form.inner, int):
        return "how many columns it has is not known"
    if form.inner == 1:
        refused = _why_not_in_pieces(problem, form)
    elif problem.rule not in _PLAIN:
        refused = f"{problem.rule} has none for columns"
    else:
        refused = _why_not_few_columns(form)
    return refused or _offer(
        _PIECES_KERNEL, problem, "few columns, or rows in pieces, stay in one register"
    )


def _why_not_few_columns(form: _Form) -> str:
    inner, run = form.inner, form.run
    assert isinstance(inner, int)
    if form.sets or not _FEW <= inner < _TOGETHER:
        return f"it has not {_FEW} to {_TOGETHER - 1} columns of rows that follow each other"
    if not isinstance(run, int):
        return _OPEN
    return f"its columns have {run} numbers, more than {_PIECES}" if run > _PIECES else ""


def _why_not_in_pieces(problem: ReductionProblem, form: _Form) -> str:
    if not form.sets:
        return "its rows are whole"
    if form.is_open:
        return _OPEN
    run, sets = form.run, product(form.sets)
    assert isinstance(run, int) and isinstance(sets, int)
    if problem.rule != _LOG_SUM:
        return "" if 0 < run <= _ROW and 0 < sets <= _PIECES else _TOO_MANY
    if len(form.sets) > 1 or form.kept > 2:
        return "its pieces are not all as far apart"
    return "" if run <= _LANES and 0 < run * sets <= _ROW else _TOO_MANY


_TOO_MANY = "it has too many pieces, too long ones, or none"


def _columns(problem: ReductionProblem) -> Choice | str:
    if problem.dtype is not DType.FLOAT32:
        return NO_FLOATS
    if problem.rule not in _COLUMNS:
        return f"{problem.rule} is none of {', '.join(sorted(_COLUMNS))}"
    inner, sets = problem.form.inner, problem.form.sets
    if sets or (isinstance(inner, int) and inner < _TOGETHER):
        return f"it has not {_TOGETHER} columns and more of rows that follow each other"
    return _offer(_COLUMNS_KERNEL, problem, f"{_TOGETHER} columns are summed up side by side")


def _lanes(problem: ReductionProblem) -> Choice | str:
    form = problem.form
    if problem.dtype is DType.FLOAT32 and form.is_open and _may_be_near(problem, form):
        return _OPEN
    return Choice(
        f"{_LANES_KERNEL}<sofie::{problem.rule}>",
        REDUCTION_HEADER,
        "results, or numbers of a result, lie in the lanes",
    )


def _may_be_near(problem: ReductionProblem, form: _Form) -> bool:
    """Whether rows or few columns would have another kernel, were they short enough."""
    if form.inner == 1:
        return problem.rule != _LOG_SUM or not form.sets or (len(form.sets) == 1 and form.kept <= 2)
    inner = form.inner if isinstance(form.inner, int) else 0
    return problem.rule in _PLAIN and not form.sets and _FEW <= inner < _TOGETHER


def _any(problem: ReductionProblem) -> Choice:
    why = (
        "short rows and few columns have a kernel of their own, which the kernel finds when it runs"
    )
    return Choice(f"reduce<sofie::{problem.rule}>", REDUCTION_HEADER, why)


REDUCTIONS: Table[ReductionProblem] = Table(
    "reductions",
    (
        Candidate(_ROWS_KERNEL, _rows),
        Candidate(_PIECES_KERNEL, _pieces),
        Candidate(_COLUMNS_KERNEL, _columns),
        Candidate(_LANES_KERNEL, _lanes),
        Candidate("reduce", _any),
    ),
)
