"""A model in a few lines, as `print(model)` shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from sofie_rdf.emit.session import Emission
from sofie_rdf.errors import printable
from sofie_rdf.ir.dims import Dim, evaluate, symbols_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import features_of, labels_of, seed_of
from sofie_rdf.passes import pipeline
from sofie_rdf.passes.memory import MemoryPlan
from sofie_rdf.passes.rewrite import Refusal, Rules

__all__ = ["explanation", "random_operators", "summary", "table"]


def summary(graph: Graph, optimized: Graph, plan: MemoryPlan, emission: Emission) -> str:
    """Inputs, outputs, nodes, parameters, multiply-adds, weight and scratch bytes."""
    known = graph.provenance
    source = [known[key] for key in ("source", "producer") if key in known]
    source += [f"opset {known['opset']}"] if "opset" in known else []
    rows = [("input", f"{name}: {graph.types[name]}") for name in graph.inputs]
    rows += [("features", text) for text in _listed(features_of(graph), graph.inputs)]
    rows += [("output", f"{name}: {graph.types[name]}") for name in graph.outputs]
    rows += [("labels", text) for text in _listed(labels_of(graph), graph.outputs)]
    rows += [
        ("nodes", f"{len(graph.nodes)} as read, {len(optimized.nodes)} to run"),
        ("parameters", f"{graph.parameters:,}"),
        ("multiply-adds", _amount(optimized.multiply_adds, "")),
        ("weights", _amount(len(emission.weights), " bytes, shared by all Sessions")),
        ("scratch", _amount(plan.nbytes, " bytes in each Session")),
    ]
    if count := random_operators(optimized):
        who = "1 operator draws" if count == 1 else f"{count} operators draw"
        rows.append(("random", f"{who} numbers for each event, with the seed {seed_of(graph)}"))
    title = f"{graph.name} ({', '.join(source)})" if source else graph.name
    return printable("\n".join([title, *(f"  {label:14}{text}" for label, text in rows)]))


def table(face: Graph) -> str:
    """Inputs and outputs in HTML, as a notebook shows a model."""
    names = {**features_of(face), **labels_of(face)}
    rows = []
    for kind, ports in (("input", face.inputs), ("output", face.outputs)):
        for port in ports:
            listed = ", ".join(_listed({port: names[port]}, [port])) if port in names else ""
            cells = (kind, port, str(face.types[port]), listed)
            rows.append("".join(f"<td>{escape(printable(cell))}</td>" for cell in cells))
    lines = "".join(f"<tr>{row}</tr>" for row in rows)
    head = "".join(f"<th>{title}</th>" for title in ("", "name", "type", "features, labels"))
    return f"<table><caption>{escape(printable(face.name))}</caption><tr>{head}</tr>{lines}</table>"


# How many names of columns are shown.
_NAMES = 30


def _listed(names: Mapping[str, Sequence[str]], ports: Sequence[str]) -> list[str]:
    """The names of features or labels, behind that of their input or output if there are more."""
    found = []
    for port, listed in names.items():
        more = [f"and {len(listed) - _NAMES} more"] if len(listed) > _NAMES else []
        text = ", ".join([*listed[:_NAMES], *more])
        found.append(text if len(ports) == 1 else f"{port}: {text}")
    return found


def random_operators(graph: Graph) -> int:
    """How many operators draw random numbers, those in bodies too."""
    inner = (random_operators(body) for node in graph.nodes for body in node.op.bodies.values())
    return sum(any(op.is_random for op in node.op.nested) for node in graph.nodes) + sum(inner)


def explanation(graph: Graph) -> str:
    """What the passes did to a graph, and what they refused to do to the nodes that are left."""
    optimized, report = pipeline.explain(graph)
    rules = (
        r
        for phase in pipeline.DEFAULT
        for one in phase.passes
        if isinstance(one, Rules)
        for r in one.rules
    )
    meanings = {r.name: r.meaning for r in rules}
    lines = [f"{graph.name}: {len(graph.nodes)} nodes as read, {len(optimized.nodes)} to run"]
    lines += ["", "done:"] if report.applied else []
    done = sorted(report.applied.items(), key=lambda item: (-item[1], item[0]))
    lines += [f"{count:5} x {name:22} {meanings[name]}" for name, count in done]
    lines += ["", "not done:"] if report.refused else []
    refused = Counter(f"  {r.rule}: {r.reason}" for r in report.refused)
    places = {text: _place(r) for r in report.refused for text in [f"  {r.rule}: {r.reason}"]}
    for text, count in sorted(refused.items()):
        more = f" and {count - 1} more" if count > 1 else ""
        lines.append(f"{text}  ({places[text]}{more})")
    lines += ["", "operators to run:"]
    kinds = Counter(node.op.full_name() for node in optimized.nodes)
    lines += [f"{count:5} x {name}" for name, count in kinds.most_common()]
    return printable("\n".join(lines))


def _place(refusal: Refusal) -> str:
    return str(refusal).split(": ", 1)[1].removesuffix(f": {refusal.reason}")


def _amount(dim: Dim, unit: str) -> str:
    if isinstance(dim, int):
        return f"{dim:,}{unit}"
    one = evaluate(dim, dict.fromkeys(symbols_of(dim), 1))
    return f"{one:,}{unit} where {', '.join(sorted(symbols_of(dim)))} = 1"
