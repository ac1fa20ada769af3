"""The short form of ``make soak``: the same, for less than a minute."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.exhaustive
def test_models_come_and_go_in_threads() -> None:
    """In a process of its own, whose memory nothing else changes."""
    words = "--threads 4 --models 120 --events 5e6 --frames 12 --minutes 8"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.soak", *words.split()],
        cwd=ROOT,
        env={**os.environ, "SOFIE_RDF_CACHE": "off", "SOFIE_RDF_COMPILER": "cling"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
