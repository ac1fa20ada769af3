"""What Resize does on devices: a kernel for each axis that changes, the last one first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

from sofie_rdf.errors import TypeMismatch, UnsupportedOperator
from sofie_rdf.ir.dims import maximum, product
from sofie_rdf.ir.operator import Launch, Operand
from sofie_rdf.ir.types import TensorType
from sofie_rdf.ops._device import mapped_copy, require_known

if TYPE_CHECKING:
    from sofie_rdf.ops.resampling import Axis, Resize

__all__ = ["between", "resized"]

HEADER = "sofie/device/resize.hxx"


def _active(op: Resize, axes: Sequence[Axis]) -> list[int]:
    return [i for i in reversed(range(len(axes))) if not op.is_certainly_trivial(axes[i])]


def between(self: Resize, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
    """Two buffers for what is between the axes, or one, or none."""
    (x, *_) = inputs
    assert x is not None
    axes = self.resized(x)
    active = _active(self, axes)
    shape, sizes = list(x.shape), []
    for axis in active[:-1]:
        shape[axis] = axes[axis].count
        sizes.append(product(shape))
    halves = (sizes[0::2], sizes[1::2])
    return tuple(TensorType(x.dtype, (reduce(maximum, half),)) for half in halves if half)


def resized(
    self: Resize, inputs: Sequence[Operand | None], outputs: Sequence[Operand]
) -> tuple[Launch, ...]:
    """Kernels between x, the buffers and y."""
    (x, *_) = inputs
    y, *spaces = outputs
    assert x is not None
    require_known(x)
    if self.coordinate_transformation_mode == "tf_crop_and_resize":
        raise UnsupportedOperator("devices do not crop and resize", remedy="Slice, then resize")
    if self.keep_aspect_ratio_policy != "stretch":
        raise UnsupportedOperator("devices do not keep aspect ratios", remedy="Give both sizes")
    if self.mode != "nearest" and not x.type.dtype.is_float:
        raise TypeMismatch(f"devices do not interpolate {x.type.dtype}", remedy="Cast to float32")
    axes = self.resized(x.type)
    active = _active(self, axes)
    if not active:
        return mapped_copy(y, x)
    shape, found, source = list(x.type.shape), [], x
    for number, axis in enumerate(active):
        target = y if axis == active[-1] else spaces[number % 2]
        inner = product(shape[axis + 1 :])
        shape[axis] = axes[axis].count
        parameters = *_rule(self), axes[axis].scale or 0.0, axes[axis].size, shape[axis], inner
        count = product(shape)
        found.append(Launch("sofie::device::Resize", parameters, (target, source), count, HEADER))
        source = target
    return tuple(found)


def _rule(op: Resize) -> tuple[int | float, ...]:
    numbers = [n for n in op.rule.fields if isinstance(n, (int, float))]
    mode, coordinate, rounding, _, antialias, outside, cubic, _ = numbers
    return *map(int, (mode, coordinate, rounding, antialias, outside)), float(cubic)
