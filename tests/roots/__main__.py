"""``python -m tests.roots [0.1a8 ...]``: tests that need ROOT, with other versions of it.

Each version's wheel is installed into an environment of its own, ``.venv/roots/``, and runs
`TESTS`. What these need beside ROOT is what the core needs, and pytest. With ``--short`` it is one
version and `SHORT`, which takes a minute or two: continuous integration runs that.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

# 6.37, 6.39 and 6.38: the wheels on PyPI before the one with which all tests run, 6.40.
VERSIONS = ("0.1a8", "0.1a9", "0.1a10")
PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6")
# Where code meets ROOT: columns of all types, Cling, .root files, macros, libraries, SOFIE's words.
TESTS = (
    "dataframe",
    "interpreter",
    "library",
    "moved_root",
    "objects",
    "random",
    "reader",
    "rootio",
    "sources",
    "stored",
    "threads",
)
SHORT = ("objects", "rootio", "moved_root")


def environment(version: str) -> Path:
    """The Python that has this version, which is installed if it is not there."""
    folder = PROJECT / ".venv" / "roots" / version
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, f"root=={version}", "-e", str(PROJECT), *PACKAGES], check=True)
        (folder / "ready").touch()
    return python


def main(arguments: list[str]) -> int:
    """0 where all tests pass with all versions."""
    parser = argparse.ArgumentParser("python -m tests.roots", description=__doc__)
    parser.add_argument("version", nargs="*", help=f"of the package root, by default {VERSIONS}")
    parser.add_argument(
        "--short", action="store_true", help="a few tests, with the newest of these"
    )
    given = parser.parse_args(arguments)
    names = SHORT if given.short else TESTS
    failed = []
    for version in given.version or (VERSIONS[-1:] if given.short else VERSIONS):
        python = environment(version)
        sys.stdout.write(f"root {version}\n")
        sys.stdout.flush()
        files = [f"tests/runtime/test_{name}.py" for name in names]
        files += [] if given.short else ["tests/tmva/test_words.py"]
        command = [str(python), "-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal", *files]
        if subprocess.run(command, cwd=PROJECT, check=False).returncode:
            failed.append(version)
    sys.stdout.write(f"failed with {', '.join(failed)}\n" if failed else "passed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
