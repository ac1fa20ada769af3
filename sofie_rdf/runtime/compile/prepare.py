"""From a graph to a Program: the part of compiling that needs operators, passes and emission."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from sofie_rdf import limits
from sofie_rdf.emit.ports import Interface
from sofie_rdf.emit.session import Emitter, emit, include_directories, inlined, operators_in
from sofie_rdf.errors import JitError
from sofie_rdf.ir.dims import evaluate
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.rows import drawn_rows
from sofie_rdf.ops.draws import with_rows
from sofie_rdf.passes.formulas import by_formula
from sofie_rdf.passes.halves import widen_halves
from sofie_rdf.passes.memory import MemoryPlan, plan_memory
from sofie_rdf.runtime.compile.interpreter import has_header, include_from
from sofie_rdf.runtime.compile.program import Program, face_of
from sofie_rdf.runtime.compile.trial import trials

__all__ = ["program_of", "runnable"]


def program_of(graph: Graph, kind: type[Emitter] = Emitter) -> Program:
    """The program of an optimized graph, with all work done that is not the compiler's."""
    graph = runnable(graph)
    plan = plan_memory(graph)
    limits.require(bytes=_of_a_call(graph, plan), what="the memory for one call")
    emission = emit(graph, plan, unique=True, kind=kind)
    foreign = filter(None, os.environ.get("ROOT_INCLUDE_PATH", "").split(":"))
    folders = (*include_directories(graph), *map(Path, foreign))
    return Program(
        face_of(graph),
        tuple(p.value for p in Interface(graph, "").outputs if p.owned),
        emission.pieces.rows,
        plan.nbytes,
        emission.pieces.nbytes,
        emission.code,
        inlined(emission.header, folders),
        partial(_find_headers, graph),
        lambda: emission.weights,
        partial(trials, graph),
        drawn_rows(graph),
        is_foreign=any(operator.source() for operator in operators_in(graph)),
    )


def runnable(graph: Graph) -> Graph:
    """The graph as it is emitted, which is told of the rows of random numbers."""
    return with_rows(widen_halves(by_formula(graph)))


def _of_a_call(graph: Graph, plan: MemoryPlan) -> int:
    """The bytes that a call needs at least: all of them, where no size is open."""
    ports = (graph.types[name].nbytes for name in (*graph.inputs, *graph.outputs))
    one = dict.fromkeys((*graph.symbols, *graph.data_symbols), 1)
    return sum(evaluate(nbytes, one) for nbytes in (plan.nbytes, *ports))


def _find_headers(graph: Graph) -> None:
    """Nothing, where the interpreter finds the headers of somebody's own operators; or JitError."""
    for op in {type(operator): None for operator in operators_in(graph)}:
        source = op.source()
        if source is None or not op.header:
            continue
        include_from(source.parent)
        if not has_header(op.header):
            raise JitError(
                f"operator {op.full_name()} needs the C++ header {op.header!r}, which is not found",
                remedy=f"Put it beside {source}, or its folder into ROOT_INCLUDE_PATH",
            )
