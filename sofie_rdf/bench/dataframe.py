"""The loop of an RDataFrame with the network as a column: events per second, on some threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter, process_time
from typing import Any

import numpy as np

from sofie_rdf.bench.measure import (
    Contestant,
    Deviation,
    Plan,
    Spread,
    Tick,
    calls_for,
    compare,
    in_rounds,
    per_call,
)
from sofie_rdf.bench.models import Candidate, empty_task, task_for
from sofie_rdf.bench.ort import OrtRun
from sofie_rdf.bench.peers import REFERENCE, Form
from sofie_rdf.errors import ModelError
from sofie_rdf.ir.dims import evaluate, symbols_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType, concrete
from sofie_rdf.model import Model
from sofie_rdf.runtime.compile.interpreter import import_root

__all__ = ["Loop", "Run", "fits", "measure_loop"]

_MOST_COLUMNS = 32
_CHECKED, _TRIAL = 100, 20_000


@dataclass(frozen=True)
class Run:
    """The loop on so many threads: seconds for each event, by the clock and of the CPU."""

    threads: int
    scored: Spread
    cpu: Spread
    alone: Spread

    @property
    def network(self) -> float:
        """What the column costs: the loop without the loop that has no network in it."""
        return self.scored.median - self.alone.median

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Run:
        names = ("us_per_event", "cpu_us_per_event", "loop_alone_us")
        scored, cpu, alone = (Spread.from_json(read[name], 1e-6) for name in names)
        return cls(read["threads"], scored, cpu, alone)


@dataclass(frozen=True)
class Loop:
    """One network as a column over events in memory."""

    model: str
    events: int
    runs: tuple[Run, ...]
    forms: tuple[Form, ...]
    deviation: Deviation

    @property
    def best(self) -> Form:
        """The fastest way to call onnxruntime for one event."""
        return min(self.forms, key=lambda f: f.times.median)

    def speedup(self, run: Run) -> float:
        """How many times as many events in a second as with the first number of threads."""
        return self.runs[0].scored.median / run.scored.median

    def cpu_speedup(self, run: Run) -> float:
        """The same if every thread had a CPU of its own, which other programs may prevent."""
        first = self.runs[0]
        return run.threads / first.threads * first.cpu.median / run.cpu.median

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "events": self.events,
            "deviation": self.deviation.to_json(),
            "threads": [self._run(run) for run in self.runs],
            "onnxruntime": {f.name: f.to_json() for f in self.forms},
            "best": self.best.name,
        }

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Loop:
        runs = (Run.from_json(run) for run in read["threads"])
        forms = (Form.from_json(name, form) for name, form in read["onnxruntime"].items())
        deviation = Deviation(**read["deviation"])
        return cls(read["model"], read["events"], tuple(runs), tuple(forms), deviation)

    def _run(self, run: Run) -> dict[str, Any]:
        return {
            "threads": run.threads,
            "events_per_second": 1 / run.scored.median,
            "us_per_event": run.scored.to_json(1e-6),
            "cpu_us_per_event": run.cpu.to_json(1e-6),
            "loop_alone_us": run.alone.to_json(1e-6),
            "network_us": run.network * 1e6,
            "speedup": self.speedup(run),
            "speedup_of_cpu_time": self.cpu_speedup(run),
        }


def fits(graph: Graph) -> bool:
    """Whether one event is a few numbers of one input, and the result one number."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return False
    types = [graph.types[name] for name in (*graph.inputs, *graph.outputs)]
    if not all(t.dtype in (DType.FLOAT32, DType.FLOAT64) and t.rank == 2 for t in types):
        return False
    leading = graph.leading_symbol
    if any(symbols_of(d) - {leading} for t in types for d in t.shape):
        return False
    width, result = (evaluate(t.size, {leading: 1}) for t in types)
    return result == 1 and width <= _MOST_COLUMNS and evaluate(types[0].shape[0], {leading: 1}) == 1


# The data frame -----------------------------------------------------------------------------------


class _Frame:
    """Events made from their numbers, with the features, their sum and the score as columns."""

    def __init__(self, model: Model, events: int, threads: int) -> None:
        graph = model.graph
        type_ = graph.types[graph.inputs[0]]
        self.events, self.threads = events, threads
        self.kind = type_.dtype.cxx
        self.columns = [f"x{i}" for i in range(concrete(type_.shape[1:], {})[0])]
        with multithreading(threads):
            df = import_root().RDataFrame(events)
            for i, name in enumerate(self.columns):
                df = df.Define(name, _feature(i, self.kind))
            df = df.Define("alone", " + ".join(self.columns))
            self.df = model.define(df, "score", self.columns)
            self.result = graph.types[graph.outputs[0]].dtype.cxx

    def seconds(self, column: str) -> tuple[float, float]:
        """One loop over all events, for the sum of a column: by the clock, and of the CPU."""
        kind = self.result if column == "score" else self.kind
        with multithreading(self.threads):
            total = self.df.Sum[kind](column)
            start, cpu = perf_counter(), process_time()
            total.GetValue()
            return perf_counter() - start, process_time() - cpu

    def arrays(self) -> tuple[Array, Array]:
        """The features and the scores of all events."""
        with multithreading(self.threads):
            features = [self._numbers(column, self.kind) for column in self.columns]
            return np.stack(features, axis=1), self._numbers("score", self.result)

    def _numbers(self, column: str, kind: str) -> Array:
        # Not by AsNumpy, which fails on a machine without the system's C++ headers.
        numbers = self.df.Take[kind](column).GetValue()
        return np.asarray(list(numbers), np.float32 if kind == "float" else np.float64)


def _feature(number: int, kind: str) -> str:
    """A cheap expression: digits of a product, between -1 and 1."""
    product = f"rdfentry_ * {2654435761 + 2 * number}ull + {40503 * number}ull"
    return f"{kind}((({product}) >> 8) & 0xffff) / {kind}(32768) - {kind}(1)"


@contextmanager
def multithreading(threads: int) -> Iterator[None]:
    """ROOT's implicit multithreading with so many threads, or none for 1; afterwards as before."""
    root = import_root()
    before = root.GetThreadPoolSize() if root.IsImplicitMTEnabled() else 1
    _switch(root, threads, before)
    try:
        yield
    finally:
        _switch(root, before, threads)


def _switch(root: Any, to: int, now: int) -> None:
    if to == now:
        return
    if now > 1:
        root.DisableImplicitMT()
    if to > 1:
        root.EnableImplicitMT(to)


# The measurement ----------------------------------------------------------------------------------


def measure_loop(
    candidate: Candidate,
    threads: Sequence[int],
    rounds: int,
    seconds: float,
    tick: Tick = lambda _: None,
) -> Loop:
    """Loops of about ``seconds`` on the most threads, all taking turns; onnxruntime beside them."""
    model = candidate.model
    deviation = _check(candidate, _Frame(model, _CHECKED, 1))
    events = _events_for(model, seconds * max(threads))
    frames = {k: _Frame(model, events, k) for k in threads}
    task = task_for(candidate, 1)
    theirs, empty = dict(REFERENCE.forms(task)), dict(REFERENCE.forms(empty_task(task)))
    jobs: dict[str, Callable[[], tuple[float, float]]] = {}
    for k, frame in frames.items():
        for column in ("alone", "score"):
            frame.seconds(column)  # Compiles what RDataFrame compiles.
            jobs[f"{column} {k}"] = partial(frame.seconds, column)
    jobs |= _calls({f"ort {n}": c for n, c in theirs.items()}, seconds / 20)
    jobs |= _calls({f"empty {n}": c for n, c in empty.items()}, seconds / 20)
    found = in_rounds(jobs, Plan(rounds, seconds), tick)
    wall = {name: Spread(tuple(w for w, _ in pairs)) for name, pairs in found.items()}
    runs = (_run(k, events, found) for k in threads)
    forms = (Form(n, wall[f"ort {n}"], wall[f"empty {n}"], deviation) for n in theirs)
    return Loop(candidate.name, events, tuple(runs), tuple(forms), deviation)


def _calls(
    contestants: Mapping[str, Contestant], seconds: float
) -> dict[str, Callable[[], tuple[float, float]]]:
    def job(once: Callable[[], float]) -> tuple[float, float]:
        return once(), 0.0

    return {n: partial(job, per_call(c, calls_for(c, seconds))) for n, c in contestants.items()}


def _run(threads: int, events: int, found: Mapping[str, Sequence[tuple[float, float]]]) -> Run:
    scored, alone = found[f"score {threads}"], found[f"alone {threads}"]
    return Run(
        threads,
        Spread(tuple(wall / events for wall, _ in scored)),
        Spread(tuple(cpu / events for _, cpu in scored)),
        Spread(tuple(wall / events for wall, _ in alone)),
    )


def _events_for(model: Model, seconds: float) -> int:
    """How many events one thread evaluates in this time."""
    trial = _Frame(model, _TRIAL, 1)
    trial.seconds("score")
    taken = min(trial.seconds("score")[0] for _ in range(3))
    return max(1000, round(_TRIAL * seconds / taken))


def _check(candidate: Candidate, frame: _Frame) -> Deviation:
    """The column beside onnxruntime, event by event."""
    name = candidate.model.graph.inputs[0]
    features, scores = frame.arrays()
    session = OrtRun(candidate.source, {name: features[:1]})
    events = np.split(features, len(features))
    expected = np.concatenate([session.evaluate({name: x})[0].reshape(-1) for x in events])
    found = compare([scores], [expected])
    if found.problem:
        raise ModelError(
            f"the column and onnxruntime are not the same, so nothing is timed: {found.problem}",
            place=candidate.name,
            remedy="Please report it",
        )
    return found
