"""Networks that do something for each pair of particles: which places they mean is known.

Files spell out the pairs of `ops/pairs.py` as the places of what is not 0 below the diagonal of a
matrix of ones. So how many there are is decided by the data, as far as one operator alone can tell;
what is gathered for them is repeated for all n^2 first; and what is made of a single particle of a
pair is made for each pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from sofie_rdf.ir.builder import infer_node, known_results
from sofie_rdf.ir.dims import Dim, name_of, product
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.types import Array, TensorType, normal_axis
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.creation import KnownRange, Trilu
from sofie_rdf.ops.elementwise import Add, Elementwise
from sofie_rdf.ops.indexing import Gather, Slice
from sofie_rdf.ops.layout import Concat, Expand, Flatten, Reshape, Split, Tile, Transpose
from sofie_rdf.ops.pairs import PairIndices, PairTerms, Symmetric, pairs_of
from sofie_rdf.ops.reduction import KnownReduction
from sofie_rdf.ops.selection import NonZero
from sofie_rdf.passes.rewrite import Made, Match, Rewrite, Rules, Source, rule
from sofie_rdf.passes.simplify import rebuilt, reshape, with_known_sizes

__all__ = ["known_pairs", "pair_operators", "terms_of_pairs"]


# Which pairs --------------------------------------------------------------------------------------


def known_pairs(graph: Graph) -> Graph:
    """NonZero of what is below the diagonal of a matrix of one number: indices of known sizes."""
    nodes: list[Node] = []
    types, sizes = dict(graph.types), dict[str, Dim]()
    for node in graph.nodes:
        size = _triangle_size(graph, node)
        decided = name_of(graph.types[node.outputs[0]].shape[-1]) if size is not None else ""
        if size is None or not decided:
            nodes.append(node)
            continue
        sizes[decided] = pairs_of(size)
        rows = []
        for second in (False, True):
            index, row = (f"{node.outputs[0]}.{what}{int(second)}" for what in ("index", "row"))
            nodes.append(Node(PairIndices(size, second), (), (index,), node.origin))
            nodes.append(Node(Reshape((1, -1)), (index,), (row,), node.origin))
            (types[index],) = infer_node(nodes[-2].op, [])
            (types[row],) = infer_node(nodes[-1].op, [types[index]])
            rows.append(row)
        nodes.append(Node(Concat(0), tuple(rows), node.outputs, node.origin))
    if not sizes:
        return graph
    return with_known_sizes(replace(graph, types=MappingProxyType(types)), sizes, nodes)


def _triangle_size(graph: Graph, node: Node) -> Dim | None:
    """How many rows the matrix has below whose diagonal this node looks for what is not 0."""
    below = graph.producers.get(node.inputs[0]) if isinstance(node.op, NonZero) else None
    if below is None or not isinstance(below.op, Trilu) or below.op.upper:
        return None
    ones = graph.producers.get(below.inputs[0])
    if below.op.k not in (-1, (-1,)) or ones is None or not isinstance(ones.op, Expand):
        return None
    shape, value = graph.types[below.inputs[0]].shape, graph.constants.get(ones.inputs[0])
    square = len(shape) == 2 and shape[0] == shape[1]
    return shape[0] if square and value is not None and value.size and value.all() else None


def _pair_indices(m: Match, value: str) -> PairIndices | None:
    """The operator whose indices these are, perhaps in another shape."""
    node = m.maker(_without_aliases(m, value))
    return node.op if node is not None and isinstance(node.op, PairIndices) else None


def _without_aliases(m: Match, value: str) -> str:
    """The value that this one is, perhaps in another shape."""
    while (node := m.maker(value)) is not None and node.op.is_alias:
        value = node.inputs[0]
    return value


# What is gathered for them ------------------------------------------------------------------------


@rule("Gather(x, indices)")
def gathered_terms(m: Match) -> Rewrite:
    """= PairTerms(x), where the indices are those of all pairs of its last axis"""
    found, shape = _pair_indices(m, m.value("indices")), m.type("x").shape
    m.require(found is not None and m.type("indices").rank == 1, "")
    assert found is not None
    last = normal_axis(m.op(Gather).axis, len(shape)) == len(shape) - 1
    m.require(last and shape[-1] == found.size, "the pairs are of another axis")
    return m.becomes(PairTerms(found.second), "x")


@rule("Gather(x, Add(q, Mul(p, n)))")
def gathered_copies(m: Match) -> Rewrite:
    """= PairTerms(z), where x[i * n + j] = z[i] or z[j], and p, q are the indices of all pairs"""
    p, q = (_pair_indices(m, m.value(name)) for name in "pq")
    m.require(p is not None and q is not None and m.op(Gather).axis == 0, "")
    assert p is not None and q is not None
    m.require(m.type(Add).rank == 1 and p.size == q.size, "")
    whole = _merged(m, m.value("x"))
    m.require(whole is not None, "what is gathered is no matrix of copies")
    assert whole is not None
    source, first, second, rest = whole
    shape = m.graph.types[source].shape
    known = _known(m, m.value("n"))
    sizes = {p.size, q.size, *(d for d in (shape[first], shape[second]) if d != 1)}
    fits = len(sizes) == 1 and known is not None and known.size == 1 and known.item() in sizes
    m.require(fits, "the indices are of another matrix")
    by_row = shape[second] == 1
    m.require(by_row != (shape[first] == 1), "")
    axis, which = (first, p) if by_row else (second, q)
    one = m.graph.types[source].reshaped(tuple(shape[a] for a in (*rest, axis)))
    terms = Made(PairTerms(which.second), (_in_order(m, source, (*rest, axis), one),))
    moved = Made(Transpose((len(rest), *range(len(rest)))), (terms,))
    result = m.type()
    before = result.reshaped((result.shape[0], *one.shape[:-1]))
    return Rewrite(m.nodes, reshape(before, result) or Reshape(result.shape), (moved,))


def _in_order(m: Match, source: str, axes: Sequence[int], wanted: TensorType) -> Source:
    """The value with its axes in this order, of which those that are left out have size 1."""
    same: Source = source
    before = m.graph.types[source]
    order = (*(a for a in range(before.rank) if a not in axes), *axes)
    if list(axes) != sorted(axes):
        same = Made(Transpose(order), (source,))
        before = before.reshaped(tuple(before.shape[a] for a in order))
    return Made(reshape(before, wanted) or Reshape(wanted.shape), (same,))


def _merged(m: Match, value: str) -> tuple[str, int, int, tuple[int, ...]] | None:
    """What was copied along one of two axes, which then became the first one; all its axes."""
    flat = m.maker(value)
    if flat is None or not isinstance(flat.op, Flatten | Reshape):
        return None
    turned = m.maker(flat.inputs[0])
    shape, after = m.graph.types[flat.inputs[0]].shape, m.graph.types[value].shape
    if turned is None or not isinstance(turned.op, Transpose) or product(shape[:2]) != after[0]:
        return None
    copied = m.maker(turned.inputs[0])
    if copied is None or not isinstance(copied.op, Tile | Expand):
        return None
    before, full = (m.graph.types[v].shape for v in (copied.inputs[0], turned.inputs[0]))
    first, second, *rest = turned.op.permutation(len(full))
    if len(before) != len(full) or any(before[a] != full[a] for a in rest):
        return None
    if any(before[a] not in (1, full[a]) for a in (first, second)) or full[first] != full[second]:
        return None
    return copied.inputs[0], first, second, tuple(rest)


def _known(m: Match, value: str, depth: int = 6) -> Array | None:
    """The elements of a small tensor, numbers or symbolic sizes, where no data decide them."""
    if value in m.graph.constants:
        return m.graph.constants[value]
    node = m.maker(value)
    if node is None or not depth:
        return None
    inputs = [_known(m, i, depth - 1) if i else None for i in node.inputs]
    types = [m.graph.types[i] if i else None for i in node.inputs]
    return next(iter(known_results(node.op, types, inputs, m.graph.types[value])), None)


# What is written for them -------------------------------------------------------------------------


def _scattered(axes: int) -> str:
    inner, outer = (", ".join(f"{c}{a}" for a in range(axes)) for c in "ij")
    return f"sofie.ScatterAt(sofie.ScatterAt(x, u, {inner}), u, {outer})"


@rule(*map(_scattered, range(2, 6)))
def symmetric(m: Match) -> Rewrite:
    """= Symmetric(u), where u is written for all pairs (i, j), then for all (j, i)"""
    shape, updates = m.type("x").shape, m.type("u")
    rank = len(shape)
    base = m.maker(m.value("x"))
    m.require(base is not None and isinstance(base.op, Expand), "")
    assert base is not None
    whole = updates.shape[:-1] == shape[:-2] and shape[-1] == shape[-2]
    one = m.graph.types[base.inputs[0]].size == 1
    m.require(whole and one, "it is not all of a matrix of one number")
    for side in "ij":
        for axis in range(rank - 2):
            m.require(_is_range(m, m.value(f"{side}{axis}"), axis), "it is not all of an axis")
    seconds = []
    for name in (f"{side}{axis}" for side in "ij" for axis in (rank - 2, rank - 1)):
        found = _pair_indices(m, m.value(name))
        last = m.type(name).shape[-1] == updates.shape[-1]
        m.require(found is not None and found.size == shape[-1] and last, "")
        assert found is not None
        seconds.append(found.second)
    both = seconds in ([False, True, True, False], [True, False, False, True])
    m.require(both, "it is not written on both sides of the diagonal")
    return Rewrite(m.nodes, Symmetric(shape[-1]), (m.value("u"), base.inputs[0]))


def _is_range(m: Match, value: str, axis: int) -> bool:
    """Whether these indices are 0, 1, ... along this axis of the updates, and all of them."""
    shape = m.type("u").shape
    wanted = tuple(d if a == axis else 1 for a, d in enumerate(shape))
    if m.graph.types[value].shape != wanted:
        return False
    value = _without_aliases(m, value)
    if value in m.graph.constants:
        found = m.graph.constants[value].ravel()
        return bool(np.array_equal(found, np.arange(found.size)))
    node = m.maker(value)
    return node is not None and node.op == KnownRange(0, shape[axis], 1, m.graph.types[value].dtype)


pair_operators = Rules("pair_operators", (gathered_terms, gathered_copies, symmetric))


# What is computed of one of the two ---------------------------------------------------------------


@dataclass(frozen=True)
class _Terms:
    """A value that is ``PairTerms(second)`` of another one."""

    source: str
    second: bool


def terms_of_pairs(graph: Graph) -> Graph:
    """f(PairTerms(x)) = PairTerms(f(x)): once for each particle, not for each of its pairs."""
    if not any(isinstance(node.op, PairTerms) for node in graph.nodes):
        return graph
    return _Spreading(graph).spread()


class _Spreading:
    """A walk through a graph in which `PairTerms` are put off until something needs them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.types = dict(graph.types)
        self.terms: dict[str, _Terms] = {}
        self.nodes: list[Node] = []
        self.done: set[str] = set()

    def spread(self) -> Graph:
        for node in self.graph.nodes:
            if isinstance(node.op, PairTerms):
                self.terms[node.outputs[0]] = _Terms(node.inputs[0], node.op.second)
            elif not self._put_off(node):
                self._needed(node.inputs, node)
                self.nodes.append(node)
        for output in self.graph.outputs:
            self._needed((output,), self.graph.producers.get(output))
        return rebuilt(replace(self.graph, types=MappingProxyType(self.types)), self.nodes)

    def _needed(self, values: Sequence[str], reader: Node | None) -> None:
        """The values themselves, where they are still to be spread."""
        for value in values:
            if value in self.terms and value not in self.done:
                assert reader is not None
                found = self.terms[value]
                op = PairTerms(found.second)
                self.nodes.append(Node(op, (found.source,), (value,), reader.origin))
                self.done.add(value)

    def _put_off(self, node: Node) -> bool:
        """Whether the node is now one on the particles, and its results are to be spread."""
        terms = [self.terms[i] for i in node.inputs if i in self.terms]
        sides = {(one.second, self.types[one.source].shape[-1]) for one in terms}
        if len(sides) != 1 or node.op.is_random or not self._keeps_last(node):
            return False
        inputs = tuple(self.terms[i].source if i in self.terms else i for i in node.inputs)
        outputs = tuple(f"{name}.one" for name in node.outputs)
        if any(name in self.types for name in outputs):
            return False
        types = infer_node(node.op, [self.types[i] if i else None for i in inputs])
        self.types.update(zip(outputs, types, strict=False))
        self.nodes.append(Node(node.op, inputs, outputs, node.origin))
        ((second, _),) = sides
        for name, one in zip(node.outputs, outputs, strict=True):
            self.terms[name] = _Terms(one, second)
        return True

    def _keeps_last(self, node: Node) -> bool:
        """Whether each place of the last axis is computed of that place only."""
        rank = self.types[node.inputs[0]].rank
        rest = [i for i in node.inputs if i and i not in self.terms]
        match node.op:
            case Elementwise() | Cast():
                # What meets pairs is the same for all of them.
                return all(self.types[i].shape[-1:] in ((), (1,)) for i in rest) and all(
                    self.types[i].rank for i in node.inputs if i in self.terms
                )
            case Concat() | Split() as op:
                return not rest and normal_axis(op.axis, rank) != rank - 1
            case Slice() as op:
                return not rest and rank - 1 not in op.cut(rank)
            case KnownReduction() as op:
                return (
                    not rest
                    and bool(reduced := op.reduced(op.axes, rank))
                    and (rank - 1 not in reduced)
                )
        return False
