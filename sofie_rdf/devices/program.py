"""A graph as kernels of devices: the passes that pay there, the launches, and where values live."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from sofie_rdf.devices.targets import target_named
from sofie_rdf.errors import SofieError, UnsupportedOperator
from sofie_rdf.ir.dims import Dim, symbols_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import Functor, Launch, Operand, Operator
from sofie_rdf.ir.types import TensorType
from sofie_rdf.ops._device import mapped_copy
from sofie_rdf.passes import attention, formulas, fuse, sequences, transposes
from sofie_rdf.passes.halves import widen_halves
from sofie_rdf.passes.memory import MemoryPlan, plan_memory
from sofie_rdf.passes.pipeline import FUSED, Phase, run

__all__ = [
    "PHASES",
    "Program",
    "Step",
    "has_no_kernel",
    "problems",
    "problems_on_device",
    "program_for",
    "program_of",
]


def has_no_kernel(kind: type[Operator]) -> bool:
    """Whether it has no kernel for devices."""
    return kind.on_device is Operator.on_device


def spell_out(graph: Graph) -> Graph:
    """The same function, where what has a formula and no kernel for devices is spelled out."""
    return formulas.spell_out(graph, has_no_kernel)


# What is a kernel of its own on a CPU, and several here.
_CPU_ONLY = (attention.fuse_attention, fuse.fuse_integers)
# Neither tilings nor layouts, which are those of registers and caches of a CPU.
PHASES = (
    Phase("spell out", "An operator that has no kernel here is others that have.", (spell_out,)),
    *(
        Phase(p.name, p.promise, tuple(one for one in p.passes if one not in _CPU_ONLY))
        for p in FUSED
    ),
    Phase(
        "lay out",
        "Last states are read in place, and a transpose that moves nothing is a Reshape.",
        (sequences.read_in_place, transposes.as_reshapes),
    ),
    Phase("widen", "No kernel computes in half precision.", (widen_halves,)),
)


@dataclass(frozen=True)
class Step:
    """What one node enqueues."""

    label: str
    launches: tuple[Launch, ...]
    # Pairs of sizes that must be equal, which only the run can tell.
    requirements: tuple[tuple[Dim, Dim], ...] = ()


@dataclass(frozen=True)
class Program:
    """A graph after the passes, all of whose operators have kernels for devices."""

    graph: Graph
    plan: MemoryPlan

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The kernels in their order, and at the end the copies to outputs."""
        found = [_step(self.graph, node) for node in self.graph.nodes]
        for source, output in self.plan.copies:
            to, given = Operand(output, self.graph.types[output]), self.graph.operand(source)
            found.append(Step(output, mapped_copy(to, given)))
        return tuple(found)

    @cached_property
    def launches(self) -> tuple[Launch, ...]:
        """All kernels in their order."""
        return tuple(launch for step in self.steps for launch in step.launches)

    @cached_property
    def types(self) -> dict[str, TensorType]:
        """The types of all values and of all workspaces."""
        found = dict(self.graph.types)
        for node in self.graph.nodes:
            found.update(_workspace(self.graph, node))
        return found


def program_for(graph: Graph) -> Program:
    """The kernels of a graph as it was read; UnsupportedOperator for the first that is missing."""
    return program_of(run(graph, PHASES))


def program_of(graph: Graph) -> Program:
    """The same for a graph as it is, but for what is spelled out and for half precision."""
    graph = widen_halves(spell_out(graph))
    found = problems(graph)
    if found:
        raise found[0]
    return Program(graph, plan_memory(graph, workspace=lambda node: _workspace(graph, node)))


def problems_on_device(graph: Graph, target: str) -> list[SofieError]:
    """Why a graph as it was read cannot be emitted for this target: a reason for each node."""
    target_named(target)
    return problems(run(graph, PHASES))


def problems(graph: Graph) -> list[SofieError]:
    """Why nodes of an optimized graph cannot run on a device: each with its name."""
    graph = widen_halves(spell_out(graph))
    found = (_problem(graph, node) for node in graph.nodes)
    return [error for error in found if error is not None]


def _problem(graph: Graph, node: Node) -> SofieError | None:
    try:
        _require(graph, node)
    except SofieError as error:
        return _placed(error, node)
    return None


def _require(graph: Graph, node: Node) -> None:
    op = node.op
    name = type(op).full_name()
    if op.bodies:
        raise UnsupportedOperator(f"{name} decides on the host what runs, which devices do not")
    decided = any(graph.is_decided_by_data(o) for o in node.outputs)
    if op.decides_sizes or decided:
        raise UnsupportedOperator(
            f"{name}: the data decide the size of its result, which no device tells the host",
            remedy="Give the model sizes that are known before it runs",
        )
    if op.is_random:
        raise UnsupportedOperator(f"{name} draws random numbers, which devices do not")
    types = [graph.types[i] if i else None for i in node.inputs]
    if any(not symbols_of(d) <= graph.known_symbols for pair in op.requires(types) for d in pair):
        raise UnsupportedOperator(f"{name} needs sizes that only the data decide")
    _step(graph, node)


def _step(graph: Graph, node: Node) -> Step:
    label = node.origin.name or node.outputs[0]
    launches = () if node.op.is_alias else _launches(graph, node)
    types = [graph.types[i] if i else None for i in node.inputs]
    return Step(label, launches, node.op.requires(types))


def _placed(error: SofieError, node: Node) -> SofieError:
    named = replace(node.origin, name=node.origin.name or node.outputs[0])
    return type(error)(error.thing, place=error.place or str(named), remedy=error.remedy)


def _workspace(graph: Graph, node: Node) -> dict[str, TensorType]:
    types = [graph.types[i] if i else None for i in node.inputs]
    needed = node.op.device_workspace(types)
    return {f"{node.outputs[0]}\0work{i}": type_ for i, type_ in enumerate(needed)}


def _launches(graph: Graph, node: Node) -> tuple[Launch, ...]:
    inputs = [graph.operand(i) if i else None for i in node.inputs]
    spaces = [Operand(name, type_) for name, type_ in _workspace(graph, node).items()]
    return node.op.on_device(inputs, [*map(graph.operand, node.outputs), *spaces])


def headers_of(steps: Sequence[Step]) -> list[str]:
    """The headers of all kernels."""
    launches = [launch for step in steps for launch in step.launches]
    functors = any(True for one in launches for _ in _functors(one.parameters))
    found = {launch.header for launch in launches}
    return sorted({*found, "sofie/device/functions.hxx"} if functors else found)


def _functors(parameters: Iterable[object]) -> Iterator[Functor]:
    return (p for p in parameters if isinstance(p, Functor))
