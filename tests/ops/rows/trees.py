"""Cases for ensembles of trees."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from sofie_rdf.ir.types import Array, DType, TensorType
from sofie_rdf.ops.trees import AT_MOST, EQUAL, LEAF, MISSING, Trees
from tests.ops.cases import Case, M, N, Random, Row

FEATURES = 5


def _ties(random: Random, dtype: DType, shape: Any, extreme: bool) -> Array:
    """Few values, so that many are thresholds; among them NaN and infinities."""
    values = np.asarray(random.integers(-4, 5, shape) / 2, dtype.numpy)
    special = random.choice([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3e38], shape)
    return np.where(random.random(shape) < (0.3 if extreme else 0.1), special, values).astype(
        dtype.numpy
    )


@cache
def ensemble(
    trees: int,
    depth: int,
    *,
    dtype: DType,
    weights: DType,
    targets: int = 1,
    lists: bool = False,
    bushy: float = 1.0,
    equal: float = 0.0,
    missing: float | None = 0.0,
    features: int = FEATURES,
    ties: float = 1.0,
    alike: bool = False,
    each: int = 0,
) -> tuple[Array, ...]:
    """Random trees as the inputs of `Trees`. A node has children with probability ``bushy``.

    So many thresholds as ``ties`` says are one of a few, some of them special. NaN takes the first
    child with probability ``missing``; if that is None, it goes where 0 does. With ``lists`` a leaf
    weighs several targets, or none, or just ``each`` as many, in their order if that is all; else
    all leaves of a tree the same one. Leaves are ``alike`` where many weigh the same.
    """
    random = np.random.default_rng([trees, depth, targets])
    nodes: list[tuple[int, float, int, tuple[int, int]]] = []
    listed: list[list[tuple[int, float]]] = []

    def leaf(tree: int) -> list[tuple[int, float]]:
        count = each or (int(random.integers(0, targets + 1)) if lists else 1)
        chosen = random.permutation(targets)[:count].tolist() if lists else [tree % targets]
        chosen = list(range(targets)) if each == targets else chosen
        weight = float(random.integers(1, 3)) if alike else None
        return [(t, weight or float(random.normal())) for t in chosen]

    few = [*np.arange(-4, 5) / 2, -0.0, np.inf, -np.inf, np.nan]
    roots = []
    for tree in range(trees):
        roots.append(len(nodes))
        levels = [0]
        start = len(nodes)
        for level in levels:  # It grows while it is read: breadth-first.
            inner = level < depth and (level == 0 or random.random() < bushy)
            first = start + len(levels)
            mode = EQUAL if random.random() < equal else AT_MOST
            threshold = (
                few[random.integers(len(few))] if random.random() < ties else random.normal()
            )
            to_first = threshold >= 0 if missing is None else random.random() < missing
            mode |= MISSING if to_first and (missing is not None or mode == AT_MOST) else 0
            row = (int(random.integers(features)), float(threshold), mode, (first, first + 1))
            nodes.append(row if inner else (0, 0.0, LEAF, (0, 0)))
            listed.append([] if inner else leaf(tree))
            levels += [level + 1] * (2 if inner else 0)
    starts = np.cumsum([0, *map(len, listed)])
    entries = [e for entry in listed for e in entry]
    return (
        np.array(roots, np.int32),
        np.array([n[0] for n in nodes], np.int32),
        np.array([n[1] for n in nodes], dtype.numpy),
        np.array([n[2] for n in nodes], np.uint8),
        np.array([n[3] for n in nodes], np.int32).reshape(-1, 2),
        starts.astype(np.int32),
        np.array([e[0] for e in entries], np.int32),
        np.array([e[1] for e in entries], weights.numpy),
        random.normal(size=targets).astype(weights.numpy),
    )


def _shared(dtype: DType) -> tuple[Array, ...]:
    """Nodes that several others lead to, above and below what is stored as a complete tree."""
    count = 12
    children = [(i + 1, i + 2) for i in range(count)] + [(0, 0)] * 2
    modes = [AT_MOST, EQUAL | 0, AT_MOST | MISSING] * (count // 3) + [LEAF] * 2
    return (
        np.array([0, 3, 0], np.int32),
        np.arange(count + 2, dtype=np.int32) % FEATURES,
        np.linspace(-2, 2, count + 2).astype(dtype.numpy),
        np.array(modes, np.uint8),
        np.array(children, np.int32),
        np.array([0] * (count + 1) + [1, 2], np.int32),
        np.zeros(2, np.int32),
        np.array([1.5, -0.25], dtype.numpy),
        np.zeros(1, dtype.numpy),
    )


def _trees(dtype: DType, full: bool) -> Iterator[Case]:
    x = TensorType(dtype, (N, FEATURES))
    if dtype not in (DType.FLOAT32, DType.FLOAT64):
        yield Case(Trees(), (x, *[TensorType(dtype, (1,))] * 9))  # Refused.
        return

    def case(aggregate: str = "SUM", shape: Any = x, weights: DType = dtype, **kinds: Any) -> Case:
        arrays = ensemble(dtype=dtype, weights=weights, **kinds)
        return Case(Trees(aggregate), (shape, *arrays), (_ties,))

    # Depths around those where a tree no longer is stored as a complete one.
    yield case(trees=11, depth=4)
    yield case(trees=9, depth=8, bushy=0.8, missing=0.4, equal=0.2)
    yield case(trees=5, depth=6, targets=3, missing=0.3)
    yield case("MIN", trees=6, depth=5, targets=3, lists=True)
    if dtype is DType.FLOAT64:
        yield case(weights=DType.FLOAT32, trees=5, depth=5)
        yield case(trees=3, depth=11, ties=0.2, missing=0.2)
    if full:
        for depth in (0, 1, 2, 3, 5, 7):
            yield case(trees=17, depth=depth, missing=0.2)
        yield case(trees=20, depth=9, bushy=0.75, missing=0.4)
        yield case("AVERAGE", trees=7, depth=5, targets=2)
        for aggregate in ("SUM", "AVERAGE", "MAX"):
            yield case(aggregate, trees=6, depth=8, targets=3, lists=True, bushy=0.8, equal=0.3)
        yield case("MAX", trees=6, depth=3)
        yield case("MIN", trees=6, depth=3, targets=3, lists=True, each=3)
        yield case(trees=6, depth=3, targets=3, lists=True, each=2)
        yield case(trees=0, depth=0)
        yield case(trees=3, depth=3, shape=TensorType(dtype, (37, FEATURES)))
        yield case(trees=3, depth=3, shape=TensorType(dtype, (0, FEATURES)))
        yield Case(Trees(), (x, *_shared(dtype)), (_ties,))
        # More trees than are done side by side, more events than a block has.
        yield case(trees=150, depth=3, targets=2, shape=TensorType(dtype, (67, FEATURES)))
        yield case(trees=70, depth=4, missing=0.3, shape=TensorType(dtype, (67, FEATURES)))
        yield case(trees=20, depth=6, missing=0.3, shape=TensorType(dtype, (67, FEATURES)))
        yield case(trees=9, depth=5, targets=2, shape=TensorType(dtype, (41, FEATURES)))
        yield case(trees=4, depth=8, missing=0.3, shape=TensorType(dtype, (67, FEATURES)))
        yield case(trees=1, depth=7, shape=TensorType(dtype, (33, FEATURES)))
        yield case(trees=70, depth=9, bushy=0.8, missing=0.3)
        yield case(trees=30, depth=14, bushy=0.7, missing=0.2)
        # NaN as a number, in ranks and beside them.
        for trees, depth in ((40, 3), (40, 6), (40, 9)):
            yield case(trees=trees, depth=depth, missing=None, equal=0.05 if depth > 6 else 0)
        yield case(trees=130, depth=6, ties=0, missing=None)
        for kinds in _forests(dtype):
            shape = TensorType(dtype, (N, kinds.get("features", FEATURES)))
            yield Case(Trees(), (shape, *ensemble(**kinds)), (_ties,))
        # Features that are counted when it runs: nodes to walk on are larger.
        yield case(trees=3, depth=11, ties=0.2, features=1, shape=TensorType(dtype, (N, M)))
        # More different thresholds than a byte numbers, in more columns than a register holds.
        for trees, features in ((130, 3), (300, 24), (130, 30), (130, 90), (130, 200)):
            shape = TensorType(dtype, (N, features))
            kinds = {"features": features, "ties": 0, "missing": 0.2, "shape": shape}
            yield case(trees=trees, depth=6, **kinds)
            yield case(trees=30, depth=8, bushy=0.9, **kinds)


def _forests(dtype: DType) -> Iterator[dict[str, Any]]:
    """Ensembles that are walked through: more thresholds for each tree than ranks pay for."""
    deep: dict[str, Any] = {"dtype": dtype, "weights": dtype, "ties": 0.2}
    yield {"trees": 3, "depth": 13, "bushy": 0.9, **deep}
    yield {"trees": 3, "depth": 11, "missing": None, "features": 3, **deep}
    yield {"trees": 3, "depth": 11, "missing": 0.3, "targets": 3, **deep}
    yield {"trees": 3, "depth": 10, "equal": 0.2, "missing": 0.2, **deep}
    lists = {"targets": 4, "lists": True}
    yield {"trees": 3, "depth": 11, "bushy": 0.95, "alike": True, **lists, **deep}
    yield {"trees": 3, "depth": 11, "each": 4, **lists, **deep}


def _weighed(op: Trees, x: Array, *arrays: Array) -> Array:
    *nodes, weights, base = arrays
    sums = Trees("AVERAGE" if op.aggregate == "AVERAGE" else "SUM")
    return sums.reference(x, *nodes, np.abs(weights), np.abs(base))


def _count(_: Array, roots: Array, *__: Array) -> float:
    return float(max(1, len(roots)))


ROWS: dict[tuple[str, str], Row] = {("sofie", "Trees"): Row(_trees, _weighed, _count)}
