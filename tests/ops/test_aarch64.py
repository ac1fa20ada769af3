"""What we emit for aarch64, under an emulator, beside the same for x86.

The packs there have 16 bytes, and no kernel is in assembler. ROOT on a Mac is Cling on arm64, whose
allocator of registers writes what is alive at the end of a block to memory: a clang with the same
allocator shows what it does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

import sofie_rdf as sofie
from sofie_rdf.bench.networks import NETWORKS
from sofie_rdf.emit.session import emit, include_directory
from sofie_rdf.ir.graph import Graph
from sofie_rdf.passes.memory import plan_memory
from tests.conformance.examples import feeds, rounds
from tests.conformance.real import Subject
from tests.conformance.test_real import found as file_of
from tests.ops.test_contract import OPERATORS
from tests.ops.test_sanitized import Batch, Sizes, benches, build, check, run
from tests.runtime.agreement import same

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64-static"
MISSING = [program for program in ("g++", COMPILER, EMULATOR) if not shutil.which(program)]

pytestmark = pytest.mark.exhaustive
needs_emulator = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}")

# The libraries of the cross compiler.
EMULATED = (EMULATOR, "-L", "/usr/aarch64-linux-gnu")
FLAGS = ["-O2", "-w", "-ffp-contract=off"]
SIZES: list[Sizes] = [{"N": 5}, {"N": 1}]
# One or more of each family of kernels: an emulator takes long.
FAMILIES = (
    "Attention",
    "ConvTransposeLayer",
    "Dense",
    "DenseLayers",
    "GRU",
    "Gelu",
    "LSTM",
    "LayerNormalization",
    "MatMul",
    "MaxPool",
    "ReduceLogSumExp",
    "ReduceSum",
    "Resize",
    "SmallConv",
    "Softmax",
    "Sqrt",
    "TopK",
    "Transpose",
    "Trees",
    "WinogradConv",
)
NAMES = (
    "mlp200x5",
    "conv2d",
    "resnet18",
    "lstm128",
    "gru128",
    "transformer",
    "deepsets",
    "trees500",
)
OF_CMS = ("HLT_ParticleNetAK4_V00_particle-net", "models_particletransformer_AK4_1_model")
# Any clang has all targets.
CLANG = shutil.which("clang++") or shutil.which("clang++-14")
ALLOCATES_AS_CLING = (
    *("--target=aarch64-linux-gnu", "-std=c++17", "-O1", "-mllvm", "-regalloc=fast"),
    *("-ffp-contract=off", "-w"),
)
HIGGS = Path(__file__).parents[2] / "data" / "higgs.onnx"


def graphs(names: Sequence[str]) -> dict[str, Graph]:
    files = {"higgs": HIGGS.read_bytes(), **{name: NETWORKS[name][1]() for name in names}}
    protos = {name: onnx.load_from_string(content) for name, content in files.items()}
    return {name: sofie.from_onnx(proto, name=name).optimized for name, proto in protos.items()}


def inputs_of(graph: Graph, rows: int) -> Batch:
    random = np.random.default_rng(1)
    shapes = {name: (rows, *graph.types[name].shape[1:]) for name in graph.inputs}
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def gives_the_numbers_of_x86(
    models: dict[str, Graph], batches: Sequence[Sequence[Batch]], sizes: list[Sizes], folder: Path
) -> None:
    found = []
    for compiler, emulator in (("g++", ()), (COMPILER, EMULATED)):
        place = folder / compiler
        place.mkdir()
        build(list(models.values()), place, len(sizes), FLAGS, compiler)
        found.append(run(list(models.values()), place, batches, sizes, emulator))
    for name, ours, theirs in zip(models, found[1], found[0], strict=True):
        for batch, expected in zip(ours, theirs, strict=True):
            for output, numbers in batch.items():
                same(numbers, expected[output], f"{name}: {output}")


@needs_emulator
def test_models_give_the_numbers_of_x86(tmp_path: Path) -> None:
    models = graphs(NAMES)
    batches = [[inputs_of(graph, sizes["N"]) for sizes in SIZES] for graph in models.values()]
    gives_the_numbers_of_x86(models, batches, SIZES, tmp_path)


@needs_emulator
def test_a_large_network_gives_the_numbers_of_x86(tmp_path: Path) -> None:
    models = graphs(("resnet18",))
    batches = [[inputs_of(graph, 1)] for graph in models.values()]
    gives_the_numbers_of_x86(models, batches, [{"N": 1}], tmp_path)


@needs_emulator
@pytest.mark.parametrize("name", OF_CMS)
def test_models_of_cms_give_the_numbers_of_x86(name: str, tmp_path: Path) -> None:
    subject = Subject(file_of(name))
    calls = rounds(subject.graph, "particles")[:3]
    batches = [feeds(subject.graph, one) for one in calls]
    sizes = [one.sizes for one in calls]
    gives_the_numbers_of_x86({name: subject.model.optimized}, [batches], sizes, tmp_path)


@needs_emulator
def test_operators_are_right(tmp_path: Path) -> None:
    keys = [key for key in OPERATORS if key[1] in FAMILIES]
    assert {key[1] for key in keys} == set(FAMILIES)
    check(benches(keys), tmp_path, FLAGS, {}, compiler=COMPILER, emulator=EMULATED)


# Blocks without a branch -----------------------------------------------------------------------


def blocks(assembler: str) -> Iterator[tuple[str, list[str]]]:
    """The instructions between two labels or branches, and the function they belong to."""
    function, lines = "", list[str]()
    for line in assembler.splitlines():
        label = re.match(r"(\S+):", line)
        if label:
            yield function, lines
            lines = []
            if not line.startswith("."):
                function = label.group(1)
        else:
            lines.append(line)
    yield function, lines


def of_packs(lines: Sequence[str], *words: str) -> int:
    """How many of them have one of these words, and a register of 16 bytes."""
    chosen = (line for line in lines if any(word in line for word in words))
    return sum(bool(re.search(r"\b[qv]\d", line)) for line in chosen)


@pytest.mark.skipif(
    not CLANG or not shutil.which(COMPILER), reason=f"needs clang++, and the headers of {COMPILER}"
)
@pytest.mark.parametrize("name", ["mlp200x5", "conv2d", "lstm128", "gru128", "transformer"])
def test_tiles_stay_in_registers(name: str, tmp_path: Path) -> None:
    """No sum goes to memory within a block: only at its ends, where the allocator does that."""
    graph = graphs((name,))[name]
    emission = emit(graph, plan_memory(graph))
    (tmp_path / "net.hxx").write_text(emission.header)
    call = f"   {emission.namespace}::Session session;\n   session.infer(1, x, y);\n"
    text = f'#include "net.hxx"\nvoid call(const float *x, float *y)\n{{\n{call}}}\n'
    (tmp_path / "net.cxx").write_text(text)
    command = [str(CLANG), *ALLOCATES_AS_CLING, f"-I{include_directory()}", "-S", "net.cxx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    tiles = 0
    for function, lines in blocks((tmp_path / "net.s").read_text()):
        products = of_packs(lines, "fmla")
        if products >= 100:
            tiles += 1
            # Up to 16 sums, and two packs beside them, at each end.
            assert of_packs(lines, "Spill", "Reload") <= 0.3 * products, function
    assert tiles
