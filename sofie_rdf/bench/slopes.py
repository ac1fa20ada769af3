"""``sofie-rdf bench --gradient``: value and gradient beside the value alone, torch and JAX.

Times are of the CPU, not of the clock: what else runs on the machine stretches long calls only.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from rich.table import Table

from sofie_rdf.bench import report
from sofie_rdf.bench.jax_peer import jax_slopes
from sofie_rdf.bench.measure import Contestant, Plan, Spread, alternate, compare
from sofie_rdf.bench.models import Candidate, FreeSizes, Task, candidates, task_for
from sofie_rdf.bench.torch_peer import torch_slopes
from sofie_rdf.errors import ModelError, SofieError
from sofie_rdf.ir.dims import evaluate
from sofie_rdf.ir.types import Array
from sofie_rdf.model import Model
from sofie_rdf.runtime.compile.clock import InferLoop

__all__ = ["USUAL", "Slope", "measure_slopes", "run"]

# What is measured where nothing is named.
USUAL = ("higgs", "linear50x10", "mlp200x5", "deepsets", "transformer", "particlenet")

_NOTES = """\
CPU times of one call with the whole batch, of all threads, medians over rounds in which all take
turns. One thread works, but JAX's runtime may pass parts of a call on to others.
value      the model alone      both   the model and the derivatives of the sum of all outputs
ratio      both / value, the median of the ratios of the rounds
torch      value and gradient by torch.autograd        JAX   by jit(value_and_grad)
scratch    the memory of both, for one call
A peer with a reason in place of a time did not take part."""


@dataclass(frozen=True)
class Slope:
    """Value, and value and gradient, of one network at one batch size; seconds of the CPU."""

    model: str
    batch: int
    value: Spread
    both: Spread
    scratch: int
    # Each peer's times, or why there are none.
    peers: Mapping[str, Spread | str]

    @property
    def ratio(self) -> float:
        pairs = zip(self.value.rounds, self.both.rounds, strict=True)
        return float(np.median([both / value for value, both in pairs if value > 0]))

    def to_json(self) -> dict[str, Any]:
        peers = {
            name: found if isinstance(found, str) else {"us": found.to_json(1e-6)}
            for name, found in self.peers.items()
        }
        return {
            "model": self.model,
            "batch": self.batch,
            "value_us": self.value.to_json(1e-6),
            "value_and_gradient_us": self.both.to_json(1e-6),
            "ratio": self.ratio,
            "scratch_bytes": self.scratch,
            "peers": peers,
        }


class _OfCpu:
    """Another contestant, whose time is that of the CPU."""

    def __init__(self, contestant: Contestant) -> None:
        self._contestant = contestant

    def seconds(self, calls: int) -> float:
        start = process_time()
        self._contestant.seconds(calls)
        return process_time() - start

    def outputs(self) -> list[Array]:
        return self._contestant.outputs()


def measure_slopes(
    model: Model, derived: Model, task: Task, batch: int, plan: Plan, wanted: Sequence[str] | None
) -> Slope:
    """The times; `ModelError` if a derivative is not what a peer gives."""
    feeds = _with_ones(derived, task)
    both = InferLoop(derived.compiled, feeds, task.sizes)
    both.seconds(1)

    def beside() -> list[list[Array]]:
        moved = (_moved(feeds, task.feeds, number) for number in range(_MOVED))
        found = (derived.compiled.infer(one, task.sizes) for one in moved)
        return [list(outputs.values()) for outputs in found]

    every: dict[str, Contestant] = {
        "value": InferLoop(model.compiled, task.feeds, task.sizes),
        "both": both,
    }
    reasons: dict[str, str] = {}
    for name, made in _PEERS.items():
        if wanted is not None and name not in wanted:
            continue
        try:
            every[name] = made(task)
        except SofieError as error:
            reasons[name] = str(error)
            continue
        count = len(model.graph.outputs)
        _require_same(derived, count, both.outputs(), every[name].outputs(), name, beside)
    times = alternate({name: _OfCpu(c) for name, c in every.items()}, plan)
    known = {name: times[name] for name in every if name in _PEERS}
    return Slope(
        task.candidate.name,
        batch,
        times["value"],
        times["both"],
        derived.emission.pieces.most(task.sizes),
        {**known, **reasons},
    )


def _with_ones(derived: Model, task: Task) -> dict[str, Array]:
    """The feeds, and ones for what outputs are multiplied with."""
    types = derived.graph.types
    more = (name for name in derived.graph.inputs if name not in task.feeds)
    shapes = {n: [evaluate(d, task.sizes) for d in types[n].shape] for n in more}
    ones = {n: np.ones(shape, types[n].dtype.numpy) for n, shape in shapes.items()}
    return {**task.feeds, **ones}


def _moved(feeds: Mapping[str, Array], given: Mapping[str, Array], number: int) -> dict[str, Array]:
    """The feeds, with those that are given moved by as little as float32's rounding may do."""
    random, found = np.random.default_rng(number), dict(feeds)
    for name, array in given.items():
        if array.dtype.kind == "f":
            step = _STEP * np.max(np.abs(array), initial=0)
            found[name] = (array + step * random.normal(size=array.shape)).astype(array.dtype)
    return found


def _require_same(
    derived: Model,
    values: int,
    ours: Sequence[Array],
    theirs: Sequence[Array],
    peer: str,
    beside: Callable[[], Sequence[Sequence[Array]]],
) -> None:
    """`ModelError` unless values, which come first, and derivatives are what a peer gives.

    ``beside`` is what we give at inputs that are moved a little.
    """
    same = not compare(ours[:values], theirs[:values]).problem
    found = compare(ours, theirs)
    if not found.problem:
        return
    moved = beside() if same else []
    near = [one[values:] for one in moved]
    if not near or not _but_at_kinks(ours[values:], theirs[values:], near):
        raise ModelError(f"is not what {peer} gives: {found.problem}", place=derived.name)


def _but_at_kinks(
    ours: Sequence[Array], theirs: Sequence[Array], near: Sequence[Sequence[Array]]
) -> bool:
    """Whether nearly all derivatives are the same, and the others are at kinks.

    Of millions of units one is so near to its kink that rounding decides on which side it is. Such
    a derivative jumps where inputs are moved by as little: ``near`` is what we give there. One that
    is wrong does not.
    """
    if [a.shape for a in ours] != [a.shape for a in theirs]:
        return False
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        largest, apart = np.max(np.abs(other), initial=0), np.abs(one - other)
        few = np.mean(~(apart <= _NEAR * largest)) <= _AT_KINKS
        jumps = np.max([np.abs(moved[number] - one) for moved in near], axis=0)
        at_kinks = np.all(apart <= _NEAR * largest + 2 * jumps)
        if not (few and at_kinks) or not np.max(apart, initial=0) <= _KINK * largest:
            return False
    return True


# Derivatives that differ by more than the first part of the largest one may be the second part of
# all, and differ by the third part of it.
_NEAR, _AT_KINKS, _KINK = 1e-4, 0.01, 0.05
# Inputs are moved so often, by so large a part of the largest one.
_MOVED, _STEP = 16, 3e-7


# Peers --------------------------------------------------------------------------------------------


def _torch(task: Task) -> Contestant:
    if not find_spec("torch"):
        raise ModelError("not installed")
    return torch_slopes(task)


def _jax(task: Task) -> Contestant:
    if not find_spec("jax"):
        raise ModelError("not installed")
    return jax_slopes(task)


_PEERS: Mapping[str, Callable[[Task], Contestant]] = {"torch": _torch, "JAX": _jax}


# The course ---------------------------------------------------------------------------------------


def run(arguments: Namespace) -> int:
    """Measure and report; 1 if a number is wrong or a network has no gradient."""
    found: list[Slope] = []
    wrong: list[str] = []
    for one in candidates(arguments.models or USUAL):
        _add(found, wrong, one, arguments)
    text = json.dumps([slope.to_json() for slope in found], indent=1)
    if arguments.json == "-":
        sys.stdout.write(f"{text}\n")
    else:
        if arguments.json:
            Path(arguments.json).write_text(text)
        report.show([_table(found), _NOTES])
    for text in wrong:
        report.complain(text)
    return int(bool(wrong))


def _add(found: list[Slope], wrong: list[str], one: Candidate, arguments: Namespace) -> None:
    """One network more, or why there is none: the others are still worth measuring."""
    try:
        found.extend(_slopes_of(one, arguments))
    except SofieError as error:
        wrong.append(str(error.at(one.name)))


def _slopes_of(one: Candidate, arguments: Namespace) -> Iterator[Slope]:
    free = FreeSizes(dict(arguments.size), arguments.free)
    plan = Plan(arguments.rounds, arguments.seconds, arguments.limit)
    derived = one.model.gradient(vjp=True)
    for batch in one.batches(arguments.batch, free):
        task = task_for(one, batch, free)
        yield measure_slopes(one.model, derived, task, batch, plan, arguments.peers)


def _table(slopes: Sequence[Slope]) -> Table:
    table = Table("model", "batch", "value", "both", "ratio", *_PEERS, "scratch")
    for slope in slopes:
        peers = (slope.peers.get(name, "not asked") for name in _PEERS)
        times = [p if isinstance(p, str) else report.microseconds(p.median) for p in peers]
        own = (report.microseconds(s.median) for s in (slope.value, slope.both))
        cells = [slope.model, str(slope.batch), *own, f"{slope.ratio:.2f}", *times]
        table.add_row(*cells, f"{slope.scratch:,} B")
    return table
