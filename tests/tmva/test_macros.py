"""SOFIE's words in C++, interpreted and compiled, beside the same in Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import sofie_rdf as sofie
from tests.tmva.tutorials import BINARIES, PROJECT, run

pytestmark = pytest.mark.skipif(
    not (BINARIES / "root").exists(), reason="no `root` beside this Python"
)
HIGGS = PROJECT / "data" / "higgs.onnx"
# A name that a shell would take apart.
ODD = 'it\'s $HOME; & "model".onnx'
X = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], np.float32)

HEAD = r"""
#include "sofie/rdf/tmva.hxx"
#include <TH1.h>
#include <TROOT.h>
#include <iostream>
using namespace TMVA::Experimental;
const char *const odd = "it's $HOME; & \"model\".onnx";
const std::vector<float> x = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7};
template <class Action>
void refused(Action action)
{
   try {
      action();
      std::cout << "NOT REFUSED\n";
   } catch (const std::exception &error) {
      std::cout << "refused: " << error.what() << "\n";
   }
}
"""
MODEL = (
    HEAD
    + r"""
void macro()
{
   SOFIE::RModelParser_ONNX parser;
   SOFIE::RModel model = parser.Parse(odd);
   refused([&] { model.OutputGenerated(); });
   refused([&] { SOFIE::RModel().Generate(); });
   refused([&] { parser.Parse("absent.onnx"); });
   refused([&] { model.GetTensorShape("absent"); });
   refused([&] { model.Generate(1 << 5); });
   refused([&] { model.Write(); });
   refused([&] { SOFIE::PyTorch::Parse("higgs.onnx", {{1, 7}}, {SOFIE::ETensorType::STRING}); });
   SOFIE::RModel other = model;
   other.Generate(SOFIE::Options::kNoSession | SOFIE::Options::kNoWeightFile, 3);
   other.OutputGenerated("three.hxx");
   model.Generate(SOFIE::Options::kRootBinaryWeightFile);
   model.OutputGenerated("both.hxx", true);
   std::cout << "name " << model.GetName() << "\n";
   for (const std::string &name : model.GetInputTensorNames())
      std::cout << "input " << name << " " << model.IsDynamicTensor(name)
                << model.IsReadyInputTensor(name) << "\n";
   std::vector<float> bias = model.GetTensorData<float>("dense1bias");
   std::cout << "bias " << bias.size() << " " << bias[1] << " "
             << SOFIE::ConvertShapeToString(model.GetTensorShape("dense1bias")) << " "
             << SOFIE::ConvertTypeToString(model.GetTensorType("dense1bias")) << "\n";
   refused([&] { model.GetTensorData<double>("dense1bias"); });
   model.HeadInitializedTensors("dense1bias", 2);
   model.PrintRequiredInputTensors();
   model.PrintOutputTensors();
   model.PrintDynamicTensors();
   std::cout << parser.IsRegisteredOperator("Conv") << parser.IsRegisteredOperator("Konv")
             << parser.CheckModel("changed.onnx") << "\n";
   SOFIE::RModel changing = parser.Parse("changed.onnx");
   std::ofstream("changed.onnx") << "something else";
   refused([&] { changing.Generate(); });
}
"""
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(HIGGS, tmp_path / ODD)
    shutil.copy(HIGGS, tmp_path / "changed.onnx")
    shutil.copy(HIGGS, tmp_path / "higgs.onnx")
    return tmp_path


def macro(folder: Path, text: str, *, compiled: bool = False) -> str:
    (folder / "macro.C").write_text(text)
    command = ["root", "-l", "-b", "-q", f"macro.C{'+' if compiled else ''}"]
    return run(folder, command).stdout


@pytest.mark.exhaustive
def test_models(folder: Path) -> None:
    output = macro(folder, MODEL)
    lines = iter(output[output.index("refused") :].splitlines())
    for expected in (
        "Call Generate() first",
        "a parser gives one",
        "absent.onnx: cannot be read",
        "has no tensor absent",
        "Generate knows no option 0x20",
        "no file is open for writing",
        "inputs of type STRING are not supported",
        'name it\'s $HOME; & "model"',
        "input features 11",
    ):
        found = next(lines)
        assert expected in found
        assert not found.startswith("NOT")
    bias = sofie.load(HIGGS).graph.constants["dense1/bias"]
    shown = next(lines).split()
    assert shown[:2] == ["bias", str(bias.size)]
    assert float(shown[2]) == pytest.approx(float(bias[1]), rel=1e-5)
    assert shown[3:] == ["{", str(bias.size), "}", "float"]
    rest = "\n".join(lines)
    assert 'refused: it\'s $HOME; & "model": dense1bias is no initialized tensor' in rest
    assert f'Tensor "dense1/bias" of {bias.size} elements:\n{bias[0]!s}, {bias[1]!s} ...' in rest
    assert 'Parameterised Tensor name: "features"\ttype: float\tshape: [N, 7]' in rest
    assert "\n101\n" in rest
    assert rest.rstrip().endswith("changed.onnx: has changed since it was parsed")
    assert "NOT" not in rest
    assert {"three.hxx", "both.hxx", "both.root"} <= {p.name for p in folder.iterdir()}
    assert "namespace TMVA_SOFIE_it_s__HOME_____model_ {" in (folder / "both.hxx").read_text()
    assert "float32[3, 7]" in (folder / "three.hxx").read_text()


READER = (
    HEAD
    + r"""
void macro()
{
   RSofieReader reader(odd, {}, true);
   std::cout << "one " << std::hexfloat << reader.Compute(x)[0] << " " << reader.Compute({x})[0]
             << std::defaultfloat << "\n";
   refused([&] { reader.Compute(std::vector<float>{1, 2}); });
   refused([&] { reader.Compute(std::vector<std::vector<float>>{x, x}); });
   refused([&] { RSofieReader().Compute(x); });
   refused([&] { RSofieReader("absent.keras"); });
   auto functor = Compute<7, float>(reader);
   std::cout << "same " << (functor(x[0], x[1], x[2], x[3], x[4], x[5], x[6]) == reader.Compute(x))
             << "\n";
}
"""
)
COLUMN = (
    HEAD
    + r"""
#include <ROOT/RDataFrame.hxx>
void macro()
{
   RSofieReader reader("higgs.onnx");
   ROOT::EnableImplicitMT(2);
   const std::string folder = gROOT->GetTutorialDir().Data();
   ROOT::RDataFrame df("sig_tree", folder + "/machine_learning/data/Higgs_data.root");
   auto scored = df.Define("y", Compute<7, float>(reader),
                           {"m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"});
   std::cout << "mean " << *scored.Define("score", "y[0]").Mean("score") << "\n";
}
"""
)


@pytest.mark.exhaustive
@pytest.mark.parametrize("compiled", [False, True], ids=["interpreted", "compiled"])
def test_reader(folder: Path, compiled: bool) -> None:
    if compiled and shutil.which("c++") is None:
        pytest.skip("no C++ compiler here")
    output = macro(folder, READER, compiled=compiled)
    assert "multiply-adds" in output
    one = next(line for line in output.splitlines() if line.startswith("one ")).split()[1:]
    expected = float(sofie.load(HIGGS)(X[np.newaxis]).item())
    assert [float.fromhex(t) for t in one] == [expected, expected]
    assert output.count("refused: ") == 4
    assert "takes 7 numbers, not 2" in output
    assert "same 1" in output


@pytest.mark.exhaustive
def test_reader_as_a_column_of_two_threads(folder: Path) -> None:
    output = macro(folder, COLUMN)
    root, uproot = pytest.importorskip("ROOT"), pytest.importorskip("uproot")
    data = f"{root.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"
    features = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]
    with uproot.open(data) as file:
        columns = file["sig_tree"].arrays(features, library="np")
    events = np.stack([columns[f] for f in features], axis=1).astype(np.float32)
    session = pytest.importorskip("onnxruntime").InferenceSession(HIGGS)
    scores = session.run(None, {"features": events})[0]
    mean = next(line for line in output.splitlines() if line.startswith("mean ")).split()[1]
    assert float(mean) == pytest.approx(float(scores.mean(dtype=np.float64)), abs=2e-6)


FILES = (
    HEAD
    + r"""
void macro()
{
   SOFIE::RModel model = SOFIE::RModelParser_ONNX().Parse("higgs.onnx");
   {
      TFile file("models.root", "RECREATE");
      TH1D("h", "", 2, 0, 1).Write();
      model.Write();
      model.Write("other");
      model.Write("other");
      std::unique_ptr<SOFIE::RModel> back(file.Get<SOFIE::RModel>("other"));
      std::cout << "back " << back->GetName() << " " << back->GetOutputTensorNames()[0] << "\n";
   }
   TFile file("models.root");
   std::cout << "bins " << file.Get<TH1>("h")->GetNbinsX() << "\n";
   refused([&] { file.Get<SOFIE::RModel>("third"); });
   std::unique_ptr<SOFIE::RModel> back(file.Get<SOFIE::RModel>("higgs"));
   back->Generate();
   back->OutputGenerated("back.hxx");
   RSofieReader reader("models.root", {}, 0, "other");
   std::cout << "reader " << std::hexfloat << reader.Compute(x)[0] << "\n";
}
"""
)


def test_files(folder: Path) -> None:
    output = macro(folder, FILES)
    assert "back other score" in output
    assert "bins 2" in output
    assert "refused: sofie_rdf: " in output and "has no model 'third'" in output
    expected = float(sofie.load(HIGGS)(X[np.newaxis]).item())
    shown = next(line for line in output.splitlines() if line.startswith("reader ")).split()[1]
    assert float.fromhex(shown) == expected
    assert (folder / "back.dat").exists()
    for name in ("higgs", "other"):
        found = float(sofie.load(folder / "models.root", name)(X[np.newaxis]).item())
        assert found == expected


def test_a_python_without_the_package(folder: Path) -> None:
    text = (
        HEAD + 'void macro() { refused([] { SOFIE::RModelParser_ONNX().Parse("higgs.onnx"); }); }'
    )
    (folder / "macro.C").write_text(text)
    command = ["root", "-l", "-b", "-q", "macro.C"]
    output = run(folder, command, SOFIE_RDF_PYTHON="/nowhere/python3").stdout
    assert "refused: sofie_rdf: " in output
    assert "set SOFIE_RDF_PYTHON" in output
