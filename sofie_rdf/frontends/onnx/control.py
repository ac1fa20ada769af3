"""If, Loop and Scan: nodes with graphs in their attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sofie_rdf.errors import GraphError, TypeMismatch, UnsupportedOperator
from sofie_rdf.frontends.onnx.rules import OnnxNode
from sofie_rdf.frontends.onnx.sequences import (
    SequenceValue,
    of_parts,
    outside,
    packed,
    part_names,
)
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import UNKNOWN, Dim, Size, maximum, never_negative, symbol
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.types import DType, TensorType, normal_axis
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.control_flow import If, Loop, Provided
from sofie_rdf.ops.layout import Identity, Transpose

if TYPE_CHECKING:
    import onnx

    from sofie_rdf.frontends.common.builders import BodyBuilder
    from sofie_rdf.frontends.onnx.scope import Inner, Scope

__all__ = ["CONTROL", "handler"]

Handler: TypeAlias = "Callable[[Scope, OnnxNode, Origin], None]"

# A Loop without a limit: more rounds than any machine makes.
FOREVER = 2**62
# More than that is no number of rounds that somebody counts.
_MOST_ROUNDS = 2**31
# Rounds of reading a body again with types that are more general.
_MOST_READINGS = 16


def handler(node: OnnxNode) -> Handler | None:
    """What reads a node of this operator, if it is one of control flow."""
    return CONTROL.get(node.op_type) if not node.domain else None


def _graph_of(node: OnnxNode, name: str) -> onnx.GraphProto:
    graph = node.attributes.get(name)
    if graph is None or not hasattr(graph, "node"):
        raise GraphError(f"{node.op_type} lacks its graph {name!r}")
    return graph  # type: ignore[no-any-return]


def _if(scope: Scope, node: OnnxNode, origin: Origin) -> None:
    build = scope.build
    if len(node.inputs) != 1 or not node.inputs[0]:
        raise GraphError(f"If takes 1 condition, not {list(node.inputs)}")
    (condition,) = node.inputs
    branches = [_graph_of(node, name) for name in ("then_branch", "else_branch")]
    known = build.value_of(condition)
    if known is not None and known.dtype != object and known.size == 1:
        inner = scope.inner(branches[0 if known.item() else 1], {})
        names, results = _names(build, node.outputs, inner.results)
        _inline(build, inner.graph, inner.captured, names, origin)
        _register(scope, results)
        return
    one, other = scope.either(branches)
    if _ranks(one.graph) != _ranks(other.graph) and build.depends_on_sizes(condition):
        _one_branch(scope, node, (one, other), origin)
        return
    # What is empty in one branch is a sequence of whatever it is in the other.
    one = scope.inner(branches[0], {}, like=other.results) if any(one.results) else one
    other = scope.inner(branches[1], {}, like=one.results) if any(other.results) else other
    captures = tuple(dict.fromkeys((*one.captured, *other.captured)))
    # Both branches take the same inputs.
    bodies = [_with_inputs(i.graph, i.captured, captures, build) for i in (one, other)]
    pairs = zip(one.results, other.results, strict=False)
    names, results = _names(build, node.outputs, [v and outside(v, w) for v, w in pairs])
    outputs = _all(names, len(bodies[0].outputs))
    build(If(*bodies), condition, *captures, outputs=outputs, origin=origin)
    _register(scope, results)


def _ranks(graph: Graph) -> list[int]:
    return [graph.types[o].rank for o in graph.outputs]


def _one_branch(scope: Scope, node: OnnxNode, branches: Sequence[Inner], origin: Origin) -> None:
    """A node of which only one branch fits what follows, as they give other numbers of axes.

    Exporters write one for an axis that is to be removed if its size is 1. The run checks that the
    condition is so. The first branch is tried first, by whoever reads the file.
    """
    number = scope.branches.setdefault(str(origin), 0)
    inner = branches[number]
    names, results = _names(scope.build, node.outputs, inner.results)
    _inline(scope.build, inner.graph, inner.captured, names, origin, (node.inputs[0], not number))
    _register(scope, results)


# Sequences among the values of a graph: outside they are their tensors, under other names.
_Results: TypeAlias = "dict[str, tuple[SequenceValue, tuple[str, ...]]]"


def _names(
    build: Builder, outputs: Sequence[str], values: Sequence[SequenceValue | None]
) -> tuple[list[str], _Results]:
    """The names of the tensors that the outputs of a node are, and which outputs are sequences."""
    names: list[str] = []
    found: _Results = {}
    for number, output in enumerate(outputs):
        value = values[number] if number < len(values) else None
        if value is None:
            names.append(output)
        elif not output:
            names += [""] * len(part_names("", value))
        else:
            parts = tuple(build.fresh(n) for n in part_names(output, value))
            names += parts
            found[output] = value, parts
    return names, found


def _register(scope: Scope, results: _Results) -> None:
    for name, (value, parts) in results.items():
        scope.sequences[name] = of_parts(scope.build, value, parts)


def _with_inputs(
    graph: Graph, captured: Sequence[str], names: Sequence[str], build: Builder
) -> Graph:
    """The graph with one input for each of these values of the graph around it."""
    from types import MappingProxyType

    own = dict(zip(captured, graph.inputs, strict=True))
    taken, inputs, types = set(graph.types), [], dict(graph.types)
    for number, name in enumerate(names):
        inner = own.get(name)
        if inner is None:
            inner = f"unused/{number}"
            while inner in taken:
                inner += "_"
            types[inner] = build.type_of(name)
        inputs.append(inner)
    return replace(graph, inputs=tuple(inputs), types=MappingProxyType(types))


def _inline(
    build: Builder,
    graph: Graph,
    captured: Sequence[str],
    outputs: Sequence[str],
    origin: Origin,
    condition: tuple[str, bool] | None = None,
) -> None:
    """The nodes of a graph as nodes of the one around it, under a condition that the run checks."""
    names = dict(zip(graph.inputs, captured, strict=True))
    for node in graph.nodes:
        inputs = [names[i] if i else "" for i in node.inputs]
        fresh = [o if not build.has(o) else build.fresh(o) for o in node.outputs]
        build(node.op, *inputs, outputs=fresh, origin=node.origin)
        names.update(zip(node.outputs, fresh, strict=True))
    for inner, outer in zip(graph.outputs, outputs, strict=False):
        if condition is not None and outer:
            name, holds = condition
            build(Provided(holds), names[inner], name, outputs=(outer,), origin=origin)
        elif outer and names[inner] != outer:
            build(Identity(), names[inner], outputs=(outer,), origin=origin)


def _all(outputs: Sequence[str], count: int) -> list[str]:
    """All outputs, those that nobody asked for without a name."""
    if len(outputs) > count:
        raise GraphError(f"has {count} outputs, not {len(outputs)}")
    return [*outputs, *[""] * (count - len(outputs))]


def _loop(scope: Scope, node: OnnxNode, origin: Origin) -> None:
    build, proto = scope.build, _graph_of(node, "body")
    trips, go, *initial = (*node.inputs, "", "")[: max(2, len(node.inputs))]
    trips = trips or build.constant(np.array(FOREVER, np.int64))
    go = go or build.constant(np.array(True))
    names = [i.name for i in proto.input]
    if len(names) != len(initial) + 2:
        raise GraphError(f"Loop has {len(initial)} values, its body {len(names) - 2}")
    first = {names[0]: TensorType(DType.INT64), names[1]: TensorType(DType.BOOL)}
    carried = _Carried(scope, initial, names[2:])

    def read(types: Sequence[TensorType]) -> Inner:
        values = dict(zip(carried.names, types, strict=True))
        like = (None, *carried.formal.values())
        return scope.inner(proto, {**first, **values}, sequences=carried.inside(types), like=like)

    inner = _fixed_point(read, carried.types(), carried.names, carried.free)
    inputs = carried.inputs(inner.graph)
    stacked = inner.results[1 + len(initial) :]
    if any(stacked):
        raise UnsupportedOperator("Loop stacks sequences", remedy="Carry the sequence instead")
    given = [*inner.results[1 : 1 + len(initial)], *stacked]
    outputs, results = _names(build, node.outputs, [v and replace(v, shape=None) for v in given])
    outputs = _all(outputs, len(inner.graph.outputs) - 1)
    loop = Loop(inner.graph, len(inputs), _length(build, trips, go, inner))
    build(loop, trips, go, *inputs, *inner.captured, outputs=outputs, origin=origin)
    _register(scope, results)


def _length(build: Builder, trips: str, go: str, inner: Inner) -> Dim | None:
    """The number of rounds, where it is known and the condition is true in all of them."""
    count, graph = build.value_of(trips), inner.graph
    if count is None or count.size != 1 or not _is_true(build, go):
        return None
    number: Dim = count.item()
    if not isinstance(number, Size) and not 0 <= int(number) < _MOST_ROUNDS:
        return None
    name, makers = graph.outputs[0], graph.producers
    while name in makers and isinstance(makers[name].op, Identity | Cast):
        (name,) = makers[name].inputs
    captured = graph.inputs[len(graph.inputs) - len(inner.captured) :]
    outside = dict(zip(captured, inner.captured, strict=True))
    if name != graph.inputs[1] and not _is_true(build, outside.get(name, "")):
        return None
    if isinstance(number, Size):
        return number if never_negative(number) else maximum(number, 0)
    return int(number)


def _is_true(build: Builder, name: str) -> bool:
    known = build.value_of(name)
    return known is not None and known.dtype == np.bool_ and known.size == 1 and bool(known.item())


class _Carried:
    """The values that a Loop carries: their tensors before the first round, and inside the body."""

    def __init__(self, scope: Scope, initial: Sequence[str], formal: Sequence[str]) -> None:
        self.build = scope.build
        # What each value is inside if it is a sequence, by its name there.
        self.formal: dict[str, SequenceValue | None] = {}
        self.values: list[str | SequenceValue] = []
        self.names: list[str] = []
        # The tensors whose number of axes is open, as the sequence is empty at first.
        self.free: set[str] = set()
        for outer, name in zip(initial, formal, strict=True):
            value = scope.sequences.get(outer)
            self.values.append(value or outer)
            self.formal[name] = value and replace(value, items=None, shape=None)
            parts = part_names(name, value) if value else (name,)
            self.names += parts
            if value and value.is_empty:
                self.free.add(parts[1])

    def inputs(self, body: Graph | None = None) -> list[str]:
        """The tensors before the first round; empty sequences are such as the body wants."""
        found: list[str] = []
        for value in self.values:
            if isinstance(value, str):
                found.append(value)
                continue
            axes = body.types[body.inputs[2 + len(found) + 1]].shape[1] if body else 0
            found += packed(self.build, value, axes if isinstance(axes, int) else 0)
        return found

    def types(self) -> list[TensorType]:
        return [self.build.type_of(i) for i in self.inputs()]

    def inside(self, types: Sequence[TensorType]) -> dict[str, SequenceValue]:
        """The sequences inside the body, whose tensors have these types."""
        known = dict(zip(self.names, types, strict=True))
        found = {}
        for name, value in self.formal.items():
            if value:
                parts = part_names(name, value)
                axes = known[parts[1]].shape[1]
                shape = (UNKNOWN,) * axes if isinstance(axes, int) else None
                present = parts[2] if len(parts) > 2 else ""
                found[name] = replace(value, parts=parts[:2], shape=shape, present=present)
        return found


def _fixed_point(
    read: Callable[[Sequence[TensorType]], Inner],
    types: Sequence[TensorType],
    names: Sequence[str],
    free: AbstractSet[str] = frozenset(),
) -> Inner:
    """The body for types of its values that are general enough: they are those of all rounds.

    ``free`` are shapes of sequences that are empty at first: tensors of any number of axes.
    """
    for _ in range(_MOST_READINGS):
        inner = read(types)
        graph = inner.graph
        types = [graph.types[i] for i in graph.inputs[2 : 2 + len(types)]]
        after = [graph.types[o] for o in graph.outputs[1 : 1 + len(types)]]
        before = [
            t.reshaped((t.shape[0], a.shape[1])) if name in free and t.shape[0] == 0 else t
            for t, a, name in zip(types, after, names, strict=True)
        ]
        rounds = zip(before, after, names, strict=True)
        wider = [_general(then, now, name) for then, now, name in rounds]
        if wider == types:
            return inner
        types = wider
    raise GraphError("the shapes of its values change in every round")


def _general(before: TensorType, after: TensorType, name: str) -> TensorType:
    """The type with a name for each size that is another one after a round."""
    if type(before) is not type(after) or before.dtype != after.dtype:
        raise TypeMismatch(f"{name!r} is {before} before a round of the loop and {after} after it")
    if before.rank != after.rank:
        raise UnsupportedOperator(
            f"{name!r} has {before.rank} axes before a round of the loop and {after.rank} after it"
        )
    pairs = enumerate(zip(before.shape, after.shape, strict=True))
    shape = tuple(p if p == q else symbol(f"{name}.{axis}") for axis, (p, q) in pairs)
    return before.reshaped(shape)


def _scan(scope: Scope, node: OnnxNode, origin: Origin) -> None:
    """As a Loop whose body takes the slices of the inputs itself."""
    from sofie_rdf.ops.control_flow import ScanSlice

    build, proto, given = scope.build, _graph_of(node, "body"), node.attributes
    if node.version < 9 and "scan_input_axes" not in given:
        _scan_of_each_event(scope, node, origin)
        return
    count = given.get("num_scan_inputs")
    if not isinstance(count, int) or not 1 <= count <= len(node.inputs):
        raise GraphError(f"Scan has {len(node.inputs)} inputs, of which it scans {count}")
    first_scanned = len(node.inputs) - count
    states, scanned = node.inputs[:first_scanned], node.inputs[first_scanned:]
    axes = _axes(build, scanned, given.get("scan_input_axes", ()))
    backward = given.get("scan_input_directions", ()) or (0,) * len(scanned)
    names = [i.name for i in proto.input]
    length: Dim = build.type_of(scanned[0]).shape[axes[0]]
    first = {"scan/round": TensorType(DType.INT64), "scan/go": TensorType(DType.BOOL)}

    def read(carried: Sequence[TensorType]) -> Inner:
        formal = {**first, **dict(zip(names, carried, strict=False))}

        def begin(body: BodyBuilder) -> None:
            for name, whole, axis, turned in zip(
                names[len(states) :], scanned, axes, backward, strict=True
            ):
                parts = ScanSlice(axis, bool(turned))
                body(parts, body.capture(whole), "scan/round", outputs=(name,))

        return scope.inner(proto, formal, begin, ("scan/go",))

    types = [build.type_of(s) for s in states]
    inner = _fixed_point(read, types, names[: len(states)])
    graph, captured = inner.graph, inner.captured
    trips = build(_size_of_axis(axes[0]), scanned[0])
    go = build.constant(np.array(True))
    outputs = _all(node.outputs, len(graph.outputs) - 1)
    scans = len(graph.outputs) - 1 - len(states)
    turned = given.get("scan_output_directions", ()) or (0,) * scans
    places = given.get("scan_output_axes", ()) or (0,) * scans
    direct = [
        name if i < len(states) or not (turned[i - len(states)] or places[i - len(states)]) else ""
        for i, name in enumerate(outputs)
    ]
    build(
        Loop(graph, len(states), length),
        trips,
        go,
        *states,
        *captured,
        outputs=direct,
        origin=origin,
    )
    results = build.nodes[-1].outputs
    for i, (result, name) in enumerate(zip(results, outputs, strict=True)):
        if name and result != name:
            _arranged(build, result, name, bool(turned[i - len(states)]), places[i - len(states)])


def _scan_of_each_event(scope: Scope, node: OnnxNode, origin: Origin) -> None:
    """Scan of opset 8 had a batch: a Scan over the first axis of everything, with one inside it."""
    from onnx import ValueInfoProto, helper

    lengths, *values = node.inputs
    if lengths:
        raise UnsupportedOperator(
            "Scan of opset 8 with a length for each sequence is not supported",
            remedy="Export with opset 9 or newer",
        )
    body = _graph_of(node, "body")
    count = node.attributes.get("num_scan_inputs", 0)
    inputs, outputs = ([f"event/{v.name}" for v in vs] for vs in (body.input, body.output))
    # No node of opset 8 has this attribute, so that these two are read as those of opset 9.
    newer: dict[str, Any] = {
        "body": body,
        "num_scan_inputs": count,
        "scan_input_axes": [0] * count,
        "scan_input_directions": node.attributes.get("directions", ()) or [0] * count,
    }
    one = helper.make_node("Scan", inputs, outputs, **newer)
    taken, given = ([ValueInfoProto(name=n) for n in names] for names in (inputs, outputs))
    events = {
        "body": helper.make_graph([one], "event", taken, given),
        "num_scan_inputs": len(values),
        "scan_input_axes": (0,) * len(values),
    }
    _scan(scope, replace(node, inputs=tuple(values), attributes=events), origin)


def _size_of_axis(axis: int) -> Any:
    from sofie_rdf.ops.control_flow import SizeOfAxis

    return SizeOfAxis(axis)


def _arranged(build: Builder, result: str, name: str, turned: bool, place: int) -> None:
    """The scanned values in the order and along the axis that the node wants."""
    from sofie_rdf.ops.control_flow import Reversed

    rank = build.type_of(result).rank
    place = normal_axis(place, rank)
    perm = (*range(1, place + 1), 0, *range(place + 1, rank))
    if turned:
        result = build(Reversed(), result, outputs=() if place else (name,))
    if place:
        build(Transpose(perm), result, outputs=(name,))


def _axes(build: Builder, scanned: Sequence[str], given: Sequence[int]) -> list[int]:
    listed = given or (0,) * len(scanned)
    pairs = zip(listed, scanned, strict=True)
    return [normal_axis(axis, build.type_of(name).rank) for axis, name in pairs]


CONTROL: Mapping[str, Handler] = {"If": _if, "Loop": _loop, "Scan": _scan}
