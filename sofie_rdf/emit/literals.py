"""Numbers, sizes and text as C++ writes them, exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sofie_rdf.ir.dims import Dim, Function
from sofie_rdf.ir.operator import Functor

__all__ = ["comment", "number", "size", "string"]


def number(value: float | int | bool | Functor) -> str:
    """A literal of exactly this value; floats in hexadecimal."""
    if isinstance(value, Functor):
        return f"{value.cxx}{{{', '.join(map(number, value.fields))}}}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return '__builtin_nan("")'
    if math.isinf(value):
        return "__builtin_inf()" if value > 0 else "-__builtin_inf()"
    return float(value).hex()


def string(text: str) -> str:
    """A string literal."""
    plain = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    encoded = "".join(
        plain.get(c, c)
        if c.isascii() and (c.isprintable() or c in plain)
        else "".join(f"\\{b:03o}" for b in c.encode("utf-8", "surrogatepass"))
        for c in text
    )
    # ?? begins a trigraph in older modes.
    return '"' + encoded.replace("??", "?\\?") + '"'


def comment(text: str) -> str:
    """Text that is safe behind ``//``: one line, no backslash at its end, not even as ??/."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    while "??" in plain:
        plain = plain.replace("??", "? ?")
    return plain.rstrip("\\ ")


def size(dim: Dim, names: Mapping[str, str]) -> str:
    """A size as a C++ expression over variables of type `sofie::Size`."""
    if isinstance(dim, int):
        return str(dim)
    text = ""
    for monomial, factor in dim.terms:
        sign = ("-" if factor < 0 else "") if not text else (" - " if factor < 0 else " + ")
        parts = [names[a] if isinstance(a, str) else _call(a, names) for a in monomial]
        if abs(factor) != 1 or not parts:
            parts.insert(0, str(abs(factor)))
        text += sign + " * ".join(parts)
    return text


def _call(atom: Function, names: Mapping[str, str]) -> str:
    kernel = {"//": "floor_div", "%": "modulo", "min": "smaller", "max": "larger"}[atom.name]
    return f"sofie::{kernel}({size(atom.left, names)}, {size(atom.right, names)})"
