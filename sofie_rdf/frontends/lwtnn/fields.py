"""JSON of strangers: each object has known keys, once each, whose values are looked at."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import CorruptFile, UnsupportedFormat
from sofie_rdf.frontends.common.documents import once
from sofie_rdf.ir.types import Array

__all__ = ["Object", "known_as", "parsed"]

# A number of two characters takes as much in Python.
_EACH = 24


class Object:
    """An object of the file. What is not looked at is refused by `only`."""

    def __init__(self, found: Any, place: str) -> None:
        if not isinstance(found, dict):
            raise CorruptFile(f"has no object but {_shown(found)}", place=place)
        self.found, self.place = found, place

    def __contains__(self, key: str) -> bool:
        return key in self.found

    def only(self, *known: str) -> None:
        """`UnsupportedFormat` for a key that is not among these."""
        for key in self.found:
            if key not in known:
                raise UnsupportedFormat(
                    f"has {_shown(key)}, which is not known",
                    place=self.place,
                    remedy="Leave it out, if the network does not depend on it",
                )

    def get(self, key: str) -> Any:
        if key not in self.found:
            raise CorruptFile(f"lacks {key!r}", place=self.place)
        return self.found[key]

    def wrong(self, key: str, wanted: str) -> CorruptFile:
        return CorruptFile(
            f"has no {wanted} in {key!r} but {_shown(self.found[key])}", place=self.place
        )

    def text(self, key: str) -> str:
        """A text that is not empty."""
        found = self.get(key)
        if not isinstance(found, str) or not found:
            raise self.wrong(key, "text")
        return found

    def list(self, key: str) -> Sequence[Any]:
        found = self.get(key)
        if not isinstance(found, list):
            raise self.wrong(key, "list")
        return found

    def objects(self, key: str) -> Sequence[Object]:
        """The objects of a list."""
        found = self.list(key)
        return [Object(f, f"{self.place}: {key}[{n}]") for n, f in enumerate(found)]

    def object(self, key: str) -> Object:
        return Object(self.get(key), f"{self.place}: {key}")

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, none of which is empty or there twice."""
        found = self.list(key)
        if not all(isinstance(f, str) and f for f in found) or len(set(found)) != len(found):
            raise self.wrong(key, "list of different texts")
        return tuple(found)

    def index(self, key: str, below: int) -> int:
        """A whole number from 0 on."""
        return self._whole(key, self.get(key), below)

    def indices(self, key: str, below: int) -> tuple[int, ...]:
        """A list of such numbers."""
        return tuple(self._whole(key, f, below) for f in self.list(key))

    def _whole(self, key: str, found: Any, below: int) -> int:
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < below:
            raise self.wrong(key, f"whole number below {below}")
        return found

    def number(self, key: str) -> float:
        """A number that float32 has, not an infinite one."""
        return float(self._floats(key, [self.get(key)])[0])

    def numbers(self, key: str) -> Array:
        """A list of numbers, as float32."""
        return self._floats(key, self.list(key))

    def _floats(self, key: str, found: Sequence[Any]) -> Array:
        limits.require(bytes=16 * len(found), what=f"the numbers of {key!r}")
        if not all(type(f) in (int, float) for f in found):
            raise self.wrong(key, "numbers")
        try:
            with np.errstate(over="ignore"):
                given = np.array(found, np.float64).astype(np.float32)
        except OverflowError:
            given = np.array([np.inf], np.float32)
        if not np.isfinite(given).all():
            raise CorruptFile(f"has numbers in {key!r} that float32 has not", place=self.place)
        return given


def _shown(found: Any) -> str:
    text = repr(found)
    return f"{text[:50]}..." if len(text) > 50 else text


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def parsed(content: bytes, place: str) -> Object:
    """The outermost object; `CorruptFile` for what is no JSON."""
    limits.spend(bytes=_EACH * len(content), what="the JSON")
    load: Callable[..., Any] = json.loads
    try:
        found = load(content, object_pairs_hook=once, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"is truncated or no JSON: {error}", place=place) from None
    return Object(found, place)


def known_as(found: str, known: Collection[str], what: str, place: str) -> str:
    """``found``, which must be known; `UnsupportedFormat` else."""
    if found not in known:
        raise UnsupportedFormat(
            f"has the {what} {_shown(found)}, which is not known",
            place=place,
            remedy=f"Known are {', '.join(known)}",
        )
    return found
