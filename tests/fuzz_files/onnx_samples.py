"""ONNX models of each operator, and with what is nested: branches, loops, functions, sequences."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import onnx
from onnx import TensorProto, helper

__all__ = ["models"]

_FLOAT = "tensor(float)"


def models() -> list[bytes]:
    """Each is read, so that what is behind the first check is reached."""
    return [*_operators(), *(m.SerializeToString() for m in _nested())]


def _operators() -> Iterator[bytes]:
    from sofie_rdf.frontends.onnx.examples import examples, model_of

    newest: dict[tuple[str, str], Any] = {}
    for schema in onnx.defs.get_all_schemas():
        known = newest.setdefault((schema.domain, schema.name), schema)
        if schema.since_version > known.since_version:
            newest[schema.domain, schema.name] = schema
    for schema in newest.values():
        if schema.deprecated:
            continue
        for example in islice(examples(schema), 2):
            if example.shapes and not schema.inputs:
                continue
            types = [_type(schema, i) for i in range(len(example.shapes))]
            model = model_of(schema, example, types, schema.since_version)
            if model is not None and model.ByteSize() < 4000:
                yield model.SerializeToString()


def _type(schema: Any, number: int) -> str:
    formal = schema.inputs[min(number, len(schema.inputs) - 1)]
    if _FLOAT in formal.types or not formal.types:
        return _FLOAT
    return sorted(formal.types)[0]


def _value(name: str, shape: Any, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], **more: Any) -> Any:
    functions = more.pop("functions", [])
    graph = helper.make_graph(nodes, "g", inputs, outputs, more.pop("weights", []))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=9)


def _nested() -> Iterator[Any]:
    node = helper.make_node
    x, y = _value("x", ["N", 3]), _value("y", ["N", 3])
    then, other = (
        helper.make_graph([node(op, ["x"], [f"{op}_out"])], op, [], [_value(f"{op}_out", ["N", 3])])
        for op in ("Neg", "Abs")
    )
    chosen = _value("c", [], TensorProto.BOOL)
    yield _model([node("If", ["c"], ["y"], then_branch=then, else_branch=other)], [chosen, x], [y])
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Add", ["s", "x"], ["t"])],
        "body",
        [_value("i", [], 7), _value("go", [], 9), _value("s", ["N", 3])],
        [_value("on", [], 9), _value("t", ["N", 3])],
    )
    rounds = helper.make_tensor("m", TensorProto.INT64, [], [3])
    yield _model([node("Loop", ["m", "", "x"], ["y"], body=body)], [x], [y], weights=[rounds])
    step = helper.make_graph(
        [node("Add", ["s", "e"], ["t"]), node("Identity", ["t"], ["u"])],
        "step",
        [_value("s", [3]), _value("e", [3])],
        [_value("t", [3]), _value("u", [3])],
    )
    zero = helper.make_tensor("z", TensorProto.FLOAT, [3], [0.0] * 3)
    scan = node("Scan", ["z", "x"], ["last", "y"], body=step, num_scan_inputs=1)
    yield _model([scan], [x], [y], weights=[zero])
    function = helper.make_function(
        "local",
        "Twice",
        ["a"],
        ["b"],
        [node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    again = helper.make_function(
        "local",
        "Four",
        ["a"],
        ["b"],
        [node("Twice", ["a"], ["t"], domain="local"), node("Twice", ["t"], ["b"], domain="local")],
        [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)],
    )
    calls = [node("Four", ["x"], ["y"], domain="local")]
    yield _model(calls, [x], [y], functions=[function, again])
    sizes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["k"]),
        node("Concat", ["k", "minus"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["y"]),
    ]
    numbers = [
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("minus", TensorProto.INT64, [1], [-1]),
    ]
    yield _model(sizes, [x], [_value("y", None)], weights=numbers)
    listed = [
        node("SequenceConstruct", ["x", "x"], ["q"]),
        node("ConcatFromSequence", ["q"], ["y"], axis=0),
    ]
    yield _model(listed, [x], [_value("y", None)])
