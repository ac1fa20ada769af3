"""Emitted headers for devices in programs: by CMake, in two queues, and in an RDataFrame."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.devices.program import program_for
from tests.devices import gpu
from tests.devices.harness import ALPAKA, CUDA, WAYS, compiled_program, require
from tests.test_cmake import build, tool_in

REPOSITORY = Path(__file__).resolve().parents[2]
HIGGS = REPOSITORY / "data" / "higgs.onnx"

_CMAKE = """\
sofie_rdf_add_model(analysis higgs.onnx TARGET alpaka)
target_include_directories(analysis SYSTEM PRIVATE {alpaka}/include)
target_compile_options(analysis PRIVATE -Wno-unknown-pragmas)
"""


def test_two_queues_by_cmake(tmp_path: Path) -> None:
    if not shutil.which("cmake"):
        pytest.skip("needs CMake")
    require(WAYS["alpaka-serial"])
    shutil.copy(HIGGS, tmp_path)
    source = (REPOSITORY / "tutorials" / "20_devices.cpp").read_text()
    program = build(tmp_path, source, tool_in(tmp_path), model=_CMAKE.format(alpaka=ALPAKA))
    model = sofie.load(HIGGS)
    weights = tmp_path / "build" / "analysis_models" / "higgs_alpaka.dat"
    # No batch, a part of one, one, and several of which the last is a part.
    for events in (0, 5, 4096, 3 * 4096 + 1):
        x = np.random.default_rng(events).normal(size=(events, 7)).astype(np.float32)
        x.tofile(tmp_path / "x.bin")
        files = (str(tmp_path / name) for name in ("x.bin", "scores.bin"))
        subprocess.run([str(program), str(weights), *files], check=True, timeout=100)
        scores = np.fromfile(tmp_path / "scores.bin", np.float32)
        expected = np.zeros(0, np.float32) if events == 0 else model(x)[:, 0]
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_a_target_that_does_not_exist_is_refused_by_cmake(tmp_path: Path) -> None:
    if not shutil.which("cmake"):
        pytest.skip("needs CMake")
    shutil.copy(HIGGS, tmp_path)
    model = "sofie_rdf_add_model(analysis higgs.onnx TARGET cuda)"
    with pytest.raises(AssertionError, match="TARGET is alpaka or sycl, not cuda"):
        build(tmp_path, "int main() {}", tool_in(tmp_path), model=model)


_COLUMNS = """
#include "higgs_alpaka.hxx"
#include <ROOT/RDataFrame.hxx>
#include <cstdio>
#include <deque>

const auto executor = alpaka::exec::cpuSerial;
using Device = decltype(alpaka::onHost::makeHostDevice());
using Queue = decltype(std::declval<Device>().makeQueue());
using Adapter = sofie::device::Alpaka<Queue, std::remove_const_t<decltype(executor)>>;
using Session = TMVA_SOFIE_higgs_alpaka::Session<Adapter>;

// What a slot needs: nobody else uses its queue and its buffers.
struct Slot {
   Queue queue;
   Session session;
   std::vector<float> score = std::vector<float>(1);
};

int main(int, char **arguments)
{
   ROOT::EnableImplicitMT(2);
   auto device = alpaka::onHost::makeHostDevice();
   const Session first(Adapter(device.makeQueue(), executor), arguments[1], 1);
   ROOT::RDataFrame events(10000);
   std::deque<Slot> slots;
   for (unsigned i = 0; i < events.GetNSlots(); ++i) {
      auto queue = device.makeQueue();
      slots.push_back({queue, Session(Adapter(queue, executor), first.weights(), 1)});
   }
   auto scored = events.DefineSlotEntry("score", [&](unsigned slot, ULong64_t entry) {
      auto &mine = slots[slot];
      const std::vector<float> x(7, static_cast<float>(entry) * 2e-4F);
      mine.session.infer(mine.queue, x, mine.score, 1);
      return mine.score[0];
   });
   auto mean = scored.Mean<float>("score");
   auto largest = scored.Max<float>("score");
   std::printf("%.9g %.9g %llu\\n", *mean, *largest, *scored.Count());
}
"""


@pytest.mark.exhaustive
def test_columns_of_an_rdataframe_on_two_threads(tmp_path: Path) -> None:
    home = Path(pytest.importorskip("ROOT").__file__).parent
    require(WAYS["alpaka-serial"])
    model = sofie.load(HIGGS)
    files = model.emit(tmp_path, target="alpaka")
    (tmp_path / "main.cpp").write_text(_COLUMNS)
    folders = (tmp_path, *files.include, ALPAKA / "include", home / "include")
    names = "Core RIO Tree ROOTDataFrame ROOTVecOps Hist MathCore Imt".split()
    libraries = [str(home / "lib" / f"lib{name}.so") for name in names]
    search = f"-Wl,-rpath-link,{home}/../root.libs"
    command = ["g++", "-std=c++20", "-O1", *(f"-I{f}" for f in folders), "main.cpp", *libraries]
    subprocess.run([*command, search, "-o", "program"], cwd=tmp_path, check=True, timeout=500)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(home / "lib")}
    done = subprocess.run(
        ["./program", str(files.weights)],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=200,
    )
    x = np.repeat(np.arange(10000, dtype=np.float32)[:, None] * np.float32(2e-4), 7, axis=1)
    expected = model(x)[:, 0]
    mean, largest, count = map(float, done.stdout.split())
    assert mean == pytest.approx(expected.mean(dtype="f8"), rel=1e-6)
    assert largest == pytest.approx(expected.max(), rel=1e-5)
    assert count == 10000


@pytest.mark.exhaustive
def test_what_make_gpu_runs_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    """On a GPU it was never run: the same programs on a CPU, and compiled by nvcc."""
    require(WAYS["alpaka-serial"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["gpu", "higgs", "--on", "alpaka-serial", "--rounds", "1"])
        assert gpu.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["higgs", n] for n in ("1", "64", "4096")]
    assert "DIFFERS" not in "".join(lines)


@pytest.mark.exhaustive
def test_what_make_gpu_runs_is_compiled_by_nvcc(tmp_path: Path) -> None:
    require(CUDA)
    program = program_for(sofie.load(HIGGS).graph)
    compiled_program(program, CUDA, tmp_path / "numbers")
    gpu._timed(program, CUDA, tmp_path / "times")
    assert (tmp_path / "numbers" / "program").is_file()
    assert (tmp_path / "times" / "program").is_file()
