"""Which nodes of the user's file became which node that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sofie_rdf.ir.graph import Graph, Node

__all__ = ["label", "origins"]


def label(node: Node) -> str:
    """What the file calls a node; its first output where it has no name."""
    return node.origin.name or node.outputs[0]


def origins(read: Graph, run: Graph) -> Sequence[tuple[str, ...]]:
    """For each node that runs, the names of the nodes as read between its inputs and outputs.

    What only constants decide is left out, and a node that several others contain is in each.
    Where a pass has made values that the file does not have, it is the one name that the node has.
    """
    return tuple(_between(read, run, node) or (label(node),) for node in run.nodes)


def _between(read: Graph, run: Graph, node: Node) -> tuple[str, ...]:
    producers: Mapping[str, Node] = read.producers
    stop = {name for name in node.inputs if name}
    if not stop & ({*read.inputs} | producers.keys()):
        return ()
    found: dict[int, Node] = {}
    left = [name for name in node.outputs if name in producers and name not in stop]
    seen = set(left)
    while left:
        one = producers[left.pop()]
        found[id(one)] = one
        for name in one.inputs:
            # What other nodes give that run as well is not this one's.
            if name in producers and name not in stop | seen and name not in run.producers:
                seen.add(name)
                left.append(name)
    return tuple(label(one) for one in read.nodes if id(one) in found)
