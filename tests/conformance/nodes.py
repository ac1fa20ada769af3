"""ONNX's own tests: node tests, simple models, and models converted from PyTorch.

Models are merged side by side, so that `BATCH` of them become one graph, which is compiled and
run once. ``python -m tests.conformance.nodes NAME`` runs one test by itself.
"""

from __future__ import annotations

import json
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
from sofie_rdf.errors import SofieError
from sofie_rdf.frontends.onnx import read
from sofie_rdf.ir.dims import Dim, substitute, symbol, symbols_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, TensorType
from sofie_rdf.passes import pipeline
from sofie_rdf.runtime.session import compile_graph

__all__ = ["EXCLUDED", "Exclusion", "excluded", "included", "outcomes", "suite"]

BATCH = 40
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")


@dataclass(frozen=True)
class Exclusion:
    """Tests that are not passed: by name, why, and what the frontend says of them."""

    names: str
    reason: str
    message: str


EXCLUDED: tuple[Exclusion, ...] = ()


def excluded(name: str) -> Exclusion | None:
    """The first entry of the table for this test."""
    return next((e for e in EXCLUDED if re.fullmatch(e.names, name)), None)


# The suite ----------------------------------------------------------------------------------------


@cache
def suite() -> Mapping[str, Any]:
    """All tests, by kind and name; node tests are made in memory, the others are read."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = {case.name: case for kind in KINDS for case in load_model_tests(kind=kind)}
    return {name: case if case.model else _read(case) for name, case in cases.items()}


def _read(case: Any) -> Any:
    """A test of which only the folder is known, with its model and its data."""
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    sets = []
    for data in sorted(folder.glob("test_data_set_*")):
        inputs = (_protobuf(data / f"input_{i}.pb", v) for i, v in enumerate(_inputs(model)))
        outputs = (_protobuf(data / f"output_{i}.pb", v) for i, v in enumerate(model.graph.output))
        sets.append((list(inputs), list(outputs)))
    return replace(case, model=model, data_sets=sets)


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are no weights."""
    weights = {i.name for i in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in weights]


def _protobuf(path: Path, value: onnx.ValueInfoProto) -> Any:
    kind = value.type.WhichOneof("value")
    proto = onnx.SequenceProto() if kind == "sequence_type" else onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    if isinstance(proto, onnx.SequenceProto):
        return onnx.numpy_helper.to_list(proto)
    return onnx.numpy_helper.to_array(proto)


def every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of graphs in their attributes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from every_node(inner)


@cache
def included() -> tuple[str, ...]:
    """The tests that must pass."""
    return tuple(name for name in suite() if not excluded(name))


def kind_of(name: str) -> str:
    """``node``, ``node, expanded``, ``simple``, ..."""
    kind = str(suite()[name].kind)
    return f"{kind}, expanded" if "_expanded" in name else kind


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
    if not graphs:
        return wrong
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
            _inputs(suite()[name].model), data_set(name, number)[0], strict=False
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
        rtol = case.rtol
        if array.dtype.name == "bfloat16":  # As onnx's own runner does.
            array, expected = array.astype(np.float32), expected.astype(np.float32)
            rtol = max(rtol, 2**-6)
        elif array.dtype.kind == "V":
            array, expected = array.astype(np.float32), expected.astype(np.float32)
        try:
            np.testing.assert_allclose(array, expected, rtol=rtol, atol=case.atol)
        except AssertionError as error:
            return f"{value.name}: {error}"
    return ""


# One test after the other -------------------------------------------------------------------------


def batches(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The tests in groups that are compiled together."""
    return [tuple(names[i : i + BATCH]) for i in range(0, len(names), BATCH)]


def outcomes(names: Sequence[str]) -> dict[str, str]:
    """What is wrong with each of these tests, in a process of their own; nothing where all is well.

    Where the process ends early, or Cling refuses the code of all, half of them are tried at once.
    """
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-W", "ignore", "-m", "tests.conformance.nodes", *names]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    marked = [line[len(MARK) :] for line in run.stdout.splitlines() if line.startswith(MARK)]
    if run.returncode == 0 and marked:
        found: dict[str, str] = json.loads(marked[-1])
        return found
    if len(names) == 1:
        return {names[0]: (run.stdout[-1500:] + run.stderr[-1500:]).strip() or "the process died"}
    half = len(names) // 2
    return outcomes(names[:half]) | outcomes(names[half:])


MARK = "conformance: "


if __name__ == "__main__":
    sys.stdout.write(f"{MARK}{json.dumps(run_together('nodes', sys.argv[1:]))}\n")
