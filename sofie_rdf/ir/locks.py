"""One writer of a file at a time, on this machine and on others that share its folder.

A lock is a file beside the one that is written. It comes into being by link(), which either makes
it or fails, on NFS as well, and it says who has it. The lock of a process of this machine that is
gone is taken away, and that is said; of one on another machine nobody knows here whether it is
gone, so that is an error that names it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import secrets
import socket
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from sofie_rdf.errors import ModelError

__all__ = ["Lock", "locked", "removed", "swept"]

_PREFIX = ".sofie_rdf-"
# How many seconds one waits for others.
_PATIENCE = 120.0
# What no release that named its copies otherwise can still be writing, in seconds.
_ABANDONED = 86_400
# What file systems without links say.
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)


# The locks of this process, and those that it waits for.
_held: set[str] = set()


@dataclass(frozen=True)
class _Holder:
    """The process that has a lock, and since when; ``machine`` and ``born`` tell it from others."""

    host: str
    machine: str
    pid: int
    born: str
    since: str
    token: str

    @classmethod
    def me(cls) -> _Holder:
        pid, now = os.getpid(), datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(socket.gethostname(), _machine(), pid, _born(pid), now, secrets.token_hex(6))

    @classmethod
    def of(cls, data: bytes) -> _Holder | None:
        """Who has written this; None for what is no such text."""
        with suppress(ValueError, TypeError, RecursionError):
            found = cls(**json.loads(data))
            if all(type(v) is (int if k == "pid" else str) for k, v in asdict(found).items()):
                return found
        return None

    @property
    def is_gone(self) -> bool:
        """Whether there is no such process any more; False where nobody here can know."""
        if self.machine != _machine() or not 0 < self.pid < 2**31:
            return False
        if self.pid == os.getpid() and self.born in ("", _born(self.pid)):
            return self.token not in _held
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return bool(self.born) and _born(self.pid) != self.born

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def _machine() -> str:
    """What is equal for processes that can see each other, and for no others."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    # Two machines may have one name. What has no address of its own gets another number each time.
    return f"{socket.gethostname()} {uuid.getnode():x}"


def _born(pid: int) -> str:
    """When a process has begun, as the system counts; "" where it does not say, or it has ended."""
    with suppress(OSError, IndexError):
        # Behind the name of the program, which may be anything: the state comes first.
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return "" if words[0] in (b"Z", b"X") else words[19].decode()
    return ""


@dataclass(frozen=True)
class Lock:
    """That a file is written by nobody else."""

    target: Path
    holder: _Holder

    @property
    def _stem(self) -> str:
        # A name as long as names may be has a lock as well.
        name = os.fsencode(self.target.name)
        return f"{_PREFIX}{hashlib.sha256(name).hexdigest()[:16]}"

    @property
    def path(self) -> Path:
        return self.target.with_name(f"{self._stem}.lock")

    @property
    def copy(self) -> Path:
        """Where a new version of the file can be written."""
        return self.target.with_name(f"{self._stem}-{self.holder.token}.tmp")

    @property
    def _mine(self) -> Path:
        return self.target.with_name(f"{self._stem}-{self.holder.token}.lock")

    def acquire(self) -> None:
        """Wait for it; ModelError if somebody else keeps it."""
        data = json.dumps(asdict(self.holder)).encode()
        end, pause = time.monotonic() + _PATIENCE, 0.002
        try:
            self._mine.write_bytes(data)
            while not _linked(self._mine, self.path, data):
                found = _holder_of(self.path)
                if found == self.holder:
                    break  # The answer to link() was lost, and the number of links is an old one.
                if found is not None and found.is_gone and _removed(self.path):
                    self._say(found)
                    continue
                if time.monotonic() > end:
                    raise self._taken(found)
                time.sleep(random.uniform(pause / 2, pause))
                pause = min(2 * pause, 0.1)
        finally:
            removed(self._mine)

    def _say(self, found: _Holder) -> None:
        warnings.warn(
            f"{self.target}: {found}, was writing this file and has been killed. The file is "
            "whole, and its lock has been removed",
            RuntimeWarning,
            stacklevel=2,
        )

    def _taken(self, found: _Holder | None) -> ModelError:
        who = str(found) if found else "another process"
        gone = " has been killed" if found and found.is_gone else " does not run any more"
        return ModelError(
            f"is being written by {who}",
            place=str(self.target),
            remedy=f"Try again later. If that process{gone}, remove {self.path}",
        )

    @property
    def is_held(self) -> bool:
        return _holder_of(self.path) == self.holder

    def release(self) -> None:
        """Let others have it."""
        if any(self.is_held for _ in range(2)):  # It may not be readable for once.
            removed(self.path)

    def sweep(self) -> None:
        """Remove what killed processes have left beside the file; nobody else is writing it."""
        with suppress(OSError), os.scandir(self.target.parent) as entries:
            for name in [e.name for e in entries if e.name.startswith(_PREFIX)]:
                path = self.target.with_name(name)
                ours = name.startswith(f"{self._stem}-")
                if ours and name.endswith(".lock"):  # Somebody who waits.
                    found = _holder_of(path)
                    ours = found is not None and found.is_gone
                if name.endswith((".tmp", ".lock")) and (ours or _is_old(path)):
                    removed(path)


def swept(target: Path) -> None:
    """Remove what a killed process has left that was writing this file; that needs no space."""
    lock = Lock(target, _Holder.me()).path
    found = _holder_of(lock)
    if found is not None and found.is_gone:
        with suppress(ValueError):  # A lock that was made by hand names a copy as it likes.
            removed(Lock(target, found).copy)
        _removed(lock)


def removed(path: Path) -> None:
    """Remove a file, if that is possible; where it fails for once, the second time."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _is_old(path: Path) -> bool:
    """Whether this is a copy by an older version, which named it by twelve digits, of days ago."""
    is_copy = path.suffix == ".tmp" and len(path.stem) == len(_PREFIX) + 12
    with suppress(OSError):
        return is_copy and time.time() - path.stat().st_mtime > _ABANDONED
    return False


def _linked(mine: Path, lock: Path, data: bytes) -> bool:
    """Whether the lock is ours now."""
    try:
        os.link(mine, lock)
    except FileExistsError:
        # On NFS the answer may have been lost, and this one is to the question asked again.
        return mine.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _made(lock, data)
    return True


def _made(lock: Path, data: bytes) -> bool:
    """The same where there are no links."""
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError:
        lock.unlink()
        raise
    return True


def _holder_of(lock: Path) -> _Holder | None:
    try:
        with lock.open("rb") as file:
            return _Holder.of(file.read(4096))
    except OSError:
        return None


def _removed(lock: Path) -> bool:
    """Whether the lock of a process that is gone is taken away.

    Whoever does that has locked its inode: the lock that another one has made meanwhile stays. All
    who may do it are on this machine, so this lock of the system suffices.
    """
    try:
        import fcntl

        with lock.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            there, held = lock.stat(), os.fstat(file.fileno())
            found = _Holder.of(file.read(4096))
            if (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino):
                return False
            if found is None or not found.is_gone:
                return False
            lock.unlink()
            return True
    except (OSError, ImportError):
        return False


@contextmanager
def locked(target: Path) -> Iterator[Lock]:
    """The lock for writing a file; ModelError if somebody else keeps it, OSError without a place.

    What killed processes have left beside the file is removed.
    """
    lock = Lock(target, _Holder.me())
    _held.add(lock.holder.token)
    try:
        lock.acquire()
        lock.sweep()
        yield lock
    finally:
        lock.release()
        _held.discard(lock.holder.token)
