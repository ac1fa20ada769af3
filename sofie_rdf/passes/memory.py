"""Where every value of a graph lives: in the caller's memory, among the weights, or in scratch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from operator import add, ge
from typing import Any, TypeAlias

from sofie_rdf.ir.dims import (
    Dim,
    Size,
    align,
    evaluate,
    largest,
    never_negative,
    rounded_up,
    symbols_of,
)
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.types import TensorType
from sofie_rdf.ops.elementwise import Elementwise
from sofie_rdf.passes.first_fit import first_fit

__all__ = [
    "NOMINAL",
    "Argument",
    "MemoryPlan",
    "Owned",
    "Place",
    "Scratch",
    "Weight",
    "plan_memory",
]

ALIGNMENT = 64
# The size that a dynamic axis is taken to have when buffers are compared.
NOMINAL = 16


@dataclass(frozen=True, slots=True)
class Argument:
    """Memory of the caller: the graph input or output of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Weight:
    """The constant of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Scratch:
    """Bytes of the Session's own memory, from this offset on."""

    root: str
    offset: Dim


@dataclass(frozen=True, slots=True)
class Owned:
    """A tensor of the Session's own that grows as the data decide: the memory of this value."""

    root: str


Place: TypeAlias = Argument | Weight | Scratch | Owned


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The place of every value, the scratch bytes in all, and what must be copied at the end."""

    places: Mapping[str, Place]
    nbytes: Dim
    copies: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Buffer:
    root: str
    nbytes: Dim
    first: int
    last: int

    def meets(self, other: _Buffer) -> bool:
        return self.first <= other.last and other.first <= self.last


Workspace: TypeAlias = Callable[[Node], Mapping[str, TensorType]]


def plan_memory(
    graph: Graph, *, is_body: bool = False, workspace: Workspace | None = None
) -> MemoryPlan:
    """Places for all values, so that two values share memory only if no node needs both.

    The outputs of a body are tensors that bring memory of their own, as if the data decided them.
    ``workspace`` says which scratch memory the kernels of a node need, if not those of a CPU.
    """
    workspace = workspace or graph.workspace
    roots = _roots(graph)
    places: dict[str, Place] = {name: Argument(name) for name in graph.inputs}
    places |= {name: Weight(name) for name in graph.constants}
    copies = []
    for name in sorted(graph.outputs, key=lambda name: roots[name] != name):
        root = roots[name]
        # Such a tensor has one shape: what has another one is not computed in it.
        reshaped = root != name and (is_body or _has_own_memory(graph, root, name))
        if not is_body and root == name and graph.grows_to_known_size(name):
            # The caller knows how much memory that is, and gives it.
            places[root] = Owned(root)
            copies.append((root, name))
        elif root in places or reshaped:
            copies.append((root, name))
        else:
            places[root] = Argument(name)
    for node in graph.nodes:
        for name in node.outputs:
            # Another form of a value has as many bytes, however its size is written.
            if roots[name] == name and _is_owned(graph, node, name):
                places.setdefault(name, Owned(name))
        for name, type_ in workspace(node).items():
            if not symbols_of(type_.size) <= graph.known_symbols:
                places[name] = Owned(name)
    copied = {source for source, _ in copies}
    offsets, nbytes = _assign(list(_buffers(graph, roots, places, copied, workspace)))
    places |= {root: Scratch(root, offset) for root, offset in offsets.items()}
    # Workspaces are no values: nothing is another name for one.
    roots |= {name: name for name in places if name not in roots}
    return MemoryPlan({v: places[r] for v, r in roots.items()}, nbytes, tuple(copies))


def _is_owned(graph: Graph, node: Node, value: str) -> bool:
    return node.op.decides_sizes or graph.is_decided_by_data(value)


def _has_own_memory(graph: Graph, root: str, output: str) -> bool:
    """Whether an output, or the computed value that it is another form of, grows with the data."""
    maker = graph.producers.get(root)
    grows = maker is not None and _is_owned(graph, maker, root)
    return grows or graph.is_decided_by_data(output)


def _roots(graph: Graph) -> dict[str, str]:
    """For every value the one whose memory it is: itself, an input that it is another form of, or
    an input that it is written over because nothing reads that afterwards.
    """
    roots = {name: name for name in (*graph.inputs, *graph.constants)}
    last = {i: step for step, node in enumerate(graph.nodes) for i in node.inputs}
    kept = {*graph.inputs, *graph.constants, *graph.outputs}
    # The last step that reads any form of what is there, or none where it must stay.
    until: dict[str, float] = dict.fromkeys(kept, math.inf)
    for step, node in enumerate(graph.nodes):
        for output in node.outputs:
            roots[output] = roots[node.inputs[0]] if node.op.is_alias else output
            over = "" if node.op.is_alias else _overwritten(graph, node, step, roots, until)
            if over:
                roots[output] = roots[over]
            root = roots[output]
            stays = output in kept or (root == output and _is_owned(graph, node, output))
            end = math.inf if stays else last.get(output, step)
            until[root] = end if over else max(until.get(root, 0), end)
    return roots


def _overwritten(
    graph: Graph, node: Node, step: int, roots: Mapping[str, str], until: Mapping[str, float]
) -> str:
    """The input over which an element-wise node may write its output, which nobody else keeps."""
    # Element i is read before element i is written, by this kernel.
    if not isinstance(node.op, Elementwise) or type(node.op).lower is not Elementwise.lower:
        return ""
    (output,) = node.outputs
    if output in graph.given_names:
        return ""
    type_ = graph.types[output]
    fits = (i for i in node.inputs if i and graph.types[i] == type_ and until[roots[i]] <= step)
    return next(fits, "")


def _buffers(
    graph: Graph,
    roots: Mapping[str, str],
    places: Mapping[str, Place],
    copied: Set[str],
    workspace: Workspace,
) -> Iterable[_Buffer]:
    """What needs scratch memory; what is ``copied`` to an output is needed until the end."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for step, node in enumerate(graph.nodes):
        for value in (*node.inputs, *node.outputs):
            if value and roots[value] not in places:
                first.setdefault(roots[value], step)
                last[roots[value]] = step
    for root, step in first.items():
        end = len(graph.nodes) if root in copied else last[root]
        yield _Buffer(root, graph.types[root].nbytes, step, end)
    for step, node in enumerate(graph.nodes):
        for name, type_ in workspace(node).items():
            if name not in places:
                yield _Buffer(name, type_.nbytes, step, step)


# So many buffers of sizes that can hardly be compared are not compared with each other.
_MANY = 2000


def _assign(buffers: list[_Buffer]) -> tuple[dict[str, Dim], Dim]:
    if all(isinstance(b.nbytes, int) for b in buffers):
        return _by_offset(buffers)
    # Sizes of several names can seldom be compared; then slots are better.
    comparable = {b.root: size for b in buffers if (size := _padded(b.nbytes)) is not None}
    unit = _common_unit(comparable.values())
    if not comparable or (unit is None and len(comparable) > _MANY):
        return _by_slot(buffers, 0)
    plans = _by_comparison(buffers, comparable, unit), _by_slot(buffers, 0)
    # For one event, and for several.
    return min(plans, key=lambda plan: _nominal(plan[1], 1) * _nominal(plan[1]))


def _common_unit(sizes: Iterable[Dim]) -> Dim | None:
    """The product of names of which all these are multiples, where there is one."""
    found: set[Dim] = set()
    for size in sizes:
        terms = size.terms if isinstance(size, Size) else ()
        if len(terms) != 1:
            return None
        found.add(Size(((terms[0][0], 1),)))
        if len(found) > 1:
            return None
    return found.pop() if found else None


def _nominal(nbytes: Dim, size: int = NOMINAL) -> int:
    class Same(dict[str, int]):
        def __missing__(self, key: str) -> int:
            return size

    return evaluate(nbytes, Same())


def _largest_first(buffers: Iterable[_Buffer]) -> list[_Buffer]:
    return sorted(buffers, key=lambda b: (-_nominal(b.nbytes), b.first))


def _by_offset(buffers: list[_Buffer]) -> tuple[dict[str, Dim], Dim]:
    """Known sizes: the largest first, each at the lowest offset that is free while it lives."""
    ordered = _largest_first(buffers)
    sizes = [_nominal(align(buffer.nbytes, ALIGNMENT)) for buffer in ordered]
    begins = first_fit([(b.first, b.last) for b in ordered], sizes)
    ends = (begin + size for begin, size in zip(begins, sizes, strict=True))
    return {b.root: o for b, o in zip(ordered, begins, strict=True)}, max(ends, default=0)


def _by_slot(buffers: list[_Buffer], end: Dim) -> tuple[dict[str, Dim], Dim]:
    """From ``end`` on: buffers that never meet share a slot, as large as the largest."""
    ordered = _largest_first(buffers)
    numbers = first_fit([(b.first, b.last) for b in ordered], [1] * len(ordered))
    slots: dict[int, list[_Buffer]] = {}
    for buffer, number in zip(ordered, numbers, strict=True):
        slots.setdefault(number, []).append(buffer)
    offsets: dict[str, Dim] = {}
    for number in sorted(slots):
        offsets |= {buffer.root: end for buffer in slots[number]}
        sizes = dict.fromkeys(buffer.nbytes for buffer in slots[number])
        end = end + align(largest(sizes), ALIGNMENT)
    return offsets, end


# How often each product of names is in a size. None of these products is negative, so that a size
# is not above another one, whatever the names are, if it has none of them more often.
_Counts: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    """A buffer with its place; both ends also for sizes that stand for the dynamic ones."""

    buffer: _Buffer
    begin: _Counts
    end: _Counts
    low: int
    high: int


def _by_comparison(
    buffers: list[_Buffer], comparable: Mapping[str, Dim], unit: Dim | None
) -> tuple[dict[str, Dim], Dim]:
    """Sizes known at run time: as `_by_offset`, with what holds whatever the sizes will be.

    A buffer begins where another one ends, if for all sizes nothing that it meets is there.
    """
    ordered = _largest_first(b for b in buffers if b.root in comparable)
    if unit is not None:
        offsets, end = _in_units(ordered, comparable, unit)
    else:
        offsets, end = _in_order(ordered, comparable)
    more, end = _by_slot([b for b in buffers if b.root not in comparable], end)
    return offsets | more, end


def _in_units(
    ordered: Iterable[_Buffer], comparable: Mapping[str, Dim], unit: Dim
) -> tuple[dict[str, Dim], Dim]:
    """Multiples of one size are compared as numbers are."""
    listed = list(ordered)
    sizes = [_factor(comparable[b.root]) for b in listed]
    begins = first_fit([(b.first, b.last) for b in listed], sizes)
    end = max(begin + size for begin, size in zip(begins, sizes, strict=True))
    return {b.root: n * unit for b, n in zip(listed, begins, strict=True)}, end * unit


def _factor(size: Dim) -> int:
    assert isinstance(size, Size)
    return size.terms[0][1]


def _in_order(
    ordered: Iterable[_Buffer], comparable: Mapping[str, Dim]
) -> tuple[dict[str, Dim], Dim]:
    terms = {root: dict(_terms_of(size)) for root, size in comparable.items()}
    products = tuple(dict.fromkeys(product for found in terms.values() for product in found))
    counts = {root: tuple(found.get(p, 0) for p in products) for root, found in terms.items()}

    def size_of(found: _Counts) -> Dim:
        parts = (n * Size(((p, 1),)) if p else n for p, n in zip(products, found, strict=True))
        return sum(parts, start=0)

    zero = (0,) * len(products)
    placed: list[_Placed] = []
    for buffer in ordered:
        size = counts[buffer.root]
        extent = _nominal(comparable[buffer.root])
        others = [p for p in placed if buffer.meets(p.buffer)]
        begins = sorted({(0, zero), *((p.high, p.end) for p in others)}, key=lambda pair: pair[0])
        fits = ((b, n) for n, b in begins if _is_free(others, b, _added(b, size), n, n + extent))
        begin, low = next(fits, (None, 0))
        if begin is None:
            begin = tuple(
                map(sum, zip(zero, *(counts[p.buffer.root] for p in placed), strict=True))
            )
            low = _nominal(size_of(begin))
        placed.append(_Placed(buffer, begin, _added(begin, size), low, low + extent))
    ends = dict.fromkeys(size_of(p.end) for p in placed)
    return {p.buffer.root: size_of(p.begin) for p in placed}, largest(ends)


def _terms_of(size: Dim) -> Iterable[tuple[Any, int]]:
    return size.terms if isinstance(size, Size) else (((), size),)


def _added(one: _Counts, other: _Counts) -> _Counts:
    return tuple(map(add, one, other))


def _is_free(others: Iterable[_Placed], begin: _Counts, end: _Counts, low: int, high: int) -> bool:
    """Whether nothing of these is between two offsets, for all sizes."""
    return all(
        (p.high <= low and all(map(ge, begin, p.end)))
        or (high <= p.low and all(map(ge, p.begin, end)))
        for p in others
    )


def _padded(nbytes: Dim) -> Dim | None:
    """A multiple of the alignment that is as large, where it can be compared with others."""
    rounded = rounded_up(nbytes, ALIGNMENT)
    # For sizes such as 4 * N that would be many times as much.
    small = 8 * _nominal(rounded) > 9 * _nominal(nbytes)
    return None if small or not never_negative(rounded) else rounded
