"""Which rows random numbers are for: an input of a graph, uint64[N, 3], that no user sees.

A row says its seed, its entry (the number of the event), and its object in the event.
`sofie_rdf.ops.random` says what becomes of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sofie_rdf.errors import InputError
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array

__all__ = ["COLUMNS", "ROWS", "check_entries", "check_seed", "drawn_rows", "rows_for"]

# The name of the input.
ROWS = "random.rows"
COLUMNS = 3


def drawn_rows(graph: Graph) -> Dim | None:
    """For how many rows the graph draws numbers; None where it has not been told of any."""
    return graph.types[ROWS].shape[0] if ROWS in graph.inputs else None


def check_seed(seed: Any) -> int:
    """The seed, if it is one: an integer of up to 64 bits; else `InputError`."""
    is_number = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not is_number or not -(2**63) <= seed < 2**64:
        raise InputError(f"seed={seed!r} is no integer of 64 bits")
    return int(seed)


def check_entries(entry: Any, count: int) -> Array:
    """The entries of so many rows: from this number on, or these; `InputError` for others."""
    found = np.asarray(entry)
    if found.dtype.kind not in "iu" or found.ndim > 1:
        raise InputError(f"entry={entry!r} is neither the number of an event nor a list of them")
    if found.ndim == 1 and len(found) != count:
        raise InputError(f"entry= has {len(found)} numbers for {count} rows")
    found = found.astype(np.uint64)
    return found if found.ndim else found + np.arange(count, dtype=np.uint64)


def rows_for(entries: Any, seed: int = 0, objects: Any = 0) -> Array:
    """The rows of these entries, and of these objects in them."""
    entries = np.atleast_1d(np.asarray(entries))
    found = np.empty((len(entries), COLUMNS), np.uint64)
    found[:, 0] = np.uint64(seed % 2**64)
    found[:, 1] = entries.astype(np.uint64)
    found[:, 2] = np.asarray(objects).astype(np.uint64)
    return found
