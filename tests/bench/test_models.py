"""The built-in networks, files, and the inputs that are made for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from sofie_rdf.bench.models import (
    BUILT_IN,
    Candidate,
    FreeSizes,
    candidate,
    candidates,
    empty_task,
    identity,
    task_for,
)
from sofie_rdf.errors import ModelError, SofieError, UnsupportedFormat
from sofie_rdf.ir.dims import evaluate as evaluate_dim
from sofie_rdf.reference import evaluate


def _relu(*shapes: list[int | str]) -> bytes:
    """A Relu on each input of these shapes."""
    ports = [
        [
            helper.make_tensor_value_info(f"{side}{i}", TensorProto.FLOAT, s)
            for i, s in enumerate(shapes)
        ]
        for side in "xy"
    ]
    nodes = [helper.make_node("Relu", [f"x{i}"], [f"y{i}"]) for i in range(len(shapes))]
    graph = helper.make_graph(nodes, "relu", *ports)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    ("name", "multiply_adds", "inputs", "outputs"),
    [
        ("linear50x10", 10 * 50 * 50, 50, 50),
        ("mlp200x5", 7 * 200 + 4 * 200 * 200 + 200, 7, 1),
        ("higgs", 7 * 64 + 3 * 64 * 64 + 64, 7, 1),
    ],
)
def test_built_in_networks(name: str, multiply_adds: int, inputs: int, outputs: int) -> None:
    model = candidate(name).model
    one = dict.fromkeys(model.graph.symbols, 1)
    assert evaluate_dim(model.optimized.multiply_adds, one) == multiply_adds
    (taken,), (given,) = model.inputs.values(), model.outputs.values()
    assert (taken.shape[1], given.shape[1]) == (inputs, outputs)
    assert str(taken.shape[0]) == str(given.shape[0])
    feeds = task_for(candidate(name), 1).feeds
    result = evaluate(model.graph, feeds)
    assert all(np.all(np.isfinite(a)) and np.any(a) for a in result.values())


@pytest.mark.parametrize("form", ["detector", "detector_11"])
def test_detectors(form: str) -> None:
    """Beside onnxruntime; the open one on images of several sizes. Places are of all levels."""
    for name, sizes in ((form, ((64, 64),)), (f"{form}_open", ((32, 32), (64, 96)))):
        found = candidate(name)
        session = onnxruntime.InferenceSession(found.source)
        for height, width in sizes:
            x = np.random.default_rng(2).normal(size=(1, 3, height, width)).astype(np.float32)
            (y,) = evaluate(found.model.graph, {"x": x}).values()
            assert y.shape == (1, 84, sum(height * width // d**2 for d in (8, 16, 32)))
            np.testing.assert_allclose(session.run(None, {"x": x})[0], y, rtol=1e-4, atol=1e-5)


def test_the_newer_detector_has_as_many_weights_as_yolo11n() -> None:
    graph = candidate("detector_11").model.graph
    assert sum(a.size for a in graph.constants.values()) == pytest.approx(2.616e6, rel=1e-3)


def test_the_same_weights_every_time() -> None:
    sources = [BUILT_IN["mlp200x5"]().source for _ in range(2)]
    assert sources[0] == sources[1]


def test_higgs_without_the_trained_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    found = BUILT_IN["higgs"]()
    assert isinstance(found.source, bytes)
    assert "random" in found.about
    onnx.checker.check_model(found.source)


def test_a_file_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(_relu(["N", 3]))
    found = candidate(str(path))
    assert (found.name, found.source) == ("mine", path)
    assert found.batches((1, 8), FreeSizes()) == (1, 8)
    assert found.batches(None, FreeSizes()) == (1, 64)


def test_what_is_neither_file_nor_built_in(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Did you mean 'mlp200x5'"):
        candidate("mlp200x")
    with pytest.raises(ModelError, match=r"absent\.onnx: cannot be read"):
        candidate("absent.onnx")
    path = tmp_path / "m.root"
    path.write_bytes(b"root\0\0\0\0")
    with pytest.raises(UnsupportedFormat, match=r"give it the \.onnx"):
        candidate(str(path))


def test_a_batch_that_the_file_has_fixed() -> None:
    assert Candidate("fixed", "", _relu([16, 3])).batches((1, 64), FreeSizes()) == (16,)
    assert Candidate("features", "", _relu([16])).batches(None, FreeSizes()) == (1,)
    assert Candidate("scalar", "", _relu([])).batches(None, FreeSizes()) == (1,)


def test_free_axes_that_are_no_batch() -> None:
    made = Candidate("free", "", _relu(["N", "particles", 4], ["events", 2]))
    task = task_for(made, 5)
    assert task.sizes == {"N": 5, "particles": 32, "events": 5}
    assert [a.shape for a in task.feeds.values()] == [(5, 32, 4), (5, 2)]
    assert all(a.dtype == np.float32 for a in task.feeds.values())
    again = task_for(made, 5).feeds
    assert all(np.array_equal(task.feeds[name], again[name]) for name in again)
    assert task_for(made, 5, FreeSizes(other=7)).sizes["particles"] == 7
    named = FreeSizes({"particles": 3, "events": 2, "absent": 9}, 7)
    assert task_for(made, 5, named).sizes == {"N": 5, "particles": 3, "events": 2}


def test_large_networks_have_no_large_batch() -> None:
    assert BUILT_IN["resnet18"]().batches(None, FreeSizes()) == (1,)
    assert BUILT_IN["resnet18"]().batches((2, 3), FreeSizes()) == (2, 3)


def test_folders_and_all(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.onnx").write_bytes(_relu(["N", 3]))
    (tmp_path / "c.txt").write_text("")
    found = candidates([str(tmp_path), str(tmp_path / "a.onnx"), "higgs"])
    assert [c.name for c in found] == ["a", "b", "higgs"]
    assert [c.name for c in candidates(["higgs", "all"])] == list(BUILT_IN)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"folder without \.onnx files"):
        candidates([str(tmp_path / "empty")])


@pytest.mark.parametrize("name", [n for n in BUILT_IN if n not in ("conv2d14", "resnet18")])
def test_results_depend_on_the_inputs(name: str) -> None:
    """No sigmoid that is 0 or 1 whatever is computed. (The reference of two takes too long.)"""
    task = task_for(BUILT_IN[name](), 2)
    for array in evaluate(task.candidate.model.graph, task.feeds).values():
        assert np.all(np.isfinite(array))
        assert np.max(np.abs(array)) > 1e-3
        assert np.max(np.abs(array[0] - array[1])) > 1e-3


def test_the_same_inputs_for_a_network_that_does_nothing() -> None:
    task = task_for(candidate("higgs"), 3)
    empty = empty_task(task)
    assert empty.feeds is task.feeds
    assert list(empty.candidate.model.inputs) == list(task.feeds)


def test_identity_of_the_same_inputs() -> None:
    feeds = {"a": np.ones((2, 3), np.float32), "b": np.asarray([True, False])}
    model = onnx.load_from_string(identity(feeds))
    onnx.checker.check_model(model, full_check=True)
    assert [i.name for i in model.graph.input] == ["a", "b"]
    assert [n.op_type for n in model.graph.node] == ["Identity", "Identity"]


def test_a_damaged_file_is_an_error_of_ours() -> None:
    with pytest.raises(SofieError):
        _ = Candidate("damaged", "", b"\x08\x07nonsense").model
