"""Each system call that can fail does once: nothing that the user has is lost, nothing is left.

Saving, emission, conversion, trust, the cache and apply, on files whose calls fail one after the
other (shim.c, run.py), until one run has no call left that failed. What failed is an error of
ours, or with the cache nothing at all; the next attempt works. SOFIE_RDF_FAULTS=all has all errors
for all scenarios, in some ten minutes.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.choice import some_of

PROJECT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
# ROOT writes in one of them, or compiles.
BY_ROOT = ("SaveByRoot", "SaveNewByRoot", "Cache", "CacheFull", "Convert", "Apply")
SCENARIOS = (
    "Save", "SaveNew", "SaveNtuple", "SaveByRoot", "SaveNewByRoot", "Emit", "EmitRoot",
    "EmitHeader", "Convert", "Trust", "Cache", "CacheFull", "Built", "Apply",
)  # fmt: skip
# The error, and whether each later call that needs space fails as well.
FAULTS = {
    "once": (errno.EIO, 0),
    "denied": (errno.EACCES, 0),
    "full once": (errno.ENOSPC, 0),
    "full": (errno.ENOSPC, 1),
}
FEW = [
    ("Save", "once"),
    ("SaveNew", "full"),
    ("SaveByRoot", "once"),
    ("EmitRoot", "once"),
    ("Convert", "full"),
    ("Trust", "once"),
    ("Cache", "once"),
    ("CacheFull", "denied"),
    ("Built", "full"),
    ("Apply", "once"),
    ("Apply", "full"),
]
ALL = [(scenario, fault) for scenario in SCENARIOS for fault in FAULTS]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and Linux's LD_PRELOAD")
    built = tmp_path_factory.mktemp("shim") / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, str(HERE / "shim.c"), "-o", str(built), "-ldl"], check=True)
    return built


@pytest.mark.parametrize(
    ("scenario", "fault"),
    some_of(ALL if os.environ.get("SOFIE_RDF_FAULTS") == "all" else FEW, FEW[:1]),
)
def test_each_call_fails_once(tmp_path: Path, shim: Path, scenario: str, fault: str) -> None:
    if scenario in BY_ROOT:
        pytest.importorskip("ROOT")
    if scenario == "Built" and shutil.which("g++") is None:
        pytest.skip("there is no g++")
    beside, below = tmp_path / "beside", tmp_path / "below"
    beside.mkdir()
    environment = {
        **os.environ,
        "LD_PRELOAD": str(shim),
        "FAULTS_BESIDE": str(beside),
        "SOFIE_RDF_CACHE": "off",
        "SOFIE_RDF_COMPILER": "cling",
        "XDG_CONFIG_HOME": str(beside),
        "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
    }
    number, stays = FAULTS[fault]
    command = [str(HERE / "run.py"), scenario, str(below), str(number), str(stays), "2000"]
    done = subprocess.run(
        [sys.executable, *command],
        env=environment, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    lines = [line for line in done.stdout.splitlines() if not line.startswith("/")]
    assert lines[-1] == "all"
    failed = Counter(line.split()[0] for line in lines[:-1])
    assert failed or (scenario, fault) == ("CacheFull", "full")
