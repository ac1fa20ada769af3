"""Resize of axes of open size in terms of other operators: the way that derivatives go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.ir.types import DType
from sofie_rdf.ops._slopes_grid import keys
from sofie_rdf.ops._slopes_indexing import counted

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Value
    from sofie_rdf.ops.resampling import Axis

__all__ = ["resized"]

_WIDE = DType.FLOAT64


def resized(op: Any, x: Value, axes: Sequence[Axis], active: Sequence[int]) -> Value:
    """x with these axes resized, as `Resize` has it."""
    if op.antialias:
        raise UnsupportedOperator(
            "Resize with antialias has no gradient along an axis of open size",
            remedy="Fix that size when the model is read: shapes={...} of `load`",
        )
    for number in active:
        line = _Line(op, x, axes, number)
        total: Value | None = None
        for place, weight in line.taps():
            part = x.apply("Gather", line.within(place), axis=number)
            if weight is not None:
                shape = (*weight.shape, *(1,) * (x.rank - number - 1))
                part = part * weight.apply("Cast", to=x.dtype).reshape(shape)
            total = part if total is None else total + part
        assert total is not None
        x = total
    return x


class _Line:
    """One axis: where in the old one the elements of the new one are, in float64."""

    def __init__(self, op: Any, x: Value, axes: Sequence[Axis], number: int) -> None:
        self.op, self.tape, self.axis = op, x.tape, axes[number]
        self.size = self.tape.size(self.axis.size, _WIDE)
        self.count = self.tape.size(self.axis.count, _WIDE)
        self.scale = self._scale(axes)
        self.at = self._coordinates()

    def _scale(self, axes: Sequence[Axis]) -> Value:
        op, axis, tape = self.op, self.axis, self.tape
        if axis.scale is not None:
            return tape.number(axis.scale, _WIDE)
        if axis.wanted is None:
            return tape.number(1, _WIDE)
        if op.keep_aspect_ratio_policy == "stretch":
            return self.count / self.size
        pairs = [(a.wanted, a.size) for a in axes if a.wanted is not None]
        scales = [tape.size(w, _WIDE) / tape.size(s, _WIDE) for w, s in pairs]
        least = op.keep_aspect_ratio_policy == "not_larger"
        return scales[0].apply("Min" if least else "Max", *scales[1:])

    def _coordinates(self) -> Value:
        axis, size, count, scale = self.axis, self.size, self.count, self.scale
        stretched = axis.scale is None and self.op.keep_aspect_ratio_policy == "stretch"
        width = count if stretched else scale * size
        j, last = counted(self.tape, 0, axis.count, _WIDE), size - 1
        half = (j + 0.5) / scale
        match self.op.coordinate_transformation_mode:
            case "align_corners":
                return width.equals(1).choose(j * 0, j * last / (width - 1))
            case "asymmetric":
                return j / scale
            case "tf_half_pixel_for_nn":
                return half
            case "tf_crop_and_resize":
                extent = axis.end - axis.begin
                one = j * 0 + last * (extent / 2)
                inside = width.equals(1).choose(one, j * last * extent / (width - 1))
                return inside + last * axis.begin
            case "half_pixel_symmetric":
                return size / 2 * (1 - count / width) + half - 0.5
            case "pytorch_half_pixel":
                return count.equals(1).choose(j * 0, half - 0.5)
        return half - 0.5

    def within(self, place: Value) -> Value:
        """The nearest element that exists."""
        last = self.size - 1
        place = (place < last).choose(place, last)
        return (place > 0).choose(place, 0).apply("Cast", to=DType.INT64)

    def taps(self) -> list[tuple[Value, Value | None]]:
        """The elements that each new one is made of, and what they count; nothing for one of 1."""
        op, at = self.op, self.at
        if op.mode == "nearest":
            return [(self._rounded(), self._in_crop(at.like(1)) if self._crops else None)]
        below = at.apply("Floor")
        beyond = at - below
        found = []
        for number in (0, 1) if op.mode == "linear" else (-1, 0, 1, 2):
            d = beyond - number if number < 1 else number - beyond
            near = number in (0, 1)
            weight = 1 - d if op.mode == "linear" else keys(d, op.cubic_coeff_a, near=near)
            place = below + number
            if op.exclude_outside:
                weight = ((place >= 0) & (place < self.size)).choose(weight, 0)
            found.append((place, weight))
        if op.exclude_outside:
            weights = [w for _, w in found]
            total = sum(weights[1:], weights[0])
            total = total.equals(0).choose(1, total)
            found = [(place, weight / total) for place, weight in found]
        return [(place, self._in_crop(weight)) for place, weight in found]

    @property
    def _crops(self) -> bool:
        return bool(self.op.coordinate_transformation_mode == "tf_crop_and_resize")

    def _in_crop(self, weight: Value) -> Value:
        """Nothing outside, where one number is instead."""
        if not self._crops:
            return weight
        return ((self.at >= 0) & (self.at <= self.size - 1)).choose(weight, 0)

    def _rounded(self) -> Value:
        at, rounding = self.at, self.op.nearest_mode
        down, up = at.apply("Floor"), at.apply("Ceil")
        if rounding == "simple":
            return (self.scale < 1).choose(up, down)
        if rounding == "round_prefer_floor":
            return (at - 0.5).apply("Ceil")
        if rounding == "round_prefer_ceil":
            return (at + 0.5).apply("Floor")
        return up if rounding == "ceil" else down
