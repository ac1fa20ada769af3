"""Weights in fewer bits: which numbers they become, which layers keep theirs, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import sofie_rdf as sofie
from sofie_rdf.emit.narrow import tensors_of
from sofie_rdf.errors import InputError, ModelError
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.text import graph_text, parse_graph
from sofie_rdf.ir.types import PRECISIONS, Array, DType, TensorType
from sofie_rdf.ir.verify import verify
from sofie_rdf.ops.convolution import Conv
from sofie_rdf.ops.convolution_transposed import ConvTranspose
from sofie_rdf.ops.elementwise import Mul, Relu
from sofie_rdf.ops.indexing import Gather
from sofie_rdf.ops.linear import Dense, Gemm, MatMul
from sofie_rdf.ops.recurrent import GRU
from sofie_rdf.passes import pipeline
from sofie_rdf.passes.precision import (
    Stored,
    encoded,
    precision_of,
    weights_of,
    with_precision,
)
from sofie_rdf.reference import evaluate
from tests.passes.graphs import N, Net, batch, identical

NARROW = PRECISIONS[1:]
RNG = np.random.default_rng(5)
narrow = pytest.mark.parametrize("precision", NARROW)


def floats(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def two_layers(first: Array, second: Array) -> Graph:
    b = Net(N, len(first))
    h = b.op(Relu(), b.op(MatMul(), "x", b.c("w1", first)))
    return b.graph(b.op(MatMul(), h, b.c("w2", second), name="y"))


def stored(w: Array, precision: str, axis: int | None = -1) -> Stored:
    found = encoded(w, precision, axis % w.ndim if axis is not None else None)
    assert isinstance(found, Stored), found
    return found


# Numbers ------------------------------------------------------------------------------------------


def matrix(rows: int, columns: int, scale: int, seed: int) -> Array:
    """No output is so small that its weights are left alone."""
    numbers = np.random.default_rng(seed).normal(size=(rows, columns))
    numbers[0] = numbers[:, 0] = 1
    return (numbers * 10.0**scale).astype(np.float32)


matrices = st.builds(
    matrix,
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(-2, 3),
    st.integers(0, 2**32),
)


@given(matrices)
def test_bfloat16_is_the_nearest(w: Array) -> None:
    wide = stored(w, "bfloat16").wide
    assert (wide == w.astype(ml_dtypes.bfloat16).astype(np.float32)).all()
    assert (np.abs(wide - w) <= 2.0**-8 * np.abs(w)).all()


@given(matrices)
def test_float16_is_the_nearest(w: Array) -> None:
    assume(np.abs(w).max(axis=0).min() >= 2.0**-14)  # Others are refused.
    wide = stored(w, "float16").wide
    assert (np.abs(wide - w) <= np.maximum(2.0**-11 * np.abs(w), 2.0**-25)).all()


@given(matrices)
def test_int8_has_a_scale_for_each_output(w: Array) -> None:
    found = stored(w, "int8")
    assert found.scale is not None and found.scale.shape == w.shape[1:]
    assert found.numbers.dtype == np.int8 and np.abs(found.numbers.astype(int)).max() <= 127
    exact = found.numbers.astype(np.float64) * found.scale.astype(np.float64)
    assert (found.wide == exact).all(), "a product is rounded"
    largest = np.abs(w).max(axis=0)
    assert (np.abs(exact - w) <= found.scale * 0.5000001).all()
    assert (
        found.scale.astype(float) * 127 <= largest * (1 + 2.0**-15) + (largest == 0) * 127
    ).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_int8_along_any_axis(axis: int) -> None:
    w = floats(3, 4, 5)
    found = stored(w, "int8", axis)
    others = tuple(i for i in range(3) if i != axis)
    step = np.abs(w).max(axis=others, keepdims=True) / 127
    assert (np.abs(found.wide - w) <= 0.501 * step).all()


def test_halfway_goes_to_the_even_number() -> None:
    ulp = 2.0**-7
    w = np.array([[1 + ulp / 2, 1 + 3 * ulp / 2, -(1 + ulp / 2)]], np.float32)
    assert stored(w, "bfloat16").wide.tolist() == [[1, 1 + 2 * ulp, -1]]
    w = np.array([[127.0], [0.5], [1.5], [-2.5]], np.float32)
    assert stored(w, "int8").numbers.tolist() == [[127], [0], [2], [-2]]


@given(matrices, st.sampled_from(NARROW))
@example(np.array([[1, 0.5, 0.25], [0.5, 1, 1]], np.float32), "int8")
@example(np.array([[1, 127, 2], [127, 3, 127]], np.float32), "int8")
def test_the_weight_file_has_the_narrow_numbers(w: Array, precision: str) -> None:
    """Scales may be those of rows where these give the same weights, to the last bit."""
    found = stored(w, precision)
    tensors = tensors_of(found.wide, precision)
    assert tensors.is_narrow
    numbers, *scales = tensors.arrays
    assert numbers.dtype == found.numbers.dtype and numbers.shape == w.shape
    wide = numbers.astype(np.float64).ravel()
    for scale in scales:
        wide = wide * scale[np.arange(wide.size) // tensors.run % scale.size].astype(np.float64)
    assert (wide == found.wide.ravel()).all()
    if not scales:
        assert numbers.tobytes() == found.numbers.tobytes()


@narrow
def test_other_weights_stay_as_they_are_in_the_file(precision: str) -> None:
    w = floats(30, 20)
    assert not tensors_of(w, precision).is_narrow
    assert tensors_of(w, precision).arrays[0] is w


def test_signs_of_zeros_survive() -> None:
    w = np.array([[0.0, -0.0], [1.0, 2.0]], np.float32)
    for precision in ("bfloat16", "float16"):
        assert stored(w, precision).wide.tobytes() == w.tobytes()


# What a network becomes ---------------------------------------------------------------------------


@narrow
def test_it_is_the_network_with_the_rounded_weights(precision: str) -> None:
    first, second = floats(7, 30), floats(30, 3)
    graph = two_layers(first, second)
    after = with_precision(graph, precision)
    verify(after)
    wide = two_layers(stored(first, precision).wide, stored(second, precision).wide)
    identical(wide, pipeline.run(wide))
    feeds = batch(graph)
    (found,), (expected,) = (evaluate(pipeline.run(g), feeds).values() for g in (after, wide))
    assert found.tobytes() == expected.tobytes()
    assert precision_of(after) == precision and precision_of(graph) == "float32"
    assert {str(DType.of(c)) for c in after.constants.values() if c.ndim > 1} == {precision}


@narrow
def test_text_reads_back(precision: str) -> None:
    after = with_precision(two_layers(floats(7, 30), floats(30, 3)), precision)
    again = parse_graph(graph_text(after), after.constants)
    assert again == after and precision_of(again) == precision


@narrow
def test_rounding_again_changes_nothing(precision: str) -> None:
    after = with_precision(two_layers(floats(7, 30), floats(30, 3)), precision)
    assert with_precision(after, precision) is after
    wide = with_precision(after, "float32")
    assert precision_of(wide) == "float32"
    identical(after, wide)
    assert not any(w.precision != "float32" for w in weights_of(wide))


def test_what_is_folded_into_weights_is_rounded_with_them() -> None:
    b = Net(N, 4)
    y = b.op(Mul(), b.op(MatMul(), "x", b.c("w", floats(4, 3))), b.c("s", [2.5, 0.3, 7.0]))
    after = with_precision(b.graph(y), "bfloat16")
    assert [n.op.name for n in after.nodes] == ["Cast", "Dense"]
    assert len(pipeline.run(after).nodes) == 1


def gru(x: str, b: Net) -> str:
    w, r = b.c("w", floats(1, 18, 5)), b.c("r", floats(1, 18, 6))
    return b.op(GRU(hidden_size=6), x, w, r)


LAYERS: dict[str, tuple[tuple[Dim, ...], Callable[[Net], str], set[str]]] = {
    "Gemm, transposed": (
        (N, 5),
        lambda b: b.op(Gemm(transB=True), "x", b.c("w", floats(3, 5))),
        {"w"},
    ),
    "convolution": ((N, 2, 9, 9), lambda b: b.op(Conv(), "x", b.c("w", floats(4, 2, 3, 3))), {"w"}),
    "transposed convolution": (
        (N, 2, 5, 5),
        lambda b: b.op(ConvTranspose(), "x", b.c("w", floats(2, 4, 3, 3))),
        {"w"},
    ),
    "GRU": (
        (4, N, 5),
        lambda b: b.op(
            GRU(hidden_size=6), "x", b.c("w", floats(1, 18, 5)), b.c("r", floats(1, 18, 6))
        ),
        {"w", "r"},
    ),
    "matrices in a batch": (
        (N, 2, 4, 5),
        lambda b: b.op(MatMul(), "x", b.c("w", floats(2, 5, 6))),
        {"w"},
    ),
}


@narrow
@pytest.mark.parametrize("layer", LAYERS)
def test_every_kind_of_layer(layer: str, precision: str) -> None:
    shape, build, weights = LAYERS[layer]
    b = Net(*shape)
    graph = b.graph(build(b))
    after = with_precision(graph, precision)
    assert [w.precision for w in weights_of(after)] == [precision] * len(weights)
    feeds = batch(graph, 3)
    (before,), (rounded,) = (evaluate(g, feeds).values() for g in (graph, after))
    error = np.abs(before - rounded).max() / np.abs(before).max()
    assert 0 < error < {"bfloat16": 2e-2, "float16": 2e-3, "int8": 4e-2}[precision]


# What is left alone -------------------------------------------------------------------------------

BAD: dict[str, tuple[Callable[[Array], Any], set[str], str]] = {
    "nan": (lambda w: w.__setitem__((0, 0), math.nan), set(NARROW), "no finite numbers"),
    "infinite": (lambda w: w.__setitem__((0, 0), -math.inf), set(NARROW), "no finite numbers"),
    "beyond float16": (
        lambda w: w.__setitem__((1, 0), 65520),
        {"float16"},
        "6.55e+04, beyond what",
    ),
    "beyond bfloat16": (
        lambda w: w.__setitem__((1, 0), np.finfo(np.float32).max),
        {"bfloat16", "float16"},
        "beyond what",
    ),
    "small": (lambda w: w.__imul__(np.float32(1e-6)), {"float16"}, "keeps few digits"),
    "one small output": (
        lambda w: w[:, 2].__imul__(np.float32(1e-6)),
        {"float16"},
        "keeps few digits",
    ),
    "denormal": (
        lambda w: w.__imul__(np.float32(1e-40)),
        set(NARROW),
        "an output's largest weight",
    ),
}


@narrow
@pytest.mark.parametrize("kind", BAD)
def test_layers_that_keep_their_weights(kind: str, precision: str) -> None:
    change, precisions, reason = BAD[kind]
    first, second = floats(7, 30), floats(30, 3)
    change(first)
    after = with_precision(two_layers(first, second), precision)
    found = {w.name: w for w in weights_of(after)}
    assert found["w2"].precision == precision and not found["w2"].reason
    if precision in precisions:
        assert found["w1"].precision == "float32" and reason in found["w1"].reason
    else:
        assert found["w1"].precision == precision


def test_the_largest_float16_is_kept() -> None:
    w = floats(3, 3)
    w[0, 0] = 65519
    assert stored(w, "float16").wide.max() == 65504


@narrow
def test_an_output_without_weights_is_no_reason(precision: str) -> None:
    w = floats(5, 4)
    w[:, 1] = 0
    assert (stored(w, precision).wide[:, 1] == 0).all()


def test_tables_are_reported() -> None:
    b = Net(N, 64)
    b.input("i", TensorType(DType.INT64, (N,)))
    rows = b.op(Gather(axis=0), b.c("table", floats(64, 64)), "i")
    h = b.op(MatMul(), "x", b.c("w", floats(64, 64)))
    after = with_precision(b.graph(b.op(Mul(), h, rows)), "int8")
    reasons = {w.name: (w.precision, w.reason) for w in weights_of(after)}
    table = ("float32", "Gather has no matrix of weights")
    assert reasons == {"w": ("int8", ""), "table": table}


@narrow
def test_other_element_types_are_refused(precision: str) -> None:
    b = Net(N, 4, dtype=DType.FLOAT64)
    graph = b.graph(b.op(MatMul(), "x", b.c("w", floats(4, 3))))
    with pytest.raises(ModelError, match="its weights are float64"):
        with_precision(graph, precision)


@narrow
def test_nothing_to_round_is_an_error(precision: str) -> None:
    b = Net(N, 4)
    with pytest.raises(ModelError, match=f"no weights that can be {precision}"):
        with_precision(b.graph(b.op(Relu(), "x")), precision)


@pytest.mark.parametrize("precision", ["half", "bfloat", "int4", "", None, 16])
def test_unknown_precisions(precision: Any) -> None:
    with pytest.raises(InputError, match=r"precision=.* is unknown"):
        with_precision(two_layers(floats(2, 2), floats(2, 2)), precision)


def test_what_a_file_says_is_looked_at() -> None:
    graph = two_layers(floats(7, 30), floats(30, 3))
    for said in ("bfloat17", "float64", "int8"):
        other = replace(graph, provenance={"precision": said})
        assert precision_of(other) == ("int8" if said == "int8" else "float32")
        assert not sofie.Model(other).emission.header.count("Widened")


def test_a_layer_that_is_made_later_is_reported() -> None:
    after = with_precision(two_layers(floats(7, 30), floats(30, 3)), "int8")
    constants = {n: c for n, c in after.constants.items() if not n.startswith("w1.")}
    nodes = tuple(n for n in after.nodes if n.outputs != ("w1",))
    changed = type(after)(
        after.name,
        after.inputs,
        after.outputs,
        nodes,
        {n: t for n, t in after.types.items() if not n.startswith("w1.")},
        {**constants, "w1": floats(7, 30)},
        after.provenance,
    )
    verify(changed)
    assert {w.name: w.reason for w in weights_of(changed)} == {
        "w1": "it was made after the weights were rounded",
        "w2": "",
    }
    assert isinstance(changed.nodes[-1].op, Dense)
