"""TMVA's boosted decision trees.

An event goes to the right where its variable is at least the cut, or, where the node's ``cType`` is
0, where it is not. A leaf gives its response, its purity, or 1 and -1 for signal and background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sofie_rdf.errors import CorruptFile
from sofie_rdf.frontends.tmva import setup
from sofie_rdf.frontends.tmva.setup import unsupported
from sofie_rdf.frontends.tmva.xml import Element
from sofie_rdf.frontends.trees.table import MOST_FEATURES, Tree, below, checked, evaluated
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import Array
from sofie_rdf.ops.activations import Tanh
from sofie_rdf.ops.layout import Identity
from sofie_rdf.ops.normalization import Softmax

__all__ = ["Setup", "forest"]

_MOST_TREES = 2**24
# The weighted mean of all trees; boosting by gradients is a sum.
_MEANS = ("AdaBoost", "Bagging", "AdaCost")


@dataclass(frozen=True)
class Setup:
    """What is asked of the forest: ``analysis``, how it was boosted, and what a leaf gives."""

    analysis: str
    boost: str
    leaf: str
    classes: int

    @classmethod
    def of(cls, root: Element, classes: int) -> Setup:
        """What the file says; `UnsupportedOperator` for what is not read."""
        analysis, options = setup.analysis(root), setup.options(root)
        boost = options.get("BoostType", "")
        response = root.one("Weights").count("AnalysisType", 4) == 1
        yes_no = options.get("UseYesNoLeaf", "").lower() in ("true", "t", "1")
        if options.get("DoPreselection", "False").lower() not in ("false", "f", "0"):
            raise unsupported("DoPreselection=True", root, "Train it with DoPreselection=False")
        if options.get("UseWeightedTrees", "True").lower() not in ("true", "t", "1"):
            raise unsupported("UseWeightedTrees=False", root, "Train it with a newer TMVA")
        known = boost == "Grad" or (boost in _MEANS and analysis == "Classification")
        if not known or analysis not in ("Classification", "Regression", "Multiclass"):
            raise unsupported(
                f"BoostType={boost} for {analysis or 'an unknown AnalysisType'}",
                root,
                "Classification by AdaBoost, AdaCost, Bagging and Grad, and regression and "
                "several classes by Grad are read",
            )
        if response != (boost == "Grad"):
            raise CorruptFile("has trees of another kind than its options", place=root.place)
        if boost != "Grad" and "UseYesNoLeaf" not in options:
            raise CorruptFile("does not say UseYesNoLeaf", place=root.place)
        leaf = "res" if response else "nType" if yes_no else "purity"
        return cls(analysis, boost, leaf, classes)


def forest(build: Builder, x: str, root: Element, wanted: Setup) -> str:
    """The output ``prediction`` of all trees."""
    weights = root.one("Weights")
    listed = list(weights.all("BinaryTree"))
    if not listed or len(listed) != weights.count("NTrees", _MOST_TREES):
        raise CorruptFile("has another number of trees than it says", place=weights.place)
    scale = np.array([t.number("boostWeight") for t in listed])
    base, outputs = 0.0, 1
    if wanted.boost != "Grad":
        scale = _shares(scale, weights.place)
    else:
        # A regression by gradients begins with the first weight; all others are unused.
        base = float(scale[0]) if wanted.analysis == "Regression" else 0.0
        # 2 / (1 + exp(-2 s)) - 1 is tanh(s).
        scale = np.ones(len(listed))
    if wanted.analysis == "Multiclass":
        outputs = wanted.classes
        if outputs < 2 or len(listed) % outputs:
            raise CorruptFile(f"has {len(listed)} trees for {outputs} classes", place=weights.place)
    features = build.types[x].shape[1]
    assert isinstance(features, int)
    trees = [
        checked(_tree(t, n % outputs, float(scale[n]), wanted.leaf), features, outputs)
        for n, t in enumerate(listed)
    ]
    origin = Origin(weights.place)
    y = evaluated(build, x, trees, np.full(outputs, base), origin)
    return build(_last(wanted), y, outputs=["prediction"], origin=origin)


def _shares(scale: Array, place: str) -> Array:
    """What each tree counts in the mean; 0 where nothing counts."""
    with np.errstate(over="ignore"):
        total = float(scale.sum())
    if not np.isfinite(total):
        raise CorruptFile("has weights of trees whose sum is no number", place=place)
    counts = total > np.finfo(np.float64).eps
    return np.asarray(scale / total if counts else np.zeros(len(scale)))


def _last(setup: Setup) -> Identity | Tanh | Softmax:
    """What becomes of the sum."""
    if setup.analysis == "Multiclass":
        return Softmax(-1)
    is_tanh = setup.boost == "Grad" and setup.analysis == "Classification"
    return Tanh() if is_tanh else Identity()


def _tree(given: Element, target: int, scale: float, leaf: str) -> Tree:
    """The tree of a <BinaryTree>: its nodes in the order in which they are found."""
    nodes = list(given.all("Node"))
    if len(nodes) != 1:
        raise CorruptFile(f"has {len(nodes)} roots", place=given.place)
    children: list[tuple[int, int]] = []
    number = 0
    while number < len(nodes):
        pair = _children(nodes[number])
        children.append((len(nodes), len(nodes) + 1) if pair else (-1, -1))
        nodes += pair
        number += 1
    inner = [c[0] >= 0 for c in children]
    cuts = [n.number("Cut") if i else 0.0 for n, i in zip(nodes, inner, strict=True)]
    with np.errstate(over="ignore"):
        narrow = np.array(cuts).astype(np.float32).astype(np.float64)
    leaves = [n for n, i in enumerate(inner) if not i]
    return Tree(
        given.place,
        np.array(
            [n.count("IVar", MOST_FEATURES) if i else 0 for n, i in zip(nodes, inner, strict=True)],
            np.int64,
        ),
        below(narrow),
        np.ones(len(nodes), bool),
        np.array(children, np.int64),
        np.array(leaves, np.int64),
        np.full(len(leaves), target),
        np.array([nodes[n].number(leaf) for n in leaves]) * scale,
    )


def _children(node: Element) -> list[Element]:
    """Where events below the cut go, and where others go; nothing for a leaf.

    NaN is not at least the cut, and goes where events below go.
    """
    found = {c.get("pos"): c for c in node.all("Node")}
    if len(found) != len(list(node.all("Node"))) or found.keys() - {"l", "r"} or len(found) == 1:
        raise CorruptFile("has a node whose children are not one l and one r", place=node.place)
    if bool(found) != (node.number("nType") == 0):
        raise CorruptFile("has a leaf with children, or a node without", place=node.place)
    if not found:
        return []
    if "NCoef" in node.attributes and node.count("NCoef", MOST_FEATURES):
        raise unsupported("a cut on a Fisher discriminant", node, "Train it without UseFisherCuts")
    ahead = [found["l"], found["r"]]
    return ahead if node.count("cType", 1) else ahead[::-1]
