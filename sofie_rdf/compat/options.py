"""The enumerations of SOFIE, with its values."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from sofie_rdf.errors import InputError
from sofie_rdf.ir.types import DType

__all__ = ["ETensorType", "OptimizationLevel", "Options", "dtype_of", "source_of", "tensor_type"]


class Options(IntFlag):
    """What `RModel.Generate` can be told; they may be added."""

    kDefault = 0x0
    kNoSession = 0x1
    kNoWeightFile = 0x2
    kRootBinaryWeightFile = 0x4
    kGNN = 0x8
    kGNNComponent = 0x10


class OptimizationLevel(IntEnum):
    """Accepted, and without meaning: what can be made faster always is."""

    kBasic = 0
    kExtended = 1


class ETensorType(IntEnum):
    """Element types, numbered as ONNX numbers them."""

    UNDEFINED = 0
    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    COMPLEX64 = 14
    COMPLEX28 = 15
    BFLOAT16 = 16


_NAMES = {DType.FLOAT32: "FLOAT", DType.FLOAT64: "DOUBLE"}


def tensor_type(dtype: DType) -> ETensorType:
    """SOFIE's name of an element type; UNDEFINED for one that it has none for."""
    name = _NAMES.get(dtype, dtype.value.upper())
    return ETensorType.__members__.get(name, ETensorType.UNDEFINED)


def dtype_of(type_: ETensorType) -> DType:
    """The element type that SOFIE calls so; `InputError` for one that inputs do not have."""
    for dtype in DType:
        if tensor_type(dtype) is type_ and type_ is not ETensorType.UNDEFINED:
            return dtype
    raise InputError(f"inputs of type {type_.name} are not supported")


def source_of(options: int) -> tuple[str, bool]:
    """Where the weights go, as `Model.emit` wants it, and whether there is a Session.

    Raises `InputError` for options that nobody knows.
    """
    known = sum(Options)
    if options & ~known or options < 0:
        listed = ", ".join(o.name or "" for o in Options)
        raise InputError(
            f"Generate knows no option {options & ~known:#x}", remedy=f"There are {listed}"
        )
    session = not options & Options.kNoSession
    if options & Options.kRootBinaryWeightFile:
        return "root", session
    if options & Options.kNoWeightFile or not session:
        return "header", session
    return "file", session
