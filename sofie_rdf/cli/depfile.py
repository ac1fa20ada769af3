"""What an emitted header depends on, in the form that Make and Ninja read."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sofie_rdf import frontends
from sofie_rdf.emit.code import include_directory
from sofie_rdf.emit.session import operators_in
from sofie_rdf.errors import ModelError
from sofie_rdf.ir.graph import Graph

__all__ = ["dependencies", "write"]

# What a depfile cannot say: Make would take it for another line, or run what stands behind it.
_UNSAYABLE = re.compile(r"[;\x00-\x1f\x7f]")
# A model names the files beside it. What is more than a name to Make may stand in none of these.
_NO_NAME = re.compile(r"[^\w ./+,@#$-]")


def dependencies(source: Path, graph: Graph, others: Sequence[str] = ()) -> list[Path]:
    """All files of which a change may change the header of a model: absolute, sorted, each once.

    They are the model's file, files that hold its weights, ``others`` that were read, the Python
    files and headers of operators that are not ours, and this package with its kernels.
    """
    found = {source, *map(Path, filter(None, others)), *_weights(source)}
    for op in operators_in(graph):
        own = op.source()
        if own:
            found |= {own, *own.parent.glob("*.hxx")}
    package = Path(__file__).resolve().parents[1]
    modules = (getattr(m, "__file__", None) for m in list(sys.modules.values()))
    found |= {Path(m) for m in modules if m and package in Path(m).parents}
    found |= set(include_directory().rglob("*.hxx"))
    return sorted({path.absolute() for path in found if path.exists()})


def _weights(source: Path) -> Iterator[Path]:
    """The files beside an ONNX file that hold weights of it."""
    if frontends.recognise(source) == "onnx":
        from sofie_rdf.frontends.onnx.proto import data_files

        for name in data_files(source):
            _require(not _NO_NAME.search(name), name)
            yield source.parent / name


def _require(is_said: bool, name: str) -> None:
    if not is_said:
        raise ModelError(
            "has characters in its name that mean something else in a depfile",
            place=repr(name),
            remedy="Rename the file, or emit the model without --depfile",
        )


def write(path: Path, target: Path, needed: Sequence[Path]) -> None:
    """``target: needed...``; `ModelError` where the file cannot be written."""
    listed = " \\\n  ".join(_escaped(file) for file in needed)
    try:
        path.write_text(f"{_escaped(target.absolute())}: \\\n  {listed}\n")
    except OSError as error:
        raise ModelError(f"cannot be written: {error.strerror}", place=str(path)) from error


def _escaped(path: Path) -> str:
    """A path as Make reads it."""
    _require(not _UNSAYABLE.search(str(path)), str(path))
    text = str(path).replace("\\", "\\\\").replace("#", "\\#").replace("$", "$$")
    return text.replace(" ", "\\ ")
