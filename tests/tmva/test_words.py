"""SOFIE's words in Python: `import sofie_rdf.tmva`, then as SOFIE's users write."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.compat.options import ETensorType, Options, source_of, tensor_type
from sofie_rdf.compat.parsers import PyKeras, PyTorch, RModelParser_ONNX
from sofie_rdf.compat.rmodel import RModel, fixed
from sofie_rdf.errors import InputError, ModelError, SofieError
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.elementwise import Add, Relu
from sofie_rdf.ops.linear import MatMul
from tests.tmva.tutorials import PROJECT, run

HIGGS = PROJECT / "data" / "higgs.onnx"


def two_sizes(name: str = "two sizes") -> sofie.Model:
    """Two inputs, two outputs, a batch and another named size, a constant of odd name."""
    build = Builder(name)
    n, k = symbol("N"), symbol("k")
    x = build.input("x", TensorType(DType.FLOAT32, (n, 3)))
    y = build.input("y/0", TensorType(DType.FLOAT32, (n, k, 3)))
    w = build.constant(np.arange(9, dtype=np.float32).reshape(3, 3) - 4, "0.weight")
    build(Relu(), build(MatMul(), x, w), outputs=["a"])
    build(Add(), y, build.constant(np.float32(2), "2"), outputs=["b"])
    return sofie.Model(build.graph("a", "b"))


@pytest.fixture
def parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """The HIGGS model under the name of the test, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    name = request.node.originalname.removeprefix("test_")
    shutil.copy(HIGGS, f"{name}.onnx")
    return RModelParser_ONNX().Parse(f"{name}.onnx")


@pytest.fixture(scope="module")
def root() -> Any:
    root = pytest.importorskip("ROOT")
    import sofie_rdf.tmva

    assert sofie_rdf.tmva.RModel is RModel
    return root


def expected(x: np.ndarray) -> np.ndarray:
    session = pytest.importorskip("onnxruntime").InferenceSession(HIGGS)
    found: np.ndarray = session.run(None, {"features": x})[0]
    return found


X = np.random.default_rng(3).normal(1, 0.5, size=(5, 7)).astype(np.float32)


# Printing -----------------------------------------------------------------------------------------


def test_prints(capsys: pytest.CaptureFixture[str]) -> None:
    model = RModel(two_sizes())
    model.PrintRequiredInputTensors()
    assert capsys.readouterr().out.splitlines()[1:3] == [
        'Parameterised Tensor name: "x"\ttype: float\tshape: [N, 3]',
        'Parameterised Tensor name: "y/0"\ttype: float\tshape: [N, k, 3]',
    ]
    model.PrintInitializedTensors()
    assert '\nTensor name: "0.weight"\ttype: float\tshape: [3, 3]\n' in capsys.readouterr().out
    model.PrintIntermediateTensors()
    shown = capsys.readouterr().out
    assert 'name: "b"' in shown and 'name: "x"' not in shown and "0.weight" not in shown
    model.PrintDynamicTensors()
    assert 'Parameterised Tensor name: "a"' in capsys.readouterr().out
    model.PrintOutputTensors()
    assert capsys.readouterr().out.count("Tensor name") == 2
    model.HeadInitializedTensors("0weight", 4)
    assert capsys.readouterr().out.splitlines()[1] == "-4.0, -3.0, -2.0, -1.0 ..."
    model.PrintSummary()
    assert "multiply-adds" in capsys.readouterr().out
    model.Generate()
    model.PrintGenerated()
    code = capsys.readouterr().out
    assert "namespace TMVA_SOFIE_two_sizes {" in code
    assert "struct Entries" not in code  # Our own headers are not shown.


def test_tensors() -> None:
    model = RModel(two_sizes())
    assert model.GetInputTensorNames() == ["x", "y/0"]
    assert model.GetOutputTensorNames() == ["a", "b"]
    assert model.CheckIfTensorAlreadyExist("0.weight")
    assert model.CheckIfTensorAlreadyExist("0weight")
    assert model.CheckIfTensorAlreadyExist("0_weight")
    assert not model.CheckIfTensorAlreadyExist("weight")
    assert model.GetTensorShape("0weight") == [3, 3]
    assert model.GetTensorType("y0") is ETensorType.FLOAT
    assert model.IsInitializedTensor("2") and not model.IsInitializedTensor("x")
    assert model.IsReadyInputTensor("y/0") and not model.IsReadyInputTensor("b")
    assert model.IsDynamicTensor("b") and not model.IsDynamicTensor("0weight")
    assert model.GetDynamicTensorShape("b") == ["N", "k", "3"]
    assert list(model.GetTensorData["float"]("0weight")) == [*range(-4, 5)]
    with pytest.raises(ModelError, match=r"a float no initialized tensor of double|is a float"):
        model.GetTensorData["double"]("0weight")
    with pytest.raises(ModelError, match="has no tensor 'weigth'"):
        model.GetTensorShape("weigth")
    with pytest.raises(ModelError, match=r"has the shape \[N, k, 3\]"):
        model.GetTensorShape("b")
    with pytest.raises(ModelError, match="is no initialized tensor"):
        model.HeadInitializedTensors("b")


def test_numbers_of_enumerations_are_those_of_sofie() -> None:
    assert [int(o) for o in Options] == [1, 2, 4, 8, 16]
    assert int(Options.kDefault) == 0
    onnx = pytest.importorskip("onnx")
    for name in ("FLOAT", "UINT8", "INT32", "INT64", "BOOL", "DOUBLE", "UINT64", "BFLOAT16"):
        assert int(ETensorType[name]) == onnx.TensorProto.DataType.Value(name)
    assert tensor_type(DType.INT64) is ETensorType.INT64
    assert tensor_type(DType.FLOAT16) is ETensorType.FLOAT16
    assert source_of(Options.kNoSession) == ("header", False)
    assert source_of(Options.kNoSession | Options.kRootBinaryWeightFile) == ("root", False)
    with pytest.raises(InputError, match="0x20"):
        source_of(0x21)


# Generating ---------------------------------------------------------------------------------------


def test_nothing_is_generated_before_generate(parsed: Any) -> None:
    with pytest.raises(ModelError, match=r"Call Generate\(\) first"):
        parsed.OutputGenerated()
    with pytest.raises(InputError, match="one model"):
        parsed.Generate(Options.kDefault, -1, 5)
    assert [p.suffix for p in Path().iterdir()] == [".onnx"]
    parsed.SetOptimizationLevel(0)
    parsed.SetUseVDT(True)


@pytest.mark.parametrize(
    ("options", "suffixes", "weights"),
    [
        (Options.kDefault, {".hxx", ".dat"}, ".dat"),
        (Options.kRootBinaryWeightFile, {".hxx", ".root"}, ".root"),
        (Options.kNoWeightFile, {".hxx"}, ""),
    ],
)
def test_files(
    root: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: Options,
    suffixes: set[str],
    weights: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"files_{options:d}"
    shutil.copy(HIGGS, tmp_path / f"{name}.onnx")
    model = root.TMVA.Experimental.SOFIE.RModelParser_ONNX().Parse(f"{name}.onnx")
    model.Generate(options)
    model.OutputGenerated()
    model.OutputGenerated("renamed.hxx")
    for stem in (name, "renamed"):
        assert {p.suffix for p in tmp_path.glob(f"{stem}.*")} - {".onnx"} == suffixes
    assert root.gInterpreter.Declare(f'#include "{tmp_path}/{name}.hxx"')
    session = getattr(root, f"TMVA_SOFIE_{name}").Session(weights and f"{name}{weights}")
    np.testing.assert_allclose(np.asarray(session.infer(X[0])), expected(X[:1])[0], atol=5e-7)
    again = getattr(root, f"TMVA_SOFIE_{name}").Session()
    assert again.infer(X[0])[0] == session.infer(X[0])[0]


def test_no_session(root: Any, parsed: Any) -> None:
    parsed.Generate(Options.kNoSession)
    parsed.OutputGenerated()
    assert root.gInterpreter.Declare('#include "no_session.hxx"')
    infer = root.TMVA_SOFIE_no_session.infer
    np.testing.assert_allclose(np.asarray(infer(X[0])), expected(X[:1])[0], atol=5e-7)
    np.testing.assert_allclose(np.asarray(infer(5, X)), expected(X)[:, 0], atol=5e-7)


def test_the_batch_is_fixed(root: Any, parsed: Any) -> None:
    parsed.Generate(Options.kDefault, 5)
    parsed.OutputGenerated()
    assert root.gInterpreter.Declare('#include "the_batch_is_fixed.hxx"')
    session = root.TMVA_SOFIE_the_batch_is_fixed.Session()
    np.testing.assert_allclose(np.asarray(session.infer(X)), expected(X)[:, 0], atol=5e-7)
    with pytest.raises(Exception, match="wrong number of elements"):
        session.infer(X[0])
    parsed.Initialize(3)
    parsed.Generate()
    assert "float32[3, 7]" in parsed.code()
    parsed.Initialize()
    parsed.Generate()
    assert "float32[N, 7]" in parsed.code()


def test_which_sizes_are_the_batch() -> None:
    model = two_sizes()
    assert [str(t) for t in fixed(model, 4).inputs.values()] == [
        "float32[4, 3]",
        "float32[4, k, 3]",
    ]
    every = fixed(model, {"N": 2, "k": 5})
    assert [t.shape for t in every.outputs.values()] == [(2, 3), (2, 5, 3)]
    x, y = np.ones((2, 3), np.float32), np.ones((2, 5, 3), np.float32)
    for name, found in every(x, y).items():
        np.testing.assert_array_equal(found, model(x, y)[name])
    assert fixed(model, -1) is model
    assert fixed(fixed(model, 4), 8).inputs["x"].shape == (4, 3)
    with pytest.raises(InputError, match="no size 'M'"):
        fixed(model, {"M": 1})


def test_several_models_in_one_header(
    root: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("several_a", "several_b"):
        shutil.copy(HIGGS, f"{name}.onnx")
        model = RModelParser_ONNX().Parse(f"{name}.onnx")
        model.Generate(Options.kRootBinaryWeightFile)
        model.OutputGenerated("several.hxx", True)
    with pytest.raises(ModelError, match="has a TMVA_SOFIE_several_b already"):
        model.OutputGenerated("several.hxx", True)
    model.Generate()
    with pytest.raises(InputError, match="kRootBinaryWeightFile"):
        model.OutputGenerated("several.hxx", True)
    assert root.gInterpreter.Declare('#include "several.hxx"')
    for space in (root.TMVA_SOFIE_several_a, root.TMVA_SOFIE_several_b):
        found = np.asarray(space.Session("several.root").infer(X[2]))
        np.testing.assert_allclose(found, expected(X[2:3])[0], atol=5e-7)


# Sessions in PyROOT -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session(root: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Session of two inputs and two outputs."""
    folder = tmp_path_factory.mktemp("session")
    model = RModel(two_sizes("guarded"))
    model.Generate()
    model.OutputGenerated(str(folder / "guarded.hxx"))
    assert root.gInterpreter.Declare(f'#include "{folder}/guarded.hxx"')
    return root.TMVA_SOFIE_guarded.Session(str(folder / "guarded.dat"))


A = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
B = np.random.default_rng(2).normal(size=(2, 4, 3)).astype(np.float32)


def test_arrays(root: Any, session: Any) -> None:
    wanted = two_sizes()(A, B)
    results = session.infer(2, 4, A, B)
    for i, name in enumerate("ab"):
        np.testing.assert_array_equal(root.std.get[i](results), wanted[name].reshape(-1))
    strided = np.asfortranarray(B), np.repeat(A, 2, axis=1)[:, ::2]
    results = session.infer(2, 4, strided[1], strided[0])
    np.testing.assert_array_equal(root.std.get[1](results), wanted["b"].reshape(-1))
    a, b = np.zeros((2, 3), np.float32), np.zeros(24, np.float32)
    assert session.infer(2, 4, A, B, a, b) is None
    np.testing.assert_array_equal(a, wanted["a"])
    np.testing.assert_array_equal(b, wanted["b"].reshape(-1))
    vectors = [root.std.vector["float"](v.reshape(-1)) for v in (A, B)]
    results = session.infer(2, 4, *vectors)
    np.testing.assert_array_equal(root.std.get[0](results), wanted["a"].reshape(-1))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (A.astype(np.float64), B, "x as an array of float32, not of float64"),
        (A.astype(np.int32), B, "not of int32"),
        (A, B.astype(">f4"), "not of >f4"),
        (A[:1], B, "input x has the wrong number"),
        (A, B[:, :3], "input y/0 has the wrong number"),
        (np.zeros((0, 3), np.float32), B, "input x has the wrong number|takes at least"),
    ],
)
def test_arrays_that_do_not_fit(session: Any, a: Any, b: Any, message: str) -> None:
    with pytest.raises(Exception, match=message):
        session.infer(2, 4, a, b)


def test_arrays_for_results_that_do_not_fit(session: Any) -> None:
    a, b = np.zeros(6, np.float32), np.zeros(24, np.float32)
    for wrong in ((a[:5], b), (a, b.astype(np.float64)), (a, np.zeros(25, np.float32))):
        with pytest.raises(InputError, match="Pass an array of that size and type"):
            session.infer(2, 4, A, B, *wrong)


# Files --------------------------------------------------------------------------------------------


def test_write_and_read(root: Any, parsed: Any) -> None:
    with pytest.raises(ModelError, match="is no file that is open for writing"):
        parsed.Write()
    with root.TFile("models.root", "RECREATE") as file:
        histogram = root.TH1D("h", "", 2, 0, 1)
        assert parsed.Write() == 1
        parsed.Write("other")
        parsed.Write("other")
        again = RModel.Read(file, "other")
        assert again.GetInputTensorNames() == ["features"]
        file.mkdir("inside").cd()
        with pytest.raises(ModelError, match=r"file\.cd\(\)"):
            parsed.Write()
        file.cd()
        histogram.Write()
    with root.TFile("models.root") as file:
        with pytest.raises(ModelError, match="no file that is open for writing"):
            parsed.Write()
        assert file.Get("h").GetNbinsX() == 2
        np.testing.assert_allclose(
            RModel.Read(file, "write_and_read").model(X), expected(X), atol=5e-7
        )
    np.testing.assert_array_equal(sofie.load("models.root", "other")(X), parsed.model(X))


# What there is in PyROOT --------------------------------------------------------------------------


def test_words_are_reached_through_root(root: Any) -> None:
    space = root.TMVA.Experimental.SOFIE
    assert space.RModelParser_ONNX is RModelParser_ONNX
    assert space.PyKeras is PyKeras and space.PyTorch is PyTorch
    assert space.Options.kRootBinaryWeightFile == 4
    assert root.TMVA.Experimental.SofieFunctor
    assert root.TMVA.Experimental.RSofieReader


OWN_HEADERS = {
    "RModel.hxx": """#pragma once
        namespace TMVA { namespace Experimental { namespace SOFIE {
        struct RModel { int own = 42; }; } } }""",
    "RModelParser_ONNX.hxx": """#pragma once
        #include "TMVA/RModel.hxx"
        namespace TMVA { namespace Experimental { namespace SOFIE {
        struct RModelParser_ONNX { int own = 43; }; } } }""",
    "SOFIE_common.hxx": "#pragma once",
}
OWN = """
import ROOT
ROOT.gInterpreter.Declare('#include "TMVA/RModelParser_ONNX.hxx"')
import sofie_rdf.tmva
space = ROOT.TMVA.Experimental.SOFIE
assert (space.RModel().own, space.RModelParser_ONNX().own) == (42, 43)
assert space.PyTorch is sofie_rdf.tmva.PyTorch
assert ROOT.TMVA.Experimental.SofieFunctor and ROOT.TMVA.Experimental.RSofieReader
"""

BEFORE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "ROOT":
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from sofie_rdf.tmva import RModelParser_ONNX, Options
model = RModelParser_ONNX().Parse(sys.argv[1])
model.Generate(Options.kNoWeightFile)
model.OutputGenerated("alone.hxx")
assert "ROOT" not in sys.modules
"""


def test_what_root_has_itself_stays(tmp_path: Path) -> None:
    pytest.importorskip("ROOT")
    for name, text in OWN_HEADERS.items():
        (tmp_path / "own" / "TMVA").mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / "TMVA" / name).write_text(text)
    ours, theirs = str(PROJECT / "cling"), str(tmp_path / "own")
    for path in (f"{ours}:{theirs}", f"{theirs}:{ours}"):
        run(tmp_path, [sys.executable, "-c", OWN], ROOT_INCLUDE_PATH=path)


def test_without_root(tmp_path: Path) -> None:
    run(tmp_path, [sys.executable, "-c", BEFORE, str(HIGGS)])
    assert [p.name for p in tmp_path.iterdir()] == ["alone.hxx"]


def test_nothing_is_attached_before_it_is_wanted(tmp_path: Path) -> None:
    text = "import sys, sofie_rdf; assert not {'ROOT', 'sofie_rdf.compat'} & set(sys.modules)"
    done = run(tmp_path, [sys.executable, "-c", text])
    assert isinstance(done, subprocess.CompletedProcess)


# Parsers ------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_check_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    parser = RModelParser_ONNX()
    assert parser.CheckModel(HIGGS, True)
    assert "supported" in capsys.readouterr().out
    (tmp_path / "no.onnx").write_bytes(b"nothing of that kind")
    assert not parser.CheckModel(tmp_path / "no.onnx")
    assert "no.onnx" in capsys.readouterr().out
    assert parser.IsRegisteredOperator("Conv") and not parser.IsRegisteredOperator("Konv")
    with pytest.raises(SofieError, match=r"absent\.onnx"):
        parser.Parse(tmp_path / "absent.onnx")


def test_shapes_and_types_of_torch() -> None:
    with pytest.raises(InputError, match="2 shapes and 1 types"):
        PyTorch.Parse("m.pt", [[1, 2], [3]], [1])
    with pytest.raises(InputError, match="STRING are not supported"):
        PyTorch.Parse("m.pt", [[1, 2]], [ETensorType.STRING])


# Get of PyROOT's files ----------------------------------------------------------------------------


def test_get_gives_a_model(root: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "models.root")
    sofie.load(HIGGS).save(path)
    with root.TFile(path, "UPDATE") as file:
        histogram = root.TH1D("h", "", 5, 0, 1)
        file.WriteTObject(histogram, "h")
        file.mkdir("folder").WriteTObject(root.TObjString("text"), "model")
    with root.TFile(path) as file:
        model = file.Get("higgs")
        assert isinstance(model, RModel)
        assert isinstance(file.Get("higgs;1"), RModel)
        assert file.Get("h").GetNbinsX() == 5
        assert file.Get("folder").ClassName() == "TDirectoryFile"
        assert file.Get("folder").Get("model").GetString() == "text"
        assert not file.Get("nothing")
    model.Generate()
    x = np.ones((2, 7), np.float32)
    np.testing.assert_array_equal(model.model(x), sofie.load(HIGGS)(x))


# ROC curves, which the tutorials draw ------------------------------------------------------------


def test_a_roc_curve(root: Any) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(4)
    # Some scores are equal, and some events weigh nothing.
    signal, background = (rng.normal(m, 1, 300).round(1).astype(np.float32) for m in (0.5, 0))
    weights = [rng.integers(0, 4, 300).astype(np.float32) for _ in range(2)]
    scores, targets = np.concatenate([signal, background]), np.repeat([True, False], 300)
    for own in (weights, [np.ones(300, np.float32)] * 2):
        curve = root.TMVA.ROCCurve(
            *(root.std.vector["float"](v) for v in (signal, background, *own))
        )
        wanted = metrics.roc_auc_score(targets, scores, sample_weight=np.concatenate(own))
        assert curve.GetROCIntegral() == pytest.approx(wanted, abs=1e-12)
        wrong, right, _ = metrics.roc_curve(
            targets, scores, sample_weight=np.concatenate(own), drop_intermediate=False
        )
        graph = curve.GetROCCurve()
        found = np.array([[graph.GetX()[i], graph.GetY()[i]] for i in range(graph.GetN())])
        np.testing.assert_allclose(found, np.stack([right, 1 - wrong], axis=1), atol=1e-7)
        assert curve.GetEffSForEffB(0.3) == pytest.approx(np.interp(0.3, wrong, right), abs=1e-6)
    both = root.TMVA.ROCCurve(
        root.std.vector["float"](scores), root.std.vector["bool"](targets.tolist())
    )
    assert both.GetROCIntegral() == pytest.approx(metrics.roc_auc_score(targets, scores), abs=1e-12)
    with pytest.raises(Exception, match="events of signal and of background"):
        root.TMVA.ROCCurve(root.std.vector["float"](signal), root.std.vector["float"]())
