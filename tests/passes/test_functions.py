"""Functions that are spelled out: which are recognised, how exact they are, and which stay."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import DType
from sofie_rdf.ops.elementwise import (
    Add,
    Clip,
    Div,
    Erf,
    Exp,
    Gelu,
    Greater,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mish,
    Mul,
    Pow,
    PRelu,
    Reciprocal,
    Sigmoid,
    Softplus,
    Sqrt,
    Sub,
    Swish,
    Tanh,
    Where,
)
from sofie_rdf.ops.normalization import LayerNormalization
from sofie_rdf.ops.reduction import ReduceMax, ReduceMean, ReduceSum
from sofie_rdf.passes.functions import known_functions, rms_normalizations, squares
from sofie_rdf.reference import evaluate
from tests.passes.graphs import N, Net, as_exact, batch, floats, identical, operators, summary


def applied_to(op: Operator, value: object, *, dtype: DType = DType.FLOAT32) -> Graph:
    b = Net(N, 3, dtype=dtype)
    return b.graph(b.op(op, "x", b.c("c", value), name="y"))


@pytest.mark.parametrize("slope", [0.25, [0.25] * 3, [[-0.5]], -0.0])
def test_a_prelu_with_one_slope_is_a_leaky_relu(slope: object) -> None:
    before = applied_to(PRelu(), slope)
    after = known_functions(before)
    assert summary(after) == [f"y = {LeakyRelu(float(np.asarray(slope).flat[0]))}(x)"]
    identical(before, after)


def test_refusals_of_prelu() -> None:
    def reason(graph: Graph) -> str:
        (refusal,) = known_functions.explain(graph)[1].refused
        assert refusal.rule == "uniform_prelu"
        return refusal.reason

    assert reason(applied_to(PRelu(), [0.1, 0.1, 0.2])) == "the slopes differ"
    assert reason(applied_to(PRelu(), [0.0, -0.0, 0.0])) == "the slopes differ"
    assert reason(applied_to(PRelu(), np.full((2, 1, 1), 0.5))) == "it gives x another shape"
    assert reason(applied_to(PRelu(), 1, dtype=DType.INT32)).startswith("LeakyRelu is for floating")
    b = Net(N)
    b.input("s", floats(1))
    assert reason(b.graph(b.op(PRelu(), "x", "s"))) == "slope = 's' is not a constant"


@pytest.mark.parametrize(
    ("gate", "one"), [(Sigmoid(), Swish()), (HardSigmoid(1 / 6, 0.5), HardSwish())], ids=str
)
@pytest.mark.parametrize("swapped", [False, True])
def test_gated_functions(gate: Operator, one: Operator, swapped: bool) -> None:
    b = Net(N)
    inputs = ["x", b.op(gate, "x")]
    before = b.graph(b.op(Mul(), *(inputs[::-1] if swapped else inputs), name="y"))
    after = known_functions(before)
    assert summary(after) == [f"y = {one}(x)"]
    identical(before, after)


def test_a_hard_swish_has_numbers_of_its_own() -> None:
    for dtype, alpha, beta, rules in (
        (DType.FLOAT32, float(np.float32(1 / 6)), 0.5, 1),
        (DType.FLOAT64, float(np.float32(1 / 6)), 0.5, 0),
        (DType.FLOAT32, 0.2, 0.5, 0),
        (DType.FLOAT32, 1 / 6, 0.4, 0),
    ):
        b = Net(N, dtype=dtype)
        graph = b.graph(b.op(Mul(), "x", b.op(HardSigmoid(alpha, beta), "x")))
        report = known_functions.explain(graph)[1]
        assert sum(report.applied.values()) == rules
        assert [r.reason for r in report.refused] == [
            f"the HardSigmoid is of {alpha} * x + {beta}"
        ] * (1 - rules)


def test_a_gate_on_another_value_is_none() -> None:
    b = Net(N)
    b.input("z", floats(N))
    before = b.graph(b.op(Mul(), "x", b.op(Sigmoid(), "z")))
    assert known_functions(before).nodes == before.nodes


def test_mish() -> None:
    b = Net(N)
    before = b.graph(b.op(Mul(), "x", b.op(Tanh(), b.op(Softplus(), "x")), name="y"))
    after = known_functions(before)
    assert summary(after) == [f"y = {Mish()}(x)"]
    identical(before, after)


def _gelu(dtype: DType, root: float, how: str) -> Graph:
    """The forms in which torch and Keras write Gelu."""
    b = Net(N, 3, dtype=dtype)
    half, one, root2 = b.c("half", 0.5), b.c("one", [1]), b.c("root", root)
    inner = b.op(Div() if root > 1 else Mul(), "x", root2)
    grown = b.op(Add(), one, b.op(Erf(), inner))
    match how:
        case "x first":
            y = b.op(Mul(), b.op(Mul(), "x", grown), half)
        case "half first":
            y = b.op(Mul(), b.op(Mul(), half, "x"), grown)
        case _:
            y = b.op(Mul(), "x", b.op(Mul(), half, grown))
    return b.graph(y)


@pytest.mark.parametrize("how", ["x first", "half first", "x last"])
@pytest.mark.parametrize("root", [math.sqrt(2), math.sqrt(0.5)])
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT64])
def test_gelu(how: str, root: float, dtype: DType) -> None:
    before = _gelu(dtype, root, how)
    after = known_functions(before)
    assert operators(after) == [str(Gelu())]
    feeds = {"x": np.linspace(-6, 6, 600, dtype=dtype.numpy).reshape(-1, 3)}
    if dtype is DType.FLOAT32:
        as_exact(before, after, feeds)
    else:
        # Here 1 + erf(x) is as inexact in the oracle itself.
        old, new = evaluate(before, feeds), evaluate(after, feeds)
        (name,) = before.outputs
        np.testing.assert_allclose(new[name], old[name], rtol=1e-14, atol=2e-15)


def test_gelu_with_other_numbers_stays() -> None:
    for root in (1.4, 1.4142, 0.7):
        before = _gelu(DType.FLOAT32, root, "x first")
        assert known_functions(before).nodes == before.nodes
    before = _gelu(DType.FLOAT64, float(np.float32(math.sqrt(2))), "x first")
    assert known_functions(before).nodes == before.nodes


def _layer_norm(*, axes: tuple[int, ...], squared: str, again: bool = False) -> Graph:
    """What torch writes for LayerNorm where its opset has none, of x[N, 4, 6]."""
    b = Net(N, 4, 6)
    shape = (4, 6)[-len(axes) :]
    random = np.random.default_rng(1)
    scale, bias = (b.c(name, random.normal(size=shape)) for name in ("scale", "bias"))
    mean = b.op(ReduceMean(axes), "x")
    centred = b.op(Sub(), "x", mean)
    exponent = b.c("two", 2.0)
    if squared == "Pow":
        square = b.op(Pow(), centred, exponent)
    else:
        square = b.op(Mul(), centred, b.op(Sub(), "x", mean) if again else centred)
    root = b.op(Sqrt(), b.op(Add(), b.op(ReduceMean(axes), square), b.c("e", 1e-5)))
    y = b.op(Add(), bias, b.op(Mul(), b.op(Div(), centred, root), scale))
    return b.graph(y)


@pytest.mark.parametrize("squared", ["Pow", "Mul"])
@pytest.mark.parametrize("axes", [(-1,), (2,), (1, 2), (-1, 1)])
def test_layer_normalization(squared: str, axes: tuple[int, ...]) -> None:
    before = _layer_norm(axes=axes, squared=squared)
    after = known_functions(before)
    (node,) = after.nodes
    assert node.op == LayerNormalization(-len(axes), float(np.float32(1e-5)))
    assert node.inputs[1:] == ("scale", "bias")
    x = 3 + np.random.default_rng(2).normal(size=(50, 4, 6))
    as_exact(before, after, {"x": x.astype(np.float32)})


def test_layer_normalization_needs_all_of_it() -> None:
    other = _layer_norm(axes=(0,), squared="Pow")
    assert known_functions(other).nodes == other.nodes
    before = _layer_norm(axes=(-1,), squared="Pow")
    (centred,) = (n.outputs[0] for n in before.nodes if n.op == Sub())
    shown = replace(before, outputs=(*before.outputs, centred))
    assert known_functions(shown).nodes == shown.nodes
    # What is subtracted twice may be two nodes.
    assert len(known_functions(_layer_norm(axes=(-1,), squared="Mul", again=True)).nodes) == 1


# More forms ---------------------------------------------------------------------------------------


def _power(b: Net, x: str, number: int, *, spelled: bool) -> str:
    if not spelled:
        return b.op(Pow(), x, b.c(f"power{number}", number))
    y = b.op(Mul(), x, x)
    return y if number == 2 else b.op(Mul(), y, x)


@pytest.mark.parametrize("spelled", [False, True])
@pytest.mark.parametrize("factored", [False, True])
@pytest.mark.parametrize("how", ["x first", "half first", "x last"])
def test_gelu_by_tanh(spelled: bool, factored: bool, how: str) -> None:
    b = Net(N, 3)
    half, one, root = b.c("half", 0.5), b.c("one", 1), b.c("root", math.sqrt(2 / math.pi))
    small = b.c("small", 0.044715)
    if factored:
        sum_ = b.op(Add(), one, b.op(Mul(), small, _power(b, "x", 2, spelled=spelled)))
        inner = b.op(Mul(), b.op(Mul(), "x", root), sum_)
    else:
        cube = b.op(Mul(), small, _power(b, "x", 3, spelled=spelled))
        inner = b.op(Mul(), root, b.op(Add(), "x", cube))
    gate = b.op(Add(), one, b.op(Tanh(), inner))
    y = {
        "x first": lambda: b.op(Mul(), b.op(Mul(), gate, "x"), half, name="y"),
        "half first": lambda: b.op(Mul(), gate, b.op(Mul(), half, "x"), name="y"),
        "x last": lambda: b.op(Mul(), b.op(Mul(), half, gate), "x", name="y"),
    }[how]()
    before = b.graph(y)
    after = known_functions(before)
    assert operators(after) == ['Gelu(approximate="tanh")']
    as_exact(before, after)


def test_gelu_by_tanh_with_another_number_stays() -> None:
    b = Net(N, 3)
    cube = b.op(Mul(), b.c("small", 0.045), b.op(Pow(), "x", b.c("three", 3)))
    inner = b.op(Mul(), b.c("root", math.sqrt(2 / math.pi)), b.op(Add(), "x", cube))
    gate = b.op(Add(), b.c("one", 1), b.op(Tanh(), inner))
    before = b.graph(b.op(Mul(), b.op(Mul(), gate, "x"), b.c("half", 0.5)))
    assert known_functions(before).nodes == before.nodes


@pytest.mark.parametrize(("threshold", "fits"), [(20.0, True), (18.0, True), (10.0, False)])
def test_softplus_with_a_threshold(threshold: float, fits: bool) -> None:
    b = Net(N, 3)
    above = b.op(Greater(), "x", b.c("t", threshold))
    before = b.graph(b.op(Where(), above, "x", b.op(Softplus(), "x"), name="y"))
    after, report = known_functions.explain(before)
    if fits:
        assert operators(after) == ["Softplus()"]
        as_exact(before, after, {"x": 20 * batch(before)["x"]})
    else:
        assert after.nodes == before.nodes
        assert report.refused[0].reason == "below the threshold it is not x"


@pytest.mark.parametrize("bounds", [(0.0,), (0.0, 6.0), (1.0, -1.0)])
def test_bounds_that_are_known(bounds: tuple[float, ...]) -> None:
    b = Net(N, 3)
    names = [b.c(f"c{i}", c) for i, c in enumerate(bounds)]
    before = b.graph(b.op(Clip(), "x", *names, name="y"))
    after = known_functions(before)
    assert operators(after)[0].startswith("sofie.Between")
    identical(before, after)


def test_bounds_of_integers_stay() -> None:
    b = Net(N, 3, dtype=DType.INT64)
    before = b.graph(b.op(Clip(), "x", b.c("low", 0), b.c("high", 6), name="y"))
    assert known_functions(before).nodes == before.nodes


def _softmax(axes: tuple[int, ...], *, keepdims: bool = True) -> Graph:
    b = Net(4, 4)
    most = b.op(ReduceMax(axes=axes, keepdims=keepdims), "x")
    grown = b.op(Exp(), b.op(Sub(), "x", most))
    total = b.op(ReduceSum(axes=axes, keepdims=keepdims), grown)
    return b.graph(b.op(Div(), grown, total, name="y"))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(axis: int) -> None:
    before = _softmax((axis,))
    after = known_functions(before)
    assert operators(after) == [f"Softmax(axis={axis % 2})" if axis % 2 != -1 else "Softmax()"]
    as_exact(before, after)


@pytest.mark.parametrize(("axes", "keepdims"), [((0, 1), True), ((1,), False)])
def test_softmax_over_other_axes_stays(axes: tuple[int, ...], keepdims: bool) -> None:
    before = _softmax(axes, keepdims=keepdims)
    after, report = known_functions.explain(before)
    assert after.nodes == before.nodes
    assert report.refused[0].reason == "it is not along one axis"


def _inverse(b: Net, root: str, how: str) -> str:
    return b.op(Reciprocal(), root) if how == "Reciprocal" else b.op(Div(), b.c("one", 1), root)


@pytest.mark.parametrize("how", ["Div", "Reciprocal", "one"])
@pytest.mark.parametrize("spelled", [False, True])
@pytest.mark.parametrize("axes", [(-1,), (1, 2)])
def test_rms_normalization(how: str, spelled: bool, axes: tuple[int, ...]) -> None:
    b = Net(N, 3, 4)
    mean = b.op(ReduceMean(axes=axes), _power(b, "x", 2, spelled=spelled))
    root = b.op(Sqrt(), b.op(Add(), mean, b.c("e", 1e-6)))
    y = b.op(Div(), "x", root) if how == "Div" else b.op(Mul(), _inverse(b, root, how), "x")
    scale = b.c(
        "scale", np.linspace(0.5, 2, 4 if len(axes) == 1 else 12).reshape((3, 4)[-len(axes) :])
    )
    before = b.graph(b.op(Mul(), scale, y, name="y"))
    after = rms_normalizations(before)
    (op,) = operators(after)
    assert op.startswith("RMSNormalization")
    as_exact(before, after)


def test_rms_normalization_over_other_axes_stays() -> None:
    b = Net(4, 4)
    mean = b.op(ReduceMean(axes=(0,)), _power(b, "x", 2, spelled=True))
    root = b.op(Sqrt(), b.op(Add(), mean, b.c("e", 1e-6)))
    before = b.graph(b.op(Mul(), b.op(Div(), "x", root), b.c("scale", np.ones(4)), name="y"))
    after, report = rms_normalizations.explain(before)
    assert after.nodes == before.nodes
    assert report.refused[0].reason == "the means are over other axes"


@pytest.mark.parametrize("how", ["Reciprocal", "one", "Keras"])
def test_other_forms_of_layer_normalization(how: str) -> None:
    b = Net(N, 6)
    scale, bias = b.c("scale", np.linspace(0.5, 2, 6)), b.c("bias", np.linspace(-1, 1, 6))
    mean = b.op(ReduceMean(axes=(-1,)), "x")
    centred = b.op(Sub(), "x", mean)
    variance = b.op(ReduceMean(axes=(-1,)), b.op(Mul(), centred, centred))
    root = b.op(Sqrt(), b.op(Add(), variance, b.c("e", 1e-3)))
    if how == "Keras":
        factor = b.op(Mul(), b.op(Reciprocal(), root), scale)
        rest = b.op(Sub(), bias, b.op(Mul(), mean, factor))
        before = b.graph(b.op(Add(), b.op(Mul(), "x", factor), rest, name="y"))
    else:
        normal = b.op(Mul(), centred, _inverse(b, root, how))
        before = b.graph(b.op(Add(), b.op(Mul(), normal, scale), bias, name="y"))
    after = known_functions(before)
    assert [o.split("(")[0] for o in operators(after)] == ["LayerNormalization"]
    as_exact(before, after)


def test_a_square_is_a_product() -> None:
    before = applied_to(Pow(), 2)
    after = squares(before)
    assert summary(after) == ["y = Mul()(x, x)"]
    as_exact(before, after, ulps=0)
    extremes = np.array([[np.inf, -np.inf, np.nan], [-0.0, 1e30, -1e-30]], np.float32)
    with np.errstate(over="ignore", under="ignore"):
        identical(before, after, {"x": extremes})


def test_a_cube_is_two_products() -> None:
    before = applied_to(Pow(), 3)
    after = squares(before)
    assert [o.split("(")[0] for o in operators(after)] == ["Mul", "Mul"]
    as_exact(before, after, ulps=2)
    extremes = np.array([[np.inf, -np.inf, np.nan], [-0.0, 1e30, -1e-30]], np.float32)
    with np.errstate(over="ignore", under="ignore"):
        identical(before, after, {"x": extremes})


def test_other_powers_stay() -> None:
    def reasons(graph: Graph) -> list[str]:
        after, report = squares.explain(graph)
        assert after is graph
        return [r.reason for r in report.refused]

    assert reasons(applied_to(Pow(), 4)) == []
    assert reasons(applied_to(Pow(), [2, 2, 1])) == []
    assert reasons(applied_to(Pow(), 2, dtype=DType.INT32)) == ["x is of integers"]
    assert reasons(applied_to(Pow(), np.full((2, 1, 1), 2))) == ["it gives x another shape"]
