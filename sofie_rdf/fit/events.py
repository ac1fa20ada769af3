"""The events of a fit: what a user hands over, as the inputs of a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from sofie_rdf import arguments
from sofie_rdf.errors import InputError
from sofie_rdf.fit.places import Place, called, own_shape, place_of
from sofie_rdf.ir.dims import product
from sofie_rdf.ir.given import as_array, in_order
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import features_of
from sofie_rdf.ir.types import Array
from sofie_rdf.runtime.arrays.inputs import bind_inputs, converted

__all__ = ["Feeds", "feeds_of", "weights_of"]

# The inputs of all events, with zeros where parameters are, and the sizes of their axes.
Feeds = tuple[dict[str, Array], dict[str, int]]


def feeds_of(graph: Graph, observables: Any, parameters: Mapping[str, Place]) -> Feeds:
    """The inputs of all events; `InputError` where they do not fit, or are not numbers."""
    taken = set(parameters.values())
    free = {name: _free(graph, name, taken) for name in graph.inputs}
    whole, columns = _sorted(graph, _by_name(graph, observables, free, parameters), taken)
    count = _count(graph, whole, columns)
    if count == 0:
        raise InputError("a fit needs events, and observables= has none")
    feeds = {}
    for name in graph.inputs:
        mine = {p.index: array for p, array in columns.items() if p.input == name}
        if name in whole and mine:
            raise InputError(f"input {name!r} is given as a whole, and elements of it besides")
        given = whole.get(name)
        feeds[name] = _input(graph, name, given, mine, free[name], count)
        for place in taken:
            if place.input == name:
                feeds[name][place.key] = 0
        _require_numbers(graph, name, feeds[name])
    return bind_inputs(graph, (), feeds)


def weights_of(given: Any, count: int) -> Array | None:
    """The weights of the events in float64; `InputError` for what is no number for each."""
    if given is None:
        return None
    found = as_array(given, "weights=")
    if found.shape != (count,) or found.dtype.kind not in "fiub":
        raise InputError(
            f"weights= has the shape {list(found.shape)} of {found.dtype}; a number for each of "
            f"the {count} events is needed"
        )
    found = found.astype(np.float64)
    wrong = ~np.isfinite(found)
    if wrong.any():
        event = int(wrong.argmax())
        raise InputError(f"weights= is {found[event]} for event {event}")
    return found


def _free(graph: Graph, name: str, taken: set[Place]) -> list[tuple[int, ...]] | None:
    """The elements of an input that are no parameters; None of one with open axes."""
    own = own_shape(graph, name)[1]
    axes = [d for d in own if isinstance(d, int)]
    if len(axes) != len(own):
        return None
    return [i for i in np.ndindex(*axes) if Place(name, i) not in taken]


def _by_name(
    graph: Graph,
    observables: Any,
    free: Mapping[str, list[tuple[int, ...]] | None],
    parameters: Collection[str],
) -> dict[str, Any]:
    """What is given, by the name of an input or of an element of one.

    Of a table those columns alone that the model knows, and that are no parameters.
    """
    if isinstance(observables, Mapping):
        return dict(observables)
    every = (*(n for names in features_of(graph).values() for n in names), *graph.inputs)
    known = [name for name in every if name not in parameters]
    if hasattr(observables, "AsNumpy"):
        there = {str(c) for c in observables.GetColumnNames()}
        return dict(observables.AsNumpy([n for n in known if n in there]))
    columns = _columns(observables)
    if columns:
        return {name: observables[name] for name in known if name in columns}
    if observables is None or isinstance(observables, (str, bytes)):
        wanted = "observables= as an array, a table, or a mapping from names to arrays"
        raise arguments.refused("fit.function", wanted, observables)
    left = [name for name, indices in free.items() if indices != []]
    if len(left) != 1:
        listed = ", ".join(left) or "none"
        raise InputError(
            f"observables= is an array, and the inputs that are no parameters are: {listed}",
            remedy="Give a mapping from the names of inputs or features to arrays",
        )
    return {left[0]: observables}


def _columns(observables: Any) -> list[str]:
    """The names of the columns of a table, a record array, or an awkward array of records."""
    names = getattr(getattr(observables, "dtype", None), "names", None)
    for found in (names, getattr(observables, "columns", None), getattr(observables, "fields", 0)):
        if found is not None and not callable(found) and hasattr(found, "__iter__"):
            return [str(name) for name in in_order(found, "the columns of observables=")]
    return []


def _sorted(
    graph: Graph, given: Mapping[str, Any], taken: set[Place]
) -> tuple[dict[str, Array], dict[Place, Array]]:
    """What is given for inputs, and for elements of them."""
    whole: dict[str, Array] = {}
    columns: dict[Place, Array] = {}
    for name, array in given.items():
        found = as_array(array, f"observable {name!r}")
        if name in graph.inputs and not _is_column(graph, name, found):
            whole[name] = _cast(graph, name, name, found)
            continue
        place = place_of(graph, str(name))
        if place in taken:
            raise InputError(f"{name!r} is both a parameter and an observable")
        if place in columns:
            raise InputError(f"observable {name!r} is given twice")
        columns[place] = _cast(graph, place.input, name, found)
    return whole, columns


def _is_column(graph: Graph, name: str, found: Array) -> bool:
    """Whether it is a number for each event, for an input with one."""
    batch, own = own_shape(graph, name)
    return own == () or (batch and found.ndim < 2 and product(own) == 1)


def _cast(graph: Graph, port: str, name: str, found: Array) -> Array:
    """The numbers in the type of the input; `InputError` for those that it does not have."""
    dtype = graph.types[port].dtype.numpy
    if found.dtype.kind == "O" or not np.can_cast(found.dtype, dtype, "same_kind"):
        raise InputError(f"observable {name!r} is {found.dtype}; {dtype} is needed")
    return converted(str(name), found, dtype)


def _count(graph: Graph, whole: Mapping[str, Array], columns: Mapping[Place, Array]) -> int:
    """How many events there are."""
    found: dict[str, int] = {}
    for name, array in whole.items():
        if own_shape(graph, name)[0] and array.ndim:
            found[name] = len(array)
    for place, array in columns.items():
        if own_shape(graph, place.input)[0] and array.ndim:
            found[f"{place.input}[{','.join(map(str, place.index))}]"] = len(array)
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in found.items())
        raise InputError(f"observables= has different numbers of events: {listed}")
    return next(iter(found.values()), 0)


def _input(
    graph: Graph,
    name: str,
    whole: Array | None,
    columns: Mapping[tuple[int, ...], Array],
    free: list[tuple[int, ...]] | None,
    count: int,
) -> Array:
    """One input of all events, of an array for it, or of some for its elements."""
    batch, own = own_shape(graph, name)
    rows = (count,) if batch else ()
    if free is None:
        if whole is None:
            raise InputError(f"observables= has nothing for input {name!r}, {graph.types[name]}")
        return np.array(whole)
    made: Array = np.zeros((*rows, *(int(d) for d in own if isinstance(d, int))))
    made = made.astype(graph.types[name].dtype.numpy)
    if whole is not None and batch and whole.ndim == 1 and len(free) == 1:
        whole = whole.reshape(-1, 1)
    if whole is None:
        columns = _complete(graph, name, columns, free)
    elif whole.shape == made.shape:
        return np.array(whole)
    elif whole.shape == (*rows, len(free)) and len(own) == 1:
        columns = {index: whole[..., i] for i, index in enumerate(free)}
    else:
        wanted = f"{list(made.shape)}, or without its parameters {[*rows, len(free)]}"
        raise InputError(f"input {name!r} has the shape {list(whole.shape)}; needed is {wanted}")
    for index, array in columns.items():
        if array.shape not in ((), rows):
            raise InputError(
                f"observable {called(graph, name, index)!r} has the shape {list(array.shape)}; a "
                f"number for each of the {count} events is needed"
            )
        made[Place(name, index).key] = array
    return made


def _complete(
    graph: Graph,
    name: str,
    columns: Mapping[tuple[int, ...], Array],
    free: list[tuple[int, ...]],
) -> Mapping[tuple[int, ...], Array]:
    """The same columns; `InputError` where one is missing."""
    for index in free:
        if index not in columns:
            missing = called(graph, name, index)
            raise InputError(
                f"observables= has nothing for {missing!r} of input {name!r}",
                remedy=f"Give an array or a number, or fit it: parameters=[{missing!r}, ...]",
            )
    return columns


def _require_numbers(graph: Graph, name: str, array: Array) -> None:
    """`InputError` for NaN, with the event."""
    if array.dtype.kind != "f" or not np.isnan(array).any():
        return
    index = tuple(int(i) for i in np.argwhere(np.isnan(array))[0])
    batch = own_shape(graph, name)[0]
    missing = called(graph, name, index[1:] if batch else index)
    where = f" for event {index[0]}" if batch else ""
    raise InputError(
        f"observable {missing!r} is NaN{where}",
        remedy="A sum over all events would be NaN: leave such events out",
    )
