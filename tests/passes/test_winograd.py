"""Convolutions that take fewer multiplications: which do, and that an event does not notice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sofie_rdf.ir.dims import Dim, symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType, Shape, TensorType
from sofie_rdf.model import Model
from sofie_rdf.ops.convolution import Conv, ConvLayer
from sofie_rdf.ops.convolution_transposed import ConvTranspose, ConvTransposeLayer
from sofie_rdf.ops.convolution_winograd import WinogradConv
from sofie_rdf.ops.elementwise import Relu
from sofie_rdf.passes import pipeline, switches
from sofie_rdf.passes.winograd import choose_winograd
from sofie_rdf.reference import evaluate
from sofie_rdf.runtime.compile.cpu import instruction_set
from sofie_rdf.runtime.compile.session import Compiled, compile_graph
from tests.ops.accuracy import identical
from tests.passes.graphs import N, Net, operators

RNG = np.random.default_rng(5)


def weights(*shape: int) -> Array:
    return RNG.normal(size=shape)


def graph(
    *shape: Dim,
    kernel: tuple[int, ...] = (3, 3),
    features: int = 8,
    w: Array | None = None,
    op: Operator | None = None,
    dtype: DType = DType.FLOAT32,
) -> Graph:
    """A convolution of x with a bias."""
    b = Net(*shape, dtype=dtype)
    op = op or Conv(pads=(1,) * 2 * len(kernel))
    channels = shape[1]
    assert isinstance(channels, int)
    w = weights(features, channels // getattr(op, "group", 1), *kernel) if w is None else w
    return b.graph(b.op(op, "x", b.c("w", w), b.c("b", weights(features)), name="y"))


def reasons(before: Graph) -> list[str]:
    """Why a convolution stays what it is."""
    after, report = choose_winograd.explain(before)
    assert operators(after) == operators(before)
    return [r.reason for r in report.refused]


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (3, 2), (4, 4), (3, 3, 3), (2, 5, 5)])
@pytest.mark.parametrize("height", [14, "H"])
def test_large_convolutions_take_fewer_multiplications(kernel: Any, height: Any) -> None:
    size = N * 4 if height == "H" else height
    space = (*(6,) * (len(kernel) - 2), size, 16)
    before = graph(N, 64, *space, kernel=kernel, features=48)
    after = choose_winograd(before)
    assert [type(n.op) for n in after.nodes] == [WinogradConv]
    assert after.nodes[0].op.attributes() == before.nodes[0].op.attributes()


def test_what_is_part_of_the_layer_stays_so() -> None:
    b = Net(N, 32, 16, 16)
    y = b.op(Relu(), b.op(Conv(), "x", b.c("v", weights(32, 32, 1, 1))))
    inputs = [b.c("u", weights(32, 32, 3, 3)), b.c("c", weights(32)), "x"]
    net = b.graph(b.op(ConvLayer(activation=Relu(), pads=(1, 1, 1, 1)), y, *inputs))
    after = choose_winograd(net)
    assert operators(after)[-1] == ("sofie.WinogradConv(pads=(1, 1, 1, 1), activation=Relu())")
    assert after.nodes[-1].inputs == net.nodes[-1].inputs


@pytest.mark.parametrize(
    ("reason", "net"),
    [
        ("it has strides, dilations or groups", graph(N, 8, 32, 32, op=Conv(strides=(1, 2)))),
        ("it has strides, dilations or groups", graph(N, 8, 32, 32, op=Conv(dilations=(2, 1)))),
        ("it has strides, dilations or groups", graph(N, 8, 32, 32, op=Conv(group=2))),
        ("it has one axis", graph(N, 8, 99, kernel=(3,))),
        ("its kernel is too large", graph(N, 8, 32, 32, kernel=(6, 3))),
        ("its kernel is a row or a column", graph(N, 32, 32, 32, kernel=(1, 5), features=32)),
        ("it has few channels, features or taps", graph(N, 32, 32, 32, kernel=(2, 2), features=32)),
        ("it has few channels, features or taps", graph(N, 3, 32, 32, kernel=(5, 5), features=99)),
        ("it has few channels, features or taps", graph(N, 8, 32, 32)),
        ("it has few channels, features or taps", graph(N, 99, 32, 32, kernel=(5, 5), features=4)),
        ("its elements are float64", graph(N, 8, 32, 32, dtype=DType.FLOAT64)),
        ("its tiles would be half empty", graph(N, 32, 1, 99, features=32)),
        ("its output is of 4 tiles only", graph(N, 32, 7, 7, features=32)),
        (
            "of the weights of a feature few are not near 0",
            graph(
                N,
                32,
                32,
                32,
                features=32,
                w=weights(32, 32, 3, 3) * (RNG.random((32, 32, 3, 3)) < 0.05),
            ),
        ),
    ],
)
def test_others_stay_what_they_are(reason: str, net: Graph) -> None:
    assert reasons(net) == [reason]


def test_small_images_have_small_tiles() -> None:
    """Unless their weights come from further away than multiplying takes."""
    model = Model(graph(N, 64, 8, 8, features=64))
    assert "convolution_winograd_lanes<4, 4, 4, false>(" in model.emission.header
    assert reasons(graph(N, 512, 7, 7, features=512)) == ["its output is of 4 tiles only"]


def test_long_lines_of_small_tiles() -> None:
    """There may be more tiles in a line than products are done of at a time."""
    net = choose_winograd(graph(1, 64, 2, 1000, features=64))
    assert operators(net) == ["sofie.WinogradConv(pads=(1, 1, 1, 1))"]
    _require_same(net, (1, 64, 2, 1000))


def test_images_of_any_size() -> None:
    """How many columns a tile has, and whether there are tiles, is decided by the kernel."""
    image = symbol("H"), symbol("W")
    strided = Conv(pads=(1,) * 4, strides=(2, 2))
    plain = graph(N, 32, *image, features=48, op=strided)
    fewer = choose_winograd(graph(N, 64, *image, features=64))
    for channels, net in ((32, plain), (64, fewer)):
        compiled = compile_graph(net)
        for height, width in ((1, 1), (2, 2), (4, 3), (4, 4), (5, 6), (9, 8), (14, 13), (2, 1000)):
            _require_same(net, (2, channels, height, width), compiled)


def _require_same(net: Graph, shape: Shape, compiled: Compiled | None = None) -> None:
    x = RNG.normal(size=shape).astype(np.float32)
    sizes = dict(zip(("N", "H", "W"), (shape[0], *shape[2:]), strict=True))
    found = (compiled or compile_graph(net)).infer({"x": x}, sizes)["y"]
    expected = evaluate(net, {"x": x}, wide=True)["y"]
    np.testing.assert_allclose(found, expected, atol=4e-6 * np.abs(expected).max())


def test_a_computed_bias_is_left_alone() -> None:
    b = Net(N, 32, 32, 32)
    bias = b.input("b", TensorType(DType.FLOAT32, (32,)))
    net = b.graph(b.op(Conv(), "x", b.c("w", weights(32, 32, 3, 3)), bias))
    assert reasons(net) == ["b = 'b' is not a constant"]


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    net = graph(N, 32, 32, 32, features=32)
    assert operators(pipeline.run(net)) == ["sofie.WinogradConv(pads=(1, 1, 1, 1))"]
    monkeypatch.setenv(switches.WINOGRAD, "0")
    assert operators(pipeline.run(net)) == ["sofie.ConvLayer(pads=(1, 1, 1, 1))"]
    assert reasons(net) == ["SOFIE_RDF_WINOGRAD=0 says so"]


def transposed(*shape: Dim, **attributes: Any) -> Graph:
    """A transposed convolution of x with 3 x 2 taps and a bias."""
    b = Net(*shape)
    group = attributes.get("group", 1)
    inputs = [b.c("w", weights(64, 48 // group, 3, 2)), b.c("b", weights(48))]
    return b.graph(b.op(ConvTranspose(**attributes), "x", *inputs, name="y"))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": (1, 0, 2, 1)},
        {"auto_pad": "SAME_LOWER"},
        {"output_shape": (20, 22)},
    ],
)
def test_transposed_ones_without_strides_are_convolutions(attributes: Any) -> None:
    before = transposed(N, 64, 18, 21, **attributes)
    after = pipeline.run(before)
    assert [type(n.op) for n in after.nodes] == [WinogradConv]
    x = RNG.normal(size=(2, 64, 18, 21)).astype(np.float32)
    expected = evaluate(before, {"x": x}, wide=True)["y"]
    found = compile_graph(after).infer({"x": x}, {"N": 2})["y"]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("channels", "features", "attributes", "kind"),
    [
        (3, 8, {"pads": (1, 0, 2, 1)}, ConvLayer),
        (16, 16, {}, ConvLayer),
        (16, 9, {}, ConvTransposeLayer),
        (3, 4, {}, ConvTransposeLayer),
        (3, 8, {"strides": (2, 1)}, ConvTransposeLayer),
    ],
)
def test_few_channels_without_strides_are_summed_directly(
    channels: int, features: int, attributes: Any, kind: type
) -> None:
    b = Net(N, channels, 11, 12)
    inputs = [b.c("w", weights(channels, features, 3, 2)), b.c("b", weights(features))]
    before = b.graph(b.op(Relu(), b.op(ConvTranspose(**attributes), "x", *inputs), name="y"))
    after = pipeline.run(before)
    assert [type(n.op) for n in after.nodes] == [kind]
    x = RNG.normal(size=(2, channels, 11, 12)).astype(np.float32)
    expected = evaluate(before, {"x": x}, wide=True)["y"]
    found = compile_graph(after).infer({"x": x}, {"N": 2})["y"]
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("reason", "net"),
    [
        ("it has strides, dilations or groups", transposed(N, 64, 18, 21, strides=(1, 2))),
        ("it has strides, dilations or groups", transposed(N, 64, 18, 21, dilations=(2, 1))),
        ("it has strides, dilations or groups", transposed(N, 64, 18, 21, group=2)),
        ("more is cut off than the kernel adds", transposed(N, 64, 18, 21, pads=(4, 0, 0, 0))),
        ("its output is of 6 tiles only", transposed(N, 64, 5, 10)),
    ],
)
def test_other_transposed_ones_stay_what_they_are(reason: str, net: Graph) -> None:
    assert reasons(net) == [reason]
    assert [type(n.op) for n in pipeline.run(net).nodes] == [ConvTransposeLayer]


@pytest.mark.parametrize(("kernel", "most"), [((3, 3), 5), ((5, 5), 18)])
@pytest.mark.parametrize("channels", [32, 300])
def test_it_is_nearly_as_exact(kernel: Any, most: float, channels: int) -> None:
    """On ordinary numbers, in the mean; many channels make no difference."""
    before = graph(N, channels, 20, 20, kernel=kernel, features=32)
    after = choose_winograd(before)
    x = RNG.normal(size=(1, channels, 20, 20)).astype(np.float32)
    node = before.nodes[0]
    constants = [before.constants[i].astype(np.float64) for i in node.inputs[1:]]
    exact = node.op.reference(x.astype(np.float64), *constants)
    errors = []
    for one in (before, after):
        found = compile_graph(one).infer({"x": x}, {"N": 1})["y"]
        errors.append(float(np.sqrt(np.mean((found - exact) ** 2))))
    assert errors[0] < errors[1] < most * errors[0]


# Of any features, and of those that lie in the lanes: tiles of 4 x 4, and of 2 x 2.
@pytest.mark.parametrize(
    ("size", "kernel", "features"), [(24, (5, 5), 11), (24, (3, 3), 32), (8, (3, 3), 64)]
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 1e20])
def test_what_no_tile_may_have_is_summed_plainly(
    value: float, size: int, kernel: Any, features: int
) -> None:
    """An event with such a number has the results of the plain sum, the others have their own."""
    before = graph(N, 64, size, size, kernel=kernel, features=features)
    layer = choose_winograd(before)
    plain, fewer = (compile_graph(g) for g in (before, layer))
    x = RNG.normal(size=(3, 64, size, size)).astype(np.float32)
    usual = fewer.infer({"x": x}, {"N": 3})["y"]
    # Tiles of 2 x 2 are in assembler: elsewhere so small an image is summed plainly throughout.
    has_tiles = size > 8 or instruction_set().simd_bytes > 16
    assert identical(usual, plain.infer({"x": x}, {"N": 3})["y"]) is not has_tiles
    x[1, 2, 3, 4] = value
    found, expected = (c.infer({"x": x}, {"N": 3})["y"] for c in (fewer, plain))
    assert identical(found[1], expected[1])
    assert identical(found[::2], usual[::2])


def test_a_model_has_the_results_of_its_reference() -> None:
    b = Net(N, 12, 33, 29)
    x = b.op(Relu(), b.op(Conv(auto_pad="SAME_UPPER"), "x", b.c("w", weights(32, 12, 5, 5) / 9)))
    y = b.op(Conv(pads=(1, 1, 1, 1)), x, b.c("v", weights(24, 32, 3, 3) / 9))
    model = Model(b.graph(y))
    assert {type(n.op) for n in model.optimized.nodes} == {WinogradConv}
    data = RNG.normal(size=(4, 12, 33, 29)).astype(np.float32)
    found = model(data)
    assert isinstance(found, np.ndarray)
    assert identical(found[2:3], np.asarray(model(data[2:3])))

    exact = evaluate(model.graph, {"x": data}, wide=True)[model.graph.outputs[0]]
    assert np.max(np.abs(found - exact)) < 1e-5 * np.max(np.abs(exact))
