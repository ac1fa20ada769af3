"""Whether a copy of the user's own process may read files, and how it becomes as a fresh one is.

Such a copy has at once what the user has loaded. It is made only where that is safe: no thread
works, and no library is there that does not take it. It has nothing open of what the user has, no
memory through which it could write to files or other processes, and runs nothing of what the user
has arranged.
"""

from __future__ import annotations

import gc
import logging
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

__all__ = [
    "Forked",
    "forget",
    "held",
    "is_asleep",
    "is_possible",
    "mapped",
    "others_run",
    "shared_memory",
]

# They have threads that hold locks, or connections to devices or other processes.
_NEVER_COPIED = ("cupy", "grpc", "jax", "mpi4py.MPI", "ray", "tensorflow")
_SECONDS_TO_CALM = 0.05
# Of mmap: private, anonymous, at this place, and no memory is kept for it. Nobody may use it.
_IN_ITS_PLACE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10 | 0x4000


class Forked:
    """A copy of this process, with what of `subprocess.Popen` is asked of it here."""

    def __init__(self, work: Callable[[], NoReturn]) -> None:
        self.returncode: int | None = None
        self.pid = -1
        said, sys.unraisablehook = sys.unraisablehook, lambda _: None
        is_collecting = gc.isenabled()
        # The copy begins so: it finalises nothing, and no Ctrl-C lets it go on as the user's.
        gc.disable()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            with warnings.catch_warnings():
                # Other threads are asleep, and what a copy cannot do is done by a fresh process.
                warnings.simplefilter("ignore")
                self.pid = os.fork()
        finally:
            sys.unraisablehook = said
            if self.pid:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                if is_collecting:
                    gc.enable()
        if self.pid == 0:
            try:
                work()
            finally:
                os._exit(1)

    def wait(self, timeout: float | None = None) -> int:
        """How it has ended: `subprocess.TimeoutExpired` if it has not after so many seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            try:
                ended, status = os.waitpid(self.pid, os.WNOHANG if timeout is not None else 0)
            except ChildProcessError:  # Somebody else has waited for all children.
                ended, status = self.pid, 0
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("a copy", timeout or 0)
            else:
                time.sleep(0.01)
        return self.returncode


# Before -------------------------------------------------------------------------------------------


def is_possible() -> bool:
    """Whether a copy of this process is as good as a fresh one."""
    if not sys.platform.startswith("linux") or any(name in sys.modules for name in _NEVER_COPIED):
        return False
    try:
        return _threads_sleep() and _has_usual_numbers()
    except (OSError, ValueError):  # No /proc, or another one.
        return False


def held() -> int:
    """The bytes of memory of this process's own, which a copy keeps from being given back."""
    return _of_status("RssAnon")


def mapped() -> int:
    """The bytes that count for the limit of a copy's memory when it begins."""
    return _of_status("VmData")


def others_run() -> bool:
    """Whether there are other threads: those of NumPy end before a copy is made, others do not."""
    return len(_numbers("/proc/self/task")) > 1


def is_asleep(process: int) -> tuple[bool, int]:
    """Whether a process waits for something, and how long it has computed until now."""
    state, *numbers = _stat(Path(f"/proc/{process}/stat"))
    return state == "S", int(numbers[10]) + int(numbers[11])


def _threads_sleep() -> bool:
    """All but this one, if they are given a moment: what computes holds locks."""
    mine = threading.get_native_id()
    end = time.monotonic() + _SECONDS_TO_CALM
    while True:
        tasks = [t for t in Path("/proc/self/task").iterdir() if t.name != str(mine)]
        if all(_state(task) == "S" for task in tasks):
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.005)


def _state(task: Path) -> str:
    try:
        return _stat(task / "stat")[0]
    except OSError:  # It has ended.
        return "S"


def _stat(path: Path) -> list[str]:
    return path.read_text().rpartition(")")[2].split()


def _has_usual_numbers() -> bool:
    """Whether the smallest numbers are what they are everywhere: who flushes them has others."""
    return sys.float_info.min / 2 > 0


def _numbers(folder: str) -> list[int]:
    return [int(path.name) for path in Path(folder).iterdir()]


def _of_status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise ValueError(name)


# After --------------------------------------------------------------------------------------------


def forget(kept: int) -> int:
    """Let go of all that is the user's, in a copy; the new number of the file that is kept.

    Each file that is open becomes the empty device, so that who still writes to its number writes
    nowhere. Objects stay as they are: none of them is finalised.
    """
    _leave_shared_memory()
    gc.disable()
    gc.freeze()
    sys.settrace(None)
    sys.setprofile(None)
    os.setsid()
    os.chdir("/")
    kept = _close_files(kept)
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sys.unraisablehook = sys.__unraisablehook__
    sys.dont_write_bytecode = True
    # The user's calls are below those that are made from now on.
    sys.setrecursionlimit(sys.getrecursionlimit() + _depth())
    return kept


def _leave_shared_memory() -> None:
    """In the place of memory through which others could be written to there is none.

    onnxruntime has such memory, and so have semaphores of `multiprocessing`. Whoever uses it here
    ends the copy, in whose place comes a fresh process.
    """
    import ctypes

    map_memory = ctypes.CDLL(None, use_errno=True).mmap
    map_memory.restype = ctypes.c_void_p
    map_memory.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *3 * [ctypes.c_int], ctypes.c_long]
    for begin, end in shared_memory():
        if map_memory(begin, end - begin, 0, _IN_ITS_PLACE, -1, 0) != begin:
            raise OSError(ctypes.get_errno(), "memory that is shared cannot be left")
    if shared_memory():
        raise OSError("memory is still shared")


def shared_memory() -> list[tuple[int, int]]:
    """Where memory is mapped through which this process could write to files or other processes."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    if not any(line.split(None, 2)[1].endswith("s") for line in lines):
        return []
    found, place = [], (0, 0)
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, *values = line.split()
        if key == "VmFlags:":
            if {"sh", "mw"} <= set(values):
                found.append(place)
        elif not key.endswith(":"):
            begin, _, end = key.partition("-")
            place = int(begin, 16), int(end, 16)
    return found


def _close_files(kept: int) -> int:
    import fcntl

    empty = os.open(os.devnull, os.O_RDWR)
    moved = fcntl.fcntl(kept, fcntl.F_DUPFD, max(2, *_numbers("/proc/self/fd")) + 1)
    for number in {0, 1, 2, *_numbers("/proc/self/fd")} - {moved}:
        with suppress(OSError):  # That of the folder itself, which is closed by now.
            os.dup2(empty, number)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, closefd=False)  # noqa: SIM115
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    return moved


def _depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return depth
