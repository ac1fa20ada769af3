"""Files that change while they are read: one content or the other, or an error, and no crash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import SofieError
from sofie_rdf.ir import contents

DATA = Path(__file__).resolve().parents[2] / "data"

# A process reads a file; this one makes it shorter and longer meanwhile.
READING = """
import sys
from pathlib import Path
from sofie_rdf.runtime.compile import records
print("reads", flush=True)
while not Path(sys.argv[2]).exists():
    assert records.key_of_file(Path(sys.argv[1])) is not None
"""


def test_a_file_that_is_made_shorter_while_it_is_read(tmp_path: Path) -> None:
    """Where it was mapped, that was a bus error."""
    path, ends = tmp_path / "m.onnx", tmp_path / "ends"
    path.write_bytes(bytes(2**25))
    environment = {**os.environ, "SOFIE_RDF_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", READING, str(path), str(ends)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as reading:
        assert reading.stdout is not None
        assert reading.stdout.readline() == b"reads\n"
        for _ in range(50):
            os.truncate(path, 0)
            os.truncate(path, 2**25)
            time.sleep(0.013)
        ends.touch()
        assert reading.wait(60) == 0


@pytest.mark.parametrize("at", [0, 1, 2**20 - 9, 2**20 - 8, 2**20 - 3, 2**20, 2**21 - 5, 2**21])
def test_a_word_anywhere_in_a_file(tmp_path: Path, at: int) -> None:
    """It is read piece by piece."""
    (tmp_path / "f").write_bytes(bytes(at) + b"location" + bytes(5))
    assert contents.holds(tmp_path / "f", b"location")
    (tmp_path / "f").write_bytes(bytes(at) + b"locatio" + bytes(2**20))
    assert not contents.holds(tmp_path / "f", b"location")


@pytest.mark.parametrize(
    ("one", "other"), [("higgs.onnx", "jet_energy.onnx"), ("higgs.onnx", "higgs.keras")]
)
def test_a_file_that_is_replaced_is_one_or_the_other(
    one: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a new file, and in its place; with the cache."""
    monkeypatch.setenv("SOFIE_RDF_CACHE", str(tmp_path / "cache"))
    path, ends = tmp_path / "m", threading.Event()

    def replace() -> None:
        while not ends.wait(0.002):
            for source in (one, other):
                shutil.copy(DATA / source, tmp_path / "new")
                (tmp_path / "new").replace(path)
            shutil.copyfile(DATA / one, path)

    wanted = {_checksum(DATA / one), _checksum(DATA / other)}
    shutil.copy(DATA / one, path)
    thread = threading.Thread(target=replace)
    thread.start()
    found = set()
    try:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            with suppress(SofieError):
                found.add(_checksum(path))
    finally:
        ends.set()
        thread.join()
    assert found
    assert found <= wanted


def _checksum(path: Path) -> tuple[object, ...]:
    graph = sofie.load(path).graph
    kinds = sorted(type(node.op).__name__ for node in graph.nodes)
    return (*kinds, *sorted(array.tobytes() for array in graph.constants.values()))
