"""Other people's readers, in a process of their own: what they do there ends there.

A library in C that reads a stranger's file may crash, loop, take all memory, or be made to run what
the file says. Such work is done by a fresh process, with limits of time and memory, which can
neither write files nor make sockets where the system is Linux. Its answer is JSON and raw numbers.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import math
import os
import pickle
import selectors
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from sofie_rdf import limits
from sofie_rdf.errors import CorruptFile, LimitExceeded, ModelError, SofieError
from sofie_rdf.isolation.fresh import PACKAGE, interpreter, search_path
from sofie_rdf.isolation.wire import Malformed, reader

if TYPE_CHECKING:
    from sofie_rdf.isolation import warm

__all__ = ["call", "unexpected"]

_CHILD = PACKAGE / "isolation" / "child.py"
# What Python and the largest of these libraries take before they have read anything.
_OVERHEAD = 4 * 2**30
# The largest limits that all systems take for what they are.
_LARGEST, _LONGEST = 2**62, 2**31
_PIPE_BYTES = 2**20
_TAIL = 4096
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_END = 10


def call(
    function: str,
    *args: Any,
    place: str,
    memory: float = _OVERHEAD,
    meanwhile: Callable[[], object] = lambda: None,
    prepared: str = "",
    of_here: Callable[[], bool] = lambda: False,
) -> Any:
    """What ``"package.module:function"`` gives for these arguments, computed in another process.

    Arguments are whatever pickle can write; the result is made of None, bools, numbers, texts,
    bytes, arrays, lists, tuples, dicts and `SofieError`. The process may take the seconds that are
    left of the budget (`sofie_rdf.limits`), and its bytes besides ``memory``. ``meanwhile`` is done
    here while the process starts. ``prepared`` names a function that loads what takes long: who
    asks again gets a copy of a process that has done so (`isolation.warm`). ``of_here`` says
    whether this process has loaded most of it, so that a copy of this one may be prepared where
    that is safe (`isolation.forked`); what goes wrong in it is done again by a fresh one.

    Raises the `SofieError` that the function raises; `LimitExceeded` where time or memory were not
    enough; `CorruptFile` where the process crashed, or the function raised what is no SofieError.
    """
    question = pickle.dumps(args, protocol=5)
    with tempfile.TemporaryDirectory(prefix="sofie_rdf-", ignore_cleanup_errors=True) as folder:
        with (
            suppress(_OfHere),
            _Child(function, folder, place, memory, prepared, of_here) as child,
        ):
            meanwhile()
            return child.result(question)
        _warm().refuse_copies_of_here()
        with _Child(function, folder, place, memory, prepared) as child:
            return child.result(question)


def _warm() -> ModuleType:
    """`isolation.warm`, whose sockets and logs a model that needs no copy should not wait for."""
    return importlib.import_module("sofie_rdf.isolation.warm")


def unexpected(place: str = "") -> CorruptFile:
    """The error for what the function never gives: a file that has taken it over says anything."""
    return CorruptFile("is not what the process that read it says", place=place)


class _OfHere(Exception):
    """A copy of this process has failed, which may have nothing to do with the file."""


class _Child:
    """The process, while somebody waits for it."""

    def __init__(
        self,
        function: str,
        folder: str,
        place: str,
        memory: float,
        prepared: str,
        of_here: Callable[[], bool] = lambda: False,
    ) -> None:
        self.place = place
        self.allowed = limits.remaining()
        self.memory = memory + (self.allowed.bytes or 0)
        self.end = time.monotonic() + (self.allowed.seconds or 0)
        self.largest = 0
        self.said: deque[bytes] = deque(maxlen=4)
        with ExitStack() as stack:
            question, self.question = _pipe(stack)
            self.answer, answer = _pipe(stack)
            self.errors, errors = _pipe(stack)
            told = self._told(function, folder, question, answer)
            python = _interpreter(place)
            files = [question, answer, errors]
            copied = _warm().copy(python, prepared, told, files, of_here) if prepared else None
            self.process: _Process | warm.Copy = copied or _Process(python, told, files)
            self.memory += copied.template.held if copied else 0
            stack.pop_all()
        for end in (question, answer, errors):
            os.close(end)
        os.set_blocking(self.question, False)
        self.open = {self.question, self.answer, self.errors}

    def _told(self, function: str, folder: str, question: int, answer: int) -> dict[str, Any]:
        # This one ends the process if nobody else does; each of its threads spends such seconds.
        seconds = 60 + (self.allowed.seconds or 0) * (os.cpu_count() or 1)
        given = {key: getattr(self.allowed, key) for key in ("bytes", "nodes", "terms", "seconds")}
        return {
            "package": str(PACKAGE),
            "path": search_path(),
            "parent": os.getpid(),
            "function": function,
            "place": self.place,
            "limits": given,
            "folder": os.path.realpath(folder),
            "memory": int(self.memory) if self.memory < _LARGEST else 0,
            "seconds": int(min(seconds, _LONGEST)),
            "question": question,
            "answer": answer,
            "environment": {**os.environ, "TMPDIR": folder},
        }

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *error: object) -> None:
        for file in list(self.open):
            self._close(file)
        self.process.end()

    def _close(self, file: int) -> None:
        self.open.discard(file)
        os.close(file)

    def result(self, question: bytes) -> Any:
        """What the process answers."""
        message = reader(self.allowed.bytes or math.inf)
        try:
            answer = self._exchange(memoryview(question), message)
        except Malformed as error:
            raise self._corrupt(f"the process that read it gave {error}") from error
        except MemoryError:
            self._no_memory()
        if answer is None:
            self._crashed()
        return self._opened(answer)

    def _opened(self, answer: Any) -> Any:
        """The result in an answer; raises the error in it."""
        match answer:
            case ("result", value, float(spent), float(nodes)):
                # A file that has taken over the reader could say anything.
                limits.spend(bytes=max(0.0, spent), nodes=max(0.0, nodes), what="what was read")
                return value
            case ("error", SofieError() as raised):
                raise raised
            case ("memory",):
                self._no_memory()
            case ("failed", str(text)):
                raise self._corrupt(f"it cannot be read: {text}")
        raise self._corrupt("the process that read it gave no answer")

    def _exchange(self, question: memoryview, message: Generator[memoryview, None, Any]) -> Any:
        """Write the question and read the answer, whichever is possible; None if there is none."""
        wanted = next(message)
        with selectors.DefaultSelector() as selector:
            selector.register(self.question, selectors.EVENT_WRITE)
            selector.register(self.answer, selectors.EVENT_READ)
            selector.register(self.errors, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(self._wait()):
                    file = key.fd
                    if file == self.question:
                        question = question[_written(file, question) :]
                        if not question:
                            selector.unregister(file)
                            self._close(file)
                    elif file == self.errors:
                        text = _some(file)
                        self.said.append(text[-_TAIL:])
                        if not text:
                            selector.unregister(file)
                    else:
                        count = _read(file, wanted)
                        if count == 0:
                            return None
                        wanted = wanted[count:]
                        try:
                            while not wanted:
                                wanted = next(message)
                        except StopIteration as end:
                            return end.value

    def _wait(self) -> float:
        """How long to wait until the next look at the clock and at the memory."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise LimitExceeded(
                f"reading it takes longer than {self.allowed.seconds:.6g} seconds",
                place=self.place,
                remedy=_remedy("seconds"),
            )
        if self.process.is_stuck():
            raise _OfHere
        self.largest = max(self.largest, _resident(self.process.looked_up()))
        if self.largest > self.memory:
            self._no_memory()
        return min(left, _SECONDS_BETWEEN_LOOKS)

    def _no_memory(self) -> NoReturn:
        self._doubt()
        raise LimitExceeded(
            "reading it takes more memory than the limit for this file allows",
            place=self.place,
            remedy=_remedy("bytes"),
        )

    def _crashed(self) -> NoReturn:
        try:
            status = self.process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            status = self.process.end()
        os.set_blocking(self.errors, False)
        with suppress(BlockingIOError):
            self.said.append(_some(self.errors)[-_TAIL:])
        said = b"".join(self.said).decode(errors="replace").strip().splitlines()
        if "bad_alloc" in " ".join(said) or "MemoryError" in " ".join(said):
            self._no_memory()
        how = f"ended with status {status}"
        if status < 0:
            with suppress(ValueError):
                how = f"crashed ({signal.Signals(-status).name})"
        last = f": {said[-1][:200]}" if said else ""
        raise self._corrupt(f"the library that reads it {how}{last}")

    def _doubt(self) -> None:
        if self.process.is_of_here:
            raise _OfHere from None

    def _corrupt(self, thing: str) -> CorruptFile:
        self._doubt()
        return CorruptFile(thing, place=self.place, remedy="Copy or download it again")


class _Process:
    """A fresh process."""

    is_of_here = False

    def __init__(self, python: str, told: dict[str, Any], files: list[int]) -> None:
        question, answer, errors = files
        self.process = subprocess.Popen(
            [python, "-I", "-B", str(_CHILD), json.dumps({**told, "environment": None})],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(question, answer),
            env=told["environment"],
            # Ctrl-C reaches this process alone, which then ends the other.
            start_new_session=True,
        )

    def looked_up(self) -> int:
        return self.process.pid

    def is_stuck(self) -> bool:
        return False

    def wait(self, timeout: float) -> int:
        return self.process.wait(timeout)

    def end(self) -> int:
        """How it has ended, by itself or by this."""
        if self.process.returncode is None:
            # As long as nobody has waited for it, its number belongs to nobody else.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


def _interpreter(place: str) -> str:
    found = interpreter()
    if not found:
        raise ModelError(
            "no Python is known that could read it in a process of its own",
            place=place,
            remedy="isolated=False reads it in this one",
        )
    return found


def _pipe(stack: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    with suppress(OSError, AttributeError):
        fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return ends


def _written(file: int, data: memoryview) -> int:
    """How much of it was written; all of it where nobody reads any more."""
    try:
        return os.write(file, data[:_PIPE_BYTES])
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(data)


def _read(file: int, data: memoryview) -> int:
    return os.readv(file, [data])


def _some(file: int) -> bytes:
    return os.read(file, _PIPE_BYTES)


def _resident(process: int) -> int:
    """How much memory a process has, where the system says that in /proc."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def _remedy(kind: str) -> str:
    return (
        f"It is damaged, or made to exhaust this machine; if you trust it, raise the limit: "
        f"{limits.VARIABLE}={kind}=... in the environment, or limits="
    )
