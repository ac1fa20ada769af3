"""Control flow in the emitted code: a struct for each body, and the statements that run them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sofie_rdf.ir.dims import Dim, name_of, substitute, symbols_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.types import TensorType
from sofie_rdf.ops.control_flow import If, Loop, bound_sizes

if TYPE_CHECKING:
    from sofie_rdf.emit.session import Emitter

__all__ = ["loop_members", "statements", "step_structs"]


def statements(emitter: Emitter, node: Node, owned: list[str]) -> Iterable[str]:
    """What stands in `infer` for an If or a Loop; its outputs go to these `sofie::Owned`."""
    match node.op:
        case If():
            condition, *captured = node.inputs
            yield f"   if (*{emitter.read(condition)})"
            yield f"      {_call(emitter, node, 0, captured, owned)}"
            yield "   else"
            yield f"      {_call(emitter, node, 1, captured, owned)}"
        case Loop() as op:
            yield from _loop(emitter, node, op, owned)


def _member(emitter: Emitter, node: Node, number: int) -> str:
    return emitter.bodies[node.outputs[0]][number].member


def _call(emitter: Emitter, node: Node, number: int, captured: list[str], owned: list[str]) -> str:
    (_, body), *_ = [list(node.op.bodies.items())[number]]
    formal = [body.types[i] for i in body.inputs]
    sizes = bound_sizes(formal, [emitter.types[i] for i in captured])
    arguments = [emitter.size(sizes[s]) for s in body.symbols]
    arguments += [emitter.read(i) for i in captured]
    return f"{_member(emitter, node, number)}.run({', '.join([*arguments, *owned])});"


# Loops --------------------------------------------------------------------------------------------


def _parts(op: Loop) -> tuple[list[str], list[str], list[str]]:
    """The inputs of the body: carried, captured; and what it stacks."""
    body = op.body
    carried = list(body.inputs[2 : 2 + op.carried])
    return carried, list(body.inputs[2 + op.carried :]), list(body.outputs[1 + op.carried :])


def _outer_sizes(
    op: Loop, types: Mapping[str, TensorType], inputs: Iterable[str]
) -> dict[str, Dim]:
    """The sizes that a body is given from outside; those that are carried it has itself."""
    formal = [op.body.types[i] for i in op.body.inputs]
    sizes = bound_sizes(formal[2:], [types[i] for i in inputs])
    return {s: sizes[s] for s in op.body.symbols if s not in _carried_sizes(op)}


def _carried_sizes(op: Loop) -> dict[str, tuple[int, int]]:
    """Sizes of carried values that change: the number of the value, and its axis."""
    body, found = op.body, dict[str, tuple[int, int]]()
    for number in range(op.carried):
        before, after = body.inputs[2 + number], body.outputs[1 + number]
        pairs = zip(body.types[before].shape, body.types[after].shape, strict=True)
        for axis, (p, q) in enumerate(pairs):
            if p != q and name_of(p):
                found.setdefault(name_of(p), (number, axis))
    return found


def _loop(emitter: Emitter, node: Node, op: Loop, owned: list[str]) -> Iterable[str]:
    trips, go, *values = node.inputs
    member = _member(emitter, node, 0)
    for value, output in zip(values[: op.carried], owned, strict=False):
        yield f"   {emitter.assignment(output, value)}"
    sizes = _outer_sizes(op, emitter.types, values)
    _, _, stacked = _parts(op)
    stacks = []
    for output, item in zip(owned[op.carried :], stacked, strict=True):
        type_ = op.body.types[item]
        # What the stack is without a round; 0 where only a round says how large its result is.
        known = (substitute(d, sizes) if symbols_of(d) <= sizes.keys() else 0 for d in type_.shape)
        extents = ", ".join(map(emitter.size, (0, *known)))
        kind = f"sofie::Stack<{type_.dtype.cxx}, {type_.rank + 1}>"
        stacks.append(f"{kind}({output}, {{{{{extents}}}}})")
    parts = [member, *map(emitter.size, sizes.values())]
    parts += [emitter.read(i) for i in values[op.carried :]]
    parts += [*owned[: op.carried], *stacks]
    step = emitter.step_name(node)
    yield f"   {step} {member}step{{{', '.join(parts)}}};"
    rounds = f"static_cast<sofie::Size>(*{emitter.read(trips)})"
    yield f"   sofie::loop({rounds}, *{emitter.read(go)}, {member}step);"


def loop_members(op: Any) -> Iterable[str]:
    """What the struct of a body holds beside its scratch: the results of one round."""
    if not isinstance(op, Loop):
        return
    for number, output in enumerate(op.body.outputs):
        type_ = op.body.types[output]
        yield f"   sofie::Owned<{type_.dtype.cxx}, {type_.rank}> round{number}_;"


def step_structs(emitter: Emitter) -> Iterable[str]:
    """For each Loop the function object of one round."""
    for node in emitter.graph.nodes:
        if isinstance(node.op, Loop):
            yield from _step_struct(emitter, node, node.op)


def _step_struct(emitter: Emitter, node: Node, op: Loop) -> Iterable[str]:
    body: Graph = op.body
    inner = emitter.bodies[node.outputs[0]][0]
    names, sizes = inner.interface.names, inner.interface.sizes
    carried, captured, stacked = _parts(op)
    changing = _carried_sizes(op)
    yield f"/// One round of {inner.struct}."
    yield f"struct {emitter.step_name(node)} {{"
    yield f"   {inner.struct} &body_;"
    for symbol in body.symbols:
        if symbol not in changing:
            yield f"   sofie::Size {sizes[symbol]};"
    for value in captured:
        yield f"   const {body.types[value].dtype.cxx} *{names[value]};"
    for value in carried:
        type_ = body.types[value]
        yield f"   sofie::Owned<{type_.dtype.cxx}, {type_.rank}> &{names[value]};"
    for number, item in enumerate(stacked):
        type_ = body.types[item]
        yield f"   sofie::Stack<{type_.dtype.cxx}, {type_.rank + 1}> stack{number}_;"
    yield ""
    yield "   bool operator()(sofie::Size round_)"
    yield "   {"
    yield "      const std::int64_t number_ = round_;"
    yield "      const bool go_ = true;"
    arguments = [
        f"{names[carried[changing[s][0]]]}.extent({changing[s][1]})" if s in changing else sizes[s]
        for s in body.symbols
    ]
    arguments += ["&number_", "&go_", *(f"{names[v]}.data()" for v in carried)]
    arguments += [names[v] for v in captured]
    arguments += [f"body_.round{i}_" for i in range(len(body.outputs))]
    yield f"      body_.run({', '.join(arguments)});"
    for number, value in enumerate(carried):
        yield f"      {names[value]}.swap(body_.round{number + 1}_);"
    for number in range(len(stacked)):
        yield f"      stack{number}_.push(body_.round{number + 1 + op.carried}_);"
    yield "      return *body_.round0_.data();"
    yield "   }"
    yield "};"
    yield ""
