"""How keras.ops brings values of several element types to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sofie_rdf.errors import GraphError, UnsupportedOperator
from sofie_rdf.frontends.keras.layer import Value
from sofie_rdf.frontends.keras.rules.engine import LayerBuilder
from sofie_rdf.ir.types import DType

__all__ = ["as_float", "as_value", "common_type", "dtype_named", "promoted"]


def common_type(types: Sequence[DType]) -> DType:
    """The type in which values of these types are computed."""
    floats = {t for t in types if t.is_float}
    if len(floats) == 1:
        return floats.pop()
    if floats:
        return DType.FLOAT64 if DType.FLOAT64 in floats else DType.FLOAT32
    found = np.result_type(*(t.numpy for t in types))
    return DType.FLOAT32 if found.kind == "f" else DType(found.name)


def promoted(build: LayerBuilder, *given: Any) -> list[Value]:
    """Values, arrays and Python's numbers as values of one type. Numbers adapt to the others."""
    types = [t for t in (_type_of(build, g) for g in given) if t is not None]
    numbers = [g for g in given if isinstance(g, (bool, int, float))]
    if any(isinstance(n, float) for n in numbers) and not any(t.is_float for t in types):
        types.append(DType.FLOAT32)
    elif any(not isinstance(n, bool) for n in numbers) and all(t is DType.BOOL for t in types):
        types.append(DType.INT32)
    if not types:
        types.append(DType.BOOL)
    dtype = common_type(types)
    return [as_value(build, g, dtype) for g in given]


def _type_of(build: LayerBuilder, given: Any) -> DType | None:
    if isinstance(given, Value):
        return build.type(given).dtype
    if isinstance(given, np.ndarray):
        return DType.of(given)
    return None


def as_value(build: LayerBuilder, given: Any, dtype: DType | None = None) -> Value:
    """A value, an array or a number as a value; ``dtype`` None is its own."""
    if isinstance(given, Value):
        return given if dtype is None else build.cast(given, dtype)
    if given is None:
        raise GraphError("lacks an argument")
    if isinstance(given, (list, tuple)):
        given = np.asarray(given)
    if isinstance(given, np.ndarray) and given.dtype.kind in "OUS":
        raise UnsupportedOperator("is given what is no number")
    kinds = {bool: DType.BOOL, int: DType.INT32, float: DType.FLOAT32}
    wanted = dtype or kinds.get(type(given)) or DType.of(np.asarray(given))
    return build.constant(given, "number", wanted.numpy)


def as_float(build: LayerBuilder, given: Any) -> Value:
    """A value for a function of real numbers: whole numbers become float32."""
    x = as_value(build, given)
    return x if build.type(x).dtype.is_float else build.cast(x, DType.FLOAT32)


def dtype_named(name: Any) -> DType:
    """The element type of this name."""
    text = str(name).rpartition(".")[2]
    if text in ("float", "int"):
        text += "32"
    if text not in {d.value for d in DType}:
        raise UnsupportedOperator(f"has the dtype {name!r}, which is not supported")
    return DType(text)
