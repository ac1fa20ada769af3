"""NumPy arrays as the inputs of a graph: by name, of the right type, with sizes that agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sofie_rdf.arguments import described, way_of
from sofie_rdf.errors import InputError, TypeMismatch, nearest
from sofie_rdf.ir.dims import Size, evaluate, name_of, symbols_of
from sofie_rdf.ir.given import as_array, in_order
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import features_of
from sofie_rdf.ir.sequences import SEQUENCE_PARTS, pack, unpack
from sofie_rdf.ir.types import Array, TensorType, concrete

__all__ = ["bind_inputs", "converted", "each_array", "matched", "with_sequences"]


def bind_inputs(
    graph: Graph, arrays: Sequence[Any], named: Mapping[str, Any]
) -> tuple[dict[str, Array], dict[str, int]]:
    """The arrays by input, in the types of the graph, and the sizes that they give dynamic axes."""
    given = _by_name(graph, arrays, named)
    sizes: dict[str, int] = {}
    feeds = {}
    for name in graph.inputs:
        _refuse_other_order(graph, name, given[name])
        feeds[name] = _as_input(name, graph.types[name], given[name])
        _bind(name, graph.types[name], feeds[name].shape, sizes)
    for name in graph.inputs:
        wanted = concrete(graph.types[name].shape, sizes)
        if wanted != feeds[name].shape:
            raise InputError(
                f"input {name!r} has the shape {list(feeds[name].shape)}; with the sizes of the "
                f"other inputs {list(wanted)} is needed"
            )
    return feeds, sizes


def _refuse_other_order(graph: Graph, name: str, table: Any) -> None:
    """`InputError` for a table whose columns are the model's features, but elsewhere."""
    columns = getattr(table, "columns", None)
    if columns is None or callable(columns):
        return
    names = features_of(graph).get(name, ())
    if not names:
        return
    listed = [str(column) for column in columns]
    if listed != list(names) and sorted(listed) == sorted(names):
        raise InputError(
            f"input {name!r} of model {graph.name!r} gets a table whose columns are its features "
            "in another order",
            remedy=f"table[list(model.features[{name!r}])], or model.score(table)",
        )


def each_array(arrays: Sequence[Any], named: Mapping[str, Any]) -> Iterator[Any]:
    """All arrays of a call."""
    for array in (*arrays, *named.values()):
        yield from array.values() if isinstance(array, Mapping) else (array,)


def matched(graph: Graph, arrays: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """What is given for each input: by order, by name, or as one mapping."""
    if len(arrays) == 1 and isinstance(arrays[0], Mapping):
        named, arrays = {**arrays[0], **named}, ()
    if len(arrays) > len(graph.inputs):
        raise InputError(
            f"model {graph.name!r} takes {len(graph.inputs)} arrays, not {len(arrays)}",
            remedy=f"Its inputs are {', '.join(graph.inputs)}",
        )
    given = dict(zip(graph.inputs, arrays, strict=False))
    for name, array in _without_sequences(graph, named).items():
        if name not in graph.inputs:
            raise InputError(
                f"model {graph.name!r} has no input {name!r}",
                remedy=nearest(name, graph.inputs) or f"Its inputs are {', '.join(graph.inputs)}",
            )
        if name in given:
            raise InputError(f"input {name!r} is given twice")
        given[name] = array
    return given


def _by_name(graph: Graph, arrays: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    given = matched(graph, arrays, named)
    missing = [name for name in graph.inputs if name not in given]
    if missing:
        raise InputError(f"input {missing[0]!r} of model {graph.name!r} is missing")
    return given


def _without_sequences(graph: Graph, named: Mapping[str, Any]) -> dict[str, Any]:
    """The same with each list of arrays, for an input that is a sequence, as its tensors."""
    found: dict[str, Any] = {}
    for name, value in named.items():
        elements, shapes, present = (f"{name}.{part}" for part in SEQUENCE_PARTS)
        if name in graph.inputs or elements not in graph.inputs or shapes not in graph.inputs:
            found[name] = value
            continue
        single = isinstance(value, np.ndarray)
        items = _items(name, [value] if single else value)
        dtype, axes = graph.types[elements].dtype.numpy, graph.types[shapes].shape[1]
        try:
            found[elements], rows = pack(items, dtype)
        except TypeMismatch as error:
            raise InputError(f"input {name!r}: {error.thing} ({dtype} is needed)") from None
        found[shapes] = rows if items or not isinstance(axes, int) else rows.reshape(0, axes)
        if present in graph.inputs:
            found[present] = np.array(value is not None)
    return found


def _items(name: str, value: Any) -> list[Array]:
    """The tensors of a sequence; none of an optional value that is not there."""
    given = [] if value is None else in_order(value, f"input {name!r}, a sequence,")
    return [as_array(one, f"input {name!r}") for one in given]


def with_sequences(outputs: Mapping[str, Array]) -> dict[str, Any]:
    """The outputs, with a list of arrays (or None) for each that is a sequence."""
    found: dict[str, Any] = dict(outputs)
    for key in outputs:
        name = key.removesuffix(f".{SEQUENCE_PARTS[0]}")
        elements, shapes, present = (f"{name}.{part}" for part in SEQUENCE_PARTS)
        if name != key and shapes in outputs:
            there = found.pop(present, True)
            items = unpack(found.pop(elements), found.pop(shapes))
            found[name] = items if there else None
    return found


def _as_input(name: str, type_: TensorType, array: Any) -> Array:
    dtype = type_.dtype.numpy
    found = as_array(array, f"input {name!r}")
    # Numbers in lists have no type of their own; an array's is a decision that we do not change.
    whole = found.dtype.kind in "iu" and dtype.kind in "iu"
    listed = not isinstance(array, np.ndarray) and (
        whole or np.can_cast(found.dtype, dtype, "same_kind")
    )
    if found.dtype.kind in "OSUV" and not isinstance(array, (list, tuple, np.ndarray)):
        raise InputError(
            f"input {name!r} is {described(array)}; an array of {type_} is needed",
            remedy=way_of(array),
        )
    if not listed and not np.can_cast(found.dtype, dtype, "safe"):
        raise InputError(
            f"input {name!r} has the element type {found.dtype}; {dtype} is needed",
            remedy=f"Convert it: .astype({dtype.name!r})",
        )
    if found.ndim != type_.rank:
        lacks_batch = found.ndim + 1 == type_.rank
        raise InputError(
            f"input {name!r} has the shape {list(found.shape)}; {type_} is needed",
            remedy="One event needs a batch axis: x[np.newaxis]" if lacks_batch else "",
        )
    return converted(name, found, dtype) if listed else found.astype(dtype, copy=False)


def converted(name: str, numbers: Array, dtype: np.dtype[Any]) -> Array:
    """The numbers of lists in another type; `InputError` for those that it does not have.

    Fractions are rounded, as they are in every list of them.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        found = numbers.astype(dtype)
        if numbers.dtype.kind in "iu":
            # Both: floats round numbers of 64 bits, and back the sign may become what it was.
            back, wide = found.astype(numbers.dtype), found.astype(np.float64)
            changed = (back != numbers) | (wide != numbers.astype(np.float64))
        elif numbers.dtype.kind == "f":
            changed = np.isinf(found.astype(np.float64)) & ~np.isinf(numbers)
        else:
            return found
    if changed.any():
        raise InputError(
            f"input {name!r} is {dtype}, which does not have the number {numbers[changed][0]}",
            remedy=f"Convert it, if it may be changed: numpy.array(x, {dtype.name!r})",
        )
    return found


def _bind(name: str, type_: TensorType, shape: Sequence[int], sizes: dict[str, int]) -> None:
    for axis, (dim, size) in enumerate(zip(type_.shape, shape, strict=True)):
        if name_of(dim):
            sizes.setdefault(name_of(dim), size)
        known = isinstance(dim, int) or symbols_of(dim) <= sizes.keys()
        if known and evaluate(dim, sizes) != size:
            text = f"{dim} = {evaluate(dim, sizes)}" if isinstance(dim, Size) else str(dim)
            raise InputError(
                f"input {name!r} has the shape {list(shape)}; {type_} is needed: axis {axis} is "
                f"{size} and not {text}"
            )
