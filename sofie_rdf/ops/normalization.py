"""Operators that bring values to a common scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch, UnsupportedOperator
from sofie_rdf.ir.dims import product
from sofie_rdf.ir.operator import (
    Call,
    Functor,
    Operand,
    Operator,
    Tensor,
    operator,
    require_same_dtype,
)
from sofie_rdf.ir.types import Array, TensorType, normal_axis
from sofie_rdf.ops.elementwise import FLOATS, Elementwise


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


class _LogSoftmax(_Distribution):
    kernel: ClassVar[str] = "sofie::log_softmax"

    def reference(self, x: Array) -> Array:
        shifted = _centred(x.reshape(self.view(x.shape)))
        total = np.sum(np.exp(shifted), axis=1, keepdims=True)
        return np.asarray((shifted - np.log(total)).reshape(x.shape))


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


@operator(since=15, ulp=4, terms=4)
class BatchNormalization(Elementwise):
    """y[n, c, ...] = (x[n, c, ...] - mean[c]) * scale[c] / sqrt(var[c] + epsilon) + bias[c]"""

    epsilon: float = 1e-5
    momentum: float = 0.9
    training_mode: bool = False

    def __post_init__(self) -> None:
        if self.training_mode:
            raise UnsupportedOperator(
                "BatchNormalization with training_mode=1 changes its statistics",
                remedy="Export the model for inference, e.g. after model.eval()",
            )

    def infer(  # type: ignore[override]
        self,
        x: TensorType,
        scale: TensorType,
        bias: TensorType,
        mean: TensorType,
        var: TensorType,
    ) -> TensorType:
        statistics = (scale, bias, mean, var)
        if require_same_dtype(x, *statistics) not in FLOATS:
            raise TypeMismatch(f"is not defined for {x.dtype}")
        if not x.rank:
            raise ShapeError("does not normalise a scalar")
        channels = x.shape[1] if x.rank > 1 else 1
        if any(s.shape != (channels,) for s in statistics):
            raise ShapeError(f"needs scale, bias, mean and var for {channels} channels")
        return x

    def functor(self) -> Functor:
        return Functor("sofie::BatchNormalization", (self.epsilon,))

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, *statistics = (i for i in inputs if i is not None)
        # As one axis behind the channels, [c, 1] broadcasts against [n, c, ...].
        rows, channels = x.type.shape[0], statistics[0].type.shape[0]
        rest = product(x.type.shape[2:])
        views = [Tensor(o, (rows, channels, rest)) for o in (outputs[0], x)]
        per_channel = [Tensor(s, (1, channels, 1)) for s in statistics]
        if rest == 1:
            views = [Tensor(v.operand, (rows, channels)) for v in views]
            per_channel = [Tensor(s, (1, channels)) for s in statistics]
        return Call("sofie::map", (self.functor(), *views, *per_channel))

    def reference(self, x: Array, scale: Array, bias: Array, mean: Array, var: Array) -> Array:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        s, b, m, v = (p.reshape(shape if x.ndim > 1 else (-1,)) for p in (scale, bias, mean, var))
        return np.asarray((x - m) * (s / np.sqrt(v + x.dtype.type(self.epsilon))) + b)
