"""Boosted decision trees of TMVA, beside an evaluator that walks the XML by itself.

ROOT's wheel has no TMVA, so that the expected numbers are those of its documented formulas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.frontends import recognise
from sofie_rdf.frontends.tmva.reader import read
from sofie_rdf.ir.types import Array
from tests.frontends.trees.events import agree, around, computed

VARIABLES = ("var1+var2", "pt", "eta")
KINDS = {
    "Classification": ("AdaBoost", "AdaCost", "Bagging", "Grad"),
    "Regression": ("Grad",),
    "Multiclass": ("Grad",),
}
CASES = [(a, b, y) for a, bs in KINDS.items() for b in bs for y in (True, False)]


def node(random: np.random.Generator, pos: str, depth: int, regression: bool) -> Xml.Element:
    """A random node as TMVA writes it."""
    is_leaf = depth == 0 or (depth < 3 and random.random() < 0.2)
    kind = 0 if not is_leaf else -99 if regression else int(random.choice([-1, 1]))
    given = {
        "pos": pos,
        "depth": 4 - depth,
        "NCoef": 0,
        "IVar": -1 if is_leaf else random.integers(len(VARIABLES)),
        "Cut": f"{random.normal():.17e}",
        "cType": random.integers(2),
        "res": f"{random.normal(scale=0.3):.17e}",
        "rms": "0.0e+00",
        "purity": f"{random.random():.17e}",
        "nType": kind,
    }
    found = Xml.Element("Node", {k: str(v) for k, v in given.items()})
    if not is_leaf:
        found.extend(node(random, p, depth - 1, regression) for p in "lr")
    return found


def document(
    analysis: str = "Classification",
    boost: str = "AdaBoost",
    yes_no: bool = True,
    *,
    normalized: bool = False,
    options: Mapping[str, str] | None = None,
) -> Xml.Element:
    """A weight file with random trees."""
    random = np.random.default_rng(len(analysis) + len(boost))
    root = Xml.Element("MethodSetup", Method="BDT::BDT")
    infos = Xml.SubElement(root, "GeneralInfo")
    for name, value in (("TMVA Release", "4.2.1 [262657]"), ("AnalysisType", analysis)):
        Xml.SubElement(infos, "Info", name=name, value=value)
    said = {"BoostType": boost, "UseYesNoLeaf": str(yes_no), "DoPreselection": "False"}
    listed = Xml.SubElement(root, "Options")
    for name, value in (said | dict(options or {})).items():
        Xml.SubElement(listed, "Option", name=name, modified="No").text = value
    variables = Xml.SubElement(root, "Variables", NVar=str(len(VARIABLES)))
    for i, name in enumerate(VARIABLES):
        Xml.SubElement(variables, "Variable", VarIndex=str(i), Expression=name, Type="F")
    classes = Xml.SubElement(root, "Classes", NClass="3")
    for i in range(3):
        Xml.SubElement(classes, "Class", Name=f"c{i}", Index=str(i))
    transformations = Xml.SubElement(root, "Transformations", NTransformations=str(int(normalized)))
    if normalized:
        transformations.append(normalize(random))
    regression = boost == "Grad"
    weights = Xml.SubElement(root, "Weights", NTrees="12", AnalysisType=str(int(regression)))
    for i in range(12):
        weight = f"{random.uniform(0.1, 2):.17e}"
        tree = Xml.SubElement(
            weights, "BinaryTree", type="DecisionTree", boostWeight=weight, itree=str(i)
        )
        tree.append(node(random, "s", 4, regression))
    return root


def normalize(random: np.random.Generator) -> Xml.Element:
    made = Xml.Element("Transform", Name="Normalize")
    selection = Xml.SubElement(made, "Selection")
    for way in ("Input", "Output"):
        listed = Xml.SubElement(selection, way, {f"N{way}s": str(len(VARIABLES))})
        for name in VARIABLES:
            Xml.SubElement(listed, way, Type="Variable", Label=name, Expression=name)
    for index in range(3):  # Two classes, and both together, which counts.
        ranges = Xml.SubElement(Xml.SubElement(made, "Class", ClassIndex=str(index)), "Ranges")
        for i in range(len(VARIABLES)):
            low, high = -3 - random.random(), 3 + random.random()
            Xml.SubElement(ranges, "Range", Index=str(i), Min=f"{low:.17e}", Max=f"{high:.17e}")
    return made


def walked(tree: Xml.Element, x: Array, leaf: str) -> float:
    """CheckEvent: to the right where the variable is at least the cut."""
    at = tree[0]
    while at.get("nType") == "0":
        right = bool(x[int(at.get("IVar", ""))] >= np.float32(at.get("Cut", "")))
        if at.get("cType") == "0":
            right = not right
        at = next(c for c in at if c.get("pos") == ("r" if right else "l"))
    return float(at.get(leaf, ""))


def normalized_by_hand(transform: Xml.Element, x: Array) -> Array:
    found = [(np.float32(r.get("Min", "")), np.float32(r.get("Max", ""))) for r in transform[-1][0]]
    columns = [
        (x[:, i] - low) * np.float32(1 / (float(high) - float(low))) * np.float32(2) - np.float32(1)
        for i, (low, high) in enumerate(found)
    ]
    return np.stack(columns, axis=1)


def expected(root: Xml.Element, x: Array, analysis: str, boost: str, yes_no: bool) -> Array:
    """The formulas of MethodBDT in float64."""
    for transform in root.iter("Transform"):
        x = normalized_by_hand(transform, x)
    trees = list(root.iter("BinaryTree"))
    leaf = "res" if boost == "Grad" else "nType" if yes_no else "purity"
    given = np.array([[walked(t, row, leaf) for t in trees] for row in x])
    weights = np.array([float(t.get("boostWeight", "")) for t in trees])
    if boost != "Grad":
        return np.asarray(given @ weights / weights.sum())
    if analysis == "Regression":
        return np.asarray(given.sum(axis=1) + weights[0])
    if analysis == "Multiclass":
        sums = np.exp(given.reshape(len(x), -1, 3).sum(axis=1))
        return np.asarray(sums / sums.sum(axis=1, keepdims=True))
    return np.asarray(2 / (1 + np.exp(-2 * given.sum(axis=1))) - 1)


def events(root: Xml.Element, *, nan: bool = True) -> Array:
    random = np.random.default_rng(3)
    inner = (n for n in root.iter("Node") if n.get("nType") == "0")
    splits = [(int(n.get("IVar", "")), float(n.get("Cut", ""))) for n in inner]
    seen = random.normal(size=(100, len(VARIABLES)))
    return around(random, seen, splits, infinite=nan, nan=nan)


@pytest.mark.parametrize(("analysis", "boost", "yes_no"), CASES)
def test_they_give_what_the_formulas_give(analysis: str, boost: str, yes_no: bool) -> None:
    """Also for NaN, infinite numbers and numbers at the cuts."""
    root = document(analysis, boost, yes_no)
    x = events(root)
    found = computed(read(Xml.tostring(root)), x)
    agree(found, expected(root, x, analysis, boost, yes_no), 1e-6)


def test_normalized_variables() -> None:
    root = document(normalized=True)
    x = np.random.default_rng(5).normal(size=(500, 3)).astype(np.float32)
    found = computed(read(Xml.tostring(root)), x)
    agree(found, expected(root, x, "Classification", "AdaBoost", True), 1e-6)


def test_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "TMVAClassification_BDT.weights.xml"
    path.write_bytes(b'<?xml version="1.0"?>\n' + Xml.tostring(document()))
    assert recognise(path) == "tmva"
    assert sofie.check(path) == []
    model = sofie.load(path)
    assert model.name == "TMVAClassification_BDT"
    assert json.loads(model.graph.provenance["features"]) == list(VARIABLES)


def changed(name: str, value: str, where: str) -> bytes:
    root = document()
    found = next(root.iter(where))
    found.set(name, value)
    return Xml.tostring(root)


REFUSED = {
    "DNN": changed("Method", "DNN::DNN", "MethodSetup"),
    "Fisher": changed("NCoef", "2", "Node"),
    "AdaBoostR2": Xml.tostring(document("Regression", "AdaBoostR2")),
    "RealAdaBoost": Xml.tostring(document(boost="RealAdaBoost")),
    "DoPreselection": Xml.tostring(document(options={"DoPreselection": "True"})),
    "UseWeightedTrees": Xml.tostring(document(options={"UseWeightedTrees": "False"})),
    "Rearrange": Xml.tostring(document(normalized=True)).replace(b'"Normalize"', b'"Rearrange"'),
    "of no variable": Xml.tostring(document(normalized=True)).replace(b'"Variable"', b'"Target"'),
}
DAMAGED = {
    "IVar": changed("IVar", "-7", "Node"),
    "none of the 3": changed("IVar", "3", "Node"),
    "Cut='x'": changed("Cut", "x", "Node"),
    "Cut='inf'": changed("Cut", "inf", "Node"),
    "leaf with children": changed("nType", "1", "Node"),
    "number of trees": changed("NTrees", "13", "Weights"),
    "another kind": changed("AnalysisType", "1", "Weights"),
    "number of variables": changed("NVar", "4", "Variables"),
    "truncated": Xml.tostring(document())[:-20],
    "levels": b"<MethodSetup>" * 5000,
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_not_read_is_named(words: str) -> None:
    with pytest.raises(sofie.UnsupportedOperator, match=words) as error:
        read(REFUSED[words])
    assert error.value.place
    assert error.value.remedy


@pytest.mark.parametrize("words", DAMAGED)
def test_damaged_files(words: str) -> None:
    with pytest.raises(sofie.CorruptFile) as error:
        read(DAMAGED[words])
    assert words in str(error.value)


LAUGHS = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 30))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_document_types_are_refused_before_they_are_read(encoding: str) -> None:
    """Entities that grow, and entities that are other files, are declared there."""
    text = f'<!DOCTYPE a [<!ENTITY e0 SYSTEM "file:///etc/hostname">{LAUGHS}]><MethodSetup>&e29;'
    with pytest.raises(sofie.UnsupportedFormat, match="document type"):
        read(text.encode(encoding))


def test_the_budget_pays_for_elements() -> None:
    content = b"<MethodSetup>" + b"<a/>" * 100_000
    with sofie.limits.budget("bytes=1M", size=len(content)), pytest.raises(sofie.LimitExceeded):
        read(content)
