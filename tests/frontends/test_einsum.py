"""Which operators an Einsum becomes, and that they compute it."""

from __future__ import annotations

import numpy as np
import pytest

import sofie_rdf
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.ir.types import Shape
from sofie_rdf.reference import evaluate
from tests.frontends.models import model, node, numbers, value

# Equations, shapes, and what does the work.
ELEMENTS: list[tuple[str, list[Shape], str]] = [
    ("i,j->ij", [(3,), (4,)], "Mul"),
    ("i,j->ji", [(3,), (4,)], "Mul"),
    ("i,j,k->kij", [(3,), (4,), (5,)], "Mul"),
    ("bi,bj->bij", [(2, 3), (2, 4)], "Mul"),
    ("bij,bij->bji", [(2, 3, 4), (2, 3, 4)], "Mul"),
    ("bi,i->bi", [(2, 3), (3,)], "Mul"),
    ("bi,i->bi", [(2, 3), (1,)], "Mul"),
    ("...i,...j->...ij", [(2, 3, 4), (3, 5)], "Mul"),
    (",i->i", [(), (3,)], "Mul"),
    ("ij,ij->", [(3, 4), (3, 4)], "ReduceSum"),
    ("bij,bij->b", [(2, 3, 4), (2, 3, 4)], "ReduceSum"),
    ("bij,bij->b", [(2, 3, 4), (2, 1, 4)], "ReduceSum"),
    ("ij,ji->i", [(3, 4), (4, 3)], "ReduceSum"),
    ("bij,bi->bj", [(2, 3, 4), (2, 3)], "ReduceSum"),
    ("ba,bijc,cj->cib", [(2, 1), (2, 3, 4, 5), (5, 4)], "Einsum"),
    ("bj,bij->ib", [(2, 4), (2, 3, 4)], "ReduceSum"),
    ("ij,jk->ik", [(3, 4), (4, 5)], "MatMul"),
    ("ii,i->i", [(3, 3), (3,)], "Einsum"),
    ("ij,jk->i", [(3, 4), (4, 5)], "Einsum"),
]


@pytest.mark.parametrize(("equation", "shapes", "kind"), ELEMENTS, ids=[e[0] for e in ELEMENTS])
def test_products_without_rows_that_meet_are_no_contraction(
    equation: str, shapes: list[Shape], kind: str
) -> None:
    feeds = {f"x{i}": numbers(*shape) for i, shape in enumerate(shapes)}
    inputs = [value(name, x.shape) for name, x in feeds.items()]
    graph = read(model([node("Einsum", " ".join(feeds), "y", equation=equation)], inputs))
    kinds = [type(n.op).__name__ for n in graph.nodes]
    assert kind in kinds and ("Einsum" in kinds) == (kind == "Einsum")
    wanted = np.einsum(equation, *(x.astype(np.float64) for x in feeds.values()))
    (found,) = evaluate(graph, feeds).values()
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_it_runs() -> None:
    """All of them in one model."""
    nodes, inputs, feeds, wanted = [], [], {}, {}
    for number, (equation, shapes, _) in enumerate(ELEMENTS):
        given = {f"x{number}_{i}": numbers(*shape) for i, shape in enumerate(shapes)}
        inputs += [value(name, x.shape) for name, x in given.items()]
        nodes.append(node("Einsum", " ".join(given), f"y{number}", equation=equation))
        feeds.update(given)
        wanted[f"y{number}"] = np.einsum(equation, *given.values())
    proto = model(nodes, inputs, " ".join(wanted))
    found = sofie_rdf.from_onnx(proto)(feeds)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)
