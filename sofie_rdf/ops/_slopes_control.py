"""Derivatives through graphs in attributes: branches with the same condition, rounds in reverse.

A body of the way back computes again what the body computed, and goes back through its nodes. What
a Loop carries into each round is stacked by the Loop itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.ir.dims import Dim, name_of, substitute, symbol, symbols_of
from sofie_rdf.ir.graph import Graph, Node, symbols_among
from sofie_rdf.ir.operator import lookup, symbols_in
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops._slopes_indexing import counted

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Tape, Value

__all__ = ["Step", "looped", "of_branches", "of_rounds", "placed"]


def placed(back: Backward, axis: int, backward: bool) -> Value:
    """The derivative by one place along an axis, with zeros at the other ones."""
    size, at = back.x.shape[axis], back.input(1)
    first, limit, step = (size - 1, -1, -1) if backward else (0, size, 1)
    places = counted(back.tape, first, limit, step=step)
    here = places.equals(at).reshape(tuple(size if a == axis else 1 for a in range(back.x.rank)))
    shape = back.x.shape
    return here.choose(back.g.reshape((*shape[:axis], 1, *shape[axis + 1 :])), 0)


# Branches -----------------------------------------------------------------------------------------


def of_branches(op: Any, back: Backward) -> tuple[Value | None, ...]:
    """An If with the same condition, whose branches are the way back through those of this one."""
    condition, *captured = (back.input(i) for i in range(len(back.inputs)))
    wanted = [n for n in range(len(captured)) if back.needs(n + 1)]
    slopes = [(n, slope) for n, slope in enumerate(back.slopes) if slope is not None]
    made = []
    for body in op.bodies.values():
        tape = back.tape.inside(body.name)
        for name, value in zip(body.inputs, captured, strict=True):
            _enter(tape, name, body.types[name], value)
        tape.build.adopt(body.nodes, body.types)
        sizes = op.sizes_inside(body, [c.type for c in captured])
        seeds: dict[str, Value] = {}
        for number, slope in slopes:
            output = body.outputs[number]
            seed = _cotangent(tape, slope.type, body.types[output], sizes)
            seeds[output] = seeds[output] + seed if output in seeds else seed
        names = [body.inputs[n] for n in wanted]
        found = tape.walked(body.nodes, seeds, names)
        made.append(
            _finished(tape, [_or_zeros(tape, *pair) for pair in zip(names, found, strict=True)])
        )
    # Both take the same inputs.
    extra = [(n, array) for n, (_, constants) in enumerate(made) for array in constants.values()]
    graphs = [_with_others(graph, n, extra) for n, (graph, _) in enumerate(made)]
    given = [*captured, *(s for _, s in slopes), *(back.tape.constant(a) for _, a in extra)]
    results = condition.outputs(type(op)(*graphs), *given)
    parts: list[Value | None] = [None] * len(back.inputs)
    for number, result in zip(wanted, results, strict=True):
        parts[number + 1] = result
    return tuple(parts)


def _with_others(graph: Graph, own: int, extra: Sequence[tuple[int, Array]]) -> Graph:
    """The graph with inputs for the constants of all branches, in their order."""
    mine = sum(n == own for n, _ in extra)
    first, named = graph.inputs[: len(graph.inputs) - mine], iter(graph.inputs[-mine:])
    types, inputs = dict(graph.types), list(first)
    for number, (branch, array) in enumerate(extra):
        name = next(named) if branch == own else _unused(types, f"unused/{number}")
        types[name] = TensorType(DType.of(array), array.shape)
        inputs.append(name)
    return replace(graph, inputs=tuple(inputs), types=MappingProxyType(types))


# Rounds -------------------------------------------------------------------------------------------

# (values before a round, slices of this round, what all rounds read) -> values after it, stacked
Step: TypeAlias = "Callable[..., tuple[Sequence[Value], Sequence[Value]]]"


def looped(
    step: Step,
    carried: Sequence[Value],
    scanned: Sequence[Value],
    captured: Sequence[Value],
    *,
    backward: bool,
) -> tuple[list[Value], list[Value]]:
    """A Loop over the first axis of what is scanned: the last values, and what it stacks."""
    outer = scanned[0].tape
    tape = outer.inside("step")
    build = tape.build
    number = build.input("round", TensorType(DType.INT64))
    go = tape.value(build.input("go", TensorType(DType.BOOL)))
    states = [tape.value(build.input(build.fresh("state"), v.type)) for v in carried]
    whole, others = (
        [_enter(tape, build.fresh("outside"), v.type, v) for v in values]
        for values in (scanned, captured)
    )
    op = lookup("sofie", "ScanSlice")(axis=0, backward=backward)
    after, stacked = step(states, [v.through(op, tape.value(number)) for v in whole], others)
    graph, constants = _finished(tape, [go, *after, *stacked])
    trips = scanned[0].apply("SizeOfAxis", domain="sofie", axis=0)
    loop = lookup("", "Loop")(graph, len(carried), scanned[0].shape[0])
    given = [*carried, *scanned, *captured, *map(outer.constant, constants.values())]
    results = list(trips.outputs(loop, outer.constant(np.array(True)), *given))
    stacks = results[len(carried) :]
    if backward:
        stacks = [v.apply("Reversed", domain="sofie") for v in stacks]
    return results[: len(carried)], stacks


def of_rounds(op: Any, back: Backward) -> tuple[Value | None, ...]:
    """A Loop of as many rounds, which goes back through each round of this one, the last first."""
    return _Rounds(op, back).derivatives()


class _Rounds:
    """One Loop on the way back."""

    def __init__(self, op: Any, back: Backward) -> None:
        _require_rounds(op)
        self.op, self.back, self.body = op, back, op.body
        self.trips, _, *self.values = (back.input(i) for i in range(len(back.inputs)))
        self.formal: tuple[str, ...] = self.body.inputs[2:]
        types = [v.type for v in self.values]
        first = TensorType(DType.INT64), TensorType(DType.BOOL)
        self.sizes = op.sizes_inside(self.body, (*first, *types))
        wanted = [n for n in range(len(self.values)) if back.needs(2 + n)]
        self.active = self._active(wanted)
        self.sliced = {n: nodes for n in wanted if n >= op.carried and (nodes := self._slices(n))}
        self.summed = [n for n in wanted if n >= op.carried and n not in self.sliced]
        self.tape = back.tape.inside(self.body.name)
        self.given: list[Value] = []

    def _active(self, wanted: Iterable[int]) -> list[int]:
        """The carried values that depend on what is wanted, in some round."""
        names, before = {self.formal[n] for n in wanted}, -1
        carried = range(self.op.carried)
        while len(names) != before:
            before = len(names)
            for node in self.body.nodes:
                if not names.isdisjoint(node.inputs):
                    names.update(node.outputs)
            names |= {self.formal[n] for n in carried if self.body.outputs[1 + n] in names}
        floats = [n for n in carried if self.body.types[self.formal[n]].dtype.is_float]
        return [n for n in floats if self.formal[n] in names]

    def _slices(self, number: int) -> list[Node]:
        """The nodes that take one place of a value in each round, if nothing else reads it."""
        name, (rounds, *_) = self.formal[number], self.body.inputs
        found = [node for node in self.body.nodes if name in node.inputs]
        slices = lookup("sofie", "ScanSlice")
        one_each = all(
            isinstance(node.op, slices)
            and node.inputs == (name, rounds)
            and self.values[number].shape[node.op.axis] == self.op.length  # type: ignore[attr-defined]
            for node in found
        )
        return found if one_each and name not in self.body.outputs else []

    def derivatives(self) -> tuple[Value | None, ...]:
        parts: list[Value | None] = [None] * len(self.back.inputs)
        summed = [*self.active, *self.summed]
        nodes = [node for nodes in self.sliced.values() for node in nodes]
        if not summed and not nodes:
            return tuple(parts)
        graph, constants, stacks = self._way_back(summed, nodes)
        given = [self.values[n].like() for n in self.summed]
        given = [*(self.back.slope(n) for n in self.active), *given, *self._stacked(stacks)]
        given += [*self.given, *map(self.back.tape.constant, constants)]
        loop = type(self.op)(graph, len(summed), self.op.length)
        go = self.back.tape.constant(np.array(True))
        results = self.trips.outputs(loop, go, *given)
        for number, result in zip(summed, results, strict=False):
            parts[2 + number] = result
        found = iter(results[len(summed) :])
        for number, readers in self.sliced.items():
            slopes = [self._whole(node, next(found)) for node in readers]
            for slope in slopes:
                own = parts[2 + number]
                parts[2 + number] = slope if own is None else own + slope
        return tuple(parts)

    def _whole(self, node: Node, stack: Value) -> Value:
        """The derivatives by all places, which were stacked from the last round on."""
        op: Any = node.op
        if not op.backward:
            stack = stack.apply("Reversed", domain="sofie")
        axis = op.axis % stack.rank
        return stack.transpose((*range(1, axis + 1), 0, *range(axis + 1, stack.rank)))

    def _way_back(
        self, summed: Sequence[int], nodes: Sequence[Node]
    ) -> tuple[Graph, Sequence[Array], list[int]]:
        """The body of the way back, its constants, and which carried values it needs."""
        tape, build, body = self.tape, self.tape.build, self.body
        number = self._input("round", TensorType(DType.INT64))
        go = self._input("go", TensorType(DType.BOOL))
        slopes = [self._input("slope", body.types[self.formal[n]]) for n in summed]
        stacks = self._states(number)
        last = self._input("last", TensorType(DType.INT64))
        self.given.append(self.trips.reshape(()) - 1)
        for n in range(self.op.carried, len(self.values)):
            _enter(tape, self.formal[n], body.types[self.formal[n]], self.values[n])
            self.given.append(self.values[n])
        self._first_inputs(last, number)
        build.adopt(body.nodes, body.types)
        seeds = self._seeds(slopes, number)
        names = [*(self.formal[n] for n in summed), *(o for node in nodes for o in node.outputs)]
        found = tape.walked(body.nodes, seeds, names)
        results = [_or_zeros(tape, *pair) for pair in zip(names, found, strict=True)]
        for i in range(len(self.active), len(summed)):
            results[i] = slopes[i] + results[i] if found[i] is not None else slopes[i]
        graph, constants = _finished(tape, [go, *results])
        used = {i for node in graph.nodes for i in node.inputs}
        needed = [n for n, stack in enumerate(stacks) if stack in used]
        gone = {stack for n, stack in enumerate(stacks) if n not in needed}
        kept = tuple(i for i in graph.inputs if i not in gone)
        types = {name: t for name, t in graph.types.items() if name not in gone}
        graph = replace(graph, inputs=kept, types=MappingProxyType(types))
        return graph, list(constants.values()), needed

    def _input(self, stem: str, type_: TensorType) -> Value:
        build = self.tape.build
        name = _unused({*self.body.types, *build.types}, stem)
        return self.tape.value(build.input(name, type_))

    def _states(self, number: Value) -> list[str]:
        """The stacks of the carried values, of which a round gets its own."""
        found = []
        rounds: Dim = self.op.length
        for n in range(self.op.carried):
            type_ = self.body.types[self.formal[n]]
            length = rounds if isinstance(rounds, int) else symbol(self._size())
            stack = self._input("states", type_.reshaped((length, *type_.shape)))
            self._slice(stack, number, self.formal[n])
            found.append(stack.name)
        return found

    def _size(self) -> str:
        """A name that no size inside has."""
        taken = symbols_among([*self.body.types.values(), *self.tape.build.types.values()])
        return _unused(taken, "rounds")

    def _slice(self, stack: Value, number: Value, name: str = "") -> Value:
        """The place of a stack for this round, the last one first."""
        op = lookup("sofie", "ScanSlice")(axis=0, backward=True)
        build = self.tape.build
        return self.tape.value(build(op, stack.name, number.name, outputs=(name,)))

    def _first_inputs(self, last: Value, number: Value) -> None:
        """The number of the round that it goes back through, and that it was one."""
        rounds, go = self.body.inputs[:2]
        build = self.tape.build
        build(lookup("", "Sub")(), last.name, number.name, outputs=(rounds,))
        build.constant(np.ones(self.body.types[go].shape, bool), go)

    def _seeds(self, slopes: Sequence[Value], number: Value) -> dict[str, Value]:
        body = self.body
        seeds: dict[str, Value] = {}
        pairs = [(1 + n, slope) for n, slope in zip(self.active, slopes, strict=False)]
        for n in range(self.op.carried, len(self.back.slopes)):
            stack = self.back.slopes[n]
            if stack is None:
                continue
            wanted = body.types[body.outputs[1 + n]]
            length = self.op.length if isinstance(self.op.length, int) else symbol(self._size())
            shape = _formal(stack.shape[1:], wanted.shape, self.sizes, self._size)
            inside = self._input("slopes", wanted.reshaped((length, *shape)))
            self.given.append(stack)
            pairs.append((1 + n, _assumed(self._slice(inside, number), wanted)))
        for n, seed in pairs:
            output = body.outputs[n]
            seeds[output] = seeds[output] + seed if output in seeds else seed
        return seeds

    def _stacked(self, numbers: Collection[int]) -> list[Value]:
        """What these carried values are before each round, from the Loop itself."""
        build = self.back.tape.build
        first = self.back.node.outputs[0]
        node = next(node for node in build.nodes if node.outputs[0] == first)
        op: Any = node.op
        body, copies = op.body, _copies(op)
        added = [n for n in numbers if self.formal[n] not in copies]
        if added:
            nodes, types, outputs = list(body.nodes), dict(body.types), list(body.outputs)
            for n in added:
                name = _unused(types, f"{self.formal[n]}/before")
                nodes.append(Node(lookup("", "Identity")(), (self.formal[n],), (name,)))
                types[name] = types[self.formal[n]]
                outputs.append(name)
            wide = replace(
                body,
                nodes=tuple(nodes),
                types=MappingProxyType(types),
                outputs=tuple(outputs),
            )
            node = build.widen(first, type(op)(wide, op.carried, op.length))
            copies = _copies(node.op)
        return [self.back.tape.value(node.outputs[copies[self.formal[n]]]) for n in numbers]


def _require_rounds(op: Any) -> None:
    """`UnsupportedOperator` where the rounds are not known, or their values are no stack."""
    if op.length is None:
        raise UnsupportedOperator(
            "Loop has no gradient here where data decide how many rounds there are",
            remedy="Make the number of rounds a constant or the size of an axis, and the condition "
            "true in all of them: stop by Where, which keeps the values as they are",
        )
    if op.growing:
        raise UnsupportedOperator(
            f"Loop has no gradient here where the sizes of its values change in each round, as "
            f"{min(op.growing)!r} does",
            remedy="Write into a tensor that has its final size from the first round on",
        )


def _copies(op: Any) -> dict[str, int]:
    """The stacks that are what the Loop carries into each round: number of the output by name."""
    makers = op.body.producers
    found = {}
    for number, output in enumerate(op.body.outputs[1 + op.carried :], op.carried):
        maker = makers.get(output)
        if maker is not None and maker.op.name == "Identity":
            found[maker.inputs[0]] = number
    return found


# Graphs that grow ---------------------------------------------------------------------------------


def _unused(taken: Collection[str], name: str) -> str:
    while name in taken:
        name += "_"
    return name


def _enter(tape: Tape, name: str, type_: TensorType, value: Value) -> Value:
    """An input of the graph, which has the elements of a constant outside."""
    tape.build.input(name, type_)
    if value.known is not None:
        tape.build.constants[name] = value.known
    return tape.value(name)


def _or_zeros(tape: Tape, name: str, slope: Value | None) -> Value:
    return tape.value(name).like() if slope is None else slope


def _formal(
    outside: Sequence[Dim], inside: Sequence[Dim], sizes: Mapping[str, Dim], fresh: Any
) -> list[Dim]:
    """Sizes of an input: those inside as far as they are those outside, else names of their own."""
    found: list[Dim] = []
    for given, wanted in zip(outside, inside, strict=True):
        same = symbols_of(wanted) <= sizes.keys() and substitute(wanted, sizes) == given
        found.append(wanted if same else symbol(fresh()))
    return found


def _cotangent(
    tape: Tape, given: TensorType, wanted: TensorType, sizes: Mapping[str, Dim]
) -> Value:
    """A derivative by an output, as an input of the graph."""
    build = tape.build
    name = build.fresh("slope")
    numbers = iter(range(wanted.rank))
    shape = _formal(given.shape, wanted.shape, sizes, lambda: f"{name}.{next(numbers)}")
    build.input(name, wanted.reshaped(tuple(shape)))
    return _assumed(tape.value(name), wanted)


def _assumed(value: Value, type_: TensorType) -> Value:
    """The value with these sizes, which it has where this graph runs."""
    if value.shape == type_.shape:
        return value
    return value.apply("Assume", domain="sofie", shape=type_.shape)


def _finished(tape: Tape, outputs: Sequence[Value]) -> tuple[Graph, Mapping[str, Array]]:
    """The graph with no node in vain; its constants are inputs behind the others."""
    build, names = tape.build, list[str]()
    for value in outputs:
        copied = value.name in names or value.name in (*build.inputs, *build.constants)
        names.append(value.apply("Identity").name if copied else value.name)
    nodes = _needed(build.nodes, names, build.types)
    used = {name for node in nodes for name in node.inputs}
    given = set(build.inputs)
    constants = {n: a for n, a in build.constants.items() if n in used and n not in given}
    inputs = (*build.inputs, *constants)
    values = (*inputs, *(o for node in nodes for o in node.outputs))
    types = {name: build.types[name] for name in values}
    nothing: Mapping[str, Array] = MappingProxyType({})
    graph = Graph(build.name, inputs, tuple(names), tuple(nodes), MappingProxyType(types), nothing)
    return graph, constants


def _needed(
    nodes: Sequence[Node], outputs: Iterable[str], types: Mapping[str, TensorType]
) -> list[Node]:
    """The nodes that these values depend on, also by sizes that the data decide."""
    names, sizes, found = set(outputs), set[str](), list[Node]()
    for node in reversed(nodes):
        own = {name_of(d) for o in node.outputs for d in types[o].shape}
        decides = node.op.decides_sizes and not sizes.isdisjoint(own)
        if decides or not names.isdisjoint(node.outputs):
            found.append(node)
            names.update(node.inputs)
            given = (types[name] for name in (*node.inputs, *node.outputs) if name)
            sizes |= symbols_among(given) | symbols_in(node.op)
    return found[::-1]
