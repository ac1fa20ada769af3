"""Columns by the names of a model's features, classes by label, sets as the model says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.runtime.rdataframe.columns import by_input, shown_as
from tests.frontends.test_normalization import SHAPES, as_cms, network, same, weaver

ROOT = pytest.importorskip("ROOT")
N, F = symbol("N"), np.float32


def graph(**inputs: list[str]) -> Graph:
    model = same(**{name: (N, len(f)) for name, f in inputs.items()})
    return model.named(features=inputs).graph


ONE = graph(x=["pt", "eta", "phi"])
TWO = graph(x=["pt", "eta"], y=["eta", "mass"])


@pytest.mark.parametrize(
    ("net", "columns", "wanted"),
    [
        (ONE, None, [["pt", "eta", "phi"]]),
        (ONE, ["phi", "pt", "eta"], [["pt", "eta", "phi"]]),
        (ONE, ["Jet_pt", "Jet_eta", 0.5], [["Jet_pt", "Jet_eta", 0.5]]),
        (ONE, ["pt", "Jet_eta", "phi"], [["pt", "Jet_eta", "phi"]]),
        (ONE, {"phi": 1, "pt": "Jet_pt", "eta": "pt"}, [["Jet_pt", "pt", 1]]),
        (ONE, {"x": {"phi": 1, "pt": "a", "eta": "b"}}, [["a", "b", 1]]),
        (ONE, {"x": ["phi", "eta", "pt"]}, [["pt", "eta", "phi"]]),
        (TWO, None, [["pt", "eta"], ["eta", "mass"]]),
        (TWO, ["mass", "eta", "pt"], [["pt", "eta"], ["eta", "mass"]]),
        (TWO, {"mass": "m", "eta": "e", "pt": "p"}, [["p", "e"], ["e", "m"]]),
        (TWO, {"x": {"eta": "e", "pt": "p"}, "y": ["a", "b"]}, [["p", "e"], ["a", "b"]]),
    ],
)
def test_columns_by_feature(net: Graph, columns: Any, wanted: Any) -> None:
    assert list(by_input(net, columns, []).values()) == wanted


@pytest.mark.parametrize(
    ("net", "columns", "words"),
    [
        (ONE, ["eta", "pt", "met"], "column 'eta' is given for feature 0"),
        (ONE, ["a", "b", "c", "pt"], "it has fewer; 'pt' is feature 0"),
        (ONE, {"phi": "a", "pt": "b"}, "no column is given for feature 'eta'"),
        (ONE, {"phi": "a", "pt": "b", "eat": "c"}, "no feature 'eat'. Did you mean 'eta'"),
        (ONE, {"x": {"phi": "a", "pt": "b"}}, "for feature 'eta' of input 'x'"),
        (ONE, {"x": {"pt": 1, "eta": 1, "phi": 1, "ptt": 1}}, "no feature 'ptt'. Did you mean"),
        (TWO, {"x": ["a", "b"], "pt": "c"}, "no feature 'x'"),
        (TWO, ["pt", "eta"], "has 2 inputs, so columns must say which"),
        (same(x=(N, 2)).graph, None, "does not say what the features of its input 'x'"),
    ],
)
def test_wrong_names(net: Graph, columns: Any, words: str) -> None:
    with pytest.raises(sofie.ColumnError) as caught:
        by_input(net, columns, [])
    assert words in str(caught.value)


def test_classes_by_label() -> None:
    net = same(a=(N, 3), b=(N, 2)).named(labels={"of_a": ["u", "b", "2"], "of_b": ["u", "v"]})
    shown = {
        text: (one.output, one.element)
        for text in ("b", "of_a[b]", "of_a[u]", "v", "of_a[2]", "of_b[0]", "of_b")
        for one in [shown_as(net.graph, "y", text)]
    }
    assert shown == {
        "b": ("of_a", 1),
        "of_a[b]": ("of_a", 1),
        "of_a[u]": ("of_a", 0),
        "v": ("of_b", 1),
        # A number is a number.
        "of_a[2]": ("of_a", 2),
        "of_b[0]": ("of_b", 0),
        "of_b": ("of_b", -1),
    }
    for text, words in (
        ("u", "more than one output has a 'u'. Say 'of_a[u]', 'of_b[u]'"),
        ("of_a[v]", "no class 'v'"),
        ("of_c[v]", "no output 'of_c[v]'"),
        ("w", "no output 'w'"),
    ):
        with pytest.raises(sofie.InputError) as caught:
            shown_as(net.graph, "y", text)
        assert words in str(caught.value)


@pytest.fixture
def tagged(tmp_path: Path) -> sofie.Model:
    path = tmp_path / "preprocess.json"
    path.write_text(json.dumps(weaver(output_names=None)))
    return network().normalized(path)


def test_a_model_of_weaver_fills_its_sets_itself(tagged: sofie.Model) -> None:
    """Lengths from 3 to 6, the pads behind the normalisation, and the mask, without a word."""
    df = ROOT.RDataFrame(9)
    for i, name in enumerate(("pt_log", "dz", "drminsv", "deta")):
        value = f"v.push_back(0.1f * (k + 1) * ({i} + 1) - 0.3f)"
        loop = f"for (int k = 0; k < int(rdfentry_); ++k) {value}"
        df = df.Define(name, f"ROOT::RVecF v; {loop}; return v;")
    df = df.Define("jet_pt", "250. + 10 * rdfentry_")
    shown = {f"s_{name}": f"of_{name}" for name in SHAPES} | {"means": "means"}
    scored = tagged.define(df, shown)
    infos = weaver()["pf_features"]["var_infos"]
    columns = {name: name for name in (*infos, "jet_pt")}
    again = sofie.define(df, shown, tagged, columns)
    mine = sofie.define(df, shown, tagged, columns, lengths={"n_pf": (7, None)}, pad=0)
    tables = [frame.AsNumpy(list(shown)) for frame in (scored, again, mine)]
    for k in range(9):
        raw = {
            n: (F(0.1) * np.arange(1, k + 1, dtype="f4") * (i + 1) - F(0.3))[:6]
            for i, n in enumerate(infos)
        }
        long = max(3, min(k, 6))
        want = np.stack(
            [
                np.pad(as_cms(one, raw[n]), (0, long - len(raw[n])), constant_values=F(one["pad"]))
                for n, one in infos.items()
            ]
        )
        for table in tables[:2]:
            np.testing.assert_allclose(table["s_pf_features"][k], want.ravel(), rtol=3e-6)
            padding = want[:, len(raw["dz"]) :]
            found = np.reshape(table["s_pf_features"][k], want.shape)[:, len(raw["dz"]) :]
            np.testing.assert_array_equal(found, padding)
            mask = [1.0] * min(k, 6) + [0.0] * (long - min(k, 6))
            assert list(table["s_pf_mask"][k]) == mask
            assert list(table["s_pf_points"][k]) == list(table["s_pf_features"][k][-long:])
            assert table["s_jet"][k] == as_cms(
                weaver()["jet"]["var_infos"]["jet_pt"], 250.0 + 10 * k
            )
        # What is asked for counts.
        assert len(tables[2]["s_pf_mask"][k]) == max(7, k)
    with pytest.raises(sofie.ColumnError, match="no column 'pt_log'"):
        tagged.define(ROOT.RDataFrame(1).Define("deta", "1."), shown)


def test_pads_for_each_feature() -> None:
    model = same(x=(N, 3, 4))
    df = ROOT.RDataFrame(3).Define("v", "ROOT::RVecF(rdfentry_, 1.f)")
    found = sofie.define(df, "y", model, ["v", "v", 2], pad={"x": [7, 8, 9]}).AsNumpy(["y"])["y"]
    assert list(found[1]) == [1, 7, 7, 7, 1, 8, 8, 8, 2, 9, 9, 9]
    with pytest.raises(sofie.ColumnError, match="2 numbers for the 3 features"):
        sofie.define(df, "y", model, ["v", "v", 2], pad={"x": [7, 8]})


def test_classes_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x = np.random.default_rng(1).normal(size=(90, 2)).astype(F)
    kinds = np.array(["b", "c", "light"])[np.argmax(x @ [[1, 0, -1], [0, 1, -1]], axis=1)]
    estimator = linear_model.LogisticRegression().fit(x, kinds)
    model = sofie.from_sklearn(estimator)
    assert model.labels == {"probabilities": ("b", "c", "light")}
    found = model.score({"a": x[:, 0], "b": x[:, 1]}, ["a", "b"], output="light")
    np.testing.assert_allclose(found, estimator.predict_proba(x)[:, 2], rtol=0, atol=1e-6)
