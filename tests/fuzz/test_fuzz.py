"""Random networks of fixed seeds through the whole pipeline; and that errors are noticed.

``make fuzz`` goes on with other seeds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ops.elementwise import Sigmoid, Tanh
from sofie_rdf.passes.pipeline import run
from tests.choice import some_of
from tests.fuzz.judge import FOREIGN_MARGIN, MARGIN, Bound, Verdict, difference, judged
from tests.fuzz.network import Case
from tests.fuzz.reduce import reduced
from tests.fuzz.worker import Worker

# Cases in each of the tests, which are as many as there may be processes.
WITH_CLING, WITH_NUMPY = 8, 28


def failures(worker: Worker, first: int, count: int) -> list[str]:
    """What fails of so many seeds, with what it takes to see it again."""
    found = []
    for seed in range(first, first + count):
        verdict = worker.judge(worker.generate(seed))
        texts = [verdict] if isinstance(verdict, str) else verdict.failures
        found += [f"{text} (make fuzz SECONDS=1 SEED={seed})" for text in texts]
    worker.stop()
    return found


@pytest.mark.parametrize(
    ("part", "simd"),
    some_of([*((part, "") for part in range(6)), (6, "generic"), (7, "generic")], [(0, "")]),
)
def test_compiled(part: int, simd: str) -> None:
    assert failures(Worker(simd=simd), part * WITH_CLING, WITH_CLING) == []


@pytest.mark.parametrize("part", range(2))
def test_optimized(part: int) -> None:
    """Frontend, passes and references alone, which takes a tenth of the time."""
    worker = Worker(cling=False)
    # Seed 10029 is left out: onnxruntime normalises one element to NaN, where ONNX's function of
    # MeanVarianceNormalization has 0 / (0 + 1e-9).
    assert failures(worker, 10_000 + part * 40, WITH_NUMPY) == []


# Whether errors are noticed -----------------------------------------------------------------------


def small_case() -> Case:
    """tanh((x - w) / 3) @ v, its parts as outputs too."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Sub", ["x", "w"], ["a"]),
        helper.make_node("Div", ["a", "three"], ["b"]),
        helper.make_node("Tanh", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "v"], ["d"]),
    ]
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, [5], rng.normal(size=5)),
        helper.make_tensor("v", TensorProto.FLOAT, [5, 2], rng.normal(size=10)),
        helper.make_tensor("three", TensorProto.FLOAT, [], [3.0]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5])
    outputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", s])
        for n, s in (("d", 2), ("c", 5))
    ]
    graph = helper.make_graph(nodes, "small", [x], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    first, second = ({"x": rng.normal(size=(n, 5)).astype(np.float32)} for n in (3, 8))
    return Case("small", model.SerializeToString(), (first, second, first))


def test_small_errors_are_noticed() -> None:
    """One number in a hundred thousand, and not what rounding does."""
    case = small_case()
    graph, feeds = read(case.model), case.calls[1]
    bound = Bound.of(graph, feeds)
    right = bound.exact["d"].astype(np.float32)
    assert difference(bound, "d", right, MARGIN) == ("", right.size)
    wrong = right.copy()
    wrong[2, 1] += np.float32(2e-5)
    assert "1 of 16 differ, first at [2, 1]" in difference(bound, "d", wrong, MARGIN)[0]
    assert difference(bound, "d", wrong + np.float32(1e-3), FOREIGN_MARGIN)[0]
    assert "shape" in difference(bound, "d", right[:3], MARGIN)[0]


def test_what_may_be_either_is_not_compared() -> None:
    """The index of the largest of two numbers that are equal but for rounding."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["a"]),
        helper.make_node("ArgMax", ["a"], ["y"], axis=1, keepdims=0),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, ["N"])
    model = helper.make_model(
        helper.make_graph(nodes, "ties", [x], [y]), opset_imports=[helper.make_opsetid("", 17)]
    )
    feeds = {"x": np.array([[1, 1 - 2**-24], [1, 1.5]], np.float32)}
    bound = Bound.of(read(model.SerializeToString()), feeds)
    assert difference(bound, "y", np.array([0, 1]), MARGIN) == ("", 1)
    assert difference(bound, "y", np.array([1, 1]), MARGIN) == ("", 1)
    assert "first at [1]" in difference(bound, "y", np.array([1, 0]), MARGIN)[0]


def test_a_wrong_pass_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(graph: Graph) -> Graph:
        right = run(graph)
        nodes = (replace(n, op=Sigmoid()) if n.op == Tanh() else n for n in right.nodes)
        return replace(right, nodes=tuple(nodes))

    assert judged(small_case(), cling=False).failures == []
    monkeypatch.setattr("sofie_rdf.passes.pipeline.run", wrong)
    assert any("(the reference)" in f for f in judged(small_case(), cling=False).failures)


def test_a_failing_network_is_made_small() -> None:
    """All that is left is what the failure needs."""

    class Pretending(Worker):
        def judge(self, case: Case) -> Verdict:
            wrong = any(n.op_type == "Tanh" for n in case.proto.graph.node)
            return Verdict(failures=["v (the reference)"] if wrong else [])

    small, failures = reduced(small_case(), ["d (the reference)"], Pretending())
    assert [n.op_type for n in small.proto.graph.node] == ["Tanh"]
    assert [i.name for i in small.proto.graph.input] == ["b"]
    assert len(small.calls) == 2 and failures == ["v (the reference)"]
