"""Operators without kernels for devices, in terms of others that have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from sofie_rdf.errors import SofieError
from sofie_rdf.gradients.reverse import Growing, extended
from sofie_rdf.gradients.values import Tape, Value
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import Operator, lookup
from sofie_rdf.ir.types import DType
from sofie_rdf.passes.halves import in_float32

__all__ = ["is_spelled_out", "spell_out"]


def spell_out(graph: Graph) -> Graph:
    """The same function, where each operator that has a formula and no kernel is spelled out.

    A node whose formula does not hold for its inputs stays, and is refused as it is.
    """
    if not any(is_spelled_out(node.op) for node in graph.nodes):
        return graph
    build = Growing(graph)
    tape = Tape(build, _no_derivatives, _no_bodies)
    nodes = tuple(each for node in graph.nodes for each in _spelled_out(tape, node))
    whole = extended(graph, build, ())
    # Formulas that were given up have left the types of their values.
    there = {*whole.inputs, *whole.constants, *(o for node in nodes for o in node.outputs)}
    types = MappingProxyType({name: whole.types[name] for name in whole.types if name in there})
    return replace(whole, nodes=nodes, types=types)


def is_spelled_out(op: Operator) -> bool:
    """Whether it has a formula and no kernel."""
    kind = type(op)
    return kind.on_device is Operator.on_device and kind.formula is not Operator.formula


def _spelled_out(tape: Tape, node: Node) -> Iterator[Node]:
    """The nodes that stand for one, which is in the graph of the tape already."""
    if not is_spelled_out(node.op):
        yield node
        return
    build = tape.build
    begin = len(build.nodes)
    tape.origin = replace(node.origin, name=node.origin.name or node.outputs[0])
    try:
        made = _made(tape, node)
    except SofieError:
        del build.nodes[begin:]
        yield node
        return
    for inner in build.nodes[begin:]:
        yield from _spelled_out(tape, inner)
    for value, output in zip(made, node.outputs, strict=True):
        yield Node(lookup("", "Identity")(), (value.name,), (output,), tape.origin)


def _made(tape: Tape, node: Node) -> list[Value]:
    """The outputs by the formula, which is computed in float32 for half precision."""
    given = [tape.value(i) if i else None for i in node.inputs]
    wide = [v.cast(DType.FLOAT32) if v is not None and v.dtype.is_half else v for v in given]
    made = in_float32(node.op).formula(*wide)
    return [
        value.cast(tape.value(output).dtype) if value.dtype.is_float else value
        for value, output in zip(made, node.outputs, strict=False)
    ]


def _no_derivatives(
    nodes: Sequence[Node], seeds: Mapping[str, Value], wrt: Sequence[str]
) -> list[Value | None]:
    raise NotImplementedError("formulas on devices have no derivatives")


def _no_bodies(name: str) -> Tape:
    return Tape(Builder(name), _no_derivatives, _no_bodies)
