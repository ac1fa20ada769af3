"""The rule of every operator beside differences, at the cases of the operators' contract."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.gradients.derived import gradient
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import REGISTRY
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops import _unrolled
from sofie_rdf.reference import evaluate
from tests.gradients.differences import ROUNDING, compare
from tests.ops.cases import Case
from tests.ops.test_contract import OPERATORS, Key, accepted_cases, bench_of

# Where functions are defined, away from their kinks and poles.
_INSIDE = {
    "Acosh": (1.1, 3.0),
    "Acos": (-0.9, 0.9),
    "Asin": (-0.9, 0.9),
    "Atanh": (-0.9, 0.9),
    "Log": (0.1, 3.0),
    "Probit": (0.1, 0.9),
    "Sqrt": (0.1, 3.0),
    "Pow": (0.3, 2.0),
    "Tan": (-1.3, 1.3),
    "Div": (0.3, 2.0),
    "Reciprocal": (0.3, 2.0),
    "ReduceLogSum": (0.1, 3.0),
    "BatchNormalization": (0.3, 2.0),
}
# What is refused for some attributes.
IN_PART = {
    "RoiAlign",
    "Loop",
    "Resize",
    "NegativeLogLikelihoodLoss",
    "RandomDropout",
    "SoftmaxCrossEntropyLoss",
}
SIZES = {"N": 3, "M": 4}


def has_rule(key: Key) -> bool:
    return REGISTRY[key].has_gradient()


@pytest.mark.parametrize("key", [k for k in OPERATORS if has_rule(k)], ids=".".join)
def test_slopes_are_quotients_of_small_differences(key: Key) -> None:
    cases = [c for d, c in accepted_cases(key) if d is DType.FLOAT64]
    outcomes = [_outcome(key, case, number) for number, case in enumerate(cases)]
    assert ("refused" in outcomes) == (key[1] in IN_PART), outcomes
    assert "right" in outcomes, "no case has numbers"


def _outcome(key: Key, case: Case, number: int) -> str:
    try:
        return "right" if _is_right(key, case, number) else "nothing to differentiate"
    except UnsupportedOperator as error:
        if "of its first output only" not in str(error):
            return "refused"
    return "right" if _is_right(key, case, number, outputs=1) else "nothing to differentiate"


def _is_right(key: Key, case: Case, number: int, outputs: int | None = None) -> bool:
    bench = bench_of("case", [(DType.FLOAT64, case)])
    graph = replace(bench.graph, outputs=bench.graph.outputs[:outputs])
    feeds = _inside(bench.feeds(_sizes(graph), number, extreme=False), key)
    types = graph.types
    wrt = [i for i in graph.inputs if types[i].dtype is DType.FLOAT64]
    is_exact = all(d in ROUNDING or not d.is_float for d in (t.dtype for t in types.values()))
    if not any(types[o].dtype.is_float for o in graph.outputs):
        return False  # Integers have no derivatives.
    if not wrt or not is_exact or any(not np.size(feeds[i]) for i in wrt):
        return False
    compare(graph, feeds, wrt, number)
    return True


def _sizes(graph: Graph) -> dict[str, int]:
    return {name: SIZES.get(name, 5) for name in graph.symbols}


def _inside(feeds: dict[str, Array], key: Key) -> dict[str, Array]:
    random = np.random.default_rng(0)
    found = {}
    for name, array in feeds.items():
        found[name] = array
        if array.dtype == np.float64:
            low, high = _INSIDE.get(key[1], (-2.0, 2.0))
            found[name] = random.uniform(low, high, array.shape)
    return found


@pytest.mark.parametrize("key", [k for k in OPERATORS if has_rule(k)], ids=".".join)
def test_second_derivatives_are_quotients_too(key: Key) -> None:
    """Rules are made of operators that have rules."""
    cases = [c for d, c in accepted_cases(key) if d is DType.FLOAT64]
    outcomes = [_outcome_of_second(key, case, number) for number, case in enumerate(cases[:12])]
    assert "refused" not in outcomes or key[1] in IN_PART, outcomes


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_many_steps_are_rounds_of_a_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same derivatives as steps that are nodes one by one."""
    monkeypatch.setattr(_unrolled, "_MOST_STEPS", 0)
    cases = [c for d, c in accepted_cases(("", name)) if d is DType.FLOAT64]
    outcomes = [_outcome(("", name), case, number) for number, case in enumerate(cases)]
    assert set(outcomes) == {"right"}
    assert _outcome_of_second(("", name), cases[0], 0) == "right"


def _outcome_of_second(key: Key, case: Case, number: int) -> str:
    graph = bench_of("case", [(DType.FLOAT64, case)]).graph
    graph = replace(graph, outputs=graph.outputs[:1])
    is_double = graph.types[graph.outputs[0]].dtype is DType.FLOAT64
    feeds = bench_of("case", [(DType.FLOAT64, case)]).feeds(_sizes(graph), number, extreme=False)
    feeds = _inside(feeds, key)
    wrt = [i for i in graph.inputs if graph.types[i].dtype is DType.FLOAT64]
    if not wrt or not is_double or any(not np.size(feeds[i]) for i in wrt):
        return "nothing to differentiate"
    try:
        first = gradient(graph, None, wrt[0], vjp="v")
    except UnsupportedOperator:
        return "refused"
    shape = evaluate(graph, feeds)[graph.outputs[0]].shape
    feeds["v"] = np.random.default_rng(1).normal(size=shape)
    compare(replace(first, outputs=first.outputs[-1:]), feeds, wrt, number, curvature=5e3)
    return "right"
