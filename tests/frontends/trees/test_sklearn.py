"""scikit-learn's estimators and pipelines against scikit-learn."""

from __future__ import annotations

import contextlib
import copy
import inspect
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate
from tests.choice import some_of
from tests.frontends.trees.events import agree, around, computed

pytest.importorskip("skl2onnx", reason="skl2onnx exports: pip install 'sofie_rdf[trees]'")
sklearn = pytest.importorskip("sklearn", reason="scikit-learn is the oracle here")

# skl2onnx and scikit-learn speak of their own futures.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def events() -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    x = random.normal(size=(150, 4)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] ** 2 > 1).astype(int)


def estimators() -> dict[str, Any]:
    from sklearn import ensemble, linear_model, neural_network, pipeline, preprocessing, tree

    scaled = preprocessing.StandardScaler()
    return {
        "logistic": pipeline.make_pipeline(scaled, linear_model.LogisticRegression()),
        "network": pipeline.make_pipeline(
            scaled, neural_network.MLPClassifier((8,), max_iter=500, tol=1e-2, random_state=1)
        ),
        "forest": ensemble.RandomForestClassifier(7, random_state=1),
        "extra": ensemble.ExtraTreesRegressor(7, random_state=1),
        "boosting": ensemble.GradientBoostingClassifier(n_estimators=9),
        "regression": ensemble.GradientBoostingRegressor(n_estimators=9),
        "tree": tree.DecisionTreeRegressor(max_depth=5),
        "line": linear_model.LinearRegression(),
    }


@pytest.mark.parametrize("kind", estimators())
def test_an_estimator(kind: str) -> None:
    x, y = events()
    estimator = estimators()[kind].fit(x, y)
    model = sofie.from_sklearn(estimator, name=kind)
    assert {str(t) for t in model.inputs.values()} == {"float32[N, 4]"}
    found = evaluate(model.graph, {"features": x})
    if hasattr(estimator, "predict_proba"):
        agree(found["probabilities"], estimator.predict_proba(x), 2e-6)
        assert np.array_equal(found["label"], estimator.predict(x))
    else:
        agree(found["variable"], estimator.predict(x), 2e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_histogram_boosting_of_classes(classes: int) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    x, _ = events()
    x[::7, 1] = np.nan
    y = np.random.default_rng(1).integers(0, classes, len(x)) * 3 - 1
    estimator = HistGradientBoostingClassifier(max_iter=7, min_samples_leaf=3).fit(x, y)
    splits = histogram_splits(estimator)
    x = around(np.random.default_rng(2), x, splits)
    found = evaluate(sofie.from_sklearn(estimator).graph, {"features": x})
    agree(found["probabilities"], estimator.predict_proba(x))
    assert np.array_equal(found["label"], estimator.predict(x))


def histogram_splits(estimator: Any) -> list[tuple[int, float]]:
    nodes = np.concatenate([p.nodes for ps in estimator._predictors for p in ps])
    inner = nodes[nodes["is_leaf"] == 0]
    return list(zip(inner["feature_idx"].tolist(), inner["num_threshold"].tolist(), strict=True))


@pytest.mark.parametrize(
    "loss", ["squared_error", "absolute_error", "poisson", "gamma", "quantile"]
)
def test_histogram_boosting_of_numbers(loss: str) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    x, _ = events()
    x[::7, 1] = np.nan
    y = np.exp(x[:, 0])
    more = {"quantile": 0.3} if loss == "quantile" else {}
    estimator = HistGradientBoostingRegressor(loss=loss, max_iter=7, min_samples_leaf=3, **more)
    estimator.fit(x, y)
    x = around(np.random.default_rng(2), x, histogram_splits(estimator))
    model = sofie.from_sklearn(estimator)
    agree(computed(model.graph, x), estimator.predict(x))
    if loss == "gamma":
        agree(model(x), estimator.predict(x))


def test_histogram_boosting_with_categories_is_refused() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    x, y = events()
    x[:, 0] = np.arange(len(x)) % 5
    estimator = HistGradientBoostingRegressor(max_iter=2, categorical_features=[0]).fit(x, y)
    with pytest.raises(sofie.UnsupportedOperator, match="categorical"):
        sofie.from_sklearn(estimator)
    with pytest.raises(sofie.InputError, match="Fit it first"):
        sofie.from_sklearn(HistGradientBoostingRegressor())


@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_boosted_trees_at_the_end_of_a_pipeline(package: str) -> None:
    """With float64 numbers, as scikit-learn computes by default."""
    library = pytest.importorskip(package, reason="the last step is one of its models")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    x, y = events()
    last = (
        library.XGBClassifier(n_estimators=9)
        if package == "xgboost"
        else library.LGBMClassifier(n_estimators=9, verbose=-1)
    )
    pipeline = make_pipeline(StandardScaler(), MinMaxScaler(), last)
    pipeline[:-1].set_output(transform="default")
    wide = x.astype(np.float64)
    transformed = pipeline[:-1].fit_transform(wide)
    last.fit(transformed, y)
    model = sofie.from_sklearn(pipeline, name="pipeline")
    wanted = last.predict_proba(pipeline[:-1].transform(wide))[:, 1]
    agree(evaluate(model.graph, {"features": x})["prediction"], wanted)
    agree(model(x), wanted)
    alone = make_pipeline(last)
    (found,) = evaluate(
        sofie.from_sklearn(alone).graph, {"features": transformed.astype(np.float32)}
    ).values()
    agree(found, last.predict_proba(transformed.astype(np.float32))[:, 1])


def test_what_cannot_be_exported_is_refused() -> None:
    xgboost = pytest.importorskip("xgboost", reason="one of its models is in the wrong place")
    from sklearn.base import BaseEstimator
    from sklearn.ensemble import VotingClassifier
    from sklearn.linear_model import LogisticRegression

    x, y = events()
    with pytest.raises(sofie.InputError, match=r"LogisticRegression .* Fit it first"):
        sofie.from_sklearn(LogisticRegression())
    both = [("a", LogisticRegression()), ("b", xgboost.XGBClassifier(n_estimators=2))]
    with pytest.raises(sofie.UnsupportedOperator, match=r"VotingClassifier .* end of a pipeline"):
        sofie.from_sklearn(VotingClassifier(both).fit(x, y))

    class Mine(BaseEstimator):  # type: ignore[misc]
        n_features_in_ = 4

    with pytest.raises(sofie.UnsupportedOperator, match="Mine cannot be exported"):
        sofie.from_sklearn(Mine())


# Right, or refused by name ------------------------------------------------------------------------


def wide_events() -> Array:
    """Columns of different scales, as a scaler has them; float64 numbers that float32 holds."""
    x = np.random.default_rng(3).normal(size=(500, 4)) * [1, 100, 1e-3, 5] + [0, 1000, 0, 3]
    return x.astype(np.float32).astype(np.float64)


def target(x: Array) -> Array:
    noise = np.random.default_rng(4).normal(size=len(x))
    return np.asarray(2 * x[:, 0] - np.sin(x[:, 1] / 50) + 0.1 * noise)


@pytest.mark.parametrize(
    "kind",
    some_of(
        ["HistGradientBoostingRegressor", "RandomForestRegressor", "ExtraTreesRegressor"],
        ["HistGradientBoostingRegressor", "RandomForestRegressor"],
    ),
)
def test_trees_behind_a_scaler_go_where_scikit_learn_goes(kind: str) -> None:
    """It scales in float64; HistGradientBoosting compares that, others round it first."""
    from sklearn import ensemble
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = wide_events()
    last = getattr(ensemble, kind)(random_state=1)
    pipeline = make_pipeline(StandardScaler(), last).fit(x, target(x))
    graph = sofie.from_sklearn(pipeline).graph
    assert {str(graph.types[i]) for i in graph.inputs} == {"float32[N, 4]"}
    found = evaluate(graph, {"features": x.astype(np.float32)})
    assert found["variable"].dtype == np.float32
    agree(found["variable"], pipeline.predict(x), 2e-6)


def test_a_pipeline_of_two_outputs_is_computed_once() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = events()
    pipeline = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=3))
    graph = sofie.from_sklearn(pipeline.fit(x, y)).graph
    assert graph.outputs == ("label", "probabilities")
    assert [n.op.name for n in graph.nodes].count("Trees") == 1


def test_a_gaussian_process_is_computed_in_float64() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor

    x = wide_events()
    estimator = GaussianProcessRegressor().fit(x, target(x))
    (found,) = evaluate(
        sofie.from_sklearn(estimator).graph, {"features": x.astype(np.float32)}
    ).values()
    agree(found, estimator.predict(x), 2e-6)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_network_with_two_targets(scaled: bool) -> None:
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, _ = events()
    network: Any = MLPRegressor(hidden_layer_sizes=(6,), max_iter=500, tol=1e-2, random_state=1)
    network = make_pipeline(StandardScaler(), network) if scaled else network
    network.fit(x.astype(np.float64), np.stack([target(x), x[:, 1]], axis=1))
    model = sofie.from_sklearn(network)
    assert [str(t) for t in model.outputs.values()] == ["float32[N, 2]"]
    agree(computed(model.graph, x), network.predict(x.astype(np.float64)), 2e-6)


@pytest.mark.parametrize("kind", ["LogisticRegression", "HistGradientBoostingClassifier"])
def test_classes_that_are_texts_are_labels(kind: str) -> None:
    from sklearn import ensemble, linear_model

    x, _ = events()
    names = np.array(["background", "signal", "top"])
    y = names[np.digitize(x[:, 0], [-0.3, 0.4])]
    makers = {**vars(linear_model), **vars(ensemble)}
    estimator = makers[kind]().fit(x, y)
    model = sofie.from_sklearn(estimator)
    assert model.labels["probabilities"] == tuple(names)
    found = evaluate(model.graph, {"features": x})
    assert np.array_equal(names[found["label"]], estimator.predict(x))


def test_a_difference_names_the_step() -> None:
    """A converter that loses the scale of the second step."""
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    x, _ = events()
    steps = [("first", StandardScaler()), ("second", MinMaxScaler()), ("fit", LinearRegression())]
    pipeline = Pipeline(steps).fit(x, target(x))
    sofie.from_sklearn(pipeline)
    pipeline["second"].transform = lambda rows: 1.5 * np.asarray(rows)
    with pytest.raises(sofie.ModelError, match=r"step 'second' \(MinMaxScaler\): output"):
        sofie.from_sklearn(pipeline)


def test_the_rows_of_the_user_are_compared() -> None:
    """An estimator that gives at one row what random rows do not find."""
    from sklearn.linear_model import LinearRegression

    x, _ = events()
    estimator = LinearRegression().fit(x, target(x))
    line = estimator.predict
    estimator.predict = lambda rows: line(rows) + 50 * (np.asarray(rows)[:, 0] == 100)
    sofie.from_sklearn(estimator)
    with pytest.raises(sofie.ModelError, match=r"LinearRegression.* by 50 at the given rows"):
        sofie.from_sklearn(estimator, rows=np.full((3, 4), 100.0))


def _made(kind: Any) -> Any:
    """An estimator of this class, small and always the same."""
    from sklearn.linear_model import LinearRegression, LogisticRegression

    one: Any = LinearRegression() if _is_regressor(kind) else LogisticRegression()
    known = {
        "estimator": one,
        "base_estimator": one,
        "steps": [("last", one)],
        "estimators": [("a", one), ("b", copy.copy(one))],
        "novelty": True,
        "radius": 9.0,
        "param_grid": {"fit_intercept": [True]},
        "n_iter": 1,
        "nu": 0.2,
        "random_state": 1,
        "param_distributions": {"fit_intercept": [True]},
        "n_estimators": 5,
        "min_categories": 9,
        "probability": False,
    }
    given = {name: known[name] for name in inspect.signature(kind).parameters if name in known}
    if kind.__module__.startswith("sklearn.ensemble"):
        given.pop("estimator", None)  # The default one is a tree.
    return kind(**given)


def _is_regressor(kind: Any) -> bool:
    return "Regress" in kind.__name__ or getattr(kind, "_estimator_type", "") == "regressor"


def _predictors() -> list[Any]:
    from sklearn.utils import all_estimators

    return [kind for _, kind in all_estimators() if hasattr(kind, "predict")]


def _fitted(kind: Any) -> tuple[Any, Array]:
    """The estimator, fitted to the first targets that it takes; and rows that it has not seen."""
    x = np.random.default_rng(5).normal(size=(160, 4)).astype(np.float32).astype(np.float64)
    classes = np.digitize(x[:, 0] + 0.3 * x[:, 1], [-0.5, 0.5])
    numbers = np.exp(0.3 * x[:, 0]) + 0.2 * np.abs(x[:, 1])
    targets: list[Array] = [classes, (classes > 0).astype(int), numbers]
    targets += [np.stack([numbers, x[:, 2]], axis=1), np.stack([classes > 0, classes > 1], axis=1)]
    for y in reversed(targets[:3]) if _is_regressor(kind) else targets:
        for rows in (x, np.abs(x), np.rint(np.abs(x)).clip(0, 2), x[:, :1]):
            with contextlib.suppress(Exception):
                return _made(kind).fit(rows[:120], y[:120]), rows[120:]
    for y in targets[3:]:
        with contextlib.suppress(Exception):
            return _made(kind).fit(x[:120], y[:120]), x[120:]
    return None, x


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", _predictors(), ids=lambda kind: kind.__name__)
def test_every_estimator_is_right_or_refused_by_name(kind: Any) -> None:
    estimator, rows = _fitted(kind)
    assert estimator is not None, "no target is one that it takes"
    refused = ""
    try:
        model = sofie.from_sklearn(estimator)
    except sofie.SofieError as error:
        refused = str(error)
    if refused:
        assert kind.__name__ in refused
        return
    (name,) = model.graph.inputs
    found = evaluate(model.graph, {name: rows.astype(np.float32)})
    predicted = np.asarray(estimator.predict(rows))
    first = next(iter(found.values())).reshape(predicted.shape)
    if predicted.dtype.kind in "iub":
        assert np.array_equal(first, predicted)
    else:
        agree(first, predicted, 2e-5)
