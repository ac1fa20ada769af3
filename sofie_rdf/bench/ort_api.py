"""onnxruntime through its C API, which its wheel holds without a header: OrtApi is a table.

What stands at which place of OrtApi never changes; new functions are added at its end.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Mapping, Sequence
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.bench.ort_package import import_onnxruntime
from sofie_rdf.bench.ours import stopwatch
from sofie_rdf.errors import InputError
from sofie_rdf.ir.types import Array
from sofie_rdf.runtime.compile.interpreter import declare, import_root
from sofie_rdf.runtime.compile.session import pointers

__all__ = ["OrtCall", "available"]

_VERSION = 11  # Of the API: all that is used here is older.

# Place in OrtApi, and the types of the arguments. All but the last group return a status.
_FUNCTIONS: Mapping[str, tuple[int, tuple[Any, ...]]] = {
    "CreateEnv": (3, (c_int, c_char_p, c_void_p)),
    "CreateSession": (7, (c_void_p, c_char_p, c_void_p, c_void_p)),
    "CreateSessionFromArray": (8, (c_void_p, c_char_p, c_size_t, c_void_p, c_void_p)),
    "CreateSessionOptions": (10, (c_void_p,)),
    "SetSessionLogSeverityLevel": (22, (c_void_p, c_int)),
    "SetIntraOpNumThreads": (24, (c_void_p, c_int)),
    "SetInterOpNumThreads": (25, (c_void_p, c_int)),
    "CreateTensorWithDataAsOrtValue": (
        49,
        (c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_int, c_void_p),
    ),
    "CreateCpuMemoryInfo": (69, (c_int, c_int, c_void_p)),
}
_RUN, _GET_MESSAGE = 9, 2
_RELEASE = {"Status": 93, "Session": 95, "Value": 96, "SessionOptions": 100}


def _library() -> Path | None:
    folder = Path(import_onnxruntime().__file__).parent / "capi"
    return next(iter(sorted(folder.glob("libonnxruntime.so*"))), None)


@cache
def available() -> bool:
    """Whether the onnxruntime that is installed brings its C library."""
    try:
        return bool(_table())
    except (OSError, AttributeError):
        return False


@cache
def _table() -> Any:
    library = _library()
    if library is None:
        return None
    base = ctypes.CDLL(str(library)).OrtGetApiBase
    base.restype = ctypes.POINTER(c_void_p)
    get_api = ctypes.CFUNCTYPE(ctypes.POINTER(c_void_p), ctypes.c_uint32)(base()[0])
    return get_api(_VERSION)


def _call(name: str, *arguments: Any) -> None:
    place, types = _FUNCTIONS[name]
    _check(ctypes.CFUNCTYPE(c_void_p, *types)(_table()[place])(*arguments))


def _check(status: int | None) -> None:
    if status:
        message = ctypes.CFUNCTYPE(c_char_p, c_void_p)(_table()[_GET_MESSAGE])(status)
        text = (message or b"").decode(errors="replace")
        _release("Status", status)
        raise InputError(f"onnxruntime's C API refuses: {text}")


def _release(kind: str, handle: int) -> None:
    ctypes.CFUNCTYPE(None, c_void_p)(_table()[_RELEASE[kind]])(handle)


@cache
def _environment() -> c_void_p:
    made = c_void_p()
    _call("CreateEnv", 3, b"sofie_rdf.bench", byref(made))
    return made


@cache
def _memory_info() -> c_void_p:
    made = c_void_p()
    _call("CreateCpuMemoryInfo", 1, 0, byref(made))
    return made


class _Call(ctypes.Structure):
    """sofie::bench::OrtCall."""

    _fields_ = (
        ("run", c_void_p),
        ("session", c_void_p),
        ("input_names", c_void_p),
        ("inputs", c_void_p),
        ("input_count", c_size_t),
        ("output_names", c_void_p),
        ("output_count", c_size_t),
        ("outputs", c_void_p),
    )


class OrtCall:
    """``OrtApi::Run`` in the same C++ loop as our Session, from and into the caller's memory."""

    def __init__(
        self, source: Path | bytes, feeds: Mapping[str, Array], results: Sequence[Array]
    ) -> None:
        self._in = [np.ascontiguousarray(a) for a in feeds.values()]
        self._out = [np.zeros_like(r) for r in results]
        self._session = _session(source)
        weakref.finalize(self, _release, "Session", self._session.value or 0)
        self._names = _names(list(feeds)), _names(_output_names(source))
        self._values = _values(self, self._in), _values(self, self._out)
        self._arguments = _Call(
            _table()[_RUN],
            self._session.value,
            *(_address(x) for x in (self._names[0], self._values[0])),
            len(self._in),
            _address(self._names[1]),
            len(self._out),
            _address(self._values[1]),
        )
        self._timer = _timer()

    def seconds(self, calls: int) -> float:
        status = c_void_p()
        taken = self._timer(byref(self._arguments), calls, byref(status))
        _check(status.value)
        return float(taken)

    def outputs(self) -> list[Array]:
        return self._out


def _address(array: Any) -> int:
    return ctypes.addressof(array)


def _names(names: Sequence[str]) -> Any:
    return (c_char_p * len(names))(*(n.encode() for n in names))


def _output_names(source: Path | bytes) -> list[str]:
    import onnx

    model = onnx.load(source) if isinstance(source, Path) else onnx.load_from_string(source)
    return [o.name for o in model.graph.output]


def _values(owner: object, arrays: list[Array]) -> Any:
    """OrtValues on the memory of these arrays, for as long as the owner lives."""
    from onnx import helper

    made = (c_void_p * max(1, len(arrays)))()
    addresses = pointers(arrays)
    for i, array in enumerate(arrays):
        shape = (ctypes.c_int64 * max(1, array.ndim))(*array.shape)
        kind = int(helper.np_dtype_to_tensor_dtype(array.dtype))
        value = c_void_p()
        _call(
            "CreateTensorWithDataAsOrtValue",
            *(_memory_info(), addresses[i], array.nbytes, shape, array.ndim, kind, byref(value)),
        )
        made[i] = value.value
        weakref.finalize(owner, _release, "Value", value.value or 0)
    return made


def _session(source: Path | bytes) -> c_void_p:
    options, session = c_void_p(), c_void_p()
    _call("CreateSessionOptions", byref(options))
    try:
        for option in ("SetIntraOpNumThreads", "SetInterOpNumThreads"):
            _call(option, options, 1)
        _call("SetSessionLogSeverityLevel", options, 3)
        if isinstance(source, bytes):
            given = (_environment(), source, len(source), options, byref(session))
            _call("CreateSessionFromArray", *given)
        else:
            path = os.fsencode(source)
            _call("CreateSession", _environment(), path, options, byref(session))
    finally:
        _release("SessionOptions", options.value or 0)
    return session


def _timer() -> Any:
    declare(stopwatch())
    address = int(import_root().sofie.bench.ort_seconds_address())
    kind = ctypes.CFUNCTYPE(ctypes.c_double, c_void_p, c_size_t, c_void_p)
    return kind(address)
