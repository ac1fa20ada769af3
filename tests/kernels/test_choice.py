"""The tables that choose kernels: `lower` and `workspace` agree, and C++ runs what they say."""

from __future__ import annotations

import platform
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from sofie_rdf.emit.session import emit, namespace_of
from sofie_rdf.errors import ShapeError, UnsupportedOperator
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import Dim, evaluate, symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Operand, Operator, Packed
from sofie_rdf.ir.types import DType, Shape, TensorType
from sofie_rdf.kernels.choice import (
    AVX2,
    AVX512,
    GENERIC,
    SETS,
    Candidate,
    Choice,
    Elsewhere,
    Table,
)
from sofie_rdf.ops.activations import Relu
from sofie_rdf.ops.attention import Attention, SoftmaxAttention
from sofie_rdf.ops.convolution import ConvLayer
from sofie_rdf.ops.convolution_transposed import ConvTransposeLayer
from sofie_rdf.ops.convolution_winograd import WinogradConv
from sofie_rdf.ops.layout import Tile, Transpose
from sofie_rdf.ops.linear import Dense, DenseLayers, Gemm, MatMul
from sofie_rdf.ops.pooling import AveragePool, MaxPool
from sofie_rdf.ops.recurrent import LSTM
from sofie_rdf.ops.reduction import ReduceL2, ReduceLogSumExp, ReduceProd, ReduceSum
from sofie_rdf.ops.trees import Trees
from sofie_rdf.passes.memory import plan_memory
from sofie_rdf.runtime.compile.cpu import target_flags

N, H, W = symbol("N"), symbol("H"), symbol("W")
F32 = DType.FLOAT32
CLING = Path(__file__).parents[2] / "cling"


def small_or_large(number: int) -> Choice | str:
    return "it is large" if number > 9 else Choice("small", "small.hxx", "it is small")


TABLE: Table[int] = Table(
    "numbers",
    (
        Candidate("none", lambda _: "it is for nobody"),
        Candidate("small", small_or_large),
    ),
)


def test_the_first_that_takes_it_knows_why_others_did_not() -> None:
    found = TABLE.choose(3)
    assert (found.kernel, found.why) == ("small", "it is small")
    assert [(r.kernel, r.reason) for r in found.refused] == [("none", "it is for nobody")]


def test_what_nobody_takes_is_refused_with_all_reasons() -> None:
    with pytest.raises(UnsupportedOperator, match="none: it is for nobody; small: it is large"):
        TABLE.choose(10)


def test_a_set_without_the_kernel_runs_another() -> None:
    other = Elsewhere((AVX2, GENERIC), "plain", "plain.hxx", "it is for AVX-512")
    choice = Choice("fast", "fast.hxx", "it is fast", elsewhere=(other,))
    assert choice.on("") is choice
    assert choice.on(AVX512) == Choice("fast", "fast.hxx", "it is fast")
    found = choice.on(AVX2)
    assert (found.kernel, found.header, found.elsewhere) == ("plain", "plain.hxx", ())
    assert [(r.kernel, r.reason) for r in found.refused] == [("fast", "it is for AVX-512")]


# Operators ----------------------------------------------------------------------------------------


def drawn() -> Iterator[tuple[Operator, list[TensorType]]]:
    """Convolutions and poolings of all kinds, also of open sizes."""
    pick = random.Random(5)
    choice = pick.choice
    for sizes in ((3, N, 4), (1, 7, 16)):
        types = [TensorType(F32, s) for s in (sizes, (1, 32, sizes[-1]), (1, 32, 8), (1, 64))]
        yield LSTM(hidden_size=8), types
    for rows, (depth, columns) in product(
        (1, 3, 4, 8, N), ((9, 1), (300, 2000), (200, 10), (600, 30), (40, 50))
    ):
        shapes: list[Shape] = [(rows, depth), (depth, columns), (columns,)]
        yield Dense(Relu()), [TensorType(F32, shape) for shape in shapes]
    for rows, widths in product((1, 9, 40, N), ((7, 50, 50), (9, 200, 1), (200, 10, 30))):
        shapes = [(rows, widths[0])]
        for k, n in pairwise(widths):
            shapes += [(k, n), (n,)]
        yield DenseLayers((Relu(),) * (len(widths) - 1)), [TensorType(F32, s) for s in shapes]
    for rows in (9, N):
        shapes = [(rows, 7), (7, 64), (64,), (64, 64), (64,)]
        yield DenseLayers((Relu(), Relu())), [TensorType(F32, shape) for shape in shapes]
    for rows, columns in product((1, 3, 4, 9, N), (1, 40, W)):
        for dtype in (F32, DType.FLOAT64, DType.INT32):
            yield MatMul(), [TensorType(dtype, (5, rows, 7)), TensorType(dtype, (7, columns))]
    for shape, axes in product(
        ((3, 5, 7), (N, 5, 70), (5, N, 7), (2, 1000, 9), (N, 3, 5, 20)), ((1,), (-1,), (0, -1))
    ):
        for rule in (ReduceSum, ReduceProd, ReduceL2, ReduceLogSumExp):
            yield rule(axes), [TensorType(F32, shape)]
        yield ReduceSum(axes), [TensorType(DType.FLOAT64, shape)]
    for queries, dtype in product((0, 1, 3, 9, N), (F32, DType.FLOAT64)):
        shapes = [(5, 3, queries, 7), (5, 3, 11, 7), (5, 3, 11, 9)]
        yield SoftmaxAttention(), [TensorType(dtype, shape) for shape in shapes]
        yield Attention(), [TensorType(dtype, shape) for shape in shapes]
    for shape, dtype in product(
        ((N, 2, 4), (N, 2, 300), (N, 900, 5), (N, 40, 64), (4, 10, 3), (3, 2, 2), (N, 3)),
        (F32, DType.FLOAT64, DType.INT8),
    ):
        axes = range(len(shape))
        yield Transpose((*axes[:-2], *axes[:-3:-1])), [TensorType(dtype, shape)]
        yield Tile((2,) * len(shape)), [TensorType(dtype, shape)]
    for dtype, features in ((F32, 5), (DType.FLOAT64, 5), (F32, 1 << 28)):
        nodes = (DType.INT32, (7,)), (dtype, (7,)), (DType.UINT8, (7,)), (DType.INT32, (7, 2))
        leaves = (DType.INT32, (8,)), (DType.INT32, (4,)), (F32, (4,)), (F32, (1,))
        given = ((dtype, (N, features)), (DType.INT32, (3,)), *nodes, *leaves)
        yield Trees(), [TensorType(*of) for of in given]
    yield Gemm(transB=True), [TensorType(F32, (N, 7)), TensorType(F32, (9, 7))]
    for number in range(700):
        axes: list[Dim] = [choice((1, 5, 7, 8, 14, 28, 112)) for _ in range(choice((1, 2, 2, 3)))]
        if number % 5 == 0:
            axes = [H, W]
        kernel = tuple(choice((1, 2, 3, 3, 5)) for _ in axes)
        group, channels = choice((1, 1, 1, 4, 32)), choice((1, 3, 4, 16, 64))
        features = choice((1, 2, 4, 8, 24, 64))
        pads = tuple(choice((0, 1)) for _ in (*kernel, *kernel))
        strides = tuple(choice((1, 1, 2, 3)) for _ in kernel)
        x = TensorType(DType.FLOAT32, (choice((1, N)), group * channels, *axes))
        depthwise = number % 4 == 0 and group > 1
        if depthwise:
            x, channels, features = x.reshaped((x.shape[0], group, *axes)), 1, 1
        w = TensorType(x.dtype, (group * features, channels, *kernel))
        b = TensorType(x.dtype, (group * features,))
        form = {"group": group, "pads": pads, "strides": strides}
        yield ConvLayer(**form), [x, w, b]
        yield WinogradConv(pads=pads), [x, w, b]
        wide = TensorType(x.dtype, (group * channels, features, *kernel))
        yield ConvTransposeLayer(**form), [x, wide, b]
        flat = (0,) * len(pads) if number % 2 else pads
        yield MaxPool(kernel, pads=flat, strides=kernel if number % 2 else strides), [x]
        yield AveragePool(kernel, pads=flat, strides=kernel if number % 2 else strides), [x]


def bytes_of(shape: Shape) -> int:
    values = {"N": 7, "H": 40, "W": 33}
    (size,) = (evaluate(d, values) for d in shape)
    return size


def test_lower_and_workspace_agree() -> None:
    seen: set[str] = set()
    for op, types in drawn():
        try:
            y = op.infer(*types)
        except ShapeError:
            continue
        outputs = y[:1] if isinstance(y, tuple) else (y,)
        scratch = op.workspace(types)
        for constant in (True, False):
            if isinstance(op, (WinogradConv, Dense, DenseLayers)) and not constant:
                continue
            inputs = [Operand(f"i{n}", t, constant and n > 0) for n, t in enumerate(types)]
            memory = [Operand(f"o{n}", t) for n, t in enumerate((*outputs, *scratch))]
            choice, call = op.choice(inputs, memory), op.lower(inputs, memory)
            assert choice is not None
            assert (call.kernel, call.header) == (f"sofie::{choice.kernel}", choice.header)
            packed = [a.cxx for a in call.arguments if isinstance(a, Packed)]
            assert isinstance(op, DenseLayers) or packed == (
                [f"sofie::{choice.packed}"] if choice.packed else []
            )
            for needed, given in zip(choice.scratch, scratch, strict=False):
                assert needed.dtype == given.dtype
                assert bytes_of(needed.shape) <= bytes_of(given.shape)
            seen |= {way_of(kernel) for kernel in kernels_of(choice)}
    assert len(seen) == 42, seen


def kernels_of(choice: Choice) -> tuple[str, ...]:
    return choice.kernel, *(other.kernel for other in choice.elsewhere)


def way_of(kernel: str) -> str:
    """Its name, with the first template argument where that says which kernel it is."""
    found = re.match(r"\w+(<(nullptr|sofie::(ReductionWay::|move_|transpose_)\w+))?", kernel)
    assert found
    return found[0]


def test_names_are_those_of_functions_in_these_headers() -> None:
    found: dict[str, str] = {}
    for op, types in drawn():
        inputs = [Operand(f"i{n}", t, constant=n > 0) for n, t in enumerate(types)]
        try:
            y = op.infer(*types)
        except ShapeError:
            continue
        choice = op.choice(inputs, [Operand("y", y[0] if isinstance(y, tuple) else y)])
        assert choice is not None
        found[choice.kernel.partition("<")[0]] = choice.header
        found |= {o.kernel.partition("<")[0]: o.header for o in choice.elsewhere}
    for name, header in found.items():
        text = (CLING / header).read_text()
        assert re.search(rf"SOFIE_(INLINE|KERNEL) void {name}\(", text), f"{header} has no {name}"


# What runs ----------------------------------------------------------------------------------------

# The function that a kernel is, behind the one that a header calls.
INNER = {
    "attention": "attend",
    "convolution": "convolve",
    "convolution_columns": "convolve_columns",
    "convolution_lanes": "convolve_lanes",
    "convolution_winograd": "convolve_winograd",
    "convolution_winograd_lanes": "convolve_winograd_lanes",
    "dense": "dense",
    "dense_dots": "dense_dots",
    "dense_far": "dense_far",
    "dense_layers": "dense_layers",
    "dense_layers_lanes": "lanes_columns",
    "dense_layers_one_row": "dense_layers_one_row",
    "depthwise_convolution": "convolve_depthwise",
    "depthwise_lanes": "convolve_depthwise_lanes",
    "grouped_convolution": "convolve_grouped",
    "matmul": "matrix_any",
    "matmul_dots": "matrix_dots",
    "matmul_rows": "matrix_rows",
    "matmul_tiled": "matrix_tiles",
    "max_pool": "pool_planes",
    "max_pool_pairs": "pool_planes_by_pairs",
    "read_planes<nullptr": "copy_rows",
    "read_planes<sofie::move_interleaved": "take_turns",
    "read_planes<sofie::move_single_elements": "move_single_elements",
    "read_planes<sofie::move_small_planes": "pick_runs",
    "read_planes<sofie::move_squares": "transpose_by_squares",
    "read_planes<sofie::transpose_by_blocks": "transpose_by_blocks",
    "read_strided": "move_planes",
    "reduce<sofie::ReductionWay::columns": "reduce_columns_of",
    "reduce<sofie::ReductionWay::lanes": "reduce_lanes",
    "reduce<sofie::ReductionWay::pieces": "reduce_pieces_of",
    "reduce<sofie::ReductionWay::rows": "reduce_rows_of",
    "softmax_attention": "attend",
    "transposed_convolution": "convolve_transposed",
}


def node(op: Operator, x: Shape, *weights: Shape) -> tuple[Operator, list[TensorType]]:
    return op, [TensorType(F32, shape) for shape in (x, *weights)]


NODES = {
    "columns": node(ConvLayer(), (1, 32, 14, 14), (16, 32, 1, 1), (16,)),
    "columns of taps": node(ConvLayer(pads=(1,) * 4), (1, 3, 28, 28), (16, 3, 3, 3), (16,)),
    "lanes": node(ConvLayer(pads=(0, 1, 0, 1)), (1, 64, 1, 28), (64, 64, 1, 3), (64,)),
    "grouped": node(ConvLayer(group=8), (1, 32, 14, 14), (32, 4, 3, 3), (32,)),
    "depthwise": node(ConvLayer(group=32), (1, 32, 14, 14), (32, 1, 3, 3), (32,)),
    "rows": node(ConvLayer(group=4), (1, 4, 14, 14), (4, 1, 3, 3), (4,)),
    "winograd": node(WinogradConv(pads=(1,) * 4), (1, 64, 28, 28), (64, 64, 3, 3), (64,)),
    "small tiles": node(WinogradConv(pads=(1,) * 4), (1, 64, 6, 6), (64, 64, 3, 3), (64,)),
    "transposed": node(ConvTransposeLayer(strides=(2, 2)), (1, 4, 9, 9), (4, 2, 2, 2), (2,)),
    "one column": node(Dense(Relu()), (N, 9), (9, 1), (1,)),
    "far weights": node(Dense(Relu()), (N, 300), (300, 2000), (2000,)),
    "two packs of columns": node(Dense(Relu()), (5, 600), (600, 30), (30,)),
    "one row": node(Dense(Relu()), (1, 40), (40, 50), (50,)),
    "tiles of rows": node(Dense(Relu()), (8, 40), (40, 50), (50,)),
    "any rows": node(Dense(Relu()), (N, 40), (40, 50), (50,)),
    "layers in lanes": node(DenseLayers((Relu(),) * 2), (N, 7), (7, 50), (50,), (50, 50), (50,)),
    "layers in place": node(DenseLayers((Relu(),) * 2), (N, 7), (7, 64), (64,), (64, 64), (64,)),
    "product of one column": node(MatMul(), (9, 7), (7, 1)),
    "product in tiles": node(MatMul(), (9, 7), (7, 40)),
    "product of few rows": node(MatMul(), (3, 7), (7, 40)),
    "product": node(MatMul(), (N, 7), (7, 40)),
    "small planes": node(Transpose((0, 2, 1)), (N, 2, 4)),
    "two rows in turn": node(Transpose((0, 2, 1)), (N, 2, 300)),
    "short rows in turn": node(Transpose((0, 2, 1)), (7, 2, 9)),
    "squares": node(Transpose((0, 2, 1)), (N, 40, 64)),
    "blocks": node(Transpose((0, 2, 1, 3)), (N, 9, 7, 3)),
    "planes of open size": node(Transpose((1, 0)), (N, 40)),
    "rows that are copied": node(Tile((1, 3, 1)), (N, 4, 5)),
    "rows that are summed": node(ReduceSum((1,)), (N, 40)),
    "few columns that are summed": node(ReduceSum((1,)), (N, 40, 9)),
    "rows in pieces": node(ReduceSum((0, 2)), (3, N, 9)),
    "columns that are summed": node(ReduceSum((1,)), (N, 9, 70)),
    "two columns": node(ReduceSum((1,)), (N, 9, 2)),
    "rows of open length": node(ReduceSum((1,)), (5, N)),
    "many queries": node(Attention(), (5, 3, 9, 7), (5, 3, 11, 7), (5, 3, 11, 9)),
    "one query": node(SoftmaxAttention(), (5, 3, 1, 7), (5, 3, 11, 7), (5, 3, 11, 9)),
    "pairs": node(MaxPool((2, 2), strides=(2, 2)), (1, 16, 28, 28)),
    "planes": node(MaxPool((3, 3), strides=(1, 1)), (1, 16, 14, 14)),
}


def graph_of(op: Operator, types: list[TensorType]) -> Graph:
    build = Builder("one")
    weights = (np.ones(t.shape, np.float32) for t in types[1:])
    build(op, build.input("x", types[0]), *map(build.constant, weights), outputs=["y"])
    return build.graph("y")


@pytest.mark.exhaustive
@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are sets of x86-64")
@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("simd", SETS)
def test_the_compiler_finds_what_is_said_to_run(simd: str, name: str, tmp_path: Path) -> None:
    graph = graph_of(*NODES[name])
    choice = graph.choice(graph.nodes[0])
    assert choice is not None
    source, target = tmp_path / "one.cxx", tmp_path / "one.o"
    called = f"void (*call)({namespace_of('one')}::Session &, const float *, float *) ="
    rows = "5, " if graph.symbols else ""
    body = f"[](auto &session, const float *x, float *y) {{ session.infer({rows}x, y); }};"
    source.write_text(f"{emit(graph, plan_memory(graph)).header}\n{called} {body}\n")
    command = ["g++", "-std=c++17", "-w", *target_flags(simd), f"-I{CLING}", "-c", str(source)]
    subprocess.run([*command, "-o", str(target)], check=True)
    listed = subprocess.run(["nm", "-C", str(target)], check=True, capture_output=True, text=True)

    def runs(kernel: str) -> bool:
        return bool(re.search(rf"sofie::{INNER[way_of(kernel)]}[<(,]", listed.stdout))

    here = choice.on(simd)
    assert runs(here.kernel), here.kernel
    assert here.kernel == choice.kernel or not runs(choice.kernel), choice.kernel


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are sets of x86-64")
@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
@pytest.mark.parametrize("simd", [AVX2, GENERIC])
def test_weights_in_few_bits_are_for_all_sets(simd: str) -> None:
    """Layers that read as many of them as pay with AVX2."""
    text = """
#include "sofie/kernels/dense/few_bits.hxx"
using namespace sofie;
using Weights = NarrowWeights<BFloat16, 600, 500>;
void call(View<float, dyn, 500> y, View<const float, dyn, 600> x, const Weights &w)
{
   dense(Identity{}, y, x, w);
}
"""
    command = ["g++", "-std=c++17", "-w", "-fsyntax-only", *target_flags(simd), f"-I{CLING}"]
    subprocess.run([*command, "-x", "c++", "-"], input=text, text=True, check=True)
