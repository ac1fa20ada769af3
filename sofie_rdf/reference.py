"""The oracle: a graph evaluated with NumPy, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np

from sofie_rdf.ir.builder import infer_node
from sofie_rdf.ir.dims import name_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import Operator, symbols_in, with_sizes
from sofie_rdf.ir.rows import ROWS, rows_for
from sofie_rdf.ir.types import Array, DType, TensorType, concrete

__all__ = ["evaluate", "evaluate_node"]


def evaluate_node(node: Node, values: Mapping[str, Array]) -> tuple[Array, ...]:
    """The outputs of one node. Overflow and invalid values are results, not warnings.

    Half precision is computed in float32 and then rounded.
    """
    inputs = [values[name] if name else None for name in node.inputs]
    wide = inputs
    if any(map(_is_half, inputs)) and not (node.op.moves or node.op.is_alias):
        wide = [i.astype(np.float32) if _is_half(i) else i for i in inputs]
    with np.errstate(all="ignore"):
        result = _result(node.op, wide)
        outputs = [np.asarray(o) for o in (result if isinstance(result, tuple) else (result,))]
        if wide is not inputs:
            types = (None if i is None else TensorType(DType.of(i), i.shape) for i in inputs)
            inferred = infer_node(node.op, list(types))
            outputs = [
                o.astype(t.dtype.numpy) if t.dtype.is_half else o
                for o, t in zip(outputs, inferred, strict=False)
            ]
    return tuple(outputs)


def _result(op: Operator, inputs: Sequence[Any]) -> Any:
    if not op.bodies:
        return op.reference(*inputs)

    def body(graph: Graph, arrays: Sequence[Array]) -> Sequence[Array]:
        found = evaluate(graph, dict(zip(graph.inputs, arrays, strict=True)))
        return [found[name] for name in graph.outputs]

    return op.run(body, *inputs)  # type: ignore[attr-defined]


def _is_half(value: Any) -> TypeGuard[Array]:
    return isinstance(value, np.ndarray) and value.dtype.name in ("float16", "bfloat16")


def evaluate(
    graph: Graph,
    feeds: Mapping[str, Array],
    *,
    wide: bool = False,
    disturb: Callable[[Node, str, Array], Array] = lambda _node, _value, array: array,
) -> dict[str, Array]:
    """The outputs of the graph for these inputs, by name.

    With ``wide`` all float32 numbers, constants included, are float64: the reference that tells
    how exact the float32 kernels are. ``disturb(node, value, array)`` may change what a node reads
    and what it gives: the reference that tells how errors grow.

    Random numbers are those of seed 0 and of row i those of entry i, unless the feeds have others
    under the name `sofie_rdf.ir.rows.ROWS`.
    """

    def widened(array: Array) -> Array:
        return array.astype(np.float64) if wide and array.dtype == np.float32 else array

    graph, feeds = _with_rows(graph, feeds)
    sizes: dict[str, int] = {}
    values = {name: widened(array) for name, array in (*graph.constants.items(), *feeds.items())}
    for name in graph.inputs:
        _bind(graph.types[name], values[name], sizes)
    for node in graph.nodes:
        read = {name: disturb(node, name, values[name]) for name in node.inputs if name}
        results = _outputs(graph, node, read, sizes)
        for name, result in zip(node.outputs, results, strict=False):
            values[name] = disturb(node, name, result)
            if node.op.decides_sizes:
                _bind(graph.types[name], result, sizes)
    return {name: values[name] for name in graph.outputs}


def _with_rows(graph: Graph, feeds: Mapping[str, Array]) -> tuple[Graph, Mapping[str, Array]]:
    """A graph that draws random numbers, with an input that says for which rows."""
    # Not above: who imports sofie_rdf does not import operators.
    from sofie_rdf.ops.draws import with_rows

    graph = with_rows(graph)
    if ROWS not in graph.inputs or ROWS in feeds:
        return graph, feeds
    sizes: dict[str, int] = {}
    for name in graph.inputs[:-1]:
        _bind(graph.types[name], feeds[name], sizes)
    (count, _) = concrete(graph.types[ROWS].shape, sizes)
    return graph, {**feeds, ROWS: rows_for(np.arange(count))}


def _outputs(
    graph: Graph, node: Node, values: Mapping[str, Array], sizes: Mapping[str, int]
) -> tuple[Array, ...]:
    if node.op.is_alias and symbols_in(node.op):
        # Not by its attributes: a size that is 0 now is none of the zeros that keep an axis.
        shape = graph.types[node.outputs[0]].shape
        return (values[node.inputs[0]].reshape(concrete(shape, sizes)),)
    return evaluate_node(replace(node, op=with_sizes(node.op, sizes)), values)


def _bind(type_: TensorType, array: Array, sizes: dict[str, int]) -> None:
    """Note what the named sizes of this type are."""
    for dim, size in zip(type_.shape, array.shape, strict=True):
        if name_of(dim):
            sizes.setdefault(name_of(dim), size)
