"""What `define` will say of a model, whatever the columns are: what `check` tells beforehand."""

from __future__ import annotations

from collections.abc import Iterator

from sofie_rdf.errors import ColumnError
from sofie_rdf.ir.graph import Graph
from sofie_rdf.runtime.rdataframe.columns import how_to_open, rest_of

__all__ = ["decided", "notes_on_columns"]


def notes_on_columns(graph: Graph) -> Iterator[ColumnError]:
    """What keeps a model that runs from being a column, or a column of some kinds."""
    for name in graph.inputs:
        type_ = graph.types[name]
        try:
            rest = rest_of(type_, graph)
        except ColumnError as error:
            yield error
            continue
        if not graph.symbols and type_.rank > len(rest):
            yield ColumnError(
                f"input {name!r} of model {graph.name!r} has a fixed batch of 1: columns of RVecs "
                "cannot have a score for each object",
                remedy=how_to_open(graph, type_),
            )
    for name in graph.outputs:
        if graph.is_decided_by_data(name):
            yield decided(graph, name)


def decided(graph: Graph, output: str) -> ColumnError:
    """An output of which the data decide the size."""
    return ColumnError(
        f"the data decide the size of output {output!r} of model {graph.name!r}, which no column "
        "can have",
        remedy="Take the output out of the model",
    )
