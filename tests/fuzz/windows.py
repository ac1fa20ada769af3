"""Steps on planes: convolution, pooling, resampling, and normalisation of channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.fuzz.linear import batch_normalization
from tests.fuzz.network import Dim, Net, Value
from tests.fuzz.steps import step


def is_plane(v: Value) -> bool:
    """Whether it has a batch, a known number of channels, and one to three axes more."""
    spatial = all(d.least >= 1 for d in v.shape[2:])
    return 3 <= v.rank <= 5 and v.shape[1].is_static and v.shape[1].static > 0 and spatial


@dataclass(frozen=True)
class Window:
    """A window over the axes behind the second, and what is left of these."""

    kernel: tuple[int, ...]
    attributes: dict[str, Any]
    shape: tuple[Dim, ...]


def window(net: Net, x: Value, *, dilate: bool = True, ceil: bool = False) -> Window | None:
    """Any window that fits into x in all calls; `None` where the chosen one does not."""
    choose, axes = net.choose, x.shape[2:]
    rank = len(axes)
    kernel = tuple(choose.one((1, 2, 3, 3, 4)) for _ in axes)
    strides = tuple(choose.one((1, 1, 1, 2, 3)) for _ in axes)
    dilations = tuple(choose.one((1, 1, 1, 2)) for _ in axes) if dilate else (1,) * rank
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    given: dict[str, Any] = {"kernel_shape": kernel}
    if choose.chance(60) or any(s > 1 for s in strides):
        given["strides"] = strides
    if any(d > 1 for d in dilations):
        given["dilations"] = dilations
    pads = [(0, 0)] * rank
    padded = choose.whole(0, 3)
    if padded == 1 and all(d == 1 for d in dilations) and not ceil:
        given["auto_pad"] = choose.one(("SAME_UPPER", "SAME_LOWER", "VALID"))
    elif padded >= 2:
        pads = [(choose.whole(0, k - 1), choose.whole(0, k - 1)) for k in kernel]
        given["pads"] = [p[0] for p in pads] + [p[1] for p in pads]
    if ceil:
        given["ceil_mode"] = 1
    same = given.get("auto_pad", "").startswith("SAME")
    found = []
    for axis, k, s, (before, after) in zip(axes, reach, strides, pads, strict=True):
        if not same and axis.least + before + after < k:
            return None
        if ceil and any((n + before + after - k) % s for n in axis.sizes):
            # How many windows there are then is where versions of ONNX differ.
            return None
        found.append(_windows(axis, 1 if same else k, s, before + after))
    return Window(kernel, given, tuple(found))


def _windows(axis: Dim, reach: int, stride: int, pads: int) -> Dim:
    if stride == 1:
        return axis.plus(pads - reach + 1)
    text = f"(({{}}+{pads - reach})//{stride}+1)"
    return axis.map(text, lambda n: (n + pads - reach) // stride + 1)


@step(6)
def convolution(net: Net) -> Any:
    x = net.pick_real(is_plane)
    found = window(net, x) if x is not None else None
    if x is None or found is None:
        return None
    channels = x.shape[1].static
    groups = net.choose.one([g for g in (1, 1, 2, 3, channels) if channels % g == 0])
    filters = groups * net.choose.one((1, 2, 3, 5, 17, 40))
    shape = (x.shape[0], net.dim(filters), *found.shape)
    if not net.fits(shape):
        return None
    terms = channels // groups * math.prod(found.kernel)
    inputs = [x, net.weights((filters, channels // groups, *found.kernel), 1 / math.sqrt(terms))]
    if net.choose.chance(60):
        inputs.append(net.weights((filters,)))
    most = 3 * math.sqrt(terms) * x.bound + 3
    more: dict[str, Any] = {"group": groups} if groups > 1 else {}
    y = net.add("Conv", inputs, shape, (-most, most), **found.attributes, **more)
    if net.choose.chance(40):
        y = batch_normalization(net, net.tame(y))
    return net.add("Relu", [y], shape, (0, max(y.high, 0))) if net.choose.chance(40) else y


@step(2)
def transposed_convolution(net: Net) -> Any:
    x = net.pick_real(is_plane)
    if x is None:
        return None
    choose, channels, axes = net.choose, x.shape[1].static, x.shape[2:]
    kernel = [choose.one((1, 2, 3)) for _ in axes]
    strides = [choose.one((1, 1, 2, 3)) for _ in axes]
    pads = [choose.whole(0, (k - 1) // 2) for k in kernel]
    extra = [choose.whole(0, s - 1) for s in strides]
    groups = choose.one([g for g in (1, 1, channels) if channels % g == 0])
    filters = choose.one((1, 2, 3))
    spatial = tuple(
        d.times(s).plus(k - s - 2 * p + e)
        for d, k, s, p, e in zip(axes, kernel, strides, pads, extra, strict=True)
    )
    shape = (x.shape[0], net.dim(groups * filters), *spatial)
    if not net.fits(shape) or any(d.least < 1 for d in spatial):
        return None
    w = net.weights((channels, filters, *kernel), 0.4)
    given: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "group": groups}
    given["pads"] = [*pads, *pads]
    if any(extra):
        given["output_padding"] = extra
    most = 1.2 * channels * math.prod(kernel) * x.bound
    return net.add("ConvTranspose", [x, w], shape, (-most, most), **given)


@step(4)
def pooling(net: Net) -> Any:
    x = net.pick_real(is_plane)
    if x is None:
        return None
    op = net.choose.one(("MaxPool", "MaxPool", "AveragePool", "LpPool"))
    dilate = (op == "MaxPool" and net.opset >= 10) or (op == "AveragePool" and net.opset >= 19)
    found = window(
        net, x, dilate=dilate, ceil=op != "LpPool" and net.opset >= 10 and net.choose.chance(20)
    )
    if found is None:
        return None
    shape = (*x.shape[:2], *found.shape)
    given = dict(found.attributes)
    if op == "AveragePool" and net.choose.chance(40):
        given["count_include_pad"] = 1
    if op == "LpPool":
        most = x.bound * math.prod(found.kernel)
        return net.add(op, [x], shape, (0, most), p=net.choose.one((1, 2)), **given)
    if op == "MaxPool" and net.choose.chance(20) and net.real == "float32":
        span = (0.0, float(6000))
        results = [(x.dtype, shape, (x.low, x.high)), ("int64", shape, span)]
        return net.several(op, [x], results, **given)
    return net.add(op, [x], shape, (min(x.low, 0), max(x.high, 0)), **given)


@step(3)
def whole_planes(net: Net) -> Any:
    x = net.pick_real(is_plane)
    if x is None:
        return None
    op = net.choose.one(("GlobalAveragePool", "GlobalAveragePool", "GlobalMaxPool"))
    shape = (*x.shape[:2], *net.dims([1] * (x.rank - 2)))
    y = net.add(op, [x], shape, (x.low, x.high))
    if net.choose.chance(50):
        return net.add("Flatten", [y], x.shape[:2], (y.low, y.high))
    return y


@step(2)
def channel_attention(net: Net) -> Any:
    """x * sigmoid(w @ mean of the planes)"""
    x = net.pick_real(is_plane)
    if x is None:
        return None
    channels = x.shape[1].static
    shape = (*x.shape[:2], *net.dims([1] * (x.rank - 2)))
    y = net.add("GlobalAveragePool", [x], shape, (x.low, x.high))
    w = net.weights((channels, channels, *[1] * (x.rank - 2)))
    y = net.add("Conv", [y, w], shape, (-3 * channels * x.bound, 3 * channels * x.bound))
    gate = net.add("Sigmoid", [y], shape, (0, 1))
    return net.add("Mul", [x, gate], x.shape, (min(x.low, 0), max(x.high, 0)))


# Normalisation ------------------------------------------------------------------------------------


@step(3)
def normalized_batch(net: Net) -> Any:
    x = net.pick_real(lambda v: v.rank >= 2 and v.shape[1].is_static)
    return batch_normalization(net, x) if x is not None and x.shape[1].static else None


@step(2)
def normalized_planes(net: Net) -> Any:
    x = net.pick_real(is_plane)
    if x is None:
        return None
    channels = x.shape[1].static
    known = ["InstanceNormalization", "LRN"] + ["GroupNormalization"] * (net.opset >= 21)
    op = net.choose.one(known)
    if op == "LRN":
        return None if x.rank != 4 else net.add(op, [x], x.shape, (x.low, x.high), size=3)
    parameters = [net.weights((channels,)), net.weights((channels,))]
    more: dict[str, Any] = {}
    if op == "GroupNormalization":
        more["num_groups"] = net.choose.one([g for g in (1, 2, channels) if channels % g == 0])
    most = 3 * math.sqrt(6000) + 3
    return net.add(op, [x, *parameters], x.shape, (-most, most), epsilon=0.05, **more)


@step(3, since=17)
def normalized_rows(net: Net) -> Any:
    x = net.pick_real(lambda v: v.rank >= 1 and v.shape[-1].is_static and v.shape[-1].static > 0)
    if x is None:
        return None
    two = x.rank >= 3 and x.shape[-2].is_static and x.shape[-2].static and net.choose.chance(30)
    sizes = [d.static for d in x.shape[-2 if two else -1 :]]
    inputs = [x, net.weights(sizes)]
    if net.choose.chance(70):
        inputs.append(net.weights(sizes))
    most = 3 * math.sqrt(math.prod(sizes)) + 3
    return net.add(
        "LayerNormalization", inputs, x.shape, (-most, most), axis=-len(sizes), epsilon=0.05
    )


@step(1, since=23)
def normalized_by_root(net: Net) -> Any:
    x = net.pick_real(lambda v: v.rank >= 1 and v.shape[-1].is_static and v.shape[-1].static > 0)
    if x is None:
        return None
    size = x.shape[-1].static
    most = 3 * math.sqrt(size)
    return net.add("RMSNormalization", [x, net.weights((size,))], x.shape, (-most, most))


@step(1, since=9)
def normalized_by_hand(net: Net) -> Any:
    """(x - mean) / sqrt(variance + epsilon), in many nodes."""
    x = net.pick_real(lambda v: v.rank >= 1 and v.shape[-1].least > 0)
    if x is None:
        return None
    one, span = (*x.shape[:-1], net.dim(1)), (-2 * x.bound, 2 * x.bound)

    def mean(v: Value) -> Value:
        low = 0.0 if v.low >= 0 else -v.bound
        return net.add(
            **net.along("ReduceMean", v, [-1 if net.opset >= 11 else v.rank - 1], 18),
            shape=one,
            span=(low, v.bound),
        )

    centred = net.add("Sub", [x, mean(x)], x.shape, span)
    two = net.scalar(2.0, x.dtype)
    square = net.add("Pow", [centred, two], x.shape, (0, span[1] ** 2))
    epsilon = net.scalar(0.05, x.dtype)
    variance = net.add("Add", [mean(square), epsilon], one, (0.05, square.high + 0.05))
    root = net.add("Sqrt", [variance], one, (0.2, math.sqrt(variance.high)))
    return net.add("Div", [centred, root], x.shape, (-80, 80))


# Other sizes --------------------------------------------------------------------------------------


@step(3, since=11)
def resized(net: Net) -> Any:
    x = net.pick(lambda v: v.dtype == "float32" and v.rank in (3, 4) and is_plane(v))
    if x is None:
        return None
    x = net.tame(x)
    choose, spatial = net.choose, x.shape[2:]
    mode = choose.one(("nearest", "linear") + (("cubic",) if x.rank == 4 else ()))
    given: dict[str, Any] = {"mode": mode}
    known = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    given["coordinate_transformation_mode"] = choose.one(known)
    if mode == "nearest":
        modes = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
        given["nearest_mode"] = choose.one(modes)
    most = 2 * x.bound
    if choose.chance(50):
        factors = [choose.one((1, 2, 3)) for _ in spatial]
        sizes = tuple(d.times(f) for d, f in zip(spatial, factors, strict=True))
        scales = net.constant(np.array([1, 1, *factors], np.float32))
        inputs = [x, None, scales] if net.opset >= 13 else [x, _no_region(net), scales]
    else:
        sizes = net.dims([choose.one((1, 2, 3, 5, 8)) for _ in spatial])
        whole = net.sizes_of((*x.shape[:2], *sizes))
        if whole is None:
            return None
        absent = (_no_region(net), _no_region(net)) if net.opset < 13 else (None, None)
        inputs = [x, *absent, whole]
    shape = (*x.shape[:2], *sizes)
    return net.add("Resize", inputs, shape, (-most, most), **given) if net.fits(shape) else None


def _no_region(net: Net) -> Value:
    return net.constant(np.zeros(0, np.float32))


@step(2)
def blocks(net: Net) -> Any:
    """DepthToSpace and SpaceToDepth."""
    x = net.pick_real(lambda v: is_plane(v) and v.rank == 4)
    if x is None:
        return None
    n, c, *spatial = x.shape
    span = x.low, x.high
    if c.static % 4 == 0 and net.choose.chance(60):
        wide = tuple(d.times(2) for d in spatial)
        more: dict[str, Any] = {"mode": net.choose.one(("DCR", "CRD"))} if net.opset >= 11 else {}
        shape = (n, net.dim(c.static // 4), *wide)
        return net.add("DepthToSpace", [x], shape, span, blocksize=2, **more)
    if any(s % 2 for d in spatial for s in d.sizes):
        return None
    narrow = tuple(d.map("({}//2)", lambda s: s // 2) for d in spatial)
    return net.add("SpaceToDepth", [x], (n, net.dim(4 * c.static), *narrow), span, blocksize=2)


@step(1, since=16)
def sampled(net: Net) -> Any:
    x = net.pick_real(lambda v: is_plane(v) and v.rank == 4)
    if x is None:
        return None
    n, c, *_ = x.shape
    grid = net.input(net.real, (n, *net.dims([3, 2, 2])), -1.2, 1.2)
    linear = "linear" if net.opset >= 20 else "bilinear"
    given: dict[str, Any] = {
        "mode": net.choose.one((linear, "nearest")),
        "padding_mode": net.choose.one(("zeros", "border")),
        "align_corners": net.choose.whole(0, 1),
    }
    return net.add("GridSample", [x, grid], (n, c, *net.dims([3, 2])), (-x.bound, x.bound), **given)
