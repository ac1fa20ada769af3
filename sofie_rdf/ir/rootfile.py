"""Graph <-> .root, any number of models in one file, beside whatever else is in it. No ROOT needed.

Each model is a directory with two objects, which ROOT, uproot and macros all read:

* ``model``: a TObjString with JSON: ``format``, ``writer``, ``name``, ``graph`` (see
  `sofie_rdf.ir.text`), ``header`` (emitted C++), ``extras``, and the tables ``tensors`` (the
  constants) and ``reference`` (stored inputs and outputs), of ``name, dtype, shape, entry`` each;
  ``sha256`` is that of the JSON without it (sorted, compact) and of all tensors, by entry.
* ``weights``: a TTree with one entry for each tensor and the branches ``data_f32`` (the elements of
  float32) and ``data_u8`` (the little-endian bytes of every other type).

`sofie_rdf.runtime.rootio` reads and writes the same files through ROOT.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import math
import os
import re
import secrets
import shutil
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NoReturn

import numpy as np

from sofie_rdf.errors import (
    CorruptFile,
    ModelError,
    SofieError,
    UnsupportedFormat,
    UnsupportedOperator,
    nearest,
)
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.text import graph_text, operator_text, parse_graph, parse_operator
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ir.verify import verify

__all__ = [
    "FORMAT",
    "Entry",
    "Record",
    "StoredModel",
    "directory_name",
    "from_record",
    "load",
    "names",
    "replacing",
    "save",
    "tensor_entries",
    "to_record",
]

FORMAT = 1

_MODEL, _WEIGHTS = "model", "weights"
_BRANCHES = {"data_f32": "float32", "data_u8": "uint8"}
_DTYPES = frozenset(d.value for d in DType)
DIRECTORIES = ("TDirectory", "TDirectoryFile")
_LONGEST_NAME = 150
# Above this version of a file's header its positions have 8 bytes.
_BIG_FILE = 1_000_000
# ROOT refuses buffers above 1 GiB; a basket holds at least one whole tensor.
_MOST_BYTES = 2**30 - 2**16
_BASKET_BYTES = 2**26


@dataclass(frozen=True)
class StoredModel:
    """What a file holds of one model."""

    graph: Graph
    header: str = ""
    extras: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    reference: Mapping[str, Array] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Record:
    """A model as it is stored: the text of ``model``, and each entry of ``weights``.

    An entry is a flat array of float32, or of uint8: the little-endian bytes of any other type.
    """

    json: str
    arrays: Sequence[Array]


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a tensor table: what an entry of ``weights`` must be."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    entry: int

    @property
    def branch(self) -> str:
        return "data_f32" if self.dtype is DType.FLOAT32 else "data_u8"

    @property
    def length(self) -> int:
        """The number of elements in its branch."""
        size = math.prod(self.shape)
        return size if self.dtype is DType.FLOAT32 else size * self.dtype.nbytes


# ---------------------------------------------------------------- a model as a record


def directory_name(name: str) -> str:
    """The directory of the model of that name: injective, and safe in every ROOT path."""
    if not name:
        raise ModelError("a model in a file needs a name", remedy="Pass name='...'")
    data = name.encode("utf-8", "surrogatepass")
    safe = re.sub(rb"[^A-Za-z0-9_.-]|^\.", lambda m: b"".join(b"%%%02X" % c for c in m[0]), data)
    if len(safe) > _LONGEST_NAME:
        # No other name contains %~.
        safe = safe[:_LONGEST_NAME] + b"%~" + hashlib.sha256(data).hexdigest().encode()
    return safe.decode("ascii")


def _flat(array: Array) -> Array:
    """The entry of ``weights`` that holds this tensor."""
    row: Array = np.ascontiguousarray(array).reshape(-1)
    if row.nbytes > _MOST_BYTES:
        raise ModelError(f"a tensor of {row.nbytes} bytes is more than a TTree can hold")
    little = row.astype(row.dtype.newbyteorder("<"), copy=False)
    return row if DType.of(array) is DType.FLOAT32 else little.view(np.uint8)


def _elements(row: Array, entry: Entry) -> Array:
    """The inverse of `_flat`, read-only."""
    if entry.dtype is DType.FLOAT32:
        found: Array = np.asarray(row, np.float32).reshape(entry.shape)
    else:
        little = np.frombuffer(row.tobytes(), entry.dtype.numpy.newbyteorder("<"))
        found = little.astype(entry.dtype.numpy, copy=False).reshape(entry.shape)
    found = np.ascontiguousarray(found).reshape(entry.shape)
    found.setflags(write=False)
    return found


def _checksum(document: Mapping[str, Any], rows: Iterable[Array]) -> str:
    hashed = {key: value for key, value in document.items() if key != "sha256"}
    found = hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":")).encode())
    for row in rows:
        little = row.astype(row.dtype.newbyteorder("<"), copy=False)
        found.update(np.ascontiguousarray(little).view(np.uint8).data)
    return found.hexdigest()


def _storable(op: Operator) -> None:
    """Nothing, if the operator's text reads back as the same operator; else ModelError."""
    text = operator_text(op)
    try:
        back = parse_operator(text)
    except SofieError as error:
        raise ModelError(f"{text} cannot be stored: {error.thing}", remedy=error.remedy) from None
    if operator_text(back) != text or type(back) is not type(op):
        raise ModelError(f"{text} cannot be stored: it reads back as {back}")


def _writer() -> str:
    with suppress(importlib.metadata.PackageNotFoundError):
        return f"sofie_rdf {importlib.metadata.version('sofie_rdf')}"
    return "sofie_rdf"


def _strings(what: str, given: Mapping[str, str]) -> dict[str, str]:
    for key, value in given.items():
        if {type(key), type(value)} != {str}:
            raise ModelError(f"{what} maps strings to strings, not {key!r} to {value!r}")
    return dict(given)


def to_record(
    graph: Graph,
    *,
    name: str | None = None,
    header: str = "",
    extras: Mapping[str, str] = MappingProxyType({}),
    reference: Mapping[str, Array] = MappingProxyType({}),
) -> Record:
    """The model as it is stored; ModelError for what cannot be, the error of an illegal graph."""
    verify(graph)
    for node in graph.nodes:
        _storable(node.op)
    rows: list[Array] = []

    def table(tensors: Mapping[str, Array]) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = []
        for key, array in tensors.items():
            try:
                dtype = str(DType.of(array))
            except ValueError:
                raise ModelError(f"{key!r} has the element type {array.dtype}") from None
            shape = [int(n) for n in array.shape]
            listed.append({"name": key, "dtype": dtype, "shape": shape, "entry": len(rows)})
            rows.append(_flat(array))
        return listed

    document: dict[str, Any] = {
        "format": FORMAT,
        "writer": _writer(),
        "name": graph.name if name is None else name,
        "graph": graph_text(graph),
        "header": header,
        "extras": _strings("extras", extras),
        "tensors": table(graph.constants),
        "reference": table(reference),
    }
    directory_name(document["name"])
    document["sha256"] = _checksum(document, rows)
    return Record(json.dumps(document), tuple(rows))


def _are_sizes(numbers: Sequence[object]) -> bool:
    sizes = [n for n in numbers if type(n) is int and 0 <= n < 2**31]
    return len(sizes) == len(numbers) <= 33


class _Document:
    """The JSON of a model, every part of it checked when it is asked for."""

    def __init__(self, text: str, place: str) -> None:
        self.place = place
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            self.fail("its description is no JSON")
        self.items: dict[str, Any] = found
        written = self.get("format", int)
        if written > FORMAT:
            thing = f"was written by a newer sofie_rdf (format {written}; this one reads {FORMAT})"
            raise UnsupportedFormat(f"{thing}: upgrade", place=place)
        if written < 1:
            self.fail(f"format {written} never existed")

    def fail(self, thing: str) -> NoReturn:
        raise CorruptFile(thing, place=self.place)

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        value = self.items.get(key, default)
        if not isinstance(value, kind) or isinstance(value, bool):
            self.fail(f"its description has no {key!r}, or a wrong one")
        return value

    def strings(self, key: str) -> Mapping[str, str]:
        found = self.get(key, dict, {})
        if not all(isinstance(value, str) for value in found.values()):
            self.fail(f"{key!r} in its description holds more than strings")
        return MappingProxyType(found)

    def table(self, key: str) -> tuple[Entry, ...]:
        rows = [self.row(key, row) for row in self.get(key, list, [])]
        if len({row.name for row in rows}) != len(rows):
            self.fail(f"two {key} have the same name")
        return tuple(rows)

    def row(self, key: str, row: object) -> Entry:
        match row:
            case {"name": str(name), "dtype": str(dtype), "shape": list(shape), "entry": entry}:
                if dtype in _DTYPES and _are_sizes([*shape, entry]):
                    return Entry(name, DType(dtype), tuple(shape), entry)
        return self.fail(f"the table of {key} has a row that cannot be true")

    def entries(self) -> tuple[Entry, ...]:
        """Both tables, in the order of the entries that they name: 0, 1, 2, ..."""
        rows = sorted((*self.table("tensors"), *self.table("reference")), key=lambda r: r.entry)
        if [row.entry for row in rows] != list(range(len(rows))):
            self.fail("the table of tensors does not name each entry once")
        return tuple(rows)


def tensor_entries(text: str, place: str) -> tuple[Entry, ...]:
    """What the entries of ``weights`` must be, after the text of ``model``.

    CorruptFile for a text that cannot be true, UnsupportedFormat for one of a newer version.
    """
    return _Document(text, place).entries()


def from_record(record: Record, place: str) -> StoredModel:
    """The inverse of `to_record`: a verified graph; CorruptFile for a record that is damaged."""
    document = _Document(record.json, place)
    entries = document.entries()
    if len(entries) > len(record.arrays):
        document.fail(f"{len(record.arrays)} tensors are there of {len(entries)}")
    rows = record.arrays[: len(entries)]
    for entry, row in zip(entries, rows, strict=True):
        if row.size != entry.length or (row.size and row.dtype != _BRANCHES[entry.branch]):
            document.fail(f"tensor {entry.name!r} is no {entry.dtype} of shape {entry.shape}")
        if entry.dtype is DType.BOOL and row.size and row.max() > 1:
            document.fail(f"tensor {entry.name!r} holds what is no bool")
    if document.get("sha256", str) != _checksum(document.items, rows):
        document.fail("the checksum is wrong: the model is damaged, or was changed by hand")
    constants = _named(document.table("tensors"), rows)
    text = document.get("graph", str)
    try:
        graph = parse_graph(text, constants)
    except (CorruptFile, UnsupportedOperator) as error:
        where = f"{place}: graph {error.place}" if error.place else place
        raise type(error)(error.thing, place=where, remedy=error.remedy) from None
    return StoredModel(
        graph=graph,
        header=document.get("header", str, ""),
        extras=document.strings("extras"),
        reference=MappingProxyType(_named(document.table("reference"), rows)),
    )


def _named(table: Sequence[Entry], rows: Sequence[Array]) -> dict[str, Array]:
    return {entry.name: _elements(rows[entry.entry], entry) for entry in table}


# ---------------------------------------------------------------- files, whoever writes them


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise ModelError("is no regular file", place=str(path))
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _sync(path: Path, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A copy of the file (none, where there is none) that takes its place in the end, or never.

    Written to the disk before it is renamed, with the permissions of the old file; links are
    followed. Whatever is raised meanwhile leaves the old file as it was and removes the copy;
    an OSError becomes a ModelError.
    """
    target = Path(os.path.realpath(path))
    copy = target.with_name(f".sofie_rdf-{secrets.token_hex(6)}.tmp")
    try:
        before = _state(target)
        if before is not None:
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            shutil.copyfile(target, copy)
        yield copy
        if before is not None:
            shutil.copymode(target, copy)
        _sync(copy)
        if _state(target) != before:
            raise ModelError(
                "was changed by someone else while a model was being saved",
                place=str(path),
                remedy="Save again",
            )
        copy.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(f"cannot be written: {reason}", place=str(path)) from error
    finally:
        with suppress(OSError):
            copy.unlink(missing_ok=True)
    with suppress(OSError):
        _sync(target.parent, getattr(os, "O_DIRECTORY", 0))


def check_header(path: str | os.PathLike[str], place: str) -> None:
    """Nothing, for a whole ROOT file; UnsupportedFormat or CorruptFile otherwise."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(20)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", place=place) from error
    if len(head) < 20 and b"root".startswith(head[:4]):
        raise CorruptFile(f"has only {size} bytes", place=place)
    if head[:4] != b"root":
        raise UnsupportedFormat("is no ROOT file", place=place)
    big = int.from_bytes(head[4:8], "big") >= _BIG_FILE
    begin, end = (int.from_bytes(b, "big") for b in (head[8:12], head[12 : 20 if big else 16]))
    if not 64 <= begin < end:
        raise CorruptFile("has a damaged header", place=place)
    if size < end:
        raise CorruptFile(f"is truncated: {size} bytes of {end}", place=place)


def is_description(text: object) -> bool:
    """Whether this is the JSON of a model, of whatever version."""
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("format"), int)


def true_name(directory: str, text: str) -> str:
    """The name of the model in this directory; that of the directory, if it was renamed."""
    with suppress(ValueError, RecursionError, ModelError):
        name = json.loads(text).get("name")
        if isinstance(name, str) and directory_name(name) == directory:
            return name
    return directory


def choose(name: str | None, found: Mapping[str, str], others: Iterable[str], place: str) -> str:
    """The directory to load, of ``found`` (names: directories); ModelError with what is there."""
    listed = ", ".join(map(repr, sorted(found)[:20]))
    if name is None:
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            thing = f"holds {len(found)} models: {listed}"
            raise ModelError(thing, place=place, remedy="Say which with name='...'")
        there = ", ".join(map(repr, sorted(others)[:20])) or "nothing"
        raise ModelError(f"holds no model, but {there}", place=place)
    if name not in found:
        remedy = nearest(name, found) or (f"It has {listed}" if found else "It has none")
        raise ModelError(f"has no model {name!r}", place=place, remedy=remedy)
    return found[name]


def in_file(path: str | os.PathLike[str], name: str) -> str:
    """The place of errors about one model."""
    return f"{os.fspath(path)}: model {name!r}"


# ---------------------------------------------------------------- files, by uproot


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Whatever a reader raises on a damaged file becomes CorruptFile."""
    try:
        yield
    except (SofieError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        # A panic in the decompression library is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise CorruptFile(f"cannot be read: {reason}", place=place) from error


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The file as uproot reads it. A file object, as ``:``, ``#`` and ``?`` mean nothing there."""
    import uproot

    place = os.fspath(path)
    check_header(path, place)
    with reading(place), Path(path).open("rb") as file, uproot.open(file) as found:
        yield found


def _classes(directory: Any) -> dict[str, str]:
    """The names there, each with the class of its newest cycle."""
    found: dict[str, tuple[int, str]] = {}
    for key, class_ in directory.iterclassnames(recursive=False):
        name, cycle = key.rsplit(";", 1)
        found[name] = max(found.get(name, (0, "")), (int(cycle), class_))
    return {name: class_ for name, (_, class_) in found.items()}


def _description(file: Any, directory: str) -> str | None:
    """The text of ``model`` in this directory, if it holds a model."""
    inside = _classes(file[directory])
    if inside.get(_MODEL) != "TObjString":
        return None
    text = str(file[directory][_MODEL])
    return text if is_description(text) or inside.get(_WEIGHTS) == "TTree" else None


def descriptions(
    classes: Mapping[str, str], describe: Callable[[str], str | None]
) -> dict[str, str]:
    """The directories of the models in a file of these objects, with their texts."""
    directories = (n for n, class_ in classes.items() if class_ in DIRECTORIES)
    texts = {directory: describe(directory) for directory in directories}
    return {directory: text for directory, text in texts.items() if text is not None}


def _models(file: Any) -> tuple[dict[str, str], dict[str, str]]:
    """The directories of the models with their texts; the classes of everything in the file."""
    classes = _classes(file)
    return descriptions(classes, lambda directory: _description(file, directory)), classes


def names(path: str | os.PathLike[str]) -> list[str]:
    """The names of the models in a file, sorted; none for a ROOT file without any."""
    with _opened(path) as file:
        texts, _ = _models(file)
    return sorted(true_name(directory, text) for directory, text in texts.items())


def load(path: str | os.PathLike[str], name: str | None = None) -> StoredModel:
    """The model of that name, or the only one; its operators must be registered.

    CorruptFile, UnsupportedFormat or UnsupportedOperator for a file that cannot be read,
    ModelError for a name that it does not have.
    """
    place = os.fspath(path)
    with _opened(path) as file:
        texts, classes = _models(file)
        found = {true_name(d, text): d for d, text in texts.items()}
        directory = choose(name, found, classes, place)
        text, within = texts[directory], in_file(path, true_name(directory, texts[directory]))
        entries = tensor_entries(text, within)
        with reading(within):
            rows = _rows(file[directory], entries, within)
    return from_record(Record(text, rows), within)


def _rows(directory: Any, entries: Sequence[Entry], place: str) -> list[Array]:
    """The first entries of the tree, after making sure that it is as large as it must be."""
    if _classes(directory).get(_WEIGHTS) != "TTree":
        raise CorruptFile("its weights are missing", place=place)
    tree = directory[_WEIGHTS]
    # hadd appends; the checksum says whether the first entries are the right ones.
    if tree.num_entries < len(entries) or not set(_BRANCHES) <= set(tree.keys()):
        raise CorruptFile("its weights are not those of its description", place=place)
    if not entries:
        return []
    columns = {b: _column(tree[b], len(entries), entries, place) for b in _BRANCHES}
    return [columns[entry.branch][entry.entry] for entry in entries]


def _column(branch: Any, stop: int, entries: Sequence[Entry], place: str) -> list[Array]:
    """The entries of one branch, views of one read-only array."""
    import awkward
    import uproot

    wanted = np.dtype(_BRANCHES[branch.name])
    interpretation = branch.interpretation
    bounds = np.asarray(branch.entry_offsets)
    if (
        not isinstance(interpretation, uproot.AsJagged)
        or interpretation.content.from_dtype != wanted.newbyteorder(">")
        or bounds[0] != 0
        or bounds[-1] != branch.num_entries
        or np.any(np.diff(bounds) < 0)
    ):
        raise CorruptFile(f"its branch {branch.name} is damaged", place=place)
    layout = branch.array(entry_stop=stop, library="ak").layout
    layout = layout.to_ListOffsetArray64(True)
    flat = awkward.to_numpy(layout.content)
    lengths = np.diff(np.asarray(layout.offsets))
    expected = [e.length if e.branch == branch.name else 0 for e in entries]
    if flat.dtype != wanted or list(lengths) != expected:
        raise CorruptFile("its weights are not those of its description", place=place)
    flat.setflags(write=False)
    return np.split(flat[: sum(expected)], np.cumsum(lengths)[:-1])


def save(
    graph: Graph,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    header: str = "",
    extras: Mapping[str, str] = MappingProxyType({}),
    reference: Mapping[str, Array] = MappingProxyType({}),
    overwrite: bool = True,
) -> None:
    """Put the model into a new or an existing ROOT file, in one step: all of it, or nothing.

    What else is in the file stays. A model of the same name is replaced, or refused without
    ``overwrite``. ModelError for a file that cannot be written, which is then untouched.
    """
    stored = graph.name if name is None else name
    record = to_record(graph, name=stored, header=header, extras=extras, reference=reference)
    directory = directory_name(stored)
    with replacing(path) as copy:
        alone = not copy.exists() or _may_write(copy, path, stored, overwrite=overwrite)
        with writing(path):
            _write(copy, directory, record, anew=alone)


def _may_write(copy: Path, path: str | os.PathLike[str], name: str, *, overwrite: bool) -> bool:
    """Whether nothing else is there than this model; ModelError if what is there must stay."""
    directory = directory_name(name)
    try:
        with _opened(copy) as file:
            classes = _classes(file)
            there = classes.get(directory)
            model = there in DIRECTORIES and _description(file, directory) is not None
            alone = model and len(classes) == 1 and set(_classes(file[directory])) <= _OURS
    except SofieError as error:
        thing = f"cannot be extended: {error.thing}"
        raise ModelError(thing, place=os.fspath(path), remedy="Choose another file") from error
    refuse(path, name, there, model=model, overwrite=overwrite)
    return alone


_OURS = {_MODEL, _WEIGHTS}


def refuse(
    path: str | os.PathLike[str], name: str, there: str | None, *, model: bool, overwrite: bool
) -> None:
    """ModelError, if what is ``there`` (a class) under the name of a model must stay."""
    if there is not None and not model:
        thing = f"{directory_name(name)!r} is a {there} there, and no model"
        raise ModelError(thing, place=os.fspath(path), remedy="Choose another name")
    if there is not None and not overwrite:
        remedy = "overwrite=True replaces it"
        raise ModelError("is there already", place=in_file(path, name), remedy=remedy)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """What a writer raises on a file that it cannot extend becomes ModelError."""
    try:
        yield
    except (SofieError, OSError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        place, remedy = os.fspath(path), "Choose another file"
        raise ModelError(f"cannot be written: {reason}", place=place, remedy=remedy) from error


def _write(copy: Path, directory: str, record: Record, *, anew: bool) -> None:
    import uproot

    with copy.open("w+b" if anew else "r+b") as handle:
        if not anew:
            _trim_free_list(handle)
        opened = uproot.recreate(handle) if anew else uproot.update(handle)
        with opened as file:
            usual = file.file.compression
            file.file.compression = uproot.ZSTD(3)
            inside = file.mkdir(directory)
            for key in _OURS & {k.rsplit(";", 1)[0] for k in inside.keys(recursive=False)}:
                _delete_all(inside, key)
            inside[_MODEL] = record.json
            _fill(inside, record.arrays)
            if not anew:
                file.file.compression = usual


def _trim_free_list(file: BinaryIO) -> None:
    """Make the record of the free segments as long as what it lists.

    Where ROOT planned more space for it than it needed, zeros follow. Neither ROOT nor uproot's
    reader minds, but `uproot.update` stops with an AssertionError (uproot 5.7).
    """
    head = file.read(36)
    big = int.from_bytes(head[4:8], "big") >= _BIG_FILE
    where, layout = (20, ">qii") if big else (16, ">iii")
    start, size, count = struct.unpack_from(layout, head, where)
    file.seek(start)
    record = file.read(size)
    _, _, _, _, end = key = struct.unpack_from(">ihiih", record)
    for _ in range(count):
        (version,) = struct.unpack_from(">h", record, end)
        end += 18 if version > 1000 else 10
    if end < size and key[0] == size:
        file.seek(start)
        file.write(struct.pack(">ihi", end, key[1], end - key[4]))
        file.seek(where)
        file.write(struct.pack(layout, start, end, count))
    file.seek(0)


def _delete_all(directory: Any, name: str) -> None:
    """Remove every cycle. (Their baskets stay, unused: uproot cannot free them.)"""
    for key in list(directory.keys(recursive=False)):
        if key.rsplit(";", 1)[0] == name:
            del directory[key]


def _groups(rows: Sequence[Array]) -> list[Sequence[Array]]:
    """Runs of entries that make a basket each."""
    found: list[list[Array]] = []
    room = 0
    for row in rows:
        if not found or row.nbytes > room:
            found.append([])
            room = _BASKET_BYTES
        found[-1].append(row)
        room -= row.nbytes
    return list(found)


def _fill(directory: Any, rows: Sequence[Array]) -> None:
    groups = _groups(rows)
    # Not directory["weights"] = ...: that would write an RNTuple.
    tree = directory.mktree(
        _WEIGHTS,
        {branch: f"var * {dtype}" for branch, dtype in _BRANCHES.items()},
        title="tensors, one an entry",
        initial_basket_capacity=max(len(groups), 1),
    )
    for group in groups:
        tree.extend({branch: _jagged(group, dtype) for branch, dtype in _BRANCHES.items()})


def _jagged(rows: Sequence[Array], dtype: str) -> Any:
    """The rows of that element type as one jagged array, with empty rows for the others."""
    import awkward

    mine: list[Array] = [row if row.dtype == dtype else np.empty(0, dtype) for row in rows]
    offsets = np.cumsum([0, *(row.size for row in mine)], dtype=np.int64)
    content = awkward.contents.NumpyArray(np.concatenate(mine))
    return awkward.Array(awkward.contents.ListOffsetArray(awkward.index.Index64(offsets), content))
