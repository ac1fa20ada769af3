"""Networks for images that are made of depthwise and pointwise convolutions, in few operations."""

from __future__ import annotations

from collections.abc import Sequence

from sofie_rdf.bench.onnx_net import Net

__all__ = ["mobilenet", "shufflenet"]

# Of each block of MobileNetV3-Small: the kernel, the features inside and behind it, whether
# channels are weighted (squeeze and excite), whether HardSwish follows (else ReLU), the stride.
_BLOCKS = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


def _weighted(net: Net, x: str, channels: int) -> str:
    """Each channel times a number between 0 and 1 that the means of all of them say."""
    inner = max(8, (channels // 4 + 4) // 8 * 8)
    means = net.add("GlobalAveragePool", x)
    value = net.add("Relu", net.layer(means, channels, inner))
    value = net.add("HardSigmoid", net.layer(value, inner, channels), alpha=1 / 6)
    return net.add("Mul", x, value)


def mobilenet(size: int | tuple[str, str]) -> bytes:
    """MobileNetV3-Small, Howard et al., arXiv:1905.02244, on images of this size."""
    height, width = (size, size) if isinstance(size, int) else size
    net = Net()
    value, channels = net.add("HardSwish", net.layer("x", 3, 16, 3, 2)), 16
    for kernel, inside, features, weighted, hard, stride in _BLOCKS:
        activation = "HardSwish" if hard else "Relu"
        inner = value
        if inside != channels:
            inner = net.add(activation, net.layer(value, channels, inside, 1))
        inner = net.add(activation, net.layer(inner, inside, inside, kernel, stride, inside))
        inner = _weighted(net, inner, inside) if weighted else inner
        inner = net.layer(inner, inside, features, 1)
        kept = stride == 1 and channels == features
        value, channels = net.add("Add", inner, value) if kept else inner, features
    value = net.add("HardSwish", net.layer(value, channels, 576, 1))
    value = net.add("Flatten", net.add("GlobalAveragePool", value))
    value = net.add("HardSwish", net.linear(value, 576, 1024))
    return net.finish(net.linear(value, 1024, 1000), ("N", 3, height, width), ("N", 1000))


def _shuffled(net: Net, parts: Sequence[str], channels: int, size: int) -> str:
    """The channels of two values in turn, as exporters write it; of an image of size 0 for any."""
    joined = net.add("Concat", *parts, axis=1)
    if size:
        halves = net.sizes(-1, 2, channels // 2, size, size)
        whole = net.sizes(-1, channels, size, size)
    else:
        ends = net.add("Shape", joined, start=2), net.add("Shape", joined, start=0, end=1)
        halves = net.add("Concat", ends[1], net.sizes(2, channels // 2), ends[0], axis=0)
        whole = net.add("Concat", ends[1], net.sizes(channels), ends[0], axis=0)
    turned = net.add("Transpose", net.add("Reshape", joined, halves), perm=(0, 2, 1, 3, 4))
    return net.add("Reshape", turned, whole)


def _separable(net: Net, x: str, channels: int, features: int, stride: int) -> str:
    """Pointwise, depthwise and pointwise, the branch of a block that changes its channels."""
    value = net.add("Relu", net.layer(x, channels, features, 1))
    value = net.layer(value, features, features, 3, stride, features)
    return net.add("Relu", net.layer(value, features, features, 1))


def shufflenet(size: int | tuple[str, str]) -> bytes:
    """ShuffleNetV2 x 1.0, Ma et al., arXiv:1807.11164, on images of this size."""
    height, width = (size, size) if isinstance(size, int) else size
    net, channels, side = Net(), 24, size // 4 if isinstance(size, int) else 0
    value = net.add("Relu", net.layer("x", 3, channels, 3, 2))
    value = net.add("MaxPool", value, kernel_shape=(3, 3), strides=(2, 2), pads=(1,) * 4)
    for features, repeats in ((116, 4), (232, 8), (464, 4)):
        side, half = side // 2, features // 2
        near = net.layer(value, channels, channels, 3, 2, channels)
        near = net.add("Relu", net.layer(near, channels, half, 1))
        value = _shuffled(net, (near, _separable(net, value, channels, half, 2)), features, side)
        for _ in range(repeats - 1):
            kept, changed = net.split(value, half)
            value = _shuffled(net, (kept, _separable(net, changed, half, half, 1)), features, side)
        channels = features
    value = net.add("Relu", net.layer(value, channels, 1024, 1))
    value = net.add("Flatten", net.add("GlobalAveragePool", value))
    return net.finish(net.linear(value, 1024, 1000), ("N", 3, height, width), ("N", 1000))
