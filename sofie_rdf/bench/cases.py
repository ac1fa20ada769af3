"""One network at one batch size: ours beside onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sofie_rdf.bench import peers
from sofie_rdf.bench.measure import Contestant, Deviation, Spread, Tick, alternate, compare
from sofie_rdf.bench.models import Candidate, feeds_for, sizes_for
from sofie_rdf.bench.ours import OurCall, OurPython
from sofie_rdf.bench.peers import Form
from sofie_rdf.errors import ModelError

__all__ = ["Case", "measure_case"]


@dataclass(frozen=True)
class Case:
    """The times of one network at one batch size, and how far the numbers are apart."""

    model: str
    batch: int
    shapes: Mapping[str, tuple[int, ...]]
    ours: Spread
    python: Spread
    forms: tuple[Form, ...]

    @property
    def best(self) -> Form:
        """The fastest way to call onnxruntime."""
        return min(self.forms, key=lambda f: f.times.median)

    @property
    def gross(self) -> float:
        """How many times as long onnxruntime takes."""
        return self.best.times.median / self.ours.median

    @property
    def net(self) -> float:
        """The same without the overhead of onnxruntime's call, all of ours included."""
        return self.best.net / self.ours.median

    @property
    def least(self) -> float:
        """The ratio of the fastest rounds: what other programs on the machine disturb least."""
        return min(f.times.least for f in self.forms) / self.ours.least

    @property
    def deviation(self) -> Deviation:
        return max((f.deviation for f in self.forms), key=lambda d: d.largest)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "batch": self.batch,
            "inputs": {name: list(shape) for name, shape in self.shapes.items()},
            "sofie_rdf": {"us": self.ours.to_json(1e-6), "python_us": self.python.to_json(1e-6)},
            "onnxruntime": {f.name: f.to_json() for f in self.forms},
            "best": self.best.name,
            "ratio": {"gross": self.gross, "net": self.net, "least": self.least},
        }


def measure_case(
    candidate: Candidate, batch: int, rounds: int, seconds: float, tick: Tick = lambda _: None
) -> Case:
    """Compare the numbers, then take the times. `ModelError` if any number is wrong."""
    model = candidate.model
    feeds, sizes = feeds_for(model.graph, batch), sizes_for(model.graph, batch)
    ours: dict[str, Contestant] = {
        "C++": OurCall(model, feeds, sizes),
        "Python": OurPython(model, feeds),
    }
    theirs = peers.forms(candidate.source, feeds)
    deviations = check_numbers(candidate.name, ours, theirs)
    contestants = {("ours", n): c for n, c in ours.items()}
    contestants |= {("ort", n): c for n, c in theirs.items()}
    contestants |= {("empty", n): c for n, c in peers.empty_forms(feeds).items()}
    by_name = {" ".join(key): c for key, c in contestants.items()}
    times = alternate(by_name, rounds, seconds, tick)
    forms = (Form(n, times[f"ort {n}"], times[f"empty {n}"], deviations[n]) for n in theirs)
    shapes = {name: array.shape for name, array in feeds.items()}
    return Case(
        candidate.name, batch, shapes, times["ours C++"], times["ours Python"], tuple(forms)
    )


def check_numbers(
    model: str, ours: Mapping[str, Contestant], theirs: Mapping[str, Contestant]
) -> dict[str, Deviation]:
    """Each form's largest deviation from any of ours; `ModelError` where it is not rounding."""
    for contestant in (*ours.values(), *theirs.values()):
        contestant.seconds(1)
    found: dict[str, Deviation] = {}
    for name, peer in theirs.items():
        for our_name, our in ours.items():
            one = compare(our.outputs(), peer.outputs())
            if one.problem:
                raise ModelError(
                    f"the numbers of sofie_rdf ({our_name}) and onnxruntime ({name}) are not the "
                    f"same, so nothing is timed: {one.problem}",
                    place=model,
                    remedy="Please report it",
                )
            found[name] = max(found.get(name, one), one, key=lambda d: d.largest)
    return found
