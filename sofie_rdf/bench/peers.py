"""The other programs that evaluate the same network, and what was found of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sofie_rdf.bench.measure import Contestant, Deviation, Spread, compare
from sofie_rdf.bench.models import Task, empty_task
from sofie_rdf.bench.narrow import InPrecision
from sofie_rdf.bench.ort import Onnxruntime, noise
from sofie_rdf.errors import ModelError

__all__ = [
    "REFERENCE",
    "Form",
    "Peer",
    "Ready",
    "Rival",
    "all_peers",
    "check",
    "contestants",
    "how_far",
    "prepare",
]


class Peer(Protocol):
    """A program that may be installed. What it needs is imported when it is called first.

    ``overhead`` says whether a call costs something that is no part of the network.
    """

    name: str
    overhead: bool

    def absence(self) -> str:
        """Why it cannot be used here; empty if it can."""

    def version(self) -> str:
        """Of what is installed."""

    def forms(self, task: Task) -> Iterator[tuple[str, Contestant]]:
        """Each way to call it, by name. What it raises is the reason why it does not take part."""


# Its numbers must be ours, or nothing is timed.
REFERENCE = Onnxruntime()


def all_peers() -> list[Peer]:
    """Every peer that this tool knows, installed or not."""
    from sofie_rdf.bench.keras_peer import Keras
    from sofie_rdf.bench.native import BySystemCompiler
    from sofie_rdf.bench.sofie_package import SofiePackage
    from sofie_rdf.bench.torch_peer import Torch

    return [REFERENCE, BySystemCompiler(), SofiePackage(), Torch(), Keras()]


# Before the measurement ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """A peer that is ready to be timed, or the reason why it does not take part."""

    name: str
    forms: Mapping[str, Contestant]
    empty: Mapping[str, Contestant]
    deviations: Mapping[str, Deviation]
    absent: str = ""


def prepare(peer: Peer, task: Task, ours: Mapping[str, Contestant]) -> Ready:
    """Its forms for this task, whose numbers are ours; and those of a network that does nothing."""
    absent = peer.absence()
    if absent:
        return Ready(peer.name, {}, {}, {}, absent)
    try:
        forms = dict(peer.forms(task))
        if isinstance(peer, InPrecision):
            deviations = how_far(ours, forms)
        else:
            deviations = check(task, ours, forms, peer.name)
        empty = dict(peer.forms(empty_task(task))) if peer.overhead else {}
    except Exception as error:  # Other programs raise what they like.
        if peer is REFERENCE:
            raise
        return Ready(peer.name, {}, {}, {}, _reason(error))
    return Ready(peer.name, forms, empty, deviations)


def how_far(
    ours: Mapping[str, Contestant], theirs: Mapping[str, Contestant]
) -> dict[str, Deviation]:
    """Each form's deviation from ours, where other numbers are what was asked for."""
    one = next(iter(ours.values()))
    for contestant in (one, *theirs.values()):
        contestant.seconds(1)
    return {name: compare(one.outputs(), their.outputs()) for name, their in theirs.items()}


def check(
    task: Task, ours: Mapping[str, Contestant], theirs: Mapping[str, Contestant], peer: str
) -> dict[str, Deviation]:
    """Each form's largest deviation from any of ours; `ModelError` where it is not rounding."""
    allowed: list[float] = []
    for contestant in (*ours.values(), *theirs.values()):
        contestant.seconds(1)
    found: dict[str, Deviation] = {}
    for name, their in theirs.items():
        for our_name, our in ours.items():
            one = compare(our.outputs(), their.outputs(), allowed)
            if one.problem and not allowed:
                allowed = noise(task.candidate.source, task.feeds)
                one = compare(our.outputs(), their.outputs(), allowed)
            if one.problem:
                raise _OtherNumbers(
                    f"the numbers of sofie_rdf ({our_name}) and {peer} ({name}) are not the "
                    f"same, so nothing is timed: {one.problem}",
                    place=task.candidate.name,
                    remedy="Please report it",
                )
            found[name] = max(found.get(name, one), one, key=lambda d: d.largest)
    return found


class _OtherNumbers(ModelError):
    """More than rounding."""


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, _OtherNumbers):
        return f"other numbers: {error.thing.partition(': ')[2]}"
    return lines[0] if isinstance(error, ModelError) else f"{type(error).__name__}: {lines[0]}"


# After it -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """One way to call a peer: its time, and that of the same call without a network."""

    name: str
    times: Spread
    overhead: Spread | None
    deviation: Deviation

    @property
    def net(self) -> float:
        """The median without that of the overhead; 0 where nothing is left."""
        return max(0.0, self.times.median - (self.overhead.median if self.overhead else 0.0))

    def to_json(self) -> dict[str, Any]:
        return {
            "us": self.times.to_json(1e-6),
            "overhead_us": self.overhead.to_json(1e-6) if self.overhead else None,
            "net_us": self.net * 1e6,
            "deviation": self.deviation.to_json(),
        }

    @classmethod
    def from_json(cls, name: str, read: Mapping[str, Any]) -> Form:
        overhead = read["overhead_us"]
        return cls(
            name,
            Spread.from_json(read["us"], 1e-6),
            Spread.from_json(overhead, 1e-6) if overhead else None,
            Deviation(**read["deviation"]),
        )


@dataclass(frozen=True)
class Rival:
    """A peer's times on one task, or the reason why there are none."""

    name: str
    forms: tuple[Form, ...]
    absent: str = ""

    @property
    def best(self) -> Form:
        """The fastest way to call it."""
        return min(self.forms, key=lambda f: f.times.median)

    @classmethod
    def of(cls, ready: Ready, times: Mapping[str, Spread]) -> Rival:
        """``times`` have the names that `contestants` gives."""
        forms = (
            Form(n, times[f"{ready.name} {n}"], times.get(f"{ready.name} empty {n}"), deviation)
            for n, deviation in ready.deviations.items()
        )
        return cls(ready.name, tuple(forms), ready.absent)

    def to_json(self) -> dict[str, Any]:
        if self.absent:
            return {"absent": self.absent}
        return {"best": self.best.name, "forms": {f.name: f.to_json() for f in self.forms}}

    @classmethod
    def from_json(cls, name: str, read: Mapping[str, Any]) -> Rival:
        forms = (Form.from_json(n, f) for n, f in read.get("forms", {}).items())
        return cls(name, tuple(forms), read.get("absent", ""))


def contestants(ready: Ready) -> dict[str, Contestant]:
    """All that are to be timed, under the names that `Rival.of` knows."""
    forms = {f"{ready.name} {n}": c for n, c in ready.forms.items()}
    return forms | {f"{ready.name} empty {n}": c for n, c in ready.empty.items()}
