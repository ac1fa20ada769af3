"""Graph <-> .root through ROOT alone: the files of `sofie_rdf.ir.rootfile`, without uproot."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sofie_rdf.errors import CorruptFile, MissingDependency, ModelError, SofieError
from sofie_rdf.ir import rootfile
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.rootfile import Entry, Record, StoredModel
from sofie_rdf.ir.types import Array

__all__ = ["load", "names", "save"]

# Algorithm 5 (zstd), level 3.
_COMPRESSION = 503
_LEAVES = {"data_f32": ("F", "Float_t", "float32"), "data_u8": ("b", "UChar_t", "uint8")}
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
def _plain(path: str | os.PathLike[str]) -> Iterator[str]:
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
    with _plain(path) as plain:
        file = _open(root, plain, place, mode)
        try:
            if file.IsZombie() or file.TestBit(root.TFile.kRecovered):
                raise CorruptFile("was not closed properly, or is damaged", place=place)
            yield file
        finally:
            file.Close()
        if mode != "READ" and file.TestBit(root.TFile.kWriteError):
            raise ModelError("cannot be written: is the disk full?", place=place)


@contextmanager
def _reading(root: Any, path: str | os.PathLike[str]) -> Iterator[Any]:
    """The file, open; whatever C++ throws at a damaged one becomes CorruptFile.

    ROOT itself may crash where the header of a tree is damaged; `rootfile.load` does not.
    """
    place = os.fspath(path)
    with _quiet(root), rootfile.reading(place), _opened(root, path, place, "READ") as file:
        yield file


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
    held = _object(inside, "model", ("TObjString",)) if inside else None
    if held is None:
        return None
    text = str(held.GetString())
    tree = _classes(inside).get("weights") == "TTree"
    return text if tree or rootfile.is_description(text) else None


def _models(file: Any) -> tuple[dict[str, str], dict[str, str]]:
    """The directories of the models with their texts; the classes of everything in the file."""
    classes = _classes(file)
    texts = rootfile.descriptions(classes, lambda directory: _description(file, directory))
    return texts, classes


def names(path: str | os.PathLike[str]) -> list[str]:
    """The names of the models in a file, sorted; none for a ROOT file without any."""
    root = _root()
    with _reading(root, path) as file:
        texts, _ = _models(file)
    return sorted(rootfile.true_name(directory, text) for directory, text in texts.items())


def load(path: str | os.PathLike[str], name: str | None = None) -> StoredModel:
    """The model of that name, or the only one; as `sofie_rdf.ir.rootfile.load`."""
    root, place = _root(), os.fspath(path)
    with _reading(root, path) as file:
        texts, classes = _models(file)
        found = {rootfile.true_name(d, text): d for d, text in texts.items()}
        directory = rootfile.choose(name, found, classes, place)
        text = texts[directory]
        within = rootfile.in_file(path, rootfile.true_name(directory, text))
        entries = rootfile.tensor_entries(text, within)
        inside = _object(file, directory, rootfile.DIRECTORIES)
        rows = _rows(_object(inside, "weights", ("TTree",)), entries, within)
    return rootfile.from_record(Record(text, rows), within)


def _rows(tree: Any, entries: Sequence[Entry], place: str) -> list[Array]:
    """The first entries of the tree, after making sure that it is as large as it must be."""
    if not tree or tree.GetEntries() < len(entries):
        raise CorruptFile("its weights are missing", place=place)
    columns = {}
    for branch in {entry.branch for entry in entries}:
        longest = max(entry.length for entry in entries if entry.branch == branch)
        columns[branch] = _Column(tree, branch, longest, place)
    rows = [columns[entry.branch].read(entry) for entry in entries]
    tree.ResetBranchAddresses()
    return rows


class _Column:
    """One branch, read into a buffer that is as long as its longest entry can be."""

    def __init__(self, tree: Any, branch: str, longest: int, place: str) -> None:
        _, type_name, dtype = _LEAVES[branch]
        self.place = place
        self.branch = tree.GetBranch(branch)
        leaf = self.branch.GetLeaf(branch) if self.branch else None
        count = leaf.GetLeafCount() if leaf else None
        if (
            not leaf
            or not count
            or str(leaf.GetTypeName()) != type_name
            or leaf.GetLenStatic() != 1
        ):
            raise CorruptFile(f"its branch {branch} is missing or damaged", place=place)
        # ROOT writes no more than that many elements into the buffer.
        most = int(count.GetMaximum())
        if str(count.GetTypeName()) != "Int_t" or most != longest:
            raise CorruptFile("its weights are not those of its description", place=place)
        self.count = count
        self.buffer: Array = np.zeros(max(most, 1), dtype)
        tree.SetBranchAddress(branch, self.buffer)

    def read(self, entry: Entry) -> Array:
        self.branch.GetEntry(entry.entry)
        if int(self.count.GetValue()) != entry.length:
            thing = f"tensor {entry.name!r} is no {entry.dtype} of shape {entry.shape}"
            raise CorruptFile(thing, place=self.place)
        found: Array = self.buffer[: entry.length].copy()
        return found


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
    """Put the model into a new or an existing file; as `sofie_rdf.ir.rootfile.save`."""
    root, place = _root(), os.fspath(path)
    stored = graph.name if name is None else name
    record = rootfile.to_record(
        graph, name=stored, header=header, extras=extras, reference=reference
    )
    with rootfile.replacing(path) as copy, _quiet(root):
        alone = True
        if copy.exists():
            alone = _may_write(root, copy, place, stored, overwrite=overwrite)
        mode = "RECREATE" if alone else "UPDATE"
        with rootfile.writing(path), _opened(root, copy, place, mode) as file:
            _write(root, file, rootfile.directory_name(stored), record, place)


def _may_write(root: Any, copy: Path, place: str, name: str, *, overwrite: bool) -> bool:
    """Whether nothing else is there than this model; ModelError if what is there must stay."""
    directory = rootfile.directory_name(name)
    try:
        with _opened(root, copy, place, "READ") as file:
            classes = _classes(file)
            there = classes.get(directory)
            model = there in rootfile.DIRECTORIES and _description(file, directory) is not None
            # In an emptied file ROOT loses track of where the file ends: begin a new one.
            alone = not classes or (model and len(classes) == 1)
            if alone and model:
                inside = _object(file, directory, rootfile.DIRECTORIES)
                alone = set(_classes(inside)) <= {"model", "weights"}
    except SofieError as error:
        thing = f"cannot be extended: {error.thing}"
        raise ModelError(thing, place=place, remedy="Choose another file") from error
    rootfile.refuse(place, name, there, model=model, overwrite=overwrite)
    return alone


def _write(root: Any, file: Any, directory: str, record: Record, place: str) -> None:
    usual = file.GetCompressionSettings()
    file.SetCompressionSettings(_COMPRESSION)
    inside = _object(file, directory, rootfile.DIRECTORIES)
    if inside:
        _clear(inside)
    else:
        inside = file.mkdir(directory)
    written = inside.WriteTObject(root.TObjString(record.json), "model")
    tree = _tree(root, inside, record.arrays, place)
    written = written and inside.WriteTObject(tree, "weights", "Overwrite")
    if not written:
        raise ModelError("cannot be written: is the disk full?", place=place)
    file.SetCompressionSettings(usual)


def _clear(directory: Any) -> None:
    """Remove the model there, and free its baskets."""
    tree = _object(directory, "weights", ("TTree",))
    if tree:
        tree.Delete("all")
    directory.Delete("weights;*")
    directory.Delete("model;*")


def _tree(root: Any, directory: Any, rows: Sequence[Array], place: str) -> Any:
    """The tree with all entries filled, owned by the directory."""
    directory.cd()
    tree = root.TTree("weights", "tensors, one an entry")
    tree.SetAutoSave(0)
    counts: dict[str, Array] = {}
    buffers: dict[str, Array] = {}
    for branch, (code, _, dtype) in _LEAVES.items():
        longest = max((row.size for row in rows if row.dtype == dtype), default=0)
        counts[dtype], buffers[dtype] = np.zeros(1, np.int32), np.zeros(max(longest, 1), dtype)
        tree.Branch(f"n{branch}", counts[dtype], f"n{branch}/I")
        tree.Branch(branch, buffers[dtype], f"{branch}[n{branch}]/{code}")
    for row in rows:
        for dtype, count in counts.items():
            count[0] = row.size if row.dtype == dtype else 0
        buffers[str(row.dtype)][: row.size] = row
        if tree.Fill() < 0:
            raise ModelError("cannot be written: is the disk full?", place=place)
    tree.FlushBaskets()
    tree.ResetBranchAddresses()
    return tree
