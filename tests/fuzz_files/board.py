"""What a child is doing, in memory that the parent sees, too: no file is opened for a mutant."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

__all__ = ["MAKING", "NOTHING", "TRYING", "Board"]

_HEAD = struct.Struct("<4Q")
_LARGEST = 2**24
NOTHING, MAKING, TRYING = range(3)


class Board:
    """The number of the mutant, what is being done with it, how many were read, and its bytes."""

    def __init__(self, folder: Path) -> None:
        path = folder / "board"
        if not path.exists():
            with path.open("wb") as file:
                file.truncate(_HEAD.size + _LARGEST)
        with path.open("r+b") as file:
            self._held = mmap.mmap(file.fileno(), 0)

    def write(self, stage: int, number: int, loaded: int, data: bytes | None = None) -> None:
        size = self.read()[3]
        if data is not None:
            size = min(len(data), _LARGEST)
            self._held[_HEAD.size : _HEAD.size + size] = data[:size]
        _HEAD.pack_into(self._held, 0, stage, number, loaded, size)

    def read(self) -> tuple[int, int, int, int]:
        """The stage, the number, how many were read, and how long the mutant is."""
        stage, number, loaded, size = _HEAD.unpack_from(self._held)
        return stage, number, loaded, size

    @property
    def mutant(self) -> bytes:
        """The bytes of the last one."""
        return self._held[_HEAD.size : _HEAD.size + self.read()[3]]
