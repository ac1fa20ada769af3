"""`sofie-rdf inspect --kernels`: the kernel of each node, and what it needs."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from sofie_rdf.bench.models import FreeSizes, sizes_for
from sofie_rdf.cli import tables
from sofie_rdf.cli.origins import label
from sofie_rdf.errors import printable
from sofie_rdf.ir.dims import evaluate, symbols_of, total
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import Functor, Packed
from sofie_rdf.kernels.choice import Choice, Elsewhere, Refusal
from sofie_rdf.model import Model

__all__ = ["Kernels", "NodeKernel", "as_json", "kernel_tables", "kernels_of"]


@dataclass(frozen=True)
class NodeKernel:
    """The kernel of a node that runs, in the namespace ``sofie``, with its template arguments.

    ``functions`` are the function objects that it is given, such as an activation, and ``packed``
    are the classes in which it wants weights. ``scratch`` is its memory in bytes beside values, or
    None where the data decide it. ``body`` says in which graph of an If or a Loop the node is.

    ``why`` is why the family's table chose it, ``refused`` why it did not choose better ones, and
    ``elsewhere`` what the call runs on instruction sets that lack it.
    """

    node: str
    operator: str
    kernel: str
    header: str
    functions: tuple[str, ...]
    packed: tuple[str, ...]
    scratch: int | None
    body: str = ""
    why: str = ""
    refused: tuple[Refusal, ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()


@dataclass(frozen=True)
class Kernels:
    """All kernels of a model in the order of their calls, for these sizes.

    ``simd`` is the instruction set on which they run; "" is for what the emitted header says.
    """

    model: str
    simd: str
    sizes: dict[str, int]
    nodes: tuple[NodeKernel, ...]


def kernels_of(model: Model, arguments: Namespace) -> Iterator[Kernels]:
    """What a call runs, for the batch, sizes and instruction sets of the command line."""
    sizes = dict(sizes_for(model.graph, arguments.batch, FreeSizes(arguments.sizes)))
    for simd in arguments.simd or ("",):
        yield Kernels(model.name, simd, sizes, tuple(_of(model.optimized, sizes, simd, "")))


def _of(graph: Graph, sizes: dict[str, int], simd: str, body: str) -> Iterator[NodeKernel]:
    for node in graph.nodes:
        if not node.op.is_alias:
            yield _of_node(graph, node, sizes, simd, body)
        for name, inner in node.op.bodies.items():
            yield from _of(inner, sizes, simd, f"{label(node)}.{name}")


def _of_node(graph: Graph, node: Node, sizes: dict[str, int], simd: str, body: str) -> NodeKernel:
    call, header = graph.call(node), node.op.header
    choice = graph.choice(node) or Choice(_short(call.kernel), call.header or header, _ONLY)
    choice = choice.on(simd)
    packed = dict.fromkeys(a.cxx for a in call.flat if isinstance(a, Packed))
    functions = dict.fromkeys(a.cxx for a in call.flat if isinstance(a, Functor))
    return NodeKernel(
        label(node),
        node.op.full_name(),
        choice.kernel,
        choice.header.removeprefix("sofie/"),
        tuple(map(_short, functions)),
        tuple(map(_short, packed)),
        _scratch(graph, node, sizes),
        body,
        choice.why,
        choice.refused,
        choice.elsewhere,
    )


_ONLY = "it is the only kernel of the operator, which looks at the sizes itself"


def _short(cxx: str) -> str:
    return cxx.replace("sofie::", "")


def _scratch(graph: Graph, node: Node, sizes: dict[str, int]) -> int | None:
    needed = total(type_.nbytes for type_ in graph.workspace(node).values())
    return evaluate(needed, sizes) if symbols_of(needed) <= sizes.keys() else None


def as_json(found: Kernels) -> dict[str, Any]:
    """The same for programs."""
    nodes = [asdict(n) for n in found.nodes]
    return {"name": found.model, "simd": found.simd, "sizes": found.sizes, "nodes": nodes}


def kernel_tables(found: Kernels) -> Sequence[RenderableType]:
    """A line for each node, and behind them why."""
    sizes = ", ".join(f"{name} = {size}" for name, size in found.sizes.items())
    title = Text(printable(found.model), style="bold")
    if found.simd:
        title.append(f" with {found.simd}")
    if sizes:
        title.append(printable(f"  ({sizes})"), style="dim")
    columns = ["node", "operator", "kernel", "header", "packed weights", "scratch bytes"]
    table = tables.listing(columns, [_row(node) for node in found.nodes])
    return [title, Text(""), table, Text(""), *map(_reasons, found.nodes)]


def _reasons(node: NodeKernel) -> Text:
    text = Text(printable(f"{_place(node)}: {node.kernel}, because {node.why}"))
    for one in node.refused:
        text.append(f"\n  not {one.kernel}: {one.reason}", style="dim")
    for other in node.elsewhere:
        sets = " and ".join(other.sets)
        text.append(f"\n  with {sets} {other.kernel}: {other.why}", style="dim")
    return text


def _place(node: NodeKernel) -> str:
    return f"{node.body}: {node.node}" if node.body else node.node


def _row(node: NodeKernel) -> list[str]:
    scratch = "by the data" if node.scratch is None else f"{node.scratch:,}"
    called = f"{node.kernel}({', '.join(node.functions)})" if node.functions else node.kernel
    return [_place(node), node.operator, called, node.header, ", ".join(node.packed), scratch]
