"""What nvcc says of kernels that it compiles for a GPU: registers, local memory, spills."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sofie_rdf.devices.program import Program
from sofie_rdf.devices.session import emit_program
from sofie_rdf.emit.code import include_directory
from sofie_rdf.errors import JitError, MissingDependency

__all__ = ["Compiled", "compiled_kernels"]

_FLAGS = "-x cu -std=c++20 --expt-relaxed-constexpr --extended-lambda -cubin -Xptxas -v".split()
_SESSION = """
#include "model.hxx"
using Device = decltype(alpaka::onHost::makeDeviceSelector(
   alpaka::onHost::DeviceSpec{alpaka::api::cuda, alpaka::deviceKind::nvidiaGpu}).makeDevice(0));
using Queue = decltype(std::declval<Device>().makeQueue());
template class TMVA_SOFIE_model_alpaka::Session<
   sofie::device::Alpaka<Queue, alpaka::exec::GpuCuda>>;
"""
_KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Compiled:
    """A kernel of a GPU, by its C++ class; local memory and spilled registers are in bytes."""

    kernel: str
    registers: int
    local_bytes: int
    spilled_bytes: int


def compiled_kernels(program: Program, architecture: str) -> tuple[Compiled, ...]:
    """The kernels of a program through alpaka for an ``architecture`` such as "sm_80".

    It needs nvcc, c++filt, and the headers of alpaka 3 in SOFIE_RDF_ALPAKA: MissingDependency
    where one is absent. JitError where nvcc does not compile the program.
    """
    compiler, headers = _tools()
    with TemporaryDirectory() as name:
        folder = Path(name)
        emission = emit_program(program, "alpaka", "model", "model.dat")
        (folder / "model.hxx").write_text(emission.header)
        (folder / "main.cpp").write_text(_SESSION)
        includes = [f"-I{path}" for path in (headers, include_directory(), folder)]
        command = [compiler, *_FLAGS, f"-arch={architecture}", "-Werror", "all-warnings", *includes]
        done = subprocess.run(
            [*command, "main.cpp", "-o", "model.cubin"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
    report = done.stdout + done.stderr
    if done.returncode:
        last = report.strip().splitlines()[-1:] or ["no reason is given"]
        raise JitError(f"nvcc cannot compile for {architecture}: {last[0]}")
    return tuple(_found(report))


def _tools() -> tuple[str, Path]:
    compiler = shutil.which("nvcc")
    if not compiler or not shutil.which("c++filt"):
        raise MissingDependency(
            "nvcc and c++filt tell which registers a kernel needs, and one of them is absent",
            remedy="Install the CUDA toolkit, or pip install nvidia-cuda-nvcc; and binutils",
        )
    headers = Path(os.environ.get("SOFIE_RDF_ALPAKA", "")) / "include"
    if not (headers / "alpaka" / "alpaka.hpp").is_file():
        raise MissingDependency(
            "alpaka's headers are not there",
            remedy="Set SOFIE_RDF_ALPAKA to the folder of alpaka 3",
        )
    return compiler, headers


def _found(report: str) -> Iterator[Compiled]:
    matches = list(_KERNEL.finditer(report))
    names = subprocess.run(
        ["c++filt", *(match["name"] for match in matches)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.splitlines()
    for match, name in zip(matches, names, strict=True):
        local = re.search(r"(\d+) bytes smem", match["rest"])
        yield Compiled(
            _class_of(name),
            int(match["registers"]),
            int(local[1]) if local else 0,
            int(match["stores"]) + int(match["loads"]),
        )


def _class_of(name: str) -> str:
    """The class of a kernel of ours in the name of a function of alpaka's."""
    _, found, rest = name.partition("AlpakaKernel<")
    depth = 1
    for position, letter in enumerate(rest):
        depth += (letter == "<") - (letter == ">")
        if found and depth == 0:
            name = rest[:position]
            break
    own = name.strip().replace("sofie::device::", "").replace("TMVA_SOFIE_model_alpaka::", "")
    return re.sub(r"^ByItem<(.*?)\s*>$", r"\1", own)
