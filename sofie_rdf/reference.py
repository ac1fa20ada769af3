"""The oracle: a graph evaluated with NumPy, operator by operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np

from sofie_rdf.ir.dims import Size, name_of, symbols_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, Shape, concrete

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

    sizes = _sizes(graph, feeds)
    values = {name: widened(array) for name, array in (*graph.constants.items(), *feeds.items())}
    for node in graph.nodes:
        values.update(zip(node.outputs, _outputs(graph, node, values, sizes), strict=False))
    return {name: values[name] for name in graph.outputs}


def _outputs(
    graph: Graph, node: Node, values: Mapping[str, Array], sizes: Mapping[str, int]
) -> tuple[Array, ...]:
    dynamic = any(symbols_of(d) for v in _attributes(node.op) for d in v)
    if node.op.is_alias and dynamic:
        # Its attributes say how the new sizes follow from the old; the graph has worked it out.
        shape = graph.types[node.outputs[0]].shape
        return (values[node.inputs[0]].reshape(concrete(shape, sizes)),)
    return evaluate_node(node, values)


def _attributes(op: Operator) -> list[Shape]:
    """The attributes that are tuples of sizes."""
    values = (getattr(op, f.name) for f in fields(op))
    return [
        v for v in values if isinstance(v, tuple) and all(isinstance(d, (int, Size)) for d in v)
    ]


def _sizes(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, int]:
    """What the named sizes are, given the arrays that the inputs are."""
    pairs = (
        (name_of(dim), size)
        for name in graph.inputs
        for dim, size in zip(graph.types[name].shape, feeds[name].shape, strict=True)
    )
    return {name: size for name, size in pairs if name}
