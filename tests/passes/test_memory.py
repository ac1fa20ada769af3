"""Where values live: who shares memory, what brings its own, and what is copied to an output."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim, align, evaluate, symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.model import Model
from sofie_rdf.ops.assumptions import Assume
from sofie_rdf.ops.elementwise import Abs, Add, Exp, Neg, Relu
from sofie_rdf.ops.indexing import Slice
from sofie_rdf.ops.layout import Concat, Flatten, Identity, Split, Squeeze, Transpose
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.ops.selection import NonZero
from sofie_rdf.passes.memory import Argument, Owned, Scratch, Weight, plan_memory

N = symbol("N")


def builder(*shape: Dim) -> Builder:
    build = Builder("net")
    build.input("x", TensorType(DType.FLOAT32, shape))
    return build


def copies(graph: Graph, *, is_body: bool = False) -> set[tuple[str, str]]:
    return set(plan_memory(graph, is_body=is_body).copies)


def test_an_output_is_computed_where_the_caller_wants_it() -> None:
    build = builder(N, 4)
    build(Flatten(), build(Relu(), "x", outputs=["h"]), outputs=["y"])
    plan = plan_memory(build.graph("y"))
    assert plan.places["h"] == plan.places["y"] == Argument("y")
    assert (plan.copies, plan.nbytes) == ((), 0)


def test_a_second_form_of_an_output_is_a_copy() -> None:
    """The tensor itself is computed in place, whichever of the two comes first."""
    build = builder(N, 4)
    build(Flatten(), build(Relu(), "x", outputs=["h"]), outputs=["y"])
    for outputs in (("y", "h"), ("h", "y")):
        plan = plan_memory(build.graph(*outputs))
        assert plan.places["h"] == Argument("h")
        assert plan.copies == (("h", "y"),)


def test_inputs_and_weights_that_are_outputs_are_copied() -> None:
    build = builder(N, 4)
    build.constant(np.ones(3, np.float32), "w")
    build(Identity(), "x", outputs=["y"])
    plan = plan_memory(build.graph("y", "w"))
    assert plan.places["w"] == Weight("w")
    assert set(plan.copies) == {("x", "y"), ("w", "w")}


def test_what_the_data_decide_has_one_shape() -> None:
    """Places are a matrix; as a vector they are a copy, and so is what is no longer decided."""
    build = builder(N)
    places = build(NonZero(), "x", outputs=["places"])
    build(Squeeze((0,)), places, outputs=["vector"])
    build(Assume((1, N)), places, outputs=["known"])
    alone = plan_memory(build.graph("vector"))
    assert alone.places["places"] == Owned("places")
    assert alone.copies == (("places", "vector"),)
    assert copies(build.graph("known")) == {("places", "known")}
    together = plan_memory(build.graph("vector", "places"))
    assert together.places["places"] == Argument("places")
    assert together.copies == (("places", "vector"),)


def test_what_is_known_may_be_given_out_as_decided() -> None:
    """The output has memory that grows, in which nothing of another type is computed."""
    build = builder(N)
    count = build.types[build(NonZero(), "x", outputs=["places"])].shape[1]
    build(Assume((count,)), build(Exp(), "x", outputs=["h"]), outputs=["y"])
    plan = plan_memory(build.graph("y", "places"))
    assert plan.places["h"] != Argument("y")
    assert plan.copies == (("h", "y"),)


def test_the_outputs_of_a_body_have_memory_of_their_own() -> None:
    build = builder(N, 4)
    build(Flatten(), build(Relu(), "x", outputs=["h"]), outputs=["y"])
    build(Abs(), "x", outputs=["z"])
    graph = build.graph("y", "z")
    assert copies(graph, is_body=True) == {("h", "y")}
    assert not copies(graph)


@pytest.mark.parametrize("size", [N, 16])
def test_what_is_copied_at_the_end_lives_until_then(size: Dim) -> None:
    """Other values of its size are computed after it, and none of them in its memory."""
    build = builder(size, 4)
    value = build(Relu(), "x", outputs=["h"])
    build(Flatten(), value, outputs=["y"])
    for i in range(4):
        value = build(Exp(), build(Neg(), value), outputs=[f"v{i}"])
    build(Add(), value, value, outputs=["z"])
    plan = plan_memory(build.graph("y", "z"), is_body=True)
    assert plan.copies == (("h", "y"),)
    places = {v: p for v, p in plan.places.items() if isinstance(p, Scratch) and p.root == v}
    held = places.pop("h")
    assert places
    assert all(p.offset != held.offset for p in places.values())


@pytest.mark.parametrize("size", [N, 16])
def test_values_that_are_needed_at_once_never_overlap(size: Dim) -> None:
    build = builder(size, 4)
    values = [build(Relu(), "x"), build(Transpose(), "x"), build(Neg(), "x")]
    values += [build(Exp(), values[0]), build(Abs(), values[1])]
    total = build(Add(), values[2], values[3])
    build(Add(), total, build(Transpose(), values[4]), outputs=["y"])
    graph = build.graph("y")
    assert len(overlapping(graph, {"N": 5})) > 3


def overlapping(graph: Graph, sizes: dict[str, int]) -> list[str]:
    """The values in scratch memory, of which none that live together overlap."""
    plan = plan_memory(graph)
    steps = {v: i for i, node in enumerate(graph.nodes) for v in node.outputs}
    last = {v: i for i, node in enumerate(graph.nodes) for v in node.inputs}
    parts: dict[str, tuple[int, int, int, int]] = {}
    for name, place in plan.places.items():
        if isinstance(place, Scratch):
            begin = evaluate(place.offset, sizes)
            end = begin + evaluate(graph.types[place.root].nbytes, sizes)
            assert end <= evaluate(plan.nbytes, sizes)
            assert begin % 64 == 0
            # Values that are written over each other are one that lives as long as all of them.
            since, until, *_ = parts.get(place.root, (steps[name], last[name], 0, 0))
            parts[place.root] = min(since, steps[name]), max(until, last[name]), begin, end
    for one, other in combinations(parts.values(), 2):
        together = one[0] <= other[1] and other[0] <= one[1]
        overlap = one[2] < other[3] and other[2] < one[3]
        assert not (together and overlap)
    return list(parts)


def _ladder(*widths: int) -> Graph:
    """Values of these widths, each needed for the next two."""
    build = builder(N, 4)
    values = []
    for i, width in enumerate(widths):
        weights = build.constant(np.ones((4, width), np.float32))
        values.append(build(MatMul(), "x", weights, outputs=[f"v{i}"]))
    while len(values) > 1:
        values = [build(Concat(1), *pair) for pair in pairwise(values)]
    return build.graph(build(Relu(), values[0], outputs=["y"]))


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("widths", [(16, 16, 16), (256, 16, 64, 32), (1, 3, 200, 5), (7, 1, 1, 1)])
def test_sizes_that_can_be_compared_never_overlap(widths: tuple[int, ...], rows: int) -> None:
    assert overlapping(_ladder(*widths), {"N": rows})


@pytest.mark.parametrize("sizes", [{"N": n, "M": m} for n in (0, 1, 9) for m in (0, 1, 50)])
def test_sizes_of_two_names_never_overlap(sizes: dict[str, int]) -> None:
    build = builder(N, 4)
    build.input("z", TensorType(DType.FLOAT32, (symbol("M"), 8)))
    values = [build(op, name) for name in ("x", "z") for op in (Relu(), Exp(), Neg())]
    sums = [build(Add(), a, b) for a, b in ((values[0], values[1]), (values[3], values[4]))]
    more = [build(Add(), s, v) for s, v in zip(sums, (values[2], values[5]), strict=True)]
    outputs = [build(Transpose(), m, outputs=[f"y{i}"]) for i, m in enumerate(more)]
    assert len(overlapping(build.graph(*outputs), sizes)) > 4


def test_memory_is_what_lives_together() -> None:
    """A narrow value and a wide one: behind them there is room for two that are narrow."""
    build = builder(N, 16)
    wide = build(Concat(1), build(Exp(), "x"), "x")
    halves = build(Split(axis=1, num_outputs=2), wide, outputs=["a", "b"])
    build(Add(), build(Exp(), halves), build(Exp(), "b"), outputs=["y"])
    plan = plan_memory(build.graph("y"))
    assert plan.nbytes == 4 * N * (32 + 16 + 16)


# In place -----------------------------------------------------------------------------------------


def _roots_of(graph: Graph) -> dict[str, str]:
    places = plan_memory(graph).places
    return {v: p.root for v, p in places.items() if isinstance(p, Scratch)}


def test_a_value_that_nobody_needs_any_more_is_written_over() -> None:
    build = builder(N, 4)
    a = build(Transpose(), "x", outputs=["a"])
    b = build(Exp(), a, outputs=["b"])
    c = build(Add(), b, b, outputs=["c"])
    build(Transpose(), build(Relu(), c, outputs=["d"]), outputs=["y"])
    graph = build.graph("y")
    assert _roots_of(graph) == dict.fromkeys("abcd", "a")
    assert plan_memory(graph).nbytes == align(16 * N, 64)
    array = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    expected = np.maximum(np.exp(array) * 2, 0)
    np.testing.assert_allclose(Model(graph)(array), expected, rtol=1e-6)


def test_what_is_needed_later_is_not_written_over() -> None:
    """Read by a later node, also in another form, or read by the node in another shape."""
    build = builder(4, 4)
    a = build(Transpose(), "x", outputs=["a"])
    flat = build(Flatten(), a, outputs=["flat"])
    b = build(Exp(), a, outputs=["b"])
    build(Add(), b, flat, outputs=["c"])
    build(Transpose(), "c", outputs=["y"])
    roots = _roots_of(build.graph("y"))
    assert roots["a"] == roots["flat"] == "a"
    assert roots["b"] == roots["c"] == "b"


def test_of_a_smaller_input_only_its_own_memory_is_used() -> None:
    build = builder(4, 4)
    row = build(Slice((0,), (1,), (0,)), "x", outputs=["row"])
    wide = build(Transpose(), "x", outputs=["wide"])
    build(Transpose(), build(Add(), row, wide, outputs=["sum"]), outputs=["y"])
    assert _roots_of(build.graph("y")) == {"row": "row", "wide": "wide", "sum": "wide"}


def test_memory_of_the_caller_and_weights_are_not_written_over() -> None:
    build = builder(4)
    build.constant(np.ones(4, np.float32), "w")
    build(Exp(), "x", outputs=["a"])
    build(Exp(), "w", outputs=["b"])
    build(Add(), "a", "b", outputs=["c"])
    build(Exp(), "c", outputs=["y"])
    build(Exp(), "y", outputs=["d"])
    build(Flatten(0), build(Neg(), "d", outputs=["e"]), outputs=["z"])
    plan = plan_memory(build.graph("y", "z"))
    roots = {v: p.root for v, p in plan.places.items() if isinstance(p, Scratch)}
    assert roots == {"a": "a", "b": "b", "c": "a"}
    assert plan.places["y"] == Argument("y")
    assert {plan.places[v] for v in "dez"} == {Argument("z")}


def test_what_grows_is_not_written_over() -> None:
    build = builder(N)
    places = build(NonZero(), "x", outputs=["places"])
    build(Abs(), build(Neg(), places, outputs=["a"]), outputs=["y"])
    plan = plan_memory(build.graph("y"))
    assert {v: plan.places[v] for v in ("places", "a")} == {v: Owned(v) for v in ("places", "a")}


def test_a_known_size_that_must_be_one_that_the_data_decide_stays_in_scratch() -> None:
    """Written over or not: the memory is that of the value, whatever its size is called."""
    build = builder(N)
    count = build.types[build(NonZero(), "x", outputs=["places"])].shape[1]
    build(Transpose(), "x", outputs=["a"])
    build(Exp(), "a", outputs=["b"])
    build(Assume((count,)), "b", outputs=["c"])
    build(Concat(0), "c", "c", outputs=["y"])
    plan = plan_memory(build.graph("y", "places"))
    assert {plan.places[v] for v in "abc"} == {Scratch("a", 0)}
