"""ONNX's own node tests: which of them concern us, and what our compiled code makes of them.

Compiling is what takes time, so the models of many tests become one graph, which is compiled and
run once. ``python -m tests.conformance.nodes NAME`` runs one test by itself.
"""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

import sofie_rdf.ops  # noqa: F401 - registers all operators
from sofie_rdf.errors import JitError, SofieError
from sofie_rdf.frontends.onnx import read
from sofie_rdf.ir.dims import Dim, substitute, symbol, symbols_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import REGISTRY
from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.passes import pipeline
from sofie_rdf.runtime.session import compile_graph

__all__ = ["EXCLUDED", "Exclusion", "counts", "excluded", "failure", "included"]

BATCH = 40


@dataclass(frozen=True)
class Exclusion:
    """Tests that match but are not passed: by name, why, and what the frontend must say."""

    names: str
    reason: str
    message: str


EXCLUDED = (
    Exclusion(
        r"test_training_dropout_.*|test_training_dropout|test_batchnorm_\w+_training_mode",
        "training: random numbers, or statistics that change",
        "training",
    ),
    Exclusion(
        r"test_reshape_.*|test_(un)?squeeze(_.*)?",
        "the new shape is an input of the network: sizes decided at run time come later",
        "when the model is read, but it is computed",
    ),
    Exclusion(r"test_not_[234]d", "opset 1; files are read from opset 7 on", "uses opset 1"),
)


def excluded(name: str) -> Exclusion | None:
    """The first entry of the table for this test."""
    return next((e for e in EXCLUDED if re.fullmatch(e.names, name)), None)


# The suite ----------------------------------------------------------------------------------------


@cache
def suite() -> Mapping[str, Any]:
    """All node tests of the onnx package, by name; they are made in memory."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return {case.name: case for case in load_model_tests(kind="node")}


_ELEMENTS = frozenset(int(onnx.helper.np_dtype_to_tensor_dtype(d.numpy)) for d in DType)
_OPERATORS = frozenset(name for domain, name in REGISTRY if domain == "") | {"Constant"}


def matches(model: onnx.ModelProto) -> bool:
    """Whether we have all its operators and all its element types."""
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    nodes = all(
        n.domain in ("", "ai.onnx") and n.op_type in _OPERATORS for n in every_node(model.graph)
    )
    return nodes and all(
        v.type.HasField("tensor_type") and v.type.tensor_type.elem_type in _ELEMENTS for v in values
    )


def every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of graphs in their attributes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from every_node(inner)


@cache
def matching() -> tuple[str, ...]:
    return tuple(name for name, case in suite().items() if matches(case.model))


@cache
def included() -> tuple[str, ...]:
    """The tests that must pass."""
    return tuple(name for name in matching() if not excluded(name))


def counts() -> str:
    """The numbers of the suite in one line."""
    kinds = {"plain": False, "expanded": True}
    parts = []
    for kind, wanted in kinds.items():
        numbers = [
            sum(("_expanded" in n) is wanted for n in names)
            for names in (suite(), matching(), included())
        ]
        parts.append(
            f"{kind}: {numbers[0]} in the suite, {numbers[1]} match, "
            f"{numbers[1] - numbers[2]} of those excluded, {numbers[2]} must pass"
        )
    return "; ".join(parts)


# Many models as one graph -------------------------------------------------------------------------


def optimized(name: str) -> Graph:
    return pipeline.run(read(suite()[name].model, name=name))


def prefixed(graph: Graph, prefix: str) -> Graph:
    """The same graph with other names, of sizes as well."""

    def value(name: str) -> str:
        return f"{prefix}/{name}" if name else ""

    def dim(size: Dim) -> Dim:
        return substitute(size, {s: symbol(f"{prefix}/{s}") for s in symbols_of(size)})

    types = {
        value(n): TensorType(t.dtype, tuple(map(dim, t.shape))) for n, t in graph.types.items()
    }
    nodes = (
        replace(n, inputs=tuple(map(value, n.inputs)), outputs=tuple(map(value, n.outputs)))
        for n in graph.nodes
    )
    return replace(
        graph,
        inputs=tuple(map(value, graph.inputs)),
        outputs=tuple(map(value, graph.outputs)),
        nodes=tuple(nodes),
        types=MappingProxyType(types),
        constants=MappingProxyType({value(n): a for n, a in graph.constants.items()}),
    )


def merged(name: str, graphs: Sequence[Graph]) -> Graph:
    """All graphs side by side; their values have different names."""
    return Graph(
        name=name,
        inputs=tuple(i for g in graphs for i in g.inputs),
        outputs=tuple(o for g in graphs for o in g.outputs),
        nodes=tuple(n for g in graphs for n in g.nodes),
        types=MappingProxyType({n: t for g in graphs for n, t in g.types.items()}),
        constants=MappingProxyType({n: a for g in graphs for n, a in g.constants.items()}),
    )


def run_together(label: str, names: Sequence[str]) -> dict[str, str]:
    """What is wrong with each of these tests, or nothing; `JitError` if all fail at once."""
    graphs: dict[str, Graph] = {}
    wrong: dict[str, str] = {}
    for name in names:
        try:
            graphs[name] = prefixed(optimized(name), name)
        except SofieError as error:  # noqa: PERF203
            wrong[name] = f"{type(error).__name__}: {error}"
    whole = compile_graph(merged(label, list(graphs.values())))
    for number in range(max((len(suite()[n].data_sets) for n in graphs), default=0)):
        found = whole.infer(feeds(graphs, number), sizes(graphs, number))
        for name in graphs:
            wrong[name] = wrong.get(name) or compare(name, number, found)
    return wrong


def data_set(name: str, number: int) -> Any:
    """That data set of a test, or its last one."""
    sets = suite()[name].data_sets
    return sets[min(number, len(sets) - 1)]


def as_array(value: Any) -> Array:
    """Data sets hold arrays, and TensorProtos."""
    tensor = isinstance(value, onnx.TensorProto)
    return np.asarray(onnx.numpy_helper.to_array(value) if tensor else value)


def feeds(graphs: Mapping[str, Graph], number: int) -> dict[str, Array]:
    return {
        f"{name}/{value.name}": as_array(array)
        for name in graphs
        for value, array in zip(
            suite()[name].model.graph.input, data_set(name, number)[0], strict=False
        )
    }


def sizes(graphs: Mapping[str, Graph], number: int) -> dict[str, int]:
    """The sizes of named axes, from the arrays."""
    given = feeds(graphs, number)
    return {
        str(dim): size
        for graph in graphs.values()
        for value in graph.inputs
        for dim, size in zip(graph.types[value].shape, given[value].shape, strict=True)
        if not isinstance(dim, int)
    }


def compare(name: str, number: int, found: Mapping[str, Array]) -> str:
    case = suite()[name]
    for value, wanted in zip(case.model.graph.output, data_set(name, number)[1], strict=True):
        array, expected = found[f"{name}/{value.name}"], as_array(wanted)
        if (array.dtype, array.shape) != (expected.dtype, expected.shape):
            return (
                f"{value.name} is {array.dtype}{array.shape}, not {expected.dtype}{expected.shape}"
            )
        try:
            np.testing.assert_allclose(array, expected, rtol=case.rtol, atol=case.atol)
        except AssertionError as error:
            return f"{value.name}: {error}"
    return ""


# One test after the other -------------------------------------------------------------------------

_refused: list[str] = []


@cache
def batch(first: int) -> Mapping[str, str] | None:
    """The tests of one batch; None if Cling refused them all, which it does not recover from."""
    if _refused:
        return None
    try:
        return run_together(f"nodes_{first}", included()[first : first + BATCH])
    except JitError as error:
        _refused.append(str(error))
        return None


def failure(name: str) -> str:
    """What is wrong with this test, or an empty string."""
    together = batch(included().index(name) // BATCH * BATCH)
    return alone(name) if together is None else together[name]


def alone(name: str) -> str:
    """The same in a process of its own."""
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-W", "ignore", "-m", "tests.conformance.nodes", name]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return "" if run.returncode == 0 else run.stdout[-3000:] + run.stderr[-3000:]


if __name__ == "__main__":
    sys.exit(run_together("node", sys.argv[1:2])[sys.argv[1]] or 0)
