"""The ONNX frontend: what older and odd files mean, and how each kind of wrong file is refused."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sofie_rdf import Model
from sofie_rdf.errors import (
    CorruptFile,
    GraphError,
    InputError,
    ShapeError,
    SofieError,
    TypeMismatch,
    UnsupportedFormat,
    UnsupportedOperator,
)
from sofie_rdf.frontends.onnx.reader import check, read
from sofie_rdf.frontends.onnx.values import construct
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import family
from sofie_rdf.ir.types import Array
from sofie_rdf.ir.verify import verify
from sofie_rdf.ops.elementwise import Add, Cast, Clip, Elu, Relu
from sofie_rdf.ops.layout import Reshape, Transpose, Unsqueeze
from sofie_rdf.reference import evaluate
from tests.frontends.models import (
    FLOAT,
    NEWEST,
    initializer,
    model,
    node,
    numbers,
    refuse,
    value,
)

HIGGS = Path(__file__).resolve().parents[2] / "data" / "higgs.onnx"


def agrees(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> Graph:
    """The graph, after comparing what it computes with ONNX's evaluator."""
    graph = read(proto)
    verify(graph)
    ours = evaluate(graph, feeds)
    theirs = ReferenceEvaluator(proto).run(None, dict(feeds))
    for name, expected in zip(graph.outputs, theirs, strict=True):
        assert ours[name].dtype == np.asarray(expected).dtype
        assert ours[name].shape == np.asarray(expected).shape
        np.testing.assert_allclose(ours[name], expected, rtol=1e-5, atol=1e-6)
    return graph


def operators(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


# Old and new opsets -------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", range(7, NEWEST + 1))
def test_every_opset_is_read(opset: int) -> None:
    """Those that ONNX's own evaluator knows; older ones have a file of tests of their own."""
    nodes = [node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("Softmax", "r", "y", axis=1)]
    weights = {"w": numbers(3, 4), "b": numbers(4)}
    graph = agrees(model(nodes, {"x": ["N", 3]}, "y", weights, opset=opset), {"x": numbers(5, 3)})
    assert f"ai.onnx {opset}" in graph.provenance["opset"]


@pytest.mark.parametrize(
    ("low", "high"), [(-0.5, 0.5), (None, 0.25), (0.0, None), (None, None), (0.5, -0.5)]
)
@pytest.mark.parametrize("opset", [7, 10, 11, 12, 13, NEWEST])
def test_clip_with_bounds_as_attributes_and_as_inputs(
    opset: int, low: float | None, high: float | None
) -> None:
    given = {"min": low, "max": high}
    known: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    if opset < 11:
        proto = model([node("Clip", "x", "y", **known)], {"x": ["N", 4]}, opset=opset)
    else:
        names = [k if k in known else "-" for k in given]
        weights = {k: np.array(v, np.float32) for k, v in known.items()}
        proto = model(
            [node("Clip", " ".join(["x", *names]), "y")], {"x": ["N", 4]}, "y", weights, opset=opset
        )
    x = numbers(6, 4)
    graph = read(proto)
    expected = x if low is None else np.maximum(x, np.float32(low))
    expected = expected if high is None else np.minimum(expected, np.float32(high))
    np.testing.assert_array_equal(evaluate(graph, {"x": x})["y"], expected)
    assert isinstance(graph.nodes[0].op, Clip)


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [7, 11, 12, 13, NEWEST])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
def test_softmax_over_the_rest_and_along_one_axis(name: str, opset: int, axis: int | None) -> None:
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    if axis == -1 and opset < 11:
        pytest.skip("negative axes came with opset 11")
    proto = model([node(name, "x", "y", **attributes)], {"x": ["N", "M", 4]}, opset=opset)
    x = numbers(3, 2, 4)
    if opset >= 13:
        agrees(proto, {"x": x})
        return
    # Before opset 13 the axes from `axis` on were one.
    first = (1 if axis is None else axis) % 3
    rows = x.reshape(int(np.prod(x.shape[:first])), -1)
    grown = np.exp(rows - rows.max(axis=1, keepdims=True))
    expected = (grown / grown.sum(axis=1, keepdims=True)).reshape(x.shape)
    expected = expected if name == "Softmax" else np.log(expected)
    np.testing.assert_allclose(evaluate(read(proto), {"x": x})["y"], expected, rtol=1e-5)


@pytest.mark.parametrize("opset", [7, 11, 12, 13, NEWEST])
@pytest.mark.parametrize("axes", [[0], [0, 2], [-1], [-1, 0]])
def test_squeeze_and_unsqueeze_with_axes_of_both_kinds(opset: int, axes: list[int]) -> None:
    x = numbers(1, 3, 1)
    for name, shape in (("Squeeze", [1, 3, 1]), ("Unsqueeze", ["N", 3, 1])):
        if opset < 13:
            proto = model([node(name, "x", "y", axes=axes)], {"x": shape}, opset=opset)
        else:
            weights = {"a": np.array(axes, np.int64)}
            proto = model([node(name, "x a", "y")], {"x": shape}, "y", weights, opset=opset)
        expected = np.squeeze(x, tuple(axes)) if name == "Squeeze" else np.expand_dims(x, axes)
        found = evaluate(read(proto), {"x": x})["y"]
        np.testing.assert_array_equal(found, expected)
        assert found.shape == expected.shape


def test_squeeze_without_axes() -> None:
    for opset in (7, 13, NEWEST):
        agrees(
            model([node("Squeeze", "x", "y")], {"x": [1, 3, 1]}, opset=opset),
            {"x": numbers(1, 3, 1)},
        )


def test_unsqueeze_without_axes_is_refused() -> None:
    refuse(model([node("Unsqueeze", "x", "y")], {"x": [3]}), GraphError, "lacks 'axes'")


@pytest.mark.parametrize("opset", [7, 10, 12, 13, NEWEST])
@pytest.mark.parametrize("mask", [False, True])
def test_dropout_drops_nothing(opset: int, mask: bool) -> None:
    given: dict[str, Any] = {"ratio": 0.7} if opset < 12 else {}
    proto = model(
        [node("Dropout", "x", "y m" if mask else "y", **given)],
        {"x": ["N", 4]},
        "y m" if mask else "y",
        opset=opset,
    )
    x = numbers(3, 4)
    found = evaluate(read(proto), {"x": x})
    np.testing.assert_array_equal(found["y"], x)
    if mask:
        # Before opset 10 the mask had the element type of x.
        assert found["m"].dtype == (np.float32 if opset < 10 else np.bool_)
        assert found["m"].all() and found["m"].shape == x.shape


@pytest.mark.parametrize("training", [False, True])
def test_dropout_with_a_training_mode(training: bool) -> None:
    weights = {"r": np.array(0.25, np.float32), "t": np.array(training)}
    proto = model([node("Dropout", "x r t", "y m")], {"x": ["N", 4]}, "y m", weights)
    x = numbers(1000, 4)
    if not training:
        agrees(proto, {"x": x})
        return
    found = evaluate(read(proto), {"x": x})
    kept = x * np.float32(1 / 0.75)
    np.testing.assert_array_equal(found["y"], np.where(found["m"], kept, np.float32(0)))
    # Of 4000 elements 3000 are expected to stay, with a standard deviation of 27.
    assert abs(np.count_nonzero(found["m"]) - 3000) < 5 * 27
    np.testing.assert_array_equal(evaluate(read(proto), {"x": x})["m"], found["m"])


@pytest.mark.parametrize("opset", [7, 8, 9, 14, 15, NEWEST])
def test_batch_normalization(opset: int) -> None:
    weights = {k: np.abs(numbers(3)) + 0.1 for k in ("s", "b", "m", "v")}
    given: dict[str, Any] = {"spatial": 1} if opset < 9 else {}
    bn = node("BatchNormalization", "x s b m v", "y", epsilon=1e-3, momentum=0.5, **given)
    proto = model([bn], {"x": ["N", 3, 2]}, "y", weights, opset=opset)
    x = numbers(4, 3, 2)
    s, b, m, v = (weights[k][None, :, None] for k in ("s", "b", "m", "v"))
    expected = (x - m) / np.sqrt(v + np.float32(1e-3)) * s + b
    np.testing.assert_allclose(evaluate(read(proto), {"x": x})["y"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value": numpy_helper.from_array(np.array([[1.5]], np.float64))}, np.array([[1.5]])),
        ({"value_float": 2.5}, np.float32(2.5)),
        ({"value_floats": [1.0, 2.0]}, np.array([1, 2], np.float32)),
        ({"value_int": 3}, np.int64(3)),
        ({"value_ints": [3, 4]}, np.array([3, 4])),
        ({"value_ints": []}, np.array([], np.int64)),
    ],
)
def test_constants_of_all_forms(attributes: dict[str, Any], expected: Any) -> None:
    if attributes.get("value_ints") == []:
        constant = node("Constant", "", "y")
        constant.attribute.append(
            helper.make_attribute("value_ints", [], attr_type=onnx.AttributeProto.INTS)
        )
    else:
        constant = node("Constant", "", "y", **attributes)
    graph = read(model([constant], {}, "y"))
    found = evaluate(graph, {})["y"]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.asarray(expected).dtype and found.shape == np.shape(expected)
    assert not graph.nodes


@pytest.mark.parametrize(
    ("attributes", "kind", "word"),
    [
        ({"value_string": "text"}, UnsupportedOperator, "value_string"),
        ({"value_strings": ["a", "b"]}, UnsupportedOperator, "value_strings"),
        ({}, GraphError, "Constant"),
        (
            {"value": numpy_helper.from_array(np.array([b"s"], object))},
            UnsupportedOperator,
            "string",
        ),
        ({"value_float": "text"}, GraphError, "value_float"),
    ],
)
def test_constants_that_are_refused(
    attributes: dict[str, Any], kind: type[SofieError], word: str
) -> None:
    refuse(model([node("Constant", "", "y", **attributes)], {}, "y"), kind, word)


def test_parameters_may_be_constant_nodes() -> None:
    nodes = [
        node("Constant", "", "shape", value_ints=[-1, 6]),
        node("Reshape", "x shape", "y"),
    ]
    graph = agrees(model(nodes, {"x": ["N", 2, 3]}), {"x": numbers(4, 2, 3)})
    assert graph.nodes[0].op == Reshape((-1, 6))


def test_gemm_of_opset_7_has_three_inputs_and_broadcasts() -> None:
    weights = {"w": numbers(4, 3), "c": numbers(1)}
    for opset in (7, 9, 11, 13):
        gemm = node("Gemm", "x w c", "y", alpha=0.5, beta=2.0, transB=1)
        agrees(model([gemm], {"x": ["N", 3]}, "y", weights, opset=opset), {"x": numbers(2, 3)})


# Graphs as they are in files ----------------------------------------------------------------------


def test_unsorted_nodes() -> None:
    nodes = [node("Neg", "b", "y"), node("Relu", "a", "b"), node("Abs", "x", "a")]
    assert operators(read(model(nodes, {"x": ["N"]}))) == ["Abs", "Relu", "Neg"]


def test_a_thousand_nodes_in_the_wrong_order_are_read_in_time() -> None:
    names = ["x", *(f"v{i}" for i in range(999)), "y"]
    nodes = [node("Neg", a, b) for a, b in pairwise(names)]
    assert len(read(model(nodes[::-1], {"x": ["N"]})).nodes) == 1000


def test_weights_that_are_inputs_as_well() -> None:
    proto = model([node("Mul", "x w", "y")], {"x": ["N", 3], "w": [3]}, "y", {"w": numbers(3)})
    graph = agrees(proto, {"x": numbers(2, 3)})
    assert graph.inputs == ("x",)
    assert set(graph.constants) == {"w"}


def test_an_output_that_is_an_input_or_a_weight() -> None:
    proto = model([node("Neg", "x", "y")], {"x": ["N"]}, "y x w", {"w": numbers(3)})
    assert read(proto).outputs == ("y", "x", "w")


def test_optional_outputs_and_inputs_may_be_named_or_not() -> None:
    proto = model([node("Clip", "x - -", "y")], {"x": ["N"]})
    assert read(proto).nodes[0].inputs == ("x",)
    drop = node("Dropout", "x", "y -")
    assert len(read(model([drop], {"x": ["N"]})).nodes) == 1


def test_a_split_may_have_more_parts_than_outputs() -> None:
    proto = model([node("Split", "x", "y", num_outputs=4, axis=1)], {"x": ["N", 4]}, opset=18)
    x = numbers(3, 4)
    agrees(proto, {"x": x})
    assert np.array_equal(Model(read(proto))(x), x[:, :1])


def test_shapes_of_inputs() -> None:
    inputs: dict[str, Any] = {
        "a": ["N", 3],
        "b": [None, 3],
        "c": [2, None],
        "d": [],
        "e": ["N", "n pf"],
        "f": [0, 2],
    }
    nodes = [node("Neg", k, f"y{k}") for k in inputs]
    graph = read(model(nodes, inputs, " ".join(f"y{k}" for k in inputs)))
    assert {k: str(graph.types[k]) for k in inputs} == {
        "a": "float32[N, 3]",
        "b": "float32[N, 3]",
        "c": "float32[2, c_1]",
        "d": "float32[]",
        "e": 'float32[N, "n pf"]',
        "f": "float32[0, 2]",
    }


def test_axes_that_files_do_not_know() -> None:
    """-1, an empty name or ? is what some exporters write for a dynamic axis."""
    negative = value("x", [3, 4])
    negative.type.tensor_type.shape.dim[0].dim_value = -1
    assert str(read(model([node("Neg", "x", "y")], [negative])).types["x"]) == "float32[N, 4]"
    empty = value("x", ["", 4])
    assert str(read(model([node("Neg", "x", "y")], [empty])).types["x"]) == "float32[N, 4]"
    image = read(model([node("Neg", "x", "y")], {"x": ["?", 3, "?", "?"]}))
    assert str(image.types["x"]) == "float32[N, 3, x_2, x_3]"


def test_shapes_may_be_given() -> None:
    proto = model([node("Neg", "x", "y")], {"x": ["N", None, 4]})
    assert str(read(proto, shapes={"x": (1, "tracks", None)}).types["y"]) == "float32[1, tracks, 4]"
    nameless = model([node("Neg", "x", "y")], {"x": None})
    assert str(read(nameless, shapes={"x": ("N", 7)}).types["y"]) == "float32[N, 7]"


@pytest.mark.parametrize(
    ("shapes", "kind", "words"),
    [
        ({"z": (1,)}, InputError, ["'z'", "no input"]),
        ({"x": (1, 2, 3)}, InputError, ["3 axes", "it has 2"]),
        ({"x": (1, -2)}, InputError, ["-2"]),
        ({"x": (1, "")}, InputError, ["'x'"]),
        ({"x": (1, 2.5)}, InputError, ["2.5"]),
        ({"x": (1, True)}, InputError, ["True"]),
        ({"x": 7}, InputError, ["'x'"]),
        ({"x": "N"}, InputError, ["'x'"]),
    ],
)
def test_shapes_that_make_no_sense(shapes: Any, kind: type[SofieError], words: list[str]) -> None:
    refuse(model([node("Neg", "x", "y")], {"x": ["N", 4]}), kind, *words, shapes=shapes)


def test_an_input_without_a_shape() -> None:
    error = refuse(model([node("Neg", "x", "y")], {"x": None}), UnsupportedFormat, "no shape")
    assert "shapes={'x'" in error.remedy


ODD = [
    "a b",
    "a/b",
    "a.b",
    "int",
    "1x",
    "Größe",
    "x:0",
    '"quoted"',
    "a\\b",
    "a\nb",
    "//",
    "*/ x",
    "🙂",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_survive(name: str) -> None:
    nodes = [helper.make_node("Mul", [name, f"{name}_w"], [f"{name}_y"], name=name)]
    proto = model(nodes, {name: ["N", 2]}, [value(f"{name}_y", None)], {f"{name}_w": numbers(2)})
    graph = read(proto, name=name)
    verify(graph)
    assert (graph.name, graph.inputs, graph.outputs) == (name, (name,), (f"{name}_y",))
    assert graph.nodes[0].origin.name == name


def test_name_of_the_model(tmp_path: Path) -> None:
    proto = model([node("Neg", "x", "y")], {"x": [1]})
    assert read(proto).name == "test"
    assert read(proto.SerializeToString()).name == "test"
    path = tmp_path / "my net.v2.onnx"
    path.write_bytes(proto.SerializeToString())
    assert read(path).name == "my net.v2"
    assert read(str(path), name="other").name == "other"
    proto.graph.name = ""
    assert read(proto).name == "model"


def test_provenance() -> None:
    graph = read(HIGGS)
    assert graph.provenance["source"] == "higgs.onnx"
    assert re.fullmatch(r"[0-9a-f]{64}", graph.provenance["sha256"])
    assert read(HIGGS.read_bytes()).provenance["sha256"] == graph.provenance["sha256"]


# Refusals -----------------------------------------------------------------------------------------


def test_opsets_that_are_too_old_too_new_and_missing() -> None:
    nodes, inputs = [node("Neg", "x", "y")], {"x": [1]}
    refuse(model(nodes, inputs, opset=0), UnsupportedFormat, "opset 0", "test")
    error = refuse(model(nodes, inputs, opset=NEWEST + 1), UnsupportedFormat, f"opset {NEWEST + 1}")
    assert "upgrade" in error.remedy
    missing = model(nodes, inputs)
    del missing.opset_import[:]
    refuse(missing, CorruptFile, "opset")
    refuse(missing.SerializeToString(), CorruptFile, "opset")
    strange = model(nodes, inputs)
    strange.opset_import[0].domain = "com.example"
    refuse(strange, CorruptFile, "opset")


def test_a_doubled_opset_import() -> None:
    proto = model([node("Neg", "x", "y")], {"x": [1]})
    # skl2onnx says it twice.
    proto.opset_import.append(helper.make_opsetid("ai.onnx", proto.opset_import[0].version))
    agrees(proto, {"x": numbers(1)})
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 9))
    refuse(proto, CorruptFile, "opset", "two versions")


def test_unknown_operators_are_all_listed_with_near_names() -> None:
    nodes = [
        node("Tanhh", "x", "a", "first"),
        node("Relu", "a", "b", "between"),
        node("StringSplit", "b", "c", "second"),
        helper.make_node("Neg", ["c"], ["y"], name="third", domain="com.example"),
    ]
    proto = model(nodes, {"x": ["N"]}, domains={"com.example": 1})
    problems = [str(p) for p in check(proto)]
    assert len(problems) == 3
    assert problems[0].startswith("test: node 'first': operator Tanhh is not supported")
    assert "'Tanh'" in problems[0]
    assert "node 'second'" in problems[1] and "StringSplit" in problems[1]
    assert "com.example.Neg" in problems[2]
    with pytest.raises(UnsupportedOperator, match="Tanhh"):
        read(proto)


def test_check_of_a_good_model_finds_nothing() -> None:
    assert check(HIGGS) == []
    assert check(HIGGS.read_bytes()) == []
    assert check(onnx.load(HIGGS)) == []


def test_check_finds_problems_of_many_kinds_at_once() -> None:
    nodes = [
        node("Frobnicate", "x", "a", "n1"),
        node("Add", "x nothing", "b", "n2"),
        node("Elu", "x", "c", "n3", gamma=1.0),
        node("MatMul", "x w", "d", "n4"),
        node("Relu", "d", "y", "n5"),
    ]
    weights = {"w": numbers(3, 3), "bad": np.array([np.nan], np.float32)}
    problems = [str(p) for p in check(model(nodes, {"x": ["N", 4]}, "y", weights))]
    for word in ("Frobnicate", "'nothing'", "'gamma'", "inner sizes 4 and 3", "NaN"):
        assert sum(word in p for p in problems) == 1, (word, problems)
    assert len(problems) == 5


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("Neg", "x", "y"), node("Abs", "x", "y")], ["'y'", "twice"]),
        ([node("Neg", "x", "x"), node("Neg", "x", "y")], ["'x'", "twice"]),
        ([node("Neg", "x", "w"), node("Neg", "w", "y")], ["'w'", "twice"]),
        ([node("Neg", "nowhere", "y")], ["'nowhere'", "nothing computes"]),
        ([node("Neg", "x", "z")], ["'y'", "nothing computes"]),
        ([node("Neg", "x", "")], ["'y'"]),
    ],
)
def test_names_that_are_doubled_or_missing(nodes: list[Any], words: list[str]) -> None:
    refuse(model(nodes, {"x": ["N"]}, "y", {"w": numbers(2)}), GraphError, *words)


def test_doubled_inputs_weights_and_outputs() -> None:
    one = [node("Neg", "x", "y")]
    refuse(model(one, [value("x", [1]), value("x", [1])]), GraphError, "'x'", "twice")
    weights = [initializer("w", [1]), initializer("w", [2])]
    refuse(model(one, {"x": [1]}, "y", weights), GraphError, "'w'", "twice")
    refuse(model(one, {"x": [1]}, "y y"), GraphError, "'y'", "twice")


def test_cycles() -> None:
    nodes = [node("Add", "x b", "a", "one"), node("Neg", "a", "b", "two"), node("Neg", "x", "y")]
    refuse(model(nodes, {"x": ["N"]}), GraphError, "cycle", "'one'", "'two'")
    refuse(model([node("Add", "x y", "y", "self")], {"x": ["N"]}), GraphError, "cycle", "'self'")


@pytest.mark.parametrize(
    ("bad", "kind", "words"),
    [
        (node("Elu", "x", "y", "n", alpha="one"), GraphError, ["'alpha'", "Elu", "wrong type"]),
        (node("Elu", "x", "y", "n", alpha=[1.0]), GraphError, ["'alpha'", "wrong type"]),
        (node("Elu", "x", "y", "n", alhpa=1.0), UnsupportedOperator, ["'alhpa'", "'alpha'"]),
        (node("Transpose", "x", "y", "n", perm="ab"), GraphError, ["'perm'", "wrong type"]),
        (node("Transpose", "x", "y", "n", perm=[1.0, 0.0]), GraphError, ["'perm'", "wrong type"]),
        (node("Transpose", "x", "y", "n", perm=[0, 0]), ShapeError, ["order"]),
        (node("Transpose", "x", "y", "n", perm=[0, 2]), ShapeError, ["axis 2"]),
        (node("Transpose", "x", "y", "n", perm=["a", "b"]), GraphError, ["'perm'"]),
        (node("Softmax", "x", "y", "n", axis=5), ShapeError, ["axis 5"]),
        (node("Softmax", "x", "y", "n", axis=1.5), GraphError, ["'axis'"]),
        (node("Cast", "x", "y", "n", to=99), UnsupportedOperator, ["'to'", "99"]),
        (node("Cast", "x", "y", "n", to=TensorProto.STRING), UnsupportedOperator, ["string"]),
        (node("Cast", "x", "y", "n", to=TensorProto.COMPLEX64), UnsupportedOperator, ["complex64"]),
        (node("Cast", "x", "y", "n"), GraphError, ["'to'"]),
        (node("Gelu", "x", "y", "n", approximate="fast"), UnsupportedOperator, ["'fast'"]),
        (node("BitShift", "x x", "y", "n", direction="UP"), UnsupportedOperator, ["'UP'"]),
        (node("Concat", "x x", "y", "n"), GraphError, ["'axis'"]),
        (node("Concat", "x x", "y", "n", axis=7), ShapeError, ["axis 7"]),
        (node("Gemm", "x x", "y", "n", transA=1.0), GraphError, ["'transA'", "wrong type"]),
        (node("Add", "x", "y", "n"), GraphError, ["takes 2 inputs, not 1"]),
        (node("Add", "x x x", "y", "n"), GraphError, ["takes 2 inputs, not 3"]),
        (node("Add", "x -", "y", "n"), GraphError, ["Add"]),
        (node("Neg", "x", "y z", "n"), GraphError, ["1 outputs, not 2"]),
        (node("Dropout", "", "y", "n"), GraphError, ["Dropout"]),
        (node("Dropout", "-", "y", "n"), GraphError, ["Dropout"]),
        (node("Dropout", "x", "", "n"), GraphError, ["Dropout"]),
        (node("MatMul", "x x", "y", "n"), ShapeError, ["inner sizes"]),
        (node("MeanVarianceNormalization", "x", "y", "n"), ShapeError, ["axis 2"]),
        (node("And", "x x", "y", "n"), TypeMismatch, ["float32", "bool"]),
        (node("Reshape", "x s", "y", "n"), ShapeError, ["5"]),
        (node("Reshape", "x f", "y", "n"), GraphError, ["'shape'", "wrong type"]),
        (node("Reshape", "x x", "y", "n"), TypeMismatch, ["float32", "int64"]),
        (node("Reshape", "x", "y", "n"), GraphError, ["'shape'"]),
        (node("Unsqueeze", "x m", "y", "n"), GraphError, ["'axes'", "wrong type"]),
    ],
)
def test_nodes_that_are_wrong(bad: Any, kind: type[SofieError], words: list[str]) -> None:
    weights = {
        "s": np.array([5, 5]),
        "f": np.array([2.0, 4.0], np.float32),
        "m": np.array([[0, 1], [2, 3]]),
    }
    error = refuse(model([bad], {"x": [2, 4]}, "y", weights, opset=20), kind, *words)
    assert "test" in error.place


@pytest.mark.parametrize(
    ("bad", "opset", "kind"),
    [
        (node("Clip", "x", "y", "n", min="low"), 7, GraphError),
        (node("Clip", "x x", "y", "n"), 7, GraphError),
        (node("Clip", "-", "y", "n"), 7, GraphError),
        (node("Clip", "x", "y", "n", mni=1.0), 7, UnsupportedOperator),
        (node("Softmax", "x x", "y", "n"), 7, GraphError),
        (node("Softmax", "x", "y", "n", axis="last"), 7, GraphError),
        (node("Softmax", "x", "y", "n", axis=9), 7, ShapeError),
        (node("Softmax", "x", "y", "n", axes=1), 7, UnsupportedOperator),
        (node("BatchNormalization", "x", "y", "n"), 7, GraphError),
        (node("BatchNormalization", "x x x x x", "y", "n", epsilon="small"), 7, GraphError),
        (node("Dropout", "x - x", "y", "n"), 13, TypeMismatch),
        (node("Dropout", "x - w", "y", "n"), 13, TypeMismatch),
        (node("Constant", "x", "y", "n", value_float=1.0), 13, GraphError),
        (node("Constant", "", "", "n", value_float=1.0), 13, GraphError),
        (node("Constant", "", "y z", "n", value_float=1.0), 13, GraphError),
        (node("Constant", "", "y", "n", value_float=1.0, value_int=1), 13, GraphError),
    ],
)
def test_old_nodes_that_are_wrong(bad: Any, opset: int, kind: type[SofieError]) -> None:
    refuse(model([bad], {"x": [2, 4]}, "y", {"w": numbers(2)}, opset=opset), kind)


def test_an_operator_that_fails_in_a_way_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def infer(self: Relu, x: object) -> object:
        raise KeyError(f"{self} and {x}")

    monkeypatch.setattr(Relu, "infer", infer)
    bad = model([node("Relu", "x", "y", "n")], {"x": [1]})
    refuse(bad, GraphError, "node 'n'", "makes no sense", "Relu() and float32[1]")


def test_attributes_are_typed_by_the_class() -> None:
    assert construct(Elu, {"alpha": 0.5}) == Elu(alpha=0.5)
    assert construct(Transpose, {"perm": (1, 0)}) == Transpose((1, 0))
    assert construct(Unsqueeze, {"axes": 1}) == Unsqueeze((1,))
    assert construct(Cast, {"to": TensorProto.INT64}).to.value == "int64"  # type: ignore[attr-defined]


def test_features_that_are_refused_by_name() -> None:
    sequence = helper.make_tensor_sequence_value_info("x", FLOAT, [1])
    refuse(model([node("Neg", "x", "y")], [sequence]), TypeMismatch, "'x'", "sequence")
    text = value("x", [1], TensorProto.STRING)
    refuse(model([node("Neg", "x", "y")], [text]), UnsupportedOperator, "'x'", "string")
    pair = value("x", [1], TensorProto.COMPLEX64)
    refuse(model([node("Neg", "x", "y")], [pair]), UnsupportedOperator, "'x'", "complex64")


def test_functions_of_the_model_are_inlined() -> None:
    local = model([node("Twice", "x", "y", domain="mine")], {"x": [1]})
    local.opset_import.append(helper.make_opsetid("mine", 1))
    opsets = [o for o in local.opset_import if not o.domain]
    body = [node("Add", "a a", "b")]
    local.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], body, opsets))
    assert [n.op.name for n in read(local).nodes] == ["Add"]


def branch() -> onnx.GraphProto:
    return helper.make_graph([node("Neg", "x", "b")], "branch", [], [value("b", None)])


@pytest.mark.parametrize(
    ("flow", "words"),
    [
        (node("If", "c", "y", "flow", then_branch=branch()), ("else_branch",)),
        (node("Loop", "- c x", "y", "flow", body=branch()), ("1 values", "its body")),
        (node("If", "x", "y", "flow", then_branch=branch(), else_branch=branch()), ("bool",)),
    ],
    ids=["no else", "no inputs", "no bool"],
)
def test_control_flow_that_is_wrong(flow: Any, words: tuple[str, ...]) -> None:
    inputs = [value("x", [2]), value("c", [], TensorProto.BOOL)]
    refuse(model([flow], inputs), SofieError, "node 'flow'", *words)


def test_branches_of_different_rank_are_refused() -> None:
    flat = helper.make_graph([node("Squeeze", "x", "b")], "flat", [], [value("b", None)])
    flow = node("If", "c", "y", "flow", then_branch=flat, else_branch=branch())
    inputs = [value("x", [2, 1]), value("c", [], TensorProto.BOOL)]
    refuse(model([flow], inputs), TypeMismatch, "float32[2]", "float32[2, 1]")


def test_a_known_condition_chooses_its_branch() -> None:
    twice = helper.make_graph([node("Add", "x x", "t")], "twice", [], [value("t", None)])
    flow = node("If", "c", "y", "flow", then_branch=twice, else_branch=branch())
    graph = read(model([flow], {"x": ["N"]}, "y", {"c": np.array(True)}))
    assert [n.op.name for n in graph.nodes] == ["Add", "Identity"]


def test_a_graph_as_an_attribute_of_a_plain_operator() -> None:
    refuse(
        model([node("Neg", "x", "y", "n", body=branch())], {"x": [1]}),
        UnsupportedOperator,
        "'body'",
    )


def test_a_broken_value_is_reported_once() -> None:
    """What depends on a wrong node is not wrong itself."""
    nodes = [
        node("Nonsense", "x", "a"),
        *(node("Neg", f"{c}", f"{d}") for c, d in zip("abc", "bcd", strict=True)),
    ]
    assert len(check(model(nodes, {"x": [1]}, "d"))) == 1


def test_nodes_keep_their_origin() -> None:
    graph = read(model([node("Add", "x x", "a", "/layer/Add"), node("Relu", "a", "y")], {"x": [1]}))
    assert [str(n.origin) for n in graph.nodes] == ["test: node '/layer/Add'", "test: node 'y'"]
    assert [type(n.op) for n in graph.nodes] == [Add, Relu]


# Graphs of every size, and what `check` finds in odd ones -----------------------------------------


@pytest.mark.parametrize("step", [1, -1], ids=["sorted", "reversed"])
def test_a_chain_of_5000_nodes_is_read_in_time(step: int) -> None:
    names = ["x", *(f"v{i}" for i in range(4999)), "y"]
    nodes = [node("Neg", a, b) for a, b in pairwise(names)]
    proto = model(nodes[::step], {"x": ["N"]})
    start = time.process_time()
    graph = read(proto)
    assert time.process_time() - start < 2
    assert [n.outputs[0] for n in graph.nodes] == names[1:]
    np.testing.assert_array_equal(evaluate(graph, {"x": np.ones(2, np.float32)})["y"], [1, 1])


def test_nodes_that_can_run_stay_in_the_order_of_the_file() -> None:
    nodes = [node("Neg", "c", "y"), *(node("Abs", "x", v) for v in "bca"), node("Neg", "a", "d")]
    graph = read(model(nodes, {"x": ["N"]}))
    assert [n.outputs[0] for n in graph.nodes] == ["b", "c", "y", "a", "d"]


def test_check_looks_into_cycles_and_behind_undefined_values() -> None:
    nodes = [
        node("Nonsense", "x b", "a", "one"),
        node("Neg", "a", "b", "two"),
        node("Frobnicate", "b", "", "end"),
        node("Gibberish", "nowhere nothing", "c", "lost"),
        node("Neg", "c", "d", "after"),
    ]
    problems = [str(p) for p in check(model(nodes, {"x": ["N"]}, "d zz b"))]
    found = ("'nowhere'", "'nothing'", "cycle", "Nonsense", "Frobnicate", "Gibberish", "'zz'")
    for word in found:
        assert sum(word in p for p in problems) == 1, (word, problems)
    assert len(problems) == len(found)
    assert "'one', 'two', 'end'" in next(p for p in problems if "cycle" in p)


def test_a_cycle_through_a_node_without_name_and_output() -> None:
    nodes = [node("Neg", "a", "b"), node("Neg", "b", "a"), node("Identity", "a", "")]
    refuse(model(nodes, {"x": ["N"]}, "a"), GraphError, "'b', 'a', 'Identity'", "cycle")


def test_check_goes_on_after_wrong_shapes() -> None:
    proto = model([node("Mul", "x w", "y")], {"x": ["N", 3], "w": [3]}, "y z", {"w": numbers(3)})
    problems = [str(p) for p in check(proto, shapes={"w": (3,), "x": (1, 2, 3)})]
    assert len(problems) == 3
    assert "shapes= names 'w', which is no input" in problems[0]
    assert "3 axes; it has 2" in problems[1]
    assert "'z'" in problems[2]


def test_names_of_values_that_have_none_are_free() -> None:
    """An output without a name gets one, which a later node may have in the file."""
    nodes = [node("Neg", "x", ""), node("Abs", "x", "neg"), node("Exp", "x", "neg_2")]
    graph = read(model(nodes, {"x": [1]}, "neg neg_2"))
    verify(graph)
    found = evaluate(graph, {"x": np.array([-1], np.float32)})
    assert found["neg"] == [1]
    assert found["neg_2"] == np.exp(np.float32(-1))


def test_a_missing_input_between_others() -> None:
    for name in ("Max", "Sum", "Concat"):
        attributes = {"axis": 0} if name == "Concat" else {}
        error = refuse(
            model([node(name, "x - x", "y", "n", **attributes)], {"x": [1]}),
            GraphError,
            f"{name} lacks an input",
        )
        assert "node 'n'" in error.place


def test_operators_of_our_own_domain_are_typed_as_well() -> None:
    dense = helper.make_node("Dense", ["x", "w", "b"], ["y"], domain="sofie", activation=1)
    weights = {"w": numbers(3, 3), "b": numbers(3)}
    proto = model([dense], {"x": ["N", 3]}, "y", weights, domains={"sofie": 1})
    refuse(proto, GraphError, "'activation'", "wrong type")


@pytest.mark.parametrize(
    "value_", [1.5, "float", [1], numpy_helper.from_array(np.ones(1, np.float32)), branch()]
)
def test_a_cast_to_no_element_type(value_: Any) -> None:
    proto = model([node("Cast", "x", "y", to=value_)], {"x": [1]})
    if value_ == [1]:
        proto.graph.node[0].attribute[0].ints.append(2)
    refuse(proto, GraphError, "'to' of Cast has the wrong type")


def test_optional_fields_of_operators_take_one_number() -> None:
    @family
    class Optional(Add):
        scale: float | None = None
        names: tuple[str, ...] = ()

    made: Any = construct(Optional, {"scale": 0.5, "names": ("a", "b")})
    assert (made.scale, made.names) == (0.5, ("a", "b"))
    with pytest.raises(GraphError, match="wrong type"):
        construct(Optional, {"scale": "half"})


def test_axes_without_names_are_tied_to_nobody_elses() -> None:
    """An unnamed first axis is the batch; another axis that is called N is not."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, "N", None])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = read(
        helper.make_model(
            helper.make_graph([node], "clash", inputs, outputs),
            opset_imports=[helper.make_opsetid("", 17)],
        )
    )
    assert graph.symbols == ("N_", "N", "x_2")
