"""Recurrent layers whose last states alone are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.types import TensorType
from sofie_rdf.ops.layout import Transpose
from sofie_rdf.ops.recurrent import Recurrent

__all__ = ["read_in_place"]

_EXCHANGED = Transpose((1, 0, 2))


def read_in_place(graph: Graph) -> Graph:
    """A layer reads the sequences of a batch where they are, instead of a copy by steps.

    Its last states are in the order of the batch then; that of one direction is the same memory.
    """
    types, nodes = dict(graph.types), list[Node]()
    changed = False
    for node in graph.nodes:
        before = graph.producers.get(node.inputs[0]) if isinstance(node.op, Recurrent) else None
        if before is not None and _is_read_in_place(graph, node, before):
            nodes.extend(_by_event(types, node, before))
            changed = True
        else:
            nodes.append(node)
    if not changed:
        return graph
    return replace(graph, nodes=tuple(nodes), types=MappingProxyType(types))


def _is_read_in_place(graph: Graph, node: Node, before: Node) -> bool:
    assert isinstance(node.op, Recurrent)
    states = any(node.inputs[5:7])
    exchanged = isinstance(before.op, Transpose) and before.op.perm == _EXCHANGED.perm
    return exchanged and not node.op.layout and not states and node.outputs[0] in graph.unread


def _by_event(types: dict[str, TensorType], node: Node, before: Node) -> Iterator[Node]:
    """The layer on what the transpose reads, and its last states in the order that they had."""
    named = []
    for name in node.outputs:
        fresh = f"{name}.by_event"
        while fresh in types:
            fresh += "_"
        shape = types[name].shape
        order = (2, 0, 1, 3) if len(shape) == 4 else (1, 0, 2)
        types[fresh] = TensorType(types[name].dtype, tuple(shape[a] for a in order))
        named.append(fresh)
    inputs = (before.inputs[0], *node.inputs[1:])
    assert isinstance(node.op, Recurrent)
    op = replace(node.op, layout=True)
    yield replace(node, op=op, inputs=inputs, outputs=tuple(named))
    del types[node.outputs[0]]
    for fresh, name in zip(named[1:], node.outputs[1:], strict=True):
        yield Node(_EXCHANGED, (fresh,), (name,), node.origin)
