"""The kernels of windows that slide over planes: which one computes which, and its memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sofie_rdf.ir.dims import Dim, maximum, never_negative, number_of, product
from sofie_rdf.ir.operator import flag
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ir.windows import Window
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

__all__ = ["AVERAGE_POOL", "MAX_POOL", "POOL_HEADER", "PoolProblem"]

POOL_HEADER = "sofie/kernels/pooling.hxx"
_LANES_HEADER = "sofie/kernels/pooling/lanes.hxx"
_PAIRS_HEADER = "sofie/kernels/pooling/pairs.hxx"

# What a kernel may read behind the last element of a row: a register of the smallest elements. The
# rows that are pooled at a time where registers have 64 bytes, and the floats of such a register.
_SLACK, _BUFFER, _LANES = 64, 4096, 16
# What planes in the lanes have: channels, columns of results, and numbers that are at hand.
_LEAST_CHANNELS, _WIDEST, _MOST_ELEMENTS = 8, 16, 1 << 16


@dataclass(frozen=True, slots=True)
class PoolProblem:
    """Windows over the planes of so many channels; ``pads`` says of a mean whether pads count.

    ``order`` says how the places of the largest elements are counted, if they are wanted.
    """

    dtype: DType
    channels: Dim
    windows: tuple[Window, ...]
    pads: bool | None = None
    order: int | None = None

    def scratch(self) -> tuple[TensorType, ...]:
        """Rows of x with their pads, and a table: what all of these kernels need.

        A mean has how many elements each window of a row has between them.
        """
        row, table = self._rows()
        lanes = _lanes_of(self)
        if not isinstance(lanes, str):
            size, taps = maximum(row.shape[0], lanes.elements), maximum(table.shape[0], lanes.taps)
            row, table = TensorType(self.dtype, (size,)), TensorType(DType.INT32, (taps,))
        members = TensorType(self.dtype, (self.windows[-1].count + _SLACK,))
        return (row, table) if self.pads is None else (row, members, table)

    def _rows(self) -> tuple[TensorType, TensorType]:
        *outer, last = self.windows
        row = (last.count + _SLACK) * last.stride + last.extent
        if self.dtype is not DType.FLOAT32:
            return TensorType(self.dtype, (row,)), TensorType(DType.INT32, (1,))
        masks = 2 * (last.size // _LANES + last.count // _LANES + 2)
        lists = product(w.count for w in outer) * (2 + math.prod(w.kernel for w in outer))
        table = TensorType(DType.INT32, (masks + lists,))
        return TensorType(self.dtype, (_BUFFER + row,)), table


@dataclass(frozen=True, slots=True)
class _Lanes:
    """What planes in the lanes of registers do together: columns, their stride, and the memory."""

    columns: int
    stride: int
    elements: int
    taps: int


def _lanes_of(problem: PoolProblem) -> _Lanes | str:
    """Planes side by side, or why they are pooled row by row."""
    along, channels = problem.windows, problem.channels
    numbers = [d for w in along for d in w.numbers]
    if problem.dtype is not DType.FLOAT32:
        return NO_FLOATS
    if len(along) != 2 or not all(isinstance(d, int) for d in numbers):
        return "it has not two axes of known sizes"
    (rows, height), (count, width) = ((number_of(w.count), number_of(w.size)) for w in along)
    begins = [number_of(w.begin) for w in along]
    last = along[-1]
    if not isinstance(channels, int) or channels < _LEAST_CHANNELS:
        return f"it has fewer than {_LEAST_CHANNELS} channels"
    if not 0 < count <= _WIDEST or rows <= 0 or last.stride > 2 or min(begins) < 0:
        return f"its rows have more than {_WIDEST} results, none, or a stride of more than 2"
    columns = min((14, 8, 4), key=lambda c: -(-count // c) * c)
    high = (rows - 1) * along[0].stride + along[0].extent
    behind = columns * (last.stride + 1) + 6 * _LANES
    places = height * width + high * number_of(last.pitch) + rows * count + behind
    elements = places * _LANES + 2 * (count + rows + 4 * _LANES)
    if elements > _MOST_ELEMENTS or min(height, width) == 0:
        return "its planes do not stay at hand, or are empty"
    return _Lanes(columns, last.stride, elements, along[0].kernel * last.kernel)


def _why_no_pairs(problem: PoolProblem) -> str:
    if problem.dtype is not DType.FLOAT32:
        return NO_FLOATS
    if len(problem.windows) != 2 or not all(map(_is_pairs, problem.windows)):
        return "its windows are not pairs of neighbours in rows, and of rows, all of them elements"
    return ""


def _is_pairs(window: Window) -> bool:
    pairs = (window.kernel, window.stride, window.dilation, window.begin) == (2, 2, 1, 0)
    return pairs and never_negative(window.size - 2 * window.count)


# The tables ---------------------------------------------------------------------------------------

_REST = "it takes every one: rows are pooled into a buffer, and that along itself"


def _pairs(kernel: str, plain: str) -> Callable[[PoolProblem], Choice | str]:
    def offer(problem: PoolProblem) -> Choice | str:
        return _why_no_pairs(problem) or Choice(
            kernel,
            _PAIRS_HEADER,
            "windows of 2 x 2 that touch each other are read once",
            scratch=problem.scratch(),
            elsewhere=(Elsewhere((AVX2, GENERIC), plain, POOL_HEADER, IS_AVX512),),
        )

    return offer


def _lanes(
    kernel: str, form: Callable[[PoolProblem], str]
) -> Callable[[PoolProblem], Choice | str]:
    """`form` are template arguments before those of the lanes."""

    def offer(problem: PoolProblem) -> Choice | str:
        lanes = _lanes_of(problem)
        if isinstance(lanes, str):
            return lanes
        first = form(problem)
        plain = f"{kernel}<{first}>" if first else kernel
        own = ", ".join((*((first,) if first else ()), f"{lanes.columns}, {lanes.stride}"))
        return Choice(
            f"{kernel}_lanes<{own}>",
            _LANES_HEADER,
            "sixteen planes lie side by side in the lanes",
            scratch=problem.scratch(),
            elsewhere=(Elsewhere((AVX2, GENERIC), plain, POOL_HEADER, IS_AVX512),),
        )

    return offer


def _flag(problem: PoolProblem) -> str:
    return flag(problem.pads)


def _average(problem: PoolProblem) -> Choice:
    kernel = f"average_pool<{_flag(problem)}>"
    return Choice(kernel, POOL_HEADER, _REST, scratch=problem.scratch())


def _largest(problem: PoolProblem) -> Choice:
    return Choice("max_pool", POOL_HEADER, _REST, scratch=problem.scratch())


def _indexed(problem: PoolProblem) -> Choice | str:
    if problem.order is None:
        return "nobody asks where the largest elements are"
    kernel = f"max_pool_indexed<{flag(problem.order)}>"
    return Choice(kernel, POOL_HEADER, "it finds where the largest elements are")


AVERAGE_POOL: Table[PoolProblem] = Table(
    "means of windows",
    (
        Candidate("average_pool_pairs", _pairs("average_pool_pairs", "average_pool<false>")),
        Candidate("average_pool_lanes", _lanes("average_pool", _flag)),
        Candidate("average_pool", _average),
    ),
)
MAX_POOL: Table[PoolProblem] = Table(
    "largest elements of windows",
    (
        Candidate("max_pool_indexed", _indexed),
        Candidate("max_pool_pairs", _pairs("max_pool_pairs", "max_pool")),
        Candidate("max_pool_lanes", _lanes("max_pool", lambda _: "")),
        Candidate("max_pool", _largest),
    ),
)
