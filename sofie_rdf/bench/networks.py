"""The built-in networks as ONNX models with random weights, made the same way every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from sofie_rdf.bench.detection import YOLO_11, detector
from sofie_rdf.bench.mobile import mobilenet, shufflenet
from sofie_rdf.bench.onnx_net import Net, serialized
from sofie_rdf.bench.quantized import quantized

__all__ = ["NETWORKS", "dense"]

# Dense --------------------------------------------------------------------------------------------


def dense(widths: Sequence[int], *, last: str = "") -> bytes:
    """Layers of these widths with ReLU between them, and ``last`` behind them."""
    net, value = Net(), "x"
    for before, after in pairwise(widths[:-1]):
        value = net.add("Relu", net.linear(value, before, after))
    value = net.linear(value, *widths[-2:])
    value = net.add(last, value) if last else value
    return net.finish(value, ("N", widths[0]), ("N", widths[-1]))


def _relu() -> bytes:
    net = Net()
    return net.finish(net.add("Relu", "x"), ("N", 1), ("N", 1))


# Convolutions -------------------------------------------------------------------------------------


def _conv_2d(layers: int) -> bytes:
    """As ROOT's benchmark Conv_d100: 5 x 5 on 100 x 100, twice as many features in each layer."""
    net, value, channels = Net(), "x", 1
    for layer in range(layers):
        last = layers > 1 and layer == layers - 1
        features = 1 if last else min(2 * channels, 64) if layer < layers - 2 else channels
        value = net.convolution(value, channels, features, (5, 5), pads=(2,) * 4)
        value = net.add("Relu", value)
        channels = features
    return net.finish(value, ("N", 1, 100, 100), ("N", channels, 100, 100))


def _conv_3d() -> bytes:
    net, value, channels, size = Net(), "x", 1, 32
    for features in (32, 8, 8, 8):
        value = net.convolution(value, channels, features, (5, 5, 5), pads=(1,) * 6)
        value = net.add("Relu", value)
        channels, size = features, size - 2
    flat = net.add("Flatten", value)
    return net.finish(net.linear(flat, channels * size**3, 8), ("N", 1, *(32,) * 3), ("N", 8))


def _conv_transposed() -> bytes:
    """As ROOT's benchmark ConvTModel_G4: a shower of 50 x 45 cells in 18 layers."""
    net = Net()
    value = net.add("Relu", net.linear("x", 15, 180 * 12 * 11))
    value = net.add("Reshape", value, net.sizes(-1, 180, 12, 11))
    for features, kernel, stride in ((36, 3, 2), (18, 2, 2)):
        channels = 180 if features == 36 else 36
        w = net.weights(channels, features, kernel, kernel, fan_in=channels * kernel)
        value = net.add("ConvTranspose", value, w, net.offsets(features), strides=(stride, stride))
        value = net.add("Relu" if stride == 2 and features == 36 else "Sigmoid", value)
    return net.finish(value, ("N", 15), ("N", 18, 50, 46))


def _small_conv_transposed() -> bytes:
    """As ROOT's benchmark ConvTrans2dModel, on 4 x 4."""
    net, value, channels = Net(), "x", 1
    for features, kernel, pads, stride in ((4, 2, 1, 1), (8, 3, 1, 1), (4, 3, 1, 1), (1, 2, 0, 2)):
        w = net.weights(channels, features, kernel, kernel, fan_in=channels * kernel)
        layout = {"pads": (pads,) * 4, "strides": (stride, stride)}
        value = net.add("ConvTranspose", value, w, net.offsets(features), **layout)
        value = net.add("Relu", value) if stride == 1 else value
        channels = features
    return net.finish(value, ("N", 1, 4, 4), ("N", 1, 6, 6))


def _resnet18() -> bytes:
    """He et al., arXiv:1512.03385, with two basic blocks of 64, 128, 256 and 512 features each."""
    net = Net()

    def layer(x: str, channels: int, features: int, kernel: int, stride: int) -> str:
        w = net.weights(features, channels, kernel, kernel)
        y = net.add("Conv", x, w, pads=(kernel // 2,) * 4, strides=(stride, stride))
        return net.normalization(y, features)

    value = net.add("Relu", layer("x", 3, 64, 7, 2))
    value = net.add("MaxPool", value, kernel_shape=(3, 3), strides=(2, 2), pads=(1,) * 4)
    channels = 64
    for features in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if block == 0 and features > 64 else 1
            inner = net.add("Relu", layer(value, channels, features, 3, stride))
            inner = layer(inner, features, features, 3, 1)
            if stride == 2:
                value = layer(value, channels, features, 1, 2)
            value, channels = net.add("Relu", net.add("Add", inner, value)), features
    flat = net.add("Flatten", net.add("GlobalAveragePool", value))
    return net.finish(net.linear(flat, 512, 1000), ("N", 3, 224, 224), ("N", 1000))


# Sequences and sets -------------------------------------------------------------------------------


def _recurrent(kind: str, steps: int, inputs: int, hidden: int) -> bytes:
    """One layer over ``steps`` steps; the result is its last state."""
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    net = Net()
    along = net.add("Transpose", "x", perm=(1, 0, 2))
    w = net.weights(1, gates * hidden, inputs, fan_in=inputs)
    r = net.weights(1, gates * hidden, hidden, fan_in=2 * hidden)
    b = net.constant(np.zeros((1, 2 * gates * hidden), np.float32))
    attributes = {"linear_before_reset": 1} if kind == "GRU" else {}
    net.add(kind, along, w, r, b, hidden_size=hidden, **attributes)
    net.nodes[-1].output.append("last")
    value = net.add("Squeeze", "last", net.sizes(0))
    return net.finish(net.linear(value, hidden, 2), ("N", steps, inputs), ("N", 2))


def _deep_sets() -> bytes:
    """Zaheer et al., arXiv:1703.06114: a network of each particle, and one of their sum."""
    net = Net()
    value = net.add("Relu", net.projection("x", 4, 64))
    value = net.add("Relu", net.projection(value, 64, 64))
    value = net.add("ReduceSum", value, net.sizes(1), keepdims=0)
    # Sums are 30 times as large as what they are of.
    weights = net.weights(64, 64, fan_in=64 * 30**2)
    value = net.add("Relu", net.add("Gemm", value, weights, net.offsets(64), transB=1))
    value = net.add("Sigmoid", net.linear(value, 64, 1))
    return net.finish(value, ("N", 30, 4), ("N", 1))


def _transformer() -> bytes:
    """A block of Vaswani et al., arXiv:1706.03762, normalised before its parts, with GELU."""
    net, tokens, width, heads = Net(), 20, 64, 4
    each = width // heads

    def normalized(x: str) -> str:
        scale, bias = np.ones(width, np.float32), np.zeros(width, np.float32)
        return net.add("LayerNormalization", x, net.constant(scale), net.constant(bias))

    def split(x: str, *, transposed: bool = False) -> str:
        parts = net.add("Reshape", net.projection(x, width, width), net.sizes(0, 0, heads, each))
        return net.add("Transpose", parts, perm=(0, 2, 3, 1) if transposed else (0, 2, 1, 3))

    inner = normalized("x")
    query, keys, values = split(inner), split(inner, transposed=True), split(inner)
    scaled = net.add("Mul", query, net.constant(np.array(each**-0.5, np.float32)))
    attention = net.add("Softmax", net.add("MatMul", scaled, keys), axis=-1)
    joined = net.add("Transpose", net.add("MatMul", attention, values), perm=(0, 2, 1, 3))
    joined = net.add("Reshape", joined, net.sizes(0, 0, width))
    value = net.add("Add", "x", net.projection(joined, width, width))
    inner = net.projection(normalized(value), width, 4 * width)
    # GELU as exporters to opset 17 write it.
    half, one, root = (net.constant(np.array(v, np.float32)) for v in (0.5, 1.0, 2**0.5))
    error = net.add("Add", net.add("Erf", net.add("Div", inner, root)), one)
    inner = net.add("Mul", net.add("Mul", inner, error), half)
    value = net.add("Add", value, net.projection(inner, 4 * width, width))
    return net.finish(value, ("N", tokens, width), ("N", tokens, width))


def _particle_net() -> bytes:
    """As Qu and Gouskos, arXiv:1902.08570, written as weaver does: two edge convolutions.

    Both have the neighbours in the plane: those by features are others where a program rounds
    differently.
    """
    net, particles, neighbours = Net(), 40, 8

    def edges(x: str, points: str, channels: int, features: int) -> str:
        # The nearest ones but the particle itself, by squared distances.
        squares = net.add("ReduceSum", net.add("Mul", points, points), net.sizes(1))
        turned = net.add("Transpose", points, perm=(0, 2, 1))
        two = net.constant(np.array(2, np.float32))
        products = net.add("Mul", net.add("MatMul", turned, points), two)
        far = net.add("Sub", squares, products)
        far = net.add("Add", far, net.add("Transpose", squares, perm=(0, 2, 1)))
        nearest = net.add("TopK", far, net.sizes(neighbours + 1), axis=-1, largest=0)
        net.nodes[-1].output.append(f"{nearest}_at")
        ends = net.sizes(1), net.sizes(neighbours + 1), net.sizes(2)
        at = net.add("Slice", f"{nearest}_at", *ends)
        at = net.add("Reshape", at, net.sizes(0, particles, neighbours, 1))
        # [N, particles, neighbours, channels], as weaver lays them out: channels first.
        rows = net.add("Transpose", x, perm=(0, 2, 1))
        other = net.add("Transpose", net.add("GatherND", rows, at, batch_dims=1), perm=(0, 3, 1, 2))
        own = net.add("Reshape", x, net.sizes(0, channels, particles, 1))
        own = net.add("Tile", own, net.sizes(1, 1, 1, neighbours))
        value = net.add("Concat", own, net.add("Sub", other, own), axis=1)
        for before in (2 * channels, features, features):
            value = net.add("Relu", net.convolution(value, before, features, (1, 1)))
        value = net.add("ReduceMean", value, axes=(3,), keepdims=0)
        return net.add("Relu", net.add("Add", value, net.convolution(x, channels, features, (1,))))

    first = net.add("Slice", "x", net.sizes(0), net.sizes(2), net.sizes(1))
    value = edges("x", first, 8, 64)
    value = edges(value, first, 64, 128)
    value = net.add("ReduceMean", value, axes=(2,), keepdims=0)
    value = net.add("Relu", net.linear(value, 128, 128))
    return net.finish(net.linear(value, 128, 5), ("N", 8, particles), ("N", 5))


# Trees --------------------------------------------------------------------------------------------


def _trees(count: int, depth: int, features: int) -> bytes:
    """Complete binary trees with random cuts, as gradient boosting makes them."""
    from onnx import helper

    random = np.random.default_rng(1)
    inner = 2**depth - 1
    ids = np.tile(np.arange(2 * inner + 1), count)
    trees = np.repeat(np.arange(count), 2 * inner + 1)
    is_leaf = ids >= inner
    leaves = trees[is_leaf], ids[is_leaf]
    attributes = {
        "n_targets": 1,
        "nodes_treeids": trees,
        "nodes_nodeids": ids,
        "nodes_featureids": np.where(is_leaf, 0, random.integers(0, features, ids.size)),
        "nodes_modes": ["LEAF" if leaf else "BRANCH_LT" for leaf in is_leaf],
        "nodes_values": np.where(is_leaf, 0, random.normal(size=ids.size)).astype(np.float32),
        "nodes_truenodeids": np.where(is_leaf, 0, 2 * ids + 1),
        "nodes_falsenodeids": np.where(is_leaf, 0, 2 * ids + 2),
        "target_treeids": leaves[0],
        "target_nodeids": leaves[1],
        "target_ids": np.zeros(leaves[0].size, np.int64),
        "target_weights": (random.normal(size=leaves[0].size) * 0.1).astype(np.float32),
    }
    listed = {n: a.tolist() if isinstance(a, np.ndarray) else a for n, a in attributes.items()}
    domain = "ai.onnx.ml"
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain=domain, **listed)
    return serialized([node], {"x": ("N", features)}, {"y": ("N", 1)}, {}, ml=True)


NETWORKS: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    "linear50x10": (
        "10 x [Linear(50), ReLU]",
        lambda: dense([50] * 11, last="Relu"),
    ),
    "mlp200x5": (
        "7 -> 5 x [Linear(200), ReLU] -> 1",
        lambda: dense([7, *[200] * 5, 1]),
    ),
    "conv2d": ("Conv 5 x 5 with 2 features on 100 x 100, ReLU", lambda: _conv_2d(1)),
    "conv2d14": ("14 x [Conv 5 x 5, ReLU] on 100 x 100, up to 64 features", lambda: _conv_2d(14)),
    "conv3d": ("4 x [Conv 5 x 5 x 5, ReLU] on 32 x 32 x 32, Linear", _conv_3d),
    "conv_transposed_small": ("4 x ConvTranspose on 4 x 4", _small_conv_transposed),
    "conv_transposed": ("Linear, 2 x ConvTranspose to 18 x 50 x 46", _conv_transposed),
    "rnn64": ("RNN, 3 steps, 64 hidden", lambda: _recurrent("RNN", 3, 16, 64)),
    "gru64": ("GRU, 3 steps, 64 hidden", lambda: _recurrent("GRU", 3, 16, 64)),
    "lstm64": ("LSTM, 3 steps, 64 hidden", lambda: _recurrent("LSTM", 3, 16, 64)),
    "rnn128": ("RNN, 20 steps, 128 hidden", lambda: _recurrent("RNN", 20, 16, 128)),
    "gru128": ("GRU, 20 steps, 128 hidden", lambda: _recurrent("GRU", 20, 16, 128)),
    "lstm128": ("LSTM, 20 steps, 128 hidden", lambda: _recurrent("LSTM", 20, 16, 128)),
    "deepsets": ("DeepSets: 30 particles, 4 -> 64 -> 64, sum, 64 -> 1", _deep_sets),
    "transformer": ("Transformer block: 20 tokens, width 64, 4 heads, GELU", _transformer),
    "particlenet": ("ParticleNet: 40 particles, 8 neighbours, 64 and 128 features", _particle_net),
    "resnet18": ("ResNet18 on 224 x 224", _resnet18),
    "mobilenet_v3_small": ("MobileNetV3-Small on 64 x 64", lambda: mobilenet(64)),
    "mobilenet_v3_small_open": (
        "MobileNetV3-Small on images of any size",
        lambda: mobilenet(("H", "W")),
    ),
    "shufflenet_v2": ("ShuffleNetV2 x 1.0 on 64 x 64", lambda: shufflenet(64)),
    "shufflenet_v2_open": (
        "ShuffleNetV2 x 1.0 on images of any size",
        lambda: shufflenet(("H", "W")),
    ),
    "detector": ("YOLOv8n's form on 64 x 64", lambda: detector(64)),
    "detector_open": (
        "YOLOv8n's form on images of any size",
        lambda: detector(("H", "W")),
    ),
    "detector_11": ("YOLO11n's form on 64 x 64", lambda: detector(64, YOLO_11)),
    "detector_11_open": (
        "YOLO11n's form on images of any size",
        lambda: detector(("H", "W"), YOLO_11),
    ),
    "mlp200x5_uint8": (
        "mlp200x5, quantised dynamically, weights in uint8",
        lambda: quantized([7, *[200] * 5, 1], signed=False),
    ),
    "mlp200x5_int8": (
        "mlp200x5, quantised dynamically, weights in int8",
        lambda: quantized([7, *[200] * 5, 1], signed=True),
    ),
    "relu": ("one ReLU of one number: what is left is the call", _relu),
    "trees500": ("500 trees of depth 6, 30 features", lambda: _trees(500, 6, 30)),
}
