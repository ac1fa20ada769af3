"""How long each step of a network takes as it runs: its code with a clock between the steps."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from sofie_rdf.emit.profiled import Part, ProfiledEmitter
from sofie_rdf.errors import InputError, MissingDependency, ModelError
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array
from sofie_rdf.passes.memory import plan_memory
from sofie_rdf.runtime.compile.clock import InferLoop
from sofie_rdf.runtime.compile.prepare import program_of, runnable
from sofie_rdf.runtime.compile.session import Compiled, compile_program, pointers

__all__ = ["Timed", "profile"]

_ROUNDS, _SECONDS = 9, 0.03


@dataclass(frozen=True)
class Timed:
    """Seconds of one call: of each part, of what comes before them, and of the call as a whole.

    ``whole`` is that of the code without clocks. ``clock`` is what reading the clock takes, which
    is in each part once. All but ``whole`` are of one round, the fastest.
    """

    graph: Graph
    parts: tuple[Part, ...]
    seconds: tuple[float, ...]
    before: float
    clock: float
    whole: float
    calls: int

    @property
    def sum(self) -> float:
        """Of all parts and of what comes before them, without the clock."""
        return sum(map(self.net, (self.before, *self.seconds)))

    def net(self, seconds: float) -> float:
        """The time without that of the clock."""
        return max(seconds - self.clock, 0.0)


def profile(
    graph: Graph, compiled: Compiled, feeds: Mapping[str, Array], sizes: Mapping[str, int]
) -> Timed:
    """The times of an optimized graph, by the compiler that has compiled it; on one thread.

    `ModelError` where the code with clocks gives other numbers than the code without.
    """
    program = replace(program_of(graph, ProfiledEmitter), trials=lambda: iter(()))
    clocked = compile_program(program, compiled.compiler.rpartition("/")[2])
    own = runnable(graph)
    parts = ProfiledEmitter(own, plan_memory(own), graph.name, "profiled").parts
    loop = _Laps(clocked, feeds, sizes, len(parts))
    _require_same(loop, compiled.infer(feeds, sizes), graph)
    whole = _whole(compiled, feeds, sizes)
    calls = _calls(loop)
    rounds, least = [], float("inf")
    for _ in range(_ROUNDS):
        rounds.append(loop.seconds(calls))
        least = min(least, whole(calls))
    clocked.idle.append(loop.session)
    before, *seconds, clock = min(rounds, key=sum)
    return Timed(own, parts, tuple(seconds), before, clock, least, calls)


def _calls(loop: _Laps) -> int:
    start, calls = perf_counter(), 1
    while perf_counter() - start < _SECONDS:
        loop.seconds(1)
        calls += 1
    return calls


class _Laps:
    """Calls of the code with clocks, into memory of its own."""

    def __init__(
        self,
        compiled: Compiled,
        feeds: Mapping[str, Array],
        sizes: Mapping[str, int],
        parts: int,
    ) -> None:
        self.compiled, self.parts = compiled, parts
        self.out = compiled.buffers(sizes)
        self._in = compiled.inputs(feeds, sizes)
        symbols = compiled.graph.symbols
        self._sizes = (ctypes.c_size_t * max(1, len(symbols)))(*(sizes[s] for s in symbols))
        self.laps = np.zeros(parts + 3, np.uint64)
        written: Sequence[Any] = [self.out.get(name) for name in compiled.graph.outputs]
        self._pointers = pointers(self._in), pointers([*written, self.laps])
        self.session = compiled._borrow()
        self._tick = self._speed()

    def call(self) -> None:
        """One call; `InputError` with what the network says."""
        message = self.compiled.entries["call"](self.session, self._sizes, *self._pointers)
        if message:
            raise InputError(message.decode(errors="replace"))

    def seconds(self, calls: int) -> list[float]:
        """What one of so many calls took: before the steps, each step, and the clock."""
        self.laps[:] = 0
        for _ in range(calls):
            self.call()
        return [float(ticks) * self._tick / calls for ticks in self.laps[:-1]]

    def _speed(self) -> float:
        """The seconds of a tick."""
        found = []
        for _ in range(2):
            self.call()
            found.append((perf_counter(), int(self.laps[-1])))
            while perf_counter() - found[0][0] < _SECONDS:
                self.call()
        (start, first), (end, last) = found
        return (end - start) / max(1, last - first)

    def outputs(self) -> dict[str, Array]:
        """What the last call gave."""
        return {**self.out, **self.compiled.results(self.session)}


def _whole(compiled: Compiled, feeds: Mapping[str, Array], sizes: Mapping[str, int]) -> Any:
    """Seconds of one of so many calls of the code as it is."""
    with suppress(MissingDependency):  # The loop in C++ is compiled by ROOT's interpreter.
        loop = InferLoop(compiled, feeds, sizes)
        return lambda calls: loop.seconds(calls) / calls
    own = compiled.inputs(feeds, sizes)
    buffers = compiled.buffers(sizes)
    out = [buffers.get(name) for name in compiled.graph.outputs]

    def seconds(calls: int) -> float:
        start = perf_counter()
        for _ in range(calls):
            compiled._call(own, out, sizes)
        return (perf_counter() - start) / calls

    return seconds


def _require_same(loop: _Laps, wanted: Mapping[str, Array], graph: Graph) -> None:
    loop.call()
    for name, array in loop.outputs().items():
        if not np.array_equal(array, wanted[name], equal_nan=array.dtype.kind in "fc"):
            raise ModelError(
                f"output {name!r} has other numbers where times are taken",
                place=graph.name,
                remedy="This is a bug of sofie_rdf: please report it",
            )
