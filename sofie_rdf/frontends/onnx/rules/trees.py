"""ai.onnx.ml's ensembles of trees: lists of attributes become the arrays of `Trees`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules._scores import (
    arity_one,
    class_labels,
    label_of,
    post_transformed,
    two_scores,
)
from sofie_rdf.frontends.onnx.rules.engine import OnnxNode, onnx_rule
from sofie_rdf.frontends.onnx.values import Listed
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.trees import AT_MOST, EQUAL, LEAF, MISSING, Trees

_ML = "ai.onnx.ml"
_MODES = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ", "MEMBER")
_LEAF = len(_MODES)
_MODE_NUMBERS = {**{f"BRANCH_{m}": i for i, m in enumerate(_MODES)}, "LEAF": _LEAF}
_LEQ, _LT, _GTE, _GT, _EQ, _NEQ, _MEMBER = range(len(_MODES))


@dataclass(frozen=True)
class _Nodes:
    """Nodes with ONNX's modes. A child is the number of a node; leaves have numbers as well."""

    features: Array
    thresholds: Array
    modes: Array
    missing: Array
    children: Array
    roots: Array

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, order: Array) -> dict[str, Array]:
        """The nodes in another order, but for their numbers."""
        fields = ("features", "thresholds", "modes", "missing", "children")
        return {f: getattr(self, f)[order] for f in fields}


@dataclass(frozen=True)
class _Weights:
    """What leaves add: ``weights[i]`` to ``targets[i]`` at node ``nodes[i]``."""

    nodes: Array
    targets: Array
    weights: Array


def _refuse(wrong: Any, text: str) -> None:
    if np.any(wrong):
        raise GraphError(text)


def _listed(node: OnnxNode, name: str, kind: type[np.generic]) -> Array:
    """An attribute that lists numbers of this kind; empty where it is absent."""
    given = node.attributes.get(name)
    if given is None or not len(given):
        return np.zeros(0, kind)
    if given.texts is not None or given.numbers.dtype != kind:
        raise GraphError(f"attribute {name!r} of {node.op_type} has the wrong type")
    return np.asarray(given.numbers)


def _integers(node: OnnxNode, name: str, count: int | None = None) -> Array:
    """An attribute that lists integers; where it is absent, ``count`` zeros."""
    found = _listed(node, name, np.int64)
    if count is not None and not len(found):
        return np.zeros(count, np.int64)
    if count is not None and len(found) != count:
        raise GraphError(f"has {len(found)} numbers in {name!r}, not {count}")
    return found


def _reals(node: OnnxNode, name: str) -> Array:
    """An attribute that lists floats: its ``_as_tensor`` form where it has that."""
    tensor = node.attributes.get(f"{name}_as_tensor")
    if tensor is not None and tensor.size:
        if tensor.dtype.kind != "f":
            raise GraphError(f"{name!r} is of {tensor.dtype}")
        wide = np.float64 if tensor.dtype == np.float64 else np.float32
        return np.asarray(tensor.reshape(-1), wide)
    return _listed(node, name, np.float32)


# From ONNX's lists --------------------------------------------------------------------------------


class _Numbering:
    """Which node has which tree and number in that tree."""

    def __init__(self, trees: Array, numbers: Array) -> None:
        self.names, tree = np.unique(trees, return_inverse=True)
        keys = self._keys(tree, numbers)
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]
        _refuse(self.keys[1:] == self.keys[:-1], "has two nodes of the same number in one tree")
        self.sizes = np.bincount(tree, minlength=len(self.names))
        self.starts = np.cumsum(self.sizes) - self.sizes
        # In each tree from 0 on, as files usually have them.
        counted = np.arange(len(keys)) - np.repeat(self.starts, self.sizes)
        self.is_counted = np.array_equal(self.keys & (2**31 - 1), counted)

    @staticmethod
    def _keys(tree: Array, numbers: Array) -> Array:
        _refuse((numbers < 0) | (numbers >= 2**31), "has a node number that cannot be")
        return (tree.astype(np.int64) << 31) | numbers

    def find(self, trees: Array, numbers: Array, what: str) -> Array:
        """The positions of these nodes."""
        tree = self._find_trees(trees, what)
        keys = self._keys(tree, numbers)
        if self.is_counted and len(self.names):
            place = self.starts[tree] + numbers
            wrong = numbers >= self.sizes[tree]
            place[wrong] = 0
        else:
            place = np.minimum(np.searchsorted(self.keys, keys), max(0, len(self.keys) - 1))
            wrong = self.keys[place] != keys
        _refuse(wrong, f"has {what} that does not exist")
        return np.asarray(self.order[place])

    def _find_trees(self, trees: Array, what: str) -> Array:
        """The positions of these trees among all of them."""
        last = max(0, len(self.names) - 1)
        if len(self.names) and self.names[-1] - self.names[0] == last:
            tree = np.clip(trees, self.names[0], self.names[-1]) - self.names[0]
        else:
            tree = np.minimum(np.searchsorted(self.names, trees), last)
        missing = not len(self.names) or np.any(self.names[tree] != trees)
        _refuse(missing and len(trees), f"has {what} in a tree that does not exist")
        return np.asarray(tree)


def _listed_nodes(node: OnnxNode) -> tuple[_Nodes, _Numbering]:
    """The nodes of TreeEnsembleRegressor and TreeEnsembleClassifier."""
    trees = _integers(node, "nodes_treeids")
    count = len(trees)
    numbering = _Numbering(trees, _integers(node, "nodes_nodeids", count))
    modes = _mode_numbers(node, count)
    inner = np.flatnonzero(modes != _LEAF)
    children = np.zeros((count, 2), np.int64)
    for side, name in enumerate(("nodes_truenodeids", "nodes_falsenodeids")):
        numbers = _integers(node, name, count)[inner]
        children[inner, side] = numbering.find(trees[inner], numbers, "a child")
    thresholds = _reals(node, "nodes_values")
    thresholds = thresholds if len(thresholds) else np.zeros(count, np.float32)
    _refuse(len(thresholds) != count, f"has {len(thresholds)} thresholds for {count} nodes")
    missing = _integers(node, "nodes_missing_value_tracks_true", count)
    features = _integers(node, "nodes_featureids", count)
    nodes = _Nodes(features, thresholds, modes, missing != 0, children, np.zeros(0, np.int64))
    return replace(nodes, roots=_roots(nodes, trees)), numbering


def _mode_numbers(node: OnnxNode, count: int) -> Array:
    given = node.attributes.get("nodes_modes", Listed(np.zeros(0, np.int64), ()))
    _refuse(len(given) != count, f"has {len(given)} modes for {count} nodes")
    _refuse(given.texts is None, "has modes that are no texts")
    unknown = set(given.texts) - set(_MODE_NUMBERS)
    if unknown:
        raise UnsupportedOperator(f"{node.op_type} has no mode {min(unknown)!r}")
    _refuse("BRANCH_MEMBER" in given.texts, "has the mode BRANCH_MEMBER, but no members")
    modes = np.array([_MODE_NUMBERS[text] for text in given.texts], np.int64)
    return np.asarray(modes[given.numbers])


def _roots(nodes: _Nodes, trees: Array) -> Array:
    """The one node of each tree that is nobody's child."""
    inner = nodes.modes != _LEAF
    free = np.ones(len(nodes), bool)
    free[nodes.children[inner].reshape(-1)] = False
    roots = np.flatnonzero(free)
    _, first, count = np.unique(trees[roots], return_index=True, return_counts=True)
    _refuse(len(count) != len(np.unique(trees)), "has a tree without a root: a cycle")
    _refuse(count > 1, "has a tree with several roots: nodes that nothing leads to")
    # In the order in which the trees begin in the file.
    return roots[np.sort(first)]


def _tensor_nodes(node: OnnxNode) -> tuple[_Nodes, _Weights]:
    """The nodes of TreeEnsemble: inner nodes, then its leaves."""
    features = _integers(node, "nodes_featureids")
    count = len(features)
    targets = _integers(node, "leaf_targetids")
    children = np.zeros((count + len(targets), 2), np.int64)
    for side, kind in enumerate(("true", "false")):
        numbers = _integers(node, f"nodes_{kind}nodeids", count)
        is_leaf = _integers(node, f"nodes_{kind}leafs", count) != 0
        most = np.where(is_leaf, len(targets), count)
        _refuse((numbers < 0) | (numbers >= most), "has a child that does not exist")
        children[:count, side] = numbers + np.where(is_leaf, count, 0)
    modes = np.asarray(node.attributes.get("nodes_modes", ()), np.int64).reshape(-1)
    _refuse(len(modes) != count or np.any((modes < 0) | (modes > _MEMBER)), "has unknown modes")
    splits = _tensor(node, "nodes_splits", count)
    roots = _integers(node, "tree_roots")
    _refuse((roots < 0) | (roots >= count), "has a root that does not exist")
    missing = _integers(node, "nodes_missing_value_tracks_true", count)
    behind = (0, len(targets))
    nodes = _Nodes(
        np.pad(features, behind),
        np.pad(splits, behind),
        np.pad(modes, behind, constant_values=_LEAF),
        np.pad(missing != 0, behind),
        children,
        roots,
    )
    weights = _tensor(node, "leaf_weights", len(targets))
    return nodes, _Weights(np.arange(count, len(nodes)), targets, weights)


def _tensor(node: OnnxNode, name: str, count: int) -> Array:
    array = np.asarray(node.attributes.get(name, np.zeros(0, np.float32))).reshape(-1)
    _refuse(len(array) != count, f"has {len(array)} numbers in {name!r}, not {count}")
    return array if array.dtype == np.float64 else array.astype(np.float32)


# Into an order ------------------------------------------------------------------------------------


def _ordered(nodes: _Nodes, weights: _Weights, order: Array) -> tuple[_Nodes, _Weights]:
    place = np.empty(len(nodes), np.int64)
    place[order] = np.arange(len(nodes))
    rows = nodes.rows(order)
    rows["children"] = place[rows["children"]]
    return _Nodes(**rows, roots=place[nodes.roots]), replace(weights, nodes=place[weights.nodes])


def _depths(nodes: _Nodes) -> Array:
    """How far each inner node is from its root; `GraphError` where nodes lead round in circles."""
    inner = np.flatnonzero(nodes.modes != _LEAF)
    child = nodes.children[inner]
    leads_on = nodes.modes[child] != _LEAF
    parents = np.broadcast_to(inner[:, None], child.shape)[leads_on]
    reached = child[leads_on]
    times = np.bincount(reached, minlength=len(nodes))
    _refuse(times > 1, "has a node that two nodes lead to: it is no tree")
    _refuse(times[nodes.roots] > 0, "has a root that a node leads to")
    # One more node stands for what is above a root. Each round doubles the distance looked up.
    above = np.full(len(nodes) + 1, len(nodes))
    above[reached] = parents
    depth = np.where(above == len(nodes), 0, 1)
    rounds = 0
    while np.any(above != len(nodes)):
        _refuse(1 << rounds > len(nodes), "has nodes that lead round in a circle")
        depth = depth + depth[above]
        above = above[above]
        rounds += 1
    return np.asarray(depth[:-1])


def _ordered_members(members: Array, modes: Array, order: Array) -> Array:
    """Members are listed in the order of the nodes that ask for them, NaN behind those of each."""
    asking = np.flatnonzero(modes == _MEMBER)
    ends = np.flatnonzero(np.isnan(members)) + 1
    if len(asking) != len(ends) or (len(members) and ends[-1:] != len(members)):
        raise GraphError(f"has members for {len(ends)} nodes, and {len(asking)} that ask for them")
    parts = np.split(members, ends[:-1]) if len(ends) else []
    place = np.searchsorted(asking, order[modes[order] == _MEMBER])
    return np.concatenate([members[:0], *(parts[i] for i in place)])


# Into few modes -----------------------------------------------------------------------------------


def _simplified(nodes: _Nodes, weights: _Weights, members: Array) -> tuple[_Nodes, _Weights]:
    """All modes in terms of LEQ and EQ: the others are these with their children exchanged."""
    modes, thresholds = nodes.modes.copy(), nodes.thresholds.copy()
    missing, children = nodes.missing.copy(), nodes.children.copy()
    inner = modes != _LEAF
    _refuse(inner & np.isnan(thresholds) & (modes != _MEMBER), "has a threshold that is NaN")
    # x < t as x <= (the number below t).
    strict = inner & ((modes == _LT) | (modes == _GTE))
    lowest = thresholds.dtype.type(-np.inf)
    thresholds[strict] = np.nextafter(thresholds[strict], lowest)
    # Nothing is below -inf: the threshold NaN, which nothing is at most.
    thresholds[strict & (nodes.thresholds == lowest)] = np.nan
    exchanged = inner & ((modes == _GTE) | (modes == _GT) | (modes == _NEQ))
    children[exchanged] = children[exchanged, ::-1]
    # NaN went to the second child, which is now the first one, unless it was to go to the first.
    ordered = exchanged & (modes != _NEQ)
    missing[ordered] = ~missing[ordered]
    missing[exchanged & (modes == _NEQ)] = False
    modes[inner & (modes <= _GT)] = _LEQ
    modes[modes == _NEQ] = _EQ
    found = replace(nodes, modes=modes, thresholds=thresholds, missing=missing, children=children)
    return _expanded(found, weights, members)


def _expanded(nodes: _Nodes, weights: _Weights, members: Array) -> tuple[_Nodes, _Weights]:
    """A node that asks for one of several numbers, or for NaN as well, as several nodes."""
    asks_nan = nodes.missing & ((nodes.modes == _EQ) | (nodes.modes == _MEMBER))
    counts = _member_counts(nodes, members)
    extra = np.where(nodes.modes == _MEMBER, counts - 1, 0) + asks_nan
    if not np.any(extra) and not np.any(nodes.modes == _MEMBER):
        return nodes, weights
    start = np.arange(len(nodes)) + np.cumsum(extra) - extra
    source = np.repeat(np.arange(len(nodes)), 1 + extra)
    rows = nodes.rows(source)
    rows["children"] = start[rows["children"]]
    step = np.arange(len(source)) - start[source]
    ask = (step == 0) & asks_nan[source]
    member = (rows["modes"] == _MEMBER) & ~ask
    rows["thresholds"][member] = members[~np.isnan(members)]
    # x <= infinity leads on to the others, NaN to where a member goes.
    rows["thresholds"][ask] = np.inf
    rows["modes"][ask] = _LEQ
    rows["modes"][member] = _EQ
    rows["missing"][extra[source] > 0] = False
    behind = np.flatnonzero(step < extra[source])
    asked = ask[behind]
    rows["children"][behind[~asked], 1] = behind[~asked] + 1
    rows["children"][behind[asked], 1] = rows["children"][behind[asked], 0]
    rows["children"][behind[asked], 0] = behind[asked] + 1
    return _Nodes(**rows, roots=start[nodes.roots]), replace(weights, nodes=start[weights.nodes])


def _member_counts(nodes: _Nodes, members: Array) -> Array:
    """How many members each node that asks for members has, and 1 for the others."""
    counts = np.diff(np.flatnonzero(np.isnan(members)), prepend=-1) - 1
    _refuse(counts < 1, "has a node that asks for no member at all")
    found = np.ones(len(nodes), np.int64)
    found[nodes.modes == _MEMBER] = counts
    return found


# Into a graph -------------------------------------------------------------------------------------


def _arrays(nodes: _Nodes, weights: _Weights, base: Array) -> list[Array]:
    """The inputs of `Trees` behind x."""
    count = len(nodes)
    _refuse(len(weights.nodes) and nodes.modes[weights.nodes] != _LEAF, "weighs an inner node")
    by_node = np.argsort(weights.nodes, kind="stable")
    starts = np.searchsorted(weights.nodes[by_node], np.arange(count + 1))
    modes = np.array([AT_MOST, LEAF, LEAF, LEAF, EQUAL, LEAF, LEAF, LEAF], np.uint8)[nodes.modes]
    modes[nodes.missing & (nodes.modes == _LEQ)] |= MISSING
    leaf = nodes.modes == _LEAF
    thresholds = np.where(leaf, 0, nodes.thresholds)
    features = np.where(leaf, 0, nodes.features)
    listed = (weights.targets[by_node], nodes.roots, features, starts)
    _refuse([np.any((a < 0) | (a >= 2**31)) for a in listed], "has a number that cannot be")
    narrow: list[Array] = [a.astype(np.int32) for a in listed]
    children = np.where(leaf[:, None], 0, nodes.children).astype(np.int32)
    real = thresholds.astype(nodes.thresholds.dtype)
    targets, roots, features, starts = narrow
    return [roots, features, real, modes, children, starts, targets, weights.weights[by_node], base]


def _ensemble(
    nodes: _Nodes, weights: _Weights, base: Array, members: Array | None = None
) -> list[Array]:
    _refuse((weights.targets < 0) | (weights.targets >= len(base)), "weighs an unknown target")
    _refuse(~np.isfinite(weights.weights), "has a weight that is not finite")
    _refuse(np.isnan(base), "has a base value that is NaN")
    if len(weights.weights) != len(weights.targets) or len(weights.nodes) != len(weights.targets):
        raise GraphError("has not as many weights as targets")
    none = np.zeros(0, nodes.thresholds.dtype)
    given = none if members is None else members.reshape(-1).astype(nodes.thresholds.dtype)
    # Breadth-first, all trees at once, leaves last: every child comes behind its parent.
    order = np.lexsort((_depths(nodes), nodes.modes == _LEAF))
    given = _ordered_members(given, nodes.modes, order)
    nodes, weights = _ordered(nodes, _of_leaves(nodes, weights), order)
    nodes, weights = _simplified(nodes, weights, given)
    return _arrays(nodes, weights, base)


def _of_leaves(nodes: _Nodes, weights: _Weights) -> _Weights:
    """Files may list weights of 0 for inner nodes; others are refused."""
    inner = nodes.modes[weights.nodes] != _LEAF
    _refuse(weights.weights[inner] != 0, "weighs an inner node")
    kept = ~inner
    return _Weights(weights.nodes[kept], weights.targets[kept], weights.weights[kept])


def _evaluated(
    build: Builder, x: str, arrays: list[Array], aggregate: str, to: DType, origin: Origin
) -> str:
    """The scores, in this element type."""
    type_ = build.types[x]
    if type_.rank == 1:
        raise UnsupportedOperator("trees of a single event without a batch are not supported")
    real = DType.FLOAT64 if type_.dtype is DType.FLOAT64 else DType.FLOAT32
    # Where thresholds or weights are finer than x, x is widened, which changes no comparison.
    if _needs_double(arrays[2]) or arrays[-2].dtype == np.float64:
        real = DType.FLOAT64
    arrays[2] = arrays[2].astype(real.numpy)
    arrays[-1] = arrays[-1].astype(arrays[-2].dtype)
    _refuse(
        len(arrays[1]) and arrays[1].max() >= _columns(type_.shape),
        "asks for a feature that x lacks",
    )
    if type_.dtype is not real:
        x = build(Cast(real), x, origin=origin)
    y = build(Trees(aggregate), x, *(build.constant(a) for a in arrays), origin=origin)
    return y if build.types[y].dtype is to else build(Cast(to), y, origin=origin)


def _columns(shape: Any) -> float:
    return shape[1] if len(shape) == 2 and isinstance(shape[1], int) else np.inf


def _needs_double(thresholds: Array) -> bool:
    single = thresholds.astype(np.float32)
    return bool(np.any((single != thresholds) & ~np.isnan(thresholds)))


_NODES: Mapping[str, type] = {
    **dict.fromkeys(
        (
            "nodes_falsenodeids",
            "nodes_featureids",
            "nodes_hitrates",
            "nodes_missing_value_tracks_true",
            "nodes_modes",
            "nodes_nodeids",
            "nodes_treeids",
            "nodes_truenodeids",
            "nodes_values",
            "base_values",
        ),
        Listed,
    ),
    "nodes_values_as_tensor": np.ndarray,
    "nodes_hitrates_as_tensor": np.ndarray,
    "base_values_as_tensor": np.ndarray,
    "post_transform": str,
}


def _attributes(kind: str) -> dict[str, type]:
    """Those of a regressor (kind target) or a classifier (kind class)."""
    lists = (f"{kind}_{name}" for name in ("ids", "nodeids", "treeids", "weights"))
    return {**_NODES, **dict.fromkeys(lists, Listed), f"{kind}_weights_as_tensor": np.ndarray}


def _listed_ensemble(node: OnnxNode, kind: str) -> tuple[_Nodes, _Weights, str]:
    """The nodes and weights of these attributes, and what becomes of the scores."""
    nodes, numbering = _listed_nodes(node)
    trees = _integers(node, f"{kind}_treeids")
    numbers = _integers(node, f"{kind}_nodeids", len(trees))
    where = numbering.find(trees, numbers, "a weighed leaf")
    targets, weights = _integers(node, f"{kind}_ids", len(trees)), _reals(node, f"{kind}_weights")
    post = node.attributes.get("post_transform", "NONE")
    return nodes, _Weights(where, targets, weights), post


@onnx_rule(
    "TreeEnsembleRegressor",
    domain=_ML,
    attributes={
        **_attributes("target"),
        "n_targets": int,
        "aggregate_function": str,
    },
)
def _regressor(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """The leaves that x reaches, over all trees: their sum, mean, least or largest."""
    nodes, weights, post = _listed_ensemble(node, "target")
    count = arity_one(node, "n_targets")
    arrays = _ensemble(nodes, weights, _base(node, count))
    aggregate = node.attributes.get("aggregate_function", "SUM")
    y = _evaluated(build, node.inputs[0], arrays, aggregate, DType.FLOAT32, origin)
    post_transformed(build, y, post, node.outputs[0], origin)


def _base(node: OnnxNode, count: int) -> Array:
    given = _reals(node, "base_values")
    if len(given) not in (0, count):
        raise GraphError(f"has {len(given)} base values for {count} targets")
    return given if len(given) else np.zeros(count, np.float32)


_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_POST_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


@onnx_rule(
    "TreeEnsemble",
    domain=_ML,
    attributes={
        **dict.fromkeys(
            ("leaf_weights", "membership_values", "nodes_hitrates", "nodes_modes", "nodes_splits"),
            np.ndarray,
        ),
        **dict.fromkeys(("nodes_falseleafs", "nodes_falsenodeids", "nodes_featureids"), Listed),
        **dict.fromkeys(("nodes_trueleafs", "nodes_truenodeids", "tree_roots"), Listed),
        **dict.fromkeys(("leaf_targetids", "nodes_missing_value_tracks_true"), Listed),
        **dict.fromkeys(("aggregate_function", "n_targets", "post_transform"), int),
    },
)
def _tree_ensemble(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """The leaves that x reaches, over all trees: their sum, mean, least or largest."""
    nodes, weights = _tensor_nodes(node)
    base = np.zeros(arity_one(node, "n_targets"), weights.weights.dtype)
    arrays = _ensemble(nodes, weights, base, node.attributes.get("membership_values"))
    aggregate = _named(node, "aggregate_function", 1, _AGGREGATES)
    post = _named(node, "post_transform", 0, _POST_TRANSFORMS)
    dtype = build.types[node.inputs[0]].dtype
    inner = DType.FLOAT64 if dtype is DType.FLOAT64 else DType.FLOAT32
    y = _evaluated(build, node.inputs[0], arrays, aggregate, inner, origin)
    if inner is dtype:
        post_transformed(build, y, post, node.outputs[0], origin)
    else:
        y = post_transformed(build, y, post, "", origin)
        build(Cast(dtype), y, outputs=node.outputs, origin=origin)


def _named(node: OnnxNode, name: str, default: int, names: Iterable[str]) -> str:
    known = tuple(names)
    number: int = node.attributes.get(name, default)
    if not 0 <= number < len(known):
        raise UnsupportedOperator(f"TreeEnsemble has no {name} {number}")
    return known[number]


@onnx_rule(
    "TreeEnsembleClassifier",
    domain=_ML,
    outputs=2,
    attributes={
        **_attributes("class"),
        "classlabels_int64s": tuple,
        "classlabels_strings": tuple,
    },
)
def _classifier(node: OnnxNode, build: Builder, origin: Origin) -> None:
    """The scores: the sum of the leaves that x reaches, over all trees; and the label of the best.

    As onnxruntime where two classes have the weights of one: the score of the second class.
    """
    labels = class_labels(node, "classlabels_int64s")
    nodes, weights, post = _listed_ensemble(node, "class")
    given = _reals(node, "base_values")
    used = set(np.unique(weights.targets).tolist())
    single = len(labels) == 2 and len(used) == 1
    one_column = single and used == {0} and len(given) < 2
    count = 1 if one_column else len(labels)
    arrays = _ensemble(nodes, weights, _base(node, count))
    scores = _evaluated(build, node.inputs[0], arrays, "SUM", DType.FLOAT32, origin)
    # Weights that are probabilities have their threshold at one half, others at 0.
    certain = bool(np.all(weights.weights >= 0))
    threshold = None if not single else 0.5 if certain else 0.0
    label_of(build, scores, labels, threshold, node.outputs[:1], origin)
    if len(node.outputs) < 2 or not node.outputs[1]:
        return
    if one_column:
        two_scores(build, scores, post, certain, node.outputs[1], origin)
    else:
        post_transformed(build, scores, post, node.outputs[1], origin)
