"""Our own Session as a contestant: called from a C++ loop, and from Python."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.bench.measure import python_seconds
from sofie_rdf.ir.types import Array
from sofie_rdf.model import Model
from sofie_rdf.runtime.interpreter import declare, import_root
from sofie_rdf.runtime.session import Compiled, pointers

__all__ = ["OurCall", "OurPython", "stopwatch"]

_SECONDS = ctypes.CFUNCTYPE(
    ctypes.c_double,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
)


def stopwatch() -> str:
    """The C++ loops that take the time; they are declared once."""
    return Path(__file__).with_name("stopwatch.hxx").read_text()


class OurCall:
    """`Session::infer` into the caller's memory, in a C++ loop: what an event loop does."""

    def __init__(
        self, compiled: Compiled, feeds: Mapping[str, Array], sizes: Mapping[str, int]
    ) -> None:
        graph = compiled.graph
        compiled.infer(feeds, sizes)  # Raises what would end the process in the C++ loop.
        self._in = [np.ascontiguousarray(feeds[name]) for name in graph.inputs]
        self._out = compiled.buffers(sizes)
        self._sizes = (ctypes.c_size_t * max(1, len(sizes)))(*(sizes[s] for s in graph.symbols))
        written = [self._out.get(name) for name in graph.outputs]
        self._pointers = pointers(self._in), pointers(written)
        self._compiled = compiled  # Keeps the weights alive.
        self._session = compiled.entries["create"](compiled.weights)
        weakref.finalize(self, compiled.entries["destroy"], self._session)
        self._call = ctypes.cast(compiled.entries["call"], ctypes.c_void_p)
        self._timer = _timer()

    def seconds(self, calls: int) -> float:
        arguments = self._session, calls, self._sizes, *self._pointers
        return float(self._timer(self._call, *arguments))

    def outputs(self) -> list[Array]:
        compiled = self._compiled
        found = {**self._out, **compiled.results(self._session)}
        return [found[name] for name in compiled.graph.outputs]


@cache
def _timer() -> Any:
    declare(stopwatch())
    return _SECONDS(int(import_root().sofie.bench.session_seconds_address()))


class OurPython:
    """``model(x)``: with the checks and the new arrays of every call from Python."""

    def __init__(self, model: Model, feeds: Mapping[str, Array]) -> None:
        self._model, self._feeds = model, dict(feeds)

    def seconds(self, calls: int) -> float:
        return python_seconds(lambda: self._model(self._feeds), calls)

    def outputs(self) -> list[Array]:
        found = self._model(self._feeds)
        return list(found.values()) if isinstance(found, dict) else [found]
