"""Tensors with memory of their own, and graphs in graphs, under g++'s sanitizers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import sofie_rdf as sofie
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate
from tests.frontends.models import initializer, model, node, value
from tests.ops.test_sanitized import build, run

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")

INT64, BOOL = onnx.TensorProto.INT64, onnx.TensorProto.BOOL


def graph_of(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> onnx.GraphProto:
    return helper.make_graph(nodes, "body", inputs, outputs)


def branches() -> Any:
    """Results that are other forms of what is computed in the branch, or only read there."""
    one = [node("Relu", "rows", "t"), node("Flatten", "t", "a", axis=0), node("Abs", "t", "b")]
    other = [node("Flatten", "rows", "p", axis=0), node("Concat", "rows w", "q", axis=0)]
    names = (["a", "b"], ["p", "q"])
    graphs = [
        graph_of(nodes, [], [value(n, None) for n in outputs])
        for nodes, outputs in zip((one, other), names, strict=True)
    ]
    return helper.make_node(
        "If", ["up"], ["flat", "table"], then_branch=graphs[0], else_branch=graphs[1]
    )


def rounds() -> Any:
    """What is carried grows, and is not always more; inside, the data decide sizes too."""
    deeper = helper.make_node(
        "If",
        ["even"],
        ["next"],
        then_branch=graph_of([node("Concat", "h table", "u", axis=0)], [], [value("u", None)]),
        else_branch=graph_of([node("Compress", "h good", "v", axis=0)], [], [value("v", None)]),
    )
    nodes = [
        node("Mod", "i two", "odd"),
        node("Equal", "odd none", "even"),
        node("ReduceMax", "h last", "largest", keepdims=0),
        node("Greater", "largest half", "good"),
        deeper,
        node("ReduceSum", "next first", "sum", keepdims=0),
        node("Identity", "c", "on"),
    ]
    inputs = [value("i", [], INT64), value("c", [], BOOL), value("h", None)]
    outputs = [value("on", None, BOOL), value("next", None), value("sum", None)]
    return node("Loop", "three - table", "grown sums", body=graph_of(nodes, inputs, outputs))


def everything() -> sofie.Model:
    nodes = [
        node("ReduceMax", "x last", "top", keepdims=0),
        node("Greater", "top half", "taken"),
        node("Compress", "x taken", "rows", axis=0),
        node("ReduceSum", "x", "sum", keepdims=0),
        node("Greater", "sum half", "up"),
        branches(),
        rounds(),
        node("Identity", "rows", "again"),
        node("Unsqueeze", "grown first", "deep"),
        node("NonZero", "grown", "places"),
        node("Transpose", "places", "pairs"),
    ]
    weights = [
        initializer("w", [[1, -1, 2], [0, 3, -2]]),
        initializer("half", 0.5),
        initializer("two", 2, np.int64),
        initializer("three", 3, np.int64),
        initializer("none", 0, np.int64),
        initializer("first", [0], np.int64),
        initializer("last", [1], np.int64),
    ]
    outputs = ["rows", "again", "flat", "table", "grown", "sums", "deep", "pairs"]
    proto = model(nodes, {"x": ["N", 3]}, " ".join(outputs), weights, opset=18)
    return sofie.from_onnx(proto)


def batches() -> list[dict[str, Array]]:
    random = np.random.default_rng(2)
    given = [random.normal(size=(n, 3)) for n in (5, 1, 0, 40, 3)]
    given += [np.full((4, 3), -1.0), np.full((7, 3), 2.0), given[0]]
    return [{"x": a.astype(np.float32)} for a in given]


@needs_compiler
def test_graphs_in_graphs_and_decided_sizes_are_clean(tmp_path: Path) -> None:
    built = everything()
    feeds = batches()
    sizes = [{"N": len(f["x"]), "M": 0} for f in feeds]
    build([built.optimized], tmp_path, len(feeds))
    (found,) = run([built.optimized], tmp_path, [feeds], sizes)
    shapes = set()
    for given, outputs in zip(feeds, found, strict=True):
        expected = evaluate(built.graph, given)
        for name, array in outputs.items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-5, err_msg=name)
            assert array.shape == expected[name].shape, name
        shapes.add(outputs["grown"].shape)
    assert len(shapes) > 4
