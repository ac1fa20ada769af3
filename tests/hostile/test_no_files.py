"""What can be opened and is no file: a pipe is waited for, and a device may have no end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import sofie_rdf as sofie
from sofie_rdf.ir import rootfile
from sofie_rdf.ir.dims import symbol
from tests.frontends.test_normalization import same
from tests.hostile.child import PROJECT, opened
from tests.hostile.test_bombs import model, node

MACRO = """
import ROOT, sys
ROOT.gInterpreter.AddIncludePath(sys.argv[1])
ROOT.gInterpreter.Declare('#include "sofie/rdf/stored.hxx"')
try:
    ROOT.sofie.StoredFile(sys.argv[2])
except Exception as error:
    print(error)
"""
READERS: dict[str, Callable[[Path], Any]] = {
    "load": sofie.load,
    "from_onnx": sofie.from_onnx,
    "from_xgboost": sofie.from_xgboost,
    "from_keras": sofie.from_keras,
    "a normalisation": lambda path: same(x=(symbol("N"), 2)).normalized(path),
    "names": rootfile.names,
    "trust": sofie.trust,
}


@pytest.fixture(params=["pipe", "device", "link"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    found = tmp_path / "model.onnx"
    if request.param == "pipe":
        os.mkfifo(found)
    elif request.param == "device":
        found.symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / "pipe")
        found.symlink_to("pipe")
    return found


@pytest.mark.parametrize("reader", READERS)
def test_pipes_and_devices_are_refused(reader: str, path: Path) -> None:
    with pytest.raises(sofie.ModelError, match=r"no file, but a pipe or a device\. Copy"):
        READERS[reader](path)


def test_check_says_so(path: Path) -> None:
    (problem,) = sofie.check(path)
    assert "a pipe or a device" in str(problem)


def test_weights_beside_a_model(path: Path, tmp_path: Path) -> None:
    """onnx itself refuses them; in a process that would be ended."""
    proto = model([node("Add", ["x", "w"], ["y"])], constants={"w": [1.0, 2.0]})
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = 1
    weight.external_data.add(key="location", value=path.name)
    own = tmp_path / "own.onnx"
    own.write_bytes(proto.SerializeToString())
    assert opened(own).startswith("CorruptFile own.onnx")


@pytest.mark.skipif(not find_spec("ROOT"), reason="needs ROOT")
def test_macros_say_so(path: Path) -> None:
    assert "is no file, but a pipe or a device" in run(MACRO, str(PROJECT / "cling"), str(path))


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
