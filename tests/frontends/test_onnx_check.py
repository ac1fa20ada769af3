"""`check` lists all that a model needs and that is not there, at once, wherever it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import sofie_rdf as sofie
from sofie_rdf.errors import SofieError, UnsupportedOperator
from sofie_rdf.frontends.onnx.reader import check, read
from sofie_rdf.reference import evaluate
from tests.frontends.models import initializer, model, node, value

X = value("x", ["N", 3])
CONDITION = value("c", [], TensorProto.BOOL)
TRIPS = value("m", [], TensorProto.INT64)


def body(nodes: Sequence[Any], outputs: str, inputs: Sequence[Any] = ()) -> onnx.GraphProto:
    results = [value(o, None) for o in outputs.split()]
    return helper.make_graph(list(nodes), "body", list(inputs), results)


def found(proto: onnx.ModelProto) -> list[str]:
    """The problems, as text; the first of them is what `read` raises."""
    problems = check(proto)
    with pytest.raises(SofieError) as caught:
        read(proto)
    assert str(caught.value) in [str(p) for p in problems]
    return [str(p) for p in problems]


def each_is_there(problems: list[str], *words: str) -> None:
    """There is one problem for each of these words, and none else."""
    for word in words:
        assert sum(word in p for p in problems) == 1, (word, problems)
    assert len(problems) == len(words), problems


def test_both_branches_of_an_if() -> None:
    """Their values may have the same names: what is broken in one is not in the other."""
    one = [node("Foo", "x", "r", "t1"), node("Relu", "r", "z"), node("Bar", "z", "y", "t3")]
    other = [
        node("Neg", "x", "r", "e1"),
        node("Elu", "r", "z", "e2", alhpa=1.0),
        node("Softmax", "r", "y", "e3", axis=5),
    ]
    branches = {"then_branch": body(one, "y"), "else_branch": body(other, "y")}
    nodes = [node("If", "c", "y", "if", **branches), node("Qux", "y", "w", "n")]
    nodes.append(node("Softmax", "w", "v", "last", axes=1))
    problems = found(model(nodes, [X, CONDITION], "v"))
    each_is_there(problems, "'t1'", "'t3'", "'e2'", "'e3'", "'n'", "'last'")


def test_branches_behind_something_broken() -> None:
    inner = node(
        "If",
        "c",
        "y",
        "inner",
        then_branch=body([node("Bar", "b", "y", "t")], "y"),
        else_branch=body([node("MatMul", "x w", "y", "e")], "y"),
    )
    nodes = [node("Foo", "x", "b", "foo"), inner]
    weights = [initializer("w", np.zeros((4, 5)))]
    each_is_there(found(model(nodes, [X, CONDITION], "y", weights)), "'foo'", "'t'", "'e'")


def test_bodies_of_loops_and_scans() -> None:
    nodes = [
        node("Foo", "v", "v1", "l1"),
        node("Identity", "k", "k1"),
        node("Bar", "x", "q", "l2"),
    ]
    inputs = [value("i", [], TensorProto.INT64), value("k", [], TensorProto.BOOL)]
    loop = body(nodes, "k1 v1 q", [*inputs, value("v", ["N", 3])])
    proto = model([node("Loop", "m - x", "a b", "loop", body=loop)], [X, TRIPS], "a")
    each_is_there(found(proto), "'l1'", "'l2'")
    nodes = [node("Foo", "s e", "s1", "s1n"), node("Bar", "s e", "o", "s2")]
    scan = body(nodes, "s1 o", [value("s", [3]), value("e", [3])])
    nodes = [node("Scan", "i x", "a y", "scan", body=scan, num_scan_inputs=1)]
    each_is_there(found(model(nodes, [X, value("i", [3])], "y")), "'s1n'", "'s2'")


def test_graphs_in_graphs() -> None:
    deep = node(
        "If",
        "c",
        "z",
        then_branch=body([node("Foo", "x", "y", "deep")], "y"),
        else_branch=body([node("Identity", "x", "y")], "y"),
    )
    outer = node(
        "If",
        "c",
        "y",
        then_branch=body([deep], "z"),
        else_branch=body([node("Bar", "x", "z", "flat")], "z"),
    )
    each_is_there(found(model([outer], [X, CONDITION])), "'deep'", "'flat'")


def test_functions_of_the_model() -> None:
    proto = model([node("Fun", "x", "y", "call", domain="mine")], [X], domains={"mine": 1})
    nodes = [
        node("Foo", "a", "q", "f1"),
        node("Elu", "q", "b", "f2", alhpa=1.0),
        node("Weird", "a", "z", "f3", domain="theirs"),
    ]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("theirs", 1)]
    proto.functions.append(helper.make_function("mine", "Fun", ["a"], ["b"], nodes, opsets))
    each_is_there(found(proto), "operator Foo", "'alhpa'", "operator theirs.Weird")


def test_behind_an_operator_that_is_not_there() -> None:
    """Where the file says what it gives, the nodes behind it are checked as well."""
    nodes = [
        node("Foo", "x", "a", "foo"),
        node("Softmax", "a", "b", "sm", axis=7),
        node("MatMul", "a w", "y", "mm"),
    ]
    proto = model(nodes, [X], "y", [initializer("w", np.zeros((4, 5)))])
    each_is_there(found(proto), "'foo'")
    proto.graph.value_info.append(value("a", ["N", 3]))
    each_is_there(found(proto), "'foo'", "'sm'", "'mm'")
    # A size that nothing else has may be any: it is not guessed.
    proto.graph.value_info[0].CopyFrom(value("a", ["unk__7", 3]))
    each_is_there(found(proto), "'foo'")


def test_weights_of_all_kinds() -> None:
    cut = initializer("cut", np.ones(4))
    cut.raw_data = cut.raw_data[:7]
    weights = [
        helper.make_tensor("text", TensorProto.STRING, [2], ["a", "b"]),
        initializer("nan", [np.nan]),
        cut,
    ]
    nodes = [
        node("Add", "x nan", "a"),
        node("Foo", "a", "b", "n1"),
        node("StringNormalizer", "text", "t", "n2"),
        node("Mul", "x cut", "y"),
    ]
    problems = found(model(nodes, [X], "y", weights))
    each_is_there(problems, "'text'", "'nan'", "'cut'", "operator Foo", "StringNormalizer")
    assert "Encode texts" in problems[0]
    assert "before the network" in next(p for p in problems if "StringNormalizer" in p)


def test_the_opset_is_one_problem_among_others() -> None:
    proto = model([node("Foo", "x", "y")], [X], opset=99)
    each_is_there(found(proto), "opset 99", "operator Foo")
    proto = model([node("Foo", "x", "y")], [X])
    del proto.opset_import[:]
    each_is_there(found(proto), "which opset", "operator Foo")


def test_inputs() -> None:
    inputs = [value("a", None), value("b", ["N"], TensorProto.STRING), value("c", [3])]
    nodes = [node("Add", "a b", "y"), node("Foo", "c", "z")]
    each_is_there(found(model(nodes, inputs, "y z")), "shapes={'a'", "'b'", "operator Foo")


def test_values_that_nothing_computes() -> None:
    nodes = [
        node("Add", "p q", "y", "n1"),
        node("Relu", "v", "u", "n2"),
        node("Relu", "u", "v", "n3"),
        node("", "x", "g", "n4"),
    ]
    problems = found(model(nodes, [X], "y w"))
    each_is_there(problems, "'p'", "'q'", "'n2', 'n3'", "which operator", "'w'")


def test_operators_of_others_say_what_to_do() -> None:
    nodes = [
        node("Inverse", "x", "y", domain="com.microsoft"),
        node("Own", "x", "z", domain="physics"),
        node("QLinearReduceMean", "x x x x x", "q", domain="com.microsoft"),
        node("DynamicQuantizeGRU", "x x x", "d", domain="com.microsoft"),
        node("Conv", "x x", "c", domain="com.microsoft.nchwc"),
    ]
    domains = {"com.microsoft": 1, "com.microsoft.nchwc": 1, "physics": 1}
    fused, own, quantized, dynamic, blocked = found(model(nodes, [X], "y", domains=domains))
    assert "ORT_ENABLE_EXTENDED" in blocked
    assert "leave that layer as it was, with op_types_to_quantize" in dynamic
    assert "quantize the model with quant_format=QuantFormat.QDQ" in quantized
    assert "optimizations" not in quantized
    assert "export the model without onnxruntime's optimizations" in fused
    assert "@sofie_rdf.operator(domain='physics')" in own
    assert "'sofie_rdf.operators'" in own


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]], ids=["flat", "by axis"])
def test_sparse_weights(indices: list[Any]) -> None:
    values, places = initializer("w", [2.0, -3.0]), initializer("i", indices, np.int64)
    sparse = helper.make_sparse_tensor(values, places, [2, 3])
    expected = np.array([[0, 2, 0], [0, 0, -3]], np.float32)
    proto = model([node("Add", "x w", "y")], {"x": [2, 3]})
    proto.graph.sparse_initializer.append(sparse)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(evaluate(read(proto), {"x": x})["y"], x + expected)
    constant = node("Constant", "", "w", sparse_value=sparse)
    proto = model([constant, node("Add", "x w", "y")], {"x": [2, 3]})
    np.testing.assert_array_equal(evaluate(read(proto), {"x": x})["y"], x + expected)
    for wrong in (initializer("i", np.add(indices, 10), np.int64), initializer("i", [0], np.int64)):
        bad = helper.make_sparse_tensor(values, wrong, [2, 3])
        proto = model([node("Add", "x w", "y")], {"x": [2, 3]})
        proto.graph.sparse_initializer.append(bad)
        each_is_there(found(proto), "sparse weight 'w'")


def test_what_cannot_be_compiled_is_a_problem_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from sofie_rdf.ops.elementwise import Neg

    def lower(*_: object) -> object:
        raise KeyError("no kernel")

    monkeypatch.setattr(Neg, "lower", lower)
    (problem,) = sofie.check(model([node("Neg", "x", "y")], [X]))
    assert "no kernel" in str(problem) and "bug" in str(problem)


def test_all_models_of_a_root_file_and_all_their_operators(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sofie_rdf.ir.operator import REGISTRY

    path = tmp_path / "models.root"
    one = model([node("Selu", "x", "a"), node("Mish", "a", "y")], [X])
    two = model([node("Abs", "x", "a"), node("Selu", "a", "y")], [X])
    for name, proto in (("one", one), ("two", two)):
        sofie.from_onnx(proto, name=name).save(path)
    assert sofie.check(path) == []
    for name in ("Selu", "Mish"):
        monkeypatch.delitem(REGISTRY, ("", name))
    first, second = sofie.check(path)
    assert isinstance(first, UnsupportedOperator)
    assert "'one'" in str(first) and "Selu" in str(first) and "Mish" in str(first)
    assert "'two'" in str(second) and "Selu" in str(second) and "Mish" not in str(second)
