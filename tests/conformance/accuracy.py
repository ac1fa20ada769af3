"""``python -m tests.conformance.accuracy [REGEX]``: our float32 errors beside onnxruntime's.

The models are ONNX's node tests, the numbers are theirs and others near them; the exact result is
the reference in float64. An error is the root mean square over all elements of all tests of an
operator, in spacings of float32 at the root mean square of the output.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sofie_rdf.errors import SofieError
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.reference import evaluate
from sofie_rdf.runtime.compile.session import compile_graph
from tests.conformance.nodes import feeds, merged, optimized, prefixed, sizes
from tests.conformance.suite import Case, excluded, suite

TRIALS = 20
BATCH = 40
# (ours, onnxruntime's, how many numbers)
Errors = tuple[float, float, int]


def main(arguments: list[str]) -> int:
    """Print a row for each operator."""
    sys.stdout.write("| operator | ours | onnxruntime | numbers |\n| --- | --- | --- | --- |\n")
    for op, (ours, theirs, count) in errors_by_operator(*arguments[:1]).items():
        sys.stdout.write(f"| {op} | {ours:.3f} | {theirs:.3f} | {count} |\n")
    return 0


def errors_by_operator(pattern: str = ".*") -> dict[str, Errors]:
    """Our errors and onnxruntime's, for the operators of the tests whose names match."""
    names = [n for n in suite() if re.fullmatch(pattern, n) and _is_wanted(suite()[n])]
    found: dict[str, list[Errors]] = defaultdict(list)
    for start in range(0, len(names), BATCH):
        for op, errors in _measure([suite()[n] for n in names[start : start + BATCH]]):
            found[op].append(errors)
    means = {}
    for op, listed in sorted(found.items()):
        squares = np.array([[a * a * n, b * b * n, n] for a, b, n in listed]).sum(axis=0)
        ours, theirs = np.sqrt(squares[:2] / squares[2])
        means[op] = float(ours), float(theirs), int(squares[2])
    return means


def _is_wanted(case: Case) -> bool:
    single = len(case.model.graph.node) == 1
    return (
        single and case.kind == "node" and "expanded" not in case.name and not excluded(case.name)
    )


def _measure(cases: list[Case]) -> Iterator[tuple[str, Errors]]:
    graphs: dict[str, Graph] = {}
    peers: dict[str, Any] = {}
    for case in cases:
        graph = _graph(case)
        peer = _peer(case) if graph else None
        if graph and peer:
            graphs[case.name], peers[case.name] = prefixed(graph, case.name), peer
    if not graphs:
        return
    whole = compile_graph(merged("accuracy", list(graphs.values())))
    by_name = {c.name: c for c in cases}
    random = np.random.default_rng(0)
    for _ in range(TRIALS):
        plain = feeds(by_name, graphs, 0)
        given = {n: _near(a, random) for n, a in plain.items()}
        results = whole.infer(given, sizes(graphs, given))
        for name, graph in graphs.items():
            op = by_name[name].model.graph.node[0].op_type
            own = {i: given[i] for i in graph.inputs}
            theirs = _run(peers[name], {i.removeprefix(f"{name}/"): a for i, a in own.items()})
            exact = evaluate(graph, own, wide=True)
            for output in graph.outputs if theirs else ():
                key = output.removeprefix(f"{name}/")
                yield from ((op, e) for e in _errors(results[output], theirs[key], exact[output]))


def _graph(case: Case) -> Graph | None:
    try:
        graph = optimized(case)
    except SofieError:
        return None
    outputs = {graph.types[o].dtype for o in graph.outputs}
    usable = outputs == {DType.FLOAT32} and not any(n.op.is_random for n in graph.nodes)
    inputs = {v.name for v in case.model.graph.input}
    return graph if usable and set(graph.inputs) <= inputs else None


def _peer(case: Case) -> Any:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    try:
        return onnxruntime.InferenceSession(case.model.SerializeToString())
    except Exception:  # What onnxruntime does not run is not compared.
        return None


def _run(peer: Any, given: Mapping[str, Array]) -> dict[str, Array]:
    try:
        found = peer.run(None, dict(given))
    except Exception:
        return {}
    return {o.name: a for o, a in zip(peer.get_outputs(), found, strict=True)}


def _near(array: Array, random: np.random.Generator) -> Array:
    """Numbers near those of the test, so that they stay where the operator is defined."""
    if array.dtype != np.float32:
        return array
    return np.asarray(array * random.uniform(0.7, 1.0, array.shape), np.float32)


def _errors(ours: Array, theirs: Array, exact: Array) -> Iterator[Errors]:
    usual = np.isfinite(exact) & np.isfinite(ours) & np.isfinite(theirs)
    scale = float(np.sqrt(np.mean(np.square(exact[usual], dtype=np.float64)))) if usual.any() else 0
    if scale == 0 or theirs.shape != ours.shape:
        return
    spacing = float(np.spacing(np.float32(scale)))
    both = (
        np.sqrt(np.mean(np.square((a[usual] - exact[usual]) / spacing))) for a in (ours, theirs)
    )
    yield (*(float(v) for v in both), int(usual.sum()))  # type: ignore[misc]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main(sys.argv[1:]))
