"""Operators that bring values to a common scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch, UnsupportedOperator
from sofie_rdf.ir.dims import Dim, product, require_equal
from sofie_rdf.ir.operator import (
    Argument,
    Call,
    Functor,
    Launch,
    Operand,
    Operator,
    Tensor,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType, broadcast, normal_axis
from sofie_rdf.ops._broadcast import collapse
from sofie_rdf.ops._device_rows import normalized, softmax
from sofie_rdf.ops._floats import NOTHING, accept_floats
from sofie_rdf.ops.elementwise import FLOATS, Elementwise

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


class _Distribution(Operator):
    """An operator on vectors that lie along the middle axis of x seen as [outer, n, inner]."""

    header: ClassVar[str] = "sofie/kernels/softmax.hxx"
    kernel: ClassVar[str]
    axis: int

    def view(self, shape: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        """[outer, n, inner]; `ShapeError` for an axis that does not exist."""
        whole = shape or (1,)
        axis = normal_axis(self.axis, len(whole))
        return product(whole[:axis]), whole[axis], product(whole[axis + 1 :])

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype not in FLOATS:
            raise TypeMismatch(f"is not defined for {x.dtype}")
        self.view(x.shape)
        return x

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        view = self.view(x.type.shape)
        return Call(self.kernel, (Tensor(outputs[0], view), Tensor(x, view)))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        (x,) = inputs
        assert x is not None
        log = self.kernel == "sofie::log_softmax"
        return softmax(outputs[0], x, self.view(x.type.shape), log=log)


class _OverTheRest(_Distribution):
    """The same over all axes from ``axis`` on, as if they were one."""

    def view(self, shape: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        axis = normal_axis(self.axis, len(shape), end=True)
        return product(shape[:axis]), product(shape[axis:]), 1


def _centred(x: Array) -> Array:
    """x - max x. A maximum that is infinite is NumPy's business: inf - inf is NaN."""
    return np.asarray(x - np.max(x, axis=1, keepdims=True, initial=-np.inf))


class _Softmax(_Distribution):
    kernel: ClassVar[str] = "sofie::softmax"

    def reference(self, x: Array) -> Array:
        grown = np.exp(_centred(x.reshape(self.view(x.shape))))
        return np.asarray((grown / np.sum(grown, axis=1, keepdims=True)).reshape(x.shape))

    def pullback(self, back: Backward) -> Value:
        y, g = (v.reshape(self.view(back.x.shape)) for v in (back.y, back.g))
        product = g * y
        return (product - y * product.sum((1,))).reshape(back.x.shape)


class _LogSoftmax(_Distribution):
    kernel: ClassVar[str] = "sofie::log_softmax"

    def reference(self, x: Array) -> Array:
        shifted = _centred(x.reshape(self.view(x.shape)))
        total = np.sum(np.exp(shifted), axis=1, keepdims=True)
        return np.asarray((shifted - np.log(total)).reshape(x.shape))

    def pullback(self, back: Backward) -> Value:
        y, g = (v.reshape(self.view(back.x.shape)) for v in (back.y, back.g))
        return (g - y.apply("Exp") * g.sum((1,))).reshape(back.x.shape)


@operator(since=13, ulp=8, terms=1)
class Softmax(_Softmax):
    """softmax(x)[i] = e^(x[i] - max x) / sum_j e^(x[j] - max x), along one axis"""

    axis: int = -1


@operator(since=13, ulp=8, terms=2)
class LogSoftmax(_LogSoftmax):
    """log_softmax(x)[i] = x[i] - max x - ln sum_j e^(x[j] - max x), along one axis"""

    axis: int = -1


@operator(domain="sofie", ulp=8, terms=1)
class FlatSoftmax(_OverTheRest, _Softmax):
    """softmax(x) over all axes from ``axis`` on: ONNX's Softmax before opset 13"""

    axis: int = 1


@operator(domain="sofie", ulp=8, terms=2)
class FlatLogSoftmax(_OverTheRest, _LogSoftmax):
    """log_softmax(x) over all axes from ``axis`` on: ONNX's LogSoftmax before opset 13"""

    axis: int = 1


# By given statistics ------------------------------------------------------------------------------


def _channels(x: TensorType, *per_channel: TensorType) -> Dim:
    """The number of channels of x[n, c, ...], of which the others have one number each."""
    if require_same_dtype(x, *per_channel) not in FLOATS:
        raise TypeMismatch(f"is not defined for {x.dtype}")
    if not x.rank:
        raise ShapeError("does not normalise a scalar")
    channels = x.shape[1] if x.rank > 1 else 1
    if any(s.rank != 1 for s in per_channel):
        raise ShapeError(f"needs one number for each of {channels} channels")
    for one in per_channel:
        thing = f"needs {channels} numbers, one for each channel, not {one.shape[0]}"
        require_equal(channels, one.shape[0], thing)
    return channels


def _beside(x: Array, *per_channel: Array) -> tuple[Array, ...]:
    """One number for each channel, in a shape that broadcasts to x[n, c, ...]."""
    shape = (1, -1) + (1,) * (x.ndim - 2) if x.ndim > 1 else (-1,)
    return tuple(p.reshape(shape) for p in per_channel)


@operator(since=15, ulp=4, terms=4)
class BatchNormalization(Elementwise):
    """y[n, c, ...] = (x[n, c, ...] - mean[c]) * scale[c] / sqrt(var[c] + epsilon) + bias[c]"""

    epsilon: float = 1e-5
    momentum: float = 0.9
    training_mode: bool = False

    def __post_init__(self) -> None:
        if self.training_mode:
            raise UnsupportedOperator(
                "BatchNormalization with training_mode=1 is another operator here",
                remedy="Use TrainingBatchNormalization",
            )

    def infer(  # type: ignore[override]
        self,
        x: TensorType,
        scale: TensorType,
        bias: TensorType,
        mean: TensorType,
        var: TensorType,
    ) -> TensorType:
        _channels(x, scale, bias, mean, var)
        return x

    def functor(self) -> Functor:
        return Functor("sofie::BatchNormalization", (self.epsilon,))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, *statistics = (i for i in inputs if i is not None)
        # As one axis behind the channels, [c, 1] broadcasts against [n, c, ...].
        rows, channels = x.type.shape[0], statistics[0].type.shape[0]
        rest = product(x.type.shape[2:])
        loose = not isinstance(rest, int)
        views = [Tensor(o, (rows, channels, rest), loose) for o in (outputs[0], x)]
        per_channel = [Tensor(s, (1, channels, 1), loose) for s in statistics]
        if rest == 1:
            views = [Tensor(v.operand, (rows, channels)) for v in views]
            per_channel = [Tensor(s, (1, channels)) for s in statistics]
        return Call("sofie::map", (self.functor(), *views, *per_channel))

    def reference(self, x: Array, scale: Array, bias: Array, mean: Array, var: Array) -> Array:
        s, b, m, v = _beside(x, scale, bias, mean, var)
        return np.asarray((x - m) * (s / np.sqrt(v + x.dtype.type(self.epsilon))) + b)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        scale, mean, var = (back.input(n) for n in (1, 3, 4))
        shape = (1, mean.shape[0], *(1,) * (back.x.rank - 2)) if back.x.rank > 1 else mean.shape
        root = (var + self.epsilon).apply("Sqrt")
        factor, g = scale / root, back.g
        by_x = g * factor.reshape(shape) if back.needs(0) else None
        if not any(back.needed[1:]):
            return by_x, None, None, None, None
        axes = [a for a in range(g.rank) if a != 1 or g.rank == 1]
        by_bias = g.sum(axes).reshape(mean.shape)
        along = (g * (back.x - mean.reshape(shape))).sum(axes).reshape(mean.shape)
        by_var = along * factor / (var + self.epsilon) * -0.5
        return by_x, along / root, by_bias, -by_bias * factor, by_var


# By the statistics of the data --------------------------------------------------------------------


class _ByItself(Operator):
    """An operator that finds the mean and the variance of its input."""

    header: ClassVar[str] = "sofie/kernels/normalization.hxx"


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    """The mean over these axes, which stay with size 1; NaN of nothing, without a warning."""
    total = np.sum(x, axis=axes, keepdims=True)
    return np.asarray(total / x.dtype.type(math.prod(x.shape[a] for a in axes)))


def _variance(centred: Array, axes: tuple[int, ...]) -> Array:
    return _mean(centred * centred, axes)


def _by_statistics(
    x: Value, g: Value, axes: Sequence[int], epsilon: float, *, centred: bool = True
) -> tuple[Value, Value]:
    """The derivative by x, where ``g`` is that by what is normalised; and that itself."""
    middle = x - x.mean(axes) if centred else x
    scale = 1 / ((middle * middle).mean(axes) + epsilon).apply("Sqrt")
    unit = middle * scale
    straight = g - g.mean(axes) if centred else g
    return (straight - unit * (g * unit).mean(axes)) * scale, unit


class _RowNormalization(_ByItself):
    """An operator on all axes from ``axis`` on, scaled element by element."""

    axis: int
    epsilon: float
    stash_type: DType
    centred: ClassVar[bool]

    def rows(self, shape: Shape) -> tuple[Shape, Shape]:
        """The axes that stay apart, and those that are normalised."""
        axis = normal_axis(self.axis, len(shape))
        return shape[:axis], shape[axis:]

    def check(self, x: TensorType, *others: TensorType | None) -> None:
        accept_floats(x, *others)
        self.rows(x.shape)
        for other in others:
            if other is not None and broadcast((x.shape, other.shape)) != x.shape:
                raise ShapeError(f"cannot broadcast {other} to {x}")

    def call(
        self, outputs: Sequence[Operand], x: Operand, scale: Operand, offset: Operand | None
    ) -> Call:
        before, inside = self.rows(x.type.shape)
        view = product(before), product(inside)
        rule = Functor("sofie::RowStatistics", (self.epsilon, self.centred))
        statistics: list[Argument] = [Tensor(o, (view[0],)) for o in outputs[1:]]
        statistics += [NOTHING] * (3 - len(outputs))
        factors = [f for f in (scale, offset) if f is not None]
        y, source = Tensor(outputs[0], view), Tensor(x, view)
        if all(_stripped(f.type.shape) == _stripped(inside) for f in factors):
            flat = [Tensor(f, (view[1],)) for f in factors]
            listed = (rule, y, *statistics, source, *flat, *[NOTHING] * (2 - len(flat)))
            return Call("sofie::normalize", listed, len(outputs))
        shape, shapes = collapse(x.type.shape, [f.type.shape for f in factors])
        views = (Tensor(f, s) for f, s in zip(factors, shapes, strict=True))
        again = Tensor(outputs[0], shape)
        listed = (rule, y, *statistics, again, source, *views)
        return Call("sofie::normalize_broadcast", listed, len(outputs) + 1)

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        x, *factors = (i for i in inputs if i is not None)
        shape = x.type.shape
        before, inside = self.rows(shape)
        given = [(f, f.type.shape) for f in factors]
        rows = product(before), product(inside)
        return normalized(outputs, x, rows, given, shape, self.epsilon, centred=self.centred)

    def back(self, back: Backward) -> tuple[Value, Value]:
        """The derivatives by x and by the scale."""
        axes = range(back.axis(self.axis), back.x.rank)
        by_x, unit = _by_statistics(
            back.x, back.g * back.input(1), axes, self.epsilon, centred=self.centred
        )
        return by_x, back.g * unit


def _stripped(shape: Shape) -> Shape:
    """The shape without the axes of size 1 that broadcasting puts in front."""
    start = next((i for i, d in enumerate(shape) if d != 1), len(shape))
    return shape[start:]


@operator(since=17, ulp=4, terms=4)
class LayerNormalization(_RowNormalization):
    """y = (x - mean) / sqrt(variance + epsilon) * scale + bias, over the axes from ``axis`` on

    The other outputs are the mean and 1 / sqrt(variance + epsilon).
    """

    axis: int = -1
    epsilon: float = 1e-5
    stash_type: DType = DType.FLOAT32
    centred: ClassVar[bool] = True

    def infer(
        self, x: TensorType, scale: TensorType, bias: TensorType | None = None
    ) -> tuple[TensorType, TensorType, TensorType]:
        self.check(x, scale, bias)
        if self.stash_type is DType.FLOAT64 and x.dtype is not DType.FLOAT64:
            raise TypeMismatch(f"does not compute with {self.stash_type} for {x.dtype}")
        before, inside = self.rows(x.shape)
        statistic = TensorType(self.stash_type, (*before, *(1,) * len(inside)))
        return x, statistic, statistic

    def reference(
        self, x: Array, scale: Array, bias: Array | None = None
    ) -> tuple[Array, Array, Array]:
        axes = tuple(range(normal_axis(self.axis, x.ndim), x.ndim))
        mean = _mean(x, axes)
        centred = x - mean
        deviation = np.sqrt(_variance(centred, axes) + x.dtype.type(self.epsilon))
        y = centred / deviation * scale
        stash = self.stash_type.numpy
        whole = y if bias is None else y + bias
        return whole.astype(x.dtype), mean.astype(stash), (1 / deviation).astype(stash)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, scale, bias = (*inputs, None)[:3]
        assert x is not None and scale is not None
        return self.call(outputs, x, scale, bias)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        back.only_first()
        by_x, by_scale = self.back(back)
        return by_x, by_scale, back.g


@operator(since=23, ulp=4, terms=2)
class RMSNormalization(_RowNormalization):
    """y = x / sqrt(mean of x^2 + epsilon) * scale, over the axes from ``axis`` on"""

    axis: int = -1
    epsilon: float = 1e-5
    stash_type: DType = DType.FLOAT32
    centred: ClassVar[bool] = False

    def infer(self, x: TensorType, scale: TensorType) -> TensorType:
        self.check(x, scale)
        return TensorType(scale.dtype, x.shape)

    def reference(self, x: Array, scale: Array) -> Array:
        axes = tuple(range(normal_axis(self.axis, x.ndim), x.ndim))
        root = np.sqrt(_variance(x, axes) + x.dtype.type(self.epsilon))
        return np.asarray((x / root * scale).astype(scale.dtype))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, scale = inputs
        assert x is not None and scale is not None
        return self.call(outputs, x, scale, None)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return self.back(back)


class _GroupNormalization(_ByItself):
    """x[n, c, ...] by groups of channels, each group by its own statistics."""

    epsilon: float

    def split(self, shape: Shape) -> tuple[Dim, Dim, Dim]:
        """[rows, runs, length]: a row is a group of one event, a run shares scale and offset."""
        raise NotImplementedError

    def places(self, shape: Shape) -> Dim:
        """How many scales and offsets there are."""
        return shape[1]

    def infer(self, x: TensorType, scale: TensorType, bias: TensorType) -> TensorType:
        if require_same_dtype(x, scale, bias) not in FLOATS:
            raise TypeMismatch(f"is not defined for {x.dtype}")
        if x.rank < 2:
            raise ShapeError("needs x[n, c, ...]")
        self.split(x.shape)
        for one in (scale, bias):
            if one.rank != 1:
                raise ShapeError("needs vectors for scale and bias")
            require_equal(one.shape[0], self.places(x.shape))
        return x

    def reference(self, x: Array, scale: Array, bias: Array) -> Array:
        rows, runs, length = (int(d) for d in self.split(x.shape))  # type: ignore[arg-type]
        groups = x.reshape(rows, runs, length)
        centred = groups - _mean(groups, (1, 2))
        epsilon = x.dtype.type(self.epsilon)
        unit = (centred / np.sqrt(_variance(centred, (1, 2)) + epsilon)).reshape(x.shape)
        each = x.shape[1] // max(scale.size, 1)  # channels for one scale
        s, b = _beside(x, np.repeat(scale, each), np.repeat(bias, each))
        return np.asarray(unit * s + b)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, scale, bias = inputs
        assert x is not None and scale is not None and bias is not None
        view = self.split(x.type.shape)
        tensors = Tensor(outputs[0], view), Tensor(x, view), Tensor(scale), Tensor(bias)
        rule = Functor("sofie::Epsilon", (self.epsilon,))
        return Call("sofie::group_normalization", (rule, *tensors))

    def on_device(
        self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
    ) -> tuple[Launch, ...]:
        x, *factors = (i for i in inputs if i is not None)
        rows, runs, length = self.split(x.type.shape)
        places = self.places(x.type.shape)
        inside = product(x.type.shape[2:])
        if places != x.type.shape[1]:
            # There are as many as groups, of which there is one at least.
            inside = product(x.type.shape[1:]) // places
        shape = x.type.shape[0], places, inside
        given = [(f, (1, places, 1)) for f in factors]
        return normalized(outputs, x, (rows, runs * length), given, shape, self.epsilon)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        x, scale = back.x, back.input(1)
        split, count = self.split(x.shape), self.places(x.shape)
        shape = (x.shape[0], count, product(x.shape[1:]) // count)
        g = back.g.reshape(shape)
        scaled = (g * scale.reshape((count, 1))).reshape(split)
        by_x, unit = _by_statistics(x.reshape(split), scaled, (1, 2), self.epsilon)
        by_scale = (g * unit.reshape(shape)).sum((0, 2), keep=False)
        return by_x.reshape(x.shape), by_scale, g.sum((0, 2), keep=False)


def _in_groups(channels: Dim, groups: int) -> Dim:
    if groups < 1 or (isinstance(channels, int) and channels % groups):
        raise ShapeError(f"cannot make {groups} groups of {channels} channels")
    return channels // groups


@operator(since=21, ulp=4, terms=4)
class GroupNormalization(_GroupNormalization):
    """y = (x - mean) / sqrt(variance + epsilon) * scale[c] + bias[c], by groups of channels"""

    num_groups: int
    epsilon: float = 1e-5
    stash_type: DType = DType.FLOAT32

    def split(self, shape: Shape) -> tuple[Dim, Dim, Dim]:
        channels = _in_groups(shape[1], self.num_groups)
        return shape[0] * self.num_groups, channels, product(shape[2:])


@operator(domain="sofie", ulp=4, terms=4)
class GroupwiseNormalization(_GroupNormalization):
    """y = (x - mean) / sqrt(variance + epsilon) * scale[g] + bias[g], by groups g of channels

    This is ONNX's GroupNormalization before opset 21.
    """

    num_groups: int
    epsilon: float = 1e-5

    def split(self, shape: Shape) -> tuple[Dim, Dim, Dim]:
        channels = _in_groups(shape[1], self.num_groups)
        return shape[0] * self.num_groups, 1, channels * product(shape[2:])

    def places(self, shape: Shape) -> Dim:  # noqa: ARG002
        return self.num_groups


@operator(since=22, ulp=4, terms=4)
class InstanceNormalization(_GroupNormalization):
    """y = (x - mean) / sqrt(variance + epsilon) * scale[c] + bias[c], by channels of each event"""

    epsilon: float = 1e-5

    def split(self, shape: Shape) -> tuple[Dim, Dim, Dim]:
        return shape[0] * shape[1], 1, product(shape[2:])


@operator(since=13, ulp=4, terms=4)
class MeanVarianceNormalization(_ByItself):
    """y = (x - mean) / (sqrt(variance) + 1e-9), with mean and variance over ``axes``, if () all"""

    axes: tuple[int, ...] = (0, 2, 3)

    # It mixes events if 0 is one of its axes.
    is_rowwise: ClassVar[bool] = False
    epsilon: ClassVar[float] = 1e-9

    def infer(self, x: TensorType) -> TensorType:
        accept_floats(x)
        self.reduced(x.rank)
        return x

    def reduced(self, rank: int) -> frozenset[int]:
        """The axes that are normalised."""
        return frozenset(normal_axis(a, rank) for a in self.axes or range(rank))

    def reference(self, x: Array) -> Array:
        axes = tuple(self.reduced(x.ndim))
        centred = x - _mean(x, axes)
        return np.asarray(
            centred / (np.sqrt(_variance(centred, axes)) + x.dtype.type(self.epsilon))
        )

    def formula(self, x: Value) -> tuple[Value]:
        axes = sorted(self.reduced(x.rank))
        rough = x - x.mean(axes)
        # The mean of what is nearly centred is what the first one was rounded by.
        centred = rough - rough.mean(axes)
        deviation = (centred * centred).mean(axes).apply("Sqrt")
        return (centred / (deviation + self.epsilon),)

    def pullback(self, back: Backward) -> Value:
        x, axes = back.x, sorted(self.reduced(back.x.rank))
        centred = x - x.mean(axes)
        deviation = (centred * centred).mean(axes).apply("Sqrt")
        g = back.g / (deviation + self.epsilon)
        along = back.y * (g * (centred / deviation)).mean(axes)
        by_centred = g - deviation.equals(0).choose(0, along)
        return by_centred - by_centred.mean(axes)


@operator(domain="sofie", ulp=4, terms=4)
class TrainingBatchNormalization(_ByItself):
    """y as of BatchNormalization by the batch's own statistics; running mean and variance

    The running ones are running * momentum + found * (1 - momentum).
    """

    epsilon: float = 1e-5
    momentum: float = 0.9

    is_rowwise: ClassVar[bool] = False

    def infer(
        self, x: TensorType, scale: TensorType, bias: TensorType, mean: TensorType, var: TensorType
    ) -> tuple[TensorType, TensorType, TensorType]:
        _channels(x, scale, bias, mean, var)
        return x, mean, var

    def reference(
        self, x: Array, scale: Array, bias: Array, mean: Array, var: Array
    ) -> tuple[Array, Array, Array]:
        axes = tuple(a for a in range(x.ndim) if a != 1)
        found = _mean(x, axes)
        centred = x - found
        variance = _variance(centred, axes)
        s, b = _beside(x, scale, bias)
        y = centred / np.sqrt(variance + x.dtype.type(self.epsilon)) * s + b
        old = x.dtype.type(self.momentum)
        fresh = x.dtype.type(1 - self.momentum)
        pairs = ((mean, found), (var, variance))
        running = (r * old + f.reshape(-1) * fresh for r, f in pairs)
        return (y, *running)

    def formula(
        self, x: Value, scale: Value, bias: Value, mean: Value, var: Value
    ) -> tuple[Value, ...]:
        axes = [a for a in range(x.rank) if a != 1]
        shape = tuple(1 if a in axes else scale.shape[0] for a in range(x.rank))
        rough = x - x.mean(axes)
        # The mean of what is nearly centred is what the first one was rounded by, unless that is
        # infinite.
        missed = rough.mean(axes)
        centred = rough - missed
        rounded_by = missed.apply("IsNaN").choose(0, missed)
        found = x.mean(axes) + rounded_by, (centred * centred).mean(axes)
        factor = scale.reshape(shape) / (found[1] + self.epsilon).apply("Sqrt")
        flat = (v.reshape(mean.shape) for v in found)
        running = (
            old * self.momentum + new * (1 - self.momentum)
            for old, new in zip((mean, var), flat, strict=True)
        )
        return (centred * factor + bias.reshape(shape), *running)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        back.only_first()
        x, scale = back.x, back.input(1)
        shape = (1, scale.shape[0], *(1,) * (x.rank - 2))
        axes = [a for a in range(x.rank) if a != 1]
        by_x, unit = _by_statistics(x, back.g * scale.reshape(shape), axes, self.epsilon)
        by_scale = (back.g * unit).sum(axes, keep=False)
        return by_x, by_scale, back.g.sum(axes, keep=False), None, None
