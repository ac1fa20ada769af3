"""Sequences of tensors, as two tensors: the elements of all one after the other, and the shapes.

``elements`` has one axis. ``shapes`` has a row for each tensor, whose last entries are its sizes;
entries before them are -1 where another tensor of the sequence may have more axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.types import Array

__all__ = ["SEQUENCE_PARTS", "pack", "unpack"]


# What the tensors are called that an input or output of a network is, behind its name and a dot.
# The third one is a bool, for a sequence that may be absent.
SEQUENCE_PARTS = ("elements", "shapes", "present")


def pack(arrays: Iterable[Array], dtype: np.dtype[Any] | None = None) -> tuple[Array, Array]:
    """``elements`` and ``shapes`` of a sequence; an empty one needs to be told its element type."""
    listed = [np.asarray(a) for a in arrays]
    axes = max((a.ndim for a in listed), default=0)
    rows = [(-1,) * (axes - a.ndim) + a.shape for a in listed]
    kind = dtype or (listed[0].dtype if listed else np.dtype(np.float32))
    if any(a.dtype != kind for a in listed):
        raise TypeMismatch("the tensors of a sequence have different element types")
    elements = np.concatenate([a.reshape(-1) for a in listed]) if listed else np.empty(0, kind)
    return elements, np.array(rows, np.int64).reshape(len(listed), axes)


def unpack(elements: Array, shapes: Array) -> list[Array]:
    """The tensors of a sequence; `ShapeError` where the elements are not those of the shapes."""
    found, start = [], 0
    for row in shapes.tolist():
        shape = tuple(row)
        while shape and shape[0] == -1:
            shape = shape[1:]
        size = math.prod(shape)
        if min(shape, default=0) < 0 or start + size > elements.size:
            raise ShapeError(f"a sequence has not the elements of a tensor {list(shape)}")
        found.append(elements[start : start + size].reshape(shape))
        start += size
    if start != elements.size:
        raise ShapeError(f"a sequence has {elements.size} elements, its shapes {start}")
    return found
