"""Small networks as one kernel, whose values stay in the local memory of a work-group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sofie_rdf.bench.models import candidate
from sofie_rdf.bench.paper import paper_of
from sofie_rdf.devices.one_kernel import ITEMS, LOCAL_BYTES, events_of_a_group
from sofie_rdf.devices.program import program_for
from sofie_rdf.devices.session import emit_program
from sofie_rdf.emit.code import include_directory
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import evaluate, symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.convolution import QLinearConv
from sofie_rdf.ops.elementwise import Cast, Mul, Relu
from sofie_rdf.ops.layout import Reshape, Transpose
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.ops.normalization import LayerNormalization, Softmax
from sofie_rdf.ops.quantization import (
    DequantizeLinear,
    MatMulInteger,
    QLinearMatMul,
    QuantizeLinear,
)
from sofie_rdf.ops.reduction import ReduceLogSumExp, ReduceMax
from sofie_rdf.ops.selection import TopK
from tests.choice import some_of
from tests.devices.harness import WAYS, compiled
from tests.devices.test_models import compare, feeds_of

# Fewer than a work-group takes, as many, one more; none; more than there are groups at a time.
EVENTS = (3, 1, 0, 64, 65, 16, 700, 2)


def rows_and_means(length: int = 90) -> Graph:
    """What has forms for a work-group and for an item: softmax, norms, products, reductions."""
    build, n = Builder("rows"), symbol("N")
    x = build.input("x", TensorType(DType.FLOAT32, (n, length, 6)))
    random = np.random.default_rng(1)
    scale, offset = (
        build.constant(random.normal(size=6).astype(np.float32), name) for name in ("s", "o")
    )
    normal = build(LayerNormalization(), x, scale, offset)
    turned = build(Transpose((0, 2, 1)), normal)
    scores = build(Softmax(axis=-1), build(MatMul(), turned, normal))
    mixed = build(MatMul(), normal, scores)
    w = build.constant(random.normal(size=(6, 11)).astype(np.float32), "w")
    largest = build(ReduceMax(axes=(1,), keepdims=False), build(Relu(), build(MatMul(), mixed, w)))
    total = build(ReduceLogSumExp(axes=(1, 2), keepdims=False), mixed)
    return build.graph(largest, total)


def integers() -> Graph:
    """A network that was quantised with scales that are known: products and a convolution."""
    build, n, random = Builder("integers"), symbol("N"), np.random.default_rng(2)

    def known(*numbers: object, dtype: type = np.float32) -> list[str]:
        return [build.constant(np.asarray(number, dtype)) for number in numbers]

    def weights(*shape: int) -> str:
        return build.constant(random.integers(-90, 90, shape).astype(np.int8))

    x = build.input("x", TensorType(DType.FLOAT32, (n, 12)))
    s, t, u, *each = known(0.03, 0.2, 1.5, np.linspace(0.01, 0.02, 20), np.linspace(0.01, 0.1, 6))
    (z, y), (none,) = known(128, 90, dtype=np.uint8), known(0, dtype=np.int8)
    w, (several,) = weights(12, 20), known(np.arange(20) - 9, dtype=np.int8)
    q = build(QuantizeLinear(), x, s, z)
    total = build(Cast(DType.FLOAT32), build(MatMulInteger(), q, w, z, several))
    dense = build(QLinearMatMul(), q, s, z, w, each[0], several, t, y)
    (bias,) = known(np.arange(6) * 40 - 100, dtype=np.int32)
    image = build(Reshape((n, 5, 2, 2)), dense)
    kernel = weights(6, 5, 2, 1)
    slid = build(QLinearConv(), image, t, y, kernel, each[1], none, u, z, bias)
    return build.graph(build(DequantizeLinear(), slid, u, z), total)


def test_quantised_networks_are_one_kernel(tmp_path: Path) -> None:
    program = program_for(integers())
    assert events_of_a_group(program) == 64
    assert paper_of(program, {"N": 4096}).excess <= 1.5
    compare(integers(), "serial", tmp_path, [{"N": n} for n in EVENTS])


@pytest.mark.parametrize("way", some_of(WAYS, ["serial", "sycl"]))
def test_rows_and_means(way: str, tmp_path: Path) -> None:
    graph = rows_and_means()
    assert events_of_a_group(program_for(graph)) > 1
    compare(graph, way, tmp_path, [{"N": n} for n in (3, 1, 0, 33)])


@pytest.mark.parametrize(
    "name",
    some_of(
        ["mlp200x5", "deepsets", "transformer", "conv_transposed_small"],
        ["deepsets", "conv_transposed_small"],
    ),
)
def test_networks_of_the_bench(name: str, tmp_path: Path) -> None:
    graph = candidate(name).model.graph
    assert events_of_a_group(program_for(graph)) > 0
    compare(graph, "serial", tmp_path, [{"N": n} for n in (3, 1, 0, 65)])


def test_events_have_the_same_bits_in_a_group_of_any_size(tmp_path: Path) -> None:
    graph = rows_and_means(7)
    program = compiled(graph, WAYS["serial"], tmp_path)
    most = events_of_a_group(program.program)
    assert most == 32
    many = 512 * most + 3  # The groups are as large as they may be.
    feeds = feeds_of(graph, {"N": many}, 1)
    batches = [({"N": n}, {"x": feeds["x"][:n]}) for n in (1, 513, many)]
    alone, more, all_ = program.run(batches)
    for name in graph.outputs:
        np.testing.assert_array_equal(more[name], all_[name][:513])
        np.testing.assert_array_equal(alone[name], all_[name][:1])


def _with(last: str) -> Graph:
    build, n = Builder("refused"), symbol("N")
    x = build.input("x", TensorType(DType.FLOAT32, (n, 8)))
    w = build.constant(np.ones((8, 8), np.float32), "w")
    y = build(MatMul(), build(Softmax(axis=-1), build(MatMul(), x, w)), w)
    match last:
        case "rows that meet":
            y = build(Softmax(axis=0), y)
        case "a second open size":
            z = build.input("z", TensorType(DType.FLOAT32, (n, symbol("M"))))
            return build.graph(y, build(Mul(), z, z))
        case "a kernel that needs a work-group":
            y = build(TopK((3,)), y)
        case "too many values":
            wide = build.constant(np.ones((8, 20000), np.float32), "wide")
            y = build(Softmax(axis=-1), build(MatMul(), y, wide))
    return build.graph(y)


REASONS = "rows that meet", "a second open size", "a kernel that needs a work-group"


@pytest.mark.parametrize("reason", [*REASONS, "too many values"])
def test_others_have_a_kernel_for_each_node(reason: str) -> None:
    assert events_of_a_group(program_for(_with(""))) == 64
    program = program_for(_with(reason))
    assert events_of_a_group(program) == 0
    assert "Network" not in emit_program(program, "serial", "model", "model.dat").header


def test_the_values_of_a_group_fit_into_local_memory() -> None:
    for name in ("mlp200x5", "linear50x10", "transformer"):
        program = program_for(candidate(name).model.graph)
        most = events_of_a_group(program)
        for events in range(1, most + 1):
            assert evaluate(program.plan.nbytes, {"N": events}) <= LOCAL_BYTES


def test_python_and_cxx_know_the_same_number_of_work_items() -> None:
    text = (include_directory() / "sofie" / "device" / "base.hxx").read_text()
    assert f"inline constexpr int items_of_a_group = {ITEMS};" in text
