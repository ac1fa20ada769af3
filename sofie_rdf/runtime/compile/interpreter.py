"""ROOT's interpreter, Cling: text is declared once per process, and errors become exceptions."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from sofie_rdf.emit.code import include_directory
from sofie_rdf.errors import JitError, MissingDependency
from sofie_rdf.runtime.compile.cpu import instruction_set

__all__ = [
    "declare",
    "has_header",
    "import_cppyy",
    "import_root",
    "include_from",
    "instruction_set",
    "quietly",
    "tell_of_headers",
]

T = TypeVar("T")

# Where an interpreter looks for headers, which it reads when it starts.
_INCLUDE_PATH = "ROOT_INCLUDE_PATH"

_lock = threading.Lock()
_safe: list[bool] = []  # Whether ROOT knows that there are threads.
_capturing = threading.RLock()
# No process is forked while another thread of it is in the interpreter, or catches its messages.
# What is registered last is acquired first, as everywhere else.
for _each in (_capturing, _lock):
    os.register_at_fork(
        before=_each.acquire, after_in_parent=_each.release, after_in_child=_each.release
    )
_declared: set[str] = set()
_folders: set[Path] = set()


def import_root() -> Any:
    """The ROOT module, imported when it is needed; `MissingDependency` without it.

    Where Python has several threads, ROOT is told so (``ROOT.EnableThreadSafety()``): an event loop
    lets other threads run, and Cling crashes, or loops, where two of them compile at once.
    """
    try:
        import ROOT
    except ImportError as error:
        raise MissingDependency(
            "this needs ROOT with its Python bindings",
            remedy="pip install root   (or use the ROOT of conda-forge or of your experiment)",
        ) from error
    if threading.active_count() > 1 and not _safe:
        ROOT.EnableThreadSafety()
        _safe.append(True)
    return ROOT


def import_cppyy() -> Any:
    """The module cppyy of PyROOT: since ROOT 6.40 an attribute of ROOT, before that a package."""
    root = import_root()
    try:
        return root._cppyy
    except AttributeError:
        return import_module("cppyy")


@cache
def _prelude() -> str:
    """What stands before everything: the instruction set, which Cling does not know.

    A header that was included by itself may have come first, and may have chosen already.
    """
    chosen = instruction_set()
    lines = ["#ifndef SOFIE_CLING", "#define SOFIE_CLING", "#endif"]
    lines += ["#if !defined(SOFIE_CHOSEN) && !defined(SOFIE_SIMD_HXX)", "#define SOFIE_CHOSEN"]
    lines += [f"#undef SOFIE_{name}" for name in ("TARGET_HXX", "BEGIN", "END", "SIMD_BYTES")]
    lines += [f"#define SOFIE_SIMD_BYTES {chosen.simd_bytes}"]
    if chosen.target:
        lines.append(f'#define SOFIE_TARGET "{chosen.target}"')
    return "\n".join([*lines, "#endif", '#include "sofie/target.hxx"', ""])


def declare(text: str) -> None:
    """Compile ``text`` in Cling, unless this process has done so; `JitError` with its message."""
    key = hashlib.sha256(text.encode()).hexdigest()
    with _lock:
        if key in _declared:
            return
        _prepare()
        ok, message = _declare_quietly(text)
        if not ok:
            raise JitError(
                f"ROOT's interpreter refused the emitted code:\n{message.strip()}",
                remedy="This is a bug of sofie_rdf (or of your own operator's header). Cling may "
                "not recover: go on in a new process",
            )
        _declared.add(key)


@cache
def _prepare() -> None:
    root = import_root()
    root.gInterpreter.AddIncludePath(str(include_directory()))
    ok, message = _declare_quietly(_prelude())
    if not ok:
        raise JitError(f"ROOT's interpreter does not work: {message}")


def include_from(folder: Path) -> None:
    """Look for headers there, too."""
    with _lock:
        _prepare()
        if folder not in _folders:
            import_root().gInterpreter.AddIncludePath(str(folder))
            _folders.add(folder)


def tell_of_headers(folders: Iterable[Path]) -> None:
    """Let the interpreter look for headers there, also where ROOT is imported later."""
    names = [str(folder) for folder in folders]
    if sys.modules.get("ROOT"):
        for name in names:
            import_root().gInterpreter.AddIncludePath(name)
        return
    known = [name for name in os.environ.get(_INCLUDE_PATH, "").split(os.pathsep) if name]
    new = [name for name in dict.fromkeys(names) if name not in known]
    if new:
        os.environ[_INCLUDE_PATH] = os.pathsep.join([*known, *new])


def has_header(name: str) -> bool:
    """Whether the interpreter finds this header."""
    with _lock:
        _prepare()
        return _declare_quietly(f"#if !__has_include(<{name}>)\n#error absent\n#endif\n")[0]


def _declare_quietly(text: str) -> tuple[bool, str]:
    text = _INCLUDE.sub(_absolute, text)
    ok, message = quietly(lambda: import_root().gInterpreter.Declare(text))
    return bool(ok), message


_INCLUDE = re.compile(r'^#include "([^"\n]+)"$', re.MULTILINE)


def _absolute(line: re.Match[str]) -> str:
    """The same header wherever the user stands: Cling looks in the current folder first."""
    for folder in (include_directory(), *_folders):
        path = folder / line[1]
        if path.is_file() and not re.search(r'["\\\n]', str(path)):
            return f'#include "{path}"'
    return f"#include <{line[1]}>"


def quietly(action: Callable[[], T]) -> tuple[T, str]:
    """The result of the action, and what it made C++ write to the error stream.

    One thread at a time: all of them have one error stream, and who puts it back must have seen
    the true one.
    """
    with _capturing, _stderr() as captured:
        result = action()
    return result, captured()


@contextmanager
def _stderr() -> Iterator[Callable[[], str]]:
    """Catches what C++ writes to the error stream; on leaving, the result is callable."""
    text = ""
    with ExitStack() as stack:
        file = None
        with suppress(OSError):  # Without it, messages go where they always go.
            file = _caught(stack)
        try:
            yield lambda: text
        finally:
            if file is not None:
                text = _content(file)


def _caught(stack: ExitStack) -> int | None:
    """The file to which C++ writes its messages from now on; None where it cannot be told to."""
    # Python may have no error stream, one of a notebook, or one that is closed.
    with suppress(AttributeError, ValueError, OSError):
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:
        saved = -1  # It is closed (2>&-), and is so again afterwards.
    else:
        stack.callback(os.close, saved)
        if sys.__stderr__ is None:
            return None  # It was closed when Python started: number 2 is somebody's file by now.
    file = _nameless()
    if file == 2:
        stack.callback(os.close, file)
        return file
    stack.callback(os.close, file)
    os.dup2(file, 2)
    stack.callback(*((os.close, 2) if saved < 0 else (os.dup2, saved, 2)))
    return file


def _nameless() -> int:
    """A file that has no name, and is gone when it is closed."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("sofie_rdf")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _content(file: int) -> str:
    """All that has been written to a file."""
    size = os.fstat(file).st_size
    return os.pread(file, size, 0).decode(errors="replace")
