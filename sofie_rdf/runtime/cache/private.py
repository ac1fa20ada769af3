"""Files of the user's that decide what runs: where they are, and whether others may write them.

A library in the cache is loaded, and a model in the list of trusted ones is compiled. So neither is
used where another user may have put it there. cling/sofie/rdf/private.hxx says the same in C++.
"""

from __future__ import annotations

import os
import pwd
import stat
import threading
import warnings
from contextlib import suppress
from pathlib import Path

__all__ = ["below", "is_own", "is_safe", "opened"]

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


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
    reason = _trouble(path)
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


def _trouble(path: Path) -> str:
    """Why others may decide what is there, as far as it exists; "" where they may not."""
    try:
        for way in dict.fromkeys((path.absolute(), path.resolve())):
            for part in (way, *way.parents):
                reason = _trouble_of(part, is_inside=part != way)
                if reason:
                    return reason
    except (OSError, ValueError, RuntimeError) as error:
        return f"it cannot be looked at: {error}"
    return ""


def _trouble_of(part: Path, *, is_inside: bool) -> str:
    """The same of one folder, in which there may be another one on the way."""
    try:
        status = part.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_ISLNK(status.st_mode):
        return ""  # Where it leads is looked at, too.
    if is_inside:
        # In a sticky folder, as /tmp is, nobody else can rename what is ours.
        shared = not status.st_mode & stat.S_ISVTX and status.st_mode & (
            stat.S_IWOTH if status.st_gid in (status.st_uid, os.getegid()) else _OTHERS
        )
        return f"others may write to {part} (chmod go-w, or chmod +t)" if shared else ""
    if status.st_uid not in (os.geteuid(), 0):
        return f"it belongs to another user, of number {status.st_uid}"
    if not is_own(status):
        return "others may write to it (look whether they have, then chmod go-w)"
    return ""


_warned: set[str] = set()
_lock = threading.Lock()


def _warn_once(text: str) -> None:
    with _lock:
        if text in _warned:
            return
        _warned.add(text)
    warnings.warn(text, RuntimeWarning, stacklevel=3)
