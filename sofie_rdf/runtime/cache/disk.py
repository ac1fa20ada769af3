"""The cache on disk: files that a later process need not make again.

Names are hashes of all that a file depends on, so a file never changes: whoever finds one may use
it, and two that make the same one do no harm. A file is written beside its place and renamed, and
ends in its own hash, so that one that is damaged is seen and made again. There are no locks.
Libraries in it are run, so there is no cache where others may write (`private`).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sofie_rdf.runtime.cache import private

__all__ = [
    "adopt",
    "claim",
    "clear",
    "entries",
    "find",
    "folder",
    "is_there",
    "key_of",
    "mapped",
    "path_of",
    "remove",
    "said_of",
    "store",
    "workshop",
]

_MARK = b"SOFIEEND"
_TRAILER = len(_MARK) + hashlib.sha256().digest_size
# What nobody can still be writing, in seconds.
_ABANDONED = 3600
_WORKSHOP = ".making-"
# Bytes that are kept in all.
_LARGEST = 4 * 2**30
# The cache may be a folder that holds other files as well.
_NAME = re.compile(r"[0-9a-f]{40}\.[a-z]+")
# That a library is being built, and its source: see `runtime.compile.library`.
_JOB = re.compile(r"[0-9a-f]{40}\.(job|cxx)")


def folder() -> Path | None:
    """Where the cache is, whether or not it exists; None if it is switched off.

    None, too, with a warning, where other users may decide what is in it.
    """
    chosen = os.environ.get("SOFIE_RDF_CACHE", "")
    if chosen.lower() == "off":
        return None
    if chosen:
        place = Path(chosen)
        with suppress(RuntimeError):  # A user that there is not keeps his tilde, as in a shell.
            place = place.expanduser()
        place = place.absolute()
    else:
        base = private.below("XDG_CACHE_HOME", ".cache")
        if base is None:
            return None
        place = base / "sofie_rdf"
    return place if private.is_safe(place, "the cache of sofie_rdf") else None


def key_of(parts: Iterable[str | bytes]) -> str:
    """The hash of these parts, and of where one ends and the next begins."""
    found = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.hexdigest()[:40]


def path_of(name: str) -> Path | None:
    """Where a file is or would be; None without a cache."""
    place = folder()
    return place / name if place else None


def find(name: str) -> memoryview | None:
    """The contents of a file, mapped; None if it is not there. A damaged one is removed."""
    whole = _whole(name)
    if whole is None:
        return None
    data, trailer = whole[:-_TRAILER], whole[-_TRAILER:]
    if trailer == _trailer(data):
        return data
    remove(name)
    return None


def is_there(name: str) -> bool:
    """Whether there is such a file, damaged or not."""
    path = path_of(name)
    with suppress(OSError):
        return path is not None and path.stat().st_size > 0
    return False


def mapped(name: str) -> memoryview | None:
    """The same for who checks the contents himself."""
    whole = _whole(name)
    return None if whole is None else whole[:-_TRAILER]


def said_of(data: object) -> bytes:
    """The SHA-256 behind what `mapped` gave, which nobody has compared; b"" for other bytes."""
    if not isinstance(data, memoryview) or not isinstance(whole := data.obj, mmap.mmap):
        return b""
    if len(whole) != len(data) + _TRAILER:
        return b""
    trailer = whole[-_TRAILER:]
    return trailer[len(_MARK) :] if trailer.startswith(_MARK) else b""


def _whole(name: str) -> memoryview | None:
    path = path_of(name)
    if path is None:
        return None
    try:
        with os.fdopen(private.opened(path), "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):  # An empty file cannot be mapped, a folder not be read.
        remove(name)
        return None


def store(name: str, data: bytes) -> None:
    """Keep the contents under this name; nothing where that cannot be."""
    with workshop() as place:
        if place is not None:
            finished = place / "file"
            try:
                finished.write_bytes(data)
            except OSError:
                return
            adopt(name, finished)


def adopt(name: str, finished: Path) -> Path | None:
    """Move a file that has been made in a `workshop` to its place; where it is then."""
    path = path_of(name)
    if path is None:
        return None
    try:
        with finished.open("r+b") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(_trailer_of(file))
        finished.replace(path)
    except OSError:
        return None
    _shrink()
    return path


def _shrink() -> None:
    """Remove what killed processes have left, and the oldest files where there is more than a home
    directory should have to hold.
    """
    for path in _listed():
        if path.name.startswith(_WORKSHOP) or _JOB.fullmatch(path.name):
            _unlink_abandoned(path)
    files = entries()
    excess = sum(size for _, size in files) - _LARGEST
    if excess > 0:
        for path, size in sorted(files, key=lambda file: _age(file[0]), reverse=True):
            _unlink(path)
            excess -= size
            if excess <= 0:
                return


def _age(path: Path) -> float:
    """Seconds since a file was made; that of one that is gone does not matter."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def claim(name: str) -> bool:
    """Whether nobody else does what this name stands for; from now on, this process does."""
    with workshop() as place:
        path = path_of(name)
        if place is None or path is None:
            return False
        _unlink_abandoned(path)
        try:
            path.touch(exist_ok=False)
        except OSError:
            return False
        return True


def remove(name: str) -> None:
    """Forget a file."""
    path = path_of(name)
    if path is not None:
        _unlink(path)


@contextmanager
def workshop() -> Iterator[Path | None]:
    """A folder in the cache for what is not finished, for a while; None if none can be made."""
    place, made = folder(), None
    try:
        if place is not None:
            # What is in it is loaded and run: nobody else may write there.
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=_WORKSHOP, dir=place))
    except OSError:
        made = None
    try:
        yield made
    finally:
        if made is not None:
            _unlink_tree(made)


def entries() -> list[tuple[Path, int]]:
    """The files in the cache, and their sizes in bytes."""
    found = []
    for path in _listed():
        if _NAME.fullmatch(path.name):
            with suppress(OSError):  # Another process may have removed it.
                found.append((path, path.stat().st_size))
    return found


def clear() -> None:
    """Remove the files of the cache, but neither what is being made nor what is not ours."""
    for path in _listed():
        if _NAME.fullmatch(path.name):
            _unlink(path)
        elif path.name.startswith(_WORKSHOP):
            _unlink_abandoned(path)


def _unlink_abandoned(path: Path) -> None:
    """Remove a file or folder that nobody can still be writing."""
    if _age(path) > _ABANDONED:
        _unlink_tree(path) if path.is_dir() else _unlink(path)


def _unlink_tree(path: Path) -> None:
    for _ in range(2):  # What fails for once does not fail the second time.
        with suppress(OSError):  # Python 3.11 ignores not all of them.
            shutil.rmtree(path, ignore_errors=True)


def _listed() -> list[Path]:
    place = folder()
    try:
        return sorted(place.iterdir()) if place else []
    except OSError:
        return []


def _trailer_of(file: BinaryIO) -> bytes:
    """The trailer of what is in a file, which is then at its end."""
    found = hashlib.sha256()
    while block := file.read(2**20):
        found.update(block)
    return _MARK + found.digest()


def _trailer(data: bytes | memoryview) -> bytes:
    return _MARK + hashlib.sha256(data).digest()


def _unlink(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
