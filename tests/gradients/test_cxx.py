"""Gradients in C++: session.gradient of emitted headers, CMake's GRADIENT, and RSofieReader."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.cli import main
from tests.gradients.test_models import model, two_outputs
from tests.test_cmake import build, run, tool_in

DATA = Path(__file__).resolve().parents[2] / "data"
X = np.random.default_rng(5).normal(size=(5, 7)).astype(np.float32)


def test_a_session_gives_outputs_and_derivatives_by_name(tmp_path: Path) -> None:
    root = pytest.importorskip("ROOT")
    model = sofie.load(DATA / "higgs.onnx").gradient()
    files = model.emit(tmp_path)
    model.emit(tmp_path)  # Cling knows where the header is.
    assert root.gInterpreter.Declare(f'#include "{files.header}"\n')
    session = root.TMVA_SOFIE_higgs.Session(str(files.weights))
    wanted = model(X)
    found = session.gradient(5, root.std.vector["float"](X.ravel().tolist()))
    np.testing.assert_array_equal(np.array(found.score), wanted["score"].ravel())
    slopes = np.array(found.d_score_d_features).reshape(5, 7)
    np.testing.assert_array_equal(slopes, wanted["d_score/d_features"])
    one = session.gradient(root.std.vector["float"](X[2].tolist()))
    np.testing.assert_array_equal(np.array(one.d_score_d_features), slopes[2])
    with pytest.raises(Exception, match="wrong number of elements"):
        session.gradient(2, root.std.vector["float"]([1.0]))


def test_a_header_without_derivatives_has_no_gradient(tmp_path: Path) -> None:
    header = sofie.load(DATA / "higgs.onnx").emit(tmp_path).header.read_text()
    assert "gradient" not in header.lower()


_PROGRAM = """\
#include "slopes.hxx"
#include <iostream>
int main()
{
   TMVA_SOFIE_slopes::Session session(SOFIE_RDF_WEIGHTS "/slopes.dat");
   const auto found = session.gradient(std::vector<float>(7, 1.f));
   float sum = 0;
   for (const float slope : found.d_score_d_features)
      sum += slope;
   std::cout << (found.score.size() == 1 ? sum : -1) << "\\n";
}
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("g++")), reason="needs CMake")
def test_cmake_differentiates(tmp_path: Path) -> None:
    shutil.copy(DATA / "higgs.onnx", tmp_path)
    options = "NAME slopes GRADIENT OF score WRT features"
    model = f"sofie_rdf_add_model(analysis higgs.onnx {options})"
    program = build(tmp_path, _PROGRAM, tool_in(tmp_path), model=model)
    slopes = sofie.load(DATA / "higgs.onnx").gradient()(np.ones((1, 7), np.float32))
    wanted = float(slopes["d_score/d_features"].sum(dtype="f8"))
    assert run(str(program)) == pytest.approx(wanted, rel=1e-4)


def test_the_command_line_differentiates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    higgs, out = str(DATA / "higgs.onnx"), str(tmp_path / "models.root")
    assert main(["convert", higgs, out, "--gradient", "--of", "score", "--name", "slopes"]) == 0
    assert "d_score/d_features" in sofie.load(out, "slopes").outputs
    capsys.readouterr()
    assert main(["convert", higgs, out, "--of", "score"]) == 1
    assert "--gradient" in capsys.readouterr().err
    assert main(["convert", higgs, out, "--gradient", "--wrt", "mass"]) == 1
    assert "mass" in capsys.readouterr().err


@pytest.mark.usefixtures("unoptimized")
def test_a_reader_knows_derivatives(tmp_path: Path) -> None:
    root = pytest.importorskip("ROOT")
    model = sofie.load(DATA / "higgs.onnx").gradient()
    model.save(tmp_path / "models.root")
    root.gInterpreter.Declare('#include "sofie/rdf/RSofieReader.hxx"\n')
    reader = root.RSofieReader(str(tmp_path / "models.root"))
    wanted = model(X)["d_score/d_features"]
    numbers = root.std.vector["float"](X.ravel().tolist())
    np.testing.assert_array_equal(np.array(reader.Gradient(numbers)).reshape(5, 7), wanted)
    with pytest.raises(Exception, match="it has no output d_other/d_features"):
        reader.Gradient(numbers, "other")
    names = [f"x{i}" for i in range(7)]
    frame = root.RDF.AsRNode(root.RDF.FromNumpy(dict(zip(names, X.T.copy(), strict=True))))
    df = reader.Define(frame, "slopes", names, "d_score/d_features")
    found = np.stack([np.asarray(row) for row in df.AsNumpy(["slopes"])["slopes"]])
    np.testing.assert_array_equal(found, wanted)


def test_values_may_be_called_as_what_gradient_uses(tmp_path: Path) -> None:
    root = pytest.importorskip("ROOT")
    text = "Gradient = Mul (found, found) gradient = Add (Gradient, infer)"
    face = "(float[N, 1] found, float[N, 1] infer) => (float[N, 1] gradient)"
    files = model(text, face).gradient().emit(tmp_path)
    assert root.gInterpreter.Declare(f'#include "{files.header}"\n')
    session = root.TMVA_SOFIE_g.Session(str(files.weights))
    found = session.gradient(root.std.vector["float"]([3.0]), root.std.vector["float"]([1.0]))
    assert list(found.d_gradient_d_found) == [6.0]
    assert list(found.d_gradient_d_infer) == [1.0]


def test_a_jacobian_has_a_member_for_each_output(tmp_path: Path) -> None:
    header = two_outputs().jacobian().emit(tmp_path).header.read_text()
    members = header.partition("struct Gradient {")[2].partition("};")[0]
    assert [line.split()[1].rstrip(";") for line in members.splitlines() if line.strip()] == [
        "p", "y", "d_p_d_x", "d_y_d_x"
    ]  # fmt: skip
