"""`sofie-rdf inspect --target`: the kernels of a device, and what they cost on paper."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from sofie_rdf.bench.models import FreeSizes, sizes_for
from sofie_rdf.bench.paper import GPUS, Paper, StepCost, paper_of
from sofie_rdf.bench.ptxas import Compiled, compiled_kernels
from sofie_rdf.cli import tables
from sofie_rdf.devices.program import program_for
from sofie_rdf.errors import printable
from sofie_rdf.model import Model

__all__ = ["OnDevice", "as_json", "device_tables", "on_device"]


@dataclass(frozen=True)
class OnDevice:
    """A model for a device, for these sizes: on paper, and as nvcc compiled it, if it was asked."""

    model: str
    sizes: dict[str, int]
    paper: Paper
    compiled: tuple[Compiled, ...]


def on_device(model: Model, arguments: Namespace) -> OnDevice:
    """What there is to say of a model, for the batch and the sizes of the command line."""
    sizes = dict(sizes_for(model.graph, arguments.batch, FreeSizes(arguments.sizes)))
    program = program_for(model.graph)
    found = compiled_kernels(program, arguments.registers) if arguments.registers else ()
    return OnDevice(model.name, sizes, paper_of(program, sizes), found)


def as_json(found: OnDevice) -> dict[str, Any]:
    """The same for programs; times are seconds."""
    paper = found.paper
    return {
        "name": found.model,
        "sizes": found.sizes,
        "kernels": paper.kernels,
        "flops": paper.flops,
        "bytes": paper.nbytes,
        "needed_bytes": paper.needed,
        "least": {gpu.name: paper.least(gpu) for gpu in GPUS},
        "nodes": [asdict(step) for step in paper.steps],
        "compiled": [asdict(one) for one in found.compiled],
    }


def device_tables(found: OnDevice) -> Sequence[RenderableType]:
    """The kernels of each node, the sums, and the registers."""
    paper = found.paper
    sizes = ", ".join(f"{name} = {size}" for name, size in found.sizes.items())
    title = Text(printable(found.model), style="bold")
    title.append(printable(f"  ({sizes}; on paper, not measured)"), style="dim")
    names = [
        "node",
        "kernels",
        "work-groups",
        "flops",
        "bytes",
        *(f"{g.name}, at least" for g in GPUS),
    ]
    total = [
        ("kernels", str(paper.kernels)),
        ("bytes of inputs, outputs and weights", f"{paper.needed:,}"),
        (
            "bytes that kernels read and write",
            f"{paper.nbytes:,}: {paper.excess:.2f} times as many",
        ),
        *((f"{g.name}, at least", tables.time_text(paper.least(g))) for g in GPUS),
    ]
    parts = [title, Text(""), tables.listing(names, [_row(step) for step in paper.steps])]
    parts += [Text(""), tables.listing(("", ""), total)]
    if found.compiled:
        columns = ("kernel, as nvcc compiled it", "registers", "local memory", "spilled")
        parts += [Text(""), tables.listing(columns, [_compiled(one) for one in found.compiled])]
    return parts


def _row(step: StepCost) -> list[str]:
    times = [tables.time_text(gpu.least(step)) for gpu in GPUS]
    return [
        printable(step.node),
        step.kernel_text,
        f"{step.groups:,}",
        f"{step.flops:,.0f}",
        f"{step.nbytes:,}",
        *times,
    ]


def _compiled(one: Compiled) -> list[str]:
    return [one.kernel, str(one.registers), f"{one.local_bytes:,}", f"{one.spilled_bytes:,}"]
