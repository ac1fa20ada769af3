"""A model as one HTML file: what it takes and gives, its graph as read and as run, and times.

The file needs no network and has no scripts: its policy forbids both, whatever a name may say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sofie_rdf.cli import tables
from sofie_rdf.cli.origins import label, origins
from sofie_rdf.cli.picture import Note, document, picture, text
from sofie_rdf.cli.tables import time_text
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.replacing import replacing
from sofie_rdf.ir.text import operator_text
from sofie_rdf.model import Model

if TYPE_CHECKING:
    from sofie_rdf.cli.profile import Profile

__all__ = ["drawing", "page", "write"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 80rem; padding: 1rem;
  color: #222; background: #fff; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
.graph { overflow: auto; max-height: 85vh; border: 1px solid #ccc; border-radius: 6px; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid #e2e2e2;
  vertical-align: top; }
td { overflow-wrap: break-word; max-width: 28rem; }
td.number, th.number { text-align: right; white-space: nowrap; }
.bar { background: #f0b060; height: .7rem; min-width: 1px; }
.about { color: #666; overflow-wrap: anywhere; }
"""


def write(path: str, content: str) -> None:
    """A file that is there when it is whole; `ModelError` where it cannot be written."""
    with replacing(path, keep=False) as copy:
        Path(copy).write_text(content, encoding="utf-8")


def drawing(model: Model, found: Profile | None = None) -> str:
    """An SVG file: the graph as read and, beside it, as run."""
    graphs = _graphs(model, found)
    return document([(caption, *picture(graph, notes)) for caption, graph, notes in graphs])


def _graphs(model: Model, found: Profile | None) -> list[tuple[str, Graph, Mapping[int, Note]]]:
    return [
        (f"{model.name} as read", model.graph, {}),
        (f"{model.name} as run", model.optimized, _notes(found)),
    ]


def _notes(found: Profile | None) -> dict[int, Note]:
    if found is None:
        return {}
    most = max((one.share for one in found.nodes), default=0.0) or 1.0
    return {
        one.number: Note(f"{time_text(one.seconds)}, {100 * one.share:.1f} %", one.share / most)
        for one in found.nodes
        if one.number >= 0
    }


def page(model: Model, found: Profile | None = None) -> str:
    """The whole file."""
    parts = [f"<h1>{text(model.name)}</h1>"]
    known = {k: v for k, v in model.graph.provenance.items() if k not in ("sha256", "seed")}
    about = ", ".join(f"{key} {value}" for key, value in known.items())
    parts += [f'<p class="about">{text(about)}</p>'] if about else []
    parts += ["<h2>Inputs and outputs</h2>", _ports(model), "<h2>Size</h2>", _costs(model)]
    if found is not None:
        parts += ["<h2>Time</h2>", *_times(found)]
    for caption, graph, notes in _graphs(model, found):
        title = "The graph as read" if graph is model.graph else "The graph as run"
        svg = document([(caption, *picture(graph, notes))])
        parts += [f"<h2>{title}</h2>", f'<div class="graph">{svg}</div>']
    parts += ["<h2>Nodes that run</h2>", _nodes(model)]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(model.name)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _table(names: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table; cells are HTML already, ``numbers`` the columns that stand on the right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        marks = (' class="number"' if i in numbers else "" for i in range(len(row)))
        return "".join(
            f"<{tag}{mark}>{cell}</{tag}>" for mark, cell in zip(marks, row, strict=True)
        )

    lines = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table>\n<tr>{cells("th", names)}</tr>\n{lines}\n</table></div>'


def _ports(model: Model) -> str:
    rows = [("input", text(n), text(str(t))) for n, t in model.inputs.items()]
    rows += [("output", text(n), text(str(t))) for n, t in model.outputs.items()]
    return _table(("", "name", "type"), rows)


def _costs(model: Model) -> str:
    read, run = model.graph, model.optimized
    rows = [
        ("nodes", f"{len(read.nodes):,}", f"{len(run.nodes):,}"),
        ("parameters", f"{read.parameters:,}", f"{run.parameters:,}"),
        ("multiply-adds", tables.at_one(read.multiply_adds), tables.at_one(run.multiply_adds)),
        ("bytes of weights", "", f"{len(model.emission.weights):,}"),
        ("bytes of scratch", "", tables.at_one(model.plan.nbytes)),
    ]
    where = f"<p>Where {text(' = '.join(read.symbols))} = 1.</p>" if read.symbols else ""
    return _table(("", "as read", "to run"), rows, (1, 2)) + where


def _times(found: Profile) -> list[str]:
    sizes = ", ".join(f"{name} = {size}" for name, size in found.sizes.items())
    about = f"{sizes + '; ' if sizes else ''}one thread, {Path(found.compiler).name}"
    words = f"One call takes {time_text(found.whole)}, and all nodes {time_text(found.sum)}"
    most = max((one.seconds for one in found.nodes), default=0.0) or 1.0
    rows = []
    for one in found.nodes:
        percent = "" if one.roofline is None else f"{100 * one.roofline:.1f} %"
        bar = f'<div class="bar" style="width:{8 * one.seconds / most:.2f}rem"></div>'
        nbytes = one.weight_bytes + one.value_bytes
        rows.append(
            (text(", ".join(one.nodes)), text(one.kernel), time_text(one.seconds), bar,
             f"{one.flops:,.0f}", f"{nbytes:,}", percent)
        )  # fmt: skip
    names = ("node of the file", "kernel", "time", "", "operations", "bytes", "of the roofline")
    return [f"<p>{text(words)} ({text(about)}).</p>", _table(names, rows, (2, 4, 5, 6))]


def _nodes(model: Model) -> str:
    graph = model.optimized
    rows = []
    every = zip(graph.nodes, origins(model.graph, graph), strict=True)
    for number, (node, names) in enumerate(every):
        operator = node.op.full_name() if node.op.bodies else operator_text(node.op)
        types = ", ".join(str(graph.types[name]) for name in node.outputs)
        rows.append((str(number + 1), text(label(node)), text(", ".join(names)), text(operator),
                     text(types)))  # fmt: skip
    return _table(("#", "node", "nodes of the file", "operator", "result"), rows, (0,))
