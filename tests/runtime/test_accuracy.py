"""What weights in fewer bits change: the numbers of the report, from numbers that are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir.types import Array
from sofie_rdf.ops.elementwise import Relu, Sigmoid
from sofie_rdf.ops.linear import Dense
from sofie_rdf.runtime.arrays.accuracy import Change, _auc, _change
from tests.passes.graphs import N, Net

DATA = Path(__file__).resolve().parents[2] / "data"
RNG = np.random.default_rng(3)
X = RNG.normal(size=(2000, 7)).astype(np.float32)
FEATURES = [f"f{i}" for i in range(7)]


@pytest.fixture(scope="module")
def higgs() -> sofie.Model:
    return sofie.load(DATA / "higgs.onnx")


def changed(exact: Any, found: Any, cuts: Any = (), labels: Any = None) -> Change:
    one, other = np.asarray(exact, np.float32), np.asarray(found, np.float32)
    return _change("y", one, other, cuts, None if labels is None else np.asarray(labels))


# Statistics ---------------------------------------------------------------------------------------


def test_deviations() -> None:
    one = changed([[0.0], [1.0], [2.0], [3.0]], [[0.0], [1.5], [2.0], [2.0]])
    assert one.scale == pytest.approx(math.sqrt(1.25))
    assert one.largest == 1 and one.rms == pytest.approx(math.sqrt(1.25 / 4))
    assert one.quantiles[0.5] == pytest.approx(0.25) and one.numbers == 4


def test_cuts_count_events_that_change_sides() -> None:
    one = changed([0.1, 0.4, 0.625, 0.9], [0.1, 0.625, 0.4, 0.9], cuts=(0.5, 0.95, 0.625))
    assert one.cuts == {0.5: 0.5, 0.95: 0.0, 0.625: 0.0}


def test_usual_cuts_keep_half_a_tenth_and_a_hundredth() -> None:
    scores = np.arange(1000, dtype=np.float32)
    cuts = changed(scores, scores).cuts
    assert [np.mean(scores > c) for c in cuts] == pytest.approx([0.5, 0.1, 0.01])


def test_several_numbers_are_a_choice() -> None:
    exact, found = [[0.2, 0.8], [0.7, 0.3], [0.6, 0.4]], [[0.2, 0.8], [0.4, 0.6], [0.7, 0.3]]
    one = changed(exact, found, labels=[1, 0, 1])
    assert one.choices == pytest.approx(1 / 3) and not one.cuts and one.auc is None
    assert one.accuracy == pytest.approx((1 / 3, 2 / 3))


def test_numbers_that_are_not_finite() -> None:
    nan, inf = math.nan, math.inf
    one = changed([nan, inf, 1, 2, inf], [nan, inf, nan, 2.5, -inf])
    assert one.not_finite == 2 and one.largest == 0.5


def test_area_under_the_curve() -> None:
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    assert _auc(scores, np.array([0, 0, 1, 1])) == 0.75
    assert _auc(np.ones(4), np.array([0, 0, 1, 1])) == 0.5
    assert math.isnan(_auc(scores, np.zeros(4)))
    rng = np.random.default_rng(1)
    labels, random = rng.integers(0, 2, 300), rng.integers(0, 50, 300) / 50
    pairs = [(a > b) + 0.5 * (a == b) for a in random[labels == 1] for b in random[labels == 0]]
    assert _auc(random, labels) == pytest.approx(np.mean(pairs))


# Networks -----------------------------------------------------------------------------------------


def test_it_says_what_the_models_say(higgs: sofie.Model) -> None:
    labels = RNG.integers(0, 2, len(X))
    loss = higgs.precision_loss(X, labels=labels, cuts=[0.5, 0.7])
    assert [c.precision for c in loss.contenders] == ["float32", "bfloat16", "float16", "int8"]
    assert loss.events == len(X) and loss["float32"].changes == ()
    exact = higgs(X)[:, 0].astype(float)
    for name in ("bfloat16", "float16", "int8"):
        other = higgs.with_precision(name)
        found = other(X)[:, 0].astype(float)
        (one,) = loss[name].changes
        assert one.output == "score" and one.largest == np.abs(found - exact).max()
        assert one.rms == pytest.approx(np.sqrt(np.mean((found - exact) ** 2)))
        assert one.cuts[0.7] == np.mean((found > 0.7) != (exact > 0.7))
        assert one.auc == (_auc(found, labels), _auc(exact, labels))
        assert loss[name].nbytes == len(other.emission.weights)
        assert 0 < (loss[name].alone or 0) < 1e-3 and 0 < (loss[name].many or 0) < 1e-3
    rms = {name: loss[name].changes[0].rms for name in ("bfloat16", "float16", "int8")}
    assert rms["float16"] < rms["bfloat16"] < rms["int8"]
    text = str(loss)
    shown = ("2,000 events", "> 0.7", "AUC", f"{loss['int8'].nbytes:,}", f"{rms['int8']:.0e}"[:1])
    assert all(part in text for part in shown)


def events() -> Any:
    return ak.zip({n: ak.unflatten(X[:60, i], [10, 0, 50]) for i, n in enumerate(FEATURES)})


def test_columns_and_jagged_arrays(higgs: sofie.Model) -> None:
    """Columns as of a data frame: of objects, whose lists have any length."""
    exact, other = higgs(X[:60])[:, 0], higgs.with_precision("int8")(X[:60])[:, 0]
    largest = np.abs(exact.astype(float) - other).max()
    flat = {name: X[:60, i] for i, name in enumerate(FEATURES)}
    for loss in (
        higgs.precision_loss(X[:60], precisions=["int8"]),
        higgs.precision_loss({"features": X[:60]}, precisions=["int8"]),
        higgs.precision_loss(features=X[:60], precisions=["int8"]),
        higgs.precision_loss(events(), columns=FEATURES, precisions=["int8"]),
        higgs.precision_loss(events(), precisions=["int8"]),
        higgs.precision_loss(flat, columns=FEATURES, precisions=["int8"]),
    ):
        assert loss.events == 60 and loss["int8"].changes[0].largest == largest
        assert (loss["int8"].alone or 0) > 0


def small(weight: float) -> sofie.Model:
    """Two outputs; the second layer's weights are so large."""
    b = Net(N, 3)
    rng = np.random.default_rng(1)

    def layer(x: str, n: int, factor: float, op: Dense) -> str:
        w = factor * rng.normal(size=(3, n))
        return b.op(op, x, b.c(f"w{n}", w), b.c(f"b{n}", np.zeros(n)))

    h = layer("x", 3, 1.0, Dense(activation=Relu()))
    outputs = layer(h, 4, weight, Dense()), layer(h, 1, 1.0, Dense(activation=Sigmoid()))
    return sofie.Model(b.graph(*outputs))


def test_layers_that_are_left_and_networks_that_are_not() -> None:
    x: Array = RNG.normal(size=(50, 3)).astype(np.float32)
    loss = small(1e6).precision_loss(x)
    assert list(loss["float16"].left) == ["w4"] and not loss["int8"].left
    assert "float16: w4 stays float32: its largest weight" in str(loss)
    classes, score = loss["int8"].changes
    assert classes.choices is not None and not classes.cuts
    assert score.choices is None and len(score.cuts) == 3
    model = small(1.0)
    refused = sofie.Model(model.graph).with_precision("int8").precision_loss(x, precisions=["int8"])
    assert refused["int8"].precision == "int8"


def test_wrong_arguments(higgs: sofie.Model) -> None:
    with pytest.raises(sofie.InputError, match="10 labels for 20 events"):
        higgs.precision_loss(X[:20], labels=np.zeros(10))
    with pytest.raises(sofie.InputError, match="no events"):
        higgs.precision_loss(X[:0])
    with pytest.raises(sofie.InputError, match="is unknown"):
        higgs.precision_loss(X[:5], precisions=["int7"])
    with pytest.raises(sofie.InputError, match="shape"):
        higgs.precision_loss(X[:5, :3])
    with pytest.raises(KeyError):
        _ = higgs.precision_loss(X[:5], precisions=["int8"])["float16"]
    trees = Net(N, 3)
    none = sofie.Model(trees.graph(trees.op(Relu(), "x")))
    loss = none.precision_loss(X[:5, :3])
    assert "has no weights that can be int8" in loss["int8"].refused and "int8: has no" in str(loss)
