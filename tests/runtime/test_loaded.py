"""Equal weights of one code are one in a process, and go when nobody uses them."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.runtime.compile import loaded

ROOT = pytest.importorskip("ROOT")
PROJECT = Path(__file__).resolve().parents[2]


def model(factor: float, size: int = 4) -> sofie.Model:
    """The sum of x times a factor, ``size`` times."""
    build = Builder("summed")
    build.input("x", TensorType(DType.FLOAT32, (symbol("N"), size)))
    weights = build.constant(np.full((size, size), factor, np.float32))
    return sofie.Model(build.graph(build(MatMul(), "x", weights, outputs=["y"])))


def alive() -> int:
    """How many different weights this process has."""
    gc.collect()
    found = 0
    for one in loaded._watched.values():
        weights = one.found()
        if weights:
            one.entries["unload"](weights)
            found += 1
    return found


def test_equal_weights_are_one_and_others_are_not() -> None:
    x = np.ones((3, 4), np.float32)
    before = alive()
    models = [model(0.5), model(0.5), model(0.25)]
    assert [float(m(x)[0, 0]) for m in models] == [2, 2, 1]
    assert models[0].compiled.table == models[2].compiled.table
    assert alive() == before + 2
    del models[0]
    assert [float(m(x)[0, 0]) for m in models] == [2, 1]
    assert alive() == before + 2
    models.clear()
    assert alive() == before
    assert float(model(0.5)(x)[0, 0]) == 2


def test_columns_keep_their_weights() -> None:
    """Also of a model that Python has forgotten."""
    before = alive()
    df = ROOT.RDataFrame(2).Define("a", "1.f + rdfentry_")
    shown = model(0.125).define(df, "y", ["a"] * 4)
    assert alive() == before + 1
    again = model(0.125).define(df, "y", ["a"] * 4)
    assert alive() == before + 1
    for frame in (shown, again):
        assert [row[0] for row in frame.AsNumpy(["y"])["y"]] == [0.5, 1]


def test_threads_load_and_drop_the_same_weights() -> None:
    x = np.ones((1, 4), np.float32)
    model(0.0625)(x)
    before, seen = alive(), list[float]()

    def work() -> None:
        for _ in range(50):
            seen.append(float(model(0.0625)(x)[0, 0]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {0.25}
    assert alive() == before


MEMORY = """
import gc, os, sys
import ROOT
from tests.runtime.test_loaded import model
df = ROOT.RDataFrame(2).Define("a", "1.f + rdfentry_")
def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
columns = ["a"] * 1700
frames = []
for n in range(43):
    frames.append(model(0.5, 1700).define(df, "y", columns))
    if n == 2:
        first = resident()
print((resident() - first) // 10**6)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.exhaustive
def test_memory_stays_what_it_is() -> None:
    """Weights of 11.6 MB, 40 times: they were 464 MB."""
    done: Any = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEMORY],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 120
