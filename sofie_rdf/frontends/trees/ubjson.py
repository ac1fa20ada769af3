"""Universal Binary JSON, as XGBoost writes it: https://ubjson.org, draft 12.

Numbers are big-endian. Arrays of one type of numbers become NumPy arrays, other arrays lists.
A size that a file states is compared with what is left of the file before anything is made of it.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from sofie_rdf.errors import CorruptFile

__all__ = ["parse"]

_NUMBERS = {"i": "b", "U": "B", "I": "h", "l": "i", "L": "q", "d": "f", "D": "d"}
_FIXED = {"Z": None, "T": True, "F": False}
# XGBoost's own files have less than ten levels.
_DEEPEST = 100


def parse(content: bytes) -> Any:
    """What a file holds; `CorruptFile` for what is none."""
    reader = _Reader(content)
    found = reader.value(reader.marker(), 0)
    if any(c != ord("N") for c in content[reader.at :].rstrip(b"\0")):
        raise CorruptFile(f"goes on behind its end, at byte {reader.at}")
    return found


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if not 0 <= count <= len(self.content) - self.at:
            raise CorruptFile(f"is truncated or damaged at byte {self.at}")
        self.at += count
        return self.content[self.at - count : self.at]

    def marker(self) -> str:
        """The next byte that is not the marker for nothing."""
        found = "N"
        while found == "N":
            found = self.take(1).decode("latin-1")
        return found

    def number(self, kind: str) -> Any:
        """A number of the type that has this marker."""
        if kind not in _NUMBERS:
            raise CorruptFile(f"has the unknown type {kind!r} at byte {self.at}")
        form = ">" + _NUMBERS[kind]
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def length(self) -> int:
        """A size, which cannot be larger than what follows: everything takes a byte at least."""
        kind = self.marker()
        found = self.number(kind)
        if kind in "dD" or not 0 <= found <= len(self.content) - self.at:
            raise CorruptFile(f"states a size of {found} at byte {self.at}, which cannot be")
        return int(found)

    def text(self) -> str:
        """A text behind its marker, as which a key has none."""
        try:
            return self.take(self.length()).decode()
        except UnicodeDecodeError:
            raise CorruptFile(f"has a text that is none at byte {self.at}") from None

    def value(self, kind: str, depth: int) -> Any:
        """Anything, behind its marker."""
        if depth > _DEEPEST:
            raise CorruptFile(f"has more than {_DEEPEST} levels")
        if kind in _FIXED:
            return _FIXED[kind]
        if kind == "S":
            return self.text()
        if kind == "C":
            return self.take(1).decode("latin-1")
        if kind == "[":
            return self.array(depth + 1)
        if kind == "{":
            return self.object(depth + 1)
        return self.number(kind)

    def header(self) -> tuple[str, int]:
        """The type that all elements have, or "", and their number, or -1."""
        kind = ""
        if self.content[self.at : self.at + 1] == b"$":
            self.take(1)
            kind = self.marker()
            if kind in _FIXED or self.content[self.at : self.at + 1] != b"#":
                raise CorruptFile(f"has a list of a type that cannot be at byte {self.at}")
        if self.content[self.at : self.at + 1] != b"#":
            return kind, -1
        self.take(1)
        return kind, self.length()

    def array(self, depth: int) -> Any:
        """A list; an array where all its elements are numbers of one type."""
        kind, count = self.header()
        if kind in _NUMBERS:
            form = np.dtype(">" + np.dtype(_NUMBERS[kind]).str[1:])
            found = np.frombuffer(self.take(count * form.itemsize), form)
            return found.astype(form.newbyteorder("="))
        if count >= 0:
            return [self.value(kind or self.marker(), depth) for _ in range(count)]
        found_list = []
        while (own := self.marker()) != "]":
            found_list.append(self.value(own, depth))
        return found_list

    def object(self, depth: int) -> dict[str, Any]:
        """Keys, which are texts without marker, and values."""
        kind, count = self.header()
        found: dict[str, Any] = {}
        while count != 0:
            if count < 0 and self.content[self.at : self.at + 1] in (b"}", b"N"):
                if self.take(1) == b"}":
                    break
                continue
            key = self.text()
            if key in found:
                raise CorruptFile(f"has {key[:50]!r} twice in one object, at byte {self.at}")
            found[key] = self.value(kind or self.marker(), depth)
            count -= 1 if count > 0 else 0
        return found
