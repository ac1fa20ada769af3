"""The graph beside torch: what was traced, exported or specialised wrongly ends here.

Exporters may keep what was true for the example alone: the branch that Python took, a size, a
number computed outside the graph. So the graph is compared with torch at the example, at other
numbers, and at other sizes of every open axis. Where it draws random numbers that is done with
known draws, see `torch.random`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sofie_rdf.errors import ModelError
from sofie_rdf.frontends.torch.inputs import BATCH, Inputs, array_of
from sofie_rdf.frontends.torch.random import QUANTILES, draws, graph_at, require_as_many, run_at
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate

if TYPE_CHECKING:
    import torch

__all__ = ["GROWTH", "Run", "compare", "rounding"]

Run: TypeAlias = Callable[[Sequence[Any]], "list[Array]"]

# A deviation of so many ulp of the largest number is rounding, whatever the network.
ULPS = 16
HALF_ULPS = 2
# Else the network says how errors grow in it: every value that a node reads is changed in its last
# bit. Sums in another order and functions of a few ulp are so many times that, at most.
GROWTH = 10
DISTURBANCES = 3
# How many other sizes of an axis are tried. From so many seconds for a call of torch on, which are
# many more for NumPy, only two are, and they have other numbers as well.
SIZES = 3
SLOW = 0.1


@dataclass(frozen=True)
class _Trial:
    """Inputs at which both are asked, and how to call them."""

    label: str
    tensors: tuple[torch.Tensor, ...]


def compare(graph: Graph, run: Run, inputs: Inputs, names: Sequence[str]) -> None:
    """`ModelError` where the graph and torch differ by more than rounding.

    ``run`` is torch: tensors in the order of ``inputs.tensors`` to arrays in the order of the
    graph's outputs. ``names`` are the graph's inputs for these tensors.
    """
    examples = tuple(leaf.example for leaf in inputs.tensors)
    if not draws(graph):
        _refuse_random(run(examples), run(examples))
        _compare_all(graph, run, inputs, names)
        return

    def evaluated(known: Graph) -> None:
        evaluate(known, _given(known, names, _Trial("the example inputs", examples)))

    for q in QUANTILES:
        _compare_all(graph_at(graph, q), run_at(run, q), inputs, names)
    require_as_many(graph, run, examples, evaluated)
    _require_numbers(graph, names, _Trial("the example inputs", examples), run(examples))


def _compare_all(graph: Graph, run: Run, inputs: Inputs, names: Sequence[str]) -> None:
    """At the example, at other numbers, and at other sizes."""
    examples = tuple(leaf.example for leaf in inputs.tensors)
    start = time.monotonic()
    first = run(examples)
    slow = time.monotonic() - start > SLOW
    _judge(graph, names, _Trial("the example inputs", examples), first)
    for trial in _other_numbers(examples):
        if not (slow and inputs.sizes):
            _compare(graph, run, names, trial)
    for symbol in inputs.sizes:
        trials = list(_other_sizes(inputs, symbol, run, 2 if slow else SIZES))
        for trial in trials:
            _compare(graph, run, names, trial)
        if not trials:
            raise ModelError(
                f"torch runs with no other size of {symbol!r} than {inputs.sizes[symbol]}",
                remedy="Leave that axis out of dynamic= (dynamic={} leaves out all), or give "
                "example inputs for which other sizes make sense",
            )


def _compare(graph: Graph, run: Run, names: Sequence[str], trial: _Trial) -> bool:
    """Whether torch can be asked there, and then has the same answer."""
    try:
        wanted = run(trial.tensors)
    except Exception:
        return False
    _judge(graph, names, trial, wanted)
    return True


def _refuse_random(one: Sequence[Array], other: Sequence[Array]) -> None:
    for first, second in zip(one, other, strict=True):
        if first.shape != second.shape or not np.array_equal(
            first, second, equal_nan=first.dtype.kind == "f"
        ):
            raise ModelError(
                "torch gives other numbers each time, and the exported network does not",
                remedy="What Python keeps or draws between calls was fixed while it was exported: "
                "draw random numbers with torch.randn and its like",
            )


# Where they are compared --------------------------------------------------------------------------


def _other_numbers(examples: Sequence[torch.Tensor]) -> Iterator[_Trial]:
    """The same sizes: the example with opposite signs, and random numbers like it."""
    import torch

    negative = tuple(-e if e.is_floating_point() else e for e in examples)
    yield _Trial("the negative of the example inputs", negative)
    made = torch.Generator().manual_seed(1)
    yield _Trial("random inputs", tuple(_like(e, made) for e in examples))


def _like(example: torch.Tensor, made: torch.Generator) -> torch.Tensor:
    """Random numbers as wide as the example's; integers and booleans are those of the example."""
    import torch

    if not example.numel():
        return example
    if not example.is_floating_point():
        order = torch.randperm(example.numel(), generator=made)
        return example.flatten()[order].reshape(example.shape)
    wide = example.double()
    finite = wide[wide.isfinite()]
    spread = float(finite.std()) if finite.numel() > 1 else 0.0
    middle = float(finite.mean()) if finite.numel() else 0.0
    noise = torch.randn(example.shape, generator=made, dtype=torch.float64)
    return (middle + (spread or 1.0) * noise).to(example.dtype)


def _other_sizes(inputs: Inputs, symbol: str, run: Run, most: int) -> Iterator[_Trial]:
    """Other sizes of one axis with which torch runs; 1 is among them for the batch."""
    import torch

    size, made = inputs.sizes[symbol], torch.Generator().manual_seed(2)
    listed = (size + 1, 4 * size + 1, size - 1, 2 * size, size // 2, 4 * size, 1, 8, 16, 32, 64)
    wanted = dict.fromkeys((1, *listed) if symbol == BATCH else listed)
    found = 0
    for other in wanted:
        if other < 1 or other == size or found == most:
            continue
        tensors = tuple(leaf.example for leaf in inputs.at({symbol: other}).tensors)
        random = tuple(_like(t, made) if t.is_floating_point() else t for t in tensors)
        if _runs(run, random):
            found += 1
            yield _Trial(f"{symbol} = {other}", random)


def _runs(run: Run, tensors: Sequence[torch.Tensor]) -> bool:
    try:
        run(tensors)
    except Exception:
        return False
    return True


# The comparison -----------------------------------------------------------------------------------


def _judge(graph: Graph, names: Sequence[str], trial: _Trial, wanted: Sequence[Array]) -> None:
    given = _given(graph, names, trial)
    try:
        outputs = evaluate(graph, given)
    except Exception as error:
        raise ModelError(
            f"torch computes it with {trial.label}, and the exported network does not: {error}",
            remedy=_REMEDY,
        ) from error
    noise: Mapping[str, float] | None = None
    for name, expected in zip(graph.outputs, wanted, strict=True):
        found = outputs[name]
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise ModelError(
                f"output {name!r} is {found.dtype}{list(found.shape)} with {trial.label}; torch "
                f"gives {expected.dtype}{list(expected.shape)}",
                remedy=_REMEDY,
            )
        deviation, scale = _difference(found, expected)
        allowed = _ulps(expected) * scale
        if deviation <= allowed:
            continue
        noise = noise or rounding(graph, given, outputs)
        allowed += GROWTH * noise[name]
        if not deviation <= allowed:
            raise ModelError(
                f"output {name!r} of the exported network differs from torch by {deviation:.2g} "
                f"with {trial.label}; rounding explains {allowed:.1g}",
                remedy=_REMEDY,
            )


def _given(graph: Graph, names: Sequence[str], trial: _Trial) -> dict[str, Array]:
    """What the graph is fed with."""
    arrays = (array_of(t) for t in trial.tensors)
    return {n: a for n, a in zip(names, arrays, strict=True) if n in graph.inputs}


def _require_numbers(
    graph: Graph, names: Sequence[str], trial: _Trial, wanted: Sequence[Array]
) -> None:
    """`ModelError` where real draws give NaN, and those of torch do not."""
    found = evaluate(graph, _given(graph, names, trial))
    for name, expected in zip(graph.outputs, wanted, strict=True):
        if _is_float(expected) and np.isnan(found[name]).any() and not np.isnan(expected).any():
            raise ModelError(f"output {name!r} is NaN with {trial.label}; that of torch is not")


_REMEDY = (
    "Something was fixed to what it was for the example: a branch or loop of Python, or a size. "
    "Write it with torch.where or torch.cond, script the module (torch.jit.script), or keep sizes "
    "fixed (dynamic={})"
)


def _ulps(array: Array) -> float:
    """How large a deviation is rounding in any case, as part of the largest number."""
    if array.dtype.name in ("float16", "bfloat16"):
        return HALF_ULPS * _epsilon(array)
    return ULPS * _epsilon(array) if array.dtype.kind == "f" else 0.0


def _epsilon(array: Array) -> float:
    if array.dtype.name == "bfloat16":
        return 2.0**-7
    return float(np.finfo(array.dtype).eps)


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _difference(found: Array, wanted: Array) -> tuple[float, float]:
    """The largest difference, infinite where one is not finite and the other is; and the scale."""
    one, other = (np.asarray(a, np.float64) for a in (found, wanted))
    finite = np.isfinite(other)
    scale = float(np.max(np.abs(other[finite]), initial=0.0))
    same = np.array_equal(one[~finite], other[~finite], equal_nan=True)
    if not same or not np.isfinite(one[finite]).all():
        return float("inf"), scale
    return float(np.max(np.abs(one[finite] - other[finite]), initial=0.0)), scale


def rounding(
    graph: Graph, given: Mapping[str, Array], plain: Mapping[str, Array]
) -> dict[str, float]:
    """By how much each output changes where every value changes in its last bit."""
    random = np.random.default_rng(3)

    def disturb(_node: Node, _name: str, array: Array) -> Array:
        if not _is_float(array):
            return array
        # Towards zero: the largest number stays finite.
        part = random.choice((0.0, 1.0), array.shape) * _epsilon(array)
        return np.asarray(array * (1 - part)).astype(array.dtype)

    found = dict.fromkeys(plain, 0.0)
    for _ in range(DISTURBANCES):
        with np.errstate(all="ignore"):
            outputs = evaluate(graph, given, disturb=disturb)
        for name, array in outputs.items():
            if array.shape == plain[name].shape:
                one, other = (np.asarray(a, np.float64) for a in (array, plain[name]))
                good = np.isfinite(one) & np.isfinite(other)
                change = float(np.max(np.abs(one[good] - other[good]), initial=0.0))
                found[name] = max(found[name], change)
    return found
