"""Reverse mode: through the nodes of a graph backwards, by the rule of each operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from sofie_rdf import limits
from sofie_rdf.errors import GraphError, SofieError
from sofie_rdf.gradients.values import Backward, Tape, Value
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Graph, Node

__all__ = ["Sweep", "grown", "problems"]


class _Growing(Builder):
    """A Builder that begins with a whole graph."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.name, graph.provenance)
        for name in graph.inputs:
            self.input(name, graph.types[name])
        self.nodes = list(graph.nodes)
        self.constants = dict(graph.constants)
        for name in (*graph.constants, *graph.producers):
            self._define(name, graph.types[name])
        self.decided = {name: number for number, name in enumerate(graph.data_symbols)}


@dataclass
class Sweep:
    """One graph on which several derivatives are taken; they share what they have in common."""

    graph: Graph
    refused: list[SofieError] | None = None
    tape: Tape = field(init=False)

    def __post_init__(self) -> None:
        self.tape = Tape(_Growing(self.graph))

    def pulled(self, seeds: Mapping[str, Value], wrt: Sequence[str]) -> list[Value]:
        """The derivatives by each of ``wrt``, where those by some values are the ``seeds``.

        They are zeros where nothing depends on it. Raises `UnsupportedOperator`, with its node and
        a way out, for an operator on the way that has no derivative here.
        """
        varying = self._varying(wrt)
        slopes = {name: seed for name, seed in seeds.items() if name in varying}
        for node in reversed(self.graph.nodes):
            if any(slopes.get(o) is not None for o in node.outputs) and any(
                i in varying for i in node.inputs
            ):
                self._through(node, slopes, varying)
        found = []
        for name in wrt:
            slope = slopes.get(name)
            found.append(self.tape.value(name).like() if slope is None else slope)
        return found

    def _varying(self, wrt: Sequence[str]) -> set[str]:
        """What depends on these values in a way that has a derivative: floating-point numbers."""
        types = self.graph.types
        found = set(wrt)
        for node in self.graph.nodes:
            if not found.isdisjoint(node.inputs):
                found.update(o for o in node.outputs if types[o].dtype.is_float)
        return found

    def _through(self, node: Node, slopes: dict[str, Value], varying: set[str]) -> None:
        """One node back: its rule, and what it adds to the derivatives by its inputs."""
        limits.spend(what="the gradient")
        self.tape.origin = node.origin
        value = self.tape.value
        back = Backward(
            self.graph,
            node,
            tuple(value(i) if i else None for i in node.inputs),
            tuple(map(value, node.outputs)),
            tuple(slopes.get(o) for o in node.outputs),
            tuple(i in varying for i in node.inputs),
        )
        try:
            given = node.op.pullback(back)
            parts = given if isinstance(given, tuple) else (given,)
            for name, part in zip(node.inputs, parts, strict=False):
                if name in varying and part is not None:
                    own = part.summed_to(self.graph.types[name].shape)
                    slopes[name] = slopes[name] + own if name in slopes else own
        except SofieError as error:
            located = error if error.place else error.at(str(node.origin))
            if self.refused is None:
                raise located from None
            self.refused.append(located)
            for name in varying.intersection(node.inputs):
                slopes.setdefault(name, value(name).like())

    def finished(self, outputs: Mapping[str, Value]) -> Graph:
        """The graph, which gives these values besides its outputs, under these names."""
        build = self.tape.build
        for name, value in outputs.items():
            if build.has(name):
                raise GraphError(f"{name!r} is the name of a value of the model already")
            value.through_as(name)
        return grown(self.graph, build, tuple(outputs))


def grown(graph: Graph, build: Builder, outputs: Sequence[str]) -> Graph:
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
    return sweep.refused[::-1]
