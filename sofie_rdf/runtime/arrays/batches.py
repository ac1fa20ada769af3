"""A plan of columns carried out on arrays: the same rows that a functor fills, many in one call.

Rows (events) and objects go into one call as long as no row changes the result of another one,
which is tried out with the data themselves. Else each event is a call of its own, as in an
RDataFrame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from sofie_rdf.errors import ColumnError, SofieError
from sofie_rdf.ir.dims import Dim, name_of
from sofie_rdf.ir.rows import ROWS, rows_for
from sofie_rdf.ir.types import Array, DType, concrete
from sofie_rdf.runtime.compile.session import Compiled
from sofie_rdf.runtime.rdataframe.columns import Column, Filled, Plan, Shown, rows
from sofie_rdf.runtime.rdataframe.options import DefineOptions

__all__ = ["Draws", "Flat", "Result", "evaluated"]

# A call of rows that are known to keep apart has so many pieces, in which it is done.
_PIECES = 64
# How many rows a trial has, which takes eight times as long as they do, and how many there must be.
_TRIAL = 128
_WORTH_IT = 2048
# As far apart are the numbers of objects of sets of one event.
_OBJECTS = 2**20
# Whether the rows of a network keep apart, as a trial has found.
_tried: WeakKeyDictionary[Compiled, bool] = WeakKeyDictionary()


@dataclass(frozen=True)
class Flat:
    """A column: all its numbers, and how many belong to each row (None: one)."""

    values: Array
    counts: Array | None = None

    @cached_property
    def starts(self) -> Array:
        """Where the numbers of each row begin."""
        assert self.counts is not None
        return np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64)


@dataclass(frozen=True)
class Draws:
    """Whose random numbers are drawn: the seed, and the number of each event (None: its place)."""

    seed: int = 0
    entries: Array | None = None


@dataclass(frozen=True)
class Result:
    """What is shown of an output: all numbers, and the axes of each row: sizes, or one for each."""

    content: Array
    axes: tuple[int | Array, ...]
    rows: int


def evaluated(
    compiled: Compiled,
    made: Plan,
    options: DefineOptions,
    columns: Mapping[str, Flat],
    entries: Array,
    draws: Draws | None = None,
) -> list[Result]:
    """What the model gives for these columns; ``entries`` are what rows are called in errors."""
    feeder = _Feeder(made, options, columns, entries)
    run = _Run(compiled, made, feeder, draws or Draws())
    for units in run.calls():
        run.add(units)
    return [run.result(i) for i in range(len(made.shown))]


# Inputs -------------------------------------------------------------------------------------------


class _Feeder:
    """The inputs for some of the units, which are rows, or objects of rows."""

    def __init__(
        self, made: Plan, options: DefineOptions, columns: Mapping[str, Flat], entries: Array
    ) -> None:
        self.made, self.options, self.columns, self.entries = made, options, columns, entries
        self.counts = self._objects() if made.per == "object" else None
        self.units = len(entries) if self.counts is None else int(self.counts.sum())
        self.sets = {f.name: _Set(self, f) for f in made.inputs if f.axis >= 0 and not f.follows}
        for filled in made.inputs:
            if filled.follows:
                self.sets[filled.name] = _Set(self, filled, self.sets[filled.follows])
        self._check_shared()
        self.rows = {f.name: self._matrix(f) for f in made.inputs if f.axis < 0}

    def _objects(self) -> Array:
        """How many objects each row has."""
        vectors = [c for f in self.made.inputs for c in f.vectors]
        return self.same_lengths(vectors)

    def same_lengths(self, vectors: Sequence[Column]) -> Array:
        """The lengths of these columns; `ColumnError` where they differ."""
        first = vectors[0]
        wanted = self.columns[first.name].counts
        assert wanted is not None
        for column in vectors[1:]:
            counts = self.columns[column.name].counts
            assert counts is not None
            wrong = np.flatnonzero(counts != wanted)
            if len(wrong):
                row = wrong[0]
                raise ColumnError(
                    f"entry {self.entries[row]}: column {column.said!r} has {counts[row]} "
                    f"elements, and {first.said!r} has {wanted[row]}"
                )
        return wanted

    def _check_shared(self) -> None:
        """`ColumnError` where inputs that share a named size have different objects."""
        first: dict[str, Filled] = {}
        for filled in self.made.inputs:
            name = name_of(filled.type.shape[filled.axis]) if filled.axis >= 0 else ""
            if name and not filled.follows and first.setdefault(name, filled) is not filled:
                self.same_lengths([first[name].vectors[0], filled.vectors[0]])

    def clean(self, column: Column, values: Array, entry: Any) -> Array:
        """The values as ``nan=`` wants them; ``entry(i)`` is that of value i."""
        wanted = self.options["nan"]
        if wanted == "propagate" or values.dtype.kind != "f":
            return values
        bad = np.isnan(values)
        if wanted == "error" and bad.any():
            raise ColumnError(
                f"entry {entry(int(np.flatnonzero(bad)[0]))}: column {column.said!r} is NaN, and "
                'nan="error" was asked for'
            )
        return np.where(bad, values.dtype.type(wanted), values) if bad.any() else values

    def _matrix(self, filled: Filled) -> Array:
        """A row for each unit, with all features."""
        found = np.empty((self.units, len(filled.features)), filled.type.dtype.numpy)
        for k, feature in enumerate(filled.features):
            if not isinstance(feature, Column):
                found[:, k] = _cast(np.float64(feature), filled.type.dtype)
                continue
            flat = self.columns[feature.name]
            owner = self._owner if flat.counts is not None else np.arange(len(self.entries))
            values = self.clean(feature, flat.values, lambda i, o=owner: self.entries[o[i]])
            if self.counts is not None and flat.counts is None:
                values = np.repeat(values, self.counts)
            found[:, k] = _cast(values, filled.type.dtype)
        return found

    @cached_property
    def _owner(self) -> Array:
        """The row of each object."""
        assert self.counts is not None
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def sizes(self, units: Array) -> dict[str, int]:
        """The named sizes of a call."""
        found = dict.fromkeys(self.made.graph.symbols, 0)
        if self.made.batch:
            found[self.made.batch] = len(units)
        taken: set[str] = set()
        for filled in self.made.inputs:
            name = name_of(filled.type.shape[filled.axis]) if filled.axis >= 0 else ""
            if name and name not in taken:
                taken.add(name)
                found[name] = int(self.sets[filled.name].lengths[units[0]])
        return found

    def feeds(self, units: Array, sizes: Mapping[str, int]) -> dict[str, Array]:
        """The inputs of a call."""
        found = {}
        for filled in self.made.inputs:
            shape = concrete(filled.type.shape, sizes)
            if filled.axis < 0:
                found[filled.name] = self.rows[filled.name][units].reshape(shape)
            else:
                found[filled.name] = self.sets[filled.name].feed(units).reshape(shape)
        return found

    @cached_property
    def groups(self) -> list[Array]:
        """The units that may be in one call, as they have the same lengths."""
        everything = np.arange(self.units)
        if not self.sets or not self.units:
            return [everything] if self.units else []
        lengths = np.stack([s.lengths for s in self.sets.values()], axis=1)
        _, which = np.unique(lengths, axis=0, return_inverse=True)
        order = np.argsort(which.ravel(), kind="stable")
        return np.split(order, np.flatnonzero(np.diff(which.ravel()[order])) + 1)


class _Set:
    """An input per set: which objects stand where, and how long each row is."""

    def __init__(self, feeder: _Feeder, filled: Filled, followed: _Set | None = None) -> None:
        self.feeder, self.filled = feeder, filled
        self.counts: Array
        self.lengths: Array
        dim = filled.type.shape[filled.axis]
        if followed is not None:
            self.counts = followed.counts
            most = np.full(len(self.counts), filled.most)
            self.lengths = most if isinstance(dim, int) else followed.lengths
            return
        counts = feeder.same_lengths(filled.vectors)
        if filled.most >= 0:
            wrong = np.flatnonzero(counts > filled.most)
            if len(wrong) and isinstance(dim, int) and not feeder.options["truncate"]:
                row = wrong[0]
                raise ColumnError(
                    f"entry {feeder.entries[row]}: column {filled.vectors[0].said!r} has "
                    f"{counts[row]} elements; the model takes {filled.most}, and truncate=True "
                    "was not given"
                )
            counts = np.minimum(counts, filled.most)
        self.counts = counts
        self.lengths = np.maximum(counts, filled.least)

    @cached_property
    def order(self) -> Array | None:
        """The objects of all rows, those of each sorted: the largest key first, NaN last."""
        if self.filled.order_by is None:
            return None
        keys = self.feeder.columns[self.filled.order_by.name]
        assert keys.counts is not None
        row = np.repeat(np.arange(len(keys.counts)), keys.counts)
        _, rank = np.unique(keys.values, return_inverse=True)
        rank = -rank.ravel()
        if keys.values.dtype.kind == "f":
            rank[np.isnan(keys.values)] = 1
        return np.lexsort((rank, row))

    def feed(self, units: Array) -> Array:
        """Feature k of object j is element (k // behind, j, k % behind) of a row."""
        filled, length = self.filled, int(self.lengths[units[0]])
        behind = int(np.prod(concrete(filled.type.shape[filled.axis + 1 :], {}), dtype=np.int64))
        features: Sequence[Column | float] = filled.features or (1.0,)
        dtype = filled.type.dtype
        there = np.arange(length) < self.counts[units][:, None]
        whole = np.empty((len(units), len(features) // behind, length, behind), dtype.numpy)
        for k, feature in enumerate(features):
            pad = filled.pads[k]
            values = _cast(np.float64(feature), dtype) if not isinstance(feature, Column) else None
            if isinstance(feature, Column):
                values = _cast(self._values(feature, units, there), dtype)
            place = whole[:, k // behind, :, k % behind]
            place[...] = _cast(np.float64(pad), dtype)
            if isinstance(feature, Column) and feature.is_vector:
                place[there] = values
            else:
                place[...] = np.where(there, np.reshape(values, (-1, 1)), place)  # type: ignore[arg-type]
        return whole

    def _values(self, column: Column, units: Array, there: Array) -> Array:
        """The objects of a column that are kept, or its number for each row."""
        flat, entries = self.feeder.columns[column.name], self.feeder.entries
        if flat.counts is None:
            return self.feeder.clean(column, flat.values[units], lambda i: entries[units[i]])
        row, position = np.nonzero(there)
        index = flat.starts[units][row] + position
        if self.order is not None:
            index = self.order[index]
        return self.feeder.clean(column, flat.values[index], lambda i: entries[units[row[i]]])


def _cast(values: Any, dtype: DType) -> Array:
    """As C++ converts numbers."""
    with np.errstate(all="ignore"):
        if dtype.is_half:
            values = np.asarray(values).astype(np.float32)
        return np.asarray(values).astype(dtype.numpy)


# Calls and outputs --------------------------------------------------------------------------------


class _Run:
    """The calls of a model, and the outputs that are shown, gathered."""

    def __init__(self, compiled: Compiled, made: Plan, feeder: _Feeder, draws: Draws) -> None:
        self.compiled, self.made, self.feeder, self.draws = compiled, made, feeder, draws
        self.rests = [_rest(made, shown) for shown in made.shown]
        self.contents: list[list[Array]] = [[] for _ in made.shown]
        self.shapes: list[list[Array]] = [[] for _ in made.shown]
        self.order: list[Array] = []

    def calls(self) -> Iterator[Array]:
        """The units of each call."""
        feeder = self.feeder
        if self._batches():
            for group in feeder.groups:
                feeds, sizes = self._feeds(group[:1])
                elements = sum(a.size for a in feeds.values())
                fit = self.compiled.rows_at_once(self.made.batch, elements, sizes)
                step = fit * (_PIECES if self.compiled.rows else 1)
                yield from (group[i : i + step] for i in range(0, len(group), step))
        elif feeder.counts is None:
            yield from np.arange(feeder.units)[:, None]
        else:
            ends = np.cumsum(feeder.counts)
            yield from (u for u in np.split(np.arange(feeder.units), ends[:-1]) if len(u))

    def _feeds(self, units: Array) -> tuple[dict[str, Array], dict[str, int]]:
        sizes = self.feeder.sizes(units)
        feeds = self.feeder.feeds(units, sizes)
        if self.compiled.drawn is not None:
            feeds[ROWS] = self._rows(units, self.compiled.rows_drawn(sizes))
        return feeds, sizes

    @cached_property
    def _events(self) -> tuple[Array, Array]:
        """The event of each unit, and which of its objects the unit is."""
        feeder = self.feeder
        places = feeder.entries
        if feeder.counts is not None:
            places = np.repeat(places, feeder.counts)
        begins = np.flatnonzero(np.diff(places, prepend=-1))
        lengths = np.diff(begins, append=len(places))
        objects = np.arange(len(places)) - np.repeat(begins, lengths)
        events = places if self.draws.entries is None else self.draws.entries[places]
        return events, objects

    def _rows(self, units: Array, count: int) -> Array:
        """The rows of these units; of objects of one event, if these are what the rows are."""
        events, objects = self._events
        if count == len(units) and (self.made.batch or count == 1):
            return rows_for(events[units], self.draws.seed, objects[units])
        # What one unit draws for each of its objects must not be what another one does.
        first = int(objects[units[0]]) * _OBJECTS
        return rows_for(
            np.repeat(events[units[:1]], count), self.draws.seed, first + np.arange(count)
        )

    def _batches(self) -> bool:
        """Whether rows go into one call: they have an axis of their own, and do not mix."""
        graph, batch = self.made.graph, self.made.batch
        ports = [graph.types[p] for p in (*graph.inputs, *graph.outputs)]
        if not batch or any(not t.rank or name_of(t.shape[0]) != batch for t in ports):
            return False
        if any(f.axis == 0 for f in self.made.inputs):
            return False
        if self.compiled.rows == batch:
            return True
        if self.compiled.drawn is not None:
            return False  # What is tried out may be chance.
        if self.compiled not in _tried and self.feeder.units >= _WORTH_IT:
            _tried[self.compiled] = self._keep_apart(max(self.feeder.groups, key=len))
        return _tried.get(self.compiled, False)

    def _keep_apart(self, group: Array) -> bool:
        """Whether no row changes the outputs of another one, for some rows and odd numbers.

        NaN and infinity find sums and products of rows, large numbers what compares them.
        """
        count = min(_TRIAL, len(group))
        units = group[np.linspace(0, len(group) - 1, count).astype(int)]
        feeds, sizes = self._feeds(units)
        rng, rows, half = np.random.default_rng(count), np.arange(count), count // 2
        changed = np.array(sorted({0, half, count - 1}))
        try:
            together = self.compiled.infer(feeds, sizes)
            for part in (rows[:1], rows[:half], rows[half:], rows[-1:]):
                alone = self.compiled.infer(*self._feeds(units[part])) if len(part) else together
                if not _same(together, alone, part, np.arange(len(part))):
                    return False
            others = np.delete(rows, changed)
            return all(
                _same(together, self.compiled.infer(odd, sizes), others, others)
                for odd in _odd_feeds(feeds, changed, rng)
            )
        except SofieError:
            return False

    def add(self, units: Array) -> None:
        """Make the call for these units, and keep what is shown."""
        feeds, sizes = self._feeds(units)
        outputs = self.compiled.infer(feeds, sizes)
        self.order.append(units)
        for i, shown in enumerate(self.made.shown):
            whole = outputs[shown.output].reshape(
                (len(units), *concrete(rows(self.made, shown), sizes))
            )
            found = _picked(whole, shown)
            self.contents[i].append(found.reshape(len(units), -1))
            shape = np.array(concrete(self.rests[i], sizes), np.int64)
            self.shapes[i].append(np.broadcast_to(shape, (len(units), len(shape))))

    def result(self, i: int) -> Result:
        """An output of all units, in their order."""
        shown, rest = self.made.shown[i], self.rests[i]
        dtype = self.made.graph.types[shown.output].dtype
        kind = np.dtype(np.int32) if shown.is_largest else dtype.numpy
        order = np.concatenate(self.order) if self.order else np.zeros(0, np.int64)
        shapes = np.zeros((len(order), len(rest)), np.int64)
        if self.order:
            shapes[order] = np.concatenate(self.shapes[i])
        lengths = shapes.prod(axis=1)
        starts = np.cumsum(lengths) - lengths
        content = np.empty(int(lengths.sum()), kind)
        for units, found in zip(self.order, self.contents[i], strict=True):
            content[starts[units][:, None] + np.arange(found.shape[1])] = found
        axes = [d if isinstance(d, int) else shapes[:, k] for k, d in enumerate(rest)]
        if self.feeder.counts is not None:
            axes = [self.feeder.counts, *axes]
        if kind.name in ("float16", "bfloat16"):
            content = content.astype(np.float32)
        return Result(content, tuple(axes), len(self.feeder.entries))


def _rest(made: Plan, shown: Shown) -> tuple[Dim, ...]:
    """The axes of what is shown of a row; one number has none."""
    found = rows(made, shown)
    whole = all(isinstance(d, int) and d == 1 for d in found)
    return () if whole or shown.is_largest or shown.element >= 0 else found


def _same(one: Mapping[str, Array], other: Mapping[str, Array], mine: Array, theirs: Array) -> bool:
    """Whether these rows have the same outputs."""
    return all(
        np.array_equal(a[mine], other[name][theirs], equal_nan=a.dtype.kind == "f")
        for name, a in one.items()
    )


def _odd_feeds(feeds: Mapping[str, Array], rows: Array, rng: Any) -> Iterator[dict[str, Array]]:
    """The same inputs with something else in these rows."""
    for odd in (np.nan, np.inf, 1e30, -1e30, 0.0, None):
        changed = {}
        for name, array in feeds.items():
            changed[name] = array.copy()
            if array.dtype.kind == "f" and odd is not None:
                changed[name][rows] = odd
            elif array.dtype.kind == "f":
                changed[name][rows] = rng.normal(size=array[rows].shape)
            else:  # Other numbers may be indices.
                changed[name][rows] = array[rows - 1] if odd != 0 else 0
        yield changed


def _picked(whole: Array, shown: Shown) -> Array:
    """What is shown of each row."""
    flat = whole.reshape(len(whole), -1)
    if shown.is_largest:
        return _largest(flat)
    return flat[:, shown.element] if shown.element >= 0 else flat


def _largest(flat: Array) -> Array:
    """The index of the largest number of each row, the first of several; NaN is not larger."""
    numbers = flat.astype(np.float32)
    first_nan = np.isnan(numbers[:, :1]) if numbers.shape[1] else np.zeros((len(numbers), 1), bool)
    numbers = np.where(np.isnan(numbers), -np.inf, numbers)
    found = np.argmax(numbers, axis=1)
    # A NaN that stands first stays, as nothing is larger; else only infinite numbers are in doubt.
    return np.where(first_nan[:, 0], 0, found).astype(np.int32)
