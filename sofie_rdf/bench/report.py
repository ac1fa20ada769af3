"""What a person reads: tables, and under them what each column is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sofie_rdf.bench.cases import Case
from sofie_rdf.bench.dataframe import Loop
from sofie_rdf.bench.first import Start
from sofie_rdf.bench.measure import Spread
from sofie_rdf.bench.models import Candidate
from sofie_rdf.bench.peers import Form, Rival
from sofie_rdf.bench.results import Results
from sofie_rdf.bench.roofline import Roofline
from sofie_rdf.errors import printable

__all__ = ["complain", "list_table", "machine_line", "microseconds", "short_name", "show", "tables"]

_WIDTH = 200

_CASE_NOTES = """\
Times are medians over rounds in which all take turns, (the least), ± half the distance between the
quartiles; µs for one call with the whole batch. One thread, one process, the same input each time.
sofie_rdf    the Session's entry point called in a C++ loop, as an event loop calls it
model(x)     the same from Python, with its checks and new arrays
onnxruntime  the fastest of its calls: by its C API in the same C++ loop, by Python with memory that
             was bound once, by Python's run; all are in --json
empty call   the same call of a model that only has Identity: the overhead of a call
ratio        onnxruntime / sofie_rdf: how many times as fast we are, (by the least times)
net          the same without the empty call, all of ours still included
deviation    the largest difference between a result of ours and another one; checked beforehand"""

_PEER_NOTES = """\
The same for the other peers, each in the fastest way to call it. ratio: its time / that of
sofie_rdf, (without its empty call). A peer with a reason in place of times did not take part."""

_BOUND_NOTES = """\
The least time in which one core of this machine, as measured at the start, could evaluate the
network, and how far from it we are.
Mflop        operations of its multiplications with addition, two for each; nothing else counts
weights      what a call reads of them, and the cache that holds all that the call touches
values       what nodes read and write of inputs, outputs and values in between, after all fusions
least        the longer one of two: all operations at the peak; and all bytes, weights from that
             cache and the values of each node from the nearest one that holds them
set by       what takes that long
distance     sofie_rdf / least; below 1 where an algorithm does with fewer multiplications
Of networks without multiplications nothing is said: what trees read depends on the data."""

_FIRST_NOTES = """\
From a file to the first result in a new process, in seconds.
start    of ROOT, which is not in the total; modules are imported before
read     the file                                 passes   its optimization
compile  C++ is made, compiled, and tried out     call     the first one
again    all of it in the next process, by Cling, with what the cache on disk then has
library  the same where the cache has a library of g++, as it has a while after the first use
peak     the most memory in MB above that of the process before, with weights and the compiler
session  of onnxruntime: the file is read and optimized"""

_LOOP_NOTES = """\
RDataFrame over events in memory: cheap expressions as features, the Sum of the score; loops on all
numbers of threads take turns, after one of each that compiles.
CPU          the CPU time for an event in all threads together
loop alone   the same loop with the sum of the features in place of the score
network      the difference: what the column costs by the clock
speed-up     events/s against the first row; (with idle CPUs: what the CPU time allows)
onnxruntime  the fastest call for one event outside of RDataFrame, (without the empty call)"""


def show(parts: Iterable[RenderableType]) -> None:
    """Print to the standard output; colours on a terminal only, unless NO_COLOR is set."""
    plain = not sys.stdout.isatty() or bool(os.environ.get("NO_COLOR"))
    console = Console(
        file=sys.stdout,
        color_system=None if plain else "auto",
        # A narrow terminal breaks the lines; numbers that are cut off would be worse.
        width=_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def complain(error: object) -> None:
    """What went wrong, on the error stream: the beginning of it, if a compiler has said it."""
    first, *more = printable(str(error)).splitlines()[:_MOST_LINES]
    sys.stderr.write("\n".join([f"sofie-rdf: error: {first}", *more]) + "\n")


_LONGEST_NAME, _LONGEST_REASON, _MOST_LINES = 44, 72, 8


def short_name(case: Case | Loop) -> str:
    """The model's, without its middle if it is long."""
    text = printable(case.model)
    half = _LONGEST_NAME // 2
    return text if len(text) <= _LONGEST_NAME else f"{text[: half - 1]}…{text[-half:]}"


# Tables -------------------------------------------------------------------------------------------


def tables(results: Results) -> list[RenderableType]:
    """Everything that was measured."""
    parts = [machine_line(results.machine), _roofline_line(results.roofline)]
    if results.cases:
        parts += [_case_table(results.cases), _bound_table(results.cases, results.roofline)]
    if any(case.others for case in results.cases):
        parts.append(_peer_table(results.cases))
    if any(case.first for case in results.cases):
        parts.append(_first_table(results.cases))
    if results.loops:
        parts.append(_loop_table(results.loops))
    return parts


def list_table(candidates: Sequence[Candidate]) -> RenderableType:
    """The built-in networks."""
    table = _table("network", "what it is", left=("network", "what it is"))
    for candidate in candidates:
        table.add_row(printable(candidate.name), printable(candidate.about))
    return table


def machine_line(machine: Mapping[str, Any]) -> RenderableType:
    """The CPU and the versions, in one line."""
    versions = machine["versions"]
    named = ", ".join(f"{n} {version}" for n, version in versions.items() if version)
    text = f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['instruction_set']}; {named}; "
    return Text(f"{text}load {machine['load_before']:.1f}", style="dim")


def _roofline_line(machine: Roofline) -> RenderableType:
    """The peak and the bandwidths, in one line."""
    levels = (
        f"{level.name}{_size_of(level.nbytes)} {level.bandwidth / 1e9:.0f}"
        for level in machine.levels
    )
    return Text(
        f"One core: {machine.flops / 1e9:.0f} GFLOP/s in float32; reads {', '.join(levels)} GB/s",
        style="dim",
    )


def _size_of(nbytes: int) -> str:
    return f" ({nbytes >> 10:,} KiB)" if nbytes else ""


def _case_table(cases: Sequence[Case]) -> RenderableType:
    """Ours beside onnxruntime, a row for each network and batch size."""
    table = _table(
        *("network", "batch", "sofie_rdf µs", "model(x)", "onnxruntime µs", "by"),
        *("empty call", "ratio", "net", "deviation"),
        left=("network", "by"),
    )
    for case in cases:
        best = case.best
        table.add_row(
            *(
                short_name(case),
                str(case.batch),
                _times(case.ours),
                _us(case.python.median),
            ),
            *(_times(best.times), best.name, _overhead(best)),
            _bold(f"{case.gross:.2f}").append(f" ({case.least:.2f})", "none"),
            *(f"{case.net:.2f}", f"{case.deviation.largest:.0e}"),
        )
    return _with_notes(table, _CASE_NOTES)


def _peer_table(cases: Sequence[Case]) -> RenderableType:
    """The other peers, a row for each network, batch size and peer."""
    table = _table(
        *("network", "batch", "peer", "µs", "by", "ratio", "deviation"),
        left=("network", "peer", "by"),
    )
    for case in cases:
        for rival in case.others:
            name, batch = short_name(case), str(case.batch)
            if rival.absent:
                reason = Text(printable(rival.absent)[:_LONGEST_REASON], style="dim")
                table.add_row(name, batch, rival.name, "-", reason, "", "")
            else:
                table.add_row(name, batch, rival.name, *_of_peer(case, rival))
    return _with_notes(table, _PEER_NOTES)


def _of_peer(case: Case, rival: Rival) -> tuple[str | Text, ...]:
    best = rival.best
    ratio = _bold(f"{case.ratio(rival):.2f}")
    if best.overhead:
        ratio.append(f" ({best.net / case.ours.median:.2f})", "none")
    return _times(best.times), best.name, ratio, f"{best.deviation.largest:.0e}"


def _bound_table(cases: Sequence[Case], machine: Roofline) -> RenderableType:
    """What each network needs, and the least time for it."""
    table = _table(
        *("network", "batch", "Mflop", "weights", "from", "values", "flop/byte"),
        *("least µs", "set by", "sofie_rdf µs", "GFLOP/s", "distance", "onnxruntime's"),
        left=("network", "from", "set by"),
    )
    for case in cases:
        work, least, ours = case.work, case.work.least(machine), case.ours.median
        distances = (work.distance(t, machine) for t in (ours, case.best.times.median))
        shown = ("-" if d is None else f"{d:.2f}" for d in distances)
        table.add_row(
            *(short_name(case), str(case.batch), f"{work.flops / 1e6:,.3f}"),
            *(_kilobytes(work.weights), work.home(machine).name, _kilobytes(work.values)),
            *(f"{work.intensity:.1f}", _us(least.seconds), least.by),
            *(_us(ours), f"{work.flops / ours / 1e9:.1f}"),
            _bold(next(shown)),
            *shown,
        )
    return _with_notes(table, _BOUND_NOTES)


def _kilobytes(nbytes: int) -> str:
    return f"{nbytes / 1000:,.1f} kB"


def _first_table(cases: Sequence[Case]) -> RenderableType:
    """The first result in a new process."""
    table = _table(
        *(
            "first result",
            "start",
            "read",
            "passes",
            "compile",
            "call",
            "total",
            "peak",
            "again",
            "peak ",
            "library",
        ),
        *("onnxruntime: session", "call ", "total ", "peak  "),
        left=("first result",),
    )
    for case in cases:
        if case.first:
            ours, again, ort = case.first.ours, case.first.again, case.first.ort
            steps = [f"{seconds:.3f}" for seconds in ours.steps.values()]
            theirs = [f"{seconds:.3f}" for seconds in ort.steps.values()]
            table.add_row(
                short_name(case),
                f"{ours.start:.3f}",
                *steps,
                _bold(f"{ours.total:.2f}"),
                _megabytes(ours.peak),
                f"{again.total:.2f}",
                _megabytes(again.peak),
                _total(case.first.library),
                *theirs,
                _bold(f"{ort.total:.2f}"),
                _megabytes(ort.peak),
            )
    return _with_notes(table, _FIRST_NOTES)


def _total(start: Start | None) -> str:
    return f"{start.total:.2f}" if start else ""


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:.0f}"


def _loop_table(loops: Sequence[Loop]) -> RenderableType:
    """Events per second, a row for each network and number of threads."""
    table = _table(
        *("RDataFrame", "events", "threads", "events/s", "µs an event", "CPU", "loop alone"),
        *("network", "speed-up", "onnxruntime µs"),
        left=("RDataFrame",),
    )
    for loop in loops:
        for i, run in enumerate(loop.runs):
            first = not i
            table.add_row(
                short_name(loop) if first else "",
                f"{loop.events:,}" if first else "",
                *(str(run.threads), f"{1 / run.scored.median:,.0f}", _times(run.scored)),
                *(
                    _us(run.cpu.median),
                    _us(run.alone.median),
                    _us(run.network),
                ),
                _bold(f"{loop.speedup(run):.2f}").append(f" ({loop.cpu_speedup(run):.2f})", "none"),
                _gross_and_net(loop.best) if first else "",
            )
    return _with_notes(table, _LOOP_NOTES)


def _table(*columns: str, left: Sequence[str] = ()) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    return table


def _with_notes(table: Table, notes: str) -> RenderableType:
    return Group(
        Padding(table, (1, 0, 0, 0), expand=False),
        Padding(Text(notes, style="dim"), (1, 0, 0, 0), expand=False),
    )


def _bold(text: str) -> Text:
    return Text(text, style="bold")


def microseconds(seconds: float) -> str:
    """Microseconds with three digits."""
    us = seconds * 1e6
    if abs(us) < 0.995:
        return f"{us:.3f}"
    return f"{us:.2f}" if abs(us) < 9.995 else f"{us:.1f}" if abs(us) < 99.95 else f"{us:,.0f}"


_us = microseconds


def _overhead(form: Form) -> str:
    return _us(form.overhead.median) if form.overhead else "-"


def _times(spread: Spread) -> str:
    return f"{_us(spread.median)} ({_us(spread.least)}) ±{spread.relative:3.0%}"


def _gross_and_net(form: Form) -> str:
    return f"{_us(form.times.median)} ({_us(form.net)}) by {form.name}"
