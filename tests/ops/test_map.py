"""Short functions element by element: rows of any length, at any place in memory."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import numpy as np
import pytest

from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, concrete
from sofie_rdf.ops.elementwise import Add, Max, Relu
from sofie_rdf.reference import evaluate
from sofie_rdf.runtime.compile.session import Compiled, compile_graph, pointers
from tests.passes.graphs import N, Net, floats

pytest.importorskip("ROOT")

RNG = np.random.default_rng(12)
# Rows that packs fill, and others; some so long that they are stored where packs begin.
LENGTHS = (*range(300), 784, 1000, 1023, 1024, 1025, 1039, 1151, 1152, 1300)
# Bytes behind the beginning of a line of memory: of inputs, and of outputs.
PLACES = ((0, 0), (0, 4), (16, 16), (36, 60), (48, 16))
LINE, GUARD = 64, -77.0


class Memory:
    """Numbers that begin so many bytes behind that of a line, among others that must stay."""

    def __init__(self, shape: tuple[int, ...], place: int) -> None:
        count = int(np.prod(shape))
        self._all = np.full(count + 3 * LINE // 4, GUARD, "f4")
        first = (-self._all.ctypes.data % LINE + place) // 4 + LINE // 4
        self._beside = self._all[:first], self._all[first + count :]
        self.array = self._all[first : first + count].reshape(shape)

    def assert_bounds(self) -> None:
        assert all(np.all(numbers == GUARD) for numbers in self._beside)


def _check(graph: Graph, compiled: Compiled, sizes: Mapping[str, int]) -> None:
    session = compiled.entries["create"](compiled.weights)
    for of_inputs, of_outputs in PLACES:
        given, to = (
            {name: Memory(concrete(graph.types[name].shape, sizes), place) for name in names}
            for names, place in ((graph.inputs, of_inputs), (graph.outputs, of_outputs))
        )
        feeds: dict[str, Array] = {name: memory.array for name, memory in given.items()}
        for x in feeds.values():
            x[...] = np.where(RNG.random(x.shape) < 0.02, np.nan, RNG.normal(size=x.shape))
        exact = evaluate(graph, feeds)
        known = (ctypes.c_size_t * max(1, len(sizes)))(*sizes.values())
        written = [memory.array for memory in to.values()]
        args = known, pointers(list(feeds.values())), pointers(written)
        assert not compiled.entries["call"](session, *args)
        for name, memory in to.items():
            np.testing.assert_array_equal(memory.array, exact[name], f"{name} {sizes}")
            memory.assert_bounds()
    compiled.entries["destroy"](session)


def test_rows_of_open_length() -> None:
    net = Net()
    net.input("x", floats(N))
    net.input("z", floats(N))
    net.op(Add(), "x", "z", name="sum")
    net.op(Relu(), "x", name="positive")
    graph = net.graph("sum", "positive")
    compiled = compile_graph(graph)
    for length in LENGTHS:
        _check(graph, compiled, {"N": length})


def test_rows_are_written_over_themselves() -> None:
    net = Net()
    net.input("x", floats(N))
    net.op(Add(), "x", "x", name="y")
    compiled = compile_graph(net.graph("y"))
    session = compiled.entries["create"](compiled.weights)
    for length in LENGTHS:
        x = RNG.normal(size=length).astype("f4")
        twice = x + x
        size = (ctypes.c_size_t * 1)(length)
        assert not compiled.entries["call"](session, size, pointers([x]), pointers([x]))
        np.testing.assert_array_equal(x, twice)
    compiled.entries["destroy"](session)


def test_rows_with_one_number_each() -> None:
    net = Net()
    lengths = (20, 100, 784, 1024, 1151)
    for length in lengths:
        net.input(f"x{length}", floats(3, length))
        net.input(f"z{length}", floats(3, 1))
        net.op(Max(), f"x{length}", f"z{length}", name=f"y{length}")
    graph = net.graph(*(f"y{length}" for length in lengths))
    _check(graph, compile_graph(graph), {})
