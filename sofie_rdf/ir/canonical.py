"""JSON of which there is one text for each value, so that all readers see the same in it.

Texts, whole numbers of at most 18 digits, lists and objects with sorted keys, without blanks, in
ASCII. cling/sofie/rdf/json.hxx reads the same and no more: Python decides what a macro may run, and
the macro must not find anything else in the text than Python did.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sofie_rdf import limits

__all__ = ["canonical", "parsed"]

_DEEPEST = 16
_LARGEST = 10**18
# What a value takes in memory for each character of its text, at most.
_COST = 40


def canonical(document: Mapping[str, Any]) -> str:
    """The text of a document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def parsed(text: str) -> dict[str, Any] | None:
    """The document of this text; None for any text that is not the only one of a document."""
    limits.require(bytes=_COST * len(text), what="its description")
    try:
        found = json.loads(text)
        is_right = isinstance(found, dict) and _is_plain(found) and canonical(found) == text
    except (ValueError, RecursionError):
        return None
    return found if is_right else None


def _is_plain(document: Any) -> bool:
    """Whether there is nothing else in it than the values that are allowed."""
    level = [document]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for value in level:
            if type(value) is dict:
                below += value.values()
            elif type(value) is list:
                below += value
            elif type(value) is int:
                if not 0 <= value < _LARGEST:
                    return False
            elif type(value) is not str:
                return False
        level = below
    return not level
