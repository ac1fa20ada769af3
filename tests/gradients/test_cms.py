"""The gradients of CMS' networks beside differences, where these networks are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.gradients.derived import gradient
from sofie_rdf.gradients.reverse import problems
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import DType
from sofie_rdf.ops.casts import Cast
from sofie_rdf.ops.layout import Identity
from sofie_rdf.reference import evaluate
from tests.conformance import real
from tests.conformance.examples import Round, feeds, rounds

FILES = [file for file in real.files() if file.parent.name == "cms"]
# So small that next to no unit changes sides between the two points.
STEP = 1e-7


def without_casts(graph: Graph) -> Graph:
    """Without conversions of float32 to itself, which would round what is float64 here."""
    nodes = tuple(
        replace(n, op=Identity()) if n.op == Cast(DType.FLOAT32) and is_float else n
        for n in graph.nodes
        for is_float in [bool(n.inputs) and graph.types[n.inputs[0]].dtype is DType.FLOAT32]
    )
    return replace(graph, nodes=nodes)


@pytest.mark.exhaustive
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_networks_of_cms_have_gradients(file: Path) -> None:
    graph = without_casts(read(file))
    assert problems(graph) == []
    random = np.random.default_rng(7)
    sizes = {name: min(size, 24) for name, size in rounds(graph, "particles")[0].sizes.items()}
    given = feeds(graph, Round(sizes, "none", 3))
    derived = gradient(graph, None, None, vjp=True)
    of = [o for o in graph.outputs if graph.types[o].dtype.is_float]
    wrt = [i for i in graph.inputs if graph.types[i].dtype.is_float]
    x = {name: a.astype(np.float64) if name in wrt else a for name, a in given.items()}
    y = evaluate(graph, x, wide=True)
    weights = {o: random.normal(size=y[o].shape) for o in of}
    seeds = {f"v_{o}": w for o, w in weights.items()}
    found = evaluate(derived, {**x, **seeds}, wide=True)
    for name in wrt:
        slope = sum(found[f"d_{o}/d_{name}"] for o in of)
        along = random.normal(size=x[name].shape)
        ends = [
            evaluate(graph, {**x, name: x[name] + sign * STEP * along}, wide=True)
            for sign in (1, -1)
        ]
        wanted = sum(np.sum((ends[0][o] - ends[1][o]) * w) for o, w in weights.items())
        parts = slope * along
        size = np.sqrt(np.sum(parts**2)) + 1e-6
        assert abs(np.sum(parts) - wanted / (2 * STEP)) <= 1e-3 * size, name


def test_there_are_models_to_differentiate() -> None:
    if not FILES:
        pytest.skip("no models: SOFIE_RDF_MODELS names no folder with CMS' networks")
    assert len(FILES) >= 16
