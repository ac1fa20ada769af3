"""Where values live: who shares memory, what brings its own, and what is copied to an output."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim, evaluate, symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.assumptions import Assume
from sofie_rdf.ops.elementwise import Abs, Add, Exp, Neg, Relu
from sofie_rdf.ops.layout import Flatten, Identity, Squeeze, Transpose
from sofie_rdf.ops.selection import NonZero
from sofie_rdf.passes.memory import Argument, Grown, Scratch, Weight, plan_memory

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
    assert alone.places["places"] == Grown("places")
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
    plan = plan_memory(graph)
    sizes = {"N": 5}
    steps = {v: i for i, node in enumerate(graph.nodes) for v in node.outputs}
    last = {v: i for i, node in enumerate(graph.nodes) for v in node.inputs}
    parts = {}
    for name, place in plan.places.items():
        if isinstance(place, Scratch):
            begin = evaluate(place.offset, sizes)
            end = begin + evaluate(graph.types[name].nbytes, sizes)
            assert end <= evaluate(plan.nbytes, sizes)
            assert begin % 64 == 0
            parts[name] = (steps[name], last[name], begin, end)
    assert len(parts) > 3
    for one, other in combinations(parts.values(), 2):
        together = one[0] <= other[1] and other[0] <= one[1]
        overlap = one[2] < other[3] and other[2] < one[3]
        assert not (together and overlap)
