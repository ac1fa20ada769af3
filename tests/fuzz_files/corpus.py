"""What was found once: files that did harm, each with a line that says which."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["FOLDER", "Entry", "add", "entries"]

FOLDER = Path(__file__).resolve().parent / "corpus"


class Entry(NamedTuple):
    """The kind, what the file did, and its bytes."""

    kind: str
    did: str
    data: bytes


def entries() -> Iterator[Entry]:
    """All of them: lines ``# what it did``, each with a line of base64 behind it."""
    for path in sorted(FOLDER.glob("*.txt")):
        lines = path.read_text().splitlines()
        for did, text in zip(lines[::2], lines[1::2], strict=True):
            yield Entry(path.stem, did.removeprefix("# "), base64.b64decode(text))


def add(kind: str, did: str, data: bytes) -> None:
    """One more, if it is not there yet."""
    if all(entry.data != data for entry in entries() if entry.kind == kind):
        with (FOLDER / f"{kind}.txt").open("a") as file:
            file.write(f"# {did}\n{base64.b64encode(data).decode()}\n")
