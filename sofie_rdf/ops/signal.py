"""Fourier transforms, and the windows and filters that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import UNKNOWN, Dim, product, require_equal
from sofie_rdf.ir.operator import (
    Argument,
    Call,
    Functor,
    Operand,
    Operator,
    Tensor,
    from_input,
    operator,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType, normal_axis
from sofie_rdf.ops import _slopes_signal
from sofie_rdf.ops._floats import NOTHING
from sofie_rdf.ops._room import require_room
from sofie_rdf.ops.elementwise import FLOATS, INTEGERS, NUMBERS

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value

# A number that ONNX passes as a scalar; some exporters write a list of one.
Number = Dim | tuple[Dim, ...]

_WHOLE = frozenset({DType.INT32, DType.INT64})


def _number(given: Number) -> Dim:
    if isinstance(given, tuple):
        if len(given) != 1:
            raise ShapeError(f"needs one number, not {list(given)}")
        return given[0]
    return given


def _require_number(given: TensorType | None, dtypes: frozenset[DType] = _WHOLE) -> None:
    """The type of an input that is one number."""
    if given is None:
        return
    if given.dtype not in dtypes:
        raise TypeMismatch(f"cannot take a number of {given.dtype}")
    require_equal(given.size, 1)


def _argument(operand: Operand | None) -> Argument:
    return NOTHING if operand is None else Tensor(operand)


def _fourier_memory(n: Dim) -> TensorType:
    """Two buffers of packs of at most eight complex numbers, and the roots of unity."""
    return TensorType(DType.FLOAT64, (34 * n,))


class _Signal(Operator):
    header: ClassVar[str] = "sofie/kernels/signal.hxx"


# Fourier transforms -------------------------------------------------------------------------------


class _Fourier(_Signal):
    """What is the same for a length and an axis that are known, and for those that are computed."""

    inverse: bool
    onesided: bool

    def check(self, x: TensorType) -> None:
        if x.dtype not in FLOATS:
            raise TypeMismatch(f"is not defined for {x.dtype}")
        if x.rank < 2 or x.shape[-1] not in (1, 2):
            raise ShapeError("needs numbers of one or two components along the last axis")

    @property
    def makes_real(self) -> bool:
        """Whether half of a spectrum is given, and a real signal is made of it."""
        return self.inverse and self.onesided

    @property
    def functor(self) -> Functor:
        return Functor("sofie::Dft", (self.inverse, self.onesided))

    def length(self, given: Dim | None, size: Dim) -> Dim:
        if given is not None:
            return given
        return 2 * (size - 1) if self.makes_real else size

    def transformed(self, shape: Shape, n: Dim, axis: int) -> Shape:
        """The shape of the result."""
        results = n // 2 + 1 if self.onesided and not self.inverse else n
        last = 1 if self.makes_real else 2
        return (*shape[:axis], results, *shape[axis + 1 : -1], last)

    def transform(self, x: Array, n: int, axis: int) -> Array:
        values = x[..., 0] if x.shape[-1] == 1 else x[..., 0] + 1j * x[..., 1]
        if 0 in values.shape:
            shape: Any = self.transformed(x.shape, n, axis)
            return np.zeros(shape, x.dtype)
        lines = (s for i, s in enumerate(values.shape) if i != axis)
        require_room("a Fourier transform", (*lines, 8 * n))
        if self.makes_real:
            return np.asarray(np.fft.irfft(values, n, axis)[..., None], x.dtype)
        found = np.fft.ifft(values, n, axis) if self.inverse else np.fft.fft(values, n, axis)
        if self.onesided and not self.inverse:
            found = np.take(found, np.arange(n // 2 + 1), axis)
        return np.stack([found.real, found.imag], axis=-1).astype(x.dtype)


@operator(domain="sofie", ulp=1, terms=2)
class RuntimeDFT(_Fourier):
    """The discrete Fourier transform of x, where its length or the axis is computed"""

    inverse: bool = False
    onesided: bool = False
    decides_sizes: ClassVar[bool] = True

    def infer(
        self,
        x: TensorType,
        dft_length: TensorType | None = None,
        axis: TensorType | None = None,
    ) -> TensorType:
        self.check(x)
        _require_number(dft_length)
        _require_number(axis)
        last = 1 if self.makes_real else 2
        if axis is None:
            return TensorType(x.dtype, (*x.shape[:-2], UNKNOWN, last))
        keeps = dft_length is None and not self.onesided
        shape = x.shape[:-1] if keeps else (UNKNOWN,) * (x.rank - 1)
        return TensorType(x.dtype, (*shape, last))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, length, axis = (*inputs, None, None)[:3]
        assert x is not None
        tensors = Tensor(outputs[0]), Tensor(x)
        arguments = (self.functor, *tensors, _argument(length), _argument(axis))
        return Call("sofie::runtime_dft", arguments)

    def reference(
        self, x: Array, dft_length: Array | None = None, axis: Array | None = None
    ) -> Array:
        along = normal_axis(-2 if axis is None else int(axis.item()), x.ndim)
        given = None if dft_length is None else int(dft_length.item())
        n: Any = self.length(given, x.shape[along])
        return self.transform(x, n, along)


@operator(since=20, ulp=1, terms=2)
class DFT(_Fourier):
    """y[k] = sum_j x[j] * e^(-2 pi i j k / n); with inverse=1 the other sign, and divided by n

    Real and imaginary parts are the two components of the last axis. With onesided=1 only half of
    the spectrum of a real signal is computed, or given.
    """

    dft_length: Number | None = from_input(1, default=None)
    axis: int | tuple[int, ...] = from_input(2, default=-2)
    inverse: bool = False
    onesided: bool = False
    runtime: ClassVar[type[Operator] | None] = RuntimeDFT

    def _along(self, rank: int) -> int:
        axis = _number(self.axis)
        assert isinstance(axis, int)
        found = normal_axis(axis, rank)
        if found == rank - 1:
            raise ShapeError("does not transform the components")
        return found

    def _length(self, shape: Shape) -> Dim:
        given = None if self.dft_length is None else _number(self.dft_length)
        n = self.length(given, shape[self._along(len(shape))])
        if isinstance(n, int) and n < 1:
            raise ShapeError(f"cannot have the length {n}")
        return n

    def infer(self, x: TensorType) -> TensorType:
        self.check(x)
        shape = self.transformed(x.shape, self._length(x.shape), self._along(x.rank))
        return TensorType(x.dtype, shape)

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        (x,) = inputs
        assert x is not None
        return (_fourier_memory(self._length(x.shape)),)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        y, memory = outputs
        axis = self._along(x.type.rank)
        views = [Tensor(o, _around(o.type.shape, axis)) for o in (y, x)]
        arguments = (self.functor, views[0], Tensor(memory), views[1], self._length(x.type.shape))
        return Call("sofie::dft", arguments, outputs=2)

    def reference(self, x: Array) -> Array:
        n: Any = self._length(x.shape)
        return self.transform(x, n, self._along(x.ndim))

    def pullback(self, back: Backward) -> Value:
        axis, n = self._along(back.x.rank), self._length(back.x.shape)
        return _slopes_signal.transformed(self, back.x, back.g, axis, n)


def _around(shape: Shape, axis: int) -> Shape:
    return product(shape[:axis]), shape[axis], product(shape[axis + 1 : -1]), shape[-1]


class _ShortTime(_Fourier):
    inverse: ClassVar[bool] = False  # type: ignore[misc]

    def frames(self, x: Array, step: int, window: Array | None, n: int) -> Array:
        if n > x.shape[1] or step < 1 or n < 1:
            raise ShapeError(f"cannot cut {x.shape[1]} into frames of {n} in steps of {step}")
        count = (x.shape[1] - n) // step + 1
        require_room("all frames", (x.shape[0], count, n))
        places = np.arange(count)[:, None] * step + np.arange(n)
        cut = x[:, places]
        weighted = cut if window is None else cut * window[:, None]
        return self.transform(weighted, n, 2)

    def check_window(self, x: TensorType, window: TensorType | None) -> None:
        self.check(x)
        if x.rank != 3:
            raise ShapeError("needs a signal with three axes")
        if window is not None and (window.dtype is not x.dtype or window.rank != 1):
            raise TypeMismatch(f"cannot use {window} as a window for {x}")


@operator(domain="sofie", ulp=1, terms=2)
class RuntimeSTFT(_ShortTime):
    """The Fourier transforms of frames of x, where their step or their length is computed"""

    onesided: bool = True
    decides_sizes: ClassVar[bool] = True

    def infer(
        self,
        x: TensorType,
        frame_step: TensorType,
        window: TensorType | None = None,
        frame_length: TensorType | None = None,
    ) -> TensorType:
        self.check_window(x, window)
        _require_number(frame_step)
        _require_number(frame_length)
        n = UNKNOWN if window is None else window.shape[0]
        results = n if n == UNKNOWN or not self.onesided else n // 2 + 1
        return TensorType(x.dtype, (x.shape[0], UNKNOWN, results, 2))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, step, window, length = (*inputs, None, None)[:4]
        assert x is not None
        tensors = Tensor(outputs[0]), Tensor(x)
        rest = map(_argument, (step, window, length))
        return Call("sofie::runtime_stft", (self.functor, *tensors, *rest))

    def reference(
        self,
        x: Array,
        frame_step: Array,
        window: Array | None = None,
        frame_length: Array | None = None,
    ) -> Array:
        n = x.shape[1] if frame_length is None else int(frame_length.item())
        n = n if window is None else window.shape[0]
        return self.frames(x, int(frame_step.item()), window, n)


@operator(since=17, ulp=1, terms=2)
class STFT(_ShortTime):
    """y[b, f, k] = sum_j window[j] * x[b, f * frame_step + j] * e^(-2 pi i j k / frame_length)"""

    frame_step: Number = from_input(1)
    frame_length: Number | None = from_input(3, default=None)
    onesided: bool = True
    runtime: ClassVar[type[Operator] | None] = RuntimeSTFT

    def _length(self, x: Shape, window: Shape | None) -> Dim:
        given = None if self.frame_length is None else _number(self.frame_length)
        if window is None:
            return x[1] if given is None else given
        return window[0] if given is None else require_equal(window[0], given)

    def infer(self, x: TensorType, window: TensorType | None = None) -> TensorType:
        self.check_window(x, window)
        n = self._length(x.shape, window.shape if window else None)
        step, length = _number(self.frame_step), x.shape[1]
        known = [d for d in (n, step) if isinstance(d, int)]
        beyond = isinstance(n, int) and isinstance(length, int) and n > length
        if any(d < 1 for d in known) or beyond:
            raise ShapeError(f"cannot cut {length} into frames of {n} in steps of {step}")
        frames = (length - n) // step + 1
        results = n // 2 + 1 if self.onesided else n
        return TensorType(x.dtype, (x.shape[0], frames, results, 2))

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x, window = (*inputs, None)[:2]
        assert x is not None
        return (_fourier_memory(self._length(x.shape, window.shape if window else None)),)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, window = (*inputs, None)[:2]
        assert x is not None
        y, memory = outputs
        n = self._length(x.type.shape, window.type.shape if window else None)
        views = Tensor(y), Tensor(memory), Tensor(x)
        arguments = (self.functor, *views, _argument(window), _number(self.frame_step), n)
        return Call("sofie::stft", arguments, outputs=2)

    def reference(self, x: Array, window: Array | None = None) -> Array:
        n: Any = self._length(x.shape, window.shape if window is not None else None)
        step: Any = _number(self.frame_step)
        return self.frames(x, step, window, n)

    def formula(self, x: Value, window: Value | None = None) -> tuple[Value]:
        n = self._length(x.shape, window.shape if window else None)
        return (_slopes_signal.frames(self, x, window, n, _number(self.frame_step)),)


# Windows ------------------------------------------------------------------------------------------


class _Window(_Signal):
    """Numbers w(i / n) for i = 0 ... n - 1, or w(i / (n - 1)) if it is not periodic."""

    output_datatype: DType
    periodic: bool
    kind: ClassVar[str]

    def at(self, t: Array) -> Array:
        """The window at these parts of its length."""
        raise NotImplementedError(f"{self.name}.at")

    def values(self, n: int) -> Array:
        last = n if self.periodic else n - 1
        require_room("a window", (2 * n,))
        t = np.arange(n) / last if last else np.ones(n) / 2
        return np.asarray(self.at(t)).astype(self.output_datatype.numpy)

    def type_of(self, n: Dim) -> TensorType:
        if self.output_datatype not in NUMBERS:
            raise TypeMismatch(f"is not defined for {self.output_datatype}")
        return TensorType(self.output_datatype, (n,))

    @property
    def functor(self) -> Functor:
        return Functor(f"sofie::{self.kind}")


class _HannWindow(_Window):
    kind: ClassVar[str] = "HannWindow"

    def at(self, t: Array) -> Array:
        return np.asarray(np.square(np.sin(np.pi * t)))


class _HammingWindow(_Window):
    kind: ClassVar[str] = "HammingWindow"

    def at(self, t: Array) -> Array:
        return np.asarray(25 / 46 - 21 / 46 * np.cos(2 * np.pi * t))


class _BlackmanWindow(_Window):
    kind: ClassVar[str] = "BlackmanWindow"

    def at(self, t: Array) -> Array:
        turns = 2 * np.pi * t
        # In this order it is 1 in the middle.
        return np.asarray(0.42 + (0.08 * np.cos(2 * turns) - 0.5 * np.cos(turns)))


class _RuntimeWindow(_Window):
    decides_sizes: ClassVar[bool] = True

    def infer(self, size: TensorType) -> TensorType:
        _require_number(size)
        return self.type_of(UNKNOWN)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        arguments = self.functor, Tensor(outputs[0]), _argument(inputs[0]), int(self.periodic)
        return Call("sofie::runtime_signal_window", arguments)

    def reference(self, size: Array) -> Array:
        return self.values(int(size.item()))


class _KnownWindow(_Window):
    size: Number

    def infer(self) -> TensorType:
        n = _number(self.size)
        if isinstance(n, int) and n < 0:
            raise ShapeError(f"cannot have the size {n}")
        return self.type_of(n)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        assert not inputs
        arguments = self.functor, Tensor(outputs[0]), int(self.periodic)
        return Call("sofie::signal_window", arguments)

    def reference(self) -> Array:
        n: Any = _number(self.size)
        return self.values(n)


@operator(domain="sofie", ulp=2, terms=2)
class RuntimeHannWindow(_RuntimeWindow, _HannWindow):
    """y[i] = sin^2(pi * i / n), for an n that is computed"""

    output_datatype: DType = DType.FLOAT32
    periodic: bool = True


@operator(domain="sofie", ulp=2, terms=2)
class RuntimeHammingWindow(_RuntimeWindow, _HammingWindow):
    """y[i] = 25/46 - 21/46 * cos(2 pi * i / n), for an n that is computed"""

    output_datatype: DType = DType.FLOAT32
    periodic: bool = True


@operator(domain="sofie", ulp=2, terms=2)
class RuntimeBlackmanWindow(_RuntimeWindow, _BlackmanWindow):
    """y[i] = 0.42 - 0.5 * cos(2 pi * i / n) + 0.08 * cos(4 pi * i / n), for a computed n"""

    output_datatype: DType = DType.FLOAT32
    periodic: bool = True


@operator(since=17, ulp=2, terms=2)
class HannWindow(_KnownWindow, _HannWindow):
    """y[i] = sin^2(pi * i / n) with n = size, or size - 1 if it is not periodic"""

    size: Number = from_input(0)
    output_datatype: DType = DType.FLOAT32
    periodic: bool = True
    runtime: ClassVar[type[Operator] | None] = RuntimeHannWindow


@operator(since=17, ulp=2, terms=2)
class HammingWindow(_KnownWindow, _HammingWindow):
    """y[i] = 25/46 - 21/46 * cos(2 pi * i / n) with n = size, or size - 1 if it is not periodic"""

    size: Number = from_input(0)
    output_datatype: DType = DType.FLOAT32
    periodic: bool = True
    runtime: ClassVar[type[Operator] | None] = RuntimeHammingWindow


@operator(since=17, ulp=2, terms=2)
class BlackmanWindow(_KnownWindow, _BlackmanWindow):
    """y[i] = 0.42 - 0.5 * cos(2 pi * i / n) + 0.08 * cos(4 pi * i / n) with n = size (- 1)"""

    size: Number = from_input(0)
    output_datatype: DType = DType.FLOAT32
    periodic: bool = True
    runtime: ClassVar[type[Operator] | None] = RuntimeBlackmanWindow


# Mel filters --------------------------------------------------------------------------------------


class _MelFilters(_Signal):
    """Triangles over the bins of a spectrum, evenly spread on the scale of mels."""

    output_datatype: DType

    def type_of(self, bins: Dim, filters: Dim) -> TensorType:
        if self.output_datatype not in NUMBERS:
            raise TypeMismatch(f"is not defined for {self.output_datatype}")
        return TensorType(self.output_datatype, (bins, filters))

    def check(self, filters: int, length: int, rate: int, low: float, high: float) -> None:
        if min(filters, length) < 0 or rate < 1 or not 0 <= low <= high:
            raise ShapeError(f"has no meaning for {filters, length, rate, low, high}")

    def triangles(self, filters: int, length: int, rate: int, low: float, high: float) -> Array:
        self.check(filters, length, rate, low, high)
        require_room("a matrix of filters", (filters + 2, length // 2 + 1, 4))
        ends = 2595 * np.log10(1 + np.array([low, high]) / 700)
        mels = ends[0] + np.arange(filters + 2) * (ends[1] - ends[0]) / (filters + 2)
        hertz = 700 * (10 ** (mels / 2595) - 1)
        # Rounding must not put an edge that is a whole number below it.
        edges = np.floor((length + 1) * hertz / rate + 1e-9)
        left, centre, right = edges[:-2], edges[1:-1], edges[2:]
        bins = np.arange(length // 2 + 1)[:, None]
        with np.errstate(all="ignore"):
            rise = np.where(centre == left, 1.0, (bins - left) / (centre - left))
            fall = (right - bins) / (right - centre)
        falling = (bins >= centre) & (bins < right)
        rising = (bins >= left) & (bins <= centre) & ~falling
        values = np.where(falling, fall, np.where(rising, rise, 0.0))
        return values.astype(self.output_datatype.numpy)


@operator(domain="sofie", ulp=2)
class RuntimeMelWeightMatrix(_MelFilters):
    """Triangles over the bins of a spectrum on the mel scale, for numbers that are computed"""

    output_datatype: DType = DType.FLOAT32
    decides_sizes: ClassVar[bool] = True

    def infer(
        self,
        num_mel_bins: TensorType,
        dft_length: TensorType,
        sample_rate: TensorType,
        lower_edge_hertz: TensorType,
        upper_edge_hertz: TensorType,
    ) -> TensorType:
        for whole in (num_mel_bins, dft_length, sample_rate):
            _require_number(whole, INTEGERS)
        for edge in (lower_edge_hertz, upper_edge_hertz):
            _require_number(edge, FLOATS)
        return self.type_of(UNKNOWN, UNKNOWN)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        arguments = Tensor(outputs[0]), *map(_argument, inputs)
        return Call("sofie::runtime_mel_weights", arguments)

    def reference(
        self,
        num_mel_bins: Array,
        dft_length: Array,
        sample_rate: Array,
        lower_edge_hertz: Array,
        upper_edge_hertz: Array,
    ) -> Array:
        filters, length, rate = (int(a.item()) for a in (num_mel_bins, dft_length, sample_rate))
        low, high = float(lower_edge_hertz.item()), float(upper_edge_hertz.item())
        return self.triangles(filters, length, rate, low, high)


@operator(since=17, ulp=2)
class MelWeightMatrix(_MelFilters):
    """y[b, m] = triangle m at bin b of a spectrum; its edges are even in log(1 + f / 700)"""

    num_mel_bins: int | tuple[int, ...] = from_input(0)
    dft_length: int | tuple[int, ...] = from_input(1)
    sample_rate: int | tuple[int, ...] = from_input(2)
    lower_edge_hertz: float | tuple[float, ...] = from_input(3)
    upper_edge_hertz: float | tuple[float, ...] = from_input(4)
    output_datatype: DType = DType.FLOAT32
    runtime: ClassVar[type[Operator] | None] = RuntimeMelWeightMatrix

    def _numbers(self) -> tuple[Any, ...]:
        given = (
            self.num_mel_bins,
            self.dft_length,
            self.sample_rate,
            self.lower_edge_hertz,
            self.upper_edge_hertz,
        )
        return tuple(v[0] if isinstance(v, tuple) else v for v in given)

    def infer(self) -> TensorType:
        self.check(*self._numbers())
        filters, length = self._numbers()[:2]
        return self.type_of(length // 2 + 1, filters)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        assert not inputs
        functor = Functor("sofie::MelFilters", self._numbers())
        return Call("sofie::mel_weights", (functor, Tensor(outputs[0])))

    def reference(self) -> Array:
        return self.triangles(*self._numbers())
