"""The first result: what compiled code gives on random events, beside the NumPy reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sofie_rdf.errors import InputError, JitError, ShapeError
from sofie_rdf.ir.dims import evaluate as evaluate_dim
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType, concrete
from sofie_rdf.reference import evaluate

__all__ = ["Infer", "Trial", "bounds", "trials", "try_out"]

Infer = Callable[[Mapping[str, Array], Mapping[str, int]], Mapping[str, Array]]

# Far above rounding, far below what a wrong kernel, a wrong packing or a missing symbol gives.
_AGREE = 1e-2
# What dynamic axes are: the first is the batch, 2; the others are lengths, of which some networks
# need more than a few.
_TRIAL_SIZES = (2, 24)
# Multiplications beyond which the NumPy reference would take longer than the compilation.
_MOST = 300_000_000


@dataclass(frozen=True)
class Trial:
    """Events, and the outputs for them: as the types of the graph give them, and in wider ones."""

    sizes: Mapping[str, int]
    feeds: Mapping[str, Array]
    expected: Mapping[str, Array]
    exact: Mapping[str, Array]

    def check(self, name: str, found: Mapping[str, Array]) -> None:
        """Nothing if these outputs are right; else `JitError`."""
        for output in self.expected:
            if not _agree(self, output, found[output]):
                wrong = f"output {output!r} of the compiled code differs from the reference"
                raise JitError(
                    f"{name}: {wrong}",
                    remedy="This is a bug of sofie_rdf (or of your own operator): please report it",
                )


def trials(graph: Graph, most: int = _MOST) -> Iterator[Trial]:
    """Trials of several sizes; none whose reference takes more than ``most`` multiplications."""
    for length in _TRIAL_SIZES:
        sizes = {name: length if i else 2 for i, name in enumerate(graph.symbols)}
        random = np.random.default_rng(1)
        all_sizes = {**dict.fromkeys(graph.data_symbols, 2), **sizes}
        if evaluate_dim(graph.multiply_adds, all_sizes) > most:
            continue
        feeds = {name: _example(graph, name, sizes, random) for name in graph.inputs}
        try:
            exact = evaluate(graph, feeds, wide=True)
            expected = evaluate(graph, feeds)
        except _MEANINGLESS:
            continue
        yield Trial(sizes, feeds, expected, exact)


# These sizes mean nothing to the model; which ones do is not known here.
_MEANINGLESS = (ValueError, ShapeError, InputError, ArithmeticError, IndexError)


def try_out(name: str, infer: Infer, candidates: Iterator[Trial]) -> Trial | None:
    """Compare with the first trial whose sizes the model takes, and return it.

    `JitError` if the results differ: a symbol that is missing at run time is no exception in
    Cling, where the call returns rubbish.
    """
    for trial in candidates:
        try:
            found = infer(trial.feeds, trial.sizes)
        except _MEANINGLESS:
            continue
        trial.check(name, found)
        return trial
    return None


def _example(graph: Graph, name: str, sizes: Mapping[str, int], random: Any) -> Array:
    type_ = graph.types[name]
    shape = concrete(type_.shape, sizes)
    if type_.dtype.is_float:
        return np.asarray(random.normal(size=shape)).astype(type_.dtype.numpy)
    return np.asarray(random.integers(0, 2, size=shape)).astype(type_.dtype.numpy)


def bounds(trial: Trial, name: str) -> Array:
    """How far each element of a right output may be from what is expected; -1: as far as it likes.

    What rounding may decide either way is not settled; most elements are.
    """
    expected, exact = (np.asarray(a[name]) for a in (trial.expected, trial.exact))
    if DType.of(expected).is_half:
        expected, exact = expected.astype(np.float64), exact.astype(np.float64)
    if expected.dtype.kind != "f":
        return np.where(expected == exact, 0.0, -1.0)
    with np.errstate(all="ignore"):
        scale = np.max(np.abs(exact[np.isfinite(exact)]), initial=0.0)
        bound = _AGREE * (np.abs(exact) + scale)
        settled = (np.abs(expected - exact) <= bound / 10) & np.isfinite(exact)
        return np.where(settled, bound, -1.0).astype(np.float64)


def _agree(trial: Trial, name: str, found: Any) -> bool:
    expected = trial.expected[name]
    if found.dtype != expected.dtype or found.ndim != expected.ndim:
        return False
    if not found.size and not expected.size:
        return True  # What a loop has stacked in no round has sizes that mean nothing.
    if found.shape != expected.shape:
        return False
    allowed = bounds(trial, name)
    if DType.of(found).is_half:
        found, expected = found.astype(np.float64), expected.astype(np.float64)
    if found.dtype.kind != "f":
        return bool(np.all((found == expected) | (allowed < 0)))
    with np.errstate(all="ignore"):
        return bool(np.all((np.abs(found - expected) <= allowed) | (allowed < 0)))
