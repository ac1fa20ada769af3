"""Who draws which random numbers: operators get numbers, and what says which rows they draw for.

A graph as it is read does not know of events. `with_rows` gives it one more input, `ir.rows.ROWS`,
and all operators that draw (those in bodies, too) read it; a loop gives its body other rows in each
round. From then on a draw is a function of its inputs like any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from types import MappingProxyType
from typing import Any

from sofie_rdf.errors import GraphError, ModelError
from sofie_rdf.ir.dims import Dim, Size, symbol, symbols_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.rows import COLUMNS, ROWS
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.control_flow import If, Loop, bound_sizes
from sofie_rdf.ops.random import RandomOperator, RowsOfRound

__all__ = ["check_names", "drawing", "numbered", "with_rows"]

# The rows within a loop.
_ROUND = "random.rows.round"


def drawing(graph: Graph) -> Iterator[RandomOperator]:
    """All operators that draw numbers, in the order of the graph, those in bodies too."""
    for node in graph.nodes:
        if isinstance(node.op, RandomOperator):
            yield node.op
        for body in node.op.bodies.values():
            yield from drawing(body)


def _asks(node: Node) -> bool:
    """Whether a node, or one in its bodies, draws and has not been told for which rows."""
    if isinstance(node.op, RandomOperator):
        return len(node.inputs) <= node.op.rows_at()
    return any(_asks(inner) for body in node.op.bodies.values() for inner in body.nodes)


# Numbers of operators -----------------------------------------------------------------------------


def numbered(graph: Graph) -> Graph:
    """The graph whose operators that draw have a number each, from 0 on, in its order."""
    known = [op.node for op in drawing(graph)]
    if -1 not in known:
        return graph
    return _numbered(graph, count(max(known) + 1))


def _numbered(graph: Graph, numbers: Iterator[int]) -> Graph:
    nodes = []
    for node in graph.nodes:
        op: Any = node.op
        if isinstance(op, RandomOperator) and op.node < 0:
            op = _replaced(op, node=next(numbers))
        bodies = {name: _numbered(body, numbers) for name, body in op.bodies.items()}
        nodes.append(dataclasses.replace(node, op=_replaced(op, **bodies)))
    return dataclasses.replace(graph, nodes=tuple(nodes))


# Rows ---------------------------------------------------------------------------------------------


def with_rows(graph: Graph) -> Graph:
    """The graph with an input `ROWS`, if it draws and has none; `ModelError` if it has such a name.

    There is a row for each of the batch, which is the first axis of its inputs where that is open;
    else one row for all.
    """
    if not any(map(_asks, graph.nodes)):
        return graph
    check_names(graph)
    batch = graph.batch_symbol
    type_ = TensorType(DType.UINT64, (symbol(batch) if batch else 1, COLUMNS))
    graph = numbered(graph)
    nodes = tuple(_with_rows(node, graph, ROWS, type_) for node in graph.nodes)
    return dataclasses.replace(
        graph,
        inputs=(*graph.inputs, ROWS),
        nodes=nodes,
        types=MappingProxyType({**graph.types, ROWS: type_}),
    )


def check_names(graph: Graph) -> None:
    """`ModelError` if the graph draws, and has a value of the name that its rows will have."""
    if any(map(_asks, graph.nodes)) and {ROWS, _ROUND} & set(_names(graph)):
        raise ModelError(
            f"has random numbers, and a value of the name {ROWS!r}",
            place=graph.name,
            remedy="Rename that value",
        )


def _names(graph: Graph) -> Iterator[str]:
    """Those of all values, in bodies too."""
    yield from graph.types
    for node in graph.nodes:
        for body in node.op.bodies.values():
            yield from _names(body)


def _with_rows(node: Node, graph: Graph, rows: str, type_: TensorType) -> Node:
    """The node, which reads these rows if it draws, or if its bodies do."""
    if not _asks(node):
        return node
    op: Any = node.op
    if isinstance(op, RandomOperator):
        axis = _axis(graph.types[node.outputs[0]], type_.shape[0])
        inputs = (*_filled(node.inputs, op.rows_at()), rows)
        return dataclasses.replace(node, op=_replaced(op, axis=axis), inputs=inputs)
    given: list[TensorType | None]
    if isinstance(node.op, Loop):
        first = TensorType(DType.INT64), TensorType(DType.BOOL)
        given = [*first, *(graph.types[i] for i in node.inputs[2:])]
    elif isinstance(node.op, If):
        given = [graph.types[i] for i in node.inputs[1:]]
    else:
        raise GraphError(f"{node.op.name} has random numbers in its graphs", place=str(node.origin))
    bodies = {name: _body(body, type_, given, node.op) for name, body in node.op.bodies.items()}
    return dataclasses.replace(node, op=_replaced(op, **bodies), inputs=(*node.inputs, rows))


def _replaced(op: Any, **values: Any) -> Operator:
    """The operator with other attributes, of which the type of ``op`` does not know."""
    found: Operator = dataclasses.replace(op, **values)
    return found


def _filled(inputs: Sequence[str], count: int) -> tuple[str, ...]:
    return (*inputs, *("" for _ in range(count - len(inputs))))


def _axis(type_: TensorType, rows: Dim) -> int:
    """The one axis that is a multiple of the rows, or -1."""
    if not isinstance(rows, Size):
        return -1
    names = symbols_of(rows)
    axes = [i for i, dim in enumerate(type_.shape) if names & symbols_of(dim)]
    if len(axes) != 1:
        return -1
    times = type_.shape[axes[0]] // rows
    whole = not names & symbols_of(times) and times * rows == type_.shape[axes[0]]
    return axes[0] if whole else -1


def _body(
    body: Graph, outer: TensorType, given: Sequence[TensorType | None], op: Operator
) -> Graph:
    """The body with rows as its last input; that of a loop has other ones in each round."""
    type_ = TensorType(DType.UINT64, (_inside(body, outer.shape[0], given, op), COLUMNS))
    types = {**body.types, ROWS: type_}
    rows = ROWS
    before: tuple[Node, ...] = ()
    if isinstance(op, Loop):
        rows, types[_ROUND] = _ROUND, type_
        before = (Node(RowsOfRound(), (ROWS, body.inputs[0]), (_ROUND,)),)
    nodes = (*before, *(_with_rows(node, body, rows, type_) for node in body.nodes))
    return dataclasses.replace(
        body, inputs=(*body.inputs, ROWS), nodes=nodes, types=MappingProxyType(types)
    )


def _inside(body: Graph, rows: Dim, given: Sequence[TensorType | None], op: Operator) -> Dim:
    """What the number of rows is called in a body that is given these values."""
    formal = [body.types[i] for i in body.inputs]
    sizes: Mapping[str, Dim] = bound_sizes(formal, given)
    # What grows from round to round is not the number of rows, whatever it is at first.
    hidden = op.growing if isinstance(op, Loop) else frozenset()
    same = (symbol(name) for name, size in sizes.items() if size == rows and name not in hidden)
    taken = symbols_of(rows) & sizes.keys()
    return next(same, symbol(ROWS) if taken else rows)
