"""How long a Session takes: calls of its entry point in a C++ loop."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from functools import cache
from typing import Any

from sofie_rdf.ir.types import Array
from sofie_rdf.runtime.compile.interpreter import declare, import_root
from sofie_rdf.runtime.compile.session import Compiled, pointers

__all__ = ["InferLoop"]

_POINTER = ctypes.c_void_p
_SECONDS = ctypes.CFUNCTYPE(
    ctypes.c_double, _POINTER, _POINTER, ctypes.c_size_t, _POINTER, _POINTER, _POINTER
)


class InferLoop:
    """`Session::infer` into the caller's memory, in a C++ loop: what an event loop does."""

    def __init__(
        self, compiled: Compiled, feeds: Mapping[str, Array], sizes: Mapping[str, int]
    ) -> None:
        graph = compiled.graph
        compiled.infer(feeds, sizes)  # Raises what would end the process in the C++ loop.
        self._in = compiled.inputs(feeds, sizes)
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
        """The time of so many calls."""
        arguments = self._session, calls, self._sizes, *self._pointers
        return float(self._timer(self._call, *arguments))

    def outputs(self) -> list[Array]:
        """What the last call gave."""
        compiled = self._compiled
        found = {**self._out, **compiled.results(self._session)}
        return [found[name] for name in compiled.graph.outputs]


@cache
def _timer() -> Any:
    declare('#include "sofie/rdf/seconds.hxx"\n')
    return _SECONDS(int(import_root().sofie.address_of_seconds()))
