"""What we emit for aarch64, under an emulator, beside the same for x86.

The packs there have 16 bytes, and no kernel is in assembler.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import sofie_rdf as sofie
from sofie_rdf.bench.networks import NETWORKS
from sofie_rdf.ir.graph import Graph
from tests.ops.test_contract import OPERATORS
from tests.ops.test_sanitized import Batch, Sizes, benches, build, check, run
from tests.runtime.agreement import same

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64-static"
MISSING = [program for program in (COMPILER, EMULATOR) if not shutil.which(program)]

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}"),
    pytest.mark.skipif(not shutil.which("g++"), reason="needs g++"),
]

# The libraries of the cross compiler.
EMULATED = (EMULATOR, "-L", "/usr/aarch64-linux-gnu")
FLAGS = ["-O2", "-w", "-ffp-contract=off"]
SIZES: list[Sizes] = [{"N": 5}, {"N": 1}]
# Some that most networks have: an emulator takes long.
FAMILIES = (
    "Dense",
    "Gelu",
    "LSTM",
    "LayerNormalization",
    "MatMul",
    "ReduceLogSumExp",
    "SmallConv",
    "Softmax",
    "Sqrt",
    "TopK",
    "Transpose",
    "Trees",
)
NAMES = ("mlp200x5", "conv2d", "lstm128", "gru128", "transformer", "deepsets", "trees500")
HIGGS = Path(__file__).parents[2] / "data" / "higgs.onnx"


def graphs() -> dict[str, Graph]:
    files = {"higgs": HIGGS.read_bytes(), **{name: NETWORKS[name][1]() for name in NAMES}}
    protos = {name: onnx.load_from_string(content) for name, content in files.items()}
    return {name: sofie.from_onnx(proto, name=name).optimized for name, proto in protos.items()}


def inputs_of(graph: Graph, rows: int) -> Batch:
    random = np.random.default_rng(1)
    shapes = {name: (rows, *graph.types[name].shape[1:]) for name in graph.inputs}
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def test_models_give_the_numbers_of_x86(tmp_path: Path) -> None:
    models = graphs()
    batches = [[inputs_of(graph, sizes["N"]) for sizes in SIZES] for graph in models.values()]
    found = []
    for compiler, emulator in (("g++", ()), (COMPILER, EMULATED)):
        folder = tmp_path / compiler
        folder.mkdir()
        build(list(models.values()), folder, len(SIZES), FLAGS, compiler)
        found.append(run(list(models.values()), folder, batches, SIZES, emulator))
    for name, ours, theirs in zip(models, found[1], found[0], strict=True):
        for batch, expected in zip(ours, theirs, strict=True):
            for output, numbers in batch.items():
                same(numbers, expected[output], f"{name}: {output}")


def test_operators_are_right(tmp_path: Path) -> None:
    keys = [key for key in OPERATORS if key[1] in FAMILIES]
    assert {key[1] for key in keys} == set(FAMILIES)
    check(benches(keys), tmp_path, FLAGS, {}, compiler=COMPILER, emulator=EMULATED)
