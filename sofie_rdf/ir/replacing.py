"""Files that are replaced in one step: all of the new one, or the old one as it was."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sofie_rdf.errors import ModelError
from sofie_rdf.ir.locks import locked, removed

__all__ = ["replacing"]


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
def replacing(path: str | os.PathLike[str], *, keep: bool = True) -> Iterator[Path]:
    """A copy of the file (none, where there is none) that takes its place in the end, or never.

    Written to the disk before it is renamed, with the permissions of the old file; links are
    followed. Without ``keep`` there is no copy, but a path for what is written anew. Nobody else
    who does this writes the file meanwhile. Whatever is raised leaves the old file as it was and
    removes the copy; an OSError becomes a ModelError.
    """
    target = Path(os.path.realpath(path))
    try:
        _state(target)
        with locked(target) as lock:
            copy = lock.copy
            try:
                before = _state(target)
                if before is not None:
                    if not os.access(target, os.W_OK):
                        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                    if keep:
                        os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                        shutil.copyfile(target, copy)
                yield copy
                if before is not None:
                    shutil.copymode(target, copy)
                _sync(copy)
                if _state(target) != before or not lock.is_held:
                    raise ModelError(
                        "was changed by someone else while a model was being saved",
                        place=str(path),
                        remedy="Save again",
                    )
                copy.replace(target)
            finally:
                removed(copy)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(f"cannot be written: {reason}", place=str(path)) from error
    with suppress(OSError):
        _sync(target.parent, getattr(os, "O_DIRECTORY", 0))
