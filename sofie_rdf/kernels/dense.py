"""The kernels of products with constant weights, of one layer and of several."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from sofie_rdf.ir.dims import Dim, ceil_div, largest, number_of
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.kernels.choice import (
    AVX2,
    GENERIC,
    IS_ASSEMBLER,
    IS_AVX512,
    NO_FLOATS,
    Candidate,
    Choice,
    Elsewhere,
    Table,
)

__all__ = [
    "DENSE",
    "DENSE_HEADER",
    "DENSE_LAYERS",
    "LAYERS_HEADER",
    "DenseProblem",
    "LayersProblem",
]

DENSE_HEADER = "sofie/kernels/dense.hxx"
LAYERS_HEADER = "sofie/kernels/dense/layers.hxx"
_DOTS_HEADER = "sofie/kernels/dense/dots.hxx"
_MEMORY_HEADER = "sofie/kernels/dense/from_memory.hxx"

# Of the kernel with AVX-512: the floats of a register, and the registers that a row of sums has.
LANES, _MOST_PACKS = 16, 14
# The rows of a tile.
TILE_ROWS = 8


# One layer ----------------------------------------------------------------------------------------


class DenseProblem(NamedTuple):
    """y[rows, columns] = f(x[rows, depth] @ w[depth, columns] + b[columns]).

    Without ``rows`` some of them are computed at a time, any number.
    """

    dtype: DType
    rows: Dim | None
    depth: int
    columns: int

    @property
    def packs(self) -> int:
        """Registers for one row of results, with AVX-512."""
        return -(-self.columns // LANES)

    @property
    def width(self) -> int:
        """How many of them a panel of weights has."""
        panels = max(1, -(-self.packs // _MOST_PACKS))
        return -(-self.packs // panels)

    @property
    def chains(self) -> int:
        """In how many chains each result is summed up."""
        return 1 if self.width >= 6 else 2 if self.width >= 3 else 4 if self.width == 2 else 8

    def packed(self, name: str) -> str:
        """The class of that name with these weights."""
        return f"{name}<{self.dtype.cxx}, {self.depth}, {self.columns}>"


def _dots(problem: DenseProblem) -> Choice | str:
    if problem.columns != 1:
        return f"it has {problem.columns} columns, and not one"
    return Choice(
        "dense_dots",
        _DOTS_HEADER,
        "its only column is stored as a row, and summed up along it",
        packed=f"DotWeights<{problem.dtype.cxx}, {problem.depth}>",
    )


# From how many weights on these come from afar: then they fill the second cache. And from how many
# steps and columns on it pays to ask for them ahead.
_FAR, _FAR_DEPTH, _FAR_COLUMNS = 500_000, 256, 128


def _far(problem: DenseProblem) -> Choice | str:
    if problem.dtype is not DType.FLOAT32:
        return NO_FLOATS
    if problem.rows == 1:
        return "one row reads wider panels as fast"
    if problem.depth < _FAR_DEPTH or problem.columns < _FAR_COLUMNS:
        return f"it has not {_FAR_DEPTH} steps and {_FAR_COLUMNS} columns"
    weights = problem.depth * problem.columns
    if weights < _FAR:
        return f"its {weights:,} weights, fewer than {_FAR:,}, stay in the second cache"
    return Choice(
        "dense_far",
        _MEMORY_HEADER,
        "weights come from afar: in panels of one or two tiles they are read in their order",
        packed=problem.packed("FarWeights"),
        elsewhere=(Elsewhere((GENERIC,), "dense", DENSE_HEADER, IS_ASSEMBLER),),
    )


def _any(problem: DenseProblem) -> Choice:
    least, rows = least_rows(problem), problem.rows
    few = "3 or 4 with AVX2, 6 else" if problem.dtype is DType.FLOAT32 else "6 in all sets"
    why = f"rows go one by one, or from {least} on in tiles ({few})"
    if rows == 1:
        why = "the sums of its row stay in registers, as many as a panel of weights has"
    return Choice("dense", DENSE_HEADER, why, packed=problem.packed("DenseWeights"))


# The packs of columns that a tile has, and the weights of a near cache.
_TILE_PACKS, _NEAR = 4, 8192


def least_rows(problem: DenseProblem) -> int:
    """From how many rows on they are computed together with AVX-512."""
    if problem.dtype is not DType.FLOAT32:
        return 6
    far = problem.depth * problem.columns > _NEAR
    return 2 if far or problem.width % _TILE_PACKS == 0 else TILE_ROWS


DENSE: Table[DenseProblem] = Table(
    "dense layers",
    (
        Candidate("dense_dots", _dots),
        Candidate("dense_far", _far),
        Candidate("dense", _any),
    ),
)


# Several layers -----------------------------------------------------------------------------------

# Of the kernel: how many rows go through all layers together, and how many do so in lanes at least.
LAYERS_ROWS, _LANES_ROWS = 64, 25


class LayersProblem(NamedTuple):
    """Layers one after the other: ``widths`` are the columns of x, and then those of each layer."""

    dtype: DType
    rows: Dim
    widths: tuple[Dim, ...]

    @property
    def layers(self) -> tuple[DenseProblem, ...]:
        """Each of them by itself."""
        widths = [number_of(w) for w in self.widths]
        rows = 1 if self.rows == 1 else None
        return tuple(DenseProblem(self.dtype, rows, k, n) for k, n in pairwise(widths))

    @property
    def packed(self) -> tuple[str, ...]:
        """The class in which each layer has its weights."""
        return tuple(DENSE.choose(layer).packed for layer in self.layers)

    def scratch(self) -> tuple[TensorType]:
        """What is between two layers, twice."""
        rows, widest = 1 if self.rows == 1 else LAYERS_ROWS, largest(self.widths)
        return (TensorType(self.dtype, (2 * rows * LANES * ceil_div(widest, LANES),)),)


def _layers_one_row(problem: LayersProblem) -> Choice | str:
    if problem.dtype is not DType.FLOAT32:
        return NO_FLOATS
    if problem.rows != 1:
        return "it has more than one row, or how many is not known"
    return Choice(
        "dense_layers_one_row",
        LAYERS_HEADER,
        "one row goes from layer to layer without a branch between them",
        scratch=problem.scratch(),
        elsewhere=(_ELSEWHERE,),
    )


# What a layer takes where one product for 32 rows is 100, measured: by rows with one or several
# chains, where it is filled up to whole registers; in lanes; and for a number that changes places
# between rows and lanes.
_BY_ROWS, _BY_CHAINS, _IN_LANES, _TURN = 99, 111, 103, 700
# The columns that a tile in lanes has at least, or it waits for its sums.
_LEAST_COLUMNS = 4


def _costs(problem: LayersProblem) -> tuple[int, int]:
    """What all layers take by rows and in lanes."""
    layers = problem.layers
    by_rows = in_lanes = 0
    for layer in layers:
        if layer.columns == 1:
            in_lanes += layer.depth * _TURN
            continue
        each = _BY_CHAINS if layer.chains > 1 and layer.width != _TILE_PACKS else _BY_ROWS
        by_rows += layer.depth * layer.packs * LANES * each
        in_lanes += layer.depth * max(layer.columns, _LEAST_COLUMNS) * _IN_LANES
    first, last = layers[0].depth, layers[-1].columns
    return by_rows, in_lanes + (first + (0 if last == 1 else last)) * _TURN


def _layers_lanes(problem: LayersProblem) -> Choice | str:
    if problem.dtype is not DType.FLOAT32:
        return NO_FLOATS
    if isinstance(problem.rows, int) and problem.rows < _LANES_ROWS:
        return f"it has {problem.rows} rows, fewer than {_LANES_ROWS}"
    by_rows, in_lanes = _costs(problem)
    if by_rows <= in_lanes:
        return f"by rows it takes {by_rows / in_lanes:.2f} of the time in lanes"
    return Choice(
        "dense_layers_lanes",
        LAYERS_HEADER,
        f"{_LANES_ROWS} rows and more lie in lanes, which takes {in_lanes / by_rows:.2f} of the "
        "time that rows take, whose columns do not fill registers",
        scratch=problem.scratch(),
        elsewhere=(_ELSEWHERE,),
    )


def _layers(problem: LayersProblem) -> Choice:
    return Choice(
        "dense_layers",
        LAYERS_HEADER,
        f"{LAYERS_ROWS} rows go through all layers before the next ones do",
        scratch=problem.scratch(),
    )


_ELSEWHERE = Elsewhere((AVX2, GENERIC), "dense_layers", LAYERS_HEADER, IS_AVX512)

DENSE_LAYERS: Table[LayersProblem] = Table(
    "dense layers that follow each other",
    (
        Candidate("dense_layers_one_row", _layers_one_row),
        Candidate("dense_layers_lanes", _layers_lanes),
        Candidate("dense_layers", _layers),
    ),
)
