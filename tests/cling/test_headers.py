"""All headers in one translation unit: a network may need any of them beside any other."""

from __future__ import annotations

import subprocess
from itertools import product
from pathlib import Path

import pytest

from tests.choice import some_of

CLING = Path(__file__).parents[2] / "cling"
HEADERS = sorted(
    str(header.relative_to(CLING))
    for header in (CLING / "sofie").rglob("*.hxx")
    if header.relative_to(CLING / "sofie").parts[0] not in ("device", "rdf")
)
WARNINGS = ["-Wall", "-Wextra", "-Werror"]


@pytest.mark.parametrize(
    ("flags", "backwards"),
    some_of(
        product(["", "-mavx2 -mfma", "-march=skylake-avx512"], [False, True]),
        [("", True), ("-mavx2 -mfma", True), ("-march=skylake-avx512", False)],
    ),
)
def test_all_headers_go_together(flags: str, backwards: bool) -> None:
    order = reversed(HEADERS) if backwards else HEADERS
    text = "".join(f'#include "{header}"\n' for header in order)
    command = [
        "g++",
        "-std=c++17",
        "-fsyntax-only",
        *WARNINGS,
        *flags.split(),
        "-I",
        str(CLING),
        "-x",
        "c++",
        "-",
    ]
    found = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-3000:]
