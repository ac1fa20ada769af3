"""Resize: tensors brought to other sizes, by the nearest element or by interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import ShapeError, TypeMismatch
from sofie_rdf.ir.dims import UNKNOWN, Dim, maximum, minimum, number_of, product
from sofie_rdf.ir.operator import (
    Call,
    Functor,
    Operand,
    Operator,
    Sizes,
    Struct,
    Tensor,
    from_input,
    operator,
)
from sofie_rdf.ir.types import Array, DType, Shape, TensorType, normal_axis
from sofie_rdf.ops import _device_resampling
from sofie_rdf.ops._room import require_room
from sofie_rdf.ops._slopes_resampling import resized
from sofie_rdf.ops.elementwise import ALL, FLOATS, NUMBERS

if TYPE_CHECKING:
    from sofie_rdf.gradients.values import Backward, Value


# In the order of the enumerators in the kernel's header.
MODES = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
)
# "simple" is what opset 10 had: down where the tensor grows, up where it shrinks.
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")
POLICIES = ("stretch", "not_larger", "not_smaller")
_MOST_AXES = 16


def simple_fraction(scale: float) -> Fraction:
    """The first fraction that float32 cannot tell from ``scale``: 7/10 for float32's 0.7.

    Scales are float32 in files, but were written as 0.7, and floor(10 * scale) is meant to be 7.
    """
    rest, above, below, before = scale, 1, 0, (0, 1)
    for _ in range(20):
        whole = math.floor(rest)
        (above, below), before = (
            (whole * above + before[0], whole * below + before[1]),
            (above, below),
        )
        if above > 2**24 or below > 2**24:
            break
        if np.float32(above / below) == np.float32(scale):
            return Fraction(above, below)
        if rest == whole:
            break
        rest = 1 / (rest - whole)
    return Fraction(scale)


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: ``size`` elements become ``count``; ``scale`` is None where that is count / size.

    ``wanted`` is the size that was asked for, if one was; ``begin`` and ``end`` are the crop.
    """

    size: Dim
    count: Dim
    scale: float | None
    wanted: Dim | None
    begin: float = 0.0
    end: float = 1.0


class _Resize(Operator):
    """What Resize is, wherever its sizes come from."""

    header: ClassVar[str] = "sofie/kernels/resampling.hxx"
    antialias: bool
    axes: tuple[int, ...] | None
    coordinate_transformation_mode: str
    cubic_coeff_a: float
    exclude_outside: bool
    extrapolation_value: float
    keep_aspect_ratio_policy: str
    mode: str
    nearest_mode: str

    def accept(self, x: TensorType) -> tuple[int, ...]:
        """The axes that are resized, if x and the attributes are such as are defined."""
        if x.dtype not in (ALL if self.mode == "nearest" else NUMBERS):
            raise TypeMismatch(f"is not defined for {x.dtype} in mode {self.mode!r}")
        _require("mode", self.mode, MODES)
        _require("coordinate_transformation_mode", self.coordinate_transformation_mode, COORDINATES)
        _require("nearest_mode", self.nearest_mode, ROUNDINGS)
        _require("keep_aspect_ratio_policy", self.keep_aspect_ratio_policy, POLICIES)
        if self.antialias and self.mode == "nearest":
            raise ShapeError("has no antialias in mode 'nearest'")
        if x.rank > _MOST_AXES:
            raise ShapeError(f"resizes at most {_MOST_AXES} axes")
        axes = range(x.rank) if self.axes is None else (normal_axis(a, x.rank) for a in self.axes)
        found = tuple(axes)
        if len(set(found)) != len(found):
            raise ShapeError(f"names an axis twice: {found}")
        return found

    @property
    def rule(self) -> Functor:
        numbers = (
            MODES.index(self.mode),
            COORDINATES.index(self.coordinate_transformation_mode),
            ROUNDINGS.index(self.nearest_mode),
            POLICIES.index(self.keep_aspect_ratio_policy),
            self.antialias,
            self.exclude_outside,
            self.cubic_coeff_a,
            self.extrapolation_value,
        )
        return Functor("sofie::ResizeRule", numbers)

    @property
    def reach(self) -> int:
        """How far from a coordinate elements count that are not left out."""
        return {"linear": 1, "cubic": 2}.get(self.mode, 0)


def _require(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ShapeError(f"{name} is {value!r}, and not one of {', '.join(known)}")


@operator(domain="sofie", ulp=2, terms=8)
class RuntimeResize(_Resize):
    """y is x in another size, which is computed: by scales, or to sizes"""

    antialias: bool = False
    axes: tuple[int, ...] | None = None
    coordinate_transformation_mode: str = "half_pixel"
    cubic_coeff_a: float = -0.75
    exclude_outside: bool = False
    extrapolation_value: float = 0.0
    keep_aspect_ratio_policy: str = "stretch"
    mode: str = "nearest"
    nearest_mode: str = "round_prefer_floor"
    decides_sizes: ClassVar[bool] = True

    def infer(
        self,
        x: TensorType,
        roi: TensorType | None = None,
        scales: TensorType | None = None,
        sizes: TensorType | None = None,
    ) -> TensorType:
        axes = self.accept(x)
        for given in (roi, scales):
            if given is not None and given.dtype not in FLOATS:
                raise TypeMismatch(
                    f"needs roi and scales that are floating-point, not {given.dtype}"
                )
        if sizes is not None and sizes.dtype is not DType.INT64:
            raise TypeMismatch(f"needs sizes that are int64, not {sizes.dtype}")
        if any(given is not None and given.rank != 1 for given in (roi, scales, sizes)):
            raise ShapeError("needs roi, scales and sizes that are lists of numbers")
        return TensorType(
            x.dtype, tuple(UNKNOWN if a in axes else d for a, d in enumerate(x.shape))
        )

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        x, *told = inputs
        assert x is not None
        kinds = sum(1 << kind for kind, given in enumerate(told) if given is not None)
        shape, axes = Sizes(x.type.shape), Sizes(self.accept(x.type))
        tensors = (Tensor(outputs[0]), Tensor(x), *(Tensor(t) for t in told if t is not None))
        return Call(f"sofie::resize_as_told<{kinds}>", (self.rule, shape, axes, *tensors))

    def known(
        self, roi: Array | None = None, scales: Array | None = None, sizes: Array | None = None
    ) -> Resize:
        """The same operator with these inputs as attributes."""
        given = {"roi": roi, "scales": scales, "sizes": sizes}
        lists = {k: tuple(v.tolist()) for k, v in given.items() if v is not None}
        attributes: dict[str, Any] = {**self.attributes(), **lists}
        return Resize(**attributes)

    def reference(
        self,
        x: Array,
        roi: Array | None = None,
        scales: Array | None = None,
        sizes: Array | None = None,
    ) -> Array:
        return self.known(roi, scales, sizes).reference(x)


@operator(since=19, ulp=2, terms=8)
class Resize(_Resize):
    """y is x in another size: y[j] = the sum over i near j / scale of weight[j, i] * x[i]"""

    antialias: bool = False
    axes: tuple[int, ...] | None = None
    coordinate_transformation_mode: str = "half_pixel"
    cubic_coeff_a: float = -0.75
    exclude_outside: bool = False
    extrapolation_value: float = 0.0
    keep_aspect_ratio_policy: str = "stretch"
    mode: str = "nearest"
    nearest_mode: str = "round_prefer_floor"
    roi: tuple[float, ...] | None = from_input(1, default=None)
    scales: tuple[float, ...] | None = from_input(2, default=None)
    sizes: Shape | None = from_input(3, default=None)
    runtime: ClassVar[type[Operator] | None] = RuntimeResize
    on_device = _device_resampling.resized
    device_workspace = _device_resampling.between

    def infer(self, x: TensorType) -> TensorType:
        found = self.resized(x)
        if product(a.size for a in found) == 0 and all(a.count != 0 for a in found):
            raise ShapeError("has no elements to make others from")
        return TensorType(x.dtype, tuple(a.count for a in found))

    def resized(self, x: TensorType) -> tuple[Axis, ...]:
        """What happens to each axis."""
        axes = self.accept(x)
        # Empty lists stand for none.
        if bool(self.scales) == bool(self.sizes) and axes:
            raise ShapeError("needs either scales or sizes")
        for name, given, count in (
            ("roi", self.roi, 2 * len(axes)),
            ("scales", self.scales, len(axes)),
            ("sizes", self.sizes, len(axes)),
        ):
            if given and len(given) != count:
                raise ShapeError(f"{name} has {len(given)} numbers where {count} are needed")
        found = [Axis(d, d, None, None) for d in x.shape]
        for place, axis in enumerate(axes):
            found[axis] = self._along(x.shape, axes, place)
            if self.roi:
                ends = self.roi[place], self.roi[len(axes) + place]
                found[axis] = replace(found[axis], begin=float(ends[0]), end=float(ends[1]))
        return tuple(found)

    def _along(self, shape: Shape, axes: Sequence[int], place: int) -> Axis:
        size = shape[axes[place]]
        if self.scales:
            scale = float(self.scales[place])
            if not 0 < scale < math.inf:
                raise ShapeError(f"cannot scale by {scale}")
            ratio = simple_fraction(scale)
            return Axis(size, size * ratio.numerator // ratio.denominator, scale, None)
        assert self.sizes is not None
        wanted = self.sizes[place]
        if isinstance(wanted, int) and wanted < 0:
            raise ShapeError(f"cannot make an axis of size {wanted}")
        if self.keep_aspect_ratio_policy == "stretch":
            return Axis(size, wanted, None, wanted)
        pairs = [(w, shape[a]) for w, a in zip(self.sizes, axes, strict=True)]
        if any(d == 0 for _, d in pairs):
            raise ShapeError("cannot keep the aspect ratio of nothing")
        # The size for the one scale of all axes, rounded: monotonic, so it is one of these.
        counts = ((2 * w * size + d) // (2 * d) for w, d in pairs)
        return Axis(size, self._fitting(counts), None, wanted)

    def _fitting(self, counts: Iterable[Dim]) -> Dim:
        smaller = self.keep_aspect_ratio_policy == "not_larger"
        return reduce(minimum if smaller else maximum, counts)

    # The kernel -----------------------------------------------------------------------------------

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = inputs[0]
        assert x is not None
        axes = self.resized(x)
        active = [i for i, a in enumerate(axes) if not self.is_certainly_trivial(a)]
        smooth = self.mode != "nearest"
        entries: Dim = 0
        for i in active:
            entries = entries + self.taps(axes, i) * axes[i].count
        number = DType.FLOAT32 if x.dtype is DType.FLOAT32 else DType.FLOAT64
        between: Dim = 0
        for i in active[1:]:
            old = product(a.size for a in axes[active[0] : i])
            between = maximum(between, old * product(a.count for a in axes[i:]))
        # Behind the tables, packs of 16 numbers of 4 bytes: up to 8 for each result along an axis.
        widest: Dim = 0
        for i in active:
            widest = maximum(widest, axes[i].count)
        packs = (8 * widest + 15) // 16 * 17
        return (
            TensorType(DType.INT64, (entries + packs,)),
            TensorType(number, (entries if smooth else 0,)),
            TensorType(number, (between if smooth else 0,)),
            TensorType(number, (between if smooth and len(active) > 2 else 0,)),
        )

    def is_certainly_trivial(self, axis: Axis) -> bool:
        """Whether this axis stays as it is, whatever its size."""
        if self.coordinate_transformation_mode == "tf_half_pixel_for_nn":
            return False
        if self.coordinate_transformation_mode == "tf_crop_and_resize" and (
            axis.begin,
            axis.end,
        ) != (0, 1):
            return False
        by_size = axis.scale is None and self._by_size
        return axis.size == axis.count and (
            by_size or (axis.wanted is None and axis.scale in (None, 1))
        )

    @property
    def _by_size(self) -> bool:
        """Whether an axis that has no scale is scaled by its own sizes."""
        return self.keep_aspect_ratio_policy == "stretch"

    def taps(self, axes: Sequence[Axis], position: int) -> Dim:
        """How many elements each result along one axis is made of, at most."""
        axis, least = axes[position], self.reach
        if self.mode == "nearest":
            return 1
        if not self.antialias or (axis.scale is None and axis.wanted is None):
            return 2 * least
        if axis.scale is not None:
            return 2 * max(least, math.ceil(min(least / axis.scale, 2.0**40)))
        if self.keep_aspect_ratio_policy == "stretch":
            needed = _divided_up(least * axis.size, axis.count)
        else:
            wanted = ((a.size, a.wanted) for a in axes if a.wanted is not None)
            counts = (_divided_up(least * size, target) for size, target in wanted)
            larger = self.keep_aspect_ratio_policy == "not_larger"
            needed = reduce(maximum if larger else minimum, counts)
        return 2 * maximum(needed, least)

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        (x,) = inputs
        assert x is not None
        axes = self.resized(x.type)
        lists = (
            Sizes(x.type.shape),
            Sizes(tuple(a.count for a in axes)),
            Sizes(tuple(-1 if a.wanted is None else a.wanted for a in axes)),
        )
        scales = (a.scale or 0.0 for a in axes)
        numbers = (*scales, *(a.begin for a in axes), *(a.end for a in axes))
        y, *memory = map(Tensor, outputs)
        tensors = y, Struct("sofie::ResizeMemory", tuple(memory)), Tensor(x)
        told = Functor(f"sofie::Numbers<{len(numbers)}>", numbers)
        return Call("sofie::resize", (self.rule, *tensors, *lists, told), outputs=5)

    # The reference --------------------------------------------------------------------------------

    def reference(self, x: Array) -> Array:
        # Of floating-point types, any: accuracy is measured with types that no graph has.
        type_ = TensorType(DType.FLOAT64 if x.dtype.kind == "f" else DType.of(x), x.shape)
        self.infer(type_)
        axes = self.resized(type_)
        computed = x if self.mode == "nearest" or x.dtype.kind == "f" else x.astype(np.float64)
        y = self.interpolated(computed, axes)
        if self.coordinate_transformation_mode == "tf_crop_and_resize":
            outside = np.zeros((), np.bool_)
            for number, axis in enumerate(axes):
                at = self._coordinates(axes, number)
                outside = np.logical_or.outer(outside, (at < 0) | (at > axis.size - 1))
            y = np.where(outside, np.asarray(self.extrapolation_value), y)
        return as_type(y, x.dtype)

    def interpolated(
        self, x: Array, axes: Sequence[Axis], weigh: Callable[[Array], Array] = np.asarray
    ) -> Array:
        """x after all passes, with the weights that ``weigh`` makes of those of each axis."""
        for number, axis in enumerate(axes):
            plain = replace(axis, scale=None, wanted=None)
            if self._scale(axes, number) == 1 and self.is_certainly_trivial(plain):
                continue
            indices, weights = self.table(axes, number)
            if self.mode == "nearest":
                x = np.take(x, indices[:, 0], number)
                continue
            weights = weigh(weights)
            behind = (1,) * (x.ndim - number - 1)
            total = np.zeros((), x.dtype)
            for tap in range(indices.shape[1]):
                weight = weights[:, tap].reshape(-1, *behind).astype(x.dtype)
                part = np.take(x, indices[:, tap], number)
                # What counts for nothing may be infinite.
                total = total + np.where(weight == 0, x.dtype.type(0), part * weight)
            x = np.asarray(total)
        return x

    def table(self, axes: Sequence[Axis], number: int) -> tuple[Array, Array]:
        """Which elements each result is made of along one axis, and what each counts."""
        axis, scale = axes[number], self._scale(axes, number)
        at = self._coordinates(axes, number)
        size = number_of(axis.size)
        if self.mode == "nearest":
            return np.clip(self._rounded(at, scale), 0, size - 1)[:, np.newaxis], np.ones(
                (len(at), 1)
            )
        shrink = min(scale, 1.0) if self.antialias else 1.0
        most = math.ceil(self.reach / shrink) + 1
        require_room("the weights of a Resize", (len(at), 2 * most + 1))
        places = np.floor(at).astype(np.int64)[:, np.newaxis] + np.arange(-most, most + 1)
        weights = self._kernel((places - at[:, np.newaxis]) * shrink)
        if self.exclude_outside:
            weights = np.where((places < 0) | (places >= size), 0, weights)
        if self.exclude_outside or self.antialias:
            total = np.sum(weights, axis=1, keepdims=True)
            weights = weights / np.where(total == 0, 1, total)
        return np.clip(places, 0, size - 1), weights

    def _scale(self, axes: Sequence[Axis], number: int) -> float:
        axis = axes[number]
        if axis.scale is not None:
            return axis.scale
        if axis.wanted is None or (axis.count == axis.size and self._by_size):
            return 1.0
        if self.keep_aspect_ratio_policy == "stretch":
            return number_of(axis.count) / number_of(axis.size)
        wanted = ((a.wanted, a.size) for a in axes if a.wanted is not None)
        scales = [number_of(target) / number_of(size) for target, size in wanted]
        return min(scales) if self.keep_aspect_ratio_policy == "not_larger" else max(scales)

    def _coordinates(self, axes: Sequence[Axis], number: int) -> Array:
        """Where in the old axis the elements of the new one are."""
        axis, scale = axes[number], self._scale(axes, number)
        size, count = number_of(axis.size), number_of(axis.count)
        # The new size before it was rounded.
        width = float(count) if axis.scale is None and self._by_size else scale * size
        require_room("the axis of a Resize", (count,))
        j, last = np.arange(count, dtype=np.float64), size - 1
        mode = self.coordinate_transformation_mode
        if mode == "align_corners":
            return j * last / (width - 1) if width != 1 else j * 0
        if mode == "asymmetric":
            return j / scale
        if mode == "tf_half_pixel_for_nn":
            return (j + 0.5) / scale
        if mode == "tf_crop_and_resize":
            extent = axis.end - axis.begin
            inside = j * extent * last / (width - 1) if width != 1 else j * 0 + extent * last / 2
            return np.asarray(inside + axis.begin * last)
        if mode == "half_pixel_symmetric":
            return size / 2 * (1 - count / width) + (j + 0.5) / scale - 0.5
        if mode == "pytorch_half_pixel" and count == 1:
            return j * 0
        return (j + 0.5) / scale - 0.5

    def _rounded(self, at: Array, scale: float) -> Array:
        rounding = self.nearest_mode
        if rounding == "simple":
            rounding = "ceil" if scale < 1 else "floor"
        functions: dict[str, Callable[[Array], Array]] = {
            "floor": np.floor,
            "ceil": np.ceil,
            "round_prefer_floor": lambda x: np.ceil(x - 0.5),
            "round_prefer_ceil": lambda x: np.floor(x + 0.5),
        }
        return np.asarray(functions[rounding](at)).astype(np.int64)

    def _kernel(self, distance: Array) -> Array:
        """What an element at this distance counts: a triangle, or Keys' cubic convolution."""
        d = np.abs(distance)
        if self.mode == "linear":
            return np.asarray(np.maximum(1 - d, 0))
        a = self.cubic_coeff_a
        # As products, so that what is nearly 0 is exact.
        near = (1 - d) * (1 + d - (a + 2) * d**2)
        far = a * (d - 1) * (d - 2) ** 2
        return np.where(d <= 1, near, np.where(d < 2, far, 0))

    def pullback(self, back: Backward) -> tuple[Value | None, ...]:
        x, g = back.x, back.g
        axes = self.resized(x.type)
        active = [i for i, a in enumerate(axes) if not self.is_certainly_trivial(a)]
        sizes = [d for i in active for d in (axes[i].size, axes[i].count)]
        if not all(isinstance(d, int) for d in sizes):
            return back.by_formula(lambda x: (resized(self, x, axes, active),))
        for number in active:
            order = [*(a for a in range(x.rank) if a != number), number]
            matrix = self._matrix(axes, number).astype(x.dtype.numpy)
            turned = g.transpose(order).matmul(back.tape.constant(matrix))
            g = turned.transpose([order.index(a) for a in range(x.rank)])
        return (g,)

    def _matrix(self, axes: Sequence[Axis], number: int) -> Array:
        """What an axis of known sizes is multiplied with: [count, size]."""
        axis = axes[number]
        count, size = number_of(axis.count), number_of(axis.size)
        limits.spend(bytes=8 * count * size, what="the gradient of Resize")
        matrix = np.zeros((count, size))
        places, weights = self.table(axes, number)
        np.add.at(matrix, (np.arange(count)[:, np.newaxis], places), weights)
        if self.coordinate_transformation_mode == "tf_crop_and_resize":
            at = self._coordinates(axes, number)
            matrix[(at < 0) | (at > size - 1)] = 0
        return matrix


def _divided_up(size: Dim, by: Dim) -> Dim:
    least = maximum(by, 1)
    return (size + least - 1) // least


def as_type(y: Array, dtype: np.dtype[Any]) -> Array:
    """Computed numbers in an element type: integers are rounded, and stay in range."""
    if y.dtype == dtype or dtype.kind == "f":
        return np.asarray(y, dtype)
    if dtype.kind not in "iu":
        return np.asarray(y != 0) if dtype.kind == "b" else y.astype(dtype)
    info = np.iinfo(dtype)
    rounded = np.rint(y)
    inside = np.where((rounded > info.min) & (rounded < info.max), rounded, 0).astype(dtype)
    return np.where(
        rounded >= info.max, info.max, np.where(rounded <= info.min, info.min, inside)
    ).astype(dtype)
