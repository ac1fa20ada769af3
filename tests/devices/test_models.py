"""Networks on all adapters, beside the reference; and what is refused, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as combined
from pathlib import Path

import numpy as np
import onnx
import pytest

import sofie_rdf
from sofie_rdf.cli import main
from sofie_rdf.devices.program import problems_on_device, program_for
from sofie_rdf.errors import InputError, UnsupportedOperator
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType, TensorType, concrete
from sofie_rdf.ops.attention import Attention
from sofie_rdf.ops.elementwise import Add, Cast, Mul, Relu, Sigmoid, Tanh
from sofie_rdf.ops.layout import Concat, Reshape, Transpose
from sofie_rdf.ops.linear import MatMul
from sofie_rdf.ops.recurrent import GRU, LSTM, RNN, Recurrent
from sofie_rdf.ops.reduction import LpNormalization
from sofie_rdf.reference import evaluate
from tests.choice import some_of
from tests.devices.harness import WAYS, Sizes, compiled

DATA = Path(__file__).resolve().parents[2] / "data"
# One Session: up, down, none, one, a tile and what is beside it, the largest.
HISTORY = (3, 1, 0, 100, 17, 64, 65, 128, 1, 129)


def feeds_of(graph: Graph, sizes: Sizes, seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    found = {}
    for name in graph.inputs:
        type_ = graph.types[name]
        numbers = random.normal(size=concrete(type_.shape, sizes))
        found[name] = np.asarray(numbers, type_.dtype.numpy)
    return found


def compare(
    graph: Graph, way: str, folder: Path, history: Sequence[Sizes], *, whole: bool = True
) -> None:
    """Every batch on one Session, in two orders of work-items.

    Both sides round in float32, and what they round are numbers as large as the output's largest.
    """
    program = compiled(graph, WAYS[way], folder, whole=whole)
    batches = [(sizes, feeds_of(graph, sizes, i)) for i, sizes in enumerate(history)]
    for seed in (0, 3):
        for (sizes, feeds), found in zip(batches, program.run(batches, seed), strict=True):
            wanted = evaluate(graph, feeds)
            for name in graph.outputs:
                atol = 2e-6 * max(1.0, np.abs(wanted[name]).max(initial=0))
                np.testing.assert_allclose(
                    found[name], wanted[name], rtol=1e-4, atol=atol, err_msg=f"{name} {sizes}"
                )


def mixed() -> Graph:
    """Chains, broadcasting, products of batches, several inputs and outputs, and an alias."""
    build, n, m = Builder("mixed"), symbol("N"), symbol("M")
    a = build.input("a", TensorType(DType.FLOAT32, (n, 6, m)))
    b = build.input("b", TensorType(DType.FLOAT32, (n, m, 5)))
    c = build.constant(np.linspace(-1, 1, 5, dtype=np.float32), "c")
    product = build(MatMul(), a, b)
    bent = build(Tanh(), build(Add(), build(Mul(), product, c), c))
    gate = build(Sigmoid(), build(Relu(), a))
    flat = build(Reshape((n, 30)), bent)
    w = np.random.default_rng(3).normal(size=(30, 7)).astype(np.float32)
    dense = build(MatMul(), flat, build.constant(w, "w"))
    return build.graph(dense, gate, flat)


# `test_programs` has one kernel by alpaka, and `test_one_kernel` by SYCL.
SOME_HIGGS = [("serial", "one"), ("serial", "many"), ("alpaka-serial", "many")]


@pytest.mark.parametrize(("way", "kernels"), some_of(combined(WAYS, ["one", "many"]), SOME_HIGGS))
def test_higgs(way: str, kernels: str, tmp_path: Path) -> None:
    graph = sofie_rdf.load(DATA / "higgs.onnx").graph
    compare(graph, way, tmp_path, [{"N": n} for n in HISTORY], whole=kernels == "one")


@pytest.mark.parametrize(
    "way", some_of(["serial", "alpaka-serial", "sycl-buffers"], ["serial", "sycl-buffers"])
)
def test_products_of_batches_chains_and_several_outputs(way: str, tmp_path: Path) -> None:
    sizes = [(3, 4), (0, 4), (2, 0), (1, 1), (9, 70), (2, 3)]
    compare(mixed(), way, tmp_path, [{"N": n, "M": m} for n, m in sizes])


def last_states(kind: type[Recurrent], direction: str) -> Graph:
    """The last states of a layer that reads transposed sequences of their own lengths."""
    build, n = Builder("last"), symbol("N")
    x = build.input("x", TensorType(DType.FLOAT32, (n, symbol("M"), 3)))
    lengths = build.input("lengths", TensorType(DType.INT32, (n,)))
    op, random = kind(hidden_size=5, direction=direction), np.random.default_rng(1)
    shapes = (5 * op.gates, 3), (5 * op.gates, 5), (10 * op.gates,)
    weights = [
        build.constant(random.normal(size=(op.directions, *shape)).astype(np.float32))
        for shape in shapes
    ]
    outputs = ["states", "h", "c"][: 3 if op.has_cell else 2]
    build(op, build(Transpose((1, 0, 2)), x), *weights, lengths, outputs=outputs)
    return build.graph(*outputs[1:])


@pytest.mark.parametrize("direction", some_of(["forward", "bidirectional"], ["bidirectional"]))
@pytest.mark.parametrize("kind", some_of([LSTM, GRU, RNN], [LSTM]))
def test_last_states_of_sequences(kind: type[Recurrent], direction: str, tmp_path: Path) -> None:
    graph = last_states(kind, direction)
    first, *_ = (step for step in program_for(graph).steps if step.launches)
    assert "Recurrent" in first.launches[0].kernel
    program = compiled(graph, WAYS["serial"], tmp_path)
    for n, m in ((3, 4), (1, 1), (0, 2), (7, 6)):
        feeds = feeds_of(graph, {"N": n, "M": m}, n)
        feeds["lengths"] = np.arange(n, dtype=np.int32) % (m + 1)
        (found,) = program.run([({"N": n, "M": m}, feeds)])
        for name, wanted in evaluate(graph, feeds).items():
            np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=2e-6)


def halves(dtype: DType) -> Graph:
    """Layers and what is spelled out in half precision, whose outputs are stored in it."""
    build, n = Builder("halves"), symbol("N")
    x = build.input("x", TensorType(dtype, (n, 6, 8)))
    random = np.random.default_rng(3)

    def constant(*shape: int) -> str:
        return build.constant(random.normal(size=shape).astype(dtype.numpy))

    product = build(Tanh(), build(Add(), build(MatMul(), x, constant(8, 8)), constant(8)))
    unit = build(LpNormalization(), product)
    return build.graph(build(Concat(axis=2), unit, x), build(Cast(DType.FLOAT32), product))


@pytest.mark.parametrize("dtype", some_of([DType.FLOAT16, DType.BFLOAT16], [DType.FLOAT16]))
@pytest.mark.parametrize("way", some_of(WAYS, ["serial"]))
def test_half_precision_is_computed_in_float(way: str, dtype: DType, tmp_path: Path) -> None:
    graph = halves(dtype)
    program = compiled(graph, WAYS[way], tmp_path)
    for n in (3, 0, 1, 70):
        feeds = feeds_of(graph, {"N": n}, n)
        found = program.run([({"N": n}, feeds)])[0]
        wanted = evaluate(graph, feeds)
        for name in graph.outputs:
            assert found[name].dtype == wanted[name].dtype
            # Between the layers, one of the two may round to the next number.
            atol = 2.0 ** (-6 if dtype is DType.BFLOAT16 else -9)
            pair = (array.astype(np.float32) for array in (found[name], wanted[name]))
            np.testing.assert_allclose(*pair, rtol=atol, atol=atol)


@pytest.mark.parametrize("name", ["jet_tagger.onnx", "higgs_autoencoder.onnx"])
def test_taggers_and_autoencoders(name: str, tmp_path: Path) -> None:
    graph = sofie_rdf.load(DATA / name).graph
    compare(graph, "serial", tmp_path, [dict.fromkeys(graph.symbols, n) for n in (3, 1, 0, 9)])


@pytest.mark.parametrize("name", ["jet_energy.onnx", "higgs.keras", "higgs_xgboost.ubj"])
def test_other_networks(name: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py" if name.endswith("keras") else "onnx")
    graph = sofie_rdf.load(DATA / name).graph
    (size,) = graph.symbols
    compare(graph, "serial", tmp_path, [{size: n} for n in HISTORY])


def _draws() -> onnx.ModelProto:
    """x + normal numbers."""
    parts = [onnx.helper.make_tensor_value_info(n, 1, ["N", 3]) for n in "xy"]
    noise = onnx.helper.make_node("RandomNormalLike", ["x"], ["z"], name="noise")
    graph = onnx.helper.make_graph(
        [noise, onnx.helper.make_node("Add", ["x", "z"], ["y"])], "draws", parts[:1], parts[1:]
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])


def _unsupported() -> Graph:
    build = Builder("eight_bits")
    x = build.input("x", TensorType(DType.FLOAT8E4M3FN, (symbol("N"), 8)))
    return build.graph(build(Cast(DType.FLOAT32), x))


def test_what_has_no_kernel_is_refused_by_the_name_of_its_node(tmp_path: Path) -> None:
    file = tmp_path / "draws.onnx"
    onnx.save(_draws(), file)
    with pytest.raises(UnsupportedOperator, match="draws random numbers, which devices do not"):
        sofie_rdf.load(file).emit(tmp_path / "out", target="alpaka")
    assert not list(tmp_path.glob("out/*"))
    (found,) = sofie_rdf.check(file, target="sycl")
    assert "node 'noise'" in str(found) and "draws random numbers" in str(found)
    assert sofie_rdf.check(DATA / "higgs.onnx", target="alpaka") == []
    texts = [str(p) for p in problems_on_device(_unsupported(), "alpaka")]
    assert any("float8" in text for text in texts)


def test_a_formula_that_does_not_hold_is_no_kernel() -> None:
    """Attention with a mask for fewer keys is spelled out for nobody; with all of them it is."""
    for keys, problems in ((6, 0), (5, 1)):
        build = Builder("attention")
        sizes = (4, 8), (6, 8), (6, 8)
        given = [
            build.input(name, TensorType(DType.FLOAT32, (symbol("N"), 2, *size)))
            for name, size in zip("qkv", sizes, strict=True)
        ]
        mask = build.input("mask", TensorType(DType.FLOAT32, (4, keys)))
        found = problems_on_device(build.graph(build(Attention(), *given, mask)), "alpaka")
        assert ["Attention has no kernel" in str(p) for p in found] == [True] * problems


def test_targets_that_are_unknown_are_refused(tmp_path: Path) -> None:
    model = sofie_rdf.load(DATA / "higgs.onnx")
    with pytest.raises(InputError, match="target='cuda' is unknown"):
        model.emit(tmp_path, target="cuda")
    with pytest.raises(InputError, match="weights='file'"):
        model.emit(tmp_path, target="sycl", weights="header")
    with pytest.raises(InputError, match="unknown"):
        sofie_rdf.check(DATA / "higgs.onnx", target="cuda")


def test_the_command_line_emits_for_devices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["emit", str(DATA / "higgs.onnx"), "-o", str(tmp_path), "--target", "sycl"]) == 0
    out = capsys.readouterr()
    assert out.out.split() == [str(tmp_path / f"higgs_sycl.{kind}") for kind in ("hxx", "dat")]
    assert "c++20" in out.err
    text = (tmp_path / "higgs_sycl.hxx").read_text()
    assert "never run on a GPU" in text and "sofie/device/sycl.hxx" in text


def test_the_same_graph_gives_the_same_text(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        sofie_rdf.load(DATA / "higgs.onnx").emit(tmp_path / folder, target="alpaka")
    for name in ("higgs_alpaka.hxx", "higgs_alpaka.dat"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
