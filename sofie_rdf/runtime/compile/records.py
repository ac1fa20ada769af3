"""Programs in the cache on disk, by the file that they are from, which is parsed only once."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.emit.code import Code, include_directory
from sofie_rdf.errors import SofieError
from sofie_rdf.ir import contents
from sofie_rdf.ir.dims import Dim, parse_dim
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.rows import ROWS
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.runtime.cache import disk
from sofie_rdf.runtime.compile.cpu import instruction_set
from sofie_rdf.runtime.compile.program import Program
from sofie_rdf.runtime.compile.trial import Trial

__all__ = [
    "Record",
    "find",
    "forget",
    "is_whole",
    "keep",
    "key_of",
    "key_of_content",
    "key_of_file",
]

# Larger files are .root files that hold other things as well.
_LARGEST = 2**30
# How weight files begin: cling/sofie/session/weights.hxx.
_WEIGHTS = b"SOFIEDAT"


def key_of(source: object, name: str, options: Mapping[str, Any]) -> str:
    """The key of the record of a file; "" where a record could not be found by what is given."""
    if not isinstance(source, Path) or options.keys() & {"custom_objects", "example_inputs"}:
        return ""  # No file, or functions and tensors, of which there is no text.
    # Where it is read changes nothing of what is read.
    told = sorted((key, value) for key, value in options.items() if key != "isolated")
    return key_of_file(source, name, told)


def key_of_file(path: Path, *settings: object) -> str:
    """What the program of a file depends on, as a hash; "" where it is not kept."""
    if disk.folder() is None:
        return ""
    try:
        if path.stat().st_size > _LARGEST:
            return ""
        # ONNX says with this word that weights are in other files, which may change.
        if contents.holds(path, b"location"):
            return ""
        content = contents.sha256_of(path)
    except (OSError, ValueError):
        return ""
    return key_of_content(content, path.name, repr(settings))


def key_of_content(*parts: str | bytes) -> str:
    """What the program of such a content depends on, as a hash; "" where it is not kept."""
    if disk.folder() is None:
        return ""
    # Not above: who imports sofie_rdf does not import passes.
    from sofie_rdf.passes import switches

    return disk.key_of((*parts, *switches.settings(), *_ourselves()))


@cache
def _ourselves() -> tuple[str, ...]:
    """What decides how a file becomes a program, beside the file: our sources above all."""
    package = Path(__file__).resolve().parents[2]
    files = sorted(
        f"{entry.path} {entry.stat().st_size} {entry.stat().st_mtime_ns}"
        for folder in (package, include_directory())
        for entry in _files(folder)
    )
    onnx = importlib.util.find_spec("onnx")
    changed = Path(onnx.origin).stat().st_mtime_ns if onnx and onnx.origin else 0
    versions = (np.__version__, platform.python_version(), str(changed))
    return (*versions, instruction_set().name, os.environ.get("ROOT_INCLUDE_PATH", ""), *files)


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The sources in a folder and those below it."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(Path(entry.path))
            elif entry.name.endswith((".py", ".hxx")):
                yield entry


@dataclass(frozen=True)
class Record:
    """A program that has been kept, and what else the file says of its model."""

    program: Program
    extras: Mapping[str, str]


def find(key: str, trials: Callable[[], Iterator[Trial]]) -> Record | None:
    """The record of that key, if it is there; ``trials`` makes them where none is kept."""
    text = disk.find(f"{key}.json") if key else None
    if text is None or not disk.is_there(f"{key}.dat"):
        return None
    try:
        return _record(key, json.loads(bytes(text)), trials)
    except (KeyError, TypeError, ValueError, IndexError, RecursionError, SofieError):
        forget(key)  # It is of another form than we write.
        return None


def is_whole(key: str) -> bool:
    """Whether the weights of the record are as they were kept."""
    data = disk.find(f"{key}.dat")
    return data is not None and bytes(data[: len(_WEIGHTS)]) == _WEIGHTS


def _record(key: str, held: Any, trials: Callable[[], Iterator[Trial]]) -> Record:
    """What is held as JSON."""
    types = {
        name: TensorType(
            DType(dtype), tuple(d if isinstance(d, int) else parse_dim(d) for d in dims)
        )
        for name, dtype, dims in (*held["inputs"], *held["outputs"])
    }
    inputs, outputs = (tuple(p[0] for p in held[kind]) for kind in ("inputs", "outputs"))
    fed = inputs if held["drawn"] is None else (*inputs, ROWS)
    kept = {"kept": lambda: _trials(key, fed, outputs, trials), "none": lambda: iter(())}
    program = Program(
        Graph(held["name"], inputs, outputs, (), types, {}, held["names"]),
        tuple(held["owned"]),
        held["rows"],
        parse_dim(held["scratch"]),
        held["piece"],
        Code(**held["code"]),
        held["whole"],
        lambda: None,
        # It has a checksum of its own, which is looked at when it is loaded.
        lambda: disk.mapped(f"{key}.dat"),
        kept.get(held["trial"], trials),
        None if held["drawn"] is None else parse_dim(held["drawn"]),
    )
    return Record(program, held["extras"])


def keep(key: str, program: Program, extras: Mapping[str, str]) -> None:
    """Keep a program that has been compiled and tried out."""
    face = program.face
    if (
        not key
        or program.is_foreign
        or any(not _is_plain(face.types[n].dtype) for n in (*face.inputs, *face.outputs))
    ):
        return
    held = {
        "name": face.name,
        "inputs": _described(face, face.inputs),
        "outputs": _described(face, face.outputs),
        "names": dict(face.provenance),
        "owned": program.owned,
        "rows": program.rows,
        "scratch": str(program.scratch),
        "piece": program.piece,
        "code": vars(program.code),
        "whole": program.whole,
        "extras": dict(extras),
        "drawn": None if program.drawn is None else str(program.drawn),
        "trial": ("kept" if program.trial else "none") if program.tried else "unknown",
    }
    if program.trial:
        disk.store(f"{key}.npz", _trial_bytes(program.trial, face))
    disk.store(f"{key}.dat", program.weights())
    # The last one: who finds it finds the others.
    disk.store(f"{key}.json", json.dumps(held).encode())


def forget(key: str) -> None:
    """Remove what has turned out to be damaged."""
    for suffix in ("json", "dat", "npz"):
        disk.remove(f"{key}.{suffix}")


def _is_plain(dtype: DType) -> bool:
    """Whether NumPy's own files hold such elements."""
    return not dtype.is_storage and dtype is not DType.BFLOAT16


def _dim(text: int | str) -> Dim:
    return text if isinstance(text, int) else parse_dim(text)


def _described(face: Graph, names: Sequence[str]) -> list[tuple[str, str, list[Any]]]:
    found = []
    for name in names:
        type_ = face.types[name]
        dims = [d if isinstance(d, int) else str(d) for d in type_.shape]
        found.append((name, type_.dtype.value, dims))
    return found


# Trials -------------------------------------------------------------------------------------------


def _trial_bytes(trial: Trial, face: Graph) -> bytes:
    fed = [*face.inputs, *([ROWS] if ROWS in trial.feeds else [])]
    arrays: dict[str, Array] = {f"feed{i}": trial.feeds[n] for i, n in enumerate(fed)}
    for i, name in enumerate(face.outputs):
        arrays[f"expected{i}"], arrays[f"exact{i}"] = trial.expected[name], trial.exact[name]
    arrays["noise"] = np.array([trial.noise.get(n, 0.0) for n in face.outputs], np.float64)
    # Names may be any text.
    sizes = json.dumps(dict(trial.sizes)).encode()
    file = io.BytesIO()
    np.savez(file, sizes=np.frombuffer(sizes, np.uint8), **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _trials(
    key: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    others: Callable[[], Iterator[Trial]],
) -> Iterator[Trial]:
    """The trial that is kept, or others where it is gone."""
    data = disk.find(f"{key}.npz")
    kept = None if data is None else _kept_trial(data, inputs, outputs)
    yield from others() if kept is None else (kept,)


def _kept_trial(data: memoryview, inputs: Sequence[str], outputs: Sequence[str]) -> Trial | None:
    """The trial in these bytes; None where they are of another form than we write."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            return None  # NumPy gives the bytes of a member that is no array.
        return Trial(
            json.loads(arrays["sizes"].tobytes()),
            {name: arrays[f"feed{i}"] for i, name in enumerate(inputs)},
            {name: arrays[f"expected{i}"] for i, name in enumerate(outputs)},
            {name: arrays[f"exact{i}"] for i, name in enumerate(outputs)},
            dict(zip(outputs, arrays["noise"].astype(np.float64).tolist(), strict=True)),
        )
    except Exception:  # NumPy and zipfile raise many types for what is damaged.
        return None
