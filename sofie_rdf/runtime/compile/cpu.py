"""What the CPU can do."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from sofie_rdf.errors import JitError

__all__ = ["InstructionSet", "cpu_description", "instruction_set", "target_flags"]


class InstructionSet:
    """What the CPU can do, in the words of the compiler: an attribute, and bytes per register."""

    def __init__(self, name: str, target: str, simd_bytes: int) -> None:
        self.name, self.target, self.simd_bytes = name, target, simd_bytes


_AVX2 = "avx,avx2,fma,f16c,bmi,bmi2"
# The best that a CPU has all flags for is taken. NEON needs no attribute: it is aarch64's base.
_KNOWN = (
    InstructionSet("avx512", f"{_AVX2},avx512f,avx512bw,avx512dq,avx512vl", 64),
    InstructionSet("avx2", _AVX2, 32),
    InstructionSet("generic", "", 16),
)
_FLAG_NAMES = {"bmi": "bmi1"}


@cache
def instruction_set() -> InstructionSet:
    """The best instruction set of this CPU, or the one that SOFIE_RDF_SIMD names."""
    wanted = os.environ.get("SOFIE_RDF_SIMD", "")
    if wanted:
        return _named(wanted)
    flags = _cpu_flags()
    for candidate in _KNOWN:
        needed = {_FLAG_NAMES.get(f, f) for f in candidate.target.split(",") if f}
        if needed <= flags:
            return candidate
    return _KNOWN[-1]


def target_flags(wanted: str = "") -> list[str]:
    """What tells g++ or clang++ the instruction set `wanted`; else that of `instruction_set`.

    Where nobody has named one, that is all that this CPU has.
    """
    wanted = wanted or os.environ.get("SOFIE_RDF_SIMD", "")
    chosen = _named(wanted) if wanted else instruction_set()
    target = [f"-m{flag}" for flag in chosen.target.split(",") if flag]
    is_old = platform.machine() == "x86_64" and not target  # What it has besides, Cling leaves.
    if not wanted and not is_old:
        target = ["-march=native"]
    return [*target, f"-DSOFIE_SIMD_BYTES={chosen.simd_bytes}"]


def _named(wanted: str) -> InstructionSet:
    named = [s for s in _KNOWN if s.name == wanted]
    if not named:
        known = ", ".join(s.name for s in _KNOWN)
        raise JitError(f"SOFIE_RDF_SIMD={wanted} is no instruction set", remedy=f"Use {known}")
    return named[0]


def _cpu_flags() -> frozenset[str]:
    lines = cpu_description().splitlines()
    return frozenset(w for line in lines if line.startswith("flags") for w in line.split())


@cache
def cpu_description() -> str:
    """What the kernel says about the first CPU, without what changes while it runs."""
    try:
        with Path("/proc/cpuinfo").open() as file:
            # Not all of it: some kernels ask each CPU for what they say about it.
            first = file.read(2**14).split("\n\n")[0]
    except OSError:
        return ""
    return "\n".join(line for line in first.splitlines() if not line.startswith(_CHANGING))


_CHANGING = ("processor", "cpu MHz", "apicid", "initial apicid", "core id", "physical id", "bogo")
