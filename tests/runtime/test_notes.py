"""What `check` says beforehand of models that run, and that `define` refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import ColumnError
from tests.frontends.models import model, node

SHAPES = ([32, 7], [1, 7], [32, 4, 2])


def file_of(path: Path, shape: Sequence[Any], operator: str = "Relu") -> Path:
    proto = model([node(operator, "x", "y")], {"x": shape}, "y")
    onnx.save(proto, str(path))
    return path


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_fixed_batch_is_noted_with_the_way_out(tmp_path: Path, shape: list[int]) -> None:
    path = file_of(tmp_path / "m.onnx", shape)
    found = sofie.check(path)
    assert found == []
    (note,) = found.notes
    assert f"fixed batch of {shape[0]}" in note.thing
    rest = ", ".join(map(str, shape[1:]))
    assert f"shapes={{'x': ('N', {rest})}}" in note.remedy
    assert "fixed batch" in repr(found)
    assert sofie.check(path, shapes={"x": ("N", *shape[1:])}).notes == []
    sofie.load(path).save(tmp_path / "m.root")
    assert [n.thing for n in sofie.check(tmp_path / "m.root").notes] == [note.thing]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_noted_is_what_define_says(tmp_path: Path, shape: list[int]) -> None:
    """Of columns that a batch of one cannot have: RVecs."""
    root = pytest.importorskip("ROOT")
    path = file_of(tmp_path / "m.onnx", shape)
    (note,) = sofie.check(path).notes
    columns = [f"x{i}" for i in range(int(np.prod(shape[1:])))]
    frame = root.RDataFrame(2)
    for column in columns:
        frame = frame.Define(column, "ROOT::RVec<float>{1, 2}")
    with pytest.raises(ColumnError) as caught:
        sofie.load(path).define(frame, "y", columns, per="object")
    assert caught.value.remedy == note.remedy


@pytest.mark.parametrize("shape", [["N", 7], [7], [], ["N", "n_pf", 4]], ids=str)
def test_models_that_can_be_columns_have_no_note(tmp_path: Path, shape: list[Any]) -> None:
    found = sofie.check(file_of(tmp_path / "m.onnx", shape))
    assert (found, found.notes, repr(found)) == ([], [], "[]")


def test_an_output_whose_size_the_data_decide_is_noted(tmp_path: Path) -> None:
    (note,) = sofie.check(file_of(tmp_path / "m.onnx", ["N", 4], "NonZero")).notes
    assert "the data decide the size of output 'y'" in note.thing


def test_the_command_line_notes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sofie_rdf.cli import main

    path = file_of(tmp_path / "m.onnx", [32, 7])
    assert main(["check", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: ok\n  note: model 'm' has a fixed batch of 32")
    assert "--shape x=N,7" in out
    assert main(["check", "--json", str(path)]) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert file["ok"] and not file["problems"]
    assert "fixed batch of 32" in file["notes"][0]["thing"]
