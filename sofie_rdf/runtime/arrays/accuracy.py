"""What weights in fewer bits change: a model beside itself, on somebody's own events."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from sofie_rdf.errors import InputError, ModelError, printable
from sofie_rdf.ir.given import as_array, constant, in_order
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, concrete
from sofie_rdf.runtime.arrays.inputs import bind_inputs, each_array
from sofie_rdf.runtime.arrays.jagged import is_jagged
from sofie_rdf.runtime.compile.clock import InferLoop
from sofie_rdf.runtime.compile.session import Compiled

if TYPE_CHECKING:
    from sofie_rdf.model import Model

__all__ = ["Change", "Contender", "Events", "PrecisionLoss", "precision_loss"]

# Of the deviations of all numbers.
QUANTILES = (0.5, 0.9, 0.99, 0.999)
# Which part of the events a cut keeps where none is given: it is put where it does so.
KEPT = (0.5, 0.1, 0.01)


@dataclass(frozen=True)
class Change:
    """How far one output is from that of the float32 weights.

    ``scale`` is the standard deviation of the output over all events (its largest magnitude where
    that is 0); ``rms``, ``largest`` and ``quantiles`` (by fraction of the numbers) are of the
    deviations, in the output's unit. ``not_finite`` numbers are so on one side only, or other ones;
    they are in nothing else. ``cuts`` has for each cut the fraction of events that change sides,
    where an event gives one number; where it gives several, ``choices`` is the fraction whose
    largest is another one. ``auc`` is that of these and of the float32 weights, and for several
    numbers ``accuracy`` likewise; both need labels.
    """

    output: str
    numbers: int
    scale: float
    rms: float
    largest: float
    quantiles: Mapping[float, float]
    not_finite: int
    cuts: Mapping[float, float]
    choices: float | None = None
    auc: tuple[float, float] | None = None
    accuracy: tuple[float, float] | None = None


@dataclass(frozen=True)
class Contender:
    """A network in one precision: bytes of its weight file, microseconds, and what it changes.

    ``alone`` is the time of one event at a time in C++, ``many`` that of an event where the model
    has all of them at once; the least of a few rounds in turns. None is not measured. ``left`` are
    the weights that stay float32, with the reason; ``refused`` why there is no such network.
    """

    precision: str
    nbytes: int = 0
    alone: float | None = None
    many: float | None = None
    changes: tuple[Change, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True)
class PrecisionLoss:
    """What each precision costs and saves on ``events`` events: see `Model.precision_loss`."""

    model: str
    events: int
    contenders: tuple[Contender, ...]

    def __getitem__(self, precision: str) -> Contender:
        for one in self.contenders:
            if one.precision == precision:
                return one
        raise KeyError(precision)

    def __str__(self) -> str:
        lines = [f"{self.model}: weights in fewer bits, on {self.events:,} events", ""]
        lines += _aligned(
            ("weights", "bytes", "us alone", "us of many"),
            [
                (c.precision, f"{c.nbytes:,}", _time(c.alone), _time(c.many))
                for c in self.contenders
                if not c.refused
            ],
        )
        for output in dict.fromkeys(x.output for c in self.contenders for x in c.changes):
            lines += ["", *_about(output, self.contenders)]
        for one in self.contenders:
            notes = [one.refused] if one.refused else []
            notes += [f"{name} stays float32: {why}" for name, why in one.left.items()]
            lines += ["", *(f"{one.precision}: {note}" for note in notes)] if notes else []
        return printable("\n".join(lines))


def _about(output: str, contenders: Sequence[Contender]) -> list[str]:
    """The tables of one output."""
    rows = [(c.precision, x) for c in contenders for x in c.changes if x.output == output]
    first = rows[0][1]
    title = f"{output}: deviations in units of its spread, {first.scale:.4g}"
    heads = ("weights", "rms", *(f"{q:.1%}" for q in QUANTILES), "largest", "not finite")
    unit = first.scale or 1.0
    table = [
        (
            name,
            f"{x.rms / unit:.1e}",
            *(f"{x.quantiles[q] / unit:.1e}" for q in QUANTILES),
            f"{x.largest / unit:.1e}",
            f"{x.not_finite:,}",
        )
        for name, x in rows
    ]
    lines = [title, *_aligned(heads, table)]
    decisions = [*(f"> {cut:.4g}" for cut in first.cuts)]
    decisions += ["largest"] if first.choices is not None else []
    scores = [("AUC", "auc")] if first.auc else []
    scores += [("accuracy", "accuracy")] if first.accuracy else []
    if not decisions and not scores:
        return lines
    body = []
    for name, x in rows:
        changed = [*x.cuts.values()] + ([x.choices] if x.choices is not None else [])
        cells = [f"{100 * part:.4f} %" for part in changed]
        for _, attribute in scores:
            new, old = getattr(x, attribute)
            cells += [f"{new:.6f} ({new - old:+.1e})"]
        body.append((name, *cells))
    lines += [f"{output}: events that are decided otherwise"]
    return lines + _aligned(("weights", *decisions, *(title for title, _ in scores)), body)


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [heads, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:.3g}"


# Numbers ------------------------------------------------------------------------------------------


def _change(
    output: str, exact: Array, found: Array, cuts: Sequence[float], labels: Array | None
) -> Change:
    """``exact`` and ``found`` have a row for each event."""
    one, other = exact.astype(np.float64), found.astype(np.float64)
    good = np.isfinite(one) & np.isfinite(other)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    apart = np.abs(np.where(good, one, 0) - np.where(good, other, 0))[good]
    spread = float(np.std(one[good])) if good.any() else 0.0
    scale = spread or float(np.max(np.abs(one[good]), initial=0))
    several = one.reshape(len(one), -1)
    single = several.shape[1] == 1
    given = tuple(cuts) or (_usual(several[:, 0]) if single else ())
    crossed = {float(c): _part((one > c) != (other > c)) for c in given} if single else {}
    chosen = [np.argmax(x.reshape(several.shape), axis=1) for x in (one, other)]
    is_choice = not single and one.ndim == 2
    fractions = dict.fromkeys(QUANTILES, 0.0)
    if apart.size:
        fractions = {q: float(np.quantile(apart, q)) for q in QUANTILES}
    auc = accuracy = None
    if labels is not None and single:
        auc = _auc(other.reshape(-1), labels), _auc(one.reshape(-1), labels)
    elif labels is not None and is_choice:
        accuracy = _part(chosen[1] == labels), _part(chosen[0] == labels)
    return Change(
        output,
        int(one.size),
        scale,
        float(np.sqrt(np.mean(apart**2))) if apart.size else 0.0,
        float(np.max(apart, initial=0)),
        fractions,
        int(np.sum(~good & ~same)),
        crossed,
        _part(chosen[0] != chosen[1]) if is_choice else None,
        auc,
        accuracy,
    )


def _part(events: Array) -> float:
    return float(np.mean(events)) if events.size else 0.0


def _usual(scores: Array) -> tuple[float, ...]:
    """Cuts that keep these parts of the events."""
    finite = scores[np.isfinite(scores)]
    if not finite.size:
        return ()
    return tuple(dict.fromkeys(float(np.quantile(finite, 1 - part)) for part in KEPT))


def _auc(scores: Array, labels: Array) -> float:
    """The fraction of pairs of an event with label 1 and one with 0 that are in order."""
    positive = labels.astype(bool)
    count = int(positive.sum()) * int((~positive).sum())
    if not count or np.isnan(scores).any():
        return math.nan
    _, place, times = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(times) - (times - 1) / 2)[place]
    least = positive.sum() * (positive.sum() + 1) / 2
    return float((ranks[positive].sum() - least) / count)


def _numbers(values: Any) -> Array:
    """An output as NumPy has it: of lists of any length all numbers, one after the other."""
    if type(values).__module__.partition(".")[0] != "awkward":
        return np.asarray(values)
    import awkward

    try:
        return np.asarray(awkward.to_numpy(values, allow_missing=False))
    except ValueError:
        return np.asarray(awkward.to_numpy(awkward.flatten(values, axis=None)))


# The comparison -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Events:
    """Inputs as a call takes them, or, with ``columns``, events and options as for `score`."""

    arrays: tuple[Any, ...]
    named: Mapping[str, Any]
    columns: Any = None

    def feeds(self, graph: Graph) -> Mapping[str, Array] | None:
        """The inputs as NumPy arrays; None where they are awkward ones."""
        if self.columns is not None or any(map(is_jagged, each_array(self.arrays, self.named))):
            return None
        return bind_inputs(graph, self.arrays, self.named)[0]

    def outputs(self, model: Model) -> Mapping[str, Array]:
        """All outputs of a model for all events."""
        names = list(model.outputs)
        if self.columns is not None:
            texts = {"output": {name: name for name in names}}
            score: Any = model.score
            found = score(*self.arrays, self.columns, **{**self.named, **texts})
        else:
            found = model(*self.arrays, **self.named)
            found = found if len(names) > 1 else {names[0]: found}
        return {name: _numbers(found[name]) for name in names}


@dataclass(frozen=True)
class _Candidate:
    """A network that is compared, and its time of one event, if that can be taken."""

    precision: str
    model: Model
    loop: InferLoop | None


def precision_loss(
    model: Model, events: Events, precisions: Sequence[str], cuts: Sequence[float], labels: Any
) -> PrecisionLoss:
    """See `Model.precision_loss`."""
    cuts = [constant(cut, "cuts=") for cut in in_order(cuts, "cuts=")]
    feeds = events.feeds(model.compiled.graph)
    exact = _Candidate(model.precision, model, _loop(model.compiled, feeds))
    wanted = {o: a for o, a in events.outputs(model).items() if a.dtype.kind in "fiub" and a.ndim}
    if not wanted:
        raise ModelError("has no output with a number for each event", place=model.name)
    count = len(next(iter(wanted.values())))
    if not count:
        raise InputError("there are no events to compare the weights on")
    known = None if labels is None else as_array(labels, "labels=").reshape(-1)
    if known is not None and any(len(known) != len(a) for a in wanted.values()):
        raise InputError(f"there are {len(known)} labels for {count} events")
    made = [_made(model, one, feeds) for one in in_order(precisions, "precisions=")]
    running = [exact, *(one for one in made if isinstance(one, _Candidate))]
    times = _times(running, events, count)
    found = []
    for one in (exact, *made):
        if isinstance(one, Contender):
            found.append(one)
            continue
        got = {} if one is exact else events.outputs(one.model)
        changes = (_change(o, wanted[o], got[o], cuts, known) for o in wanted if o in got)
        left = {w.name: w.reason for w in one.model.weights if w.reason}
        size = len(one.model.emission.weights)
        found.append(Contender(one.precision, size, *times[one.precision], tuple(changes), left))
    return PrecisionLoss(model.name, count, tuple(found))


def _made(
    model: Model, precision: str, feeds: Mapping[str, Array] | None
) -> _Candidate | Contender:
    """The model in that precision; or why there is none."""
    try:
        other = model.with_precision(precision)
    except ModelError as error:
        return Contender(precision, refused=error.thing)
    return _Candidate(precision, other, _loop(other.compiled, feeds))


_ROUNDS = 7
# How long the calls of one round take.
_LONG = 0.02


def _times(
    running: Sequence[_Candidate], events: Events, count: int
) -> dict[str, tuple[float | None, float]]:
    """The least times of an event, alone and among many, in alternating rounds."""
    alone: dict[str, float] = {}
    many: dict[str, float] = {}
    for _ in range(_ROUNDS):
        for one in running:
            start = perf_counter()
            events.outputs(one.model)
            taken = (perf_counter() - start) / count
            many[one.precision] = min(taken, many.get(one.precision, math.inf))
            if one.loop is not None:
                calls = max(1, min(100_000, int(_LONG / max(one.loop.seconds(3) / 3, 1e-8))))
                taken = one.loop.seconds(calls) / calls
                alone[one.precision] = min(taken, alone.get(one.precision, math.inf))
    return {name: (alone.get(name), taken) for name, taken in many.items()}


def _loop(compiled: Compiled, feeds: Mapping[str, Array] | None) -> InferLoop | None:
    """Calls for one event; None where events cannot be told apart.

    It is the first one, or a random one where the inputs are made of columns.
    """
    graph = compiled.graph
    if not graph.leading_symbol or compiled.owned:
        return None
    sizes = {graph.leading_symbol: 1}
    random = np.random.default_rng(1)
    one = {}
    for name in graph.inputs:
        type_ = graph.types[name]
        shape = concrete(type_.shape, sizes)
        if feeds is None:
            values = np.asarray(random.normal(size=shape)).astype(type_.dtype.numpy)
        else:
            values = feeds[name][: shape[0]] if shape else feeds[name]
        one[name] = values
    return InferLoop(compiled, one, sizes)
