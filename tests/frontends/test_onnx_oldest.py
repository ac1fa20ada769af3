"""Opsets 1 to 6: what their forms of operators mean, by NumPy or by the same node in opset 7."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest

from sofie_rdf.errors import GraphError, ShapeError, SofieError, UnsupportedOperator
from sofie_rdf.frontends.onnx.reader import check, read
from sofie_rdf.ir.types import Array
from sofie_rdf.ir.verify import verify
from sofie_rdf.reference import evaluate
from tests.frontends.models import model, node, value

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def numbers(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def found(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    graph = read(proto)
    verify(graph)
    return dict(evaluate(graph, feeds))


def refused(proto: onnx.ModelProto, kind: type[SofieError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        read(proto)
    text = str(caught.value)
    assert [str(p) for p in check(proto)] == [text]
    assert "makes no sense" not in text, "an accident, not a refusal"
    for word in words:
        assert word in text


# Broadcasting -------------------------------------------------------------------------------------

SHAPES = [
    ((2, 3, 4, 5), (), None),
    ((2, 3, 4, 5), (1,), None),
    ((2, 3, 4, 5), (1, 1), 0),
    ((2, 3, 4, 5), (5,), None),
    ((2, 3, 4, 5), (4, 5), None),
    ((2, 3, 4, 5), (3, 4), 1),
    ((2, 3, 4, 5), (2,), 0),
    ((2, 3, 4, 5), (5,), -1),
    ((2, 3, 4, 5), (2, 3, 4, 5), 0),
    ((3, 3, 3), (3,), 0),
    ((3, 3, 3), (3, 3), 0),
    ((0, 3), (0,), 0),
    ((3, 4), (1, 4), 0),
]


FUNCTIONS: Mapping[str, Any] = {
    "Add": np.add,
    "Div": np.divide,
    "Greater": np.greater,
    "Less": np.less,
    "Mul": np.multiply,
    "Pow": np.power,
    "Sub": np.subtract,
}


def beside(b: Array, rank: int, axis: int | None) -> Array:
    if axis is None or b.size == 1:
        return b
    behind = rank - b.ndim - axis % rank
    return b.reshape(*b.shape, *(1,) * behind)


@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("left", "right", "axis"), SHAPES)
def test_the_second_input_is_broadcast(
    name: str, left: tuple[int, ...], right: tuple[int, ...], axis: int | None, opset: int
) -> None:
    given: dict[str, Any] = {"broadcast": 1} | ({} if axis is None else {"axis": axis})
    a, b = abs(numbers(*left)), numbers(*right)
    proto = model([node(name, "a b", "y", **given)], {"a": left, "b": right}, opset=opset)
    expected = FUNCTIONS[name](a, beside(b, len(left), axis))
    y = found(proto, {"a": a, "b": b})["y"]
    assert y.shape == a.shape
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["And", "Or", "Xor"])
def test_logic_is_broadcast(name: str) -> None:
    a, b = numbers(2, 3, 4) > 0, numbers(3) > 0
    inputs = [value("a", [2, 3, 4], onnx.TensorProto.BOOL), value("b", [3], onnx.TensorProto.BOOL)]
    proto = model([node(name, "a b", "y", axis=1, broadcast=1)], inputs, opset=6)
    expected = getattr(np, f"logical_{name.lower()}")(a, b[:, None])
    np.testing.assert_array_equal(found(proto, {"a": a, "b": b})["y"], expected)


def test_a_batch_without_size_is_broadcast_to() -> None:
    proto = model(
        [node("Add", "x b", "y", axis=1, broadcast=1)],
        {"x": ["N", 3, "M"]},
        "y",
        {"b": numbers(3)},
        opset=6,
    )
    x = numbers(2, 3, 4)
    np.testing.assert_array_equal(found(proto, {"x": x})["y"], x + numbers(3)[:, None])
    assert str(read(proto).types["y"]) == "float32[N, 3, M]"


def test_equal_shapes_need_no_broadcasting() -> None:
    proto = model([node("Add", "x x", "y")], {"x": ["N", 3]}, opset=6)
    x = numbers(5, 3)
    np.testing.assert_array_equal(found(proto, {"x": x})["y"], x + x)


@pytest.mark.parametrize(
    ("left", "right", "given", "word"),
    [
        ((2, 3), (3,), {}, "broadcast=1"),
        ((2, 3), (1, 3), {}, "broadcast=1"),
        ((2, 3), (3,), {"axis": 1}, "broadcast=1"),
        ((2, 3), (3, 4), {"broadcast": 1, "axis": 1}, "does not fit"),
        ((2, 3), (3, 4), {"broadcast": 1}, "broadcast"),
        ((3,), (2, 3), {"broadcast": 1}, "does not fit"),
        ((2, 3), (3,), {"broadcast": 1, "axis": 0}, "broadcast"),
        ((2, 3), (3,), {"broadcast": 1, "axis": 2}, "axis 2"),
        ((1, 3), (5, 3), {"broadcast": 1}, "larger"),
    ],
)
def test_broadcasting_that_is_wrong(
    left: tuple[int, ...], right: tuple[int, ...], given: dict[str, Any], word: str
) -> None:
    proto = model([node("Add", "a b", "y", "n", **given)], {"a": left, "b": right}, opset=6)
    refused(proto, ShapeError, "node 'n'", word)


@pytest.mark.parametrize("shape", [(3,), (1,), ()])
def test_a_slope_for_each_channel(shape: tuple[int, ...]) -> None:
    proto = model([node("PRelu", "x s", "y")], {"x": ["N", 3, 4, 4], "s": shape}, opset=6)
    x, s = numbers(2, 3, 4, 4), numbers(*shape)
    expected = np.where(x < 0, x * (s.reshape(-1, 1, 1) if shape else s), x)
    np.testing.assert_array_equal(found(proto, {"x": x, "s": s})["y"], expected)


def test_slopes_of_too_many_channels() -> None:
    proto = model([node("PRelu", "x s", "y")], {"x": [2, 3, 4], "s": [4]}, opset=6)
    refused(proto, ShapeError)


@pytest.mark.parametrize("shape", [(4,), (1,), (2, 4)])
def test_the_bias_of_a_gemm(shape: tuple[int, ...]) -> None:
    proto = model(
        [node("Gemm", "a b c", "y", broadcast=int(shape != (2, 4)), alpha=2.0)],
        {"a": [2, 3], "b": [3, 4], "c": shape},
        opset=6,
    )
    a, b, c = numbers(2, 3), numbers(3, 4), numbers(*shape)
    y = found(proto, {"a": a, "b": b, "c": c})["y"]
    np.testing.assert_allclose(y, 2 * a @ b + c, rtol=1e-5)


# Other forms --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Abs", "Exp", "Neg", "Relu", "Sigmoid", "Sqrt", "Max", "Clip"])
def test_hints_about_memory_say_nothing(name: str) -> None:
    proto = model([node(name, "x", "y", consumed_inputs=[1])], {"x": ["N"]}, opset=1)
    plain = model([node(name, "x", "y")], {"x": ["N"]}, opset=7)
    feeds = {"x": abs(numbers(7))}
    np.testing.assert_array_equal(found(proto, feeds)["y"], found(plain, feeds)["y"])


@pytest.mark.parametrize(
    ("opset", "old", "new"),
    [
        (1, node("Selu", "x", "y"), node("Selu", "x", "y", alpha=1.6732, gamma=1.0507)),
        (6, node("Selu", "x", "y"), node("Selu", "x", "y")),
        (1, node("Concat", "x x", "y"), node("Concat", "x x", "y", axis=1)),
        (3, node("Concat", "x x", "y", axis=0), node("Concat", "x x", "y", axis=0)),
        (1, node("Cast", "x", "y", to="DOUBLE"), node("Cast", "x", "y", to=11)),
        (5, node("Cast", "x", "y", to="INT32"), node("Cast", "x", "y", to=6)),
        (6, node("Cast", "x", "y", to=6), node("Cast", "x", "y", to=6)),
        (
            1,
            node("LpPool", "x", "y", p=3.0, kernel_shape=[2, 2]),
            node("LpPool", "x", "y", p=3, kernel_shape=[2, 2]),
        ),
        (1, node("GlobalLpPool", "x", "y"), node("GlobalLpPool", "x", "y", p=2)),
        (
            1,
            node("Pad", "x", "y", paddings=[0, 0, 1, 0, 0, 0, 0, 2], value=0.5),
            node("Pad", "x", "y", pads=[0, 0, 1, 0, 0, 0, 0, 2], value=0.5),
        ),
        (
            1,
            node("Upsample", "x", "y", height_scale=2.0, width_scale=3.0),
            node("Upsample", "x", "y", scales=[1.0, 1.0, 2.0, 3.0]),
        ),
        (1, node("TopK", "x", "y z", k=2), node("TopK", "x", "y z", k=2)),
        (1, node("Hardmax", "x", "y"), node("Hardmax", "x", "y")),
        (1, node("Slice", "x", "y", starts=[1], ends=[3], axes=[2]), None),
        (1, node("Unsqueeze", "x", "y", axes=[0]), None),
        (1, node("ReduceMean", "x", "y", axes=[1], keepdims=0), None),
        (1, node("Split", "x", "y z", axis=3, split=[1, 3]), None),
        (2, node("Split", "x", "y z", axis=3), None),
    ],
)
def test_older_forms(opset: int, old: Any, new: Any) -> None:
    x = abs(numbers(2, 3, 4, 4))
    outputs = " ".join(old.output)
    before = found(model([old], {"x": x.shape}, outputs, opset=opset), {"x": x})
    after = found(model([new or old], {"x": x.shape}, outputs, opset=7), {"x": x})
    for name, array in after.items():
        assert before[name].dtype == array.dtype
        np.testing.assert_allclose(before[name], array, rtol=1e-7)


def test_a_reshape_whose_shape_is_an_attribute() -> None:
    proto = model([node("Reshape", "x", "y", shape=[0, -1])], {"x": ["N", 2, 3]}, opset=1)
    x = numbers(4, 2, 3)
    np.testing.assert_array_equal(found(proto, {"x": x})["y"], x.reshape(4, 6))


@pytest.mark.parametrize("axis", [0, 1])
def test_one_axis_is_tiled(axis: int) -> None:
    weights = {"t": np.array([3], np.float32), "a": np.array([axis], np.float32)}
    proto = model([node("Tile", "x t a", "y")], {"x": ["N", 2]}, "y", weights, opset=1)
    x = numbers(4, 2)
    expected = np.concatenate([x] * 3, axis=axis)
    np.testing.assert_array_equal(found(proto, {"x": x})["y"], expected)


def test_the_sizes_of_a_split_are_an_input_of_opset_1() -> None:
    weights = {"s": np.array([1, 2], np.int64)}
    proto = model([node("Split", "x s", "y z", axis=1)], {"x": ["N", 3]}, "y z", weights, opset=1)
    x = numbers(4, 3)
    y, z = found(proto, {"x": x}).values()
    np.testing.assert_array_equal(y, x[:, :1])
    np.testing.assert_array_equal(z, x[:, 1:])


@pytest.mark.parametrize(("name", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("wanted", [0, 1])
def test_recurrent_networks_say_whether_they_want_the_sequence(
    name: str, gates: int, wanted: int
) -> None:
    weights = {"w": numbers(1, gates * 2, 3), "r": numbers(1, gates * 2, 2)}
    outputs = "y h" if wanted else "- h"
    old = node(name, "x w r", outputs, hidden_size=2, output_sequence=wanted)
    new = node(name, "x w r", "y h", hidden_size=2)
    x = numbers(5, 4, 3)
    inputs, results = {"x": [5, "N", 3]}, "y h" if wanted else "h"
    before = found(model([old], inputs, results, weights, opset=6), {"x": x})
    after = found(model([new], inputs, "y h", weights, opset=7), {"x": x})
    for key, array in before.items():
        np.testing.assert_array_equal(array, after[key])


@pytest.mark.parametrize("opset", [1, 6])
def test_dropout_of_a_test_and_of_a_training(opset: int) -> None:
    def proto(**given: Any) -> onnx.ModelProto:
        one = node("Dropout", "x", "y m", **given)
        return model([one], {"x": ["N"]}, "y m", opset=opset)

    x = np.ones(2000, np.float32)
    idle = found(proto(is_test=1), {"x": x})
    np.testing.assert_array_equal(idle["y"], x)
    busy = found(proto(ratio=0.75), {"x": x})
    assert busy["m"].dtype == np.float32
    assert set(busy["y"]) == {0.0, 4.0}
    np.testing.assert_array_equal(busy["y"], 4 * busy["m"])
    # Of 2000 elements 500 are expected to stay, with a standard deviation of 19.
    assert abs(busy["m"].sum() - 500) < 5 * 19


@pytest.mark.parametrize("opset", [1, 6, 8])
def test_batch_normalization_by_position(opset: int) -> None:
    weights = {k: abs(numbers(3, 2)) + n for n, k in enumerate("sbmv")}
    bn = node("BatchNormalization", "x s b m v", "y", spatial=0, epsilon=0.25)
    proto = model([bn], {"x": ["N", 3, 2]}, "y", weights, opset=opset)
    x = numbers(4, 3, 2)
    s, b, m, v = weights.values()
    y = found(proto, {"x": x})["y"]
    np.testing.assert_allclose(y, (x - m) / np.sqrt(v + 0.25) * s + b, rtol=1e-5, atol=1e-6)
    narrow = {k: a[:, 0] for k, a in weights.items()}
    wrong = model([bn], {"x": ["N", 3, 2]}, "y", narrow, opset=opset)
    refused(wrong, ShapeError, "each position")


@pytest.mark.parametrize(
    ("bad", "kind", "word"),
    [
        (node("Cast", "x", "y", "n", to="FLOAT33"), GraphError, "FLOAT33"),
        (node("Cast", "x", "y", "n", to=1), GraphError, "element type"),
        (node("GlobalLpPool", "x", "y", "n", p=2.5), UnsupportedOperator, "2.5"),
        (node("Tile", "x x x", "y", "n"), UnsupportedOperator, "axis"),
        (node("Tile", "x w", "y", "n"), GraphError, "inputs"),
        (node("Add", "x x", "y", "n", braodcast=1), UnsupportedOperator, "broadcast"),
        (node("Upsample", "x", "y", "n"), GraphError, "scales"),
    ],
)
def test_old_forms_that_are_wrong(bad: Any, kind: type[SofieError], word: str) -> None:
    proto = model([bad], {"x": ["N", 2, 3, 3]}, "y", {"w": numbers(4)}, opset=1)
    refused(proto, kind, "node 'n'", word)


def test_newer_opsets_have_no_old_attributes() -> None:
    for bad in (
        node("Add", "x x", "y", "n", broadcast=1),
        node("Abs", "x", "y", "n", consumed_inputs=[0]),
        node("Gemm", "x x", "y", "n", broadcast=1),
    ):
        refused(model([bad], {"x": [2, 2]}, opset=7), UnsupportedOperator, "attribute")
