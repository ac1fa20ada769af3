"""Small files that ask for much: an error that names the limit, soon and in little memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import FunctionProto, ModelProto, TensorProto, helper, numpy_helper

from tests.hostile.child import opened

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, shape: Sequence[Any] | None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: Sequence[Any],
    *,
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    constants: dict[str, Any] | None = None,
    functions: Sequence[FunctionProto] = (),
    opset: int = 20,
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "bomb",
        inputs or [value("x", ["N"])],
        outputs or [value("y", None)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions)


node = helper.make_node


def split() -> ModelProto:
    return model([node("Split", ["x"], ["y"], num_outputs=2**40)])


def loop(trips: int = 10**9) -> ModelProto:
    """carried = carried + 1, again and again, of constants."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Add", ["before", "one"], ["after"])],
        "body",
        [value("i", [], INT64), value("go", [], BOOL), value("before", [])],
        [value("on", [], BOOL), value("after", [])],
    )
    constants = {"trips": np.int64(trips), "true": True, "one": np.float32(1)}
    nodes = [
        node("Loop", ["trips", "true", "one"], ["last"], body=body),
        node("Mul", ["x", "last"], ["y"]),
    ]
    return model(nodes, constants=constants)


def scans(trips: int = 10**9) -> ModelProto:
    """A Loop that stacks an array for each round."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Add", ["big", "big"], ["item"])],
        "body",
        [value("i", [], INT64), value("go", [], BOOL)],
        [value("on", [], BOOL), value("item", [1000])],
    )
    constants = {"trips": np.int64(trips), "true": True, "big": np.ones(1000, np.float32)}
    nodes = [
        node("Loop", ["trips", "true"], ["all"], body=body),
        node("ReduceSum", ["all"], ["last"], keepdims=0),
        node("Mul", ["x", "last"], ["y"]),
    ]
    return model(nodes, constants=constants)


def functions(levels: int = 12, calls: int = 8) -> ModelProto:
    """Each function calls the next one several times."""
    made = []
    for level in range(levels):
        names = ["a", *(f"t{i}" for i in range(calls - 1)), "b"]
        domain, name = ("own", f"f{level + 1}") if level + 1 < levels else ("", "Relu")
        steps = [node(name, [one], [other], domain=domain) for one, other in pairwise(names)]
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
        made.append(helper.make_function("own", f"f{level}", ["a"], ["b"], steps, opsets))
    return model([node("f0", ["x"], ["y"], domain="own")], functions=made)


def all_functions() -> ModelProto:
    """As before, and the network itself calls each of them, so that all are written out at once."""
    proto = functions()
    calls = [node(f"f{i}", ["x"], [f"unused{i}"], domain="own") for i in range(12)]
    proto.graph.node.extend(calls)
    return proto


def squares(times: int = 40, op: str = "Mul") -> ModelProto:
    """A size times itself, again and again."""
    nodes = [node("Shape", ["x"], ["s0"])]
    nodes += [node(op, [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(times)]
    nodes += [node("ConstantOfShape", [f"s{times}"], ["y"])]
    return model(nodes)


def squared_sums() -> ModelProto:
    """(A + B)^2^40."""
    nodes = [
        node("Shape", ["x"], ["a"]),
        node("Shape", ["z"], ["b"]),
        node("Add", ["a", "b"], ["s0"]),
    ]
    nodes += [node("Mul", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(40)]
    nodes += [node("ConstantOfShape", ["s40"], ["y"])]
    return model(nodes, inputs=[value("x", ["A"]), value("z", ["B"])])


def squared_numbers() -> ModelProto:
    """[N, 2] squared again and again: a number of 2^60 digits, were it followed."""
    nodes = [node("Shape", ["x"], ["n"]), node("Concat", ["n", "two"], ["s0"], axis=0)]
    nodes += [node("Mul", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(60)]
    nodes += [node("Gather", ["s60", "one"], ["last"]), node("Expand", ["x", "last"], ["y"])]
    return model(nodes, constants={"two": np.array([2]), "one": np.array([1])})


def constants_only(
    op: str, names: Sequence[str], arrays: dict[str, Any], **more: Any
) -> ModelProto:
    """x times the sum of what an operator makes of constants."""
    nodes = [
        node(op, names, ["c"], **more),
        node("ReduceSum", ["c"], ["sum"], keepdims=0),
        node("Cast", ["sum"], ["factor"], to=FLOAT),
        node("Mul", ["x", "factor"], ["y"]),
    ]
    return model(nodes, constants=arrays)


HUGE = 10**12
LINE, MAP = np.ones((1, 1, 4), np.float32), np.ones((1, 1, 4, 4), np.float32)
SMALL = np.ones(3, np.float32)


def longs(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


def sparse() -> ModelProto:
    proto = model([node("Mul", ["x", "c"], ["y"])])
    weight = proto.graph.sparse_initializer.add()
    weight.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "c"))
    weight.indices.CopyFrom(numpy_helper.from_array(longs(0), "i"))
    weight.dims.append(HUGE)
    return proto


BOMBS: dict[str, Callable[[], ModelProto]] = {
    "a Split into 2^40": split,
    "a Loop of 10^9 rounds": loop,
    "a Loop of 10^9 rounds that stacks": scans,
    "functions of functions": functions,
    "all functions of functions": all_functions,
    "sizes squared": squares,
    "sums of sizes squared": squared_sums,
    "a range of floats": lambda: constants_only(
        "Range", ["a", "b", "d"], {"a": np.float32(0), "b": np.float32(HUGE), "d": np.float32(1)}
    ),
    "a Pad that is cut off": lambda: constants_only(
        "Pad", ["v", "p"], {"v": SMALL, "p": longs(HUGE, -HUGE)}
    ),
    "points of a region": lambda: constants_only(
        "RoiAlign",
        ["v", "r", "i"],
        {"v": MAP, "r": np.ones((1, 4), np.float32), "i": longs(0)},
        output_height=2,
        output_width=2,
        sampling_ratio=10**6,
    ),
    "pads of a convolution": lambda: constants_only(
        "Conv", ["v", "w"], {"v": LINE, "w": LINE}, pads=[HUGE, HUGE], strides=[HUGE]
    ),
    "what a ConvTranspose cuts off": lambda: constants_only(
        "ConvTranspose", ["v", "w"], {"v": LINE, "w": LINE}, strides=[HUGE], pads=[HUGE, 2 * HUGE]
    ),
    "a sparse weight": sparse,
}


# What is emitted, as no memory is needed for that, and refused before the first call.
GIANTS: dict[str, Callable[[], ModelProto]] = {
    "ConstantOfShape": lambda: constants_only("ConstantOfShape", ["s"], {"s": longs(2**40, 2**40)}),
    "Expand": lambda: constants_only("Expand", ["x", "s"], {"s": longs(HUGE, 1)}),
    "Tile": lambda: constants_only("Tile", ["x", "s"], {"s": longs(HUGE)}),
    "Range": lambda: constants_only(
        "Range", ["a", "b", "d"], {"a": np.int64(0), "b": np.int64(HUGE), "d": np.int64(1)}
    ),
    "Pad": lambda: constants_only("Pad", ["v", "p"], {"v": SMALL, "p": longs(HUGE, 0)}),
    "OneHot": lambda: constants_only(
        "OneHot", ["i", "d", "v"], {"i": longs(1), "d": np.int64(HUGE), "v": SMALL[:2]}
    ),
    "Resize": lambda: constants_only(
        "Resize", ["v", "", "", "s"], {"v": MAP, "s": longs(1, 1, 10**6, 10**6)}, mode="linear"
    ),
    "HannWindow": lambda: constants_only("HannWindow", ["s"], {"s": np.int64(HUGE)}),
    "DFT": lambda: constants_only(
        "DFT", ["v", "s"], {"v": LINE.reshape(1, 4, 1), "s": np.int64(HUGE)}
    ),
    "MaxRoiPool": lambda: constants_only(
        "MaxRoiPool",
        ["v", "r"],
        {"v": MAP, "r": np.ones((1, 5), np.float32)},
        pooled_shape=[10**6] * 2,
    ),
    "RandomNormal": lambda: constants_only("RandomNormal", [], {}, shape=[10**6] * 2),
    "an outer product": lambda: constants_only(
        "Einsum", ["v"] * 8, {"v": np.ones(30, np.float32)}, equation="a,b,c,d,e,f,g,h->abcdefgh"
    ),
    "an input": lambda: model([node("Relu", ["x"], ["y"])], inputs=[value("x", [2**62] * 3)]),
}
_PROGRAM = """
import sys
import sofie_rdf
from sofie_rdf.errors import SofieError
model = sofie_rdf.load(sys.argv[1])
model.emission
try:
    with model._file.allowed.budget():
        list(model._made().trials())
except SofieError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("name", GIANTS)
def test_giant_tensors_are_refused_before_the_first_call(name: str, tmp_path: Path) -> None:
    path = tmp_path / "giant.onnx"
    path.write_bytes(GIANTS[name]().SerializeToString())
    found = opened(path, code=_PROGRAM)
    assert found.startswith("LimitExceeded giant.onnx: the memory for one call"), found


@pytest.mark.parametrize("axes", ["Reshape", "Expand"])
def test_no_tensor_has_a_hundred_thousand_axes(axes: str, tmp_path: Path) -> None:
    path = tmp_path / "flat.onnx"
    shape = np.array([-1 if axes == "Reshape" else 1] + [1] * 100_000)
    path.write_bytes(
        model([node(axes, ["x", "s"], ["y"])], constants={"s": shape}).SerializeToString()
    )
    assert "ShapeError" in opened(path) and "100001 axes" in opened(path)


def test_neighbours_beyond_the_channels_cost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lrn.onnx"
    proto = constants_only("LRN", ["v"], {"v": MAP}, size=2**40 + 1)
    path.write_bytes(proto.SerializeToString())
    assert opened(path) == "emitted"


@pytest.mark.parametrize("name", BOMBS)
def test_what_asks_for_too_much_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.onnx"
    content = BOMBS[name]().SerializeToString()
    assert len(content) < 10_000
    path.write_bytes(content)
    found = opened(path)
    assert found.startswith("LimitExceeded bomb.onnx"), found
    assert "limits='" in found


def test_limits_are_raised_by_argument_and_kept_by_the_model(tmp_path: Path) -> None:
    path = tmp_path / "loop.onnx"
    path.write_bytes(loop(60_000).SerializeToString())
    assert opened(path).startswith("LimitExceeded loop.onnx: a Loop in all of its rounds")
    # The loop is folded when the model is emitted, long after it was read.
    assert opened(path, "nodes=1e6") == "emitted"
    assert opened(path, "nodes=1e6,bytes=8").startswith("LimitExceeded loop.onnx")


def test_a_file_name_that_cannot_be() -> None:
    import sofie_rdf

    with pytest.raises(sofie_rdf.errors.InputError, match="which no file can be called"):
        sofie_rdf.load("no\0file.onnx")
    for name in ("no\udcfffile.onnx", "~nobody/file.onnx"):
        with pytest.raises(sofie_rdf.ModelError, match="cannot be read"):
            sofie_rdf.load(name)
