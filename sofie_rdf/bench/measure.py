"""Time by alternating rounds, and numbers compared: what every benchmark here is made of."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter
from typing import Any, Protocol, TypeVar

import numpy as np

from sofie_rdf.ir.types import Array

__all__ = [
    "Contestant",
    "Deviation",
    "Plan",
    "Spread",
    "Tick",
    "alternate",
    "calls_for",
    "compare",
    "in_rounds",
    "python_seconds",
]

T = TypeVar("T")
Tick = Callable[[float], None]


class Contestant(Protocol):
    """One way to evaluate a network on inputs that it holds already."""

    def seconds(self, calls: int) -> float:
        """How long so many calls take, one after the other."""

    def outputs(self) -> list[Array]:
        """What the last call gave, in the order of the model's outputs."""


# Statistics ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """One quantity, measured in several rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return self.quantile(0.5)

    @property
    def least(self) -> float:
        return min(self.rounds)

    @property
    def relative(self) -> float:
        """Half the distance between the quartiles, as a part of the median."""
        if not self.median:
            return 0.0
        return (self.quantile(0.75) - self.quantile(0.25)) / 2 / abs(self.median)

    def quantile(self, part: float) -> float:
        """Linear between neighbours: 0 is the least, 0.5 the median, 1 the largest."""
        return float(np.quantile(self.rounds, part))

    def to_json(self, unit: float = 1.0) -> dict[str, Any]:
        """In units of ``unit``; all rounds too, so that others may use other statistics."""
        return {
            "median": self.median / unit,
            "least": self.least / unit,
            "quartiles": [self.quantile(0.25) / unit, self.quantile(0.75) / unit],
            "rounds": [r / unit for r in self.rounds],
        }

    @classmethod
    def from_json(cls, read: Mapping[str, Any], unit: float = 1.0) -> Spread:
        return cls(tuple(r * unit for r in read["rounds"]))


# Time ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How long is measured: rounds, the seconds of each contestant in one of them, and in all.

    When the seconds ``in_all`` are over, no round begins any more, but ``_FEWEST`` are done.
    """

    rounds: int
    seconds: float
    in_all: float = 1e9


_FEWEST = 3


def in_rounds(
    jobs: Mapping[str, Callable[[], T]], plan: Plan, tick: Tick = lambda _: None
) -> dict[str, list[T]]:
    """Every job once, then every job once more, and so on: what each gave, round by round.

    What slows the machine down for a while slows all of them. ``tick`` is told which part is done.
    """
    found: dict[str, list[T]] = {name: [] for name in jobs}
    start = perf_counter()
    with _no_garbage_collection():
        for done in range(1, plan.rounds + 1):
            for name, job in jobs.items():
                found[name].append(job())
            over = (perf_counter() - start) / plan.in_all
            tick(min(1.0, max(over, done / plan.rounds)))
            if over >= 1 and done >= _FEWEST:
                break
    return found


def alternate(
    contestants: Mapping[str, Contestant], plan: Plan, tick: Tick = lambda _: None
) -> dict[str, Spread]:
    """Seconds for each call of each contestant."""
    jobs = {name: per_call(c, calls_for(c, plan.seconds)) for name, c in contestants.items()}
    return {name: Spread(tuple(s)) for name, s in in_rounds(jobs, plan, tick).items()}


def per_call(contestant: Contestant, calls: int) -> Callable[[], float]:
    """The job that takes the time of one call as the mean of ``calls``.

    One more call comes first and does not count: the caches still hold another contestant's data.
    In a call so long that it is the only one, filling them takes no time to speak of.
    """

    def job() -> float:
        if calls > 1:
            contestant.seconds(1)
        return contestant.seconds(calls) / calls

    return job


def calls_for(contestant: Contestant, seconds: float) -> int:
    """How many calls take about ``seconds``, at least one. Warms the contestant up as well."""
    calls = 1
    contestant.seconds(1)
    while (taken := contestant.seconds(calls)) < seconds / 8:
        calls *= 2
    return max(1, round(calls * seconds / taken))


def python_seconds(call: Callable[[], object], calls: int) -> float:
    """How long so many calls take from a Python loop."""
    start = perf_counter()
    for _ in repeat(None, calls):
        call()
    return perf_counter() - start


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# Numbers ------------------------------------------------------------------------------------------

# Rounding of a deep network is far below this, a wrong kernel or a swapped input far above.
_TOLERANCE = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-9}
# A network of many layers rounds that much more than its inputs are rounded.
_ROUNDINGS = 4


@dataclass(frozen=True)
class Deviation:
    """The largest difference between two results, and whether it is more than rounding."""

    largest: float
    scale: float
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"largest": self.largest, "scale": self.scale, "problem": self.problem}


def compare(
    found: Sequence[Array], expected: Sequence[Array], noise: Sequence[float] = ()
) -> Deviation:
    """The outputs of one against those of the other, output by output.

    ``noise`` is how much each may change where nothing but the rounding of the inputs does.
    """
    if len(found) != len(expected):
        return Deviation(np.inf, 0.0, f"{len(found)} outputs instead of {len(expected)}")
    allowed = noise or [0.0] * len(found)
    every = [_compare(*three) for three in zip(found, expected, allowed, strict=True)]
    for number, one in enumerate(every, 1):
        if one.problem:
            return Deviation(one.largest, one.scale, f"output {number}: {one.problem}")
    return max(every, key=lambda d: d.largest)


def _compare(found: Array, expected: Array, noise: float) -> Deviation:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        kinds = [f"{a.dtype}{list(a.shape)}" for a in (found, expected)]
        return Deviation(np.inf, 0.0, " instead of ".join(kinds))
    if found.dtype.kind != "f":
        wrong = int(np.count_nonzero(found != expected))
        return Deviation(float(wrong > 0), 1.0, f"{wrong} numbers differ" if wrong else "")
    with np.errstate(invalid="ignore"):
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        difference = np.where(same, 0.0, np.abs(found.astype(float) - expected.astype(float)))
    scale = float(np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0))
    largest = float(np.max(difference, initial=0.0))
    # NaN and infinity that only one of them has are wrong: no comparison with NaN holds.
    rounding = _TOLERANCE.get(found.dtype.name, 1e-9) * max(scale, 1e-30)
    if largest <= max(rounding, _ROUNDINGS * noise):
        return Deviation(largest, scale)
    return Deviation(largest, scale, f"differs by {largest:.3g} (largest value: {scale:.3g})")
