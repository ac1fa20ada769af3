"""A process that has loaded what takes long, and of which others are made that begin with it.

It never sees a file. For each question it makes a copy of itself, which puts up the walls before it
gets the question, and which ends with the answer: what a file does there reaches no other file. It
ends with this process, when nobody has asked it for a while, or when it does not answer. Only Linux
has it: elsewhere each question gets a fresh process.

It begins as a fresh process, or as a copy of this one, which has loaded it already (`forked`).
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sofie_rdf.isolation import child, forked
from sofie_rdf.isolation.fresh import PACKAGE, search_path

__all__ = ["Copy", "copy", "end_all", "refuse_copies_of_here"]

_CHILD = PACKAGE / "isolation" / "child.py"
# It has hundreds of megabytes, which are given back after so long without a question.
_SECONDS_WITHOUT_QUESTIONS = 300
_SECONDS_TO_END = 5
# A copy of a process that has more than this ends with its one answer: it has the user's memory.
_MOST_KEPT = 2**29
# A copy that waits for so long waits for a lock of a thread that it does not have.
_SECONDS_ASLEEP = 5


class Copy:
    """A copy of such a process, as long as somebody waits for it."""

    def __init__(self, template: _Template) -> None:
        self.template = template
        self.pid = 0
        self.status: int | None = None
        self.is_ended = False
        self.is_of_here = template.is_of_here
        self.worked = 0, time.monotonic()

    def looked_up(self) -> int:
        """Its number, or 0 as long as it does not exist yet."""
        if not self.pid:
            self._read(0)
        return self.pid

    def is_stuck(self) -> bool:
        """Whether it is of this process, and waits for what never comes."""
        if not self.is_of_here:
            return False
        with suppress(OSError, ValueError):
            is_asleep, seconds = forked.is_asleep(self.pid or self.template.process.pid)
            if not is_asleep or seconds != self.worked[0]:
                self.worked = seconds, time.monotonic()
        return time.monotonic() - self.worked[1] > _SECONDS_ASLEEP

    def wait(self, timeout: float) -> int:
        """How it has ended: `subprocess.TimeoutExpired` if it has not after so many seconds."""
        end = time.monotonic() + timeout
        while self.status is None:
            left = end - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired("a copy", timeout)
            self._read(left)
        return self.status

    def end(self) -> int:
        """How it has ended, by itself or by this."""
        if self.is_ended and self.status is not None:
            return self.status
        self.is_ended = True
        if self.is_of_here and not self.pid:
            # What it waits for may never come.
            self.status = self.template.end()
        try:
            self.template.questions.send(b"end")
            return self.wait(_SECONDS_TO_END)
        except (OSError, subprocess.TimeoutExpired):
            self.template.end()
            self.status = -signal.SIGKILL if self.status is None else self.status
            return self.status
        finally:
            self.template.busy.release()

    def _read(self, seconds: float) -> None:
        """Take in a message that says the number or the end, if there is one in so long."""
        self.template.questions.settimeout(seconds)
        try:
            message = self.template.questions.recv(64)
        except (BlockingIOError, TimeoutError):
            return
        except OSError:
            message = b""
        finally:
            self.template.questions.settimeout(None)
        if not message:  # It has ended itself.
            self.status = self.template.end()
        elif self.pid:
            self.status = int(message)
        else:
            self.pid = int(message)


class _Template:
    """The process that is prepared."""

    def __init__(self, python: str, prepared: str, is_of_here: bool) -> None:
        self.busy = threading.Lock()
        self.is_of_here = is_of_here
        self.held = forked.mapped() if is_of_here else 0
        self.has_threads = False
        self.questions, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            told = {
                "package": str(PACKAGE),
                "path": search_path(),
                "prepared": prepared,
                "questions": theirs.fileno(),
                "seconds": 1
                if is_of_here and forked.held() > _MOST_KEPT
                else _SECONDS_WITHOUT_QUESTIONS,
            }
            self.process = (
                forked.Forked(lambda: child.serve(told))
                if is_of_here
                else subprocess.Popen(
                    [python, "-I", "-B", str(_CHILD), json.dumps(told)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    cwd="/",
                    # Ctrl-C reaches this process alone.
                    start_new_session=True,
                )
            )
        if is_of_here:
            self.has_threads = forked.others_run()

    def ask(self, told: dict[str, Any], files: list[int]) -> None:
        if told["memory"]:
            told = {**told, "memory": told["memory"] + self.held}
        told = {**told, "has_threads": self.has_threads}
        socket.send_fds(self.questions, [json.dumps(told).encode()], files)

    def end(self) -> int:
        """Nothing of it is left; how it has ended."""
        self.questions.close()
        if self.process.returncode is None:
            with suppress(subprocess.TimeoutExpired):
                return self.process.wait(0.5)
            # A copy of this process may have no group of its own yet.
            for kill in (os.killpg, os.kill):
                with suppress(ProcessLookupError, PermissionError):
                    kill(self.process.pid, signal.SIGKILL)
        return self.process.wait()


_templates: dict[tuple[Any, ...], _Template] = {}
_lock = threading.Lock()
# The process of which a copy has failed: no other one is made of it.
_failed: set[int] = set()


def copy(
    python: str,
    prepared: str,
    told: dict[str, Any],
    files: list[int],
    of_here: Callable[[], bool],
) -> Copy | None:
    """A process that is prepared, and does what it is told; None where none can be had.

    The preparation may still be going on. None, too, while another thread asks the only one.
    ``of_here`` says whether it may begin as a copy of this process.
    """
    if not sys.platform.startswith("linux"):
        return None
    # It would find other modules, or other files of these.
    key = (os.getpid(), python, prepared, tuple(search_path()), os.environ.get("PATH"))
    for _ in range(2):
        with _lock:
            template = _templates.get(key)
            if template is None:
                end_all()
                template = _templates[key] = _made(python, prepared, of_here)
            if not template.busy.acquire(blocking=False):
                return None
        try:
            template.ask(told, files)
            return Copy(template)
        except OSError:  # It has ended: nobody had asked it for long.
            with _lock:
                _templates.pop(key, None)
            template.end()
    return None


def _made(python: str, prepared: str, of_here: Callable[[], bool]) -> _Template:
    is_wanted = os.environ.get("SOFIE_RDF_FORK", "").lower() != "off"
    if is_wanted and os.getpid() not in _failed and of_here() and forked.is_possible():
        with suppress(OSError):  # There may be too little memory for two.
            return _Template(python, prepared, True)
    return _Template(python, prepared, False)


def refuse_copies_of_here() -> None:
    """None is made of this process from now on, and the one that there is ends."""
    _failed.add(os.getpid())
    with _lock:
        end_all()


def end_all() -> None:
    """End those that nobody is asking."""
    for key, template in list(_templates.items()):
        if key[0] != os.getpid():
            # The process that this one is a copy of has it.
            template.questions.close()
            template.process.returncode = 0
            del _templates[key]
        elif template.busy.acquire(blocking=False):
            del _templates[key]
            template.end()


atexit.register(end_all)
