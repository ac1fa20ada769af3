"""The NumPy reference of every standard operator against what ONNX and onnxruntime compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from sofie_rdf.ir.dims import Size
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.operator import REGISTRY, Operator
from sofie_rdf.ir.text import operator_text
from sofie_rdf.ir.types import Array, DType, concrete
from tests.choice import some_of
from tests.ops.accuracy import finite, is_computed, widest
from tests.ops.cases import Case, Row
from tests.ops.different import DIFFERENT, UNCOMPARED, Difference, Verdict
from tests.ops.oracles import Oracle, as_onnx_stores_it, onnx_evaluator, onnx_runtime
from tests.ops.rows import ROWS
from tests.ops.test_contract import Bench, bench, inputs_of, part, results, sizes_of

STANDARD = sorted(name for domain, name in REGISTRY if domain == "")


def verdict_on(graph: Graph, node: Node, case: Case, *, extreme: bool) -> Verdict:
    """ONNX's evaluator is slow: it is asked where onnxruntime says something else, or nothing."""
    sizes = sizes_of(graph, 48 if extreme else 6, 3)
    feeds = feeds_of(graph, node, case, sizes, extreme=extreme)
    op = as_onnx_stores_it(case.op)
    ours = results(graph, dataclasses.replace(node, op=op), feeds, exact=False)
    given = inputs_of(graph, node, feeds)
    messages, found = [], []
    for oracle in (onnx_runtime, onnx_evaluator):
        theirs = answer(oracle, op, graph, node, given)
        if theirs is None:
            continue
        wrong = []
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            magnitude = finite_sum(ROWS["", op.name], number, op, given, a.dtype)
            message = compare(a, b, magnitude)
            if message:
                wrong.append((f"output {number} {message}", relative(a, b, magnitude)))
        if not wrong:
            return Verdict(True)
        messages.append(f"{oracle.__name__}: " + "; ".join(message for message, _ in wrong))
        found.append(max(size for _, size in wrong))
    return Verdict(bool(messages), "\n    ".join(messages), min(found, default=0.0))


def answer(
    oracle: Oracle, op: Operator, graph: Graph, node: Node, given: list[Array | None]
) -> list[Array] | None:
    """The outputs, or None where there are none: raising an error says nothing about a number."""
    types = tuple(graph.types[i] if i else None for i in node.inputs)
    outputs = tuple(graph.types[o] for o in node.outputs)
    try:
        with np.errstate(all="ignore"):
            return oracle(op, types, outputs, given)
    except Exception:
        return None


def feeds_of(
    graph: Graph, node: Node, case: Case, sizes: Mapping[str, int], *, extreme: bool
) -> dict[str, Array]:
    random = np.random.default_rng(11)
    found = {}
    for position, name in enumerate(node.inputs):
        if name in graph.inputs:
            type_ = graph.types[name]
            shape = concrete(type_.shape, sizes)
            found[name] = case.fill(position)(random, type_.dtype, shape, extreme)
    return found


def relative(ours: Array, theirs: Array, magnitude: Any) -> float:
    """The largest difference; infinite where it is none between numbers."""
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return np.inf
    with np.errstate(all="ignore"):
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b)) | np.isinf(magnitude)
        found = np.where(same, 0, np.abs(a - b) / (np.abs(b) + magnitude))
    return float(np.max(np.nan_to_num(found, nan=np.inf), initial=0))


def compare(ours: Array, theirs: Array, magnitude: Any = 0.0) -> str:
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return f"{ours.dtype}{list(ours.shape)} and not {theirs.dtype}{list(theirs.shape)}"
    if not is_computed(ours.dtype):
        # What is only stored has NaN, too.
        with np.errstate(all="ignore"):
            wrong = np.asarray((ours != theirs) & ((ours == ours) | (theirs == theirs)))
    else:
        real = np.finfo(ours.dtype)
        with np.errstate(all="ignore"):
            allowed = 100 * real.eps * (np.abs(theirs) + magnitude) + 100 * real.tiny
            near = (ours == theirs) | (np.abs(ours - theirs) <= allowed)
            near |= (np.isnan(ours) & np.isnan(theirs)) | np.isinf(magnitude)
        wrong = ~near
    if not np.any(wrong):
        return ""
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f"{int(np.sum(wrong))} of {wrong.size}, first at {list(first)}"
    return f"{place}: {ours[first]!r} and not {theirs[first]!r}"


def finite_sum(
    row: Row, number: int, op: Operator, given: list[Array | None], dtype: np.dtype[Any]
) -> Any:
    """The sum of magnitudes; infinite where it is beyond the largest number on the way."""
    if row.magnitude is None or not is_computed(dtype):
        return 0.0
    with np.errstate(all="ignore"):
        wide = [None if a is None else finite(widest(a)) for a in given]
        found = np.nan_to_num(row.sum_for(number, op, *wide))
        return np.where(found * row.count(*wide) > np.finfo(dtype).max, np.inf, found)


def cases_of(tested: Bench) -> Iterator[tuple[Node, Case, DType]]:
    """Half precision only where it is moved: elsewhere it is float32, by definition."""
    for node, case in zip(tested.graph.nodes, tested.cases.values(), strict=True):
        dtype = DType(node.outputs[0].split(".")[0])
        if not symbolic(case.op) and (case.op.moves or not dtype.is_half):
            yield node, case, dtype


def symbolic(op: Operator) -> bool:
    values = (getattr(op, f.name) for f in dataclasses.fields(op))
    listed = (v if isinstance(v, tuple) else (v,) for v in values)
    return any(isinstance(d, Size) for v in listed for d in v)


@pytest.mark.parametrize("which", some_of(["part", "all"], ["part"]))
@pytest.mark.parametrize("name", STANDARD)
def test_reference_is_that_of_others(name: str, which: str) -> None:
    """The cases that `make test` compiles; among all cases each known difference must be."""
    if name in UNCOMPARED:
        return  # The reason stands there.
    tested = bench(("", name)) if which == "all" else part(("", name))
    graph, known = tested.graph, DIFFERENT.get(name, ())
    wrong: list[str] = []
    used: set[Difference] = set()
    compared = count = 0
    for extreme in (False, True):
        for node, case, dtype in cases_of(tested):
            verdict = verdict_on(graph, node, case, extreme=extreme)
            count, compared = count + 1, compared + verdict.compared
            if not verdict.difference:
                continue
            excuses = {d for d in known if d.excuses(case.op, dtype, verdict, extreme=extreme)}
            used |= excuses
            if not excuses:
                types = ", ".join(str(graph.types[i]) for i in node.inputs if i)
                wrong.append(f"{operator_text(case.op)}({types}): {verdict.difference}")
    assert not wrong, f"{len(wrong)} of {count} cases:\n" + "\n".join(wrong[:12])
    if which == "part":
        return
    assert compared * 3 >= count, f"only {compared} of {count} cases have been compared"
    for one in set(known) - used:
        pytest.fail(f"{name} agrees now: remove it from DIFFERENT ({one.reason})")
