"""Sessions of emitted headers in PyROOT: arrays are looked at before C++ sees their memory.

PyROOT passes the address of an array wherever C++ takes a pointer, however short the array is, and
makes a std::vector<float> of the bytes of integers.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from sofie_rdf.errors import InputError
from sofie_rdf.ir.given import as_array
from sofie_rdf.ir.types import Array

__all__ = ["guard"]

_DTYPES = {
    "float": "float32",
    "double": "float64",
    "bool": "bool",
    **{f"{u}int{bits}_t": f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)},
    "signed char": "int8",
    "unsigned char": "uint8",
    "short": "int16",
    "unsigned short": "uint16",
    "int": "int32",
    "unsigned int": "uint32",
    "long": "int64",
    "unsigned long": "uint64",
}
_VECTOR = re.compile(r"^const (?:std::)?vector<([^<>]+)>& (\w+)$")
_RESULT = re.compile(r"^(?:std::)?vector<([^<>]+)>& (\w+)$")


class _Ports:
    """The inputs and outputs of `infer`: type and name of each, as PyROOT documents it."""

    def __init__(self, documentation: str) -> None:
        self.inputs: list[tuple[str, str]] = []
        self.outputs: list[tuple[str, str]] = []
        for listed in re.findall(r"infer\((.*)\)", documentation):
            parts = [p.strip() for p in listed.replace("std::", "").split(",")]
            inputs = [(m[1], m[2]) for p in parts if (m := _VECTOR.match(p))]
            outputs = [(m[1], m[2]) for p in parts if (m := _RESULT.match(p))]
            if inputs and len(outputs) >= len(self.outputs):
                self.inputs, self.outputs = inputs, outputs


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array_interface__") and not hasattr(type(value), "__cpp_name__")


def guard(session: Any, root: Any) -> None:
    """Let `infer` of this class of PyROOT check arrays: their element type, then their number.

    Where a network takes bools there are only pointers, and nothing is changed.
    """
    original = getattr(session, "infer", None)
    ports = _Ports(str(getattr(original, "__doc__", "") or ""))
    if original is None or not ports.inputs:
        return

    def infer(self: Any, *arguments: Any) -> Any:
        if not any(map(_is_array, arguments)):
            return original(self, *arguments)
        # Sizes come first.
        first = next(i for i, a in enumerate(arguments) if np.ndim(a) or _is_array(a))
        ins = arguments[first : first + len(ports.inputs)]
        outs = arguments[first + len(ports.inputs) :]
        made = [_vector(root, a, *p) for a, p in zip(ins, ports.inputs, strict=False)]
        if not any(map(_is_array, outs)):
            return original(self, *arguments[:first], *made, *outs)
        results = original(self, *arguments[:first], *made)
        parts = [root.std.get[i](results) for i in range(len(outs))] if len(outs) > 1 else [results]
        for port, result, out in zip(ports.outputs, parts, outs, strict=True):
            _copy(np.asarray(result), out, *port)
        return None

    infer.__doc__ = original.__doc__
    session.infer = infer


def _dtype(type_: str) -> np.dtype[Any]:
    return np.dtype(_DTYPES.get(type_, type_))


def _vector(root: Any, value: Any, type_: str, name: str) -> Any:
    """An array as a std::vector of its elements in row-major order; all else as it is."""
    if not _is_array(value):
        return value
    elements, wanted = as_array(value, f"the array for {name}"), _dtype(type_)
    if elements.dtype != wanted:
        raise InputError(
            f"infer takes {name} as an array of {wanted}, not of {elements.dtype}",
            remedy=f"array.astype(numpy.{wanted})",
        )
    flat = np.ascontiguousarray(elements).reshape(-1)
    return root.std.vector[type_](flat) if flat.size else root.std.vector[type_]()


def _copy(result: Array, out: Any, type_: str, name: str) -> None:
    """Copies what `infer` has given to the caller's array."""
    if not _is_array(out) or out.dtype != _dtype(type_) or out.size != result.size:
        raise InputError(
            f"infer gives {result.size} numbers of type {_dtype(type_)} as {name}",
            remedy="Pass an array of that size and type",
        )
    out[...] = result.reshape(out.shape)
