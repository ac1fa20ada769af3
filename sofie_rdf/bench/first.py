"""The time from a file to the first result, and the memory it takes, in a process of its own.

``python -m sofie_rdf.bench.first WHO FILE.onnx INPUTS.npz`` prints it as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from sofie_rdf.bench.models import Task
from sofie_rdf.errors import ModelError
from sofie_rdf.isolation import fresh
from sofie_rdf.runtime.compile.library import CLING

__all__ = ["First", "Start", "measure_first"]

T = TypeVar("T")
_PATIENCE = 600.0


@dataclass(frozen=True)
class Start:
    """How one program comes to its first result: seconds of each step, and bytes of memory.

    ``peak`` is the most memory that the process had, above what it had when it could begin:
    modules imported, and ROOT started, which has taken ``start`` seconds.
    """

    start: float
    steps: Mapping[str, float]
    peak: int

    @property
    def total(self) -> float:
        return sum(self.steps.values())

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "total": self.total}

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Start:
        return cls(read["start"], read["steps"], read["peak"])


@dataclass(frozen=True)
class First:
    """Ours with an empty cache on disk, and with the one that this leaves; and onnxruntime's.

    ``library`` is ours with a library of the system's compiler in the cache.
    """

    ours: Start
    again: Start
    ort: Start
    library: Start | None = None

    def to_json(self) -> dict[str, Any]:
        starts = zip(_NAMES, (self.ours, self.again, self.ort, self.library), strict=True)
        return {name: start.to_json() for name, start in starts if start}

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> First:
        return cls(*(Start.from_json(read[name]) for name in _NAMES if name in read))


_NAMES = ("sofie_rdf", "sofie_rdf_again", "onnxruntime", "sofie_rdf_library")


def measure_first(task: Task, compiler: str = "") -> First:
    """All, one after the other; `ModelError` with the end of what a process said that failed.

    ``compiler`` is the system's that makes a library; "" for none.
    """
    with tempfile.TemporaryDirectory(prefix="sofie-rdf-bench-") as folder:
        source = task.candidate.source
        file = Path(folder) / f"{task.candidate.name}.onnx" if isinstance(source, bytes) else source
        if isinstance(source, bytes):
            file.write_bytes(source)
        inputs = Path(folder) / "inputs.npz"
        # By number: names in a file may be no names of files.
        np.savez(inputs, *task.feeds.values())
        programs = ("sofie_rdf", "sofie_rdf_again", "onnxruntime")
        first = First(*(_in_new_process(who, file, inputs) for who in programs))
        if not compiler:
            return first
        _in_new_process(programs[1], file, inputs, compiler)  # It makes the library.
        return replace(first, library=_in_new_process(programs[1], file, inputs, compiler))


def _in_new_process(who: str, file: Path, inputs: Path, compiler: str = CLING) -> Start:
    """The cache is beside the inputs, so that the first one finds it empty."""
    command = fresh.command(__name__, who, str(file), str(inputs))
    environment = {
        **os.environ,
        "SOFIE_RDF_CACHE": str(inputs.with_name("cache")),
        "SOFIE_RDF_COMPILER": compiler,
    }
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
    except (subprocess.SubprocessError, OSError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        reason = said[-1] if said else "it says nothing"
        raise ModelError(f"has no first result in a new process ({who}): {reason}") from error
    return Start.from_json(json.loads(done.stdout.splitlines()[-1]))


# In the new process -------------------------------------------------------------------------------


class _Steps:
    """Seconds of each step, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, name: str, action: Callable[[], T]) -> T:
        start = perf_counter()
        result = action()
        self.seconds[name] = perf_counter() - start
        return result


def _ours(file: Path, arrays: list[Any], *, in_steps: bool = True) -> Start:
    import sofie_rdf
    from sofie_rdf.runtime.compile.interpreter import declare

    steps = _Steps()
    # The first declaration reads ROOT's C++ modules.
    steps.time("start", lambda: declare("namespace sofie_bench_first {}"))
    before = _memory_from_here()
    model = steps.time("read", lambda: sofie_rdf.load(file))
    if in_steps:  # What a cache makes needless.
        steps.time("passes", lambda: model.optimized)
    steps.time("compile", lambda: model.compiled)
    steps.time("call", lambda: model(dict(zip(model.inputs, arrays, strict=True))))
    start = steps.seconds.pop("start")
    return Start(start, steps.seconds, _peak_memory() - before)


def _onnxruntime(file: Path, arrays: list[Any]) -> Start:
    from sofie_rdf.bench.ort import session
    from sofie_rdf.bench.ort_package import import_onnxruntime

    steps = _Steps()
    steps.time("start", import_onnxruntime)
    before = _memory_from_here()
    made = steps.time("session", lambda: session(file))
    names = [port.name for port in made.get_inputs()]
    steps.time("call", lambda: made.run(None, dict(zip(names, arrays, strict=True))))
    start = steps.seconds.pop("start")
    return Start(start, steps.seconds, _peak_memory() - before)


_PROGRAMS: Mapping[str, Callable[[Path, list[Any]], Start]] = {
    "sofie_rdf": _ours,
    "sofie_rdf_again": partial(_ours, in_steps=False),
    "onnxruntime": _onnxruntime,
}


def _memory_from_here() -> int:
    """The memory of this process, and its peak begins anew where the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _memory("VmHWM")
    return _memory("VmRSS")


def _peak_memory() -> int:
    return _memory("VmHWM")


def _memory(key: str) -> int:
    """Bytes; not by `resource`, whose peak a process inherits from the one that has started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return int(kilobytes) * 1024


def _main(who: str, file: str, inputs: str) -> None:
    with np.load(inputs) as read:
        arrays = [read[f"arr_{i}"] for i in range(len(read.files))]
    sys.stdout.write(f"\n{json.dumps(_PROGRAMS[who](Path(file), arrays).to_json())}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
