"""The course of one ``sofie-rdf bench``: models one by one, then the report."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from sofie_rdf.bench import machine, report, roofline, slopes
from sofie_rdf.bench.cases import Case, measure_case
from sofie_rdf.bench.dataframe import Loop, fits, measure_loop
from sofie_rdf.bench.first import measure_first
from sofie_rdf.bench.markdown import markdown
from sofie_rdf.bench.measure import Plan
from sofie_rdf.bench.models import (
    BUILT_IN,
    USUAL,
    Candidate,
    FreeSizes,
    candidates,
    task_for,
)
from sofie_rdf.bench.narrow import InPrecision
from sofie_rdf.bench.native import BySystemCompiler
from sofie_rdf.bench.ort_package import import_onnxruntime
from sofie_rdf.bench.peers import REFERENCE, Peer, all_peers
from sofie_rdf.bench.progress import Bar
from sofie_rdf.bench.results import Results
from sofie_rdf.errors import InputError, ModelError, SofieError, nearest
from sofie_rdf.runtime.compile.interpreter import import_root

__all__ = ["run"]

T = TypeVar("T")


@dataclass(frozen=True)
class _Job:
    candidate: Candidate
    batches: tuple[int, ...]
    loops: bool


@dataclass(frozen=True)
class _Course:
    """What is measured, and how."""

    arguments: Namespace
    peers: Sequence[Peer]
    results: Results
    bar: Bar

    def add(self, to: list[T], measured: Callable[[], T], model: str) -> None:
        """One more, or why there is none: the others are still worth measuring."""
        try:
            to.append(measured())
        except SofieError as error:
            self.results.errors.append(str(error.at(model)))
        except Exception as error:  # A bug, by which the results of an hour must not be lost.
            self.results.errors.append(f"{model}: {type(error).__name__}: {error}")

    def job(self, job: _Job) -> None:
        """All batch sizes of a network, and its loop."""
        name, results = job.candidate.name, self.results
        for i, batch in enumerate(job.batches):
            self.bar.step(f"{name}, batch {batch}")
            self.add(results.cases, partial(self._case, job.candidate, batch, not i), name)
        if job.loops:
            self.bar.step(f"{name}, RDataFrame")
            self.add(results.loops, partial(self._loop, job.candidate), name)

    def _case(self, candidate: Candidate, batch: int, is_first: bool) -> Case:
        given = self.arguments
        task = task_for(candidate, batch, FreeSizes(dict(given.size), given.free))
        plan = Plan(given.rounds, given.seconds, given.limit)
        case = measure_case(task, batch, self.peers, plan, self.bar.tick)
        if given.no_first or not is_first:
            return case
        found = (p for p in self.peers if isinstance(p, BySystemCompiler) and not p.absence())
        compiler = next((peer.name for peer in found), "")
        return replace(case, first=measure_first(task, compiler))

    def _loop(self, candidate: Candidate) -> Loop:
        given = self.arguments
        # A loop is long: a few say as much as many short rounds.
        rounds = max(min(given.rounds, 5), given.rounds // 10)
        return measure_loop(candidate, given.threads, rounds, given.loop_seconds, self.bar.tick)


def run(arguments: Namespace) -> int:
    """Measure and report; 1 if a number is wrong or a model does not run."""
    if arguments.list:
        report.show([report.list_table([make() for make in BUILT_IN.values()])])
        return 0
    for file in (arguments.json, arguments.plot):
        _ensure_writable(file)
    if arguments.gradient:
        return _slopes(arguments)
    if arguments.plot:
        from sofie_rdf.bench import plot

        plot.ensure_possible(arguments.plot)
    results = Results.read(arguments.source) if arguments.source else _measure(arguments)
    _publish(results, arguments)
    for error in results.errors:
        report.complain(error)
    return int(bool(results.errors))


def _slopes(arguments: Namespace) -> int:
    """Value and gradient, which are a table of their own."""
    for option in ("source", "plot", "markdown", "precision"):
        if getattr(arguments, option):
            name = "from" if option == "source" else option
            raise InputError(f"--gradient has no --{name}", remedy="Leave one of them out")
    return slopes.run(arguments)


def _measure(arguments: Namespace) -> Results:
    import_onnxruntime()
    import_root()
    peers = _peers(arguments.peers)
    peers += [InPrecision(name) for name in arguments.precision]
    chosen = candidates(arguments.models or USUAL)
    options = {name: getattr(arguments, name) for name in _OPTIONS}
    described = machine.describe(
        {peer.name: peer.version() for peer in peers if not peer.absence()}
    )
    results = Results(described, options, roofline.measure())
    jobs: list[_Job] = []
    with Bar() as bar:
        course = _Course(arguments, peers, results, bar)
        for one in chosen:
            course.add(jobs, partial(_job, one, arguments), one.name)
        bar.steps = sum(len(job.batches) + job.loops for job in jobs)
        for job in jobs:
            course.job(job)
            # Whatever ends the process later, these are not lost.
            _write_json(results, arguments.json)
    results.machine["load_after"] = machine.load()
    return results


_OPTIONS = ("batch", "free", "size", "rounds", "seconds", "limit", "loop_seconds", "threads")


def _peers(wanted: Sequence[str] | None) -> list[Peer]:
    """All that are known, or those that are wanted; the reference is always among them."""
    known = {peer.name: peer for peer in all_peers()}
    if wanted is None:
        return list(known.values())
    for name in wanted:
        if name not in known and name != "none":
            raise InputError(
                f"there is no peer {name!r}",
                remedy=nearest(name, known) or f"There are {', '.join(known)}",
            )
    return [peer for name, peer in known.items() if name in wanted or peer is REFERENCE]


def _job(one: Candidate, arguments: Namespace) -> _Job:
    loops = not arguments.no_dataframe and fits(one.model.graph)
    free = FreeSizes(dict(arguments.size), arguments.free)
    return _Job(one, one.batches(arguments.batch, free), loops)


# Output -------------------------------------------------------------------------------------------


def _publish(results: Results, arguments: Namespace) -> None:
    _write_json(results, arguments.json)
    if arguments.json == "-":
        sys.stdout.write(results.text())
    if arguments.plot:
        from sofie_rdf.bench import plot

        plot.draw(results, arguments.plot)
    if arguments.markdown:
        sys.stdout.write(markdown(results))
    elif arguments.json != "-":
        report.show(report.tables(results))


def _write_json(results: Results, file: str | None) -> None:
    if file and file != "-":
        Path(file).write_text(results.text())


def _ensure_writable(file: str | None) -> None:
    """Minutes of measuring must not end with a file that cannot be written."""
    if file and file != "-":
        try:
            with Path(file).open("a"):
                pass
        except OSError as error:
            raise ModelError(f"cannot be written: {error.strerror}", place=file) from error
