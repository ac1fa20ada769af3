"""Our own modules in a new process of Python, where the current folder decides nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sofie_rdf.isolation import search_path

__all__ = ["command"]

# `python -m` would look for this package, and for those of Python itself, in the current folder
# first, and PYTHONPATH may name it. Python's own modules stay in front of those in the folders.
_START = (
    "import json, runpy, sys; "
    "sys.path += [p for p in json.loads(sys.argv.pop(1)) if p not in sys.path]; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def command(module: str, *arguments: str) -> list[str]:
    """What starts this module of ours with these arguments, and finds what is found here."""
    package = str(Path(__file__).resolve().parents[3])
    path = json.dumps([*search_path(), package])
    return [sys.executable, "-I", "-c", _START, path, module, *arguments]
