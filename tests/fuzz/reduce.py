"""The smallest part of a failing network that still fails."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from sofie_rdf.errors import SofieError
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.reference import evaluate
from tests.fuzz.network import Case, every_node
from tests.fuzz.worker import Worker

__all__ = ["reduced"]

MOST_TRIALS = 60


def reduced(case: Case, failures: list[str], worker: Worker) -> tuple[Case, list[str]]:
    """A smaller case that fails in the same way, and its failures; the case where there is none."""
    kind, trials = _kind(failures[0]), 0
    smaller = True
    while smaller and trials < MOST_TRIALS:
        smaller = False
        for candidate in _candidates(case):
            trials += 1
            verdict = worker.judge(candidate)
            found = [verdict] if isinstance(verdict, str) else verdict.failures
            if found and _kind(found[0]) == kind:
                case, failures, smaller = candidate, found, True
                break
            if trials >= MOST_TRIALS:
                break
    return case, failures


def _kind(failure: str) -> str:
    """What sort of failure it is, whatever its numbers."""
    for word in (
        "compiling",
        "refused",
        "ended",
        "no answer",
        "(the reference)",
        "onnx",
        "again",
        "alone",
    ):
        if word in failure:
            return word
    return "other"


def _candidates(case: Case) -> Iterator[Case]:
    """Cases with less in them, those with the least first."""
    model = case.proto
    outputs = list(model.graph.output)
    if len(outputs) > 1:
        yield from (_only(case, [output]) for output in outputs)
    if len(case.calls) > 2:
        # The last call is the first once more.
        yield from (replace(case, calls=(c, c)) for c in case.calls[:-1])
    types = _types(case)
    order = [o for n in model.graph.node for o in n.output if o in types]
    for name in order:
        # The nodes before it alone, then those behind it alone.
        if name not in {o.name for o in outputs}:
            yield _only(case, [_declared(name, types[name])])
    for name in reversed(order):
        cut = _without_before(case, name, types[name])
        if cut is not None:
            yield cut


def _types(case: Case) -> Mapping[str, TensorType]:
    """The types of the values of the main graph, as far as our frontend reads it."""
    try:
        graph = read(case.model)
    except SofieError:
        return {}
    own = {o for n in case.proto.graph.node for o in n.output}
    return {n: t for n, t in graph.types.items() if n in own and n not in graph.constants}


def _declared(name: str, type_: TensorType) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(DType(type_.dtype.value).numpy)
    sizes = [d if isinstance(d, int) else None for d in type_.shape]
    return helper.make_tensor_value_info(name, element, sizes)


def _only(case: Case, outputs: list[onnx.ValueInfoProto]) -> Case:
    """The case with these outputs, and what they need."""
    model = copy.deepcopy(case.proto)
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return _pruned(case, model, case.calls)


def _pruned(case: Case, model: onnx.ModelProto, calls: tuple[dict[str, Any], ...]) -> Case:
    """Without nodes, weights and inputs that nothing needs."""
    needed = {o.name for o in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(i for n in every_node([node]) for i in n.input)
    for field, wanted in (("node", kept[::-1]), ("initializer", None), ("input", None)):
        parts = getattr(model.graph, field)
        left = [copy.deepcopy(p) for p in (wanted or ())]
        if wanted is None:
            left = [copy.deepcopy(p) for p in parts if p.name in needed]
        del parts[:]
        parts.extend(left)
    names = {i.name for i in model.graph.input}
    fed = tuple({k: a for k, a in feeds.items() if k in names} for feeds in calls)
    return replace(case, model=model.SerializeToString(), calls=fed)


def _without_before(case: Case, name: str, type_: TensorType) -> Case | None:
    """The case in which this value is an input; None where it is needed to compute nothing else."""
    model = copy.deepcopy(case.proto)
    makers = [n for n in model.graph.node if name in n.output]
    if name in {o.name for o in model.graph.output} or len(makers[0].output) > 1:
        return None
    model.graph.node.remove(makers[0])
    values = _values(case, name)
    if values is None:
        return None
    sizes = [d if isinstance(d, int) else f"{name}_{i}" for i, d in enumerate(type_.shape)]
    model.graph.input.append(
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(type_.dtype.numpy), sizes
        )
    )
    calls = tuple({**feeds, name: v} for feeds, v in zip(case.calls, values, strict=True))
    return _pruned(case, model, calls)


def _values(case: Case, name: str) -> list[Array] | None:
    """The value in every call, by our reference."""
    try:
        graph = read(case.model)
        whole = replace(graph, outputs=(name,))
        with np.errstate(all="ignore"):
            return [evaluate(whole, feeds)[name] for feeds in case.calls]
    except Exception:
        return None
