"""Graphs in graphs: what is read again at each level is bounded, and sizes are followed once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, helper

from tests.hostile.child import opened
from tests.hostile.test_bombs import BOOL, FLOAT, INT64, model, node, value

CONDITION = value("c", [], BOOL)
X = value("x", ["N"])


def graph(nodes: Sequence[Any], result: str = "b", inputs: Sequence[Any] = ()) -> GraphProto:
    return helper.make_graph(list(nodes), "body", list(inputs), [value(result, None)])


def sequences(depth: int) -> ModelProto:
    """A sequence, or an empty one: each branch is read again when the other one is known."""
    full = graph([node("SequenceConstruct", ["x", "x"], ["b"])])
    for level in range(depth):
        empty = graph([node("SequenceEmpty", [], ["b"])])
        given = {"then_branch": full, "else_branch": empty}
        full = graph([node("If", ["c"], [f"b{level}"], **given)], f"b{level}")
    given = {"then_branch": full, "else_branch": graph([node("SequenceEmpty", [], ["b"])])}
    nodes = [node("If", ["c"], ["s"], **given), node("ConcatFromSequence", ["s"], ["y"], axis=0)]
    return model(nodes, inputs=[X, CONDITION])


def loops(depth: int) -> ModelProto:
    """What each Loop carries grows in each round, so that each body is read again."""
    inner: list[Any] = []
    for level in reversed(range(depth)):
        name, result = f"b{level}", f"a{level}"
        longer = f"r{level}" if inner else name
        nodes = [*inner, node("Concat", [longer, longer], [result], axis=0)]
        nodes.append(node("Identity", [f"go{level}"], [f"on{level}"]))
        body = helper.make_graph(
            nodes,
            "body",
            [value(f"i{level}", [], INT64), value(f"go{level}", [], BOOL), value(name, None)],
            [value(f"on{level}", [], BOOL), value(result, None)],
        )
        outer = (f"b{level - 1}", f"r{level - 1}") if level else ("x", "y")
        inner = [node("Loop", ["trips", "true", outer[0]], [outer[1]], body=body)]
    inputs = [value("x", [3]), value("trips", [], INT64)]
    return model(inner, constants={"true": True}, inputs=inputs)


def scans(depth: int) -> ModelProto:
    """What each Scan carries grows in each step, and what it reads is the same as outside."""
    inner: list[Any] = []
    for level in reversed(range(depth)):
        name, result = f"b{level}", f"a{level}"
        longer = f"r{level}" if inner else name
        body = helper.make_graph(
            [*inner, node("Concat", [longer, longer], [result], axis=0)],
            "body",
            [value(name, None), value(f"i{level}", None)],
            [value(result, None)],
        )
        outer = (f"b{level - 1}", f"r{level - 1}") if level else ("x", "y")
        inner = [node("Scan", [outer[0], "steps"], [outer[1]], body=body, num_scan_inputs=1)]
    inputs = [value("x", [3]), value("steps", ["T", 2])]
    return model(inner, inputs=inputs)


def condition(doublings: int) -> ModelProto:
    """An If on what a size says, by way of a value that is added to itself again and again."""
    steps = [f"r{i}" for i in range(doublings + 1)]
    nodes = [node("Shape", ["x"], ["s"]), node("Squeeze", ["s"], ["n"])]
    nodes += [node("Cast", ["n"], ["r0"], to=FLOAT)]
    nodes += [node("Add", [a, a], [b]) for a, b in pairwise(steps)]
    nodes += [
        node("Greater", [steps[-1], "zero"], ["c"]),
        node(
            "If",
            ["c"],
            ["y"],
            then_branch=graph([node("Relu", ["x"], ["b"])]),
            else_branch=graph([node("Unsqueeze", ["x", "axes"], ["b"])]),
        ),
    ]
    constants = {"zero": np.float32(0), "axes": np.array([0])}
    return model(nodes, inputs=[X], constants=constants)


def deep(depth: int) -> bytes:
    """Ifs in Ifs as bytes: protobuf's Python refuses to make what is so deep."""

    def part(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    inner = part(1, part(2, b"b") + part(4, b"Relu") + part(1, b"x"))
    for _ in range(depth):
        named = part(1, b"then_branch") + part(6, inner) + bytes([20 << 3, 5])
        inner = part(1, part(1, b"c") + part(2, b"b") + part(4, b"If") + part(5, named))
    proto = model([])
    return proto.SerializeToString() + part(7, inner)


def found(tmp_path: Path, proto: ModelProto | bytes, limits: str = "") -> str:
    path = tmp_path / "nested.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return opened(path, limits, seconds=180)


def test_bodies_that_are_read_again_are_counted_again(tmp_path: Path) -> None:
    assert found(tmp_path, sequences(2)) == "emitted"
    assert found(tmp_path, sequences(25), "nodes=1e4").startswith("LimitExceeded nested.onnx")


def test_loops_in_loops(tmp_path: Path) -> None:
    assert found(tmp_path, loops(3)) == "emitted"
    assert found(tmp_path, loops(10)) == "emitted"


def test_scans_in_scans(tmp_path: Path) -> None:
    """A body is read again when the types of what it carries change, which the budget pays for."""
    assert found(tmp_path, scans(3)) == "emitted"
    assert found(tmp_path, scans(9)) == "emitted"
    assert found(tmp_path, scans(20), "nodes=1e4").startswith("LimitExceeded nested.onnx")


def test_more_levels_than_protobuf_reads(tmp_path: Path) -> None:
    assert found(tmp_path, deep(60)).startswith("CorruptFile nested.onnx")
    assert found(tmp_path, deep(3_000)).startswith("CorruptFile nested.onnx")


def test_what_a_condition_depends_on_is_looked_at_once(tmp_path: Path) -> None:
    assert found(tmp_path, condition(60)) == "emitted"
