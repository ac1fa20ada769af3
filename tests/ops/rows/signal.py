"""Rows of Fourier transforms, windows and filters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sofie_rdf.ir.operator import REGISTRY
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.signal import (
    DFT,
    STFT,
    MelWeightMatrix,
    RuntimeDFT,
    RuntimeMelWeightMatrix,
    RuntimeSTFT,
)
from tests.ops.cases import Case, Fill, M, Make, N, Random, Row, usual


def _exactly(number: float) -> Fill:
    def fill(_: Random, dtype: DType, shape: Sequence[int], __: bool) -> Array:
        return np.full(shape, number, dtype.numpy)

    return fill


def _whole(shape: tuple[int, ...] = ()) -> TensorType:
    return TensorType(DType.INT64, shape)


# Fourier transforms -------------------------------------------------------------------------------


def _largest(_: Any, x: Array, *others: Array | None) -> Any:
    """At least the sum of magnitudes along any axis of any event, times that of a window."""
    windows = [a for a in others if a is not None and a.dtype.kind == "f"]
    weight = max((float(np.max(np.abs(w), initial=0.0)) for w in windows), default=1.0)
    axes = tuple(range(1, x.ndim))
    return weight * np.max(np.sum(np.abs(x), axis=axes), initial=0.0)


def _dft(dtype: DType, full: bool) -> Iterator[Case]:
    lengths = (1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 15, 16, 21, 30, 49, 60, 64, 77, 100, 101, 128)
    for n in lengths if full else lengths[5:9]:
        yield Case(DFT(), (TensorType(dtype, (N, n, 2)),), (usual,))
    for inverse in (False, True):
        for onesided in (False, True):
            flags = {"inverse": inverse, "onesided": onesided}
            components = 1 if onesided and not inverse else 2
            for n in (9, 10):
                x = TensorType(dtype, (N, n, components))
                yield Case(DFT(**flags), (x,), (usual,))
                yield Case(DFT(n + 3, **flags), (x,), (usual,))
                yield Case(DFT((n - 4,), (-2,), **flags), (x,), (usual,))
            yield Case(DFT(None, 1, **flags), (TensorType(dtype, (N, 6, 3, components)),), (usual,))
    if full:
        yield Case(DFT(), (TensorType(dtype, (N, M, 1)),), (usual,))
        yield Case(DFT(M + 2), (TensorType(dtype, (M, N, 4, 1)),), (usual,))
        yield Case(DFT(None, 0), (TensorType(dtype, (4, 3, 1)),), (usual,))
        yield Case(DFT(5), (TensorType(dtype, (0, 4, 1)),), (usual,))
        yield Case(DFT(5), (TensorType(dtype, (2, 0, 1)),), (usual,))
        yield Case(DFT(inverse=True), (TensorType(dtype, (N, 4, 1)),), (usual,))
        yield Case(DFT(inverse=True, onesided=True), (TensorType(dtype, (N, 4, 1)),), (usual,))


def _runtime_dft(dtype: DType, _full: bool) -> Iterator[Case]:
    scalar = _whole()
    for inverse, onesided in ((False, False), (False, True), (True, False), (True, True)):
        op = RuntimeDFT(inverse, onesided)
        x = TensorType(dtype, (N, 6, 5, 2))
        yield Case(op, (x, scalar), (usual, _exactly(7)))
        yield Case(op, (x, None, scalar), (usual, _exactly(0), _exactly(1)))
        yield Case(op, (x, _whole((1,)), scalar), (usual, _exactly(4), _exactly(-3)))
        yield Case(op, (x,), (usual,))


def _stft(dtype: DType, full: bool) -> Iterator[Case]:
    signal, window = TensorType(dtype, (N, 40, 1)), TensorType(dtype, (16,))
    yield Case(STFT(8), (signal, window), (usual,))
    yield Case(STFT(7, 16), (signal,), (usual,))
    yield Case(STFT(5, onesided=False), (TensorType(dtype, (N, 40, 2)), window), (usual,))
    if full:
        yield Case(STFT((3,), (16,)), (signal, window), (usual,))
        yield Case(STFT(3), (signal,), (usual,))
        yield Case(STFT(3, 9), (TensorType(dtype, (N, M + 8, 1)),), (usual,))
        yield Case(STFT(40, 11), (TensorType(dtype, (0, 30, 1)),), (usual,))


def _runtime_stft(dtype: DType, full: bool) -> Iterator[Case]:
    signal, window = TensorType(dtype, (N, 40, 1)), TensorType(dtype, (16,))
    step, length = _whole(), _whole((1,))
    fills = (usual, _exactly(8), usual, _exactly(16))
    yield Case(RuntimeSTFT(), (signal, step, window), fills)
    yield Case(RuntimeSTFT(), (signal, step, None, length), fills)
    if full:
        yield Case(RuntimeSTFT(), (signal, step, window, length), fills)
        yield Case(RuntimeSTFT(), (signal, step), fills)
        yield Case(RuntimeSTFT(onesided=False), (signal, step, window), fills)


# Windows and filters ------------------------------------------------------------------------------


def _window(name: str) -> Make:
    cls: Any = REGISTRY["", name]

    def make(dtype: DType, _full: bool) -> Iterator[Case]:
        for periodic in (True, False):
            for n in (0, 2, 3, 10, (17,)):
                yield Case(cls(n, dtype, periodic), ())
        yield Case(cls(1, dtype), ())

    return make


def _runtime_window(name: str) -> Make:
    cls: Any = REGISTRY["sofie", f"Runtime{name}"]

    def make(dtype: DType, _full: bool) -> Iterator[Case]:
        for n in (0, 2, 11, 24):
            for periodic in (True, False):
                yield Case(cls(dtype, periodic), (_whole(),), (_exactly(n),))

    return make


NUMBERS = ((8, 16, 8192, 0.0, 4096.0), (40, 512, 16000, 20.0, 7600.0), (3, 5, 100, 0.0, 50.0))


def _mel(dtype: DType, _full: bool) -> Iterator[Case]:
    for numbers in NUMBERS:
        yield Case(MelWeightMatrix(*numbers, dtype), ())
    yield Case(MelWeightMatrix(0, 16, 8192, 0.0, 4096.0, dtype), ())


def _runtime_mel(dtype: DType, _full: bool) -> Iterator[Case]:
    edge = TensorType(DType.FLOAT32)
    for numbers in NUMBERS:
        types = (_whole(), _whole((1,)), TensorType(DType.INT32), edge, edge)
        yield Case(RuntimeMelWeightMatrix(dtype), types, tuple(map(_exactly, numbers)))


def _one(*_: Any) -> float:
    return 1.0


WINDOWS = ("HannWindow", "HammingWindow", "BlackmanWindow")
ROWS: dict[tuple[str, str], Row] = {
    ("", "DFT"): Row(_dft, magnitude=_largest, signed_zeros=False),
    ("sofie", "RuntimeDFT"): Row(_runtime_dft, magnitude=_largest, signed_zeros=False),
    ("", "STFT"): Row(_stft, magnitude=_largest, signed_zeros=False),
    ("sofie", "RuntimeSTFT"): Row(_runtime_stft, magnitude=_largest, signed_zeros=False),
    **{("", n): Row(_window(n), magnitude=_one, signed_zeros=False) for n in WINDOWS},
    **{
        ("sofie", f"Runtime{n}"): Row(_runtime_window(n), magnitude=_one, signed_zeros=False)
        for n in WINDOWS
    },
    ("", "MelWeightMatrix"): Row(_mel),
    ("sofie", "RuntimeMelWeightMatrix"): Row(_runtime_mel),
}
