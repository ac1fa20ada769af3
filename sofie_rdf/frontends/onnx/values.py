"""What stands in an ONNX file, in Python: element types, tensors, attributes, and operators."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import CorruptFile, GraphError, UnsupportedOperator, nearest
from sofie_rdf.ir.dims import Size
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType

if TYPE_CHECKING:
    import onnx

__all__ = ["Listed", "array_of", "attribute_of", "construct", "dtype_of", "listed", "weights_of"]


def dtype_of(element: Any, what: str) -> DType:
    """The element type with this ONNX number; `UnsupportedOperator` for one that is not ours."""
    import onnx

    try:
        return DType(onnx.helper.tensor_dtype_to_np_dtype(element).name)
    except (KeyError, ValueError, TypeError):
        names = {v: k for k, v in onnx.TensorProto.DataType.items()}
        kind = names.get(element, f"number {element}").lower()
        remedy = _INSTEAD.get(kind, "")
        raise UnsupportedOperator(f"{what!r} has the element type {kind}", remedy=remedy) from None


# What to do about element types that are no numbers of ours.
_COMPLEX = "Give real and imaginary parts along an axis"
_INSTEAD = {
    "string": "Encode texts as numbers before the network",
    "complex64": _COMPLEX,
    "complex128": _COMPLEX,
}


def weights_of(graph: onnx.GraphProto) -> list[tuple[str, onnx.TensorProto]]:
    """The weights of a graph, dense and sparse ones, and their names."""
    dense: list[Any] = [(tensor.name, tensor) for tensor in graph.initializer]
    return dense + [(sparse.values.name, sparse) for sparse in graph.sparse_initializer]


def array_of(tensor: onnx.TensorProto | onnx.SparseTensorProto) -> Array:
    """The elements of a tensor; `CorruptFile` where its bytes do not fit its shape."""
    import onnx
    from onnx import numpy_helper

    if isinstance(tensor, onnx.SparseTensorProto):
        return _dense(tensor)
    dtype_of(tensor.data_type, tensor.name)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise CorruptFile(
            f"weight {tensor.name!r} is in another file, which is not known here",
            remedy="Load the model by its path",
        )
    wrong = CorruptFile(
        f"weight {tensor.name!r} has not the bytes that its shape {list(tensor.dims)} needs"
    )
    if any(d < 0 for d in tensor.dims):
        raise wrong
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise wrong from error


def _dense(sparse: onnx.SparseTensorProto) -> Array:
    """A sparse tensor with its zeros; the indices are flat, or one for each axis."""
    values, indices = array_of(sparse.values), array_of(sparse.indices)
    shape = tuple(sparse.dims)
    wrong = CorruptFile(f"sparse weight {sparse.values.name!r} has indices that fit no {shape}")
    if indices.dtype != np.int64 or values.ndim != 1 or any(d < 0 for d in shape):
        raise wrong
    if indices.shape not in (values.shape, (*values.shape, len(shape))):
        raise wrong
    limits.require(
        bytes=math.prod(shape) * values.itemsize, what=f"the sparse weight {sparse.values.name!r}"
    )
    try:
        found = np.zeros(shape, values.dtype)
        places = np.ravel_multi_index(tuple(indices.T), shape) if indices.ndim == 2 else indices
        if places.size and not 0 <= places.min() <= places.max() < found.size:
            raise wrong
    except (ValueError, MemoryError) as error:
        raise wrong from error
    found.reshape(-1)[places] = values
    return found


def attribute_of(attribute: onnx.AttributeProto) -> Any:
    """The value of an attribute in Python; tensors become arrays, lists become tuples."""
    import onnx

    kinds = onnx.AttributeProto
    if attribute.type == kinds.TENSOR:
        return array_of(attribute.t)
    if attribute.type == kinds.SPARSE_TENSOR:
        return array_of(attribute.sparse_tensor)
    try:
        value = onnx.helper.get_attribute_value(attribute)
    except ValueError as error:
        raise CorruptFile(f"attribute {attribute.name!r} has no type") from error
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if attribute.type in (kinds.INTS, kinds.FLOATS):
        return tuple(value)
    if attribute.type == kinds.STRINGS:
        return tuple(v.decode("utf-8", "replace") for v in value)
    return value


@dataclass(frozen=True, eq=False)
class Listed:
    """A list of numbers that may be millions: an array.

    Of texts, few are different, which are in ``texts``; a number says which one of them it is.
    """

    numbers: Array
    texts: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.numbers)


class _Numbered(dict[bytes, int]):
    """The number of each text, in the order in which they come."""

    def __missing__(self, text: bytes) -> int:
        self[text] = number = len(self)
        return number


def listed(attribute: onnx.AttributeProto) -> Any:
    """The value of an attribute, as `Listed` where it is a list."""
    import onnx

    kinds = onnx.AttributeProto
    if attribute.type == kinds.INTS:
        return Listed(np.array(attribute.ints, np.int64))
    if attribute.type == kinds.FLOATS:
        return Listed(np.array(attribute.floats, np.float32))
    if attribute.type == kinds.STRINGS:
        known, texts = _Numbered(), attribute.strings
        numbers = np.fromiter(map(known.__getitem__, texts), np.int64, len(texts))
        return Listed(numbers, tuple(t.decode("utf-8", "replace") for t in known))
    return attribute_of(attribute)


@cache
def _field_types(operator: Any) -> Mapping[str, Any]:
    # `Dim` names Size before it is defined, and the operator's file need not know it.
    hints = typing.get_type_hints(operator, localns={"Size": Size})
    return {f.name: hints[f.name] for f in fields(operator)}


def construct(operator: type[Operator], attributes: Mapping[str, Any]) -> Operator:
    """The operator with these ONNX attributes; `UnsupportedOperator` for one it does not know."""
    kinds = _field_types(operator)  # type: ignore[arg-type]  # classes do hash
    for name in attributes:
        if name not in kinds:
            raise UnsupportedOperator(
                f"{operator.name} has no attribute {name!r}", remedy=nearest(name, kinds)
            )
    needed = [f.name for f in fields(operator) if f.default is MISSING]
    missing = [n for n in needed if n not in attributes]
    if missing:
        # An attribute or an input, as the version of the operator has it.
        raise GraphError(f"{operator.name} lacks {missing[0]!r}")
    return operator(**{n: _converted(operator, n, v, kinds[n]) for n, v in attributes.items()})


def _converted(operator: type[Operator], name: str, value: Any, kind: Any) -> Any:
    """The value in a field of this type; ONNX has numbers for bools and for element types."""
    for one in _alternatives(kind):
        if one is DType and type(value) is int:
            return dtype_of(value, name)
        if one is bool and type(value) is int:
            return bool(value)
        if one in (bool, int, float, str, Size) and type(value) is one:
            return value
        if typing.get_origin(one) is tuple:
            values = value if isinstance(value, tuple) else (value,)
            if all(type(v) in _alternatives(typing.get_args(one)[0]) for v in values):
                return values
    raise GraphError(f"attribute {name!r} of {operator.name} has the wrong type")


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if union else (kind,)
