"""`sofie-rdf profile`: each node that runs has its time, its name in the file, its needs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sofie_rdf as sofie
from sofie_rdf.bench.models import FreeSizes, feeds_for, sizes_for
from sofie_rdf.cli.origins import label, origins
from sofie_rdf.cli.profile import measured
from sofie_rdf.cli.tables import time_text
from sofie_rdf.errors import ModelError
from sofie_rdf.runtime.compile import profiling
from tests.choice import some_of
from tests.cli.conftest import DATA, HIGGS, Run
from tests.cli.test_json import keys, promised


def network(path: Path, nodes: Sequence[Any], out: str, **known: Any) -> Path:
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])]
    outputs = [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)]
    arrays = [numpy_helper.from_array(np.asarray(v), k) for k, v in known.items()]
    graph = helper.make_graph(list(nodes), "net", ports, outputs, arrays)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@pytest.mark.parametrize(
    "file",
    some_of(
        ["higgs.onnx", "particlenet.onnx", "jet_tagger.onnx"], ["higgs.onnx", "jet_tagger.onnx"]
    ),
)
def test_all_nodes_and_their_sum(run: Run, file: str) -> None:
    done = run("profile", DATA / file, "--batch", "3", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    sizes = found.pop("sizes")
    assert sizes["N"] == 3
    assert keys(found) <= promised(run("profile", "--help").out)
    model = sofie.load(DATA / file)
    ran = [i for i, node in enumerate(model.optimized.nodes) if not node.op.is_alias]
    assert [one["number"] for one in found["nodes"]] == ran
    in_file = {label(node) for node in model.graph.nodes}
    named = {name for one in found["nodes"] for name in one["nodes"]}
    assert named <= in_file
    times = [one["seconds"] for one in found["nodes"]]
    assert found["sum"] == pytest.approx(found["before"] + sum(times))
    assert found["overhead"] == pytest.approx(found["whole"] - found["sum"])
    assert sum(one["share"] for one in found["nodes"]) == pytest.approx(1, abs=0.2)
    assert min(times) >= 0 < found["sum"]
    assert sum(one["flops"] for one in found["nodes"]) > 0


def test_the_sum_of_the_nodes_is_within_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is between two clocks in the code is between two clocks around the call."""
    seen = []
    real = profiling._Laps.seconds

    def watched(self: Any, calls: int) -> list[float]:
        start = time.perf_counter()
        found = real(self, calls)
        seen.append((sum(found), (time.perf_counter() - start) / calls))
        return found

    monkeypatch.setattr(profiling._Laps, "seconds", watched)
    measured(sofie.load(DATA / "particlenet.onnx"), 4, FreeSizes())
    assert len(seen) > 9
    # The speed of the counter is known to a thousandth.
    assert all(0 < inside <= outside * 1.01 for inside, outside in seen)


def test_names_are_those_of_the_file(run: Run) -> None:
    model = sofie.load(HIGGS)
    (names,) = origins(model.graph, model.optimized)
    assert names == tuple(node.name for node in onnx.load(HIGGS).graph.node)
    out = run("profile", HIGGS).out
    assert "center, scale, ... sigmoid (16 nodes)" in out
    assert "one call without clocks" in out
    assert "overhead: the difference" in out


def test_the_slow_node_is_the_slow_one(run: Run, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["a"], name="fast"),
        helper.make_node("Tile", ["a", "many"], ["b"], name="wide"),
        helper.make_node("MatMul", ["b", "w"], ["c"], name="slow"),
        helper.make_node("ReduceSum", ["c", "axis"], ["y"], name="end"),
    ]
    known = {
        "many": np.array([1, 200]),
        "w": np.full((1600, 1600), 1e-3, np.float32),
        "axis": np.array([1]),
    }
    path = network(tmp_path / "net.onnx", nodes, "y", **known)
    done = run("profile", path, "--by", "time", "--shapes", "--batch", "8")
    assert done.code == 0, done.err
    rows = [line for line in done.out.splitlines() if line[:1].isdigit()]
    assert "slow" in rows[0]
    assert "float32[N, 1600]" in done.out


def test_what_is_not_a_plain_node(run: Run, tmp_path: Path) -> None:
    """Loops, sizes that the data decide, random numbers, and an output that is an input."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Add", ["v", "v"], ["w"], name="inside"),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []),
         value("v", TensorProto.FLOAT, ["N", 8])],
        [value("on", TensorProto.BOOL, []), value("w", TensorProto.FLOAT, ["N", 8])],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["rounds", "", "x"], ["y"], name="the loop", body=body)
    path = network(tmp_path / "loop.onnx", [loop], "y", rounds=np.array(5))
    done = run("profile", path)
    assert done.code == 0, done.err
    assert "the loop" in done.out
    assert "inside" not in done.out
    decided = [helper.make_node("NonZero", ["x"], ["i"], name="found"),
               helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)]  # fmt: skip
    done = run("profile", network(tmp_path / "nonzero.onnx", decided, "y"), "--json")
    assert done.code == 0, done.err
    drawn = [helper.make_node("RandomNormalLike", ["x"], ["y"], name="noise")]
    done = run("profile", network(tmp_path / "random.onnx", drawn, "y"), "--batch", "5")
    assert done.code == 0, done.err
    assert "noise" in done.out
    same = [helper.make_node("Identity", ["x"], ["y"], name="same")]
    done = run("profile", network(tmp_path / "same.onnx", same, "y"))
    assert done.code == 0, done.err
    assert "copy" in done.out


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_picture(run: Run, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("matplotlib")
    nodes = [helper.make_node("Exp", ["x"], ["y"], name=r"$\frac{$ <script>")]
    path = network(tmp_path / "net.onnx", nodes, "y")
    file = tmp_path / f"times.{kind}"
    done = run("profile", path, "--plot", file)
    assert done.code == 0, done.err
    assert file.stat().st_size > 1000
    assert str(file) in done.err
    done = run("profile", path, "--plot", tmp_path / "times.nothing")
    assert done.code == 1
    assert "this kind of picture is not known" in done.err


def test_the_emitted_code_has_no_clock_otherwise() -> None:
    assert "laps" not in sofie.load(DATA / "particlenet.onnx").emission.header


def test_other_numbers_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = sofie.load(HIGGS)
    sizes = sizes_for(model.graph, 2, FreeSizes())
    feeds = feeds_for(model.graph, sizes)
    real = type(model.compiled).infer
    monkeypatch.setattr(
        type(model.compiled), "infer", lambda *a: {k: v + 1 for k, v in real(*a).items()}
    )
    with pytest.raises(ModelError, match="has other numbers where times are taken"):
        profiling.profile(model.optimized, model.compiled, feeds, sizes)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.2345, "1.23 s"), (0.1234, "123 ms"), (1.5e-6, "1.50 us"), (-2e-8, "-20.0 ns")],
)
def test_times_as_text(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
