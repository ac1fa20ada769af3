"""Files of trees that are truncated, damaged or malicious: errors of ours, and soon."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sofie_rdf as sofie
from sofie_rdf.errors import CorruptFile, SofieError, UnsupportedFormat, UnsupportedOperator
from sofie_rdf.frontends import recognise
from sofie_rdf.frontends.trees import lightgbm as lightgbm_frontend
from sofie_rdf.frontends.trees import ubjson
from sofie_rdf.frontends.trees import xgboost as xgboost_frontend
from sofie_rdf.frontends.trees.xgboost import read

# A tree: x0 < 1 ? (x1 is one of {2, 3} ? -2 : 4) : 8.
TREE: dict[str, Any] = {
    "categories": [2, 3],
    "categories_nodes": [1],
    "categories_segments": [0],
    "categories_sizes": [2],
    "default_left": [1, 0, 0, 0, 0],
    "left_children": [1, 3, -1, -1, -1],
    "right_children": [2, 4, -1, -1, -1],
    "split_conditions": [1.0, 0.0, 8.0, 4.0, -2.0],
    "split_indices": [0, 1, 0, 0, 0],
    "split_type": [0, 1, 0, 0, 0],
    "tree_param": {"num_nodes": "5", "size_leaf_vector": "1"},
}


def document() -> dict[str, Any]:
    model = {
        "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": "2"},
        "iteration_indptr": [0, 1, 2],
        "tree_info": [0, 0],
        "trees": [copy.deepcopy(TREE), copy.deepcopy(TREE)],
    }
    return {
        "learner": {
            "attributes": {},
            "feature_names": ["a", "b"],
            "gradient_booster": {"model": model, "name": "gbtree"},
            "learner_model_param": {
                "base_score": "[5E-1]",
                "num_class": "0",
                "num_feature": "2",
                "num_target": "1",
            },
            "objective": {"name": "reg:squarederror"},
        },
        "version": [3, 2, 0],
    }


def written(value: Any) -> bytes:
    """UBJSON, as XGBoost writes it."""

    def text(t: str) -> bytes:
        return b"L" + struct.pack(">q", len(t)) + t.encode()

    if isinstance(value, dict):
        return b"{" + b"".join(text(k) + written(v) for k, v in value.items()) + b"}"
    if isinstance(value, str):
        return b"S" + text(value)
    if isinstance(value, list) and value and all(isinstance(v, float) for v in value):
        return b"[$d#L" + struct.pack(">q", len(value)) + np.array(value, ">f4").tobytes()
    if isinstance(value, list):
        return b"[#L" + struct.pack(">q", len(value)) + b"".join(map(written, value))
    return b"l" + struct.pack(">i", value)


def test_the_undamaged_file() -> None:
    x = np.array([[0, 2.9], [0, 4], [1, 2], [np.nan, np.nan], [-np.inf, -0.5]], np.float32)
    wanted = 0.5 + 2 * np.array([[-2], [4], [8], [-2], [4]])
    for content in (json.dumps(document()).encode(), written(document())):
        model = sofie.from_xgboost(content)
        assert np.array_equal(model(x), wanted.astype(np.float32))


def test_files_of_older_versions() -> None:
    """No list of rounds, one base score, and leaves of several numbers among those of all nodes."""
    whole = document()
    learner = whole["learner"]
    learner["learner_model_param"] |= {"base_score": "5E-1", "num_target": "2"}
    del whole["version"], learner["attributes"], learner["feature_names"]
    model = learner["gradient_booster"]["model"]
    del model["iteration_indptr"]
    model["gbtree_model_param"]["num_parallel_tree"] = "0"
    for tree in model["trees"]:
        tree["tree_param"]["size_leaf_vector"] = "2"
        tree["base_weights"] = [*[99.0] * 4, *[float(n) for n in range(6)]]
    x = np.array([[1, 2], [0, 4], [0, 3]], np.float32)
    found = sofie.from_xgboost(json.dumps(whole).encode())(x)
    assert found.tolist() == [[0.5, 2.5], [4.5, 6.5], [8.5, 10.5]]


@pytest.mark.parametrize("source", [5, None, object(), [1, 2]])
def test_what_is_no_model_at_all(source: Any) -> None:
    with pytest.raises(sofie.InputError, match="its bytes, or a booster, not"):
        sofie.from_xgboost(source)
    with pytest.raises(sofie.InputError, match="its bytes, or a booster, not"):
        sofie.from_lightgbm(source)


def test_models_that_are_not_fitted() -> None:
    xgboost = pytest.importorskip("xgboost", reason="it has such models")
    lightgbm = pytest.importorskip("lightgbm", reason="it has such models")
    with pytest.raises(sofie.ModelError, match="fit"):
        sofie.from_xgboost(xgboost.XGBClassifier())
    with pytest.raises(sofie.ModelError, match="fit"):
        sofie.from_lightgbm(lightgbm.LGBMClassifier())


Change = Callable[[dict[str, Any], dict[str, Any]], Any]
CHANGES: dict[str, tuple[Change, str]] = {
    "circle": (lambda _, t: t["left_children"].__setitem__(1, 0), "circle"),
    "shared": (lambda _, t: t["left_children"].__setitem__(1, 2), "two ways"),
    "outside": (lambda _, t: t["right_children"].__setitem__(0, 5), "child that does not exist"),
    "one child": (lambda _, t: t["right_children"].__setitem__(0, -1), "one child"),
    "short": (lambda _, t: t["right_children"].pop(), "has 4 numbers in 'right_children', not 5"),
    "nodes": (lambda _, t: t["tree_param"].update(num_nodes="6"), "another number of nodes"),
    "empty": (lambda _, t: [t[k].clear() for k in t if isinstance(t[k], list)], "number of nodes"),
    "feature": (lambda _, t: t["split_indices"].__setitem__(0, 2), "none of the 2"),
    "negative": (lambda _, t: t["split_indices"].__setitem__(0, -1), "none of the 2"),
    "nan": (lambda _, t: t["split_conditions"].__setitem__(0, float("nan")), "threshold .* NaN"),
    "leaf": (lambda _, t: t["split_conditions"].__setitem__(2, float("inf")), "not finite"),
    "kind": (lambda _, t: t["split_type"].__setitem__(0, 2), "kind of split"),
    "words": (lambda _, t: t.update(split_conditions=["a"] * 5), "no numbers"),
    "ragged": (lambda _, t: t.update(split_indices=[[0], 1, 0, 0, 0]), "no numbers"),
    "set": (lambda _, t: t["categories_sizes"].__setitem__(0, 3), "without its categories"),
    "sets": (lambda _, t: t["categories_nodes"].__setitem__(0, 2), "without its categories"),
    "category": (lambda _, t: t["categories"].__setitem__(0, -1), "category that cannot be"),
    "absent": (lambda _, t: t.pop("default_left"), "lacks 'default_left'"),
    "vector": (lambda _, t: t["tree_param"].update(size_leaf_vector="3"), "numbers"),
    "number": (lambda m, _: m.__setitem__("tree_info", [0, 7]), "output that does not exist"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("form", ["json", "ubj"])
def test_a_tree_that_cannot_be(change: str, form: str) -> None:
    """Errors say which tree it is; `check` finds all of them."""
    damage, reason = CHANGES[change]
    whole = document()
    model = whole["learner"]["gradient_booster"]["model"]
    damage(model, model["trees"][1])
    content = json.dumps(whole).encode() if form == "json" else written(whole)
    with pytest.raises(CorruptFile, match=f"tree 1: .*{reason}"):
        read(content)
    damage(model, model["trees"][0])
    content = json.dumps(whole).encode()
    if change not in ("number", "circle", "shared"):
        assert len(xgboost_frontend.check(content)) == 2


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("learner", "learner_model_param", "num_feature"), "99999999999", "number that can be"),
        (("learner", "learner_model_param", "num_feature"), "3", "2 names for 3 features"),
        (("learner", "learner_model_param", "num_class"), "x", "no number"),
        (("learner", "learner_model_param", "num_class"), "2000000000", "number that can be"),
        (("learner", "learner_model_param", "num_target"), float("inf"), "no number"),
        (("learner", "learner_model_param", "base_score"), "[1,2]", "base score"),
        (("learner", "learner_model_param", "base_score"), "nan", "base score"),
        (("learner", "objective", "name"), 5, "no text"),
        (("learner", "gradient_booster"), [], "no object"),
        (("learner", "gradient_booster", "model", "trees"), 3, "no list"),
        (("learner", "gradient_booster", "model", "trees"), [1, 2], "tree 0: is no object"),
        (("learner", "gradient_booster", "model", "iteration_indptr"), [0, 1, 3], "rounds"),
        (("learner", "gradient_booster", "model", "tree_info"), [0.5, 1], "no numbers"),
    ],
)
def test_a_document_that_cannot_be(path: tuple[str, ...], value: Any, reason: str) -> None:
    whole = document()
    part = whole
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(CorruptFile, match=reason):
        read(json.dumps(whole).encode())


def test_what_is_not_supported_is_named() -> None:
    whole = document()
    whole["learner"]["objective"]["name"] = "reg:squarederrors"
    whole["learner"]["gradient_booster"]["model"]["trees"][1]["split_indices"][0] = 9
    content = json.dumps(whole).encode()
    with pytest.raises(UnsupportedOperator, match=r"'reg:squarederrors'.*'reg:squarederror'"):
        read(content)
    assert len(xgboost_frontend.check(content)) == 2
    whole = document()
    whole["learner"]["gradient_booster"]["name"] = "gbforest"
    with pytest.raises(UnsupportedOperator, match="gbforest"):
        read(json.dumps(whole).encode())


def test_the_old_binary_format(tmp_path: Path) -> None:
    path = tmp_path / "old.model"
    path.write_bytes(b"binf" + bytes(300))
    assert recognise(path) == "xgboost"
    with pytest.raises(UnsupportedFormat, match=r"old\.model: .* save it as \.ubj or \.json"):
        sofie.load(path)
    assert len(sofie.check(path)) == 1


@given(st.data())
def test_damaged_bytes(data: st.DataObject) -> None:
    """Cut or changed anywhere: an error of ours, or another model."""
    whole = written(document()) if data.draw(st.booleans()) else json.dumps(document()).encode()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), whole[:cut]):
        with suppress(SofieError):
            read(damaged)
            assert damaged != whole[:cut] or cut == len(whole)


@pytest.mark.parametrize(
    "content",
    [
        b"[$d#L" + struct.pack(">q", 2**62) + bytes(8),
        b"[#L" + struct.pack(">q", 2**40),
        b"[#L" + struct.pack(">q", -1),
        b"[$Z#L" + struct.pack(">q", 2**40),
        b"[$d" + bytes(8),
        b"SL" + struct.pack(">q", 2**40) + b"abc",
        b"{#L" + struct.pack(">q", 2**40),
        b"{$Z#l" + struct.pack(">i", 2**30),
        b"[" * 100_000,
        b"{i\x01a" * 100_000,
        b"SU\x02\xff\xfe",
        b"x",
        b"",
        b"[]]",
    ],
    ids=range(14),
)
def test_malicious_ubjson(content: bytes) -> None:
    with pytest.raises(CorruptFile):
        ubjson.parse(content)


def test_deep_json_is_refused() -> None:
    with pytest.raises(CorruptFile):
        read(b'{"learner":' + b"[" * 200_000)


def test_other_ubjson() -> None:
    """What XGBoost does not write, but may."""
    content = (
        b"{U\x01a[$U#U\x03\x01\x02\x03U\x01b[TFZCxNi\xff]U\x01c{#U\x01U\x01dD" + bytes(8) + b"}"
    )
    found = ubjson.parse(content)
    assert found["a"].tolist() == [1, 2, 3]
    assert found["b"] == [True, False, None, "x", -1]
    assert found["c"] == {"d": 0}


# LightGBM -----------------------------------------------------------------------------------------

TEXT = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=regression
feature_names=a b
feature_infos=none none
tree_sizes=300

Tree=0
num_leaves=3
num_cat=1
split_feature=0 1
threshold=1 0
decision_type=10 1
left_child=1 -1
right_child=-3 -2
leaf_value=4 -2 8
cat_boundaries=0 1
cat_threshold=12
is_linear=0
shrinkage=1


end of trees

parameters:
end of parameters
"""


def test_the_undamaged_text() -> None:
    x = np.array([[1, 2.9], [0, 4], [2, 2], [np.nan, 3], [0, np.nan]], np.float32)
    wanted = np.array([[4], [-2], [8], [4], [-2]], np.float32)
    assert np.array_equal(sofie.from_lightgbm(TEXT.encode())(x), wanted)
    windows = TEXT.replace("\n", "\r\n").encode()
    assert np.array_equal(sofie.from_lightgbm(windows)(x), wanted)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("left_child=1 -1", "left_child=0 -1", "tree 0: .*circle"),
        ("left_child=1 -1", "left_child=1 -3", "tree 0: .*two ways"),
        ("left_child=1 -1", "left_child=1 -4", "tree 0: .*child"),
        ("left_child=1 -1", "left_child=2 -1", "tree 0: .*child"),
        ("left_child=1 -1", "left_child=1", "tree 0: has 1 numbers in 'left_child', not 2"),
        ("left_child=1 -1", "", "tree 0: lacks 'left_child'"),
        ("split_feature=0 1", "split_feature=0 2", "none of the 2"),
        ("split_feature=0 1", "split_feature=0 99999999999999999999999", "no numbers"),
        ("threshold=1 0", "threshold=nan 0", "threshold that is NaN"),
        ("threshold=1 0", "threshold=1 1", "categories that do not exist"),
        ("threshold=1 0", "threshold=1 0.5", "categories that do not exist"),
        ("threshold=1 0", "threshold=x 0", "no numbers"),
        ("decision_type=10 1", "decision_type=99 1", "decision_type"),
        ("leaf_value=4 -2 8", "leaf_value=4 -2 inf", "not finite"),
        ("cat_boundaries=0 1", "cat_boundaries=0 2", "cat_threshold"),
        ("cat_boundaries=0 1", "cat_boundaries=1 1", "categories"),
        ("cat_threshold=12", "cat_threshold=-12", "categories"),
        ("num_leaves=3", "num_leaves=999999999999", "num_leaves"),
        ("num_leaves=3", "num_leaves=0", "no leaves"),
        ("num_leaves=3", "num_leaves=²", "num_leaves"),
        ("max_feature_idx=1", "max_feature_idx=-1", "max_feature_idx"),
        ("max_feature_idx=1", "max_feature_idx=99999999", "max_feature_idx"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=2", "1 trees for 2 outputs"),
        ("tree_sizes=300", "tree_sizes=300 300", "has 1 trees, not 2"),
        ("end of trees", "", "truncated"),
        ("feature_names=a b", "feature_names=a", "1 names for 2 features"),
        ("objective=regression", "objective=binary sigmoid:x", "sigmoid"),
    ],
)
def test_a_text_that_cannot_be(old: str, new: str, reason: str) -> None:
    assert old in TEXT
    content = TEXT.replace(old, new).encode()
    with pytest.raises(CorruptFile, match=reason):
        lightgbm_frontend.read(content)
    assert len(lightgbm_frontend.check(content)) >= 1


@pytest.mark.parametrize("objective", ["regresion", "regression cube", "binary sigmund:1"])
def test_unknown_objectives_are_named(objective: str) -> None:
    content = TEXT.replace("objective=regression", f"objective={objective}").encode()
    word = objective.split()[-1].split(":")[0]
    with pytest.raises(UnsupportedOperator, match=word):
        lightgbm_frontend.read(content)


@given(st.data())
def test_damaged_texts(data: st.DataObject) -> None:
    content = bytearray(TEXT.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.sampled_from([*b"0123456789.-e \n=", 0, 255]))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), TEXT.encode()[:cut]):
        with suppress(SofieError):
            lightgbm_frontend.read(damaged)
