"""What users hand over, as NumPy and lists have it, where that cannot change what it says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from sofie_rdf.errors import InputError
from sofie_rdf.ir.types import Array

__all__ = ["as_array", "constant", "in_order", "is_masked", "is_unordered", "short"]


def is_unordered(given: Any) -> bool:
    """Whether it is a set, whose order is another one in each process. Views of dicts are not."""
    return isinstance(given, (set, frozenset))


def in_order(given: Any, what: str) -> list[Any]:
    """The elements of what has an order; `InputError` for sets, texts, and what has no elements."""
    if is_unordered(given):
        raise InputError(
            f"{what} is a set, which has no order",
            remedy="Give a list in the model's order; sorted(...) makes one, in its own order",
        )
    if isinstance(given, (str, bytes, bytearray, Mapping)) or not isinstance(given, Iterable):
        raise InputError(f"{what} must be a list, not {short(given)}")
    try:
        return list(given)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} is no list: {error}") from None


def is_masked(given: Any) -> bool:
    """Whether it is, or has in it, an array of NumPy's with elements that are masked."""
    if isinstance(given, (list, tuple)):
        return any(map(is_masked, given))
    return isinstance(given, np.ma.MaskedArray) and bool(np.ma.is_masked(given))


def as_array(given: Any, what: str) -> Array:
    """The array of NumPy; `InputError` where there is none, or elements of it are masked."""
    if is_unordered(given):
        raise InputError(f"{what} is a set, which has no order", remedy="Give a list or an array")
    if is_masked(given):
        raise InputError(
            f"{what} has masked elements, which a network has no notion of",
            remedy="Say what they are: array.filled(0); or leave out events: model.score(awkward "
            "arrays, where=...)",
        )
    try:
        return np.asarray(given)
    # Arrays of other packages raise what they like.
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{what} is no array: {reason}") from None


def constant(number: Any, what: str) -> float:
    """The number as a double; `InputError` for what is none."""
    known = isinstance(number, (int, float, np.integer, np.floating))
    with suppress(OverflowError):
        if known and not isinstance(number, bool):
            return float(number)
    raise InputError(f"{what} needs a number that a double has, not {short(number)}")


def short(given: Any) -> str:
    """What it is, in a few words of an error."""
    text = " ".join(repr(given).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
