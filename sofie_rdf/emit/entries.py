"""The emitted code from outside: functions with C types, and a Session that calls such."""

from __future__ import annotations

from collections.abc import Iterable

from sofie_rdf.emit.ports import Interface
from sofie_rdf.emit.sources import Source

__all__ = ["entry_points", "free_functions", "linked_infer", "linked_session"]


def entry_points(interface: Interface, *, inlined: bool) -> Iterable[str]:
    """Functions of fixed C types around `Session::infer`, whose types are the model's.

    It is part of them where it is ``inlined``.
    """
    arguments = [f"sizes[{i}]" for i in range(len(interface.sizes))]
    ins = [*interface.inputs, *([interface.rows] if interface.rows else [])]
    for direction, listed in (("in", ins), ("out", interface.outputs)):
        for i, port in enumerate(listed):
            const = "" if port.output else "const "
            pointer = f"static_cast<{const}{port.type.dtype.cxx} *>({direction}[{i}])"
            arguments.append(f"results.result{i}" if port.owned else pointer)
    owned = [(i, port) for i, port in enumerate(interface.outputs) if port.owned]
    yield "#ifdef SOFIE_ENTRIES"
    yield "/// The same for callers that know C types only."
    yield "struct Infer {"
    yield "   struct Results {"
    for i, port in owned:
        yield f"      {port.vector_type} result{i};"
    yield "   };"
    yield "   static const void *result([[maybe_unused]] const Results &results,"
    yield "                             [[maybe_unused]] std::size_t index,"
    yield "                             [[maybe_unused]] std::size_t *shape)"
    yield "   {"
    for number, (i, _) in enumerate(owned):
        yield f"      if (index == {number})"
        yield f"         return sofie::described(results.result{i}, shape);"
    yield "      return nullptr;"
    yield "   }"
    yield "   SOFIE_INLINE static void run(Session &session, [[maybe_unused]] Results &results,"
    yield "                                [[maybe_unused]] const std::size_t *sizes,"
    yield "                                [[maybe_unused]] const void *const *in,"
    yield "                                [[maybe_unused]] void *const *out)"
    yield "   {"
    statement = "SOFIE_INLINED session" if inlined else "session"
    yield f"      {statement}.{interface.computing}({', '.join(arguments)});"
    yield "   }"
    yield from _elements(interface)
    yield "};"
    yield "using Entry = sofie::EntryPoints<Session, Weights, Infer>;"
    yield "inline const sofie::Entries *entries() { return Entry::table(); }"
    yield "#endif"


def _elements(interface: Interface) -> Iterable[str]:
    """How many elements the inputs and outputs have, as a function of the sizes."""
    yield "   static void elements([[maybe_unused]] const std::size_t *sizes_,"
    yield "                        [[maybe_unused]] std::size_t *in_,"
    yield "                        [[maybe_unused]] std::size_t *out_)"
    yield "   {"
    for i, name in enumerate(interface.sizes.values()):
        yield f"      [[maybe_unused]] const std::size_t {name} = sizes_[{i}];"
    ins = [*interface.inputs, *([interface.rows] if interface.rows else [])]
    for direction, listed in (("in_", ins), ("out_", interface.outputs)):
        for i, port in enumerate(listed):
            elements = "0" if port.owned else interface.elements(port)
            yield f"      {direction}[{i}] = {elements};"
    yield "   }"


def linked_session(namespace: str, source: Source) -> Iterable[str]:
    """How a Session begins whose code is elsewhere."""
    yield "   sofie::Linked code_;"
    yield "   static const sofie::Entries &entries()"
    yield "   {"
    yield "      static const sofie::Entries &known ="
    yield f'         sofie::native_entries("{namespace}", __FILE__);'
    yield "      return known;"
    yield "   }"
    yield ""
    yield "public:"
    yield f"   /// {source.about}"
    yield f"   explicit Session({source.parameter}) :"
    yield f"      code_(entries(), {source.expression})"
    yield "   {"
    yield "   }"
    yield "   /// Code and weights of others, which are shared."
    yield "   Session(const sofie::Entries &code, void *weights) : code_(code, weights) {}"


def linked_infer(interface: Interface) -> Iterable[str]:
    """The `infer` of such a Session."""
    rows = [interface.rows] if interface.rows else []
    ins = ", ".join(p.name for p in (*interface.inputs, *rows))
    outs = ", ".join("nullptr" if p.owned else p.name for p in interface.outputs)
    yield f"inline {interface.signature('Session::')}"
    yield "{"
    yield f"   const std::size_t sizes_[] = {{{', '.join(interface.sizes.values()) or '0'}}};"
    yield f"   const void *const in_[] = {{{ins or 'nullptr'}}};"
    yield f"   void *const out_[] = {{{outs or 'nullptr'}}};"
    yield "   code_.call(sizes_, in_, out_);"
    for number, port in enumerate(p for p in interface.outputs if p.owned):
        yield f"   code_.take({number}, {port.name});"
    yield "}"


def free_functions(interface: Interface) -> Iterable[str]:
    """`infer` in every form without a Session of the caller's: all share one, in turns."""
    parameters = [*interface.sizes.values(), *(p.name for p in interface.ports)]
    sizes = [f"std::size_t {s}" for s in interface.sizes.values()]
    given = ", ".join([*sizes, *(p.pointer for p in interface.ports)])
    yield f"inline void infer({given})"
    yield "{"
    yield "   static std::mutex mutex_;"
    yield "   static Session session_;"
    yield "   const std::lock_guard<std::mutex> lock_(mutex_);"
    yield f"   session_.infer({', '.join(parameters)});"
    yield "}"
    yield from interface.variants("inline ")
