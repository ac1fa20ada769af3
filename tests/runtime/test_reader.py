"""RSofieReader: models of .root files in macros and programs, without Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import uproot
from onnx import TensorProto, helper, numpy_helper

import sofie_rdf as sofie
from sofie_rdf.emit.code import include_directory
from sofie_rdf.ir import record, rootfile
from sofie_rdf.runtime.cache import trust
from sofie_rdf.runtime.compile.interpreter import declare
from tests.choice import some_of

ROOT = pytest.importorskip("ROOT")
DATA = Path(__file__).resolve().parents[2] / "data"
FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@cache
def reader() -> Any:
    """By its full name: the short one is SOFIE's in a process that has imported its words."""
    declare('#include "sofie/rdf/RSofieReader.hxx"\n')
    return ROOT.sofie.RSofieReader


def loaded(path: Path, name: str = "", trusted: str = "") -> Any:
    return reader()(str(path), name, trusted)


def refusal(call: Callable[..., Any], *arguments: Any) -> str:
    # Where there are overloads, Python sees a TypeError with the messages of all.
    errors = (ROOT.std.runtime_error, ROOT.std.invalid_argument, TypeError)
    with pytest.raises(errors) as caught:
        call(*arguments)
    return str(caught.value)


def network(
    nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], **arrays: Any
) -> Any:
    """A model of these nodes; inputs and outputs are (type, shape) by name."""
    infos = [
        [helper.make_tensor_value_info(name, *type_) for name, type_ in ports.items()]
        for ports in (inputs, outputs)
    ]
    weights = [numpy_helper.from_array(a, name) for name, a in arrays.items()]
    graph = helper.make_graph(nodes, "net", *infos, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    return sofie.from_onnx(proto.SerializeToString())


def linear(scale: float = 1.0) -> Any:
    """y = relu(scale (x0 + 2 x1 + 3 x2)), for N events."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    w = np.array([[1], [2], [3]], np.float32) * np.float32(scale)
    return network(nodes, {"x": (FLOAT, ["N", 3])}, {"y": (FLOAT, ["N", 1])}, w=w)


@pytest.fixture(scope="module")
def higgs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reader") / "models.root"
    sofie.load(DATA / "higgs.onnx").save(path)
    linear().save(path, name="linear")
    return path


# Numbers ------------------------------------------------------------------------------------------


def test_it_computes_what_python_computes(higgs: Path) -> None:
    model = loaded(higgs, "higgs")
    python = sofie.load(DATA / "higgs.onnx")
    rng = np.random.default_rng(1)
    for events in (1, 3, 64, 2):
        x = rng.normal(1, 1, (events, 7)).astype(np.float32)
        found = np.array(model.Compute(x.ravel()))
        np.testing.assert_array_equal(found, python(x).ravel())
    assert [list(map(str, f())) for f in (model.Inputs, model.Outputs, model.Sizes)] == [
        ["features"],
        ["score"],
        ["N"],
    ]
    assert str(model.Checksum()) == rootfile.load(higgs, "higgs").sha256


def test_copies_share_the_weights(higgs: Path) -> None:
    model = loaded(higgs, "linear")
    copy = reader()(model)
    assert list(copy.Compute([1.0, 2.0, 3.0])) == list(model.Compute([1.0, 2.0, 3.0])) == [14]
    copy = loaded(higgs, "higgs")
    copy.__assign__(model)
    del model
    assert list(copy.Compute([1.0, 1.0, 1.0])) == [6]


def test_dynamic_sizes_and_several_inputs(tmp_path: Path) -> None:
    python = sofie.load(DATA / "particlenet.onnx")
    python.save(tmp_path / "m.root")
    model = loaded(tmp_path / "m.root")
    rng = np.random.default_rng(2)
    for n, particles in ((1, 30), (3, 40), (2, 24)):
        x = [rng.normal(size=(n, c, particles)).astype(np.float32) for c in (2, 4)]
        x.append(np.ones((n, 1, particles), np.float32))
        inputs = ROOT.std.vector["std::vector<double>"]([a.ravel().astype(float) for a in x])
        (found,) = model.ComputeAll(inputs, [n, particles])
        np.testing.assert_array_equal(np.array(found), python(*x).ravel().astype(float))
    assert "it has 2 sizes: ComputeAll(inputs, {N, n_pf})" in refusal(model.ComputeAll, inputs)
    assert "it has 3 inputs: use ComputeAll" in refusal(model.Compute, [1.0])


def test_other_types_and_sizes_that_the_data_decide(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["k"], ["where"]),
        helper.make_node("Cast", ["k"], ["y"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["k"], ["b"], to=TensorProto.BOOL),
    ]
    outputs = {
        "where": (INT64, [1, None]),
        "y": (TensorProto.DOUBLE, ["n"]),
        "b": (TensorProto.BOOL, ["n"]),
    }
    network(nodes, {"k": (INT64, ["n"])}, outputs).save(tmp_path / "m.root")
    model = loaded(tmp_path / "m.root")
    for k in ([0.0, 5.0, 0.0, -7.0], [1.0], [0.0, 0.0]):
        found = model.ComputeAll(ROOT.std.vector["std::vector<double>"]([k]))
        where, y, b = map(list, found)
        assert where == [i for i, v in enumerate(k) if v]
        assert y == k
        assert b == [float(v != 0) for v in k]


def test_types_that_cxx_has_not_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    half = (TensorProto.FLOAT16, [3])
    network(nodes, {"x": half}, {"y": half}).save(tmp_path / "m.root")
    assert "float16, which C++ has no type for" in refusal(loaded, tmp_path / "m.root")


def test_wrong_numbers_of_elements(higgs: Path) -> None:
    model = loaded(higgs, "higgs")
    for count in (1, 6, 8, 15):
        why = refusal(model.Compute, [0.0] * count)
        assert f"input 'features' takes 7 numbers for each event, not {count}" in why
    assert list(model.Compute(ROOT.std.vector["float"]())) == []
    inputs = ROOT.std.vector["std::vector<double>"]([[0.0] * 7])
    assert "takes 14 numbers, not 7" in refusal(model.ComputeAll, inputs, [2])
    assert "its sizes are: N" in refusal(model.ComputeAll, inputs, [1, 1])


# RDataFrame ---------------------------------------------------------------------------------------


def define(model: Any, df: Any, *arguments: Any) -> Any:
    return model.Define(ROOT.RDF.AsRNode(df), *arguments)


def frame(events: int = 200) -> Any:
    df = ROOT.RDataFrame(events)
    df = df.Define("a", "rdfentry_ / 7.").Define("b", "int(rdfentry_ % 5) - 2")
    return df.Define("c", "float(rdfentry_) * 0.5f").Define("text", "std::string()")


def test_define_takes_columns_of_any_type(higgs: Path) -> None:
    df = define(loaded(higgs, "linear"), frame(), "y", ["a", "b", "c"])
    columns = df.AsNumpy(["a", "b", "c", "y"])
    x = np.stack([columns[k].astype(np.float32) for k in "abc"], axis=1)
    np.testing.assert_array_equal(columns["y"], linear()(x).ravel())


def test_define_on_all_threads_and_twice(higgs: Path) -> None:
    model = loaded(higgs, "linear")
    alone = define(model, frame(), "y", ["a", "b", "c"]).Sum["float"]("y").GetValue()
    ROOT.EnableImplicitMT(2)
    try:
        df = define(model, frame(), "y", ["a", "b", "c"])
        df = define(model, df.Filter("a > -1"), "z", ["a", "b", "c"])
        del model
        assert df.Sum["float"]("y").GetValue() == pytest.approx(alone)
        assert df.Filter("y != z").Count().GetValue() == 0
    finally:
        ROOT.DisableImplicitMT()


def test_define_several_outputs(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Softmax", ["x"], ["p"])]
    ports = (FLOAT, ["N", 2])
    network(nodes, {"x": ports}, {"n": ports, "p": ports}).save(tmp_path / "m.root")
    model = loaded(tmp_path / "m.root")
    df = define(model, frame(10), "n", ["a", "b"])
    df = define(model, df, "p", ["a", "b"], "p")
    assert df.GetColumnType("p") == "ROOT::VecOps::RVec<float>"
    sums = df.Define("s", "p[0] + p[1]").Define("t", "n[0] + float(a)").AsNumpy(["s", "t"])
    np.testing.assert_allclose(sums["s"], 1, rtol=1e-6)
    np.testing.assert_array_equal(sums["t"], 0)
    assert "has no output 'q'; it has n, p" in refusal(define, model, df, "q", ["a", "b"], "q")


def test_wrong_columns_are_refused_before_the_loop(higgs: Path) -> None:
    model, df = loaded(higgs, "linear"), frame()
    assert "takes 3 columns, not 2" in refusal(define, model, df, "y", ["a", "b"])
    assert "no column 'd'" in refusal(define, model, df, "y", ["a", "b", "d"])
    assert "RVecs of numbers are needed" in refusal(define, model, df, "y", ["a", "b", "text"])


# Trust --------------------------------------------------------------------------------------------


def resealed(path: Path, name: str, change: Callable[[str], str]) -> Path:
    """A file in which the header of a model is changed and all checksums say that this is right."""
    stored = rootfile.load(path, name)
    macro = replace(stored.macro, header=change(stored.macro.header))
    made = record.to_record(stored.graph, macro=macro)
    out = path.with_name(f"{name}-changed.root")
    with uproot.recreate(out) as file:
        for key, content in rootfile.contents(made):
            file[f"{name}/{key}"] = rootfile._tobjstring(content)
    return out


def test_a_stranger_s_header_is_not_compiled(higgs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harm = higgs.with_name("harm")
    code = f'\nstatic const bool harmed = std::system("touch {harm}") == 0;\n'
    path = resealed(higgs, "linear", lambda header: header + code)
    sha256 = rootfile.load(path).sha256
    why = refusal(loaded, path)
    assert "you have not said that you trust this model" in why
    assert sha256 in why
    with pytest.raises(sofie.ModelError, match="is not what this version of sofie_rdf writes"):
        sofie.trust(path)
    assert "not said" in refusal(loaded, path, "", "0" * 64)
    assert not harm.exists()
    # Python does not look at it.
    assert sofie.load(path)(np.ones((1, 3), np.float32)) == 6
    # Who says so gets it.
    monkeypatch.setenv("SOFIE_RDF_TRUSTED", sha256)
    assert list(loaded(path).Compute([1.0, 1.0, 1.0])) == [6]
    assert harm.exists()


def test_three_ways_to_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.root"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "theirs"))
    linear(2.0).save(path)
    sha256 = rootfile.load(path).sha256
    assert trust.is_trusted(sha256)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    assert not trust.is_trusted(sha256)
    assert sha256 in refusal(loaded, path)
    assert list(loaded(path, "", sha256).Compute([1.0, 0.0, 0.0])) == [2]
    monkeypatch.setenv("SOFIE_RDF_TRUSTED", f"{'0' * 64},{sha256}")
    assert list(loaded(path).Compute([1.0, 0.0, 0.0])) == [2]
    monkeypatch.delenv("SOFIE_RDF_TRUSTED")
    assert sofie.trust(path) == sha256
    assert list(loaded(path).Compute([1.0, 0.0, 0.0])) == [2]
    # Again: the list does not grow.
    before = trust.file().read_text()
    assert before.count(sha256) == 1
    sofie.trust(path)
    assert trust.file().read_text() == before


def test_a_wrong_first_result_is_refused(higgs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(header: str) -> str:
        assert "struct Relu" in header
        return header.replace("struct Relu", "struct Relu_", 1).replace(
            "struct LeakyRelu",
            "struct Relu {\n   template <class V>\n   V operator()(V x) const\n"
            "   {\n      return -x;\n   }\n};\nstruct LeakyRelu",
            1,
        )

    path = resealed(higgs, "linear", broken)
    monkeypatch.setenv("SOFIE_RDF_TRUSTED", rootfile.load(path).sha256)
    why = refusal(loaded, path)
    assert "differs from the stored reference" in why or "refused its header" in why


def test_models_bring_their_own_kernels(higgs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of another version of sofie_rdf: neither disturbs the other, nor what is installed."""

    def other(header: str) -> str:
        # Another version has other macros and other names of functions.
        changed = (
            header.replace("sofie::dense(", "sofie::dense_of_then(")
            .replace("dense(", "dense_of_then(")
            .replace("dense_of_then_of_then", "dense_of_then")
        )
        assert changed != header
        return "#define SOFIE_INLINE inline\n#undef SOFIE_INLINE\n" + changed

    path = resealed(higgs, "linear", other)
    monkeypatch.setenv("SOFIE_RDF_TRUSTED", rootfile.load(path).sha256)
    ours, theirs = loaded(higgs, "linear"), loaded(path)
    x = [1.0, -2.0, 3.0]
    assert list(ours.Compute(x)) == list(theirs.Compute(x)) == [6]
    assert linear(3.0)(np.array([x], np.float32)) == 18


# Files --------------------------------------------------------------------------------------------


def test_what_root_s_tools_do_to_a_file(higgs: Path, tmp_path: Path) -> None:
    tools = Path(ROOT.__file__).parent / "bin"
    other, merged, copied = (tmp_path / f for f in ("other.root", "merged.root", "copied.root"))
    with uproot.recreate(other) as file:
        file["h"] = np.histogram([1.0, 2.0])
    linear(5.0).save(other, name="linear")
    linear(7.0).save(other, name="seven")
    hadd = [str(tools / "hadd"), str(merged), str(higgs), str(other)]
    subprocess.run(hadd, check=True, capture_output=True, timeout=100)
    one = [1.0, 0.0, 0.0]
    # Of two of the same name, the last one is the newest.
    assert list(loaded(merged, "linear").Compute(one)) == [5]
    assert list(loaded(merged, "seven").Compute(one)) == [7]
    assert loaded(merged, "higgs").Checksum() == loaded(higgs, "higgs").Checksum()
    assert sofie.load(merged, "linear")(np.array([one], np.float32)) == 5
    if ROOT.gROOT.GetVersionInt() < 64000:
        return  # It writes beyond its memory when it copies a long TObjString, whoever wrote that.
    command = [str(tools / "rootcp"), "-r", f"{higgs}:higgs", str(copied)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    assert ROOT.TFile.Cp(str(copied), str(tmp_path / "cp.root"), False)
    assert loaded(tmp_path / "cp.root").Checksum() == loaded(higgs, "higgs").Checksum()
    assert rootfile.names(tmp_path / "cp.root") == ["higgs"]


# Macros and programs ------------------------------------------------------------------------------

MACRO = """
#include "sofie/rdf/RSofieReader.hxx"
void score(const char *file)
{
   RSofieReader model(file, "higgs");
   std::cout << "one " << model.Compute({1.f, 1.f, 1.f, 1.f, 1.f, 1.f, 1.f})[0] << std::endl;
   RSofieReader linear(file, "linear");
   std::cout << "linear " << linear.Compute({0.5, 1, -1})[0] << std::endl;
   ROOT::EnableImplicitMT(2);
   ROOT::RDataFrame df(1000);
   auto x = df.Define("x", "rdfentry_ / 1000.");
   auto y = model.Define(x, "dnn", {"x", "x", "x", "x", "x", "x", "x"});
   std::cout << "mean " << y.Mean<float>("dnn").GetValue() << std::endl;
   sofie::DefineOptions how;
   how.columns = {{"x", {"v", "2 * v", "x"}}};
   how.where = "rdfentry_ % 2";
   auto v = x.Define("v", "ROOT::RVecF(rdfentry_ % 3, 1.f)");
   auto z = linear.Define(v, {{"all", "y"}, {"largest", "argmax(y)"}}, how);
   auto sum = z.Define("sum", "double(Sum(all))").Sum("sum");
   std::cout << "objects " << sum.GetValue() << std::endl;
   try {
      linear.Compute({1.f});
   } catch (const std::exception &error) {
      std::cout << "error " << error.what() << std::endl;
   }
}
"""


def run(command: list[str], folder: Path, **more: str) -> dict[str, str]:
    environment = os.environ | {"ROOT_INCLUDE_PATH": str(include_directory())} | more
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def expected() -> dict[str, Any]:
    python = sofie.load(DATA / "higgs.onnx")
    x = np.repeat((np.arange(1000) / 1000).astype(np.float32)[:, None], 7, axis=1)
    return {
        "one": float(python(np.ones((1, 7), np.float32))[0, 0]),
        "linear": 0.0,
        "mean": float(np.mean(python(x), dtype=np.float64)),
        "objects": float(sum(n % 3 * (5 + 3 * n / 1000) for n in range(1, 1000, 2))),
    }


def assert_expected(found: dict[str, str]) -> None:
    assert "input 'x' takes 3 numbers for each event, not 1" in found.pop("error")
    numbers = {key: float(found[key]) for key in ("one", "linear", "mean", "objects")}
    assert numbers == pytest.approx(expected(), rel=2e-5)


@pytest.mark.parametrize("simd", some_of(["", "generic"], [""]))
def test_as_a_macro(higgs: Path, tmp_path: Path, simd: str) -> None:
    (tmp_path / "score.C").write_text(MACRO)
    root = [str(Path(sys.executable).with_name("root")), "-l", "-b", "-q"]
    assert_expected(run([*root, f'score.C("{higgs}")'], tmp_path, SOFIE_RDF_SIMD=simd))


needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.mark.exhaustive
@needs_gxx
def test_as_a_compiled_macro(higgs: Path, tmp_path: Path) -> None:
    (tmp_path / "score.C").write_text(MACRO)
    root = [str(Path(sys.executable).with_name("root")), "-l", "-b", "-q"]
    assert_expected(run([*root, f'score.C+("{higgs}")'], tmp_path))


@pytest.mark.exhaustive
@needs_gxx
def test_in_a_program(higgs: Path, tmp_path: Path) -> None:
    main = "int main(int, char **arguments)\n{\n   score(arguments[1]);\n}\n"
    (tmp_path / "score.cpp").write_text(f"{MACRO}\n{main}")
    home = Path(ROOT.__file__).parent
    # Its name is that of the wheel, whose case has changed.
    bundled = next(home.parent.glob("[rR][oO][oO][tT].libs"), home / "lib")
    libraries = ["Core", "RIO", "Tree", "ROOTDataFrame", "ROOTVecOps", "Hist", "MathCore", "Imt"]
    command = [
        *["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-O1", "score.cpp", "-o", "score"],
        *[f"-I{include_directory()}", "-isystem", str(home / "include"), f"-L{home / 'lib'}"],
        *[f"-l{name}" for name in libraries],
        *[f"-Wl,-rpath,{home / 'lib'}", f"-Wl,-rpath-link,{bundled}"],
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert_expected(run(["./score", str(higgs)], tmp_path, ROOT_INCLUDE_PATH=""))
