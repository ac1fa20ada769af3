"""Names that a model brings are columns or an error: they never become code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir.dims import symbol
from tests.frontends.test_normalization import same
from tests.frontends.tmva_files.test_trees import document
from tests.hostile.test_bombs import model as onnx_model
from tests.hostile.test_bombs import node, value

ROOT = pytest.importorskip("ROOT")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that exists if a name has been run."""
    return tmp_path / "ran"


def code(mark: Path) -> str:
    return f'eta + 0*gSystem->Exec("touch {mark}")'


def named(mark: Path) -> sofie.Model:
    return same(x=(symbol("N"), 2)).named(features=[code(mark), "pt"], labels=["1 + 1", "b"])


def frame() -> Any:
    return ROOT.RDataFrame(3).Define("eta", "0.5 * rdfentry_").Define("pt", "1. + rdfentry_")


# The columns and options for a model, in the ways in which they may be its own names.
WAYS: dict[str, Callable[[sofie.Model], dict[str, Any]]] = {
    "no columns": lambda _: {},
    "features as columns": lambda m: {"columns": m.features["x"]},
    "features by name": lambda m: {"columns": {n: n for n in m.features["x"]}},
    "by input": lambda m: {"columns": {"x": list(m.features["x"])}},
    "in another order": lambda m: {"columns": m.features["x"][::-1]},
    "a label": lambda m: {"columns": [m.labels["of_x"][0], "pt"]},
    "sorted by": lambda m: {"columns": ["eta", "pt"], "order_by": m.features["x"][0]},
    "where": lambda m: {"columns": ["eta", "pt"], "where": m.features["x"][0]},
    "in batches": lambda _: {"batch": 8},
    "with uncertainties": lambda _: {"uncertainty": np.eye(2)},
    "with a column of them": lambda _: {"uncertainty": {"pt": "pt"}},
    "with columns of them": lambda m: {"uncertainty": dict.fromkeys(m.features["x"], "pt")},
    "with uncertainties called so": lambda m: {
        "columns": ["eta", "pt"],
        "uncertainty": {"pt": m.features["x"][0]},
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_names_of_a_model_are_no_expressions(way: str, mark: Path) -> None:
    model = named(mark)
    with pytest.raises(sofie.ColumnError, match="never taken as an expression"):
        model.define(frame(), "y", output="of_x[0]", **WAYS[way](model)).Count().GetValue()
    assert not mark.exists()


def test_expressions_of_the_user_stay_expressions(mark: Path) -> None:
    model = named(mark)
    given = {code(mark): "(eta + 1)", "pt": "pt * 2"}
    found = model.define(frame(), "y", given).AsNumpy(["y"])["y"]
    want = [[0.5 * k + 1, 2 + 2 * k] for k in range(3)]
    np.testing.assert_array_equal(np.stack([np.asarray(row) for row in found]), want)
    # In parentheses the name of a feature is the user's own text.
    own = same(x=(symbol("N"), 2)).named(features=["eta/2", "pt"])
    found = own.define(frame(), "y", ["(eta/2)", "pt"]).AsNumpy(["y"])["y"]
    np.testing.assert_array_equal([row[0] for row in found], [0, 0.25, 0.5])


def test_a_column_may_have_the_odd_name(mark: Path, tmp_path: Path) -> None:
    """A column of a file is a column, whatever it is called."""
    name = 'a + 0*gSystem->Exec("touch ran")'
    file, tree = str(tmp_path / "odd.root"), "t"
    ROOT.RDataFrame(3).Define("a", "1.5f * rdfentry_").Define("pt", "1.f").Snapshot(tree, file)
    with ROOT.TFile(file, "update") as opened:
        opened[tree].GetBranch("a").SetName(name)
        opened[tree].GetLeaf("a").SetName(name)
        opened[tree].Write("", ROOT.TObject.kOverwrite)
    model = same(x=(symbol("N"), 2)).named(features=["pt", name])
    df = ROOT.RDataFrame(tree, file)
    if not df.HasColumn(name):
        pytest.skip("this ROOT does not show a branch of such a name")
    found = model.define(df, "y").AsNumpy(["y"])["y"]
    np.testing.assert_array_equal([list(row) for row in found], [[1, 0], [1, 1.5], [1, 3]])
    assert not mark.exists()


def test_variables_of_tmva_are_no_expressions(mark: Path, tmp_path: Path) -> None:
    """TMVA's variables are expressions; here they are those of the file's author."""
    root = document()
    for variable, name in zip(root.iter("Variable"), ("pt", code(mark), "eta"), strict=True):
        variable.set("Expression", name)
    path = tmp_path / "m.weights.xml"
    path.write_bytes(Xml.tostring(root))
    model = sofie.load(path)
    for given in ({}, {"columns": {"features": list(model.features["features"])}}):
        with pytest.raises(sofie.ColumnError, match="never taken as an expression"):
            model.define(frame(), "y", **given)
    assert not mark.exists()


def test_names_of_derivatives_are_no_code(mark: Path) -> None:
    """They are made of the names of outputs and inputs, which the file's author has chosen."""
    x, y = f'x"); gSystem->Exec("touch {mark}"); //', "y*/ int a;\n#include <nothing>"
    nodes = [node("Tanh", [x], ["t"]), node("ReduceSum", ["t", "axes"], [y], keepdims=0)]
    proto = onnx_model(
        nodes,
        inputs=[value(x, ["N", 2])],
        outputs=[value(y, None)],
        constants={"axes": np.array([1])},
    )
    model = sofie.from_onnx(proto).gradient()
    last = list(model.outputs)[-1]
    assert last == f"d_{y}/d_{x}"
    found = model.define(frame(), "g", ["eta", "pt"], output=last).AsNumpy(["g"])["g"]
    want = [[1 - np.tanh(0.5 * k) ** 2, 1 - np.tanh(1.0 + k) ** 2] for k in range(3)]
    np.testing.assert_allclose(np.stack([np.asarray(row) for row in found]), want, rtol=1e-5)
    assert not mark.exists()


def test_an_axis_or_an_input_that_is_called_like_a_macro() -> None:
    model = same(SOFIE_ENTRIES=(symbol("SOFIE_BEGIN"), 2), gROOT=(symbol("SOFIE_BEGIN"), 2))
    x = np.ones((3, 2), np.float32)
    found = model(SOFIE_ENTRIES=x, gROOT=2 * x)
    np.testing.assert_array_equal(found["of_gROOT"], 2 * x)
    own = same(x=(symbol("SOFIE_ENTRIES"), 2)).named(features=["eta", "pt"])
    assert len(own.define(frame(), "y").AsNumpy(["y"])["y"]) == 3
