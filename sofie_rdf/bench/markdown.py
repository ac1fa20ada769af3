"""The tables of a run in Markdown, for PERFORMANCE.md and for issues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sofie_rdf.bench.cases import Case
from sofie_rdf.bench.dataframe import Loop
from sofie_rdf.bench.report import microseconds
from sofie_rdf.bench.results import Results

__all__ = ["markdown"]


def markdown(results: Results) -> str:
    """All tables, with what they were measured on above them."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Results) -> Iterator[str]:
    machine = results.machine
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v)
    levels = ", ".join(
        f"{level.name} {level.bandwidth / 1e9:.0f}" for level in results.roofline.levels
    )
    yield f"{machine['cpu']}, {machine['instruction_set']}; {versions}."
    yield f"One core: {results.roofline.flops / 1e9:.0f} GFLOP/s; reads {levels} GB/s."
    for table in (_cases(results), _first(results.cases), _loops(results.loops)):
        rows = list(table)
        if len(rows) > 1:
            yield ""
            yield from _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    head, *body = rows
    yield _row(head)
    yield _row(["---", *["---:"] * (len(head) - 1)])
    yield from map(_row, body)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _cases(results: Results) -> Iterator[Sequence[str]]:
    """Times in µs, and the ratio for every peer that took part anywhere."""
    names = dict.fromkeys(r.name for c in results.cases for r in c.others if not r.absent)
    yield (
        *("network", "batch", "sofie_rdf µs", "±", "onnxruntime µs", "call", "ratio"),
        *names,
        *("least µs", "set by", "distance"),
    )
    for case in results.cases:
        least = case.work.least(results.roofline)
        overhead = case.best.overhead
        distance = case.work.distance(case.ours.median, results.roofline)
        yield (
            *(case.model, str(case.batch), microseconds(case.ours.median)),
            *(f"{case.ours.relative:.0%}", microseconds(case.best.times.median)),
            *(microseconds(overhead.median) if overhead else "", f"**{case.gross:.2f}**"),
            *(_ratio(case, name) for name in names),
            *(microseconds(least.seconds), least.by),
            f"{distance:.2f}" if distance else "",
        )


def _ratio(case: Case, name: str) -> str:
    found = next((r for r in case.others if r.name == name and not r.absent), None)
    return f"{case.ratio(found):.2f}" if found else ""


def _first(cases: Sequence[Case]) -> Iterator[Sequence[str]]:
    yield (
        *("first result", "read s", "passes s", "compile s", "call s", "total s", "peak MB"),
        *("again s", "library s", "onnxruntime s", "peak MB"),
    )
    for case in cases:
        if case.first:
            ours, again, ort = case.first.ours, case.first.again, case.first.ort
            library = case.first.library
            yield (
                *(case.model, *(f"{s:.2f}" for s in ours.steps.values()), f"**{ours.total:.2f}**"),
                *(f"{ours.peak / 1e6:.0f}", f"{again.total:.2f}"),
                *(f"{library.total:.2f}" if library else "", f"{ort.total:.2f}"),
                f"{ort.peak / 1e6:.0f}",
            )


def _loops(loops: Sequence[Loop]) -> Iterator[Sequence[str]]:
    yield (
        *("RDataFrame", "threads", "events/s", "µs an event", "loop alone", "network"),
        *("speed-up", "onnxruntime µs"),
    )
    for loop in loops:
        for run in loop.runs:
            yield (
                *(loop.model, str(run.threads), f"{1 / run.scored.median:,.0f}"),
                *map(microseconds, (run.scored.median, run.alone.median, run.network)),
                *(f"{loop.speedup(run):.2f}", microseconds(loop.best.times.median)),
            )
