"""ROOT files of strings, byte by byte: a field of a key can be wrong while the rest is right."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Any

from tests.fuzz_files.damage import NUMBERS, damaged, reworded
from tests.fuzz_files.values import changed, dumped

__all__ = ["Parts", "mutated", "parts_of", "sealed", "written"]

Parts = list[tuple[str, bytes]]
_BEGIN = 100
_DATE = 1711276032


@dataclass
class Wrong:
    """What is not as it should be: by the name of a field, what stands there instead."""

    fields: dict[str, int] = field(default_factory=dict)
    key: int = -1
    packed: bool = False

    def of(self, key: int, name: str, value: int, bits: int = 32) -> int:
        if key == self.key:
            value = self.fields.get(name, value)
        return value % 2**bits


def _string(text: bytes) -> bytes:
    if len(text) < 255:
        return bytes([len(text)]) + text
    return b"\xff" + struct.pack(">I", len(text)) + text


def _key(
    number: int,
    wrong: Wrong,
    kind: bytes,
    name: bytes,
    stored: int,
    length: int,
    at: int,
    parent: int,
) -> bytes:
    """The head of a record, which is also its entry in a list."""
    head = 26 + sum(len(_string(s)) for s in (kind, name, b""))
    fields = (
        ("bytes", head + stored, 32),
        ("version", 4, 16),
        ("length", length, 32),
        ("date", _DATE, 32),
        ("head", head, 16),
        ("cycle", 1, 16),
        ("at", at, 32),
        ("parent", parent, 32),
    )
    numbers = [wrong.of(number, n, v, bits) for n, v, bits in fields]
    return struct.pack(">IHIIHHII", *numbers) + _string(kind) + _string(name) + _string(b"")


def _packed(data: bytes) -> bytes:
    """Blocks as ROOT compresses them: what they are, and both lengths."""
    made = b""
    for start in range(0, len(data), 2**24 - 1):
        block = data[start : start + 2**24 - 1]
        packed = zlib.compress(block, 1)
        sizes = struct.pack("<I", len(packed))[:3] + struct.pack("<I", len(block))[:3]
        made += b"ZL\x08" + sizes + packed
    return made


def _string_object(text: bytes, wrong: Wrong, number: int) -> bytes:
    bits = wrong.of(number, "bits", 0x03000000)
    length = wrong.of(number, "text", len(text))
    held = _string(text) if length == len(text) else b"\xff" + struct.pack(">I", length) + text
    body = struct.pack(">HII", 1, 0, bits) + held
    return struct.pack(">IH", wrong.of(number, "object", 0x40000000 | (len(body) + 2)), 1) + body


def _directory(bytes_: int, names: int, at: int, parent: int, keys: int) -> bytes:
    uuid = struct.pack(">H", 1) + bytes(16)
    numbers = struct.pack(">HIIIIIII", 5, _DATE, _DATE, bytes_, names, at, parent, keys)
    return numbers + uuid + bytes(12)


def written(models: Sequence[tuple[str, Parts]], wrong: Wrong | None = None) -> bytes:
    """A file with these directories, each of these strings."""
    return _Writer(wrong or Wrong()).file(models)


class _Writer:
    def __init__(self, wrong: Wrong) -> None:
        self.wrong = wrong
        self.out = bytearray(_BEGIN)
        self.number = 0

    def record(self, kind: bytes, name: bytes, data: bytes, length: int, parent: int) -> bytes:
        """Append one; its entry for the list of keys."""
        key = _key(self.number, self.wrong, kind, name, len(data), length, len(self.out), parent)
        self.number += 1
        self.out += key + data
        return key

    def keys(self, entries: Sequence[bytes], parent: int) -> tuple[int, int]:
        """The list of these; where it is, and how long."""
        at = len(self.out)
        count = self.wrong.of(self.number, "count", len(entries))
        data = struct.pack(">I", count) + b"".join(entries)
        head = self.record(b"TDirectory", b"", data, len(data), parent)
        return at, len(head) + len(data)

    def file(self, models: Sequence[tuple[str, Parts]]) -> bytes:
        title = _string(b"f") + _string(b"")
        root_at = len(self.out)
        head = self.record(b"TFile", b"f", title + bytes(60), len(title) + 60, 0)
        names = len(head) + len(title)
        entries = [self.model(n, parts, root_at) for n, parts in models]
        at, size = self.keys(entries, root_at)
        here = root_at + names
        self.out[here : here + 60] = _directory(size, names, root_at, 0, at)
        self.out[:_BEGIN] = self.head(names)
        return bytes(self.out)

    def model(self, name: str, parts: Parts, parent: int) -> bytes:
        at = len(self.out)
        entry = self.record(b"TDirectory", name.encode(), bytes(60), 60, parent)
        place = at + len(entry)
        entries = [self.string(n, text, at) for n, text in parts]
        keys, size = self.keys(entries, at)
        self.out[place : place + 60] = _directory(size, len(entry), at, parent, keys)
        return entry

    def string(self, name: str, text: bytes, parent: int) -> bytes:
        data = _string_object(text, self.wrong, self.number)
        packed = _packed(data) if self.wrong.packed else data
        stored = packed if len(packed) < len(data) else data
        return self.record(b"TObjString", name.encode(), stored, len(data), parent)

    def head(self, names: int) -> bytes:
        numbers = (62400, _BEGIN, len(self.out), 0, 0, 0, names)
        fields = ("file", "begin", "end", "free", "freebytes", "nfree", "names")
        chosen = [self.wrong.of(-2, f, n) for f, n in zip(fields, numbers, strict=True)]
        head = b"root" + struct.pack(">7IBIII", *chosen, 4, 0, 0, 0) + struct.pack(">H", 1)
        return head.ljust(_BEGIN, b"\0")


# What is in a file that we wrote ------------------------------------------------------------------


def parts_of(data: bytes) -> tuple[str, Parts]:
    """The directory of the only model in a file, and its strings."""
    from sofie_rdf.ir.rootkeys import KeyFile

    with tempfile.TemporaryFile() as held:
        held.write(data)
        held.flush()
        file = KeyFile(held, "sample")
        ((name, directory),) = file.top().items()
        inside = file.inside(directory)
        return name, [(k, file.string(inside, k)) for k in sorted(inside)]


_SEAL = re.compile(r',"sha256":"[0-9a-f]{64}"\}$')


def sealed(text: bytes) -> bytes:
    """The description with the checksum that it should have."""
    body = _SEAL.sub("", text.decode("utf-8", "surrogatepass"))
    if body.endswith("}"):
        body = body[:-1]
    data = body.encode("utf-8", "surrogatepass")
    return data + b',"sha256":"' + hashlib.sha256(data).hexdigest().encode() + b'"}'


def _described(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _new_description(text: bytes, rng: Random) -> bytes:
    tree = json.loads(text)
    tree.pop("sha256", None)
    if rng.randrange(3) == 0:
        tree["graph"] = reworded(tree["graph"], rng, [])
    else:
        tree = changed(tree, rng)
    body = dumped(tree).encode("utf-8", "surrogatepass")
    return sealed(body) if rng.randrange(10) else body


def _new_parts(parts: Parts, rng: Random) -> Parts:
    """Another description, header or weights; checksums are right afterwards, most often."""
    held = dict(parts)
    choice = rng.randrange(6)
    if choice < 3:
        held["model"] = _new_description(held["model"], rng)
    elif choice < 5:
        name = rng.choice(("weights", "header"))
        held[name] = damaged(held[name], rng, ())
        if rng.randrange(4):
            tree = json.loads(held["model"])
            tree.pop("sha256", None)
            tree[name] = _described(held[name])
            text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
            held["model"] = sealed(text.encode())
    else:
        name = rng.choice(list(held))
        new = rng.choice(("weights_1", "model", "header", "weights", name + "_", "x"))
        held[new] = held.pop(name)
    made = list(held.items())
    if rng.randrange(8) == 0:
        made.append(rng.choice(parts))
    return made


def _wrong(rng: Random) -> Wrong:
    names = ("bytes", "version", "length", "head", "cycle", "at", "parent", "count", "bits", "text")
    more = ("file", "begin", "end", "names", "object")
    name = rng.choice((*names, *more))
    number = -2 if name in more[:4] else rng.randrange(12)
    value = rng.choice(NUMBERS) if rng.randrange(2) else rng.randrange(-2, 700)
    return Wrong({name: value}, number)


def mutated(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """A file of one model: bytes, fields of keys, the description, the rest; also two models."""
    known = _known(data)
    if known is None or rng.randrange(3) == 0:
        return damaged(data, rng, others)
    name, parts = known
    wrong = _wrong(rng) if rng.randrange(3) == 0 else Wrong()
    wrong.packed = rng.randrange(3) == 0
    if not wrong.fields:
        parts = _new_parts(parts, rng)
    models = [(name, parts)]
    if rng.randrange(8) == 0:
        models.append((rng.choice((name, "other", "%41", "x" * 200)), parts))
    made = written(models, wrong)
    return damaged(made, rng, ()) if rng.randrange(10) == 0 else made


@lru_cache(2000)
def _known(data: bytes) -> tuple[str, Parts] | None:
    """The parts of a file that has one model, None for any other."""
    try:
        name, parts = parts_of(data)
        known = {"model", "header", "weights"} <= {n for n, _ in parts}
        return (
            (name, parts) if known and isinstance(json.loads(dict(parts)["model"]), dict) else None
        )
    except Exception:  # A mutant that is mutated again.
        return None
