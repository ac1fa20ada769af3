"""Convolutions with fewer multiplications: the shapes for which they pay, and their kernels."""

from __future__ import annotations

import math
from typing import NamedTuple

from sofie_rdf.ir.dims import Dim, ceil_div, maximum, minimum, number_of
from sofie_rdf.ir.operator import Sizes, flag
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.kernels.choice import GENERIC, IS_ASSEMBLER, Candidate, Choice, Elsewhere, Table
from sofie_rdf.kernels.convolution_problem import ConvProblem, half_of
from sofie_rdf.kernels.lanes import HALVES, MOST_HALVES, best_half, is_short, scratch_of_lanes

__all__ = [
    "LEAST_CHANNELS",
    "LEAST_FEATURES",
    "WINOGRAD",
    "WINOGRAD_HEADER",
    "WINOGRAD_SIZES",
    "inputs_of_a_tile",
    "why_no_winograd",
]

WINOGRAD_HEADER = "sofie/kernels/convolution/winograd.hxx"
_LANES_HEADER = "sofie/kernels/convolution/winograd_lanes.hxx"

# Outputs of a tile along an axis; and the kernels for which there are tiles.
_TILE, WINOGRAD_SIZES = 4, (3, 5)
# Fewer features have another tile in `ConvLayer`. Of few channels the tolerance is less than what
# the transforms add.
LEAST_FEATURES, LEAST_CHANNELS = 5, 4
# Events of fewer tiles are quicker without: the transformed weights would be read for few. So are
# those of tiles that are half empty.
_LEAST_TILES = 12
# How much fewer multiplications there must be.
_GAIN = 1.25

# Of the kernel: the columns of a tile of sums where registers have 64 bytes, the elements of a
# register there, the features whose sums are there at the same time.
_COLUMNS, _LANES, _FEATURES = 48, 16, 16
# How many transformed inputs there should be at a time at most, so that they stay in the cache.
_BUDGET = 1 << 18
# Transforming an input or an output takes the time of so many products; where tiles are of 2 x 2 it
# does of these.
_TO_POINTS, _FROM_POINTS, _TO_FEW, _FROM_FEW = 30, 24, 14, 9
# Where features lie in the lanes: the transformed inputs, the widest image, and the longest line of
# tiles.
_LANES_BUDGET, _WIDEST, _LINE = 1 << 18, 1024, MOST_HALVES * HALVES[0]
# Weights that the second cache keeps, and the columns whose products take as long as reading more
# of them; the same of the first cache, beside all else that it keeps.
_NEAR, _STREAM, _NEAREST, _LOAD = 1 << 18, 24, 1 << 14, 8
# Of an image that is one tile the transformed weights with which it pays, as events share products.
_ONE = 1 << 16
# Of images of any size: the outputs of tiles between which the kernel chooses.
_OUTPUTS = (4, 2)


# Shapes -------------------------------------------------------------------------------------------


def inputs_of_a_tile(problem: ConvProblem) -> int:
    """How many a tile has along an axis."""
    largest = max(s.kernel for s in problem.windows[-2:])
    return _TILE - 1 + next(s for s in WINOGRAD_SIZES if s >= largest)


def _depth_of_kernel(problem: ConvProblem) -> int:
    return math.prod(s.kernel for s in problem.windows[:-2])


def _points(problem: ConvProblem) -> int:
    """How many products there are for a tile and a channel, with all depths of the kernel."""
    return inputs_of_a_tile(problem) ** 2 * _depth_of_kernel(problem)


def _columns(problem: ConvProblem) -> int:
    """How many tiles are done at a time: whole registers, as many as the cache has room for."""
    channels = problem.group_channels
    assert isinstance(channels, int)
    fit = _BUDGET // (_points(problem) * channels) // _LANES * _LANES
    return min(max(fit, _LANES), _COLUMNS)


def _time(points: int, columns: int, weights: int) -> int:
    """What products of columns take for each of some weights, or reading these does."""
    read = ((_NEAR, _STREAM), (_NEAREST, _LOAD))
    reading = (least for most, least in read if points * weights > most)
    return points * max(columns, next(reading, 0))


def _time_of_tiles(outputs: int, sizes: tuple[int, int], weights: int) -> int:
    tiles = -(-sizes[0] // outputs) * -(-sizes[1] // outputs)
    return _time((outputs + 2) ** 2, tiles, weights)


def _apart(channels: int) -> int:
    """Elements from one transformed input to the next: an odd number of cache lines."""
    return (channels // _LANES | 1) * _LANES


class _Lanes(NamedTuple):
    """Outputs of a tile along an axis; columns of half a tile of products, and of `ConvLayer`'s.

    Of an image whose size is open the kernel chooses between tiles: it has 0 outputs here, and
    the largest halves.
    """

    outputs: int
    half: int
    direct: int

    def tiles(self, channels: int, width: Dim, lines: Dim) -> Dim:
        """How many are done at a time of so many lines of tiles; or that and some more."""
        across = ceil_div(width, self.outputs)
        points = (self.outputs + 2) ** 2 * _apart(channels)
        if not isinstance(across, int):
            return minimum(maximum(across, _LANES_BUDGET // points), across * lines)
        return across * minimum(max(1, _LANES_BUDGET // (points * across)), lines)

    def memory(self, channels: Dim, size: tuple[Dim, Dim], events: Dim) -> Dim:
        """Transformed inputs, sums, lines of channels, and what becomes of them."""
        if not self.outputs:
            each = (self._replace(outputs=o).memory(channels, size, events) for o in _OUTPUTS)
            return maximum(*each)
        assert isinstance(channels, int)
        across, inputs = ceil_div(size[1], self.outputs), self.outputs + 2
        tiles = self.tiles(channels, size[1], events * ceil_div(size[0], self.outputs))
        points = [
            inputs**2 * (tiles * n + _LANES) + self.half * n for n in (_apart(channels), 2 * _LANES)
        ]
        results = self.outputs**2 * across * 2 * _LANES
        columns = across * self.outputs + 2
        return points[0] + points[1] + results + (2 * inputs * columns + 5) * _LANES


def _lanes_of(problem: ConvProblem) -> _Lanes | str:
    """How features lie in the lanes, or why they do not fill them."""
    direct, features, channels = half_of(problem), problem.features, problem.group_channels
    assert isinstance(features, int) and isinstance(channels, int)
    if not direct:
        return "its features do not lie in the lanes"
    if inputs_of_a_tile(problem) != 6 or len(problem.windows) != 2 or channels % _LANES:
        return f"its kernel is not up to 3 x 3, or channels are no multiple of {_LANES}"
    height, width = (s.count for s in problem.windows)
    if isinstance(width, int) and not 0 < width <= _WIDEST:
        return f"its rows are longer than {_WIDEST}, or empty"
    if not isinstance(height, int) or not isinstance(width, int):
        return _Lanes(0, HALVES[0], direct)
    large, one = _is_of_tiles(height, width), _is_one_tile(height, width, features * channels)
    small = height > 0 and -(-width // 2) <= _LINE
    sizes = (_TILE,) * (large or not small) + (2,) * small
    time = {n: _time_of_tiles(n, (height, width), features * channels) for n in sizes}
    outputs = _TILE if one else min(sizes, key=time.__getitem__)
    together = _Lanes(outputs, 0, 0).tiles(channels, width, -(-height // outputs))
    assert isinstance(together, int)
    return _Lanes(outputs, best_half(together, min(channels, 64), -(-width // outputs)), direct)


def _is_of_tiles(height: int, width: int) -> bool:
    """Whether there are enough tiles, which are not half empty."""
    tiles = -(-height // _TILE) * -(-width // _TILE)
    return tiles >= _LEAST_TILES and 2 * height * width >= _TILE**2 * tiles


def _is_one_tile(height: int, width: int, weights: int) -> bool:
    """Whether an image is one tile, more than half of it, whose weights stay near."""
    fills = max(height, width) <= _TILE and 2 * height * width > _TILE**2
    return fills and (_TILE + 2) ** 2 * weights <= _ONE


# Whether they pay ---------------------------------------------------------------------------------


def why_no_winograd(problem: ConvProblem) -> str:
    """Why fewer multiplications do not pay for a convolution of this shape; "" where they do."""
    slides, kernel = problem.windows, [s.kernel for s in problem.windows[-2:]]
    plain = all(s.stride == s.dilation == 1 for s in slides)
    if problem.dtype not in (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16):
        return f"its elements are {problem.dtype}"
    if not plain or problem.groups != 1:
        return "it has strides, dilations or groups"
    if len(slides) < 2:
        return "it has one axis"
    if max(kernel) > max(WINOGRAD_SIZES):
        return "its kernel is too large"
    if min(kernel) < 2:
        return "its kernel is a row or a column"
    features, channels = problem.features, problem.group_channels
    if not isinstance(features, int) or not isinstance(channels, int):
        return "its features or channels are not known"
    many = features >= LEAST_FEATURES and channels >= LEAST_CHANNELS
    if not many or _gain(problem) < _GAIN:
        return "it has few channels, features or taps"
    return _too_few_tiles(problem)


def _too_few_tiles(problem: ConvProblem) -> str:
    small = _gain_of_small_tiles(problem)
    if small is not None and small >= _GAIN:
        return ""
    height, width = (s.count for s in problem.windows[-2:])
    if isinstance(height, int) and isinstance(width, int):
        features, channels = number_of(problem.features), number_of(problem.group_channels)
        in_lanes = not isinstance(_lanes_of(problem), str)
        if in_lanes and _is_one_tile(height, width, features * channels):
            return ""
        tiles = math.ceil(height / _TILE) * math.ceil(width / _TILE)
        if tiles < _LEAST_TILES:
            return f"its output is of {tiles} tiles only"
        used = height * width / (_TILE**2 * tiles) if tiles else 0.0
        if used < 0.5:
            return "its tiles would be half empty"
        # What is computed in vain costs more where transforms are larger.
        large = max(s.kernel for s in problem.windows[-2:]) > min(WINOGRAD_SIZES)
        if large and used * _gain(problem) < _GAIN:
            return "too much of its tiles would be empty"
    return "" if small is None else "reading more weights would take longer"


def _gain(problem: ConvProblem) -> float:
    """How many times fewer multiplications there are for a tile, transforms included."""
    features, channels = problem.features, problem.group_channels
    assert isinstance(features, int) and isinstance(channels, int)
    depth = _depth_of_kernel(problem)
    plain = features * channels * math.prod(s.kernel for s in problem.windows)
    fewer = features * channels * depth + _TO_POINTS * channels + _FROM_POINTS * features
    return _TILE**2 * plain / (inputs_of_a_tile(problem) ** 2 * fewer)


def _gain_of_small_tiles(problem: ConvProblem) -> float | None:
    """How many times faster they are than no tiles at all; None where others are taken."""
    lanes = _lanes_of(problem)
    if isinstance(lanes, str) or lanes.outputs != 2:
        return None
    features, channels = problem.features, problem.group_channels
    height, width = (s.count for s in problem.windows)
    assert isinstance(height, int) and isinstance(width, int)
    assert isinstance(features, int) and isinstance(channels, int)
    weights, taps = features * channels, math.prod(s.kernel for s in problem.windows)
    direct = _time(taps, height * width, weights)
    transforms = 1 + _TO_FEW / features + _FROM_FEW / channels
    return direct / (_time_of_tiles(2, (height, width), weights) * transforms)


# The table ----------------------------------------------------------------------------------------


def _scratch(problem: ConvProblem, more: Dim = 0) -> tuple[TensorType, TensorType]:
    """The memory of the transforms, and of a product: some events need that."""
    half, (events, *_) = half_of(problem), problem.counts
    direct = scratch_of_lanes(events, problem.group_channels, problem.slides, half) if half else 0
    plain, offsets, _ = problem.scratch(direct)
    step = problem.group_channels * _columns(problem) + 3 * _LANES
    sums = inputs_of_a_tile(problem) ** 2 * (_FEATURES * _COLUMNS + _LANES)
    needed = _points(problem) * step + sums + _LANES
    elements = maximum(maximum(plain.shape[0], more), needed)
    return TensorType(plain.dtype, (elements,)), offsets


def _told(problem: ConvProblem) -> tuple[Sizes]:
    """How many tiles are done at a time, and from how many on they pay."""
    return (Sizes((_columns(problem), _LEAST_TILES)),)


def _in_lanes(problem: ConvProblem) -> Choice | str:
    lanes = _lanes_of(problem)
    if isinstance(lanes, str):
        return lanes
    height, width = (s.count for s in problem.windows)
    memory = lanes.memory(problem.group_channels, (height, width), problem.counts[0])
    short = flag(is_short(problem.features))
    tiles = Elsewhere((GENERIC,), "convolution_winograd<6>", WINOGRAD_HEADER, IS_ASSEMBLER)
    kernel, packed = f"convolution_winograd_lanes<0, 0, 0, {short}>", "WinogradLanesWeights<6, 4>"
    why = "features lie in the lanes; the size of an image decides between its tiles at run time"
    if lanes.outputs:
        size = lanes.outputs + 2
        kernel = f"convolution_winograd_lanes<{size}, {lanes.half}, {lanes.direct}, {short}>"
        packed = f"WinogradLanesWeights<{size}>"
        why = f"features lie in the lanes, and tiles of {lanes.outputs} x {lanes.outputs} pay most"
    if lanes.outputs == 2:
        plain = "convolution<8>", "sofie/kernels/convolution.hxx"
        tiles = Elsewhere((GENERIC,), *plain, "small tiles only pay in lanes")
    return Choice(
        kernel,
        _LANES_HEADER,
        why,
        packed=packed,
        told=_told(problem),
        scratch=_scratch(problem, memory),
        elsewhere=(tiles,),
    )


def _in_tiles(problem: ConvProblem) -> Choice:
    size = inputs_of_a_tile(problem)
    return Choice(
        f"convolution_winograd<{size}>",
        WINOGRAD_HEADER,
        "it takes every one: tiles lie in the lanes",
        packed=f"WinogradWeights<{size}>",
        told=_told(problem),
        scratch=_scratch(problem),
    )


WINOGRAD: Table[ConvProblem] = Table(
    "convolution with fewer multiplications",
    (
        Candidate("convolution_winograd_lanes", _in_lanes),
        Candidate("convolution_winograd", _in_tiles),
    ),
)
