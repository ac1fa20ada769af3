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
from sofie_rdf.bench.measure import Spread
from sofie_rdf.bench.models import Candidate
from sofie_rdf.bench.peers import Form

__all__ = ["case_table", "complain", "list_table", "loop_table", "machine_line", "show"]

_WIDTH = 200

_CASE_NOTES = """\
Times are medians over rounds in which all take turns, (the least), ± half the distance between the
quartiles; µs for one call with the whole batch. One thread, one process, the same input each time.
sofie_rdf    Session::infer called in a C++ loop, as an event loop calls it
model(x)     the same from Python, with its checks and new arrays
onnxruntime  the fastest of its calls: by its C API in the same C++ loop, by Python with memory that
             was bound once, by Python's run; all are in --json
empty call   the same call of a model that only has Identity: the overhead of a call
ratio        onnxruntime / sofie_rdf: how many times as fast we are, (by the least times)
net          the same without the empty call, all of ours still included
deviation    the largest difference between any two results; checked before the times are taken"""

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
    """One line about what went wrong, on the error stream."""
    sys.stderr.write(f"sofie-rdf: error: {_printable(str(error))}\n")


def _printable(text: str) -> str:
    """The text without characters that steer a terminal: files say what they like."""
    keep = (c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    return "".join(keep)


# Tables -------------------------------------------------------------------------------------------


def list_table(candidates: Sequence[Candidate]) -> RenderableType:
    """The built-in networks."""
    table = _table("network", "what it is", left=("network", "what it is"))
    for candidate in candidates:
        table.add_row(_printable(candidate.name), _printable(candidate.about))
    return table


def machine_line(machine: Mapping[str, Any]) -> RenderableType:
    """The CPU and the versions, in one line."""
    versions = machine["versions"]
    named = ", ".join(f"{n} {versions[n]}" for n in ("sofie_rdf", "ROOT", "onnxruntime"))
    text = f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['instruction_set']}; {named}; "
    return Text(f"{text}load {machine['load_before']:.1f}", style="dim")


def case_table(cases: Sequence[Case]) -> RenderableType:
    """Ours beside onnxruntime, a row for each network and batch size."""
    table = _table(
        *("network", "batch", "sofie_rdf µs", "model(x)", "onnxruntime µs", "by"),
        *("empty call", "ratio", "net", "deviation"),
        left=("network", "by"),
    )
    for case in cases:
        best = case.best
        table.add_row(
            *(_printable(case.model), str(case.batch), _times(case.ours), _us(case.python.median)),
            *(_times(best.times), best.name, _us(best.overhead.median)),
            _bold(f"{case.gross:.2f}").append(f" ({case.least:.2f})", "none"),
            *(f"{case.net:.2f}", f"{case.deviation.largest:.0e}"),
        )
    return _with_notes(table, _CASE_NOTES)


def loop_table(loops: Sequence[Loop]) -> RenderableType:
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
                _printable(loop.model) if first else "",
                f"{loop.events:,}" if first else "",
                *(str(run.threads), f"{1 / run.scored.median:,.0f}", _times(run.scored)),
                *(_us(run.cpu.median), _us(run.alone.median), _us(run.network)),
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


def _us(seconds: float) -> str:
    """Microseconds with three digits."""
    us = seconds * 1e6
    if abs(us) < 0.995:
        return f"{us:.3f}"
    return f"{us:.2f}" if abs(us) < 9.995 else f"{us:.1f}" if abs(us) < 99.95 else f"{us:,.0f}"


def _times(spread: Spread) -> str:
    return f"{_us(spread.median)} ({_us(spread.least)}) ±{spread.relative:3.0%}"


def _gross_and_net(form: Form) -> str:
    return f"{_us(form.times.median)} ({_us(form.net)}) by {form.name}"
