"""Derivatives of Fourier transforms: the transforms themselves, with the other sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.ir.operator import lookup

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Value

__all__ = ["frames", "transformed"]


def _conjugate(x: Value) -> Value:
    return x * x.tape.constant(np.array([1, -1], x.dtype.numpy))


def _lengthened(x: Value, axis: int, size: Any) -> Value:
    """With zeros behind an axis, or without what is too much."""
    return x.pad([(0, size - x.shape[axis]) if a == axis else (0, 0) for a in range(x.rank)])


def transformed(op: Any, x: Value, g: Value, axis: int, n: Any) -> Value:
    """Of a transform of this length along an axis: x has one or two components, and so has g."""
    if op.makes_real:
        found = _of_spectrum(g, axis, n)
    else:
        whole = _lengthened(g, axis, n)
        through = lookup("", "DFT")(axis=axis, inverse=op.inverse)
        found = _conjugate(_conjugate(whole).through(through))
    found = _lengthened(found, axis, x.shape[axis])
    return found if x.shape[-1] == 2 else found.slice(x.rank - 1, 0, 1)


def _of_spectrum(g: Value, axis: int, n: Any) -> Value:
    """Half of a spectrum: what is in both halves counts twice."""
    if not isinstance(n, int):
        raise UnsupportedOperator(
            "DFT has no gradient here for real signals of open length",
            remedy="Fix the length when the model is read: shapes={...} of `load`",
        )
    limits.spend(bytes=16 * (n // 2 + 1), what="the gradient of DFT")
    weights = np.full(n // 2 + 1, 2.0)
    weights[0] = 1
    if n % 2 == 0:
        weights[-1] = 1
    behind = g.rank - 1 - axis
    factors = (weights / n).astype(g.dtype.numpy).reshape((-1, *(1,) * behind))
    half = g.through(lookup("", "DFT")(axis=axis, onesided=True))
    return half * g.tape.constant(factors)


def frames(op: Any, x: Value, window: Value | None, n: Any, step: Any) -> Value:
    """The frames of a signal, weighted and transformed one by one."""
    length = x.shape[1]
    if not all(isinstance(size, int) for size in (length, n, step)):
        raise UnsupportedOperator(
            "STFT has no gradient here for signals of open length",
            remedy="Fix the length when the model is read: shapes={...} of `load`",
        )
    count = (length - n) // step + 1
    limits.spend(bytes=8 * count * n, what="the gradient of STFT")
    places = np.arange(count)[:, None] * step + np.arange(n)
    cut = x.apply("Gather", x.tape.constant(places), axis=1)
    if window is not None:
        cut = cut * window.reshape((n, 1))
    return cut.through(lookup("", "DFT")(axis=2, onesided=op.onesided))
