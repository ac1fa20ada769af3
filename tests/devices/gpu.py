"""`make gpu`: the numbers and times of networks on a GPU, beside ONNX Runtime's CUDA provider.

It needs an NVIDIA GPU, nvcc, the headers of alpaka 3 in SOFIE_RDF_ALPAKA, and the package
onnxruntime-gpu for its column. `--on alpaka-serial` tries the same programs on a CPU.
It was never run on a GPU.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from sofie_rdf.bench.models import BUILT_IN, Candidate, FreeSizes, feeds_for, sizes_for
from sofie_rdf.bench.paper import GPUS, paper_of
from sofie_rdf.cli.tables import time_text
from sofie_rdf.devices.program import Program, program_for
from sofie_rdf.devices.session import emit_program
from sofie_rdf.devices.spelling import Spelling
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate
from tests.devices.harness import CUDA, WAYS, Compiled, Way, compile_program, compiled_program

BATCHES = (1, 64, 4096)
# Values of all inputs and outputs, which a reference of NumPy computes in seconds.
BEARABLE = 3e8


def main() -> int:
    """Print a line for each network and batch; 1 if numbers differ."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("networks", nargs="*", default=list(BUILT_IN), help="those of the bench")
    parser.add_argument("--on", choices=("cuda", *WAYS), default="cuda")
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    way = {**WAYS, "cuda": CUDA}[arguments.on]
    wrong = 0
    titles = "network", "batch", "ours", "CUDA provider", f"{GPUS[0].name}, at least"
    _say("{:24} {:>6} {:>10} {:>14} {:>15}".format(*titles))
    for name in arguments.networks:
        for line, is_right in _lines(BUILT_IN[name](), way, arguments.rounds):
            _say(line)
            wrong += not is_right
    return wrong > 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _lines(candidate: Candidate, way: Way, rounds: int) -> Iterator[tuple[str, bool]]:
    """A line for each batch, and whether the numbers are right."""
    graph = candidate.model.graph
    program = program_for(graph)
    with tempfile.TemporaryDirectory() as folder:
        tested = compiled_program(program, way, Path(folder) / "numbers", ("-O3",))
        clock = _timed(program, way, Path(folder) / "times")
        for batch in BATCHES:
            sizes = sizes_for(graph, batch, FreeSizes())
            paper = paper_of(program, sizes)
            if paper.flops > BEARABLE * 100 and way is not CUDA:
                continue
            feeds = feeds_for(graph, sizes)
            is_right = paper.flops > BEARABLE * 100 or _agrees(tested, sizes, feeds)
            ours = _seconds(clock, tested.weights, sizes, rounds)
            peer = _provider(candidate, feeds, rounds) if way is CUDA else None
            least = time_text(paper.least(GPUS[0]))
            theirs = time_text(peer) if peer else "-"
            verdict = "" if is_right else "  DIFFERS"
            about = f"{candidate.name:24} {batch:6} {time_text(ours):>10} {theirs:>14}"
            yield f"{about} {least:>15}{verdict}", is_right


def _agrees(tested: Compiled, sizes: Mapping[str, int], feeds: Mapping[str, Array]) -> bool:
    (found,) = tested.run([(sizes, feeds)])
    wanted = evaluate(tested.program.graph, feeds)
    return all(np.allclose(found[o], wanted[o], rtol=1e-3, atol=1e-5) for o in found)


_CLOCK = """
#include "model.hxx"
#include <chrono>
#include <cstdio>
#include <cstdlib>

int main(int, char **words)
{{
   [[maybe_unused]] const unsigned seed = 0;
{start}   const int rounds = std::atoi(words[2]);
   [[maybe_unused]] const sofie::device::Index sizes[] = {{{sizes}0}};
   {namespace}::Session session(adapter, words[1]{passed});
   using Adapter = std::remove_const_t<decltype(adapter)>;
{arrays}   const auto call = [&] {{ session.infer(queue{arguments}{passed}); }};
   std::vector<char> one(1);
   sofie::device::Staged<Adapter, char> fence(adapter, 1);
   for (int i = 0; i < 20; ++i)
      call();
   fence.to(queue, one); // It waits.
   const auto begin = std::chrono::steady_clock::now();
   for (int i = 0; i < rounds; ++i)
      call();
   fence.to(queue, one);
   const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
   std::printf("%.9g\\n", taken.count() / rounds);
}}
"""


def _timed(program: Program, way: Way, folder: Path) -> Path:
    """A program that prints the seconds of a call, on inputs of zeros, on the device."""
    emission = emit_program(program, way.target, "model", "model.dat")
    folder.mkdir()
    (folder / "model.hxx").write_text(emission.header)
    spelling = Spelling(program)
    count = len(spelling.sizes)
    passed = "".join(f", sizes[{i}]" for i in range(count))
    named = [
        f"   [[maybe_unused]] const auto {s} = sizes[{i}];\n"
        for i, s in enumerate(spelling.sizes.values())
    ]
    arrays = []
    for i, port in enumerate(spelling.ports):
        cxx, size = port.type.dtype.cxx, spelling.size(port.type.size)
        host = "unsigned char" if cxx == "bool" else cxx
        arrays += [
            f"   const std::vector<{host}> host{i}(static_cast<std::size_t>({size}));\n",
            f"   sofie::device::Staged<Adapter, {cxx}> at{i}(adapter, host{i}.size());\n",
            f"   at{i}.from(host{i});\n",
        ]
    text = _CLOCK.format(
        start=way.start,
        sizes="".join(f"std::atoll(words[{3 + i}]), " for i in range(count)),
        namespace=emission.namespace,
        passed=passed,
        arrays="".join(named + arrays),
        arguments="".join(f", at{i}.array()" for i in range(len(spelling.ports))),
    )
    (folder / "main.cpp").write_text(text)
    compile_program(way, folder, ("-O3",))
    return folder / "program"


def _seconds(clock: Path, weights: Path, sizes: Mapping[str, int], rounds: int) -> float:
    command = [str(clock), str(weights), str(rounds), *map(str, sizes.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    return float(done.stdout)


def _provider(candidate: Candidate, feeds: Mapping[str, Array], rounds: int) -> float | None:
    """The seconds of a call of ONNX Runtime whose inputs and outputs stay on the GPU."""
    import onnxruntime as ort

    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return None
    source = candidate.source if isinstance(candidate.source, bytes) else str(candidate.source)
    session = ort.InferenceSession(source, providers=["CUDAExecutionProvider"])
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, "cuda", 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cuda")
    taken = 0.0
    for calls in (20, rounds):  # The first ones are not counted.
        begin = time.perf_counter()
        for _ in range(calls):
            session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        taken = time.perf_counter() - begin
    return taken / rounds


if __name__ == "__main__":
    sys.exit(main())
