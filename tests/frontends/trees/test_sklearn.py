"""scikit-learn's estimators and pipelines against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate
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
