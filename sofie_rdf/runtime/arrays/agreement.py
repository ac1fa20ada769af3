"""Two sets of outputs for the same events: where they differ, by how much, and whether that counts.

What another program gives is asked for through `theirs`, for all calls of a network at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from sofie_rdf.errors import ModelError
from sofie_rdf.ir.types import Array
from sofie_rdf.runtime.arrays import jagged
from sofie_rdf.runtime.arrays.inputs import bind_inputs
from sofie_rdf.runtime.compile.session import Compiled
from sofie_rdf.runtime.rdataframe.options import SCORE_DEFAULTS, ScoreOptions

__all__ = ["Agreement", "Difference", "Output", "Theirs", "Tolerances", "compare", "of_columns"]

# What another program gives for the inputs of several calls: for each call, its outputs.
Theirs = Callable[[Sequence[Mapping[str, Array]]], "list[dict[str, Array]]"]


@dataclass(frozen=True)
class Tolerances:
    """Numbers agree that are ``absolute + relative * |theirs|`` apart, or less."""

    relative: float
    absolute: float


@dataclass(frozen=True)
class Difference:
    """One number of an output: in which entry, where in that, and what both have there."""

    output: str
    entry: int
    index: tuple[int, ...]
    ours: float
    theirs: float
    difference: float
    allowed: float


@dataclass(frozen=True)
class Output:
    """One output as a whole: how many of its numbers are further apart than they may be.

    ``largest`` is the largest difference of two finite numbers, ``scale`` their largest magnitude;
    ``odd`` are numbers that are NaN or infinite for one of the two alone, all of which are beyond.
    """

    name: str
    numbers: int
    largest: float
    scale: float
    beyond: int
    odd: int


@dataclass(frozen=True)
class Agreement:
    """What the comparison has found; ``differences`` are the largest ones, whether allowed or not.

    Those come first that exceed what is allowed most.
    """

    entries: int
    outputs: tuple[Output, ...]
    differences: tuple[Difference, ...]

    @property
    def agree(self) -> bool:
        return not any(output.beyond for output in self.outputs)


# The comparison -----------------------------------------------------------------------------------


def compare(
    compiled: Compiled, theirs: Theirs, arrays: Sequence[Any], named: Mapping[str, Any],
    tolerances: Tolerances, shown: int,
) -> Agreement:  # fmt: skip
    """Inputs as a call takes them; what stands along the first axis of an output is an entry."""
    feeds, sizes = bind_inputs(compiled.graph, arrays, named)
    (other,) = theirs([feeds])
    ours = compiled.infer(feeds, sizes)
    return _agreement(
        {name: (_rows(ours[name]), _rows(other[name])) for name in compiled.graph.outputs},
        tolerances,
        shown,
    )


def of_columns(
    compiled: Compiled, theirs: Theirs, events: Any, columns: Any, options: Mapping[str, Any],
    tolerances: Tolerances, shown: int,
) -> Agreement:  # fmt: skip
    """Columns of events, as `Model.score` takes them."""
    texts = {name: name for name in compiled.graph.outputs}
    how = cast("ScoreOptions", {**SCORE_DEFAULTS, **options, "output": texts})
    recorder = _Recorder(compiled)
    ours = jagged.score(recorder, events, columns, how)  # type: ignore[arg-type]
    others = theirs([feeds for feeds, _ in recorder.calls])
    others = [_fitting(one, own) for one, (_, own) in zip(others, recorder.calls, strict=True)]
    player = _Player(compiled, [feeds for feeds, _ in recorder.calls], others)
    found = jagged.score(player, events, columns, how)  # type: ignore[arg-type]
    return _agreement(
        {name: (_lists(ours[name]), _lists(found[name])) for name in texts}, tolerances, shown
    )


class _Recorder:
    """The network, and what it is called with."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self.calls: list[tuple[Mapping[str, Array], Mapping[str, Array]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compiled, name)

    def infer(self, feeds: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        found = self._compiled.infer(feeds, sizes)
        # Whoever calls may use the memory of the inputs again.
        self.calls.append(({k: np.array(v) for k, v in feeds.items()}, found))
        return found


class _Player:
    """The same with what another program has given for each of these calls."""

    def __init__(
        self,
        compiled: Compiled,
        feeds: Sequence[Mapping[str, Array]],
        outputs: Sequence[dict[str, Array]],
    ) -> None:
        self._compiled = compiled
        self._known = {_key(one): given for one, given in zip(feeds, outputs, strict=True)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compiled, name)

    def infer(self, feeds: Mapping[str, Array], _: Mapping[str, int]) -> dict[str, Array]:
        try:
            given = self._known[_key(feeds)]
        except KeyError:
            raise ModelError(
                "the other program lets rows of a batch see each other, or the model does, so that "
                "their batches differ",
                remedy="Compare on arrays: an .npz file with the inputs by name",
            ) from None
        return {name: given[name].copy() for name in given}


def _key(feeds: Mapping[str, Array]) -> tuple[Any, ...]:
    return tuple((name, a.shape, a.tobytes()) for name, a in sorted(feeds.items()))


def _fitting(theirs: Mapping[str, Array], ours: Mapping[str, Array]) -> dict[str, Array]:
    """Their outputs in our shapes and types: of one score for each event some make a vector."""
    for name, array in ours.items():
        if theirs[name].size != array.size:
            shapes = f"{list(array.shape)}, and {list(theirs[name].shape)} in the other program"
            raise ModelError(f"output {name!r} has the shape {shapes}")
    return {
        name: theirs[name].reshape(array.shape).astype(array.dtype) for name, array in ours.items()
    }


# Numbers ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Numbers:
    """All numbers of an output, one after the other, and where each of them is."""

    flat: Array
    entries: int
    place: Callable[[int], tuple[int, tuple[int, ...]]]


def _rows(values: Any) -> _Numbers:
    """An array whose first axis are the entries."""
    array = np.asarray(values)
    if array.dtype == object or not isinstance(values, np.ndarray):
        raise ModelError("outputs that are no arrays of numbers are not compared")
    shape = array.shape or (1,)

    def place(number: int) -> tuple[int, tuple[int, ...]]:
        first, *rest = np.unravel_index(number, shape)
        return int(first), tuple(map(int, rest))

    return _Numbers(array.reshape(-1), shape[0], place)


def _lists(values: Any) -> _Numbers:
    """An awkward array whose first axis are the entries; an index counts within its entry."""
    import awkward

    try:
        return _rows(np.asarray(awkward.to_numpy(values, allow_missing=False)))
    except ValueError:
        pass
    flat = [np.asarray(awkward.flatten(one, axis=None)) for one in values]
    starts = np.cumsum([0, *map(len, flat)])

    def place(number: int) -> tuple[int, tuple[int, ...]]:
        entry = int(np.searchsorted(starts, number, side="right")) - 1
        return entry, (number - int(starts[entry]),)

    return _Numbers(np.concatenate(flat) if flat else np.empty(0), len(flat), place)


def _agreement(
    pairs: Mapping[str, tuple[_Numbers, _Numbers]], tolerances: Tolerances, shown: int
) -> Agreement:
    outputs, differences = [], list[tuple[float, Difference]]()
    for name, (ours, theirs) in pairs.items():
        one, found = _compared(name, ours, theirs, tolerances, shown)
        outputs.append(one)
        differences += found
    differences.sort(key=lambda item: -item[0])
    entries = max((ours.entries for ours, _ in pairs.values()), default=0)
    return Agreement(entries, tuple(outputs), tuple(d for _, d in differences[:shown]))


def _compared(
    name: str, ours: _Numbers, theirs: _Numbers, tolerances: Tolerances, shown: int
) -> tuple[Output, list[tuple[float, Difference]]]:
    if ours.flat.size != theirs.flat.size:
        raise ModelError(
            f"output {name!r} has {ours.flat.size} numbers, and {theirs.flat.size} in the other "
            "program"
        )
    exact = ours.flat.dtype.kind not in "fc"
    one, other = ours.flat.astype(np.float64), theirs.flat.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        finite = np.isfinite(one) & np.isfinite(other)
        apart = np.where(same, 0.0, np.where(finite, np.abs(one - other), math.inf))
        size = np.where(np.isfinite(other), np.abs(other), 0.0)
        allowed = tolerances.absolute + tolerances.relative * size
        allowed = np.zeros_like(allowed) if exact else allowed
    beyond = apart > allowed
    whole = Output(
        name,
        int(one.size),
        float(np.max(apart[finite], initial=0.0)),
        float(np.max(size[finite], initial=0.0)),
        int(beyond.sum()),
        int((~finite & ~same).sum()),
    )
    return whole, list(_largest(name, (ours, one, other), apart, allowed, shown))


def _largest(
    name: str, numbers: tuple[_Numbers, Array, Array], apart: Array, allowed: Array, shown: int
) -> Iterator[tuple[float, Difference]]:
    ours, one, other = numbers
    # By what is allowed, and equal numbers are no differences.
    excess = np.where(apart > 0, apart / np.maximum(allowed, np.finfo(np.float64).tiny), 0.0)
    for number in np.argsort(-excess, kind="stable")[:shown]:
        if not apart[number] > 0:
            return
        entry, index = ours.place(int(number))
        values = (float(a[number]) for a in (one, other, apart, allowed))
        yield float(excess[number]), Difference(name, entry, index, *values)
