"""XGBoost: its .json and .ubj files, read without xgboost.

One input ``features`` float32[N, F] and one output ``prediction`` float32[N, K]: what
``Booster.predict`` gives. The formula is transform(margin), where margin is that of the model's
base score and the sum of the leaves, or of the linear model. NaN is a value that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sofie_rdf.errors import (
    CorruptFile,
    InputError,
    UnsupportedFormat,
    UnsupportedOperator,
    nearest,
)
from sofie_rdf.frontends.common import documents
from sofie_rdf.frontends.common.problems import Problems
from sofie_rdf.frontends.trees import ubjson
from sofie_rdf.frontends.trees.files import (
    MOST_OUTPUTS,
    Fields,
    Reader,
    declared,
    gathered,
    written,
)
from sofie_rdf.frontends.trees.table import (
    MOST_FEATURES,
    Ranges,
    Tree,
    below,
    categories,
    checked,
    evaluated,
)
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import Add, Equal, Exp, Greater, IsNaN, Sigmoid, Where
from sofie_rdf.ops.layout import Identity
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.ops.normalization import Softmax
from sofie_rdf.ops.selection import ArgMax

__all__ = ["check", "read"]

OUTPUT = "prediction"
# Categories from here on are none of XGBoost's.
_CATEGORIES = 2**24


Rounds: TypeAlias = "tuple[int, int] | None"


def read(
    source: Any, *, name: str = "", missing: float | None = None, iteration_range: Rounds = None
) -> Graph:
    """The graph of a file, its bytes, a Booster, or a model with scikit-learn's interface.

    Numbers equal to ``missing`` are missing, as NaN is; such a model says which. By
    ``iteration_range`` the first round of boosting and the one behind the last are chosen, by
    (0, 0) all. By default it is what the class takes that has written the file: all rounds for a
    Booster, those up to the best one for a model with scikit-learn's interface, stopped early.
    """
    content, own, rounds = _file_of(source)
    absent = own if missing is None else float(missing)
    reader = _Reader(content, name, None)
    if iteration_range not in (None, (0, 0)) and reader.is_linear:
        raise InputError("a linear model has no rounds for iteration_range=", place=reader.place)
    return reader.graph(absent, iteration_range or rounds)


def check(source: Any, **_: Any) -> Problems:
    """Everything that is wrong with a model, at once; never raises for it."""

    def everything(problems: Problems) -> Graph:
        content, missing, rounds = _file_of(source)
        return _Reader(content, "", problems).graph(missing, rounds)

    return gathered(everything)


def _file_of(source: Any) -> tuple[Path | bytes, float, Rounds]:
    """A file, what is missing, and the rounds that count; an object in memory as a file."""
    if isinstance(source, (Path, bytes)):
        return source, float("nan"), None
    wrapped = hasattr(source, "get_booster")

    def write() -> tuple[bytes, float, Rounds]:
        booster = source.get_booster() if wrapped else source
        best = booster.attr("best_iteration") if wrapped else None
        rounds = (0, int(best) + 1) if best is not None else None
        missing = float(source.missing) if wrapped else float("nan")
        return bytes(booster.save_raw("ubj")), missing, rounds

    return written(source, "XGBoost", wrapped or hasattr(source, "save_raw"), write)


# Objectives ---------------------------------------------------------------------------------------


def _same(score: Array) -> Array:
    return score


def _logit(score: Array) -> Array:
    if np.any((score <= 0) | (score >= 1)):
        raise CorruptFile(f"has the base score {score}, which is no probability")
    return np.asarray(np.log(score) - np.log1p(-score))


def _log(score: Array) -> Array:
    if np.any(score <= 0):
        raise CorruptFile(f"has the base score {score}, which is not positive")
    return np.asarray(np.log(score))


@dataclass(frozen=True)
class _Objective:
    """The margin that belongs to a base score, and what a margin becomes."""

    margin: Callable[[Array], Array] = _same
    transform: tuple[Operator, ...] = (Identity(),)


_IDENTITY = _Objective()
_LOGISTIC = _Objective(_logit, (Sigmoid(),))
_POSITIVE = _Objective(_log, (Exp(),))
_HINGE = _Objective()  # Its transform has a constant.
_OBJECTIVES: Mapping[str, _Objective] = {
    "reg:squarederror": _IDENTITY,
    "reg:linear": _IDENTITY,
    "reg:squaredlogerror": _IDENTITY,
    "reg:pseudohubererror": _IDENTITY,
    "reg:absoluteerror": _IDENTITY,
    "reg:quantileerror": _IDENTITY,
    "reg:logistic": _LOGISTIC,
    "reg:gamma": _POSITIVE,
    "reg:tweedie": _POSITIVE,
    "binary:logistic": _LOGISTIC,
    "binary:logitraw": _IDENTITY,
    "binary:hinge": _HINGE,
    "multi:softprob": _Objective(transform=(Softmax(-1),)),
    "multi:softmax": _Objective(transform=(ArgMax(1), Cast(DType.FLOAT32))),
    "count:poisson": _POSITIVE,
    "survival:cox": _POSITIVE,
    "survival:aft": _POSITIVE,
    "rank:pairwise": _IDENTITY,
    "rank:ndcg": _IDENTITY,
    "rank:map": _IDENTITY,
}


# The file -----------------------------------------------------------------------------------------


def _parsed(content: bytes, place: str) -> Fields:
    """The document, whichever form it has."""
    head = content.lstrip()[:64]
    try:
        if head[:1] == b"{" and head[1:].lstrip()[:1] in (b'"', b"}"):
            found = documents.parsed(content)
        elif head[:1] == b"{":
            found = ubjson.parse(content)
        else:
            raise UnsupportedFormat(
                "is no .json or .ubj file of XGBoost",
                remedy="Load it in XGBoost older than 3.1 and save it as .ubj or .json",
            )
    except (CorruptFile, UnsupportedFormat) as error:
        raise error.at(place) from None
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"is truncated or no JSON: {error}", place=place) from None
    if not isinstance(found, dict):
        raise CorruptFile("holds no model", place=place)
    return Fields(found, place)


class _Reader(Reader):
    def __init__(self, source: Path | bytes, name: str, problems: Problems | None) -> None:
        document = _parsed(self.opened(source, name, problems), self.place)
        self.learner = document.fields("learner")
        sizes = self.learner.fields("learner_model_param")
        self.features = sizes.count("num_feature", most=MOST_FEATURES - 1)
        counts = (sizes.count(k, 0, MOST_OUTPUTS) for k in ("num_class", "num_target"))
        self.outputs = max(1, *counts)
        version = document.array("version", int) if "version" in document else ()
        self.build.provenance["producer"] = f"XGBoost {'.'.join(map(str, version))}".strip()

    @property
    def is_linear(self) -> bool:
        return self.learner.fields("gradient_booster").text("name") == "gblinear"

    def graph(self, missing: float, rounds: tuple[int, int] | None) -> Graph:
        """Missing values, margin, transform."""
        objective = self.attempt(self._objective) or _IDENTITY
        base = self._base(objective)
        names = self.learner.texts("feature_names")
        x = declared(self.build, self.features, names, DType.FLOAT32, self.place)
        x = self._with_missing(x, missing)
        booster = self.learner.fields("gradient_booster")
        kind = booster.text("name")
        if self.is_linear:
            y = self._linear(x, booster, base)
        elif kind in ("gbtree", "dart"):
            y = self._trees(x, booster, base, rounds)
        else:
            raise UnsupportedOperator(f"the booster {kind!r} is not supported", place=self.place)
        return self.build.graph(self._transformed(y, objective))

    def _objective(self) -> _Objective:
        self.objective = self.learner.fields("objective").text("name")
        if self.objective not in _OBJECTIVES:
            raise UnsupportedOperator(
                f"the objective {self.objective!r} is not supported",
                place=self.place,
                remedy=nearest(self.objective, _OBJECTIVES)
                or 'Train or save it with "reg:squarederror" to get the margin',
            )
        return _OBJECTIVES[self.objective]

    def _base(self, objective: _Objective) -> Array:
        """The margin of the base score, for each output. It is a text: a number, or a list."""
        text = self.learner.fields("learner_model_param").text("base_score")
        try:
            score = np.array([float(t) for t in text.strip("[] ").split(",")])
        except ValueError:
            raise CorruptFile(f"has the base score {text!r}", place=self.place) from None
        if not np.all(np.isfinite(score)) or len(score) not in (1, self.outputs):
            raise CorruptFile(
                f"has the base score {text} for {self.outputs} outputs", place=self.place
            )
        try:
            return np.broadcast_to(objective.margin(score), self.outputs).astype(np.float32)
        except CorruptFile as error:
            raise error.at(self.place) from None

    def _with_missing(self, x: str, missing: float) -> str:
        if np.isnan(missing):
            return x
        build = self.build
        given, nan = (build.constant(np.float32(v)) for v in (missing, np.nan))
        absent = build(Equal(), x, given, origin=self.origin)
        return build(Where(), absent, nan, x, origin=self.origin)

    def _transformed(self, y: str, objective: _Objective) -> str:
        operators = list(objective.transform)
        if objective is _HINGE:
            y = self.build(Greater(), y, self.build.constant(np.float32(0)), origin=self.origin)
            operators = [Cast(DType.FLOAT32)]
        for number, op in enumerate(operators, 1):
            last = (OUTPUT,) if number == len(operators) else ()
            y = self.build(op, y, outputs=last, origin=self.origin)
        return y

    # Linear models -------------------------------------------------------------------------------

    def _linear(self, x: str, booster: Fields, base: Array) -> str:
        """y[n, k] = base[0] + bias[k] + sum_f x[n, f] w[f, k], where what is missing counts as 0.

        XGBoost adds the first output's base to all of them.
        """
        model = booster.fields("model")
        shape = (self.features + 1, self.outputs)
        weights = model.array("weights", np.float32, shape[0] * shape[1]).reshape(shape)
        if not np.all(np.isfinite(weights)):
            raise CorruptFile("has weights that are not finite", place=self.place)
        build, origin = self.build, self.origin
        absent = build(IsNaN(), x, origin=origin)
        x = build(Where(), absent, build.constant(np.float32(0)), x, origin=origin)
        y = build(MatMul(), x, build.constant(weights[:-1]), origin=origin)
        return build(Add(), y, build.constant(weights[-1] + base[0]), origin=origin)

    # Trees ---------------------------------------------------------------------------------------

    def _trees(self, x: str, booster: Fields, base: Array, rounds: tuple[int, int] | None) -> str:
        is_dart = booster.text("name") == "dart"
        model = (booster.fields("gbtree") if is_dart else booster).fields("model")
        listed = model.list("trees")
        group = model.array("tree_info", np.int64, len(listed))
        scale = np.ones(len(listed))
        if is_dart:
            scale = booster.array("weight_drop", np.float64, len(listed))
        chosen = self._chosen(model, len(listed), rounds)
        trees = [
            self.attempt(self._tree, number, listed[number], int(group[number]), scale)
            for number in chosen
        ]
        return evaluated(self.build, x, [t for t in trees if t], base, self.origin)

    def _chosen(self, model: Fields, count: int, rounds: tuple[int, int] | None) -> range:
        """The trees of these rounds of boosting."""
        ends = self._ends(model, count)
        first, last = rounds or (0, self._best_round() + 1)
        last = last or len(ends) - 1
        if not 0 <= first < max(1, last) <= max(1, len(ends) - 1):
            raise InputError(
                f"iteration_range=({first}, {last}) is none of the model's, which has "
                f"{len(ends) - 1} rounds",
                place=self.place,
            )
        return range(int(ends[first]), int(ends[last]) if len(ends) > 1 else 0)

    def _ends(self, model: Fields, count: int) -> Array:
        """Where the trees of each round begin, and where the last ones end."""
        if "iteration_indptr" in model:
            ends = model.array("iteration_indptr", np.int64)
            if not len(ends) or ends[0] != 0 or ends[-1] != count or np.any(np.diff(ends) < 0):
                raise CorruptFile("has rounds of trees that do not exist", place=self.place)
            return ends
        parallel = model.fields("gbtree_model_param").count("num_parallel_tree", 1)
        each = max(1, parallel) * self.outputs
        if count % each:
            raise CorruptFile(
                f"has {count} trees, of which each round has {each}", place=self.place
            )
        return np.arange(0, count + 1, each)

    def _best_round(self) -> int:
        """The round that scikit-learn's interface goes up to; -1 for the last one."""
        attributes = self.learner.get("attributes", {})
        if not isinstance(attributes, dict) or "scikit_learn" not in attributes:
            return -1
        try:
            return int(attributes.get("best_iteration", -1))
        except (TypeError, ValueError):
            raise CorruptFile("has a best_iteration that is no number", place=self.place) from None

    def _tree(self, number: int, given: Any, group: int, scale: Array) -> Tree:
        tree = Fields.of(given, f"{self.place}: tree {number}")
        parameters = tree.fields("tree_param")
        width = max(1, parameters.count("size_leaf_vector", 1))
        left = tree.array("left_children", np.int64)
        count = len(left)
        if count != parameters.count("num_nodes", count):
            raise CorruptFile("has another number of nodes than it says", place=tree.place)
        children = np.stack([left, tree.array("right_children", np.int64, count)], axis=1)
        leaf = left < 0
        conditions = tree.array("split_conditions", np.float32, count)
        if width not in (1, self.outputs):
            raise CorruptFile(f"has leaves of {width} numbers", place=tree.place)
        weights = conditions[leaf, None]
        if width > 1:
            weights = _leaf_vectors(tree, leaf, children[leaf, 1], width)
            group = 0
        children[leaf] = -1
        missing = tree.array("default_left", np.int64, count) != 0
        found = Tree(
            tree.place,
            tree.array("split_indices", np.int64, count),
            below(conditions.astype(np.float64)),
            missing,
            children,
            np.repeat(np.flatnonzero(leaf), width),
            np.tile(group + np.arange(width), int(leaf.sum())),
            weights.reshape(-1).astype(np.float64) * scale[number],
            {**_unreachable(conditions, missing, leaf), **_categorical(tree, missing, leaf)},
        )
        return checked(found, self.features, self.outputs)


def _leaf_vectors(tree: Fields, leaf: Array, numbers: Array, width: int) -> Array:
    """The numbers of each leaf: before XGBoost 3.1 every node had some."""
    if "leaf_weights" not in tree:
        every = tree.array("base_weights", np.float32, len(leaf) * width)
        return np.asarray(every.reshape(-1, width)[leaf])
    vectors = tree.array("leaf_weights", np.float32).reshape(-1)
    if len(vectors) % width or np.any((numbers < 0) | (numbers >= len(vectors) // width)):
        raise CorruptFile("has a leaf without its numbers", place=tree.place)
    return np.asarray(vectors.reshape(-1, width)[numbers])


def _unreachable(conditions: Array, missing: Array, leaf: Array) -> Mapping[int, Ranges]:
    """Nothing is below -infinity."""
    nodes = np.flatnonzero((conditions == -np.inf) & ~leaf).tolist()
    return {n: Ranges((), (1,), 0 if missing[n] else 1) for n in nodes}


def _categorical(tree: Fields, missing: Array, leaf: Array) -> Mapping[int, Ranges]:
    """Nodes that ask for categories, which lead to the second child; others are no category."""
    kinds = tree.array("split_type", np.int64, len(leaf)) if "split_type" in tree else ~leaf * 0
    asking = np.flatnonzero((kinds == 1) & ~leaf)
    if np.any((kinds != 0) & (kinds != 1)):
        raise CorruptFile("has an unknown kind of split", place=tree.place)
    if not len(asking):
        return {}
    nodes = tree.array("categories_nodes", np.int64)
    starts = tree.array("categories_segments", np.int64, len(nodes))
    sizes = tree.array("categories_sizes", np.int64, len(nodes))
    members = tree.array("categories", np.int64)
    wrong = (starts < 0) | (sizes < 0) | (starts > len(members) - sizes)
    if np.any(wrong) or not np.array_equal(np.intersect1d(nodes, asking), asking):
        raise CorruptFile("has a node without its categories", place=tree.place)
    if np.any((members < 0) | (members >= _CATEGORIES)):
        raise CorruptFile("has a category that cannot be", place=tree.place)
    rows: Sequence[tuple[int, int, int]] = list(
        zip(nodes.tolist(), starts.tolist(), sizes.tolist(), strict=True)
    )
    return {
        node: categories(members[start : start + size], 1, 0 if missing[node] else 1, below(0.0))
        for node, start, size in rows
        if not leaf[node]
    }
