"""Pairs of particles: which places are meant, and what is computed of one of the two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sofie_rdf.ir.dims import Dim, symbol
from sofie_rdf.ir.dims import evaluate as number
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ir.verify import verify
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.creation import KnownRange, Shape, Trilu
from sofie_rdf.ops.elementwise import Add, Exp, Mul, Relu, Sqrt, Sub
from sofie_rdf.ops.indexing import Gather, ScatterND, Slice
from sofie_rdf.ops.layout import (
    Concat,
    Expand,
    Flatten,
    Reshape,
    Split,
    Squeeze,
    Tile,
    Transpose,
    Unsqueeze,
)
from sofie_rdf.ops.pairs import PairIndices, PairTerms, Symmetric
from sofie_rdf.ops.reduction import ReduceSum
from sofie_rdf.ops.scatter import ScatterAt
from sofie_rdf.ops.selection import NonZero
from sofie_rdf.passes import pipeline
from sofie_rdf.passes.pairs import known_pairs, pair_operators, terms_of_pairs
from sofie_rdf.passes.simplify import (
    remove_dead,
    remove_identities,
    split_joined,
)
from sofie_rdf.reference import evaluate
from tests.passes.graphs import N, Net, operators

P = symbol("P")
SIZES = (7, 2, 1, 18)


def _indices(b: Net, *, k: int = -1, upper: bool = False, size: Dim = P) -> tuple[str, str]:
    """Rows and columns of what is not 0, as torch.tril_indices is exported."""
    ones = b.op(Expand((size, size)), b.c("one", 1.0))
    places = b.op(NonZero(), b.op(Trilu(k, upper), ones))
    b(Split(0, split=(1, 1)), places, outputs=("above", "below"))
    return b.op(Squeeze((0,)), "above", name="i"), b.op(Squeeze((0,)), "below", name="j")


def _feeds(graph: Graph, particles: int, events: int = 3) -> dict[str, Array]:
    rng = np.random.default_rng(particles)
    shapes = {
        name: tuple(number(d, {"N": events, "P": particles}) for d in graph.types[name].shape)
        for name in graph.inputs
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _known(graph: Graph) -> Graph:
    return remove_dead(remove_identities(split_joined(known_pairs(graph))))


def _same(before: Graph, after: Graph) -> None:
    """The same bits for several numbers of particles; the sizes of outputs may be known now."""
    verify(after)
    for particles in SIZES:
        feeds = _feeds(before, particles)
        old, new = evaluate(before, feeds), evaluate(after, feeds)
        for name in before.outputs:
            assert before.types[name].dtype is after.types[name].dtype
            assert old[name].shape == new[name].shape
            assert old[name].tobytes() == new[name].tobytes(), name


# Which pairs --------------------------------------------------------------------------------------


def test_places_below_the_diagonal_are_known_indices() -> None:
    b = Net(N, P)
    i, j = _indices(b)
    before = b.graph(i, j)
    after = _known(before)
    assert operators(after) == [str(PairIndices(P)), str(PairIndices(P, second=True))]
    assert all("nonzero" not in str(t) for t in after.types.values())
    _same(before, after)


@pytest.mark.parametrize(("k", "upper"), [(0, False), (-2, False), (-1, True), (1, True)])
def test_other_triangles_are_looked_for(k: int, upper: bool) -> None:
    b = Net(N, P)
    before = b.graph(*_indices(b, k=k, upper=upper))
    assert known_pairs(before) is before


def test_a_matrix_that_is_no_square_or_holds_zeros_is_looked_at() -> None:
    for shape, value in ((P, 3), 1.0), ((P, P), 0.0):
        b = Net(N, P)
        ones = b.op(Expand(shape), b.c("one", value))
        before = b.graph(b.op(NonZero(), b.op(Trilu(-1, upper=False), ones)))
        assert known_pairs(before) is before


# What is gathered ---------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [False, True])
def test_what_is_gathered_along_the_last_axis_is_the_terms(second: bool) -> None:
    b = Net(N, 4, P)
    indices = _indices(b)
    before = b.graph(b.op(Gather(-1), "x", indices[second], name="y"))
    after = remove_dead(pair_operators(_known(before)))
    assert operators(after) == [str(PairTerms(second))]
    _same(before, after)


def _copies(b: Net, *, by_row: bool, swapped: bool, other: bool = False) -> str:
    """x for both particles of all P * P pairs, as torch writes x.repeat and a flattened gather."""
    first, second = _indices(b)
    one = b.op(Unsqueeze((-1,)), "x")
    full = b.op(Tile((1, 1, 1, P)), one)
    perm = (2, 3, 0, 1) if by_row else (3, 2, 0, 1)
    flat = b.op(Flatten(axis=2), b.op(Transpose(perm), full, name="all"))
    size = b.op(Gather(), b.op(Shape(), "all"), b.c64("zero", [2 if other else 0]))
    p, q = (second, first) if swapped else (first, second)
    place = b.op(Add(), q, b.op(Mul(), p, size))
    found = b.op(Reshape((-1, N, 4)), b.op(Gather(0), flat, place))
    return b.op(Transpose((1, 2, 0)), found, name="y")


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
def test_what_is_gathered_out_of_copies_is_the_terms(by_row: bool, swapped: bool) -> None:
    b = Net(N, 4, P)
    before = b.graph(_copies(b, by_row=by_row, swapped=swapped))
    after = pipeline.run(before)
    assert operators(after) == [str(PairTerms(second=by_row == swapped))]
    _same(before, after)


def test_rows_of_another_length_are_gathered() -> None:
    b = Net(3, 4, P)
    first, second = _indices(b)
    flat = b.op(Flatten(axis=2), b.op(Transpose((2, 3, 0, 1)), _tiled(b), name="all"))
    place = b.op(Add(), second, b.op(Mul(), first, b.c64("three", [3])))
    before = _known(b.graph(b.op(Gather(0), flat, place, name="y")))
    assert operators(pair_operators(before)) == operators(before)


def _tiled(b: Net) -> str:
    return b.op(Tile((1, 1, 1, P)), b.op(Unsqueeze((-1,)), "x"))


# What is written ----------------------------------------------------------------------------------


def _updates() -> Net:
    b = Net(N, P)
    net = b.op(PairTerms(), b.op(Unsqueeze((1,)), "x"))
    b.op(Mul(), net, b.c("factors", np.arange(1, 6).reshape(1, -1, 1)), name="u")
    return b


def test_what_is_written_on_both_sides_is_a_symmetric_matrix() -> None:
    b = _updates()
    before = b.graph(_scattered(b))
    after = remove_dead(pair_operators(before))
    assert operators(after)[-1] == str(Symmetric(P))
    _same(before, after)


def _scattered(b: Net, order: tuple[int, int] = (0, 1), every: Sequence[int] = range(5)) -> str:
    """u written at (i, j), then at (j, i), of zeros."""
    i, j = (b.op(Reshape((1, 1, -1)), b.op(PairIndices(P, second))) for second in (False, True))
    zeros = b.op(Expand((N, 5, P, P)), b.c("zeros", [0.0]))
    each = b.op(Reshape((-1, 1, 1)), b.op(KnownRange(0, N, 1, DType.INT64)))
    features = b.op(Reshape((1, 5, 1)), b.c64("every", list(every)))
    once = b.op(ScatterAt(), zeros, "u", each, features, i, j)
    places = [(j, i)[o] for o in order]
    return b.op(ScatterAt(), once, "u", each, features, *places, name="y")


@pytest.mark.parametrize(
    ("order", "every"), [((1, 0), range(5)), ((0, 0), range(5)), ((0, 1), (0, 2, 1, 3, 4))]
)
def test_what_is_written_elsewhere_stays(order: tuple[int, int], every: Sequence[int]) -> None:
    b = _updates()
    before = b.graph(_scattered(b, order, every))
    assert operators(pair_operators(before)) == operators(before)


# What is computed of one of the two ---------------------------------------------------------------


def test_functions_of_one_particle_are_computed_once_for_each() -> None:
    b = Net(N, 4, P)
    terms = [b.op(PairTerms(second), "x") for second in (False, True)]
    sides = []
    for side, one in enumerate(terms):
        b(Split(1, split=(1, 2, 1)), one, outputs=[f"{part}{side}" for part in "abc"])
        squares = b.op(Mul(), f"b{side}", f"b{side}")
        size = b.op(Sqrt(), b.op(ReduceSum(axes=(1,)), squares))
        more = b.op(Concat(1), size, b.op(Slice((0,), (1,), (1,)), one))
        shifted = b.op(Add(), more, b.c(f"shift{side}", np.ones((1, 2, 1))))
        sides.append(b.op(Cast(DType.FLOAT64), shifted))
    before = b.graph(b.op(Sub(), *sides, name="y"))
    after = terms_of_pairs(before)
    assert operators(after)[-3:] == [str(PairTerms()), str(PairTerms(second=True)), "Sub()"]
    assert sum("PairTerms" in op for op in operators(after)) == 2
    _same(before, after)
    # Both sides are the same functions of the same particles.
    assert operators(pipeline.run(before)).count("Sqrt()") == 1


@pytest.mark.parametrize("kind", ["both", "last", "factors", "output"])
def test_what_needs_the_pairs_is_computed_for_them(kind: str) -> None:
    b = Net(N, 4, P)
    one, other = (b.op(PairTerms(second), "x") for second in (False, True))
    if kind == "both":
        y = b.op(Add(), one, other)
    elif kind == "last":
        y = b.op(ReduceSum(axes=(2,)), one)
    elif kind == "factors":
        y = b.op(Mul(), one, b.op(Exp(), other))
    else:
        y = b.op(Relu(), one)
    before = b.graph(y, one)
    after = terms_of_pairs(before)
    _same(before, after)
    if kind == "last":
        assert operators(after) == ["sofie.PairTerms()", "ReduceSum(axes=(2,))"]


def test_constants_for_each_pair_stay_where_they_are() -> None:
    b = Net(N, 4)
    scaled = b.op(Mul(), b.op(PairTerms(), "x"), b.c("factors", np.arange(6)))
    before = b.graph(b.op(Exp(), scaled, name="y"))
    assert operators(terms_of_pairs(before)) == operators(before)


# All of it ----------------------------------------------------------------------------------------


def test_a_network_of_pairs_as_it_is_exported() -> None:
    b = Net(N, 4, P)
    first, second = _indices(b)
    flat = b.op(Flatten(axis=2), b.op(Transpose((2, 3, 0, 1)), _tiled(b), name="all"))
    size = b.op(Gather(), b.op(Shape(), "all"), b.c64("zero", [0]))
    sides = []
    for p, q in ((first, second), (second, first)):
        place = b.op(Add(), q, b.op(Mul(), p, size))
        found = b.op(Reshape((-1, N, 4)), b.op(Gather(0), flat, place))
        sides.append(b.op(Sqrt(), b.op(Exp(), b.op(Transpose((1, 2, 0)), found))))
    features = b.op(Sub(), *sides)
    b.op(Mul(), features, features, name="u")
    zeros = b.op(Expand((N, 4, P, P)), b.c("zeros", [0.0]))
    columns = [
        b.op(Reshape((-1, 1, 1)), b.op(KnownRange(0, N, 1, DType.INT64))),
        b.op(Reshape((1, 4, 1)), b.c64("every", list(range(4)))),
        *(b.op(Reshape((1, 1, -1)), i) for i in (first, second)),
    ]
    shape = (N, 4, *b.type_of(first).shape)
    spread = [b.op(Unsqueeze((-1,)), b.op(Expand(shape), c)) for c in columns]
    for turn, order in enumerate(((0, 1, 2, 3), (0, 1, 3, 2))):
        indices = b.op(Concat(-1), *(spread[o] for o in order))
        zeros = b.op(ScatterND(), zeros, indices, "u", name=f"y{turn}")
    before = b.graph(zeros)
    after = pipeline.run(before)
    made = operators(after)
    assert "sofie.Symmetric(size=P)" in made and made.count("Exp()") == 1
    assert not any("Gather" in op or "NonZero" in op or "Scatter" in op for op in made)
    _same(before, after)
