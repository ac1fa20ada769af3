"""Derivatives beside quotients of small differences, both by the reference in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sofie_rdf.gradients.derived import derivative_name, gradient
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ir.verify import verify
from sofie_rdf.reference import evaluate

# How exact what is subtracted is.
ROUNDING = {DType.FLOAT64: 1e-14, DType.FLOAT32: 1e-6}


def compare(
    graph: Graph,
    feeds: Mapping[str, Array],
    wrt: Sequence[str],
    seed: int = 0,
    curvature: float = 1e3,
) -> dict[str, Array]:
    """All outputs of floating-point numbers by these inputs, along random directions."""
    random = np.random.default_rng(seed)
    rounding = max(ROUNDING.get(t.dtype, 0) for t in graph.types.values())
    # A quotient of differences is exact to the square of the step, and to the last bits.
    step = rounding ** (1 / 3)
    of = [o for o in graph.outputs if graph.types[o].dtype.is_float]
    derived = gradient(graph, of, wrt, vjp=True)
    verify(derived)
    values = evaluate(graph, feeds)
    weights = {o: random.normal(size=np.shape(values[o])) for o in of}
    found = evaluate(derived, {**feeds, **{f"v_{o}": w for o, w in weights.items()}})
    for name in wrt:
        slope = sum(found[derivative_name(o, name)] for o in of)
        assert np.shape(slope) == feeds[name].shape
        direction = random.normal(size=feeds[name].shape)
        sides = []
        for sign in (1, -1):
            moved = {**feeds, name: feeds[name] + sign * step * direction}
            sides.append(evaluate(graph, moved))
        terms = [((sides[0][o] - sides[1][o]) * w).ravel() for o, w in weights.items()]
        wanted = np.sum(np.concatenate(terms)) / (2 * step)
        parts = slope * direction
        sizes = sum(np.sum(np.abs(values[o] * w)) for o, w in weights.items())
        allowed = curvature * step**2 * np.sum(np.abs(parts)) + rounding * sizes / step + 1e-8
        assert abs(np.sum(parts) - wanted) <= allowed, (name, np.sum(parts), wanted, allowed)
    return found
