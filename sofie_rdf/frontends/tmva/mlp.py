"""TMVA's multilayer perceptrons (MLP), in float32.

All layers but the last have a neuron more, which is 1. The weights stand at the neuron that they
come from. Only hidden neurons have the activation that was asked for: those of the input are what
they are, and those of the output are linear, or sigmoid where the estimator is CE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from sofie_rdf.errors import CorruptFile
from sofie_rdf.frontends.tmva import setup
from sofie_rdf.frontends.tmva.transformations import Ranges
from sofie_rdf.frontends.tmva.xml import Element
from sofie_rdf.frontends.trees.files import MOST_OUTPUTS
from sofie_rdf.frontends.trees.table import MOST_FEATURES
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array
from sofie_rdf.ops.activations import Abs, Exp, Relu, Sigmoid, Sign, Tanh
from sofie_rdf.ops.elementwise import Add, Clip, Div, Greater, Mul, Where
from sofie_rdf.ops.layout import Identity
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.ops.normalization import Softmax

__all__ = ["network"]

T = TypeVar("T")
_MOST_LAYERS = 1000
# From 4.2.1 on TMVA computes tanh by a fraction.
_WITH_FRACTION = 262657
_ENDS = 4.97


def network(build: Builder, x: str, root: Element, targets: Ranges | None) -> str:
    """The output ``prediction`` of all layers."""
    weights = root.one("Weights")
    formula = _Formula(build, Origin(weights.place))
    options, analysis = setup.options(root), setup.analysis(root)
    given = _matrices(weights)
    features = build.types[x].shape[1]
    if len(given[0]) - 1 != features:
        raise CorruptFile(f"has weights for {len(given[0]) - 1} variables", place=weights.place)
    outputs = given[-1].shape[1]
    _check_outputs(root, analysis, outputs)
    activation = _of(_ACTIVATIONS, "NeuronType", options, root)
    if activation is _tanh and setup.release_code(root) >= _WITH_FRACTION:
        activation = _fraction
    total = _of(_TOTALS, "NeuronInputType", options, root)
    last = _of(_ESTIMATORS, "EstimatorType", {"EstimatorType": "MSE", **options}, root)
    for number, matrix in enumerate(given, 1):
        x = total(formula, x, matrix)
        x = (last if number == len(given) else activation)(formula, x)
    if targets is not None:
        x = _in_range(formula, x, targets, analysis, outputs, root)
    final = Softmax(-1) if analysis == "Multiclass" else Identity()
    return build(final, x, outputs=["prediction"], origin=formula.origin)


def _check_outputs(root: Element, analysis: str, outputs: int) -> None:
    if analysis not in ("Classification", "Regression", "Multiclass"):
        raise setup.unsupported(
            f"MLP for {analysis[:50] or 'an unknown AnalysisType'}",
            root,
            "Classification, Regression and Multiclass are read",
        )
    wanted = 1 if analysis == "Classification" else outputs
    if analysis == "Multiclass":
        wanted = setup.classes(root)
    targets = list(root.all("Targets"))
    if analysis == "Regression" and targets:
        wanted = targets[0].count("NTrgt", MOST_OUTPUTS)
    if wanted != outputs:
        raise CorruptFile(f"has {outputs} outputs, not {wanted}", place=root.place)


def _in_range(
    formula: _Formula, y: str, targets: Ranges, analysis: str, outputs: int, root: Element
) -> str:
    """low + (y + 1) / (2 scale): targets were normalised, too."""
    if analysis != "Regression" or len(targets.low) != outputs:
        raise CorruptFile("normalises other targets than there are", place=root.place)
    y = formula.of(Add(), y, np.float32(1))
    return formula.of(Add(), formula.of(Div(), y, 2 * targets.scale), targets.low)


# Weights ------------------------------------------------------------------------------------------


def _matrices(weights: Element) -> list[Array]:
    """The weights between two layers each, float32[from + 1, to]; the last row is of the 1."""
    layout = weights.one("Layout") if any(weights.all("Layout")) else weights
    layers = list(layout.all("Layer"))
    if len(layers) != layout.count("NLayers", _MOST_LAYERS) or len(layers) < 2:
        raise CorruptFile("has another number of layers than it says", place=layout.place)
    if [layer.count("Index", _MOST_LAYERS) for layer in layers] != list(range(len(layers))):
        raise CorruptFile("has layers in another order", place=layout.place)
    neurons = [_neurons(layer) for layer in layers]
    # All layers but the last have a neuron that is 1, to which nothing leads.
    ends = [len(n) - 1 for n in neurons[1:-1]] + [len(neurons[-1])]
    if min(ends) < 1:
        raise CorruptFile("has a layer without neurons", place=layout.place)
    if any(n.count("NSynapses", MOST_FEATURES) for n in neurons[-1]):
        raise CorruptFile("has weights behind the last layer", place=layers[-1].place)
    return [_matrix(n, end) for n, end in zip(neurons[:-1], ends, strict=True)]


def _neurons(layer: Element) -> list[Element]:
    found = list(layer.all("Neuron"))
    if len(found) != layer.count("NNeurons", MOST_FEATURES):
        raise CorruptFile("has another number of neurons than it says", place=layer.place)
    return found


def _matrix(neurons: Sequence[Element], end: int) -> Array:
    """float32: TMVA reads float32 as well."""
    for neuron in neurons:
        if neuron.count("NSynapses", MOST_FEATURES) != end:
            raise CorruptFile(f"does not lead to {end} neurons", place=neuron.place)
    with np.errstate(over="ignore"):
        found = np.stack([n.numbers(end) for n in neurons]).astype(np.float32)
    if not np.isfinite(found).all():
        raise CorruptFile("has weights that float32 does not have", place=neurons[0].place)
    return found


# Neurons ------------------------------------------------------------------------------------------


class _Formula:
    """Nodes of one origin, whose numbers are constants."""

    def __init__(self, build: Builder, origin: Origin) -> None:
        self.build, self.origin = build, origin

    def of(self, op: Operator, *values: str | Array | float) -> str:
        names = (
            v if isinstance(v, str) else self.build.constant(np.asarray(v, np.float32))
            for v in values
        )
        return self.build(op, *names, origin=self.origin)


def _sum(formula: _Formula, x: str, w: Array) -> str:
    return formula.of(Add(), formula.of(MatMul(), x, w[:-1]), w[-1])


def _squares(formula: _Formula, x: str, w: Array) -> str:
    squared = w.astype(np.float64) ** 2
    if squared.max() > np.finfo(np.float32).max:
        raise CorruptFile(
            "has weights whose squares float32 does not have", place=str(formula.origin)
        )
    return _sum(formula, formula.of(Mul(), x, x), squared)


def _absolute(formula: _Formula, x: str, w: Array) -> str:
    return _sum(formula, formula.of(Abs(), x), np.abs(w))


def _same(_: _Formula, x: str) -> str:
    return x


def _sigmoid(formula: _Formula, x: str) -> str:
    return formula.of(Sigmoid(), x)


def _tanh(formula: _Formula, x: str) -> str:
    return formula.of(Tanh(), x)


def _relu(formula: _Formula, x: str) -> str:
    return formula.of(Relu(), x)


def _radial(formula: _Formula, x: str) -> str:
    return formula.of(Exp(), formula.of(Mul(), formula.of(Mul(), x, x), -0.5))


def _fraction(formula: _Formula, x: str) -> str:
    """Lambert's fraction for tanh, which is 1e-4 above it at 4.97; behind that 1."""
    of = formula.of
    inner = of(Clip(), x, -_ENDS, _ENDS)
    square = of(Mul(), inner, inner)

    def polynomial(*factors: float) -> str:
        found = of(Add(), of(Mul(), square, factors[0]), factors[1])
        for factor in factors[2:]:
            found = of(Add(), of(Mul(), square, found), factor)
        return found

    above = of(Mul(), inner, polynomial(1, 378, 17325, 135135))
    ratio = of(Div(), above, polynomial(28, 3150, 62370, 135135))
    return of(Where(), of(Greater(), of(Abs(), x), _ENDS), of(Sign(), x), ratio)


_ACTIVATIONS: Mapping[str, Callable[[_Formula, str], str]] = {
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "linear": _same,
    "radial": _radial,
    "ReLU": _relu,
}
_TOTALS: Mapping[str, Callable[[_Formula, str, Array], str]] = {
    "sum": _sum,
    "sqsum": _squares,
    "abssum": _absolute,
}
_ESTIMATORS: Mapping[str, Callable[[_Formula, str], str]] = {"MSE": _same, "CE": _sigmoid}


def _of(known: Mapping[str, T], name: str, options: Mapping[str, str], root: Element) -> T:
    """What an option asks for."""
    value = options.get(name, "")
    if value not in known:
        raise setup.unsupported(
            f"{name}={value[:50] or '(not said)'}", root, f"{', '.join(known)} are read"
        )
    return known[value]
