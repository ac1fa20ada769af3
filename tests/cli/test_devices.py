"""`sofie-rdf inspect --target`: kernels of a device, and what they cost on paper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sofie_rdf.bench import ptxas
from sofie_rdf.bench.models import candidate
from sofie_rdf.bench.paper import GPUS, paper_of
from sofie_rdf.cli import main
from sofie_rdf.devices.program import program_for
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import evaluate, symbol
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.indexing import Slice
from tests.devices.test_one_kernel import rows_and_means

HIGGS = str(Path(__file__).resolve().parents[2] / "data" / "higgs.onnx")

# Of the layers 7 x 64, three of 64 x 64, and 64 x 1: weights and offsets, in float32.
WEIGHTS = 4 * (7 * 64 + 64 + 3 * (64 * 64 + 64) + 64 + 1)


def test_a_small_network_is_one_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", HIGGS, "--target", "alpaka", "--batch", "4096", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["kernels"] == 1
    assert model["bytes"] == model["needed_bytes"] == WEIGHTS + 4096 * 4 * (7 + 1)
    assert model["flops"] == 4096 * 2 * (7 * 64 + 3 * 64 * 64 + 64)
    assert model["least"]["H100"] == pytest.approx(model["flops"] / 66.9e12)
    (node,) = model["nodes"]
    assert node["groups"] == 512
    assert main(["inspect", HIGGS, "--target", "sycl"]) == 0
    assert "on paper, not measured" in capsys.readouterr().out


def test_kernels_of_nodes_move_what_is_between_them() -> None:
    program = program_for(rows_and_means(7))
    whole, cut = (paper_of(program, {"N": 10}, whole=flag) for flag in (True, False))
    assert whole.needed == cut.needed == whole.nbytes
    assert cut.kernels == len(program.launches) > 1
    assert cut.nbytes > 2 * cut.needed
    assert all(cut.least(gpu) >= cut.nbytes / gpu.bandwidth * 0.999 for gpu in GPUS)


@pytest.mark.parametrize("name", ["higgs", "linear50x10", "mlp200x5", "deepsets", "transformer"])
@pytest.mark.parametrize("batch", [1, 64, 4096])
def test_mlps_and_transformers_move_little_more_than_they_need(name: str, batch: int) -> None:
    """The bound by which fusion is judged: 1.5 times the inputs, outputs and weights."""
    assert paper_of(program_for(candidate(name).model.graph), {"N": batch}).excess <= 1.5


@pytest.mark.parametrize(("batch", "excess"), [(1, 1.2), (4096, 417)])
def test_mlps_that_are_quantized_dynamically_move_what_is_between_layers(
    batch: int, excess: float
) -> None:
    """No scale is known before all events are: the guide says how much that costs."""
    program = program_for(candidate("mlp200x5_uint8").model.graph)
    paper = paper_of(program, {"N": batch})
    assert excess / 1.05 < paper.excess <= excess
    assert paper.kernels <= 42


def test_a_copy_reads_no_more_than_it_writes() -> None:
    build = Builder("part")
    x = build.input("x", TensorType(DType.FLOAT32, (symbol("N"), 100)))
    y = build(Slice(starts=(3,), ends=(10,), axes=(1,), steps=(1,)), x)
    first = paper_of(program_for(build.graph(y)), {"N": 5}).steps[0]
    assert first.kernels == ("Copy",)
    assert first.nbytes == 2 * 4 * 5 * 7


@pytest.mark.parametrize("name", ["rnn64", "gru128", "lstm128"])
def test_recurrent_layers_write_no_states_that_nobody_reads(name: str) -> None:
    program = program_for(candidate(name).model.graph)
    paper = paper_of(program, {"N": 4096})
    assert [step.kernels for step in paper.steps] == [("Recurrent",), ("Gemm",)]
    states = program.launches[0].tensors[1]
    assert paper.nbytes - paper.needed == 2 * evaluate(states.type.nbytes, {"N": 4096})


REPORT = """
ptxas info    : Compiling entry function '_Z1fIN5sofie6device12AlpakaKernelIiEEE' for 'sm_80'
ptxas info    : Function properties for it
    0 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 54 registers, used 1 barriers, 32768 bytes smem
"""


def test_what_nvcc_says_is_read() -> None:
    (found,) = ptxas._found(REPORT)
    assert (found.registers, found.local_bytes, found.spilled_bytes) == (54, 32768, 20)


def test_a_missing_compiler_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ptxas.shutil, "which", lambda _: None)
    assert main(["inspect", HIGGS, "--target", "alpaka", "--registers"]) == 1
    assert "Install the CUDA toolkit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--registers"], "--target alpaka"), (["--target", "sycl", "--why"], "a table, or --json")],
)
def test_options_that_do_not_go_together(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", HIGGS, *options]) == 1
    assert said in capsys.readouterr().err
