"""TMVA's MLP and transformations for one event at a time, by their formulas, in Python's numbers.

ROOT's wheel has no TMVA. This is written from TMVA's formulas without a look at our reader: it
walks the XML by itself, and each neuron, bin and line is computed alone.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from xml.etree import ElementTree as Xml

import numpy as np

from sofie_rdf.ir.types import Array

__all__ = ["fast_tanh", "mlp", "transformed"]


def f32(x: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(x))


# Neurons ------------------------------------------------------------------------------------------


def fast_tanh(x: float) -> float:
    if x > 4.97:
        return 1.0
    if x < -4.97:
        return -1.0
    square = x * x
    a = x * (135135 + square * (17325 + square * (378 + square)))
    b = 135135 + square * (62370 + square * (3150 + square * 28))
    return a / b


ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": fast_tanh,
    "linear": lambda x: x,
    "radial": lambda x: math.exp(-x * x / 2),
    "ReLU": lambda x: max(0.0, x),
}
TOTALS: dict[str, Callable[[float], float]] = {
    "sum": lambda x: x,
    "sqsum": lambda x: x * x,
    "abssum": abs,
}


def mlp(root: Xml.Element, event: Sequence[float]) -> list[float]:
    """What the output neurons are for the variables after all transformations."""
    options = {o.get("name"): o.text or "" for o in root.iter("Option")}
    total = TOTALS[options["NeuronInputType"]]
    hidden = ACTIVATIONS[options["NeuronType"]]
    release = next(i.get("value", "") for i in root.iter("Info") if i.get("name") == "TMVA Release")
    if options["NeuronType"] == "tanh" and int(release.split("[")[1][:-1]) < 262657:
        hidden = math.tanh
    last = ACTIVATIONS["sigmoid" if options["EstimatorType"] == "CE" else "linear"]
    layers = list(root.iter("Layer"))
    values = [*event, 1.0]
    for number, layer in enumerate(layers[:-1], 1):
        weights = [[f32(float(w)) for w in (n.text or "").split()] for n in layer]
        sums = [
            sum(total(v * w[k]) for v, w in zip(values, weights, strict=True))
            for k in range(len(weights[0]))
        ]
        is_last = number == len(layers) - 1
        values = [(last if is_last else hidden)(s) for s in sums]
        values += [] if is_last else [1.0]
    return values


# Transformations ----------------------------------------------------------------------------------


def transformed(root: Xml.Element, event: Sequence[float]) -> list[float]:
    names = [v.get("Expression") for v in root.iter("Variable") if v.get("Expression")]
    values = [f32(v) for v in event]
    for transform in root.iter("Transform"):
        chosen = [
            names.index(i.get("Expression"))
            for i in transform.findall("Selection/Input/Input")
            if i.get("Type") == "Variable"
        ]
        found = KINDS[transform.get("Name", "")](transform, [values[i] for i in chosen])
        for place, value in zip(chosen, found, strict=True):
            values[place] = f32(value)
    return values


def normalize(transform: Xml.Element, x: list[float]) -> list[float]:
    found = []
    for value, one in zip(x, transform.findall("Class")[-1][0], strict=False):
        low, high = f32(float(one.get("Min", ""))), f32(float(one.get("Max", "")))
        found.append((value - low) * f32(1 / (high - low)) * 2 - 1)
    return found


def numbers(element: Xml.Element | None) -> list[float]:
    assert element is not None
    return [float(t) for t in (element.text or "").split()]


def decorrelation(transform: Xml.Element, x: list[float]) -> list[float]:
    m = numbers(transform.findall("Matrix")[-1])
    return [sum(m[i * len(x) + j] * v for j, v in enumerate(x)) for i in range(len(x))]


def pca(transform: Xml.Element, x: list[float]) -> list[float]:
    def last(name: str) -> list[float]:
        return numbers(max(transform.findall(name), key=lambda e: int(e.get("ClassIndex", ""))))

    mean, vectors = last("Statistics"), last("Eigenvectors")
    return [
        sum((v - mean[j]) * vectors[j * len(x) + i] for j, v in enumerate(x)) for i in range(len(x))
    ]


def gauss(transform: Xml.Element, x: list[float]) -> list[float]:
    found = []
    for value, variable in zip(x, transform.findall("Variable"), strict=True):
        share = density(variable[-1][0])(value)
        share = max(min(share, 1 - 1e-9), 1e-9)
        if transform.get("FlatOrGauss") == "Gauss":
            share = 1.414213562 * erf_inverse(max(min(2 * share - 1, 0.99999999), -0.99999999))
        found.append(share)
    return found


KINDS = {"Normalize": normalize, "Decorrelation": decorrelation, "PCA": pca, "Gauss": gauss}


def erf_inverse(x: float) -> float:
    low, high = -6.0, 6.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erf(middle) < x else (low, middle)
    return (low + high) / 2


@cache
def density(pdf: Xml.Element) -> Callable[[float], float]:
    """PDF::GetVal: a histogram of 10000 bins, whose middles are joined by lines."""
    content = [f32(c) for c in numbers(pdf.find("Histogram"))]
    given = pdf[0]
    count = int(given.get("NBins", ""))
    if given.get("HasEquidistantBins") == "1":
        low, high = float(given.get("XMin", "")), float(given.get("XMax", ""))
        edges = [low + i * (high - low) / count for i in range(count + 1)]
    else:
        edges = numbers(pdf.find("HistogramBinning"))
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    width = (edges[-1] - edges[0]) / 10000

    def spline(x: float) -> float:
        at = min(max(bisect_right(middles, x) - 1, 0), count - 1)
        other = at + 1 if (x > middles[at] and at != count - 1) or at == 0 else at - 1
        slope = (content[at] - content[other]) / (middles[at] - middles[other])
        return content[at] + (x - middles[at]) * slope

    def middle(k: int) -> float:
        return edges[0] + (k + 0.5) * width

    fine = []
    for k in range(10000):
        y = spline(middle(k))
        if y <= 1e-12:
            y = content[min(bisect_right(edges, middle(k)) - 1, count - 1)]
        fine.append(f32(max(y, 1e-12)))

    def value(x: float) -> float:
        if not x < edges[-1]:
            k = 9999
        elif x < edges[0]:
            k = 0
        else:
            k = min(int((x - edges[0]) / width), 9999)
        other = k + 1 if (x > middle(k) and k != 9999) or k == 0 else k - 1
        rise = (x - middle(k)) * (fine[k] - fine[other]) / (middle(k) - middle(other))
        found = fine[k] + rise
        return found if found >= 1e-12 else 1e-12

    return value


def softmax(x: Array) -> Array:
    grown = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))
