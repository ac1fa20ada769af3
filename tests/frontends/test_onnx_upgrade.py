"""Older forms of operators mean what they mean in ONNX's evaluator, or are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from sofie_rdf.errors import (
    GraphError,
    ShapeError,
    SofieError,
    TypeMismatch,
    UnsupportedOperator,
)
from sofie_rdf.frontends.onnx.reader import check, read
from sofie_rdf.frontends.onnx.rules import OnnxNode, rule_for
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array
from sofie_rdf.ir.verify import verify
from sofie_rdf.reference import evaluate
from tests.frontends.models import NEWEST, model, node, value

DOUBLE, BOOL = onnx.TensorProto.DOUBLE, onnx.TensorProto.BOOL


def numbers(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def agrees(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> Graph:
    """The graph, after comparing what it computes with ONNX's evaluator."""
    graph = read(proto)
    verify(graph)
    ours = evaluate(graph, feeds)
    theirs = ReferenceEvaluator(proto).run(None, dict(feeds))
    for name, expected in zip(graph.outputs, theirs, strict=True):
        wanted = np.asarray(expected)
        assert (ours[name].dtype, ours[name].shape) == (wanted.dtype, wanted.shape), name
        np.testing.assert_allclose(ours[name], wanted, rtol=1e-5, atol=1e-6)
    return graph


def typed(name: str, shape: Any, element: int = onnx.TensorProto.FLOAT) -> Any:
    return value(name, shape, element)


def refused(proto: onnx.ModelProto, kind: type[SofieError], *words: str) -> None:
    """`read` raises this for node 'n', and it is all that `check` finds."""
    with pytest.raises(kind) as caught:
        read(proto)
    text = str(caught.value)
    assert [str(p) for p in check(proto)] == [text]
    assert "node 'n'" in text
    assert "makes no sense" not in text, "an accident, not a refusal"
    for word in words:
        assert word in text


# The same node at each form of the operator since the first opset that is read --------------------

FORMS: Mapping[str, tuple[tuple[int, ...], str, Mapping[str, Any]]] = {
    "Add": ((7, 13, 14), "x x", {}),
    "Sub": ((7, 13, 14), "x x", {}),
    "Max": ((8, 12, 13), "x x", {}),
    "Sum": ((8, 13), "x x x", {}),
    "Relu": ((7, 13, 14), "x", {}),
    "LeakyRelu": ((7, 16), "x", {"alpha": 0.25}),
    "Elu": ((7, 22), "x", {"alpha": 0.5}),
    "Selu": ((7, 22), "x", {}),
    "HardSigmoid": ((7, 22), "x", {"alpha": 0.3}),
    "PRelu": ((7, 9, 16), "x p", {}),
    "Gemm": ((7, 9, 11, 13), "x w p", {"alpha": 0.5, "beta": 2.0, "transB": 1}),
    "MatMul": ((7, 9, 13), "x t", {}),
    "Pow": ((7, 12, 13, 15), "q p", {}),
    "Concat": ((7, 11, 13), "x x", {"axis": 1}),
    "Flatten": ((7, 9, 11, 13, 21, 23), "x", {"axis": 1}),
    "Transpose": ((7, 13, 21, 23), "x", {"perm": [1, 0]}),
    "Cast": ((7, 9, 13, 19, 23), "x", {"to": DOUBLE}),
    "Identity": ((7, 13, 14, 16, 19, 21), "x", {}),
    "Where": ((9, 16), "c x p", {}),
    "Clip": ((11, 12, 13), "x lo hi", {}),
    "Reshape": ((7, 13, 14, 19, 21, 23), "x s", {}),
    "Mod": ((10, 13), "q r", {"fmod": 1}),
}
WEIGHTS: Mapping[str, Array] = {
    "w": numbers(4, 3),
    "t": numbers(3, 2),
    "p": np.array([0.5], np.float32),
    "q": np.array([[1.5, 2.5, 3.5]], np.float32),
    "r": np.array([2], np.float32),
    "lo": np.array(-0.5, np.float32),
    "hi": np.array(0.25, np.float32),
    "s": np.array([-1, 1, 3]),
    "c": np.array([True, False, True]),
}


@pytest.mark.parametrize(
    ("name", "opset"), [(n, v) for n, (forms, _, _) in FORMS.items() for v in (*forms, NEWEST)]
)
def test_each_form_of_an_operator(name: str, opset: int) -> None:
    _, inputs, attributes = FORMS[name]
    used = {k: a for k, a in WEIGHTS.items() if k in inputs.split()}
    made = node(name, inputs, "y", "n", **attributes)
    graph = agrees(model([made], {"x": ["N", 3]}, "y", used, opset=opset), {"x": numbers(5, 3)})
    assert [n.op.name for n in graph.nodes] == [name]


# Softmax: before opset 13 the axes from `axis` on were one ----------------------------------------


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [7, 11, 12, 13, NEWEST])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (2, 1, 3, 2)])
def test_a_softmax_without_axis(name: str, opset: int, shape: tuple[int, ...]) -> None:
    """Its default has changed from 1 to -1."""
    proto = model([node(name, "x", "y")], {"x": ["N", *shape[1:]]}, opset=opset)
    x = numbers(*shape)
    found = evaluate(read(proto), {"x": x})["y"]
    rows = x.reshape(shape[0], -1) if opset < 13 else x
    grown = np.exp(rows.astype(np.float64))
    expected = (grown / grown.sum(axis=-1, keepdims=True)).reshape(shape)
    expected = expected if name == "Softmax" else np.log(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", [7, 11, 12])
def test_an_old_softmax_beyond_the_last_axis(opset: int) -> None:
    """Axis = rank is allowed there: each element is alone, and its share is 1."""
    graph = read(model([node("Softmax", "x", "y", axis=2)], {"x": ["N", 3]}, opset=opset))
    np.testing.assert_array_equal(evaluate(graph, {"x": numbers(2, 3)})["y"], np.ones((2, 3)))
    refused(
        model([node("Softmax", "x", "y", "n", axis=3)], {"x": ["N", 3]}, opset=opset), ShapeError
    )
    refused(model([node("Softmax", "x", "y", "n", axis=2)], {"x": ["N", 3]}), ShapeError, "axis 2")


# Reshape ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "wanted", "allowzero"),
    [
        ((2, 3, 4), [0, -1], 0),
        ((2, 3, 4), [0, 0, 2, 2], 0),
        ((2, 3, 4), [-1], 0),
        ((2, 3, 4), [4, 6], 1),
        ((2, 0, 4), [0, 0, 4], 0),
        ((2, 0, 4), [0, 9], 1),
        ((1,), [], 0),
    ],
)
def test_reshape(old: tuple[int, ...], wanted: list[int], allowzero: int) -> None:
    made = node("Reshape", "x s", "y", allowzero=allowzero)
    weights = {"s": np.array(wanted, np.int64)}
    agrees(model([made], {"x": list(old)}, "y", weights), {"x": numbers(*old)})


@pytest.mark.parametrize(
    ("wanted", "allowzero"),
    [([-1, -1], 0), ([5, -1], 0), ([-2, 12], 0), ([2, 3, 4, 0], 0), ([0, -1], 1), ([7], 0)],
)
def test_reshapes_without_meaning(wanted: list[int], allowzero: int) -> None:
    made = node("Reshape", "x s", "y", "n", allowzero=allowzero)
    refused(model([made], {"x": [2, 3, 4]}, "y", {"s": np.array(wanted)}), ShapeError, "Reshape")


# Cast ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [7, 9, 13, 19, NEWEST])
@pytest.mark.parametrize("to", ["float32", "float64", "int32", "int64", "uint8", "bool"])
def test_cast(opset: int, to: str) -> None:
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(to))
    proto = model(
        [node("Cast", "x", "y", to=element)], {"x": [4]}, [typed("y", [4], element)], opset=opset
    )
    agrees(proto, {"x": np.array([0, 0.5, 1.75, 200], np.float32)})


@pytest.mark.parametrize("to", ["STRING", "COMPLEX64", "UNDEFINED"])
def test_casts_to_types_that_no_graph_has(to: str) -> None:
    element = onnx.TensorProto.DataType.Value(to)
    bad = model([node("Cast", "x", "y", "n", to=element)], {"x": [4]}, opset=NEWEST)
    refused(bad, UnsupportedOperator, to.lower())


# Dropout, BatchNormalization, Constant, Clip ------------------------------------------------------


def test_the_mask_of_an_old_dropout_can_be_multiplied() -> None:
    """It had the element type of x before opset 10, and is a bool since."""
    nodes = [node("Dropout", "x", "d m"), node("Mul", "d m", "y", "n")]
    x = numbers(2, 3)
    for opset in (7, 8, 9):
        graph = read(model(nodes, {"x": ["N", 3]}, "y m", opset=opset))
        verify(graph)
        found = evaluate(graph, {"x": x})
        np.testing.assert_array_equal(found["y"], x)
        assert found["m"].dtype == np.float32
        assert found["m"].all()
    refused(model(nodes, {"x": ["N", 3]}, opset=10), TypeMismatch, "bool and float32")


@pytest.mark.parametrize("ratio", ["-", "r"])
def test_a_training_mode_that_is_computed(ratio: str) -> None:
    inputs = [typed("x", [3]), typed("r", []), typed("t", [], BOOL)]
    graph = read(model([node("Dropout", f"x {ratio} t", "y", "n")], inputs))
    x, r = numbers(3), np.array(0.5, np.float32)
    idle = evaluate(graph, {"x": x, "r": r, "t": np.array(False)})["y"]
    np.testing.assert_array_equal(idle, x)
    busy = evaluate(graph, {"x": x, "r": r, "t": np.array(True)})["y"]
    assert set(busy) <= {0.0, *(2 * x)}


@pytest.mark.parametrize("flags", [[False], [True], [False, True]])
def test_a_training_mode_that_is_a_list(flags: list[bool]) -> None:
    """One element is one answer; more of them are none."""
    proto = model([node("Dropout", "x - t", "y", "n")], {"x": [3]}, "y", {"t": np.array(flags)})
    if len(flags) > 1:
        refused(proto, ShapeError, "one answer to whether to train")
        return
    assert [n.op.name for n in read(proto).nodes] == ["RandomDropout" if flags[0] else "Dropout"]


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 14, NEWEST])
def test_batch_normalization_with_the_outputs_of_a_training(opset: int) -> None:
    outputs = "y mean var" if opset >= 14 else "y mean var saved_mean saved_var"
    bn = node("BatchNormalization", "x w w w w", outputs, "n")
    weights = {"w": numbers(3)}
    with pytest.raises(SofieError, match="outputs"):
        read(model([bn], {"x": ["N", 3]}, "y mean", weights, opset=opset))
    # Names that are empty stand for outputs that are not wanted.
    bn = node("BatchNormalization", "x w w w w", "y - -", "n")
    assert read(model([bn], {"x": ["N", 3]}, "y", weights, opset=opset)).outputs == ("y",)


@pytest.mark.parametrize("opset", [7, 8, 9, 14, 15])
def test_batch_normalization_is_that_of_onnxruntime(opset: int) -> None:
    """ONNX's own evaluator takes the forms before 14 for those of a training."""
    ort = pytest.importorskip("onnxruntime")
    weights = {k: np.abs(numbers(3)) + n for n, k in enumerate("sbmv")}
    bn = node("BatchNormalization", "x s b m v", "y", epsilon=0.125, momentum=0.5)
    proto = model([bn], {"x": ["N", 3, 2]}, "y", weights, opset=opset)
    x = numbers(4, 3, 2)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    found = evaluate(read(proto), {"x": x})["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_names_that_older_forms_make_up_are_free() -> None:
    """The bounds of an old Clip become constants, whose names a later node may have as well."""
    names = ["constant", "constant_", "constant_2", "dropout", "truelike"]
    nodes = [node("Clip", "x", "a", min=-1.0, max=1.0), node("Dropout", "a", "d")]
    nodes += [node("Neg", "d", name) for name in names]
    graph = read(model(nodes, {"x": [3]}, " ".join(names), opset=7))
    verify(graph)
    x = np.array([-2, 0.5, 2], np.float32)
    for found in evaluate(graph, {"x": x}).values():
        np.testing.assert_array_equal(found, [1, -0.5, -1])


@pytest.mark.parametrize("element", [np.float32, np.float64])
def test_the_bounds_of_an_old_clip_have_the_type_of_x(element: Any) -> None:
    tensor = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(element))
    proto = model(
        [node("Clip", "x", "y", min=-0.5, max=0.75)],
        [typed("x", [3], tensor)],
        [typed("y", [3], tensor)],
        opset=7,
    )
    agrees(proto, {"x": np.array([-2, 0.5, 2], element)})


@pytest.mark.parametrize(
    ("bad", "kind", "word"),
    [
        (node("Constant", "", "y", "n"), GraphError, "one value"),
        (node("Constant", "", "y", "n", value=1), GraphError, "'value'"),
        (node("Constant", "", "y", "n", value_int=1, value_float=1.0), GraphError, "one value"),
        (node("Constant", "", "y", "n", value_int=1.5), GraphError, "'value_int'"),
        (node("Constant", "", "y", "n", value_floats=1.5), GraphError, "'value_floats'"),
        (node("Constant", "", "y", "n", valeu=1), UnsupportedOperator, "'value'"),
        (node("Dropout", "x x x x", "y", "n"), GraphError, "inputs"),
        (node("Dropout", "x", "y a b", "n"), GraphError, "outputs"),
        (node("Clip", "x", "y z", "n"), GraphError, "outputs"),
        (node("LogSoftmax", "", "y", "n"), GraphError, "inputs"),
        (node("Softmax", "x", "y", "n", axis=[1]), GraphError, "'axis'"),
        (
            node("BatchNormalization", "x w w w w", "y", "n", eps=1.0),
            UnsupportedOperator,
            "'epsilon'",
        ),
        (node("BatchNormalization", "x w w w -", "y", "n"), GraphError, "inputs"),
    ],
)
def test_old_forms_that_are_wrong(bad: Any, kind: type[SofieError], word: str) -> None:
    proto = model([bad], {"x": ["N", 3]}, "y", {"w": numbers(3)}, opset=8)
    refused(proto, kind, bad.op_type, word)


def test_rules_end_where_the_new_form_begins() -> None:
    def has_rule(name: str, version: int, domain: str = "") -> bool:
        return rule_for(OnnxNode("", domain, name, version, ("x",), ("y",), {})) is not None

    for name, below in {
        "Clip": 11,
        "Softmax": 13,
        "LogSoftmax": 13,
    }.items():
        assert has_rule(name, below - 1)
        assert not has_rule(name, below)
        assert not has_rule(name, below - 1, "com.example")
    for name in ("Constant", "Dropout"):
        assert has_rule(name, NEWEST)
    assert not has_rule("Relu", 7)


@pytest.mark.parametrize("directions", [None, [0, 0], [0, 1]])
def test_a_scan_of_opset_8_is_one_for_each_event(directions: list[int] | None) -> None:
    """h[t] = h[t-1] + a[t] * b[t], with all h[t] beside the last one."""
    inner = [node("Mul", "a b", "p"), node("Add", "h p", "next"), node("Identity", "next", "all")]
    values = [typed(n, [2]) for n in ("h", "a", "b")]
    body = onnx.helper.make_graph(inner, "body", values, [typed(n, [2]) for n in ("next", "all")])
    given: dict[str, Any] = {} if directions is None else {"directions": directions}
    scan = node("Scan", "- s x y", "last every", "n", body=body, num_scan_inputs=2, **given)
    inputs = {"s": ["N", 2], "x": ["N", "T", 2], "y": ["N", "T", 2]}
    s, x, y = numbers(3, 2), numbers(3, 5, 2), numbers(5, 3, 2).reshape(3, 5, 2)
    found = evaluate(read(model([scan], inputs, "last every", opset=8)), {"s": s, "x": x, "y": y})
    backward = bool(directions and directions[1])
    every = s[:, None] + np.cumsum(x * (y[:, ::-1] if backward else y), axis=1)
    np.testing.assert_allclose(found["every"], every, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["last"], every[:, -1], rtol=1e-6, atol=1e-6)
    scan.input[0] = "x"
    refused(model([scan], inputs, "last every", opset=8), UnsupportedOperator, "length")
