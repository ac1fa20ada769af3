"""``run("check", file)``: a command of `sofie-rdf` in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from sofie_rdf.cli import main

DATA = Path(__file__).resolve().parents[2] / "data"
HIGGS = DATA / "higgs.onnx"


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture(scope="module", autouse=True)
def _unoptimized(unoptimized: None) -> None:
    """All of this folder."""


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*argv: object) -> Result:
        try:
            code = main([str(a) for a in argv])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return call
