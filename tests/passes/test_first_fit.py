"""First fit by a tree gives what comparing each block with all others gives."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from sofie_rdf.passes import first_fit as module
from sofie_rdf.passes.first_fit import Life, first_fit


def compared(lives: Sequence[Life], sizes: Sequence[int]) -> list[int]:
    """Each block is compared with all that are there."""
    placed: list[tuple[int, int, Life]] = []
    found = []
    for (first, last), size in zip(lives, sizes, strict=True):
        offset = 0
        for begin, end, life in sorted(placed, key=lambda p: p[0]):
            meets = first <= life[1] and life[0] <= last
            if meets and begin < offset + size and offset < end:
                offset = end
        found.append(offset)
        placed.append((offset, offset + size, (first, last)))
    return found


@pytest.mark.parametrize("seed", range(200))
def test_the_tree_finds_the_same_places(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEW", 0)
    source = random.Random(seed)
    steps = source.choice([1, 3, 10, 100])
    lives = []
    for _ in range(source.randint(1, 100)):
        first = source.randrange(steps)
        lives.append((first, min(steps - 1, first + source.choice([0, 1, 3, steps]))))
    kinds = ([1], [64, 128], [0, 64, 192, 320], list(range(0, 640, 64)))
    sizes = [source.choice(kinds[seed % 4]) for _ in lives]
    if seed % 8 < 4:
        sizes.sort(reverse=True)
    assert first_fit(lives, sizes) == compared(lives, sizes)


def test_few_blocks_are_placed_alike() -> None:
    assert first_fit([(0, 2), (1, 3), (3, 4)], [64, 64, 128]) == [0, 64, 128]
    assert first_fit([], []) == []
