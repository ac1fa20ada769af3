"""The whole of ``sofie-rdf bench``, with rounds that are too short to mean anything."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from sofie_rdf import bench
from sofie_rdf.bench import machine, ort, ort_api, ours, peers, roofline
from sofie_rdf.bench.dataframe import fits, multithreading
from sofie_rdf.bench.models import BUILT_IN, candidate, empty_task, task_for
from sofie_rdf.errors import MissingDependency, ModelError
from sofie_rdf.ir.types import Array
from sofie_rdf.runtime.compile.clock import InferLoop
from tests.bench.test_models import _relu
from tests.frontends.models import model, node, value

TINY = ("--seconds", "0.001", "--rounds", "2", "--loop-seconds", "0.02")
ALONE = ("--peers", "none", "--no-first", "--no-dataframe")


@pytest.fixture(scope="module", autouse=True)
def _quick_roofline() -> Iterator[None]:
    """The machine is measured for milliseconds, and little memory is read."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_SECONDS", 1e-4), ("_TURNS", 1), ("_MOST_BYTES", 1 << 22)):
            patch.setattr(roofline, name, value)
        yield


def parse(*words: str) -> Namespace:
    parser = ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(words)


# Arguments ----------------------------------------------------------------------------------------


def test_defaults() -> None:
    given = parse()
    assert (given.models, given.batch, given.threads) == ([], None, (1, 2))
    assert (given.free, given.size, given.peers, given.limit) == (32, [], None, 30)
    assert (given.json, given.plot, given.source) == (None, None, None)
    assert not any((given.list, given.no_dataframe, given.no_first, given.markdown))


def test_everything_at_once() -> None:
    given = parse(
        *("a.onnx", "higgs", "--batch", "1, 8,8,64", "--rounds", "3", "--seconds", "0.5"),
        *("--threads", "4", "--no-dataframe", "--json", "-", "--free", "20", "--peers", "torch, a"),
        *("--size", "n_pf=25", "--size", "a=b=3", "--limit", "9", "--no-first", "--plot", "a.png"),
    )
    assert (given.free, given.size) == (20, [("n_pf", 25), ("a=b", 3)])
    assert (given.peers, given.limit) == (("torch", "a"), 9)
    assert (given.no_first, given.plot) == (True, "a.png")
    assert given.models == ["a.onnx", "higgs"]
    assert (given.batch, given.threads) == ((1, 8, 64), (4,))
    assert (given.rounds, given.seconds) == (3, 0.5)
    assert (given.no_dataframe, given.json) == (True, "-")


@pytest.mark.parametrize(
    "words",
    [
        *(["--batch", text] for text in ("0", "-1", "x", "1,,2", "1.5", "")),
        *(["--seconds", text] for text in ("0", "-1", "nan", "x", "inf")),
        ["--rounds", "0"],
        ["--free", "0"],
        ["--size", "n=0"],
        ["--threads", "0"],
    ],
)
def test_wrong_arguments(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(*words)
    assert ended.value.code == 2
    assert "is no number" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["n", "=3", "3"])
def test_a_size_without_name(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--size", text)
    assert "is not NAME=N" in capsys.readouterr().err


def test_list_needs_neither_root_nor_onnxruntime(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "ROOT", None)
    assert bench.main(parse("--list")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(BUILT_IN)


@pytest.mark.parametrize(
    ("module", "remedy"), [("onnxruntime", "pip install onnxruntime"), ("ROOT", "pip install root")]
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=remedy):
        bench.main(parse(*TINY))


def test_a_file_that_cannot_be_written_is_found_first(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be written"):
        bench.main(parse("--json", str(tmp_path / "absent" / "x.json")))


# Whole runs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All built-in networks and a file with a fixed batch, with loops: the JSON."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "fixed.onnx").write_bytes(_relu([4, 3]))
    models = ("linear50x10", "mlp200x5", "higgs", str(folder / "fixed.onnx"))
    out = folder / "out.json"
    words = (*models, *TINY, "--batch", "1,5", "--peers", "none", "--no-first", "--json", str(out))
    assert bench.main(parse(*words)) == 0
    return dict(json.loads(out.read_text()))


def test_json_says_where_and_how(result: dict[str, Any]) -> None:
    assert (result["format"], result["ok"], result["errors"]) == (2, True, [])
    found = result["machine"]
    assert found["cpu"]
    assert found["instruction_set"] in ("avx512", "avx2", "generic")
    assert all(found["versions"][n] for n in ("sofie_rdf", "ROOT", "onnxruntime"))
    assert result["options"]["batch"] == [1, 5]


def test_json_holds_every_case(result: dict[str, Any]) -> None:
    found = [(c["model"], c["batch"]) for c in result["cases"]]
    built_in = [(m, b) for m in ("linear50x10", "mlp200x5", "higgs") for b in (1, 5)]
    assert found == [*built_in, ("fixed", 4)]
    for case in result["cases"]:
        ours_us = case["sofie_rdf"]["us"]
        assert len(ours_us["rounds"]) == 2
        assert 0 < ours_us["least"] <= ours_us["median"] <= ours_us["quartiles"][1] * 1.0001
        assert case["sofie_rdf"]["python_us"]["median"] > 0
        forms = case["peers"]["onnxruntime"]["forms"]
        best = forms[case["peers"]["onnxruntime"]["best"]]
        assert {"binding", "run"} <= forms.keys()
        assert best["us"]["median"] == min(f["us"]["median"] for f in forms.values())
        assert case["ratio"]["gross"] == pytest.approx(best["us"]["median"] / ours_us["median"])
        assert case["ratio"]["net"] == pytest.approx(best["net_us"] / ours_us["median"])
        assert all(f["overhead_us"]["median"] > 0 for f in forms.values())
        assert all(f["deviation"]["largest"] < 1e-3 for f in forms.values())


def test_json_holds_the_least_time(result: dict[str, Any]) -> None:
    assert result["roofline"]["gflop_per_s"] > 0
    assert result["roofline"]["levels"][-1]["name"] == "memory"
    assert result["cases"][-1]["bound"] == {"least_us": 0, "set_by": "-", "distance": None}
    for case in result["cases"][:-1]:
        bound = case["bound"]
        assert bound["least_us"] > 0
        assert bound["set_by"]
        assert bound["distance"] == pytest.approx(
            case["sofie_rdf"]["us"]["median"] / bound["least_us"]
        )
    assert result["cases"][0]["work"]["flops"] == 10 * 50 * 50 * 2


def test_json_holds_the_loops_of_those_that_fit(result: dict[str, Any]) -> None:
    assert [loop["model"] for loop in result["loops"]] == ["mlp200x5", "higgs"]
    for loop in result["loops"]:
        assert loop["events"] >= 1000
        assert [run["threads"] for run in loop["threads"]] == [1, 2]
        assert loop["threads"][0]["speedup"] == 1
        for run in loop["threads"]:
            event = run["us_per_event"]
            assert run["events_per_second"] == pytest.approx(1e6 / event["median"])
            network = event["median"] - run["loop_alone_us"]["median"]
            assert run["network_us"] == pytest.approx(network)
            assert run["cpu_us_per_event"]["median"] > 0


def test_the_table_and_json_on_the_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("higgs", *TINY, "--batch", "2", "--peers", "none", "--no-first")
    assert bench.main(parse(*words)) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("higgs"))
    assert row.split()[1] == "2"
    assert "\x1b" not in out
    assert "empty call" in out
    assert "RDataFrame" in out
    assert bench.main(parse(*words, "--no-dataframe", "--json", "-")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["loops"] == []


# Wrong numbers, models that do not run ------------------------------------------------------------


@pytest.mark.parametrize("peer", [ort.OrtRun, ort.OrtBinding, InferLoop, ours.OurPython])
def test_a_wrong_number_is_an_error(
    peer: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = peer.outputs

    def wrong(self: Any) -> list[Array]:
        return [np.asarray(o * np.float32(1.01)) for o in right(self)]

    monkeypatch.setattr(peer, "outputs", wrong)
    words = ("higgs", *TINY, *ALONE, "--batch", "3", "--json", "-")
    assert bench.main(parse(*words)) == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["ok"], found["cases"]) == (False, [])
    assert "higgs: the numbers of sofie_rdf" in found["errors"][0]
    assert "sofie-rdf: error: higgs: the numbers" in captured.err


def test_a_wrong_column_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = ort.OrtRun.evaluate
    features: list[Array] = []

    def swapped(self: Any, feeds: dict[str, Array]) -> list[Array]:
        # Only what comes from the data frame: two features the wrong way round.
        name, array = next(iter(feeds.items()))
        features.append(array)
        return right(self, {name: array[:, ::-1].copy()})

    from sofie_rdf.bench import dataframe

    monkeypatch.setattr(ort.OrtRun, "evaluate", swapped)
    with pytest.raises(ModelError, match="higgs: the column and onnxruntime are not the same"):
        dataframe.measure_loop(candidate("higgs"), (1,), 1, 0.01)
    assert len(features) > 1
    assert capsys.readouterr().out == ""


def test_a_model_that_does_not_run_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "unknown.onnx"
    path.write_bytes(_relu(["N", 3]).replace(b"Relu", b"Rulu"))
    words = (str(path), "higgs", *TINY, *ALONE, "--batch", "1")
    assert bench.main(parse(*words)) == 1
    captured = capsys.readouterr()
    assert "Rulu" in captured.err
    assert any(line.startswith("higgs") for line in captured.out.splitlines())


def test_results_whose_size_the_data_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that the Session has, between two that are computed in the caller's memory."""
    nodes = [node("Relu", "x", "a"), node("NonZero", "a", "places"), node("Neg", "x", "b")]
    outputs = [value("a", None), value("places", None, TensorProto.INT64), value("b", None)]
    path = tmp_path / "places.onnx"
    path.write_bytes(model(nodes, {"x": ["N", 3]}, outputs).SerializeToString())
    words = (str(path), *TINY, *ALONE, "--batch", "7", "--json", "-")
    assert bench.main(parse(*words)) == 0
    found = json.loads(capsys.readouterr().out)
    assert [c["model"] for c in found["cases"]] == ["places"]


def test_a_model_that_refuses_its_inputs_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the run finds wrong is an error, and no exception in the C++ loop."""
    nodes = [node("Concat", "a a", "p", axis=0), node("Add", "p b", "y", "sum")]
    path = tmp_path / "sizes.onnx"
    path.write_bytes(model(nodes, {"a": ["N", 3], "b": ["M", 3]}).SerializeToString())
    words = (str(path), "higgs", *TINY, *ALONE, "--batch", "4")
    assert bench.main(parse(*words)) == 1
    captured = capsys.readouterr()
    assert "sum needs" in captured.err
    assert any(line.startswith("higgs") for line in captured.out.splitlines())


# Pieces -------------------------------------------------------------------------------------------


def test_the_c_library_of_onnxruntime_is_used() -> None:
    assert ort_api.available()
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    from sofie_rdf.bench.models import identity

    call = ort_api.OrtCall(identity(feeds), feeds, [np.zeros((2, 3), np.float32)])
    assert call.seconds(3) > 0
    assert np.array_equal(call.outputs()[0], feeds["x"])


def test_without_the_c_library_python_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort_api, "available", lambda: False)
    assert list(dict(peers.REFERENCE.forms(empty_task(task_for(candidate("higgs"), 1))))) == [
        "binding",
        "run",
    ]


def test_which_models_have_a_loop() -> None:
    assert fits(candidate("higgs").model.graph)
    assert fits(candidate("mlp200x5").model.graph)
    assert not fits(candidate("linear50x10").model.graph)


def test_multithreading_is_left_as_it_was() -> None:
    from sofie_rdf.runtime.compile.interpreter import import_root

    root = import_root()
    with multithreading(1):
        assert not root.IsImplicitMTEnabled()
        with multithreading(2):
            assert root.GetThreadPoolSize() == 2
            with multithreading(1):
                assert not root.IsImplicitMTEnabled()
            assert root.GetThreadPoolSize() == 2
        assert not root.IsImplicitMTEnabled()


def test_cpu_name(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: A CPU @ 3 GHz\nmodel name\t: B\n")
    assert machine.cpu_name(file) == "A CPU @ 3 GHz"
    assert machine.cpu_name(tmp_path / "absent")


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_the_stopwatch_compiles_without_warnings(tmp_path: Path) -> None:
    source = tmp_path / "stopwatch.cxx"
    source.write_text(
        ours.stopwatch() + "int main() { return sofie::bench::ort_seconds_address() == 0; }\n"
    )
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsyntax-only"]
    subprocess.run(["g++", *flags, str(source)], check=True)
