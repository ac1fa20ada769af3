"""Tables that are made from the code: operators, layers of Keras, and headers of C++."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

__all__ = ["devices", "gradients", "headers", "keras_layers", "operators"]

_REPOSITORY = Path(__file__).resolve().parents[2]


def operators() -> str:
    """What `sofie-rdf ops --markdown` prints, and what its words mean. It takes half a minute."""
    from sofie_rdf.cli.operators import LEGEND, markdown, row
    from sofie_rdf.frontends.onnx.catalogue import catalogue

    legend = "\n\n".join(LEGEND.splitlines())
    return f"{legend}\n\n" + "\n".join(markdown(row(entry) for entry in catalogue()))


def keras_layers() -> str:
    """The layers of Keras, and the functions of keras.ops, for which there are rules."""
    import_module("sofie_rdf.frontends.keras.rules")  # It fills the registry.
    from sofie_rdf.frontends.keras.registry import LAYERS, OPERATIONS

    layers = ", ".join(f"`{name}`" for name in sorted(LAYERS))
    functions = ", ".join(f"`{name}`" for name in sorted(OPERATIONS))
    return f"**{len(LAYERS)} layers**: {layers}.\n\n**{len(OPERATIONS)} functions**: {functions}."


def gradients() -> str:
    """ONNX's operators that have a gradient, and those that have none."""
    import_module("sofie_rdf.ops")  # It fills the registry.
    from sofie_rdf.ir.operator import REGISTRY

    listed: tuple[list[str], list[str]] = [], []
    for (domain, name), cls in sorted(REGISTRY.items()):
        if not domain:
            listed[not cls.has_gradient()].append(f"`{name}`")
    having, lacking = (f"**{len(names)} operators**: {', '.join(names)}." for names in listed)
    return f"With a gradient: {having}\n\nWithout one: {lacking}"


def devices() -> str:
    """What each network of the benchmark costs on a GPU, on paper."""
    from sofie_rdf.bench.models import BUILT_IN, FreeSizes, sizes_for
    from sofie_rdf.bench.paper import GPUS, paper_of
    from sofie_rdf.cli.tables import time_text
    from sofie_rdf.devices.program import program_for

    least = [f"{gpu.name}, at least" for gpu in GPUS]
    titles = ["network", "batch", "kernels", "bytes", "bytes / needed", *least]
    rows = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    for name, candidate in BUILT_IN.items():
        graph = candidate().model.graph
        program = program_for(graph)
        for batch in (1, 64, 4096):
            paper = paper_of(program, sizes_for(graph, batch, FreeSizes()))
            cells = [f"`{name}`" if batch == 1 else "", f"{batch:,}", f"{paper.kernels}"]
            cells += [f"{paper.nbytes:,}", f"{paper.excess:.2f}"]
            rows.append(cells + [time_text(paper.least(gpu)) for gpu in GPUS])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def headers() -> str:
    """What each header of C++ is for, in the words of its first comment."""
    sections = (
        ("The foundation", "cling/sofie", "*.hxx"),
        ("Elementary functions", "cling/sofie/math", "*.hxx"),
        ("What a Session is made of", "cling/sofie/session", "*.hxx"),
        ("Kernels", "cling/sofie/kernels", "**/*.hxx"),
        ("With ROOT", "cling/sofie/rdf", "*.hxx"),
        ("SOFIE's words", "cling/sofie/rdf/words", "*.hxx"),
    )
    return "\n\n".join(
        f"### {title}\n\n{_table(_REPOSITORY / at, which)}" for title, at, which in sections
    )


def _table(folder: Path, which: str) -> str:
    rows = [
        f"| `{path.relative_to(folder)}` | {_about(path)} |" for path in sorted(folder.glob(which))
    ]
    return "\n".join(["| header | what it has |", "| --- | --- |", *rows])


def _about(path: Path) -> str:
    """The first paragraph behind \\file."""
    text = " ".join(_first_paragraph(path.read_text().splitlines()))
    for mark in "\\|*_<":
        text = text.replace(mark, f"\\{mark}")
    return re.sub(r"`([^`]*)`", lambda found: found[0].replace("\\", ""), text)


def _first_paragraph(lines: list[str]) -> Iterator[str]:
    for line in lines[1:]:
        said = line.removeprefix("///").strip()
        if not (line.startswith("///") and said):
            return
        yield said
