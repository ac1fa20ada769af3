"""What SOFIE's Print functions print, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import TensorType

__all__ = ["PRINTS", "head", "listing", "type_name"]


def type_name(type_: TensorType) -> str:
    """The C++ name of the elements."""
    return type_.dtype.cxx.removeprefix("std::")


def _shape(type_: TensorType) -> str:
    return f"[{', '.join(map(str, type_.shape))}]"


def _is_dynamic(type_: TensorType) -> bool:
    return not all(isinstance(d, int) for d in type_.shape)


def _rows(graph: Graph, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        type_ = graph.types[name]
        kind = "Parameterised Tensor" if _is_dynamic(type_) else "Tensor"
        yield f'{kind} name: "{name}"\ttype: {type_name(type_)}\tshape: {_shape(type_)}'


def _computed(graph: Graph) -> list[str]:
    outside = {*graph.inputs, *graph.constants}
    return [name for name in graph.types if name not in outside]


def _inputs(graph: Graph) -> list[str]:
    return list(graph.inputs)


def _outputs(graph: Graph) -> list[str]:
    return list(graph.outputs)


def _constants(graph: Graph) -> list[str]:
    return list(graph.constants)


def _dynamic(graph: Graph) -> list[str]:
    return [name for name in _computed(graph) if _is_dynamic(graph.types[name])]


# Each function of SOFIE that prints: its first line, and the tensors that it lists.
PRINTS = {
    "PrintRequiredInputTensors": ("The model needs these inputs:", _inputs),
    "PrintInitializedTensors": ("The model has these initialized tensors:", _constants),
    "PrintIntermediateTensors": ("The model has these intermediate tensors:", _computed),
    "PrintDynamicTensors": ("The model has these dynamic tensors:", _dynamic),
    "PrintOutputTensors": ("The model gives these outputs:", _outputs),
}


def listing(graph: Graph, function: str) -> str:
    """The text of one of `PRINTS`."""
    title, names = PRINTS[function]
    return "\n".join([title, *_rows(graph, names(graph)), "", ""])


def head(name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], most: int) -> str:
    """The first elements of a tensor, ten in a line."""
    flat = [str(v) for v in values.reshape(-1)[:most]]
    lines = [", ".join(flat[i : i + 10]) for i in range(0, len(flat), 10)]
    dots = " ..." if values.size > most else ""
    return f'Tensor "{name}" of {values.size} elements:\n' + "\n".join(lines) + f"{dots}\n\n"
