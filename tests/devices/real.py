"""``python -m tests.devices.real [--adapter NAME] [PART OF A NAME ...]``: real models on devices.

The models of CMS and of SOFIE's benchmark run on each adapter, all on CPUs, unedited but for
``FEWER``, and their numbers are compared with onnxruntime's as `tests.conformance.real` does.
SimSYCL runs the work-items in shuffled orders, with its checks fatal. A table is printed, and
written to ``out/devices.md``. Programs are compiled once, into ``out/devices``. ``--limit`` is how
many seconds a model may run on an adapter: the largest calls are left out where they would take
longer, but one with events is always made.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sofie_rdf.devices.program import program_for
from sofie_rdf.emit.code import include_directory
from sofie_rdf.errors import SofieError
from sofie_rdf.ir.dims import evaluate
from sofie_rdf.ir.types import Array
from tests.conformance import real
from tests.conformance.examples import edges, feeds, rounds
from tests.devices.harness import WAYS, Compiled, Way, compile_program, missing, written_programs

__all__ = ["ADAPTERS", "Outcome", "answered", "files", "measure"]

# How many orders of work-items each is run with.
ADAPTERS = {"serial": 2, "alpaka-serial": 1, "alpaka-omp": 1, "sycl": 3}
TITLES = {
    "serial": "serial, 2 orders",
    "alpaka-serial": "alpaka, `CpuSerial`",
    "alpaka-omp": "alpaka, `CpuOmpBlocks`",
    "sycl": "SYCL in SimSYCL, 3 orders",
}
FOLDERS = ("cms", "rootbench")
# A network that is fixed to 32 events is 86 billion products, which takes most of an hour there.
FEWER = {("Conv_d100_L14_B32", "sycl"): 2}
SECONDS = 300.0
# No call at all may take longer.
MOST = 3600.0
FLAGS = ("-O2",)
OUT = real.OUT / "devices"


@dataclass
class Outcome(real.Row):
    """What came out for one file on one adapter."""

    adapter: str = ""
    # Calls that onnxruntime answers; of these, in one order or more, ``calls`` were compared.
    possible: int = 0
    orders: int = 0
    compiling: float = 0.0

    def text(self) -> str:
        """A cell of the table."""
        if self.wrong:
            return "**FAILED**"
        return f"{self.deviation:.1e}, {self.calls} of {self.possible}, {self.seconds:.1f} s"


@dataclass(frozen=True)
class _Call:
    """Sizes, inputs, what onnxruntime answers, and how many products it takes."""

    sizes: Mapping[str, int]
    inputs: Mapping[str, Array]
    answer: Mapping[str, Array]
    work: int


def files(*parts: str) -> list[Path]:
    """The models that have one of these in their names, which begin with ``cms/``; or all."""
    named = [(f, f"{f.parent.name}/{f.stem}") for f in real.files() if f.parent.name in FOLDERS]
    return [f for f, name in named if not parts or any(part in name for part in parts)]


def measure(file: Path, adapter: str, seconds: float = SECONDS) -> Outcome:
    """Compare a model on an adapter; never raises for what the model or the comparison does."""
    outcome = Outcome(file.stem, adapter=adapter)
    try:
        subject = _subject(_with_fewer_events(file, adapter))
        program = _compiled(subject, WAYS[adapter], outcome)
        _measure(subject, program, outcome, seconds)
    except (SofieError, AssertionError) as error:
        outcome.wrong.append(f"{type(error).__name__}: {error}")
    return outcome


def _with_fewer_events(file: Path, adapter: str) -> Path:
    """The file, or another one with fewer events than it is fixed to."""
    events = FEWER.get((file.stem, adapter))
    if events is None:
        return file
    import onnx

    model = onnx.load(file)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = events
    del model.graph.value_info[:]
    other = OUT / f"{events}-events" / file.name
    other.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, other)
    return other


@cache
def _subject(file: Path) -> real.Subject:
    """The model, with values inside it as outputs where its own hardly change with the inputs."""
    subject = real.Subject(file)
    is_dead = subject.liveliness(subject.scale) < real.LIMIT
    return real.Subject(file, inner=True) if is_dead else subject


def answered(
    subject: real.Subject,
) -> Iterator[tuple[Mapping[str, int], dict[str, Array], dict[str, Array]]]:
    """Sizes, inputs, and what onnxruntime answers, of all calls that a real model gets."""
    graph = subject.graph
    for one in [*rounds(graph, subject.family), *edges(graph, subject.family)]:
        inputs = feeds(graph, one, subject.scale)
        answer = None if subject.is_deadly(one) else subject.answer(inputs)
        if answer is not None:
            yield one.sizes, inputs, answer


@cache
def _calls(file: Path) -> list[_Call]:
    subject = _subject(file)
    others = dict.fromkeys(subject.graph.data_symbols, 16)
    work = subject.graph.multiply_adds
    return [
        _Call(sizes, inputs, answer, evaluate(work, {**others, **sizes}))
        for sizes, inputs, answer in answered(subject)
    ]


def _measure(subject: real.Subject, program: Compiled, outcome: Outcome, seconds: float) -> None:
    """One or two small calls tell how long others take; then all that the time allows."""
    calls = _calls(subject.file)
    outcome.possible, outcome.scale = len(calls), subject.scale
    probes = sorted((c for c in calls if 0 not in c.sizes.values()), key=lambda c: c.work)
    rate, done = 0.0, 0
    for probe in probes[:2]:
        taken = _run(subject, program, outcome, ([probe], 1, MOST))
        if outcome.wrong:
            return
        outcome.seconds += taken
        rate, done = taken / max(probe.work, 1), done + 1
        if taken > seconds / 10:
            break
    orders = ADAPTERS[outcome.adapter]
    chosen = _affordable(calls, rate, (seconds - outcome.seconds) / orders)
    outcome.calls = max(done, len(chosen))
    for seed in range(1, orders + 1):
        if chosen:
            outcome.seconds += _run(subject, program, outcome, (chosen, seed, MOST))
    outcome.orders = orders if chosen else 1


def _affordable(calls: Sequence[_Call], rate: float, seconds: float) -> list[_Call]:
    """The calls, in their order, without the largest ones that the time is too short for."""
    total, kept = 0.0, set()
    for number in sorted(range(len(calls)), key=lambda n: calls[n].work):
        total += rate * calls[number].work
        if total <= seconds:
            kept.add(number)
    return [call for number, call in enumerate(calls) if number in kept]


def _run(
    subject: real.Subject,
    program: Compiled,
    outcome: Outcome,
    what: tuple[Sequence[_Call], int, float],
) -> float:
    """Compare calls in one order of work-items, and tell the seconds that they took."""
    calls, seed, seconds = what
    start = time.monotonic()
    found = program.run_within([(c.sizes, c.inputs) for c in calls], seed, seconds)
    taken = time.monotonic() - start
    if len(found) < len(calls):
        outcome.wrong.append(f"{len(calls) - len(found)} calls are not done in {seconds:.0f} s")
    for call, result in zip(calls, found, strict=False):
        label = f"{dict(call.sizes)}, order {seed}"
        real.compare(subject, call.inputs, (result, call.answer), outcome, label)
    return taken


# Programs -----------------------------------------------------------------------------------------


def _compiled(subject: real.Subject, way: Way, outcome: Outcome) -> Compiled:
    """The program, which is compiled where its text, the kernels or the command have changed."""
    folder = OUT / subject.file.stem / way.name
    (program,) = written_programs([program_for(subject.graph)], way, folder)
    texts = [(folder / name).read_bytes() for name in ("main.cpp", "model0.hxx")]
    command = " ".join([way.compiler, *FLAGS, *way.flags, *way.libraries])
    key = hashlib.sha256(b"\0".join([*texts, _kernels(), command.encode()])).hexdigest()
    known = folder / "compiled"
    if not (known.is_file() and known.read_text() == key and program.binary.is_file()):
        start = time.monotonic()
        compile_program(way, folder, FLAGS)
        outcome.compiling = time.monotonic() - start
        known.write_text(key)
    return program


@cache
def _kernels() -> bytes:
    """What all programs include of ours."""
    headers = sorted(include_directory().rglob("*.hxx"))
    return b"\0".join(file.read_bytes() for file in headers)


# The table ----------------------------------------------------------------------------------------


def lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The table in Markdown: a line for each model, a column for each adapter."""
    adapters = list(dict.fromkeys(o.adapter for o in outcomes))
    yield "Largest difference from onnxruntime, calls that were compared, seconds of all orders."
    yield ""
    yield f"| model | {' | '.join(TITLES[a] for a in adapters)} |"
    yield f"| --- |{' ---: |' * len(adapters)}"
    known = {(o.file, o.adapter): o.text() for o in outcomes}
    for file in dict.fromkeys(o.file for o in outcomes):
        yield f"| `{file}` | {' | '.join(known.get((file, a), '') for a in adapters)} |"
    yield ""
    for o in outcomes:
        yield from (f"* {o.file}, {o.adapter}: {text}" for text in o.details())


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.devices.real")
    parser.add_argument("parts", nargs="*", help="parts of names of models, such as cms/Deep")
    parser.add_argument("--adapter", action="append", choices=ADAPTERS, help="default: all")
    parser.add_argument("--limit", type=float, default=SECONDS, help="seconds of each model")
    given = parser.parse_args(arguments)
    outcomes: list[Outcome] = []
    chosen = [a for a in given.adapter or ADAPTERS if _is_there(a)]
    real.OUT.mkdir(exist_ok=True)
    for file in files(*given.parts):
        for adapter in chosen:
            one = measure(file, adapter, given.limit)
            fewer = FEWER.get((file.stem, adapter))
            one.remarks += [f"{fewer} events instead of those it is fixed to"] if fewer else []
            outcomes.append(one)
            told = f"{one.file}, {adapter}: {one.text()}, {one.orders} orders"
            _say("\n  ".join([f"{told}, compiled in {one.compiling:.1f} s", *one.details()]))
            (real.OUT / "devices.md").write_text("\n".join(lines(outcomes)) + "\n")
        _calls.cache_clear()
        _subject.cache_clear()
    _say("\n".join(["", *lines(outcomes)]))
    if not outcomes:
        _say("No models: SOFIE_RDF_MODELS names no folder with cms/ and rootbench/")
    return int(any(o.wrong for o in outcomes))


def _is_there(adapter: str) -> bool:
    why = missing(WAYS[adapter])
    if why:
        _say(f"{adapter} is left out: {why}")
    return not why


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
