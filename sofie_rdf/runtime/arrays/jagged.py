"""Awkward arrays through a model, without ROOT: what `define` does with the columns of an event.

The levels of an array in front of the one that counts (objects of events, particles of jets of
events) are taken off, so that rows are left, and put back around the results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from sofie_rdf.errors import ColumnError, InputError, MissingDependency, nearest
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.given import as_array, in_order, is_unordered, short
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import features_of
from sofie_rdf.ir.rows import check_entries
from sofie_rdf.ir.types import Array
from sofie_rdf.runtime.arrays.batches import Draws, Flat, Result, evaluated
from sofie_rdf.runtime.arrays.inputs import matched
from sofie_rdf.runtime.compile.session import Compiled
from sofie_rdf.runtime.rdataframe.columns import (
    Column,
    Plan,
    Shown,
    by_input,
    completed,
    masks_of,
    plan,
    shown_as,
)
from sofie_rdf.runtime.rdataframe.options import (
    SCORE_DEFAULTS,
    DefineOptions,
    ScoreOptions,
    check,
    for_columns,
)

__all__ = ["called", "is_jagged", "score"]

# What columns of these element types are in C++.
_TYPES: Mapping[str, str] = {
    "bool": "bool",
    "float16": "float",
    "float32": "float",
    "float64": "double",
    **{f"int{bits}": f"std::int{bits}_t" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"std::uint{bits}_t" for bits in (8, 16, 32, 64)},
}
# A field, a number that is the same for all events, or an array.
_Said: TypeAlias = Any


def is_jagged(value: Any) -> bool:
    """Whether it is an awkward array that NumPy cannot have: with fields, lists of any length."""
    if type(value).__module__.partition(".")[0] != "awkward":
        return False
    layout = getattr(value, "layout", None)
    return layout is not None and bool(
        value.fields or not layout.purelist_isregular or layout.is_option
    )


def called(
    compiled: Compiled,
    arrays: Sequence[Any],
    named: Mapping[str, Any],
    seed: int = 0,
    entry: Any = 0,
) -> Any:
    """The outputs for inputs by order or name, some of which are awkward arrays."""
    graph = compiled.graph
    given = matched(graph, arrays, named)
    output: Any = "" if len(graph.outputs) == 1 else {name: name for name in graph.outputs}
    told: ScoreOptions = {**SCORE_DEFAULTS, "output": output, "entry": entry}
    found = score(compiled, given, None, told, seed)
    return found if len(graph.outputs) == 1 else {name: found[name] for name in graph.outputs}


def score(
    compiled: Compiled,
    events: Any,
    columns: Any,
    told: ScoreOptions,
    seed: int = 0,
) -> Any:
    """The model's outputs as an awkward array; see `sofie_rdf.Model.score`."""
    ak = _awkward()
    options = for_columns(told)
    check(options)
    output, graph = told["output"], compiled.graph
    if compiled.owned:
        raise ColumnError(
            f"the data decide the size of output {compiled.owned[0]!r} of model {graph.name!r}",
            remedy="Call the model with NumPy arrays, one event at a time",
        )
    texts = output if isinstance(output, Mapping) else {"": output}
    if not texts:
        raise InputError("output= names no output")
    shown = [shown_as(graph, name, said) for name, said in texts.items()]
    table = _Table(ak, events, told["where"])
    columns = _columns(graph, table, columns)
    options = completed(graph, options, columns)
    made = _plan(table, graph, columns, shown, options)
    draws = Draws(seed, table.numbers_of(told["entry"]))
    results = evaluated(compiled, made, options, table.flats(), table.entries(), draws)
    found = [table.restored(_elsewhere(result, table, options["default"])) for result in results]
    if not isinstance(output, Mapping):
        return found[0]
    return ak.zip(dict(zip(texts, found, strict=True)), depth_limit=1)


def _awkward() -> Any:
    try:
        import awkward
    except ImportError as error:
        raise MissingDependency("this needs awkward", remedy="pip install awkward") from error
    return awkward


# Columns ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Given:
    """An array in place of a column's name."""

    number: int


@dataclass(frozen=True)
class _Levels:
    """An array of numbers: how long the lists of each level are, and all numbers."""

    said: str
    counts: tuple[Array, ...]
    values: Array


@dataclass
class _Table:
    """Columns by name, as rows: the levels in front of them are ``outer``."""

    ak: Any
    events: Any
    where: Any
    arrays: list[Any] = field(default_factory=list)
    # Whether the events are typetracers, which have types and no numbers.
    is_traced: bool = False
    known: dict[str, _Levels] = field(default_factory=dict)
    _rows: dict[str, Flat] = field(default_factory=dict)

    def given(self, array: Any) -> _Given:
        """A place for an array, which stands where a column's name may."""
        self.arrays.append(self.held(array))
        return _Given(len(self.arrays) - 1)

    def said(self, column: _Said) -> _Levels:
        """The column of that name, or the array."""
        name = f"array {column.number}" if isinstance(column, _Given) else column
        if not isinstance(name, str):
            raise ColumnError(f"{column!r} is no field, no number and no array")
        if name not in self.known:
            array = self.arrays[column.number] if isinstance(column, _Given) else self._field(name)
            self.known[name] = self._levels(array, name)
        return self.known[name]

    def held(self, array: Any) -> Any:
        """The array itself, or one of no events in the place of a typetracer."""
        if not isinstance(array, self.ak.Array) or self.ak.backend(array) != "typetracer":
            return array
        self.is_traced = True
        return self.ak.typetracer.length_zero_if_typetracer(array)

    def _field(self, name: str) -> Any:
        """``Jet_pt``, or ``Jet.pt`` of nested records."""
        return self.held(self._found(name))

    def _found(self, name: str) -> Any:
        found: Any = self.events
        known = _fields(found)
        if name in known:
            return found[name]
        for part in name.split("."):
            if part not in _fields(found):
                nested = [f"{k}.{n}" for k in known for n in _fields(self.events[k])]
                listed = [*known, *nested]
                raise ColumnError(
                    f"the events have no field {name!r}",
                    remedy=nearest(name, listed)
                    or f"They have {', '.join(listed[:20]) or 'no fields'}",
                )
            found = found[part]
        return found

    def _levels(self, array: Any, said: str) -> _Levels:
        ak = self.ak
        try:
            array = _awkward_array(ak, array, f"column {said!r}")
            array = array[self._chosen(len(array))]
            counts: list[Array] = []
            while True:
                self._refuse_none(array, said, counts)
                if array.ndim < 2:
                    break
                counts.append(np.asarray(ak.num(array, axis=1), np.int64))
                array = ak.flatten(array, axis=1)
            values = np.asarray(ak.to_numpy(array))
        except (TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ColumnError(f"column {said!r} is no array of numbers: {reason}") from None
        if values.dtype.name not in _TYPES or values.ndim != 1:
            raise ColumnError(f"column {said!r} has elements of type {values.dtype}, not numbers")
        return _Levels(said, tuple(counts), values)

    def _refuse_none(self, array: Any, said: str, counts: Sequence[Array]) -> None:
        missing = np.flatnonzero(np.asarray(self.ak.is_none(array, axis=0)))
        if not len(missing):
            return
        place = int(missing[0])
        for level in reversed(counts):
            place = int(np.searchsorted(np.cumsum(level), place, side="right"))
        raise ColumnError(
            f"entry {self._numbers[place]}: column {said!r} has a None",
            remedy="Fill it, ak.fill_none(array, value); or leave out such events with where=",
        )

    # Events that count ---------------------------------------------------------------------------

    def _chosen(self, count: int) -> Any:
        """Which events the model runs for."""
        if self.where is None:
            return slice(None)
        wanted = self.where
        wanted = self._field(wanted) if isinstance(wanted, str) else self.held(wanted)
        mask = as_array(wanted, "where=")
        if mask.dtype != bool or mask.ndim != 1:
            raise ColumnError(
                f"where= is {mask.dtype}{list(mask.shape)}; one bool for each event is needed"
            )
        if len(mask) != count:
            raise ColumnError(f"where= has {len(mask)} elements for {count} events")
        self.where = mask
        return mask

    @property
    def _numbers(self) -> Any:
        """The number of each event that counts."""
        if isinstance(self.where, np.ndarray):
            return np.flatnonzero(self.where)
        return range(2**62)

    def numbers_of(self, entry: Any) -> Array:
        """What random numbers are told of each event: these numbers, or from this one on."""
        first = next(iter(self.known.values()))
        mask = self.where
        count = len(mask) if isinstance(mask, np.ndarray) else self._count(first)
        wanted = self._field(entry) if isinstance(entry, str) else self.held(entry)
        return check_entries(wanted if isinstance(wanted, int) else np.asarray(wanted), count)

    # Rows ----------------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """The most levels of lists that a column has."""
        return max((len(c.counts) for c in self.known.values()), default=0)

    @property
    def outer(self) -> tuple[Array, ...]:
        """The lengths of the lists around the rows."""
        deepest = next((c for c in self.known.values() if len(c.counts) == self.depth), None)
        return deepest.counts[: max(self.depth - 1, 0)] if deepest else ()

    def flats(self) -> dict[str, Flat]:
        """All columns, with as many rows each."""
        first: dict[int, str] = {}
        for column in self.known.values():
            for level, counts in enumerate((np.array([self._count(column)]), *column.counts)):
                if level > len(self.outer):
                    break
                other = self.known[first.setdefault(level, column.said)]
                wanted = (np.array([self._count(other)]), *other.counts)[level]
                self._require_same(column, counts, other, wanted, level)
        return {name: self._flat(column) for name, column in self.known.items()}

    @staticmethod
    def _count(column: _Levels) -> int:
        """The number of events."""
        return len(column.counts[0] if column.counts else column.values)

    def _require_same(
        self, one: _Levels, counts: Array, other: _Levels, wanted: Array, level: int
    ) -> None:
        if np.array_equal(counts, wanted):
            return
        if not level:
            raise ColumnError(
                f"column {one.said!r} has {counts[0]} events, and {other.said!r} has {wanted[0]}"
            )
        place = wrong = int(np.flatnonzero(counts != wanted)[0])
        for before in reversed(one.counts[: level - 1]):
            place = int(np.searchsorted(np.cumsum(before), place, side="right"))
        raise ColumnError(
            f"entry {self._numbers[place]}: column {one.said!r} has {counts[wrong]} elements, and "
            f"{other.said!r} has {wanted[wrong]}"
        )

    def _flat(self, column: _Levels) -> Flat:
        """The column as one number, or one list, for each row."""
        values = column.values
        if values.dtype.name == "float16":
            values = values.astype(np.float32)
        if len(column.counts) > len(self.outer):
            return Flat(values, column.counts[-1])
        for counts in self.outer[len(column.counts) :]:
            values = np.repeat(values, counts)
        return Flat(values)

    def entries(self) -> Array:
        """The event of each row."""
        columns = list(self.known.values())
        found = np.arange(self._count(columns[0]) if columns else 0)
        if isinstance(self.where, np.ndarray):
            found = np.flatnonzero(self.where)
        for counts in self.outer:
            found = np.repeat(found, counts)
        return found

    def restored(self, result: Result) -> Any:
        """The result as an array of events."""
        outer = self.outer
        if isinstance(self.where, np.ndarray) and outer:
            # Rows of events that do not count are not there.
            whole = np.zeros(len(self.where), np.int64)
            whole[self.where] = outer[0]
            outer = (whole, *outer[1:])
        found = _nested(self.ak, result, outer)
        if not self.is_traced:
            return found
        return self.ak.Array(found.layout.to_typetracer(forget_length=True))


def _awkward_array(ak: Any, given: Any, what: str) -> Any:
    """What is given as an awkward array, with None for elements that are masked."""
    if isinstance(given, ak.Array):
        return given
    masked = isinstance(given, np.ma.MaskedArray)
    array: Any = given if masked else as_array(given, what)
    if array.dtype.kind == "O" or not array.ndim:
        raise ColumnError(f"{what} is no array of numbers: it is {short(given)}")
    # Awkward arrays have the byte order of the machine.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return ak.from_numpy(array) if masked else ak.Array(array)


def _fields(array: Any) -> list[str]:
    if isinstance(array, Mapping):
        return [str(k) for k in array]
    dtype_names = getattr(getattr(array, "dtype", None), "names", None)
    found: Any = getattr(array, "fields", None) or dtype_names or getattr(array, "columns", ())
    return [str(f) for f in found]


def _columns(graph: Graph, table: _Table, columns: Any) -> Any:
    """The columns, with a place for each array among them."""
    if columns is None:
        return _columns_of(graph, table)
    if isinstance(columns, Mapping):
        return {
            name: _of_input(graph, table, name, given)
            if name in graph.inputs
            else _placed(table, given)
            for name, given in columns.items()
        }
    listed = [columns] if isinstance(columns, str) else in_order(columns, "columns=")
    return [_placed(table, one) for one in listed]


def _columns_of(graph: Graph, table: _Table) -> Any:
    """The columns where none are said: fields by the names of features or inputs, or in order."""
    events, fields, known = table.events, _fields(table.events), features_of(graph)
    if isinstance(events, Mapping) and fields and set(fields) <= set(graph.inputs):
        return {name: _of_input(graph, table, name, events[name]) for name in fields}
    if not fields:
        return _of_input(graph, table, graph.inputs[0], events)
    names = {n for own in known.values() for n in own}
    return None if known.keys() == set(graph.inputs) and names & set(fields) else fields


def _placed(table: _Table, one: Any) -> Any:
    """A name or a number as it is; an array as its place."""
    if isinstance(one, np.number):
        return float(one)
    return one if isinstance(one, (str, int, float)) else table.given(one)


def _of_input(graph: Graph, table: _Table, name: str, given: Any) -> Any:
    """The features of one input: said one by one, or an array with all of them."""
    if isinstance(given, (str, int, float, np.number)):
        return [_placed(table, given)]
    if isinstance(given, Mapping):
        return {feature: _placed(table, one) for feature, one in given.items()}
    if isinstance(given, (list, tuple)) or is_unordered(given):
        return [_placed(table, one) for one in in_order(given, f"what input {name!r} gets")]
    fields, names = _fields(given), features_of(graph).get(name, ())
    if fields:
        chosen = names if names and set(names) <= set(fields) else fields
        return [table.given(given[f]) for f in chosen]
    array = _awkward_array(table.ak, table.held(given), f"input {name!r}")
    count = _last_axis(table.ak, array, graph.types[name].shape[1:])
    if count is None:
        return [table.given(array)]
    return [table.given(array[..., k]) for k in range(count)]


def _last_axis(ak: Any, array: Any, rest: Sequence[Dim]) -> int | None:
    """How many features there are along the last axis; None where that is not what it is."""
    if array.ndim < 2:
        return None
    last = str(array.type).split(" * ")[-2]
    if last.isdecimal():
        return int(last)
    if math.prod(d for d in rest if isinstance(d, int)) == 1:
        return None  # One feature has no axis.
    counts = np.unique(np.asarray(ak.flatten(ak.num(array, axis=-1), axis=None)))
    if len(counts) == 1:
        return int(counts[0])
    listed = f"{counts[0]} to {counts[-1]} elements" if len(counts) else "no elements"
    raise InputError(
        f"the last axis of an array should be the features; that of {array.type} has {listed}",
        remedy="Give records, ak.zip({'pt': ..., 'eta': ...}), or columns=[...]",
    )


def _plan(
    table: _Table, graph: Graph, columns: Any, shown: Sequence[Shown], options: DefineOptions
) -> Plan:
    masks = masks_of(graph, options)
    listed = by_input(graph, columns, list(masks))
    order: Any = options["order_by"]
    by_name = order if isinstance(order, Mapping) else {} if _is_nothing(order) else {"": order}
    placed = {name: _placed(table, said) for name, said in by_name.items()}
    for said in (*(f for features in listed.values() for f in features), *placed.values()):
        if _is_column(said):
            table.said(said)
    if not table.known:
        raise ColumnError("no column is given: nothing says how many events there are")
    features = {
        name: [_column(table, f) if _is_column(f) else float(f) for f in own]
        for name, own in listed.items()
    }
    orders = {name: _column(table, said) for name, said in placed.items()}
    # The texts of options are a data frame's: here only whether there are any counts.
    where = "" if table.where is None else "where"
    return plan(graph, features, shown, {**options, "order_by": "", "where": where}, orders, masks)


def _is_nothing(order: Any) -> bool:
    return order is None or (isinstance(order, str) and not order)


def _is_column(said: _Said) -> bool:
    return not isinstance(said, (int, float)) or isinstance(said, bool)


def _column(table: _Table, said: _Said) -> Column:
    levels = table.said(said)
    kind = _TYPES[levels.values.dtype.name]
    is_vector = len(levels.counts) > len(table.outer)
    return Column(levels.said, levels.said, f"ROOT::RVec<{kind}>" if is_vector else kind)


# Results ------------------------------------------------------------------------------------------


def _elsewhere(result: Result, table: _Table, default: float) -> Result:
    """The result of all events: ``default``, or no list, where ``where`` does not hold."""
    mask = table.where
    if not isinstance(mask, np.ndarray) or table.outer:
        return result
    axes = result.axes
    if all(isinstance(a, int) for a in axes):
        shape = (len(mask), *(int(a) for a in axes if isinstance(a, int)))
        content = np.full(shape, default, result.content.dtype)
        content[mask] = result.content.reshape((-1, *shape[1:]))
        return Result(content.reshape(-1), axes, len(mask))
    wide: list[int | Array] = []
    for axis in axes:
        sizes = np.zeros(len(mask), np.int64)
        sizes[mask] = axis
        # An axis of known size stays one behind an open one: there is nothing in the others.
        wide.append(axis if wide and isinstance(axis, int) else sizes)
    return Result(result.content, tuple(wide), len(mask))


def _nested(ak: Any, result: Result, outer: Sequence[Array]) -> Any:
    """An array of these numbers: lists of each axis, and of the levels around the rows."""
    contents, index = ak.contents, ak.index
    layout = contents.NumpyArray(result.content)
    # How many lists of each axis a row has.
    parents: list[Any] = []
    many: Any = np.ones(result.rows, np.int64)
    for axis in result.axes:
        parents.append(many)
        many = many * axis
    for axis, lists in zip(reversed(result.axes), reversed(parents), strict=True):
        if isinstance(axis, int):
            layout = contents.RegularArray(layout, axis, int(np.sum(lists)))
        else:
            layout = _listed(contents, index, layout, np.repeat(axis, lists))
    for counts in reversed(outer):
        layout = _listed(contents, index, layout, counts)
    return ak.Array(layout)


def _listed(contents: Any, index: Any, layout: Any, counts: Array) -> Any:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return contents.ListOffsetArray(index.Index64(offsets), layout)
