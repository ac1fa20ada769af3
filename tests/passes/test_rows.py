"""Rows that are said to keep apart do so, for all cases that operators have."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from sofie_rdf.errors import SofieError
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import name_of, symbol, symbols_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import REGISTRY, symbols_in, with_sizes
from sofie_rdf.ir.types import Array, DType, TensorType, concrete
from sofie_rdf.ops.creation import KnownRange
from sofie_rdf.ops.indexing import ScatterND
from sofie_rdf.ops.layout import Identity, Reshape, Transpose
from sofie_rdf.ops.pooling import MaxPool
from sofie_rdf.ops.scatter import ScatterAt
from sofie_rdf.passes.rows import _RULES, rows_of
from sofie_rdf.reference import evaluate
from tests.ops.cases import Case
from tests.ops.test_contract import OPERATORS, accepted_cases

ROWS = symbol("rows")
COUNT = 5
# Of operators of one class, one that has a case. What reads nothing has no rows to keep apart, and
# indices that are any numbers go anywhere (test_places.py). The shape of what RandomNormal and
# RandomUniform draw is a number here (runtime/test_random.py has rows of them).
ANYWHERE = (KnownRange, ScatterAt, ScatterND)
WITH_RULES = [
    key
    for key in OPERATORS
    if key not in (("", "RandomNormal"), ("", "RandomUniform"))
    and any(cls in _RULES for cls in REGISTRY[key].__mro__ if cls not in ANYWHERE)
]


def variants(case: Case) -> Iterator[Graph]:
    """Graphs of one node, in which one axis of some of its inputs is the batch."""
    first = case.inputs[0]
    if not isinstance(first, TensorType):
        return
    open_inputs = [i for i, t in enumerate(case.inputs) if isinstance(t, TensorType)]
    for axis, size in enumerate(first.shape):
        alike = [
            i
            for i in open_inputs
            if case.inputs[i].rank > axis and case.inputs[i].shape[axis] == size  # type: ignore[union-attr]
        ]
        for chosen in {(0,), tuple(alike), (open_inputs[-1],)}:
            with suppress(SofieError, IndexError):  # Not every axis can have any size.
                yield graph_of(case, axis, chosen)


def graph_of(case: Case, axis: int, chosen: tuple[int, ...]) -> Graph:
    """The graph whose batch is this axis of these inputs, and the first one outside."""
    random, build, names = np.random.default_rng(1), Builder("rows"), []
    for i, given in enumerate(case.inputs):
        if given is None:
            names.append("")
        elif i in chosen:
            assert isinstance(given, TensorType)
            rest = [concrete_dim(d) for d in given.shape]
            del rest[axis]
            outer = build.input(f"x{i}", TensorType(given.dtype, (ROWS, *rest)))
            order = (*range(1, axis + 1), 0, *range(axis + 1, given.rank))
            names.append(build(Transpose(order), outer))
        else:
            array = given
            if isinstance(given, TensorType):
                shape = tuple(concrete_dim(d) for d in given.shape)
                array = case.fill(i)(random, given.dtype, shape, False)
            names.append(build.constant(array, f"c{i}"))
    first = case.inputs[0]
    assert isinstance(first, TensorType)
    sizes: dict[str, Any] = {**dict.fromkeys(symbols_in(case.op), COUNT)}
    sizes[name_of(first.shape[axis])] = ROWS
    op = with_sizes(case.op, sizes)
    y = build(op, *names)
    node = next(n for n in build.nodes if y in n.outputs)
    outputs = []
    for name in node.outputs[:1] if case.only_first_output else node.outputs:
        shape = build.type_of(name).shape
        found = [i for i, d in enumerate(shape) if name_of(d) == "rows"]
        order = (found[0], *(i for i in range(len(shape)) if i != found[0]))
        outputs.append(build(Transpose(order), name))
    return build.graph(*outputs)


def concrete_dim(dim: Any) -> int:
    return concrete((dim,), dict.fromkeys(symbols_of(dim), COUNT))[0]


def feeds_of(graph: Graph, case: Case) -> dict[str, Array]:
    random, found = np.random.default_rng(2), {}
    for name in graph.inputs:
        type_ = graph.types[name]
        shape = concrete(type_.shape, {"rows": COUNT})
        found[name] = case.fill(int(name[1:]))(random, type_.dtype, shape, False)
    return found


def results(graph: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    rows = {"rows": len(next(iter(feeds.values())))}
    return evaluate(graph.with_sizes(rows), feeds)


def same(one: Array, other: Array) -> bool:
    if one.dtype.kind != "f":
        return np.array_equal(one, other)
    # NumPy adds in another order for other numbers of rows: the error is that of the largest sums.
    largest = max(1.0, float(np.max(np.abs(other), initial=0, where=np.isfinite(other))))
    return np.allclose(one, other, rtol=1e-4, atol=1e-5 * largest, equal_nan=True)


def rows_meet(graph: Graph, case: Case) -> bool:
    """Whether rows alone, in another order or beside NaN give something else."""
    feeds = feeds_of(graph, case)
    whole = results(graph, feeds)
    order = np.array([3, 0, 4, 2, 1])
    mixed = results(graph, {n: a[order] for n, a in feeds.items()})
    odd = {n: a.copy() for n, a in feeds.items()}
    for array in odd.values():
        array[2] = np.nan if array.dtype.kind == "f" else array[1]
    beside, others = results(graph, odd), np.array([0, 1, 3, 4])
    for name, y in whole.items():
        parts = [
            results(graph, {n: a[part] for n, a in feeds.items()})[name]
            # Not one row, which NumPy's squeeze takes for an axis that is always 1.
            for part in (slice(0, 2), slice(2, 5))
        ]
        if not same(np.concatenate(parts), y) or not same(mixed[name], y[order]):
            return True
        if not same(beside[name][others], y[others]):
            return True
    return False


TYPES = DType.FLOAT32, DType.INT64, DType.BOOL, DType.INT8, DType.UINT8


@pytest.mark.parametrize("key", WITH_RULES, ids=lambda key: ".".join(filter(None, key)))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_keep_apart_where_that_is_proved(key: tuple[str, str]) -> None:
    proved = 0
    cases = [c for d, c in accepted_cases(key) if d in TYPES]
    for case in cases[:60]:
        for graph in variants(case):
            if rows_of(graph):
                proved += 1
                assert not rows_meet(graph, case), f"{case.op} {graph.types}"
    assert proved, "no case of this operator is proved: is its rule needed?"


def test_a_batch_that_is_no_first_axis_proves_nothing() -> None:
    build = Builder("turned")
    x = build.input("x", TensorType(DType.FLOAT32, (ROWS, 3)))
    graph = build.graph(build(Transpose((1, 0)), x))
    assert rows_of(graph) == ""
    assert rows_of(dataclasses.replace(graph, outputs=("x",))) == "rows"


def test_rows_that_change_places_prove_nothing() -> None:
    for changes in (False, True):
        build = Builder("turned")
        x = build.input("x", TensorType(DType.FLOAT32, (ROWS, 2)))
        y = build(Transpose((1, 0)), x) if changes else build(Reshape((ROWS, 1, 2)), x)
        assert rows_of(build.graph(build(Reshape((ROWS, 2)), y))) == ("" if changes else "rows")


def test_places_of_maxima_are_counted_through_the_batch() -> None:
    build = Builder("maxima")
    x = build.input("x", TensorType(DType.FLOAT32, (ROWS, 2, 5)))
    y = build(MaxPool((2,)), x)
    places = build.nodes[-1].outputs[1]
    assert rows_of(build.graph(y)) == "rows"
    assert rows_of(build.graph(places)) == ""
    build(Identity(), places)
    assert rows_of(build.graph(y)) == ""
