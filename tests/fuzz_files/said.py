"""What Python reads in a .root file, in the words of native/main.cxx."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

__all__ = ["said"]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def said(path: Path, name: str) -> str:
    """Four checksums: of the model as it says, of its code, its weights, and its description."""
    from sofie_rdf.ir import rootfile

    with rootfile._opened(path) as file:
        directory, text, _ = rootfile._found(file, name)
        size = rootfile.weight_bytes(text, name)
        weights = rootfile._weights(file, file.inside(directory), size)
    stored = rootfile.load(path, name)
    header = stored.macro.header.encode("utf-8", "surrogateescape")
    document = json.loads(text)
    del document["sha256"]  # C++ reads it as what it is: the end of the text.
    tree = _described(document)
    return f"{stored.sha256} {_hash(header)} {_hash(weights)} {_hash(tree.encode())}"


def _described(value: Any) -> str:
    """As `said` in C++: whole numbers that are sizes, texts, lists, objects, and others."""
    match value:
        case dict() if value:
            items = (_hash(_bytes(k))[:8] + _described(v) for k, v in value.items())
            return "{" + "".join(items) + "}"
        case list() if value:
            return "[" + "".join(map(_described, value)) + "]"
        case str():
            return "t" + _hash(_bytes(value))[:8]
        case bool():
            return "o"
        case int() if 0 <= value < 10**18:
            return f"n{value}"
        case _:
            return "o"
