"""Files are opened in child processes, which may take so much memory and time and no more."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from tests.forks import Forks

PROJECT = Path(__file__).resolve().parents[2]
# Address space: what bombs want is far more. Cling is not loaded in these.
MEMORY = 3 * 2**30
SECONDS = 60

_OPEN = """
import sys
import sofie_rdf
from sofie_rdf.errors import SofieError
try:
    model = sofie_rdf.load(sys.argv[1], limits=sys.argv[2] or None)
    model.emission
except SofieError as error:
    print(type(error).__name__, error)
else:
    print("emitted")
"""


def opened(
    path: Path, limits: str = "", *, code: str = _OPEN, seconds: float = SECONDS, cpu: int = 0
) -> str:
    """What becomes of a file: the name and text of our error, or ``emitted``.

    AssertionError for any other end: another exception, a crash, too much time, or too many
    seconds of a core where ``cpu`` says how many there are.
    """
    done = run(code, str(path), limits, seconds=seconds, cpu=cpu)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def run(
    code: str, *arguments: str, seconds: float = SECONDS, cpu: int = 0
) -> subprocess.CompletedProcess[str]:
    return _forks().run(code, *arguments, seconds=seconds, memory=MEMORY, cpu=cpu)


@cache
def _forks() -> Forks:
    """Of a process that has emitted a model: what that imports is in it."""
    environment = {k: v for k, v in os.environ.items() if k != "SOFIE_RDF_LIMITS"}
    environment |= {"PYTHONPATH": str(PROJECT), "SOFIE_RDF_CACHE": "off", "OMP_NUM_THREADS": "1"}
    environment |= {"OPENBLAS_NUM_THREADS": "1"}
    higgs = str(PROJECT / "data" / "higgs.onnx")
    return Forks(f"import sofie_rdf; sofie_rdf.load({higgs!r}).emission", environment)
