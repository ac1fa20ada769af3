"""A model in a few lines, as `print(model)` shows it."""

from __future__ import annotations

from sofie_rdf.emit.session import Emission
from sofie_rdf.ir.dims import Dim, evaluate, symbols_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.passes.memory import MemoryPlan

__all__ = ["summary"]


def summary(graph: Graph, optimized: Graph, plan: MemoryPlan, emission: Emission) -> str:
    """Inputs, outputs, nodes, parameters, multiply-adds, weight and scratch bytes."""
    known = graph.provenance
    source = [known[key] for key in ("source", "producer") if key in known]
    source += [f"opset {known['opset']}"] if "opset" in known else []
    rows = [("input", f"{name}: {graph.types[name]}") for name in graph.inputs]
    rows += [("output", f"{name}: {graph.types[name]}") for name in graph.outputs]
    rows += [
        ("nodes", f"{len(graph.nodes)} as read, {len(optimized.nodes)} to run"),
        ("parameters", f"{graph.parameters:,}"),
        ("multiply-adds", _amount(optimized.multiply_adds, "")),
        ("weights", _amount(len(emission.weights), " bytes, shared by all Sessions")),
        ("scratch", _amount(plan.nbytes, " bytes in each Session")),
    ]
    title = f"{graph.name} ({', '.join(source)})" if source else graph.name
    return "\n".join([title, *(f"  {label:14}{text}" for label, text in rows)])


def _amount(dim: Dim, unit: str) -> str:
    if isinstance(dim, int):
        return f"{dim:,}{unit}"
    one = evaluate(dim, dict.fromkeys(symbols_of(dim), 1))
    return f"{one:,}{unit} where {', '.join(sorted(symbols_of(dim)))} = 1"
