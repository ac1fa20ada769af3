"""Real models of CMS and of SOFIE's benchmark on devices, beside onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sofie_rdf.devices.program import program_for
from tests.conformance import real
from tests.conformance.examples import edges, feeds, rounds
from tests.conformance.test_real import QUICK, found
from tests.devices.harness import WAYS, compiled_program, require

ALL = bool(os.environ.get("SOFIE_RDF_ALL_KERNELS"))
# The network of another file, for so many events at a time that it takes ten minutes.
LONG = ("Conv_d100_L14_B32",)
FOUND = [f.stem for f in real.files() if f.parent.name != "sofie" and f.stem not in LONG]
FILES = FOUND if ALL else list(QUICK)
# On a CPU, an index that is out of range, and a number that overflows, end the program.
SANITIZED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compare(name: str, way: str, folder: Path, flags: tuple[str, ...], seeds: range) -> None:
    """All sizes, masks and paddings on one Session, for each order of work-items."""
    require(WAYS[way])
    pytest.importorskip("onnxruntime")
    subject = real.Subject(found(name))
    graph = subject.graph
    calls = [*rounds(graph, subject.family), *edges(graph, subject.family)]
    batches = []
    for one in calls:
        inputs = feeds(graph, one, subject.scale)
        answer = None if subject.is_deadly(one) else subject.answer(inputs)
        if answer is not None:
            batches.append((one.sizes, inputs, answer))
    assert len(batches) >= 3
    program = compiled_program(program_for(graph), WAYS[way], folder, flags)
    for seed in seeds:
        results = program.run([(sizes, inputs) for sizes, inputs, _ in batches], seed)
        row = real.Row(name)
        for (sizes, inputs, answer), result in zip(batches, results, strict=True):
            real.compare(subject, inputs, (result, answer), row, f"{sizes}, order {seed}")
        assert not row.wrong


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", FILES)
def test_model_on_the_serial_adapter(name: str, tmp_path: Path) -> None:
    compare(name, "serial", tmp_path, SANITIZED, range(2))


@pytest.mark.exhaustive
@pytest.mark.parametrize("way", ["alpaka-serial", "alpaka-omp", "sycl"])
@pytest.mark.parametrize("name", FILES if ALL else FILES[:3])
def test_model_on_other_adapters(name: str, way: str, tmp_path: Path) -> None:
    compare(name, way, tmp_path, ("-O1",), range(3 if way == "sycl" else 1))
