"""Sums over events of what a model gives, as functions of parameters, with their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from sofie_rdf import arguments
from sofie_rdf.errors import InputError, nearest
from sofie_rdf.fit.blocks import Blocks, Feed
from sofie_rdf.fit.events import feeds_of, weights_of
from sofie_rdf.fit.models import chosen_output, derived, prepared, require_apart
from sofie_rdf.fit.places import own_shape, places_of
from sofie_rdf.ir.dims import product
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.pickling import Portable

if TYPE_CHECKING:
    from sofie_rdf.model import Model
    from sofie_rdf.runtime.compile.session import Compiled

__all__ = ["Function", "Precision", "Reduce", "function"]

Reduce: TypeAlias = Literal["sum", "-2sum", "-2log", "-2logit"]
Precision: TypeAlias = Literal["float64", "float32"]


@arguments.checked
def function(
    model: Model,
    observables: Any,
    parameters: str | Sequence[str],
    *,
    output: str = "",
    reduce: Reduce = "sum",
    weights: Any = None,
    constraints: Mapping[str, tuple[float, float]] | None = None,
    precision: Precision = "float64",
) -> Function:
    """The sum over events of an output, as a function of parameters, with its gradient.

    ``parameters`` are features of the model by name, inputs with one number, or elements of inputs
    as ``"theta[2]"``, also of `Model.parametrised`. Everything else that the model reads is in
    ``observables``: a mapping from the names of features or inputs to arrays (or numbers that are
    the same for all events), a table (pandas, RDataFrame, records of NumPy or awkward) with such
    columns, or an array with the features that are no parameters, in the model's order.

    ``output`` as for `sofie_rdf.define`. With y_i for event i, whose weight w_i is 1 unless
    ``weights`` says otherwise, ``reduce`` is:

    * ``"sum"``: the sum of w_i y_i;
    * ``"-2sum"``: -2 sum of w_i y_i, for log-likelihoods and logarithms of ratios;
    * ``"-2log"``: -2 sum of w_i log y_i, for likelihoods and their ratios;
    * ``"-2logit"``: -2 sum of w_i log(y_i / (1 - y_i)), for scores of classifiers.

    ``constraints`` adds ((theta - mean) / width)^2 for each parameter: ``{"alpha": (0, 1)}``.

    The model is computed in float64, with the same weights: what is rounded to float32 alike for
    all events adds up, and a minimizer finds steps where there are none. With
    ``precision="float32"`` it is computed as it is, in half the time. Sums are in float64 and in a
    fixed order, so that they are the same for any number of threads, which is that of
    ``ROOT.EnableImplicitMT()`` or of the environment variable SOFIE_RDF_THREADS.

    Raises `InputError` for names and arrays that do not fit, NaN among them, and `ModelError` for a
    model in which events meet, which draws random numbers, or which has no float64.
    """
    way = "fit.function(model, observables, parameters)"
    arguments.require_model(way, model, Portable, observables, parameters)
    if precision not in get_args(Precision):
        raise InputError(f"precision={precision!r} is unknown", remedy='Use "float64" or "float32"')
    narrow = prepared(model, output, precision)
    return Function(narrow, observables, parameters, output, reduce, weights, constraints or {})


class Function:
    """What `function` gives: call it with parameters, one by one or as one array.

    `grad` is its gradient. iminuit takes it as it is (``Minuit(f, mu=1, sigma=2)``), and so does
    every function of ROOT that takes a ``ROOT.Math.IMultiGradFunction``
    (``minimizer.SetFunction(f)``); keep it for as long as the minimizer works.
    """

    # A change of 1 is one standard deviation of a -2 log-likelihood: what iminuit wants to know.
    errordef = 1.0

    def __init__(
        self,
        model: Model,
        observables: Any,
        parameters: str | Sequence[str],
        output: str,
        reduce: str,
        weights: Any,
        constraints: Mapping[str, tuple[float, float]],
    ) -> None:
        graph = model.compiled.graph
        if reduce not in get_args(Reduce):
            known = ", ".join(map(repr, get_args(Reduce)))
            raise InputError(f"reduce={reduce!r} is unknown", remedy=f"It is one of {known}")
        self._model, self._reduce = model, reduce
        self._places = places_of(graph, parameters)
        self._output, self._element = chosen_output(graph, output)
        require_apart(model)
        self._feeds, self._sizes = feeds_of(graph, observables, self._places)
        self._batch = graph.batch_symbol
        self._weights = weights_of(weights, self.ndata)
        self._penalties = _penalties(constraints, self.parameters)
        self._last: dict[str, tuple[bytes, Any]] = {}
        single = product(graph.types[self._output].shape[1:]) == 1
        added = any(not own_shape(graph, place.input)[0] for place in self._places.values())
        # The input that multiplies the numbers of the output before they are added up.
        self._cotangent = "" if single and not added else f"v_{self._output}"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters, in the order in which they are given."""
        return tuple(self._places)

    @property
    def _dtypes(self) -> list[DType]:
        types = self._model.compiled.graph.types
        return [types[place.input].dtype for place in self._places.values()]

    @property
    def ndata(self) -> int:
        """The number of events."""
        return self._sizes[self._batch]

    @property
    def _parameters(self) -> dict[str, None]:
        """How iminuit asks what the parameters are called."""
        return dict.fromkeys(self.parameters)

    def __call__(self, *theta: Any) -> float:
        """The value; `InputError` for numbers that are not finite, and where it is NaN."""
        return float(self._known("value", self._theta(theta), self._value))

    def grad(self, *theta: Any) -> Array:
        """The derivatives by the parameters; `InputError` where they are not finite."""
        found: Array = self._known("gradient", self._theta(theta), self._gradient).copy()
        return found

    @cached_property
    def functor(self) -> Any:
        """The same in C++: a ``ROOT.Math.IMultiGradFunction``, which needs this object."""
        from sofie_rdf.fit.minuit import functor

        return functor(self)

    def __cast_cpp__(self) -> Any:
        """What PyROOT hands over where C++ wants an object."""
        return self.functor

    def __repr__(self) -> str:
        names = ", ".join(self.parameters)
        return f"<Function of {names}: {self._reduce} of {self._output} over {self.ndata} events>"

    # The sums --------------------------------------------------------------------------------

    def _theta(self, given: tuple[Any, ...]) -> Array:
        """The parameters as float64."""
        try:
            theta = np.array(given[0] if len(given) == 1 else given, np.float64).reshape(-1)
        except (TypeError, ValueError) as error:
            raise InputError(f"parameters must be numbers: {error}") from None
        if theta.shape != (len(self._places),):
            listed = ", ".join(self.parameters)
            raise InputError(f"{len(self._places)} parameters are needed ({listed})")
        with np.errstate(over="ignore"):
            known = [t.astype(d.numpy) for t, d in zip(theta, self._dtypes, strict=True)]
        if not np.isfinite(known).all():
            raise InputError(f"no value at {self._at(theta)}, which is not finite")
        return theta

    def _known(self, what: str, theta: Array, compute: Callable[[Array], Any]) -> Any:
        """What was computed for these parameters just now, or is now."""
        key, found = self._last.get(what, (b"", None))
        if key != theta.tobytes():
            found = compute(theta)
            self._last[what] = theta.tobytes(), found
        return found

    def _value(self, theta: Array) -> float:
        blocks = self._blocks(self._model.compiled)
        sums = np.empty(blocks.count)

        def add(number: int, rows: slice, feeds: Feed) -> None:
            y = self._numbers(theta, rows, blocks.outputs(feeds)[self._output])
            terms = _TERMS[self._reduce](y)
            sums[number] = np.sum(terms if self._weights is None else self._weights[rows] * terms)

        blocks.run(self._filled(theta), add)
        with np.errstate(invalid="ignore"):
            total = sums.sum() + sum(p.value(theta) for p in self._penalties)
        if math.isnan(total):
            raise InputError(f"the value at {self._at(theta)} is NaN: a term is no number")
        return float(total)

    def _gradient(self, theta: Array) -> Array:
        from sofie_rdf.gradients.derived import derivative_name

        blocks = self._blocks(self._derived.compiled)
        sums = np.empty((blocks.count, len(theta)))

        def add(number: int, rows: slice, feeds: Feed) -> None:
            if self._cotangent:
                # The model adds up over events itself, and multiplies before it does so.
                given = self._blocks(self._model.compiled).outputs(feeds)[self._output]
                feeds[self._cotangent] = self._seeds(given, self._factors(theta, rows, given))
                outputs, factors = blocks.outputs(feeds), None
            else:
                outputs = blocks.outputs(feeds)
                factors = self._factors(theta, rows, outputs[self._output])
            for i, place in enumerate(self._places.values()):
                name = derivative_name(self._output, place.input)
                slope = outputs[name][place.key].astype(np.float64)
                sums[number, i] = np.sum(slope if factors is None else factors * slope)

        blocks.run(self._filled(theta), add)
        with np.errstate(invalid="ignore"):
            total: Array = sums.sum(axis=0)
        for penalty in self._penalties:
            total[penalty.index] += penalty.slope(theta)
        if not np.isfinite(total).all():
            name = self.parameters[int(np.argmin(np.isfinite(total)))]
            raise InputError(f"the derivative by {name!r} at {self._at(theta)} is not finite")
        return total

    @cached_property
    def _derived(self) -> Model:
        """The model that gives the derivatives by the inputs with parameters."""
        wrt = list(dict.fromkeys(place.input for place in self._places.values()))
        return derived(self._model, self._output, wrt, self._cotangent)

    def _blocks(self, compiled: Compiled) -> Blocks:
        return Blocks(compiled, self._batch, self._sizes)

    def _filled(self, theta: Array) -> Callable[[slice], Feed]:
        """The inputs of some events, with these parameters."""
        graph = self._model.compiled.graph

        def feeds(rows: slice) -> Feed:
            found = {n: a[rows] if own_shape(graph, n)[0] else a for n, a in self._feeds.items()}
            for name in {place.input for place in self._places.values()}:
                found[name] = found[name].copy()
            for place, number in zip(self._places.values(), theta, strict=True):
                found[place.input][place.key] = number
            return found

        return feeds

    def _numbers(self, theta: Array, rows: slice, given: Array) -> Array:
        """What the model gives for each event, in float64; `InputError` for NaN."""
        y = given.reshape(rows.stop - rows.start, -1)[:, self._element].astype(np.float64)
        if np.isnan(y).any():
            event = rows.start + int(np.isnan(y).argmax())
            raise InputError(f"{self._output!r} is NaN for event {event} at {self._at(theta)}")
        return y

    def _factors(self, theta: Array, rows: slice, given: Array) -> Array:
        """What the derivative of each event's number is multiplied with."""
        factors = _SLOPES[self._reduce](self._numbers(theta, rows, given))
        return factors if self._weights is None else self._weights[rows] * factors

    def _seeds(self, given: Array, factors: Array) -> Array:
        """The same in the shape of the output."""
        seeds = np.zeros_like(given)
        seeds.reshape(len(factors), -1)[:, self._element] = factors
        return seeds

    def _at(self, theta: Array) -> str:
        named = zip(self.parameters, theta, strict=True)
        return ", ".join(f"{name} = {number:g}" for name, number in named)


# What becomes of the numbers of the events, and the derivative of that.
_TERMS: Mapping[str, Callable[[Array], Array]] = {
    "sum": lambda y: y,
    "-2sum": lambda y: -2 * y,
    "-2log": lambda y: -2 * np.log(y),
    "-2logit": lambda y: 2 * (np.log1p(-y) - np.log(y)),
}
_SLOPES: Mapping[str, Callable[[Array], Array]] = {
    "sum": np.ones_like,
    "-2sum": lambda y: np.full_like(y, -2),
    "-2log": lambda y: -2 / y,
    "-2logit": lambda y: -2 / (y * (1 - y)),
}


@dataclass(frozen=True)
class _Penalty:
    """What is known of a parameter besides: ((theta - mean) / width)^2."""

    index: int
    mean: float
    width: float

    def value(self, theta: Array) -> float:
        return float(((theta[self.index] - self.mean) / self.width) ** 2)

    def slope(self, theta: Array) -> float:
        return float(2 * (theta[self.index] - self.mean) / self.width**2)


def _penalties(given: Any, parameters: Sequence[str]) -> list[_Penalty]:
    """The constraints; `InputError` for what is none."""
    if not isinstance(given, Mapping):
        raise arguments.refused("fit.function", "constraints= as {parameter: (mean, width)}", given)
    found = []
    for name, pair in given.items():
        if name not in parameters:
            way = nearest(str(name), parameters) or f"They are {', '.join(parameters)}"
            raise InputError(f"constraints= names {name!r}, which is no parameter", remedy=way)
        try:
            mean, width = (float(number) for number in pair)
        except (TypeError, ValueError):
            mean, width = math.nan, math.nan
        if not (math.isfinite(mean) and math.isfinite(width) and width > 0):
            raise InputError(f"constraints= gives {name!r} {pair!r}: a mean and a width are needed")
        found.append(_Penalty(list(parameters).index(name), mean, width))
    return found
