"""Weight files, and the same as text in headers: damaged, and with a table or checksum made anew.

The first byte of a mutant says what it is: of ``DAMAGED`` the reader must see that; with a right
checksum a file may hold any numbers, and must only not be read beyond its end.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from random import Random

import numpy as np

from tests.fuzz_files.damage import NUMBERS, damaged

__all__ = ["DAMAGED", "SEALED", "mutated", "mutated_text", "text_of"]

DAMAGED, SEALED = b"\0", b"\1"
_HEAD = 32


def mutated(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Of a file that has its mark in front."""
    held = data[1:]
    if rng.randrange(3) == 0:
        return SEALED + _sealed(_with_other_table(held, rng))
    made = _worn(held, rng) if rng.randrange(2) else damaged(held, rng, [o[1:] for o in others])
    return DAMAGED + made


def _worn(data: bytes, rng: Random) -> bytes:
    """What memories and disks do: a bit in several words, blocks that are lost or change places."""
    made = bytearray(data)
    words = max(1, len(made) // 8)
    match rng.randrange(4):
        case 0:
            bit = rng.choice((63, 62, 31, rng.randrange(64)))
            for _ in range(rng.choice((2, 2, 4))):
                at = 8 * rng.randrange(words) + bit // 8
                if at < len(made):
                    made[at] ^= 1 << bit % 8
        case 1:
            size = 8 * rng.choice((1, 2, 8, 64))
            a, b = (8 * rng.randrange(words) for _ in range(2))
            made[a : a + size], made[b : b + size] = made[b : b + size], made[a : a + size]
            del made[len(data) :]
        case 2:
            size, at = 8 * rng.choice((1, 2, 8, 64)), 8 * rng.randrange(words)
            made[at : at + size] = bytes(len(made[at : at + size]))
        case _:
            size, at = 8 * rng.choice((1, 8)), 8 * rng.randrange(words)
            made[at : at + size] = bytes(255 - b for b in made[at : at + size])
    return bytes(made)


def _with_other_table(data: bytes, rng: Random) -> bytes:
    """A number of the head or of the table is another."""
    made = bytearray(data)
    count = struct.unpack_from("<Q", made, 16)[0]
    at = (
        8 + 8 * rng.randrange(3) if rng.randrange(3) == 0 else 32 + 8 * rng.randrange(2 * count + 1)
    )
    if at + 8 <= len(made):
        old = struct.unpack_from("<Q", made, at)[0]
        new = old + rng.choice((1, -1, 64, -64, 8)) if rng.randrange(2) else rng.choice(NUMBERS)
        struct.pack_into("<Q", made, at, new % 2**64)
    return bytes(made[: len(made) - 8 * rng.choice((0, 0, 0, 1, 8))])


def _sealed(data: bytes) -> bytes:
    """The file with the checksum that it should have."""
    from sofie_rdf.emit import weights

    parts = (
        np.frombuffer(part[: len(part) // 8 * 8], np.uint8) for part in (data[:24], data[_HEAD:])
    )
    total = sum(weights._checksum([part]) for part in parts)
    return data[:24] + struct.pack("<Q", total % 2**64) + data[_HEAD:]


_LINE = 64


def text_of(data: bytes) -> bytes:
    """The lines of base64 that stand in a header for a file, behind the mark."""
    text = base64.b64encode(data[1:])
    return data[:1] + b"\n".join(text[i : i + _LINE] for i in range(0, len(text), _LINE))


def mutated_text(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """The text is damaged, or that of a damaged file."""
    if rng.randrange(2):
        return DAMAGED + damaged(data[1:], rng, [o[1:] for o in others])
    whole = base64.b64decode(data[1:].replace(b"\n", b""))
    return text_of(mutated(data[:1] + whole, rng, ()))
