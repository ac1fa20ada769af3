"""Indices into a batch: which are proved to stay in their row, and that those do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sofie_rdf.gradients.derived import gradient
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim, symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.creation import KnownRange, Shape, Trilu
from sofie_rdf.ops.elementwise import Abs, Add, Mod, Mul, Sub
from sofie_rdf.ops.indexing import Gather, GatherND, Slice
from sofie_rdf.ops.layout import Concat, Expand, Reshape, Tile, Transpose
from sofie_rdf.ops.scatter import ScatterAt
from sofie_rdf.ops.selection import NonZero, TopK
from sofie_rdf.passes.rows import rows_of
from sofie_rdf.reading import optimized
from sofie_rdf.reference import evaluate

N, P, CHANNELS, K = symbol("rows"), symbol("points"), 3, 2
ROWS, POINTS = 6, 5


class Edges:
    """A graph that takes neighbours of points from the table of all events' points."""

    def __init__(self, points: Dim = P) -> None:
        self.points = points
        self.b = Builder("edges")
        self.x = self.b.input("x", TensorType(DType.FLOAT32, (N, points, CHANNELS)))
        self.scores = self.b.input("scores", TensorType(DType.FLOAT32, (N, points, points)))

    def local(self) -> str:
        """Neighbours among the points of the same event, [N, P, K]."""
        self.b(TopK((K,)), self.scores)
        return self.b.nodes[-1].outputs[1]

    def number(self, number: int) -> str:
        return self.b.constant(np.int64(number))

    def size(self, axis: int) -> str:
        return self.b(Gather(), self.b(Shape(), self.x), self.number(axis))

    def rows(self, start: int = 0) -> str:
        """The number of the event, [N, 1, 1]."""
        counted = KnownRange(start, N + start, 1, DType.INT64)
        return self.b(Reshape((N, 1, 1)), self.b(counted))

    def base(self) -> str:
        return self.b(Mul(), self.rows(), self.size(1))

    def taken(self, index: str) -> Graph:
        """What these indices [N, ..., K] take of the table."""
        table = self.b(Reshape((N * self.points, CHANNELS)), self.x)
        return self.b.graph(self.b(Gather(), table, index))

    def sums(self, *terms: str) -> str:
        first, *rest = terms
        for term in rest:
            first = self.b(Add(), first, term)
        return first


def right(e: Edges) -> Graph:
    return e.taken(e.sums(e.local(), e.base()))


def flattened(e: Edges) -> Graph:
    """As exporters write it: a list of indices, and a table whose channels were first."""
    index = e.b(Reshape((-1,)), e.sums(e.base(), e.local()))
    turned = e.b(Transpose((0, 2, 1)), e.b(Transpose((0, 2, 1)), e.x))
    table = e.b(Reshape((-1, CHANNELS)), turned)
    return e.b.graph(e.b(Reshape((N, e.points, K, CHANNELS)), e.b(Gather(), table, index)))


def channels_first(e: Edges) -> Graph:
    """The table [CHANNELS, N * P]: the rows are behind another axis."""
    table = e.b(Reshape((CHANNELS, N * e.points)), e.b(Transpose((2, 0, 1)), e.x))
    taken = e.b(Gather(1), table, e.sums(e.base(), e.local()))
    return e.b.graph(e.b(Transpose((1, 0, 2, 3)), taken))


def around(e: Edges) -> Graph:
    """The next point, of the last one the first."""
    next_ = e.b(Mod(), e.sums(e.local(), e.number(1)), e.size(1))
    return e.taken(e.sums(next_, e.base()))


def around_with_base(e: Edges) -> Graph:
    return e.taken(e.sums(e.b(Mod(), e.sums(e.local(), e.base()), e.size(1)), e.base()))


def themselves(e: Edges) -> Graph:
    """Counting through all points of all events."""
    counted = e.b(KnownRange(0, N * e.points, 1, DType.INT64))
    return e.taken(e.b(Reshape((N, e.points)), counted))


def in_steps(e: Edges) -> Graph:
    assert isinstance(e.points, int)
    base = e.b(KnownRange(0, N * e.points, e.points, DType.INT64))
    return e.taken(e.sums(e.b(Reshape((N, 1, 1)), base), e.local()))


def as_slices(e: Edges) -> Graph:
    index = e.b(Reshape((N, e.points * K, 1)), e.sums(e.local(), e.base()))
    table = e.b(Reshape((N * e.points, CHANNELS)), e.x)
    return e.b.graph(e.b(GatherND(), table, index))


def of_the_batch(e: Edges) -> Graph:
    """Without a base, within each row."""
    index = e.b(Reshape((N, e.points * K, 1)), e.local())
    return e.b.graph(e.b(GatherND(1), e.x, index))


def without_base(e: Edges) -> Graph:
    own = e.b(Sub(), e.sums(e.local(), e.base()), e.base())
    index = e.b(Reshape((N, e.points * K, 1)), own)
    return e.b.graph(e.b(GatherND(1), e.x, index))


def moved_together(e: Edges) -> Graph:
    both = e.b(Concat(2), e.sums(e.local(), e.base()), e.sums(e.base(), e.local()))
    return e.taken(e.b(Slice((1,), (3,), (2,)), both))


def in_fewer_bits(e: Edges) -> Graph:
    cast = e.b(Cast(to=DType.INT32), e.sums(e.local(), e.base()))
    return e.taken(cast)


def table_of_tables(e: Edges) -> str:
    """The table of all points twice: a row of the batch is in both."""
    twice = e.b(Expand((2, 1, 1, 1)), e.b(Reshape((1, N, e.points, CHANNELS)), e.x))
    return e.b(Reshape((2 * N * e.points, CHANNELS)), twice)


def first_of_two_tables(e: Edges) -> Graph:
    return e.b.graph(e.b(Gather(), table_of_tables(e), e.sums(e.local(), e.base())))


PROVED: list[Callable[[Edges], Graph]] = [
    right,
    flattened,
    channels_first,
    around,
    around_with_base,
    themselves,
    as_slices,
    of_the_batch,
    without_base,
    moved_together,
    in_fewer_bits,
    in_steps,
    first_of_two_tables,
]


# Where rows meet ----------------------------------------------------------------------------------


def no_base(e: Edges) -> Graph:
    return e.taken(e.local())


def longer_stride(e: Edges) -> Graph:
    return e.taken(e.sums(e.local(), e.base(), e.rows()))


def shorter_stride(e: Edges) -> Graph:
    return e.taken(e.sums(e.local(), e.b(Sub(), e.base(), e.rows())))


def backwards(e: Edges) -> Graph:
    return e.taken(e.b(Sub(), e.local(), e.base()))


def beyond(e: Edges) -> Graph:
    return e.taken(e.sums(e.local(), e.base(), e.number(1)))


def before(e: Edges) -> Graph:
    return e.taken(e.b(Sub(), e.sums(e.local(), e.base()), e.number(1)))


def next_row(e: Edges) -> Graph:
    stride = e.b(Mul(), e.rows(start=1), e.size(1))
    return e.taken(e.sums(e.local(), stride))


def other_order(e: Edges) -> Graph:
    far = -(2**40)
    turned = e.b(Slice((-1,), (far,), (0,), (-1,)), e.base())
    return e.taken(e.sums(e.local(), turned))


def of_the_first_row(e: Edges) -> Graph:
    first = e.b(Gather(), e.sums(e.local(), e.base()), e.number(0))
    return e.taken(e.b(Expand((N, 1, 1)), first))


def of_no_row(e: Edges) -> Graph:
    return e.taken(e.b(Expand((N, 2)), e.b.constant(np.array([0, 1]))))


def other_layout(e: Edges) -> Graph:
    counted = e.b(KnownRange(0, N * e.points, 1, DType.INT64))
    return e.taken(e.b(Transpose((1, 0)), e.b(Reshape((e.points, N)), counted)))


def two_tables(e: Edges) -> Graph:
    index = e.sums(e.local(), e.base(), e.base())
    return e.b.graph(e.b(Gather(), table_of_tables(e), index))


def other_table(e: Edges) -> Graph:
    """Points of all events side by side: what belongs together is not in one piece."""
    turned = e.b(Transpose((1, 0, 2)), e.x)
    table = e.b(Reshape((N * e.points, CHANNELS)), turned)
    return e.b.graph(e.b(Gather(), table, e.sums(e.local(), e.base())))


def too_many(e: Edges) -> Graph:
    """Modulo a number that is more than there are points."""
    more = e.sums(e.size(1), e.number(1))
    next_ = e.b(Mod(), e.sums(e.local(), e.number(1)), more)
    return e.taken(e.sums(next_, e.base()))


def number_of_the_row(e: Edges) -> Graph:
    return e.b.graph(e.b(Add(), e.x, e.b(Cast(to=DType.FLOAT32), e.rows())))


def absolute_number_of_the_row(e: Edges) -> Graph:
    number = e.b(Cast(to=DType.FLOAT32), e.b(Abs(), e.rows()))
    return e.b.graph(e.b(Add(), e.x, number))


def nothing_but_the_row(e: Edges) -> Graph:
    return e.b.graph(e.rows())


def by_the_row(e: Edges) -> Graph:
    """As many points further as the number of the row says."""
    next_ = e.b(Mod(), e.sums(e.local(), e.rows()), e.size(1))
    return e.taken(e.sums(next_, e.base()))


def some_without_base(e: Edges) -> Graph:
    return e.taken(e.b(Concat(2), e.sums(e.local(), e.base()), e.local()))


def tiled(e: Edges) -> Graph:
    twice = e.b(Tile((2, 1, 1)), e.x)
    return e.b.graph(e.b(Reshape((N, 2, e.points, CHANNELS)), twice))


def number_of_the_row_as_index(e: Edges) -> Graph:
    """A table that all rows share has nothing for their numbers."""
    table = e.b.constant(np.arange(ROWS, dtype=np.float32))
    return e.b.graph(e.b(Gather(), table, e.rows()))


def number_of_rows(e: Edges) -> Graph:
    count = e.b(Cast(to=DType.FLOAT32), e.size(0))
    return e.b.graph(e.b(Mul(), e.x, count))


def times_the_rows(e: Edges) -> Graph:
    return e.taken(e.b(Mod(), e.sums(e.local(), e.b(Mul(), e.rows(), e.size(0))), e.size(0)))


def slices_of_the_row_behind(e: Edges) -> Graph:
    stride = e.b(Mul(), e.rows(start=1), e.size(1))
    index = e.b(Reshape((N, e.points * K, 1)), e.sums(e.local(), stride))
    table = e.b(Reshape((N * e.points, CHANNELS)), e.x)
    return e.b.graph(e.b(GatherND(), table, index))


MEETING: list[Callable[[Edges], Graph]] = [
    no_base,
    longer_stride,
    shorter_stride,
    backwards,
    beyond,
    before,
    next_row,
    other_order,
    of_the_first_row,
    of_no_row,
    other_layout,
    two_tables,
    other_table,
    too_many,
    number_of_the_row,
    absolute_number_of_the_row,
    nothing_but_the_row,
    by_the_row,
    some_without_base,
    tiled,
    number_of_the_row_as_index,
    number_of_rows,
    times_the_rows,
    slices_of_the_row_behind,
]


# Pairs, written to both places of a matrix --------------------------------------------------------


def pairs(change: str = "", places: int = 5) -> Graph:
    """A number for each pair of points, as Particle Transformer has them: [N, 2, P, P]."""
    b = Builder("pairs")
    x = b.input("x", TensorType(DType.FLOAT32, (N, 2, places * (places - 1) // 2)))
    ones = b(Expand((places, places)), b.constant(np.ones((), np.float32)))
    listed = b(NonZero(), b(Trilu(k=-1, upper=False), ones))
    i, j = (b(Slice((n,), (n + 1,), (0,)), listed) for n in range(2))
    number = b.type_of(i).shape[1]
    columns = [b(Reshape((1, 1, number)), one) for one in (i, j)]
    updates = b(Reshape((N, 2, number)), x)
    rows: Any = b(KnownRange(0, N, 1, DType.INT64))
    if change == "next":
        rows = b(
            Mod(),
            b(Add(), rows, b.constant(np.int64(1))),
            b(Slice((0,), (1,), (0,)), b(Shape(), x)),
        )
    if change == "first":
        rows = b(Mul(), rows, b.constant(np.int64(0)))
    channels = b.constant(np.arange(2).reshape(1, 2, 1))
    zeros = b(Expand((N, 2, places, places)), b.constant(np.zeros((), np.float32)))
    y = b(ScatterAt(), zeros, updates, b(Reshape((N, 1, 1)), rows), channels, *columns)
    merged = b(Reshape((2 * N, places, places)), y)
    if change == "merged":
        merged = b(Reshape((2 * N, places, places)), b(Transpose((1, 0, 2, 3)), y))
    return b.graph(b(Reshape((N, 2, places, places)), merged))


# --------------------------------------------------------------------------------------------------


def feeds_of(graph: Graph) -> dict[str, Array]:
    random = np.random.default_rng(4)
    sizes = {"rows": ROWS, "points": POINTS}
    shapes = {name: graph.types[name].shape for name in graph.inputs}
    return {
        name: random.normal(size=[sizes.get(str(d), d) for d in shape]).astype(np.float32)
        for name, shape in shapes.items()
    }


def results(graph: Graph, feeds: dict[str, Array]) -> Array:
    sizes = {"rows": len(next(iter(feeds.values()))), "points": POINTS}
    return np.asarray(evaluate(graph.with_sizes(sizes), feeds)[graph.outputs[0]])


def rows_meet(graph: Graph) -> bool:
    """Whether pieces of a batch give something else, or nothing."""
    feeds = feeds_of(graph)
    parts = [{n: a[part] for n, a in feeds.items()} for part in (slice(0, 2), slice(2, ROWS))]
    try:
        whole = results(graph, feeds)
        return not np.array_equal(np.concatenate([results(graph, p) for p in parts]), whole)
    except (IndexError, ValueError):
        return True


@pytest.mark.parametrize("points", [POINTS, P], ids=["known", "open"])
@pytest.mark.parametrize("build", PROVED, ids=lambda f: f.__name__)
def test_indices_that_stay_in_their_row_are_proved(
    build: Callable[[Edges], Graph], points: Dim
) -> None:
    if build is in_steps and points is P:
        return  # A step is a number.
    graph = build(Edges(points))
    assert rows_of(graph) == "rows"
    assert not rows_meet(graph)


@pytest.mark.parametrize("points", [POINTS, P], ids=["known", "open"])
@pytest.mark.parametrize("build", MEETING, ids=lambda f: f.__name__)
def test_indices_that_leave_their_row_are_not(build: Callable[[Edges], Graph], points: Dim) -> None:
    graph = build(Edges(points))
    assert rows_meet(graph)
    assert rows_of(graph) == ""


ADDED = [right, flattened, channels_first, around, around_with_base, themselves, in_steps]
MIXED = [no_base, longer_stride, shorter_stride, backwards, beyond, before, next_row, other_order]


@pytest.mark.parametrize("build", [*ADDED, *MIXED], ids=lambda f: f.__name__)
def test_derivatives_are_added_at_indices_that_stay_in_their_row(
    build: Callable[[Edges], Graph],
) -> None:
    """The way back of what is gathered is scattered to where it came from."""
    graph = build(Edges(POINTS))
    wide = optimized(gradient(graph, None, ["x"], vjp=True))
    derived = replace(wide, outputs=wide.outputs[-1:])
    assert rows_of(derived) == ("rows" if build in ADDED else "")
    assert rows_meet(derived) == (build in MIXED)


@pytest.mark.parametrize("change", ["", "next", "first", "merged"])
def test_pairs_are_written_to_their_row(change: str) -> None:
    graph = pairs(change)
    assert rows_meet(graph) == bool(change)
    assert rows_of(graph) == ("" if change else "rows")
