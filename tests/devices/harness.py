"""Programs around emitted headers for devices: compiled by g++, fed from files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sofie_rdf.devices.program import Program, program_for
from sofie_rdf.devices.session import emit_program
from sofie_rdf.devices.targets import TARGETS
from sofie_rdf.emit.code import include_directory
from sofie_rdf.ir.dims import evaluate
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, concrete

THIRD_PARTY = Path(__file__).resolve().parents[3] / "shared" / "third_party"
ALPAKA = Path(os.environ.get("SOFIE_RDF_ALPAKA", THIRD_PARTY / "alpaka"))
# A folder with include/ and lib/libsimsycl.a, as its build script makes it.
SIMSYCL = Path(os.environ.get("SOFIE_RDF_SIMSYCL", "/usr/local"))
# Where AdaptiveCpp is installed, with its back end for OpenMP.
ADAPTIVECPP = Path(os.environ.get("SOFIE_RDF_ADAPTIVECPP", "/usr/local"))

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Way:
    """One adapter, and how a program with it is compiled."""

    name: str
    target: str
    # How the queue and the adapter are made.
    start: str
    flags: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    compiler: str = "g++"


# On a CPU, an index that is out of range, and a number that overflows, end the program.
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SERIAL_FLAGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
_ALPAKA = """   auto device = alpaka::onHost::makeHostDevice();
   auto queue = device.makeQueue();
   const sofie::device::Alpaka adapter(queue, alpaka::exec::{});
"""
_CUDA = """   auto device = alpaka::onHost::makeDeviceSelector(
      alpaka::onHost::DeviceSpec{alpaka::api::cuda, alpaka::deviceKind::nvidiaGpu}).makeDevice(0);
   auto queue = device.makeQueue();
   const sofie::device::Alpaka adapter(queue, alpaka::exec::gpuCuda);
"""
_SYCL = """   sycl::queue queue(sycl::property::queue::in_order{{}});
   const sofie::device::{} adapter(queue);
"""
_SIMSYCL = (f"-I{SIMSYCL}/include",), (f"{SIMSYCL}/lib/libsimsycl.a", "-lboost_context")
WAYS = {
    way.name: way
    for way in (
        Way(
            "serial",
            "serial",
            "   sofie::device::Serial::Queue queue;\n"
            "   const sofie::device::Serial adapter(queue, seed);\n",
            SERIAL_FLAGS,
        ),
        Way("alpaka-serial", "alpaka", _ALPAKA.format("cpuSerial"), (f"-I{ALPAKA}/include",)),
        Way(
            "alpaka-omp",
            "alpaka",
            _ALPAKA.format("cpuOmpBlocks"),
            (f"-I{ALPAKA}/include", "-fopenmp"),
        ),
        Way("sycl", "sycl", _SYCL.format("Sycl"), *_SIMSYCL),
        Way("sycl-buffers", "sycl", _SYCL.format("SyclBuffers"), *_SIMSYCL),
        Way(
            "adaptivecpp",
            "sycl",
            _SYCL.format("Sycl"),
            ("--acpp-targets=omp",),
            compiler=str(ADAPTIVECPP / "bin" / "acpp"),
        ),
    )
}
# For whoever has a GPU: tests compile it, `gpu` runs it.
CUDA = Way(
    "cuda",
    "alpaka",
    _CUDA,
    (f"-I{ALPAKA}/include", *"-x cu --expt-relaxed-constexpr --extended-lambda".split()),
    compiler="nvcc",
)


def environment_of(seed: int) -> dict[str, str]:
    """Of programs: the order of work-items in SimSYCL, and the threads of OpenMP."""
    return {**os.environ, "SIMSYCL_SCHEDULE": f"shuffle:{seed}", "OMP_NUM_THREADS": "2"}


def missing(way: Way) -> str:
    """What its programs need and is not there, or nothing."""
    if not shutil.which(way.compiler):
        needed = f"needs {Path(way.compiler).name}"
        own = ", which is not in SOFIE_RDF_ADAPTIVECPP/bin" if needed.endswith("acpp") else ""
        return needed + own
    if way.target == "alpaka" and not (ALPAKA / "include" / "alpaka" / "alpaka.hpp").is_file():
        return "SOFIE_RDF_ALPAKA is not a folder with alpaka 3"
    if _SIMSYCL[1] == way.libraries and not (SIMSYCL / "lib" / "libsimsycl.a").is_file():
        return "SOFIE_RDF_SIMSYCL is not a folder with SimSYCL"
    return ""


def require(way: Way) -> None:
    """Skips where the compiler or the library is not there."""
    why = missing(way)
    if why:
        pytest.skip(why)


_MAIN = """
#include <cstdio>
#include <cstdlib>
#include <exception>

template <class T>
std::vector<T> taken(std::FILE *file)
{
   std::uint64_t size = 0;
   if (std::fread(&size, sizeof size, 1, file) != 1)
      std::exit(3);
   std::vector<T> found(static_cast<std::size_t>(size));
   if (size && std::fread(found.data(), sizeof(T), found.size(), file) != found.size())
      std::exit(3);
   return found;
}

template <class T>
void given(std::FILE *file, const std::vector<T> &values)
{
   if (!values.empty())
      std::fwrite(values.data(), sizeof(T), values.size(), file);
}
"""


@dataclass(frozen=True)
class Compiled:
    """A program that evaluates a network for one batch after another on one Session."""

    program: Program
    binary: Path
    weights: Path
    # Which of the networks in the binary it is.
    number: int = 0

    def run(
        self, batches: Sequence[tuple[Sizes, Mapping[str, Array]]], seed: int = 0
    ) -> list[dict[str, Array]]:
        """The outputs of each batch."""
        found = self.run_within(batches, seed, 900)
        assert len(found) == len(batches), "the program took more than 15 minutes"
        return found

    def run_within(
        self, batches: Sequence[tuple[Sizes, Mapping[str, Array]]], seed: int, seconds: float
    ) -> list[dict[str, Array]]:
        """The outputs of the batches that were done in this time."""
        folder = self.binary.parent
        graph = self.program.graph
        with (folder / "in").open("wb") as file:
            for sizes, feeds in batches:
                file.write(np.array([sizes[s] for s in graph.symbols], "<i8").tobytes())
                for name in graph.inputs:
                    array = np.ascontiguousarray(feeds[name], graph.types[name].dtype.numpy)
                    file.write(np.uint64(array.size).tobytes() + array.tobytes())
        (folder / "out").write_bytes(b"")
        most = [str(max(1, *(sizes[s] for sizes, _ in batches))) for s in graph.symbols]
        numbers = str(len(batches)), str(seed), *most
        command = [str(self.binary), str(self.number), str(self.weights), *numbers]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment_of(seed),
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return self._results((folder / "out").read_bytes(), batches)
        assert done.returncode == 0, done.stderr[-3000:]
        raw = (folder / "out").read_bytes()
        found = self._results(raw, batches)
        assert len(raw) == sum(array.nbytes for one in found for array in one.values())
        return found

    def _results(
        self, raw: bytes, batches: Sequence[tuple[Sizes, Mapping[str, Array]]]
    ) -> list[dict[str, Array]]:
        """The arrays in the file of results, of the batches that are whole."""
        graph, begin = self.program.graph, 0
        found: list[dict[str, Array]] = []
        for sizes, _ in batches:
            one = {}
            for name in graph.outputs:
                type_ = graph.types[name]
                count = evaluate(type_.size, sizes)
                if begin + count * type_.dtype.numpy.itemsize > len(raw):
                    return found
                array = np.frombuffer(raw, type_.dtype.numpy, count, begin)
                one[name] = array.reshape(concrete(type_.shape, sizes))
                begin += array.nbytes
            found.append(one)
        return found


def compiled(
    graph: Graph, way: Way, folder: Path, flags: Sequence[str] = ("-O1",), *, whole: bool = True
) -> Compiled:
    """The program of a graph on one adapter, behind the passes."""
    return compiled_program(program_for(graph), way, folder, flags, whole=whole)


def compiled_program(
    program: Program,
    way: Way,
    folder: Path,
    flags: Sequence[str] = ("-O1",),
    *,
    whole: bool = True,
) -> Compiled:
    """The same for a program as it is; ``whole`` as in `emit_program`."""
    (found,) = compiled_programs([program], way, folder, flags, whole=whole)
    return found


def compiled_programs(
    programs: Sequence[Program],
    way: Way,
    folder: Path,
    flags: Sequence[str] = ("-O1",),
    *,
    whole: bool = True,
) -> list[Compiled]:
    """The same for several, in one binary: a compiler reads the adapter's headers once."""
    require(way)
    found = written_programs(programs, way, folder, whole=whole)
    compile_program(way, folder, flags)
    return found


def written_programs(
    programs: Sequence[Program], way: Way, folder: Path, *, whole: bool = True
) -> list[Compiled]:
    """Their headers, weights and main.cpp, which nobody has compiled yet."""
    folder.mkdir(parents=True, exist_ok=True)
    found, namespaces = [], []
    for i, program in enumerate(programs):
        weights = folder / f"model{i}.dat"
        emission = emit_program(program, way.target, f"model{i}", weights.name, whole=whole)
        (folder / f"model{i}.hxx").write_text(emission.header)
        weights.write_bytes(emission.weights)
        namespaces.append(emission.namespace)
        found.append(Compiled(program, folder / "program", weights, i))
    (folder / "main.cpp").write_text(_source(programs, way, namespaces))
    return found


def compile_program(way: Way, folder: Path, flags: Sequence[str]) -> None:
    """Make the program of main.cpp in a folder."""
    standard = f"-std={TARGETS[way.target].standard}"
    command = [way.compiler, standard, *flags, f"-I{include_directory()}", *way.flags, "main.cpp"]
    command += ["-o", "program", *way.libraries]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[:6000]


def _source(programs: Sequence[Program], way: Way, namespaces: Sequence[str]) -> str:
    lines = [f'#include "model{i}.hxx"' for i in range(len(programs))] + [_MAIN]
    for i, (program, namespace) in enumerate(zip(programs, namespaces, strict=True)):
        lines += [f"static void run{i}(char **words)", "{"]
        lines += [*_body(program.graph, way, namespace), "}"]
    lines += ["int main(int, char **words)", "{", "   switch (std::atoi(words[1])) {"]
    lines += [f"   case {i}: run{i}(words + 1); return 0;" for i in range(len(programs))]
    return "\n".join([*lines, "   default: return 2;", "   }", "}", ""])


def _body(graph: Graph, way: Way, namespace: str) -> list[str]:
    """The statements that evaluate one network."""
    sizes = [f"n{i}" for i in range(len(graph.symbols))]
    lines = ["   const int count = std::atoi(words[2]);"]
    lines += [
        "   [[maybe_unused]] const unsigned seed = static_cast<unsigned>(std::atoi(words[3]));"
    ]
    most = "".join(f", std::atoll(words[{4 + i}])" for i in range(len(sizes)))
    lines += [way.start, f"   {namespace}::Session session(adapter, words[1]{most});"]
    lines += ['   std::FILE *const in = std::fopen("in", "rb");']
    lines += ['   std::FILE *const out = std::fopen("out", "wb");']
    lines += ["   for (int i = 0; i < count; ++i) {"]
    for s in sizes:
        lines += [f"      std::int64_t {s};"]
        lines += [f"      if (std::fread(&{s}, sizeof {s}, 1, in) != 1) std::exit(3);"]
    arguments = ["queue"]
    for i, name in enumerate(graph.inputs):
        lines += [f"      const auto x{i} = taken<{_host(graph, name)}>(in);"]
        arguments.append(f"x{i}")
    for i, name in enumerate(graph.outputs):
        lines += [f"      std::vector<{_host(graph, name)}> y{i};"]
        arguments.append(f"y{i}")
    lines += [f"      session.infer({', '.join([*arguments, *sizes])});"]
    lines += [f"      given(out, y{i});" for i in range(len(graph.outputs))]
    lines += ["      std::fflush(out);"]
    return [*lines, "   }", "   std::fclose(in);", "   std::fclose(out);"]


def _host(graph: Graph, name: str) -> str:
    cxx = graph.types[name].dtype.cxx.replace("sofie::", "sofie::device::")
    return "std::uint8_t" if cxx == "bool" else cxx
