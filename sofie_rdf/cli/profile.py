"""`sofie-rdf profile`: time, bytes, operations and share of the roofline of each node that runs."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from sofie_rdf.bench import plot
from sofie_rdf.bench.models import FreeSizes, feeds_for, sizes_for
from sofie_rdf.bench.roofline import NodeWork, Roofline, measure, work_of, works_of
from sofie_rdf.cli import tables
from sofie_rdf.cli.origins import label, origins
from sofie_rdf.errors import MissingDependency, printable
from sofie_rdf.ir.text import operator_text
from sofie_rdf.model import Model
from sofie_rdf.runtime.compile.profiling import Timed, profile

__all__ = ["NodeTime", "Profile", "measured", "show"]


@dataclass(frozen=True)
class NodeTime:
    """One step of a call: a node that runs, or a copy to an output (``operator`` is ``copy``).

    ``nodes`` are those of the user's file that it computes, and ``number`` counts the nodes that
    run, -1 for a copy. ``seconds`` is without the clock; ``roofline`` the part of it that the
    machine needs at least, None where that is not known.
    """

    number: int
    nodes: tuple[str, ...]
    operator: str
    kernel: str
    result: str
    seconds: float
    share: float
    flops: float
    weight_bytes: int
    value_bytes: int
    roofline: float | None


@dataclass(frozen=True)
class Profile:
    """A call as a whole: ``whole`` is timed without clocks, ``sum`` is that of the nodes.

    ``before`` is what comes before the first node, which is in the sum. ``overhead`` is the
    difference of the two: what is between the nodes and what calls them. It is negative where nodes
    overlap, which they do not with a clock in between.
    """

    model: str
    compiler: str
    sizes: Mapping[str, int]
    whole: float
    sum: float
    before: float
    clock: float
    overhead: float
    calls: int
    nodes: tuple[NodeTime, ...]


def show(model: Model, arguments: Namespace) -> int:
    """Print the profile as a table or as JSON, and draw it where that is asked for."""
    if arguments.plot:
        plot.ensure_possible(arguments.plot)
    found = measured(model, arguments.batch, FreeSizes(arguments.sizes))
    if arguments.plot:
        _draw(found, arguments.plot)
        tables.message(f"the picture is {arguments.plot}")
    if arguments.html:
        from sofie_rdf.cli import page

        page.write(arguments.html, page.page(model, found))
        tables.message(f"the page is {arguments.html}")
    if arguments.json:
        sys.stdout.write(json.dumps({"file": arguments.file, **asdict(found)}, indent=2) + "\n")
    else:
        tables.show(_tables(found, shapes=arguments.types, by_time=arguments.by == "time"))
    return 0


def measured(model: Model, batch: int, free: FreeSizes) -> Profile:
    """Times on random inputs; first axes have the size of the batch. One thread."""
    sizes = sizes_for(model.graph, batch, free)
    feeds = feeds_for(model.graph, sizes)
    timed = profile(model.optimized, model.compiled, feeds, sizes)
    machine: Roofline | None = None
    with suppress(MissingDependency):  # What the machine can do is measured in ROOT's interpreter.
        machine = measure()
    known = {**dict.fromkeys(timed.graph.data_symbols, 0), **sizes}
    nodes = tuple(_nodes(model, timed, machine, known))
    return Profile(
        model.name,
        model.compiled.compiler,
        sizes,
        timed.whole,
        timed.sum,
        timed.net(timed.before),
        timed.clock,
        timed.whole - timed.sum,
        timed.calls,
        nodes,
    )


def _nodes(
    model: Model, timed: Timed, machine: Roofline | None, sizes: Mapping[str, int]
) -> Iterator[NodeTime]:
    graph = timed.graph
    names, works = origins(model.graph, graph), works_of(graph, sizes)
    home = work_of(model, sizes).home(machine) if machine else None
    for part, seconds in zip(timed.parts, timed.seconds, strict=True):
        net = timed.net(seconds)
        share = net / timed.sum if timed.sum else 0.0
        if part.node < 0:
            yield NodeTime(-1, (part.label,), "copy", part.kernel, "", net, share, 0.0, 0, 0, None)
            continue
        node, work = graph.nodes[part.node], works[part.node]
        result = ", ".join(str(graph.types[name]) for name in node.outputs)
        least = work.least(machine, home) if machine and home and _is_known(work) else None
        yield NodeTime(
            part.node,
            names[part.node] or (label(node),),
            # A Loop's text is that of all its nodes.
            node.op.full_name() if node.op.bodies else operator_text(node.op),
            part.kernel.removeprefix("sofie::"),
            result,
            net,
            share,
            work.flops,
            work.weights,
            work.values,
            least / net if least is not None and net else None,
        )


def _is_known(work: NodeWork) -> bool:
    return bool(work.flops or work.values)


# The table ----------------------------------------------------------------------------------------


def _tables(found: Profile, *, shapes: bool, by_time: bool) -> Sequence[RenderableType]:
    sizes = ", ".join(f"{name} = {size}" for name, size in found.sizes.items())
    title = Text(printable(found.model), style="bold")
    about = f"  ({sizes + '; ' if sizes else ''}{Path(found.compiler).name}, 1 thread)"
    title.append(printable(about), style="dim")
    names = ["#", "node", "operator", "kernel"] + (["result"] if shapes else [])
    names += ["time", "share", "flops", "bytes", "of the roofline"]
    order = sorted(found.nodes, key=lambda n: -n.seconds) if by_time else found.nodes
    rows = [_row(one, shapes=shapes) for one in order]
    part = _percent(found.overhead / found.whole if found.whole else 0)
    total = [
        ("sum of the nodes, and what is before them", tables.time_text(found.sum)),
        ("one call without clocks", tables.time_text(found.whole)),
        ("overhead: the difference", f"{tables.time_text(found.overhead)}, {part}"),
        ("reading the clock, left out of each node", tables.time_text(found.clock)),
    ]
    return [title, Text(""), tables.listing(names, rows), Text(""), tables.listing(("", ""), total)]


def _row(one: NodeTime, *, shapes: bool) -> list[str]:
    cells = [str(one.number + 1) if one.number >= 0 else "", _named(one.nodes), one.operator]
    cells += [one.kernel] + ([one.result] if shapes else [])
    cells += [tables.time_text(one.seconds), _percent(one.share), f"{one.flops:,.0f}"]
    cells += [f"{one.weight_bytes + one.value_bytes:,}"]
    return [*cells, _percent(one.roofline) if one.roofline is not None else ""]


# How many nodes of the file are named in one line.
_NAMED = 4


def _named(nodes: Sequence[str]) -> str:
    if len(nodes) <= _NAMED:
        return ", ".join(nodes)
    return f"{nodes[0]}, {nodes[1]}, ... {nodes[-1]} ({len(nodes)} nodes)"


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


# The picture --------------------------------------------------------------------------------------


def _draw(found: Profile, file: str) -> None:
    from matplotlib import pyplot

    nodes = found.nodes
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.26 * max(4, len(nodes))))
    micro = [one.seconds * 1e6 for one in nodes]
    axes.barh(range(len(nodes)), micro, color="#0072B2", label="time")
    least = [(one.roofline or 0) * one.seconds * 1e6 for one in nodes]
    axes.barh(range(len(nodes)), least, height=0.35, color="#E69F00", label="least by the roofline")
    # A sign of TeX in a stranger's name is that sign.
    names = [printable(f"{_named(one.nodes)}  [{one.kernel}]") for one in nodes]
    shown = [name if len(name) <= 60 else f"{name[:57]}..." for name in names]
    axes.set_yticks(range(len(nodes)), [name.replace("$", r"\$") for name in shown], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("microseconds of one call")
    title = f"{found.model}: {tables.time_text(found.whole)}".replace("$", r"\$")
    axes.set_title(printable(title), fontsize=10)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
