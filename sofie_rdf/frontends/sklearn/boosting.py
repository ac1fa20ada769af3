"""scikit-learn's HistGradientBoosting: its trees as they are in memory.

They compare float64 numbers with float64 thresholds, and send NaN where each node says.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sofie_rdf.errors import InputError, UnsupportedOperator
from sofie_rdf.frontends.trees.files import declared
from sofie_rdf.frontends.trees.table import Tree, checked, evaluated
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import Exp, Greater, Sigmoid, Sub
from sofie_rdf.ops.indexing import Gather
from sofie_rdf.ops.layout import Concat, Identity, Reshape
from sofie_rdf.ops.normalization import Softmax
from sofie_rdf.ops.selection import ArgMax

__all__ = ["read"]

_LINKS: dict[str, Operator] = {
    "IdentityLink": Identity(),
    "LogLink": Exp(),
    "LogitLink": Sigmoid(),
    "MultinomialLogit": Softmax(-1),
}


def read(estimator: Any, *, name: str = "", dtype: str = "float32") -> Graph:
    """``variable`` [N, 1] of a regressor; ``label`` [N], ``probabilities`` [N, K] of a classifier.

    These are the names that skl2onnx gives to outputs. Labels that are texts are their numbers.
    With ``dtype`` "float64", x and the sums are of that type, as in scikit-learn.
    """
    kind = type(estimator).__name__
    name = name or kind
    if not hasattr(estimator, "_predictors"):
        raise InputError(f"{kind} has no trees", remedy="Fit it first", place=name)
    if np.any(estimator.is_categorical_ if estimator.is_categorical_ is not None else False):
        raise UnsupportedOperator(
            f"{kind} with categorical features is not supported",
            place=name,
            remedy="Use XGBoost or LightGBM, whose categories are supported, or encode them before",
        )
    link = type(estimator._loss.link).__name__
    if link not in _LINKS:
        raise UnsupportedOperator(f"{kind} with a {link} is not supported", place=name)
    base = np.asarray(estimator._baseline_prediction, np.float64).reshape(-1)
    count = int(estimator.n_features_in_)
    trees = [
        checked(_tree(predictor.nodes, k, f"{name}: tree {k} of round {number}"), count, len(base))
        for number, predictors in enumerate(estimator._predictors)
        for k, predictor in enumerate(predictors)
    ]
    build, origin = Builder(name, {"source": f"{kind} in memory"}), Origin(name)
    names = [str(n) for n in getattr(estimator, "feature_names_in_", ())]
    x = declared(build, count, names, DType(dtype), name)
    scores = evaluated(build, x, trees, base, origin)
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        return build.graph(build(_LINKS[link], scores, outputs=["variable"], origin=origin))
    return _classified(build, scores, _LINKS[link], np.asarray(classes), origin)


def _classified(
    build: Builder, scores: str, link: Operator, classes: Array, origin: Origin
) -> Graph:
    """The class of the largest score, and the probabilities."""
    probabilities = build(link, scores, origin=origin)
    if build.types[scores].shape[1] == 1:
        kind = build.types[scores].dtype.numpy
        one = build.constant(np.ones((), kind))
        other = build(Sub(), one, probabilities, origin=origin)
        probabilities = build(Concat(1), other, probabilities, origin=origin)
        positive = build(Greater(), scores, build.constant(np.zeros((), kind)), origin=origin)
        flat = build(Reshape((build.types[scores].shape[0],)), positive, origin=origin)
        best = build(Cast(DType.INT64), flat, origin=origin)
    else:
        best = build(ArgMax(1, keepdims=False), scores, origin=origin)
    numbers = classes if classes.dtype.kind in "iu" else np.arange(len(classes))
    labels = build.constant(numbers.astype(np.int64))
    label = build(Gather(0), labels, best, outputs=["label"], origin=origin)
    found = build(Identity(), probabilities, outputs=["probabilities"], origin=origin)
    return build.graph(label, found)


def _tree(nodes: Array, target: int, place: str) -> Tree:
    leaf = nodes["is_leaf"] != 0
    children = np.stack([nodes["left"], nodes["right"]], axis=1).astype(np.int64)
    leaves = np.flatnonzero(leaf)
    return Tree(
        place,
        nodes["feature_idx"].astype(np.int64),
        nodes["num_threshold"].astype(np.float64),
        nodes["missing_go_to_left"] != 0,
        np.where(leaf[:, None], -1, children),
        leaves,
        np.full(len(leaves), target),
        nodes["value"][leaves].astype(np.float64),
    )
