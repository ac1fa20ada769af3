"""Losses of classifications."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sofie_rdf.errors import ShapeError, TypeMismatch, UnsupportedOperator
from sofie_rdf.ir.dims import require_equal
from sofie_rdf.ir.operator import Operator, operator, require_same_dtype
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.elementwise import FLOATS

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value

# They are spelled out: there is no kernel that is theirs.
HEADER = "sofie/kernels/softmax.hxx"

_REDUCTIONS = ("none", "sum", "mean")


class _Loss(Operator):
    """-x[n, target[n, ...], ...] * weight[target[n, ...]], and their sum or weighted mean."""

    header: ClassVar[str] = HEADER

    ignore_index: int | None
    reduction: str

    def __post_init__(self) -> None:
        if self.reduction not in _REDUCTIONS:
            raise UnsupportedOperator(f"{self.name} has no reduction {self.reduction!r}")

    def loss(self, x: TensorType, target: TensorType, weight: TensorType | None) -> TensorType:
        """The type of the loss."""
        dtype = require_same_dtype(x, *([] if weight is None else [weight]))
        if dtype not in FLOATS:
            raise TypeMismatch(f"is not defined for {dtype}")
        if target.dtype not in (DType.INT32, DType.INT64):
            raise TypeMismatch(f"needs classes in int32 or int64, not {target.dtype}")
        if x.rank < 2 or target.rank != x.rank - 1:
            raise ShapeError(f"needs one class for each sample of {x}, not {target}")
        for p, q in zip((x.shape[0], *x.shape[2:]), target.shape, strict=True):
            require_equal(p, q, f"needs one class for each sample of {x}, not {target}")
        if weight is not None:
            if weight.rank != 1:
                raise ShapeError(f"needs one weight for each class, not {weight}")
            classes, given = x.shape[1], weight.shape[0]
            require_equal(classes, given, f"needs {classes} weights, not {given}")
        return TensorType(dtype, target.shape if self.reduction == "none" else ())

    def through(self, back: Backward) -> tuple[Value | None, ...]:
        """The derivatives by x and by the weights."""
        x, target, weight = back.x, back.input(1), back.optional(2)
        ones = back.tape.filled(1, TensorType(x.dtype, target.shape))
        ignored = None
        if self.ignore_index is not None:
            ignored = target.equals(self.ignore_index)
            target = ignored.choose(0, target)
        factor = ones if weight is None else weight.apply("Gather", target, axis=0)
        factor = factor if ignored is None else ignored.choose(0, factor)
        share = back.g
        if self.reduction == "mean":
            share = share / factor.sum(range(factor.rank), keep=False)
        place = target.reshape((target.shape[0], 1, *target.shape[1:]))
        by_x = (-share * factor).reshape(place.shape)
        found = x.like().apply("ScatterElements", place, by_x, axis=1)
        if weight is None or not back.needs(2):
            return found, None
        if self.reduction == "mean":
            raise UnsupportedOperator(
                f"{self.name} has no gradient by the weights of the classes, as in torch",
                remedy="Use reduction='sum', or differentiate by other inputs",
            )
        each = -share * x.apply("GatherElements", place, axis=1).reshape(target.shape)
        each = each if ignored is None else ignored.choose(0, each)
        flat = [v.reshape((v.type.size,)) for v in (target, each)]
        add = weight.like().apply("ScatterElements", *flat, axis=0, reduction="add")
        return found, None, add

    def reduced(self, log_p: Array, target: Array, weight: Array | None) -> Array:
        """The loss for these log-probabilities."""
        counts = np.ones(target.shape, np.bool_)
        if self.ignore_index is not None:
            counts = target != self.ignore_index
        label = np.where(counts, target, 0)
        if counts.any() and not ((label >= 0) & (label < log_p.shape[1])).all():
            raise ValueError("a target of a loss is no class")
        one = np.ones((), log_p.dtype)
        if counts.any():
            chosen = np.take_along_axis(log_p, label[:, None].astype(np.int64), 1)[:, 0]
            factor = one if weight is None else weight[label]
        else:
            chosen, factor = np.zeros(target.shape, log_p.dtype), one
        factor = np.where(counts, factor, 0).astype(log_p.dtype)
        losses = np.where(counts, -chosen * factor, 0).astype(log_p.dtype)
        if self.reduction == "none":
            return losses
        total = np.sum(losses)
        return np.asarray(total if self.reduction == "sum" else total / np.sum(factor))


@operator(since=22, header=HEADER, ulp=1, terms=2)
class NegativeLogLikelihoodLoss(_Loss):
    """-x[n, target[n]] * weight[target[n]] for each sample n; their sum, or their weighted mean"""

    ignore_index: int | None = None
    reduction: str = "mean"

    def infer(
        self, x: TensorType, target: TensorType, weight: TensorType | None = None
    ) -> TensorType:
        return self.loss(x, target, weight)

    def reference(self, x: Array, target: Array, weight: Array | None = None) -> Array:
        return self.reduced(x, target, weight)

    def formula(self, x: Value, target: Value, weight: Value | None = None) -> tuple[Value]:
        ignored = None
        if self.ignore_index is not None:
            ignored = target.equals(self.ignore_index)
            target = ignored.choose(0, target)
        place = target.reshape((target.shape[0], 1, *target.shape[1:]))
        loss = -x.apply("GatherElements", place, axis=1).reshape(target.shape)
        factor = loss.like(1) if weight is None else weight.apply("Gather", target, axis=0)
        loss = loss if weight is None else loss * factor
        if ignored is not None:
            loss, factor = (ignored.choose(0, v) for v in (loss, factor))
        if self.reduction == "none":
            return (loss,)
        total, counts = (v.sum(range(v.rank), keep=False) for v in (loss, factor))
        return (total if self.reduction == "sum" else total / counts,)

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        return self.through(back)


@operator(since=13, header=HEADER, ulp=1, terms=4)
class SoftmaxCrossEntropyLoss(_Loss):
    """-ln softmax(x[n])[target[n]] * weight[target[n]]; their sum, or weighted mean

    The second output is ln softmax(x).
    """

    ignore_index: int | None = None
    reduction: str = "mean"

    def infer(
        self, x: TensorType, target: TensorType, weight: TensorType | None = None
    ) -> tuple[TensorType, TensorType]:
        return self.loss(x, target, weight), x

    def reference(
        self, x: Array, target: Array, weight: Array | None = None
    ) -> tuple[Array, Array]:
        shifted = x - np.max(x, axis=1, keepdims=True, initial=-np.inf)
        log_p = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
        return self.reduced(log_p, target, weight), log_p

    def formula(self, x: Value, target: Value, weight: Value | None = None) -> tuple[Value, Value]:
        log_p = x.apply("LogSoftmax", axis=1)
        loss = NegativeLogLikelihoodLoss(self.ignore_index, self.reduction)
        return log_p.through(loss, target, weight), log_p
