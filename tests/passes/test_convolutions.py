"""Convolutions: what becomes part of one, with which constants, how exact it is, and what not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.model import Model
from sofie_rdf.ops.convolution import Conv, ConvLayer
from sofie_rdf.ops.convolution_transposed import ConvTranspose, ConvTransposeLayer
from sofie_rdf.ops.elementwise import Add, Div, LeakyRelu, Mul, Neg, Relu, Sigmoid, Sub, Tanh
from sofie_rdf.ops.indexing import Pad
from sofie_rdf.ops.layout import Reshape, Transpose
from sofie_rdf.ops.linear import Dense
from sofie_rdf.ops.normalization import BatchNormalization
from sofie_rdf.ops.pooling import AveragePool, MaxPool
from sofie_rdf.passes import pipeline
from sofie_rdf.passes.convolutions import (
    fuse_borders,
    fuse_convolution_inputs,
    fuse_convolutions,
    spread_points,
)
from sofie_rdf.passes.rewrite import Rules
from sofie_rdf.reference import evaluate
from tests.passes.graphs import N, Net, as_exact, batch, identical, operators, summary

RNG = np.random.default_rng(3)
IMAGE = (N, 4, 6, 5)


def weights(*shape: int) -> Array:
    return RNG.normal(size=shape)


def fused(graph: Graph, *passes: Rules) -> Graph:
    """The fused graph, as exact as it was."""
    after = graph
    for one in passes or (fuse_convolutions,):
        after = one(after)
    as_exact(graph, after, batch(graph, rows=3))
    return after


def reasons(graph: Graph, rules: Rules = fuse_convolutions) -> list[str]:
    """Why nothing more is done to a graph."""
    after, report = rules.explain(graph)
    assert summary(after) == summary(graph)
    return [f"{r.rule}: {r.reason}" for r in report.refused]


def conv(b: Net, op: Operator | None = None, *, features: int = 6, bias: bool = True) -> str:
    """A layer on x, by default 3 x 3 with a border."""
    op = op or Conv(pads=(1, 1, 1, 1))
    rank = b.types["x"].rank - 2
    channels = b.types["x"].shape[1]
    assert isinstance(channels, int)
    group = getattr(op, "group", 1)
    first = (channels, features // group)
    if isinstance(op, Conv | ConvLayer):
        first = (features, channels // group)
    inputs = ["x", b.c("weight", weights(*first, *(3,) * rank))]
    return b.op(op, *inputs, *([b.c("bias", weights(features))] if bias else []), name="conv")


def normalization(b: Net, x: str, channels: int, name: str = "y", offset: float = 1.0) -> str:
    """A BatchNormalization; its mean is ``offset`` times as large as its spread."""
    scale = b.c(f"{name}_scale", RNG.uniform(0.5, 2, channels))
    mean = b.c(f"{name}_mean", RNG.uniform(0.5, 1, channels) * offset)
    var = b.c(f"{name}_var", RNG.uniform(0.5, 2, channels))
    op = BatchNormalization()
    return b.op(op, x, scale, b.c(f"{name}_bias", weights(channels)), mean, var, name=name)


OPS = [
    Conv(pads=(1, 1, 1, 1)),
    Conv(group=2, strides=(2, 1)),
    Conv(auto_pad="SAME_UPPER", dilations=(1, 2)),
    ConvTranspose(strides=(2, 2)),
    ConvTranspose(group=2, pads=(1, 0, 0, 1)),
]
LAYERS = {Conv: ConvLayer, ConvTranspose: ConvTransposeLayer}


def layer(op: Any, **more: Any) -> str:
    given = {n: getattr(op, n) for n in op.attributes()}
    return str(LAYERS[type(op)](**given, **more))


# What follows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS, ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_normalization_and_activation(op: Operator, bias: bool) -> None:
    b = Net(*IMAGE)
    before = b.graph(b.op(Relu(), normalization(b, conv(b, op, bias=bias), 6), name="z"))
    assert operators(fused(before)) == [layer(op, activation=Relu())]


@pytest.mark.parametrize("space", [(9,), (4, 5, 4)])
def test_other_numbers_of_axes(space: tuple[int, ...]) -> None:
    b = Net(N, 4, *space)
    before = b.graph(normalization(b, conv(b, Conv()), 6))
    assert operators(fused(before)) == [layer(Conv())]


@pytest.mark.parametrize("op", [Conv(), ConvTranspose()], ids=str)
@pytest.mark.parametrize("step", [Add(), Sub(), Mul(), Div()], ids=str)
@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1), (1,), ()])
def test_constants(op: Operator, step: Operator, shape: tuple[int, ...]) -> None:
    b = Net(*IMAGE, dtype=DType.FLOAT64)
    after = fused(b.graph(b.op(step, conv(b, op), b.c("c", weights(*shape)), name="y")))
    assert operators(after) == [layer(op)]


def test_constants_before_the_result() -> None:
    b = Net(*IMAGE)
    y = b.op(Sub(), b.c("c", weights(6, 1, 1)), b.op(Neg(), conv(b)), name="y")
    assert operators(fused(b.graph(y))) == [layer(Conv(pads=(1, 1, 1, 1)))]


@pytest.mark.parametrize(
    ("step", "shape", "reason"),
    [
        (Add(), (5,), "convolution_scaled: 'c' is no vector along axis 1"),
        (Mul(), (6, 1), "convolution_scaled: the step changes the shape"),
        (Mul(), (2, 1, 1, 1), "convolution_scaled: 'c' is no vector along axis 1"),
        (Add(), (1, 1, 1, 1, 1), "convolution_scaled: the step changes the shape"),
    ],
)
def test_constants_of_other_forms(step: Operator, shape: tuple[int, ...], reason: str) -> None:
    b = Net(2, 6, 6, 5) if shape == (6, 1) else Net(2, 4, 6, 5)
    y = b.op(step, conv(b), b.c("c", weights(*shape)), name="y")
    graph = fuse_convolutions(b.graph(y))
    assert len(graph.nodes) == 2
    assert reason in reasons(graph) or shape == (6, 1)


def test_small_weights_stay() -> None:
    b = Net(*IMAGE)
    graph = fuse_convolutions(b.graph(b.op(Mul(), conv(b), b.c("c", 1e-37), name="y")))
    assert reasons(graph) == ["convolution_scaled: the weights are too small for float32"]


def test_what_comes_behind_an_activation() -> None:
    b = Net(*IMAGE)
    graph = fuse_convolutions(b.graph(normalization(b, b.op(Relu(), conv(b)), 6)))
    assert [type(n.op) for n in graph.nodes] == [ConvLayer, BatchNormalization]
    assert reasons(graph) == ["convolution_scaled: Relu comes before it"]


def test_a_result_that_is_used_twice_stays() -> None:
    b = Net(*IMAGE)
    y = conv(b)
    graph = fuse_convolutions(b.graph(b.op(Relu(), y, name="r"), b.op(Tanh(), y, name="t")))
    assert operators(graph)[1:] == ["Relu()", "Tanh()"]
    assert reasons(graph) == ["convolution_activated: 'conv' is used 2 times"] * 2


def test_computed_weights_stay() -> None:
    b = Net(*IMAGE)
    w = b.input("w", b.types["x"].reshaped((6, 4, 3, 3)))
    graph = b.graph(b.op(Relu(), b.op(Conv(), "x", w), name="y"))
    assert reasons(graph) == ["convolution: w = 'w' is not a constant"]


# Sums ---------------------------------------------------------------------------------------------


def _residual(*, behind: bool = True) -> Graph:
    b = Net(N, 4, 6, 5)
    y = b.op(Add(), "x", normalization(b, conv(b, features=4), 4, "n"), name="sum")
    return b.graph(b.op(LeakyRelu(0.25), y, name="y") if behind else y)


def test_residual_connection() -> None:
    after = fused(_residual())
    op = layer(Conv(pads=(1, 1, 1, 1)), activation=LeakyRelu(0.25))
    assert [s.split("(x, ")[0] for s in summary(after)] == [f"y = {op}"]
    assert after.nodes[0].inputs[-1] == "x"


def test_sum_of_two_convolutions() -> None:
    b = Net(*IMAGE)
    one = conv(b)
    other = b.op(Conv(), "x", b.c("u", weights(6, 4, 1, 1)), name="other")
    after = fused(b.graph(b.op(Relu(), b.op(Add(), one, other), name="y")))
    assert [type(n.op) for n in after.nodes] == [ConvLayer, ConvLayer]


def test_sums_that_broadcast_stay() -> None:
    b = Net(N, 4, 6, 5)
    c = b.input("c", b.types["x"].reshaped((N, 1, 6, 5)))
    graph = fuse_convolutions(b.graph(b.op(Add(), conv(b), c, name="y")))
    assert operators(graph)[1:] == ["Add()"]
    assert "convolution_added: the shapes differ" in reasons(graph)


def test_a_sum_with_itself_stays() -> None:
    b = Net(*IMAGE)
    y = conv(b)
    graph = fuse_convolutions(b.graph(b.op(Add(), y, y, name="y")))
    assert reasons(graph)[-1] == "convolution_added: it reads the same result twice"


def test_nothing_is_added_behind_an_activation() -> None:
    b = Net(N, 4, 6, 5)
    y = b.op(Add(), b.op(Sigmoid(), conv(b, features=4)), "x", name="y")
    graph = fuse_convolutions(b.graph(y))
    assert "convolution_added: Sigmoid comes before it" in reasons(graph)


@pytest.mark.parametrize("side", [6, 33])
def test_sums_with_features_of_one_channel_each_stay_where_images_are_small(side: int) -> None:
    b = Net(N, 4, side, side)
    depthwise = b.op(Conv(group=4, pads=(1,) * 4), "x", b.c("u", weights(4, 1, 3, 3)), name="d")
    graph = fuse_convolutions(b.graph(b.op(Add(), depthwise, "x", name="y")))
    assert ("Add()" in operators(graph)) == (side < 32)
    reason = "its features are of one channel each, and images are small"
    assert (f"convolution_added: {reason}" in reasons(graph)) == (side < 32)


def test_nothing_is_scaled_behind_a_sum() -> None:
    graph = fuse_convolutions(_residual(behind=False))
    b = Net(N, 4, 6, 5)
    y = b.op(Mul(), b.op(Add(), conv(b, features=4), "x"), b.c("c", 2.0), name="y")
    after = fuse_convolutions(b.graph(y))
    assert operators(after)[1:] == ["Mul()"]
    identical(b.graph(y), after, batch(graph, rows=2))


# What precedes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [Conv(), Conv(group=2), Conv(pads=(0, 0, 0, 0))], ids=str)
def test_normalization_before(op: Conv) -> None:
    b = Net(*IMAGE)
    x = normalization(b, "x", 4)
    w, c = b.c("w", weights(6, 4 // op.group, 3, 3)), b.c("b", weights(6))
    before = b.graph(b.op(Relu(), b.op(op, x, w, c), name="z"))
    after = fused(before, fuse_convolutions, fuse_convolution_inputs)
    assert operators(after) == [layer(op, activation=Relu())]


@pytest.mark.parametrize(
    "op", [Conv(pads=(1, 1, 1, 1)), Conv(auto_pad="SAME_LOWER"), ConvTranspose()]
)
def test_at_borders_an_offset_before_stays(op: Operator) -> None:
    b = Net(*IMAGE)
    x = normalization(b, "x", 4)
    shape = (4, 6, 3, 3) if isinstance(op, ConvTranspose) else (6, 4, 3, 3)
    graph = fuse_convolutions(b.graph(b.op(op, x, b.c("w", weights(*shape)), name="z")))
    why = ["convolution_of_scaled: at borders not all products are summed up"]
    assert reasons(graph, fuse_convolution_inputs) == why


@pytest.mark.parametrize("op", OPS, ids=str)
def test_at_borders_a_scale_before_is_folded(op: Any) -> None:
    b = Net(*IMAGE)
    x = b.op(Mul(), "x", b.c("c", RNG.uniform(0.5, 2, (4, 1, 1))))
    shape = (4, 6 // op.group) if isinstance(op, ConvTranspose) else (6, 4 // op.group)
    before = b.graph(b.op(op, x, b.c("w", weights(*shape, 3, 3)), name="y"))
    after = fused(before, fuse_convolutions, fuse_convolution_inputs)
    assert operators(after) == [layer(op)]


def test_a_large_offset_before_stays() -> None:
    b = Net(*IMAGE)
    x = normalization(b, "x", 4, offset=1e4)
    graph = fuse_convolutions(b.graph(b.op(Conv(), x, b.c("w", weights(6, 4, 3, 3)), name="z")))
    (why,) = reasons(graph, fuse_convolution_inputs)
    assert "times the scale: folding would lose 4 digits" in why


# Borders ------------------------------------------------------------------------------------------

BORDER = Pad(pads=(0, 0, 1, 0, 0, 0, 2, 1))


@pytest.mark.parametrize("value", [None, 0.0])
@pytest.mark.parametrize("op", [Conv(), Conv(pads=(1, 1, 1, 1)), Conv(auto_pad="VALID")], ids=str)
def test_border_of_a_convolution(op: Conv, value: float | None) -> None:
    b = Net(*IMAGE)
    x = b.op(BORDER, "x", *([] if value is None else [b.c("value", value)]))
    before = b.graph(b.op(op, x, b.c("w", weights(6, 4, 3, 3)), name="y"))
    own = op.pads or (0,) * 4
    wanted = Conv(pads=(own[0] + 1, own[1], own[2] + 2, own[3] + 1))
    after = fuse_borders(before)
    assert operators(after) == [str(wanted)]
    identical(before, after)


@pytest.mark.parametrize(
    ("pad", "op", "value", "reason"),
    [
        (BORDER, Conv(), 1.0, "the border is of 1.0"),
        (BORDER, Conv(auto_pad="SAME_UPPER"), 0.0, "the pads are SAME_UPPER"),
        (Pad((0, 0, 1, 1, 0, 0, 1, 1), mode="reflect"), Conv(), None, "the border is by reflect"),
        (Pad((0, 0, -1, 0, 0, 0, 0, 0)), Conv(), None, "the border cuts off"),
        (Pad((1, 0, 0, 0, 0, 0, 0, 0)), Conv(), None, "the batch or the channels have a border"),
    ],
    ids=str,
)
def test_borders_that_stay(pad: Pad, op: Conv, value: float | None, reason: str) -> None:
    b = Net(2, 4, 6, 5)
    x = b.op(pad, "x", *([] if value is None else [b.c("value", value)]))
    graph = b.graph(b.op(op, x, b.c("w", weights(6, 4, 3, 3)), name="y"))
    assert reasons(graph, fuse_borders) == [f"padded_convolution: {reason}"]


def _pooled(op: Operator, value: float, *, positive: bool = False, pad: Pad = BORDER) -> Graph:
    b = Net(*IMAGE)
    x = b.op(pad, b.op(Relu(), "x") if positive else "x", b.c("value", value))
    return b.graph(b.op(op, x, name="y"))


@pytest.mark.parametrize(
    ("op", "value", "positive"),
    [
        (MaxPool((3, 3), strides=(2, 2)), -np.inf, False),
        (MaxPool((3, 3), strides=(2, 2)), 0.0, True),
        (AveragePool((3, 3)), 0.0, False),
        (AveragePool((3, 3), count_include_pad=True, auto_pad="VALID"), 0.0, False),
    ],
    ids=str,
)
def test_border_of_a_pool(op: Operator, value: float, positive: bool) -> None:
    before = _pooled(op, value, positive=positive)
    after = fuse_borders(before)
    assert len(after.nodes) == 1 + positive
    # Not the same bits: of two zeros in a window any may be the largest.
    feeds = batch(before)
    np.testing.assert_array_equal(evaluate(before, feeds)["y"], evaluate(after, feeds)["y"])


@pytest.mark.parametrize(
    ("op", "value", "reason"),
    [
        (MaxPool((3, 3)), 0.0, "the border is of 0.0"),
        (MaxPool((2, 2)), -np.inf, "a window would lie in the border"),
        (
            MaxPool((3, 3), ceil_mode=True),
            -np.inf,
            "ceil_mode counts windows that begin in the border",
        ),
        (AveragePool((3, 3)), 1.0, "the border is of 1.0"),
        (AveragePool((3, 3), pads=(1, 1, 1, 1)), 0.0, "the border counts, the pads do not"),
    ],
    ids=str,
)
def test_borders_of_pools_that_stay(op: Operator, value: float, reason: str) -> None:
    (why,) = reasons(_pooled(op, value), fuse_borders)
    assert why.endswith(reason)


def test_places_in_a_border_stay() -> None:
    b = Net(*IMAGE)
    x = b.op(BORDER, "x", b.c("value", -np.inf))
    b(MaxPool((3, 3)), x, outputs=("y", "places"))
    graph = b.graph("y", "places")
    assert reasons(graph, fuse_borders) == [
        "padded_max_pool: places in x with a border are asked for"
    ]


# Points -------------------------------------------------------------------------------------------


def _point(op: ConvTranspose, *kernel: int, shape: Any = (N, 8)) -> Graph:
    b = Net(*shape, *(1,) * (len(kernel)))
    inputs = [b.c("w", weights(8, 6 // op.group, *kernel)), b.c("b", weights(6))]
    return b.graph(b.op(Tanh(), b.op(op, "x", *inputs), name="y"))


@pytest.mark.parametrize("kernel", [(5,), (4, 4), (3, 1, 2)])
def test_points_are_spread_by_a_dense_layer(kernel: Any) -> None:
    after = fused(
        _point(ConvTranspose(strides=(2,) * len(kernel)), *kernel), fuse_convolutions, spread_points
    )
    assert [type(n.op) for n in after.nodes] == [Reshape, Dense, Reshape]
    assert after.nodes[1].op.attributes()["activation"] == Tanh()


@pytest.mark.parametrize(
    ("reason", "op"),
    [
        ("its result is not the kernel, or in groups", ConvTranspose(pads=(1, 0, 0, 0))),
        ("its result is not the kernel, or in groups", ConvTranspose(dilations=(1, 2))),
        ("its result is not the kernel, or in groups", ConvTranspose(output_shape=(4, 5))),
        ("its result is not the kernel, or in groups", ConvTranspose(group=2)),
    ],
)
def test_points_are_not_spread_otherwise(reason: str, op: ConvTranspose) -> None:
    before = fuse_convolutions(_point(op, 4, 4))
    assert reasons(before, spread_points) == [f"spread_point: {reason}"]


def test_more_than_points_are_no_dense_layer() -> None:
    b = Net(*IMAGE)
    before = fuse_convolutions(b.graph(conv(b, ConvTranspose())))
    assert reasons(before, spread_points) == ["spread_point: it is of more than single points"]


@pytest.mark.parametrize("kernel", [(1,), (1, 1), (2, 3), (2, 1, 2)])
def test_a_kernel_as_large_as_its_image_is_a_dense_layer(kernel: Any) -> None:
    b = Net(N, 4, *kernel)
    inputs = [b.c("w", weights(6, 4, *kernel)), b.c("b", weights(6))]
    before = b.graph(b.op(Tanh(), b.op(Conv(), "x", *inputs), name="y"))
    after = fused(before, fuse_convolutions, spread_points)
    assert [type(n.op) for n in after.nodes] == [Reshape, Dense, Reshape]
    assert after.nodes[1].op.attributes()["activation"] == Tanh()


@pytest.mark.parametrize(
    "op", [Conv(pads=(1, 0, 1, 0)), Conv(group=2), Conv(strides=(2, 2), pads=(0, 0, 1, 1))], ids=str
)
def test_a_kernel_as_large_as_its_image_stays_otherwise(op: Conv) -> None:
    b = Net(N, 4, 2, 3)
    inputs = [b.c("w", weights(6, 4 // op.group, 2, 3)), b.c("b", weights(6))]
    after = fused(b.graph(b.op(op, "x", *inputs, name="y")), fuse_convolutions, spread_points)
    assert [type(n.op) for n in after.nodes] in ([ConvLayer], [Reshape, Dense, Reshape])
    if op.group > 1 or op.pads == (1, 0, 1, 0):
        assert [type(n.op) for n in after.nodes] == [ConvLayer]


def _pointwise(sizes: Any, *, added: bool = False, channels: int = 20) -> Graph:
    b = Net(N, channels, *sizes)
    inputs = [
        b.c("w", weights(channels, channels, *(1,) * len(sizes))),
        b.c("b", weights(channels)),
    ]
    y = b.op(Conv(), "x", *inputs)
    return b.graph(b.op(Tanh(), b.op(Add(), y, "x") if added else y, name="y"))


@pytest.mark.parametrize("sizes", [(2,), (9,), (2, 2), (3, 3), (2, 1, 2)])
@pytest.mark.parametrize("added", [False, True])
def test_few_places_are_rows_of_a_dense_layer(sizes: Any, added: bool) -> None:
    after = fused(_pointwise(sizes, added=added), fuse_convolutions, spread_points)
    kinds = [type(n.op) for n in after.nodes]
    assert kinds.count(Dense) == 1 and kinds.count(Transpose) == 2 and ConvLayer not in kinds
    assert any(isinstance(n.op, Tanh) for n in after.nodes) == added


@pytest.mark.parametrize(
    ("sizes", "channels", "reason"),
    [
        ((4, 4), 20, "its image is large, or empty"),
        ((2, 2), 8, "it has few channels"),
        ((symbol("H"), 2), 20, "the size of its image is not known"),
    ],
)
def test_more_places_stay_a_convolution(sizes: Any, channels: int, reason: str) -> None:
    before = fuse_convolutions(_pointwise(sizes, channels=channels))
    assert f"few_places: {reason}" in reasons(before, spread_points)


# In Cling -----------------------------------------------------------------------------------------


def _block() -> Graph:
    """A residual block of a network, normalised at its beginning, padded, upsampled at its end."""
    b = Net(N, 4, 6, 5)
    x = b.op(Conv(), normalization(b, "x", 4, name="first"), b.c("point", weights(4, 4, 1, 1)))
    y = b.op(Pad((0, 0, 1, 1, 0, 0, 1, 1)), b.op(Relu(), x))
    y = normalization(b, b.op(Conv(), y, b.c("w", weights(4, 4, 3, 3))), 4)
    y = b.op(Relu(), b.op(Add(), y, x))
    up = b.op(ConvTranspose(strides=(2, 2)), y, b.c("u", weights(4, 2, 2, 2)))
    return b.graph(b.op(Sigmoid(), normalization(b, up, 2, name="last"), name="z"))


def test_all_of_it_in_cling() -> None:
    before = _block()
    after = pipeline.run(before)
    assert [type(n.op) for n in after.nodes] == [ConvLayer, Relu, ConvLayer, ConvTransposeLayer]
    feeds = batch(before, rows=5)
    as_exact(before, after, feeds)
    exact = evaluate(before, feeds, wide=True)["z"]
    found = Model(before)(feeds["x"])
    np.testing.assert_allclose(found, exact, rtol=0, atol=4e-6)
