"""Dense layers that follow each other become one operator, in which rows go through all of them."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ops.linear import Dense, DenseLayers

__all__ = ["join_layers"]

# How many bytes their weights may have: they are read again for every few rows, so that they must
# stay in the second cache.
MOST_BYTES = 1 << 20


def join_layers(graph: Graph) -> Graph:
    """The graph with a `DenseLayers` for layers of which each is all that reads the one before."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            readers.setdefault(value, []).append(node)
    # By the output of the last layer so far: the layers, and how many bytes their weights have.
    runs: dict[str, tuple[list[Node], int]] = {}
    for node in graph.nodes:
        if not _is_layer(graph, node):
            continue
        before = runs.get(node.inputs[0])
        # Behind a single column another operator begins, as `DenseLayers` says.
        goes_on = before and graph.types[node.inputs[0]].shape[-1] != 1
        alone = len(readers[node.inputs[0]]) == 1 and node.inputs[0] not in graph.given_names
        size = graph.constants[node.inputs[1]].nbytes
        if before and goes_on and alone and before[1] + size <= MOST_BYTES:
            run, earlier = runs.pop(node.inputs[0])
            run.append(node)
            runs[node.outputs[0]] = run, earlier + size
        else:
            runs[node.outputs[0]] = [node], size
    joined = {run[-1].outputs[0]: run for run, _ in runs.values() if len(run) > 1}
    inner = {n.outputs[0] for run in joined.values() for n in run[:-1]}
    if not joined:
        return graph
    nodes = (n for n in graph.nodes if n.outputs[0] not in inner)
    types = {name: t for name, t in graph.types.items() if name not in inner}
    return replace(
        graph,
        nodes=tuple(_joined(joined[n.outputs[0]]) if n.outputs[0] in joined else n for n in nodes),
        types=MappingProxyType(types),
    )


def _is_layer(graph: Graph, node: Node) -> bool:
    if not isinstance(node.op, Dense) or not all(i in graph.constants for i in node.inputs[1:]):
        return False
    known = graph.types[node.outputs[0]].dtype in DenseLayers.dtypes
    # Of matrices without rows or columns there is nothing to be read.
    return known and graph.constants[node.inputs[1]].size > 0


def _joined(run: list[Node]) -> Node:
    activations = tuple(n.op.activation for n in run if isinstance(n.op, Dense))
    parameters = (i for n in run for i in n.inputs[1:])
    op = DenseLayers(activations)
    return Node(op, (run[0].inputs[0], *parameters), run[-1].outputs, run[-1].origin)
