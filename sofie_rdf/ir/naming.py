"""What a model says of its numbers: names of features and classes, and how sets are filled up.

All of it is text in the provenance of a graph, as JSON, so that it is in every file that has the
graph: ``features`` and ``labels`` are a list, where there is one input or output, or lists by name;
``seed`` is that of random numbers;
``sets`` has for each input how many objects it takes and what stands for those that are missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from sofie_rdf.errors import ModelError, doubled, nearest
from sofie_rdf.ir.given import in_order
from sofie_rdf.ir.graph import Graph

__all__ = [
    "KEYS",
    "Filling",
    "features_of",
    "fillings_of",
    "labels_of",
    "names_in",
    "seed_of",
    "with_names",
    "with_seed",
]

# What of the provenance says how a model is to be called, and not where it is from.
KEYS = ("features", "labels", "seed", "sets")


@dataclass(frozen=True)
class Filling:
    """How many objects an input takes (``most`` -1: any number), and what pads each feature.

    ``is_mask``: it says which objects are there.
    """

    least: int = 0
    most: int = -1
    pads: tuple[float, ...] = ()
    is_mask: bool = False


def features_of(graph: Graph) -> dict[str, tuple[str, ...]]:
    """The names of the features of each input that has them, in order."""
    return _names(graph, "features", graph.inputs)


def labels_of(graph: Graph) -> dict[str, tuple[str, ...]]:
    """The names of the numbers in a row of each output that has them, in order."""
    return _names(graph, "labels", graph.outputs)


def names_in(graph: Graph) -> frozenset[str]:
    """Every name that the model brings, of whatever it is."""
    own = (*graph.inputs, *graph.outputs, *graph.symbols)
    lists = (*features_of(graph).values(), *labels_of(graph).values())
    return frozenset((*own, *(name for names in lists for name in names)))


def fillings_of(graph: Graph) -> dict[str, Filling]:
    """How the sets of each input are filled, where the model says so."""
    found = _held(graph, "sets")
    if not isinstance(found, dict):
        return {}
    return {n: f for n in graph.inputs if (f := _filling(found.get(n))) is not None}


def seed_of(graph: Graph) -> int:
    """The seed of random numbers that the model says; else 0."""
    found = _held(graph, "seed")
    return found if type(found) is int and -(2**63) <= found < 2**64 else 0


def with_seed(graph: Graph, seed: int) -> Graph:
    """The graph that says this seed."""
    known = {key: text for key, text in graph.provenance.items() if key != "seed"}
    more = {"seed": json.dumps(seed)} if seed else {}
    return replace(graph, provenance=MappingProxyType({**known, **more}))


def with_names(
    graph: Graph,
    *,
    features: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    labels: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    fillings: Mapping[str, Filling] | None = None,
) -> Graph:
    """The graph with these names besides those that it has; `ModelError` where they do not fit."""
    known = dict(graph.provenance)
    if features is not None:
        given = _by_port(graph, "input", graph.inputs, features)
        known["features"] = _text(graph.inputs, {**features_of(graph), **given})
    if labels is not None:
        given = _by_port(graph, "output", graph.outputs, labels)
        known["labels"] = _text(graph.outputs, {**labels_of(graph), **given})
    if fillings:
        known["sets"] = json.dumps({n: asdict(f) for n, f in fillings.items()})
    return replace(graph, provenance=MappingProxyType(known))


def _by_port(
    graph: Graph,
    kind: str,
    ports: Sequence[str],
    given: Sequence[str] | Mapping[str, Sequence[str]],
) -> dict[str, tuple[str, ...]]:
    """The names by input or output, each of which has an axis of so many numbers."""
    if not isinstance(given, Mapping):
        given = in_order(given, f"{kind} names")
        count = len(given)
        fitting = [p for p in ports if count in _counts(graph, p)]
        if len(fitting) != 1:
            listed = ", ".join(f"{p!r} {graph.types[p]}" for p in ports)
            how = "more than one takes" if fitting else "none has"
            raise ModelError(
                f"model {graph.name!r} has the {kind}s {listed}; {how} {count} names",
                remedy=f"Say of which {kind} they are, as a mapping",
            )
        given = {fitting[0]: given}
    found = {}
    for port, names in given.items():
        if port not in ports:
            raise ModelError(
                f"model {graph.name!r} has no {kind} {port!r}", remedy=nearest(port, ports)
            )
        listed_names = tuple(in_order(names, f"what {kind} {port!r} is called"))
        if not listed_names or not all(type(n) is str and n for n in listed_names):
            raise ModelError(f"names of {kind} {port!r} must be a list of texts, not {names!r}")
        twice = doubled(listed_names)
        if twice:
            raise ModelError(f"{kind} {port!r} has the name {twice!r} twice")
        if len(listed_names) not in _counts(graph, port):
            raise ModelError(
                f"{kind} {port!r} of model {graph.name!r} is {graph.types[port]}, which has no "
                f"axis of {len(listed_names)} for {len(listed_names)} names"
            )
        found[port] = listed_names
    return found


def _counts(graph: Graph, port: str) -> set[int]:
    """How many names there can be: the sizes of its axes, or of all behind the first together."""
    shape = graph.types[port].shape
    rest = shape[1:] if len(shape) > 1 else shape
    known = {d for d in rest if isinstance(d, int)}
    whole = [d for d in rest if isinstance(d, int)]
    return known | {math.prod(whole)} if len(whole) == len(rest) else known


def _text(ports: Sequence[str], names: Mapping[str, Sequence[str]]) -> str:
    held: Any = {p: list(names[p]) for p in ports if p in names}
    return json.dumps(held[ports[0]] if len(ports) == 1 and held else held)


def _held(graph: Graph, key: str) -> Any:
    """What is stored under a key; None for what is nothing that we have written."""
    try:
        return json.loads(graph.provenance.get(key, "null"))
    except (ValueError, RecursionError):
        return None


def _names(graph: Graph, key: str, ports: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found = _held(graph, key)
    if isinstance(found, list) and len(ports) == 1:
        found = {ports[0]: found}
    listed = {p: found.get(p) for p in ports} if isinstance(found, dict) else {}
    return {
        port: tuple(names)
        for port, names in listed.items()
        if isinstance(names, list) and names and all(isinstance(n, str) for n in names)
    }


def _filling(held: Any) -> Filling | None:
    try:
        least, most = int(held["least"]), int(held["most"])
        pads = tuple(map(float, held["pads"]))
        return Filling(least, most, pads, bool(held["is_mask"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
