"""If, Loop and Scan: nodes with graphs in their attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sofie_rdf.errors import GraphError, TypeMismatch, UnsupportedOperator
from sofie_rdf.frontends.onnx_rules import OnnxNode
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim, symbol
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.types import DType, TensorType, normal_axis
from sofie_rdf.ops.control_flow import If, Loop
from sofie_rdf.ops.layout import Identity, Transpose

if TYPE_CHECKING:
    import onnx

    from sofie_rdf.frontends.onnx_scope import Scope

__all__ = ["CONTROL", "handler"]

Handler: TypeAlias = "Callable[[Scope, OnnxNode, Origin], None]"

# A Loop without a limit: more rounds than any machine makes.
FOREVER = 2**62
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
    (condition,) = node.inputs
    branches = [_graph_of(node, name) for name in ("then_branch", "else_branch")]
    known = build.value_of(condition)
    if known is not None and known.dtype != object and known.size == 1:
        graph, captured = scope.inner(branches[0 if known.item() else 1], {})
        _inline(build, graph, captured, node.outputs, origin)
        return
    read = [scope.inner(branch, {}) for branch in branches]
    names = tuple(dict.fromkeys(name for _, captured in read for name in captured))
    # Both branches take the same inputs.
    bodies = [_with_inputs(graph, captured, names, build) for graph, captured in read]
    outputs = _all(node.outputs, len(bodies[0].outputs))
    build(If(*bodies), condition, *names, outputs=outputs, origin=origin)


def _with_inputs(
    graph: Graph, captured: Sequence[str], names: Sequence[str], build: Builder
) -> Graph:
    """The graph with one input for each of these values of the graph around it."""
    from dataclasses import replace
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
    build: Builder, graph: Graph, captured: Sequence[str], outputs: Sequence[str], origin: Origin
) -> None:
    """The nodes of a graph as nodes of the one around it."""
    names = dict(zip(graph.inputs, captured, strict=True))
    for node in graph.nodes:
        inputs = [names[i] if i else "" for i in node.inputs]
        fresh = [o if not build.has(o) else build.fresh(o) for o in node.outputs]
        build(node.op, *inputs, outputs=fresh, origin=node.origin)
        names.update(zip(node.outputs, fresh, strict=True))
    for inner, outer in zip(graph.outputs, outputs, strict=False):
        if outer and names[inner] != outer:
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
    types = [build.type_of(i) for i in initial]

    def read(carried: Sequence[TensorType]) -> tuple[Graph, tuple[str, ...]]:
        return scope.inner(proto, {**first, **dict(zip(names[2:], carried, strict=True))})

    graph, captured = _fixed_point(read, types, names[2:])
    outputs = _all(node.outputs, len(graph.outputs) - 1)
    loop = Loop(graph, len(initial))
    build(loop, trips, go, *initial, *captured, outputs=outputs, origin=origin)


def _fixed_point(
    read: Callable[[Sequence[TensorType]], tuple[Graph, tuple[str, ...]]],
    types: Sequence[TensorType],
    names: Sequence[str],
) -> tuple[Graph, tuple[str, ...]]:
    """The body for types of its values that are general enough: they are those of all rounds."""
    for _ in range(_MOST_READINGS):
        graph, captured = read(types)
        types = [graph.types[i] for i in graph.inputs[2 : 2 + len(types)]]
        after = [graph.types[o] for o in graph.outputs[1 : 1 + len(types)]]
        wider = [_general(*pair, name) for *pair, name in zip(types, after, names, strict=True)]
        if wider == types:
            return graph, captured
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
    if node.version < 9:
        raise UnsupportedOperator(
            "Scan of opset 8 has a batch of its own", remedy="Export with opset 9 or newer"
        )
        node_inputs = node.inputs[1:]
    node_inputs = node.inputs
    count = int(given["num_scan_inputs"])
    states, scanned = (
        node_inputs[: len(node_inputs) - count],
        node_inputs[len(node_inputs) - count :],
    )
    axes = _axes(build, scanned, given.get("scan_input_axes", ()))
    backward = given.get("scan_input_directions", ()) or (0,) * count
    names = [i.name for i in proto.input]
    length: Dim = build.type_of(scanned[0]).shape[axes[0]]
    first = {"scan/round": TensorType(DType.INT64), "scan/go": TensorType(DType.BOOL)}

    def read(carried: Sequence[TensorType]) -> tuple[Graph, tuple[str, ...]]:
        formal = {**first, **dict(zip(names, carried, strict=False))}

        def begin(body: Builder) -> None:
            for name, whole, axis, turned in zip(
                names[len(states) :], scanned, axes, backward, strict=True
            ):
                body(ScanSlice(axis, bool(turned)), whole, "scan/round", outputs=(name,))

        return scope.inner(proto, formal, begin, ("scan/go",))

    types = [build.type_of(s) for s in states]
    graph, captured = _fixed_point(read, types, names[: len(states)])
    trips = build(_size_of_axis(axes[0]), scanned[0])
    go = build.constant(np.array(True))
    outputs = _all(node.outputs, len(graph.outputs) - 1)
    scans = len(graph.outputs) - 1 - len(states)
    turned = given.get("scan_output_directions", ()) or (0,) * scans
    places = given.get("scan_output_axes", ()) or (0,) * scans
    inner = [
        name if i < len(states) or not (turned[i - len(states)] or places[i - len(states)]) else ""
        for i, name in enumerate(outputs)
    ]
    made = build.nodes
    build(
        Loop(graph, len(states), length),
        trips,
        go,
        *states,
        *captured,
        outputs=inner,
        origin=origin,
    )
    results = made[-1].outputs if made is build.nodes else build.nodes[-1].outputs
    for i, (result, name) in enumerate(zip(results, outputs, strict=True)):
        if name and result != name:
            _arranged(build, result, name, bool(turned[i - len(states)]), places[i - len(states)])


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
