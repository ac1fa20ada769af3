"""The header with a clock between its steps: what `sofie-rdf profile` runs, and nobody else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from sofie_rdf.emit.session import Emitter

__all__ = ["Part", "ProfiledEmitter"]


@dataclass(frozen=True)
class Part:
    """What is timed: ``node`` counts the nodes of the graph, -1 for a copy to an output."""

    label: str
    kernel: str
    node: int


class ProfiledEmitter(Emitter):
    """Writes times into the memory behind the pointers to the outputs.

    That has an element for what comes before the first step, one for each of `parts`, one for the
    clock itself, and one for the time when the call ended.
    """

    # What is between steps is timed, so that no step is part of another function.
    is_short = False

    @property
    def parts(self) -> tuple[Part, ...]:
        nodes = len(self.graph.nodes)
        return tuple(
            Part(step.label, step.call.kernel, i if i < nodes else -1)
            for i, step in enumerate(self.steps)
            if step.call
        )

    @cached_property
    def _lines(self) -> Iterator[int]:
        return iter(range(1, len(self.parts) + 1))

    def statements(self, step: object, known: set[str]) -> Iterable[str]:
        """The lines of one step, and the time that it took."""
        yield from super().statements(step, known)  # type: ignore[arg-type]
        if step.call:  # type: ignore[attr-defined]
            yield f"   laps_.lap({next(self._lines)});"

    def _scratch(self) -> Iterable[str]:
        yield "   sofie::Laps laps_(laps);"
        yield from super()._scratch()
        yield "   laps_.lap(0);"

    def _statements(self) -> Iterable[str]:
        yield from super()._statements()
        clock = len(self.parts) + 1
        yield f"   laps_.lap({clock});"
        yield f"   laps_.end({clock + 1});"

    def _own_session(self) -> Iterable[str]:
        yield from super()._own_session()
        yield "   /// Where times are written, if anywhere."
        yield "   std::uint64_t *laps = nullptr;"

    def headers(self) -> set[str]:
        """The headers of all kernels, and the clock."""
        return {*super().headers(), "sofie/session/laps.hxx"}

    def header(self) -> str:
        """The whole text; where it is called from outside, it is told where times go."""
        call = f"      session.{self.interface.computing}("
        before, mark, after = super().header().partition(call)
        place = f"out[{len(self.interface.outputs)}]"
        told = f"      session.laps = static_cast<std::uint64_t *>({place});\n"
        return f"{before}{told}{mark}{after}"
