"""LightGBM's text files against LightGBM."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sofie_rdf as sofie
from sofie_rdf.frontends import recognise
from sofie_rdf.frontends.trees.lightgbm import read
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate
from tests.frontends.trees.events import agree, around, computed

lightgbm = pytest.importorskip(
    "lightgbm", reason="LightGBM is the oracle here: pip install lightgbm"
)

EVENTS = 200
Parameters = Mapping[str, Any]
SETTINGS = {
    "num_leaves": 9,
    "verbose": -1,
    "min_data_in_leaf": 3,
    "min_data_per_group": 2,
    "cat_smooth": 1,
    "num_threads": 1,
    "deterministic": True,
}
OPTIONS: Mapping[str, Parameters] = {
    "plain": {},
    "zero": {"zero_as_missing": True},
    "none": {"use_missing": False},
    "dart": {"boosting": "dart", "drop_rate": 0.5},
    "forest": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    "lines": {"linear_tree": True},
}


def events(seed: int = 0) -> Array:
    random = np.random.default_rng(seed)
    x = random.normal(size=(EVENTS, 4))
    kind = random.random(x.shape)
    return np.where(kind < 0.1, np.nan, np.where(kind < 0.3, 0, x))


def trained(x: Array, y: Array, parameters: Parameters, rounds: int = 5, **more: Any) -> Any:
    # NumPy as it is: LightGBM says that it copies it.
    data = lightgbm.Dataset(np.ascontiguousarray(x), y, **more)
    return lightgbm.train({**SETTINGS, **parameters}, data, rounds)


def splits(text: str) -> list[tuple[int, float]]:
    features = re.findall("split_feature=(.*)", text)
    thresholds = re.findall("\nthreshold=(.*)", text)
    return [
        (int(f), float(t))
        for fs, ts in zip(features, thresholds, strict=True)
        for f, t in zip(fs.split(), ts.split(), strict=True)
    ]


def same(booster: Any, seen: Array, *, tolerance: float = 1e-6) -> None:
    """Float32 as LightGBM within float32; float64 to the last digits."""
    text = booster.model_to_string()
    x = around(np.random.default_rng(1), seen, splits(text))
    wanted = booster.predict(x).reshape(len(x), -1)
    agree(computed(read(text.encode()), x), wanted, tolerance)
    graph = read(text.encode(), dtype="float64")
    (found,) = evaluate(graph, {"features": x.astype(np.float64)}).values()
    agree(found, wanted, 1e-12)


REGRESSION = "regression regression_l1 huber fair quantile mape poisson gamma tweedie".split()


# LightGBM trains no linear trees for these.
NO_LINES = ("regression_l1", "quantile", "mape")


@pytest.mark.parametrize(
    ("objective", "options"),
    [(r, o) for r in REGRESSION for o in OPTIONS if o != "lines" or r not in NO_LINES],
)
def test_regression(objective: str, options: str) -> None:
    x = events()
    y = np.exp(np.nan_to_num(x[:, 0]) / 2 + np.nan_to_num(x[:, 1]))
    found = trained(x, y, {"objective": objective, **OPTIONS[options]})
    if options == "lines":
        lines(found, x)
    else:
        same(found, x)


def lines(booster: Any, seen: Array) -> None:
    """Linear trees of huge numbers would give numbers that float32 does not have."""
    text = booster.model_to_string()
    x = np.asarray(seen, np.float32)
    x[::7, 1], x[::11, 0] = np.nan, 1e-36
    wanted = booster.predict(x).reshape(len(x), -1)
    agree(computed(read(text.encode()), x), wanted)
    (found,) = evaluate(
        read(text.encode(), dtype="float64"), {"features": x.astype(np.float64)}
    ).values()
    agree(found, wanted, 1e-12)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("objective", ["binary", "cross_entropy", "cross_entropy_lambda"])
def test_two_classes(objective: str, options: str) -> None:
    x = events()
    y = (np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) ** 2 > 0.7).astype(int)
    found = trained(x, y, {"objective": objective, "sigmoid": 0.7, **OPTIONS[options]})
    if options == "lines":
        lines(found, x)
    else:
        same(found, x)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("objective", ["multiclass", "multiclassova"])
def test_classes(objective: str, options: str) -> None:
    x = events()
    y = np.random.default_rng(2).integers(0, 3, EVENTS)
    parameters = {"objective": objective, "num_class": 3, "sigmoid": 0.4, **OPTIONS[options]}
    found = trained(x, y, parameters)
    if options == "lines":
        lines(found, x)
    else:
        same(found, x)


@pytest.mark.parametrize("objective", ["lambdarank", "rank_xendcg"])
def test_ranking(objective: str) -> None:
    x = events()
    y = np.random.default_rng(2).integers(0, 3, EVENTS)
    same(trained(x, y, {"objective": objective}, group=[10] * 20), x)


@pytest.mark.parametrize("objective", ["regression", "regression_l1"])
def test_roots(objective: str) -> None:
    """The model of the square root of |y| with y's sign."""
    x = events()
    y = np.nan_to_num(x[:, 0]) * 3 - 1
    booster = trained(x, y, {"objective": objective, "reg_sqrt": True}, 30)
    assert "sqrt" in booster.model_to_string()
    assert booster.predict(x).min() < -1
    same(booster, x)


@pytest.mark.parametrize("options", ["plain", "zero", "none"])
@pytest.mark.parametrize("onehot", [1, 100])
def test_categories(options: str, onehot: int) -> None:
    random = np.random.default_rng(5)
    x = np.stack([random.integers(0, 4, EVENTS), random.integers(0, 90, EVENTS)], axis=1)
    x = np.column_stack([x, random.normal(size=EVENTS)])
    y = (x[:, 1] % 3 + x[:, 0] > 2).astype(int)
    x[random.random(x.shape) < 0.1] = np.nan
    parameters = {"objective": "binary", "max_cat_to_onehot": onehot, **OPTIONS[options]}
    booster = trained(x, y, parameters, categorical_feature=[0, 1])
    assert re.search("num_cat=[1-9]", booster.model_to_string())
    # Codes that were not seen, numbers that are no codes, and some that are too large.
    odd = np.array([c + d for c in (0, 3, 89, 90, 5e8, 3e9, 1e20) for d in (-0.5, 0, 0.5, 1)])
    same(booster, np.concatenate([x, np.stack([odd, odd, odd], axis=1)]))


@given(st.integers(0, 2**32 - 1))
def test_random_models(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(80, 3)) * 10.0 ** random.integers(-38, 6, 3)
    x = np.where(random.random(x.shape) < random.choice([0, 0.3]), np.nan, x)
    x = np.where(random.random(x.shape) < random.choice([0, 0.3]), 0, x)
    parameters = {
        "objective": str(random.choice(["multiclass", "regression", "poisson"])),
        "num_leaves": int(random.integers(2, 30)),
        "min_data_in_leaf": int(random.integers(1, 5)),
        "min_sum_hessian_in_leaf": 0,
        "zero_as_missing": bool(random.integers(2)),
        "use_missing": bool(random.integers(2)),
        "boosting": str(random.choice(["gbdt", "dart"])),
        "seed": seed % 1000,
    }
    parameters |= {"num_class": 3} if parameters["objective"] == "multiclass" else {}
    y = random.integers(0, 3, 80)
    same(trained(x, y, parameters, int(random.integers(1, 8))), x, tolerance=3e-6)


# Which trees --------------------------------------------------------------------------------------


# Its new name is too new.
@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")
def test_early_stopping() -> None:
    """A file has the trees up to the best round, which is what LightGBM predicts with."""
    x, y = events(), np.random.default_rng(1).integers(0, 2, EVENTS)
    model = lightgbm.LGBMClassifier(n_estimators=60, verbose=-1, n_jobs=1)
    stop = lightgbm.early_stopping(3, verbose=False)
    model.fit(x[:120], y[:120], eval_set=[(x[120:], y[120:])], callbacks=[stop])
    assert model.best_iteration_ < 60
    seen = np.asarray(x, np.float32)
    wanted = model.predict_proba(seen)[:, 1]
    agree(computed(sofie.from_lightgbm(model).graph, seen), wanted)
    agree(computed(sofie.from_lightgbm(model.booster_).graph, seen), wanted)


def test_an_objective_of_ones_own_gives_the_sum() -> None:
    x = events()

    def squares(scores: Array, data: Any) -> tuple[Array, Array]:
        return scores - data.get_label(), np.ones_like(scores)

    same(trained(x, np.nan_to_num(x[:, 0]), {"objective": squares}), x)


@pytest.mark.parametrize("y", [np.zeros(EVENTS), np.full(EVENTS, 2.5)])
def test_trees_of_one_leaf(y: Array) -> None:
    x = events()
    same(trained(x, y, {"objective": "regression"}), x)


# Files --------------------------------------------------------------------------------------------


def test_a_file_is_recognised_and_compiled(tmp_path: Path) -> None:
    x = events()
    y = np.nan_to_num(x[:, 0]) > 0
    names = ["pt", "eta", "phi", "m"]
    booster = trained(x, y, {"objective": "binary", "num_leaves": 60}, 20, feature_name=names)
    path = tmp_path / "model.txt"
    booster.save_model(path)
    assert recognise(path) == "lightgbm"
    assert sofie.check(path) == []
    model = sofie.load(path)
    assert json.loads(model.graph.provenance["features"]) == names
    seen = np.asarray(x, np.float32)
    for count in (1, 3, EVENTS):
        agree(model(seen[:count]), booster.predict(seen)[:count])


def test_compiled_models_with_lines_and_with_zeros_that_are_missing() -> None:
    x = events()
    y = np.nan_to_num(x[:, 0] * x[:, 1])
    booster = trained(x, y, {"objective": "regression", "zero_as_missing": True})
    agree(sofie.from_lightgbm(booster)(np.asarray(x, np.float32)), booster.predict(x))
    booster = trained(x, y, {"objective": "regression", "linear_tree": True})
    seen = np.asarray(x, np.float32)
    agree(sofie.from_lightgbm(booster)(seen), booster.predict(seen))
    wide = sofie.from_lightgbm(booster, dtype="float64")
    agree(wide(x), booster.predict(x), 1e-12)
    with pytest.raises(sofie.InputError, match="float32"):
        sofie.from_lightgbm(booster, dtype="int8")
