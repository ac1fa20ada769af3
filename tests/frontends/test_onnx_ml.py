"""ai.onnx.ml against onnxruntime: random models of every kind, made in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from sofie_rdf.errors import SofieError, UnsupportedOperator
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.types import Array
from sofie_rdf.passes import pipeline
from sofie_rdf.reference import evaluate
from sofie_rdf.runtime.compile.session import compile_graph
from tests.choice import every, some_of

onnxruntime = pytest.importorskip("onnxruntime")

ML = "ai.onnx.ml"
Attributes = Mapping[str, Any]


def model(
    op: str,
    inputs: Sequence[Array],
    outputs: Sequence[type],
    attributes: Attributes,
    version: int = 3,
) -> onnx.ModelProto:
    """One node; the first axis of each input is the batch."""
    names = [f"x{i}" for i in range(len(inputs))]
    results = [f"y{i}" for i in range(len(outputs))]
    node = helper.make_node(op, names, results, domain=ML, **attributes)
    given = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(x.dtype), ["N", *x.shape[1:]]
        )
        for name, x in zip(names, inputs, strict=True)
    ]
    found = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), None)
        for name, kind in zip(results, outputs, strict=True)
    ]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, version)]
    graph = helper.make_graph([node], op, given, found)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def theirs(proto: onnx.ModelProto, inputs: Sequence[Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    found: list[Array] = session.run(None, {f"x{i}": x for i, x in enumerate(inputs)})
    return found


def ours(proto: onnx.ModelProto, inputs: Sequence[Array], *, compiled: bool) -> list[Array]:
    graph = pipeline.run(read(proto, name="model"))
    feeds = {f"x{i}": x for i, x in enumerate(inputs)}
    if not compiled:
        return list(evaluate(graph, feeds).values())
    return list(
        compile_graph(graph).infer(feeds, dict.fromkeys(graph.symbols, len(inputs[0]))).values()
    )


def same(
    op: str,
    inputs: Sequence[Array],
    attributes: Attributes,
    outputs: Sequence[type] = (np.float32,),
    version: int = 3,
    *,
    compiled: bool = False,
    tolerance: float = 2e-5,
) -> None:
    """Both compute the same."""
    proto = model(op, inputs, outputs, attributes, version)
    expected = theirs(proto, inputs)
    for found, wanted in zip(ours(proto, inputs, compiled=compiled), expected, strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


# Trees --------------------------------------------------------------------------------------------

MODES = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ")
MODES_AND_MEMBER = (*MODES, "MEMBER")


class Grown:
    """A random ensemble; thresholds and values are few whole numbers, so that ties are common."""

    def __init__(
        self,
        seed: int,
        trees: int = 5,
        depth: int = 4,
        features: int = 3,
        modes: Sequence[str] = MODES,
        missing: float = 0.5,
    ) -> None:
        self.random = np.random.default_rng(seed)
        self.features, self.modes, self.missing = features, modes, missing
        self.nodes: dict[str, list[Any]] = {
            f"nodes_{k}": []
            for k in (
                "treeids",
                "nodeids",
                "featureids",
                "values",
                "modes",
                "truenodeids",
                "falsenodeids",
                "missing_value_tracks_true",
            )
        }
        self.leaves: list[tuple[int, int]] = []
        for tree in range(trees):
            numbers = itertools.count()
            self._grow(tree, next(numbers), depth, numbers)
        self._renumber(trees)

    def _renumber(self, trees: int) -> None:
        """Another number for each node of a tree; onnxruntime wants small ones."""
        tree = np.array(self.nodes["nodes_treeids"])
        orders = [self.random.permutation(int(np.sum(tree == t))) for t in range(trees)]
        for key in ("nodes_nodeids", "nodes_truenodeids", "nodes_falsenodeids"):
            pairs = zip(tree.tolist(), self.nodes[key], strict=True)
            self.nodes[key] = [int(orders[t][n]) for t, n in pairs]
        self.leaves = [(t, int(orders[t][n])) for t, n in self.leaves]

    def _grow(self, tree: int, number: int, depth: int, numbers: Iterator[int]) -> None:
        leaf = depth == 0 or self.random.random() < 0.15
        children = [0, 0] if leaf else [next(numbers), next(numbers)]
        row = {
            "treeids": tree,
            "nodeids": number,
            "featureids": 0 if leaf else int(self.random.integers(self.features)),
            "values": 0.0 if leaf else float(self.random.integers(-3, 4)),
            "modes": "LEAF" if leaf else f"BRANCH_{self.random.choice(self.modes)}",
            "truenodeids": children[0],
            "falsenodeids": children[1],
            "missing_value_tracks_true": int(self.random.random() < self.missing and not leaf),
        }
        for key, value in row.items():
            self.nodes[f"nodes_{key}"].append(value)
        if leaf:
            self.leaves.append((tree, number))
            return
        for child in children:
            self._grow(tree, child, depth - 1, numbers)

    def weights(self, kind: str, targets: Sequence[int], *, positive: bool = False) -> Attributes:
        """Each leaf weighs each of these targets."""
        pairs = [(t, n, k) for t, n in self.leaves for k in targets]
        values = self.random.normal(size=len(pairs))
        return {
            f"{kind}_treeids": [p[0] for p in pairs],
            f"{kind}_nodeids": [p[1] for p in pairs],
            f"{kind}_ids": [p[2] for p in pairs],
            f"{kind}_weights": (np.abs(values) if positive else values).tolist(),
        }

    def events(self, count: int, dtype: type = np.float32) -> Array:
        x = self.random.integers(-4, 5, size=(count, self.features)).astype(dtype)
        if np.dtype(dtype).kind == "f":
            x += self.random.choice([0, 0, 0.25], size=x.shape).astype(dtype)
            x[self.random.random(x.shape) < 0.15] = np.nan
            x[self.random.random(x.shape) < 0.02] = np.inf
        return x


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_a_mode_of_nodes(mode: str, missing: float) -> None:
    grown = Grown(3, modes=[mode], missing=missing)
    same(
        "TreeEnsembleRegressor",
        [grown.events(300)],
        {**grown.nodes, **grown.weights("target", [0]), "n_targets": 1},
    )


AGGREGATES = ["SUM", "AVERAGE", "MIN", "MAX"]
SOME_COMPILED = [("SUM", 3, True), ("AVERAGE", 1, True), ("MIN", 3, True), ("MAX", 1, True)]


@pytest.mark.parametrize(
    ("aggregate", "targets", "compiled"),
    [
        *itertools.product(AGGREGATES, [1, 3], [False]),
        *some_of(itertools.product(AGGREGATES, [1, 3], [True]), SOME_COMPILED),
    ],
)
def test_regressors(aggregate: str, targets: int, compiled: bool) -> None:
    grown = Grown(5, trees=9, depth=7)
    base = [0.5, -1.5, 2.0][:targets]
    attributes = {
        **grown.nodes,
        **grown.weights("target", range(targets)),
        "n_targets": targets,
        "aggregate_function": aggregate,
        "base_values": base,
    }
    same("TreeEnsembleRegressor", [grown.events(70)], attributes, compiled=compiled)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_double_precision(dtype: type) -> None:
    """Thresholds that float32 does not have are compared as they are."""
    grown = Grown(6, trees=3, modes=("LEQ", "LT"), missing=0)
    thresholds = np.array(grown.nodes.pop("nodes_values")) + 1e-9
    weights = dict(grown.weights("target", [0]))
    tensors = {
        "nodes_values_as_tensor": onnx.numpy_helper.from_array(thresholds),
        "target_weights_as_tensor": onnx.numpy_helper.from_array(
            np.array(weights.pop("target_weights"))
        ),
    }
    x = grown.events(200, np.float64)
    attributes = {**grown.nodes, **weights, **tensors, "n_targets": 1}
    wanted = theirs(model("TreeEnsembleRegressor", [x], [np.float32], attributes), [x])
    # onnxruntime has no model of float32 events and double thresholds.
    events = x.astype(dtype)
    proto = model("TreeEnsembleRegressor", [events], [np.float32], attributes)
    (found,) = ours(proto, [events], compiled=False)
    np.testing.assert_allclose(found, wanted[0], rtol=1e-6)


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"])
@pytest.mark.parametrize("targets", [2, 4])
def test_post_transforms(post: str, targets: int) -> None:
    grown = Grown(7, modes=["LEQ"])
    weights = dict(grown.weights("target", range(targets), positive=True))
    scale = np.sum(weights["target_weights"]) / 10
    weights["target_weights"] = (np.array(weights["target_weights"]) / scale).tolist()
    attributes = {**grown.nodes, **weights, "n_targets": targets, "post_transform": post}
    # onnxruntime approximates the inverse of the error function.
    tolerance = 5e-3 if post == "PROBIT" else 2e-5
    same("TreeEnsembleRegressor", [grown.events(50)], attributes, tolerance=tolerance)


POSTS = ["NONE", "LOGISTIC", "SOFTMAX"]
BASES = [(), (0.2,)]


@pytest.mark.parametrize(
    ("post", "positive", "base", "compiled"),
    [
        *itertools.product(POSTS, [False, True], BASES, [False]),
        *every(3, itertools.product(POSTS, [False, True], BASES, [True])),
    ],
)
def test_two_classes_of_one_weight(
    post: str, positive: bool, base: tuple[float, ...], compiled: bool
) -> None:
    """What XGBoost, LightGBM and scikit-learn's boosting export."""
    grown = Grown(8, modes=["LT"])
    attributes = {
        **grown.nodes,
        **grown.weights("class", [0], positive=positive),
        "classlabels_int64s": [3, 8],
        "post_transform": post,
    }
    if base:
        attributes["base_values"] = list(base)
    outputs = (np.int64, np.float32)
    same("TreeEnsembleClassifier", [grown.events(60)], attributes, outputs, compiled=compiled)


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("base", [(), (0.2, -0.1, 0.3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_several_classes(post: str, base: tuple[float, ...], dtype: type) -> None:
    grown = Grown(9, modes=["LEQ", "GT"])
    attributes = {
        **grown.nodes,
        **grown.weights("class", [0, 1, 2]),
        "classlabels_int64s": [3, 8, -1],
        "post_transform": post,
    }
    if base:
        attributes["base_values"] = list(base)
    outputs = (np.int64, np.float32)
    same("TreeEnsembleClassifier", [grown.events(60, dtype)], attributes, outputs)


def test_two_classes_of_two_weights() -> None:
    """The label is that of the larger score, where onnxruntime looks at one of them only."""
    grown = Grown(10, modes=["LEQ"], missing=0)
    attributes = {
        **grown.nodes,
        **grown.weights("class", [0, 1]),
        "classlabels_int64s": [3, 8],
        "post_transform": "SOFTMAX",
    }
    x = grown.events(60)
    proto = model("TreeEnsembleClassifier", [x], [np.int64, np.float32], attributes)
    labels, scores = ours(proto, [x], compiled=False)
    np.testing.assert_allclose(scores, theirs(proto, [x])[1], rtol=2e-5)
    assert np.array_equal(labels, np.array([3, 8])[np.argmax(scores, axis=1)])


def test_classes_with_names_are_numbered() -> None:
    grown = Grown(11, modes=["LEQ"])
    attributes = {
        **grown.nodes,
        **grown.weights("class", [0, 1, 2]),
        "classlabels_strings": ["a", "b", "c"],
    }
    x = grown.events(40)
    proto = model("TreeEnsembleClassifier", [x], [str, np.float32], attributes)
    labels, scores = ours(proto, [x], compiled=False)
    names, wanted = theirs(proto, [x])
    np.testing.assert_allclose(scores, wanted, rtol=2e-5, atol=1e-6)
    assert np.array_equal(np.array(["a", "b", "c"])[labels], names)


def tensor_form(grown: Grown, members: Sequence[Sequence[float]] = ()) -> dict[str, Any]:
    """TreeEnsemble's attributes for those of the trees that have nodes; leaves have one weight."""
    nodes = grown.nodes
    rows = list(range(len(nodes["nodes_treeids"])))
    inner = [i for i in rows if nodes["nodes_modes"][i] != "LEAF"]
    places = {(nodes["nodes_treeids"][i], nodes["nodes_nodeids"][i]): i for i in rows}
    number = {i: n for n, i in enumerate(inner)}
    number.update({places[leaf]: n for n, leaf in enumerate(grown.leaves)})
    found: dict[str, Any] = {}
    for side in ("true", "false"):
        children = [
            places[nodes["nodes_treeids"][i], nodes[f"nodes_{side}nodeids"][i]] for i in inner
        ]
        found[f"nodes_{side}nodeids"] = [number[c] for c in children]
        found[f"nodes_{side}leafs"] = [int(nodes["nodes_modes"][c] == "LEAF") for c in children]
    names = [nodes["nodes_modes"][i].removeprefix("BRANCH_") for i in inner]
    modes = [MODES_AND_MEMBER.index(name) for name in names]
    asking = [n for n, name in enumerate(names) if name == "MEMBER"]
    listed = [v for n in range(len(asking)) for v in (*members[n % len(members)], np.nan)]
    weights = grown.random.normal(size=len(grown.leaves)).astype(np.float32)
    tensors = {
        "nodes_modes": np.array(modes, np.uint8),
        "nodes_splits": np.array([nodes["nodes_values"][i] for i in inner], np.float32),
        "leaf_weights": weights,
    }
    if listed:
        tensors["membership_values"] = np.array(listed, np.float32)
    seen: set[int] = set()
    roots = []
    for i in inner:
        if nodes["nodes_treeids"][i] not in seen:
            seen.add(nodes["nodes_treeids"][i])
            roots.append(number[i])
    return {
        **found,
        **{k: onnx.numpy_helper.from_array(v) for k, v in tensors.items()},
        "nodes_featureids": [nodes["nodes_featureids"][i] for i in inner],
        "nodes_missing_value_tracks_true": [
            nodes["nodes_missing_value_tracks_true"][i] for i in inner
        ],
        "leaf_targetids": grown.random.integers(0, 2, len(grown.leaves)).tolist(),
        "tree_roots": roots,
        "n_targets": 2,
    }


def by_hand(attributes: Attributes, x: Array) -> Array:
    """What the specification says, event by event."""
    of = {
        k: onnx.numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else np.asarray(v)
        for k, v in attributes.items()
    }
    asking = np.flatnonzero(of["nodes_modes"] == MODES_AND_MEMBER.index("MEMBER"))
    listed = of.get("membership_values", np.zeros(0))
    sets = np.split(listed, np.flatnonzero(np.isnan(listed)) + 1)
    members = dict(zip(asking.tolist(), sets, strict=False))
    found = np.zeros((len(x), 2))
    for event, root in itertools.product(range(len(x)), of["tree_roots"].tolist()):
        node, leaf = root, False
        while not leaf:
            side = "true" if _holds(of, members, node, x[event]) else "false"
            leaf = bool(of[f"nodes_{side}leafs"][node])
            node = int(of[f"nodes_{side}nodeids"][node])
        found[event, of["leaf_targetids"][node]] += of["leaf_weights"][node]
    return found


def _holds(of: Mapping[str, Array], members: Mapping[int, Array], node: int, event: Array) -> bool:
    value, split = event[of["nodes_featureids"][node]], of["nodes_splits"][node]
    if np.isnan(value) and of["nodes_missing_value_tracks_true"][node]:
        return True
    mode = MODES_AND_MEMBER[of["nodes_modes"][node]]
    if mode == "MEMBER":
        return value in members[node]
    comparisons = [value <= split, value < split, value >= split, value > split]
    return bool([*comparisons, value == split, value != split][MODES.index(mode)])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("compiled", [False, True])
def test_the_tensor_form(seed: int, compiled: bool) -> None:
    """Without members: with several of them onnxruntime 1.31 gives something else (see below)."""
    grown = Grown(20 + seed, depth=5, missing=0.3)
    x = grown.events(200)
    attributes = tensor_form(grown)
    same("TreeEnsemble", [x], attributes, version=5, compiled=compiled)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("compiled", [False, True])
def test_members(seed: int, compiled: bool) -> None:
    grown = Grown(30 + seed, depth=5, modes=(*MODES, "MEMBER", "MEMBER"), missing=0.3)
    attributes = tensor_form(grown, [(1.0,), (-2.0, 0.0, 3.0), (2.0, 1.0)])
    x = grown.events(200)
    proto = model("TreeEnsemble", [x], [np.float32], attributes, 5)
    (found,) = ours(proto, [x], compiled=compiled)
    np.testing.assert_allclose(found, by_hand(attributes, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_the_element_type_is_that_of_the_events(dtype: type) -> None:
    grown = Grown(40, trees=3, depth=5)
    attributes = tensor_form(grown)
    for name in ("nodes_splits", "leaf_weights"):
        array = onnx.numpy_helper.to_array(attributes[name]).astype(dtype)
        attributes[name] = onnx.numpy_helper.from_array(array)
    x = grown.events(100, dtype)
    proto = model("TreeEnsemble", [x], [dtype], attributes, 5)
    for compiled in (False, True):
        (found,) = ours(proto, [x], compiled=compiled)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, by_hand(attributes, x), rtol=2e-3, atol=2e-3)


def _damaged(change: str) -> dict[str, Any]:
    grown = Grown(12, trees=2, depth=3)
    attributes: dict[str, Any] = {**grown.nodes, **grown.weights("target", [0]), "n_targets": 1}
    inner = [i for i, m in enumerate(attributes["nodes_modes"]) if m != "LEAF"]
    match change:
        case "child":
            attributes["nodes_truenodeids"][inner[1]] = 12345
        case "cycle":
            attributes["nodes_truenodeids"][inner[1]] = attributes["nodes_nodeids"][inner[0]]
        case "itself":
            attributes["nodes_falsenodeids"][inner[1]] = attributes["nodes_nodeids"][inner[1]]
        case "twice":
            first, second = (f"nodes_{s}nodeids" for s in ("true", "false"))
            attributes[first][inner[0]] = attributes[second][inner[0]]
        case "feature":
            attributes["nodes_featureids"][inner[1]] = 3
        case "negative":
            attributes["nodes_featureids"][inner[1]] = -1
        case "number":
            attributes["nodes_nodeids"][inner[0]] = attributes["nodes_nodeids"][inner[1]]
        case "target":
            attributes["target_ids"][0] = 1
        case "leaf":
            attributes["target_nodeids"][0] = 54321
        case "tree":
            attributes["target_treeids"][0] = 7
        case "mode":
            attributes["nodes_modes"][inner[0]] = "BRANCH_NEAR"
        case "lengths":
            attributes["nodes_values"].pop()
        case "nan":
            attributes["nodes_values"][inner[0]] = float("nan")
        case "weight":
            attributes["target_weights"][0] = float("inf")
    return attributes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("child", "a child that does not exist"),
        ("cycle", "leads?|cycle|several roots"),
        ("itself", "leads?|cycle|several roots"),
        ("twice", "several roots|two nodes"),
        ("feature", "feature"),
        ("negative", "cannot be"),
        ("number", "same number"),
        ("target", "unknown target"),
        ("leaf", "does not exist"),
        ("tree", "does not exist"),
        ("mode", "BRANCH_NEAR"),
        ("lengths", "thresholds"),
        ("nan", "NaN"),
        ("weight", "not finite"),
    ],
)
def test_damaged_trees_are_refused(change: str, words: str) -> None:
    attributes = _damaged(change)
    proto = model("TreeEnsembleRegressor", [np.zeros((1, 3), np.float32)], [np.float32], attributes)
    with pytest.raises(SofieError, match=words):
        read(proto)


NUMBERS = ("nodes_nodeids", "nodes_truenodeids", "nodes_falsenodeids", "target_nodeids")
TREES = ("nodes_treeids", "target_treeids")


@pytest.mark.parametrize("trees", [1, 7])
@pytest.mark.parametrize("numbers", [1, 3])
def test_trees_and_nodes_may_have_any_numbers(trees: int, numbers: int) -> None:
    grown = Grown(8)
    x = grown.events(100)
    plain = {**grown.nodes, **grown.weights("target", [0]), "n_targets": 1}
    other = dict(plain)
    for keys, factor in ((TREES, trees), (NUMBERS, numbers)):
        other.update({key: [factor * int(n) + 2 for n in plain[key]] for key in keys})
    wanted, found = (
        ours(model("TreeEnsembleRegressor", [x], [np.float32], a), [x], compiled=False)[0]
        for a in (plain, other)
    )
    np.testing.assert_array_equal(found, wanted)
    # Between two numbers there is no node, and between two trees no tree.
    for key, factor in (("target_nodeids", numbers), ("target_treeids", trees)):
        wrong = {**other, key: [*other[key][:-1], other[key][-1] + (1 if factor > 1 else 999)]}
        with pytest.raises(SofieError, match="does not exist"):
            read(model("TreeEnsembleRegressor", [x], [np.float32], wrong))


@pytest.mark.parametrize("key", ["nodes_treeids", "nodes_modes", "nodes_values", "target_ids"])
def test_lists_of_another_type_are_refused(key: str) -> None:
    grown = Grown(8)
    attributes = {**grown.nodes, **grown.weights("target", [0]), "n_targets": 1}
    kinds = [[0.5], [1], ["a"]]
    for kind in kinds:
        if type(kind[0]) is not type(attributes[key][0]):
            wrong = {**attributes, key: kind * len(attributes[key])}
            with pytest.raises(SofieError, match=r"wrong type|no texts"):
                read(model("TreeEnsembleRegressor", [grown.events(2)], [np.float32], wrong))


@pytest.mark.parametrize("long", [False, True])
def test_nodes_that_lead_round_in_a_circle(long: bool) -> None:
    """Also where a root leads to none of them."""
    count = 500 if long else 2
    attributes = {
        "nodes_featureids": [0] * (count + 1),
        "nodes_modes": onnx.numpy_helper.from_array(np.zeros(count + 1, np.uint8)),
        "nodes_splits": onnx.numpy_helper.from_array(np.zeros(count + 1, np.float32)),
        "nodes_truenodeids": [0, *range(2, count + 1), 1],
        "nodes_trueleafs": [1] + [0] * count,
        "nodes_falsenodeids": [0] * (count + 1),
        "nodes_falseleafs": [1] * (count + 1),
        "leaf_weights": onnx.numpy_helper.from_array(np.ones(1, np.float32)),
        "leaf_targetids": [0],
        "n_targets": 1,
    }
    for root, words in ((0, "circle"), (1, "root that a node leads to")):
        given = {**attributes, "tree_roots": [root]}
        proto = model("TreeEnsemble", [np.zeros((1, 1), np.float32)], [np.float32], given, 5)
        with pytest.raises(SofieError, match=words):
            read(proto)


def test_a_chain_of_many_nodes() -> None:
    """As deep as it has nodes, and each event goes all the way."""
    count = 3000
    attributes = {
        "nodes_treeids": [0] * (2 * count + 1),
        "nodes_nodeids": list(range(2 * count + 1)),
        "nodes_featureids": [0] * (2 * count + 1),
        "nodes_values": [float(i) for i in range(count)] + [0.0] * (count + 1),
        "nodes_modes": ["BRANCH_LEQ"] * count + ["LEAF"] * (count + 1),
        "nodes_truenodeids": [*range(count, 2 * count), *[0] * (count + 1)],
        "nodes_falsenodeids": [*range(1, count), 2 * count, *[0] * (count + 1)],
        "target_treeids": [0] * (count + 1),
        "target_nodeids": list(range(count, 2 * count + 1)),
        "target_ids": [0] * (count + 1),
        "target_weights": [float(i) for i in range(count + 1)],
        "n_targets": 1,
    }
    x = np.array([[-1], [0], [17.5], [count - 1], [count], [np.nan]], np.float32)
    proto = model("TreeEnsembleRegressor", [x], [np.float32], attributes)
    (found,) = ours(proto, [x], compiled=True)
    assert found[:, 0].tolist() == [0, 0, 18, count - 1, count, count]


# Linear models and support vectors ----------------------------------------------------------------

X = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)


def _list(count: int, seed: int = 2) -> list[float]:
    found: list[float] = np.random.default_rng(seed).normal(size=count).tolist()
    return found


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("targets", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32])
def test_linear_regressors(post: str, targets: int, dtype: type) -> None:
    attributes = {
        "coefficients": _list(3 * targets),
        "intercepts": _list(targets),
        "targets": targets,
        "post_transform": post,
    }
    same("LinearRegressor", [X.astype(dtype)], attributes)


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize(("rows", "labels"), [(1, 2), (2, 2), (3, 3)])
def test_linear_classifiers(post: str, rows: int, labels: int) -> None:
    attributes = {
        "coefficients": _list(3 * rows),
        "intercepts": _list(rows),
        "classlabels_ints": [4, -2, 9][:labels],
        "post_transform": post,
    }
    same("LinearClassifier", [X], attributes, (np.int64, np.float32))


KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("one_class", [0, 1])
def test_support_vector_regressors(kernel: str, one_class: int) -> None:
    attributes = {
        "kernel_type": kernel,
        "kernel_params": [0.5, 0.25, 3.0],
        "support_vectors": _list(15),
        "coefficients": _list(5),
        "rho": [0.3],
        "n_supports": 5,
        "one_class": one_class,
    }
    same("SVMRegressor", [X], attributes)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("chances", [False, True])
@pytest.mark.parametrize("per_class", [(2, 3), (3, 1, 2), (1, 2, 0, 2)])
def test_support_vector_classifiers(kernel: str, chances: bool, per_class: tuple[int, ...]) -> None:
    classes, vectors = len(per_class), sum(per_class)
    pairs = classes * (classes - 1) // 2
    attributes = {
        "kernel_type": kernel,
        "kernel_params": [0.5, 0.25, 3.0],
        "support_vectors": _list(3 * vectors, 5),
        "coefficients": _list(vectors * (classes - 1), 6),
        "rho": _list(pairs, 7),
        "vectors_per_class": list(per_class),
        "classlabels_ints": [7, 3, -1, 5][:classes],
    }
    if chances:
        attributes["prob_a"] = [-abs(a) for a in _list(pairs, 8)]
        attributes["prob_b"] = _list(pairs, 9)
    same("SVMClassifier", [X], attributes, (np.int64, np.float32), tolerance=1e-4)


def test_linear_support_vector_classifier() -> None:
    attributes = {
        "coefficients": _list(9),
        "rho": [0.25],
        "classlabels_ints": [4, 5, 6],
        "kernel_type": "LINEAR",
        "kernel_params": [0.0, 0.0, 0.0],
    }
    proto = model("SVMClassifier", [X], [np.int64, np.float32], attributes)
    labels, scores = ours(proto, [X], compiled=False)
    np.testing.assert_allclose(scores, theirs(proto, [X])[1], rtol=1e-4, atol=1e-5)
    assert np.array_equal(labels, 4 + np.argmax(scores, axis=1))


# Features -----------------------------------------------------------------------------------------

MIXED = np.array([[1, -2, 3], [0, 0, 0], [-1, -2, -3], [np.nan, 1, 2]], np.float32)
WHOLE = np.array([[1, 2], [3, 7], [-4, 2]], np.int64)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "outputs"),
    [
        ("Scaler", [X], {"scale": [2.0, 3.0, -1.0], "offset": [1.0, 0.5, 0.0]}, np.float32),
        ("Scaler", [X], {"scale": [2.0], "offset": [1.0]}, np.float32),
        ("Scaler", [WHOLE], {"scale": [2.0], "offset": [1.0]}, np.float32),
        ("Normalizer", [MIXED], {"norm": "MAX"}, np.float32),
        ("Normalizer", [MIXED[:2]], {"norm": "L1"}, np.float32),
        ("Normalizer", [MIXED[:2]], {"norm": "L2"}, np.float32),
        ("Normalizer", [MIXED.astype(np.float64)], {"norm": "MAX"}, np.float32),
        ("Normalizer", [WHOLE], {"norm": "L2"}, np.float32),
        ("Binarizer", [X], {"threshold": 0.25}, np.float32),
        (
            "Imputer",
            [MIXED],
            {"imputed_value_floats": [5.0, 6.0, 7.0], "replaced_value_float": float("nan")},
            np.float32,
        ),
        (
            "Imputer",
            [MIXED],
            {"imputed_value_floats": [5.0], "replaced_value_float": -2.0},
            np.float32,
        ),
        ("Imputer", [WHOLE], {"imputed_value_int64s": [5, 6], "replaced_value_int64": 2}, np.int64),
        ("OneHotEncoder", [WHOLE], {"cats_int64s": [1, 2, 3], "zeros": 1}, np.float32),
        (
            "OneHotEncoder",
            [np.array([1.5, 2, 3], np.float32)],
            {"cats_int64s": [1, 2, 3], "zeros": 0},
            np.float32,
        ),
        ("FeatureVectorizer", [X, X[:, :1]], {"inputdimensions": [3, 1]}, np.float32),
        ("FeatureVectorizer", [X, X[:, :1]], {"inputdimensions": [2, 4]}, np.float32),
        ("ArrayFeatureExtractor", [X, np.array([2, 0])], {}, np.float32),
        (
            "LabelEncoder",
            [WHOLE],
            {"keys_int64s": [1, 7, 2, 1], "values_int64s": [10, 70, 20, 11], "default_int64": -5},
            np.int64,
        ),
        ("LabelEncoder", [WHOLE], {"keys_int64s": [1, 7], "values_floats": [0.5, 7.5]}, np.float32),
        ("LabelEncoder", [MIXED], {"keys_floats": [1.0, -2.0], "values_int64s": [4, 5]}, np.int64),
    ],
)
def test_features(op: str, inputs: list[Array], attributes: Attributes, outputs: type) -> None:
    same(op, inputs, attributes, (outputs,), version=2 if op == "LabelEncoder" else 1)


def test_an_unknown_category() -> None:
    proto = model("OneHotEncoder", [WHOLE], [np.float32], {"cats_int64s": [1, 2], "zeros": 0})
    with pytest.raises((ValueError, SofieError), match="categories"):
        ours(proto, [WHOLE], compiled=False)
    with pytest.raises(SofieError, match="categories"):
        ours(proto, [WHOLE], compiled=True)


def test_what_has_strings_is_refused() -> None:
    cases: list[tuple[str, Attributes]] = [
        ("LabelEncoder", {"keys_int64s": [1], "values_strings": ["a"]}),
        ("OneHotEncoder", {"cats_strings": ["a"]}),
        ("CategoryMapper", {"cats_int64s": [1], "cats_strings": ["a"]}),
    ]
    for op, attributes in cases:
        with pytest.raises(UnsupportedOperator, match=f"{op} with strings"):
            read(model(op, [WHOLE], [np.int64], attributes, version=2))


def test_a_map_of_scores_is_the_scores() -> None:
    proto = model("ZipMap", [X], [np.float32], {"classlabels_int64s": [0, 1, 2]}, version=1)
    (found,) = ours(proto, [X], compiled=False)
    assert np.array_equal(found, X)
