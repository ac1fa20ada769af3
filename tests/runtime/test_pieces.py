"""Large batches: in pieces and on several threads, with the numbers of single rows."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from sofie_rdf.emit.pieces import LEAST, Pieces
from sofie_rdf.errors import InputError
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.types import Array
from sofie_rdf.model import Model
from sofie_rdf.runtime.compile import pieces
from sofie_rdf.runtime.compile.pieces import in_pieces, rows_that_fit, threads
from tests.passes.test_places import Edges, flattened
from tests.runtime.test_objects import linear, network

pytest.importorskip("ROOT")


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three threads, for however little."""
    monkeypatch.setenv("SOFIE_RDF_THREADS", "3")
    monkeypatch.setattr(pieces, "_WORTH_IT", 0.0)


def calls_of(rows: int, step: int, long: float = 0.0) -> tuple[list[tuple[int, int]], set[int]]:
    """The calls that are made, in order of their rows, and the threads that make them."""
    calls, used = [], set()

    def call(begin: int, end: int) -> None:
        used.add(threading.get_ident())
        time.sleep(long)
        calls.append((begin, end))

    in_pieces(call, rows, step)
    return sorted(calls), used


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("rows", [1, 2, 5, 99, 100, 101, 12345])
@pytest.mark.parametrize("step", [1, 7, 100])
def test_every_row_is_in_one_piece(rows: int, step: int) -> None:
    calls, _ = calls_of(rows, min(step, rows))
    assert calls[0][0] == 0 and calls[-1][1] == rows
    assert all(one[1] == other[0] for one, other in pairwise(calls))
    assert all(begin < end for begin, end in calls)


@pytest.mark.usefixtures("three")
def test_threads_share_the_pieces() -> None:
    assert len(calls_of(100, 5, long=0.01)[1]) == 3


def test_little_work_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFIE_RDF_THREADS", "3")
    monkeypatch.setattr(pieces, "_WORTH_IT", 1e9)
    assert len(calls_of(100, 5, long=0.001)[1]) == 1


@pytest.mark.usefixtures("three")
def test_what_one_piece_raises_ends_the_others() -> None:
    calls = []

    def call(begin: int, end: int) -> None:
        calls.append(begin)
        time.sleep(0.002)
        if begin <= 50 < end:
            raise InputError("row 50")

    with pytest.raises(InputError, match="row 50"):
        in_pieces(call, 10_000, 10)
    assert len(calls) < 100


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOFIE_RDF_THREADS", raising=False)
    assert threads() == 1
    monkeypatch.setenv("SOFIE_RDF_THREADS", "8")
    assert threads() == 8
    monkeypatch.setenv("SOFIE_RDF_THREADS", "many")
    with pytest.raises(InputError, match="SOFIE_RDF_THREADS is 'many'"):
        threads()


def test_threads_are_those_of_roots_pool() -> None:
    code = (
        "import ROOT\nfrom sofie_rdf.runtime.compile.pieces import threads\n"
        "ROOT.EnableImplicitMT(2)\nprint(threads())"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "2\n"


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("rows", [4096, 4097, 50_001])
def test_a_batch_in_pieces_has_the_bits_of_its_rows(rows: int) -> None:
    model, x = linear(), np.random.default_rng(rows).normal(size=(rows, 3)).astype("f4")
    whole = model(x)
    some = [0, 1, 4095, rows // 2, rows - 2, rows - 1]
    assert whole.shape[0] == rows
    for i in some:
        np.testing.assert_array_equal(whole[i : i + 1], model(x[i : i + 1]))
    np.testing.assert_array_equal(whole, np.concatenate([model(p) for p in np.split(x, [7, 2000])]))


@pytest.mark.usefixtures("three")
def test_a_table_of_all_points_in_pieces_has_the_bits_of_its_rows() -> None:
    graph = flattened(Edges())
    model, feeds, random = Model(graph), {}, np.random.default_rng(1)
    for name, last in zip(graph.inputs, (3, 9), strict=True):
        feeds[name] = random.normal(size=(7001, 9, last)).astype("f4")
    whole = model(feeds)
    assert len(whole) == 7001
    for i in (0, 5, 999, 3501, 7000):
        row = model({name: a[i : i + 1] for name, a in feeds.items()})
        np.testing.assert_array_equal(whole[i : i + 1], row)


@pytest.mark.usefixtures("three")
def test_rows_that_see_each_other_are_one_piece() -> None:
    nodes = [helper.make_node("ReduceMax", ["x"], ["m"], axes=[0], keepdims=1)]
    nodes += [helper.make_node("Sub", ["x", "m"], ["y"])]
    model = network(nodes, {"x": ["N", 3]}, {"y": ["N", 3]})
    x = np.random.default_rng(1).normal(size=(50_000, 3)).astype("f4")
    np.testing.assert_array_equal(model(x), x - x.max(axis=0))


@pytest.mark.usefixtures("three")
def test_an_error_in_one_piece_is_raised_and_the_model_stays() -> None:
    nodes = [helper.make_node("Gather", ["table", "i"], ["y"], axis=0)]
    table: dict[str, Any] = {"table": np.arange(10, dtype=np.float32)}
    model = network(nodes, {"i": (TensorProto.INT64, ["N", 1])}, {"y": ["N", 1]}, **table)
    i = np.random.default_rng(1).integers(0, 10, (100_000, 1))
    np.testing.assert_array_equal(model(i), i.astype(np.float32))
    i[77_777] = 10
    with pytest.raises(InputError, match="index"):
        model(i)
    np.testing.assert_array_equal(model(i[:77_777]), i[:77_777].astype(np.float32))


def test_pieces_fit_into_a_cache() -> None:
    assert rows_that_fit(7, 0, LEAST) == rows_that_fit(0, 0, LEAST) == 4096
    assert rows_that_fit(3 * 224 * 224, 0, LEAST) == rows_that_fit(7, 1 << 30, LEAST) == 1
    assert rows_that_fit(7, 100_000, LEAST) == 10


def test_scratch_memory_is_that_of_a_piece() -> None:
    # From 4 numbers 40,000, of which the last node makes one again.
    wide = np.ones((4, 40_000), np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Exp", ["a"], ["b"])]
    nodes += [helper.make_node("ReduceMean", ["b"], ["y"], axes=[1])]
    model = network(nodes, {"x": ["N", 4]}, {"y": ["N", 1]}, w=wide)
    x = np.random.default_rng(1).normal(size=(3000, 4)).astype("f4")
    np.testing.assert_allclose(model(x)[:, 0], np.exp(x.sum(axis=1, dtype="f8")), rtol=1e-4)
    # All of them would be 480 MB.
    assert 1 <= model.compiled.rows_at_once("N", 4, {"N": len(x)}) <= 6


# Pieces inside of infer ---------------------------------------------------------------------------


def wide(columns: int | str) -> Model:
    """From a few numbers many, of which the last node makes one again; and twice the numbers."""
    nodes = [helper.make_node("Tile", ["x", "times"], ["a"])]
    nodes += [helper.make_node("Exp", ["a"], ["b"]), helper.make_node("Sin", ["b"], ["c"])]
    nodes += [helper.make_node("Mul", ["b", "c"], ["d"])]
    nodes += [helper.make_node("ReduceMean", ["d"], ["y"], axes=[1])]
    nodes += [helper.make_node("Add", ["k", "k"], ["twice"])]
    inputs = {"k": (TensorProto.INT64, ["N", 2, 3]), "x": ["N", columns]}
    outputs = {"twice": (TensorProto.INT64, ["N", 2, 3]), "y": ["N", 1]}
    return network(nodes, inputs, outputs, times=np.array([1, 10_000]))


def at_once(model: Model, feeds: dict[str, Array], **sizes: int) -> list[Array]:
    """What one call of `infer` gives, which Python does not cut into pieces."""
    compiled = model.compiled
    inputs = compiled.inputs(feeds, sizes)
    found = {name: np.zeros_like(a) for name, a in compiled.buffers(sizes).items()}
    outputs = [found[name] for name in compiled.graph.outputs]
    compiled._call(inputs, outputs, sizes)
    return outputs


@pytest.mark.parametrize("columns", [4, "M"])
def test_infer_takes_a_piece_after_the_other_and_gives_the_bits_of_rows(columns: Any) -> None:
    model, random = wide(columns), np.random.default_rng(1)
    assert "sofie::in_pieces(" in model.emission.header
    # A row takes 160 kB or 320 kB, and some pieces have a row less.
    feeds = {"x": random.normal(size=(101, 4)).astype("f4")}
    feeds["k"] = random.integers(0, 100, (101, 2, 3))
    sizes = {"N": 101} if columns == 4 else {"N": 101, "M": 4}
    twice, y = at_once(model, feeds, **sizes)
    np.testing.assert_array_equal(twice, 2 * feeds["k"])
    for i in (0, 1, 49, 50, 51, 99, 100):
        row = model({name: a[i : i + 1] for name, a in feeds.items()})
        np.testing.assert_array_equal(y[i : i + 1], row["y"])
    assert LEAST / 2 < model.emission.pieces.most(sizes) <= LEAST + 400_000
    assert model.emission.pieces.most({**sizes, "N": 1}) < 400_000


def test_random_numbers_are_those_of_the_rows_of_a_piece() -> None:
    nodes = [helper.make_node("Expand", ["x", "size"], ["w"])]
    nodes += [helper.make_node("RandomNormalLike", ["w"], ["a"])]
    nodes += [helper.make_node("Exp", ["a"], ["b"]), helper.make_node("Mul", ["a", "b"], ["c"])]
    nodes += [helper.make_node("ReduceMean", ["c"], ["y"], axes=[1])]
    model = network(nodes, {"x": ["N", 1]}, {"y": ["N", 1]}, size=np.array([1, 40_000]))
    assert "sofie::in_pieces(" in model.emission.header
    x = np.zeros((50, 1), np.float32)
    (y,) = at_once(model, {"x": x}, N=50)
    assert len(np.unique(y)) == 50
    np.testing.assert_array_equal(y, model(x))
    np.testing.assert_array_equal(y[49], model(x[49:], entry=49)[0])


def test_what_a_row_of_a_piece_raises_names_the_node_once() -> None:
    nodes = [helper.make_node("Gather", ["table", "i"], ["w"], axis=0)]
    nodes += [helper.make_node("Exp", ["w"], ["b"]), helper.make_node("Sin", ["b"], ["c"])]
    nodes += [helper.make_node("Mul", ["b", "c"], ["d"])]
    nodes += [helper.make_node("ReduceMean", ["d"], ["y"], axes=[1])]
    table = np.ones((3, 40_000), np.float32)
    model = network(nodes, {"i": (TensorProto.INT64, ["N"])}, {"y": ["N", 1]}, table=table)
    assert "sofie::in_pieces(" in model.emission.header
    i = np.zeros(60, np.int64)
    i[59] = 3
    with pytest.raises(InputError) as found:
        model.compiled._call([i], [np.empty((60, 1), np.float32)], {"N": 60})
    assert str(found.value).count("index") == 1


def test_rows_that_see_each_other_stay_together_in_infer() -> None:
    nodes = [helper.make_node("ReduceMax", ["x"], ["m"], axes=[0], keepdims=1)]
    nodes += [helper.make_node("Sub", ["x", "m"], ["a"]), helper.make_node("Exp", ["a"], ["y"])]
    model = network(nodes, {"x": ["N", 40_000]}, {"y": ["N", 40_000]})
    assert "sofie::in_pieces(" not in model.emission.header


def test_pieces_of_large_weights_are_larger() -> None:
    n = symbol("N")
    few, many = (Pieces("N", 200_000 * n + 5000, weights) for weights in (1000, 8_000_000))
    assert few.most({"N": 10}) == 2_005_000
    assert few.most({"N": 64}) == 1_005_000
    assert many.most({"N": 64}) == 64 * 200_000 + 5000
    assert many.most({"N": 6400}) == 40 * 200_000 + 5000
    assert Pieces("", 200_000 * n, 1000).most({"N": 64}) == 64 * 200_000
