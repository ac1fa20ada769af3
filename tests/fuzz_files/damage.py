"""Bytes and lines of text that are changed without regard for what they mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from random import Random

__all__ = ["NUMBERS", "damaged", "number_text", "reworded"]

# At the edges of what types hold, and where arithmetic on sizes overflows.
NUMBERS: tuple[int, ...] = tuple(
    sign * (2**power + offset)
    for power in (0, 3, 7, 8, 15, 16, 24, 31, 32, 40, 53, 62, 63, 64, 70)
    for offset in (-1, 0, 1)
    for sign in (1, -1)
)
_FLOATS = ("nan", "inf", "-inf", "-0.0", "1e308", "1e-320", "1e400", "0.5", "1e999999999")


def damaged(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """A few changes: bits, bytes, pieces that are lost, repeated, moved, or of another file."""
    made = bytearray(data)
    for _ in range(1 + min(rng.getrandbits(4), rng.getrandbits(4))):
        if not made:
            made += b"\0"
        at = rng.randrange(len(made))
        length = min(1 << rng.randrange(8), len(made) - at)
        match rng.randrange(9):
            case 0:
                made[at] ^= 1 << rng.randrange(8)
            case 1:
                made[at] = rng.randrange(256)
            case 2:
                del made[at : at + length]
            case 3:
                made[at:at] = made[at : at + length]
            case 4:
                made[at:at] = rng.randbytes(length)
            case 5:
                _overwrite(made, at, _packed(rng))
            case 6:
                other = rng.choice(others) if others else data
                start = rng.randrange(len(other) + 1)
                made[at : at + length] = other[start : start + length]
            case 7:
                _overwrite(made, at, rng.choice((b"\0", b"\xff")) * length)
            case _:
                if rng.randrange(4) == 0:
                    del made[at:]
                else:
                    made[at] = (made[at] + rng.choice((-1, 1))) % 256
    return bytes(made)


def _overwrite(made: bytearray, at: int, piece: bytes) -> None:
    piece = piece[: len(made) - at]
    made[at : at + len(piece)] = piece


def _packed(rng: Random) -> bytes:
    width = rng.choice((1, 2, 4, 8))
    number = rng.choice(NUMBERS) % 256**width
    return number.to_bytes(width, rng.choice(("big", "little")))


def number_text(rng: Random) -> str:
    """A number as text, most often one that is not expected."""
    if rng.randrange(3) == 0:
        return rng.choice(_FLOATS)
    return str(rng.choice(NUMBERS) if rng.randrange(2) else rng.randrange(-2, 20))


_TOKEN = re.compile(r"[A-Za-z_]\w*|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|\S")


def reworded(text: str, rng: Random, others: Sequence[str]) -> str:
    """Text whose lines and words are changed: replaced, lost, doubled, swapped."""
    lines = text.split("\n")
    for _ in range(1 + min(rng.getrandbits(3), rng.getrandbits(3))):
        at = rng.randrange(len(lines))
        match rng.randrange(8):
            case 0:
                del lines[at]
            case 1:
                lines.insert(rng.randrange(len(lines) + 1), lines[at])
            case 2:
                other = rng.choice(others or [text]).split("\n")
                lines[at] = rng.choice(other)
            case _:
                lines[at] = _with_other_words(lines[at], rng, text)
        lines = lines or [""]
    return "\n".join(lines)


def _with_other_words(line: str, rng: Random, text: str) -> str:
    # Of a long line, a word that is not far from any place.
    start = rng.randrange(max(1, len(line) - 300))
    found = list(_TOKEN.finditer(line, start, start + 400))
    if not found:
        return line + rng.choice((" ", "\t", "\0", "=", "{"))
    token = rng.choice(found)
    word = token.group()
    match rng.randrange(6):
        case 0:
            new = ""
        case 1:
            new = f"{word} {word}"
        case 2:
            behind = _TOKEN.finditer(text, rng.randrange(max(1, len(text) - 60)))
            new = rng.choice([found.group() for found in islice(behind, 20)] or [word])
        case 3:
            new = rng.choice(("é", "\ud800", '"', "'", "\\", "(", "[" * 300, "\r", "None", "//"))
        case _:
            new = number_text(rng)
    return line[: token.start()] + new + line[token.end() :]
