"""First fit: blocks with lifetimes, each at the lowest place that is free as long as it lives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

__all__ = ["Life", "first_fit"]

# The first and the last step at which a block is needed.
Life: TypeAlias = tuple[int, int]
# Of fewer blocks each is compared with all others, which is fast enough.
_FEW = 128


def first_fit(lives: Sequence[Life], sizes: Sequence[int]) -> list[int]:
    """Where each block begins, if they are placed in this order."""
    steps = _Steps(max((last for _, last in lives), default=0) + 1) if len(lives) > _FEW else None
    found: list[int] = []
    for number, (life, size) in enumerate(zip(lives, sizes, strict=True)):
        start, top = steps.range(life) if steps else (0, 1)
        if not size:
            start = 0
        elif start < top:
            near = steps.meeting(life, start) if steps else range(number)
            others = ((found[i], found[i] + sizes[i]) for i in near if _meet(lives[i], life))
            start = _lowest(sorted(others), start, size)
        found.append(start)
        if steps and size:
            steps.add(number, life, start, start + size)
    return found


def _meet(one: Life, other: Life) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _lowest(taken: Sequence[tuple[int, int]], start: int, size: int) -> int:
    """The lowest place from ``start`` on that none of these, which are sorted, takes."""
    for begin, end in taken:
        if begin < start + size and start < end:
            start = end
    return start


class _Steps:
    """How high memory is taken at each step: a segment tree over the steps.

    ``filled`` is a height below which everything is taken at that step (the least and the largest
    of all steps below a node of the tree), ``top`` one above which nothing is.
    """

    def __init__(self, count: int) -> None:
        self.count = 1 << (count - 1).bit_length()
        self.least = [0] * (2 * self.count)
        self.most = [0] * (2 * self.count)
        self.top = [0] * (2 * self.count)
        # What holds for all steps below a node, and which blocks do.
        self.whole = [0] * (2 * self.count)
        self.blocks: list[list[int] | None] = [None] * (2 * self.count)
        self.ends: list[int] = []

    def range(self, life: Life) -> tuple[int, int]:
        """The largest of both heights among the steps of a life."""
        first, last = life
        filled = top = 0
        stack = [(1, 0, self.count - 1)]
        while stack:
            node, low, high = stack.pop()
            if high < first or last < low:
                continue
            if self.most[node] <= filled and self.top[node] <= top:
                continue
            if (first <= low and high <= last) or self.least[node] == self.most[node]:
                filled = max(filled, self.most[node])
                if first <= low and high <= last:
                    top = max(top, self.top[node])
                    continue
            top = max(top, self.whole[node])
            middle = (low + high) // 2
            stack += ((2 * node, low, middle), (2 * node + 1, middle + 1, high))
        return filled, top

    def add(self, block: int, life: Life, begin: int, end: int) -> None:
        """A block is there from now on."""
        self.ends += [0] * (block + 1 - len(self.ends))
        self.ends[block] = end
        self._add(1, 0, self.count - 1, block, life, begin)

    def _add(self, node: int, low: int, high: int, block: int, life: Life, begin: int) -> None:
        if high < life[0] or life[1] < low:
            return
        self.top[node] = max(self.top[node], self.ends[block])
        if life[0] <= low and high <= life[1]:
            self.whole[node] = max(self.whole[node], self.ends[block])
            listed = self.blocks[node]
            if listed is None:
                self.blocks[node] = [block]
            else:
                listed.append(block)
            self._fill(node, begin, self.ends[block])
            return
        self._hand_down(node)
        middle = (low + high) // 2
        self._add(2 * node, low, middle, block, life, begin)
        self._add(2 * node + 1, middle + 1, high, block, life, begin)
        self._gather(node)

    def _fill(self, node: int, begin: int, end: int) -> None:
        """Steps that are filled up to ``begin`` are now filled up to ``end``."""
        if not self.least[node] <= begin <= self.most[node]:
            return
        if self.least[node] == self.most[node]:
            self.least[node] = self.most[node] = end
            return
        self._fill(2 * node, begin, end)
        self._fill(2 * node + 1, begin, end)
        self._gather(node)

    def _hand_down(self, node: int) -> None:
        """All steps below a node are alike: those below its children are, too."""
        if self.least[node] == self.most[node]:
            for child in (2 * node, 2 * node + 1):
                self.least[child] = self.most[child] = self.least[node]

    def _gather(self, node: int) -> None:
        self.least[node] = min(self.least[2 * node], self.least[2 * node + 1])
        self.most[node] = max(self.most[2 * node], self.most[2 * node + 1])

    def meeting(self, life: Life, above: int) -> set[int]:
        """The blocks that are there at a step of this life and end above a height."""
        return {b for b in self._meeting(life, above) if self.ends[b] > above}

    def _meeting(self, life: Life, above: int) -> Iterator[int]:
        stack = [(1, 0, self.count - 1)]
        while stack:
            node, low, high = stack.pop()
            if high < life[0] or life[1] < low or self.top[node] <= above:
                continue
            yield from self.blocks[node] or ()
            if node < self.count:
                middle = (low + high) // 2
                stack += ((2 * node, low, middle), (2 * node + 1, middle + 1, high))
