"""Minuit2, iminuit and RooFit with the same likelihood."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import InputError, ModelError
from sofie_rdf.fit import Function
from tests.fit.models import events, gauss, model, shared, wanted

BEST = (np.mean(events()), np.std(events()))
ERRORS = BEST[1] / np.sqrt(3000) * np.array([1, np.sqrt(0.5)])


@pytest.fixture(scope="module")
def found() -> Function:
    return sofie.fit.function(
        gauss(), {"x": events()}, ["mu", "sigma"], output="log", reduce="-2sum"
    )


@pytest.fixture
def minimizer(found: Function) -> Any:
    root = pytest.importorskip("ROOT")
    made = root.Math.Factory.CreateMinimizer("Minuit2", "Migrad")
    made.SetFunction(found)
    made.SetErrorDef(found.errordef)
    made.SetVariable(0, "mu", 1.0, 0.1)
    made.SetLowerLimitedVariable(1, "sigma", 1.0, 0.1, 0.01)
    return made


def test_minuit2_takes_the_function_with_its_gradient(found: Function, minimizer: Any) -> None:
    root = pytest.importorskip("ROOT")
    assert isinstance(found.functor, root.Math.IMultiGradFunction)
    assert found.functor.NDim() == 2
    assert minimizer.Minimize()
    np.testing.assert_allclose([minimizer.X()[i] for i in (0, 1)], BEST, atol=0.02 * ERRORS[1])
    np.testing.assert_allclose([minimizer.Errors()[i] for i in (0, 1)], ERRORS, rtol=0.02)


def test_the_functor_asks_for_derivatives_together_and_one_by_one(found: Function) -> None:
    pytest.importorskip("ROOT")
    theta, gradient = np.array([1.4, 0.8]), np.zeros(2)
    found.functor.Gradient(theta, gradient)
    value, slopes = wanted(events(), *theta)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-12)
    assert found.functor.Derivative(theta, 1) == gradient[1]
    assert found.functor(theta) == pytest.approx(value, rel=1e-12)
    assert found.functor.Clone()(theta) == found.functor(theta)


def test_what_goes_wrong_in_a_fit_is_said_by_the_exception(minimizer: Any) -> None:
    minimizer.SetFixedVariable(1, "sigma", -1.0)
    with pytest.raises(Exception, match="NaN for event 0 at mu = 1, sigma = -1"):
        minimizer.Minimize()


def test_iminuit_takes_the_function_with_its_gradient(found: Function) -> None:
    minuit = pytest.importorskip("iminuit").Minuit(found, mu=1, sigma=1)
    minuit.limits["sigma"] = (0.01, None)
    minuit.migrad()
    assert minuit.valid
    assert minuit.ngrad > 0
    assert minuit.errordef == 1
    np.testing.assert_allclose(minuit.values, BEST, atol=0.02 * ERRORS[1])
    np.testing.assert_allclose(minuit.errors, ERRORS, rtol=0.02)


def test_parameters_have_names_for_who_asks_as_iminuit_does(found: Function) -> None:
    assert list(found._parameters) == ["mu", "sigma"]
    assert found.errordef == 1


# RooFit -------------------------------------------------------------------------------------------


@pytest.fixture
def roofit() -> Iterator[Any]:
    root = pytest.importorskip("ROOT")
    service = root.RooMsgService.instance()
    before = service.globalKillBelow()
    service.setGlobalKillBelow(root.RooFit.ERROR)
    yield root
    service.setGlobalKillBelow(before)


def variables(root: Any) -> list[Any]:
    x = root.RooRealVar("x", "", -5, 8)
    return [x, root.RooRealVar("mu", "", 1, -3, 3), root.RooRealVar("sigma", "", 1, 0.1, 3)]


def test_a_function_of_roofit_has_the_value_of_the_model(roofit: Any) -> None:
    x, mu, sigma = variables(roofit)
    value = sofie.fit.roofit("g", gauss(), [sigma, x, mu], output="log")
    for numbers in ((0.5, 1, 1), (2, -1, 0.3)):
        for variable, number in zip((x, mu, sigma), numbers, strict=True):
            variable.setVal(number)
        wanted_value = -wanted(np.array(numbers[:1]), *numbers[1:])[0] / 2
        assert value.getVal() == pytest.approx(wanted_value, rel=1e-12)
    again = value.Clone("again")
    x.setVal(0)
    assert again.getVal() == pytest.approx(value.getVal(), rel=1e-12)
    assert sorted(v.GetName() for v in value.getVariables()) == ["mu", "sigma", "x"]


@pytest.mark.parametrize("backend", ["legacy", "cpu"])
def test_roofit_fits_event_by_event_and_many_at_once(roofit: Any, backend: str) -> None:
    x, mu, sigma = variables(roofit)
    density = sofie.fit.roofit("density", gauss(), [x, mu, sigma], output="density")
    pdf = roofit.RooWrapperPdf("pdf", "", density, True)
    data = roofit.RooDataSet.from_numpy({"x": events()}, [x])
    result = pdf.fitTo(data, EvalBackend=backend, PrintLevel=-1, Save=True)
    assert result.status() == 0
    np.testing.assert_allclose([mu.getVal(), sigma.getVal()], BEST, atol=0.02 * ERRORS[1])
    np.testing.assert_allclose([mu.getError(), sigma.getError()], ERRORS, rtol=0.02)


@pytest.mark.parametrize("is_shared", [False, True])
def test_many_events_at_once_have_the_values_of_each(roofit: Any, is_shared: bool) -> None:
    x, mu, sigma = variables(roofit)
    names = ["x", "theta[0]", "theta[1]"] if is_shared else ["x", "mu", "sigma"]
    value = sofie.fit.roofit(
        "many",
        shared() if is_shared else gauss(),
        dict(zip(names, (x, mu, sigma), strict=True)),
        output="both[0]" if is_shared else "log",
    )
    density = roofit.RooFormulaVar("density", "exp(@0)", [value])
    pdf = roofit.RooWrapperPdf("pdf", "", density, True)
    numbers = events(5000)
    data = roofit.RooDataSet.from_numpy({"x": numbers}, [x])
    found = pdf.createNLL(data, EvalBackend="cpu").getVal()
    assert found == pytest.approx(wanted(numbers, mu.getVal(), sigma.getVal())[0] / 2, rel=1e-11)


def test_numbers_are_constants_and_functions_are_variables(roofit: Any) -> None:
    x, mu, _ = variables(roofit)
    twice = roofit.RooFormulaVar("twice", "2 * mu", [mu])
    given = {"x": x, "mu": twice, "sigma": 0.5}
    value = sofie.fit.roofit("composed", gauss(), given, output="log")
    x.setVal(1.5)
    mu.setVal(0.25)
    assert value.getVal() == pytest.approx(-wanted(np.array([1.5]), 0.5, 0.5)[0] / 2, rel=1e-12)


def test_what_does_not_fit_roofit_is_refused(roofit: Any) -> None:
    x, mu, sigma = variables(roofit)
    other = roofit.RooRealVar("y", "", 0, 1)
    normal = gauss()
    for given, text in (
        ([x, mu], "nothing for 'sigma'"),
        ([x, mu, sigma, other], "no feature or input 'y'"),
        ({"x": x, "features[0]": x, "mu": mu, "sigma": sigma}, "twice"),
        ({"x": x, "mu": mu, "sigma": "sigma"}, "a finite number for 'sigma'"),
        ({"x": x, "mu": mu, "sigma": np.nan}, "a finite number for 'sigma'"),
        ([1, 2, 3], "variables= as RooFit's"),
    ):
        with pytest.raises(InputError) as caught:
            sofie.fit.roofit("g", normal, given, output="log")
        assert text in str(caught.value)
    with pytest.raises(InputError, match="several outputs"):
        sofie.fit.roofit("g", normal, [x, mu, sigma])
    jagged = model(
        "y = ReduceSum <keepdims = 0> (x, a)", "(float[N, M] x) => (float[N] y)", a=np.array([1])
    )
    with pytest.raises(InputError, match="single floating-point numbers"):
        sofie.fit.roofit("g", jagged, [x])
    meeting = model("y = Softmax <axis = 0> (x)", "(float[N, 1] x) => (float[N, 1] y)")
    with pytest.raises(ModelError, match="that event alone"):
        sofie.fit.roofit("g", meeting, [x])
