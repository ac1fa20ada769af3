"""A network in ROOT's interpreter, called with NumPy arrays."""

from __future__ import annotations

import ctypes
import hashlib
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sofie_rdf.emit.session import Emission, emit, namespace_of
from sofie_rdf.errors import JitError, ShapeError
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, concrete
from sofie_rdf.passes.memory import plan_memory
from sofie_rdf.reference import evaluate
from sofie_rdf.runtime.interpreter import declare, import_root

__all__ = ["Compiled", "compile_graph"]

_CALL = ctypes.CFUNCTYPE(
    ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)
_CREATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
_LOAD = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_DELETE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_ENTRIES = {"load": _LOAD, "unload": _DELETE, "create": _CREATE, "destroy": _DELETE, "call": _CALL}


@dataclass(frozen=True, eq=False)
class Compiled:
    """A graph that has been emitted and declared: weights that are shared, Sessions for threads."""

    graph: Graph
    emission: Emission

    @cached_property
    def entries(self) -> Mapping[str, Any]:
        """The C entry points of sofie/runtime.hxx for this model."""
        scope = getattr(import_root(), self.emission.namespace)
        addresses = {name: int(getattr(scope, f"{name}_address")()) for name in _ENTRIES}
        return {name: kind(addresses[name]) for name, kind in _ENTRIES.items()}

    @cached_property
    def weights(self) -> int:
        """The address of a C++ shared pointer to the weights, for as long as this object lives."""
        data = self.emission.weights
        handle = self.entries["load"](data, len(data))
        if not handle:
            raise JitError(f"the weights of {self.emission.name!r} do not load in the emitted code")
        weakref.finalize(self, self.entries["unload"], handle)
        return int(handle)

    @cached_property
    def _idle(self) -> list[int]:
        sessions: list[int] = []
        weakref.finalize(self, _destroy_all, self.entries["destroy"], sessions)
        return sessions

    @cached_property
    def _lock(self) -> threading.Lock:
        return threading.Lock()

    def infer(self, feeds: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        """The outputs by name. Arrays must have the types of the graph; from any thread."""
        graph = self.graph
        inputs = [np.ascontiguousarray(feeds[name]) for name in graph.inputs]
        types = [graph.types[name] for name in graph.outputs]
        outputs = [np.empty(concrete(t.shape, sizes), t.dtype.numpy) for t in types]
        session = self._borrow()
        try:
            message = self.entries["call"](
                session,
                (ctypes.c_size_t * max(1, len(graph.symbols)))(*(sizes[s] for s in graph.symbols)),
                (ctypes.c_void_p * max(1, len(inputs)))(*(a.ctypes.data for a in inputs)),
                (ctypes.c_void_p * len(outputs))(*(a.ctypes.data for a in outputs)),
            )
        finally:
            self._idle.append(session)
        if message:
            raise JitError(f"{self.emission.name}: {message.decode(errors='replace')}")
        return dict(zip(graph.outputs, outputs, strict=True))

    def _borrow(self) -> int:
        try:
            return self._idle.pop()
        except IndexError:
            return int(self.entries["create"](self.weights))


def _destroy_all(destroy: Any, sessions: list[int]) -> None:
    for session in sessions:
        destroy(session)


def compile_graph(graph: Graph) -> Compiled:
    """Emit, declare and try out; `JitError` with the reason where any of it fails."""
    plan = plan_memory(graph)
    digest = hashlib.sha256(emit(graph, plan, namespace="sofie_model").header.encode()).hexdigest()
    namespace = f"{namespace_of(graph.name)}_{digest[:12]}"
    emission = emit(graph, plan, namespace=namespace)
    declare(emission.header)
    declare(_entry_points(graph, namespace))
    compiled = Compiled(graph, emission)
    try_out(compiled)
    return compiled


def _entry_points(graph: Graph, namespace: str) -> str:
    """Functions of fixed C types around `Session::infer`, whose types are the model's."""
    arguments = [f"sizes[{i}]" for i in range(len(graph.symbols))]
    for direction, names, const in (("in", graph.inputs, "const "), ("out", graph.outputs, "")):
        for i, name in enumerate(names):
            pointer = f"{const}{graph.types[name].dtype.cxx} *"
            arguments.append(f"static_cast<{pointer}>({direction}[{i}])")
    return f"""#include "sofie/runtime.hxx"
namespace {namespace} {{
struct Infer {{
   static void run(Session &session, [[maybe_unused]] const std::size_t *sizes,
                   [[maybe_unused]] const void *const *in, void *const *out)
   {{
      session.infer({", ".join(arguments)});
   }}
}};
using Entry = sofie::EntryPoints<Session, Weights, Infer>;
std::uintptr_t load_address() {{ return reinterpret_cast<std::uintptr_t>(&Entry::load); }}
std::uintptr_t unload_address() {{ return reinterpret_cast<std::uintptr_t>(&Entry::unload); }}
std::uintptr_t create_address() {{ return reinterpret_cast<std::uintptr_t>(&Entry::create); }}
std::uintptr_t destroy_address() {{ return reinterpret_cast<std::uintptr_t>(&Entry::destroy); }}
std::uintptr_t call_address() {{ return reinterpret_cast<std::uintptr_t>(&Entry::call); }}
}} // namespace {namespace}
"""


# The first result ---------------------------------------------------------------------------------

# Far above rounding, far below what a wrong kernel, a wrong packing or a missing symbol gives.
_AGREE = 1e-2


def try_out(compiled: Compiled) -> None:
    """Compare with the reference on a few random events; `JitError` if they differ.

    A symbol that is missing at run time is no exception in Cling: the call returns rubbish.
    """
    graph = compiled.graph
    random = np.random.default_rng(1)
    sizes = dict.fromkeys(graph.symbols, 2)
    feeds = {name: _example(graph, name, sizes, random) for name in graph.inputs}
    try:
        exact = evaluate(graph, feeds, wide=True)
        expected = evaluate(graph, feeds)
    except (ValueError, ShapeError, ArithmeticError):
        return  # These sizes mean nothing to the model; which ones do is not known here.
    found = compiled.infer(feeds, sizes)
    for name in graph.outputs:
        if not _agree(found[name], expected[name], exact[name]):
            raise JitError(
                f"{graph.name}: output {name!r} of the compiled code differs from the reference",
                remedy="This is a bug of sofie_rdf (or of your own operator): please report it",
            )


def _example(graph: Graph, name: str, sizes: Mapping[str, int], random: Any) -> Array:
    type_ = graph.types[name]
    shape = concrete(type_.shape, sizes)
    if type_.dtype.is_float:
        return np.asarray(random.normal(size=shape)).astype(type_.dtype.numpy)
    return np.asarray(random.integers(0, 2, size=shape)).astype(type_.dtype.numpy)


def _agree(found: Any, expected: Any, exact: Any) -> bool:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
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
