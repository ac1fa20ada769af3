"""Operators without kernels in terms of others that have them: on the CPU, or on devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from sofie_rdf.errors import SofieError
from sofie_rdf.gradients.reverse import Growing, extended
from sofie_rdf.gradients.values import Tape, Value
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import Operator, lookup
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.passes.halves import in_float32

__all__ = ["Spelled", "by_formula", "has_no_kernel", "spell_out"]

# Whether an operator is spelled out, of those that have a formula.
Spelled: TypeAlias = Callable[[type[Operator]], bool]


def has_no_kernel(kind: type[Operator]) -> bool:
    """Whether it has no kernel for the CPU."""
    return kind.lower is Operator.lower


def by_formula(graph: Graph) -> Graph:
    """The same function of operators that have kernels for the CPU, in bodies too."""
    types, constants = dict(graph.types), dict(graph.constants)
    nodes = tuple(_with_bodies(node, types, constants) for node in graph.nodes)
    if any(new is not old for new, old in zip(nodes, graph.nodes, strict=True)):
        known = MappingProxyType(types), MappingProxyType(constants)
        graph = replace(graph, nodes=nodes, types=known[0], constants=known[1])
    return spell_out(graph, has_no_kernel, strict=True)


def _with_bodies(node: Node, types: dict[str, TensorType], constants: dict[str, Array]) -> Node:
    """The node with other bodies, which has the constants of these as inputs: they have none."""
    bodies = {name: by_formula(body) for name, body in node.op.bodies.items()}
    if all(body is node.op.bodies[name] for name, body in bodies.items()):
        return node
    inside = [(n, c, a) for n, body in bodies.items() for c, a in body.constants.items()]
    outer = [_unused(types, f"{node.outputs[0]}.{name}.{c}") for name, c, _ in inside]
    for new, (_, _, array) in zip(outer, inside, strict=True):
        types[new], constants[new] = TensorType(DType.of(array), array.shape), array
    for name, body in bodies.items():
        within = dict(body.types)
        # All bodies have the same inputs.
        names = [c if own == name else _unused(within, c) for own, c, _ in inside]
        within.update((c, types[new]) for c, new in zip(names, outer, strict=True))
        bodies[name] = replace(
            body,
            inputs=(*body.inputs, *names),
            types=MappingProxyType(within),
            constants=MappingProxyType({}),
        )
    return replace(node, op=replace(node.op, **bodies), inputs=(*node.inputs, *outer))


def _unused(taken: Collection[str], name: str) -> str:
    while name in taken:
        name += "_"
    return name


def spell_out(graph: Graph, spelled: Spelled, *, strict: bool = False) -> Graph:
    """The same function, where each operator that has a formula and no kernel is spelled out.

    A node whose formula does not hold for its inputs is an error if ``strict``, else it stays, and
    is refused as it is.
    """
    if not any(_is_spelled(node.op, spelled) for node in graph.nodes):
        return graph
    build = Growing(graph)
    tape = Tape(build, _no_derivatives, _no_bodies)
    nodes = tuple(n for node in graph.nodes for n in _spelled_out(tape, node, spelled, strict))
    whole = extended(graph, build, ())
    # Formulas that were given up have left the types of their values.
    there = {*whole.inputs, *whole.constants, *(o for node in nodes for o in node.outputs)}
    types = MappingProxyType({name: whole.types[name] for name in whole.types if name in there})
    return replace(whole, nodes=nodes, types=types)


def _is_spelled(op: Operator, spelled: Spelled) -> bool:
    kind = type(op)
    return kind.formula is not Operator.formula and spelled(kind)


def _spelled_out(tape: Tape, node: Node, spelled: Spelled, strict: bool) -> Iterator[Node]:
    """The nodes that stand for one, which is in the graph of the tape already."""
    if not _is_spelled(node.op, spelled):
        yield node
        return
    build = tape.build
    begin = len(build.nodes)
    tape.origin = replace(node.origin, name=node.origin.name or node.outputs[0])
    try:
        made = _made(tape, node)
    except SofieError:
        if strict:
            raise
        del build.nodes[begin:]
        yield node
        return
    inside = [n for each in build.nodes[begin:] for n in _spelled_out(tape, each, spelled, strict)]
    yield from _as_outputs(tape, inside, [value.name for value in made], node.outputs)


def _as_outputs(
    tape: Tape, nodes: Sequence[Node], made: Sequence[str], outputs: Sequence[str]
) -> Iterator[Node]:
    """The nodes, whose results have the names of the outputs; what is not theirs is copied."""
    own = {o for node in nodes for o in node.outputs}
    once = Counter(made)
    pairs = [(value, output) for value, output in zip(made, outputs, strict=True) if output]
    names = {value: output for value, output in pairs if value in own and once[value] == 1}
    for node in nodes:
        inputs, results = (tuple(names.get(v, v) for v in vs) for vs in (node.inputs, node.outputs))
        yield replace(node, inputs=inputs, outputs=results)
    for value, output in pairs:
        if value not in names:
            yield Node(lookup("", "Identity")(), (value,), (output,), tape.origin)


def _made(tape: Tape, node: Node) -> list[Value]:
    """The outputs by the formula, which is computed in float32 for half precision."""
    given = [tape.value(i) if i else None for i in node.inputs]
    wide = [v.cast(DType.FLOAT32) if v is not None and v.dtype.is_half else v for v in given]
    made = in_float32(node.op).formula(*wide)
    return [
        value.cast(tape.value(output).dtype) if output and value.dtype.is_float else value
        for value, output in zip(made, node.outputs, strict=False)
    ]


def _no_derivatives(
    nodes: Sequence[Node], seeds: Mapping[str, Value], wrt: Sequence[str]
) -> list[Value | None]:
    raise NotImplementedError("formulas of operators without kernels have no derivatives")


def _no_bodies(name: str) -> Tape:
    return Tape(Builder(name), _no_derivatives, _no_bodies)
