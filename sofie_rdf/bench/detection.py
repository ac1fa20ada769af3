"""Networks that look for objects in images, in the form of YOLOv8 (Ultralytics)."""

from __future__ import annotations

import numpy as np

from sofie_rdf.bench.onnx_net import Net

__all__ = ["detector"]

# The features at each of five resolutions, blocks at each, classes, and bins of a distance.
_WIDTHS, _REPEATS, _CLASSES, _BINS = (16, 32, 64, 128, 256), (1, 2, 2, 1), 80, 16


def _layer(net: Net, x: str, channels: int, features: int, kernel: int = 1, stride: int = 1) -> str:
    """A convolution that keeps the size, but for the stride, and SiLU."""
    pads, strides = (kernel // 2,) * 4, (stride, stride)
    y = net.convolution(x, channels, features, (kernel, kernel), pads=pads, strides=strides)
    return net.add("Mul", y, net.add("Sigmoid", y))


def _parts(net: Net, x: str, channels: int, features: int, count: int, *, adds: bool) -> str:
    """Half of the features go through so many blocks, and all that was on the way is joined."""
    half = features // 2
    found = list(net.split(_layer(net, x, channels, features), half))
    for _ in range(count):
        inner = _layer(net, _layer(net, found[-1], half, half, 3), half, half, 3)
        found.append(net.add("Add", found[-1], inner) if adds else inner)
    return _layer(net, net.add("Concat", *found, axis=1), (2 + count) * half, features)


def _pools(net: Net, x: str, channels: int) -> str:
    """Maxima of windows of three sizes beside the image itself."""
    found = [_layer(net, x, channels, channels // 2)]
    for _ in range(3):
        pooled = net.add("MaxPool", found[-1], kernel_shape=(5, 5), strides=(1, 1), pads=(2,) * 4)
        found.append(pooled)
    return _layer(net, net.add("Concat", *found, axis=1), 2 * channels, channels)


def _twice(net: Net, x: str) -> str:
    """An image of twice the size."""
    scales = net.constant(np.array((1, 1, 2, 2), np.float32))
    return net.add("Resize", x, "", scales, mode="nearest", nearest_mode="floor")


def _found(net: Net, x: str, channels: int) -> str:
    """Bins of four distances and the classes, for each place of an image in one row."""
    boxes, classes = 64, max(_WIDTHS[2], min(_CLASSES, 100))
    inner = _layer(net, _layer(net, x, channels, boxes, 3), boxes, boxes, 3)
    where = net.convolution(inner, boxes, 4 * _BINS, (1, 1))
    inner = _layer(net, _layer(net, x, channels, classes, 3), classes, classes, 3)
    what = net.convolution(inner, classes, _CLASSES, (1, 1))
    both = net.add("Concat", where, what, axis=1)
    return net.add("Reshape", both, net.sizes(0, 4 * _BINS + _CLASSES, -1))


def detector(size: int | tuple[str, str]) -> bytes:
    """A backbone, a neck and a head on three resolutions, as in YOLOv8n, on images of this size."""
    height, width = (size, size) if isinstance(size, int) else size
    net, widths = Net(), _WIDTHS
    value = _layer(net, "x", 3, widths[0], 3, 2)
    levels = []
    for before, after, count in zip(widths, widths[1:], _REPEATS, strict=False):
        value = _layer(net, value, before, after, 3, 2)
        value = _parts(net, value, after, after, count, adds=True)
        levels.append(value)
    large, middle, small = levels[1], levels[2], _pools(net, levels[3], widths[4])
    up = net.add("Concat", _twice(net, small), middle, axis=1)
    middle = _parts(net, up, widths[4] + widths[3], widths[3], 1, adds=False)
    up = net.add("Concat", _twice(net, middle), large, axis=1)
    large = _parts(net, up, widths[3] + widths[2], widths[2], 1, adds=False)
    down = net.add("Concat", _layer(net, large, widths[2], widths[2], 3, 2), middle, axis=1)
    middle = _parts(net, down, widths[2] + widths[3], widths[3], 1, adds=False)
    down = net.add("Concat", _layer(net, middle, widths[3], widths[3], 3, 2), small, axis=1)
    small = _parts(net, down, widths[3] + widths[4], widths[4], 1, adds=False)
    heads = zip((large, middle, small), widths[2:], strict=True)
    found = net.add("Concat", *(_found(net, x, n) for x, n in heads), axis=2)
    bins, classes = f"{found}_bins", f"{found}_classes"
    net.add("Split", found, net.sizes(4 * _BINS, _CLASSES), axis=1)
    net.nodes[-1].output[:] = (bins, classes)
    # A distance is the mean of its bins.
    parts = net.add("Reshape", bins, net.sizes(0, 4, _BINS, -1))
    turned = net.add("Softmax", net.add("Transpose", parts, perm=(0, 2, 1, 3)), axis=1)
    numbers = net.constant(np.arange(_BINS, dtype=np.float32).reshape(1, _BINS, 1, 1))
    boxes = net.add("Reshape", net.add("Conv", turned, numbers), net.sizes(0, 4, -1))
    value = net.add("Concat", boxes, net.add("Sigmoid", classes), axis=1)
    # How many places there are is not said: it follows from the height and the width.
    places = sum((size // d) ** 2 for d in (8, 16, 32)) if isinstance(size, int) else "places"
    return net.finish(value, ("N", 3, height, width), ("N", 4 + _CLASSES, places))
