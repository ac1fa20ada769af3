"""One case of each operator compiled for CUDA through alpaka, without being run: no GPU is here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import sofie_rdf
from sofie_rdf.bench.models import BUILT_IN, candidate
from sofie_rdf.bench.ptxas import Compiled, compiled_kernels
from sofie_rdf.devices.program import Program, program_for, program_of
from sofie_rdf.ir.types import DType
from tests.choice import some_of
from tests.devices import real
from tests.devices.harness import ALPAKA
from tests.devices.test_contract import SUPPORTED, _name, _pairs
from tests.devices.test_models import halves
from tests.ops.test_contract import OPERATORS, bench_of

# nvcc 13 knows no sm_70 any more; sm_75 is the oldest that it compiles for.
ARCHITECTURES = ["sm_80", "sm_75", "sm_90"]
ALL = bool(os.environ.get("SOFIE_RDF_ALL_KERNELS"))
CHOSEN = ARCHITECTURES if ALL else ARCHITECTURES[:1]
_REAL = real.files() if ALL else real.files("hgcal")


def _compiled(program: Program, architecture: str) -> tuple[Compiled, ...]:
    if not (ALPAKA / "include" / "alpaka" / "alpaka.hpp").is_file():
        pytest.skip("SOFIE_RDF_ALPAKA is not a folder with alpaka 3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFIE_RDF_ALPAKA", str(ALPAKA))
        return compiled_kernels(program, architecture)


@pytest.mark.exhaustive
@pytest.mark.skipif(not shutil.which("nvcc"), reason="needs nvcc")
@pytest.mark.parametrize("architecture", CHOSEN)
def test_all_kernels_compile_for_cuda_without_spills(architecture: str) -> None:
    pairs = [_pairs(key)[0] for key in OPERATORS if _name(key) in SUPPORTED]
    found = _compiled(program_of(bench_of("cuda", pairs).graph), architecture)
    assert len(found) > 100
    assert {one.spilled_bytes for one in found} == {0}


@pytest.mark.skipif(not shutil.which("nvcc"), reason="needs nvcc")
@pytest.mark.parametrize("name", some_of(["transformer", "deepsets"], ["deepsets"]))
def test_networks_as_one_kernel_compile_for_cuda(name: str) -> None:
    (found,) = _compiled(program_for(candidate(name).model.graph), CHOSEN[0])
    assert (found.kernel, found.spilled_bytes) == ("Network", 0)


@pytest.mark.skipif(not shutil.which("nvcc"), reason="needs nvcc")
@pytest.mark.exhaustive
def test_half_precision_compiles_for_cuda() -> None:
    found = _compiled(program_for(halves(DType.FLOAT16)), CHOSEN[0])
    assert {one.spilled_bytes for one in found} == {0}


@pytest.mark.exhaustive
@pytest.mark.skipif(not shutil.which("nvcc"), reason="needs nvcc")
@pytest.mark.parametrize("architecture", CHOSEN)
@pytest.mark.parametrize("name", BUILT_IN if ALL else ["lstm64"])
def test_networks_of_the_bench_compile_for_cuda_without_spills(
    name: str, architecture: str
) -> None:
    found = _compiled(program_for(candidate(name).model.graph), architecture)
    assert {one.spilled_bytes for one in found} == {0}


@pytest.mark.exhaustive
@pytest.mark.skipif(not shutil.which("nvcc"), reason="needs nvcc")
@pytest.mark.parametrize("architecture", CHOSEN)
@pytest.mark.parametrize("file", _REAL, ids=lambda file: file.stem)
def test_real_models_compile_for_cuda_without_spills(file: Path, architecture: str) -> None:
    found = _compiled(program_for(sofie_rdf.load(file).graph), architecture)
    assert {one.spilled_bytes for one in found} == {0}
