"""What an error tells the user to do can be done."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import sofie_rdf as sofie
from tests.choice import every, some_of

ROOT = pytest.importorskip("ROOT")
FLOAT = TensorProto.FLOAT
HIGGS = Path(__file__).resolve().parents[2] / "data" / "higgs.onnx"


def summed(*names: str, **shapes: Any) -> sofie.Model:
    """The sums over all axes behind the first one, added up."""
    nodes = [helper.make_node("ReduceSum", [x], [f"s_{x}"], keepdims=0) for x in names]
    nodes.append(helper.make_node("Sum", [f"s_{x}" for x in names], ["y"]))
    inputs = [helper.make_tensor_value_info(x, FLOAT, shapes[x]) for x in names]
    output = helper.make_tensor_value_info("y", FLOAT, [])
    graph = helper.make_graph(nodes, "net", inputs, [output])
    opset = [helper.make_opsetid("", 17)]
    return sofie.from_onnx(helper.make_model(graph, opset_imports=opset, ir_version=8))


COLUMNS = {
    "lorentz": ("TLorentzVector(1, 2, 3, 4)", ".Pt()"),
    "lorentz_new": ("ROOT::Math::PtEtaPhiMVector(1, 2, 3, 4)", ".Pt()"),
    "vectors": ("ROOT::RVec<TLorentzVector>(2)", "[0].Pt()"),
    "three": ("TVector3(1, 2, 3)", ".Pt()"),
    "nested": ("ROOT::RVec<ROOT::RVecF>{{1}}", "[0][0]"),
    "pair": ("std::make_pair(1.f, 2.f)", ".first"),
    "text": ('std::string("a")', ".size()"),
    "arrays": ("std::vector<std::array<float, 2>>(1)", "[0][0]"),
}


@pytest.mark.parametrize(("name", "way"), every(3, [(k, v[1]) for k, v in COLUMNS.items()]))
def test_what_makes_a_number_of_a_column_compiles(name: str, way: str) -> None:
    df = ROOT.RDataFrame(2).Define(name, COLUMNS[name][0])
    model = summed("x", x=["N", 1])
    with pytest.raises(sofie.ColumnError, match="An expression can make one of it") as caught:
        model.define(df, "y", [name])
    advice = re.findall(r"such as '(.+)'", str(caught.value))
    assert advice == [f"({name}{way})" if way == ".first" else f"{name}{way}"]
    assert np.isfinite(model.define(df, "y", advice).Sum("y").GetValue())


def test_a_forgotten_mask() -> None:
    model = summed("x", "seen", x=["N", 3, "n"], seen=["N", 1, "n"])
    df = ROOT.RDataFrame(2).Define("v", "ROOT::RVecF{1, 2}")
    with pytest.raises(sofie.ColumnError, match=r"has 2 inputs.*is a mask: mask='seen'"):
        model.define(df, "y", ["v"] * 3)
    with pytest.raises(sofie.ColumnError, match=r"input 'seen'.*mask of the.*'x'.*mask='seen'"):
        model.define(df, "y", {"x": ["v"] * 3})
    df = model.define(df, "y", {"x": ["v"] * 3}, mask="seen")
    assert df.Sum("y").GetValue() == 2 * (9 + 2)


def test_the_advice_on_masks_takes_the_likelier_input() -> None:
    model = summed("x", "its_mask", x=["N", 1, "n"], its_mask=["N", 1, "n"])
    df = ROOT.RDataFrame(2).Define("v", "ROOT::RVecF{1, 2}")
    with pytest.raises(sofie.ColumnError, match=r"If 'its_mask' is a mask: mask='its_mask'"):
        model.define(df, "y", ["v"])


def test_an_output_that_is_no_score_of_an_object() -> None:
    model = summed("x", x=["n"])
    df = ROOT.RDataFrame(2).Define("v", "ROOT::RVecF{1, 2}")
    with pytest.raises(sofie.ColumnError, match=r'no row for each object\. per="set"'):
        model.define(df, "y", ["v"])
    assert model.define(df, "y", ["v"], per="set").Sum("y").GetValue() == 6


@pytest.mark.exhaustive
def test_a_fixed_batch_can_be_opened_as_the_error_says() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(3, 1)
    df = ROOT.RDataFrame(2).Define("x", "1.f")
    fixed = sofie.from_torch(module, torch.zeros(4, 3), dynamic={})
    with pytest.raises(sofie.ColumnError, match=r"fixed batch of 4.*shapes=\{'input'") as caught:
        fixed.define(df, "y", ["x"] * 3)
    advice = eval(str(caught.value).split("shapes=")[1])
    opened = sofie.from_torch(module, torch.zeros(4, 3), dynamic={}, shapes=advice)
    y = opened.define(df, "y", ["x"] * 3).Sum("y").GetValue()
    assert y == pytest.approx(2 * module(torch.ones(1, 3)).item(), rel=1e-5)


@pytest.mark.exhaustive
def test_a_program_with_a_fixed_batch_can_be_exported_anew(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(3, 1)
    df = ROOT.RDataFrame(2).Define("x", "1.f")
    program = torch.export.export(module, (torch.zeros(4, 3),))
    torch.export.save(program, tmp_path / "m.pt2")
    with pytest.raises(sofie.ColumnError, match="Export it anew") as caught:
        sofie.load(tmp_path / "m.pt2").define(df, "y", ["x"] * 3)
    axes = eval(str(caught.value).split("dynamic_shapes=")[1][:-1], {"torch": torch})
    program = torch.export.export(module, (torch.zeros(4, 3),), dynamic_shapes=axes)
    torch.export.save(program, tmp_path / "n.pt2")
    opened = sofie.load(tmp_path / "n.pt2")
    y = opened.define(df, "y", ["x"] * 3).Sum("y").GetValue()
    assert y == pytest.approx(2 * module(torch.ones(1, 3)).item(), rel=1e-5)


@pytest.mark.exhaustive
def test_an_open_axis_of_an_exported_program_can_be_fixed_as_the_error_says(
    tmp_path: Path,
) -> None:
    torch = pytest.importorskip("torch")

    class Mean(torch.nn.Module):  # type: ignore[name-defined,misc]
        def forward(self, x: Any) -> Any:
            return x.mean((1, 2), keepdim=True)[:, 0]

    axes = {"x": {0: torch.export.Dim("n"), 1: torch.export.Dim("k")}}
    program = torch.export.export(Mean(), (torch.zeros(4, 5, 1),), dynamic_shapes=axes)
    torch.export.save(program, tmp_path / "m.pt2")
    df = ROOT.RDataFrame(2).Define("x", "1.f")
    with pytest.raises(sofie.ColumnError, match="read the model with numbers") as caught:
        sofie.load(tmp_path / "m.pt2").define(df, "y", ["x"])
    advice = eval(str(caught.value).split("shapes=")[1])
    fixed = sofie.load(tmp_path / "m.pt2", shapes=advice)
    count = fixed.inputs["x"].shape[1]
    assert fixed.define(df, "y", ["x"] * count).Sum("y").GetValue() == 2


DECLARED = """
{before}
import sofie_rdf
emitted = sofie_rdf.load({model!r}, compiler="g++").emit({folder!r})
import ROOT
assert ROOT.gInterpreter.Declare(f'#include "{{emitted.header}}"')
session = getattr(ROOT, emitted.namespace).Session(str(emitted.weights))
print(session.infer(ROOT.std.vector["float"]([0.5] * 7))[0])
"""


@pytest.mark.parametrize("before", some_of(["import ROOT", ""], [""]))
def test_cling_finds_the_headers_of_what_has_been_emitted(tmp_path: Path, before: str) -> None:
    """Also where it has compiled nothing of ours before, and where ROOT is imported later."""
    text = DECLARED.format(model=str(HIGGS), folder=str(tmp_path), before=before)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    expected = sofie.load(HIGGS)(np.full((1, 7), 0.5, np.float32))
    assert np.float32(done.stdout) == expected[0, 0]
