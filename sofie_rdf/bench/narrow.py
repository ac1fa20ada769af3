"""Our own network with its weights in fewer bits, as a contestant beside float32."""

from __future__ import annotations

from collections.abc import Iterator

from sofie_rdf.bench.measure import Contestant
from sofie_rdf.bench.models import Task
from sofie_rdf.runtime.compile.clock import InferLoop

__all__ = ["InPrecision"]


class InPrecision:
    """What ``precision="bfloat16"`` gives: other numbers, which is what was asked for."""

    overhead = False

    def __init__(self, name: str) -> None:
        self.name = name

    def absence(self) -> str:
        return ""

    def version(self) -> str:
        return ""

    def forms(self, task: Task) -> Iterator[tuple[str, Contestant]]:
        model = task.candidate.model.with_precision(self.name)
        yield "our header", InferLoop(model.compiled, task.feeds, task.sizes)
