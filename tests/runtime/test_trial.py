"""What the first result may be: near the reference, and either side of where numbers jump."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from sofie_rdf import Model
from sofie_rdf.errors import JitError
from sofie_rdf.gradients.derived import gradient
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import Floor, Mul, Pow, Sub, Tanh
from sofie_rdf.ops.normalization import Softmax
from sofie_rdf.ops.reduction import ReduceSum
from sofie_rdf.ops.selection import ArgMax
from sofie_rdf.runtime.compile import records
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


# What cancels -------------------------------------------------------------------------------------


def cancelling(size: int, factor: float = 1.0) -> Graph:
    """The derivative of a sum of softmax, which is 0 but for rounding, times a factor."""
    b = Net(symbol("N"), size)
    p = b.op(Softmax(1), "x")
    scaled = b.op(Mul(), p, b.c("factor", np.float32(factor)))
    y = b.op(ReduceSum(axes=(1,)), scaled, name="y")
    return gradient(b.graph(y), None, None, False)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("size", range(2, 9))
def test_what_cancels_is_compared_by_what_it_is_made_of(
    monkeypatch: pytest.MonkeyPatch, size: int, factor: float
) -> None:
    x = np.random.default_rng(size).normal(size=(2, size)).astype(np.float32)
    monkeypatch.setattr(trials_of, "_example", lambda *_: x)
    trial = first(cancelling(size, factor))
    name, expected = "d_y/d_x", trial.expected
    right = np.full_like(expected[name], 6e-8 * factor)
    trial.check("net", {**expected, name: right})
    # A term that is left out, or a sum with less than half of the digits.
    for wrong in (0.1 * factor, 1e-4 * factor):
        with pytest.raises(JitError, match="differs"):
            trial.check("net", {**expected, name: right + np.float32(wrong)})


def test_what_cancels_does_so_in_the_next_process(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    monkeypatch.setattr(trials_of, "_example", lambda *_: x)
    graph = cancelling(4)
    trial = first(graph)
    held = memoryview(records._trial_bytes(trial, graph))
    kept = records._kept_trial(held, graph.inputs, graph.outputs)
    assert kept is not None
    np.testing.assert_array_equal(bounds(kept, "d_y/d_x"), bounds(trial, "d_y/d_x"))


def test_what_jumps_has_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers as floats are a little less than they are in one of the two."""
    monkeypatch.setattr(trials_of, "_example", lambda *_: np.ones((2, 3), np.float32))
    b = Net(symbol("N"), 3)
    y = b.op(Sub(), b.op(Floor(), "x"), "x", name="y")
    trial = first(b.graph(y))
    assert trial.noise == {}
    with pytest.raises(JitError, match="differs"):
        trial.check("net", {"y": trial.expected["y"] + np.float32(1e-3)})


def test_what_does_not_cancel_is_compared_by_itself() -> None:
    b = Net(symbol("N"), 3)
    tiny = b.op(Mul(), b.op(Tanh(), "x"), b.c("tiny", np.float32(1e-12)), name="y")
    trial = first(b.graph(tiny))
    assert trial.noise == {}
    assert 0 < bounds(trial, "y").max() < 1e-13


def test_derivatives_that_cancel_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ROOT")
    x = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    monkeypatch.setattr(trials_of, "_example", lambda *_: x)
    model = Model(cancelling(4))
    assert np.abs(model(x)["d_y/d_x"]).max() < 1e-6
