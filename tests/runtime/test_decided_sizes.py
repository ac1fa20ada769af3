"""Sizes that the data decide: another one at every call, none too, and all that depends on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import sofie_rdf as sofie
from sofie_rdf.errors import InputError
from sofie_rdf.ir.types import Array
from tests.frontends.models import model, node, value
from tests.runtime.agreement import agree, outputs_of

pytest.importorskip("ROOT")
pytest.importorskip("onnxruntime")

INT64, BOOL = onnx.TensorProto.INT64, onnx.TensorProto.BOOL


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scalar(number: float, dtype: Any = np.float32) -> Array:
    return np.array(number, dtype)


def vector(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


# Particles, of which those with a positive first feature are taken: none, some, all, and again.
SETS = (
    numbers(6, 4),
    -np.abs(numbers(5, 4)),
    np.abs(numbers(9, 4)),
    numbers(0, 4),
    numbers(40, 4, seed=2),
    numbers(1, 4),
)

SELECTION = [
    node("Gather", "x zero", "first", axis=1),
    node("Greater", "first cut", "good"),
    node("NonZero", "good", "places"),
    node("Squeeze", "places axis", "rows"),
    node("Gather", "x rows", "taken", axis=0),
]
KNOWN = {"zero": scalar(0, np.int64), "cut": scalar(0), "axis": vector(0)}


def selected(
    nodes: list[Any], outputs: Any, weights: Mapping[str, Array] | None = None
) -> onnx.ModelProto:
    """A model whose nodes go on with ``taken`` or ``rows``."""
    return model([*SELECTION, *nodes], {"x": ["N", 4]}, outputs, {**KNOWN, **(weights or {})})


def test_a_network_of_the_rows_that_are_selected() -> None:
    nodes = [
        node("Gemm", "taken w b", "hidden"),
        node("Relu", "hidden", "active"),
        node("ReduceSum", "active axis", "sum", keepdims=0),
        node("Softmax", "active", "shares", axis=1),
        node("Transpose", "shares", "turned"),
        node("Concat", "taken active", "both", axis=1),
        node("Shape", "both", "shape"),
    ]
    outputs = [value(n, None) for n in ("sum", "turned", "both")]
    outputs += [value(n, None, INT64) for n in ("shape", "rows")]
    weights = {"w": numbers(4, 5, seed=3), "b": numbers(5, seed=4)}
    compiled = agree(selected(nodes, outputs, weights), *[{"x": x} for x in SETS])
    sizes = [len(outputs_of(compiled, {"x": x})["rows"]) for x in SETS]
    assert sizes[1] == sizes[3] == 0
    assert sizes[2] == 9
    assert len(set(sizes)) > 3


def test_results_stay_when_the_model_is_called_again() -> None:
    """A result is a copy: the Session's own memory is written to by the next call."""
    compiled = sofie.from_onnx(selected([node("Relu", "taken", "y")], "y"))
    before = [compiled(x) for x in SETS]
    for found, x in zip(before, SETS, strict=True):
        np.testing.assert_array_equal(found, np.maximum(x[x[:, 0] > 0], 0))


def test_outputs_that_are_other_forms_of_one_value() -> None:
    """None of them has the shape of the tensor in which it is computed."""
    nodes = [
        node("Flatten", "taken", "flat", axis=0),
        node("Unsqueeze", "taken middle", "deep"),
        node("Identity", "taken", "again"),
        node("Reshape", "taken pairs", "pairs_of"),
        node("Neg", "deep", "negative"),
    ]
    given = {"middle": vector(1), "pairs": vector(-1, 2)}
    order = ["deep", "taken", "flat", "again", "negative", "pairs_of"]
    agree(selected(nodes, " ".join(order), given), *[{"x": x} for x in SETS])


@pytest.mark.parametrize("first", ["e1", "left"])
def test_sizes_that_are_inputs_beside_sums_of_sizes(first: str) -> None:
    """As detectors of objects have them: what is known must be what other inputs say.

    Names decide which of two sizes gives way to the other.
    """
    half = {"kernel_shape": [2], "strides": [2]}
    nodes = [
        node("MaxPool", "x", "a", **half),
        node("MaxPool", "a", "b", **half),
        node("Concat", "x a b", "c", axis=2),
        node("Sigmoid", "c", "s"),
        node("Concat", "planes k", "few", axis=0),
        node("Concat", "planes j", "more", axis=0),
        node("Expand", "one few", first),
        node("Expand", "one more", "right"),
        node("Concat", f"{first} right", "e", axis=2),
        node("Concat", "e s", "y", axis=1),
    ]
    inputs = [value("x", [1, 3, "H"]), value("k", [1], INT64), value("j", [1], INT64)]
    weights = {"planes": vector(1, 4), "one": np.ones((1, 1, 1), np.float32)}
    proto = model(nodes, inputs, "y", weights, opset=17)
    calls = []
    for high, some in ((16, 5), (8, 0), (17, 20), (9, 15)):
        rest = high + high // 2 + high // 4 - some
        calls.append({"x": numbers(1, 3, high), "k": vector(some), "j": vector(rest)})
    compiled = agree(proto, *calls)
    with pytest.raises(InputError, match="y"):
        compiled({**calls[0], "k": vector(6)})


def test_of_what_is_selected_only_the_number_is_used() -> None:
    nodes = [node("Shape", "taken", "shape"), node("Expand", "cut shape", "y")]
    agree(selected(nodes, "y"), *[{"x": x} for x in SETS])


def test_the_places_themselves_are_an_output() -> None:
    """The vector of places shares its elements with the matrix that NonZero makes."""
    outputs = [value("rows", None, INT64)]
    agree(selected([], outputs), *[{"x": x} for x in SETS])


def test_two_selections_in_turn() -> None:
    nodes = [
        node("Gather", "taken one", "second", axis=1),
        node("Less", "second cut", "low"),
        node("Compress", "taken low", "twice", axis=0),
        node("ReduceMean", "twice axes", "mean", keepdims=0),
        node("MatMul", "twice turned", "products"),
        node("Transpose", "twice", "turned"),
    ]
    given = {"one": scalar(1, np.int64), "axes": vector(0)}
    few = [x for x in SETS if np.any((x[:, 0] > 0) & (x[:, 1] < 0))]
    assert len(few) > 1
    proto = selected(nodes, "twice products mean", given)
    proto.opset_import[0].version = 18
    agree(proto, *[{"x": x} for x in few])
    # The mean of no row has no number; the others are empty.
    empty = outputs_of(sofie.from_onnx(proto), {"x": SETS[1]})
    assert (empty["twice"].shape, empty["products"].shape) == ((0, 4), (0, 0))
    assert np.isnan(empty["mean"]).all()


def test_a_size_that_is_used_as_a_number() -> None:
    """The count of the rows is a divisor, a limit of Range and a size of Expand."""
    nodes = [
        node("Shape", "taken", "shape"),
        node("Gather", "shape zero", "count"),
        node("Cast", "count", "divisor", to=onnx.TensorProto.FLOAT),
        node("ReduceSum", "taken axis", "sum", keepdims=0),
        node("Max", "divisor unit", "safe"),
        node("Div", "sum safe", "mean"),
        node("Range", "zero count step", "numbers"),
        node("Unsqueeze", "count axis", "wanted"),
        node("Expand", "unit wanted", "ones"),
    ]
    outputs = [value("mean", None), value("numbers", None, INT64), value("ones", None)]
    given = {"unit": scalar(1), "step": scalar(1, np.int64)}
    agree(selected(nodes, outputs, given), *[{"x": x} for x in SETS])


def test_the_largest_of_a_number_that_is_computed() -> None:
    nodes = [
        node("ReduceSum", "good_numbers", "count", keepdims=1),
        node("TopK", "first count", "y at"),
    ]
    nodes.insert(0, node("Cast", "good", "good_numbers", to=INT64))
    proto = selected(nodes, [value("y", None), value("at", None, INT64)])
    agree(proto, *[{"x": x} for x in SETS])


def test_sizes_that_must_agree() -> None:
    """Two NonZero whose results are added: that there are as many is found out when it runs."""
    nodes = [node("NonZero", "a", "i"), node("NonZero", "b", "j"), node("Add", "i j", "y")]
    proto = model(nodes, {"a": ["N"], "b": ["N"]}, [value("y", None, INT64)])
    one, two = np.float32([1, 0, 1, 0]), np.float32([0, 2, 2, 0])
    compiled = agree(proto, {"a": one, "b": two}, {"a": one * 0, "b": two * 0})
    for other in (np.float32([1, 1, 1, 0]), np.float32([0, 0, 0, 0])):
        with pytest.raises(InputError, match="axis 1 of j is not"):
            compiled(a=one, b=other)
    # The Session is as good as before.
    np.testing.assert_array_equal(compiled(a=one, b=two), [[1, 4]])


def test_a_size_that_must_be_that_of_an_input() -> None:
    nodes = [*SELECTION, node("Add", "taken other", "y")]
    proto = model(nodes, {"x": ["N", 4], "other": ["M", 4]}, "y", KNOWN)
    x = SETS[0]
    count = int(np.count_nonzero(x[:, 0] > 0))
    compiled = agree(proto, {"x": x, "other": numbers(count, 4, seed=7)})
    for wrong in (0, count + 1, 2 * count):
        with pytest.raises(InputError):
            compiled(x=x, other=numbers(wrong, 4))


def test_unique_and_nonzero_of_whole_tables() -> None:
    nodes = [
        node("Unique", "k", "u first inverse counts"),
        node("NonZero", "k", "places"),
        node("Transpose", "places", "pairs"),
        node("GatherND", "k pairs", "y"),
    ]
    outputs = [value(n, None, INT64) for n in ("u", "inverse", "counts", "pairs", "y")]
    proto = model(nodes, [value("k", ["N", 3], INT64)], outputs)
    random = np.random.default_rng(3)
    agree(proto, *[{"k": random.integers(-2, 3, (n, 3))} for n in (4, 1, 0, 30)])


def test_a_mask_from_outside() -> None:
    nodes = [node("Compress", "x keep", "y", axis=1), node("Softmax", "y", "z", axis=-1)]
    inputs = [value("x", ["N", 5, 2]), value("keep", [5], BOOL)]
    x = numbers(3, 5, 2)
    keeps = ([True] * 5, [False] * 5, [False, True, False, True, True])
    agree(model(nodes, inputs, "y z"), *[{"x": x, "keep": np.array(k)} for k in keeps])


def test_a_loop_without_a_round_has_rows_of_known_sizes() -> None:
    """Their sizes are computed from those of the inputs, and none of them is made."""
    body = helper.make_graph(
        [node("Tanh", "h", "g"), node("Identity", "g", "row"), node("Identity", "c", "on")],
        "body",
        [value("i", [], INT64), value("c", [], BOOL), value("h", None)],
        [value("on", None, BOOL), value("g", None), value("row", None)],
    )
    nodes = [
        node("Concat", "x x", "twice", axis=1),
        node("Slice", "twice one far one", "h0"),
        node("Loop", "rounds - h0", "last rows", body=body),
    ]
    inputs = [value("x", ["N", "L"]), value("rounds", [], INT64)]
    weights = {"one": vector(1), "far": vector(10**9)}
    proto = model(nodes, inputs, "last rows", weights, opset=17)
    compiled = sofie.from_onnx(proto)
    for rows, rounds in ((4, 0), (5, 2), (2, 0)):
        feeds = {"x": numbers(rows, 3), "rounds": scalar(rounds, np.int64)}
        assert outputs_of(compiled, feeds)["rows"].shape == (rounds, rows, 5)
