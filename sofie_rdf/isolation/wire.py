"""Values between two processes as JSON and raw arrays: reading them can run nothing.

A message is the length of its JSON, the JSON, and then the bytes of all arrays in their order.
The JSON is null, numbers, texts and true and false as they are, and of everything else a list of a
word and what belongs to it: ``["tuple", ...]``, ``["array", dtype, shape]``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

from sofie_rdf import errors
from sofie_rdf.errors import SofieError
from sofie_rdf.ir.types import Array, DType

__all__ = ["Malformed", "parts", "reader"]

# No description of a result is longer than this.
_LONGEST = 2**30
_PLAIN_KINDS = "biufcS"
# bfloat16 and the like, which a package has added to NumPy.
_USER_DEFINED = 2
_OTHERS = {d.value for d in DType}


class Malformed(Exception):
    """Bytes that no message consists of."""


def parts(value: Any) -> Iterator[bytes | memoryview]:
    """The message that says ``value``, piece by piece; `TypeError` for what cannot be sent."""
    arrays: list[Array] = []
    text = json.dumps(_described(value, arrays), separators=(",", ":")).encode()
    yield len(text).to_bytes(8, "little")
    yield text
    for array in arrays:
        if array.nbytes:
            yield array.reshape(-1).view(np.uint8).data


def _described(value: Any, arrays: list[Array]) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return ["float", value.hex()]  # NaN and infinity, too.
    if isinstance(value, (list, tuple)):
        word = "list" if isinstance(value, list) else "tuple"
        return [word, *(_described(v, arrays) for v in value)]
    if isinstance(value, dict):
        items = (_described(v, arrays) for pair in value.items() for v in pair)
        return ["dict", *items]
    if isinstance(value, SofieError):
        return ["error", type(value).__name__, value.thing, value.place, value.remedy]
    if isinstance(value, bytes):
        arrays.append(np.frombuffer(value, np.uint8))
        return ["bytes", len(value)]
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        name = _dtype_name(array.dtype)
        arrays.append(np.ascontiguousarray(array))
        return ["array", name, list(array.shape)]
    raise TypeError(f"a {type(value).__name__} cannot be sent between processes")


def _dtype_name(dtype: np.dtype[Any]) -> str:
    if dtype.isbuiltin == _USER_DEFINED and dtype.name in _OTHERS:
        return str(dtype.name)
    if dtype.kind in _PLAIN_KINDS:
        return str(dtype.str)
    raise TypeError(f"an array of {dtype} cannot be sent between processes")


# Reading ------------------------------------------------------------------------------------------


def reader(most: float = math.inf) -> Generator[memoryview, None, Any]:
    """Gives one piece of memory after another, to be filled with the message, and then its value.

    `Malformed` where it is none; `MemoryError` where its arrays are more than ``most`` bytes.
    """
    size = bytearray(8)
    yield memoryview(size)
    length = int.from_bytes(size, "little")
    if length > min(_LONGEST, most + 2**20):
        raise Malformed(f"a description of {length} bytes")
    text = bytearray(length)
    yield memoryview(text)
    try:
        described = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from error
    arrays: list[Array] = []
    try:
        value = _value(described, arrays)
    except (TypeError, ValueError, IndexError, RecursionError, OverflowError) as error:
        raise Malformed(str(error)) from error
    if sum(a.nbytes for a in arrays) > most:
        raise MemoryError
    for array in arrays:
        if array.nbytes:
            yield array.reshape(-1).view(np.uint8).data
        if array.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
            raise Malformed("what is no bool")
    return _filled(value)


class _Bytes(np.ndarray[Any, Any]):
    """An array that stands for bytes until it is filled."""


def _value(described: Any, arrays: list[Array]) -> Any:
    """The value, whose arrays are still empty."""
    if not isinstance(described, list):
        return described
    word, *rest = described
    if word in ("list", "tuple"):
        values = [_value(r, arrays) for r in rest]
        return values if word == "list" else tuple(values)
    if word == "dict":
        keys, values = (
            [_value(r, arrays) for r in rest[0::2]],
            [_value(r, arrays) for r in rest[1::2]],
        )
        return dict(zip(keys, values, strict=True))
    if word == "float" and len(rest) == 1:
        return float.fromhex(rest[0])
    if word == "error":
        return _error(*rest)
    if word == "bytes":
        (size,) = rest
        arrays.append(_empty(np.dtype(np.uint8), [size]))
        return arrays[-1].view(_Bytes)
    if word == "array":
        name, shape = rest
        arrays.append(_empty(_dtype(name), shape))
        return arrays[-1]
    raise Malformed(f"the word {word!r:.40}")


def _empty(dtype: np.dtype[Any], shape: list[int]) -> Array:
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 64:
        raise Malformed("a shape that cannot be true")
    # Memory that nothing was written to takes no room, so a lie about sizes costs nothing.
    return np.empty(shape, dtype)


def _dtype(name: Any) -> np.dtype[Any]:
    if not isinstance(name, str):
        raise Malformed("an element type that is no text")
    if name in _OTHERS:
        return DType(name).numpy
    dtype = np.dtype(name)
    if dtype.kind not in _PLAIN_KINDS:
        raise Malformed(f"the element type {name!r:.40}")
    return dtype


def _error(name: str, thing: str, place: str, remedy: str) -> SofieError:
    kind = getattr(errors, name, None) if name in errors.__all__ else None
    if not (isinstance(kind, type) and issubclass(kind, SofieError)):
        raise Malformed(f"the error {name!r:.40}")
    return kind(str(thing), place=str(place), remedy=str(remedy))


def _filled(value: Any) -> Any:
    """The value with bytes where arrays stood for them."""
    if isinstance(value, _Bytes):
        return value.tobytes()
    if isinstance(value, list):
        return [_filled(v) for v in value]
    if isinstance(value, tuple):
        return tuple(_filled(v) for v in value)
    if isinstance(value, dict):
        return {key: _filled(v) for key, v in value.items()}
    return value
