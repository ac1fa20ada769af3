"""The course of one ``sofie-rdf bench``: models one by one, then the report."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sofie_rdf.bench import machine, report
from sofie_rdf.bench.cases import Case, measure_case
from sofie_rdf.bench.dataframe import Loop, fits, measure_loop
from sofie_rdf.bench.models import BUILT_IN, USUAL, Candidate, candidate
from sofie_rdf.bench.peers import import_onnxruntime
from sofie_rdf.bench.progress import Bar
from sofie_rdf.errors import ModelError, SofieError
from sofie_rdf.runtime.interpreter import import_root

__all__ = ["run"]

T = TypeVar("T")
_FORMAT = 1


@dataclass
class _Results:
    """What has been measured so far."""

    cases: list[Case] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, to: list[T], measured: Callable[[], T], model: str) -> None:
        """One more, or why there is none: the others are still worth measuring."""
        try:
            to.append(measured())
        except SofieError as error:
            self.errors.append(str(error.at(model)))


@dataclass(frozen=True)
class _Plan:
    candidate: Candidate
    batches: tuple[int, ...]
    loops: bool


def run(arguments: Namespace) -> int:
    """Measure and report; 1 if a number is wrong or a model does not run."""
    if arguments.list:
        report.show([report.list_table([make() for make in BUILT_IN.values()])])
        return 0
    import_onnxruntime()
    import_root()
    chosen = [candidate(text) for text in arguments.models or USUAL]
    _ensure_writable(arguments.json)
    described = machine.describe()
    results = _measure(chosen, arguments)
    described["load_after"] = machine.load()
    _write_json(arguments, described, results)
    if arguments.json != "-":
        _show(described, results)
    for error in results.errors:
        report.complain(error)
    return int(bool(results.errors))


def _measure(chosen: Sequence[Candidate], arguments: Namespace) -> _Results:
    results = _Results()
    plans: list[_Plan] = []
    for one in chosen:
        results.add(plans, partial(_plan, one, arguments), one.name)
    with Bar(sum(len(plan.batches) + plan.loops for plan in plans)) as bar:
        for plan in plans:
            one = plan.candidate
            for batch in plan.batches:
                bar.step(f"{one.name}, batch {batch}")
                results.add(results.cases, partial(_case, one, batch, arguments, bar), one.name)
            if plan.loops:
                bar.step(f"{one.name}, RDataFrame")
                results.add(results.loops, partial(_loop, one, arguments, bar), one.name)
    return results


def _plan(one: Candidate, arguments: Namespace) -> _Plan:
    loops = not arguments.no_dataframe and fits(one.model.graph)
    return _Plan(one, one.batches(arguments.batch), loops)


def _case(one: Candidate, batch: int, arguments: Namespace, bar: Bar) -> Case:
    return measure_case(one, batch, arguments.rounds, arguments.seconds, bar.tick)


def _loop(one: Candidate, arguments: Namespace, bar: Bar) -> Loop:
    # A loop is long: a few say as much as many short rounds.
    rounds = max(min(arguments.rounds, 5), arguments.rounds // 10)
    return measure_loop(one, arguments.threads, rounds, arguments.loop_seconds, bar.tick)


# Output -------------------------------------------------------------------------------------------


def _show(described: dict[str, Any], results: _Results) -> None:
    parts = [report.machine_line(described)]
    if results.cases:
        parts.append(report.case_table(results.cases))
    if results.loops:
        parts.append(report.loop_table(results.loops))
    report.show(parts)


def _ensure_writable(file: str | None) -> None:
    """Minutes of measuring must not end with a file that cannot be written."""
    if file and file != "-":
        try:
            with Path(file).open("a"):
                pass
        except OSError as error:
            raise ModelError(f"cannot be written: {error.strerror}", place=file) from error


def _write_json(arguments: Namespace, described: dict[str, Any], results: _Results) -> None:
    if not arguments.json:
        return
    whole = {
        "format": _FORMAT,
        "machine": described,
        "options": {
            name: getattr(arguments, name)
            for name in ("batch", "rounds", "seconds", "loop_seconds", "threads")
        },
        "cases": [case.to_json() for case in results.cases],
        "loops": [loop.to_json() for loop in results.loops],
        "errors": results.errors,
        "ok": not results.errors,
    }
    text = json.dumps(whole, indent=2) + "\n"
    if arguments.json == "-":
        sys.stdout.write(text)
    else:
        Path(arguments.json).write_text(text)
