"""The oracle: a graph evaluated with NumPy, operator by operator."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.types import Array

__all__ = ["evaluate", "evaluate_node"]


def evaluate_node(node: Node, values: Mapping[str, Array]) -> tuple[Array, ...]:
    """The outputs of one node. Overflow and invalid values are results, not warnings."""
    inputs = [values[name] if name else None for name in node.inputs]
    with np.errstate(all="ignore"):
        result = node.op.reference(*inputs)
    outputs = result if isinstance(result, tuple) else (result,)
    return tuple(np.asarray(o) for o in outputs)


def evaluate(graph: Graph, feeds: Mapping[str, Array], *, wide: bool = False) -> dict[str, Array]:
    """The outputs of the graph for these inputs, by name.

    With ``wide`` all float32 numbers, constants included, are float64: the reference that tells
    how exact the float32 kernels are.
    """

    def widened(array: Array) -> Array:
        return array.astype(np.float64) if wide and array.dtype == np.float32 else array

    values = {name: widened(array) for name, array in (*graph.constants.items(), *feeds.items())}
    for node in graph.nodes:
        values.update(zip(node.outputs, evaluate_node(node, values), strict=False))
    return {name: values[name] for name in graph.outputs}
