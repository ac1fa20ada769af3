"""Statistics by hand-made numbers, rounds of contestants that only pretend, numbers compared."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from sofie_rdf.bench.measure import (
    Plan,
    Spread,
    alternate,
    calls_for,
    compare,
    in_rounds,
    python_seconds,
)
from sofie_rdf.ir.types import Array


class Pretender:
    """Says that each call takes so long."""

    def __init__(
        self, each: float, log: list[tuple[str, int]] | None = None, name: str = ""
    ) -> None:
        self.each, self.name = each, name
        self.log = log if log is not None else []

    def seconds(self, calls: int) -> float:
        self.log.append((self.name, calls))
        return self.each * calls

    def outputs(self) -> list[Array]:
        return []


def test_spread_of_numbers_made_by_hand() -> None:
    spread = Spread((3.0, 1.0, 2.0, 5.0, 4.0))
    assert spread.median == 3
    assert spread.least == 1
    assert (spread.quantile(0.25), spread.quantile(0.75)) == (2, 4)
    assert spread.relative == pytest.approx(1 / 3)


def test_quantiles_lie_between_neighbours() -> None:
    assert Spread((1.0, 2.0)).median == 1.5
    assert Spread((1.0, 2.0, 10.0, 3.0)).quantile(0.75) == pytest.approx(4.75)
    assert Spread((7.0,)).relative == 0
    assert Spread((0.0, 0.0)).relative == 0


def test_spread_as_json_in_other_units() -> None:
    described = Spread((2e-6, 4e-6, 6e-6)).to_json(1e-6)
    assert described["median"] == pytest.approx(4)
    assert described["least"] == pytest.approx(2)
    assert described["quartiles"] == pytest.approx([3, 5])
    assert described["rounds"] == pytest.approx([2, 4, 6])


def test_a_spread_survives_json() -> None:
    spread = Spread((1.25, 2.5, 5.0))
    assert Spread.from_json(spread.to_json(0.5), 0.5) == spread


def test_an_outlier_does_not_move_the_median() -> None:
    assert Spread((1.0, 1.0, 1.0, 1000.0, 1.0)).median == 1


@pytest.mark.parametrize(("each", "calls"), [(0.5, 1), (0.01, 1), (1e-4, 100), (1e-6, 10_000)])
def test_calls_that_fill_the_time(each: float, calls: int) -> None:
    assert calls_for(Pretender(each), 0.01) == calls


def test_contestants_take_turns() -> None:
    log: list[tuple[str, int]] = []
    contestants = {name: Pretender(0.01, log, name) for name in ("ours", "peer")}
    times = alternate(contestants, Plan(3, 0.02))
    assert log[-12:] == [("ours", 1), ("ours", 2), ("peer", 1), ("peer", 2)] * 3
    assert times["ours"].rounds == times["peer"].rounds == (0.01, 0.01, 0.01)


def test_long_calls_are_made_once_a_round() -> None:
    log: list[tuple[str, int]] = []
    alternate({"ours": Pretender(1.0, log, "ours")}, Plan(3, 0.02))
    assert log[-3:] == [("ours", 1)] * 3
    assert len(log) == 2 + 3  # Two before the rounds.


def test_no_round_begins_when_the_time_is_over() -> None:
    told: list[float] = []
    found = in_rounds({"a": lambda: 1}, Plan(50, 1, in_all=1e-9), told.append)
    assert found == {"a": [1, 1, 1]}
    assert told == [1, 1, 1]
    assert in_rounds({"a": lambda: 1}, Plan(2, 1, in_all=1e-9)) == {"a": [1, 1]}


def test_every_round_is_told_and_nothing_is_collected_meanwhile() -> None:
    told: list[float] = []
    found = in_rounds({"a": gc.isenabled, "b": lambda: 2}, Plan(4, 1), told.append)
    assert found == {"a": [False] * 4, "b": [2] * 4}
    assert told == [0.25, 0.5, 0.75, 1]
    assert gc.isenabled()


def test_python_seconds_calls_as_often_as_told() -> None:
    called: list[int] = []
    assert python_seconds(lambda: called.append(1), 5) > 0
    assert len(called) == 5


# Numbers ------------------------------------------------------------------------------------------


def _f32(*values: float) -> list[Array]:
    return [np.asarray(values, np.float32)]


def test_rounding_is_no_problem() -> None:
    found = compare(_f32(1.0, 100.0), _f32(1.0, 100.001))
    assert not found.problem
    assert found.largest == pytest.approx(0.001, rel=0.01)
    assert found.scale == pytest.approx(100, rel=1e-4)


def test_nan_and_infinity_in_both_are_the_same() -> None:
    assert not compare(_f32(np.nan, np.inf, 1), _f32(np.nan, np.inf, 1)).problem


@pytest.mark.parametrize(
    ("found", "expected", "problem"),
    [
        (_f32(1.0, 2.0), _f32(1.0, 2.001), "output 1: differs by 0.001"),
        (_f32(np.nan), _f32(1.0), "output 1: differs by nan"),
        (_f32(1.0), _f32(np.inf), "output 1: differs by inf"),
        (_f32(1e-3), _f32(0.0), "differs"),
        (_f32(1.0), _f32(1.0, 1.0), r"output 1: float32\[1\] instead of float32\[2\]"),
        (_f32(1.0), [np.ones(1)], "instead of float64"),
        (_f32(1.0), [], "1 outputs instead of 0"),
        (
            [*_f32(1), np.asarray([1, 2])],
            [*_f32(1), np.asarray([1, 3])],
            "output 2: 1 numbers differ",
        ),
    ],
)
def test_more_than_rounding_is_a_problem(
    found: list[Array], expected: list[Array], problem: str
) -> None:
    import re

    assert re.search(problem, compare(found, expected).problem)


def test_what_the_inputs_rounding_changes_is_no_problem() -> None:
    found, expected = _f32(1.0, 2.0), _f32(1.0, 2.001)
    assert compare(found, expected, [0.0002]).problem
    assert not compare(found, expected, [0.0003]).problem
    assert compare([np.asarray([1])], [np.asarray([2])], [9.0]).problem
    assert compare(_f32(np.nan), _f32(1.0), [9.0]).problem


def test_the_worst_output_is_shown() -> None:
    found = compare([*_f32(1.0), *_f32(2.0)], [*_f32(1.0), *_f32(2.00001)])
    assert found.scale == pytest.approx(2, rel=1e-3)
    assert found.largest > 0
