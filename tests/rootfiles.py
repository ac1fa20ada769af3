"""ROOT files byte by byte, so that they can say what no writer would."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

_BEGIN, _NAME = 100, 60


@dataclass(frozen=True)
class Thing:
    """An object as it is stored, and what its key says about it; a directory, if it has parts."""

    name: str
    stored: bytes = b""
    parts: Sequence[Thing] | None = None
    length: int | None = None
    type: str = "TObjString"
    cycle: int = 1
    # Numbers of its key that are to be something else: at, nbytes, head.
    lies: dict[str, int] = field(default_factory=dict)


def text(content: bytes) -> bytes:
    """A TObjString with these bytes."""
    size = bytes([len(content)]) if len(content) < 255 else struct.pack(">BI", 255, len(content))
    body = struct.pack(">HHIH", 1, 1, 0, 0x200)[:10] + size + content
    return struct.pack(">IH", 0x40000000 | (len(body) + 2), 1) + body


def blocks(packed: bytes, size: int, count: int = 1, method: bytes = b"ZS\1") -> bytes:
    """Blocks as ROOT's compression writes them, all of them the same."""
    one = method + struct.pack("<I", len(packed))[:3] + struct.pack("<I", size)[:3] + packed
    return one * count


def model(name: str, json: bytes, header: bytes = b"", weights: bytes = b"") -> Thing:
    """A directory with these strings."""
    parts = {"model": json, "header": header, "weights": weights}
    return Thing(name, parts=[Thing(key, text(data)) for key, data in parts.items()])


def _key(thing: Thing, at: int, stored: bytes) -> bytes:
    strings = b"".join(bytes([len(s)]) + s for s in (thing.type.encode(), thing.name.encode(), b""))
    head = 26 + len(strings)
    numbers = {"nbytes": head + len(stored), "head": head, "at": at, **thing.lies}
    length = len(stored) if thing.length is None else thing.length
    fixed = struct.pack(
        ">iHiIHHII",
        numbers["nbytes"] & 0x7FFFFFFF,
        4,
        length,
        0,
        numbers["head"] & 0xFFFF,
        thing.cycle,
        numbers["at"] & 0xFFFFFFFF,
        _BEGIN,
    )
    return fixed + strings


def root_file(things: Sequence[Thing]) -> bytes:
    """The file; it has neither a list of free segments nor one of classes."""
    out = bytearray(_BEGIN + _NAME + 30)
    record = _directory(out, things)
    out[_BEGIN + _NAME : _BEGIN + _NAME + 30] = record
    out[:4] = b"root"
    struct.pack_into(">IIIIIII", out, 4, 62400, _BEGIN, len(out), 0, 0, 1, _NAME)
    return bytes(out)


def _directory(out: bytearray, things: Sequence[Thing]) -> bytes:
    """Put everything behind what is there; the record of the directory."""
    keys = []
    for thing in things:
        if thing.parts is not None:
            stored = _directory(out, thing.parts)
            thing = Thing(thing.name, stored, type="TDirectory", cycle=thing.cycle, lies=thing.lies)
        else:
            stored = thing.stored
        key = _key(thing, len(out), stored)
        keys.append(key)
        out += key + stored
    listed = struct.pack(">I", len(keys)) + b"".join(keys)
    head = _key(Thing("keys", type="TFile"), len(out), listed)
    at, count = len(out), len(head) + len(listed)
    out += head + listed
    return struct.pack(">HIIIIIII", 5, 0, 0, count, _NAME, _BEGIN, 0, at)
