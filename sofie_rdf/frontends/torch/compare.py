"""The graph beside torch: what was traced, exported or specialised wrongly ends here.

Exporters may keep what was true for the example alone: the branch that Python took, a size, a
number computed outside the graph. So the graph is compared with torch at the example, at other
numbers, and at other sizes of every open axis. Where it draws random numbers that is done with
known draws, see `torch.random`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from sofie_rdf.errors import ModelError
from sofie_rdf.frontends.common.agreement import difference, is_float
from sofie_rdf.frontends.torch.inputs import Inputs, array_of
from sofie_rdf.frontends.torch.random import QUANTILES, draws, graph_at, require_as_many, run_at
from sofie_rdf.frontends.torch.trials import (
    DRAWS,
    Run,
    Trial,
    other_masks,
    other_numbers,
    other_sizes,
    unlike,
)
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate

__all__ = ["compare", "compare_calls"]

# How many other sizes of an axis are tried. From so many seconds for a call of torch on, which are
# many more for NumPy, only two are, and they have other numbers as well.
SIZES = 3
SLOW = 0.1
# So many calls one after the other, where a call changes the buffers of the module.
CALLS = 8


def compare(
    graph: Graph, run: Run, inputs: Inputs, names: Sequence[str], traced: bool = False
) -> None:
    """`ModelError` where the graph and torch differ by more than rounding.

    ``run`` is torch: tensors in the order of ``inputs.tensors`` to arrays in the order of the
    graph's outputs. ``names`` are the graph's inputs for these tensors. A graph that was ``traced``
    is compared at more inputs, as it lacks the branches that the example does not take.
    """
    examples = tuple(leaf.example for leaf in inputs.tensors)
    if not draws(graph):
        _refuse_random(run(examples), run(examples))
        _compare_all(graph, run, inputs, names)
        if traced:
            _compare_trace(graph, run, inputs, names)
        return

    def evaluated(known: Graph) -> None:
        evaluate(known, _given(known, names, Trial("the example inputs", examples)))

    for q in QUANTILES:
        _compare_all(graph_at(graph, q), run_at(run, q), inputs, names)
        if traced:
            _compare_trace(graph_at(graph, q), run_at(run, q), inputs, names)
    require_as_many(graph, run, examples, evaluated)
    _require_numbers(graph, names, Trial("the example inputs", examples), run(examples))


def compare_calls(
    graph: Graph, again: Run, inputs: Inputs, names: Sequence[str], changed: Callable[[], bool]
) -> None:
    """`ModelError` where a later call of torch gives something else.

    ``again`` calls torch with the buffers as the last call has left them; ``changed`` says whether
    they are others than before the first.
    """
    examples = tuple(leaf.example for leaf in inputs.tensors)
    again(examples)
    if not changed():
        return
    if draws(graph):
        graph, again = graph_at(graph, QUANTILES[0]), run_at(again, QUANTILES[0])
    try:
        for number in range(2, CALLS + 1):
            _judge(graph, names, Trial(f"call {number}", examples), again(examples))
    except ModelError as error:
        raise ModelError(
            f"torch gives other numbers when it is called again ({error.thing})",
            remedy="The module keeps in its buffers what it has seen, and the network keeps "
            "nothing: make states inputs and outputs of forward",
        ) from error


def _compare_all(graph: Graph, run: Run, inputs: Inputs, names: Sequence[str]) -> None:
    """At the example, at other numbers, and at other sizes."""
    examples = tuple(leaf.example for leaf in inputs.tensors)
    slow = _seconds(lambda: run(examples)) > SLOW
    _judge(graph, names, Trial("the example inputs", examples), run(examples))
    for trial in other_numbers(examples):
        if not (slow and inputs.sizes):
            _compare(graph, run, names, trial)
    for trial in other_masks(examples):
        _compare_finite(graph, run, names, trial)
    for symbol in inputs.sizes:
        trials = list(other_sizes(inputs, symbol, run, 2 if slow else SIZES))
        for trial in trials:
            _compare(graph, run, names, trial)
        if not trials:
            raise ModelError(
                f"torch runs with no other size of {symbol!r} than {inputs.sizes[symbol]}",
                remedy="Leave that axis out of dynamic= (dynamic={} leaves out all), or give "
                "example inputs for which other sizes make sense",
            )


def _compare_trace(graph: Graph, run: Run, inputs: Inputs, names: Sequence[str]) -> None:
    """Where Python may decide otherwise than for the example, at its sizes and at others."""
    examples = [leaf.example for leaf in inputs.tensors]
    slow = _seconds(lambda: run(examples)) > SLOW
    steps = (1,) if slow else (1, 3)
    grown = [{name: size + step for name, size in inputs.sizes.items()} for step in steps]
    for sizes in ({}, *grown) if inputs.sizes else ({},):
        examples = [leaf.example for leaf in inputs.at(sizes).tensors]
        for trial in unlike(examples, str(sizes) if sizes else "", 1 if slow else DRAWS):
            _compare_finite(graph, run, names, trial)


def _compare_finite(graph: Graph, run: Run, names: Sequence[str], trial: Trial) -> None:
    """Where torch has an answer: else the order of its sums decides what is infinite or NaN."""
    try:
        wanted = run(trial.tensors)
    except Exception:
        return
    if all(np.isfinite(np.asarray(w, np.float64)).all() for w in wanted):
        _judge(graph, names, trial, wanted)


def _seconds(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


def _compare(graph: Graph, run: Run, names: Sequence[str], trial: Trial) -> bool:
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


# The comparison -----------------------------------------------------------------------------------


def _judge(graph: Graph, names: Sequence[str], trial: Trial, wanted: Sequence[Array]) -> None:
    given = _given(graph, names, trial)
    try:
        text = difference(graph, given, wanted, "torch", trial.label)
    except Exception as error:
        raise ModelError(
            f"torch computes it with {trial.label}, and the exported network does not: {error}",
            remedy=_REMEDY,
        ) from error
    if text:
        raise ModelError(text, remedy=_REMEDY)


def _given(graph: Graph, names: Sequence[str], trial: Trial) -> dict[str, Array]:
    """What the graph is fed with."""
    arrays = (array_of(t) for t in trial.tensors)
    return {n: a for n, a in zip(names, arrays, strict=True) if n in graph.inputs}


def _require_numbers(
    graph: Graph, names: Sequence[str], trial: Trial, wanted: Sequence[Array]
) -> None:
    """`ModelError` where real draws give NaN, and those of torch do not."""
    found = evaluate(graph, _given(graph, names, trial))
    for name, expected in zip(graph.outputs, wanted, strict=True):
        if is_float(expected) and np.isnan(found[name]).any() and not np.isnan(expected).any():
            raise ModelError(f"output {name!r} is NaN with {trial.label}; that of torch is not")


_REMEDY = (
    "Something was fixed to what it was for the example: a branch or loop of Python, or a size. "
    "Write it with torch.where or torch.cond, script the module (torch.jit.script), or keep sizes "
    "fixed (dynamic={})"
)
