"""One case of each operator compiled for CUDA through alpaka, without being run: no GPU is here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sofie_rdf.devices.program import program_of
from sofie_rdf.devices.session import emit_program
from sofie_rdf.emit.code import include_directory
from tests.devices.harness import ALPAKA
from tests.devices.test_contract import SUPPORTED, _name, _pairs
from tests.ops.test_contract import OPERATORS, bench_of

# nvcc 13 knows no sm_70 any more.
ARCHITECTURES = ["sm_80", "sm_75", "sm_90"]
CHOSEN = ARCHITECTURES if os.environ.get("SOFIE_RDF_ALL_KERNELS") else ARCHITECTURES[:1]
FLAGS = "-x cu -std=c++20 --expt-relaxed-constexpr --extended-lambda -cubin -Xptxas -v".split()

_SESSION = """
#include "model.hxx"
using Device = decltype(alpaka::onHost::makeDeviceSelector(
   alpaka::onHost::DeviceSpec{alpaka::api::cuda, alpaka::deviceKind::nvidiaGpu}).makeDevice(0));
using Queue = decltype(std::declval<Device>().makeQueue());
template class TMVA_SOFIE_model_alpaka::Session<
   sofie::device::Alpaka<Queue, alpaka::exec::GpuCuda>>;
"""


@pytest.mark.skipif(not shutil.which("nvcc"), reason="needs nvcc")
@pytest.mark.parametrize("architecture", CHOSEN)
def test_all_kernels_compile_for_cuda_without_spills(architecture: str, tmp_path: Path) -> None:
    if not (ALPAKA / "include" / "alpaka" / "alpaka.hpp").is_file():
        pytest.skip("SOFIE_RDF_ALPAKA is not a folder with alpaka 3")
    pairs = [_pairs(key)[0] for key in OPERATORS if _name(key) in SUPPORTED]
    program = program_of(bench_of("cuda", pairs).graph)
    header = emit_program(program, "alpaka", "model", "model.dat").header
    (tmp_path / "model.hxx").write_text(header)
    (tmp_path / "main.cpp").write_text(_SESSION)
    includes = [f"-I{ALPAKA}/include", f"-I{include_directory()}", f"-I{tmp_path}"]
    command = ["nvcc", *FLAGS, f"-arch={architecture}", "-Werror", "all-warnings", *includes]
    command += ["main.cpp", "-o", "model.cubin"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900
    )
    report = done.stdout + done.stderr
    assert done.returncode == 0, report[-4000:]
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert len(spills) > 100
    assert set(spills) == {("0", "0")}
