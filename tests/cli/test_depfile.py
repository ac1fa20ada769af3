"""`sofie-rdf emit --depfile`: names of files are names to Make, whoever has chosen them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.cli.conftest import HIGGS, Run


def model_with_weights_in(path: Path, location: str) -> None:
    """An ONNX file whose weights lie beside it in a file of that name."""
    weight = numpy_helper.from_array(np.array([[2], [3]], np.float32), "w")
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])
        for name, size in (("x", 2), ("y", 1))
    )
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (path.parent / "w.bin").rename(path.parent / location)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    path.write_bytes(model.SerializeToString())


def made(folder: Path) -> str:
    """What Make says where it reads the depfile."""
    (folder / "Makefile").write_text(f"all: {folder}/out/m.hxx\ninclude m.d\n")
    done = subprocess.run(["make"], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("make"), reason="needs Make")
@pytest.mark.parametrize(
    "location",
    [
        "w;touch ran",
        "w\nall:\n\ttouch ran\n",
        "w;touch ran;#",
        "a=b",
        "a%b",
        "w:",
        "w|",
        "[w]",
        "*",
    ],
)
def test_names_of_weights_run_nothing(run: Run, tmp_path: Path, location: str) -> None:
    """They are in the model, and so a stranger's."""
    model_with_weights_in(tmp_path / "m.onnx", location)
    (tmp_path / "w").touch()
    found = run("emit", tmp_path / "m.onnx", "-o", tmp_path / "out", "--depfile", tmp_path / "m.d")
    assert found.code == 1
    assert "depfile" in found.err
    assert "Rename the file" in found.err
    assert not (tmp_path / "m.d").exists()
    assert run("emit", tmp_path / "m.onnx", "-o", tmp_path / "out").code == 0


@pytest.mark.skipif(not shutil.which("make"), reason="needs Make")
@pytest.mark.parametrize("location", ["w.bin", "my weights.bin", "$USER", "a#b", "é"])
def test_names_that_can_be_said_are_said(run: Run, tmp_path: Path, location: str) -> None:
    model_with_weights_in(tmp_path / "m.onnx", location)
    found = run("emit", tmp_path / "m.onnx", "-o", tmp_path / "out", "--depfile", tmp_path / "m.d")
    assert found.code == 0, found.err
    said = made(tmp_path)
    assert "Nothing to be done" in said, said
    assert not (tmp_path / "ran").exists()
    (tmp_path / location).unlink()
    assert "No rule to make target" in made(tmp_path)


@pytest.mark.parametrize("folder", ["a;b", "a\nb"])
def test_folders_that_cannot_be_said(run: Run, tmp_path: Path, folder: str) -> None:
    out = tmp_path / folder
    found = run("emit", HIGGS, "-o", out, "--depfile", tmp_path / "m.d")
    assert (found.code, "depfile" in found.err) == (1, True)
    assert not (tmp_path / "m.d").exists()
