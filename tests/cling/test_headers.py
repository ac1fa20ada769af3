"""All headers in one translation unit: a network may need any of them beside any other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CLING = Path(__file__).parents[2] / "cling"
HEADERS = sorted(
    str(f.relative_to(CLING)) for d in ("", "kernels") for f in (CLING / "sofie" / d).glob("*.hxx")
)
WARNINGS = ["-Wall", "-Wextra", "-Werror"]


@pytest.mark.parametrize(
    "flags", [[], ["-mavx2", "-mfma"], ["-march=skylake-avx512"]], ids=" ".join
)
@pytest.mark.parametrize("backwards", [False, True])
def test_all_headers_go_together(flags: list[str], backwards: bool) -> None:
    order = reversed(HEADERS) if backwards else HEADERS
    text = "".join(f'#include "{header}"\n' for header in order)
    command = [
        "g++",
        "-std=c++17",
        "-fsyntax-only",
        *WARNINGS,
        *flags,
        "-I",
        str(CLING),
        "-x",
        "c++",
        "-",
    ]
    found = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-3000:]
