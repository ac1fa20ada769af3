"""Real models of CMS and of SOFIE's benchmark on devices, beside onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sofie_rdf.devices.program import problems_on_device, program_for
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate
from tests.choice import some_of
from tests.conformance import real
from tests.conformance.examples import feeds, rounds
from tests.conformance.test_real import QUICK, found
from tests.devices import real as measured
from tests.devices.harness import SANITIZED, WAYS, Compiled, compiled_programs, require

ALL = bool(os.environ.get("SOFIE_RDF_ALL_KERNELS"))
# The network of another file, for so many events at a time that it takes ten minutes.
LONG = ("Conv_d100_L14_B32",)
# What no device runs: random numbers, sizes that the data decide, and others.
REFUSED = "RandomNormal", "RandomUniform", "RangeFloat", "RangeInt"


def _together(files: Sequence[Path], count: int) -> list[list[Path]]:
    """So many networks are one binary."""
    return [list(files[i : i + count]) for i in range(0, len(files), count)]


def _groups() -> list[list[Path]]:
    files = real.files()
    if not ALL:
        return _together([f for f in files if f.stem in QUICK and f.parent.name != "sofie"], 3)
    files = [f for f in files if f.stem not in (*LONG, *REFUSED)]
    # The tests of SOFIE have an operator or two each.
    small = [f for f in files if f.parent.name == "sofie"]
    return _together([f for f in files if f not in small], 4) + _together(small, 18)


GROUPS = _groups() or [[]]
# Those of CMS and of SOFIE's benchmark are measured on all adapters by `tests.devices.real`.
SMALL = [g for g in GROUPS if g and g[0].parent.name == "sofie"] if ALL else GROUPS[:1]


def _label(files: object) -> str:
    return f"{files[0].stem}-{len(files)}" if isinstance(files, list) and files else str(files)


def compare(
    files: Sequence[Path], way: str, folder: Path, flags: tuple[str, ...], seeds: range
) -> None:
    """All sizes, masks and paddings on one Session each, for each order of work-items."""
    require(WAYS[way])
    pytest.importorskip("onnxruntime")
    if not files:
        pytest.skip("no models: SOFIE_RDF_MODELS names no folder with .onnx files")
    subjects = [real.Subject(file) for file in files]
    programs = [program_for(subject.graph) for subject in subjects]
    for subject, program in zip(
        subjects, compiled_programs(programs, WAYS[way], folder, flags), strict=True
    ):
        batches = list(measured.answered(subject)) or list(_evaluated(subject))
        assert len(batches) >= 3
        for seed in seeds:
            results = program.run([(sizes, inputs) for sizes, inputs, _ in batches], seed)
            row = real.Row(subject.file.stem)
            for (sizes, inputs, answer), result in zip(batches, results, strict=True):
                real.compare(subject, inputs, (result, answer), row, f"{sizes}, order {seed}")
            assert not row.wrong


def _evaluated(
    subject: real.Subject,
) -> Iterator[tuple[Mapping[str, int], dict[str, Array], dict[str, Array]]]:
    """The same as `answered` by the reference, for what onnxruntime takes for no models."""
    for one in rounds(subject.graph, subject.family):
        inputs = feeds(subject.graph, one, subject.scale)
        yield one.sizes, inputs, evaluate(subject.graph, inputs)


@pytest.mark.exhaustive
@pytest.mark.parametrize("files", GROUPS, ids=_label)
def test_models_on_the_serial_adapter(files: list[Path], tmp_path: Path) -> None:
    compare(files, "serial", tmp_path, ("-O1", *SANITIZED), range(2))


@pytest.mark.exhaustive
@pytest.mark.parametrize("way", ["alpaka-serial", "alpaka-omp", "sycl"])
@pytest.mark.parametrize("files", SMALL, ids=_label)
def test_models_on_other_adapters(files: list[Path], way: str, tmp_path: Path) -> None:
    # Compilers need most of the time: 10 s for four networks without optimization.
    compare(files, way, tmp_path, ("-O0",), range(3 if way == "sycl" else 1))


@pytest.mark.parametrize("adapter", some_of(measured.ADAPTERS, ["serial"]))
def test_the_table_of_models_and_adapters(
    adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(WAYS[adapter])
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(measured, "OUT", tmp_path)
    file = found("SimpleNN_Alice")
    outcome = measured.measure(file, adapter)
    assert not outcome.wrong
    assert (outcome.calls, outcome.orders) == (outcome.possible, measured.ADAPTERS[adapter])
    assert outcome.calls >= 3 and outcome.deviation <= real.LIMIT
    # It is compiled once; no time is one call; a number that is a little wrong is seen.
    outcome = measured.measure(file, adapter, 0)
    assert (outcome.compiling, outcome.calls, outcome.wrong) == (0, 1, [])
    ours = Compiled.run_within

    def wrong(self: Compiled, *what: Any) -> list[dict[str, Array]]:
        return [
            {name: array * np.float32(1.0001) for name, array in one.items()}
            for one in ours(self, *what)
        ]

    monkeypatch.setattr(Compiled, "run_within", wrong)
    outcome = measured.measure(file, adapter)
    assert outcome.wrong and "**FAILED**" in "\n".join(measured.lines([outcome]))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_device_runs_is_refused_by_name(name: str) -> None:
    (problem,) = problems_on_device(real.Subject(found(name)).graph, "alpaka")
    assert f"{name}.onnx: node " in str(problem)
