"""Whether an array is as near to the exact result as an operator promises."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from sofie_rdf.ir.operator import Tolerance
from sofie_rdf.ir.types import Array

__all__ = ["difference", "identical", "spacing", "sum_error", "widest"]


def widest(array: Array) -> Array:
    """The array in the type in which the exact result is computed.

    float32 and half precision become float64; float64 becomes what the machine has beyond it, if
    anything.
    """
    if array.dtype == np.float32 or is_half(array.dtype):
        return array.astype(np.float64)
    return array.astype(np.longdouble) if array.dtype == np.float64 else array


def is_computed(dtype: np.dtype[Any]) -> bool:
    """Whether kernels compute with numbers of this type; some of those that do not are `f`, too."""
    return dtype in (np.float32, np.float64)


def finite(array: Array | None) -> Array | None:
    """The array with 0 for what is no number, or none."""
    return None if array is None else np.where(np.isfinite(array), array, 0)


def is_half(dtype: np.dtype[Any]) -> bool:
    return dtype.name in ("float16", "bfloat16")


def computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which numbers of this one are computed."""
    return np.dtype(np.float32) if is_half(dtype) else dtype


def identical(left: Array, right: Array) -> bool:
    """The same element type, shape and bits; any NaN is like any other."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.name not in ("float32", "float64"):
        return left.tobytes() == right.tobytes() or _identical_few(left, right)
    return _identical(left, right)


def _identical_few(left: Array, right: Array) -> bool:
    """Of numbers of few bits, and of integers."""
    with np.errstate(all="ignore"):
        exact = [a if a.dtype.kind in "iu" else a.astype(np.float64) for a in (left, right)]
    return _identical(*exact)


def _identical(left: Array, right: Array) -> bool:
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
    if not is_computed(found.dtype) and not is_half(found.dtype):
        return _report(_unequal(found, exact.astype(found.dtype)), found, exact)
    with np.errstate(all="ignore"):
        allowed = tolerance.ulp * spacing(exact, computed(found.dtype)) + error
        if is_half(found.dtype) and exact.dtype != found.dtype:
            # float32, which is rounded once more at the end.
            allowed = allowed + 0.5 * spacing(exact, found.dtype)
        near = _near(found, exact, allowed) | overflows
        if signed_zeros:
            near &= ~((found == 0) & (exact == 0)) | (np.signbit(found) == np.signbit(exact))
        return _report(~near, found, exact)


def _near(found: Array, exact: Array, allowed: Array) -> Array:
    largest = _largest(found.dtype)
    found = found.astype(np.float64) if is_half(found.dtype) else found
    size = np.abs(exact)
    # Between the largest number and infinity there is nothing: each may stand for the other.
    rounded_up = np.isinf(found) & (np.sign(found) == np.sign(exact)) & (size + allowed > largest)
    rounded_down = np.isfinite(found) & (np.abs(found - exact) <= allowed)
    return np.asarray(rounded_up | rounded_down | (np.isnan(found) & np.isnan(exact)))


def _unequal(found: Array, wanted: Array) -> Array:
    """Where two arrays of a type that is not computed with differ; any NaN is like any other."""
    if found.dtype.kind in "biu":
        return np.asarray(found != wanted)
    with np.errstate(all="ignore"):
        a, b = found.astype(np.float64), wanted.astype(np.float64)
    same = ((a == b) & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))
    return np.asarray(~same)


def _largest(dtype: np.dtype[Any]) -> float:
    return float(ml_dtypes.finfo(dtype).max)


def sum_error(tolerance: Tolerance, magnitude: Array, count: float, dtype: np.dtype[Any]) -> Array:
    """The error that ``terms`` allows a sum of ``count`` numbers with this sum of magnitudes.

    Each addition rounds; the errors of many are as likely up as down, and grow as sqrt(count).
    """
    return np.asarray(tolerance.terms * np.sqrt(count) * spacing(magnitude, computed(dtype)))


def spacing(value: Any, dtype: np.dtype[Any]) -> Array:
    """The distance of neighbouring numbers of ``dtype`` at |value|; none beyond the largest."""
    below_largest = np.nextafter(dtype.type(_largest(dtype)), dtype.type(0))
    size = np.fmin(np.abs(np.asarray(value)), below_largest.astype(np.float64))
    return np.asarray(np.spacing(size.astype(dtype)).astype(np.float64), np.longdouble)


def _report(wrong: Array, found: Array, exact: Array) -> str:
    if not np.any(wrong):
        return ""
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    value, wanted = found[first], exact[first]
    text = f"{int(np.sum(wrong))} of {wrong.size} differ, first at {list(first)}: "
    text += f"{value!r} for {wanted!r}"
    if (found.dtype.kind == "f" or is_half(found.dtype)) and np.isfinite(float(value - wanted)):
        off = abs(float(value) - float(wanted)) / float(spacing(wanted, found.dtype))
        text += f" ({off:.3g} ulp)"
    return text
