"""A model for a device in files: NAME_TARGET.hxx and NAME_TARGET.dat."""

from __future__ import annotations

from pathlib import Path

from sofie_rdf.devices.session import emit_for_device
from sofie_rdf.devices.targets import target_named
from sofie_rdf.emit import files
from sofie_rdf.emit.code import include_directory
from sofie_rdf.emit.names import identifier
from sofie_rdf.errors import InputError
from sofie_rdf.ir.graph import Graph

__all__ = ["write_for_device"]


def write_for_device(
    graph: Graph, directory: Path, target: str, kind: str, standalone: bool
) -> tuple[Path, Path | None, str, tuple[Path, ...]]:
    """Write the header and the weights of a graph as it was read.

    Gives their paths, the namespace, and the folders that the header includes from. InputError for
    other ``kind`` of weights than a file; UnsupportedOperator as `emit_for_device`.
    """
    stem = f"{identifier(graph.name)}_{target_named(target).name}"
    if kind != "file":
        raise InputError(f"target={target!r} is for weights='file' and a session")
    emission = emit_for_device(graph, target, graph.name, f"{stem}.dat")
    header, own = directory / f"{stem}.hxx", (include_directory(),)
    path = files.write(emission, header, kind, standalone=own if standalone else ())
    return header, path, emission.namespace, () if standalone else own
