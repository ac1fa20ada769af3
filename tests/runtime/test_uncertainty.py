"""Columns of sqrt(J C J^T): covariances as matrices and as columns, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf import Model
from sofie_rdf.errors import ColumnError, InputError, SofieError
from tests.fit.models import model

NAMES = ["a", "b", "c"]
WEIGHTS = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
RANDOM = np.random.default_rng(2)
EVENTS = {name: RANDOM.normal(size=50).astype(np.float32) for name in [*NAMES, "ab"]}
EVENTS |= {f"d{name}": RANDOM.uniform(0.1, 1, 50).astype(np.float32) for name in NAMES}
EVENTS["ab"] *= EVENTS["da"] * EVENTS["db"] / 5
X = np.stack([EVENTS[name] for name in NAMES], axis=1)


@pytest.fixture(scope="module")
def network() -> Model:
    body = "h = MatMul (x, w) p = Softmax (h) t = Tanh (h) s = ReduceSum <keepdims = 1> (t, axes)"
    face = "(float[N, 3] x) => (float[N, 2] p, float[N, 1] s)"
    made = model(body, face, w=WEIGHTS, axes=np.array([1]))
    return made.named(features={"x": NAMES}, labels={"p": ["signal", "other"]})


@pytest.fixture
def df() -> Any:
    return pytest.importorskip("ROOT").RDF.FromNumpy(EVENTS)


def slopes() -> dict[str, np.ndarray]:
    """In float64, by output."""
    h = X.astype(np.float64) @ WEIGHTS
    p = np.exp(h) / np.exp(h).sum(axis=1, keepdims=True)
    by_p = p[:, :1] * ((np.arange(2) == 0) - p)
    return {"p": by_p @ WEIGHTS.T, "s": (1 - np.tanh(h) ** 2) @ WEIGHTS.T}


def covariances() -> np.ndarray:
    """Those that the columns say."""
    found = np.zeros((50, 3, 3))
    for i, name in enumerate(NAMES[:2]):
        found[:, i, i] = EVENTS[f"d{name}"].astype(np.float64) ** 2
    found[:, 0, 1] = found[:, 1, 0] = EVENTS["ab"]
    return found


def width(j: np.ndarray, c: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.sqrt(np.einsum("ni,nij,nj->n", j, np.broadcast_to(c, (50, 3, 3)), j))
    return found


BY_COLUMN = {"a": "da", "b": "db", ("a", "b"): "ab"}


def test_a_matrix_is_the_covariance_of_all_events(network: Model, df: Any) -> None:
    root = RANDOM.normal(size=(3, 3))
    matrix = root @ root.T
    df = sofie.define(df, "y", network, NAMES, output="s", uncertainty=matrix)
    found = df.AsNumpy(["y", "y_uncertainty"])
    np.testing.assert_allclose(found["y"], network(X)["s"][:, 0], rtol=1e-6)
    np.testing.assert_allclose(found["y_uncertainty"], width(slopes()["s"], matrix), rtol=1e-5)


@pytest.mark.parametrize(
    "columns", [None, ["c", "b", "a"], {"x": NAMES}, {"a": "a", "c": "c", "b": "b"}]
)
def test_columns_are_deviations_and_covariances(network: Model, df: Any, columns: Any) -> None:
    df = sofie.define(df, "y", network, columns, output="s", uncertainty=BY_COLUMN)
    wanted = width(slopes()["s"], covariances())
    np.testing.assert_allclose(df.AsNumpy(["y_uncertainty"])["y_uncertainty"], wanted, rtol=2e-5)


def test_numbers_and_expressions_are_columns(network: Model, df: Any) -> None:
    given = {"b": 0.5, "c": "2 * da"}
    df = network.define(df, "y", NAMES, output="s", uncertainty=given)
    c = np.zeros((50, 3, 3))
    c[:, 1, 1], c[:, 2, 2] = 0.25, 4 * EVENTS["da"] ** 2
    found = df.AsNumpy(["y_uncertainty"])["y_uncertainty"]
    np.testing.assert_allclose(found, width(slopes()["s"], c), rtol=1e-5)


@pytest.mark.exhaustive
def test_features_that_move_together_may_cancel(df: Any) -> None:
    made = model(
        "s = MatMul (x, w)",
        "(float[N, 3] x) => (float[N, 1] s)",
        w=np.array([[0.1], [0.7], [-0.8]], np.float32),
    ).named(features=NAMES)
    given = dict.fromkeys(NAMES, "da") | dict.fromkeys(
        (("a", "b"), ("a", "c"), ("b", "c")), "da * da"
    )
    found = sofie.define(df, "y", made, uncertainty=given).AsNumpy(["y_uncertainty"])
    assert (found["y_uncertainty"] < 1e-3).all()
    wrong = {"a": "da", "b": "da", ("a", "b"): "-9 * da * da"}
    found = sofie.define(df, "y", made, uncertainty=wrong).AsNumpy(["y_uncertainty"])
    assert np.isnan(found["y_uncertainty"]).all()


def test_each_column_has_its_own(network: Model, df: Any) -> None:
    columns = {"p_signal": "signal", "s": "s", "other": "p[1]"}
    df = sofie.define(df, columns, network, NAMES, uncertainty=BY_COLUMN)
    found = df.AsNumpy([f"{name}_uncertainty" for name in columns])
    j = slopes()
    wanted = {"p_signal": j["p"], "s": j["s"], "other": -j["p"]}
    for name, by in wanted.items():
        np.testing.assert_allclose(
            found[f"{name}_uncertainty"], width(by, covariances()), rtol=5e-5
        )


def test_objects_have_uncertainties(network: Model, df: Any) -> None:
    for name in (*NAMES, "da"):
        df = df.Define(f"jet_{name}", f"ROOT::RVecF{{{name}, 2 * {name}}}")
    columns = [f"jet_{name}" for name in NAMES]
    df = sofie.define(
        df, "y", network, columns, output="s", per="object", uncertainty={"a": "jet_da"}
    )
    found = np.array([list(v) for v in df.AsNumpy(["y_uncertainty"])["y_uncertainty"]])
    slope = slopes()["s"][:, 0]
    np.testing.assert_allclose(found[:, 0], np.abs(slope) * EVENTS["da"], rtol=1e-5)
    assert found.shape == (50, 2)


def test_variations_reach_the_uncertainty(network: Model, df: Any) -> None:
    root = pytest.importorskip("ROOT")
    df = df.Vary("da", "ROOT::RVecF{2 * da}", ["up"])
    df = sofie.define(df, "y", network, NAMES, output="s", uncertainty={"a": "da"})
    sums = root.RDF.Experimental.VariationsFor(df.Sum("y_uncertainty"))
    assert sums["da:up"] == pytest.approx(2 * sums["nominal"], rel=1e-6)


WRONG: dict[str, tuple[Any, str]] = {
    "a text": ("da", "uncertainty= as a matrix"),
    "no square": (np.ones((3, 2)), "shape [3, 2]"),
    "another size": (np.eye(4), "a matrix for 4 features"),
    "not symmetric": (np.triu(np.ones((3, 3))), "not symmetric"),
    "not finite": (np.full((3, 3), np.nan), "not finite"),
    "negative": (np.diag([1.0, 1.0, -1.0]), "negative eigenvalue -1"),
    "nothing": ({}, "names no feature"),
    "another feature": ({"aa": "da"}, "'aa'"),
    "no pair": ({("a", "b", "c"): "da"}, "no feature and no two"),
    "twice": ({("a", "b"): "ab", ("b", "a"): "ab"}, "twice"),
    "no column": ({"a": "unknown"}, "no column 'unknown'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_covariance_is_refused(what: str, network: Model, df: Any) -> None:
    given, text = WRONG[what]
    with pytest.raises((InputError, ColumnError)) as caught:
        sofie.define(df, "y", network, NAMES, output="s", uncertainty=given)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("column", "output", "text"),
    [
        ("y", "p", "single numbers"),
        ("y", "argmax(p)", "whole number"),
        ({"y": "s", "y_uncertainty": "signal"}, "", "uncertainty of 'y'"),
    ],
)
def test_columns_without_an_uncertainty_are_refused(
    network: Model, df: Any, column: Any, output: str, text: str
) -> None:
    with pytest.raises(SofieError) as caught:
        sofie.define(df, column, network, NAMES, output=output, uncertainty=BY_COLUMN)
    assert text in str(caught.value)


def test_names_are_needed_for_columns_by_feature(df: Any) -> None:
    nameless = model("y = MatMul (x, w)", "(float[N, 3] x) => (float[N, 2] y)", w=WEIGHTS)
    with pytest.raises(InputError, match=r"model\.named"):
        sofie.define(df, "y", nameless, NAMES, output="y[0]", uncertainty={"a": "da"})
