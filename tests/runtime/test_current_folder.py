"""What lies in the folder where the user stands is not run: neither as Python nor as C++."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sofie_rdf.runtime.compile.library import find_compiler
from tests.choice import some_of

pytest.importorskip("ROOT")

PROJECT = Path(__file__).resolve().parents[2]
HIGGS = PROJECT / "data" / "higgs.onnx"
MODULES = ["json", "runpy", "hashlib", "numpy", "subprocess", "onnx", "sofie_rdf/__init__", "site"]


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A folder with modules and headers that say that they were taken."""
    place = tmp_path / "planted"
    for name in MODULES:
        path = place / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(tmp_path / 'taken')!r}, 'a').write({name!r})\n")
    for header in (PROJECT / "cling" / "sofie").rglob("*.hxx"):
        path = place / header.relative_to(PROJECT / "cling")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#error {header.name} of the current folder was taken\n")
    for name in ("g++", "clang++", "python3"):
        path = place / name
        path.write_text(f"#!/bin/sh\necho {name} >> {tmp_path / 'taken'}\nexit 1\n")
        path.chmod(0o700)
    return place


def run(script: str, planted: Path, **environment: str) -> str:
    """What a script prints that lies elsewhere, for a user who stands in that folder."""
    path = planted.parent / "script.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(path)],
        cwd=planted,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    taken = planted.parent / "taken"
    assert not taken.exists(), taken.read_text()
    return done.stdout


def test_columns_of_a_data_frame(planted: Path) -> None:
    script = (
        "import ROOT, sofie_rdf as s\n"
        f"m = s.load({str(HIGGS)!r})\n"
        "df = m.define(ROOT.RDataFrame(2), 'y', ['0.1 * rdfentry_'] * 7)\n"
        "print(len(df.AsNumpy(['y'])['y']))\n"
    )
    assert run(script, planted, SOFIE_RDF_COMPILER="cling", SOFIE_RDF_CACHE="off") == "2\n"


@pytest.mark.skipif(find_compiler() is None, reason="needs a compiler")
def test_the_builder_in_the_background(planted: Path) -> None:
    cache = planted.parent / "cache"
    script = (
        "import numpy as np, sofie_rdf as s\n"
        f"print(s.load({str(HIGGS)!r}, compiler='auto')(np.zeros((1, 7), 'f4')).shape)\n"
    )
    path = os.pathsep.join([".", "", os.environ["PATH"]])
    assert run(script, planted, SOFIE_RDF_CACHE=str(cache), PATH=path) == "(1, 1)\n"
    until = time.monotonic() + 300
    while not list(cache.glob("*.so")) or list(cache.glob("*.job")):
        assert time.monotonic() < until, "no library was built"
        time.sleep(0.2)
    assert not (planted.parent / "taken").exists()
    shown = "print(s.load(" + repr(str(HIGGS)) + ", compiler='auto').compiled.compiler)\n"
    assert "++" in run(f"import sofie_rdf as s\n{shown}", planted, SOFIE_RDF_CACHE=str(cache))


@pytest.mark.parametrize("chosen", some_of([True, False], [False]), ids=["chosen", "found"])
def test_what_macros_ask(planted: Path, chosen: bool) -> None:
    """The Python that is asked imports what is installed."""
    script = (
        "import ROOT\n"
        f"ROOT.gInterpreter.AddIncludePath({str(PROJECT / 'cling')!r})\n"
        "ROOT.gInterpreter.Declare('#include <sofie/rdf/command.hxx>')\n"
        "given = ROOT.std.vector['string'](['kind=onnx', 'file=missing.onnx'])\n"
        "try:\n"
        "    ROOT.sofie.ask('parse', given)\n"
        "except Exception as error:\n"
        "    print(str(error).replace(chr(10), ' '))\n"
    )
    path = os.pathsep.join([".", "", os.environ["PATH"]])
    python = {"SOFIE_RDF_PYTHON": sys.executable} if chosen else {}
    said = run(script, planted, PATH=path, **python)
    assert "No module named" not in said
    assert "Error" in said or "missing.onnx" in said, said
