"""The machine's limits, what a network needs, and the least time that follows."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from sofie_rdf.bench import roofline
from sofie_rdf.bench.models import candidate, task_for
from sofie_rdf.bench.roofline import Level, Roofline, Work, cache_sizes, work_of
from sofie_rdf.model import from_onnx
from tests.frontends.models import model, node, value

MACHINE = Roofline(
    100e9, (Level("L1", 1000, 400e9), Level("L2", 10_000, 100e9), Level("memory", 0, 10e9))
)


def test_the_nearest_cache_that_holds_it() -> None:
    found = [MACHINE.level_for(n).name for n in (0, 1000, 1001, 10_000, 10_001, 1e12)]
    assert found == ["L1", "L1", "L2", "L2", "memory", "memory"]


def test_least_time_by_hand() -> None:
    """8 kB of weights from L2, and values of 400 bytes and 2 kB from L1 and L2."""
    work = Work(1000, 8000, (400, 2000), 9900)
    reading = 8000 / 100e9 + 400 / 400e9 + 2000 / 100e9
    assert work.least(MACHINE).seconds == pytest.approx(reading)
    assert work.least(MACHINE).by == "weights from L2"
    assert work.home(MACHINE).name == "L2"
    assert (work.values, work.intensity) == (2400, 1000 / 10_400)


def test_what_sets_the_least_time() -> None:
    busy = Work(1e6, 800, (100,), 900).least(MACHINE)
    assert (busy.seconds, busy.by) == (1e6 / 100e9, "arithmetic")
    assert Work(1, 0, (100_000,), 900).least(MACHINE).by == "values"


def test_how_far_it_is() -> None:
    assert Work(1e6, 0, (), 0).distance(2e-5, MACHINE) == pytest.approx(2)
    # Trees: what they read depends on the data.
    assert Work(0, 800, (100,), 900).least(MACHINE).by == "-"
    assert Work(0, 800, (100,), 900).distance(1.0, MACHINE) is None


def test_json_and_back() -> None:
    work = Work(1000.0, 8000, (400, 2000), 9900)
    assert Work.from_json(work.to_json()) == work
    read = Roofline.from_json(MACHINE.to_json())
    assert read.flops == pytest.approx(MACHINE.flops)
    assert [v.name for v in read.levels] == ["L1", "L2", "memory"]
    assert [v.nbytes for v in read.levels] == [1000, 10_000, 0]
    assert [v.bandwidth for v in read.levels] == pytest.approx([400e9, 100e9, 10e9])


# The machine --------------------------------------------------------------------------------------


def _caches(folder: Path, *caches: tuple[int, str, str]) -> Path:
    for i, cache in enumerate(caches):
        place = folder / f"index{i}"
        place.mkdir(parents=True)
        for name, text in zip(("level", "type", "size"), cache, strict=True):
            (place / name).write_text(f"{text}\n")
    return folder


def test_sizes_of_caches(tmp_path: Path) -> None:
    listed = (1, "Data", "48K"), (1, "Instruction", "64K"), (2, "Unified", "2M")
    found = cache_sizes(_caches(tmp_path, *listed))
    assert found == {"L1": 48 << 10, "L2": 2 << 20}


def test_sizes_of_caches_that_the_system_does_not_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_LEVEL1_DCACHE_SIZE": 65536}.get(name, 0))
    monkeypatch.setattr(
        os, "sysconf_names", {"SC_LEVEL1_DCACHE_SIZE": 1, "SC_LEVEL2_CACHE_SIZE": 2}
    )
    assert cache_sizes(tmp_path) == {"L1": 65536}
    monkeypatch.setattr(os, "sysconf_names", {})
    assert cache_sizes(tmp_path) == {"L1": 32 << 10, "L2": 512 << 10}


def test_the_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number is compared with another one: the machine may do something else meanwhile."""
    monkeypatch.setattr(roofline, "_SECONDS", 1e-4)
    monkeypatch.setattr(roofline, "_TURNS", 2)
    monkeypatch.setattr(roofline, "_MOST_BYTES", 1 << 22)
    monkeypatch.setattr(roofline, "cache_sizes", lambda: {"L1": 32 << 10, "L2": 512 << 10})
    found = roofline.measure()
    assert [level.name for level in found.levels] == ["L1", "L2", "memory"]
    assert 1e8 < found.flops < 1e13
    assert all(1e7 < level.bandwidth < 1e14 for level in found.levels)


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the options are those of x86-64")
@pytest.mark.parametrize("options", [[], ["-mavx2", "-mfma"], ["-mavx512f"]])
def test_the_loops_assemble_for_every_instruction_set(options: list[str], tmp_path: Path) -> None:
    source = tmp_path / "roofline.cxx"
    source.write_text(
        f"{roofline.header()}\n"
        "int main() { return sofie::bench::Roofline::compute_address() == 0; }\n"
    )
    folder = Path(__file__).resolve().parents[2] / "cling"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-c", f"-I{folder}"]
    command = ["g++", *flags, *options, str(source), "-o", str(tmp_path / "roofline.o")]
    subprocess.run(command, check=True)


# The network --------------------------------------------------------------------------------------


def test_the_work_of_a_dense_network() -> None:
    task = task_for(candidate("linear50x10"), 3)
    work = work_of(task.candidate.model, task.sizes)
    assert work.flops == 3 * 10 * 50 * 50 * 2
    assert work.weights == 10 * (50 * 50 + 50) * 4
    # Ten layers that are one: 3 rows go in, and 3 come out.
    assert work.values == 2 * 3 * 50 * 4
    assert work.resident >= work.weights + 2 * 3 * 50 * 4


def test_tables_of_which_a_few_entries_are_read() -> None:
    table = {"table": np.ones((1000, 2), np.float32)}
    made = model([node("Gather", "table x", "y")], [value("x", [5], TensorProto.INT64)], "y", table)
    found = work_of(from_onnx(made), {})
    assert (found.flops, found.weights) == (0, 5 * 2 * 4)
    assert found.steps == (5 * 2 * 4 + 5 * 8,)


def test_what_only_the_data_decide_does_not_count() -> None:
    places = [value("y", None, TensorProto.INT64)]
    made = model([node("NonZero", "x", "y")], {"x": ["N", 3]}, places)
    assert work_of(from_onnx(made), {"N": 4}).values == 4 * 3 * 4
