"""Files of the user's that decide what runs: where they are, and whether others may write them.

A library in the cache is loaded, and a model in the list of trusted ones is compiled. So neither is
used where another user may have put it there, or may put another one in its place, as sshd's
StrictModes has it. cling/sofie/rdf/private.hxx says the same in C++.
"""

from __future__ import annotations

import os
import pwd
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["below", "is_own", "is_safe", "opened", "trouble"]

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# As many links as Linux follows on one way.
_MOST_LINKS = 40


def below(variable: str, folder: str) -> Path | None:
    """The folder that a variable of the XDG names, or that ``folder`` of the user's home.

    Relative paths name nothing, as those specifications have it: else the folder that the user is
    in would decide. None for who has no home.
    """
    chosen = os.environ.get(variable, "")
    if Path(chosen).is_absolute():
        return Path(chosen)
    home = os.environ.get("HOME", "")
    if not Path(home).is_absolute():
        with suppress(KeyError):
            home = pwd.getpwuid(os.getuid()).pw_dir
    return Path(home, folder) if Path(home).is_absolute() else None


def is_safe(path: Path, what: str) -> bool:
    """Whether nobody else may have written what is there; else there is a warning, once."""
    reason = trouble(path)
    if reason:
        _warn_once(f"{what} {path} is not used: {reason}")
    return not reason


def is_own(status: os.stat_result) -> bool:
    """Whether only this user, or the administrator, may write such a file or folder.

    The group counts as the user where its number is the user's: that is what systems do that give
    each user a group of his own.
    """
    mode = status.st_mode & (stat.S_IWOTH if status.st_gid == status.st_uid else _OTHERS)
    return status.st_uid in (os.geteuid(), 0) and not mode


def opened(path: Path) -> int:
    """A descriptor of a plain file that only this user may write, for reading; else `OSError`."""
    # A pipe would be waited for; what a link names may be anybody's.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and is_own(status):
        return descriptor
    os.close(descriptor)
    raise PermissionError(f"{path} is no file of this user alone")


def trouble(path: Path, home: str = "") -> str:
    """Why others may decide what is there, as far as it exists; "" where they may not.

    Each folder and each link on the way counts, but not what is above the user's home (`home`, or
    that of the system): who may replace that decides about all that the user runs.
    """
    try:
        visited = list(_visited(path.absolute()))
    except (OSError, ValueError) as error:
        return f"it cannot be looked at: {getattr(error, 'strerror', None) or error}"
    home = os.path.realpath(home or _home())
    passes_home = any(part == home for part, _ in visited)
    end = os.path.realpath(path)
    for part, status in visited:
        if status is None or (passes_home and home.startswith(f"{part.rstrip('/')}/")):
            continue
        reason = _trouble_of(part, status, is_last=part == end)
        if reason:
            return reason
    return ""


def _home() -> str:
    with suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_dir
    return "/"


def _visited(path: Path) -> Iterator[tuple[str, os.stat_result | None]]:
    """What the system goes through on its way, links included; the last one is None if missing."""
    here, links = "/", 0
    yield here, os.lstat(here)
    left = list(reversed(path.parts[1:]))
    while left:
        name = left.pop()
        if name == "..":
            here = os.path.dirname(here)  # noqa: PTH120
            continue
        part = os.path.join(here, name)  # noqa: PTH118
        try:
            status = os.lstat(part)
        except (FileNotFoundError, NotADirectoryError):
            yield part, None
            return
        yield part, status
        if not stat.S_ISLNK(status.st_mode):
            here = part
            continue
        links += 1
        if links > _MOST_LINKS:
            raise ValueError("too many links")
        target = Path(part).readlink()
        here = "/" if target.is_absolute() else here
        left += reversed(target.parts[1:] if target.is_absolute() else target.parts)


def _trouble_of(part: str, status: os.stat_result, *, is_last: bool) -> str:
    """The same of one folder or link on the way, or of what is at its end."""
    if status.st_uid not in (os.geteuid(), 0):
        what = "it" if is_last else part
        return f"{what} belongs to another user, of number {status.st_uid}"
    if stat.S_ISLNK(status.st_mode) or is_own(status):
        return ""
    if is_last:
        return "others may write to it (look whether they have, then chmod go-w)"
    if status.st_mode & stat.S_ISVTX:
        return ""  # As /tmp: nobody else can rename what is ours in it.
    return f"others may write to {part} (chmod go-w, or chmod +t)"


_warned: set[str] = set()
_lock = threading.Lock()


def _warn_once(text: str) -> None:
    with _lock:
        if text in _warned:
            return
        _warned.add(text)
    warnings.warn(text, RuntimeWarning, stacklevel=3)
