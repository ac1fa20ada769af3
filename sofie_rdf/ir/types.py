"""What a value is: an element type and a shape; and NumPy's rule of broadcasting for both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sofie_rdf.errors import ShapeError, printable
from sofie_rdf.ir.dims import Dim, SizesDiffer, evaluate, product

__all__ = [
    "PRECISIONS",
    "Array",
    "DType",
    "Ports",
    "Shape",
    "TensorType",
    "broadcast",
    "concrete",
    "normal_axis",
]

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[Dim, ...]


class DType(Enum):
    """An element type. The value is NumPy's name; `cxx` is the C++ type of one element.

    Numbers of less than 16 bits that are no int8 are storage: they are moved and cast, one in
    each byte, and nothing is computed with them.
    """

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"
    BOOL = "bool"
    FLOAT8E4M3FN = "float8_e4m3fn"
    FLOAT8E4M3FNUZ = "float8_e4m3fnuz"
    FLOAT8E5M2 = "float8_e5m2"
    FLOAT8E5M2FNUZ = "float8_e5m2fnuz"
    FLOAT8E8M0 = "float8_e8m0fnu"
    FLOAT6E2M3 = "float6_e2m3fn"
    FLOAT6E3M2 = "float6_e3m2fn"
    FLOAT4E2M1 = "float4_e2m1fn"
    INT4 = "int4"
    UINT4 = "uint4"
    INT2 = "int2"
    UINT2 = "uint2"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        kind: Any = self.value
        if self is DType.BFLOAT16 or self.is_storage:
            import ml_dtypes

            kind = getattr(ml_dtypes, self.value)
        found: np.dtype[np.generic] = np.dtype(kind)
        return found

    @property
    def cxx(self) -> str:
        fixed = {"float32": "float", "float64": "double", "bool": "bool"}
        if self.is_half or self.is_storage:
            return f"sofie::{_CAPITALS.get(self.value, self.value.title().replace('_', ''))}"
        return fixed.get(self.value, f"std::{self.value}_t")

    @property
    def on_device(self) -> str:
        """The C++ type in kernels for devices, where half precision is not stored in packs."""
        return self.cxx.replace("sofie::", "sofie::device::")

    @property
    def nbytes(self) -> int:
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point type that is computed with."""
        return self.value in ("float32", "float64", "float16", "bfloat16")

    @property
    def is_half(self) -> bool:
        """float16 and bfloat16: computed with in float32, and rounded after each operator."""
        return self.value in ("float16", "bfloat16")

    @property
    def is_integer(self) -> bool:
        """Whether it is an integer type that is computed with."""
        return self.value.lstrip("u") in ("int8", "int16", "int32", "int64")

    @property
    def is_storage(self) -> bool:
        """Whether it is only moved and cast."""
        return not (self.is_float or self.is_integer or self is DType.BOOL)

    @classmethod
    def of(cls, array: Array) -> DType:
        """The element type of a NumPy array; ValueError for one that no graph can hold."""
        return cls(array.dtype.name)

    def __str__(self) -> str:
        return self.value


# How the weights of a network may be stored; what is computed with them is float32.
PRECISIONS = ("float32", "bfloat16", "float16", "int8")
# C++ names that are not NumPy's in capitals.
_CAPITALS = {"float16": "Float16", "bfloat16": "BFloat16", "uint4": "UInt4", "uint2": "UInt2"}


@dataclass(frozen=True, slots=True)
class TensorType:
    """dtype[shape], e.g. ``float32[N, 7]``; a scalar has an empty shape."""

    dtype: DType
    shape: Shape = ()

    @property
    def rank(self) -> int:
        return len(self.shape)

    def reshaped(self, shape: Shape) -> TensorType:
        """The same with another shape."""
        return replace(self, shape=shape)

    @property
    def size(self) -> Dim:
        """The number of elements."""
        return product(self.shape)

    @property
    def nbytes(self) -> Dim:
        return self.size * self.dtype.nbytes

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


class Ports(dict[str, TensorType]):
    """The inputs or outputs of a model by name; printed as ``features: float32[N, 7]``."""

    def __repr__(self) -> str:
        return printable("\n".join(f"{name}: {type_}" for name, type_ in self.items()))


def concrete(shape: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape in numbers, when the named sizes are these."""
    return tuple(evaluate(d, sizes) for d in shape)


def _broadcast_dim(a: Dim, b: Dim, differ: list[tuple[Dim, Dim]]) -> Dim:
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    differ.append((a, b))
    return a


def _broadcast_two(a: Shape, b: Shape, differ: list[tuple[Dim, Dim]]) -> Shape:
    if a == b:
        return a
    rank = max(len(a), len(b))
    a = (1,) * (rank - len(a)) + a
    b = (1,) * (rank - len(b)) + b
    return tuple(_broadcast_dim(p, q, differ) for p, q in zip(a, b, strict=True))


def broadcast(shapes: Iterable[Shape]) -> Shape:
    """NumPy's broadcasting: aligned at the last axis, sizes equal or 1; ShapeError otherwise."""
    listed = tuple(shapes)
    differ: list[tuple[Dim, Dim]] = []
    found: Shape = ()
    for shape in listed:
        found = _broadcast_two(found, shape, differ)
    if not differ:
        return found
    (a, b), *more = differ
    text = " and ".join(f"[{', '.join(map(str, s))}]" for s in listed)
    thing = f"cannot broadcast {text}: the sizes {a} and {b} differ and neither is 1"
    raise SizesDiffer(thing, pair=(a, b), more=tuple(more))


def normal_axis(axis: int, rank: int, *, end: bool = False) -> int:
    """``axis`` counted from the front; negative ones count from the back. ``end`` allows rank."""
    if not -rank <= axis <= (rank if end else rank - 1):
        raise ShapeError(f"axis {axis} does not exist in a tensor with {rank} axes")
    return axis + rank if axis < 0 else axis
