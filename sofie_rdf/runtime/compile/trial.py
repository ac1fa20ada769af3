"""The first result: what compiled code gives on random events, beside the NumPy reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import InputError, JitError, LimitExceeded, ShapeError
from sofie_rdf.ir.dims import evaluate as evaluate_dim
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.types import Array, DType, concrete
from sofie_rdf.reference import evaluate

__all__ = ["Infer", "Trial", "bounds", "trials", "try_out"]

Infer = Callable[[Mapping[str, Array], Mapping[str, int]], Mapping[str, Array]]

# Far above rounding, far below what a wrong kernel, a wrong packing or a missing symbol gives.
_AGREE = 1e-2
# Where floats are rounded to whole numbers: how near to the next one either is right, in parts of
# the largest of them, and how many times that is tried.
_NEAR = 1e-5
_DISTURBED = 4
# What is this much smaller than the largest number on its way may be what is left of numbers that
# cancel. Then all numbers are changed by some units in the last place, and that is tried twice.
_CANCELS = 1e-4
_UNITS = 8
_ROUNDED = 2
# What dynamic axes are: the first is the batch, 2; the others are lengths, of which some networks
# need more than a few.
_TRIAL_SIZES = (2, 24)
# Multiplications beyond which the NumPy reference would take longer than the compilation.
_MOST = 300_000_000


@dataclass(frozen=True)
class Trial:
    """Events, and the outputs for them: as the types of the graph give them, and in wider ones.

    Where these differ nothing is settled. ``noise`` is for outputs that rounding of what they are
    made of decides: how far that may go.
    """

    sizes: Mapping[str, int]
    feeds: Mapping[str, Array]
    expected: Mapping[str, Array]
    exact: Mapping[str, Array]
    noise: Mapping[str, float] = field(default_factory=dict)

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
        if _multiplications(graph, all_sizes) > most:
            continue
        # What a trial costs is not missing later.
        with limits.budget(limits.remaining()):
            try:
                trial = _trial(graph, sizes, all_sizes, random)
            except _MEANINGLESS:
                continue
        yield trial


# These sizes mean nothing to the model; which ones do is not known here. Or they cost too much.
_MEANINGLESS = (ValueError, ShapeError, InputError, ArithmeticError, IndexError, LimitExceeded)


def _multiplications(graph: Graph, sizes: Mapping[str, int]) -> int:
    """Those of one call, summed up as numbers: of many sizes the sum would be long."""
    types = graph.types
    inputs = ([types[i] if i else None for i in node.inputs] for node in graph.nodes)
    each = (n.op.multiply_adds(i) for n, i in zip(graph.nodes, inputs, strict=True))
    return sum(evaluate_dim(dim, sizes) for dim in each)


def _trial(
    graph: Graph, sizes: Mapping[str, int], all_sizes: Mapping[str, int], random: Any
) -> Trial:
    # The reference keeps all values, and those of float32 a second time in float64.
    values = sum(max(evaluate_dim(t.nbytes, all_sizes), 0) for t in graph.types.values())
    limits.require(bytes=3 * values, what="a trial")
    feeds = {name: _example(graph, name, sizes, random) for name in graph.inputs}
    exact = evaluate(graph, feeds, wide=True)
    largest = _Largest()
    expected = evaluate(graph, feeds, disturb=largest)
    noise = _noise(graph, feeds, expected, exact, largest.found)
    return Trial(sizes, feeds, expected, _doubted(graph, feeds, expected, exact), noise)


def _noise(
    graph: Graph,
    feeds: Mapping[str, Array],
    expected: Mapping[str, Array],
    exact: Mapping[str, Array],
    largest: float,
) -> dict[str, float]:
    """How far outputs may be off that are nothing but the rounding of larger numbers.

    The derivative of a sum of softmax is 0 in one order of additions and 1e-8 in another.
    """
    floats = [n for n in graph.outputs if graph.types[n].dtype.is_float]
    sizes = {n: _size(exact[n]) for n in floats if _size(exact[n]) <= _CANCELS * largest}
    if not sizes:
        return {}
    found = dict.fromkeys(sizes, 0.0)
    for number in range(_ROUNDED):
        try:
            other = evaluate(graph, feeds, disturb=_Rounded(number))
        except _MEANINGLESS:
            continue
        for name in found:
            if other[name].shape == expected[name].shape:
                with np.errstate(invalid="ignore"):  # Of infinities in both.
                    far = other[name].astype(np.float64) - expected[name].astype(np.float64)
                found[name] = max(found[name], 4 * _size(far))
    # What goes further is a jump, say of a comparison, and no rounding.
    return {name: far for name, far in found.items() if sizes[name] <= far <= _CANCELS * largest}


def _size(array: Array) -> float:
    """The largest finite number, without its sign."""
    wide = np.abs(np.asarray(array).astype(np.float64))
    return float(np.max(wide[np.isfinite(wide)], initial=0.0))


class _Largest:
    """The largest of all floating-point numbers that nodes read and give."""

    def __init__(self) -> None:
        self.found = 0.0

    def __call__(self, _node: Node, _value: str, array: Array) -> Array:
        if DType.of(array).is_float:
            self.found = max(self.found, _size(array))
        return array


class _Rounded:
    """All floating-point numbers, by some units in the last place larger or smaller."""

    def __init__(self, number: int) -> None:
        self._signs = np.random.default_rng(number)

    def __call__(self, _node: Node, _value: str, array: Array) -> Array:
        dtype = DType.of(array)
        if not dtype.is_float:
            return array
        unit = 2.0**-7 if dtype.is_half else float(np.finfo(array.dtype).eps)
        factors = 1 + _UNITS * unit * self._signs.choice((-1.0, 1.0), array.shape)
        with np.errstate(all="ignore"):
            return np.asarray(array.astype(np.float64) * factors).astype(array.dtype)


def _doubted(
    graph: Graph, feeds: Mapping[str, Array], expected: Mapping[str, Array], exact: dict[str, Array]
) -> dict[str, Array]:
    """The exact outputs, with another number where whole ones hang on how floats are rounded.

    tanh(9) as an integer is 0 or 1. What is computed in floats is made a little larger, smaller,
    and both, and whole numbers that are others then are not settled.
    """
    whole = [name for name in graph.outputs if expected[name].dtype.kind in "iub"]
    if not whole or not any(_makes_whole(graph, node) for node in graph.nodes):
        return exact
    found = dict(exact)
    for number in range(_DISTURBED):
        try:
            other = evaluate(graph, feeds, disturb=_Disturbed(graph, number))
        except _MEANINGLESS:
            continue
        for name in whole:
            if other[name].shape == found[name].shape == expected[name].shape:
                found[name] = np.where(other[name] == expected[name], found[name], other[name])
    return found


def _makes_whole(graph: Graph, node: Node) -> bool:
    """Whether a node reads floats and gives something else."""
    reads = any(graph.types[name].dtype.is_float for name in node.inputs if name)
    return reads and not all(graph.types[name].dtype.is_float for name in node.outputs)


class _Disturbed:
    """All that is not exact, by `_NEAR` larger, smaller, or one of them for each element."""

    def __init__(self, graph: Graph, number: int) -> None:
        self._types = graph.types
        self._signs = np.random.default_rng(number)
        self._sign = (1.0, -1.0)[number] if number < 2 else 0.0

    def __call__(self, node: Node, value: str, array: Array) -> Array:
        tolerance, dtype = node.op.tolerance, self._types[value].dtype
        # What is rounded to the nearest number is the same everywhere.
        rounded = tolerance.ulp > 0.5 or tolerance.terms or node.op.bodies
        if value not in node.outputs or not rounded or not dtype.is_float:
            return array
        wide = array.astype(np.float64)
        near = 4 * 2.0**-7 if dtype.is_half else _NEAR
        sign = self._sign or self._signs.choice((-1.0, 1.0), array.shape)
        with np.errstate(all="ignore"):
            size = np.abs(wide)
            size += np.max(size[np.isfinite(size)], initial=0.0)
            return np.asarray(wide + sign * near * size).astype(array.dtype)


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
        scale = _size(exact)
        bound = np.maximum(_AGREE * (np.abs(exact) + scale), trial.noise.get(name, 0.0))
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
