"""Convolutions of images whose sizes are open: the kernels of known sizes, and their numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from sofie_rdf.emit.session import emit
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim, symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.convolution import Conv
from sofie_rdf.ops.convolution_winograd import WinogradConv
from sofie_rdf.passes.memory import plan_memory
from sofie_rdf.reference import evaluate_node
from sofie_rdf.runtime.compile.session import compile_graph

# Channels, weights, attributes; and an image that a kernel does in several parts.
_LAYERS: Mapping[str, tuple[int, tuple[int, ...], dict[str, Any]]] = {
    "depthwise": (24, (24, 1, 5, 5), {"group": 24, "pads": (2,) * 4, "strides": (2, 2)}),
    "points": (24, (40, 24, 1, 1), {}),
    "copied": (4, (20, 4, 3, 3), {"pads": (1,) * 4, "strides": (2, 2)}),
    "lanes": (40, (24, 40, 3, 3), {"pads": (1,) * 4, "strides": (2, 2)}),
    "groups": (16, (16, 4, 3, 3), {"group": 4, "pads": (1,) * 4}),
}
_TILES = (32, (48, 32, 3, 3), {"pads": (1,) * 4})
# Of so few places that events are computed together: whole tiles of features, and rests of them.
_FEW_PLACES: Mapping[str, tuple[int, tuple[int, ...], dict[str, Any]]] = {
    "points of few places": (300, (152, 300, 1, 1), {}),
    "points of a tile again": (40, (102, 40, 1, 1), {}),
    "points of a few features": (20, (13, 20, 1, 1), {}),
    "lanes of few places": (40, (72, 40, 3, 3), {"pads": (1,) * 4}),
    "strided lanes of few places": (40, (24, 40, 3, 3), {"pads": (0, 1, 2, 1), "strides": (2, 2)}),
    "depthwise of few places": (24, (24, 1, 5, 5), {"group": 24, "pads": (2,) * 4}),
    "strided depthwise of few places": (
        21,
        (21, 1, 3, 4),
        {"group": 21, "pads": (1, 1, 2, 2), "strides": (1, 2)},
    ),
    "tiles of few places": (64, (80, 64, 3, 3), {"pads": (1,) * 4}),
}
_IMAGES = ((70, 61), (8, 8), (5, 300), (1, 1), (70, 61))


def _graph(
    layer: str,
    height: Dim,
    width: Dim,
    kind: type[Conv] | type[WinogradConv] = Conv,
    events: Dim = 2,
) -> Graph:
    channels, shape, attributes = (_LAYERS | _FEW_PLACES).get(layer, _TILES)
    random, build = np.random.default_rng(len(layer)), Builder(layer)
    x = build.input("x", TensorType(DType.FLOAT32, (events, channels, height, width)))
    w = build.constant(random.normal(size=shape).astype(np.float32), "w")
    b = build.constant(random.normal(size=shape[0]).astype(np.float32), "b")
    return build.graph(build(kind(**attributes), x, w, b))


def _header(graph: Graph) -> str:
    return emit(graph, plan_memory(graph)).header


@pytest.mark.parametrize("layer", _LAYERS)
def test_open_sizes_have_the_kernel_of_known_ones(layer: str) -> None:
    opened = _header(_graph(layer, symbol("H"), symbol("W")))
    known = _header(_graph(layer, *_IMAGES[0]))
    kernels = r"sofie::(\w*conv\w*|depthwise_\w+)<"
    kernel, of_any = re.findall(kernels, known), re.findall(kernels, opened)
    # A kernel that decides its tile itself has its own name.
    assert kernel and kernel == [name.removesuffix("_open") for name in of_any]


@pytest.mark.parametrize("layer", _LAYERS)
def test_one_session_has_the_numbers_of_each_size(layer: str) -> None:
    graph = _graph(layer, symbol("H"), symbol("W"))
    opened, (node,), channels = compile_graph(graph), graph.nodes, _LAYERS[layer][0]
    known = compile_graph(_graph(layer, *_IMAGES[0]))
    for number, (height, width) in enumerate(_IMAGES):
        x = np.random.default_rng(number).normal(size=(2, channels, height, width))
        feeds = {"x": x.astype(np.float32)}
        (found,) = opened.infer(feeds, {"H": height, "W": width}).values()
        (expected,) = evaluate_node(node, {**graph.constants, **feeds})
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
        if (height, width) == _IMAGES[0]:
            (same,) = known.infer(feeds, {}).values()
            np.testing.assert_array_equal(found, same)


def test_an_open_image_has_the_tiles_of_a_known_one() -> None:
    """Large ones, small ones, and none: the bits of each size, whichever came before."""
    opened = compile_graph(_graph("tiles", symbol("H"), symbol("W"), WinogradConv))
    for number, (height, width) in enumerate(
        ((40, 33), (8, 8), (2, 2), (5, 1600), (4, 3), (40, 33))
    ):
        x = np.random.default_rng(number).normal(size=(2, 32, height, width))
        feeds = {"x": x.astype(np.float32)}
        (found,) = opened.infer(feeds, {"H": height, "W": width}).values()
        known = _graph("tiles", height, width, WinogradConv)
        (node,) = known.nodes
        (expected,) = evaluate_node(node, {**known.constants, **feeds})
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)
        if (height, width) in ((40, 33), (8, 8), (4, 3)):
            (same,) = compile_graph(known).infer(feeds, {}).values()
            np.testing.assert_array_equal(found, same)


@pytest.mark.parametrize("layer", _FEW_PLACES)
def test_events_of_few_places_do_not_know_each_other(layer: str) -> None:
    kind = WinogradConv if layer == "tiles of few places" else Conv
    graph = _graph(layer, symbol("H"), symbol("W"), kind, symbol("N"))
    compiled, (node,) = compile_graph(graph), graph.nodes
    channels = _FEW_PLACES[layer][0]
    for height, width in ((1, 1), (1, 2), (3, 1), (2, 2), (1, 5), (2, 3), (7, 1), (2, 4), (3, 3)):
        x = np.random.default_rng(width).normal(size=(70, channels, height, width)).astype("f4")
        sizes = {"N": 70, "H": height, "W": width}
        (whole,) = compiled.infer({"x": x}, sizes).values()
        (expected,) = evaluate_node(node, {**graph.constants, "x": x})
        np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-4)
        for first, last in ((0, 1), (4, 6), (1, 20), (1, 66), (69, 70)):
            (some,) = compiled.infer({"x": x[first:last]}, {**sizes, "N": last - first}).values()
            np.testing.assert_array_equal(some, whole[first:last])
