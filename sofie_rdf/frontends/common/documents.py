"""Objects of JSON in which each key stands once: of two, readers take the first or the last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sofie_rdf.errors import doubled

__all__ = ["once", "parsed"]

_SHOWN = 50


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values; ValueError where a key stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        text = repr(doubled(key for key, _ in pairs))
        shown = f"{text[:_SHOWN]}..." if len(text) > _SHOWN else text
        raise ValueError(f"{shown} stands twice in one object")
    return found


def parsed(text: bytes | str) -> Any:
    """What a document says; ValueError where that is not clear, RecursionError for a deep one."""
    return json.loads(text, object_pairs_hook=once)
