"""Graphs with the same results and fewer nodes: nothing here changes a bit of any number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from types import MappingProxyType

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import SofieError
from sofie_rdf.ir.builder import infer_node, known_results
from sofie_rdf.ir.dims import Dim, name_of, never_negative, substitute, symbols_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import with_sizes
from sofie_rdf.ir.types import Array, TensorType, normal_axis
from sofie_rdf.ops.elementwise import (
    Cast,
    Clip,
    Max,
    Mean,
    Min,
    Sum,
)
from sofie_rdf.ops.indexing import ScatterND, Slice
from sofie_rdf.ops.layout import (
    Concat,
    Expand,
    Identity,
    Reshape,
    Split,
    Transpose,
    Unsqueeze,
)
from sofie_rdf.ops.quantization import DequantizeLinear
from sofie_rdf.ops.scatter import ScatterAt
from sofie_rdf.passes.rewrite import Made, Match, Rewrite, Rules, Source, rule
from sofie_rdf.reference import evaluate_node

__all__ = [
    "fold_constants",
    "fold_sizes",
    "merge_equal",
    "merge_transposes",
    "rebuilt",
    "remove_dead",
    "remove_identities",
    "remove_neutral",
    "reshape",
    "scatter_columns",
    "split_joined",
    "transposes",
    "with_known_sizes",
]

# Folding may make the constants of a node at most this many bytes larger than they were, but for
# weights that are stored in fewer bits than they are computed with.
GROWTH = 16 << 20
_WIDENED = (Cast, DequantizeLinear)
# So many elements of two constants are compared before all of them are.
_SOME = 64


def rebuilt(
    graph: Graph, nodes: Iterable[Node], constants: Mapping[str, Array] | None = None
) -> Graph:
    """The graph with other nodes and constants; types only of the values that are left.

    It is the same object where nothing is different.
    """
    nodes = tuple(nodes)
    constants = MappingProxyType(dict(graph.constants if constants is None else constants))
    if nodes == graph.nodes and _same_arrays(constants, graph.constants):
        return graph
    values = {*graph.inputs, *constants, *(o for node in nodes for o in node.outputs)}
    types = MappingProxyType({n: t for n, t in graph.types.items() if n in values})
    return replace(graph, nodes=nodes, types=types, constants=constants)


def _same_arrays(these: Mapping[str, Array], others: Mapping[str, Array]) -> bool:
    return these.keys() == others.keys() and all(a is others[name] for name, a in these.items())


def _reading(node: Node, names: Mapping[str, str]) -> Node:
    """The node with its inputs under other names."""
    if names.keys().isdisjoint(node.inputs):
        return node
    return replace(node, inputs=tuple(names.get(i, i) for i in node.inputs))


def remove_dead(graph: Graph) -> Graph:
    """Only the nodes and constants that an output needs. Inputs stay: they are the signature.

    What decides a size is needed, too, where the elements are not: those of NonZero, say, of which
    only the number is asked for.
    """
    needed = list(graph.outputs)
    kept, values = _needed(graph, needed)
    while (more := _undecided(graph, kept)) and more not in needed:
        needed.append(more)
        kept, values = _needed(graph, needed)
    constants = {name: array for name, array in graph.constants.items() if name in values}
    return rebuilt(graph, kept, constants)


def _needed(graph: Graph, wanted: Iterable[str]) -> tuple[list[Node], set[str]]:
    """The nodes that these values need, and all that they read."""
    needed = set(wanted)
    kept = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return kept[::-1], needed


def _undecided(graph: Graph, nodes: Iterable[Node]) -> str:
    """A value whose size one of these nodes uses, and which none of them gives before."""
    if not graph.data_symbols:
        return ""
    known = set(graph.symbols)
    for node in nodes:
        if node.op.decides_sizes:
            known.update(_own_sizes(graph, node))
        shapes = (graph.types[name].shape for name in node.outputs if name)
        for size in (s for shape in shapes for dim in shape for s in symbols_of(dim)):
            if size not in known:
                deciding = (n for n in graph.nodes if n.op.decides_sizes)
                makers = (n.outputs[0] for n in deciding if size in _own_sizes(graph, n))
                return next(makers, "")
    return ""


def _own_sizes(graph: Graph, node: Node) -> set[str]:
    """The names of the sizes of what a node gives."""
    return {name_of(d) for o in node.outputs if o for d in graph.types[o].shape} - {""}


# Identities ---------------------------------------------------------------------------------------


def remove_identities(graph: Graph) -> Graph:
    """f(x) = x for every Identity, Dropout, Cast, Transpose, Reshape, ... that changes nothing.

    Aliases of aliases become aliases of the first value. An output of the model keeps its name:
    the node that computes it gives it, or where there is none an Identity.
    """
    same: dict[str, str] = {}
    makers: dict[str, Node] = {}
    nodes = []
    for node in graph.nodes:
        node = _without_alias(graph, _reading(node, same), makers)
        if _is_identity(graph, node):
            same[node.outputs[0]] = node.inputs[0]
            node = replace(node, op=Identity(), inputs=node.inputs[:1])
        nodes.append(node)
        makers.update(dict.fromkeys(node.outputs, node))
    names = _names_for_outputs(graph, same)
    return rebuilt(graph, _renamed(graph, nodes, same, names))


def _is_identity(graph: Graph, node: Node) -> bool:
    if len(node.outputs) != 1 or not any(node.inputs[:1]):
        return False
    if graph.types[node.inputs[0]] != graph.types[node.outputs[0]]:
        return False
    match node.op:
        case Transpose() as op:
            rank = graph.types[node.inputs[0]].rank
            return op.permutation(rank) == tuple(range(rank))
        case Expand():
            return True
        case Slice() as op:
            return op.steps is None or all(step > 0 for step in op.steps)
        case Max() | Min() | Sum() | Mean() | Concat() | Clip():
            return not any(node.inputs[1:])
    return node.op.is_alias or isinstance(node.op, Cast)


def _without_alias(graph: Graph, node: Node, makers: Mapping[str, Node]) -> Node:
    """Reshape(Reshape(x)) = Reshape(x), for all operators that only change the shape.

    What changes nothing stays: it is taken away, and would come back as a Reshape.
    """
    before = makers.get(node.inputs[0]) if node.inputs else None
    if before is None or not (node.op.is_alias and before.op.is_alias):
        return node
    if _is_identity(graph, node):
        return node
    source = before.inputs[0]
    op = reshape(graph.types[source], graph.types[node.outputs[0]])
    return replace(node, op=op, inputs=(source,)) if op else node


def reshape(before: TensorType, after: TensorType) -> Reshape | None:
    """The Reshape from one type to the other, where its few words can say it."""

    def word(i: int, size: Dim) -> Dim:
        if isinstance(size, int):
            return size
        return 0 if before.shape[i : i + 1] == (size,) else -1

    op = Reshape(tuple(word(i, d) for i, d in enumerate(after.shape)))
    try:
        return op if infer_node(op, [before]) == (after,) else None
    except SofieError:
        return None


def _names_for_outputs(graph: Graph, same: Mapping[str, str]) -> dict[str, str]:
    """New names of computed values: those of the outputs that they are equal to."""
    names: dict[str, str] = {}
    for output in graph.outputs:
        source = same.get(output, output)
        if source != output and source in graph.producers and source not in graph.given_names:
            names.setdefault(source, output)
    return names


def _renamed(
    graph: Graph, nodes: Iterable[Node], same: Mapping[str, str], names: Mapping[str, str]
) -> Iterable[Node]:
    for node in nodes:
        output = node.outputs[0]
        if output in same and (
            output not in graph.given_names or names.get(same[output]) == output
        ):
            continue
        node = _reading(node, names)
        # What nothing changes stays the same object, which is compared at once.
        if not names.keys().isdisjoint(node.outputs):
            node = replace(node, outputs=tuple(names.get(o, o) for o in node.outputs))
        yield node


def split_joined(graph: Graph) -> Graph:
    """Split(Concat(x, y, ...)) = x, y, ..., cut where they were joined."""
    makers: dict[str, Node] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        parts = _joined_parts(graph, node, makers)
        makers.update(dict.fromkeys(node.outputs, node))
        pairs = zip(parts, node.outputs, strict=True) if parts else ()
        same = [Node(Identity(), (part,), (name,), node.origin) for part, name in pairs]
        nodes += same or [node]
    return rebuilt(graph, nodes) if len(nodes) != len(graph.nodes) else graph


def _joined_parts(graph: Graph, node: Node, makers: Mapping[str, Node]) -> tuple[str, ...]:
    """What the parts were before they were joined; nothing if that is not so."""
    joined = makers.get(node.inputs[0]) if isinstance(node.op, Split) else None
    if joined is None or not isinstance(joined.op, Concat) or not isinstance(node.op, Split):
        return ()
    types = graph.types
    rank = types[node.inputs[0]].rank
    along = normal_axis(joined.op.axis, rank) == normal_axis(node.op.axis, rank)
    same = [types[i] for i in joined.inputs] == [types[o] for o in node.outputs]
    return joined.inputs if along and same else ()


# Constants and common expressions -----------------------------------------------------------------


def fold_constants(graph: Graph) -> Graph:
    """f(constant) = constant, evaluated as the model would have done it, in its element types.

    Nodes stay whose result is more than `GROWTH` bytes larger than what they take, unless they only
    widen numbers, and those whose kernel will refuse an index, if the run comes to it.
    """
    constants = dict(graph.constants)
    nodes = []
    sizes: dict[str, Dim] = {}
    for node in graph.nodes:
        results = _folded(graph, node, constants)
        if results is not None:
            folded = sum(array.nbytes for array in results)
            limits.spend(bytes=folded, what=f"what {node.outputs[0]!r} is folded to")
            constants.update(zip(node.outputs, map(_frozen, results), strict=False))
            if node.op.decides_sizes:
                for name, array in zip(node.outputs, results, strict=False):
                    sizes.update(_decided(graph.types[name], array.shape))
        else:
            nodes.append(node)
    return with_known_sizes(graph, sizes, nodes, constants)


def _folded(graph: Graph, node: Node, constants: Mapping[str, Array]) -> tuple[Array, ...] | None:
    """What the outputs are, where that is wanted; None where the kernel would refuse an index."""
    if not _is_foldable(graph, node, constants):
        return None
    try:
        return evaluate_node(node, constants)
    except IndexError:
        return None


def fold_sizes(graph: Graph) -> Graph:
    """Shape arithmetic whose result does not depend on the run is a constant."""
    known: dict[str, Array] = dict(graph.constants)
    constants = dict(graph.constants)
    nodes = []
    for node in graph.nodes:
        types = [graph.types[i] if i else None for i in node.inputs]
        values = [known.get(i) for i in node.inputs]
        first = graph.types[node.outputs[0]]
        found = dict(zip(node.outputs, known_results(node.op, types, values, first), strict=False))
        found = {n: a for n, a in found.items() if a.shape == graph.types[n].shape}
        known.update(found)
        whole = all(graph.types[n].dtype.is_integer for n in node.outputs)
        if whole and len(found) == len(node.outputs) and all(map(_is_numeric, found.values())):
            for name, array in found.items():
                constants[name] = _frozen(array.astype(graph.types[name].dtype.numpy))
        else:
            nodes.append(node)
    return rebuilt(graph, nodes, constants)


def _is_numeric(array: Array) -> bool:
    """Whether no element is a symbolic size."""
    return array.dtype != object or all(isinstance(d, int | np.integer) for d in array.flat)


def _decided(type_: TensorType, shape: Iterable[Dim]) -> Mapping[str, Dim]:
    """The named sizes of a type, where its shape is this one."""
    return {name_of(d): size for d, size in zip(type_.shape, shape, strict=True) if name_of(d)}


def with_known_sizes(
    graph: Graph,
    sizes: Mapping[str, Dim],
    nodes: Iterable[Node],
    constants: Mapping[str, Array] | None = None,
) -> Graph:
    """The graph of these nodes with other sizes for named ones, in types and in attributes."""
    return rebuilt(_with_sizes(graph, sizes), (_node_with(n, sizes) for n in nodes), constants)


def _with_sizes(graph: Graph, sizes: Mapping[str, Dim]) -> Graph:
    """The graph with other sizes for named ones."""
    if not sizes:
        return graph
    types = {
        name: TensorType(t.dtype, tuple(substitute(d, sizes) for d in t.shape))
        for name, t in graph.types.items()
    }
    return replace(graph, types=MappingProxyType(types))


def _node_with(node: Node, sizes: Mapping[str, Dim]) -> Node:
    return replace(node, op=with_sizes(node.op, sizes)) if sizes else node


def _is_foldable(graph: Graph, node: Node, constants: Mapping[str, Array]) -> bool:
    inputs = [i for i in node.inputs if i]
    if node.op.is_random or not inputs or not all(i in constants for i in inputs):
        return False
    before = sum(constants[i].nbytes for i in inputs)
    if node.op.decides_sizes:
        return before <= GROWTH
    if isinstance(node.op, _WIDENED):
        return True
    after = [graph.types[o] for o in node.outputs]
    # Nothing is of any size: [N, 0].
    if not all(isinstance(d, int) for type_ in after for d in type_.shape):
        return False
    return all(never_negative(before + GROWTH - type_.nbytes) for type_ in after)


def _frozen(array: Array) -> Array:
    own = np.array(array, order="C", copy=True)
    own.setflags(write=False)
    return own


def merge_equal(graph: Graph) -> Graph:
    """f(x), f(x) = y, y: equal nodes and equal constants are there once."""
    same = _equal_constants(graph)
    known: dict[object, tuple[str, ...]] = {}
    sizes: dict[str, Dim] = {}
    nodes = []
    for node in graph.nodes:
        node = _reading(node, same)
        # The text, because 0.0 == -0.0 and 1 == True.
        first = known.setdefault((type(node.op), repr(node.op), node.inputs), node.outputs)
        is_name = isinstance(node.op, Identity)  # `remove_identities` leaves those that are needed.
        if node.op.is_random or is_name or first == node.outputs or len(first) != len(node.outputs):
            nodes.append(node)
            continue
        same.update(zip(node.outputs, first, strict=True))
        for one, other in zip(first, node.outputs, strict=True):
            if node.op.decides_sizes:
                sizes.update(_decided(graph.types[other], graph.types[one].shape))
            if other in graph.given_names:
                nodes.append(Node(Identity(), (one,), (other,), node.origin))
    return with_known_sizes(graph, sizes, nodes)


def _equal_constants(graph: Graph) -> dict[str, str]:
    """The first constant that has the same type and bytes, for those that are not the first."""
    alike: dict[object, list[str]] = {}
    for name, array in graph.constants.items():
        # Few of them are equal, and most of those that are not differ in some of their elements.
        some = array.reshape(-1)[:: max(1, array.size // _SOME)].tobytes()
        alike.setdefault((graph.types[name], some), []).append(name)
    same = {}
    for names in alike.values():
        first: dict[bytes, str] = {}
        for name in names if len(names) > 1 else ():
            own = np.ascontiguousarray(graph.constants[name]).reshape(-1)
            key = sha256(own.view(np.uint8).data).digest()
            if first.setdefault(key, name) != name:
                same[name] = first[key]
    return same


# Local rules --------------------------------------------------------------------------------------


@rule("Transpose(Transpose(x))")
def transposes(m: Match) -> Rewrite:
    """= one Transpose by both permutations"""
    rank = m.type("x").rank
    outer, inner = (n.op.permutation(rank) for n in m.nodes if isinstance(n.op, Transpose))
    return m.becomes(Transpose(tuple(inner[a] for a in outer)), "x")


@rule("Mul(x, 1)", "Div(x, 1)", "Add(x, -0.0)", "Sub(x, 0)", "Neg(Neg(x))", "Not(Not(x))")
def neutral(m: Match) -> Rewrite:
    """= x, bit for bit: -0.0 + 0.0 is 0.0, but -0.0 - 0.0 is -0.0"""
    m.require(m.type() == m.type("x"), "it gives x another shape")
    return m.becomes(Identity(), "x")


@rule("Relu(Relu(x))", "Abs(Abs(x))", "Floor(Floor(x))", "Ceil(Ceil(x))", "Round(Round(x))")
def idempotent(m: Match) -> Rewrite:
    """= f(x)"""
    return m.becomes(m.root.op, "x")


@rule("ScatterND(x, indices, updates)")
def scattered_columns(m: Match) -> Rewrite:
    """= ScatterAt(x, updates, a, b, ...), where the indices are a, b, ... repeated and joined"""
    joined = m.maker(m.value("indices"))
    m.require(joined is not None and isinstance(joined.op, Concat), "")
    assert joined is not None and isinstance(joined.op, Concat)
    m.require(m.op(ScatterND).reduction == "none", "what is there counts as well")
    x, updates, rank = m.type("x"), m.type("updates"), m.type("indices").rank
    whole = normal_axis(joined.op.axis, rank) == rank - 1 and len(joined.inputs) == x.rank
    single = all(m.graph.types[i].shape[-1] == 1 for i in joined.inputs)
    m.require(whole and single, "it is not one tensor of indices for each axis")
    m.require(updates.rank, "")
    columns = [_repeated(m, i, updates.rank) for i in joined.inputs]
    return Rewrite(m.nodes, ScatterAt(), (m.value("x"), m.value("updates"), *columns))


def _repeated(m: Match, column: str, rank: int) -> Source:
    """What was repeated to make this column of indices, which has one more axis at its end."""
    shape, source = m.graph.types[column].shape[:-1], column
    while (node := m.maker(source)) is not None:
        before = m.graph.types[node.inputs[0]]
        copied = isinstance(node.op, Expand) and before.rank <= rank
        moved = isinstance(node.op, Unsqueeze | Reshape) and before.shape == shape
        if not (copied and m.graph.types[source].shape == shape) and not moved:
            break
        source = node.inputs[0]
        if copied:
            break
    found = m.graph.types[source]
    wanted = found.reshaped((1,) * (rank - found.rank) + found.shape)
    if found.rank > rank:
        wanted = found.reshaped(found.shape[:-1])
    return source if wanted == found else Made(Reshape(wanted.shape), (source,))


merge_transposes = Rules("merge_transposes", (transposes,))
scatter_columns = Rules("scatter_columns", (scattered_columns,))
remove_neutral = Rules("remove_neutral", (neutral, idempotent))
