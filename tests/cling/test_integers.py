"""Products of bytes are exact: by VNNI, in pairs of 16 bits, and without assembler."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from sofie_rdf.kernels.choice import SETS
from sofie_rdf.runtime.compile.cpu import cpu_description, target_flags

CLING = Path(__file__).parents[2] / "cling"
PROBE = Path(__file__).with_name("integers_probe.cxx")
NEEDED = {"avx512": "avx512vl", "avx2": "avx2", "generic": ""}
VNNI = {"avx512": "avx512_vnni", "avx2": "avx_vnni", "generic": None}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="there is assembler for x86-64 only")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("vnni", [True, False])
@pytest.mark.parametrize("simd", SETS)
def test_products_of_bytes_are_exact(simd: str, vnni: bool, tmp_path: Path) -> None:
    flags = cpu_description().split()
    if NEEDED[simd] and NEEDED[simd] not in flags:
        pytest.skip(f"needs a CPU with {simd}")
    if vnni and VNNI[simd] not in flags:
        pytest.skip("there is no VNNI")
    program = tmp_path / "probe"
    command = ["g++", "-std=c++17", "-O1", "-ffp-contract=off", *target_flags(simd)]
    command += [*([] if vnni else ["-DSOFIE_NO_VNNI"]), f"-I{CLING}", str(PROBE)]
    subprocess.run([*command, "-o", str(program)], check=True)
    answer = subprocess.run([str(program)], text=True, capture_output=True, check=False)
    assert answer.stdout == f"right, {'by VNNI' if vnni else 'in pairs'}\n"
