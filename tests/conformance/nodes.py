"""Many of ONNX's tests at once: their models, merged side by side, are compiled and run as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

import sofie_rdf.ops  # noqa: F401 - registers all operators
from sofie_rdf.errors import SofieError
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.dims import Dim, name_of, substitute, symbol, symbols_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import with_sizes
from sofie_rdf.ir.rows import ROWS, rows_for
from sofie_rdf.ir.types import Array, TensorType
from sofie_rdf.ops.sequences import pack, unpack
from sofie_rdf.passes import pipeline
from sofie_rdf.runtime.compile.session import compile_graph
from tests.conformance.suite import Case, inputs_of

__all__ = ["run_together"]

Cases = Mapping[str, Case]


# Many models as one graph -------------------------------------------------------------------------


def optimized(case: Case) -> Graph:
    return pipeline.run(read(case.model, name=case.name))


def prefixed(graph: Graph, prefix: str) -> Graph:
    """The same graph with other names, of sizes as well."""

    def value(name: str) -> str:
        return f"{prefix}/{name}" if name else ""

    dims = {d for t in graph.types.values() for d in t.shape}
    symbols = {s: symbol(f"{prefix}/{s}") for s in frozenset().union(*map(symbols_of, dims))}

    def dim(size: Dim) -> Dim:
        return substitute(size, symbols)

    types = {
        value(n): TensorType(t.dtype, tuple(map(dim, t.shape))) for n, t in graph.types.items()
    }
    nodes = (
        replace(
            n,
            op=with_sizes(n.op, symbols),
            inputs=tuple(map(value, n.inputs)),
            outputs=tuple(map(value, n.outputs)),
        )
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


def run_together(label: str, cases: Cases) -> dict[str, str]:
    """What is wrong with each of these tests, or nothing; `JitError` if all fail at once."""
    graphs: dict[str, Graph] = {}
    wrong: dict[str, str] = {}
    for name, case in cases.items():
        try:
            graphs[name] = prefixed(optimized(case), name)
        except SofieError as error:  # noqa: PERF203
            wrong[name] = f"{type(error).__name__}: {error}"
    if not graphs:
        return wrong
    whole = compile_graph(merged(label, list(graphs.values())))
    for number in range(max((len(cases[n].data_sets) for n in graphs), default=0)):
        given = feeds(cases, graphs, number)
        found = whole.infer(given, sizes(graphs, given))
        for name in graphs:
            wrong[name] = wrong.get(name) or compare(cases[name], number, found)
    return wrong


def data_set(case: Case, number: int) -> Any:
    """That data set of a test, or its last one."""
    return case.data_sets[min(number, len(case.data_sets) - 1)]


def as_array(value: Any) -> Array:
    """Data sets hold arrays, and TensorProtos."""
    tensor = isinstance(value, onnx.TensorProto)
    return np.asarray(onnx.numpy_helper.to_array(value) if tensor else value)


def feeds(cases: Cases, graphs: Mapping[str, Graph], number: int) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name, graph in graphs.items():
        given = data_set(cases[name], number)[0]
        for value, array in zip(inputs_of(cases[name].model), given, strict=False):
            label = f"{name}/{value.name}"
            if label in graph.inputs:
                found[label] = as_array(array)
            else:
                found |= _in_tensors(label, array, graph)
        if f"{name}/{ROWS}" in graph.inputs:  # Of those that draw; nobody else feeds it.
            (count, _) = graph.types[f"{name}/{ROWS}"].shape
            assert isinstance(count, int), "the tests of ONNX have shapes"
            found[f"{name}/{ROWS}"] = rows_for(np.arange(count))
    return found


def _in_tensors(label: str, value: Any, graph: Graph) -> dict[str, Array]:
    """A sequence or an optional as the tensors that the graph takes for it."""
    listed = [] if value is None else [value] if isinstance(value, np.ndarray) else list(value)
    elements, shapes = pack(map(as_array, listed), graph.types[f"{label}.elements"].dtype.numpy)
    axes = graph.types[f"{label}.shapes"].shape[1]
    if not listed and isinstance(axes, int):
        shapes = shapes.reshape(0, axes)
    parts = {"elements": elements, "shapes": shapes, "present": np.array(value is not None)}
    names = ((f"{label}.{part}", array) for part, array in parts.items())
    return {name: array for name, array in names if name in graph.inputs}


def sizes(graphs: Mapping[str, Graph], given: Mapping[str, Array]) -> dict[str, int]:
    """The sizes of named axes, from the arrays."""
    return {
        name_of(dim): size
        for graph in graphs.values()
        for value in graph.inputs
        for dim, size in zip(graph.types[value].shape, given[value].shape, strict=True)
        if not isinstance(dim, int)
    }


def compare(case: Case, number: int, found: Mapping[str, Array]) -> str:
    """How the first output differs that is not what the test wants."""
    for value, wanted in zip(case.model.graph.output, data_set(case, number)[1], strict=True):
        label = f"{case.name}/{value.name}"
        if label not in found:
            tensors = unpack(found[f"{label}.elements"], found[f"{label}.shapes"])
            listed = [] if wanted is None else list(wanted)
            if len(tensors) != len(listed):
                return f"{value.name} has {len(tensors)} tensors, not {len(listed)}"
            pairs = [(a, as_array(w)) for a, w in zip(tensors, listed, strict=True)]
        else:
            pairs = [(found[label], as_array(wanted))]
        for array, expected in pairs:
            if message := _difference(case, array, expected):
                return f"{value.name} {message}"
    return ""


def _difference(case: Case, array: Array, expected: Array) -> str:
    """How a result differs from what a test wants."""
    if (array.dtype, array.shape) != (expected.dtype, expected.shape):
        return f"is {array.dtype}{array.shape}, not {expected.dtype}{expected.shape}"
    rtol = case.rtol
    if array.dtype.name == "bfloat16":  # As onnx's own runner does.
        rtol = max(rtol, 2**-6)
    if array.dtype.name == "bfloat16" or array.dtype.kind == "V":
        array, expected = array.astype(np.float32), expected.astype(np.float32)
    try:
        np.testing.assert_allclose(array, expected, rtol=rtol, atol=case.atol)
    except AssertionError as error:
        return str(error)
    return ""
