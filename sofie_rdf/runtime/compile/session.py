"""A network that has been compiled, called with NumPy arrays."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sofie_rdf.emit.code import Code
from sofie_rdf.errors import InputError, JitError, MissingDependency
from sofie_rdf.ir.dims import Dim, evaluate
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.rows import ROWS, rows_for
from sofie_rdf.ir.types import Array, concrete
from sofie_rdf.runtime.cache import disk
from sofie_rdf.runtime.compile import loaded
from sofie_rdf.runtime.compile.interpreter import declare, import_root, quietly
from sofie_rdf.runtime.compile.library import (
    CLING,
    Library,
    chosen_compiler,
    find_compiler,
    in_batch_job,
)
from sofie_rdf.runtime.compile.pieces import in_pieces, rows_that_fit
from sofie_rdf.runtime.compile.program import LINKED, Program, linking_text

__all__ = ["Compiled", "DamagedWeights", "compile_graph", "compile_program", "pointers"]


class DamagedWeights(JitError):
    """The bytes of a weight file are not what they should be."""


_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t

# The table `sofie::Entries` of cling/sofie/session/entries.hxx, in its order.
_ENTRIES = {
    "load": ctypes.CFUNCTYPE(_POINTER, _POINTER, _SIZE, ctypes.c_char_p, _POINTER, _SIZE),
    "share": ctypes.CFUNCTYPE(_POINTER, _POINTER),
    "unload": ctypes.CFUNCTYPE(None, _POINTER),
    "create": ctypes.CFUNCTYPE(_POINTER, _POINTER),
    "destroy": ctypes.CFUNCTYPE(None, _POINTER),
    "call": ctypes.CFUNCTYPE(ctypes.c_char_p, _POINTER, _POINTER, _POINTER, _POINTER),
    "result": ctypes.CFUNCTYPE(_POINTER, _POINTER, _SIZE, ctypes.POINTER(_SIZE)),
    "elements": ctypes.CFUNCTYPE(None, _POINTER, _POINTER, _POINTER),
    "watch": ctypes.CFUNCTYPE(_POINTER, _POINTER),
    "found": ctypes.CFUNCTYPE(_POINTER, _POINTER),
    "forget": ctypes.CFUNCTYPE(None, _POINTER),
}


@dataclass(frozen=True, eq=False)
class Compiled:
    """A graph that runs: its C entry points, its weights, Sessions that are idle.

    ``graph`` has its inputs and outputs only. ``table`` is the address of the entry points, and
    ``weights`` that of a `sofie::Shared`, valid for as long as this object lives. ``compiler``
    is the name of the one that has compiled it.
    """

    graph: Graph
    emission: Code
    compiler: str
    table: int
    entries: Mapping[str, Any]
    weights: int
    # The outputs of which the data decide the size: the Session has them.
    owned: tuple[str, ...] = ()
    # The named size of the batch, if its rows keep apart; else "".
    rows: str = ""
    # The bytes of scratch memory of a Session.
    scratch: Dim = 0
    # Those of a piece of a large batch.
    piece: int = 0
    # How many rows it wants to be told for its random numbers; None where it has none.
    drawn: Dim | None = None
    idle: list[int] = field(default_factory=list)
    # What `repeated` keeps of calls, by the shapes of their arrays.
    known: dict[tuple[tuple[int, ...], ...], Any] = field(default_factory=dict)

    def infer(self, feeds: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        """The outputs by name. Arrays must have the types of the graph; from any thread.

        A large batch whose rows keep apart is computed in pieces, see `pieces`. Random numbers are
        those of the rows that are fed under the name `ROWS`; without them, of seed 0, and of row i
        those of entry i.
        """
        inputs = self.inputs(feeds, sizes)
        known = self.buffers(sizes)
        outputs = [known.get(name) for name in self.graph.outputs]

        def call(begin: int, end: int) -> None:
            piece = {**sizes, self.rows: end - begin}
            self._call(
                [a[begin:end] for a in inputs],
                [b[begin:end] for b in outputs if b is not None],
                piece,
            )

        if step := self.step(inputs, sizes):
            in_pieces(call, sizes[self.rows], step)
        else:
            known.update(self._call(inputs, outputs, sizes))
        return {name: known[name] for name in self.graph.outputs}

    def step(self, inputs: Sequence[Array], sizes: Mapping[str, int]) -> int:
        """How many rows of the batch are computed at a time; 0 where all are."""
        rows = sizes[self.rows] if self.rows else 1
        if rows <= 1:
            return 0
        step = self.rows_at_once(self.rows, sum(a.size for a in inputs) // rows, sizes)
        return step if step < rows else 0

    def inputs(self, feeds: Mapping[str, Array], sizes: Mapping[str, int]) -> list[Array]:
        """What a call is given, in its order: the inputs, and the rows of random numbers."""
        found = [np.ascontiguousarray(feeds[name]) for name in self.graph.inputs]
        if self.drawn is not None:
            fed = feeds[ROWS] if ROWS in feeds else rows_for(np.arange(self.rows_drawn(sizes)))
            found.append(np.ascontiguousarray(fed))
        return found

    def rows_drawn(self, sizes: Mapping[str, int]) -> int:
        """How many rows it is told of for its random numbers."""
        return 0 if self.drawn is None else evaluate(self.drawn, sizes)

    def rows_at_once(self, axis: str, elements: int, sizes: Mapping[str, int]) -> int:
        """How many rows are a piece, which are the axis of this name and have so many elements."""
        one, two = (evaluate(self.scratch, {**sizes, axis: count}) for count in (1, 2))
        return rows_that_fit(elements, two - one, self.piece)

    def _call(
        self,
        inputs: Sequence[Array],
        outputs: Sequence[Array | None],
        sizes: Mapping[str, int],
    ) -> dict[str, Array]:
        """Fill the outputs in an idle Session; those that it has itself are returned."""
        tables = pointers(inputs), pointers(outputs)
        return self.call(self.entries["call"], self.sizes(sizes), *tables)

    def call(self, entry: Any, sizes: Any, inputs: Any, outputs: Any) -> dict[str, Array]:
        """The same by this form of the entry point, of sizes and pointers as C arrays."""
        session = self._borrow()
        try:
            message = entry(session, sizes, inputs, outputs)
            if message:
                raise InputError(self._placed(message.decode(errors="replace")))
            return self.results(session) if self.owned else {}
        finally:
            self.idle.append(session)

    def sizes(self, sizes: Mapping[str, int]) -> Any:
        """The sizes of the open axes, as a C array."""
        symbols = self.graph.symbols
        return (ctypes.c_size_t * max(1, len(symbols)))(*(sizes[s] for s in symbols))

    def buffers(self, sizes: Mapping[str, int]) -> dict[str, Array]:
        """Memory for the outputs that the caller holds: all but those that the Session has."""
        types = {name: self.graph.types[name] for name in self.graph.outputs}
        try:
            return {
                name: np.empty(concrete(type_.shape, sizes), type_.dtype.numpy)
                for name, type_ in types.items()
                if name not in self.owned
            }
        except (ValueError, ArithmeticError) as error:
            given = ", ".join(f"{name} = {size}" for name, size in sizes.items())
            raise InputError(self._placed(f"has no output for the sizes {given}")) from error

    def results(self, session: int) -> dict[str, Array]:
        """Copies of the outputs that this Session has, as its last call left them."""
        return {name: self._result(session, i) for i, name in enumerate(self.owned)}

    @cached_property
    def namespace(self) -> str:
        """Where the interpreter knows the class Session, which it is told of when it must.

        Of a library it is told what calls the library, in another namespace than that of the code
        itself, which may be in the interpreter as well.
        """
        own = self.emission.namespace
        if self.compiler == CLING:
            return own
        linked = f"{own}_linked"
        header = self.emission.header.replace(own, linked)
        declare(_with_macros(["#undef SOFIE_LINKED", "#define SOFIE_LINKED"], header))
        return linked

    @property
    def session(self) -> str:
        """The C++ expression for a Session, of the addresses ``table`` and ``weights``."""
        if self.compiler == CLING:
            return "Session(*reinterpret_cast<sofie::Shared<Weights> *>(weights))"
        table = "*reinterpret_cast<const sofie::Entries *>(table)"
        return f"Session({table}, reinterpret_cast<void *>(weights))"

    def _result(self, session: int, index: int) -> Array:
        """A copy of an output that the Session has."""
        type_ = self.graph.types[self.owned[index]]
        shape = (ctypes.c_size_t * max(1, type_.rank))()
        address = self.entries["result"](session, index, shape)
        array = np.empty(tuple(shape)[: type_.rank], type_.dtype.numpy)
        if array.nbytes:
            ctypes.memmove(array.ctypes.data, address, array.nbytes)
        return array

    def _placed(self, message: str) -> str:
        """The message of a kernel behind the model's name, as those of the emitted code are."""
        prefix = f"{self.emission.name}: "
        return message if message.startswith(prefix) else prefix + message

    def _borrow(self) -> int:
        # Appending to and popping from a list are atomic: threads need no lock here.
        try:
            return self.idle.pop()
        except IndexError:
            return int(self.entries["create"](self.weights))


def pointers(arrays: Sequence[Array | None]) -> Any:
    """The addresses of the arrays' memory, as a C array."""
    addresses = (None if a is None else a.ctypes.data for a in arrays)
    return (ctypes.c_void_p * max(1, len(arrays)))(*addresses)


def _release(entries: Mapping[str, Any], weights: int, idle: list[int]) -> None:
    for session in idle:
        entries["destroy"](session)
    entries["unload"](weights)


def compile_graph(graph: Graph, compiler: str = "") -> Compiled:
    """Emit, compile and try out; `JitError` with the reason where any of it fails."""
    from sofie_rdf.runtime.compile.prepare import program_of

    return compile_program(program_of(graph), compiler)


def compile_program(program: Program, compiler: str = "") -> Compiled:
    """``compiler`` is one of `COMPILERS`; "" is the one that SOFIE_RDF_COMPILER names.

    Where nobody asks for one it is "auto", which builds nothing in batch jobs then.
    """
    asked = chosen_compiler(compiler)
    wanted = asked or "auto"
    found = None if wanted == CLING else find_compiler(wanted)
    if found is None:
        if wanted not in (CLING, "auto"):
            raise JitError(
                f"there is no {wanted} on the PATH",
                remedy='compiler="cling" needs none: it is part of ROOT',
            )
        return _in_cling(program)
    library = Library(program.code.namespace, program.whole, found)
    if wanted != "auto":
        return _in_library(program, library, library.cached() or library.built())
    table = library.cached()
    if table:
        return _in_library(program, library, table)
    compiled = _in_cling(program)
    if asked or not in_batch_job():
        library.build_later()
    return compiled


def _in_library(program: Program, library: Library, table: int) -> Compiled:
    """The program in a library, which is tried out unless somebody has done so before."""
    compiled = _compiled(program, library.compiler.path, table)
    if not library.is_trusted:
        program.try_out(compiled.infer)
        library.trust()
    return compiled


def _in_cling(program: Program) -> Compiled:
    try:
        import_root()
    except MissingDependency as error:
        raise MissingDependency(
            f"model {program.face.name!r} must be compiled, and there is no ROOT, whose "
            "interpreter would do so",
            remedy='Install g++ (compiler="g++", which needs no ROOT), or ROOT: pip install root',
        ) from error
    program.find_headers()
    namespace = program.code.namespace
    declare(_with_macros(["#undef SOFIE_LINKED", "#define SOFIE_ENTRIES"], program.code.header))
    declare(linking_text(namespace))
    compiled = _compiled(program, CLING, _linked(namespace))
    program.try_out(compiled.infer)
    return compiled


def _compiled(program: Program, compiler: str, table: int) -> Compiled:
    """The compiled program with its weights."""
    addresses = ctypes.cast(table, ctypes.POINTER(_POINTER))
    entries = {name: kind(addresses[i]) for i, (name, kind) in enumerate(_ENTRIES.items())}
    # What was kept of a file may have been removed since, and then does not load.
    content = program.weights() or b""
    data = np.frombuffer(content, np.uint8)
    weights = loaded.weights(table, entries, data, disk.said_of(content))
    if not weights:
        raise DamagedWeights(f"the weights of {program.face.name!r} do not load in its code")
    known = (program.face, program.code, compiler, table, entries, int(weights))
    rows = program.owned, program.rows, program.scratch, program.piece, program.drawn
    compiled = Compiled(*known, *rows)
    # Not at exit, when the interpreter may be gone.
    weakref.finalize(compiled, _release, entries, weights, compiled.idle).atexit = False
    return compiled


def _with_macros(lines: Sequence[str], text: str) -> str:
    """The text behind these definitions, which end with it."""
    macros = ("SOFIE_LINKED", "SOFIE_ENTRIES")
    before = [f'#pragma push_macro("{macro}")' for macro in macros]
    after = [f'#pragma pop_macro("{macro}")' for macro in macros]
    return "\n".join([*before, *lines, text, *after, ""])


def _linked(namespace: str) -> int:
    """The address of the entry points; `JitError` where what they call is not there."""
    scope = getattr(import_root(), namespace)
    table = ctypes.c_ulong()
    answer, message = quietly(lambda: scope.linked(table))
    if answer != LINKED:
        raise JitError(
            f"ROOT's interpreter could not link the emitted code:\n{message.strip()}",
            remedy="A library that your own operator needs is not loaded, or this is a bug",
        )
    return table.value
