"""Sums over events as functions of parameters: numbers, names, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import awkward as ak
import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf import Model
from sofie_rdf.errors import InputError, ModelError, SofieError
from sofie_rdf.fit import Function
from tests.fit.models import events, gauss, model, shared, wanted

THETA = (1.4, 0.8)
NAMES = ["mu", "sigma"]


@pytest.fixture(scope="module")
def normal() -> Model:
    return gauss()


@pytest.fixture(scope="module")
def found(normal: Model) -> Function:
    return sofie.fit.function(normal, events(), NAMES, output="log", reduce="-2sum")


def agree(function: Function, value: float, slopes: Any, rtol: float = 1e-12) -> None:
    assert function(*THETA) == pytest.approx(value, rel=rtol)
    np.testing.assert_allclose(function.grad(*THETA), slopes, rtol=rtol, atol=1e-9)


def test_the_value_and_the_gradient_are_those_of_the_formula(found: Function) -> None:
    agree(found, *wanted(events(), *THETA))
    assert found.parameters == ("mu", "sigma")
    assert found.ndata == 3000
    assert found(np.array(THETA)) == found(*THETA)
    np.testing.assert_array_equal(found.grad(THETA), found.grad(*THETA))


@pytest.mark.parametrize(("output", "reduce"), [("density", "-2log"), ("score", "-2logit")])
def test_densities_and_scores_become_logarithms(normal: Model, output: str, reduce: Any) -> None:
    made = sofie.fit.function(normal, events(), NAMES, output=output, reduce=reduce)
    agree(made, *wanted(events(), *THETA), rtol=1e-11)


def test_a_sum_is_that_of_the_output(normal: Model) -> None:
    value, slopes = wanted(events(), *THETA)
    made = sofie.fit.function(normal, events(), NAMES, output="log")
    agree(made, -value / 2, -slopes / 2)


def test_events_have_weights(normal: Model) -> None:
    weights = np.random.default_rng(2).uniform(-1, 2, 3000)
    made = sofie.fit.function(
        normal, events(), NAMES, output="density", reduce="-2log", weights=weights
    )
    agree(made, *wanted(events(), *THETA, weights), rtol=1e-11)


def test_constraints_are_added(normal: Model) -> None:
    made = sofie.fit.function(
        normal, events(), NAMES, output="log", reduce="-2sum", constraints={"sigma": (0.7, 0.05)}
    )
    value, slopes = wanted(events(), *THETA)
    agree(made, value + 4, slopes + np.array([0, 2 * 0.1 / 0.05**2]))


def test_parameters_may_be_elements_of_an_input_without_the_batch() -> None:
    names = ["theta[0]", "theta[1]"]
    value, slopes = wanted(events(), *THETA)
    x = {"x": events()}
    for output, reduce, sign in (("both[0]", "-2sum", 1), ("both[1]", "sum", 0.5)):
        made = sofie.fit.function(shared(), x, names, output=output, reduce=reduce)
        agree(made, sign * value, sign * slopes)
    one = sofie.fit.function(
        shared(), {"x": events(), "theta": [9.0, 0.8]}, "theta[0]", output="both[0]", reduce="-2sum"
    )
    assert one(1.4) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(one.grad(1.4), slopes[:1], rtol=1e-12)


def test_weights_of_a_network_are_parameters() -> None:
    w = np.array([[1.0], [2.0]], np.float32)
    made = model("y = MatMul (x, w)", "(float[N, 2] x) => (float[N, 1] y)", w=w).parametrised(["w"])
    x = np.random.default_rng(3).normal(size=(500, 2))
    function = sofie.fit.function(made, {"x": x}, ["w[0,0]", "w[1,0]"])
    assert function(3, 4) == pytest.approx(np.sum(x @ [3, 4]), rel=1e-12)
    np.testing.assert_allclose(function.grad(3, 4), x.sum(axis=0), rtol=1e-12)


def test_single_precision_is_the_model_as_it_is(normal: Model) -> None:
    made = sofie.fit.function(
        normal, events(), NAMES, output="log", reduce="-2sum", precision="float32"
    )
    value, slopes = wanted(events(), *THETA)
    assert made(*THETA) == pytest.approx(value, rel=1e-5)
    assert made(*THETA) != pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(made.grad(*THETA), slopes, rtol=1e-4)


def test_events_come_in_tables(found: Function, normal: Model) -> None:
    x = events()
    records = np.zeros(len(x), [("x", "f8"), ("mu", "f8"), ("other", "i4")])
    records["x"] = x
    tables = [{"x": x}, records, ak.Array({"x": x, "y": x}), x[:, np.newaxis], list(x)]
    tables += [{"features": np.stack([x, x, x], 1)}, {"features": x[:, np.newaxis]}]
    for table in tables:
        made = sofie.fit.function(normal, table, NAMES, output="log", reduce="-2sum")
        assert made(*THETA) == found(*THETA)


def test_what_is_no_parameter_may_be_a_number(normal: Model) -> None:
    made = sofie.fit.function(
        normal, {"x": events(), "sigma": 0.8}, "mu", output="log", reduce="-2sum"
    )
    value, slopes = wanted(events(), *THETA)
    assert made(1.4) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(made.grad([1.4]), slopes[:1], rtol=1e-12)


def test_an_rdataframe_is_a_table(found: Function, normal: Model) -> None:
    root = pytest.importorskip("ROOT")
    df = root.RDF.FromNumpy({"x": events(), "unknown": events()})
    made = sofie.fit.function(normal, df, NAMES, output="log", reduce="-2sum")
    assert made(*THETA) == found(*THETA)


def test_threads_change_no_bit(normal: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = set()
    for threads in "1", "3":
        monkeypatch.setenv("SOFIE_RDF_THREADS", threads)
        made = sofie.fit.function(normal, events(100_000), NAMES, output="log", reduce="-2sum")
        answers.add((made(*THETA), *made.grad(*THETA)))
    assert len(answers) == 1
    assert answers.pop()[0] == pytest.approx(wanted(events(100_000), *THETA)[0], rel=1e-12)


def test_neither_values_nor_gradients_depend_on_what_was_asked_before(normal: Model) -> None:
    def made() -> Function:
        return sofie.fit.function(normal, events(), NAMES, output="log")

    first, second = made(), made()
    _ = first.grad(*THETA), first(0, 1), first.grad(0, 1)
    assert first(*THETA) == second(*THETA)
    mine = first.grad(*THETA)
    mine[:] = 0
    np.testing.assert_array_equal(first.grad(*THETA), second.grad(*THETA))


def nan_at(event: int) -> np.ndarray:
    x = events(20)
    x[event] = np.nan
    return x


WRONG: dict[str, tuple[Callable[[Model], Any], str]] = {
    "NaN": (lambda m: sofie.fit.function(m, nan_at(7), NAMES, output="log"), "NaN for event 7"),
    "an unknown parameter": (
        lambda m: sofie.fit.function(m, events(), ["mu", "sigm"], output="log"),
        "Did you mean 'sigma'",
    ),
    "a parameter twice": (
        lambda m: sofie.fit.function(m, events(), ["mu", "features[1]"], output="log"),
        "twice",
    ),
    "no parameter": (lambda m: sofie.fit.function(m, events(), [], output="log"), "nothing"),
    "a set": (lambda m: sofie.fit.function(m, events(), {"mu"}, output="log"), "order"),
    "an unknown observable": (
        lambda m: sofie.fit.function(m, {"x": events(), "y": 1}, NAMES, output="log"),
        "no feature or input 'y'",
    ),
    "a missing observable": (
        lambda m: sofie.fit.function(m, {"x": events()}, ["mu"], output="log"),
        "nothing for 'sigma'",
    ),
    "both": (
        lambda m: sofie.fit.function(m, {"x": events(), "mu": 1}, NAMES, output="log"),
        "both a parameter and an observable",
    ),
    "other lengths": (
        lambda m: sofie.fit.function(m, {"x": events(5), "sigma": events(6)}, ["mu"], output="log"),
        "different numbers of events",
    ),
    "no events": (lambda m: sofie.fit.function(m, [], NAMES, output="log"), "needs events"),
    "texts": (lambda m: sofie.fit.function(m, ["a"], NAMES, output="log"), "float64 is needed"),
    "jagged": (
        lambda m: sofie.fit.function(m, ak.Array({"x": [[1.0], []]}), NAMES, output="log"),
        "is no array",
    ),
    "a wrong shape": (
        lambda m: sofie.fit.function(m, np.ones((5, 2)), NAMES, output="log"),
        "shape [5, 2]",
    ),
    "several outputs": (lambda m: sofie.fit.function(m, events(), NAMES), "several outputs"),
    "an unknown way": (
        lambda m: sofie.fit.function(m, events(), NAMES, output="log", reduce="max"),  # type: ignore[arg-type]
        "'-2logit'",
    ),
    "an unknown precision": (
        lambda m: sofie.fit.function(m, events(), NAMES, output="log", precision="half"),  # type: ignore[arg-type]
        "float32",
    ),
    "wrong weights": (
        lambda m: sofie.fit.function(m, events(), NAMES, output="log", weights=[1.0]),
        "each of the 3000 events",
    ),
    "infinite weights": (
        lambda m: sofie.fit.function(m, events(2), NAMES, output="log", weights=[1.0, np.inf]),
        "inf for event 1",
    ),
    "an unknown constraint": (
        lambda m: sofie.fit.function(m, events(), NAMES, output="log", constraints={"nu": (0, 1)}),
        "no parameter",
    ),
    "a constraint without width": (
        lambda m: sofie.fit.function(m, events(), NAMES, output="log", constraints={"mu": (0, 0)}),
        "a mean and a width",
    ),
    "no model": (lambda m: sofie.fit.function(events(), m, NAMES), "another order"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused(what: str, normal: Model) -> None:
    call, text = WRONG[what]
    with pytest.raises(SofieError) as caught:
        call(normal)
    assert text in str(caught.value)


def test_calls_that_give_no_number_are_errors(found: Function) -> None:
    for theta, text in (
        ((1.0,), "2 parameters"),
        ((1.0, 2.0, 3.0), "2 parameters"),
        (("a", 1), "must be numbers"),
        ((np.nan, 1), "mu = nan"),
        ((1, -1), "NaN for event 0 at mu = 1, sigma = -1"),
    ):
        for way in (found, found.grad):
            with pytest.raises(InputError) as caught:
                way(*theta)
            assert text in str(caught.value)


def test_events_that_meet_have_no_likelihood() -> None:
    face = "(float[N, 1] x, float[1] a) => (float[N, 1] y)"
    meeting = model("p = Softmax <axis = 0> (x) y = Mul (p, a)", face)
    with pytest.raises(ModelError, match="that event alone"):
        sofie.fit.function(meeting, {"x": events()}, "a")
    apart = model("p = Softmax <axis = 1> (x) y = Mul (p, a)", face)
    assert sofie.fit.function(apart, {"x": events()}, "a")(2) == 6000


def test_random_numbers_have_no_likelihood() -> None:
    drawn = model("r = RandomNormalLike (x) y = Add (r, x)", "(float[N, 2] x) => (float[N, 2] y)")
    with pytest.raises(ModelError, match="random numbers"):
        sofie.fit.function(drawn, {"x[0]": events()}, "x[1]", output="y[0]")


def test_what_cannot_be_differentiated_has_a_value_still() -> None:
    body = "i = Cast <to = 7> (x) f = Cast <to = 1> (i) a = Mul (x, f) y = ReduceMax (a, axes)"
    face = "(float[N, 2] x) => (float[N, 1] y)"
    made = model(body, face, axes=np.array([1]))
    function = sofie.fit.function(made, {"x[0]": [1.0, 2.0]}, "x[1]")
    assert function(3.5) == 21
    np.testing.assert_allclose(function.grad(3.5), [6])


def test_a_fit_of_other_events_compiles_nothing(normal: Model) -> None:
    def parts() -> tuple[Model, Model]:
        made = sofie.fit.function(normal, events(10), NAMES, output="density", reduce="-2log")
        return made._model, made._derived

    first = parts()
    assert all(a is b for a, b in zip(first, parts(), strict=True))
