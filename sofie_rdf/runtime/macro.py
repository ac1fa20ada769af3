"""What a .root file holds for macros, which have no Python: see `sofie_rdf.ir.record`."""

from __future__ import annotations

from typing import Any

import numpy as np

from sofie_rdf.emit.ports import Interface
from sofie_rdf.emit.session import Emission, include_directories, inlined
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.record import Macro, Reference
from sofie_rdf.ir.types import Array
from sofie_rdf.runtime.trial import Trial, bounds, trials

__all__ = ["is_same_code", "macro_of"]


# A model is stored once, so its reference may take longer than one that is computed whenever a
# model is compiled: some ten seconds.
_MOST = 10_000_000_000


def macro_of(graph: Graph, emission: Emission, *, reference: bool = True) -> Macro:
    """What a macro needs of an optimized graph; the reference takes the time of a NumPy run."""
    ports = Interface(graph, graph.name)
    interface = {
        "namespace": emission.namespace,
        "sizes": list(ports.sizes),
        "inputs": [_port(p.value, graph, owned=False) for p in ports.inputs],
        "outputs": [_port(p.value, graph, owned=p.owned) for p in ports.outputs],
    }
    header = inlined(emission.header, include_directories(graph))
    trial = next(trials(graph, _MOST), None) if reference else None
    return Macro(header, emission.tensors, interface, _reference(trial) if trial else Reference())


def is_same_code(one: Macro, other: Macro) -> bool:
    """Whether both are the same code with the same weights, called in the same way."""
    weights = [[np.asarray(t).tobytes() for t in macro.tensors] for macro in (one, other)]
    return (
        one.header == other.header
        and dict(one.interface) == dict(other.interface)
        and weights[0] == weights[1]
    )


def _port(name: str, graph: Graph, *, owned: bool) -> dict[str, Any]:
    type_ = graph.types[name]
    return {
        "name": name,
        "dtype": str(type_.dtype),
        "shape": [_size(d) for d in type_.shape],
        "rank": type_.rank,
        "owned": int(owned),
    }


def _size(dim: Dim) -> int | str:
    return dim if isinstance(dim, int) else str(dim)


def _reference(trial: Trial) -> Reference:
    outputs = {name: _doubles(array) for name, array in trial.expected.items()}
    allowed = {name: bounds(trial, name) for name in outputs}
    return Reference(trial.sizes, trial.feeds, outputs, allowed)


def _doubles(array: Array) -> Array:
    return np.asarray(array).astype(np.float64)
