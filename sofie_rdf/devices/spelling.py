"""How the values, sizes and parameters of a program are spelled in C++."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from sofie_rdf.devices.program import Program
from sofie_rdf.emit.literals import number, size
from sofie_rdf.emit.names import identifiers
from sofie_rdf.emit.ports import Port
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.operator import Functor, Operand, Sizes
from sofie_rdf.passes.memory import Argument, Scratch, Weight

__all__ = ["Spelling"]

# Names that the class, its members and its functions use themselves.
RESERVED = frozenset(
    """adapter_ weights_ scratch_ bytes_ queue file path Session Queue Weights Array Adapter infer
    weights loaded scratch_bytes sofie device group local_ first_ events_ share_ Network""".split()
)
_ALIGNMENT = 256


@dataclass(frozen=True)
class Spelling:
    """The names of a program's values and sizes, which no other name in the header equals."""

    program: Program

    @cached_property
    def sizes(self) -> Mapping[str, str]:
        """A C++ name for every named size, in the order in which `infer` takes them."""
        return identifiers(self.program.graph.symbols, RESERVED)

    @cached_property
    def names(self) -> Mapping[str, str]:
        """A C++ name for every input, output, and value in scratch memory."""
        graph = self.program.graph
        begins = {f"begin{i}_" for i in range(len(graph.types))}
        most = {f"most_{s}" for s in self.sizes.values()}
        members = {f"{m}_" for m in most}
        roots = [v for v, p in self.program.plan.places.items() if isinstance(p, Scratch)]
        keys = [*graph.inputs, *map(self.output, graph.outputs), *roots]
        return identifiers(keys, {*RESERVED, *begins, *most, *members, *self.sizes.values()})

    @cached_property
    def ports(self) -> list[Port]:
        """Inputs, then outputs."""
        graph, known = self.program.graph, self.names
        return [
            *(Port(i, known[i], graph.types[i], False) for i in graph.inputs),
            *(Port(o, known[self.output(o)], graph.types[o], True) for o in graph.outputs),
        ]

    def output(self, value: str) -> str:
        """The key of an output among the names: an input that is one, too, is two parameters."""
        return f"{value}\0output" if value in self.program.graph.inputs else value

    @cached_property
    def constants(self) -> Mapping[str, int]:
        """Where each constant that a kernel reads begins on the device, in bytes."""
        places, launches = self.program.plan.places, self.program.launches
        read = (places[t.name] for one in launches for t in one.tensors[one.outputs :])
        used = list(dict.fromkeys(p.name for p in read if isinstance(p, Weight)))
        arrays = (self.program.graph.constants[name] for name in used)
        ends = accumulate((-(-a.nbytes // _ALIGNMENT) * _ALIGNMENT for a in arrays), initial=0)
        return dict(zip((*used, ""), ends, strict=True))

    def array(self, operand: Operand, *, written: bool) -> str | int:
        """The name of the array that a value is in; of a constant, where it begins, in bytes."""
        if written and operand.name in self.program.graph.given_names:
            return self.names[self.output(operand.name)]
        match self.program.plan.places[operand.name]:
            case Weight(name):
                return self.constants[name]
            case Scratch(name) | Argument(name):
                return self.names[name]
            case _:
                raise AssertionError("no device has memory that grows")

    def buffers(self) -> list[tuple[str, Scratch]]:
        """The values that buffers in scratch memory are named after, where kernels use them."""
        places = self.program.plan.places
        used = {t.name for one in self.program.launches for t in one.tensors}
        roots = {place.root for v in used if isinstance(place := places[v], Scratch)}
        found = ((value, place) for value, place in places.items() if value in roots)
        return [(v, p) for v, p in found if isinstance(p, Scratch) and p.root == v]

    def size(self, dim: Dim) -> str:
        """An expression for a size."""
        return size(dim, self.sizes)

    def most(self, dim: Dim) -> str:
        """The same for the largest sizes."""
        return size(dim, {name: f"most_{text}" for name, text in self.sizes.items()})

    def parameter(self, value: object) -> str:
        """A parameter of a kernel."""
        match value:
            case Functor() | float():
                return number(value)
            case Sizes(dims):
                inner = f"{{{', '.join(map(self.size, dims))}}}" if dims else ""
                return f"sofie::device::Sizes<{len(dims)}>{{{inner}}}"
            case tuple():
                return f"{{{', '.join(map(self.parameter, value))}}}"
            case _:
                return self.size(value)  # type: ignore[arg-type]
