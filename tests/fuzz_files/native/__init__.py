"""The C++ that reads files, under g++'s sanitizers, in a process that is asked again and again."""

from __future__ import annotations

import fcntl
import hashlib
import os
import resource
import select
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from sofie_rdf.errors import CorruptFile

__all__ = ["Crash", "Reader", "Refused", "available", "program"]

HERE = Path(__file__).resolve().parent
CLING = HERE.parents[2] / "cling"
_FLAGS = [
    "-std=c++17",
    "-O1",
    "-g1",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
]
_PATIENCE = 20.0
# Numbers that are never aligned, in bytes of any origin, are copied; what is beside memory is seen.
_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:max_allocation_size_mb=1100:hard_rss_limit_mb=2500",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


class Refused(CorruptFile):
    """The file was refused; ``is_new`` where the code came by places that are new to it."""

    is_new = False


class Crash(Exception):
    """The process ended, or stood still."""


def available() -> bool:
    """Whether there is a compiler."""
    return shutil.which("g++") is not None


@cache
def program() -> Path:
    """The program; compiled once for these sources."""
    sources = [*sorted(HERE.rglob("*.[ch]*")), *sorted((CLING / "sofie").rglob("*.hxx"))]
    key = hashlib.sha256(b"\0".join(s.read_bytes() for s in sources)).hexdigest()[:16]
    made = Path(tempfile.gettempdir(), f"sofie_rdf-fuzz-{os.getuid()}", key)
    made.parent.mkdir(mode=0o700, exist_ok=True)
    if made.parent.stat().st_uid != os.getuid():
        raise RuntimeError(f"{made.parent} belongs to somebody else")
    with (made.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=made.parent) as folder:
                _compile(Path(folder))
                Path(folder, "program").replace(made)
    return made


def _compile(folder: Path) -> None:
    watched = ["-fsanitize-coverage=trace-pc", f"-I{HERE / 'stubs'}", f"-I{CLING}"]
    steps = [
        [*_FLAGS, *watched, "-c", HERE / "main.cxx", "-o", "main.o"],
        ["-O2", "-c", HERE / "coverage.cxx", "-o", "coverage.o"],
        [*_FLAGS, "main.o", "coverage.o", "-ldl", "-o", "program"],
    ]
    for step in steps:
        done = subprocess.run(
            ["g++", *map(str, step)], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])


@cache
def _libcore() -> str:
    """ROOT's library with its decompression, "" without ROOT; not loaded here."""
    from importlib.util import find_spec

    spec = find_spec("ROOT")
    places = list(spec.submodule_search_locations or []) if spec else []
    found = [p for place in places for p in Path(place).glob("lib/libCore.so*")]
    return str(found[0]) if found else ""


def _unlimited() -> None:
    # Sanitizers take terabytes of addresses; their own limit is of memory.
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


class Reader:
    """A process that reads files in one way: ``reader``, ``weights`` or ``embedded``."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self._process: Any = None
        self._errors: Any = None

    def __call__(self, data: bytes) -> tuple[bool, str]:
        """Whether it came by places that are new to it, and what it has read.

        Raises `Refused`, or `Crash` with the sanitizer's summary.
        """
        process = self._process or self._start()
        try:
            process.stdin.write(struct.pack("<I", len(data)) + data)
            process.stdin.flush()
            line = self._line(process)
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            raise Crash(self._end())
        was_new, what, *said = line.decode("utf-8", "replace").rstrip("\n").split(" ", 2)
        answer = " ".join(said)
        if what == "refused":
            refused = Refused(answer)
            refused.is_new = was_new == "new"
            raise refused
        return was_new == "new", answer

    def _line(self, process: Any) -> bytes:
        ready = select.select([process.stdout], [], [], _PATIENCE)[0]
        return bytes(process.stdout.readline()) if ready else b""

    def _start(self) -> Any:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [str(program()), self.mode],
            env={**os.environ, **_OPTIONS, "FUZZ_LIBCORE": _libcore()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            preexec_fn=_unlimited,
        )
        return self._process

    def _end(self) -> str:
        """Why it ended."""
        process, self._process = self._process, None
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return "hangs"
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").splitlines()
        said = [x for x in lines if x.startswith("SUMMARY:") or "runtime error:" in x]
        said += [x for x in lines if "terminate called" in x or "what():" in x]
        place = next((x for x in lines if "sofie::" in x and x.lstrip().startswith("#")), "")
        place = place.partition(" in ")[2].partition(" /")[0]
        return f"{said[0] if said else lines[:3]} in {place}"
