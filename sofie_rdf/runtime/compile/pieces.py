"""A large batch in pieces: as many rows at once as a cache holds, on the threads that ROOT has."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from sofie_rdf.errors import InputError

__all__ = ["in_pieces", "rows_that_fit", "threads"]

# The most rows of a piece, and elements of its inputs: no cache would hold more.
_ROWS, _ELEMENTS = 4096, 1 << 16
# A piece should take so long that a call from Python does not count, and more threads than one
# should save more than it takes to start them. Seconds.
_LONG, _WORTH_IT = 2e-4, 1e-3
# How many pieces each thread gets: the last ones to finish should not be waited for.
_SHARE = 4


def rows_that_fit(elements: int, scratch: int, piece: int) -> int:
    """How many rows, of so many elements and bytes of scratch memory, are a piece of this size."""
    return max(1, min(_ROWS, _ELEMENTS // max(elements, 1), piece // max(scratch, 1)))


def in_pieces(call: Callable[[int, int], None], rows: int, step: int) -> None:
    """``call(begin, end)`` for all rows, ``step`` of them at first, on `threads`.

    What a call raises ends the others, and is raised here.
    """
    began = time.perf_counter()
    call(0, step)
    took, left = time.perf_counter() - began, rows - step
    step *= min(16, math.ceil(_LONG / max(took, 1e-9)))
    count = threads() if took * left / step > _WORTH_IT else 1
    if count > 1:
        step = max(1, min(step, math.ceil(left / (_SHARE * count))))
    pieces = _Pieces(call, ((i, min(i + step, rows)) for i in range(rows - left, rows, step)))
    others = [threading.Thread(target=pieces.work) for _ in range(1, count)]
    for other in others:
        other.start()
    try:
        pieces.work()
    finally:
        # Also where somebody has pressed Ctrl-C.
        pieces.stop()
        for other in others:
            other.join()
    if pieces.error:
        raise pieces.error


class _Pieces:
    """What is left to do, for several threads."""

    def __init__(self, call: Callable[[int, int], None], pieces: Iterator[tuple[int, int]]) -> None:
        self._call, self._pieces = call, pieces
        self._lock = threading.Lock()
        self.error: Exception | None = None

    def work(self) -> None:
        """Calls, until there is nothing left."""
        while True:
            with self._lock:
                piece = next(self._pieces, None)
            if piece is None:
                return
            try:
                self._call(*piece)
            except Exception as error:
                self.error = self.error or error
                self.stop()

    def stop(self) -> None:
        """Nothing is left from now on."""
        with self._lock:
            self._pieces = iter(())


def threads() -> int:
    """How many threads a large batch has: SOFIE_RDF_THREADS, else those of ROOT's pool.

    That is 1 without ``ROOT.EnableImplicitMT()``.
    """
    chosen = os.environ.get("SOFIE_RDF_THREADS", "")
    if chosen:
        if not chosen.isdecimal() or int(chosen) < 1:
            raise InputError(f"SOFIE_RDF_THREADS is {chosen!r}, which is no number of threads")
        return int(chosen)
    root = sys.modules.get("ROOT")
    if root is None or not root.IsImplicitMTEnabled():
        return 1
    return max(1, int(root.GetThreadPoolSize()))
