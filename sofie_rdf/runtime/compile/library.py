"""Emitted code compiled to a shared library by a compiler of the system, and kept in the cache."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from sofie_rdf.errors import JitError
from sofie_rdf.isolation import fresh
from sofie_rdf.runtime.cache import disk
from sofie_rdf.runtime.compile.cpu import cpu_description, target_flags

__all__ = [
    "CLING",
    "COMPILERS",
    "Compiler",
    "Library",
    "build_source",
    "check_compiler",
    "chosen_compiler",
    "find_compiler",
    "in_batch_job",
]

# What `compiler=` may be: ROOT's interpreter, a program, or whichever saves most time.
CLING = "cling"
COMPILERS = ("auto", CLING, "g++", "clang++")
_PROGRAMS = ("g++", "clang++")
# No -ffast-math: the kernels say what may be reordered, and depend on infinities and NaN.
# No FMA but those that the kernels ask for (simd.hxx): so the bits are those of Cling.
_FLAGS = (
    "-std=c++17 -O3 -ffp-contract=off -w -pipe -shared -fPIC -fvisibility=hidden -Wl,-z,defs"
).split()
_ENTRY = "sofie_rdf_entries"
# What HTCondor, Slurm, PBS, LSF and Grid Engine tell their jobs.
_BATCH = ("_CONDOR_JOB_AD", "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID")


def chosen_compiler(wanted: str) -> str:
    """The compiler that is asked for, here or by SOFIE_RDF_COMPILER; "" if nobody asks for one.

    Where ROOT is not installed, somebody asks for a compiler of the system.
    """
    check_compiler(wanted)
    return wanted or os.environ.get("SOFIE_RDF_COMPILER", "") or _without_root()


def check_compiler(wanted: str) -> None:
    """`JitError` for a compiler, asked for here or by SOFIE_RDF_COMPILER, that is none of ours."""
    origin = "compiler=" if wanted else "SOFIE_RDF_COMPILER="
    wanted = wanted or os.environ.get("SOFIE_RDF_COMPILER", "")
    if wanted and wanted not in COMPILERS:
        raise JitError(
            f"{origin}{wanted!r} is no compiler that we know",
            remedy=f"Use one of {', '.join(COMPILERS)}",
        )


def _without_root() -> str:
    """The first compiler that is there, where ROOT is not; where it is, ""."""
    if _has_root():
        return ""
    return next((name for name in _PROGRAMS if find_compiler(name)), CLING)


def _has_root() -> bool:
    """Whether ROOT can be imported, without importing it."""
    if "ROOT" in sys.modules:  # Its module may have no __spec__, which find_spec() refuses.
        return sys.modules["ROOT"] is not None
    return importlib.util.find_spec("ROOT") is not None


def in_batch_job() -> bool:
    """Whether a batch system has given this process its CPU and memory, both of which it counts."""
    return any(name in os.environ for name in _BATCH)


@dataclass(frozen=True)
class Compiler:
    """A compiler of the system: where it is, and what it calls itself."""

    path: str
    version: str


def _absolute_path() -> str:
    """PATH without what the current folder decides."""
    known = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(folder for folder in known if Path(folder).is_absolute())


@cache
def find_compiler(wanted: str = "auto") -> Compiler | None:
    """The compiler of that name, or the first that is there; None without one."""
    for name in _PROGRAMS if wanted == "auto" else (wanted,):
        path = shutil.which(name, path=_absolute_path())
        if path:
            with suppress(OSError, subprocess.SubprocessError):
                done = subprocess.run(
                    [path, "--version"], capture_output=True, text=True, timeout=60, check=True
                )
                return Compiler(path, done.stdout)
    return None


@dataclass(frozen=True)
class Library:
    """The library of one emitted text by one compiler, whether or not it exists."""

    namespace: str
    text: str
    compiler: Compiler

    @cached_property
    def key(self) -> str:
        """The hash of all that the library depends on."""
        machine = (platform.machine(), cpu_description() or platform.node())
        return disk.key_of(
            (self._source, self.compiler.path, self.compiler.version, *self._flags, *machine)
        )

    @property
    def name(self) -> str:
        """The name of its file in the cache."""
        return f"{self.key}.so"

    @property
    def is_trusted(self) -> bool:
        """Whether its first results have been compared with the reference."""
        return disk.find(f"{self.key}.trusted") is not None

    def trust(self) -> None:
        """Remember that they are right."""
        disk.store(f"{self.key}.trusted", self.key.encode())

    @property
    def _source(self) -> str:
        return (
            f"#define SOFIE_ENTRIES\n{self.text}\n"
            f'extern "C" __attribute__((visibility("default"))) const void *{_ENTRY}()\n'
            f"{{\n   return {self.namespace}::entries();\n}}\n"
        )

    @property
    def _flags(self) -> list[str]:
        return [*_FLAGS, *target_flags()]

    def cached(self) -> int | None:
        """The address of the entry points of the library in the cache, if it is there."""
        path = disk.path_of(self.name)
        if path is None or disk.find(self.name) is None:
            return None
        try:
            return _opened(path)
        except JitError:  # It needs what this machine does not have.
            disk.remove(self.name)
            return None

    def built(self) -> int:
        """The same for a library that is built now, and kept; `JitError` with the reason."""
        disk.remove(f"{self.key}.trusted")  # That was said of another one.
        with disk.workshop() as place, suppress(OSError):  # The cache may be full.
            if place is not None:
                finished = _build(place, self._source, self.compiler, self._flags)
                return _opened(disk.adopt(self.name, finished) or finished)
        try:
            with tempfile.TemporaryDirectory(prefix="sofie_rdf-") as temporary:
                return _opened(_build(Path(temporary), self._source, self.compiler, self._flags))
        except OSError as error:
            raise JitError(f"the emitted code cannot be written: {error.strerror}") from error

    def build_later(self) -> None:
        """Have it built by a process of lowest priority, for processes to come."""
        if os.environ.get("SOFIE_RDF_BACKGROUND", "").lower() == "off" or not fresh.interpreter():
            return
        if not disk.claim(f"{self.key}.job"):
            return  # Another process builds it, it cannot be built, or there is no cache.
        disk.store(f"{self.key}.cxx", self._source.encode())
        try:
            _hand_over([self.key, self.compiler.path, *self._flags])
        except OSError:  # Perhaps the next process can.
            disk.remove(f"{self.key}.cxx")
            disk.remove(f"{self.key}.job")


# The process in the background of this one: it builds one library after the other.
_builders: list[subprocess.Popen[bytes]] = []


def _hand_over(job: list[str]) -> None:
    """Let the process in the background build this as well; it ends when it is done and we are."""
    if not _builders or _builders[-1].poll() is not None:
        _builders.append(
            subprocess.Popen(
                fresh.command("sofie_rdf.runtime.compile.background"),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # It goes on when this process ends.
            )
        )
    pipe = _builders[-1].stdin
    assert pipe is not None
    # A pipe that is full of jobs takes no more: nobody waits for it.
    os.set_blocking(pipe.fileno(), False)
    os.write(pipe.fileno(), f"{json.dumps(job)}\n".encode())


def build_source(key: str, compiler: str, *flags: str) -> None:
    """What the process in the background does: the library from the source in the cache."""
    source = disk.find(f"{key}.cxx")
    with disk.workshop() as place:
        if place is not None and source is not None:
            # Where it fails, the job stays claimed, so that nobody tries again.
            with suppress(OSError):
                finished = _build(place, bytes(source).decode(), Compiler(compiler, ""), [*flags])
                disk.remove(f"{key}.trusted")
                disk.adopt(f"{key}.so", finished)
                disk.remove(f"{key}.job")
    disk.remove(f"{key}.cxx")


def _build(place: Path, source: str, compiler: Compiler, flags: list[str]) -> Path:
    """The library, made in this folder; OSError where that cannot be written."""
    written, finished = place / "model.cxx", place / "model.so"
    command = [compiler.path, *flags, written.name, "-o", finished.name]
    written.write_text(source)
    try:
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise JitError(f"{compiler.path} cannot be run: {error.strerror}") from error
    if done.returncode:
        raise JitError(
            f"{compiler.path} refused the emitted code:\n{done.stderr.strip()[-4000:]}",
            remedy='compiler="cling" does without it. g++ must be of version 11 or newer',
        )
    return finished


def _opened(path: Path) -> int:
    """The address of the table of entry points. The library stays for as long as the process."""
    try:
        library = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        raise JitError(f"the compiled library cannot be loaded: {error}") from error
    entry = getattr(library, _ENTRY)
    entry.restype, entry.argtypes = ctypes.c_void_p, []
    return int(entry())
