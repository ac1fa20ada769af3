"""Builders for frontends: one that lets sizes be assumed, and one of a graph inside another."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from types import MappingProxyType

from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.types import Array, TensorType
from sofie_rdf.ops.assumptions import Assume

__all__ = ["BodyBuilder", "FrontendBuilder", "Layered"]


class Layered:
    """Names, and those that are elsewhere, which are not copied: a file may have 10^5 bodies."""

    def __init__(self, own: Iterable[str] = (), around: Iterable[Container[str]] = ()) -> None:
        self.own, self.around = set(own), tuple(around)

    def __contains__(self, name: object) -> bool:
        return name in self.own or any(name in names for names in self.around)

    def update(self, names: Iterable[str]) -> None:
        """Names of its own, too; what is around stays as it is."""
        self.own.update(names)


class FrontendBuilder(Builder):
    """A Builder whose fresh names are none that nodes further down the file have."""

    taken: Container[str] = frozenset()
    # Values of its own that stand for values outside, in the order of the inputs.
    captured: Mapping[str, str] = MappingProxyType({})

    def fresh(self, stem: str) -> str:
        while (name := super().fresh(stem)) in self.taken:
            stem += "_"
        return name

    def names_a_size(self, name: str) -> bool:
        """Whether a size of this name is known here."""
        return bool(self._sizes.values.get(name))

    def _assuming(
        self, inputs: tuple[str, ...], pair: tuple[Dim, Dim], origin: Origin
    ) -> tuple[str, ...]:
        """Inputs whose sizes are checked when the model runs: the simpler of two that are equal."""
        if isinstance(pair[0] - pair[1], int):
            return inputs
        simple, other = sorted(pair, key=lambda d: (not isinstance(d, int), len(str(d))))
        found = []
        for name in inputs:
            shape = self.type_of(name).shape if name else ()
            if other in shape:
                assumed = tuple(simple if d == other else d for d in shape)
                name = self(Assume(assumed), name, origin=origin)
            found.append(name)
        return tuple(found)

    def depends_on_sizes(self, *names: str) -> bool:
        """Whether the sizes of the inputs decide what these values are."""
        makers = {o: node for node in self.nodes for o in node.outputs}
        waiting, seen, above = list(names), set(names), []
        while waiting:
            name = waiting.pop()
            if name in self.captured:
                above.append(self.captured[name])
            elif self.value_of(name) is None:
                maker = makers.get(name)
                if maker is None or not maker.inputs:
                    return False
                further = {i for i in maker.inputs if i} - seen
                seen |= further
                waiting += further
        return not above or self._outside_depends_on_sizes(*above)

    def _outside_depends_on_sizes(self, *names: str) -> bool:
        raise AssertionError(f"nothing is outside, and {names} are there")


class BodyBuilder(FrontendBuilder):
    """A Builder of a graph inside another one: what it reads from outside becomes an input."""

    def __init__(self, name: str, outer: FrontendBuilder, taken: Iterable[str]) -> None:
        super().__init__(name)
        self.outer = outer
        self.taken = Layered(taken, (outer.taken, outer.types))
        self.captured: dict[str, str] = {}

    def constant(self, array: Array, name: str = "") -> str:
        """Constants are the outermost graph's: bodies have none."""
        name = name or self.fresh("constant")
        outside = self.outer.constant(array, self.outer.fresh(f"{self.name}/{name}"))
        return self._capture(name, outside)

    def _capture(self, name: str, outside: str) -> str:
        self.input(name, self.outer.type_of(outside))
        self.captured[name] = outside
        known = self.outer.value_of(outside)
        if known is not None:
            self.known[name] = known
            self._sizes.of_known(name, known)
            if outside in self.outer.constants:
                # Rules look here for what is known; `graph` forgets it.
                self.constants[name] = known
        return name

    def type_of(self, name: str) -> TensorType:
        if name not in self.types and self.outer.has(name):
            self._capture(name, name)
        return super().type_of(name)

    def _outside_depends_on_sizes(self, *names: str) -> bool:
        return self.outer.depends_on_sizes(*names)

    def has(self, name: str) -> bool:
        return super().has(name) or self.outer.has(name)

    def capture(self, outside: str) -> str:
        """A value outside, under a name that nothing has that the file's graph defines."""
        return self._capture(self.fresh(f"{outside}/outside"), outside)

    def _may_become(self, name: str, dim: Dim) -> bool:
        # What must hold in here need not hold outside: this graph may not run.
        return not self.outer.names_a_size(name) and super()._may_become(name, dim)

    def names_a_size(self, name: str) -> bool:
        return super().names_a_size(name) or self.outer.names_a_size(name)

    def body(self, outputs: Sequence[str]) -> Graph:
        """The finished graph, without constants."""
        for name in outputs:
            self.type_of(name)
        self.constants.clear()
        return self.graph(*outputs)
