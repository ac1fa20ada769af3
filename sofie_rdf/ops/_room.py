"""Memory that a reference is about to take: what attributes ask for may be far more than tensors.

A Pad may add a terabyte at one end and cut it off at the other. Whoever folds constants within a
budget (`sofie_rdf.limits`) is told before the memory is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from sofie_rdf import limits
from sofie_rdf.ir.types import Array

__all__ = ["require_room"]

# Of one element of what stands between: an index, or a float64.
_EACH = 8


def require_room(what: str, shape: Iterable[int], like: Array | None = None) -> None:
    """`LimitExceeded` where there is no room for an array of that shape."""
    each = _EACH if like is None else like.itemsize
    limits.require(bytes=each * math.prod(max(int(n), 0) for n in shape), what=what)
