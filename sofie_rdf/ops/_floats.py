"""What operators share that take floating-point numbers, and some tensors only where they are."""

from __future__ import annotations

from sofie_rdf.errors import TypeMismatch
from sofie_rdf.ir.operator import Functor
from sofie_rdf.ir.types import DType, TensorType

__all__ = ["NOTHING", "accept_floats", "computed"]

# What a kernel gets for a tensor that is not there.
NOTHING = Functor("sofie::NoTensor")


def computed(dtype: DType) -> DType:
    """The element type in which numbers of this type are computed with."""
    return DType.FLOAT32 if dtype.is_half else dtype


def accept_floats(*types: TensorType | None) -> None:
    """`TypeMismatch` unless all are floating-point numbers that are computed with in one type."""
    found = {computed(t.dtype) for t in types if t is not None}
    if len(found) > 1:
        raise TypeMismatch(f"mixes {' and '.join(sorted({str(t.dtype) for t in types if t}))}")
    if not all(d.is_float for d in found):
        raise TypeMismatch(f"is not defined for {found.pop()}")
