"""What others compute for a case: ONNX's own evaluator, and onnxruntime."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.recurrent import Recurrent
from tests.ops import foreign

Types: TypeAlias = tuple[TensorType | None, ...]
# (operator, types of the inputs, types of the outputs, inputs) -> outputs
Oracle: TypeAlias = Callable[
    [Operator, Types, tuple[TensorType, ...], Sequence[Array | None]], list[Array]
]

NEWEST = onnx.defs.onnx_opset_version()
# The newest form of a file that onnxruntime reads, or an older one.
_FILE_VERSION = 10
# Versions of the operators to which onnxruntime's kernels are bound.
_OLDER = (24, 21, 17, 13)


def onnx_evaluator(
    op: Operator, types: Types, results: tuple[TensorType, ...], inputs: Sequence[Array | None]
) -> list[Array]:
    found = _evaluator(op, types, results).run(None, _named(inputs))
    return [np.asarray(a) for a in found]


def onnx_runtime(
    op: Operator, types: Types, results: tuple[TensorType, ...], inputs: Sequence[Array | None]
) -> list[Array]:
    if isinstance(op, Recurrent) and (op.layout or not op.hidden_size):
        return _recurrent(op, types, results, inputs)
    return foreign.run(_files(op, types, results), _named(inputs))


def _recurrent(
    op: Recurrent, types: Types, results: tuple[TensorType, ...], inputs: Sequence[Array | None]
) -> list[Array]:
    """onnxruntime wants to be told the hidden size, and has steps first, never events."""
    recurrence = inputs[2]
    assert recurrence is not None
    plain = dataclasses.replace(op, hidden_size=recurrence.shape[2])
    if not plain.layout:
        return onnx_runtime(plain, types, results, inputs)
    plain = dataclasses.replace(plain, layout=False)
    states = (0, 5, 6)  # x, h, and c.
    turned = [
        np.swapaxes(a, 0, 1) if i in states and a is not None else a for i, a in enumerate(inputs)
    ]
    y, *last = onnx_runtime(plain, types, results, turned)
    return [np.moveaxis(y, 2, 0), *(np.swapaxes(a, 0, 1) for a in last)]


def _named(inputs: Sequence[Array | None]) -> dict[str, Array]:
    return {f"x{i}": np.asarray(a) for i, a in enumerate(inputs) if a is not None}


@cache
def _evaluator(op: Operator, types: Types, results: tuple[TensorType, ...]) -> ReferenceEvaluator:
    return ReferenceEvaluator(_model(op, types, results, NEWEST))


@cache
def _files(op: Operator, types: Types, results: tuple[TensorType, ...]) -> tuple[bytes, ...]:
    """Models of the operator's own version, and of older ones that have the same form."""
    models = [_model(op, types, results, v) for v in dict.fromkeys((max(op.since, 13), *_OLDER))]
    for model in models:
        model.ir_version = _FILE_VERSION
    return tuple(m.SerializeToString() for m in models)


def _model(
    op: Operator, types: Types, results: tuple[TensorType, ...], opset: int
) -> onnx.ModelProto:
    """A model of this one node."""
    plain, folded = _attributes(op)
    names = [f"x{i}" if t is not None else "" for i, t in enumerate(types)]
    for position, value in sorted(folded.items()):
        names += [""] * (position - len(names))  # Optional inputs that are absent.
        names.insert(position, f"c{position}")
        assert names[position] == f"c{position}", value
    node = helper.make_node(op.name, names, [f"y{i}" for i, _ in enumerate(results)])
    node.attribute.extend(plain)
    graph = helper.make_graph(
        [node],
        "one",
        [_value(f"x{i}", t) for i, t in enumerate(types) if t is not None],
        [_value(f"y{i}", t) for i, t in enumerate(results)],
        [numpy_helper.from_array(a, f"c{p}") for p, a in folded.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def _value(name: str, type_: TensorType) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _element_type(type_.dtype), [None] * type_.rank)


def _attributes(op: Operator) -> tuple[list[onnx.AttributeProto], dict[int, Array]]:
    """The fields as ONNX attributes, and those that ONNX has as inputs by their position.

    What is as it is by default is not said, so that the defaults must be those of ONNX.
    """
    folded = {name: position for position, name in op.folded_inputs().items()}
    schema = onnx.defs.get_schema(op.name).attributes
    plain: list[onnx.AttributeProto] = []
    inputs: dict[int, Array] = {}
    needed = {n: getattr(op, n) for n, a in schema.items() if a.required and hasattr(op, n)}
    for name, value in {**needed, **op.attributes()}.items():
        if name in folded:
            inputs[folded[name]] = _folded(value)
        else:
            kind = schema[name].type.value if name in schema else None
            plain.append(helper.make_attribute(name, _plain(value), attr_type=kind))
    return plain, inputs


def _folded(value: Any) -> Array:
    numbers = value if isinstance(value, tuple) else (value,)
    has_floats = any(isinstance(n, float) for n in numbers)
    return np.array(value, np.float32 if has_floats else np.int64)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _element_type(DType(value))
    return int(value) if isinstance(value, bool) else value


def _element_type(dtype: DType) -> int:
    return int(helper.np_dtype_to_tensor_dtype(dtype.numpy))


def as_onnx_stores_it(op: Operator) -> Operator:
    """The operator with its attributes rounded to float32, which is all that a file holds."""
    values: Mapping[str, Any] = {f.name: getattr(op, f.name) for f in dataclasses.fields(op)}
    floats = {n: float(np.float32(v)) for n, v in values.items() if isinstance(v, float)}
    return dataclasses.replace(op, **floats)
