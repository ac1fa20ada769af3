"""TMVA's MLP and its transformations, beside an evaluator that walks the XML by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.frontends.tmva.reader import read
from sofie_rdf.ir.types import Array
from tests.frontends.tmva_files import documents, formulas
from tests.frontends.tmva_files.documents import NAMES, mlp, transformation
from tests.frontends.trees.events import computed

CASES = [
    (neurons, total, estimator)
    for neurons in ("sigmoid", "tanh", "linear", "radial", "ReLU")
    for total in ("sum", "sqsum", "abssum")
    for estimator in ("MSE", "CE")
]


def events(count: int = 200, seed: int = 3) -> Array:
    found: Array = np.random.default_rng(seed).normal(size=(count, len(NAMES)))
    found[:8] = [[s * v] * len(NAMES) for s in (1, -1) for v in (0, 1, 5, 40)]
    return found.astype(np.float32)


def expected(root: Xml.Element, x: Array) -> Array:
    """What the formulas give; NaN where float32 and float64 differ for their widths alone."""
    rows = [formulas.mlp(root, formulas.transformed(root, row)) for row in x.tolist()]
    return np.array(rows)


def compared(root: Xml.Element, x: Array, wanted: Array) -> None:
    found = computed(read(Xml.tostring(root)), x)
    assert found.shape == wanted.shape
    assert np.isfinite(wanted).all()
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("neurons", "total", "estimator"), CASES)
def test_neurons(neurons: str, total: str, estimator: str) -> None:
    root, x = mlp("Classification", neurons, total, estimator), events()
    x = np.clip(x, -5, 5)
    compared(root, x, expected(root, x))


def test_tanh_is_a_fraction_since_a_release_and_exact_before() -> None:
    new, old = mlp(), mlp(release="4.2.0 [262656]")
    x = events()
    for root in (new, old):
        compared(root, x, expected(root, x))
    difference = np.abs(expected(new, x) - expected(old, x)).max()
    assert 1e-6 < difference < 1e-3
    (info,) = (i for i in new.iter("Info") if i.get("name") == "TMVA Release")
    info.set("value", "4.2.1")
    with pytest.raises(sofie.CorruptFile, match="which release"):
        read(Xml.tostring(new))


def test_several_outputs() -> None:
    x = events()
    root = mlp("Regression", estimator="MSE", outputs=3)
    compared(root, x, expected(root, x))
    root = mlp("Multiclass", estimator="MSE", outputs=3)
    compared(root, x, formulas.softmax(expected(root, x)))


def test_targets_that_were_normalised_come_back() -> None:
    given = transformation("Normalize", np.random.default_rng(1), targets=2)
    root, x = mlp("Regression", estimator="MSE", outputs=2, transforms=[given]), events()
    ends = [
        (np.float32(r.get("Min", "")), np.float32(r.get("Max", "")))
        for r in given.findall("Class/Ranges/Range")[len(NAMES) :]
    ]
    low, high = np.array(ends, np.float64).T
    compared(root, x, low + (expected(root, x) + 1) / 2 * (high - low))


SOME = (NAMES[2], NAMES[0])
CHAINS = {
    "N": [("Normalize", NAMES)],
    "D": [("Decorrelation", NAMES)],
    "P": [("PCA", NAMES)],
    "G": [("Gauss", NAMES)],
    "U": [("Flat", NAMES)],
    "G,D": [("Gauss", NAMES), ("Decorrelation", NAMES)],
    "N,P,U": [("Normalize", NAMES), ("PCA", NAMES), ("Flat", NAMES)],
    "D(2,0)": [("Decorrelation", SOME)],
    "G(2,0),P(1),N(3)": [("Gauss", SOME), ("PCA", NAMES[1:2]), ("Normalize", NAMES[3:])],
}


@pytest.mark.parametrize("chain", CHAINS)
def test_transformations(chain: str) -> None:
    """A linear network of one step lets nothing of the variables go unseen."""
    random = np.random.default_rng(len(chain))
    made = [transformation(kind, random, names) for kind, names in CHAINS[chain]]
    root, x = mlp("Regression", "linear", "sum", "MSE", transforms=made, outputs=4), events()
    found, wanted = computed(read(Xml.tostring(root)), x), expected(root, x)
    # float32 beside float64: numbers of some hundreds are summed up.
    size = np.abs(wanted).max()
    np.testing.assert_allclose(found / size, wanted / size, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["Gauss", "Flat"])
def test_shares_of_what_is_no_number(kind: str) -> None:
    made = [transformation(kind, np.random.default_rng(2))]
    root = mlp("Regression", "linear", "sum", "MSE", transforms=made)
    x = np.array([[v] * len(NAMES) for v in (math.nan, math.inf, -math.inf, 3e38, -3e38)])
    x = x.astype(np.float32)
    wanted = expected(root, x)
    found = computed(read(Xml.tostring(root)), x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_compiled(tmp_path: Path) -> None:
    """Once through the compiler, with all transformations."""
    random = np.random.default_rng(9)
    made = [transformation(k, random) for k in ("Gauss", "Decorrelation", "PCA", "Normalize")]
    root, x = mlp(transforms=made), events()
    path = tmp_path / "TMVAClassification_MLP.weights.xml"
    path.write_bytes(b'<?xml version="1.0"?>\n' + Xml.tostring(root))
    assert sofie.check(path) == []
    model = sofie.load(path)
    assert model.features == {"features": NAMES}
    found = np.asarray(model(x))
    np.testing.assert_allclose(found, expected(root, x), rtol=2e-5, atol=2e-5)


def test_an_older_form_of_ranges() -> None:
    made = transformation("Normalize", np.random.default_rng(4))
    root, x = mlp(transforms=[made]), events()
    wanted = expected(root, x)
    made.remove(made[0])
    made.set("NVariables", str(len(NAMES)))
    made.set("NTargets", "0")
    for one in made.iter("Ranges"):
        one.tag = "Variables"
    for one in made.iter("Range"):
        one.tag = "Variable"
        one.set("VarIndex", one.attrib.pop("Index"))
    compared(root, x, wanted)


def test_numbers_stay_apart_where_the_line_ends_between_them() -> None:
    """Each line, and each space, may be a piece of its own for the parser."""
    root, x = mlp(), events()
    content = Xml.tostring(root).replace(b"e+00 ", b"e+00\n").replace(b"e-01 ", b"e-01\n \n")
    assert content.count(b"\n") > 40
    found = computed(read(content), x)
    np.testing.assert_allclose(found, expected(root, x), rtol=2e-5, atol=2e-6)


# What is refused ----------------------------------------------------------------------------------


def changed(kind: str, where: str, change: Callable[[Xml.Element], object], **more: str) -> bytes:
    made = [transformation(kind, np.random.default_rng(1))] if kind else []
    root = mlp(transforms=made, **more)  # type: ignore[arg-type]
    change(next(root.iter(where)))
    return Xml.tostring(root)


def put(name: str, value: str) -> Callable[[Xml.Element], object]:
    return lambda element: element.set(name, value)


def said(value: str) -> Callable[[Xml.Element], object]:
    def change(element: Xml.Element) -> None:
        element.text = value

    return change


UNSUPPORTED = {
    "'Rearrange'": changed("PCA", "Transform", put("Name", "Rearrange")),
    "NeuronType=swish": changed("", "Option", said("swish")),
    "NeuronInputType=most": Xml.tostring(mlp(total="most")),
    "EstimatorType=L1": Xml.tostring(mlp(estimator="L1")),
    "method 'DNN'": changed("", "MethodSetup", put("Method", "DNN::DNN")),
    "MLP for NoAnalysis": Xml.tostring(mlp("NoAnalysis")),
    "a smoothed": changed("Gauss", "CumulativePDF_cls2", lambda e: e[0].set("MaxNSmooth", "3")),
    "of a spectator": changed("PCA", "Selection", lambda e: e[0][0].set("Type", "Spectator")),
    "moves variables": changed("PCA", "Selection", lambda e: e[1].__setitem__(0, e[1][1])),
    "before 4.1": changed("PCA", "Transform", lambda e: e.remove(e[0])),
    "of targets other": changed(
        "PCA", "Selection", lambda e: [way[3].set("Type", "Target") for way in e]
    ),
}
CORRUPT = {
    "NSynapses='1e9'": changed("", "Neuron", put("NSynapses", "1e9")),
    "does not lead to 6": changed("", "Neuron", put("NSynapses", "7")),
    "does not hold 6 numbers": changed("", "Neuron", said("1 2 3")),
    "<Neuron> does not hold": changed("", "Neuron", said("1 2 3 4 5 x")),
    "float32 does not have": changed("", "Neuron", said("1 2 3 4 5 1e300")),
    "number of layers": changed("", "Layout", put("NLayers", "3")),
    "another order": changed("", "Layer", put("Index", "1")),
    "number of neurons": changed("", "Layer", put("NNeurons", "6")),
    "weights for 3 variables": changed(
        "", "Layer", lambda e: (e.remove(e[0]), e.set("NNeurons", "4"))
    ),
    "has 1 outputs, not 2": Xml.tostring(mlp("Regression")).replace(b'NTrgt="1"', b'NTrgt="2"'),
    "not 4 x 4": changed("PCA", "Eigenvectors", str).replace(b'NCols="4"', b'NCols="5"'),
    "other variables than vectors": changed("PCA", "Transform", lambda e: e.remove(e[3])),
    "without a matrix": changed(
        "Decorrelation", "Transform", lambda e: [e.remove(m) for m in e.findall("Matrix")]
    ),
    "does not hold 16 numbers": changed("Decorrelation", "Transform", lambda e: said("nan")(e[3])),
    "is no variable": changed(
        "PCA", "Selection", lambda e: e[0][0].attrib.update(Label="a", Expression="b")
    ),
    "a variable twice": changed(
        "PCA", "Selection", lambda e: [way.__setitem__(0, way[1]) for way in e]
    ),
    "number of inputs": changed("PCA", "Input", put("NInputs", "5")),
    "other classes": changed("Gauss", "Transform", lambda e: e[1].remove(e[1][0])),
    "FlatOrGauss='Flach'": changed("Gauss", "Transform", put("FlatOrGauss", "Flach")),
    "other edges": changed("Gauss", "CumulativePDF_cls2", lambda e: e[0][1].set("NBins", "9")),
    "without a width": changed("Gauss", "CumulativePDF_cls2", lambda e: said("1 " * 51)(e[0][1])),
    "fewer than 2": changed("Gauss", "CumulativePDF_cls2", lambda e: e[0][0].set("NBins", "1")),
    "no distribution": changed(
        "Gauss", "CumulativePDF_cls2", lambda e: said("1e99 " * 50)(e[0][0])
    ),
    "HasEquidistantBins": changed(
        "Gauss", "CumulativePDF_cls2", lambda e: e[0][0].set("HasEquidistantBins", "yes")
    ),
    "2 <Weights>": changed("", "MethodSetup", lambda e: e.append(Xml.Element("Weights"))),
    "an option twice": changed(
        "", "Options", lambda e: e.append(Xml.Element("Option", name="NeuronType"))
    ),
}


@pytest.mark.parametrize("words", UNSUPPORTED)
def test_what_is_not_read_is_named(words: str) -> None:
    with pytest.raises(sofie.UnsupportedOperator) as error:
        read(UNSUPPORTED[words])
    assert words in str(error.value)
    assert error.value.place
    assert error.value.remedy


@pytest.mark.parametrize("words", CORRUPT)
def test_damaged_files(words: str) -> None:
    with pytest.raises(sofie.CorruptFile) as error:
        read(CORRUPT[words])
    assert words in str(error.value)
    assert error.value.place


def test_the_budget_pays_for_distributions() -> None:
    """A histogram of two bins becomes one of 10000."""
    content = changed("Gauss", "Transform", str)
    with sofie.limits.budget("bytes=300k", size=0), pytest.raises(sofie.LimitExceeded):
        read(content)
    assert documents.NAMES == NAMES
