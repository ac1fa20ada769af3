"""Models compiled by a compiler of the system, in libraries that are kept on disk."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir.types import Array
from sofie_rdf.runtime.cache import disk as cache
from sofie_rdf.runtime.compile import trial
from sofie_rdf.runtime.compile.library import find_compiler
from tests.choice import some_of

ROOT = pytest.importorskip("ROOT")

PROJECT = Path(__file__).resolve().parents[2]
HIGGS = PROJECT / "data" / "higgs.onnx"
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
pytestmark = needs_compiler
COLUMNS = [f"c{i}" for i in range(7)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, switched on."""
    place = tmp_path / "cache"
    monkeypatch.setenv("SOFIE_RDF_CACHE", str(place))
    return place


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the library of the Higgs network, which takes two seconds."""
    place = tmp_path_factory.mktemp("library") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFIE_RDF_CACHE", str(place))
        higgs("g++")(events(1))
    return place


@pytest.fixture
def kept(built: Path, folder: Path) -> Path:
    """A copy of it, switched on."""
    return Path(shutil.copytree(built, folder))


def events(n: int) -> Array:
    return np.random.default_rng(3).normal(size=(n, 7)).astype(np.float32)


def higgs(compiler: str) -> sofie.Model:
    return sofie.load(HIGGS, compiler=compiler)


def compiled_by(model: sofie.Model) -> str:
    return Path(model.compiled.compiler).name


def libraries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.so"))


SCORE = (
    "import numpy as np, sofie_rdf as s\n"
    f"m = s.load({str(HIGGS)!r})\n"
    "x = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)\n"
    "y = m(x).ravel()\n"
    "print(m.compiled.compiler.split('/')[-1], *(v.hex() for v in y.astype(float)))\n"
)


def score(**environment: str) -> list[str]:
    """The compiler and the scores of a new process."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCORE],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()


# Numbers ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("kept")
def test_the_library_and_the_interpreter_agree() -> None:
    x = events(100)
    model = higgs("g++")
    np.testing.assert_allclose(model(x), higgs("cling")(x), rtol=2e-6, atol=1e-7)
    assert compiled_by(model) == "g++"
    with pytest.raises(sofie.InputError):
        model(x[:, :3])


@pytest.mark.usefixtures("folder")
def test_outputs_of_which_the_data_decide_the_size() -> None:
    from onnx import TensorProto, helper

    ports = [("x", TensorProto.FLOAT, ["N"])], [("y", TensorProto.INT64, [1, "found"])]
    inputs, outputs = ([helper.make_tensor_value_info(*p) for p in listed] for listed in ports)
    graph = helper.make_graph([helper.make_node("NonZero", ["x"], ["y"])], "m", inputs, outputs)
    data = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    model = sofie.from_onnx(data, compiler="g++")
    np.testing.assert_array_equal(model(np.float32([0, 1, 0, 2])), [[1, 3]])


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("threads", some_of([1, 2], [2]))
def test_columns_of_a_data_frame(threads: int) -> None:
    x = events(4000)
    if threads > 1:
        ROOT.EnableImplicitMT(threads)
    try:
        frame = ROOT.RDF.FromNumpy({c: x[:, i].copy() for i, c in enumerate(COLUMNS)})
        scores = {}
        for compiler in ("cling", "g++"):
            model = higgs(compiler)
            assert compiled_by(model) == compiler
            defined = sofie.define(frame, "y", model, COLUMNS)
            # The model may go while the data frame stays.
            del model
            scores[compiler] = np.sort(np.asarray(defined.Take["float"]("y").GetValue()))
    finally:
        if threads > 1:
            ROOT.DisableImplicitMT()
    np.testing.assert_allclose(scores["g++"], scores["cling"], rtol=2e-6, atol=1e-7)
    np.testing.assert_array_equal(scores["g++"], np.sort(higgs("g++")(x).ravel()))


@pytest.mark.usefixtures("folder")
def test_columns_of_elements_that_cxx_lacks() -> None:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT16, ["N", 3]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "m", [x], [y])
    data = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    frame = ROOT.RDataFrame(2)
    for i, column in enumerate(COLUMNS[:3]):
        frame = frame.Define(column, f"{i} - 0.75 * rdfentry_")
    model = sofie.from_onnx(data, compiler="g++")
    frame = sofie.define(frame, "y", model, COLUMNS[:3])
    assert [*frame.Take["ROOT::RVec<float>"]("y").GetValue()[1]] == [0, 0.25, 1.25]


@pytest.mark.usefixtures("kept")
def test_threads_share_a_library() -> None:
    model, x = higgs("g++"), events(64)
    expected, wrong = model(x), []

    def work() -> None:
        wrong.extend(i for i in range(50) if not np.array_equal(model(x), expected))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


# The cache ----------------------------------------------------------------------------------------


def test_a_library_is_built_once(folder: Path) -> None:
    first = score(SOFIE_RDF_COMPILER="g++")
    (library,) = libraries(folder)
    made = library.stat().st_mtime_ns
    without = {"SOFIE_RDF_COMPILER": "g++", "CPATH": "/nowhere"}
    assert score(**without) == first
    assert library.stat().st_mtime_ns == made
    assert first[0] == "g++"
    assert stat.S_IMODE(folder.stat().st_mode) & 0o022 == 0, "others could put libraries there"


@pytest.mark.parametrize("damage", some_of(["flipped", "truncated", "empty", "text"], ["flipped"]))
def test_a_damaged_library_is_built_again(kept: Path, damage: str) -> None:
    (library,) = libraries(kept)
    whole = library.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    damaged = {
        "flipped": bytes(flipped),
        "truncated": whole[: len(whole) // 3],
        "empty": b"",
        "text": b"no library",
    }
    library.write_bytes(damaged[damage])
    (trusted,) = kept.glob("*.trusted")
    os.utime(trusted, (0, 0))
    compiler, *found = score(SOFIE_RDF_COMPILER="g++")
    assert compiler == "g++"
    assert [float.fromhex(v) for v in found] == higgs("g++")(events(5)).ravel().tolist()
    assert library.read_bytes()[:4] == b"\x7fELF"
    assert cache.find(library.name) is not None
    assert trusted.stat().st_mtime > 0, "the new one must be tried out, too"


@pytest.mark.exhaustive
def test_processes_that_build_the_same_library_at_once(folder: Path) -> None:
    found: list[list[str]] = []
    workers = [
        threading.Thread(target=lambda: found.append(score(SOFIE_RDF_COMPILER="g++")))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    assert all(f == found[0] for f in found)
    assert len(libraries(folder)) == 1
    assert list(folder.glob(".making-*")) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Not by permissions, which do not hold for root: its parent is a file."""
    (tmp_path / "file").write_text("")
    assert score(SOFIE_RDF_COMPILER="g++", SOFIE_RDF_CACHE=str(tmp_path / "file" / "cache"))


@pytest.mark.exhaustive
def test_a_folder_that_nobody_may_write(tmp_path: Path) -> None:
    readonly = tmp_path / "readonly"
    readonly.mkdir(mode=0o500)
    assert score(SOFIE_RDF_COMPILER="g++", SOFIE_RDF_CACHE=str(readonly))[0] == "g++"


def test_without_a_cache(folder: Path) -> None:
    assert score(SOFIE_RDF_COMPILER="g++", SOFIE_RDF_CACHE="off")[0] == "g++"
    assert not folder.exists()


def test_a_wrong_library_is_refused(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has tried out yet is compared with the reference, which is another one here."""
    monkeypatch.setattr(trial, "evaluate", lambda *_, **__: {"score": np.ones((2, 1), np.float32)})
    higgs("g++")(events(1))  # Somebody has tried it out.
    for path in (*kept.glob("*.trusted"), *kept.glob("*.json")):
        path.unlink()
    with pytest.raises(sofie.JitError, match="differs from the reference"):
        higgs("g++")(events(1))


# Which compiler -----------------------------------------------------------------------------------


def test_without_a_compiler(folder: Path) -> None:
    nothing = {"PATH": str(folder), "SOFIE_RDF_CACHE": str(folder)}
    assert score(SOFIE_RDF_COMPILER="auto", **nothing)[0] == "cling"
    with pytest.raises(AssertionError, match=r"there is no g\+\+ on the PATH"):
        score(SOFIE_RDF_COMPILER="g++", **nothing)


def test_an_unknown_compiler_is_refused() -> None:
    with pytest.raises(sofie.JitError, match=r"compiler='icc'.*Use one of auto, cling"):
        higgs("icc")(events(1))
    with pytest.raises(AssertionError, match="SOFIE_RDF_COMPILER='tcc'"):
        score(SOFIE_RDF_COMPILER="tcc")


def test_code_that_the_compiler_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    broken = tmp_path / "g++"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] || { echo nonsense >&2; exit 1; }\n')
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    find_compiler.cache_clear()
    try:
        with pytest.raises(sofie.JitError, match="nonsense"):
            higgs("g++")(events(1))
    finally:
        find_compiler.cache_clear()
    assert libraries(folder) == []


def wait_for(folder: Path, count: int) -> None:
    """Until so many libraries are in the cache, and nothing is being made there."""
    for _ in range(3000):
        if len(libraries(folder)) >= count and not list(folder.glob(".making-*")):
            return
        threading.Event().wait(0.1)
    raise AssertionError(f"{len(libraries(folder))} libraries instead of {count}")


@pytest.mark.exhaustive
def test_auto_builds_for_later_processes(folder: Path) -> None:
    environment = {"SOFIE_RDF_COMPILER": "auto"}
    assert score(**environment, SOFIE_RDF_BACKGROUND="off")[0] == "cling"
    assert libraries(folder) == []
    compiler, *first = score(**environment)
    assert compiler == "cling"
    # It goes on after its process has ended; nobody else starts it again.
    wait_for(folder, 1)
    compiler, *second = score(**environment)
    assert compiler == "g++"
    assert second == first


@pytest.mark.exhaustive
def test_who_asks_for_no_compiler_has_a_library_from_the_second_start_on(folder: Path) -> None:
    """In a batch job nothing is built, but what is there is used."""
    nobody, job = {"SOFIE_RDF_COMPILER": ""}, {"SLURM_JOB_ID": "7"}
    assert score(**nobody, **job)[0] == "cling"
    assert list(folder.glob("*.job")) == []
    compiler, *first = score(**nobody)
    assert compiler == "cling"
    wait_for(folder, 1)
    assert score(**nobody) == ["g++", *first] == score(**nobody, **job)


@pytest.mark.exhaustive
def test_one_process_builds_all_libraries(folder: Path) -> None:
    """Each takes half a gigabyte while it is compiled, and an analysis may have many models."""
    several = (
        "import sofie_rdf as s, numpy as np, sofie_rdf.runtime.compile.library as l\n"
        + "".join(
            f"s.from_onnx({str(HIGGS)!r}, shapes={{'features': ({n}, 7)}}, compiler='auto')"
            f"(np.zeros(({n}, 7), np.float32))\n"
            for n in (2, 3)
        )
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{several}print(len(l._builders))"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        check=False,
    )
    assert done.stdout.split() == ["1"], done.stderr[-3000:]
    wait_for(folder, 2)
    assert list(folder.glob("*.job")) == []
