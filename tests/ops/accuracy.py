"""Whether an array is as near to the exact result as an operator promises."""

from __future__ import annotations

from typing import Any

import numpy as np

from sofie_rdf.ir.operator import Tolerance
from sofie_rdf.ir.types import Array

__all__ = ["difference", "identical", "spacing", "sum_error", "widest"]


def widest(array: Array) -> Array:
    """The array in the type in which the exact result is computed.

    float32 becomes float64; float64 becomes what the machine has beyond it, if anything.
    """
    if array.dtype == np.float32:
        return array.astype(np.float64)
    return array.astype(np.longdouble) if array.dtype == np.float64 else array


def identical(left: Array, right: Array) -> bool:
    """The same element type, shape and bits; any NaN is like any other."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.kind != "f":
        return bool(np.array_equal(left, right))
    same = (left == right) & (np.signbit(left) == np.signbit(right))
    return bool(np.all(same | (np.isnan(left) & np.isnan(right))))


def difference(
    found: Array,
    exact: Array,
    tolerance: Tolerance,
    error: Any = 0.0,
    overflows: Any = False,
    *,
    signed_zeros: bool = True,
) -> str:
    """What is wrong with ``found``, or an empty string.

    |found - exact| <= ulp * (spacing of found's type at exact) + error, where ``error`` is what
    the operator's `terms` amount to (`sum_error`). NaN stands where the exact result has it,
    infinity where that is beyond the largest number, zero has the exact sign. Nothing is promised
    of a sum that ``overflows`` on the way.
    """
    if found.shape != exact.shape:
        return f"has the shape {found.shape}, not {exact.shape}"
    if found.dtype.kind != "f":
        return _report(found != exact.astype(found.dtype), found, exact)
    with np.errstate(all="ignore"):
        allowed = tolerance.ulp * spacing(exact, found.dtype) + error
        near = _near(found, exact, allowed) | overflows
        if signed_zeros:
            near &= ~((found == 0) & (exact == 0)) | (np.signbit(found) == np.signbit(exact))
        return _report(~near, found, exact)


def _near(found: Array, exact: Array, allowed: Array) -> Array:
    largest = np.finfo(found.dtype).max
    size = np.abs(exact)
    # Between the largest number and infinity there is nothing: each may stand for the other.
    rounded_up = np.isinf(found) & (np.sign(found) == np.sign(exact)) & (size + allowed > largest)
    rounded_down = np.isfinite(found) & (np.abs(found - exact) <= allowed)
    return np.asarray(rounded_up | rounded_down | (np.isnan(found) & np.isnan(exact)))


def sum_error(tolerance: Tolerance, magnitude: Array, count: float, dtype: np.dtype[Any]) -> Array:
    """The error that ``terms`` allows a sum of ``count`` numbers with this sum of magnitudes.

    Each addition rounds; the errors of many are as likely up as down, and grow as sqrt(count).
    """
    return np.asarray(tolerance.terms * np.sqrt(count) * spacing(magnitude, dtype))


def spacing(value: Any, dtype: np.dtype[Any]) -> Array:
    """The distance of neighbouring numbers of ``dtype`` at |value|; none beyond the largest."""
    below_largest = np.nextafter(np.finfo(dtype).max, dtype.type(0), dtype=dtype)
    size = np.fmin(np.abs(np.asarray(value)), below_largest)
    return np.asarray(np.spacing(size.astype(dtype)), np.longdouble)


def _report(wrong: Array, found: Array, exact: Array) -> str:
    if not np.any(wrong):
        return ""
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    value, wanted = found[first], exact[first]
    text = f"{int(np.sum(wrong))} of {wrong.size} differ, first at {list(first)}: "
    text += f"{value!r} for {wanted!r}"
    if found.dtype.kind == "f" and np.isfinite(value) and np.isfinite(wanted):
        off = abs(float(value - wanted)) / float(spacing(wanted, found.dtype))
        text += f" ({off:.3g} ulp)"
    return text
