"""Recurrent layers read sequences in place where their last states alone are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import Tensor
from sofie_rdf.model import Model
from sofie_rdf.ops.layout import Transpose
from sofie_rdf.ops.recurrent import GRU, LSTM, RNN, Recurrent
from sofie_rdf.passes import pipeline
from sofie_rdf.passes.sequences import read_in_place
from sofie_rdf.reference import evaluate
from tests.choice import some_of
from tests.passes.graphs import N, Net, batch, identical, operators

RNG = np.random.default_rng(11)
EXCHANGED = Transpose((1, 0, 2))


def layer(
    kind: type[Recurrent], order: Transpose = EXCHANGED, *, wanted: Sequence[str], **options: Any
) -> Graph:
    """A layer of 5 states on transposed sequences of 4 steps, and the outputs that are wanted."""
    state = options.pop("state", False)
    b = Net(4, 4, 3) if state else Net(N, 4, 3)
    op = kind(hidden_size=5, **options)
    rows = 5 * op.gates
    weights = [
        b.c(name, RNG.normal(size=(op.directions, *shape)))
        for name, shape in (("w", (rows, 3)), ("r", (rows, 5)), ("b", (2 * rows,)))
    ]
    given = ["", b.c("h0", RNG.normal(size=(op.directions, 4, 5)))] if state else []
    names = ["states", "h", "c"][: 3 if op.has_cell else 2]
    b(op, b.op(order, "x"), *weights, *given, outputs=names)
    return b.graph(*wanted)


@pytest.mark.parametrize("direction", some_of(["forward", "bidirectional"], ["bidirectional"]))
@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_last_states_of_sequences(kind: type[Recurrent], direction: str) -> None:
    before = layer(kind, wanted=["h"], direction=direction)
    after = pipeline.clean(read_in_place(before))
    identical(before, after)
    assert not operators(after)[0].startswith("Transpose")
    assert [n.op.layout for n in after.nodes if isinstance(n.op, Recurrent)] == [True]
    assert read_in_place(after) is after


@pytest.mark.parametrize(
    ("order", "options"),
    [
        (EXCHANGED, {"wanted": ["states", "h"]}),
        (EXCHANGED, {"wanted": ["h"], "state": True}),
        (Transpose((0, 1, 2)), {"wanted": ["h"]}),
    ],
)
def test_what_else_a_layer_has_keeps_it(order: Transpose, options: dict[str, Any]) -> None:
    """All states, states before the first step, and sequences in another order of axes."""
    before = layer(RNN, order, **options)
    assert read_in_place(before) is before


def test_states_that_nobody_reads_are_not_written() -> None:
    after = pipeline.run(layer(LSTM, wanted=["h"]))
    (node,) = (n for n in after.nodes if isinstance(n.op, Recurrent))
    written = [a.operand.name for a in after.call(node).flat if isinstance(a, Tensor)]
    assert [name for name in node.outputs if name in written] == [node.outputs[1]]


def test_a_network_in_cling() -> None:
    before = layer(GRU, wanted=["h"])
    model = Model(before)
    for rows in (1, 3, 30):
        feeds = batch(before, rows=rows)
        (wanted,) = evaluate(before, feeds).values()
        np.testing.assert_allclose(model(feeds["x"]), wanted, rtol=1e-5, atol=1e-6)
