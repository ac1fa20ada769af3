"""`define` on ROOT's distributed RDataFrame: processes of Dask, beside the local data frame."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward
import numpy as np
import pytest
import uproot
from onnx import TensorProto, helper

import sofie_rdf as sofie
from sofie_rdf.runtime.rdataframe import cluster as sent
from sofie_rdf.runtime.rdataframe import shipped
from tests.runtime.test_objects import jets, linear, network, same

ROOT = pytest.importorskip("ROOT")
distributed = pytest.importorskip("distributed", reason="pip install 'dask[distributed]'")

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]
DATA = Path(__file__).resolve().parents[2] / "data"
HALF = TensorProto.FLOAT16


@contextmanager
def cluster(**options: Any) -> Iterator[Any]:
    options = {"threads_per_worker": 1, "dashboard_address": ":0", **options}
    with distributed.LocalCluster(**options) as made, distributed.Client(made) as client:
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A process that knows nothing of sofie_rdf, which computes one partition after the other.

    Each further process compiles the same columns again, in 17 seconds of a core.
    """
    with cluster(n_workers=1, processes=True) as client:
        yield client


@pytest.fixture(scope="module")
def two() -> Iterator[Any]:
    """Two of them."""
    with cluster(n_workers=2, processes=True) as client:
        yield client


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("events")
    for i in range(3):
        jets(folder / f"{i}.root", 50 + i)
    return [str(folder / f"{i}.root") for i in range(3)]


@pytest.fixture(scope="module")
def lin() -> sofie.Model:
    return linear()


def on_workers(client: Any, expression: str) -> list[Any]:
    """What this is on each worker. By its text: nothing of ours is imported there."""
    return list(client.run(eval, expression).values())


def snapshot(df: Any, path: Path, columns: list[str]) -> Any:
    """These columns, as a Snapshot writes them: into one file, or a file for each task."""
    df.Snapshot("scored", str(path / "scored.root"), columns)
    parts = [p for p in path.glob("scored*.root") if "scored" in uproot.open(p)]
    arrays = [uproot.open(p)["scored"].arrays(columns) for p in sorted(parts)]
    return awkward.concatenate(arrays)


def assert_same(here: Any, there: Any, tmp_path: Path, columns: list[str]) -> None:
    """The same columns of the same types, to the last bit."""
    found = []
    for i, df in enumerate((here, there)):
        (tmp_path / str(i)).mkdir()
        found.append(snapshot(df, tmp_path / str(i), columns))
    assert len(found[0]) > 0
    for column in columns:
        assert str(here.GetColumnType(column)) == str(there.GetColumnType(column))
        one, other = (awkward.flatten(a[column], axis=None).to_numpy() for a in found)
        np.testing.assert_array_equal(one.view(np.uint8), other.view(np.uint8), err_msg=column)
        if found[0][column].ndim > 1:
            assert (
                awkward.num(found[0][column]).to_list() == awkward.num(found[1][column]).to_list()
            )


def test_every_kind_of_column_is_as_it_is_locally(
    client: Any, files: list[str], lin: sofie.Model, tmp_path: Path
) -> None:
    kept = same({"x": ["N", 2, "P"], "m": ["N", 1, "P"]})
    softmax = helper.make_node("Softmax", ["x"], ["p"])
    soft = network([softmax], {"x": ["N", 3]}, {"p": ["N", 3]})
    added = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    adding = network([added], {"x": ["N", "P"]}, {"y": ["N"]}, axes=np.int64([1]))

    def with_columns(df: Any) -> Any:
        df = sofie.define(df, "objects", lin, ["pt", "abs(eta)", "charge"])
        only = {"where": "met < 0.5", "default": -5, "nan": -7.0}
        df = sofie.define(df, "event", lin, ["met", "sqrt(met)", 0.5], **only)
        sets = {"of_x": "of_x", "of_m": "of_m"}
        bounds = {"lengths": {"P": (2, 4)}, "pad": {"x": -9}, "mask": "m", "order_by": "pt"}
        df = sofie.define(df, sets, kept, {"x": ["pt", "charge"]}, **bounds)
        df = sofie.define(df, "each", adding, ["ROOT::RVec<ROOT::RVecF>{pt, 2 * pt}"])
        classes = {"first": "p[0]", "kind": "argmax(p)"}
        return sofie.define(df, classes, soft, ["event", "abs(eta)", 1])

    columns = ["objects", "event", "of_x", "of_m", "each", "first", "kind"]
    here = with_columns(ROOT.RDataFrame("Events", files))
    there = with_columns(ROOT.RDataFrame("Events", files, executor=client, npartitions=3))
    assert not any("sofie" in str(c) for c in there.GetColumnNames())
    assert_same(here, there, tmp_path, columns)
    assert not any(on_workers(client, "'sofie_rdf' in __import__('sys').modules"))


@pytest.mark.exhaustive
def test_a_network_over_rntuples(two: Any, tmp_path: Path) -> None:
    model = sofie.load(DATA / "higgs.onnx")
    names = [f"x{i}" for i in range(7)]
    source = str(tmp_path / "events.root")
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    df = ROOT.RDataFrame(1000)
    for i, name in enumerate(names):
        df = df.Define(name, f"float(1 + sin({i + 1} * double(rdfentry_)))")
    df.Snapshot("ntuple", source, names, options)
    here = sofie.define(ROOT.RDataFrame("ntuple", source), "y", model, names)
    there = ROOT.RDataFrame("ntuple", source, executor=two, npartitions=2)
    there = model.define(there, "y", names)
    found, wanted = (df.AsNumpy(["y"])["y"] for df in (there, here))
    assert len(wanted) == 1000
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.exhaustive
def test_variations_of_inputs_and_outputs(two: Any, files: list[str], lin: sofie.Model) -> None:
    def sums(df: Any) -> list[float]:
        df = df.Vary("met", "ROOT::RVecD{met * 0.9, met * 1.1}", ["down", "up"])
        df = sofie.define(df, "y", lin, ["met", "met", 1])
        df = df.Vary("y", "ROOT::RVecF{y - 1, y + 1}", ["less", "more"])
        found = ROOT.RDF.Experimental.VariationsFor(df.Filter("nmet > 0").Sum("y"))
        names = ("nominal", "met:down", "met:up", "y:less", "y:more")
        return [found[name] for name in names]

    here = sums(ROOT.RDataFrame("Events", files).Define("nmet", "1"))
    there = sums(ROOT.RDataFrame("Events", files, executor=two, npartitions=2).Define("nmet", "1"))
    assert len(set(here)) == 5
    np.testing.assert_allclose(there, here, rtol=1e-12)


def test_a_model_is_sent_and_loaded_once(client: Any, files: list[str], lin: sofie.Model) -> None:
    base = ROOT._distrdf.Backends.Base.BaseBackend
    df = ROOT.RDataFrame("Events", files, executor=client, npartitions=2)
    df = sofie.define(df, "first", lin, ["met", "met", 1])
    texts = len(base.strings_to_declare)
    calls: list[Any] = []
    df.proxied_node.get_head().backend.distribute_unique_paths = calls.append
    for i in range(20):
        df = sofie.define(df, f"y{i}", lin, ["met", "met", 1])
    assert len(base.strings_to_declare) == texts
    assert calls == []
    del df.proxied_node.get_head().backend.distribute_unique_paths
    total = df.Define("sum", " + ".join(f"y{i}" for i in range(20))).Sum("sum")
    counts = "__import__('ROOT').gInterpreter.Calc('sofie_rdf_shared::models().by_checksum.size()')"
    assert total.GetValue() == pytest.approx(20 * df.Sum("first").GetValue(), rel=1e-5)
    before = on_workers(client, counts)
    df = sofie.define(df, "other", lin, ["met", 2, 1])  # Another call of the same model.
    df.Sum("other").GetValue()
    assert on_workers(client, counts) == before


def test_errors_come_before_the_loop_and_leave_the_data_frame_as_it_was(
    client: Any, files: list[str], lin: sofie.Model
) -> None:
    df = ROOT.RDataFrame("Events", files, executor=client, npartitions=2)
    for columns, message in (
        (["pt", "eta", "chrage"], "no column 'chrage'. Did you mean 'charge'"),
        (["met", "met"], "takes 3 numbers; 2 columns are given"),
        (["met", "met", "nothing(met)"], r"no column 'nothing', in 'nothing\(met\)'"),
        (["met", "met", "met +* 2"], "is no column and no expression"),
    ):
        with pytest.raises(sofie.ColumnError, match=message):
            sofie.define(df, "y", lin, columns)
    with pytest.raises(sofie.ColumnError, match="has a column 'met' already"):
        sofie.define(df, "met", lin, ["met", "met", 1])
    with pytest.raises(sofie.ColumnError, match="no column 'nothing', in 'nothing > 3'"):
        sofie.define(df, "y", lin, ["met", "met", 1], where="nothing > 3")
    df = df.Define("short", "ROOT::VecOps::Take(pt, pt.empty() ? 0 : 1)")
    y = sofie.define(df, "y", lin, ["pt", "short", "eta"]).Define("n", "y.size()").Sum("n")
    with pytest.raises(RuntimeError, match="column 'short' has 1 elements, and 'pt' has"):
        y.GetValue()
    good = sofie.define(
        ROOT.RDataFrame("Events", files, executor=client, npartitions=2), "y", lin, ["met", 0, 0]
    )
    local = sofie.define(ROOT.RDataFrame("Events", files), "y", lin, ["met", 0, 0])
    assert good.Sum("y").GetValue() == pytest.approx(local.Sum("y").GetValue())


@pytest.mark.exhaustive
def test_several_graphs_at_once(two: Any, files: list[str], lin: sofie.Model) -> None:
    frames = [ROOT.RDataFrame("Events", f, executor=two, npartitions=2) for f in files]
    sums = [sofie.define(df, "y", lin, ["met", "met", 1]).Sum("y") for df in frames]
    ROOT.RDF.RunGraphs(sums)
    for file, found in zip(files, sums, strict=True):
        here = sofie.define(ROOT.RDataFrame("Events", file), "y", lin, ["met", "met", 1])
        assert found.GetValue() == pytest.approx(here.Sum("y").GetValue())


@pytest.mark.exhaustive
def test_a_worker_that_is_killed_loses_nothing(
    two: Any, files: list[str], lin: sofie.Model, tmp_path: Path
) -> None:
    df = ROOT.RDataFrame("Events", files, executor=two, npartitions=4)
    slow = df.Filter(f'gSystem->Sleep(20); return std::ofstream("{tmp_path}/begun").good();')
    total = sofie.define(slow, "y", lin, ["met", "met", 1]).Sum("y")
    loop = threading.Thread(target=total.GetValue)
    loop.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    killed = on_workers(two, "__import__('os').getpid()")
    os.kill(killed[0], signal.SIGKILL)
    loop.join(timeout=90)
    here = sofie.define(ROOT.RDataFrame("Events", files), "y", lin, ["met", "met", 1])
    assert total.GetValue() == pytest.approx(here.Sum("y").GetValue(), rel=1e-12)
    two.wait_for_workers(2)
    assert killed[0] not in on_workers(two, "__import__('os').getpid()")


@pytest.mark.exhaustive
def test_another_cpu_and_columns_that_no_expression_can_say(tmp_path: Path) -> None:
    """A worker that uses no AVX, and a column named with a minus."""
    model = linear()
    with uproot.recreate(tmp_path / "names.root") as file:
        tree = file.mktree("t", {"a-b": "float32", "c.d": "float64"})
        tree.extend({"a-b": np.arange(9, dtype="f4"), "c.d": np.arange(9) / 7})
    names, columns = ["a-b", "c.d", 1], ("t", str(tmp_path / "names.root"))
    with cluster(n_workers=1, processes=True, env={"SOFIE_RDF_SIMD": "generic"}) as client:
        there = sofie.define(
            ROOT.RDataFrame(*columns, executor=client, npartitions=2), "y", model, names
        )
        found = there.AsNumpy(["y"])["y"]
        lanes = f"sofie_{model.parcel.space[-16:]}::lanes<float>"
        assert on_workers(client, f"__import__('ROOT').gInterpreter.Calc('{lanes}')") == [4]
    here = sofie.define(ROOT.RDataFrame(*columns), "y", model, names)
    np.testing.assert_allclose(found, here.AsNumpy(["y"])["y"], rtol=1e-6)


# In this process --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def here() -> Iterator[Any]:
    """A worker that is this process, where the model has been compiled already."""
    with cluster(n_workers=1, processes=False) as client:
        yield client


def test_half_precision_in_the_process_of_the_client(here: Any) -> None:
    exp = helper.make_node("Exp", ["x"], ["y"])
    model = network([exp], {"x": (HALF, ["N", 2])}, {"y": (HALF, ["N", 2])})
    frames = [ROOT.RDataFrame(9, executor=here), ROOT.RDataFrame(9)]
    frames = [df.Define("x", "rdfentry_ / 7.") for df in frames]
    frames = [sofie.define(df, "y", model, ["x", "2 * x"]).Define("z", "y[1]") for df in frames]
    found, wanted = (df.AsNumpy(["z"])["z"] for df in frames)
    np.testing.assert_array_equal(found, wanted)


def scaled(number: float) -> sofie.Model:
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    return network([node], {"x": ["N", 1]}, {"y": ["N", 1]}, w=np.array([number], np.float32))


def one_sum(client: Any, model: sofie.Model) -> float:
    df = ROOT.RDataFrame(4, executor=client, npartitions=2).Define("x", "1.0f")
    return float(sofie.define(df, "y", model, ["x"]).Sum("y").GetValue())


def test_a_file_that_is_damaged(here: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def damaged(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content[:-70] + bytes(70))
        return tmp_path / name

    model = scaled(3)
    monkeypatch.setattr(sent, "_file", damaged)
    with pytest.raises(RuntimeError, match="model 'net' is damaged on this worker"):
        one_sum(here, model)


def test_the_first_result_on_a_worker_is_compared(here: Any) -> None:
    assert one_sum(here, scaled(5)) == 20
    model = scaled(7)
    parcel = model.parcel
    at = parcel.numbers + parcel.expected[0].right
    content = parcel.content[:at] + np.float32(1e3).tobytes() + parcel.content[at + 4 :]
    vars(model)["parcel"] = replace(parcel, content=content)
    with pytest.raises(RuntimeError, match="output 'y' differs on this worker from the reference"):
        one_sum(here, model)


def test_workers_with_threads_are_refused(lin: sofie.Model) -> None:
    with cluster(n_workers=1, threads_per_worker=2, processes=False) as client:
        df = ROOT.RDataFrame(4, executor=client).Define("x", "1.0f")
        with pytest.raises(sofie.InputError, match=r"has 2 threads.*threads_per_worker=1"):
            sofie.define(df, "y", lin, ["x", "x", "x"])


# Spark --------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")
def test_spark_gives_the_same(
    files: list[str], lin: sofie.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyspark = pytest.importorskip("pyspark", reason="500 MB, which the tests do not install")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    settings = pyspark.SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false")
    context = pyspark.SparkContext(conf=settings)
    try:
        frames = [ROOT.RDataFrame("Events", files, executor=context, npartitions=2)]
        frames.append(ROOT.RDataFrame("Events", files))
        frames = [sofie.define(df, "y", lin, ["met", "met * 2", 1]) for df in frames]
        found, wanted = (df.AsNumpy(["y"])["y"] for df in frames)
    finally:
        context.stop()
    np.testing.assert_array_equal(found, wanted)


def test_a_name_in_the_model_is_no_namespace() -> None:
    """What it says in a comment or in a string would become a macro for all code behind it."""
    text = '// namespace float {\nconst char *name = "namespace double {";\nnamespace real {\n}\n'
    found = shipped._isolated(text, "key", ())
    assert "#define real real_key" in found
    assert "#define float" not in found
    assert "#define double" not in found
