"""Weights in fewer bits, compiled: the bits of the float32 network with the rounded weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.emit import session as emission
from sofie_rdf.emit.code import include_directory
from sofie_rdf.errors import ModelError
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.types import PRECISIONS, Array
from sofie_rdf.ops.convolution import Conv
from sofie_rdf.ops.elementwise import Relu, Sigmoid, Tanh, Unary
from sofie_rdf.ops.linear import Dense, NoActivation
from sofie_rdf.ops.recurrent import LSTM
from sofie_rdf.runtime.compile.interpreter import declare
from tests.choice import some_of
from tests.ops import test_sanitized as sanitized
from tests.passes.graphs import N, Net

ROOT = pytest.importorskip("ROOT")
DATA = Path(__file__).resolve().parents[2] / "data"
narrow = pytest.mark.parametrize("precision", PRECISIONS[1:])
ROWS = (1, 2, 7, 8, 9, 21, 64, 130)


def mlp(*widths: int, last: Unary | None = None, seed: int = 1, rows: Dim = N) -> sofie.Model:
    """Dense layers with Relu, and the last with another function."""
    rng = np.random.default_rng(seed)
    b = Net(rows, widths[0])
    x = "x"
    for i, (k, n) in enumerate(pairwise(widths)):
        w = rng.normal(size=(k, n)) / np.sqrt(k)
        op = Dense(activation=(last or NoActivation()) if i == len(widths) - 2 else Relu())
        x = b.op(op, x, b.c(f"w{i}", w), b.c(f"b{i}", rng.normal(size=n)), name=f"y{i}")
    return sofie.Model(b.graph(x))


def rounded(model: sofie.Model) -> sofie.Model:
    """The float32 network with the same weights, none of which are read in few bits."""
    bare = {key: text for key, text in model.optimized.provenance.items() if key != "precision"}
    return sofie.Model(replace(model.optimized, provenance=MappingProxyType(bare)))


def reading_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of any size read their weights in few bits."""
    monkeypatch.setattr(emission, "READ_FROM", dict.fromkeys(PRECISIONS[1:], 1))


def events(width: int, rows: int) -> Array:
    return np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float32)


def assert_same_bits(model: sofie.Model, width: int, rows: Sequence[int] = ROWS) -> None:
    """Those of the float32 network, in batches and one by one."""
    wide = rounded(model)
    for n in rows:
        x = events(width, n)
        y = model(x)
        assert y.tobytes() == wide(x).tobytes(), n
        if n <= 9:
            assert y.tobytes() == b"".join(model(x[i : i + 1]).tobytes() for i in range(n)), n


# Numbers ------------------------------------------------------------------------------------------

# Each number of packs in a panel from 6 to 14, whole ones and others; several panels; a few that
# are too narrow, and rows of more than a stripe has place for on the stack.
WIDTHS: Mapping[str, tuple[int, ...]] = {
    "6 and 7 packs": (5, 81, 96, 112, 100),
    "8 to 10 packs": (97, 128, 129, 160),
    "11 to 14 packs": (3, 161, 192, 200, 224),
    "two panels": (33, 225, 240, 300),
    "narrow ones between": (7, 200, 50, 200, 1),
    "large ones": (30, 1100, 250, 2),
}


@narrow
@pytest.mark.parametrize("widths", some_of(WIDTHS, list(WIDTHS)[::4]))
def test_layers_that_read_few_bits(
    widths: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading_narrow(monkeypatch)
    model = mlp(*WIDTHS[widths], last=Sigmoid()).with_precision(precision)
    assert "sofie::NarrowWeights" in model.emission.header
    assert_same_bits(model, WIDTHS[widths][0])


@narrow
@pytest.mark.parametrize("last", [None, Tanh()], ids=["none", "tanh"])
def test_a_layer_beyond_the_second_cache(
    precision: str, last: Unary | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is not held as floats."""
    reading_narrow(monkeypatch)
    for widths in ((600, 500), (2800, 100)):
        model = mlp(*widths, last=last).with_precision(precision)
        assert_same_bits(model, widths[0], (1, 3, 8, 70, 200))


@pytest.mark.parametrize(
    ("kernel", "rows", "widths"),
    [("dense", 1, (40, 100)), ("dense", 9, (40, 100)), ("dense_far", 5, (600, 1000))],
)
def test_kernels_of_float32_weights(
    kernel: str, rows: int, widths: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call is the same, of whichever weights."""
    reading_narrow(monkeypatch)
    model = mlp(*widths, rows=rows).with_precision("bfloat16")
    assert f"sofie::{kernel}(" in model.emission.header
    x = events(widths[0], rows)
    assert model(x).tobytes() == rounded(model)(x).tobytes()


@narrow
def test_numbers_that_are_not_finite(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reading_narrow(monkeypatch)
    model = mlp(9, 100, 90).with_precision(precision)
    wide = rounded(model)
    for n in (1, 12):
        x = events(9, n)
        x[0, 3], x[-1, 5], x[n // 2, 1] = np.inf, np.nan, 1e-42
        assert model(x).tobytes() == wide(x).tobytes()


@narrow
def test_small_layers_are_widened_when_they_load(precision: str) -> None:
    model = mlp(7, 64, 64, 3).with_precision(precision)
    assert "NarrowWeights" not in model.emission.header
    assert "sofie::Widened" in model.emission.header
    assert_same_bits(model, 7)


@narrow
def test_other_layers(precision: str) -> None:
    rng = np.random.default_rng(2)
    b = Net(N, 3, 8, 8)
    image = sofie.Model(b.graph(b.op(Conv(), "x", b.c("w", rng.normal(size=(4, 3, 3, 3))))))
    b = Net(4, N, 5)
    w, r = (b.c(n, rng.normal(size=(1, 24, k))) for n, k in (("w", 5), ("r", 6)))
    y = b.op(LSTM(hidden_size=6), "x", w, r)
    for model, shape in ((image, (2, 3, 8, 8)), (sofie.Model(b.graph(y)), (4, 2, 5))):
        small = model.with_precision(precision)
        x = rng.normal(size=shape).astype(np.float32)
        assert small(x).tobytes() == rounded(small)(x).tobytes()
        assert len(small.emission.weights) < len(model.emission.weights)


# Files --------------------------------------------------------------------------------------------


@narrow
def test_files_are_smaller_and_read_back(precision: str, tmp_path: Path) -> None:
    full, model = mlp(20, 200, 200, 1), mlp(20, 200, 200, 1).with_precision(precision)
    x = events(20, 50)
    expected = model(x).tobytes()
    by = 4 if precision == "int8" else 2
    assert len(model.emission.weights) < 1.06 * len(full.emission.weights) / by + 4000
    header = {}
    for via in ("uproot", "ROOT"):
        model.save(tmp_path / f"{via}.root", via=via)
        again = sofie.load(tmp_path / f"{via}.root")
        assert again.precision == precision and again.weights == model.weights
        assert again(x).tobytes() == expected
        header[via] = again.emission.header
        assert again.emission.weights == model.emission.weights
    assert header["uproot"] == header["ROOT"] == model.emission.header
    model.save(tmp_path / "b.root", name="again")
    assert sofie.trust(tmp_path / "b.root")


@narrow
@pytest.mark.parametrize("weights", some_of(["file", "root", "header"], ["file"]))
def test_emitted(precision: str, weights: str, tmp_path: Path) -> None:
    name = f"emitted_{precision}_{weights}"
    model = sofie.load(DATA / "higgs.onnx", name, precision=precision)
    files = model.emit(tmp_path, weights=weights)
    declare(f'#include "{files.header}"\n')
    arguments = [str(files.weights)] if files.weights else []
    session = getattr(ROOT, files.namespace).Session(*arguments)
    x = events(7, 1)
    found = np.array(session.infer(x[0]))
    assert found.tobytes() == model(x)[0].tobytes()


def test_weights_of_another_precision_are_refused(tmp_path: Path) -> None:
    """Of which there are as many bytes."""
    model = mlp(6, 40, 3)
    files = {
        p: sofie.Model(replace(model.graph, name=f"mixed_{p}")).with_precision(p).emit(tmp_path)
        for p in ("bfloat16", "float16")
    }
    declare(f'#include "{files["bfloat16"].header}"\n')
    make = getattr(ROOT, files["bfloat16"].namespace).Session
    assert make(str(files["bfloat16"].weights))
    with pytest.raises((ROOT.std.runtime_error, TypeError), match="does not belong to this header"):
        make(str(files["float16"].weights))


@pytest.mark.exhaustive
def test_a_macro_runs_it(tmp_path: Path) -> None:
    models = {p: mlp(4, 100, 100, 1).with_precision(p) for p in PRECISIONS[1:]}
    for name, model in models.items():
        model.save(tmp_path / "models.root", name=name)
    (tmp_path / "score.C").write_text(
        """#include "sofie/rdf/RSofieReader.hxx"
void score()
{
   for (auto name : {"bfloat16", "float16", "int8"})
   {
      RSofieReader model("models.root", name);
      printf("%s %.9g\\n", name, model.Compute({0.5F, -1, 2, 0.25F})[0]);
   }
}
"""
    )
    root = [str(Path(sys.executable).with_name("root")), "-l", "-b", "-q", "score.C"]
    environment = {**os.environ, "ROOT_INCLUDE_PATH": str(include_directory())}
    done = subprocess.run(root, cwd=tmp_path, capture_output=True, text=True, env=environment)
    found = dict(line.split() for line in done.stdout.splitlines() if line.count(" ") == 1)
    x = np.array([[0.5, -1, 2, 0.25]], np.float32)
    assert {n: np.float32(found[n]) for n in models} == {n: m(x)[0, 0] for n, m in models.items()}


# Data frames --------------------------------------------------------------------------------------


@narrow
def test_a_column_is_what_a_call_gives(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reading_narrow(monkeypatch)
    model = mlp(3, 200, 200, 1).with_precision(precision)
    x = events(3, 40)
    columns = {f"c{i}": np.ascontiguousarray(x[:, i]) for i in range(3)}
    frame = sofie.define(ROOT.RDF.FromNumpy(columns), "score", model, list(columns))
    assert frame.AsNumpy(["score"])["score"].tobytes() == model(x).tobytes()


# How it is asked for ------------------------------------------------------------------------------


def test_load_takes_a_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFIE_RDF_CACHE", str(tmp_path))
    x = events(7, 9)
    plain = sofie.load(DATA / "higgs.onnx")
    assert plain.precision == "float32"
    found: dict[str, bytes] = {}
    for _ in range(2):  # The second time from the cache.
        for precision in (*PRECISIONS, ""):
            model = sofie.load(DATA / "higgs.onnx", precision=precision)
            found.setdefault(precision, model(x).tobytes())
            assert model(x).tobytes() == found[precision]
            assert model.precision == precision or not precision
    assert len(set(found.values())) == 4 and found[""] == found["float32"] == plain(x).tobytes()


def test_what_is_refused() -> None:
    model = sofie.load(DATA / "higgs.onnx", precision="int8")
    with pytest.raises(ModelError, match="First model"):
        model.normalized({"mean": [0.0] * 7, "std": [1.0] * 7})
    with pytest.raises(sofie.InputError, match="Did you mean 'bfloat16'"):
        model.with_precision("bfloat")
    with pytest.raises(sofie.InputError, match="unknown"):
        _ = sofie.load(DATA / "higgs.onnx", precision="half").graph
    names = {"features": [f"f{i}" for i in range(7)]}
    assert model.named(**names).precision == "int8"


# Under the sanitizers -----------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
@pytest.mark.parametrize("flags", [sanitized.CLEAN, sanitized.GUARDED], ids=["generic", "native"])
def test_nothing_is_read_beside_the_weights(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading_narrow(monkeypatch)
    shapes = [(600, 470), (9, 100, 225)]
    models = [mlp(*s).with_precision(p) for s in shapes for p in PRECISIONS[1:]]
    graphs = [
        replace(model.optimized, name=f"narrow{i}_{len(flags)}") for i, model in enumerate(models)
    ]
    sizes: list[Mapping[str, int]] = [{"N": 1, "M": 0}, {"N": 11, "M": 0}]
    widths = [s[0] for s in shapes for _ in PRECISIONS[1:]]
    batches = [[{"x": events(width, s["N"])} for s in sizes] for width in widths]
    sanitized.build(graphs, tmp_path, len(sizes), flags)
    for model, fed, found in zip(
        models, batches, sanitized.run(graphs, tmp_path, batches, sizes), strict=True
    ):
        for feeds, outputs in zip(fed, found, strict=True):
            (y,) = outputs.values()
            np.testing.assert_allclose(y, model(feeds["x"]), rtol=1e-5, atol=1e-5)
