"""Pages of the tutorials: what each one says, its code, and what it prints and draws when it runs.

A tutorial runs when the site is built, and again when it or its data change. Those that take long
run where SOFIE_RDF_TUTORIALS is set.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Page", "pages"]

_REPOSITORY = Path(__file__).resolve().parents[2]
_FOLDER = _REPOSITORY / "tutorials"
_KEPT = _REPOSITORY / "out" / "docs"
# They take half a minute and more.
_LONG = ("13_dask", "16_fast_simulation", "17_likelihood_fit")
_LANGUAGES = {".py": "python", ".C": "cpp", ".cpp": "cpp", ".hxx": "cpp", ".sub": "ini"}
_PATIENCE = 600


@dataclass(frozen=True)
class Page:
    """A page of Markdown, and its pictures by name."""

    name: str
    text: str
    pictures: dict[str, bytes] = field(default_factory=dict)


def pages() -> Iterator[Page]:
    """A page for each tutorial in Python, and for the demo."""
    for script in (*sorted(_FOLDER.glob("[0-9]*.py")), _FOLDER / "higgs_demo.py"):
        yield _page(script)


def _page(script: Path) -> Page:
    title, about, code = _parts(script.read_text())
    text = [f"# {title}", about, f"```python\n{code}```"]
    pictures: dict[str, bytes] = {}
    if script.stem in _LONG and not os.environ.get("SOFIE_RDF_TUTORIALS"):
        text += ["## Output", f"It takes long: run it with `python tutorials/{script.name}`."]
    else:
        output, pictures = _output(script)
        text += ["## Output", f"```\n{output.strip()}\n```"]
        text += [f"![{Path(name).stem}]({name})" for name in pictures]
    for other in sorted(_FOLDER.glob(f"{script.stem}.*")):
        if other.suffix in _LANGUAGES and other != script:
            text += [f"## {other.name}", f"```{_LANGUAGES[other.suffix]}\n{other.read_text()}```"]
        if other.suffix == ".ipynb":
            text += [f"`tutorials/{other.name}` is the same as a notebook."]
    return Page(script.stem, "\n\n".join(text) + "\n", pictures)


def _parts(source: str) -> tuple[str, str, str]:
    """The title, the rest of the docstring, and the code behind it."""
    tree = ast.parse(source)
    title, _, about = (ast.get_docstring(tree) or "").partition("\n")
    end = tree.body[0].end_lineno or 0
    return title.rstrip("."), about.strip(), "\n".join(source.splitlines()[end:]).strip() + "\n"


def _output(script: Path) -> tuple[str, dict[str, bytes]]:
    """What it prints, and its pictures; kept for the next time that the site is built."""
    kept = _KEPT / f"{script.stem}-{_key(script)}"
    if not kept.is_dir():
        shutil.rmtree(kept, ignore_errors=True)
        _KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_KEPT) as folder:
            _run(script, Path(folder))
            Path(folder).rename(kept)
            Path(folder).mkdir()
    pictures = {f"{script.stem}-{p.name}": p.read_bytes() for p in sorted(kept.glob("out/*.png"))}
    return json.loads((kept / "output.json").read_text()), pictures


def _run(script: Path, folder: Path) -> None:
    command = [sys.executable, "-W", "ignore::UserWarning:ROOT", str(script)]
    search = os.pathsep.join(filter(None, (str(_REPOSITORY), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": search, "MPLBACKEND": "agg"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_PATIENCE
    )
    if done.returncode:
        raise RuntimeError(f"{script.name} ends with {done.returncode}:\n{done.stderr}")
    output = done.stdout.replace(str(folder), ".").replace(str(_REPOSITORY), ".")
    (folder / "output.json").write_text(json.dumps(output))


def _key(script: Path) -> str:
    """What the output depends on, but for the package itself."""
    read = (*sorted(_FOLDER.glob("*.py")), *sorted((_REPOSITORY / "data").iterdir()))
    used = [script, *(p for p in read if p.stem in script.read_text() and p.is_file())]
    return hashlib.sha256(b"".join(p.read_bytes() for p in used)).hexdigest()[:16]
