"""An emitted model in files: the header, and the weights where they are not in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sofie_rdf.emit.code import inlined
from sofie_rdf.emit.session import Emission, emit
from sofie_rdf.emit.sources import Source
from sofie_rdf.errors import ModelError
from sofie_rdf.ir import record, rootfile
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.replacing import replacing
from sofie_rdf.passes.memory import MemoryPlan

__all__ = ["emission_for", "weights_path", "write"]

_SUFFIXES = {"file": ".dat", "root": ".root", "header": ""}


def weights_path(header: Path, kind: str) -> Path | None:
    """The file beside the header that has its weights; None if the header has them itself."""
    return None if kind == "header" else header.with_suffix(_SUFFIXES[kind])


def emission_for(
    graph: Graph, plan: MemoryPlan, header: Path, kind: str, *, session: bool = True
) -> Emission:
    """The code of a header of that name, whose Session looks for ``weights_path(header, kind)``."""
    Source(kind, "")
    path = weights_path(header, kind)
    source = Source(kind, path.name if path else "", record.directory_name(f"{graph.name}_weights"))
    return emit(graph, plan, source=source, session=session)


def write(
    emission: Emission,
    header: Path,
    kind: str,
    *,
    standalone: Sequence[Path] = (),
    append: bool = False,
) -> Path | None:
    """Write the header and its weights; the path of these, None if they are in the header.

    A header that is ``standalone`` has what it includes from these folders in it. With ``append``
    it comes behind what is in the file. A .root file keeps what else is in it. ModelError for
    files that cannot be written, which then are as they were.
    """
    text = inlined(emission.header, standalone) if standalone else emission.header
    path = weights_path(header, kind)
    try:
        header.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        thing = f"cannot be written: {error.strerror or error}"
        raise ModelError(thing, place=str(header.parent)) from error
    with replacing(header, keep=append) as copy:
        with copy.open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
        if path and kind == "file":
            with replacing(path, keep=False) as weights:
                weights.write_bytes(emission.weights)
        if path and kind == "root":
            rootfile.save_bytes(emission.weights, path, emission.source.directory)
    return path
