"""Our own header compiled by the system's compiler, as a contestant beside Cling."""

from __future__ import annotations

from collections.abc import Iterator

from sofie_rdf.bench.measure import Contestant
from sofie_rdf.bench.models import Task
from sofie_rdf.runtime.compile.clock import InferLoop
from sofie_rdf.runtime.compile.library import find_compiler
from sofie_rdf.runtime.compile.session import compile_graph

__all__ = ["BySystemCompiler"]


class BySystemCompiler:
    """What ``compiler="g++"`` gives."""

    name = "g++"
    overhead = False

    def absence(self) -> str:
        return "" if find_compiler(self.name) else "there is no g++ on the PATH"

    def version(self) -> str:
        """The number at the end of the first line."""
        found = find_compiler(self.name)
        return found.version.splitlines()[0].split()[-1] if found else ""

    def forms(self, task: Task) -> Iterator[tuple[str, Contestant]]:
        compiled = compile_graph(task.candidate.model.optimized, self.name)
        yield "our header", InferLoop(compiled, task.feeds, task.sizes)
