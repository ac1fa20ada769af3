"""What the first result may be: near the reference, and either side of where numbers jump."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from sofie_rdf.errors import JitError
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import Floor, Mul, Pow, Tanh
from sofie_rdf.ops.selection import ArgMax
from sofie_rdf.runtime.compile import trial as trials_of
from sofie_rdf.runtime.compile.trial import Trial, bounds, trials
from tests.passes.graphs import Net

EVENTS = np.array([[9.5, 3.0, 12.0], [1.0, 20.0, 0.25]], np.float32)


@pytest.fixture(autouse=True)
def _known_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials_of, "_example", lambda *_: EVENTS)


def first(graph: Graph) -> Trial:
    return next(trials(graph))


def jumping(dtype: DType = DType.INT32) -> Graph:
    """tanh(x)^3 as an integer: 0, or 1 where tanh is rounded up to it."""
    b = Net(symbol("N"), 3)
    cubed = b.op(Pow(), b.op(Tanh(), "x"), b.c64("three", 3))
    return b.graph(b.op(Cast(to=dtype), cubed, name="y"))


def changed(found: Array, *places: tuple[int, int]) -> dict[str, Array]:
    other = found.copy()
    for place in places:
        other[place] = 1 - other[place]
    return {"y": other}


@pytest.mark.parametrize("dtype", [DType.INT32, DType.INT64, DType.UINT8])
def test_whole_numbers_of_floats_at_a_jump_may_be_either(dtype: DType) -> None:
    trial = first(jumping(dtype))
    expected = trial.expected["y"]
    trial.check("net", changed(expected, (0, 2), (1, 1)))
    for row, column in ((0, 1), (1, 0), (1, 2)):
        with pytest.raises(JitError, match="differs"):
            trial.check("net", changed(expected, (row, column)))


def test_what_is_a_jump_stays_with_the_trial_that_is_kept() -> None:
    trial = first(jumping())
    kept = Trial(trial.sizes, trial.feeds, dict(trial.expected), dict(trial.exact))
    kept.check("net", changed(kept.expected["y"], (0, 2)))
    assert bounds(kept, "y").tolist() == [[-1, 0, -1], [0, -1, 0]]


def test_what_is_exact_is_no_jump() -> None:
    """A product is the same everywhere, and so is what it is as an integer."""
    b = Net(symbol("N"), 3)
    b.op(Cast(to=DType.INT64), b.op(Floor(), b.op(Mul(), "x", "x")), name="y")
    assert not bounds(first(b.graph("y")), "y").any()


def test_positions_of_the_largest_are_settled_unless_two_are_as_large() -> None:
    b = Net(symbol("N"), 3)
    graph = b.graph(b.op(ArgMax(1, keepdims=False), b.op(Tanh(), "x"), name="y"))
    assert bounds(first(graph), "y").tolist() == [-1, 0]


def test_floats_cost_one_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = count(), trials_of.evaluate

    def counted(*arguments: object, **named: object) -> dict[str, Array]:
        next(calls)
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(trials_of, "evaluate", counted)
    graph = jumping()
    first(replace(graph, outputs=(graph.nodes[0].outputs[0],)))
    assert next(calls) == 2
