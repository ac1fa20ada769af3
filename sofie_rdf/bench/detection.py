"""Networks that look for objects in images, in the forms of YOLOv8 and YOLO11 (Ultralytics)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sofie_rdf.bench.onnx_net import Net

__all__ = ["YOLO_8", "YOLO_11", "detector"]

# The features of the first layer and behind the neck, classes, and bins of a distance.
_FIRST, _WIDTHS, _CLASSES, _BINS = 16, (64, 128, 256), 80, 16

# Of a value with so many features: another one of as many.
_Block = Callable[[Net, str, int], str]


def _layer(
    net: Net, x: str, channels: int, features: int, kernel: int = 1, stride: int = 1, group: int = 1
) -> str:
    """A convolution that keeps the size, but for the stride, and SiLU."""
    y = net.layer(x, channels, features, kernel, stride, group)
    return net.add("Mul", y, net.add("Sigmoid", y))


def _two(net: Net, x: str, width: int, inner: int = 0) -> str:
    """Two layers of 3 x 3."""
    return _layer(net, _layer(net, x, width, inner or width, 3), inner or width, width, 3)


def _residual(net: Net, x: str, width: int) -> str:
    return net.add("Add", x, _two(net, x, width))


def _narrow(net: Net, x: str, width: int) -> str:
    """A residual block with half as many features inside."""
    return net.add("Add", x, _two(net, x, width, width // 2))


def _beside(net: Net, x: str, width: int) -> str:
    """Two residual blocks of half as many features beside one layer."""
    value = _layer(net, x, width, width // 2)
    for _ in range(2):
        value = _residual(net, value, width // 2)
    both = net.add("Concat", value, _layer(net, x, width, width // 2), axis=1)
    return _layer(net, both, width, width)


@dataclass(frozen=True)
class _Stage:
    """A layer with a stride of two, and blocks on one of the two parts of what follows."""

    before: int
    features: int
    part: int
    block: _Block
    count: int = 1


@dataclass(frozen=True)
class _Form:
    """What detectors differ in."""

    stages: tuple[_Stage, ...]
    neck: tuple[_Block, ...]
    is_newer: bool = False


YOLO_8 = _Form(
    (
        _Stage(32, 32, 16, _residual),
        _Stage(64, 64, 32, _residual, 2),
        _Stage(128, 128, 64, _residual, 2),
        _Stage(256, 256, 128, _residual),
    ),
    (_two,) * 4,
)
YOLO_11 = _Form(
    (
        _Stage(32, 64, 16, _narrow),
        _Stage(64, 128, 32, _narrow),
        _Stage(128, 128, 64, _beside),
        _Stage(256, 256, 128, _beside),
    ),
    (_narrow, _narrow, _narrow, _beside),
    is_newer=True,
)


def _parts(net: Net, x: str, channels: int, to: _Stage) -> str:
    """One part of the features goes through the blocks, and all that was on the way is joined."""
    found = list(net.split(_layer(net, x, channels, 2 * to.part), to.part))
    for _ in range(to.count):
        found.append(to.block(net, found[-1], to.part))
    return _layer(net, net.add("Concat", *found, axis=1), len(found) * to.part, to.features)


def _pools(net: Net, x: str, channels: int) -> str:
    """Maxima of windows of three sizes beside the image itself."""
    found = [_layer(net, x, channels, channels // 2)]
    for _ in range(3):
        pooled = net.add("MaxPool", found[-1], kernel_shape=(5, 5), strides=(1, 1), pads=(2,) * 4)
        found.append(pooled)
    return _layer(net, net.add("Concat", *found, axis=1), 2 * channels, channels)


def _attention(net: Net, x: str, width: int) -> str:
    """Attention of all places to each other, with keys of half the values' size."""
    heads, keys = width // 64, 32
    size = net.add("Shape", x)
    every = net.layer(x, width, width + 2 * heads * keys)
    every = net.add("Reshape", every, net.sizes(0, heads, 2 * keys + 64, -1))
    names = [f"{every}_{part}" for part in ("queries", "keys", "values")]
    net.add("Split", every, net.sizes(keys, keys, 64), axis=2)
    net.nodes[-1].output[:] = names
    turned = net.add("Transpose", names[0], perm=(0, 1, 3, 2))
    scale = net.constant(np.array(keys**-0.5, np.float32))
    shares = net.add("Softmax", net.add("Mul", net.add("MatMul", turned, names[1]), scale), axis=-1)
    shares = net.add("Transpose", shares, perm=(0, 1, 3, 2))
    value = net.add("Reshape", net.add("MatMul", names[2], shares), size)
    places = net.layer(net.add("Reshape", names[2], size), width, width, 3, group=width)
    return net.layer(net.add("Add", value, places), width, width)


def _attended(net: Net, x: str, channels: int) -> str:
    """Attention and two layers on half of the features."""
    half = channels // 2
    kept, value = net.split(_layer(net, x, channels, channels), half)
    value = net.add("Add", value, _attention(net, value, half))
    inner = net.layer(_layer(net, value, half, 2 * half), 2 * half, half)
    value = net.add("Concat", kept, net.add("Add", value, inner), axis=1)
    return _layer(net, value, channels, channels)


def _twice(net: Net, x: str) -> str:
    """An image of twice the size."""
    scales = net.constant(np.array((1, 1, 2, 2), np.float32))
    return net.add("Resize", x, "", scales, mode="nearest", nearest_mode="floor")


def _separable(net: Net, x: str, channels: int, features: int) -> str:
    value = _layer(net, x, channels, channels, 3, group=channels)
    return _layer(net, value, channels, features)


def _found(net: Net, x: str, channels: int, form: _Form) -> str:
    """Bins of four distances and the classes, for each place of an image in one row."""
    boxes, classes = 64, max(_WIDTHS[0], min(_CLASSES, 100))
    inner = _layer(net, _layer(net, x, channels, boxes, 3), boxes, boxes, 3)
    where = net.layer(inner, boxes, 4 * _BINS)
    if form.is_newer:
        inner = _separable(net, _separable(net, x, channels, classes), classes, classes)
    else:
        inner = _layer(net, _layer(net, x, channels, classes, 3), classes, classes, 3)
    what = net.layer(inner, classes, _CLASSES)
    both = net.add("Concat", where, what, axis=1)
    return net.add("Reshape", both, net.sizes(0, 4 * _BINS + _CLASSES, -1))


def _boxes(net: Net, bins: str) -> str:
    """A distance is the mean of its bins."""
    parts = net.add("Reshape", bins, net.sizes(0, 4, _BINS, -1))
    turned = net.add("Softmax", net.add("Transpose", parts, perm=(0, 2, 1, 3)), axis=1)
    numbers = net.constant(np.arange(_BINS, dtype=np.float32).reshape(1, _BINS, 1, 1))
    return net.add("Reshape", net.add("Conv", turned, numbers), net.sizes(0, 4, -1))


def _neck(net: Net, levels: list[tuple[str, int]], form: _Form) -> list[str]:
    """Three resolutions, each with what the others see."""
    (large, few), (middle, some), (small, many) = levels
    widths, blocks = _WIDTHS, iter(form.neck)

    def join(x: str, y: str, channels: int, features: int) -> str:
        stage = _Stage(0, features, features // 2, next(blocks))
        return _parts(net, net.add("Concat", x, y, axis=1), channels, stage)

    middle = join(_twice(net, small), middle, many + some, widths[1])
    large = join(_twice(net, middle), large, widths[1] + few, widths[0])
    down = _layer(net, large, widths[0], widths[0], 3, 2)
    middle = join(down, middle, widths[0] + widths[1], widths[1])
    down = _layer(net, middle, widths[1], widths[1], 3, 2)
    return [large, middle, join(down, small, widths[1] + many, widths[2])]


def detector(size: int | tuple[str, str], form: _Form = YOLO_8) -> bytes:
    """A backbone, a neck and a head on three resolutions, as in the smallest networks of a form."""
    height, width = (size, size) if isinstance(size, int) else size
    net, channels, levels = Net(), _FIRST, []
    value = _layer(net, "x", 3, channels, 3, 2)
    for stage in form.stages:
        value = _layer(net, value, channels, stage.before, 3, 2)
        value, channels = _parts(net, value, stage.before, stage), stage.features
        levels.append((value, channels))
    small = _pools(net, value, channels)
    levels[-1] = _attended(net, small, channels) if form.is_newer else small, channels
    heads = zip(_neck(net, levels[1:], form), _WIDTHS, strict=True)
    found = net.add("Concat", *(_found(net, x, n, form) for x, n in heads), axis=2)
    bins, classes = f"{found}_bins", f"{found}_classes"
    net.add("Split", found, net.sizes(4 * _BINS, _CLASSES), axis=1)
    net.nodes[-1].output[:] = (bins, classes)
    value = net.add("Concat", _boxes(net, bins), net.add("Sigmoid", classes), axis=1)
    # How many places there are is not said: it follows from the height and the width.
    places = sum((size // d) ** 2 for d in (8, 16, 32)) if isinstance(size, int) else "places"
    return net.finish(value, ("N", 3, height, width), ("N", 4 + _CLASSES, places))
