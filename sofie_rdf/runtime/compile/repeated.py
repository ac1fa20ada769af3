"""Calls with arrays of the types and shapes of an earlier call, of which all is known already.

A network of a few microseconds takes less time than to look at its arrays: what `bind_inputs` and
`Compiled.infer` find out is kept by the shapes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np

from sofie_rdf.runtime.compile.session import Compiled

__all__ = ["learn", "outputs_of"]

# The entry point `call` of a Session, with tables of pointers as bytes.
_CALL: Any = ctypes.CFUNCTYPE(
    ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p
)
# So many shapes are kept.
_MOST = 64


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of arrays of some shapes: their types, the sizes, and what the outputs are."""

    dtypes: tuple[np.dtype[Any], ...]
    sizes: Any
    outputs: tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]
    call: Any
    pack_inputs: Any
    pack_outputs: Any


def outputs_of(compiled: Compiled | None, arrays: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """One array or several by name, from any thread; None where nothing is known of such inputs."""
    if compiled is None:
        return None
    given, shapes = _in_order(compiled, arrays, named), []
    for array in given:
        if type(array) is not np.ndarray:
            return None
        shapes.append(array.shape)
    known = compiled.known.get(tuple(shapes))
    if known is None:
        return None
    for array, dtype in zip(given, known.dtypes, strict=True):
        if array.dtype is not dtype:
            return None
    try:
        inputs = known.pack_inputs(*map(_address, given))
    except (TypeError, ValueError, BufferError):  # It is read-only, or has gaps.
        return None
    found = [np.empty(shape, dtype) for _, shape, dtype in known.outputs]
    compiled.call(known.call, known.sizes, inputs, known.pack_outputs(*map(_address, found)))
    if len(found) == 1:
        return found[0]
    return {name: array for (name, _, _), array in zip(known.outputs, found, strict=True)}


def learn(
    compiled: Compiled,
    arrays: Sequence[Any],
    named: Mapping[str, Any],
    sizes: Mapping[str, int],
    outputs: Mapping[str, Any],
) -> None:
    """Keep what a call has found out, if calls of such arrays can be repeated."""
    graph, arrays = compiled.graph, _in_order(compiled, arrays, named)
    given = [a for a in arrays if type(a) is np.ndarray and a.size]
    types = [graph.types[name].dtype.numpy for name in graph.inputs]
    if len(given) != len(arrays) or [a.dtype for a in given] != types:
        return
    # Random numbers, sizes that the data decide, pieces of a batch, and lists are not for here.
    if compiled.drawn is not None or compiled.owned or compiled.step(given, sizes):
        return
    found = [outputs.get(name) for name in graph.outputs]
    if not all(type(a) is np.ndarray and a.size for a in found):
        return
    if len(compiled.known) >= _MOST:
        compiled.known.clear()
    compiled.known[tuple(a.shape for a in given)] = _Known(
        tuple(a.dtype for a in given),
        compiled.sizes(sizes),
        tuple((name, outputs[name].shape, outputs[name].dtype) for name in graph.outputs),
        _CALL(ctypes.cast(compiled.entries["call"], ctypes.c_void_p).value or 0),
        Struct(f"{len(given)}P").pack,
        Struct(f"{len(found)}P").pack,
    )


def _in_order(compiled: Compiled, arrays: Sequence[Any], named: Mapping[str, Any]) -> Sequence[Any]:
    """The arguments of a call in the model's order; something else where names are wrong."""
    if len(arrays) == 1 and not named and type(arrays[0]) is dict:
        arrays, named = [], arrays[0]
    if not named:
        return arrays
    names = compiled.graph.inputs
    if arrays or len(named) != len(names):
        return (None,)
    return [named.get(name) for name in names]


def _address(array: Any) -> int:
    """Where its memory is, if one may write there: this is three times as fast as asking NumPy."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array))
