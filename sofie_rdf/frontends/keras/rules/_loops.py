"""A sequence step by step, for cells that our recurrent operators do not compute: a Loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from sofie_rdf.frontends.common.builders import BodyBuilder
from sofie_rdf.frontends.keras.layer import Value
from sofie_rdf.frontends.keras.rules._tools import broadcast_to_rank
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.control_flow import Loop, ScanSlice, SizeOfAxis
from sofie_rdf.ops.elementwise import Mul, Where
from sofie_rdf.ops.layout import Identity, Transpose

__all__ = ["Step", "looped"]

# (builder of the body, what the cell reads in this step, its states) -> its output, new states
Step = Callable[[LayerBuilder, Value, Sequence[Value]], "tuple[Value, Sequence[Value]]"]


def looped(
    build: LayerBuilder,
    x: str,
    mask: str | None,
    states: Sequence[str],
    step: Step,
    *,
    zeros: bool,
) -> tuple[Value, list[Value]]:
    """All outputs [N, T, ...] and the last states of a cell that goes along the axis 1 of x.

    In a step that is masked the states stay, and so does the output: with ``zeros`` that is 0. The
    first state has the shape of an output.
    """
    body = BodyBuilder(build.graph.fresh(f"{build.origin.name}/step"), build.graph, set())
    inside = replace(build, graph=body)
    body.input("round", TensorType(DType.INT64))
    body.input("go", TensorType(DType.BOOL))
    kept = mask is not None and not zeros
    before = [*states]
    if kept:
        before.append(build(Mul(), states[0], build.like(0, states[0])))
    for number, state in enumerate(before):
        body.input(f"state_{number}", build.type(state))
    old = [Value(f"state_{number}") for number in range(len(before))]
    now = inside(ScanSlice(1), body.capture(x), "round")
    output, after = step(inside, now, old[: len(states)])
    after = list(after)
    if mask is not None:
        alive = inside(ScanSlice(1), body.capture(mask), "round")
        wide = broadcast_to_rank(inside, alive, inside.rank(output))
        after = [inside(Where(), wide, n, o) for n, o in zip(after, old, strict=False)]
        rest = old[-1] if kept else inside.like(0, output)
        output = inside(Where(), wide, output, rest)
    # Each output of a body is a node's, and nobody else's.
    results = ["go", *after, *([output] if kept else []), output]
    names = [inside(Identity(), name) for name in results]
    graph = body.body(names)
    captured = [body.captured[i] for i in graph.inputs[2 + len(before) :]]
    trips = build(SizeOfAxis(1), x)
    go = build.constant(np.array(True), "go")
    loop = Loop(graph, len(before), build.shape(x)[1])
    *found, every = build.all(loop, len(before) + 1, trips, go, *before, *captured)
    order = (1, 0, *range(2, build.rank(every)))
    return build(Transpose(order), every), found[: len(states)]
