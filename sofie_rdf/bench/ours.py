"""Our own model as a contestant that is called from Python, and the loops of others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sofie_rdf.bench.measure import python_seconds
from sofie_rdf.ir.types import Array
from sofie_rdf.model import Model

__all__ = ["OurPython", "stopwatch"]


def stopwatch() -> str:
    """The C++ loops that take the time; they are declared once."""
    return Path(__file__).with_name("stopwatch.hxx").read_text()


class OurPython:
    """``model(x)``: with the checks and the new arrays of every call from Python."""

    def __init__(self, model: Model, feeds: Mapping[str, Array]) -> None:
        self._model, self._feeds = model, dict(feeds)

    def seconds(self, calls: int) -> float:
        return python_seconds(lambda: self._model(self._feeds), calls)

    def outputs(self) -> list[Array]:
        found = self._model(self._feeds)
        return list(found.values()) if isinstance(found, dict) else [found]
