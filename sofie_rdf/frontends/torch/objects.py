"""Pickles of torch, read by the few steps that tensors need: nothing that they name is called.

`read` follows the steps of a pickle as Python does, with functions of ours in place of those that
it names. What is left is lists, tuples, dicts, numbers, texts, `TensorOf` and `ObjectOf`.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import CorruptFile, SofieError, UnsupportedFormat

__all__ = ["ITEM_BYTES", "ObjectOf", "StorageOf", "TensorOf", "TypeOf", "array_of", "read"]

# How many bytes an element of torch's types has, by the name of the type in Python.
_SIZES = {
    1: "uint8 int8 bool float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu",
    2: "int16 float16 bfloat16 uint16",
    4: "int32 float32 uint32 complex32",
    8: "int64 float64 uint64 complex64",
    16: "complex128",
}
ITEM_BYTES = {name: size for size, names in _SIZES.items() for name in names.split()}
_STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}


@dataclass(frozen=True)
class StorageOf:
    """The bytes of a member as elements of one type."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class TensorOf:
    """A part of a storage."""

    storage: StorageOf
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool = False
    is_parameter: bool = False

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.storage.dtype]


@dataclass(eq=False)
class ObjectOf:
    """An object of a class that is named, with what it holds."""

    name: str
    state: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class TypeOf:
    """An element type, or a class of storages."""

    name: str


Call: TypeAlias = Callable[..., Any]
_MARK = object()


def read(
    content: bytes,
    size_of: Callable[[str], int],
    place: str,
    others: Callable[[str], Call | None] = lambda _: None,
) -> tuple[Any, bytes]:
    """What a pickle says, and its bytes up to its end.

    ``size_of`` gives the number of bytes of a storage, ``others`` what stands for further names.
    Raises `UnsupportedFormat` for a pickle that needs more than tensors do, `CorruptFile` for one
    that is damaged.
    """
    limits.require(nodes=len(content) // 16, what="a pickle")
    reader = _Reader(size_of, place, others)
    try:
        for opcode, argument, position in pickletools.genops(content):
            step = getattr(reader, f"_{opcode.name.lower()}", None)
            if step is None:
                raise reader.refusal(opcode.name)
            step(argument)
            if opcode.name == "STOP":
                return reader.result(), content[: (position or 0) + 1]
    except SofieError:
        raise
    except Exception as error:  # Of pickletools and of stacks that are empty: of many kinds.
        raise CorruptFile(f"has a pickle that is damaged: {error}", place=place) from error
    raise CorruptFile("has a pickle that has no end", place=place)


class _Reader:
    """A stack, a memo, and a method for each step that is known, named after it."""

    def __init__(self, size_of: Callable[[str], int], place: str, others: Call) -> None:
        self.size_of, self.place, self.others = size_of, place, others
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def refusal(self, what: str) -> UnsupportedFormat:
        return UnsupportedFormat(
            f"has a pickle that says {what[:80]!r}, which could run anything when torch loads it",
            place=self.place,
            remedy="Save it again with tensors, numbers and texts alone, in lists and dicts",
        )

    def result(self) -> Any:
        (value,) = self.stack
        return value

    def _since_mark(self) -> list[Any]:
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is _MARK:
                found = self.stack[start + 1 :]
                del self.stack[start:]
                return found
        raise ValueError("no mark")

    def _take(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise ValueError("the stack is empty")
        found = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        if any(value is _MARK for value in found):
            raise ValueError("a mark in a wrong place")
        return found

    # Steps. Those without an effect on the stack, and values.

    def _proto(self, _: Any) -> None: ...

    def _frame(self, _: Any) -> None: ...

    def _stop(self, _: Any) -> None: ...

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    _binint = _binint1 = _binint2 = _long1 = _binfloat = _push
    _binunicode = _short_binunicode = _push

    def _mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _none(self, _: Any) -> None:
        self.stack.append(None)

    def _newtrue(self, _: Any) -> None:
        self.stack.append(True)

    def _newfalse(self, _: Any) -> None:
        self.stack.append(False)

    def _empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _tuple1(self, _: Any) -> None:
        self.stack.append(tuple(self._take(1)))

    def _tuple2(self, _: Any) -> None:
        self.stack.append(tuple(self._take(2)))

    def _tuple3(self, _: Any) -> None:
        self.stack.append(tuple(self._take(3)))

    # Containers that grow.

    def _append(self, _: Any) -> None:
        self._extend(self._take(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("no list")
        self.stack[-1].extend(values)

    def _setitem(self, _: Any) -> None:
        self._update(self._take(2))

    def _setitems(self, _: Any) -> None:
        self._update(self._since_mark())

    def _update(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or len(values) % 2:
            raise ValueError("no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            self.stack[-1][_key(key)] = value

    # What was seen before.

    def _binput(self, place: Any) -> None:
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError("nothing to keep")
        self.memo[place] = self.stack[-1]

    _long_binput = _binput

    def _memoize(self, _: Any) -> None:
        self._binput(len(self.memo))

    def _binget(self, place: Any) -> None:
        self.stack.append(self.memo[place])

    _long_binget = _binget

    # Names, and what is made by them.

    def _global(self, argument: Any) -> None:
        name = str(argument).replace(" ", ".")
        found = _KNOWN.get(name) or self.others(name)
        if found is None and (last := name.removeprefix("torch.")) in ITEM_BYTES:
            found = TypeOf(last)
        storage = name.removeprefix("torch.").removeprefix("storage.")
        if found is None and storage in _STORAGES and name.startswith("torch."):
            found = TypeOf(storage)
        if found is None:
            raise self.refusal(name)
        self.stack.append(found)

    def _reduce(self, _: Any) -> None:
        function, arguments = self._take(2)
        if not callable(function):
            raise ValueError("no function")
        # TorchScript writes the value of an Enum alone.
        given = arguments if type(arguments) is tuple else (arguments,)
        self.stack.append(function(*given))

    def _newobj(self, _: Any) -> None:
        self._reduce(_)

    def _build(self, _: Any) -> None:
        target, state = self._take(2)
        if isinstance(target, ObjectOf):
            target.state = state
        elif not (type(target) is dict and type(state) is dict):
            # An ordered dict may have notes: those of a state_dict are versions of its modules.
            raise self.refusal("BUILD")
        self.stack.append(target)

    def _binpersid(self, _: Any) -> None:
        (found,) = self._take(1)
        match found:
            case ("storage", TypeOf(name), str(key), str(), int(count)):
                dtype = _STORAGES[name]
            case _:
                raise ValueError("what is no storage")
        wanted = count * ITEM_BYTES[dtype]
        if count < 0 or wanted != self.size_of(key):
            raise CorruptFile(
                f"says that storage {key!r} has {wanted} bytes; it has {self.size_of(key)}",
                place=self.place,
            )
        self.stack.append(StorageOf(key, dtype, count))


# What is named, and what stands for it ------------------------------------------------------------


_PLAIN = (str, int, float, bool, bytes, type(None), TensorOf)


def _key(value: Any) -> Any:
    """What may be looked up: tuples of tuples of tuples take for ever to hash."""
    inside = value if type(value) is tuple else (value,)
    if any(type(one) not in _PLAIN for one in inside):
        raise ValueError("a key that is neither number nor text")
    return value


def _ordered(items: Sequence[Any] = ()) -> dict[Any, Any]:
    limits.spend(bytes=64 * len(items), what="a dict in a pickle")
    return {_key(key): value for key, value in items}


def _tensor(
    storage: StorageOf,
    offset: int,
    shape: Sequence[int],
    strides: Sequence[int],
    requires_grad: bool = False,
    hooks: object = None,
    metadata: object = None,
) -> TensorOf:
    if hooks or metadata or type(storage) is not StorageOf:
        raise ValueError("a tensor with hooks")
    numbers = (offset, *shape, *strides)
    if any(type(n) is not int or not 0 <= n < 2**48 for n in numbers) or len(shape) > 64:
        raise ValueError("a tensor with a shape that cannot be true")
    if len(shape) != len(strides):
        raise ValueError("a tensor that cannot be true")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= storage.count:
        raise ValueError("a tensor that is larger than its storage")
    made = TensorOf(storage, offset, tuple(shape), tuple(strides), bool(requires_grad))
    # Strides of 0 make a large tensor of few bytes.
    limits.require(bytes=made.nbytes, what="a tensor")
    return made


def _typed_tensor(
    storage: StorageOf,
    offset: int,
    shape: Sequence[int],
    strides: Sequence[int],
    requires_grad: bool,
    hooks: object,
    dtype: TypeOf,
    metadata: object = None,
) -> TensorOf:
    """A tensor of a type that has no storage of its own in Python."""
    if storage.dtype != "uint8" or dtype.name not in ITEM_BYTES:
        raise ValueError("a tensor of another type than its storage")
    count = storage.count // ITEM_BYTES[dtype.name]
    typed = StorageOf(storage.key, dtype.name, count)
    return _tensor(typed, offset, shape, strides, requires_grad, hooks, metadata)


def _parameter(data: TensorOf, requires_grad: bool, hooks: object = None) -> TensorOf:
    if hooks or type(data) is not TensorOf:
        raise ValueError("a parameter with hooks")
    return TensorOf(
        *(data.storage, data.offset, data.shape, data.strides), bool(requires_grad), True
    )


def _size(numbers: Sequence[int]) -> tuple[int, ...]:
    limits.spend(bytes=8 * len(numbers), what="the numbers of a size in a pickle")
    return tuple(numbers)


_KNOWN: Mapping[str, Call] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
}


def array_of(tensor: TensorOf, content: bytes) -> np.ndarray[Any, Any]:
    """Its elements, in their order, as bytes: one row for each element."""
    item = ITEM_BYTES[tensor.storage.dtype]
    flat = np.frombuffer(content, np.uint8, tensor.storage.count * item).reshape(-1, item)
    if not math.prod(tensor.shape):
        return flat[:0]
    strides = tuple(s * item for s in tensor.strides)
    part = flat[tensor.offset :]
    shaped = np.lib.stride_tricks.as_strided(part, (*tensor.shape, item), (*strides, 1))
    return np.ascontiguousarray(shaped).reshape(-1, item)
