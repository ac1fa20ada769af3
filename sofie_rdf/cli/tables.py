"""What a person reads: tables, verdicts and messages; and the same for programs, as JSON."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sofie_rdf.errors import SofieError, printable
from sofie_rdf.ir.dims import Dim, evaluate, symbols_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.text import operator_text
from sofie_rdf.ir.types import PRECISIONS, TensorType
from sofie_rdf.model import Model
from sofie_rdf.summary import random_operators

if TYPE_CHECKING:
    from sofie_rdf.frontends.common.problems import Problems

__all__ = [
    "as_json",
    "at_one",
    "in_shell_words",
    "listing",
    "message",
    "model_list",
    "model_tables",
    "show",
    "storage",
    "time_text",
    "verdict",
    "verdict_as_json",
]

_UNBOUNDED = 10_000
# How many places with the same problem are named beside the first.
_SHOWN = 8


def show(parts: Iterable[RenderableType], *, wrap: bool = True) -> None:
    """Print to the standard output, each as soon as it is there; ``wrap`` folds long lines."""
    console = _console(sys.stdout)
    for part in parts:
        with console.capture() as captured:
            console.print(part, soft_wrap=not wrap)
        # Columns are filled up with blanks, also the last one.
        lines = (line.rstrip() for line in captured.get().splitlines())
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


def message(text: str, *, kind: str = "") -> None:
    """One message to the person, on the error stream."""
    line = Text("sofie-rdf: ")
    if kind:
        line.append(f"{kind}: ", style="bold red" if kind == "error" else "bold")
    line.append(printable(in_shell_words(text)))
    _console(sys.stderr).print(line, soft_wrap=True)


def _console(stream: Any) -> Console:
    """Colours on a terminal only, unless NO_COLOR is set; any width where nobody looks."""
    terminal = stream.isatty()
    plain = not terminal or bool(os.environ.get("NO_COLOR"))
    return Console(
        file=stream,
        color_system=None if plain else "auto",
        force_terminal=terminal,
        width=None if terminal or os.environ.get("COLUMNS") else _UNBOUNDED,
        markup=False,
        emoji=False,
        highlight=False,
    )


def in_shell_words(text: str) -> str:
    """An error's remedy as options of `sofie-rdf` instead of arguments in Python."""
    text = re.sub(r"shapes=\{'(.*?)': \((.*?)\)\}", _shape_option, text)
    for python, shell in _SHELL_WORDS:
        text = text.replace(python, shell)
    return text


_SHELL_WORDS = (
    ("name='...'", "--name NAME"),
    ('input_shapes=[("N", 7)]', "--input-shape N,7"),
    (", or example_inputs=", ""),
    ("input_shapes=", "--input-shape"),
    (
        "Give a list of columns in its order, or model.named(features=[...])",
        "Name the columns in its order: --columns",
    ),
    ("so columns must say which. Give a mapping:", "so INPUT=COLUMN begins the columns of each:"),
    ("Name the columns: columns=", "Name the columns: --columns"),
    ("First model.normalized(...), then .with_precision(...)", "Convert it from the first file"),
    ("shapes= ", "--shape "),
    ("redefine=True puts the model's output in its place", "--out-names gives it another name"),
    ("entry=", "--entry "),
    ("isolated= ", "--no-isolated "),
    ("overwrite=True replaces it", "Without --no-overwrite it is replaced"),
)


def _shape_option(match: re.Match[str]) -> str:
    sizes = match[2].replace("None", "?").replace("'", "").replace(" ", "")
    return f"--shape {match[1]}={sizes.rstrip(',')}"


# One model ----------------------------------------------------------------------------------------


def model_tables(model: Model) -> list[RenderableType]:
    """The name; inputs and outputs; sizes before and after the passes; the nodes that run."""
    graph = model.graph
    title = Text(printable(graph.name), style="bold")
    origin = {k: v for k, v in graph.provenance.items() if k not in ("sha256", "seed")}
    if origin:
        words = (f"opset {v}" if k == "opset" else v for k, v in origin.items())
        title.append(f"  ({printable(', '.join(words))})", style="dim")
    parts = [title, _ports(model), _costs(model)]
    parts += [_weights(model)] if model.precision != PRECISIONS[0] else []
    parts += [_nodes(model.optimized)]
    if graph.symbols:
        note = f"multiply-adds and scratch: where {' = '.join(graph.symbols)} = 1"
        parts.append(Text(f"\n{printable(note)}", style="dim"))
    return parts


def storage(stored: Mapping[str, Any]) -> RenderableType:
    """When a model was stored in its file, and whether macros may run it."""
    may = "" if stored["trusted"] else ", not before `sofie-rdf trust`"
    table = _table("stored", "")
    table.add_row("on", printable(f"{stored['date']} by {stored['writer']}"))
    table.add_row("checksum", printable(stored["sha256"]))
    table.add_row("macros", f"run it{may}")
    return _spaced(table)


def _table(*columns: str, right: Iterable[str] = ()) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    numbers = set(right)
    for name in columns:
        if name in numbers:
            table.add_column(name, justify="right", no_wrap=True)
        else:
            table.add_column(name, overflow="fold")
    return table


def _spaced(table: Table) -> RenderableType:
    return Padding(table, (1, 0, 0, 0), expand=False)


def _ports(model: Model) -> RenderableType:
    table = _table("", "name", "type")
    for kind, ports in (("input", model.inputs), ("output", model.outputs)):
        for name, type_ in ports.items():
            table.add_row(kind, printable(name), printable(str(type_)))
    return _spaced(table)


def _costs(model: Model) -> RenderableType:
    read, run = model.graph, model.optimized
    table = _table("", "as read", "to run", right=("as read", "to run"))
    table.add_row("nodes", f"{len(read.nodes):,}", f"{len(run.nodes):,}")
    table.add_row("parameters", f"{read.parameters:,}", f"{run.parameters:,}")
    table.add_row("multiply-adds", at_one(read.multiply_adds), at_one(run.multiply_adds))
    table.add_row("bytes of weights, shared", "", at_one(len(model.emission.weights)))
    table.add_row("bytes of scratch, each Session", "", at_one(model.plan.nbytes))
    if count := random_operators(read):
        seed = f"operators that draw random numbers, seed {model.seed}"
        table.add_row(seed, f"{count:,}", f"{random_operators(run):,}")
    return _spaced(table)


def _weights(model: Model) -> RenderableType:
    """Where weights are in fewer bits, and why some are not."""
    table = _table("weights", "operator", "shape", "type", "bytes", "why", right=("bytes",))
    for one in model.weights:
        shape = ", ".join(map(str, one.shape))
        cells = one.name, one.operator, f"[{shape}]", one.precision
        table.add_row(*map(printable, cells), f"{one.nbytes:,}", printable(one.reason))
    return _spaced(table)


def _nodes(graph: Graph) -> RenderableType:
    numbers = ("#", "params", "mult-adds")
    table = _table("#", "node", "operator", "result", "params", "mult-adds", right=numbers)
    for number, node in enumerate(graph.nodes, 1):
        table.add_row(
            str(number),
            printable(_label(node)),
            printable(operator_text(node.op)),
            printable(", ".join(str(graph.types[o]) for o in node.outputs)),
            f"{_parameters(graph, node):,}",
            at_one(_multiply_adds(graph, node)),
        )
    return _spaced(table)


def _label(node: Node) -> str:
    return node.origin.name or node.outputs[0]


def _parameters(graph: Graph, node: Node) -> int:
    constants = {i for i in node.inputs if i in graph.constants}
    return sum(int(np.size(graph.constants[c])) for c in constants)


def _multiply_adds(graph: Graph, node: Node) -> Dim:
    return node.op.multiply_adds([graph.types[i] if i else None for i in node.inputs])


def at_one(dim: Dim) -> str:
    """The size where all named sizes are 1."""
    return f"{evaluate(dim, dict.fromkeys(symbols_of(dim), 1)):,}"


# Several models, several files --------------------------------------------------------------------


def model_list(models: Sequence[Model]) -> RenderableType:
    """One line for each model."""
    table = _table(
        "model", "inputs", "outputs", "nodes", "parameters", right=("nodes", "parameters")
    )
    for model in models:
        table.add_row(
            printable(model.name),
            _listed(model.inputs),
            _listed(model.outputs),
            f"{len(model.graph.nodes):,}",
            f"{model.graph.parameters:,}",
        )
    return table


def listing(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> RenderableType:
    """A table of text."""
    table = _table(*columns)
    for row in rows:
        table.add_row(*map(printable, row))
    return table


def _listed(ports: dict[str, TensorType]) -> str:
    return printable("\n".join(f"{name}: {type_}" for name, type_ in ports.items()))


def verdict(file: str, problems: Problems) -> Text:
    """``file: ok``, or how many problems and each of them; and the notes."""
    text = Text(f"{printable(file)}: ")
    if problems:
        _reasons(text, problems)
    else:
        text.append("ok", style="green")
    for note in problems.notes:
        text.append(f"\n  note: {printable(in_shell_words(str(note)))}")
    return text


def _reasons(text: Text, problems: Problems) -> None:
    """How many problems, and each of them."""
    count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
    text.append(count, style="bold red")
    same: dict[tuple[str, str], list[SofieError]] = {}
    for problem in problems:
        same.setdefault((problem.thing, problem.remedy), []).append(problem)
    for first, *others in same.values():
        text.append(f"\n  - {printable(in_shell_words(str(first)))}")
        if others:
            places = ", ".join(p.place.rpartition(": ")[2] for p in others[:_SHOWN])
            more = f" and {len(others) - _SHOWN} others" if len(others) > _SHOWN else ""
            text.append(f"\n    The same at {printable(places)}{more}")


# For programs -------------------------------------------------------------------------------------


def as_json(model: Model) -> dict[str, Any]:
    """The model as JSON: sizes are numbers, or text where they depend on named sizes."""
    read, run = model.graph, model.optimized
    return {
        "name": model.name,
        "provenance": dict(read.provenance),
        "inputs": [_port(n, t) for n, t in model.inputs.items()],
        "outputs": [_port(n, t) for n, t in model.outputs.items()],
        "as_read": _counts(read),
        "to_run": _counts(run) | {"nodes": [_node(run, n) for n in run.nodes]},
        "weight_bytes": len(model.emission.weights),
        "precision": model.precision,
        "weights": [asdict(one) for one in model.weights],
        "scratch_bytes": _size(model.plan.nbytes),
        "random": {"operators": random_operators(run), "seed": model.seed},
    }


def verdict_as_json(file: str, problems: Problems) -> dict[str, Any]:
    """``file``, whether it is ``ok``, and each of its ``problems`` and ``notes``."""
    listed, notes = map(_errors_as_json, (problems, problems.notes))
    return {"file": file, "ok": not listed, "problems": listed, "notes": notes}


def _errors_as_json(errors: Sequence[SofieError]) -> list[dict[str, str]]:
    return [
        {
            "kind": type(error).__name__,
            "thing": error.thing,
            "place": error.place,
            "remedy": in_shell_words(error.remedy),
        }
        for error in errors
    ]


def _counts(graph: Graph) -> dict[str, Any]:
    return {
        "node_count": len(graph.nodes),
        "parameters": graph.parameters,
        "multiply_adds": _size(graph.multiply_adds),
    }


def _node(graph: Graph, node: Node) -> dict[str, Any]:
    return {
        "name": _label(node),
        "operator": operator_text(node.op),
        "inputs": [i for i in node.inputs if i],
        "outputs": [_port(o, graph.types[o]) for o in node.outputs],
        "parameters": _parameters(graph, node),
        "multiply_adds": _size(_multiply_adds(graph, node)),
    }


def _port(name: str, type_: TensorType) -> dict[str, Any]:
    return {"name": name, "dtype": str(type_.dtype), "shape": [_size(d) for d in type_.shape]}


def _size(dim: Dim) -> int | str:
    return dim if isinstance(dim, int) else str(dim)


def time_text(seconds: float) -> str:
    """``1.23 us``, with three digits."""
    size = abs(seconds)
    units = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    name = next((name for name, unit in units.items() if size >= unit), "ns")
    value = seconds / units[name]
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if abs(value) >= 1 else 2
    return f"{value:.{digits}f} {name}"
