"""Which tensors of the weight file are stored in fewer bits than they are used with, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sofie_rdf.ir.types import PRECISIONS, Array, DType
from sofie_rdf.passes.precision import Stored, encoded

__all__ = ["HEADER", "READ_FROM", "Tensors", "tensors_of"]

HEADER = "sofie/session/narrow.hxx"
# From how many bytes of float32 weights on layers read them in few bits, which takes more
# instructions and less memory: where they come from the second cache, or do not fit into it.
READ_FROM = {"bfloat16": 1 << 18, "float16": 1 << 20, "int8": 1 << 20}


@dataclass(frozen=True)
class Tensors:
    """A constant in the weight file: its tensor, or its numbers in few bits and their scales."""

    arrays: tuple[Array, ...]
    # How many neighbours have the same scale.
    run: int = 0

    @property
    def is_narrow(self) -> bool:
        return self.run > 0


def tensors_of(constant: Array, precision: str) -> Tensors:
    """Narrow ones of that precision, where they are the constant to the last bit."""
    whole = Tensors((constant,))
    if precision == PRECISIONS[0] or constant.dtype != np.float32 or constant.ndim < 2:
        return whole
    found = _exact(constant, precision)
    if found is None:
        return whole
    if found.scale is None:
        return Tensors((found.numbers,), 1)
    return Tensors((found.numbers, found.scale), math.prod(constant.shape[found.axis + 1 :]))


def _exact(constant: Array, precision: str) -> Stored | None:
    axes = range(constant.ndim) if DType(precision).is_integer else (None,)
    for axis in axes:
        found = encoded(constant, precision, axis)
        if isinstance(found, Stored) and _same_bits(found.wide, constant):
            return found
    return None


def _same_bits(one: Array, other: Array) -> bool:
    return one.tobytes() == other.tobytes()
