"""Small ONNX models, made in a line, and how wrong ones are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sofie_rdf.errors import SofieError
from sofie_rdf.frontends.onnx.reader import check, read
from sofie_rdf.ir.types import Array

__all__ = ["FLOAT", "NEWEST", "initializer", "model", "node", "numbers", "refuse", "value"]

FLOAT = TensorProto.FLOAT
NEWEST = onnx.defs.onnx_opset_version()


def node(op_type: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> Any:
    """A node; inputs and outputs are separated by blanks, ``-`` is an absent one."""
    split = [[("" if v == "-" else v) for v in text.split()] for text in (inputs, outputs)]
    return helper.make_node(op_type, split[0], split[1], name=name, **attributes)


def value(name: str, shape: Sequence[Any] | None, element: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, element, shape)


def initializer(name: str, array: Any, dtype: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.array(array, dtype), name)


def protos(given: Any, make: Callable[[str, Any], Any]) -> list[Any]:
    """What is listed, or made of names and what belongs to them."""
    return [make(*pair) for pair in given.items()] if isinstance(given, Mapping) else list(given)


def model(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[Any] | None] | Sequence[Any],
    outputs: Sequence[Any] | str = "y",
    weights: Mapping[str, Array] | Sequence[Any] = (),
    *,
    opset: int = 17,
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of these nodes, unchecked, so that it may be wrong."""
    results: Any = outputs
    if isinstance(outputs, str):
        results = [value(o, None) for o in outputs.split()]
    constants = protos(weights, lambda name, array: numpy_helper.from_array(array, name))
    graph = helper.make_graph(list(nodes), "test", protos(inputs, value), list(results), constants)
    sets = [helper.make_opsetid(d, v) for d, v in {"": opset, **(domains or {})}.items()]
    return helper.make_model(graph, opset_imports=sets, ir_version=10)


def numbers(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def refuse(proto: Any, kind: type[SofieError], *words: str, **options: Any) -> SofieError:
    """`read` raises this, and `check` lists it, with all these words."""
    with pytest.raises(kind) as caught:
        read(proto, **options)
    for word in words:
        assert word in str(caught.value)
    assert any(all(w in str(p) for w in words) for p in check(proto, **options))
    return caught.value
