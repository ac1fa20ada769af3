"""Where weights go: a .dat file, a .root file, the header; and functions without a Session."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.emit import sources
from sofie_rdf.emit.session import include_directory, namespace_of
from sofie_rdf.errors import InputError, ModelError
from sofie_rdf.ir import rootfile
from tests.choice import some_of

PROJECT = Path(__file__).resolve().parents[2]
HIGGS = PROJECT / "data" / "higgs.onnx"
X = np.linspace(-2, 2, 7, dtype=np.float32)
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")

MAIN = """
#include "higgs.hxx"
int main()
{
   const std::vector<float> x = {%s};
   std::vector<float> y(2);
   TMVA_SOFIE_higgs::infer(2, std::vector<float>{%s}, y);
   TMVA_SOFIE_higgs::Session session;
   const float all[] = {session.infer(x)[0], TMVA_SOFIE_higgs::infer(x)[0],
                        TMVA_SOFIE_higgs::infer(x.data())[0], y[0], y[1]};
   std::printf("%%a %%a %%a %%a %%a\\n", double(all[0]), double(all[1]), double(all[2]),
               double(all[3]), double(all[4]));
}
"""


def expected() -> float:
    return float(sofie.load(HIGGS)(X[np.newaxis]).item())


@needs_compiler
@pytest.mark.parametrize("weights", ["file", "header"])
def test_functions_instead_of_a_session(tmp_path: Path, weights: str) -> None:
    files = sofie.load(HIGGS).emit(tmp_path, weights=weights, session=False)
    assert files.weights == (tmp_path / "higgs.dat" if weights == "file" else None)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["higgs.hxx", *(["higgs.dat"] if weights == "file" else [])]
    )
    numbers = ", ".join(f"{x:.9e}f" for x in X)
    (tmp_path / "main.cxx").write_text(MAIN % (numbers, f"{numbers}, {numbers}"))
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror"]
    flags += ["-Wno-unknown-pragmas", "-Wno-pedantic", f"-I{include_directory()}", "main.cxx"]
    built = subprocess.run(
        ["g++", *flags, "-o", "main"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr[-3000:]
    done = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = [float.fromhex(t) for t in done.stdout.split()]
    assert len(found) == 5
    assert found == pytest.approx([expected()] * 5, rel=1e-5)


SCRIPT = """
import ROOT, numpy as np
ROOT.gInterpreter.AddIncludePath({include!r})
assert ROOT.gInterpreter.Declare('#include "higgs.hxx"')
x = ROOT.std.vector["float"](np.linspace(-2, 2, 7, dtype=np.float32))
space = ROOT.TMVA_SOFIE_higgs
print(space.Session().infer(x)[0].hex(), space.Session({again!r}).infer(x)[0].hex())
print(space.infer(x)[0].hex(), space.infer(1, x)[0].hex())
"""


@pytest.mark.parametrize("weights", some_of(["file", "root", "header"], ["root"]))
def test_in_the_interpreter(tmp_path: Path, weights: str) -> None:
    pytest.importorskip("ROOT")
    files = sofie.load(HIGGS).emit(tmp_path, weights=weights, session=False)
    again = str(files.weights or "whatever")
    script = SCRIPT.format(include=str(include_directory()), again=again)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    assert [float.fromhex(t) for t in done.stdout.split()] == [expected()] * 4


@pytest.mark.parametrize("weights", ["file", "root"])
def test_weights_of_another_model(tmp_path: Path, weights: str) -> None:
    """They are refused: nobody gets numbers from them."""
    root = pytest.importorskip("ROOT")
    model = sofie.load(HIGGS, "refusing")
    files = model.emit(tmp_path, weights=weights)
    assert files.weights
    if weights == "file":
        files.weights.write_bytes(files.weights.read_bytes()[:-64])
    else:
        rootfile.save_bytes(model.emission.weights[:-64], files.weights, "refusing_weights")
        assert rootfile.names(files.weights) == []
    root.gInterpreter.AddIncludePath(str(include_directory()))
    guard = f"#undef {files.namespace}_HXX\nnamespace {weights}_test {{}}\n"
    text = files.header.read_text().replace("TMVA_SOFIE_refusing", f"TMVA_SOFIE_no_{weights}")
    files.header.write_text(text)
    assert root.gInterpreter.Declare(f'{guard}#include "{files.header}"')
    session = getattr(root, f"TMVA_SOFIE_no_{weights}").Session
    with pytest.raises(Exception, match="damaged"):
        session(str(files.weights))
    with pytest.raises(Exception, match="cannot be opened"):
        session(str(tmp_path / "absent.root"))


def test_several_models_share_a_root_file(tmp_path: Path) -> None:
    uproot = pytest.importorskip("uproot")
    path = tmp_path / "both.root"
    sofie.load(HIGGS).save(path)
    for name, data in (("a", b"1" * 8), ("b", b"2" * 16), ("a", b"3" * 24)):
        rootfile.save_bytes(data, path, f"{name}_weights")
    with uproot.open(path) as file:
        found = {n: str(file[f"{n}_weights/weights"]).encode() for n in "ab"}
    assert found == {"a": b"3" * 24, "b": b"2" * 16}
    assert rootfile.names(path) == ["higgs"]
    with pytest.raises(ModelError, match="and no model"):
        rootfile.save_bytes(b"12345678", path, "higgs")
    np.testing.assert_array_equal(sofie.load(path)(X[np.newaxis]), sofie.load(HIGGS)(X[np.newaxis]))


def test_what_is_too_large_for_a_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_IN_HEADER", 10_000)
    with pytest.raises(ModelError, match=r"52,480 bytes of weights, too many for a header.*file"):
        sofie.load(HIGGS).emit(tmp_path, weights="header")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"weights=.dat. is unknown"):
        sofie.load(HIGGS).emit(tmp_path, weights="dat")


@pytest.mark.parametrize(
    ("name", "space"), [("higgs", "higgs"), ("2 layers", "2_layers"), ("a-b.c", "a_b_c")]
)
def test_namespaces_are_those_of_sofie(name: str, space: str) -> None:
    assert namespace_of(name) == f"TMVA_SOFIE_{space}"
