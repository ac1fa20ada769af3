"""Where the parameters of a fit are in a model: elements of its inputs, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sofie_rdf.errors import InputError, nearest
from sofie_rdf.ir.dims import product
from sofie_rdf.ir.given import in_order
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import features_of
from sofie_rdf.ir.types import Shape

__all__ = ["Place", "called", "own_shape", "place_of", "places_of"]

_ELEMENT = re.compile(r"(.+)\[([^\[\]]+)\]", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """An element of an input, without the axis of the batch."""

    input: str
    index: tuple[int, ...]

    @property
    def key(self) -> Any:
        """What it is in an array of the input, with a batch or without."""
        return (..., *self.index)


def own_shape(graph: Graph, name: str) -> tuple[bool, Shape]:
    """Whether an input has a row for each event, and its other axes."""
    shape = graph.types[name].shape
    batch = bool(shape) and graph.batch_symbol != "" and str(shape[0]) == graph.batch_symbol
    return batch, shape[1:] if batch else shape


def places_of(graph: Graph, parameters: Sequence[str]) -> dict[str, Place]:
    """The elements with these names; `InputError` for what is none, or is there twice."""
    names = [parameters] if isinstance(parameters, str) else in_order(parameters, "parameters=")
    if not names:
        raise InputError("parameters= names nothing that a fit could change")
    found: dict[str, Place] = {}
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"parameters= names {name!r}, which is no text")
        place = place_of(graph, name)
        if not graph.types[place.input].dtype.is_float:
            raise InputError(
                f"parameter {name!r} is of input {place.input!r}, {graph.types[place.input]}: only "
                "floating-point numbers can be fitted"
            )
        if place in found.values():
            raise InputError(f"parameters= names {name!r} twice")
        found[name] = place
    return found


def place_of(graph: Graph, name: str) -> Place:
    """The element that is called so.

    That is a feature, an input with one number, ``input[2]``, ``input[1,2]`` or ``input[feature]``.
    """
    features = features_of(graph)
    having = [port for port, names in features.items() if name in names]
    if len(having) > 1:
        listed = ", ".join(repr(f"{port}[{name}]") for port in having)
        raise InputError(f"more than one input has a feature {name!r}", remedy=f"Say {listed}")
    if having:
        return _feature(graph, having[0], name)
    if name in graph.inputs:
        own = own_shape(graph, name)[1]
        if product(own) != 1:
            raise InputError(
                f"input {name!r} is {graph.types[name]}, which has several numbers for an event",
                remedy=f"Say which: '{name}[{','.join('0' for _ in own)}]'",
            )
        return Place(name, (0,) * len(own))
    element = _ELEMENT.fullmatch(name)
    if element is None or element[1] not in graph.inputs:
        known = [*(n for names in features.values() for n in names), *graph.inputs]
        raise InputError(
            f"model {graph.name!r} has no feature or input {name!r}",
            remedy=nearest(name, known) or f"It has {', '.join(known[:20])}",
        )
    if element[2] in features.get(element[1], ()):
        return _feature(graph, element[1], element[2])
    return Place(element[1], _index(graph, element[1], element[2]))


def _feature(graph: Graph, port: str, name: str) -> Place:
    names, own = features_of(graph)[port], own_shape(graph, port)[1]
    if own != (len(names),):
        raise InputError(
            f"feature {name!r} of input {port!r}, {graph.types[port]}, is not one number for an "
            "event"
        )
    return Place(port, (names.index(name),))


def _index(graph: Graph, port: str, text: str) -> tuple[int, ...]:
    own = own_shape(graph, port)[1]
    parts = [part.strip() for part in text.split(",")]
    numbers = tuple(int(part) for part in parts if part.isdecimal() and len(part) < 10)
    inside = all(isinstance(d, int) and n < d for n, d in zip(numbers, own, strict=False))
    if len(numbers) != len(parts) or len(numbers) != len(own) or not inside:
        raise InputError(f"input {port!r} is {graph.types[port]} and has no element [{text}]")
    return numbers


def called(graph: Graph, name: str, index: tuple[int, ...]) -> str:
    """The name of an element."""
    names = features_of(graph).get(name, ())
    if len(index) == 1 and own_shape(graph, name)[1] == (len(names),):
        return names[index[0]]
    return f"{name}[{','.join(map(str, index))}]" if index else name
