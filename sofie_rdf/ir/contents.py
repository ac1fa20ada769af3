"""SHA-256 of files: computed once for as long as a file is not written."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Known", "holds", "known", "sha256_of", "tell"]

# A file that was written so many seconds before may be written again without another time.
_COARSE = 2.0
_MOST = 64
_PIECE = 2**20

_State = tuple[int, ...]


class Known(NamedTuple):
    """The checksum of a file, and how to see that nobody has written the file since."""

    path: str
    state: _State
    digest: bytes


_found: OrderedDict[str, Known] = OrderedDict()
_lock = threading.Lock()


def sha256_of(path: Path | None, content: bytes | None = None) -> bytes:
    """The checksum of a file, or of ``content``, which has just been read from it.

    Raises `OSError` where it cannot be read.
    """
    before = known(path) if path is not None else None
    if before is not None:
        return before.digest
    if content is not None:
        return hashlib.sha256(content).digest()
    assert path is not None
    state, now = _state(path), time.time()
    digest = _of(path)
    # The last time is that of its status, which nobody can set back.
    if now - state[-1] / 1e9 > _COARSE and _state(path) == state:
        tell(Known(str(path), state, digest))
    return digest


def known(path: Path) -> Known | None:
    """What is known of the file as it is now."""
    found = _found.get(str(path))
    with suppress(OSError, ValueError):
        return found if found is not None and found.state == _state(path) else None
    return None


def tell(found: Known | None) -> None:
    """Believe what another process of ours has computed."""
    if found is not None:
        with _lock:
            _found[found.path] = found
            _found.move_to_end(found.path)
            while len(_found) > _MOST:
                _found.popitem(last=False)


def holds(path: Path, word: bytes) -> bool:
    """Whether this word stands in a file; `OSError` where it cannot be read."""
    some = b""
    for piece in _pieces(path):
        # It may begin in one piece and end in the next one.
        some = some[-len(word) :] + piece
        if word in some:
            return True
    return False


def _of(path: Path) -> bytes:
    found = hashlib.sha256()
    for piece in _pieces(path):
        found.update(piece)
    return found.digest()


def _pieces(path: Path) -> Iterator[bytes]:
    """The content. It is read, not mapped: who shortens a file that is mapped ends this process."""
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            yield piece


def _state(path: Path) -> _State:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
