"""Dense layers: what becomes one, with which constants, how exact it is, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Graph, Origin
from sofie_rdf.ir.operator import REGISTRY, Operator
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.elementwise import (
    Add,
    Div,
    Elementwise,
    IsNaN,
    LeakyRelu,
    Mul,
    Neg,
    Pow,
    Relu,
    Sigmoid,
    Sub,
    Tanh,
    Unary,
)
from sofie_rdf.ops.layout import Identity
from sofie_rdf.ops.linear import Dense, Gemm, MatMul
from sofie_rdf.ops.normalization import BatchNormalization
from sofie_rdf.ops.quantization import DynamicQuantizeLinear, MatMulInteger
from sofie_rdf.passes.fuse import fuse_integers, fuse_layers, fuse_normalizations
from sofie_rdf.passes.rewrite import Rules
from sofie_rdf.reference import evaluate
from tests.passes.graphs import N, Net, as_exact, batch, floats, identical, operators, summary

RNG = np.random.default_rng(7)
W = RNG.normal(size=(3, 4)).astype(np.float32)
B = RNG.normal(size=4).astype(np.float32)
MEAN = np.array([10.0, -3.0, 0.5], np.float32)
STD = np.array([2.0, 0.5, 0.125], np.float32)
PLAIN = "sofie.Dense()"


def reasons(graph: Graph, rules: Rules = fuse_layers) -> list[str]:
    """All refusals, after a look that nothing was done."""
    after, report = rules.explain(graph)
    assert after.nodes == graph.nodes
    return [f"{r.rule}: {r.reason}" for r in report.refused]


def fused(graph: Graph, rules: Rules = fuse_layers) -> Graph:
    """The fused graph, as exact as it was."""
    after = rules(graph)
    as_exact(graph, after)
    return after


def dense(b: Net, x: str = "x", activation: Elementwise | None = None, name: str = "d") -> str:
    op = Dense(activation=activation) if activation else Dense()
    for constant, values in (("w", W), ("b", B)):
        if constant not in b.types:
            b.c(constant, values)
    return b.op(op, x, "w", "b", name=name)


# Gemm ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT64])
@pytest.mark.parametrize("trans", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 1), (1, 4), None])
def test_gemm(dtype: DType, trans: bool, shape: tuple[int, ...] | None) -> None:
    b = Net(N, 3, dtype=dtype)
    inputs = ["x", b.c("fc.weight", W.T if trans else W)]
    if shape is not None:
        inputs.append(b.c("fc.bias", np.resize(B, shape)))
    before = b.graph(b.op(Gemm(transB=trans), *inputs, name="y"))
    after = fused(before)
    assert summary(after) == [f"y = {PLAIN}(x, fc.weight, fc.bias)"]
    assert after.nodes[0].origin == Origin("net.onnx", "y")
    assert after.constants["fc.weight"].tobytes() == W.astype(dtype.numpy).tobytes()
    expected = np.resize(B, shape) if shape is not None else 0
    assert (after.constants["fc.bias"] == expected).all()
    assert set(after.constants) == {"fc.weight", "fc.bias"}


def test_gemm_with_factors() -> None:
    b = Net(N, 3)
    gemm = Gemm(alpha=1 / 3, beta=-0.7)
    before = b.graph(b.op(gemm, "x", b.c("w", W), b.c("c", B)))
    after = fused(before)
    assert operators(after) == [PLAIN]
    assert (after.constants["w"] == (W.astype(float) / 3).astype(np.float32)).all()
    assert (after.constants["c"] == (B.astype(float) * -0.7).astype(np.float32)).all()


def test_gemm_with_beta_0_ignores_its_bias() -> None:
    b = Net(N, 3)
    before = b.graph(b.op(Gemm(beta=0.0), "x", b.c("w", W), b.c("c", np.full(4, np.nan))))
    after = fused(before)
    assert operators(after) == [PLAIN]
    assert set(after.constants) == {"w", "w_bias"}


def test_gemms_that_share_weights() -> None:
    b = Net(N, 3)
    b.c("w", W.T)
    b.c("c", B)
    b.op(Gemm(transB=True), "x", "w", "c", name="y1")
    b.op(Gemm(transB=True), b.op(Neg(), "x"), "w", "c", name="y2")
    before = b.graph("y1", "y2")
    after = fused(before)
    assert operators(after) == [PLAIN, "Neg()", PLAIN]
    assert set(after.constants) == {"w", "w_2", "c"}


@pytest.mark.parametrize(
    ("op", "bias", "reason"),
    [
        (Gemm(), np.ones((3, 1)), "gemm: 'c' is no vector"),
        (Gemm(), np.ones((3, 4)), "gemm: 'c' is no vector"),
        (Gemm(alpha=1e38), None, "gemm: the constants are not finite in float32"),
        (Gemm(alpha=1e-38), None, "gemm: the weights are too small for float32"),
    ],
)
def test_gemms_that_stay(op: Gemm, bias: object, reason: str) -> None:
    b = Net(3, 3)
    b.op(op, "x", b.c("w", W * 1e2), *([] if bias is None else [b.c("c", bias)]), name="y")
    assert reasons(b.graph("y")) == [reason]


def test_gemm_of_a_transposed_first_factor() -> None:
    b = Net(3, 3)
    after = fused(b.graph(b.op(Gemm(transA=True), "x", b.c("w", W), b.c("c", B), name="y")))
    assert operators(after) == ["Transpose(perm=(1, 0))", PLAIN]


def test_gemms_of_what_is_not_constant() -> None:
    b = Net(N, 3)
    b.input("v", floats(4, 3))
    b.input("c", floats(4))
    b.op(Gemm(transB=True), "x", "v", name="y1")
    b.op(Gemm(transB=True, alpha=0.5, beta=2), "x", "v", "c", name="y2")
    after = fused(b.graph("y1", "y2"))
    product = ["Transpose(perm=(1, 0))", "MatMul()"]
    assert sorted(operators(after)) == sorted([*product, *product, "Mul()", "Mul()", "Add()"])


def test_gemms_of_constants_and_an_offset_that_is_none_stay() -> None:
    b = Net(N, 3)
    b.input("c", floats(4))
    b.op(Gemm(), "x", b.c("w", W), "c", name="y")
    assert reasons(b.graph("y")) == ["gemm: 'c' is not a constant"]


def test_gemms_of_integers_stay() -> None:
    b = Net(N, 3, dtype=DType.INT32)
    graph = b.graph(b.op(Gemm(), "x", b.c("w", np.ones((3, 4)))))
    assert reasons(graph) == ["gemm: Dense is for floating-point numbers, not int32"]


# MatMul -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (N, 3), (N, 5, 3), (2, N, 5, 3)], ids=str)
def test_matmul(shape: tuple[Dim, ...]) -> None:
    b = Net(*shape)
    before = b.graph(b.op(MatMul(), "x", b.c("net/dense/kernel", W), name="y"))
    after = fused(before)
    assert summary(after) == [f"y = {PLAIN}(x, net/dense/kernel, net/dense/bias)"]
    assert not after.constants["net/dense/bias"].any()


def test_matmuls_that_stay() -> None:
    b = Net(N, 3)
    b.input("v", floats(3, 4))
    b.op(MatMul(), "x", "v", name="y1")
    b.op(MatMul(), "x", b.c("vector", W[:, 0]), name="y2")
    b.op(MatMul(), "x", b.c("stack", np.stack([W, W])), name="y3")
    assert reasons(b.graph("y1", "y2", "y3")) == [
        "matmul: w = 'v' is not a constant",
        "matmul: its second factor has 1 axes, and Dense needs a matrix",
        "matmul: its second factor has 3 axes, and Dense needs a matrix",
    ]
    b = Net(N, 3, dtype=DType.INT64)
    graph = b.graph(b.op(MatMul(), "x", b.c("w", np.ones((3, 4)))))
    assert reasons(graph) == ["matmul: Dense is for floating-point numbers, not int64"]


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 1, 4), (1,), ()], ids=str)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_matmul_and_its_bias(shape: tuple[int, ...], swapped: bool) -> None:
    b = Net(2, N, 3)
    product = b.op(MatMul(), "x", b.c("fc.weight", W), name="p")
    inputs = [product, b.c("fc.bias", np.resize(B, shape))]
    before = b.graph(b.op(Add(), *(inputs[::-1] if swapped else inputs), name="y"))
    after = fused(before)
    # The made-up bias had to be fc.bias_2; it is gone.
    assert summary(after) == [f"y = {PLAIN}(x, fc.weight, fc.bias)"]
    assert set(after.types) == {"x", "y", "fc.weight", "fc.bias"}
    assert (after.constants["fc.bias"] == np.resize(B, shape)).all()
    assert after.constants["fc.weight"] is before.constants["fc.weight"]


# What follows -------------------------------------------------------------------------------------

C = np.array([3.0, -0.25, 1e-3, 70.0], np.float32)
AFTER: dict[str, Callable[[Net, str], str]] = {
    "Add(d, c)": lambda b, d: b.op(Add(), d, b.c("c", C)),
    "Add(c, d)": lambda b, d: b.op(Add(), b.c("c", C), d),
    "Sub(d, c)": lambda b, d: b.op(Sub(), d, b.c("c", C)),
    "Sub(c, d)": lambda b, d: b.op(Sub(), b.c("c", C), d),
    "Mul(d, c)": lambda b, d: b.op(Mul(), d, b.c("c", [C])),
    "Mul(c, d)": lambda b, d: b.op(Mul(), b.c("c", -2.5), d),
    "Div(d, c)": lambda b, d: b.op(Div(), d, b.c("c", C)),
    "Neg(d)": lambda b, d: b.op(Neg(), d),
    "BatchNormalization(d)": lambda b, d: b.op(
        BatchNormalization(1e-3), d, *normalization(b, np.abs(C), C, C[::-1], np.abs(C) / 3)
    ),
}


def normalization(b: Net, *statistics: object) -> list[str]:
    names = ("scale", "bias", "mean", "var")
    return [b.c(n, s) for n, s in zip(names, statistics, strict=True)]


@pytest.mark.parametrize("how", AFTER)
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT64])
def test_affine_steps_after_a_dense(how: str, dtype: DType) -> None:
    b = Net(N, 3, dtype=dtype)
    before = b.graph(AFTER[how](b, dense(b)))
    after = fused(before)
    (node,) = after.nodes
    assert (node.op, node.inputs) == (Dense(), ("x", "w", "b"))
    assert node.origin == Origin("net.onnx", "d")
    assert set(after.constants) == {"w", "b"}


@pytest.mark.parametrize("how", [h for h in AFTER if not h.startswith("Batch")])
def test_and_for_any_rank(how: str) -> None:
    for shape in ((3,), (2, N, 3)):
        b = Net(*shape)
        if how == "Mul(d, c)" and shape == (3,):
            continue
        assert operators(fused(b.graph(AFTER[how](b, dense(b))))) == [PLAIN]


def test_a_chain_of_them() -> None:
    b = Net(N, 3)
    value = b.op(MatMul(), "x", b.c("w", W))
    for i, (op, c) in enumerate([(Add(), B), (Mul(), C), (Sub(), 5 * C), (Div(), 0.3)]):
        value = b.op(op, value, b.c(f"c{i}", c))
    before = b.graph(b.op(Tanh(), b.op(Neg(), value)))
    after = fused(before)
    assert operators(after) == ["sofie.Dense(activation=Tanh())"]
    assert set(after.constants) == {"w", "c0"}


def test_a_dense_whose_weights_are_used_elsewhere() -> None:
    b = Net(N, 3)
    scaled = b.op(Mul(), dense(b), b.c("c", C), name="y")
    before = b.graph(scaled, dense(b, name="other"))
    after = fused(before)
    assert summary(after) == [f"y = {PLAIN}(x, w_2, b_2)", f"other = {PLAIN}(x, w, b)"]


def test_a_scale_of_0_after_a_dense_is_fine() -> None:
    b = Net(N, 3)
    after = fused(b.graph(b.op(Mul(), dense(b), b.c("c", [1, 0, 2, 0]))))
    assert operators(after) == [PLAIN]


@pytest.mark.parametrize(
    ("op", "c", "reason"),
    [
        (Add(), [np.inf, 0, 0, 0], "the constants are not finite in float32"),
        (Div(), [1, 1, 1, 0], "the constants are not finite in float32"),
        (Mul(), 3e38, "the constants are not finite in float32"),
        (Mul(), 1e-35, "the weights are too small for float32"),
        (Add(), np.ones((3, 1)), "'c' is no vector"),
        (Add(), np.ones((1, 1, 4)), "the step changes the shape"),
    ],
)
def test_steps_after_a_dense_that_stay(op: Operator, c: object, reason: str) -> None:
    b = Net(3, 3)
    graph = b.graph(b.op(op, dense(b), b.c("c", c)))
    assert reasons(graph) == [f"affine_after: {reason}"]


def test_what_is_no_affine_step_is_not_even_refused() -> None:
    b = Net(N, 3)
    d = dense(b)
    graph = b.graph(b.op(Div(), b.c("c", C), d))
    assert reasons(graph) == []
    b = Net(N, 3)
    assert reasons(b.graph(b.op(Pow(), dense(b), b.c("c", C)))) == []


def test_a_residual_is_not_constant() -> None:
    b = Net(N, 3)
    b.input("r", floats(N, 4))
    graph = b.graph(b.op(Add(), "r", dense(b)))
    assert reasons(graph) == ["affine_after: 'r' is not a constant"]


def test_steps_after_an_activation_stay() -> None:
    b = Net(N, 3)
    d = dense(b, activation=Relu())
    graph = b.graph(b.op(Mul(), d, b.c("c", C)))
    assert reasons(graph) == ["affine_after: Relu comes before it"]


def test_a_normalization_of_another_axis_stays() -> None:
    b = Net(N, 4, 3)
    graph = b.graph(b.op(BatchNormalization(), dense(b), *normalization(b, C, C, C, np.abs(C))))
    assert reasons(graph) == ["affine_after: axis 1 of 3 is normalised, not the last"]


def test_a_negative_variance_is_not_hidden() -> None:
    b = Net(N, 3)
    graph = b.graph(b.op(BatchNormalization(), dense(b), *normalization(b, C, C, C, -np.abs(C))))
    assert reasons(graph) == ["affine_after: the constants are not finite in float32"]


# Activations --------------------------------------------------------------------------------------

ACTIVATIONS = [
    kind()
    for kind in REGISTRY.values()
    if issubclass(kind, Unary)
    and kind.result is None
    and kind.__name__ not in ("Cast", "Neg", "Not", "BitwiseNot")
]


@pytest.mark.parametrize("op", ACTIVATIONS, ids=str)
def test_every_unary_operator_is_an_activation(op: Unary) -> None:
    b = Net(N, 3)
    before = b.graph(b.op(op, dense(b), name="y"))
    after = fuse_layers(before)
    assert after.nodes[0].op == Dense(activation=op)
    assert summary(after) == [f"y = {Dense(activation=op)}(x, w, b)"]
    identical(before, after)


def test_activations_keep_their_attributes_and_come_once() -> None:
    b = Net(N, 3)
    before = b.graph(b.op(Relu(), b.op(LeakyRelu(0.3), dense(b)), name="y"))
    after, report = fuse_layers.explain(before)
    assert operators(after) == ["sofie.Dense(activation=LeakyRelu(alpha=0.3))", "Relu()"]
    assert [r.reason for r in report.refused] == ["LeakyRelu comes before it"]
    identical(before, after)


def test_what_gives_another_type_is_no_activation() -> None:
    b = Net(N, 3)
    graph = b.graph(b.op(IsNaN(), dense(b)))
    assert reasons(graph) == ["activation: its result is bool"]


def test_a_dense_that_is_an_output_or_used_twice_keeps_its_result() -> None:
    b = Net(N, 3)
    d = dense(b)
    b.op(Relu(), d, name="y")
    assert reasons(b.graph("y", d)) == ["activation: 'd' is an output of the model"]
    b.op(Tanh(), d, name="z")
    assert reasons(b.graph("y", "z")) == ["activation: 'd' is used 2 times"] * 2


# What precedes ------------------------------------------------------------------------------------


def before_dense(*steps: tuple[Operator, object], last: int = 3) -> Graph:
    """Dense after steps with a constant each; a None in the place of one is `x`."""
    b, value = Net(N, last), "x"
    for i, (op, c) in enumerate(steps):
        constants = [] if c is None else [b.c(f"c{i}", c)]
        value = b.op(op, value, *constants, name=f"s{i}")
    return b.graph(dense(b, value))


def physical() -> dict[str, Array]:
    """Events whose features have the mean and spread for which the graphs here were made."""
    return {"x": (np.random.default_rng(3).normal(size=(500, 3)) * STD + MEAN).astype(np.float32)}


BEFORE = {
    "Dense(Div(Sub(x, m), s))": before_dense((Sub(), MEAN), (Div(), STD)),
    "Dense(Mul(Sub(x, m), 1/s))": before_dense((Sub(), MEAN), (Mul(), 1 / STD)),
    "Dense(Add(Mul(x, 1/s), -m/s))": before_dense((Mul(), 1 / STD), (Add(), [-MEAN / STD])),
    "Dense(Sub(Div(x, s), m/s))": before_dense((Div(), STD), (Sub(), MEAN / STD)),
    "Dense(Div(x, s))": before_dense((Div(), STD)),
    "Dense(Mul(x, 3))": before_dense((Mul(), 3)),
    "Dense(Neg(x))": before_dense((Neg(), None)),
    "Dense((x / 2 - m / 2) / (s / 2))": before_dense(
        (Div(), 2), (Sub(), MEAN / 2), (Div(), STD / 2)
    ),
    "Dense((x - m) / s * c + d)": before_dense(
        (Sub(), MEAN), (Div(), STD), (Mul(), [2, 1, -1]), (Add(), [[1, -1, 0.5]])
    ),
}


@pytest.mark.parametrize("how", BEFORE)
def test_affine_steps_before_a_dense(how: str) -> None:
    before = BEFORE[how]
    after = fuse_normalizations(before)
    assert summary(after) == [f"d = {PLAIN}(x, w, b)"]
    assert after.nodes[0].origin == Origin("net.onnx", "d")
    assert set(after.types) == {"x", "w", "b", "d"}
    as_exact(before, after, physical(), ulps=6)


def test_a_batch_normalization_before_a_dense() -> None:
    b = Net(N, 3)
    scale, bias = [0.1, 2.0, -1.0], [0.3, 0.0, 1.0]
    statistics = normalization(b, scale, bias, MEAN, STD**2)
    before = b.graph(dense(b, b.op(BatchNormalization(), "x", *statistics)))
    after = fuse_normalizations(before)
    assert summary(after) == [f"d = {PLAIN}(x, w, b)"]
    as_exact(before, after, physical(), ulps=6)


def test_the_activation_stays_and_x_may_be_used_elsewhere() -> None:
    b = Net(N, 3)
    r = b.op(Relu(), "x", name="r")
    d = dense(b, b.op(Div(), b.op(Sub(), r, b.c("m", MEAN)), b.c("s", STD)), Sigmoid())
    before = b.graph(d, b.op(Neg(), r, name="z"))
    after = fuse_normalizations(before)
    assert summary(after) == [
        "r = Relu()(x)",
        "d = sofie.Dense(activation=Sigmoid())(r, w, b)",
        "z = Neg()(r)",
    ]
    as_exact(before, after, physical(), ulps=6)


def test_x_may_be_an_output_and_a_tensor_of_events() -> None:
    b = Net(N, 5, 3)
    before = b.graph(dense(b, b.op(Mul(), "x", b.c("c", [1, 2, 3]))), "x")
    assert summary(fused(before, fuse_normalizations)) == [f"d = {PLAIN}(x, w, b)"]


def test_near_the_mean_the_folded_form_is_as_exact() -> None:
    """The rounding of the new weights is made up for in the bias: x = mean gives b."""
    mean = np.array([15.9, -15.9, 15.7], np.float32)
    before = before_dense((Sub(), mean), (Div(), [1.0, 0.999, 1.003]))
    after = fuse_normalizations(before)
    assert operators(after) == [PLAIN]
    rng = np.random.default_rng(0)
    x = (mean + rng.normal(size=(200, 3)) * 1e-4).astype(np.float32)
    exact = evaluate(before, {"x": x}, wide=True)["d"]
    found = evaluate(after, {"x": x}, wide=True)["d"]
    # What is left is the rounding of the bias itself.
    assert (np.abs(found - exact) <= 0.51 * np.spacing(np.abs(after.constants["b"]))).all()


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (
            ((Sub(), 2e4), (Div(), 2)),
            "the offset is 1e+04 times the scale: folding would lose 4 digits",
        ),
        (
            ((Sub(), [0, 17, 0]), (Mul(), 1.5)),
            "the offset is 25.5 times the scale: folding would lose 1 digit",
        ),
        (
            ((Mul(), 2), (Add(), 16.5)),
            "the offset is 16.5 times the scale: folding would lose 1 digit",
        ),
        (
            ((Mul(), 2), (Sub(), 1e3), (Div(), 1e-3)),
            "the offset is 1e+06 times the scale: folding would lose 6 digits",
        ),
        (((Sub(), 0.25),), "it adds up to 0.25 and nothing says how large that is beside x"),
        (
            ((Neg(), None), (Add(), 91.2)),
            "it adds up to 91.2 and nothing says how large that is beside x",
        ),
        (((Div(), [1, 0, 1]),), "the constants of the step are not finite"),
        (((Add(), np.nan), (Mul(), 2)), "the constants of the step are not finite"),
        (((Mul(), [1, 0, 1]),), "a scale is 0"),
        (((Mul(), 1e38), (Mul(), 1e10)), "the constants are not finite in float32"),
        (((Mul(), 1e-38),), "the weights are too small for float32"),
    ],
)
def test_steps_before_a_dense_that_stay(
    steps: tuple[tuple[Operator, object], ...], reason: str
) -> None:
    assert reasons(before_dense(*steps), fuse_normalizations) == [f"affine_before: {reason}"]


def test_none_is_folded_if_not_all_are() -> None:
    """The division alone would be safe, but then nobody could tell that x * 2 - 10 is not."""
    graph = before_dense((Mul(), 2), (Sub(), 10), (Div(), 1e-3))
    (reason,) = reasons(graph, fuse_normalizations)
    assert "1e+04 times" in reason


def test_the_offset_is_compared_with_the_spread_of_a_batch_normalization() -> None:
    """A scale of 0.01 does not make an offset of 1600 standard deviations small."""
    for mean, safe in ((15.0, True), (1600.0, False)):
        b = Net(N, 3)
        ones = np.ones(3)
        statistics = normalization(b, ones * 0.01, ones * 0, ones * mean, ones)
        graph = b.graph(dense(b, b.op(BatchNormalization(0.0), "x", *statistics)))
        after, report = fuse_normalizations.explain(graph)
        assert (operators(after) == [PLAIN]) is safe
        told = [r.reason for r in report.refused]
        loss = "the offset is 1.6e+03 times the scale: folding would lose 3 digits"
        assert told == ([] if safe else [loss])


def test_a_refused_fold_would_have_lost_what_is_said() -> None:
    """The limit is where it should be: at 1e4 the folded form is 1e4 times less exact."""
    graph = before_dense((Sub(), 1e4), (Div(), 1))
    x = (1e4 + np.random.default_rng(0).integers(-64, 64, (100, 3)) / 64).astype(np.float32)
    folded = x @ W + (B - 1e4 * W.sum(0, dtype=float)).astype(np.float32)
    exact = evaluate(graph, {"x": x}, wide=True)["d"]
    kept = evaluate(graph, {"x": x})["d"]
    assert np.abs(folded - exact).max() > 1e3 * np.abs(kept - exact).max()


def test_a_normalized_value_that_is_used_elsewhere_stays() -> None:
    b = Net(N, 3)
    s = b.op(Div(), "x", b.c("s", STD), name="s0")
    graph = b.graph(dense(b, s), b.op(Neg(), s, name="z"))
    assert reasons(graph, fuse_normalizations) == ["affine_before: 's0' is used 2 times"]
    assert reasons(b.graph("d", "s0"), fuse_normalizations) == [
        "affine_before: 's0' is an output of the model"
    ]


def test_what_is_no_constant_step_is_not_even_refused() -> None:
    b = Net(N, 3)
    b.input("r", floats(N, 3))
    values = [b.op(Add(), "x", "r"), b.op(Relu(), "x"), b.op(Mul(), "x", "x"), "x"]
    values.append(b.op(Div(), b.c("c", STD), "x"))
    graph = b.graph(*(dense(b, v, name=f"d{i}") for i, v in enumerate(values)))
    assert reasons(graph, fuse_normalizations) == []


def test_a_step_that_broadcasts_stays() -> None:
    b = Net(N, 1)
    graph = b.graph(dense(b, b.op(Mul(), "x", b.c("c", [1, 2, 3]))))
    assert reasons(graph, fuse_normalizations) == ["affine_before: the step changes the shape"]
    b = Net(5, 3)
    graph = b.graph(dense(b, b.op(Mul(), "x", b.c("c", np.ones((5, 3))))))
    assert reasons(graph, fuse_normalizations) == ["affine_before: 'c' is no vector"]


def test_steps_end_where_they_are_needed_elsewhere() -> None:
    b = Net(N, 3)
    s = b.op(Sub(), "x", b.c("m", MEAN), name="s0")
    before = b.graph(dense(b, b.op(Div(), s, b.c("s", STD))), b.op(Neg(), s, name="z"))
    after = fused(before, fuse_normalizations)
    assert summary(after) == ["s0 = Sub()(x, m)", f"d = {PLAIN}(s0, w, b)", "z = Neg()(s0)"]


def test_shared_weights_are_copied_and_not_changed() -> None:
    b = Net(N, 3)
    d = dense(b, b.op(Div(), "x", b.c("s", STD)))
    before = b.graph(d, dense(b, name="raw"))
    after = fused(before, fuse_normalizations)
    assert summary(after) == [f"d = {PLAIN}(x, w_2, b_2)", f"raw = {PLAIN}(x, w, b)"]
    assert after.constants["w"] is before.constants["w"]


def test_numbers_that_are_not_finite_go_the_same_way() -> None:
    before = BEFORE["Dense(Div(Sub(x, m), s))"]
    after = fuse_normalizations(before)
    x = np.array([[np.inf, 0, 0], [0, np.nan, 0], [-np.inf, np.inf, 0]], np.float32)
    old, new = (evaluate(g, {"x": x})["d"] for g in (before, after))
    np.testing.assert_array_equal(np.isnan(old), np.isnan(new))
    np.testing.assert_array_equal(old[~np.isfinite(old)], new[~np.isfinite(old)])


def test_a_dense_of_variable_weights_is_left_alone() -> None:
    b = Net(N, 3)
    b.input("v", floats(3, 4))
    d = b.op(Dense(), b.op(Div(), "x", b.c("s", STD)), "v", b.c("b", B), name="d")
    graph = b.graph(b.op(Neg(), d))
    assert reasons(graph, fuse_normalizations) == ["affine_before: w = 'v' is not a constant"]
    after, report = fuse_layers.explain(graph)
    assert operators(after) == ["Div()", "sofie.Dense(activation=Neg())"]
    assert report.applied == {"activation": 1}
    assert len(batch(graph)) == 2
    assert not isinstance(after.nodes[0].op, Identity)


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16])
def test_half_precision_is_not_rounded_a_second_time(dtype: DType) -> None:
    """Weights are combined where that is exact: a power of two is, 0.3 is not."""
    for scale, left in ((0.5, [PLAIN]), (0.3, [PLAIN, "Mul()"])):
        b = Net(N, 3, dtype=dtype)
        product = b.op(MatMul(), "x", b.c("w", W))
        graph = b.graph(b.op(Mul(), product, b.c("s", [scale] * 4), name="y"))
        after, report = fuse_layers.explain(graph)
        assert operators(after) == left
        if len(left) == 1:
            identical(graph, after)
        else:
            (refused,) = report.refused
            assert refused.reason == f"combined, the constants are no numbers of {dtype}"


# Integers -----------------------------------------------------------------------------------------

INTEGERS = RNG.integers(-128, 127, (3, 4), np.int8, endpoint=True)


def quantized(b: Net, factors: object, *zeros: str) -> str:
    """x as it is quantised dynamically times a matrix, in the scale of both."""
    q, scale, zero = given = ("quantized", "scale", "zero")
    b(DynamicQuantizeLinear(), "x", outputs=given)
    w = b.constant(INTEGERS, "w")
    sums = b.op(MatMulInteger(), q, w, *([zero, *zeros] if zeros else []), name="sums")
    real = b.op(Cast(DType.FLOAT32), sums, name="real")
    return b.op(Mul(), real, b.op(Mul(), scale, b.c("f", factors), name="factors"), name="scaled")


@pytest.mark.parametrize("factors", [np.float32(0.01), W[0]])
@pytest.mark.parametrize("zero", [np.int8(0), INTEGERS[0]])
def test_an_integer_product_has_its_scale_offset_and_relu(factors: Array, zero: Array) -> None:
    b = Net(N, 3)
    scaled = quantized(b, factors, b.constant(np.asarray(zero), "q"))
    b.op(Relu(), b.op(Add(), scaled, b.c("b", B), name="sum"), name="y")
    graph = b.graph("y")
    after = fuse_integers(graph)
    identical(graph, after)
    assert operators(after)[-1] == "sofie.IntegerDense(relu=True)" and len(after.nodes) == 3


def test_an_integer_product_alone_has_its_scale() -> None:
    b = Net(N, 3)
    graph = b.graph(quantized(b, np.float32(-0.01)))
    after = fuse_integers(graph)
    identical(graph, after)
    assert operators(after)[-1] == "sofie.IntegerDense()"


def test_integers_with_factors_of_rows_stay() -> None:
    b = Net(2, 3)
    graph = b.graph(quantized(b, W[:2, :1]))
    assert reasons(graph, fuse_integers) == ["integers: rows have factors of their own"]


def test_an_offset_behind_an_offset_stays() -> None:
    b = Net(N, 3)
    once = b.op(Add(), quantized(b, np.float32(0.01)), b.c("b", B), name="once")
    graph = b.graph(b.op(Add(), once, b.c("c", B), name="twice"))
    after = fuse_integers(graph)
    identical(graph, after)
    assert operators(after)[-2:] == ["sofie.IntegerDense()", "Add()"]
