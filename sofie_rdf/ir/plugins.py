"""Operators of other packages, which name the modules that register them in an entry-point group.

::

    [project.entry-points."sofie_rdf.operators"]
    anything = "their_package.operators"
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "load_plugins"]

GROUP = "sofie_rdf.operators"


@cache
def load_plugins() -> tuple[str, ...]:
    """Import all modules of the group, once per process; what went wrong with those that failed."""
    from importlib.metadata import entry_points

    return tuple(filter(None, map(_load, entry_points(group=GROUP))))


def _load(point: EntryPoint) -> str:
    """What goes wrong: one broken package must not stop the models of all others."""
    try:
        point.load()
    except Exception as error:
        return f"{point.value} does not load: {type(error).__name__}: {error}"
    return ""
