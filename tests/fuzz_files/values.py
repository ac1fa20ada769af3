"""Trees of values (JSON, UBJSON), changed where they have a meaning."""

from __future__ import annotations

import json
import marshal
import re
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random
from typing import Any

from tests.fuzz_files.damage import NUMBERS

__all__ = ["changed", "copied", "dumped", "mutated_json", "ubjson"]

_TEXTS = (
    "",
    "\0",
    "\ud800",
    "é" * 9,
    "../../x",
    "/etc/passwd",
    "a" * 5000,
    "nan",
    "x); system(",
    '"',
    "__class__",
    "0",
    "-1",
    "N",
    "float32",
)
_FLOATS = (float("nan"), float("inf"), float("-inf"), 1e308, -0.0, 0.5, 1e-320)


# Marks in texts, which JSON writes as \\u0001 etc.: what stands between the first is no text, and
# what follows the second is no part of a key.
_BARE, _AGAIN = "\1", "\2"


def _bare(text: str) -> str:
    """What stands in JSON as it is: numbers that Python would not write."""
    return f"{_BARE}{text}{_BARE}"


_BARES = tuple(map(_bare, ("1e400", "-0", "1E5", "1.0", "NaN", "Infinity", "9" * 5000, "[" * 3000)))


def _odd(rng: Random) -> Any:
    match rng.randrange(8):
        case 0 | 1:
            return rng.choice(NUMBERS)
        case 2:
            return rng.choice(_FLOATS)
        case 3:
            return rng.choice(_TEXTS)
        case 4:
            return rng.choice((None, True, False))
        case 5:
            return rng.choice(([], {}, [[]], [None], {"": None}, [0] * 40, [[[[[]]]]]))
        case 6:
            return rng.choice(_BARES)
        case _:
            return rng.randrange(-2, 20)


def _near(value: Any, rng: Random) -> Any:
    """A value of the same type, or the same in another type."""
    if isinstance(value, bool) or value is None:
        return _odd(rng)
    if isinstance(value, int):
        return rng.choice(
            (value + 1, value - 1, -value, value * 2, float(value), str(value), [value])
        )
    if isinstance(value, float):
        return rng.choice(
            (-value, value * 1e30, int(value) if abs(value) < 1e300 else 0, str(value))
        )
    if isinstance(value, str):
        return rng.choice(
            (value[:-1], value + value, value.upper(), [value], value + "\0", value + "_1")
        )
    return _odd(rng)


def _places(value: Any, found: list[tuple[Any, Any]]) -> None:
    """All places in a tree: what holds the value, and under which key."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        found.append((value, key))
        if isinstance(inner, (dict, list)):
            _places(inner, found)


def changed(tree: Any, rng: Random, others: Sequence[Any] = ()) -> Any:
    """The tree after a few changes: types, numbers, keys that are lost, renamed or doubled."""
    root = [tree]
    places: list[tuple[Any, Any]] = []
    _places(root, places)
    for _ in range(1 + min(rng.getrandbits(3), rng.getrandbits(3))):
        holder, key = rng.choice(places)
        try:
            _change(holder, key, rng, places, others)
        except (KeyError, IndexError):  # It is gone since.
            continue
    return root[0] if root else None


def _change(
    holder: Any, key: Any, rng: Random, places: list[tuple[Any, Any]], others: Sequence[Any]
) -> None:
    value = holder[key]
    match rng.randrange(9):
        case 0:
            holder[key] = _odd(rng)
        case 1 | 2:
            holder[key] = _near(value, rng)
        case 3:
            del holder[key]
        case 4:
            other, where = rng.choice(places)
            holder[key] = copied(other[where])
        case 5 if isinstance(holder, dict):
            name = rng.choice((*_TEXTS, *(str(k) for _, k in rng.choices(places, k=4))))
            holder[name] = holder.pop(key)
        case 5:
            holder.insert(key, copied(value))
        case 6 if isinstance(value, list) and value:
            rng.shuffle(value)
        case 6 if isinstance(value, dict) and value:
            # The same key once more, with another value.
            again = rng.choice(list(value))
            holder[key] = {again + _AGAIN: _near(value[again], rng), **value}
            if rng.randrange(2):
                holder[key] = {**value, again + _AGAIN: _near(value[again], rng)}
        case 7 if others:
            inner: list[tuple[Any, Any]] = []
            _places([rng.choice(others)], inner)
            same = [v[k] for v, k in inner if k == key] or [value]
            holder[key] = copied(rng.choice(same))
        case _:
            holder[key] = _near(value, rng) if rng.randrange(2) else _odd(rng)


_MARKED = re.compile(r'"\\u0001([^"\\]*)\\u0001"|\\u000[12]')


def dumped(value: Any) -> str:
    """JSON, with the keys that stand twice and with numbers as Python does not write them."""
    try:
        return _MARKED.sub(lambda found: found[1] or "", json.dumps(value))
    except (RecursionError, ValueError, TypeError):
        return "{}"


def copied(value: Any) -> Any:
    """The same value, in objects of its own."""
    return marshal.loads(marshal.dumps(value))


@lru_cache(600)
def _parsed(data: bytes) -> Any:
    """The value of these bytes, of which `copied` may be changed."""
    return json.loads(data)


def mutated_json(data: bytes, rng: Random, others: Sequence[bytes] = ()) -> bytes:
    """JSON that is changed as a tree; what is none stays."""
    try:
        tree = copied(_parsed(data))
        more = [_parsed(rng.choice(others))] if others else []
    except (ValueError, RecursionError):
        return data
    return dumped(changed(tree, rng, more)).encode("utf-8", "surrogatepass")


# UBJSON -------------------------------------------------------------------------------------------


def _usually(rng: Random | None, times: int) -> bool:
    return rng is None or rng.randrange(times) > 0


def _length(number: int) -> bytes:
    return b"L" + struct.pack(">q", number)


def _number(value: int, rng: Random | None) -> bytes:
    for marker, form in (("i", ">b"), ("U", ">B"), ("I", ">h"), ("l", ">i"), ("L", ">q")):
        low, high = _range(form)
        if low <= value <= high and _usually(rng, 8):
            return marker.encode() + struct.pack(form, value)
    return b"D" + struct.pack(">d", float(max(min(value, 2**80), -(2**80))))


def _range(form: str) -> tuple[int, int]:
    bits = 8 * struct.calcsize(form)
    return (0, 2**bits - 1) if form[1].isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


_TYPED: dict[type, tuple[bytes, Callable[[Any], bytes]]] = {
    int: (b"l", lambda v: struct.pack(">i", v)),
    float: (b"d", lambda v: struct.pack(">f", v)),
}


def ubjson(value: Any, rng: Random | None) -> bytes:
    """The value as UBJSON: lists of numbers of one type in the short form, as XGBoost has them.

    With random numbers some are in another form, or lie about their size.
    """
    match value:
        case None:
            return b"Z"
        case bool():
            return b"T" if value else b"F"
        case int():
            return _number(value, rng)
        case float():
            return b"d" + _float(value)
        case str():
            data = value.encode("utf-8", "surrogatepass")
            return b"S" + _length(len(data)) + data
        case dict():
            items = [(str(k).replace(_AGAIN, ""), v) for k, v in value.items()]
            keys = [k.encode("utf-8", "surrogatepass") for k, _ in items]
            held = [
                _length(len(k)) + k + ubjson(v, rng) for k, (_, v) in zip(keys, items, strict=True)
            ]
            return b"{" + b"".join(held) + b"}"
        case _:
            return _list(list(value), rng)


def _float(value: float) -> bytes:
    try:
        return struct.pack(">f", value)
    except OverflowError:
        return struct.pack(">f", float("inf"))


def _list(items: list[Any], rng: Random | None) -> bytes:
    kinds = {type(i) for i in items}
    if len(kinds) == 1 and (kind := kinds.pop()) in _TYPED and _usually(rng, 8):
        marker, packed = _TYPED[kind]
        try:
            held = b"".join(map(packed, items))
        except (struct.error, OverflowError):
            held = None
        if held is not None:
            lie = len(items) if rng is None or _usually(rng, 30) else rng.choice(NUMBERS) % 2**63
            return b"[$" + marker + b"#" + _length(lie) + held
    return b"[" + b"".join(ubjson(i, rng) for i in items) + b"]"
