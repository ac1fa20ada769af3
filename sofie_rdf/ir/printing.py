"""Graphs and operators as text: the format is that of `sofie_rdf.ir.text`, which reads it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from sofie_rdf.ir.dims import Size, quoted, symbols_of
from sofie_rdf.ir.types import DType

if TYPE_CHECKING:
    from sofie_rdf.ir.graph import Graph, Origin
    from sofie_rdf.ir.operator import Operator

__all__ = [
    "NAME",
    "PLAIN",
    "SECTIONS",
    "WORDS",
    "Printed",
    "graph_text",
    "operator_text",
    "value_text",
]

NAME = r"[A-Za-z_][A-Za-z0-9_]*"
PLAIN = re.compile(NAME)
SECTIONS = ("model", "input", "const", "output", "end")
WORDS: Mapping[str, Any] = {"True": True, "False": False, "None": None} | {
    d.value: d for d in DType
}
# In an attribute these names mean something else than a size.
_RESERVED = frozenset({*WORDS, "inf", "nan", "min", "max", "size"})
# Longer names do not push the types of all others to the right.
_ALIGNED = 24


@runtime_checkable
class Printed(Protocol):
    """What may stand as an attribute of an operator, and prints itself."""

    def as_value(self) -> str:
        """Its text there; "" for what cannot be read back."""
        ...


def _name(name: str, reserved: Iterable[str] = SECTIONS) -> str:
    return name if PLAIN.fullmatch(name) and name not in reserved else quoted(name)


def _size(size: Size) -> str:
    plain = all(PLAIN.fullmatch(s) and s not in _RESERVED for s in symbols_of(size))
    return str(size) if plain else f"size({quoted(str(size))})"


def value_text(value: object) -> str:
    """The value of an attribute."""
    match value:
        case np.generic():
            return value_text(value.item())
        case bool() | int() | float() | None:
            return repr(value)
        case str():
            return quoted(value)
        case DType():
            return str(value)
        case Size():
            return _size(value)
        case Printed() if value.as_value():
            return value.as_value()
        case tuple():
            return f"({', '.join(map(value_text, value))}{',' if len(value) == 1 else ''})"
    # Not readable back, but never in the way of an error message.
    return f"<{type(value).__name__}>"


def _differing(op: Operator) -> Mapping[str, object]:
    """`Operator.attributes`, and -0.0 or True where the default is 0.0 or 1."""
    values = {f.name: getattr(op, f.name) for f in dataclasses.fields(op)}
    defaults = {f.name: f.default for f in dataclasses.fields(op)}
    shown = op.attributes()
    return {n: v for n, v in values.items() if n in shown or repr(v) != repr(defaults[n])}


def operator_text(op: Operator) -> str:
    """``Elu(alpha=0.5)``: its name, after its domain, and the fields that differ from defaults."""
    domain = op.domain if re.fullmatch(rf"{NAME}(\.{NAME})*", op.domain) else quoted(op.domain)
    fields = ", ".join(f"{name}={value_text(value)}" for name, value in _differing(op).items())
    return f"{domain}.{op.name}({fields})" if op.domain else f"{op.name}({fields})"


def _origin(origin: Origin) -> str:
    parts = [quoted(origin.name)] if origin.name else []
    parts += [f"in {quoted(origin.file)}"] if origin.file else []
    return f" @ {' '.join(parts)}" if parts else ""


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    """``name: rest``, the rests below each other."""
    width = max((len(name) for name, _ in rows if len(name) <= _ALIGNED), default=0) + 1
    return [f"{name + ':':<{width}} {rest}" for name, rest in rows]


def _node_lines(graph: Graph) -> list[str]:
    results = []
    for node in graph.nodes:
        first, *others = node.outputs
        more = "".join(f", {_name(o)}: {graph.types[o]}" for o in others)
        results.append((_name(first), f"{graph.types[first]}{more}"))
    lines = []
    for node, result in zip(graph.nodes, _columns(results), strict=True):
        inputs = ", ".join(_name(i) if i else "-" for i in node.inputs)
        lines.append(f"{result} = {operator_text(node.op)}({inputs}){_origin(node.origin)}")
    return lines


def graph_text(graph: Graph) -> str:
    """The graph as text, one line for each input, constant, node and output."""
    lines = [f"model {_name(graph.name, ())}"]
    lines += [f"  @ {_name(key)} = {quoted(value)}" for key, value in graph.provenance.items()]
    inputs = [(_name(i), str(graph.types[i])) for i in graph.inputs]
    constants = [(_name(c), str(graph.types[c])) for c in graph.constants]
    lines += [f"input  {row}" for row in _columns(inputs)]
    lines += [f"const  {row}" for row in _columns(constants)]
    lines += _node_lines(graph)
    lines += [f"output {_name(o)}" for o in graph.outputs]
    # Without it, a text that has lost its last outputs would be one of another graph.
    return "\n".join([*lines, "end"]) + "\n"
