"""The state of recurrent layers whose gates are far in their saturation."""

from __future__ import annotations

import numpy as np
import pytest

from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.operator import Operator
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.recurrent import GRU, LSTM
from sofie_rdf.reference import evaluate
from sofie_rdf.runtime.compile.session import compile_graph

STEPS, HIDDEN = 4, 40


@pytest.mark.parametrize("op", [LSTM(), GRU()], ids=["LSTM", "GRU"])
def test_gates_leave_no_denormal_numbers(op: Operator) -> None:
    """A CPU takes hundreds of cycles for each product with one, of which a step has thousands."""
    gates = 4 if isinstance(op, LSTM) else 3
    random = np.random.default_rng(2)
    w = random.normal(size=(1, gates * HIDDEN, 3)).astype(np.float32)
    r = random.normal(size=(1, gates * HIDDEN, HIDDEN)).astype(np.float32)
    bias = np.zeros((1, 2, gates, HIDDEN), np.float32)
    bias[0, 0, : gates - 1] = np.linspace(-110, 10, HIDDEN)  # All but the gate of a tanh.
    build = Builder("saturated")
    x = build.input("x", TensorType(DType.FLOAT32, (STEPS, 9, 3)))
    weights = [build.constant(v, n) for v, n in ((w, "w"), (r, "r"), (bias.reshape(1, -1), "b"))]
    names = ["all", "last", "cell"][: 3 if gates == 4 else 2]
    build(op, x, *weights, outputs=names)
    graph = build.graph(*names)
    feeds = {"x": random.normal(size=(STEPS, 9, 3)).astype(np.float32)}
    found, exact = compile_graph(graph).infer(feeds, {}), evaluate(graph, feeds)
    for name in names:
        size = np.abs(found[name])
        assert not ((size > 0) & (size < np.finfo(np.float32).tiny)).any()
        np.testing.assert_allclose(found[name], exact[name], rtol=0, atol=2e-6)
    assert gates == 3 or (found["all"] == 0).any()  # A GRU's state is 0 nowhere.
