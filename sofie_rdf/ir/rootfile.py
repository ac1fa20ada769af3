"""Models in .root files, any number in one, beside whatever else is in it. No ROOT needed.

Each model is a directory with TObjStrings, which ROOT, uproot and macros all read, and which hadd,
rootcp and others copy as they are: ``model``, ``header``, ``weights`` (and ``weights_1``, ... if it
is long); see `sofie_rdf.ir.record`. Strings, because a damaged one leads no reader astray, as a
damaged tree does; and hadd of two files that both have a model of this name keeps both, as two
cycles, where it would make one tree of two.

`sofie_rdf.runtime.files.rootio` writes the same files through ROOT; a macro reads them with
cling/sofie/rdf/RSofieReader.hxx.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np

from sofie_rdf import limits
from sofie_rdf.arguments import require_plain
from sofie_rdf.errors import CorruptFile, ModelError, SofieError, UnsupportedFormat, nearest
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.record import (
    Macro,
    Record,
    StoredModel,
    directory_name,
    from_record,
    is_description,
    sha256_of,
    to_record,
    true_name,
    weight_bytes,
)
from sofie_rdf.ir.record import about as about_record
from sofie_rdf.ir.replacing import replacing
from sofie_rdf.ir.rootkeys import DIRECTORIES, NTUPLE, STRING, Key, KeyFile, reading
from sofie_rdf.ir.rootntuple import bytes_in

__all__ = [
    "CHUNK",
    "DIRECTORIES",
    "about",
    "choose",
    "chunk_names",
    "columns",
    "contents",
    "extending",
    "is_empty",
    "is_ours",
    "load",
    "may_write",
    "names",
    "refuse",
    "replacing",
    "save",
    "save_bytes",
    "unharmed",
]

_MODEL, _WEIGHTS, _HEADER = "model", "weights", "header"
# Above this version of a file's header its positions have 8 bytes.
_BIG_FILE = 1_000_000
CHUNK = 2**29
# A header may be of another encoding.
_TEXT = ("utf-8", "surrogateescape")

# ---------------------------------------------------------------- files, whoever writes them


def check_header(path: str | os.PathLike[str], place: str) -> None:
    """Nothing, for a whole ROOT file; UnsupportedFormat or CorruptFile otherwise."""
    require_plain(path)
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
def _opened(path: str | os.PathLike[str]) -> Iterator[KeyFile]:
    """The file as our own reader reads it, within a budget."""
    place = os.fspath(path)
    check_header(path, place)
    with reading(place), Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        with limits.budget(size=size, place=place):
            yield KeyFile(file, place)


def _description(file: KeyFile, directory: Key) -> str | None:
    """The text of ``model`` in this directory, if it holds a model."""
    inside = file.inside(directory)
    if _MODEL not in inside or inside[_MODEL].type != STRING:
        return None
    text = file.string(inside, _MODEL).decode("utf-8", "replace")
    has_weights = _WEIGHTS in inside and inside[_WEIGHTS].type in (STRING, NTUPLE)
    return text if has_weights or is_description(text) else None


def _descriptions(file: KeyFile, top: Mapping[str, Key]) -> dict[str, str]:
    """The directories of all models there, with their texts."""
    texts = {name: _description(file, key) for name, key in top.items()}
    return {name: text for name, text in texts.items() if text is not None}


def names(path: str | os.PathLike[str]) -> list[str]:
    """The names of the models in a file, sorted; none for a ROOT file without any."""
    with _opened(path) as file:
        texts = _descriptions(file, file.top())
    return sorted(true_name(directory, text) for directory, text in texts.items())


def _found(file: KeyFile, name: str | None) -> tuple[Key, str, str]:
    """The directory of the model, its description, and its place for messages.

    cling/sofie/rdf/stored.hxx chooses in the same way.
    """
    top = file.top()
    for directory in () if name is None else (directory_name(name), name):
        text = _description(file, top[directory]) if directory in top else None
        if text is not None:
            return top[directory], text, in_file(file.place, true_name(directory, text))
    texts = _descriptions(file, top)
    known = {true_name(directory, text): directory for directory, text in texts.items()}
    directory = choose(name, known, top, file.place)
    return top[directory], texts[directory], in_file(file.place, next(iter(known)))


def about(path: str | os.PathLike[str], name: str | None = None) -> Mapping[str, str]:
    """``date``, ``writer`` and ``sha256`` of a model; its weights are not read."""
    with _opened(path) as file:
        _, text, within = _found(file, name)
        return about_record(text, within)


def load(path: str | os.PathLike[str], name: str | None = None) -> StoredModel:
    """The model of that name, or the only one; its operators must be registered.

    CorruptFile, UnsupportedFormat or UnsupportedOperator for a file that cannot be read,
    ModelError for a name that it does not have, LimitExceeded for one that takes too much.
    """
    with _opened(path) as file:
        directory, text, within = _found(file, name)
        size = weight_bytes(text, within)
        file.place = within
        inside = file.inside(directory)
        weights = _weights(file, inside, size)
        header = file.string(inside, _HEADER).decode(*_TEXT)
        return from_record(Record(text, weights, header), within)


def _weights(file: KeyFile, inside: Mapping[str, Key], size: int) -> bytes:
    if _WEIGHTS in inside and inside[_WEIGHTS].type == NTUPLE:
        return bytes_in(file, inside[_WEIGHTS], size)
    return file.strings(inside, chunk_names(size))


def chunk_names(size: int) -> list[str]:
    """The objects that weights of so many bytes are in: ROOT refuses buffers above 1 GiB."""
    count = max(-(-size // CHUNK), 1)
    return [_WEIGHTS, *(f"{_WEIGHTS}_{i}" for i in range(1, count))]


def save(
    graph: Graph,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    extras: Mapping[str, str] = MappingProxyType({}),
    macro: Macro = Macro(),  # noqa: B008
    overwrite: bool = True,
    ntuple: bool = False,
) -> str:
    """Put the model into a new or an existing ROOT file, in one step: all of it, or nothing.

    What else is in the file stays. A model of the same name is replaced, or refused without
    ``overwrite``. ModelError for a file that cannot be written, which is then untouched. ``ntuple``
    makes the weights an RNTuple. The result is the checksum of the stored model.
    """
    stored = graph.name if name is None else name
    record = to_record(graph, name=stored, extras=extras, macro=macro)
    directory = directory_name(stored)
    with replacing(path) as copy:
        alone = not copy.exists() or may_write(copy, path, stored, overwrite=overwrite)
        with writing(path), unharmed(copy, path, record, directory):
            packed = record.weights if ntuple else None
            _write(copy, directory, contents(record), anew=alone, ntuple=packed)
    return sha256_of(record.json)


@contextmanager
def unharmed(
    copy: Path, path: str | os.PathLike[str], record: Record, directory: str
) -> Iterator[None]:
    """ModelError, unless what is written meanwhile is the model, and all else is still there.

    Not every writer sees that it could not read what it extends, or could not write.
    """

    def others() -> dict[str, Key]:
        if not copy.exists():
            return {}
        with _opened(copy) as file:
            return {name: key for name, key in file.top().items() if name != directory}

    before = others()
    yield
    try:
        is_whole = others() == before and _holds(copy, record, directory)
    except SofieError:
        is_whole = False
    if not is_whole:
        thing = "cannot be written: what was written is not what can be read"
        raise ModelError(thing, place=os.fspath(path), remedy="Save again, or into another file")


def _holds(copy: Path, record: Record, directory: str) -> bool:
    with _opened(copy) as file:
        inside = file.inside(file.top()[directory])
        texts = (file.string(inside, key).decode(*_TEXT) for key in (_MODEL, _HEADER))
        weights = _weights(file, inside, len(record.weights))
        return (*texts, weights) == (record.json, record.header, record.weights)


def save_bytes(data: bytes, path: str | os.PathLike[str], directory: str) -> None:
    """Put the bytes of a weight file into a directory, as those of a model are; see `save`."""
    with replacing(path) as copy:
        alone = not copy.exists()
        if not alone:
            with _opened(copy) as file:
                found = file.top().get(directory)
                ours = found is not None and found.type in DIRECTORIES
                if found is not None:
                    ours &= _MODEL not in file.inside(found)
            refuse(path, directory, found.type if found else None, model=ours, overwrite=True)
        with writing(path):
            _write(copy, directory, _chunks(data), anew=alone)


@contextmanager
def extending(path: str | os.PathLike[str]) -> Iterator[None]:
    """What is wrong with a file that is there already becomes ModelError."""
    try:
        yield
    except SofieError as error:
        thing = f"cannot be extended: {error.thing}"
        raise ModelError(thing, place=os.fspath(path), remedy="Choose another file") from error


def is_empty(path: str | os.PathLike[str]) -> bool:
    """Whether no object is at the top of the file."""
    with _opened(path) as file:
        return not file.top()


def may_write(copy: Path, path: str | os.PathLike[str], name: str, *, overwrite: bool) -> bool:
    """Whether nothing else is in the copy than this model; ModelError for what must stay."""
    with extending(path), _opened(copy) as file:
        top = file.top()
        found = top.get(directory_name(name))
        model = found is not None and _description(file, found) is not None
        alone = model and len(top) == 1 and all(map(is_ours, file.inside(top.popitem()[1])))
    refuse(path, name, found.type if found else None, model=model, overwrite=overwrite)
    return alone


def is_ours(name: str) -> bool:
    """Whether this is the name of an object that a model consists of."""
    return name in (_MODEL, _HEADER) or re.fullmatch(rf"{_WEIGHTS}(_\d+)?", name) is not None


def contents(record: Record) -> Iterator[tuple[str, bytes]]:
    """The objects of a model, each a TObjString."""
    yield _MODEL, record.json.encode()
    yield _HEADER, record.header.encode(*_TEXT)
    yield from _chunks(record.weights)


def _chunks(weights: bytes) -> Iterator[tuple[str, bytes]]:
    for i, name in enumerate(chunk_names(len(weights))):
        yield name, weights[i * CHUNK : (i + 1) * CHUNK]


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


def _write(
    copy: Path,
    directory: str,
    parts: Iterable[tuple[str, bytes]],
    *,
    anew: bool,
    ntuple: bytes | None = None,
) -> None:
    import uproot

    with copy.open("w+b" if anew else "r+b") as handle:
        if not anew:
            _trim_free_list(handle)
        opened = uproot.recreate(handle) if anew else uproot.update(handle)
        with opened as file:
            usual = file.file.compression
            file.file.compression = uproot.ZSTD(3)
            inside = file.mkdir(directory)
            for key in {k.rsplit(";", 1)[0] for k in inside.keys(recursive=False)}:
                if is_ours(key):
                    _delete_all(inside, key)
            for key, content in parts:
                if ntuple is None or not key.startswith(_WEIGHTS):
                    inside[key] = _tobjstring(content)
            if ntuple is not None:
                _fill(inside, ntuple)
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


# How many bytes an entry of an RNTuple has.
_ENTRY = 2**24


def _fill(directory: Any, weights: bytes) -> None:
    """The weights as an RNTuple: a field ``bytes``, with some of them in each entry."""
    from awkward import Array, contents, forms, index

    name = "bytes"
    form = forms.RecordForm([forms.ListOffsetForm("i64", forms.NumpyForm("uint8"))], [name])
    ntuple = directory.mkrntuple(_WEIGHTS, form)
    whole = np.frombuffer(weights, np.uint8)
    for start in range(0, whole.size, _ENTRY):
        part = contents.NumpyArray(whole[start : start + _ENTRY])
        bounds = index.Index64(np.array([0, len(part)]))
        rows = contents.RecordArray([contents.ListOffsetArray(bounds, part)], [name])
        ntuple.extend(Array(rows))


def _delete_all(directory: Any, name: str) -> None:
    """Remove every cycle."""
    for key in list(directory.keys(recursive=False)):
        if key.rsplit(";", 1)[0] == name:
            del directory[key]


def _tobjstring(content: bytes) -> Any:
    """What uproot writes as a TObjString with these bytes, which may be no text."""
    import uproot

    # uproot knows the class of an object by this name.
    class Model_TObjString(uproot.models.TObjString.Model_TObjString):  # type: ignore[misc]  # noqa: N801
        def _serialize(self, out: list[bytes], header: bool, name: Any, flags: int) -> None:
            body: list[bytes] = []
            for base in self._bases:
                base._serialize(body, True, name, flags | uproot.const.kNotDeleted)
            short = len(content) < 255
            body.append(bytes([len(content)]) if short else struct.pack(">Bi", 255, len(content)))
            if header:
                size = sum(map(len, body)) + len(content)
                out.append(uproot.serialization.numbytes_version(size, 1))
            out += [*body, content]

    made = Model_TObjString("")
    plain = uproot.writing.identify.to_TObjString("")
    made.__dict__.update(plain.__dict__)
    return made


# ---------------------------------------------------------------- columns of trees


def columns(path: str, tree: str, names: Iterable[str], most: int | None = None) -> dict[str, Any]:
    """Columns of a TTree or an RNTuple as awkward arrays, of the first ``most`` entries.

    ModelError where the file, the tree or a column is not there; CorruptFile for a damaged file.
    """
    import uproot

    try:
        with uproot.open(path) as file:
            found = file[tree]
            known = list(found.keys())
            for name in names:
                if name not in known:
                    raise ModelError(
                        f"{tree!r} has no column {name!r}",
                        place=path,
                        remedy=nearest(name, known) or f"It has {', '.join(known[:20])}",
                    )
            return {name: found[name].array(entry_stop=most) for name in names}
    except FileNotFoundError:
        raise ModelError("no such file", place=path) from None
    except KeyError:
        raise ModelError(f"has no tree {tree!r}", place=path) from None
    except (SofieError, MemoryError):
        raise
    except Exception as error:  # uproot raises what it likes on a damaged file.
        raise CorruptFile(f"cannot be read: {type(error).__name__}: {error}", place=path) from error
