"""A model for workers that have ROOT and nothing else: a file to send, and the C++ that calls it.

The file holds the header with all kernels in it, the weights, and numbers for a first result. Its
code and that of the calls is declared in namespaces of its own, with macros of its own, so that a
worker may hold models of any number of jobs and versions, and be the process of the client.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np

from sofie_rdf.emit.code import include_directory, inlined
from sofie_rdf.emit.literals import number, string
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.rows import ROWS
from sofie_rdf.ir.types import Array
from sofie_rdf.runtime.compile.program import Program, linking_text
from sofie_rdf.runtime.compile.trial import Trial, bounds
from sofie_rdf.runtime.rdataframe.functors import FunctorText

__all__ = ["CallText", "Parcel", "parcel_of"]

_ALIGNMENT = 64
# What decides what a header of ours becomes.
_SWITCHES = frozenset(
    f"SOFIE_{name}"
    for name in ("CLING", "LINKED", "ENTRIES", "NATIVE", "CHOSEN", "TARGET", "SIMD_BYTES")
) | {"SOFIE_RDF_WORDS"}
# Common to all versions in a process.
_SHARED = frozenset({"SOFIE_RDF_SHARED_HXX"})
_MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", re.MULTILINE)
# Not in a comment or in a string, where a name of the model may say anything.
_NAMESPACE = re.compile(r"^[ \t]*(?:inline[ \t]+)?namespace[ \t]+(\w+)[\w: \t]*\{", re.MULTILINE)
_OTHERS = frozenset({"std", "ROOT", "sofie_rdf_shared"})
# What the worker says about its CPU before it declares the code of a file.
_FOR_THIS_CPU = (
    "#define SOFIE_ENTRIES",
    "#define SOFIE_SIMD_BYTES SOFIE_SHIPPED_SIMD_BYTES",
    "#ifdef SOFIE_SHIPPED_TARGET",
    "#define SOFIE_TARGET SOFIE_SHIPPED_TARGET",
    "#endif",
)


def _isolated(text: str, key: str, defined: Iterable[str]) -> str:
    """The text with macros and namespaces of its own, behind the lines ``defined``."""
    macros = sorted({*_MACRO.findall(text), *_SWITCHES} - _SHARED)
    spaces = sorted(set(_NAMESPACE.findall(text)) - _OTHERS)
    lines = [f"#ifndef SOFIE_RDF_IS_{key}", f"#define SOFIE_RDF_IS_{key}"]
    for macro in (*macros, *spaces):
        lines += [f'#pragma push_macro("{macro}")', f"#undef {macro}"]
    lines += [f"#define {space} {space}_{key}" for space in spaces]
    # SOFIE_RDF_WORDS: without a SofieFunctor of the user, who has one already.
    lines += ["#define SOFIE_CLING", "#define SOFIE_RDF_WORDS", *defined, text]
    for macro in (*macros, *spaces):
        lines += [f"#undef {macro}", f'#pragma pop_macro("{macro}")']
    return "\n".join([*lines, "#endif", ""])


# The file -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """An output of the first result: where the file has what it must be, and how exactly."""

    name: str
    elements: int
    right: int
    bounds: int


@dataclass(frozen=True)
class Parcel:
    """The file: its bytes, where its parts begin (the code does so at 0), and what it is for.

    ``feeds`` are the inputs of the first result, as positions behind ``numbers``.
    """

    graph: Graph
    space: str
    content: bytes = field(repr=False)
    weights: int
    numbers: int
    sizes: tuple[int, ...] = ()
    feeds: tuple[int, ...] = ()
    expected: tuple[Expected, ...] = ()

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def file(self) -> str:
        """The name of the file, which is that of its content."""
        return f"sofie_rdf_{self.sha256[:24]}.model"


class _Bytes:
    """Parts of a file, each at a multiple of 64."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, part: bytes, fill: bytes = b"\0") -> int:
        """The position of the part."""
        at = self.size
        padding = -len(part) % _ALIGNMENT
        self.parts += [part, fill * padding]
        self.size += len(part) + padding
        return at

    def add_array(self, array: Array) -> int:
        return self.add(np.ascontiguousarray(array).tobytes())


def parcel_of(program: Program, trial: Trial | None) -> Parcel:
    """The file for a program; without a ``trial`` its first result is compared with nothing."""
    graph, space = program.face, program.code.namespace
    weights = bytes(program.weights())
    key = hashlib.sha256(program.whole.encode() + weights).hexdigest()[:16]
    file, numbers = _Bytes(), _Bytes()
    code = _isolated(program.whole + linking_text(space), key, _FOR_THIS_CPU)
    file.add(code.encode(), fill=b"\n")
    at = file.add(weights)
    sizes: list[int] = []
    feeds: list[int] = []
    expected: list[Expected] = []
    if trial is not None:
        sizes = [trial.sizes[s] for s in graph.symbols]
        rows = [] if program.drawn is None else [ROWS]
        feeds = [numbers.add_array(trial.feeds[name]) for name in (*graph.inputs, *rows)]
        for name in graph.outputs:
            right = np.asarray(trial.expected[name])
            places = numbers.add_array(right), numbers.add_array(bounds(trial, name))
            expected.append(Expected(name, right.size, *places))
    content = b"".join([*file.parts, *numbers.parts])
    lists = tuple(sizes), tuple(feeds), tuple(expected)
    return Parcel(graph, f"{space}_{key}", content, at, file.size, *lists)


# The calls ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CallText:
    """The C++ of a function of the columns of an event: ``name``, and ``name_0`` etc., which take
    each of several results out of what it gives.
    """

    functor: FunctorText
    parcel: Parcel

    @cached_property
    def name(self) -> str:
        """Depends on all that is done; no column has such a name."""
        text = "\n".join(self._space(""))
        return f"sofie_rdf_{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def results(self) -> int:
        return len(self.functor.plan.shown)

    @property
    def headers(self) -> str:
        """What is common to all calls, to be declared before: our headers."""
        return self._common[1]

    @cached_property
    def text(self) -> str:
        """Once in a process, whoever declares it again."""
        guard = f"SOFIE_RDF_IS_{self.name}"
        lines = [f"#ifndef {guard}", f"#define {guard}", *self._space(self.name)]
        return "\n".join([*lines, *self._functions(), "#endif", ""])

    @property
    def _common(self) -> tuple[str, str]:
        graph = self.parcel.graph
        types = (graph.types[name] for name in (*graph.inputs, *graph.outputs))
        return _headers(halves=any(t.dtype.cxx.startswith("sofie::") for t in types))

    def _space(self, name: str) -> Iterator[str]:
        yield f"namespace {name}_space {{"
        yield f"namespace sofie = ::{self._common[0]};"
        yield from self._session()
        yield from self.functor.structs()
        yield from self._try_out()
        parcel = self.parcel
        known = ", ".join(map(string, (parcel.graph.name, parcel.file, parcel.sha256)))
        places = f"{parcel.weights}, {parcel.numbers}, {len(parcel.content)}"
        space, trial = string(parcel.space), "&try_out" if parcel.expected else "nullptr"
        numbers = ", ".join(map(number, self.functor.numbers))
        names = ", ".join(map(string, self.functor.names))
        told = f"{{{{{numbers}}}, {{{names}}}, {string(parcel.graph.name)}}}"
        yield "using Crew = sofie::Crew<Work>;"
        yield "inline Crew &crew()"
        yield "{"
        yield "   static Crew &all = *new Crew("
        yield f"      Work(Session(sofie::shipped({{{known}, {places}, {space}, {trial}}})),"
        yield f"           {told}));"
        yield "   return all;"
        yield "}"
        yield "}"

    def _session(self) -> Iterator[str]:
        """The code as the functor calls it."""
        graph = self.parcel.graph
        cxx = [graph.types[name].dtype.cxx for name in (*graph.inputs, *graph.outputs)]
        count = len(graph.inputs)
        parameters = [f"std::size_t size{i}" for i in range(len(graph.symbols))]
        parameters += [f"const {t} *in{i}" for i, t in enumerate(cxx[:count])]
        drawn = self.functor.drawn is not None
        parameters += ["const std::uint64_t *rows"] if drawn else []
        parameters += [f"{t} *out{i}" for i, t in enumerate(cxx[count:])]
        sizes = [*(f"size{i}" for i in range(len(graph.symbols))), "0"]
        ins = [*(f"in{i}" for i in range(count)), *(["rows"] if drawn else []), "nullptr"]
        outs = [*(f"out{i}" for i in range(len(graph.outputs))), "nullptr"]
        yield "class Session {"
        yield "   sofie::Linked code_;"
        yield "public:"
        yield "   explicit Session(const sofie::Linked &code) : code_(code) {}"
        yield f"   void {self.functor.computing}({', '.join(parameters)})"
        yield "   {"
        yield from _call("code_", sizes, ins, outs)
        yield "   }"
        yield "};"

    def _try_out(self) -> Iterator[str]:
        """A function that compares the first result."""
        parcel, types = self.parcel, self.parcel.graph.types
        if not parcel.expected:
            return
        yield "inline const char *try_out(sofie::Linked &code, const char *numbers)"
        yield "{"
        outs = []
        for i, out in enumerate(parcel.expected):
            kind = FunctorText.stored(types[out.name].dtype)
            yield f"   std::vector<{kind}> out{i}({out.elements + 1});"
            outs.append(f"out{i}.data()")
        sizes = [*map(str, parcel.sizes), "0"]
        ins = [*(f"numbers + {at}" for at in parcel.feeds), "nullptr"]
        yield from _call("code", sizes, ins, [*outs, "nullptr"])
        for i, out in enumerate(parcel.expected):
            right, bound = f"numbers + {out.right}", f"numbers + {out.bounds}"
            yield f"   if (!sofie::agrees(out{i}.data(), {right}, {bound}, {out.elements}))"
            yield f"      return {string(out.name)};"
        yield "   return nullptr;"
        yield "}"

    def _functions(self) -> Iterator[str]:
        name, functor = self.name, self.functor
        known = [("ULong64_t", "entry"), *functor.parameters]
        parameters = ", ".join(f"{kind} {c}" for kind, c in known)
        given = "".join(f", {c}" for _, c in known)
        yield f"inline auto {name}({parameters})"
        yield "{"
        yield f"   const {name}_space::Crew::Borrowed work({name}_space::crew());"
        yield "   try {"
        yield f"      return {name}_space::Score::run(*work{given});"
        yield "   } catch (...) {"
        yield f"      {self._common[0]}::throw_of_event((*work).told, entry);"
        yield "   }"
        yield "}"
        if self.results > 1:
            types = ", ".join(f"std::declval<{kind}>()" for kind, _ in known)
            yield f"using {name}_results = decltype({name}({types}));"
            for i in range(self.results):
                yield f"inline auto {name}_{i}(const {name}_results &all)"
                yield f"{{ return std::get<{i}>(all); }}"


def _call(code: str, sizes: list[str], ins: list[str], outs: list[str]) -> Iterator[str]:
    yield f"      const std::size_t sizes[] = {{{', '.join(sizes)}}};"
    yield f"      const void *const in[] = {{{', '.join(ins)}}};"
    yield f"      void *const out[] = {{{', '.join(outs)}}};"
    yield f"      {code}.call(sizes, in, out);"


@cache
def _headers(*, halves: bool) -> tuple[str, str]:
    """The namespace that ``sofie`` is there, and our headers for the calls, one after the other."""
    names = ["sofie/rdf/shipped.hxx", *(["sofie/storage.hxx"] if halves else [])]
    text = inlined("".join(f'#include "{name}"\n' for name in names), [include_directory()])
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"sofie_{key}", _isolated(text, key, ())
