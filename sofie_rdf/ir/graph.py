"""Node and Graph: frozen, values by name, every value typed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from sofie_rdf.ir.dims import Dim, Size, name_of, quoted, substitute, symbols_of
from sofie_rdf.ir.operator import Call, Operand, Operator, Tensor, with_sizes
from sofie_rdf.ir.printing import graph_text
from sofie_rdf.ir.types import Array, TensorType

if TYPE_CHECKING:
    from sofie_rdf.kernels.choice import Choice

__all__ = ["Graph", "Node", "Origin"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a node comes from: carried from the file into every error message."""

    file: str = ""
    name: str = ""

    def __str__(self) -> str:
        parts = self.file, f"node {self.name!r}" if self.name else ""
        return ": ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Node:
    """One application of an operator; ``""`` stands for an optional input that is absent."""

    op: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    origin: Origin = Origin()


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: nodes in an order that can run, and the type of every value."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, Array]
    provenance: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that computes each computed value."""
        return {value: node for node in self.nodes for value in node.outputs}

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The named sizes, in the order in which they first appear in the inputs."""
        found: dict[str, None] = {}
        for dim in (d for name in self.inputs for d in self.types[name].shape):
            if isinstance(dim, Size):
                found.update(dict.fromkeys(_in_order(dim)))
        return tuple(found)

    @cached_property
    def given_names(self) -> frozenset[str]:
        """The outputs, to look for one of them among many."""
        return frozenset(self.outputs)

    @cached_property
    def known_symbols(self) -> frozenset[str]:
        """The named sizes that are known before the run, to look for one of them among many."""
        return frozenset(self.symbols)

    @cached_property
    def data_symbols(self) -> tuple[str, ...]:
        """The named sizes that only the data decide, in the order in which they become known."""
        found: dict[str, None] = {}
        for node in self.nodes:
            if node.op.decides_sizes:
                names = (name_of(d) for o in node.outputs for d in self.types[o].shape)
                found.update(dict.fromkeys(n for n in names if n and n not in self.known_symbols))
        return tuple(found)

    def is_decided_by_data(self, value: str) -> bool:
        """Whether the size of a value is known only when it, or one before it, is computed."""
        return not _symbols(self.types[value].shape) <= self.known_symbols

    def grows_to_known_size(self, value: str) -> bool:
        """Whether an operator that may decide sizes gives a value whose size is known before."""
        maker = self.producers.get(value)
        return maker is not None and maker.op.decides_sizes and not self.is_decided_by_data(value)

    @property
    def leading_symbol(self) -> str:
        """The one named size, where it is the first axis of an input and there is no other."""
        if len(self.symbols) != 1:
            return ""
        name = self.symbols[0]
        shapes = [self.types[i].shape for i in self.inputs]
        leads = all(name not in _symbols(shape[1:]) for shape in shapes)
        return name if leads else ""

    @property
    def batch_symbol(self) -> str:
        """The named size of the batch: the first axis of all inputs, and no other axis of any."""
        shapes = [self.types[i].shape for i in self.inputs if self.types[i].rank]
        names = {name_of(shape[0]) for shape in shapes} - {""}
        others = frozenset().union(*(_symbols(shape[1:]) for shape in shapes))
        leading = names - others
        return leading.pop() if len(leading) == 1 else ""

    @property
    def parameters(self) -> int:
        """The number of constant elements."""
        return sum(int(np.size(c)) for c in self.constants.values())

    @property
    def multiply_adds(self) -> Dim:
        """Multiplications with addition for one call."""
        total: Dim = 0
        for node in self.nodes:
            types = [self.types[i] if i else None for i in node.inputs]
            total = total + node.op.multiply_adds(types)
        return total

    def with_sizes(self, values: Mapping[str, Dim]) -> Graph:
        """The graph with other sizes for named ones."""
        if not symbols_among(self.types.values()) & values.keys():
            return self
        types = {
            name: t.reshaped(tuple(substitute(d, values) for d in t.shape))
            for name, t in self.types.items()
        }
        nodes = tuple(replace(n, op=with_sizes(n.op, values)) for n in self.nodes)
        return replace(self, types=MappingProxyType(types), nodes=nodes)

    def __eq__(self, other: object) -> bool:
        """Whether it is the same graph, names included; constants must be the same arrays."""
        if not isinstance(other, Graph):
            return NotImplemented
        mine, theirs = self._structure(), other._structure()
        constants = self.constants.keys() == other.constants.keys()
        same = constants and all(a is other.constants[n] for n, a in self.constants.items())
        return mine == theirs and dict(self.types) == dict(other.types) and same

    def __hash__(self) -> int:
        return hash(self._structure())

    def _structure(self) -> tuple[object, ...]:
        return self.name, self.inputs, self.outputs, self.nodes

    def call(self, node: Node) -> Call:
        """The kernel call of a node."""
        return node.op.lower(*self._operands(node))

    def choice(self, node: Node) -> Choice | None:
        """The kernel of that call, and why it was chosen."""
        return node.op.choice(*self._operands(node))

    def _operands(self, node: Node) -> tuple[list[Operand | None], list[Operand]]:
        inputs = [self.operand(i) if i else None for i in node.inputs]
        spaces = [Operand(name, type_) for name, type_ in self._spaces(node).items()]
        return inputs, [*map(self.operand, node.outputs), *spaces]

    def workspace(self, node: Node) -> dict[str, TensorType]:
        """The scratch memory that the kernel of a node is given, under names that no value has."""
        spaces = self._spaces(node)
        if not spaces:
            return {}
        # What is room for packed weights, say, is not given where they are constants.
        given = {a.operand.name for a in self.call(node).flat if isinstance(a, Tensor)}
        return {name: type_ for name, type_ in spaces.items() if name in given}

    def _spaces(self, node: Node) -> dict[str, TensorType]:
        types = [self.types[i] if i else None for i in node.inputs]
        needed = node.op.workspace(types)
        return {f"{node.outputs[0]}\0work{i}": type_ for i, type_ in enumerate(needed)}

    @cached_property
    def unread(self) -> frozenset[str]:
        """The computed values that no node reads and no caller gets."""
        read = {*self.outputs, *(i for node in self.nodes for i in node.inputs)}
        return frozenset(self.producers) - read

    def operand(self, value: str) -> Operand:
        """The value as an operator's `lower` wants it."""
        return Operand(
            value, self.types[value], value in self.constants, unread=value in self.unread
        )

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __str__(self) -> str:
        return graph_text(self)

    def as_value(self) -> str:
        """As the attribute of an operator; "" with constants, whose elements no text has."""
        return "" if self.constants else f"graph({quoted(graph_text(self))})"


def symbols_among(types: Iterable[TensorType]) -> frozenset[str]:
    """The named sizes of these types."""
    return frozenset().union(*(_symbols(t.shape) for t in types))


def _symbols(shape: tuple[Dim, ...]) -> frozenset[str]:
    return frozenset().union(*(symbols_of(d) for d in shape))


def _in_order(dim: Size) -> list[str]:
    return sorted(symbols_of(dim))
