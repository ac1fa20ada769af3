"""One network at one batch size: ours beside every peer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sofie_rdf.bench.first import First
from sofie_rdf.bench.measure import Contestant, Deviation, Plan, Spread, Tick, alternate
from sofie_rdf.bench.models import Task
from sofie_rdf.bench.ours import OurPython
from sofie_rdf.bench.peers import REFERENCE, Form, Peer, Ready, Rival, contestants, prepare
from sofie_rdf.bench.roofline import Work, work_of
from sofie_rdf.ir.types import PRECISIONS
from sofie_rdf.runtime.compile.clock import InferLoop

__all__ = ["Case", "measure_case"]

# Where a call takes longer, how it is made matters no more: a peer's fastest form is enough.
_LONG = 0.01


@dataclass(frozen=True)
class Case:
    """The times of one network at one batch size, how far the numbers are apart, and its work."""

    model: str
    batch: int
    shapes: Mapping[str, tuple[int, ...]]
    ours: Spread
    python: Spread
    rivals: tuple[Rival, ...]
    work: Work
    first: First | None = None

    @property
    def reference(self) -> Rival:
        """onnxruntime."""
        return next(r for r in self.rivals if r.name == REFERENCE.name)

    @property
    def others(self) -> tuple[Rival, ...]:
        return tuple(r for r in self.rivals if r.name != REFERENCE.name)

    @property
    def best(self) -> Form:
        """The fastest way to call onnxruntime."""
        return self.reference.best

    @property
    def gross(self) -> float:
        """How many times as long onnxruntime takes."""
        return self.ratio(self.reference)

    @property
    def net(self) -> float:
        """The same without the overhead of onnxruntime's call, all of ours included."""
        return self.best.net / self.ours.median

    @property
    def least(self) -> float:
        """The ratio of the fastest rounds: what other programs on the machine disturb least."""
        return min(f.times.least for f in self.reference.forms) / self.ours.least

    @property
    def deviation(self) -> Deviation:
        """The largest of any peer, but for ours with other weights."""
        peers = (r for r in self.rivals if r.name not in PRECISIONS)
        every = (f.deviation for r in peers for f in r.forms)
        return max(every, key=lambda d: d.largest)

    def ratio(self, rival: Rival) -> float:
        """How many times as long a peer takes that is not absent."""
        return rival.best.times.median / self.ours.median

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "batch": self.batch,
            "inputs": {name: list(shape) for name, shape in self.shapes.items()},
            "sofie_rdf": {"us": self.ours.to_json(1e-6), "python_us": self.python.to_json(1e-6)},
            "peers": {r.name: r.to_json() for r in self.rivals},
            "ratio": {"gross": self.gross, "net": self.net, "least": self.least},
            "work": self.work.to_json(),
            "first": self.first.to_json() if self.first else None,
        }

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Case:
        ours, first = read["sofie_rdf"], read["first"]
        return cls(
            read["model"],
            read["batch"],
            {name: tuple(shape) for name, shape in read["inputs"].items()},
            Spread.from_json(ours["us"], 1e-6),
            Spread.from_json(ours["python_us"], 1e-6),
            tuple(Rival.from_json(name, r) for name, r in read["peers"].items()),
            Work.from_json(read["work"]),
            First.from_json(first) if first else None,
        )


def measure_case(
    task: Task, batch: int, peers: Sequence[Peer], plan: Plan, tick: Tick = lambda _: None
) -> Case:
    """Compare the numbers, then take the times. `ModelError` if a number of ours is wrong."""
    model = task.candidate.model
    ours: dict[str, Contestant] = {
        "C++": InferLoop(model.compiled, task.feeds, task.sizes),
        "Python": OurPython(model, task.feeds),
    }
    ready = [_without_slower(prepare(peer, task, ours)) for peer in peers]
    every = {f"ours {n}": c for n, c in ours.items()}
    for one in ready:
        every |= contestants(one)
    times = alternate(every, plan, tick)
    return Case(
        task.candidate.name,
        batch,
        {name: array.shape for name, array in task.feeds.items()},
        times["ours C++"],
        times["ours Python"],
        tuple(Rival.of(one, times) for one in ready),
        work_of(model, task.sizes),
    )


def _without_slower(ready: Ready) -> Ready:
    """Where calls are long, the form that is fastest in one of them."""
    if len(ready.forms) < 2:
        return ready
    taken = {name: contestant.seconds(1) for name, contestant in ready.forms.items()}
    best = min(taken, key=lambda name: taken[name])
    if taken[best] < _LONG:
        return ready

    def only(of: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in of.items() if name == best}

    return replace(
        ready,
        forms=only(ready.forms),
        empty=only(ready.empty),
        deviations=only(ready.deviations),
    )
