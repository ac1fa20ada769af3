"""A new process of Python that finds this package, and where the current folder decides nothing."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["PACKAGE", "command", "interpreter", "search_path"]

PACKAGE = Path(__file__).resolve().parents[1]

# `python -m` would look for this package, and for those of Python itself, in the current folder
# first, and PYTHONPATH may name it. Another copy of this package may be installed as well. So this
# one is loaded by its path, and Python's own modules stay in front of those in the folders.
_START = (
    "import importlib.util as u, json, runpy, sys; "
    "sys.path += [p for p in json.loads(sys.argv.pop(1)) if p not in sys.path]; "
    "folder = sys.argv.pop(1); "
    "spec = u.spec_from_file_location('sofie_rdf', folder + '/__init__.py',"
    " submodule_search_locations=[folder]); "
    "sys.modules['sofie_rdf'] = package = u.module_from_spec(spec); "
    "spec.loader.exec_module(package); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def command(module: str, *arguments: str) -> list[str]:
    """What starts this module of ours with these arguments, and finds what is found here."""
    path = json.dumps(search_path())
    return [interpreter(), "-I", "-c", _START, path, str(PACKAGE), module, *arguments]


def interpreter() -> str:
    """The Python that runs here, also where a program like root.exe has it inside; else ""."""
    given = Path(sys.executable or "/")
    if given.name.startswith(("python", "pypy")):
        return str(given)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = Path(sys.exec_prefix) / "bin" / version
    return str(found) if found.is_file() else ""


def search_path() -> list[str]:
    """Where modules are found here, but not in the current folder, nor beside a script."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    left_out = set()
    with suppress(OSError):  # The current folder may be gone, to which both may be relative.
        left_out.add(os.path.realpath(os.getcwd()))  # noqa: PTH109
    with suppress(OSError):
        if script:
            left_out.add(os.path.dirname(os.path.realpath(script)))  # noqa: PTH120
    return [p for p in sys.path if os.path.isabs(p) and os.path.realpath(p) not in left_out]  # noqa: PTH117
