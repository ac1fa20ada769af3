"""The same network in float64: what sums over many events are computed with."""

from __future__ import annotations

from dataclasses import fields, replace
from types import MappingProxyType

import numpy as np

from sofie_rdf.errors import ModelError, ShapeError, SofieError, TypeMismatch
from sofie_rdf.ir.builder import infer_node
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType, TensorType

__all__ = ["in_float64"]


def in_float64(graph: Graph) -> Graph:
    """The graph whose float32 numbers are float64: inputs, outputs, constants and all between.

    `ModelError`, with the node, for an operator that gives float32 whatever it is given.
    """
    types = {name: _wide(type_) for name, type_ in graph.types.items()}
    constants = {name: _wide_array(array) for name, array in graph.constants.items()}
    nodes = tuple(replace(node, op=_asked_for_wide(node.op)) for node in graph.nodes)
    made = replace(
        graph,
        nodes=nodes,
        types=MappingProxyType(types),
        constants=MappingProxyType(constants),
    )
    for node in nodes:
        _require_wide(made, node)
    return made


def _wide(type_: TensorType) -> TensorType:
    return TensorType(DType.FLOAT64, type_.shape) if type_.dtype is DType.FLOAT32 else type_


def _wide_array(array: Array) -> Array:
    if array.dtype != np.float32:
        return array
    found = array.astype(np.float64)
    found.setflags(write=False)
    return found


def _asked_for_wide(op: Operator) -> Operator:
    """The operator that is asked for float64 where this one is asked for float32."""
    changed: dict[str, object] = {name: in_float64(body) for name, body in op.bodies.items()}
    for field in fields(op):
        if getattr(op, field.name) is DType.FLOAT32:
            changed[field.name] = DType.FLOAT64
    return replace(op, **changed) if changed else op


def _require_wide(graph: Graph, node: Node) -> None:
    """`ModelError` for a node that does not give what is noted of it."""
    try:
        found = infer_node(node.op, [graph.types[name] if name else None for name in node.inputs])
    except (ShapeError, TypeMismatch) as error:
        raise _no_float64(node, error) from None
    for name, type_ in zip(node.outputs, found, strict=False):
        if name and type_.dtype is not graph.types[name].dtype:
            raise _no_float64(node, None)


def _no_float64(node: Node, reason: SofieError | None) -> ModelError:
    why = f": {reason.thing}" if reason else ""
    return ModelError(
        f"{type(node.op).full_name()} cannot be computed in float64{why}",
        place=str(node.origin),
        remedy='Use precision="float32", if sums of rounded numbers do',
    )
