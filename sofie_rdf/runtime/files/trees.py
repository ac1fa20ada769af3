"""Trees in .root files, by ROOT: a data frame of several files, and a new file that is whole."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sofie_rdf.errors import ColumnError, CorruptFile, InputError, ModelError, nearest
from sofie_rdf.ir.replacing import replacing
from sofie_rdf.runtime.compile.interpreter import import_root, quietly
from sofie_rdf.runtime.files.rootio import plain

__all__ = [
    "Source",
    "chosen_columns",
    "filtered",
    "frame_of",
    "show_progress",
    "source_of",
    "threads",
    "write",
]

_TREES = ("TTree", "TNtuple", "TNtupleD", "TChain")
_NTUPLES = ("ROOT::RNTuple", "ROOT::Experimental::RNTuple")


@dataclass(frozen=True)
class Source:
    """Files that have a tree of one name, in their order; ``is_ntuple`` for an RNTuple."""

    files: tuple[str, ...]
    tree: str
    is_ntuple: bool

    def is_one(self, path: str) -> bool:
        """Whether a path is one of the files, under whatever name."""
        local = (file for file in self.files if not _is_remote(file))
        return Path(path).exists() and any(Path(path).samefile(file) for file in local)


# What is read -------------------------------------------------------------------------------------


def source_of(texts: Sequence[str]) -> Source:
    """What ``FILE.root:TREE`` names, with patterns of names (``*``, ``?``) in their order.

    Without a tree it is the only one of the first file. `InputError` for what is no such text,
    `ModelError` where a file or a tree is not there, `CorruptFile` for a file that ROOT cannot
    read.
    """
    parts = [_split(text) for text in texts]
    trees = {tree for _, tree in parts if tree}
    if len(trees) > 1:
        listed = ", ".join(sorted(trees))
        raise InputError(f"several trees are named: {listed}", remedy="Name the same one each time")
    files = tuple(file for pattern, _ in parts for file in _expanded(pattern))
    wanted = next(iter(trees), "")
    kinds: dict[str, bool] = {}
    for file in files:
        wanted, kinds[file] = _tree_in(file, wanted)
    if len(set(kinds.values())) > 1:
        odd = next(file for file in files if kinds[file] != kinds[files[0]])
        raise ModelError(f"{wanted!r} is a TTree in one file and an RNTuple in another", place=odd)
    return Source(files, wanted, kinds[files[0]])


def _split(text: str) -> tuple[str, str]:
    file, colon, tree = text.rpartition(":")
    # A name that has the sign itself, and the port of a server.
    if not colon or "//" in tree or Path(text).exists():
        return text, ""
    if not file or not tree:
        raise InputError(
            f"{text!r} is no FILE.root:TREE", remedy="Name the tree behind the file: a.root:Events"
        )
    return file, tree


def _is_remote(file: str) -> bool:
    return "://" in file


def _expanded(pattern: str) -> list[str]:
    """The files of that name or pattern."""
    if _is_remote(pattern) or Path(pattern).exists():
        return [pattern]
    found = sorted(glob.glob(pattern))  # noqa: PTH207
    if not found:
        has_pattern = glob.has_magic(pattern)
        raise ModelError("no file fits" if has_pattern else "no such file", place=pattern)
    return found


def _tree_in(file: str, wanted: str) -> tuple[str, bool]:
    """The name of the tree in this file, and whether it is an RNTuple."""
    root = import_root()

    def look() -> dict[str, str]:
        with plain(file) if not _is_remote(file) else _as_it_is(file) as path:
            opened = root.TFile.Open(path)
            try:
                folder = wanted.rpartition("/")[0]
                inside = opened.GetDirectory(folder) if folder else opened
                prefix = f"{folder}/" if folder else ""
                keys = inside.GetListOfKeys() if inside else ()
                return {f"{prefix}{k.GetName()}": str(k.GetClassName()) for k in keys}
            finally:
                opened.Close()

    try:
        with root.TDirectory.TContext():
            kinds, _ = quietly(look)
    except OSError:
        raise CorruptFile("cannot be opened by ROOT", place=file) from None
    trees = {name: kind for name, kind in kinds.items() if kind in (*_TREES, *_NTUPLES)}
    if not wanted and len(trees) == 1:
        wanted = next(iter(trees))
    if wanted in trees:
        return wanted, trees[wanted] in _NTUPLES
    listed = f"It has {', '.join(sorted(trees))}" if trees else ""
    if not wanted:
        raise ModelError(
            f"has {len(trees)} trees" if trees else "has no tree",
            place=file,
            remedy=f"Name one behind the file, as in FILE.root:TREE. {listed}".rstrip(". "),
        )
    what = f"is a {kinds[wanted]}, which is no tree" if wanted in kinds else "is not there"
    raise ModelError(f"{wanted!r} {what}", place=file, remedy=nearest(wanted, trees) or listed)


@contextmanager
def _as_it_is(file: str) -> Iterator[str]:
    yield file


@contextmanager
def frame_of(source: Source) -> Iterator[Any]:
    """A data frame of all files, one after the other."""
    root = import_root()
    with ExitStack() as stack:
        ways = (_as_it_is(f) if _is_remote(f) else plain(f) for f in source.files)
        paths = [stack.enter_context(way) for way in ways]
        made, error, message = _attempt(lambda: root.RDataFrame(source.tree, paths))
        if error:
            raise CorruptFile(_reason(error, message), place=source.files[0]) from error
        yield made


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Event loops on so many threads, one without ROOT's pool; afterwards all is as before."""
    root = import_root()
    before = int(root.GetThreadPoolSize()) if root.IsImplicitMTEnabled() else 1
    _use_threads(root, count)
    try:
        yield
    finally:
        _use_threads(root, before)


def _use_threads(root: Any, count: int) -> None:
    if root.IsImplicitMTEnabled():
        root.DisableImplicitMT()
    if count != 1:
        root.EnableImplicitMT(count)


def filtered(df: Any, expression: str) -> Any:
    """The entries for which an expression is true; `ColumnError` for what is none."""
    made, error, message = _attempt(lambda: df.Filter(expression))
    if error:
        said = re.search(r"error: (.+)", message)
        why = said[1] if said else _reason(error, "")
        raise ColumnError(f"{expression!r} is no filter: {why}") from error
    return made


def chosen_columns(df: Any, patterns: Sequence[str]) -> list[str]:
    """The columns of these names or patterns, in the data frame's order; or `ColumnError`."""
    known = [str(column) for column in df.GetColumnNames()]
    for pattern in patterns:
        if not any(fnmatchcase(column, pattern) for column in known):
            raise ColumnError(
                f"there is no column {pattern!r} to keep",
                remedy=nearest(pattern, known) or f"There are {', '.join(known[:20])}",
            )
    return [c for c in known if any(fnmatchcase(c, pattern) for pattern in patterns)]


def show_progress(df: Any) -> None:
    """Have ROOT show on a terminal how far the next event loop is."""
    root = import_root()
    if hasattr(root.RDF.Experimental, "AddProgressBar"):
        root.RDF.Experimental.AddProgressBar(root.RDF.AsRNode(df))


# What is written ----------------------------------------------------------------------------------

_COMPLAINT = re.compile(r"^(?:Error|SysError|Fatal) in <.*", re.MULTILINE)


def write(
    df: Any,
    path: str,
    tree: str,
    columns: Sequence[str],
    *,
    ntuple: bool = False,
) -> tuple[int, str]:
    """Run the event loop, with a new file of these columns (none: all); how many entries it has.

    The file appears, or replaces the one of that name, when it is whole: written, closed, and read
    again. Else nothing has changed, and it is `InputError` with what the loop said, or `ModelError`
    where the file cannot be written. The second result is what ROOT wrote to the error stream.
    """
    root = import_root()
    # A crash is an error elsewhere, and a debugger takes a minute to say what nobody reads.
    root.gEnv.SetValue("Root.Stacktrace", 0)
    options = root.RDF.RSnapshotOptions()
    options.fMode, options.fLazy = "RECREATE", True
    if ntuple:
        if not hasattr(options, "fOutputFormat"):
            raise ModelError("this ROOT writes no RNTuple of a data frame", place=path)
        options.fOutputFormat = root.RDF.ESnapshotOutputFormat.kRNTuple
    elif hasattr(options, "fOutputFormat"):
        options.fOutputFormat = root.RDF.ESnapshotOutputFormat.kTTree
    given = list(columns) or ""

    with replacing(path, keep=False) as copy, plain(copy) as name:

        def loop() -> int:
            count = df.Count()
            made = df.Snapshot(tree, name, given, options)
            entries = int(count.GetValue())
            made.GetValue()
            return entries

        entries, error, message = _attempt(loop)
        if error:
            raise InputError(_reason(error, message)) from error
        said = _COMPLAINT.search(message)
        if said:
            raise ModelError(f"ROOT could not do it: {said[0].strip()}", place=path)
        _require_whole(name, tree, entries, path)
    return entries, message


def _attempt(action: Callable[[], Any]) -> tuple[Any, Exception | None, str]:
    """The result or the error, and what C++ wrote to the error stream."""

    def attempt() -> tuple[Any, Exception | None]:
        try:
            return action(), None
        except Exception as error:  # PyROOT raises what it likes.
            return None, error

    (found, error), message = quietly(attempt)
    return found, error, message


def _reason(error: Exception, message: str) -> str:
    """What was wrong, without the signatures of C++; ROOT's own words come last."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    text = re.sub(r"^(?:\w+::)*\w*(?:error|exception|invalid_argument): ", "", text)
    said = _COMPLAINT.search(message)
    return f"{text} ({said[0].strip()})" if said else text


def _require_whole(name: str, tree: str, entries: int, place: str) -> None:
    """`ModelError` unless the new file has all entries."""
    root = import_root()

    def look() -> int:
        opened = root.TFile.Open(name)
        try:
            if opened.IsZombie() or opened.TestBit(root.TFile.kRecovered):
                return -1
            found = opened.Get(tree)
            if not isinstance(found, root.TTree):
                return int(root.RDataFrame(tree, name).Count().GetValue())
            counts = {int(branch.GetEntries()) for branch in found.GetListOfBranches()}
            return int(found.GetEntries()) if counts <= {entries} else -1
        finally:
            opened.Close()

    with root.TDirectory.TContext():
        found, error, message = _attempt(look)
    if error or found != entries:
        reason = _reason(error, message) if error else f"{found} of {entries} entries are there"
        raise ModelError(f"cannot be written, is the disk full? {reason}", place=place)
    if not Path(name).stat().st_size:
        raise ModelError("cannot be written: the file is empty", place=place)
