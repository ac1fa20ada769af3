"""Reverse mode: through the nodes of a graph backwards, by the rule of each operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from sofie_rdf import limits
from sofie_rdf.errors import GraphError, SofieError, UnsupportedOperator
from sofie_rdf.gradients.meeting import require_apart
from sofie_rdf.gradients.values import Backward, Tape, Value
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Graph, Node

__all__ = ["Growing", "Reverse", "Sweep", "extended", "problems"]


class Growing(Builder):
    """A Builder that begins with a whole graph."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.name, graph.provenance)
        for name in graph.inputs:
            self.input(name, graph.types[name])
        self.constants = dict(graph.constants)
        for name in graph.constants:
            self._define(name, graph.types[name])
        self.adopt(graph.nodes, graph.types)


class Reverse:
    """Derivatives through nodes of a graph that grows by them.

    What is refused is raised, or put into ``refused`` where all of it is wanted.
    """

    def __init__(self, build: Builder, refused: list[SofieError] | None = None) -> None:
        self.refused = refused
        self.tape = Tape(build, self.walked, self.inside)

    def inside(self, name: str) -> Tape:
        """What a graph in an attribute of this one grows with."""
        return Reverse(Builder(name), self.refused).tape

    def walked(
        self, nodes: Sequence[Node], seeds: Mapping[str, Value], wrt: Sequence[str]
    ) -> list[Value | None]:
        """The derivatives through these nodes; None where nothing depends on it."""
        varying, rounded = self._varying(nodes, wrt)
        slopes = {name: seed for name, seed in seeds.items() if name in varying}
        for node in reversed(nodes):
            if any(o in slopes for o in node.outputs) and not varying.isdisjoint(node.inputs):
                self._through(node, slopes, varying, rounded)
        return [slopes.get(name) for name in wrt]

    def _varying(self, nodes: Sequence[Node], wrt: Sequence[str]) -> tuple[set[str], set[str]]:
        """What depends on these values: floating-point numbers, and what stands for such.

        Numbers that are rounded to few bits, and what is computed with them, are the second set.
        """
        found, rounded = set(wrt), set[str]()
        for node in nodes:
            if found.isdisjoint(node.inputs):
                continue
            stands = node.op.quantizes or not rounded.isdisjoint(node.inputs)
            if stands:
                rounded.update(node.outputs)
            build = self.tape.build
            found.update(o for o in node.outputs if stands or build.type_of(o).dtype.is_float)
        return found, rounded

    def _through(
        self, node: Node, slopes: dict[str, Value], varying: set[str], rounded: set[str]
    ) -> None:
        """One node back: its rule, and what it adds to the derivatives by its inputs."""
        limits.spend(what="the gradient")
        self.tape.origin = node.origin
        value = self.tape.value
        back = Backward(
            node,
            tuple(value(i) if i else None for i in node.inputs),
            tuple(map(value, node.outputs)),
            tuple(slopes.get(o) for o in node.outputs),
            tuple(i in varying for i in node.inputs),
        )
        try:
            if not rounded.isdisjoint(node.outputs):
                raise _no_derivative_of_rounding(node)
            given = node.op.pullback(back)
            parts = given if isinstance(given, tuple) else (given,)
            for name, part in zip(node.inputs, parts, strict=False):
                if name in varying and part is not None:
                    own = part.summed_to(self.tape.build.type_of(name).shape)
                    slopes[name] = slopes[name] + own if name in slopes else own
        except SofieError as error:
            located = error if error.place else error.at(str(node.origin))
            if self.refused is None:
                raise located from None
            self.refused.append(located)
            for name in varying.intersection(node.inputs):
                if self.tape.build.type_of(name).dtype.is_float:
                    slopes.setdefault(name, value(name).like())


class Sweep(Reverse):
    """One graph on which several derivatives are taken; they share what they have in common."""

    def __init__(self, graph: Graph, refused: list[SofieError] | None = None) -> None:
        super().__init__(Growing(graph), refused)
        self.graph = graph

    def pulled(self, seeds: Mapping[str, Value], wrt: Sequence[str]) -> list[Value]:
        """The derivatives by each of ``wrt``, where those by some values are the ``seeds``.

        They are zeros where nothing depends on it. Raises `UnsupportedOperator`, with its node and
        a way out, for an operator on the way that has no derivative here.
        """
        return [
            self.tape.value(name).like() if slope is None else slope
            for name, slope in zip(wrt, self.walked(self.graph.nodes, seeds, wrt), strict=True)
        ]

    def finished(self, outputs: Mapping[str, Value]) -> Graph:
        """The graph, which gives these values besides its outputs, under these names."""
        build = self.tape.build
        for name, value in outputs.items():
            if build.has(name):
                raise GraphError(f"{name!r} is the name of a value of the model already")
            value.through_as(name)
        return extended(self.graph, build, tuple(outputs))


def _no_derivative_of_rounding(node: Node) -> SofieError:
    return UnsupportedOperator(
        f"{type(node.op).full_name()} is of numbers that are rounded to few bits: their derivative "
        "is zero or nothing",
        remedy="Differentiate the network before it was quantized",
    )


def extended(graph: Graph, build: Builder, outputs: Sequence[str]) -> Graph:
    """What a builder has made of a graph, with more outputs."""
    return replace(
        graph,
        inputs=tuple(build.inputs),
        outputs=(*graph.outputs, *outputs),
        nodes=tuple(build.nodes),
        types=MappingProxyType(dict(build.types)),
        constants=MappingProxyType(dict(build.constants)),
    )


def problems(graph: Graph) -> list[SofieError]:
    """Why outputs cannot be differentiated by inputs: every refusal, in the order of the graph."""
    wrt = [name for name in graph.inputs if graph.types[name].dtype.is_float]
    sweep = Sweep(graph, refused=[])
    of = [name for name in graph.outputs if graph.types[name].dtype.is_float]
    sweep.pulled({name: sweep.tape.value(name).like(1) for name in of}, wrt)
    assert sweep.refused is not None
    try:
        require_apart(graph, of, wrt)
    except SofieError as error:
        return [*sweep.refused[::-1], error]
    return sweep.refused[::-1]
