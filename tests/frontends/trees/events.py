"""Events that are hard for trees: on thresholds and next to them, missing, and extreme ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array
from sofie_rdf.passes import pipeline
from sofie_rdf.reference import evaluate

__all__ = ["agree", "around", "computed"]

EXTREME = (0.0, -0.0, 1e-45, -1e-45, 1e-36, -1e-36, 1e-35, -1e-35, 1e-30, 3e38, -3e38)


def around(
    random: np.random.Generator,
    seen: Array,
    splits: Sequence[tuple[int, float]],
    *,
    infinite: bool = True,
    nan: bool = True,
) -> Array:
    """Float32 events like those that were ``seen``, with the thresholds of ``splits`` in them."""
    count = 200 + len(splits)
    x = np.asarray(seen[random.integers(0, len(seen), count)], np.float32)
    for row, (feature, threshold) in enumerate(splits, 200):
        near = np.float32(threshold)
        ends = (
            near,
            np.nextafter(near, np.float32(-np.inf)),
            np.nextafter(near, np.float32(np.inf)),
        )
        x[row, feature] = ends[row % 3]
    special = [*EXTREME, *([np.inf, -np.inf] if infinite else []), *([np.nan] * 8 if nan else [])]
    chosen = random.random(x.shape) < 0.15
    x[chosen] = random.choice(np.float32(special), int(chosen.sum()))
    return x


def computed(graph: Graph, x: Array) -> Array:
    """What the reference gives for a graph of one input and one output, also after all passes."""
    (name,) = graph.inputs
    (found,) = evaluate(graph, {name: x}).values()
    (again,) = evaluate(pipeline.run(graph), {name: x}).values()
    np.testing.assert_allclose(found, again, rtol=1e-6, atol=1e-6)
    return found


def agree(found: Array, wanted: Array, tolerance: float = 1e-6) -> None:
    """Within ``tolerance``, relative to numbers larger than 1."""
    wanted = np.asarray(wanted).reshape(found.shape)
    assert np.all(np.isfinite(wanted))
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
