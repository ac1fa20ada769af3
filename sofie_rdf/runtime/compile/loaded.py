"""Weights that this process has loaded: equal ones of one code are one, for as long as they live.

A model that is loaded again and again, for columns of a data frame that lives on, takes the memory
of its weights once. Nothing here keeps them: where nobody uses them any more, they go.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sofie_rdf.ir.types import Array

__all__ = ["weights"]


@dataclass(frozen=True)
class _Watched:
    """The functions of some code, and the address of what finds its weights."""

    entries: Mapping[str, Any]
    watcher: int

    def found(self) -> int:
        """One more owner of the weights, which must be unloaded; 0 where there are none."""
        return int(self.entries["found"](self.watcher) or 0)


# By the code (the address of its table) and the SHA-256 of the bytes.
_watched: dict[tuple[int, bytes], _Watched] = {}
_lock = threading.Lock()


def weights(table: int, entries: Mapping[str, Any], data: Array, said: bytes = b"") -> int:
    """The address of the weights in these bytes; 0 where they are not those of this code.

    ``said`` is the SHA-256 that a file of the cache has of its bytes. Who has damaged them gets the
    weights that were meant, where these are there, and none where the code finds the damage.
    """
    key = table, said or hashlib.sha256(data.data).digest()
    with _lock:
        known = _watched.get(key)
        weights = known.found() if known else 0
        if weights:
            return weights
        weights = int(entries["load"](data.ctypes.data, data.size, b"", None, 0) or 0)
        if weights:
            _drop_those_that_are_gone()
            _watched[key] = _Watched(entries, int(entries["watch"](weights)))
        return weights


def _drop_those_that_are_gone() -> None:
    for key, one in list(_watched.items()):
        weights = one.found()
        if weights:
            one.entries["unload"](weights)
        else:
            one.entries["forget"](one.watcher)
            del _watched[key]
