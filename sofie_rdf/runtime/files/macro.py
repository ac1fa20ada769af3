"""What a .root file holds for macros, which have no Python: see `sofie_rdf.ir.record`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sofie_rdf.emit.ports import Interface
from sofie_rdf.emit.session import Emission, include_directories, inlined
from sofie_rdf.ir.dims import Dim, name_of, symbols_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import Filling, features_of, fillings_of, labels_of, seed_of
from sofie_rdf.ir.record import Macro, Reference
from sofie_rdf.ir.rows import drawn_rows
from sofie_rdf.ir.types import Array
from sofie_rdf.runtime.compile.trial import Trial, bounds, trials

__all__ = ["difference", "macro_of"]


# A model is stored once, so its reference may take longer than one that is computed whenever a
# model is compiled: some ten seconds.
_MOST = 10_000_000_000


def macro_of(graph: Graph, emission: Emission) -> Macro:
    """What a macro needs of an optimized graph; the reference takes the time of a NumPy run."""
    ports = Interface(graph, graph.name)
    interface = {
        "namespace": emission.namespace,
        "sizes": list(ports.sizes),
        # The rows of random numbers, too, which are the last input of the code.
        "inputs": [_port(name, graph, owned=False) for name in graph.inputs],
        "outputs": [_port(p.value, graph, owned=p.owned) for p in ports.outputs],
        "features": _lists(features_of(graph)),
        "labels": _lists(labels_of(graph)),
        "sets": {name: _set(filling) for name, filling in fillings_of(graph).items()},
    }
    if drawn_rows(graph) is not None:
        interface["seed"] = str(seed_of(graph) % 2**64)
    header = inlined(emission.header, include_directories(graph))
    trial = next(trials(graph, _MOST), None)
    return Macro(header, emission.tensors, interface, _reference(trial) if trial else Reference())


def difference(stored: Macro, ours: Macro) -> str:
    """What a macro would take from a file and is not ours; "" if nothing."""
    weights = [[np.asarray(t).tobytes() for t in macro.tensors] for macro in (stored, ours)]
    if stored.header != ours.header:
        return "the code"
    if dict(stored.interface) != dict(ours.interface):
        return "the interface of the code"
    if weights[0] != weights[1]:
        return "a weight"
    return "" if _is_same_reference(stored.reference, ours.reference) else "the reference"


def _is_same_reference(stored: Reference, ours: Reference) -> bool:
    """Whether inputs are the same, and outputs but for the rounding of another machine."""
    pairs = [(stored.inputs, ours.inputs), (stored.outputs, ours.outputs)]
    pairs.append((stored.bounds, ours.bounds))
    if dict(stored.sizes) != dict(ours.sizes) or any(list(a) != list(b) for a, b in pairs):
        return False
    arrays = [(np.asarray(a[k]), np.asarray(b[k])) for a, b in pairs for k in a]
    if any(a.dtype != b.dtype or a.shape != b.shape for a, b in arrays):
        return False
    if any(stored.inputs[k].tobytes() != ours.inputs[k].tobytes() for k in ours.inputs):
        return False
    return all(_is_near(stored, ours, k) for k in ours.outputs)


def _is_near(stored: Reference, ours: Reference, name: str) -> bool:
    """Whether a stored output is as we compute it, and lets pass no more than ours does."""
    here, there = (np.asarray(r.bounds[name]) for r in (ours, stored))
    settled = (here >= 0) & (there >= 0)
    with np.errstate(all="ignore"):
        far = np.abs(np.asarray(stored.outputs[name]) - np.asarray(ours.outputs[name]))
        right = (far <= here) & (there <= 2 * here)
    # Which elements hang on rounding is another machine's business, but there are few of them.
    open_there = np.count_nonzero((here >= 0) & ~(there >= 0))
    return bool(np.all(right | ~settled)) and bool(open_there <= max(here.size // 10, 1))


def _port(name: str, graph: Graph, *, owned: bool) -> dict[str, Any]:
    type_ = graph.types[name]
    return {
        "name": name,
        "dtype": str(type_.dtype),
        "shape": [_size(d) for d in type_.shape],
        "axes": [_axis(d) for d in type_.shape],
        "rank": type_.rank,
        "owned": int(owned),
    }


def _size(dim: Dim) -> int | str:
    return dim if isinstance(dim, int) else str(dim)


def _axis(dim: Dim) -> int | str | list[str]:
    """A number, the name of a size, or the names on which it depends."""
    return dim if isinstance(dim, int) else name_of(dim) or sorted(symbols_of(dim))


def _lists(names: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {port: list(listed) for port, listed in names.items()}


def _set(filling: Filling) -> dict[str, Any]:
    """How a set is filled; a number that is none of JSON's here as its 64 bits."""
    bits = np.asarray(filling.pads, np.float64).view(np.uint64)
    known = 0 <= filling.least <= filling.most < 2**31
    return {
        "lengths": [filling.least, filling.most] if known else [],
        "mask": int(filling.is_mask),
        "pads": [str(one) for one in bits],
    }


def _reference(trial: Trial) -> Reference:
    outputs = {name: _doubles(array) for name, array in trial.expected.items()}
    allowed = {name: bounds(trial, name) for name in outputs}
    return Reference(trial.sizes, trial.feeds, outputs, allowed)


def _doubles(array: Array) -> Array:
    return np.asarray(array).astype(np.float64)
