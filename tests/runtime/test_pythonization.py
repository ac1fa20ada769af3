"""``df.DefineModel``, and functors in the texts of Define, from Python and in a macro."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie

ROOT = pytest.importorskip("ROOT")
PROJECT = Path(__file__).resolve().parents[2]
HIGGS = PROJECT / "data" / "higgs.onnx"


@pytest.fixture(scope="module")
def model() -> sofie.Model:
    return sofie.load(HIGGS)


def frame() -> Any:
    return ROOT.RDataFrame(5).Define("x", "0.3f * rdfentry_").Define("i", "int(rdfentry_)")


def expected(model: sofie.Model, *columns: Any) -> list[float]:
    x = np.stack([np.broadcast_to(np.float32(c), 5) for c in columns], axis=1)
    found: list[float] = model(x)[:, 0].tolist()
    return found


X, I = 0.3 * np.arange(5, dtype=np.float32), np.arange(5)  # noqa: E741


def test_nothing_is_there_before_the_import() -> None:
    code = "import ROOT, sofie_rdf; print(hasattr(ROOT.RDataFrame, 'DefineModel'))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_nodes_of_all_kinds(model: sofie.Model) -> None:
    before = frame().Filter("x >= 0")
    import sofie_rdf.pythonization

    wanted = expected(model, X, I, 1, 2, 3, 4, 5)
    columns = ["x", "i", 1, 2, 3, 4, 5]
    nodes = {
        "made before": before,
        "node": ROOT.RDF.AsRNode(frame()),
        "range": frame().Range(5),
        "alias": frame().Alias("y", "x"),
        "numpy": ROOT.RDF.FromNumpy({"x": X, "i": I}),
        "varied": frame().Vary("x", "ROOT::RVecF{x, x}", 2),
    }
    for name, df in nodes.items():
        found = df.DefineModel("dnn", model, columns).AsNumpy(["dnn"])["dnn"]
        assert list(found) == wanted, name
    assert list(frame().DefineModel("dnn", model, columns).AsNumpy(["dnn"])["dnn"]) == wanted
    assert sofie_rdf.pythonization.__all__ == ["DefineModel"]


def test_it_is_define(model: sofie.Model) -> None:
    import sofie_rdf.pythonization

    df = frame().DefineModel({"a": "score", "b": "score[0]"}, model, ["x"] * 7, where="i > 2")
    assert np.isnan(df.AsNumpy(["a"])["a"]).tolist() == [True] * 3 + [False] * 2
    with pytest.raises(sofie.ColumnError, match="takes 7 numbers; 1 columns"):
        frame().DefineModel("dnn", model, ["x"])
    with pytest.raises(
        sofie.InputError, match=r"takes a model of sofie_rdf, not str.*sofie_rdf\.load"
    ):
        frame().DefineModel("dnn", str(HIGGS), ["x"] * 7)
    assert sofie_rdf.pythonization


def test_distributed_data_frames_have_it() -> None:
    from ROOT._distrdf import DataFrame, Proxy

    import sofie_rdf.pythonization

    for kind in (DataFrame.RDataFrame, Proxy.NodeProxy):
        assert kind.DefineModel is sofie_rdf.pythonization.DefineModel


def test_model_define_is_define(model: sofie.Model) -> None:
    df = model.define(frame(), {"a": "score"}, ["x"] * 7, where="i > 2", default=-1)
    assert list(df.AsNumpy(["a"])["a"])[:3] == [-1, -1, -1]


# Texts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, 2])
def test_a_functor_with_a_name(model: sofie.Model, threads: int) -> None:
    if threads:
        ROOT.EnableImplicitMT(threads)
    try:
        df, name = frame(), f"higgs_score_{threads}"
        functor = sofie.SofieFunctor(model, df.GetNSlots(), name=name)
        # Numbers of other types become those of the model, as in any call of C++.
        df = df.Define("a", f"{name}(rdfslot_, x, i, 1, 2., 3, x * x, true)")
        df = df.Filter(f"{name}(rdfslot_, x, x, x, x, x, x, x) > 0")
        found = df.AsNumpy(["a", "rdfentry_"])
        order = np.argsort(found["rdfentry_"])
        wanted = expected(model, X, I, 1, 2, 3, X * X, 1)
        assert list(found["a"][order]) == wanted
        assert functor(0, *[0.0] * 7) == pytest.approx(expected(model, *[0] * 7)[0], abs=0)
    finally:
        if threads:
            ROOT.DisableImplicitMT()


def test_names_that_are_taken(model: sofie.Model) -> None:
    sofie.SofieFunctor(model, 1, name="mine_alone")
    for name, words in (
        ("mine_alone", "a SofieFunctor of the name 'mine_alone' already"),
        ("gInterpreterMutex", "something else of the name"),
        ("a b", "no C++ identifier"),
        ("class", "no C++ identifier"),
    ):
        with pytest.raises(sofie.InputError) as caught:
            sofie.SofieFunctor(model, 1, name=name)
        assert words in str(caught.value)


def test_a_functor_of_a_library_with_a_name() -> None:
    found = sofie.load(HIGGS, compiler="g++")
    sofie.SofieFunctor(found, 1, name="by_gcc")
    df = frame().Define("a", "by_gcc(rdfslot_, x, x, x, x, x, x, x)")
    assert list(df.AsNumpy(["a"])["a"]) == expected(found, *[X] * 7)


def test_texts_in_a_macro(model: sofie.Model, tmp_path: Path) -> None:
    """A functor of the emitted header is a variable of the interpreter, and texts call it."""
    files = model.emit(tmp_path)
    functor = f'SofieFunctor<7, TMVA_SOFIE_higgs::Session> dnn(0, \\"{files.weights}\\");'
    macro = f"""
#include "higgs.hxx"
#include "sofie/rdf/functor.hxx"
#include <ROOT/RDataFrame.hxx>
#include <TInterpreter.h>
#include <iostream>
void texts()
{{
   gInterpreter->Declare("{functor}");
   auto df = ROOT::RDataFrame(5).Define("x", "0.3f * rdfentry_");
   auto scored = df.Define("y", "dnn(rdfslot_, x, x, 1, 2., 3, x * x, true)").Filter("y > 0");
   std::cout.precision(9);
   for (auto y : scored.Take<float>("y"))
      std::cout << y << "\\n";
}}
"""
    (tmp_path / "texts.C").write_text(macro)
    path = f"{tmp_path}:{files.include[0]}"
    done = subprocess.run(
        [Path(sys.executable).with_name("root"), "-l", "-b", "-q", "texts.C"],
        cwd=tmp_path,
        env={**os.environ, "ROOT_INCLUDE_PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [float(line) for line in done.stdout.split() if line[0].isdecimal() or line[0] == "0"]
    assert found == pytest.approx(expected(model, X, X, 1, 2, 3, X * X, 1), abs=2e-8), done.stderr
