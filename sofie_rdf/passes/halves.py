"""float16 and bfloat16 are computed in float32: the kernels see them only to move and cast them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType

import numpy as np

from sofie_rdf.ir.graph import Graph, Node, Origin
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.elementwise import Cast

__all__ = ["in_float32", "widen_halves"]

_WIDE = DType.FLOAT32


def widen_halves(graph: Graph) -> Graph:
    """The same function, in which no kernel computes with half precision.

    Around every operator that computes, its half inputs are cast to float32, and its float32
    results are rounded to the half type. Constants are cast here and now.
    """
    if not any(_changes(node, graph.types) for node in graph.nodes):
        return graph
    return _Widening(graph).widened()


def _changes(node: Node, types: Mapping[str, TensorType]) -> bool:
    return _computes_in_half(node, types) or _with_wide_bodies(node.op) is not node.op


def _with_wide_bodies(op: Operator) -> Operator:
    """The operator with `widen_halves` applied to the graphs that are its attributes."""
    bodies = {name: widen_halves(body) for name, body in op.bodies.items()}
    changed = {name: body for name, body in bodies.items() if body is not op.bodies[name]}
    return replace(op, **changed) if changed else op


def _computes_in_half(node: Node, types: Mapping[str, TensorType]) -> bool:
    if node.op.moves or node.op.is_alias:
        return False
    return any(types[v].dtype.is_half for v in (*node.inputs, *node.outputs) if v)


def in_float32(op: Operator) -> Operator:
    """The operator that is asked for float32 where this one is asked for half precision."""
    values = {f.name: getattr(op, f.name) for f in fields(op)}
    asked = {n: _WIDE for n, v in values.items() if isinstance(v, DType) and v.is_half}
    return replace(op, **asked) if asked else op


class _Widening:
    """The new graph while it grows; values keep their names."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.types = dict(graph.types)
        self.constants = dict(graph.constants)
        self.nodes: list[Node] = []
        # The float32 form of values that have been cast already.
        self.wide: dict[str, str] = {}

    def widened(self) -> Graph:
        for node in self.graph.nodes:
            if _computes_in_half(node, self.graph.types):
                self.wrap(node)
            else:
                self.nodes.append(replace(node, op=_with_wide_bodies(node.op)))
        used = {*self.graph.outputs, *(i for n in self.nodes for i in n.inputs)}
        unused = self.constants.keys() - used
        return replace(
            self.graph,
            nodes=tuple(self.nodes),
            types=MappingProxyType({n: t for n, t in self.types.items() if n not in unused}),
            constants=MappingProxyType(
                {n: a for n, a in self.constants.items() if n not in unused}
            ),
        )

    def wrap(self, node: Node) -> None:
        inputs = tuple(self.input(i, node.origin) if self.is_half(i) else i for i in node.inputs)
        outputs = tuple(self.fresh(o) if self.is_half(o) else o for o in node.outputs)
        # Errors name it by its result as it was.
        origin = replace(node.origin, name=node.origin.name or node.outputs[0])
        wide_node = replace(node, op=in_float32(node.op), inputs=inputs, outputs=outputs)
        self.nodes.append(replace(wide_node, origin=origin))
        for wide, output in zip(outputs, node.outputs, strict=True):
            if wide != output:
                cast = Cast(self.types[output].dtype)
                self.nodes.append(Node(cast, (wide,), (output,), node.origin))

    def is_half(self, value: str) -> bool:
        return bool(value) and self.types[value].dtype.is_half

    def input(self, value: str, origin: Origin) -> str:
        """The value in float32."""
        if value not in self.wide:
            self.wide[value] = wide = self.fresh(value)
            if value in self.constants:
                array = self.constants[value].astype(np.float32)
                array.setflags(write=False)
                self.constants[wide] = array
            else:
                self.nodes.append(Node(Cast(_WIDE), (value,), (wide,), origin))
        return self.wide[value]

    def fresh(self, value: str) -> str:
        """A new name for the float32 form of a value, which has its shape."""
        name = f"{value}.{_WIDE}"
        while name in self.types:
            name += "_"
        self.types[name] = TensorType(_WIDE, self.types[value].shape)
        return name
