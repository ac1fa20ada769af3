"""Zip archives, and the pickles in them, changed member by member: their checksums are right."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random

from tests.fuzz_files.damage import damaged, reworded
from tests.fuzz_files.values import mutated_json

__all__ = ["Members", "mutated", "mutated_pickle", "packed", "unpacked"]

Members = list[tuple[str, bytes]]
_NAMES = (
    "../x",
    "/etc/x",
    "a\\b",
    "DATA.PKL",
    "x/data.pkl",
    "data.pkl",
    "x/models/model.jsom",
    "x/data/aotinductor/model/a.so",
    "model.weights.h5",
    "config.json",
    "é",
    "x" * 300,
    "x/code/y.py",
    "",
)


def unpacked(data: bytes) -> Members:
    """The members; none of what is no archive."""
    return list(_members(data))


@lru_cache(600)
def _members(data: bytes) -> tuple[tuple[str, bytes], ...]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return tuple((i.filename, archive.read(i)) for i in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError, EOFError):
        return ()


def packed(members: Members, rng: Random | None = None) -> bytes:
    """An archive of these, with the bytes of `zipfile`; some are deflated, if there is a choice."""
    made, directory = io.BytesIO(), []
    for name, data in members:
        deflated = rng is not None and rng.randrange(4) == 0
        held = zlib.compress(data, wbits=-15) if deflated else data
        text = name.replace("\0", "") or "_"
        flags, encoded = (0 if text.isascii() else 0x800), text.encode()
        # Version 2.0, the flags, the method, 1980-01-01, and what follows from the content.
        head = struct.pack(
            "<HHHHHIIIHH",
            *(20, flags, 8 if deflated else 0, 0, 0x21),
            *(zlib.crc32(data), len(held), len(data), len(encoded), 0),
        )
        # No comment, the first disk, no text, rights 0o600 of a file on Unix, and where it is.
        tail = struct.pack("<HHHII", 0, 0, 0, 0o600 << 16, made.tell())
        directory.append(b"PK\1\2\x14\3" + head + tail + encoded)
        made.write(b"PK\3\4" + head + encoded + held)
    count, start, size = len(members), made.tell(), sum(map(len, directory))
    end = struct.pack("<HHHHIIH", 0, 0, count, count, size, start, 0)
    return made.getvalue() + b"".join(directory) + b"PK\5\6" + end


Inner = Callable[[bytes, Random, Sequence[bytes]], bytes]


def _by_suffix(name: str, more: dict[str, Inner]) -> Inner:
    suffix = name.rsplit(".", 1)[-1]
    if suffix in more:
        return more[suffix]
    if suffix in ("pkl", "pt"):
        return mutated_pickle
    if suffix.startswith("jso"):
        return lambda data, rng, others: mutated_json(data, rng)
    if suffix == "py":
        return lambda data, rng, others: reworded(data.decode("utf-8", "replace"), rng, []).encode(
            "utf-8", "surrogatepass"
        )
    return damaged


def mutated(
    data: bytes, rng: Random, others: Sequence[bytes], more: dict[str, Inner] | None = None
) -> bytes:
    """Members changed as what they are, lost, doubled, renamed; sometimes the archive itself."""
    members = unpacked(data)
    if not members or rng.randrange(6) == 0:
        return _directory_changed(data, rng) if rng.randrange(2) else damaged(data, rng, others)
    for _ in range(1 + (rng.randrange(3) == 0)):
        at = _important(members, rng)
        name, content = members[at]
        match rng.randrange(12):
            case 0:
                del members[at]
            case 1:
                members.append((name, damaged(content, rng, ())))
            case 2:
                new = rng.choice((*_NAMES, *(n for n, _ in members)))
                top = name.split("/")[0]
                new = new.replace("x/", f"{top}/")
                members[at] = (new, content)
            case 3:
                new = rng.choice((name.upper(), name + "/", name[:-1], f"data/{name}", f"./{name}"))
                members.append((new, content))
            case 4 if others:
                donors = unpacked(rng.choice(others)) or members
                members.append(rng.choice(donors))
            case 5:
                donor = rng.choice(members)[1]
                members[at] = (name, donor)
            case _:
                members[at] = (name, _by_suffix(name, more or {})(content, rng, others))
        if not members:
            break
    return packed(members, rng)


def _important(members: Members, rng: Random) -> int:
    """One of them; what is more than plain numbers comes more often."""
    described = [i for i, (n, _) in enumerate(members) if "." in n.rsplit("/", 1)[-1]]
    return rng.choice(described) if described and rng.randrange(4) else rng.randrange(len(members))


def _directory_changed(data: bytes, rng: Random) -> bytes:
    """A field of a header in the archive: flags, method, sizes, checksums, names."""
    made = bytearray(data)
    marks = [b"PK\1\2"] * 3 + [b"PK\3\4", b"PK\5\6"]
    for _ in range(rng.choice((1, 1, 2))):
        mark = rng.choice(marks)
        places = []
        at = data.find(mark)
        while at >= 0 and len(places) < 64:
            places.append(at)
            at = data.find(mark, at + 4)
        if places:
            where = rng.choice(places) + 4 + rng.randrange(42)
            value = rng.choice((0, 1, 2, 8, 12, 14, 0x20, 0x40, 0xFF, rng.randrange(256)))
            if where < len(made):
                made[where] = value
    return bytes(made)


_GLOBALS = (
    b"cposix\nsystem\n",
    b"cbuiltins\neval\n",
    b"ctorch\nFloatStorage\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"csklearn.x\nY\n",
    b"c\xff\n\xfe\n",
)


def mutated_pickle(data: bytes, rng: Random, others: Sequence[bytes] = ()) -> bytes:
    """Opcodes lost, doubled, swapped, or with other texts and numbers; names of other functions."""
    pieces = _opcodes(data)
    if not pieces or rng.randrange(4) == 0:
        return damaged(data, rng, others)
    for _ in range(1 + min(rng.getrandbits(2), rng.getrandbits(2))):
        at = rng.randrange(len(pieces))
        match rng.randrange(7):
            case 0:
                del pieces[at]
            case 1:
                pieces.insert(at, rng.choice(pieces))
            case 2:
                pieces.insert(at, rng.choice(_GLOBALS))
            case 3:
                pieces[at] = rng.choice(pieces)
            case 4:
                pieces.insert(at, _text(rng))
            case 5:
                pieces.insert(
                    at, rng.choice((b"(", b"t", b"R", b"\x81", b"\x93", b"b", b"0", b"Q", b"."))
                )
            case _:
                pieces[at] = damaged(pieces[at], rng, ())
        if not pieces:
            return b""
    return b"".join(pieces)


def _text(rng: Random) -> bytes:
    text = rng.choice(
        ("torch", "os", "system", "FloatStorage", "cpu", "0", "x" * 300, "é")
    ).encode()
    lie = rng.choice((len(text), len(text), 2**32 - 1, 0))
    return b"X" + struct.pack("<I", lie) + text


def _opcodes(data: bytes) -> list[bytes]:
    try:
        starts = [place for _, _, place in pickletools.genops(data) if place is not None]
    except (ValueError, IndexError, OverflowError, pickle.UnpicklingError, UnicodeDecodeError):
        return []
    ends = [*starts[1:], len(data)]
    return [data[a:b] for a, b in zip(starts, ends, strict=True)]
