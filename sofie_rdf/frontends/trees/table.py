"""Trees as the libraries of gradient boosting store them, put together as arrays of `Trees`.

A node of theirs splits the real numbers into intervals that go to one child or the other: a
threshold does, and so do categories, which are numbers without what is behind the point. NaN has
a way of its own. Bounds are rounded down to the element type of x, so that ``x <= bound`` is what
the library finds for every x of that type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sofie_rdf.errors import CorruptFile
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.graph import Origin
from sofie_rdf.ir.types import Array, DType
from sofie_rdf.ops.trees import AT_MOST, LEAF, MISSING, Trees

__all__ = [
    "MOST_FEATURES",
    "Ranges",
    "Tree",
    "below",
    "categories",
    "checked",
    "evaluated",
    "ranges",
]

# What the kernel can number.
MOST_FEATURES = 2**24


@dataclass(frozen=True)
class Ranges:
    """Numbers up to ``bounds[i]`` go to child ``sides[i]``, larger to the last one; NaN to ``nan``.

    Bounds ascend, and there is one side more than bounds.
    """

    bounds: tuple[float, ...]
    sides: tuple[int, ...]
    nan: int


@dataclass(frozen=True)
class Tree:
    """A tree whose root is node 0: ``x[features] <= thresholds`` leads to the first child.

    NaN does where ``missing``. ``children[i]`` of a leaf are negative. A node in ``ranges`` splits
    as that says. Leaf ``leaves[j]`` adds ``weights[j]`` to ``targets[j]``. ``place`` is for errors.
    """

    place: str
    features: Array
    thresholds: Array
    missing: Array
    children: Array
    leaves: Array
    targets: Array
    weights: Array
    ranges: Mapping[int, Ranges] = field(default_factory=dict)


def _rounded_down(bounds: Any, dtype: DType) -> Array:
    """The largest numbers of this type that are at most these."""
    wide = np.asarray(bounds, np.float64)
    with np.errstate(over="ignore"):
        near: Array = wide.astype(dtype.numpy)
    above = near.astype(np.float64) > wide
    near[above] = np.nextafter(near[above], dtype.numpy.type(-np.inf))
    return near


def below(number: Any) -> Any:
    """The largest float64 below: ``x < number`` is ``x <= below(number)``."""
    return np.nextafter(number, -np.inf)


def ranges(bounds: Sequence[float], sides: Sequence[int], nan: int) -> Ranges:
    """The same without bounds between numbers that go the same way."""
    kept = [i for i in range(len(bounds)) if sides[i] != sides[i + 1]]
    return Ranges(
        tuple(float(bounds[i]) for i in kept), (*(sides[i] for i in kept), sides[-1]), nan
    )


def categories(members: Array, inside: int, nan: int, lowest: float) -> Ranges:
    """Numbers whose whole part is one of ``members`` go to the child ``inside``.

    Numbers above ``lowest`` and below 1 are category 0: not for every library is -0.5 one of them.
    """
    own = np.unique(members.astype(np.int64))
    apart = np.diff(own) > 1
    starts = own[np.concatenate([[True], apart])] if len(own) else own
    ends = own[np.concatenate([apart, [True]])] + 1 if len(own) else own
    bounds: list[float] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        bounds += [below(start) if start else lowest, below(end)]
    sides = [1 - inside, inside] * len(starts)
    return ranges(bounds, [*sides, 1 - inside], nan)


# From many trees to one table ---------------------------------------------------------------------


def checked(tree: Tree, features: int, targets: int) -> Tree:
    """The tree; `CorruptFile` for numbers of nodes, features or targets that cannot be."""
    inner = tree.children[:, 0] >= 0

    def refuse(wrong: Any, text: str) -> None:
        if np.any(wrong):
            raise CorruptFile(text, place=tree.place)

    refuse(not len(inner), "has no nodes")
    refuse(inner != (tree.children[:, 1] >= 0), "has a node with one child")
    refuse(tree.children >= len(inner), "has a child that does not exist")
    used = tree.features[inner]
    refuse((used < 0) | (used >= features), f"splits a feature that is none of the {features}")
    refuse(np.isnan(tree.thresholds[inner]), "has a threshold that is NaN")
    refuse((tree.targets < 0) | (tree.targets >= targets), "has an output that does not exist")
    refuse(~np.isfinite(tree.weights), "has a leaf that is not finite")
    return tree


def _breadth_first(trees: Sequence[Tree], children: Array, roots: Array) -> Array:
    """The nodes that the roots lead to, level by level: parents come before their children."""
    visits = np.zeros(len(children), np.int64)
    levels, level = [], roots
    while len(level):
        np.add.at(visits, level, 1)
        if np.any(visits[level] > 1):
            node = level[visits[level] > 1][0]
            tree = trees[int(np.searchsorted(roots, node, side="right")) - 1]
            raise CorruptFile(
                "has a node that two ways lead to, or a circle of nodes", place=tree.place
            )
        levels.append(level)
        following = children[level].reshape(-1)
        level = following[following >= 0]
    return np.concatenate([np.zeros(0, np.int64), *levels])


# A question: threshold, whether NaN takes the first way, and two ways. A way is a later question of
# the same node, counted from its first, or ~side.
_Question = tuple[float, bool, int, int]


def _questions(ranges: Ranges) -> list[_Question]:
    """A node that has several bounds as a search among them."""
    bounds, sides, nan = ranges.bounds, ranges.sides, ranges.nan
    if not bounds:
        return [(np.inf, False, ~sides[0], ~nan)]
    found: list[_Question] = []
    missing = nan == sides[0]
    if not missing and nan != sides[-1]:
        found.append((np.inf, False, 1, ~nan))

    def search(low: int, high: int) -> int:
        """The way for a number that belongs to one of these intervals."""
        if low == high:
            return ~sides[low]
        middle, own = (low + high) // 2, len(found)
        found.append((0.0, False, 0, 0))
        first = search(low, middle)
        found[own] = (bounds[middle], missing, first, search(middle + 1, high))
        return own

    search(0, len(bounds))
    return found


class _Table:
    """All trees, one behind the other."""

    def __init__(self, trees: Sequence[Tree], dtype: DType) -> None:
        counts = [len(t.features) for t in trees]
        self.offsets = np.cumsum([0, *counts])[:-1].astype(np.int64)
        none = np.zeros(0)

        def joined(name: str) -> Array:
            return np.concatenate([none, *(getattr(t, name) for t in trees)])

        self.features = joined("features").astype(np.int64)
        self.thresholds = _rounded_down(joined("thresholds"), dtype)
        self.missing = joined("missing").astype(bool)
        moved = [
            np.where(t.children < 0, -1, t.children + o)
            for t, o in zip(trees, self.offsets, strict=True)
        ]
        self.children = np.concatenate([np.zeros((0, 2), np.int64), *moved])
        self.leaves = np.concatenate(
            [
                np.zeros(0, np.int64),
                *(t.leaves + o for t, o in zip(trees, self.offsets, strict=True)),
            ]
        )
        self.targets = joined("targets").astype(np.int64)
        self.weights = joined("weights")
        self.ranges = {
            int(node + offset): ranges
            for tree, offset in zip(trees, self.offsets, strict=True)
            for node, ranges in tree.ranges.items()
        }
        self.order = _breadth_first(trees, self.children, self.offsets)
        self.dtype = dtype

    def arrays(self, base: Array) -> Iterator[Array]:
        """The inputs of `Trees` behind x."""
        asked = {node: _questions(r) for node, r in self.ranges.items()}
        rows = np.ones(len(self.children), np.int64)
        for node, questions in asked.items():
            rows[node] = len(questions)
        source = np.repeat(self.order, rows[self.order])
        place = np.full(len(rows), -1, np.int64)
        place[self.order] = np.cumsum(rows[self.order]) - rows[self.order]
        leaf = self.children[source, 0] < 0
        modes = np.where(leaf, LEAF, AT_MOST | np.where(self.missing[source], MISSING, 0))
        thresholds = np.where(leaf, 0, self.thresholds[source]).astype(self.dtype.numpy)
        children = np.where(leaf[:, None], 0, place[self.children[source]])
        for node, questions in asked.items():
            own, ways = place[node], place[self.children[node]]
            if own < 0:
                continue  # Nothing leads to it.
            for row, (threshold, missing, *pair) in enumerate(questions, own):
                thresholds[row] = _rounded_down(threshold, self.dtype)
                modes[row] = AT_MOST | (MISSING if missing else 0)
                children[row] = [ways[~way] if way < 0 else own + way for way in pair]
        starts, targets, weights = self._entries(place, len(source))
        yield place[self.offsets].astype(np.int32)
        yield np.where(leaf, 0, self.features[source]).astype(np.int32)
        yield thresholds
        yield modes.astype(np.uint8)
        yield children.astype(np.int32)
        yield starts.astype(np.int32)
        yield targets.astype(np.int32)
        yield weights.astype(base.dtype)
        yield base

    def _entries(self, place: Array, count: int) -> tuple[Array, Array, Array]:
        """What leaves add, in the order of the leaves."""
        nodes = place[self.leaves]
        order = np.argsort(nodes, kind="stable")
        order = order[nodes[order] >= 0]
        starts = np.searchsorted(nodes[order], np.arange(count + 1))
        return starts, self.targets[order], self.weights[order]


def evaluated(build: Builder, x: str, trees: Sequence[Tree], base: Array, origin: Origin) -> str:
    """y[N, len(base)]: base and what the leaves add that x[N, F] reaches; weights are of x's type.

    The trees are `checked`. Raises `CorruptFile`, with the tree's place, for circles, and for
    numbers that would be infinite in that type.
    """
    dtype = build.types[x].dtype
    for place, numbers in ((str(origin), base), *((t.place, t.weights) for t in trees)):
        with np.errstate(over="ignore"):
            narrow = np.asarray(numbers).astype(dtype.numpy)
        if not np.all(np.isfinite(narrow)):
            raise CorruptFile(f"adds a number that is none in {dtype}", place=place)
    arrays = _Table(trees, dtype).arrays(np.asarray(base, dtype.numpy))
    return build(Trees(), x, *map(build.constant, arrays), origin=origin)
