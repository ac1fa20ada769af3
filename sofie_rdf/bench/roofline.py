"""What this machine can do at best, what a network needs, and the least time that follows.

The roofline: a network cannot be faster than its multiplications at the peak rate of the CPU, nor
than its weights and values can be read from the cache that holds them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.ir.dims import Dim, evaluate
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.model import Model
from sofie_rdf.runtime.compile.interpreter import declare, import_root

__all__ = [
    "Bound",
    "Level",
    "NodeWork",
    "Roofline",
    "Work",
    "cache_sizes",
    "header",
    "measure",
    "work_of",
    "works_of",
]


@dataclass(frozen=True)
class Level:
    """A cache, or the memory behind all of them (``nbytes`` is 0 then): bytes read in a second."""

    name: str
    nbytes: int
    bandwidth: float

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "bytes": self.nbytes, "gb_per_s": self.bandwidth / 1e9}

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Level:
        return cls(read["name"], read["bytes"], read["gb_per_s"] * 1e9)


@dataclass(frozen=True)
class Roofline:
    """The peak of one core: float32 operations in a second, and its caches, the nearest first."""

    flops: float
    levels: tuple[Level, ...]

    def level_for(self, nbytes: float) -> Level:
        """The nearest that holds so many bytes."""
        return next((v for v in self.levels if v.nbytes >= nbytes), self.levels[-1])

    def to_json(self) -> dict[str, Any]:
        levels = [level.to_json() for level in self.levels]
        return {"gflop_per_s": self.flops / 1e9, "levels": levels}

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Roofline:
        levels = tuple(Level.from_json(level) for level in read["levels"])
        return cls(read["gflop_per_s"] * 1e9, levels)


# The machine --------------------------------------------------------------------------------------

_SECONDS, _TURNS = 0.004, 10
# Behind the last cache, where its size is not known or is that of a whole server.
_MOST_BYTES = 1 << 30


def header() -> str:
    """The C++ loops, which are declared once."""
    return Path(__file__).with_name("roofline.hxx").read_text()


def measure() -> Roofline:
    """The fastest of several turns: it takes about a second."""
    declare(header())
    loops = import_root().sofie.bench.Roofline
    compute = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_size_t)(int(loops.compute_address()))
    read = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)(
        int(loops.read_address())
    )
    flops, step = int(loops.flops_per_round), int(loops.bytes_per_round)
    sizes = cache_sizes()
    buffers = _buffer_sizes(list(sizes.values()), step)
    memory = np.ones(max(buffers) + 4096, np.uint8)
    start = -(-memory.ctypes.data // 4096) * 4096
    levels = [
        Level(name, size, nbytes * _best(partial(read, start, nbytes)))
        for (name, size), nbytes in zip((*sizes.items(), ("memory", 0)), buffers, strict=True)
    ]
    return Roofline(flops * _best(compute), tuple(levels))


def _best(seconds: Callable[[int], float]) -> float:
    """How often in a second it can be done; ``seconds(times)`` does it so many times."""
    times = 1
    while (taken := seconds(times)) < _SECONDS / 4:
        times *= 2
    times = max(1, round(times * _SECONDS / taken))
    return times / min(seconds(times) for _ in range(_TURNS))


def _buffer_sizes(caches: list[int], step: int) -> list[int]:
    """What is read: half of each cache, so that it stays there; and far more than the last one.

    Of a cache that others use too, such as that of a whole server, a few times the one before.
    """
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // 4
    wanted = [size // 2 for size in caches[:2]]
    wanted += [min(size // 2, 8 * before) for before, size in pairwise(caches[1:])]
    wanted.append(min(max(2 * caches[-1], 1 << 28), _MOST_BYTES, room))
    return [size // step * step for size in wanted]


def cache_sizes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, int]:
    """Bytes of L1 (for data), L2 and L3 of one core, as the system knows them."""
    found: dict[int, int] = {}
    for index in sorted(folder.glob("index*")):
        kind, level, size = ((index / n).read_text().strip() for n in ("type", "level", "size"))
        if kind != "Instruction":
            found[int(level)] = _bytes(size)
    if not found:
        names = {1: "SC_LEVEL1_DCACHE_SIZE", 2: "SC_LEVEL2_CACHE_SIZE", 3: "SC_LEVEL3_CACHE_SIZE"}
        known = {n: os.sysconf(s) for n, s in names.items() if s in os.sysconf_names}
        found = {n: size for n, size in known.items() if size > 0}
    # What is small everywhere, where nothing is known.
    found = found or {1: 32 << 10, 2: 512 << 10}
    return {f"L{level}": found[level] for level in sorted(found)}


def _bytes(text: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text.rstrip("KMG")) * units.get(text[-1:], 1)


# The network --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bound:
    """The least time of a call in seconds, and what sets it: ``arithmetic`` or a cache."""

    seconds: float
    by: str


@dataclass(frozen=True)
class Work:
    """What one call needs: operations, and bytes.

    ``steps`` are the bytes of values that each node reads and writes, which come from the nearest
    cache that holds them. ``resident`` is all memory that a call touches.
    """

    flops: float
    weights: int
    steps: tuple[int, ...]
    resident: int

    @property
    def values(self) -> int:
        return sum(self.steps)

    @property
    def intensity(self) -> float:
        """Operations for each byte that is read or written."""
        return self.flops / max(1, self.weights + self.values)

    def home(self, machine: Roofline) -> Level:
        """Where the weights come from when the network is called again and again."""
        return machine.level_for(self.resident)

    def least(self, machine: Roofline) -> Bound:
        """The least time on this machine; nothing is said of networks without multiplications.

        What trees and tables read depends on the data.
        """
        if not self.flops:
            return Bound(0.0, "-")
        arithmetic = self.flops / machine.flops
        home = self.home(machine)
        moved = sum(n / machine.level_for(n).bandwidth for n in self.steps)
        reading = self.weights / home.bandwidth + moved
        if arithmetic >= reading:
            return Bound(arithmetic, "arithmetic")
        weighty = self.weights / home.bandwidth > moved
        return Bound(reading, f"weights from {home.name}" if weighty else "values")

    def distance(self, seconds: float, machine: Roofline) -> float | None:
        """How many times the least time this is; None where nothing is said of that."""
        least = self.least(machine).seconds
        return seconds / least if least else None

    def to_json(self) -> dict[str, Any]:
        return {
            "flops": self.flops,
            "weight_bytes": self.weights,
            "value_bytes": self.values,
            "resident_bytes": self.resident,
            "steps": list(self.steps),
        }

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Work:
        steps = tuple(read["steps"])
        return cls(read["flops"], read["weight_bytes"], steps, read["resident_bytes"])


def work_of(model: Model, sizes: Mapping[str, int]) -> Work:
    """What the optimized network needs at least, for these sizes.

    Only multiplications with addition count as operations. What depends on sizes that only the data
    decide, and what happens in the bodies of loops and branches, does not count.
    """
    graph = model.optimized
    every = [w for w, node in zip(works_of(graph, sizes), graph.nodes, strict=True)
             if not node.op.is_alias]  # fmt: skip
    steps = tuple(work.values for work in every)
    flops = sum(work.flops for work in every)
    weights = sum(work.weights for work in every)
    ports = _bytes_of(graph, (*graph.inputs, *graph.outputs), sizes)
    return Work(flops, weights, steps, weights + ports + _number(model.plan.nbytes, sizes))


@dataclass(frozen=True)
class NodeWork:
    """What one node needs at least: operations, bytes of constants, bytes of values."""

    flops: float
    weights: int
    values: int

    def least(self, machine: Roofline, home: Level) -> float:
        """The least seconds on this machine, where the weights come from ``home``."""
        moved = self.values / machine.level_for(self.values).bandwidth
        return max(self.flops / machine.flops, self.weights / home.bandwidth + moved)


def works_of(graph: Graph, sizes: Mapping[str, int]) -> tuple[NodeWork, ...]:
    """What each node needs, for these sizes; see `work_of`."""
    used = {*graph.outputs, *(name for node in graph.nodes for name in node.inputs)}
    return tuple(
        NodeWork(
            _flops(graph, node, sizes),
            _weight_bytes(graph, node, sizes),
            _moved(graph, node, used, sizes),
        )
        for node in graph.nodes
    )


def _flops(graph: Graph, node: Node, sizes: Mapping[str, int]) -> float:
    """Float64 counts twice: half as many of them fit in a register."""
    types = [graph.types[name] if name else None for name in node.inputs]
    width = max((graph.types[name].dtype.nbytes for name in node.outputs), default=4)
    return 2.0 * _number(node.op.multiply_adds(types), sizes) * (2 if width == 8 else 1)


def _moved(graph: Graph, node: Node, used: Set[str], sizes: Mapping[str, int]) -> int:
    """The bytes of values that a node reads and writes; nobody needs the outputs not ``used``."""
    read = (n for n in dict.fromkeys(node.inputs) if n and n not in graph.constants)
    taken = _bytes_of(graph, read, sizes)
    given = _bytes_of(graph, (n for n in node.outputs if n in used), sizes)
    # What only moves elements may read a few of them.
    return given + (min(taken, given) if node.op.moves else taken)


def _weight_bytes(graph: Graph, node: Node, sizes: Mapping[str, int]) -> int:
    """The constants that a node reads: all in a matrix product, else no more than it has values."""
    nbytes = _bytes_of(graph, (n for n in node.inputs if n in graph.constants), sizes)
    if _flops(graph, node, sizes):
        return nbytes
    return min(nbytes, _bytes_of(graph, node.outputs, sizes))


def _bytes_of(graph: Graph, values: Iterable[str], sizes: Mapping[str, int]) -> int:
    return sum(_number(graph.types[name].nbytes, sizes) for name in values)


def _number(dim: Dim, sizes: Mapping[str, int]) -> int:
    """0 where it is not known."""
    try:
        return max(0, evaluate(dim, sizes))
    except (KeyError, ArithmeticError, ValueError):
        return 0
