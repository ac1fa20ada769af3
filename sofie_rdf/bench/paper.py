"""What a network costs on a GPU, on paper: kernels, bytes, and the least time by a data sheet.

Nothing is measured here. A kernel reads each element of its tensors once, and writes each result
once, to the memory of the device; what a cache keeps from one kernel to the next is not credited.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sofie_rdf.bench.roofline import works_of
from sofie_rdf.devices.one_kernel import ITEMS, events_of_a_group, share_of
from sofie_rdf.devices.program import Program
from sofie_rdf.ir.dims import Dim, evaluate
from sofie_rdf.ir.operator import Launch, Operand

__all__ = ["GPUS", "Gpu", "Paper", "StepCost", "paper_of"]

# Kernels of these headers read no more elements than they write, however large the input is.
_MOVING = frozenset({"sofie/device/copy.hxx"})


@dataclass(frozen=True)
class Gpu:
    """A device by its data sheet: float32 operations and bytes of its memory in a second."""

    name: str
    flops: float
    bandwidth: float

    def least(self, cost: StepCost) -> float:
        """The least seconds of a step: the longer one of arithmetic and memory."""
        return max(cost.flops / self.flops, cost.nbytes / self.bandwidth)


# NVIDIA H100 SXM5 80 GB, float32 without tensor cores (data sheet of 2023); AMD Instinct MI300X,
# vector float32 (data sheet of 2023).
GPUS = (Gpu("H100", 66.9e12, 3.35e12), Gpu("MI300X", 163.4e12, 5.3e12))


@dataclass(frozen=True)
class StepCost:
    """What one node of the network enqueues: its kernels, their operations and bytes."""

    node: str
    kernels: tuple[str, ...]
    groups: int
    flops: float
    nbytes: int

    @property
    def kernel_text(self) -> str:
        """The names of its kernels, each with its number."""
        counted = Counter(self.kernels)
        return ", ".join(name if n == 1 else f"{n} {name}" for name, n in counted.items())


@dataclass(frozen=True)
class Paper:
    """A call of a network: its steps, and the bytes of inputs, outputs and weights."""

    steps: tuple[StepCost, ...]
    needed: int

    @property
    def kernels(self) -> int:
        """How many kernels are enqueued."""
        return sum(len(step.kernels) for step in self.steps)

    @property
    def flops(self) -> float:
        """Multiplications and additions of products and convolutions."""
        return sum(step.flops for step in self.steps)

    @property
    def nbytes(self) -> int:
        """Bytes that all kernels read and write."""
        return sum(step.nbytes for step in self.steps)

    @property
    def excess(self) -> float:
        """How many times the bytes of inputs, outputs and weights these are."""
        return self.nbytes / max(1, self.needed)

    def least(self, gpu: Gpu) -> float:
        """The least seconds of a call: one kernel after the other, launches at no cost."""
        return sum(gpu.least(step) for step in self.steps)


def paper_of(program: Program, sizes: Mapping[str, int], *, whole: bool = True) -> Paper:
    """The costs of a program, for these sizes of its named axes; ``whole`` as in `emit_program`."""
    graph, known = program.graph, dict(sizes)
    weights = {t.name: t for one in program.launches for t in one.tensors}
    ports = [graph.operand(name) for name in (*graph.inputs, *graph.outputs)]
    read = [*ports, *(t for name, t in weights.items() if name in graph.constants)]
    needed = _nbytes(read, known)
    flops = [work.flops for work in works_of(graph, known)]
    most = events_of_a_group(program) if whole else 0
    if most:
        (events,) = (known[name] for name in graph.symbols)
        groups = -(-events // share_of(events, most))
        return Paper((StepCost("all nodes", ("Network",), groups, sum(flops), needed),), needed)
    # The copies to outputs, behind the nodes, compute nothing.
    flops += [0.0] * (len(program.steps) - len(flops))
    steps = (
        StepCost(
            step.label,
            tuple(_short(one.kernel) for one in step.launches),
            sum(_groups(one, known) for one in step.launches),
            operations,
            sum(_moved(one, known) for one in step.launches),
        )
        for step, operations in zip(program.steps, flops, strict=True)
        if step.launches
    )
    return Paper(tuple(steps), needed)


def _short(kernel: str) -> str:
    return kernel.split("<")[0].removeprefix("sofie::device::")


def _groups(launch: Launch, sizes: Mapping[str, int]) -> int:
    count = evaluate(launch.count, sizes)
    return -(-count // ITEMS) if launch.by == "items" else count


def _moved(launch: Launch, sizes: Mapping[str, int]) -> int:
    """The bytes of all tensors, each once; of what is only moved, those that are."""
    unique = list({t.name: t for t in launch.tensors}.values())
    if launch.header not in _MOVING:
        return _nbytes(unique, sizes)
    moved, *others = unique
    most = _number(launch.count, sizes) * moved.type.dtype.nbytes
    return most + sum(min(most, _nbytes([t], sizes)) for t in others)


def _nbytes(operands: Iterable[Operand], sizes: Mapping[str, int]) -> int:
    return sum(_number(t.type.nbytes, sizes) for t in operands)


def _number(dim: Dim, sizes: Mapping[str, int]) -> int:
    return max(0, evaluate(dim, sizes))
