"""What there is to compile, and what that needs to run: all that stands before the compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sofie_rdf.emit.code import Code
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import KEYS
from sofie_rdf.ir.rows import ROWS
from sofie_rdf.runtime.compile.trial import Infer, Trial, try_out

__all__ = ["LINKED", "Program", "face_of", "linking_text"]

# What the emitted `linked()` returns when it has been linked; else Cling returns something.
LINKED = 50310


@dataclass
class Program:
    """The emitted code of a network, its weights, and what it must give."""

    # The inputs and outputs, without nodes, and the outputs that the Session has.
    face: Graph
    owned: tuple[str, ...]
    # The named size of the batch, if its rows keep apart; else "".
    rows: str
    # The bytes of scratch memory of a Session.
    scratch: Dim
    # Those of a piece of a large batch.
    piece: int
    code: Code
    # The header with all headers in it, and how to find them for who wants them one by one.
    whole: str
    find_headers: Callable[[], None]
    # The bytes of the weight file, anew at each call.
    weights: Callable[[], Any]
    trials: Callable[[], Iterator[Trial]]
    # How many rows it wants to be told for its random numbers; None where it has none.
    drawn: Dim | None = None
    # Whether operators of other packages are in it.
    is_foreign: bool = False
    # Whether it has been tried out, and the trial; there is none where it would take long.
    tried: bool = False
    trial: Trial | None = None

    def try_out(self, infer: Infer) -> None:
        """`JitError` if newly compiled code gives something else than the reference."""
        self.trial = try_out(self.face.name, infer, self.trials())
        self.tried = True


def face_of(graph: Graph) -> Graph:
    """The inputs and outputs of a graph alone, with the names of what is in them, and
    where they are from.

    What says which rows random numbers are for is no input of a user's.
    """
    inputs = tuple(name for name in graph.inputs if name != ROWS)
    types = {name: graph.types[name] for name in (*inputs, *graph.outputs)}
    names = {key: graph.provenance[key] for key in (*KEYS, "source") if key in graph.provenance}
    return Graph(graph.name, inputs, graph.outputs, (), types, {}, names)


def linking_text(namespace: str) -> str:
    """C++ behind the emitted code: whether it has been linked, and where its entry points are."""
    return (
        f"namespace {namespace} {{\n"
        "int linked(std::uintptr_t *table)\n"
        "{\n"
        "   *table = reinterpret_cast<std::uintptr_t>(entries());\n"
        f"   return {LINKED};\n"
        "}\n"
        "}\n"
    )
