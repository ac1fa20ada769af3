"""The meaning of conversions to numbers of few bits, told by the list of all such numbers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from sofie_rdf.ir.types import Array, DType

__all__ = ["converted", "is_integral", "limits"]

_WIDTH = {DType.INT4: 4, DType.UINT4: 4, DType.INT2: 2, DType.UINT2: 2}


def is_integral(dtype: DType) -> bool:
    """Whether its numbers are integers, of however few bits."""
    return dtype.is_integer or dtype in _WIDTH


def limits(dtype: DType) -> tuple[int, int]:
    """The least and the largest integer of an integer type."""
    if dtype.is_integer:
        info = np.iinfo(dtype.value)
        return int(info.min), int(info.max)
    states = 1 << _WIDTH[dtype]
    signed = not dtype.value.startswith("u")
    return (-states // 2, states // 2 - 1) if signed else (0, states - 1)


def converted(x: Array, to: DType, *, saturate: bool = True, round_mode: str = "up") -> Array:
    """ONNX's Cast. Floats become integers towards zero, and the lowest bits of integers stay."""
    wide = _wide(x)
    if to in _WIDTH:
        kept = wide.astype(np.int64) & ((1 << _WIDTH[to]) - 1)
        return kept.astype(np.uint8).view(to.numpy)
    if to is DType.FLOAT8E8M0:
        return _power_of_two(wide, saturate, round_mode)
    if to.is_storage or (to is DType.BFLOAT16 and x.dtype != np.float32):
        return _nearest(wide, to, saturate)
    return wide.astype(to.numpy)


def _wide(x: Array) -> Array:
    """Numbers of few bits in a type that holds them and that NumPy computes with."""
    few = x.dtype.name in DType._value2member_map_ and DType.of(x).is_storage
    return x.astype(np.float32) if few or x.dtype.name == "bfloat16" else x


@cache
def _numbers(to: DType) -> tuple[Array, Array]:
    """The magnitudes of a format in their order, one more behind the largest; their codes."""
    bits = np.uint16 if to.nbytes == 2 else np.uint8
    width = {DType.FLOAT6E2M3: 6, DType.FLOAT6E3M2: 6, DType.FLOAT4E2M1: 4}.get(to, 8 * to.nbytes)
    codes = np.arange(1 << (width - 1), dtype=bits)
    values = codes.view(to.numpy).astype(np.float64)
    codes, values = codes[np.isfinite(values)], values[np.isfinite(values)]
    beyond = values[-1] + (values[-1] - values[-2])
    return np.append(values, beyond).astype(np.longdouble), codes


def _nearest(x: Array, to: DType, saturate: bool) -> Array:
    """The nearest number; of two the one whose code is even."""
    values, codes = _numbers(to)
    exact = x.astype(np.longdouble)
    size = np.where(np.isnan(exact), 0, np.minimum(np.abs(exact), values[-1]))
    above = np.searchsorted(values, size)
    below = np.maximum(above - 1, 0)
    down, up = size - values[below], values[above] - size
    index = np.where((down < up) | ((down == up) & (below % 2 == 0)), below, above)
    overflows = index == len(codes)
    found = codes[np.minimum(index, len(codes) - 1)].view(to.numpy)
    special = _beyond(to, saturate)
    found = np.where(overflows, special, found)
    negative = np.signbit(exact) & ~np.isnan(exact)
    found = np.where(negative, -found, found)
    return np.where(np.isnan(exact), _nan(to), found).astype(to.numpy)


def _beyond(to: DType, saturate: bool) -> Any:
    """What stands for a number above the largest one."""
    kind = to.numpy.type
    finite = to in (DType.FLOAT6E2M3, DType.FLOAT6E3M2, DType.FLOAT4E2M1)
    if finite or (saturate and to.is_storage):
        return kind(float(_numbers(to)[0][-2]))
    return kind(np.inf) if to in (DType.FLOAT8E5M2, DType.BFLOAT16) else kind(np.nan)


def _nan(to: DType) -> Any:
    """NaN, or the -0 that is there instead."""
    finite = to in (DType.FLOAT6E2M3, DType.FLOAT6E3M2, DType.FLOAT4E2M1)
    return to.numpy.type(-0.0 if finite else np.nan)


def _power_of_two(x: Array, saturate: bool, round_mode: str) -> Array:
    """2^-127 ... 2^127; of a negative number as of its magnitude."""
    size = np.abs(x.astype(np.longdouble))
    fraction, exponent = np.frexp(size)  # size = fraction * 2^exponent, 1/2 <= fraction < 1
    up = {"up": fraction > 0.5, "down": np.zeros(x.shape, np.bool_), "nearest": fraction >= 0.75}
    power = exponent.astype(np.int64) - 1 + up[round_mode]
    power = np.where(size == 0, -1000, np.where(np.isinf(size), 1000, power))
    code = np.clip(power, -127, 127) + 127
    if not saturate:
        small = size < np.ldexp(np.longdouble(1), -127)
        code = np.where(small | (power > 127), 255, code)
    found = np.where(np.isnan(size), 255, code).astype(np.uint8)
    return found.view(DType.FLOAT8E8M0.numpy)
