"""Graph -> .root through ROOT: the files of `sofie_rdf.ir.rootfile`, written without uproot."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sofie_rdf.errors import CorruptFile, MissingDependency, ModelError
from sofie_rdf.ir import rootfile
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.record import (
    Macro,
    Record,
    directory_name,
    is_description,
    sha256_of,
    to_record,
)

__all__ = ["plain", "save", "save_here"]

# Algorithm 5 (zstd), level 3.
_COMPRESSION = 503
_STRING = ("TObjString",)
_LONGEST_TEXT = 2**30


def _root() -> Any:
    try:
        import ROOT
    except ImportError as error:
        remedy = "pip install root, or source the thisroot.sh of an installation"
        raise MissingDependency("ROOT is not installed", remedy=remedy) from error
    return ROOT


@contextmanager
def _quiet(root: Any) -> Iterator[None]:
    """No messages of ROOT, which become exceptions here; the user's gDirectory stays."""
    level = root.gErrorIgnoreLevel
    root.gErrorIgnoreLevel = root.kFatal
    try:
        with root.TDirectory.TContext():
            yield
    finally:
        root.gErrorIgnoreLevel = level


@contextmanager
def plain(path: str | os.PathLike[str]) -> Iterator[str]:
    """The path as ROOT can open it: ``$``, ``#``, ``?``, ``:`` and ``~`` mean something there."""
    absolute = str(Path(path).absolute())
    if re.fullmatch(r"[A-Za-z0-9_./+-]+", absolute):
        yield absolute
        return
    with tempfile.TemporaryDirectory(prefix="sofie_rdf-") as folder:
        link = Path(folder, "model.root")
        link.symlink_to(absolute)
        yield str(link)


def _open(root: Any, path: str, place: str, mode: str) -> Any:
    # ROOT knows the classes of a model without their descriptions, and crashes on damaged ones.
    # In a file that is extended they must stay.
    wanted = bool(root.TFile.GetReadStreamerInfo())
    root.TFile.SetReadStreamerInfo(wanted and mode != "READ")
    try:
        return root.TFile(path, mode)
    except OSError as error:
        if mode == "READ":
            raise CorruptFile("cannot be opened by ROOT", place=place) from error
        raise ModelError("cannot be opened for writing by ROOT", place=place) from error
    finally:
        root.TFile.SetReadStreamerInfo(wanted)


@contextmanager
def _opened(root: Any, path: str | os.PathLike[str], place: str, mode: str) -> Iterator[Any]:
    if mode != "RECREATE":
        rootfile.check_header(path, place)
    if mode == "RECREATE":
        # In the place of a link ROOT would make a new file, and leave what the link means.
        Path(path).unlink(missing_ok=True)
    with plain(path) as plain_path:
        file = _open(root, plain_path, place, mode)
        try:
            if file.IsZombie() or file.TestBit(root.TFile.kRecovered):
                raise CorruptFile("was not closed properly, or is damaged", place=place)
            yield file
        finally:
            file.Close()
        if mode != "READ" and file.TestBit(root.TFile.kWriteError):
            raise ModelError("cannot be written: is the disk full?", place=place)


def _classes(directory: Any) -> dict[str, str]:
    """The names there, each with the class of its newest cycle."""
    found: dict[str, tuple[int, str]] = {}
    for key in directory.GetListOfKeys():
        name, class_ = str(key.GetName()), str(key.GetClassName())
        found[name] = max(found.get(name, (0, "")), (int(key.GetCycle()), class_))
    return {name: class_ for name, (_, class_) in found.items()}


def _object(directory: Any, name: str, classes: Sequence[str]) -> Any:
    """The object of that name, None if it is of no such class (or cannot be read).

    A key of another class is never read: for that of an RNTuple, ROOT would crash.
    """
    key = directory.GetKey(name)
    if not key or str(key.GetClassName()) not in classes:
        return None
    if not 0 <= key.GetObjlen() <= _LONGEST_TEXT:
        return None
    found = key.ReadObj()
    return found if found and str(found.ClassName()) in classes else None


def _description(file: Any, directory: str) -> str | None:
    """The text of ``model`` in this directory, if it holds a model."""
    inside = _object(file, directory, rootfile.DIRECTORIES)
    held = _object(inside, "model", _STRING) if inside else None
    if held is None:
        return None
    text = str(held.GetString())
    return text if is_description(text) or _classes(inside).get("weights") in _STRING else None


def save(
    graph: Graph,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    extras: Mapping[str, str] = MappingProxyType({}),
    macro: Macro = Macro(),  # noqa: B008
    overwrite: bool = True,
) -> str:
    """Put the model into a new or an existing file; as `sofie_rdf.ir.rootfile.save`."""
    root, place = _root(), os.fspath(path)
    stored = graph.name if name is None else name
    record = to_record(graph, name=stored, extras=extras, macro=macro)
    with rootfile.replacing(path) as copy, _quiet(root):
        alone = True
        if copy.exists():
            alone = rootfile.may_write(copy, place, stored, overwrite=overwrite)
            if rootfile.is_empty(copy):
                # In an emptied file ROOT loses track of where the file ends: begin a new one,
                # unless ROOT finds something there that can be saved.
                with rootfile.extending(place), _opened(root, copy, place, "READ"):
                    alone = True
        mode = "RECREATE" if alone else "UPDATE"
        directory = directory_name(stored)
        unharmed = rootfile.unharmed(copy, path, record, directory)
        with rootfile.writing(path), unharmed, _opened(root, copy, place, mode) as file:
            _write(root, file, directory, record, place)
    return sha256_of(record.json)


def save_here(
    graph: Graph,
    *,
    name: str,
    extras: Mapping[str, str] = MappingProxyType({}),
    macro: Macro = Macro(),  # noqa: B008
) -> str:
    """Put the model into the file that is ROOT's current directory, which stays open.

    A model of the same name is replaced. ModelError where there is no file that can be written.
    """
    root = _root()
    here = root.gDirectory
    file = here.GetFile()
    place = str(file.GetName()) if file else str(here.GetName())
    if not file or not file.IsWritable():
        remedy = 'with ROOT.TFile("models.root", "RECREATE"): ...'
        raise ModelError("is no file that is open for writing", place=place, remedy=remedy)
    if str(here.GetPath()) != str(file.GetPath()):
        raise ModelError("models are stored at the top of a file", place=place, remedy="file.cd()")
    record = to_record(graph, name=name, extras=extras, macro=macro)
    directory = directory_name(name)
    with _quiet(root), rootfile.writing(place):
        there = _classes(file).get(directory)
        model = there in rootfile.DIRECTORIES and _description(file, directory) is not None
        rootfile.refuse(place, name, there, model=model, overwrite=True)
        if model:  # ROOT has it in memory, and must not have it twice.
            file.rmdir(directory)
        _write(root, file, directory, record, place)
        # Others may read it while the file is open.
        file.GetDirectory(directory).SaveSelf(True)
    return sha256_of(record.json)


def _write(root: Any, file: Any, directory: str, record: Record, place: str) -> None:
    usual = file.GetCompressionSettings()
    file.SetCompressionSettings(_COMPRESSION)
    inside = _object(file, directory, rootfile.DIRECTORIES)
    if inside:
        _clear(inside)
    else:
        inside = file.mkdir(directory)
    for key, content in rootfile.contents(record):
        if not inside.WriteTObject(_tobjstring(root, content), key):
            raise ModelError("cannot be written: is the disk full?", place=place)
    file.SetCompressionSettings(usual)


def _clear(directory: Any) -> None:
    """Remove the model there."""
    for name in _classes(directory):
        if rootfile.is_ours(name):
            directory.Delete(f"{name};*")


def _tobjstring(root: Any, content: bytes) -> Any:
    """A TObjString of these bytes, which may be no text."""
    made = root.TObjString("")
    made.String().Append(root.TString(content, len(content)))
    return made
