"""XGBoost's files against XGBoost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sofie_rdf as sofie
from sofie_rdf.frontends import recognise
from sofie_rdf.frontends.trees.xgboost import read
from sofie_rdf.ir.types import Array
from tests.frontends.trees.events import agree, around, computed

xgboost = pytest.importorskip("xgboost", reason="XGBoost is the oracle here: pip install xgboost")

EVENTS = 120
Parameters = Mapping[str, Any]


def events(seed: int = 0) -> Array:
    random = np.random.default_rng(seed)
    x = random.normal(size=(EVENTS, 4)).astype(np.float32)
    x[random.random(x.shape) < 0.1] = np.nan
    return x


def trained(x: Array, y: Array, parameters: Parameters, rounds: int = 6, **more: Any) -> Any:
    data = xgboost.DMatrix(x, y, **more)
    settings = {"max_depth": 4, "verbosity": 0, "nthread": 1, **parameters}
    return xgboost.train(settings, data, rounds)


def splits(booster: Any) -> list[tuple[int, float]]:
    """Features and thresholds of all nodes."""
    found: dict[str, Any] = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    trees = found.get("gbtree", found)["model"].get("trees", [])
    return [
        (f, t)
        for tree in trees
        for f, t, left in zip(
            tree["split_indices"], tree["split_conditions"], tree["left_children"], strict=True
        )
        if left >= 0
    ]


def same(booster: Any, seen: Array, *, tolerance: float = 1e-6, **more: Any) -> None:
    """Both formats give what XGBoost gives. It takes no infinite numbers."""
    x = around(np.random.default_rng(1), seen, splits(booster), infinite=False)
    wanted = booster.predict(xgboost.DMatrix(x, **more))
    for form in ("ubj", "json"):
        found = computed(read(bytes(booster.save_raw(form))), x)
        agree(found, wanted.reshape(len(x), -1), tolerance)


POSITIVE = ("reg:gamma", "reg:tweedie", "count:poisson", "survival:cox")
REAL = ("squarederror", "squaredlogerror", "pseudohubererror", "absoluteerror")
TWO = ("reg:logistic", "binary:logistic", "binary:logitraw", "binary:hinge")


@pytest.mark.parametrize("objective", [*POSITIVE, *(f"reg:{r}" for r in REAL)])
@pytest.mark.parametrize("base", [None, 0.3])
def test_regression(objective: str, base: float | None) -> None:
    x = events()
    more = {} if base is None else {"base_score": base}
    y = np.exp(np.nan_to_num(x[:, 0]))
    same(trained(x, y, {"objective": objective, **more}), x)


@pytest.mark.parametrize("objective", TWO)
@pytest.mark.parametrize("base", [None, 0.3])
@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
def test_two_classes(objective: str, base: float | None, booster: str) -> None:
    x = events()
    y = (np.nan_to_num(x[:, 0]) > 0.2).astype(int)
    more: dict[str, Any] = {} if base is None else {"base_score": base}
    more |= {"rate_drop": 0.5, "one_drop": True} if booster == "dart" else {}
    found = trained(x, y, {"objective": objective, "booster": booster, **more})
    if booster != "gblinear":
        same(found, x)
        return
    # The largest numbers, of which the sum depends on the order, are for trees.
    x = np.where(np.random.default_rng(0).random(x.shape) < 0.1, np.nan, x)
    wanted = found.predict(xgboost.DMatrix(x))
    agree(computed(read(bytes(found.save_raw("ubj"))), x), wanted)


@pytest.mark.parametrize("objective", ["multi:softmax", "multi:softprob"])
@pytest.mark.parametrize("booster", ["gbtree", "dart"])
@pytest.mark.parametrize("parallel", [1, 3])
def test_classes(objective: str, booster: str, parallel: int) -> None:
    x = events()
    y = np.random.default_rng(3).integers(0, 3, EVENTS)
    more: dict[str, Any] = {"num_parallel_tree": parallel, "subsample": 0.7, "num_class": 3}
    more |= {"rate_drop": 0.5} if booster == "dart" else {}
    same(trained(x, y, {"objective": objective, "booster": booster, **more}), x)


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_linear_model(outputs: int) -> None:
    """XGBoost adds the first base score to all outputs."""
    x = events()
    y = np.stack([np.nan_to_num(x[:, k]) + k for k in range(outputs)], axis=1)
    found = trained(x, y, {"booster": "gblinear"})
    wanted = found.predict(xgboost.DMatrix(x))
    agree(computed(read(bytes(found.save_raw("ubj"))), x), wanted)
    with pytest.raises(sofie.InputError, match="rounds"):
        sofie.from_xgboost(found, iteration_range=(0, 2))


@pytest.mark.parametrize("strategy", ["one_output_per_tree", "multi_output_tree"])
@pytest.mark.parametrize("objective", ["reg:squarederror", "binary:logistic"])
def test_several_targets(strategy: str, objective: str) -> None:
    x = events()
    y = np.stack([np.nan_to_num(x[:, 0]) > 0, np.nan_to_num(x[:, 1]) > 0.5], axis=1).astype(float)
    same(trained(x, y, {"objective": objective, "multi_strategy": strategy}), x)


def test_quantiles() -> None:
    x = events()
    parameters = {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]}
    same(trained(x, np.nan_to_num(x[:, 0]), parameters), x)


def test_survival() -> None:
    x = events()
    data = xgboost.DMatrix(x)
    low = np.exp(np.nan_to_num(x[:, 0]))
    data.set_float_info("label_lower_bound", low)
    data.set_float_info("label_upper_bound", low * 2)
    booster = xgboost.train({"objective": "survival:aft", "verbosity": 0}, data, 5)
    same(booster, x)


@pytest.mark.parametrize("objective", ["rank:pairwise", "rank:ndcg", "rank:map"])
def test_ranking(objective: str) -> None:
    x = events()
    y = (np.nan_to_num(x[:, 0]) > 0.2).astype(int)
    same(trained(x, y, {"objective": objective}, qid=np.repeat(np.arange(12), 10)), x)


@pytest.mark.parametrize("method", ["exact", "hist", "approx"])
def test_pruned_trees(method: str) -> None:
    """Nodes that were cut off remain in the file."""
    x = events()
    y = np.nan_to_num(x[:, 0] * x[:, 1])
    same(trained(x, y, {"tree_method": method, "gamma": 0.5}), x)


@pytest.mark.parametrize("onehot", [1, 100])
def test_categories(onehot: int) -> None:
    random = np.random.default_rng(5)
    x = np.stack([random.integers(0, 4, 200), random.integers(0, 70, 200)], axis=1)
    x = np.column_stack([x, random.normal(size=200)]).astype(np.float32)
    y = (x[:, 1] % 3 + x[:, 0] > 2).astype(int)
    x[random.random(x.shape) < 0.1] = np.nan
    kinds = {"feature_types": ["c", "c", "q"], "enable_categorical": True}
    parameters = {"objective": "binary:logistic", "max_cat_to_onehot": onehot, "max_depth": 6}
    booster = trained(x, y, parameters, **kinds)
    # Codes that were not seen, numbers that are no codes, and one that is too large.
    odd = np.stack([c + d for c in (0, 3, 69, 70, 5e8) for d in (-0.5, 0, 0.5, 1)]).astype("f")
    seen = np.concatenate([x, np.stack([odd, odd, odd], axis=1)])
    x = around(random, seen, [], infinite=False)
    wanted = booster.predict(xgboost.DMatrix(x, **kinds))
    agree(computed(read(bytes(booster.save_raw("ubj"))), x), wanted)


@given(st.integers(0, 2**32 - 1))
def test_random_models(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = (random.normal(size=(60, 3)) * 10.0 ** random.integers(-6, 6, 3)).astype(np.float32)
    x = np.where(random.random(x.shape) < random.choice([0, 0.3]), np.float32(np.nan), x)
    x = np.round(x, int(random.integers(0, 3)))
    y = random.integers(0, 3, 60)
    parameters = {
        "objective": str(random.choice(["multi:softprob", "reg:squarederror", "count:poisson"])),
        "booster": str(random.choice(["gbtree", "dart"])),
        "max_depth": int(random.integers(1, 9)),
        "num_parallel_tree": int(random.integers(1, 3)),
        "tree_method": str(random.choice(["exact", "hist"])),
        "min_child_weight": 0,
        "seed": seed % 1000,
    }
    parameters |= {"num_class": 3} if parameters["objective"] == "multi:softprob" else {}
    parameters |= {"rate_drop": 0.3} if parameters["booster"] == "dart" else {}
    same(trained(x, y, parameters, int(random.integers(1, 8))), x, tolerance=3e-6)


# Which trees, and what is missing -----------------------------------------------------------------


def stopped() -> tuple[Any, Array]:
    """A model that was stopped early, and its events."""
    x, y = events(), np.random.default_rng(1).integers(0, 2, EVENTS)
    model = xgboost.XGBClassifier(
        n_estimators=60, early_stopping_rounds=3, missing=0.25, verbosity=0, n_jobs=1
    )
    x[::5, 0] = 0.25
    model.fit(x[:80], y[:80], eval_set=[(x[80:], y[80:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    return model, x


def test_early_stopping_as_its_class_predicts(tmp_path: Path) -> None:
    model, x = stopped()
    best = model.predict_proba(x)[:, 1]
    agree(computed(sofie.from_xgboost(model).graph, x), best)
    booster = model.get_booster()
    data = xgboost.DMatrix(x, missing=0.25)
    every = booster.predict(data)
    assert np.max(np.abs(every - best)) > 1e-3
    agree(computed(sofie.from_xgboost(booster, missing=0.25).graph, x), every)
    some = booster.predict(data, iteration_range=(1, 4))
    chosen = sofie.from_xgboost(booster, missing=0.25, iteration_range=(1, 4))
    agree(computed(chosen.graph, x), some)
    path = tmp_path / "model.ubj"
    model.save_model(path)
    agree(computed(sofie.from_xgboost(path, missing=0.25).graph, x), best)
    all_of_them = sofie.from_xgboost(path, missing=0.25, iteration_range=(0, 0))
    agree(computed(all_of_them.graph, x), every)
    with pytest.raises(sofie.InputError, match="rounds"):
        sofie.from_xgboost(path, iteration_range=(3, 1000))


def test_missing_numbers_are_those_of_the_model() -> None:
    model, x = stopped()
    graph = sofie.from_xgboost(model).graph
    replaced = np.where(x == 0.25, np.float32(np.nan), x)
    assert np.array_equal(computed(graph, x), computed(graph, replaced))


def test_no_round_at_all() -> None:
    x = events()
    booster = xgboost.train(
        {"objective": "reg:squarederror"}, xgboost.DMatrix(x, np.ones(EVENTS)), 0
    )
    model = sofie.from_xgboost(booster)
    agree(model(x), booster.predict(xgboost.DMatrix(x)))


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "ubj"])
def test_a_file_is_recognised_and_compiled(form: str, tmp_path: Path) -> None:
    x = events()
    names = ["pt", "eta", "phi", "m"]
    data = xgboost.DMatrix(x, np.nan_to_num(x[:, 0]) > 0, feature_names=names)
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 7}, data, 20)
    path = tmp_path / f"model.{form}"
    booster.save_model(path)
    assert recognise(path) == "xgboost"
    assert sofie.check(path) == []
    model = sofie.load(path)
    assert json.loads(model.graph.provenance["features"]) == names
    assert "pt, eta, phi, m" in str(model)
    for count in (1, 3, 120):
        agree(model(x[:count]), booster.predict(data)[:count])
    model.save(tmp_path / "models.root")
    again = sofie.load(tmp_path / "models.root")
    assert np.array_equal(again(x), model(x))
    assert json.loads(again.graph.provenance["features"]) == names
