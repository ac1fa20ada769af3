"""Random numbers as numbers: known answers of Philox, distributions, and that nothing is related.

All seeds are fixed, so that a test passes always or never.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.rows import ROWS, rows_for
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.draws import numbered, with_rows
from sofie_rdf.ops.random import (
    Bernoulli,
    Multinomial,
    RandomNormalLike,
    RandomUniformLike,
    philox,
)
from sofie_rdf.reference import evaluate
from sofie_rdf.runtime.compile.session import Compiled, compile_graph

COUNT = 20_000
X = TensorType(DType.FLOAT64, (symbol("N"), 4))


def test_philox_gives_the_answers_of_its_authors() -> None:
    """Random123's kat_vectors of philox4x32 with 10 rounds."""
    ones = 2**32 - 1
    pi = 0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344
    cases = [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (pi, 0x299F31D0A4093822, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ]
    for counter, key, wanted in cases:
        words = [np.array([word], np.uint64) for word in counter]
        found = philox(words, np.array([key], np.uint64))
        assert [int(word[0]) for word in found] == list(wanted)


def drawn() -> Graph:
    """Two normal and two uniform draws of four numbers in a row."""
    build = Builder("drawn")
    x = build.input("x", X)
    names = ("n0", "n1", "u0", "u1")
    kinds = (RandomNormalLike, RandomNormalLike, RandomUniformLike, RandomUniformLike)
    for name, kind in zip(names, kinds, strict=True):
        build(kind(), x, outputs=[name])
    return with_rows(build.graph(*names))


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_graph(drawn())


def numbers(compiled: Compiled, rows: Array) -> dict[str, Array]:
    x = np.zeros((len(rows), 4))
    return compiled.infer({"x": x, ROWS: rows}, {"N": len(rows)})


@pytest.fixture(scope="module")
def found(compiled: Compiled) -> dict[str, Array]:
    return numbers(compiled, rows_for(np.arange(COUNT), 11))


def test_the_kernel_has_the_bits_of_the_reference(found: dict[str, Array]) -> None:
    wanted = evaluate(drawn(), {"x": np.zeros((COUNT, 4)), ROWS: rows_for(np.arange(COUNT), 11)})
    for name in ("u0", "u1"):
        assert np.array_equal(found[name], wanted[name])
    for name in ("n0", "n1"):
        assert np.max(np.abs(found[name] - wanted[name])) < 1e-13


def kolmogorov(values: Array, distribution: Array) -> float:
    """sqrt(n) times the largest distance; above 1.95 in one of 1000 samples."""
    n, at = len(values), np.arange(len(values))
    return math.sqrt(n) * float(
        np.max(np.maximum(distribution - at / n, (at + 1) / n - distribution))
    )


def test_normal_numbers_are_normal(found: dict[str, Array]) -> None:
    for name in ("n0", "n1"):
        values = np.sort(found[name].ravel())
        n = len(values)
        assert abs(values.mean()) < 4 / math.sqrt(n)
        assert abs(values.var() - 1) < 4 * math.sqrt(2 / n)
        assert abs((values**3).mean()) < 4 * math.sqrt(15 / n)
        assert abs((values**4).mean() - 3) < 4 * math.sqrt(96 / n)
        below = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in values])
        assert kolmogorov(values, below) < 1.95


def test_uniform_numbers_are_uniform(found: dict[str, Array]) -> None:
    for name in ("u0", "u1"):
        values = np.sort(found[name].ravel())
        assert values[0] >= 0 and values[-1] < 1
        assert abs(values.mean() - 0.5) < 4 / math.sqrt(12 * len(values))
        assert kolmogorov(values, values) < 1.95


def correlation(a: Array, b: Array) -> float:
    """In units of what chance gives."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) * math.sqrt(a.size)


def test_neighbours_have_nothing_to_do_with_each_other(found: dict[str, Array]) -> None:
    """Entries, numbers within a row, and operators; numbers and their squares."""
    for name in ("n0", "u0"):
        values = found[name] - found[name].mean()
        for power in (values, values**2):
            assert abs(correlation(power[:-1], power[1:])) < 4
            assert abs(correlation(power[:, :-1], power[:, 1:])) < 4
    for one, other in (("n0", "n1"), ("u0", "u1"), ("n0", "u0"), ("n1", "u1")):
        assert abs(correlation(found[one], found[other])) < 4
        assert abs(correlation(found[one] ** 2, found[other] ** 2)) < 4


@pytest.mark.parametrize("column", [0, 1, 2], ids=["seed", "entry", "object"])
def test_rows_that_differ_in_one_thing_are_unrelated(compiled: Compiled, column: int) -> None:
    rows = rows_for(np.full(COUNT, 5), 3, 2)
    rows[:, column] = np.arange(COUNT)
    values = numbers(compiled, rows)["n0"]
    assert len(np.unique(values)) == values.size
    assert abs(values.mean()) < 4 / math.sqrt(values.size)
    assert abs(correlation(values[:-1], values[1:])) < 4


def test_large_entries_and_seeds_are_told_apart(compiled: Compiled) -> None:
    every = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1]
    rows = np.array([(s, e, o) for s in every for e in every for o in (0, 1, 2**31)], np.uint64)
    values = numbers(compiled, rows)
    for name in ("n0", "u0"):
        assert len(np.unique(values[name])) == values[name].size


def test_draws_have_the_probabilities_that_are_asked_for() -> None:
    build = Builder("chances")
    x = build.input("x", TensorType(DType.FLOAT32, (symbol("N"), 3)))
    build(Bernoulli(), x, outputs=["b"])
    build(Multinomial(sample_size=2), x, outputs=["m"])
    chances = np.float32([0.2, 0.5, 0.9])
    found = compile_graph(build.graph("b", "m")).infer(
        {"x": np.tile(chances, (COUNT, 1))}, {"N": COUNT}
    )
    errors = np.sqrt(chances * (1 - chances) / COUNT)
    assert np.all(np.abs(found["b"].mean(0) - chances) < 4 * errors)
    wanted = np.exp(chances) / np.exp(chances).sum()
    counts = np.bincount(found["m"].ravel(), minlength=3) / found["m"].size
    assert np.all(np.abs(counts - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / found["m"].size))
    assert abs(correlation(found["m"][:, 0], found["m"][:, 1])) < 4


def test_numbers_of_operators_stay() -> None:
    graph = numbered(drawn())
    assert [node.op.node for node in graph.nodes] == [0, 1, 2, 3]  # type: ignore[attr-defined]
    assert numbered(graph) is graph and with_rows(graph) is graph
