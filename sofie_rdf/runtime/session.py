"""A network in ROOT's interpreter, called with NumPy arrays."""

from __future__ import annotations

import ctypes
import hashlib
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sofie_rdf.emit.ports import Interface
from sofie_rdf.emit.session import Emission, emit, namespace_of, operators_in
from sofie_rdf.errors import InputError, JitError, ShapeError
from sofie_rdf.ir.dims import evaluate as evaluate_dim
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType, concrete
from sofie_rdf.passes.halves import widen_halves
from sofie_rdf.passes.memory import plan_memory
from sofie_rdf.reference import evaluate
from sofie_rdf.runtime.interpreter import (
    declare,
    has_header,
    import_root,
    include_from,
    quietly,
)

__all__ = ["Compiled", "compile_graph", "pointers"]

_CALL = ctypes.CFUNCTYPE(
    ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)
_CREATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
_LOAD = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_DELETE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_RESULT = ctypes.CFUNCTYPE(
    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_size_t)
)

_ENTRIES = {
    "load": _LOAD,
    "unload": _DELETE,
    "create": _CREATE,
    "destroy": _DELETE,
    "call": _CALL,
    "result": _RESULT,
}


@dataclass(frozen=True, eq=False)
class Compiled:
    """A graph in ROOT's interpreter: its C entry points, its weights, Sessions that are idle.

    ``weights`` is the address of a C++ shared pointer, valid for as long as this object lives.
    """

    graph: Graph
    emission: Emission
    entries: Mapping[str, Any]
    weights: int
    idle: list[int] = field(default_factory=list)

    def infer(self, feeds: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        """The outputs by name. Arrays must have the types of the graph; from any thread."""
        graph = self.graph
        inputs = [np.ascontiguousarray(feeds[name]) for name in graph.inputs]
        outputs = self.buffers(sizes)
        session = self._borrow()
        try:
            message = self.entries["call"](
                session,
                (ctypes.c_size_t * max(1, len(graph.symbols)))(*(sizes[s] for s in graph.symbols)),
                pointers(inputs),
                pointers([outputs.get(name) for name in graph.outputs]),
            )
            if message:
                raise InputError(self._placed(message.decode(errors="replace")))
            outputs.update(self.results(session))
        finally:
            self.idle.append(session)
        return {name: outputs[name] for name in graph.outputs}

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
    def owned(self) -> tuple[str, ...]:
        """The outputs of which the data decide the size: the Session has them."""
        return tuple(p.value for p in Interface(self.graph, "").outputs if p.owned)

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


def compile_graph(graph: Graph) -> Compiled:
    """Emit, declare and try out; `JitError` with the reason where any of it fails."""
    graph = widen_halves(graph)
    plan = plan_memory(graph)
    digest = hashlib.sha256(emit(graph, plan, namespace="sofie_model").header.encode()).hexdigest()
    namespace = f"{namespace_of(graph.name)}_{digest[:12]}"
    emission = emit(graph, plan, namespace=namespace)
    _find_headers(graph)
    declare(emission.header)
    declare(_entry_points(graph, namespace))
    entries = _entries(namespace)
    weights = entries["load"](emission.weights, len(emission.weights))
    if not weights:
        raise JitError(f"the weights of {graph.name!r} do not load in the emitted code")
    compiled = Compiled(graph, emission, entries, int(weights))
    # Not at exit, when the interpreter may be gone.
    weakref.finalize(compiled, _release, entries, weights, compiled.idle).atexit = False
    try_out(compiled)
    return compiled


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


# What the emitted `linked()` returns when it has been linked; else Cling returns something.
_LINKED = 50310


def _entries(namespace: str) -> Mapping[str, Any]:
    scope = getattr(import_root(), namespace)
    answer, message = quietly(lambda: scope.linked())
    if answer != _LINKED:
        raise JitError(
            f"ROOT's interpreter could not link the emitted code:\n{message.strip()}",
            remedy="A library that your own operator needs is not loaded, or this is a bug",
        )
    return {name: kind(int(getattr(scope, f"{name}_address")())) for name, kind in _ENTRIES.items()}


def _entry_points(graph: Graph, namespace: str) -> str:
    """Functions of fixed C types around `Session::infer`, whose types are the model's."""
    arguments = [f"sizes[{i}]" for i in range(len(graph.symbols))]
    ports = Interface(graph, "")
    for direction, listed in (("in", ports.inputs), ("out", ports.outputs)):
        for i, port in enumerate(listed):
            const = "" if port.output else "const "
            pointer = f"static_cast<{const}{port.type.dtype.cxx} *>({direction}[{i}])"
            arguments.append(f"results.result{i}" if port.owned else pointer)
    owned = [(i, port) for i, port in enumerate(ports.outputs) if port.owned]
    members = "".join(f"      {port.vector_type} result{i};\n" for i, port in owned)
    described = "".join(
        f"      if (index == {n})\n         return sofie::described(results.result{i}, shape);\n"
        for n, (i, _) in enumerate(owned)
    )
    addresses = "\n".join(
        f"std::uintptr_t {name}_address() "
        f"{{ return reinterpret_cast<std::uintptr_t>(&Entry::{name}); }}"
        for name in _ENTRIES
    )
    return f"""#include "sofie/runtime.hxx"
namespace {namespace} {{
struct Infer {{
   struct Results {{
{members}   }};
   static const void *result([[maybe_unused]] const Results &results,
                             [[maybe_unused]] std::size_t index,
                             [[maybe_unused]] std::size_t *shape)
   {{
{described}      return nullptr;
   }}
   static void run(Session &session, [[maybe_unused]] Results &results,
                   [[maybe_unused]] const std::size_t *sizes,
                   [[maybe_unused]] const void *const *in, [[maybe_unused]] void *const *out)
   {{
      session.infer({", ".join(arguments)});
   }}
}};
using Entry = sofie::EntryPoints<Session, Weights, Infer>;
{addresses}
int linked() {{ return {_LINKED}; }}
}} // namespace {namespace}
"""


# The first result ---------------------------------------------------------------------------------

# Far above rounding, far below what a wrong kernel, a wrong packing or a missing symbol gives.
_AGREE = 1e-2
# What dynamic axes are: the first is the batch, 2; the others are lengths, of which some networks
# need more than a few.
_TRIAL_SIZES = (2, 24)
# Multiplications beyond which the NumPy reference would take longer than the compilation.
_MOST = 300_000_000


def try_out(compiled: Compiled) -> None:
    """Compare with the reference on a few random events; `JitError` if they differ.

    A symbol that is missing at run time is no exception in Cling: the call returns rubbish.
    """
    graph = compiled.graph
    for length in _TRIAL_SIZES:
        sizes = {name: length if i else 2 for i, name in enumerate(graph.symbols)}
        random = np.random.default_rng(1)
        if (
            evaluate_dim(graph.multiply_adds, {**dict.fromkeys(graph.data_symbols, 2), **sizes})
            > _MOST
        ):
            continue
        feeds = {name: _example(graph, name, sizes, random) for name in graph.inputs}
        try:
            exact = evaluate(graph, feeds, wide=True)
            expected = evaluate(graph, feeds)
            found = compiled.infer(feeds, sizes)
        except (ValueError, ShapeError, InputError, ArithmeticError, IndexError):
            continue  # These sizes mean nothing to the model; which ones do is not known here.
        for name in graph.outputs:
            if not _agree(found[name], expected[name], exact[name]):
                wrong = f"output {name!r} of the compiled code differs from the reference"
                raise JitError(
                    f"{graph.name}: {wrong}",
                    remedy="This is a bug of sofie_rdf (or of your own operator): please report it",
                )
        return


def _example(graph: Graph, name: str, sizes: Mapping[str, int], random: Any) -> Array:
    type_ = graph.types[name]
    shape = concrete(type_.shape, sizes)
    if type_.dtype.is_float:
        return np.asarray(random.normal(size=shape)).astype(type_.dtype.numpy)
    return np.asarray(random.integers(0, 2, size=shape)).astype(type_.dtype.numpy)


def _agree(found: Any, expected: Any, exact: Any) -> bool:
    if found.dtype != expected.dtype or found.ndim != expected.ndim:
        return False
    if not found.size and not expected.size:
        return True  # What a loop has stacked in no round has sizes that mean nothing.
    if found.shape != expected.shape:
        return False
    if DType.of(found).is_half:
        found, expected, exact = (a.astype(np.float64) for a in (found, expected, exact))
    if found.dtype.kind != "f":
        # Rounding may decide a comparison or a conversion either way; most are decided clearly.
        settled = expected == exact
        return bool(np.all((found == expected) | ~settled))
    with np.errstate(all="ignore"):
        scale = np.max(np.abs(exact[np.isfinite(exact)]), initial=0.0)
        bound = _AGREE * (np.abs(exact) + scale)
        settled = (np.abs(expected - exact) <= bound / 10) & np.isfinite(exact)
        same = (np.abs(found - expected) <= bound) | ~settled
    return bool(np.all(same))
