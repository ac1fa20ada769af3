"""A network as a column of an RDataFrame: `define`, and the `SofieFunctor` object."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sofie_rdf.emit.names import identifier
from sofie_rdf.errors import ColumnError, InputError, nearest
from sofie_rdf.ir.dims import evaluate, symbols_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.runtime.interpreter import declare, import_root
from sofie_rdf.runtime.session import Compiled

__all__ = ["Columns", "define", "make_functor"]

Columns: TypeAlias = Sequence[str] | Mapping[str, Sequence[str]]

_SCALARS = frozenset(
    f"{sign}{kind}"
    for sign in ("", "unsigned ")
    for kind in ("char", "short", "int", "long", "long long")
) | frozenset(
    f"{scope}{sign}int{bits}_t"
    for scope in ("", "std::")
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
)
_SCALARS |= {"float", "double", "bool", "signed char", "size_t", "std::size_t"}
_SCALARS |= {f"{t}_t" for t in ("Float", "Double", "Bool", "Float16", "Double32")}
_SCALARS |= {f"{u}{t}_t" for u in ("", "U") for t in ("Char", "Short", "Int", "Long", "Long64")}


@dataclass(frozen=True)
class _Layout:
    """Which columns fill which input, and which output is the score: all for one event."""

    graph: Graph
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    output: str


def _per_event(graph: Graph, name: str) -> int:
    """How many numbers of a value belong to one event."""
    type_ = graph.types[name]
    leading = graph.leading_symbol
    missing = sorted(_symbols(type_) - {leading})
    if missing:
        raise ColumnError(
            f"{name!r} of model {graph.name!r} has axes of varying size ({', '.join(missing)}), "
            "which columns of single numbers cannot fill",
            remedy="Fix them when the model is read: sofie.from_onnx(file, shapes={...})",
        )
    if not leading and type_.rank > 1 and type_.shape[0] != 1:
        raise ColumnError(
            f"{name!r} of model {graph.name!r} has a fixed batch of {type_.shape[0]}; an "
            "RDataFrame gives one event at a time",
            remedy=f"Free it: sofie.from_onnx(file, shapes={{{name!r}: ('N', ...)}})",
        )
    return evaluate(type_.size, {leading: 1})


def _symbols(type_: TensorType) -> frozenset[str]:
    return frozenset().union(*(symbols_of(d) for d in type_.shape))


def _output(graph: Graph, output: str) -> str:
    if not output and len(graph.outputs) == 1:
        return graph.outputs[0]
    if output in graph.outputs:
        return output
    listed = ", ".join(map(repr, graph.outputs))
    raise InputError(
        f"model {graph.name!r} has no output {output!r}"
        if output
        else f"model {graph.name!r} has several outputs",
        remedy=nearest(output, graph.outputs) or f"Choose one with output=: {listed}",
    )


def _layout(graph: Graph, output: str) -> _Layout:
    chosen = _output(graph, output)
    outputs = {name: _per_event(graph, name) for name in graph.outputs}
    inputs = {name: _per_event(graph, name) for name in graph.inputs}
    return _Layout(graph, inputs, outputs, chosen)


# Columns ------------------------------------------------------------------------------------------


def _in_order(layout: _Layout, columns: Columns) -> list[str]:
    """The columns of all inputs, one after the other in the order of the model's inputs."""
    graph = layout.graph
    if isinstance(columns, str):
        columns = [columns]
    if not isinstance(columns, Mapping):
        if len(graph.inputs) > 1:
            raise ColumnError(
                f"model {graph.name!r} has {len(graph.inputs)} inputs, so columns must say which",
                remedy=f"Give a mapping: {{{', '.join(f'{i!r}: [...]' for i in graph.inputs)}}}",
            )
        columns = {graph.inputs[0]: columns}
    for name in columns:
        if name not in layout.inputs:
            raise ColumnError(
                f"model {graph.name!r} has no input {name!r}", remedy=nearest(name, graph.inputs)
            )
    listed: list[str] = []
    for name, size in layout.inputs.items():
        given = list(columns.get(name, ()))
        if len(given) != size:
            raise ColumnError(
                f"input {name!r} of model {graph.name!r} takes {size} numbers; "
                f"{len(given)} columns are given" + (f": {given}" if given else "")
            )
        listed += given
    return listed


def _column_types(df: Any, columns: Sequence[str]) -> list[str]:
    known = [str(c) for c in df.GetColumnNames()]
    types = []
    for column in columns:
        if not isinstance(column, str):
            raise ColumnError(f"{column!r} is no column name")
        if not df.HasColumn(column):
            listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
            raise ColumnError(
                f"the data frame has no column {column!r}",
                remedy=nearest(column, known) or f"It has {listed}",
            )
        type_ = str(df.GetColumnType(column))
        if type_ not in _SCALARS:
            raise ColumnError(
                f"column {column!r} is {type_}; one number for each event is needed",
                remedy=f"Define a scalar first: df.Define('first', '{column}[0]')",
            )
        types.append(type_)
    return types


def define(df: Any, column: str, compiled: Compiled, columns: Columns, *, output: str = "") -> Any:
    """The data frame with the model's score as a new column; see `sofie_rdf.define`."""
    layout = _layout(compiled.graph, output)
    ordered = _in_order(layout, columns)
    if identifier(str(column)) != column:
        raise ColumnError(f"{column!r} cannot be the name of a column: it is no C++ identifier")
    if df.HasColumn(column):
        raise ColumnError(f"the data frame has a column {column!r} already")
    functor = _functor(compiled, layout, _column_types(df, ordered), int(df.GetNSlots()))
    return df.DefineSlot(column, functor, ordered)


# The C++ functor ----------------------------------------------------------------------------------


def make_functor(
    compiled: Compiled, nslots: int, *, output: str = "", types: Sequence[str] = ()
) -> Any:
    """The C++ object for ``df.DefineSlot``; see `sofie_rdf.SofieFunctor`."""
    layout = _layout(compiled.graph, output)
    if type(nslots) is not int or nslots < 1:
        raise InputError(f"nslots must be a positive number, not {nslots!r}")
    kinds = [
        _column_type(compiled.graph.types[name].dtype)
        for name, size in layout.inputs.items()
        for _ in range(size)
    ]
    if types and len(types) != len(kinds):
        raise InputError(f"types= names {len(types)} column types; the model takes {len(kinds)}")
    for kind in types:
        if kind not in _SCALARS:
            raise InputError(f"types= names {kind!r}, which is no arithmetic type of C++")
    return _functor(compiled, layout, list(types) or kinds, nslots)


def _functor(compiled: Compiled, layout: _Layout, types: Sequence[str], nslots: int) -> Any:
    text = _functor_text(layout, types, compiled.session)
    name = f"columns_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    namespace = compiled.namespace
    declare(
        '#include "sofie/rdf/functor.hxx"\nSOFIE_BEGIN\n'
        f"namespace {namespace}::{name} {{\n{text}}} // namespace {name}\nSOFIE_END\n"
    )
    scope = getattr(getattr(import_root(), namespace), name)
    return scope.make(compiled.table, compiled.weights, nslots)


def _column_type(dtype: DType) -> str:
    """What a column of such elements holds: `sofie::ColumnOf`."""
    return "float" if dtype.is_half or dtype.is_storage else dtype.cxx


def _as_column(result: str, dtype: DType, *, vector: bool) -> str:
    if _column_type(dtype) == dtype.cxx:
        return result if vector else f"{result}[0]"
    return f"sofie::as_floats({result})" if vector else f"static_cast<float>({result}[0])"


def _functor_text(layout: _Layout, types: Sequence[str], session: str) -> str:
    graph = layout.graph
    parameters = ", ".join(f"{t} c{i}" for i, t in enumerate(types))
    lines, arguments, position = [], [], 0
    for number, (name, size) in enumerate(layout.inputs.items()):
        kind = graph.types[name].dtype.cxx
        values = (f"static_cast<{kind}>(c{i})" for i in range(position, position + size))
        lines.append(f"      const {kind} in{number}[] = {{{', '.join(values)}}};")
        arguments.append(f"in{number}")
        position += size
    result = ""
    for number, (name, size) in enumerate(layout.outputs.items()):
        dtype = graph.types[name].dtype
        vector = name == layout.output and size != 1
        memory = f"ROOT::RVec<{dtype.cxx}> out{number}({size})"
        lines.append(f"      {memory if vector else f'{dtype.cxx} out{number}[{size}]'};")
        arguments.append(f"out{number}.data()" if vector else f"out{number}")
        if name == layout.output:
            result = _as_column(f"out{number}", dtype, vector=vector)
    return f"""struct Score {{
   static auto run(Session &session, {parameters})
   {{
{chr(10).join(lines)}
      session.infer({", ".join(arguments)});
      return {result};
   }}
}};
using Functor = sofie::SlotFunctor<Session, Score, {", ".join(types)}>;
SOFIE_ENTRY Functor make([[maybe_unused]] std::uintptr_t table, std::uintptr_t weights,
                         unsigned count)
{{
   return Functor({session}, count);
}}
"""
