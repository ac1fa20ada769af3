"""float16 and bfloat16 networks in Cling: each operator is exact up to one rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import InputError
from sofie_rdf.ir.types import Array
from tests.choice import some_of
from tests.frontends.models import initializer, model, node, value
from tests.runtime.agreement import agree, outputs_of

ROOT = pytest.importorskip("ROOT")

FLOAT, FLOAT16, BFLOAT16 = (getattr(onnx.TensorProto, n) for n in ("FLOAT", "FLOAT16", "BFLOAT16"))
KINDS = {FLOAT16: np.dtype(np.float16), BFLOAT16: np.dtype(ml_dtypes.bfloat16)}
both = pytest.mark.parametrize("kind", list(KINDS), ids=["float16", "bfloat16"])


def numbers(kind: int, *shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(KINDS[kind])


def bits(array: Array) -> Array:
    return array.view(np.uint16)


def weights(kind: int) -> dict[str, Array]:
    shapes = {"w": (6, 8), "b": (8,), "v": (8, 5), "scale": (5,), "shift": (5,)}
    return {n: numbers(kind, *s, seed=i) for i, (n, s) in enumerate(shapes.items())}


# An operator for each node, what it means in float64, and how many sums it makes.
STEPS: list[tuple[Any, Callable[..., Array]]] = [
    (node("Gemm", "x w b", "h"), lambda x, w, b: x @ w + b),
    (node("Relu", "h", "a"), lambda h: np.maximum(h, 0)),
    (node("MatMul", "a v", "z"), lambda a, v: a @ v),
    (node("Mul", "z scale", "m"), lambda z, scale: z * scale),
    (node("Add", "m shift", "s"), lambda m, shift: m + shift),
    (node("Sigmoid", "s", "g"), lambda s: 1 / (1 + np.exp(-s))),
    (
        node("Softmax", "s", "p", axis=1),
        lambda s: np.exp(s) / np.sum(np.exp(s), axis=1, keepdims=True),
    ),
    (node("ReduceMean", "s", "r", axes=[1], keepdims=0), lambda s: np.mean(s, axis=1)),
    (node("Sqrt", "g", "q"), np.sqrt),
]


def network(kind: int, outputs: str = "h a z m s g p r q") -> onnx.ModelProto:
    results = [value(o, None, kind) for o in outputs.split()]
    inputs = [value("x", ["N", 6], kind)]
    return model([n for n, _ in STEPS], inputs, results, weights(kind))


def spacing(exact: Array, kind: int) -> Array:
    """The distance of the numbers of this type around so large ones."""
    info = ml_dtypes.finfo(KINDS[kind])
    _, exponent = np.frexp(np.abs(exact))
    return np.asarray(np.ldexp(1.0, np.maximum(exponent - 1, info.minexp) - info.nmant))


@both
def test_every_operator_is_rounded_once(kind: int) -> None:
    """Given what the operator has read, its result is the nearest number, but for float32's error.

    All intermediate values are outputs. The sums of products have fewer than 16 terms, each of at
    most so many units in the last place of float32 that a thousandth of half a unit is not reached.
    """
    x = numbers(kind, 40, 6, seed=9)
    found = outputs_of(sofie.from_onnx(network(kind)), {"x": x})
    values: dict[str, Array] = {"x": x, **weights(kind), **found}
    for step, meaning in STEPS:
        (name,) = step.output
        read = [values[i].astype(np.float64) for i in step.input]
        exact = meaning(*read)
        assert found[name].dtype == KINDS[kind]
        # What is summed may be larger than the sum.
        largest = np.max(np.abs(exact)) if step.op_type in ("Gemm", "MatMul") else np.abs(exact)
        float32 = 16 * np.maximum(largest, 1) * 2.0**-24
        error = np.abs(found[name].astype(np.float64) - exact)
        bound = 0.5 * spacing(exact, kind) + float32
        assert np.all(error <= bound), f"{name}: {np.max(error / bound)}"


@both
def test_no_operator_is_lost_to_fusion(kind: int) -> None:
    """Where only the end is an output, it is what it is where all values are: bit for bit."""
    x = numbers(kind, 12, 6, seed=10)
    every = outputs_of(sofie.from_onnx(network(kind)), {"x": x})
    end = outputs_of(sofie.from_onnx(network(kind, "p q r")), {"x": x})
    for name, array in end.items():
        np.testing.assert_array_equal(
            array.astype(np.float32), every[name].astype(np.float32), err_msg=name
        )


def test_float16_is_that_of_onnxruntime() -> None:
    """Which rounds other intermediate values: a few units of 2^-11 are between both."""
    pytest.importorskip("onnxruntime")
    calls = [{"x": numbers(FLOAT16, n, 6, seed=n)} for n in (1, 7, 0, 30)]
    agree(network(FLOAT16, "h z s p q"), *calls, parts=4 * 2.0**-11)


@both
def test_an_event_has_the_same_bits_alone(kind: int) -> None:
    compiled = sofie.from_onnx(network(kind, "p"))
    x = numbers(kind, 25, 6, seed=4)
    whole = compiled(x)
    for i in range(len(x)):
        np.testing.assert_array_equal(bits(compiled(x[i : i + 1])), bits(whole[i : i + 1]))


@both
def test_moving_keeps_every_bit(kind: int) -> None:
    """NaN with its payload, infinities, both zeros, subnormal numbers: all patterns there are."""
    nodes = [
        node("Reshape", "x shape", "square"),
        node("Transpose", "square", "turned"),
        node("Concat", "turned square", "two", axis=1),
        node("Slice", "two start end", "part"),
        node("Gather", "part at", "y", axis=1),
    ]
    given = [
        initializer("shape", [256, 256], np.int64),
        initializer("start", [0, 256], np.int64),
        initializer("end", [256, 512], np.int64),
        initializer("at", np.arange(255, -1, -1), np.int64),
    ]
    proto = model(nodes, [value("x", [65536], kind)], [value("y", None, kind)], given)
    x = np.arange(65536, dtype=np.uint16).view(KINDS[kind])
    np.testing.assert_array_equal(
        bits(sofie.from_onnx(proto)(x)), bits(x).reshape(256, 256)[:, ::-1]
    )


@both
def test_all_numbers_are_cast_as_numpy_casts_them(kind: int) -> None:
    nodes = [node("Cast", "x", "wide", to=FLOAT), node("Cast", "wide", "y", to=kind)]
    outputs = [value("wide", None), value("y", None, kind)]
    compiled = sofie.from_onnx(model(nodes, [value("x", ["N"], kind)], outputs))
    every = np.arange(65536, dtype=np.uint16).view(KINDS[kind])
    found = outputs_of(compiled, {"x": every})
    np.testing.assert_array_equal(found["wide"], every.astype(np.float32))
    ordered = ~np.isnan(every.astype(np.float32))
    np.testing.assert_array_equal(bits(found["y"][ordered]), bits(every[ordered]))
    assert np.isnan(found["y"][~ordered].astype(np.float32)).all()


@both
def test_results_beyond_the_largest_and_below_the_least(kind: int) -> None:
    nodes = [node("Mul", "x x", "square"), node("Div", "x two", "small"), node("Neg", "x", "minus")]
    info = ml_dtypes.finfo(KINDS[kind])
    largest, least = float(info.max), float(info.smallest_subnormal)
    outputs = [value(o, None, kind) for o in ("square", "small", "minus")]
    two = [onnx.numpy_helper.from_array(np.array(2, KINDS[kind]), "two")]
    proto = model(nodes, [value("x", ["N"], kind)], outputs, two)
    x = np.array([largest, least, 3 * least, -largest, np.inf, 0.0, np.nan], KINDS[kind])
    found = {
        n: a.astype(np.float64) for n, a in outputs_of(sofie.from_onnx(proto), {"x": x}).items()
    }
    inf, nan = np.inf, np.nan
    np.testing.assert_array_equal(found["square"], [inf, 0, 0, inf, inf, 0, nan])
    # Halves are rounded to even: 0.5 to 0, 1.5 to 2.
    expected = [largest / 2, 0, 2 * least, -largest / 2, inf, 0, nan]
    np.testing.assert_array_equal(found["small"], expected)
    np.testing.assert_array_equal(np.signbit(found["minus"][[0, 5]]), [True, True])


@both
def test_other_types_are_refused(kind: int) -> None:
    compiled = sofie.from_onnx(network(kind, "p"))
    x = numbers(kind, 2, 6)
    with pytest.raises(InputError, match=f"float32; {KINDS[kind].name} is needed"):
        compiled(x.astype(np.float32))
    # The numbers of lists are taken as what is needed.
    np.testing.assert_array_equal(bits(compiled(x.astype(float).tolist())), bits(compiled(x)))


@both
@pytest.mark.parametrize("via", ["uproot", "ROOT"])
def test_weights_are_stored_as_they_are(kind: int, via: str, tmp_path: Path) -> None:
    before = sofie.from_onnx(network(kind, "p"))
    before.save(tmp_path / "half.root", via=via)
    after = sofie.load(tmp_path / "half.root")
    for name, array in weights(kind).items():
        np.testing.assert_array_equal(bits(after.graph.constants[name]), bits(array))
    x = numbers(kind, 9, 6)
    np.testing.assert_array_equal(bits(after(x)), bits(before(x)))


@both
@pytest.mark.parametrize("width", some_of([1, 5], [5]))
def test_columns_are_floats(kind: int, width: int) -> None:
    """RDataFrame knows no numbers of half precision: columns are rounded, results widened."""
    first = [node("Slice", "p begin end axis", "y")]
    bounds = {"begin": 0, "end": width, "axis": 1}
    proto = network(kind, "p")
    proto.graph.node.extend(first)
    proto.graph.initializer.extend(initializer(n, [v], np.int64) for n, v in bounds.items())
    proto.graph.output[0].CopyFrom(value("y", None, kind))
    compiled = sofie.from_onnx(proto)
    events = np.random.default_rng(6).normal(size=(50, 6)).astype(np.float32)
    names = [f"x{i}" for i in range(6)]
    frame = ROOT.RDF.FromNumpy({n: events[:, i].copy() for i, n in enumerate(names)})
    with_scores = compiled.define(frame, "y", names)
    kinds = "float" if width == 1 else "ROOT::VecOps::RVec<float>"
    assert with_scores.GetColumnType("y") == kinds
    column = with_scores.AsNumpy(["y"])["y"]
    expected = compiled(events.astype(KINDS[kind])).astype(np.float32)
    found = np.stack([np.asarray(v).reshape(-1) for v in column])
    np.testing.assert_array_equal(found, expected)
    # The same by a functor, whose columns are floats where nobody says what they are.
    functor = sofie.SofieFunctor(compiled, frame.GetNSlots())
    again = frame.DefineSlot("z", functor, names).AsNumpy(["z"])["z"]
    np.testing.assert_array_equal(np.stack([np.asarray(v).reshape(-1) for v in again]), expected)
