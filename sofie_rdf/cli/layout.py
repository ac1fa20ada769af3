"""Where the boxes of a graph stand: in layers from top to bottom, with few crossings of lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Layout", "Point", "layout"]

# A line that passes layers has a place in each; in the largest graphs it goes straight.
_MOST_PLACES = 20_000
_SWEEPS = 6
_PASS_WIDTH = 10.0


@dataclass(frozen=True)
class Point:
    x: float
    y: float


@dataclass(frozen=True)
class Layout:
    """The middle of each box, the points that each line goes through, and the size of all."""

    boxes: Sequence[Point]
    lines: Sequence[Sequence[Point]]
    width: float
    height: float


def layout(
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[tuple[int, int]],
    gap: tuple[float, float] = (24.0, 42.0),
) -> Layout:
    """Boxes of these widths and heights; an edge goes from an earlier box to a later one."""
    layers_of = _layers(len(sizes), edges)
    chains = _chains(layers_of, edges)
    passes = sum(len(chain) - 2 for chain in chains)
    widths = [w for w, _ in sizes] + [_PASS_WIDTH] * passes
    neighbours = _neighbours(len(widths), chains)
    level = dict(enumerate(layers_of))
    for chain in chains:
        level.update((place, layers_of[chain[0]] + i) for i, place in enumerate(chain))
    layers: list[list[int]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for place in range(len(widths)):
        layers[level[place]].append(place)
    _order(layers, neighbours)
    xs = _across(layers, neighbours, widths, gap[0])
    heights = [max((sizes[p][1] for p in layer if p < len(sizes)), default=0.0) for layer in layers]
    middles, top = list[float](), 0.0
    for height in heights:
        middles.append(top + height / 2)
        top += height + gap[1]
    left = min((xs[p] - widths[p] / 2 for p in xs), default=0.0)
    right = max((xs[p] + widths[p] / 2 for p in xs), default=0.0)
    points = {p: Point(xs[p] - left, middles[level[p]]) for p in xs}
    lines = [[points[place] for place in chain] for chain in chains]
    boxes = [points[p] for p in range(len(sizes))]
    return Layout(boxes, lines, right - left, max(0.0, top - gap[1]))


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest way to each box from a box without edges to it."""
    found = [0] * count
    for start, end in sorted(edges):
        found[end] = max(found[end], found[start] + 1)
    return found


def _chains(layers_of: Sequence[int], edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Each edge as the places that it goes through, one in each layer; new ones count on."""
    spans = sum(layers_of[end] - layers_of[start] - 1 for start, end in edges)
    free = len(layers_of)
    chains = []
    for start, end in edges:
        between = layers_of[end] - layers_of[start] - 1 if spans <= _MOST_PLACES else 0
        chains.append([start, *range(free, free + between), end])
        free += between
    return chains


def _neighbours(count: int, chains: Sequence[Sequence[int]]) -> list[tuple[list[int], list[int]]]:
    """What is above and what is below each place."""
    found: list[tuple[list[int], list[int]]] = [([], []) for _ in range(count)]
    for chain in chains:
        for above, below in pairwise(chain):
            found[below][0].append(above)
            found[above][1].append(below)
    return found


def _order(layers: Sequence[list[int]], neighbours: Sequence[tuple[list[int], list[int]]]) -> None:
    """Each place comes where its neighbours are on average, down and up in turns."""
    position = {p: float(i) for layer in layers for i, p in enumerate(layer)}
    for sweep in range(_SWEEPS):
        side = sweep % 2
        for layer in layers if side == 0 else reversed(layers):
            wanted = {p: _mean(neighbours[p][side], position, position[p]) for p in layer}
            layer.sort(key=lambda p: wanted[p])
            position.update((p, float(i)) for i, p in enumerate(layer))


def _mean(places: Sequence[int], position: Mapping[int, float], otherwise: float) -> float:
    return sum(position[p] for p in places) / len(places) if places else otherwise


def _across(
    layers: Sequence[Sequence[int]],
    neighbours: Sequence[tuple[list[int], list[int]]],
    widths: Sequence[float],
    gap: float,
) -> dict[int, float]:
    """The middle of each place: near its neighbours, and apart from the next in its layer."""
    xs: dict[int, float] = {}
    for layer in layers:
        _spread(layer, dict.fromkeys(layer, 0.0), widths, gap, xs)
    for sweep in range(_SWEEPS):
        side = sweep % 2
        for layer in layers if side == 0 else reversed(layers):
            wanted = {p: _mean(neighbours[p][side], xs, xs[p]) for p in layer}
            _spread(layer, wanted, widths, gap, xs)
    return xs


def _spread(
    layer: Sequence[int],
    wanted: Mapping[int, float],
    widths: Sequence[float],
    gap: float,
    xs: dict[int, float],
) -> None:
    """Side by side in their order, with the mean of the wanted places as the mean of all."""
    at, free = dict[int, float](), float("-inf")
    for place in layer:
        half = widths[place] / 2
        at[place] = max(wanted[place], free + half)
        free = at[place] + half + gap
    shift = sum(wanted[p] - at[p] for p in layer) / max(1, len(layer))
    xs.update((p, x + shift) for p, x in at.items())
