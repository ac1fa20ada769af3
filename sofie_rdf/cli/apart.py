"""A job in a copy of this process: where ROOT ends it, as on a full disk, this one goes on."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, TypeVar

from sofie_rdf.errors import SofieError
from sofie_rdf.isolation.walls import die_with_parent

__all__ = ["Ended", "apart"]

T = TypeVar("T")
# How many seconds a job has to clean up after itself when somebody interrupts this process.
_PATIENCE = 20.0


class Ended(Exception):
    """The copy has ended without a result; the text says how."""


def apart(job: Callable[[], T]) -> T:
    """What the job gives, computed in a copy of this process, which shares its streams.

    Raises the `SofieError`, `OSError` or KeyboardInterrupt that the job raises, and `Ended` where
    it crashed or raised anything else. Where processes cannot be copied it runs here.
    """
    if not hasattr(os, "fork"):
        return job()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        # Of threads that wait for work, of which the copy has none.
        warnings.simplefilter("ignore", DeprecationWarning)
        parent = os.getpid()
        pid = os.fork()
    if pid == 0:
        os.close(ours)
        _work(job, theirs, parent)
    os.close(theirs)
    try:
        with os.fdopen(ours, "rb") as answer:
            said = answer.read()
    except KeyboardInterrupt:
        _stop(pid)
        raise
    _, status = os.waitpid(pid, 0)
    if not said:
        code = os.waitstatus_to_exitcode(status)
        raise Ended(f"by signal {-code}" if code < 0 else f"with exit code {code}")
    kind, value = pickle.loads(said)
    if kind == "result":
        return value  # type: ignore[no-any-return]
    raise value


def _work(job: Callable[[], object], answer: int, parent: int) -> NoReturn:
    """What the copy does: it ends here whatever happens."""
    try:
        die_with_parent(parent)
        try:
            said: tuple[str, object] = ("result", job())
        except (SofieError, OSError, KeyboardInterrupt) as error:
            said = ("error", error)
        except BaseException as error:
            said = ("error", Ended(f"with {type(error).__name__}: {error}"))
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        with os.fdopen(answer, "wb") as pipe:
            pickle.dump(said, pipe)
    finally:
        os._exit(0)


def _stop(pid: int) -> None:
    """Let the copy, which a terminal has told as well, end as it should; at last make it."""
    end = time.monotonic() + _PATIENCE
    told = False
    while time.monotonic() < end:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return
        time.sleep(0.1)
        if not told and time.monotonic() > end - _PATIENCE + 0.5:
            os.kill(pid, signal.SIGINT)
            told = True
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
