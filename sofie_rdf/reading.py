"""What a model is read from: now, or when the record in the cache does not suffice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

from sofie_rdf import limits
from sofie_rdf.errors import ModelError
from sofie_rdf.ir import contents
from sofie_rdf.ir.graph import Graph
from sofie_rdf.runtime.compile import records
from sofie_rdf.runtime.compile.program import face_of

if TYPE_CHECKING:
    from sofie_rdf.frontends.common.shapes import Shapes
    from sofie_rdf.frontends.torch.inputs import Dynamic
    from sofie_rdf.limits import Budget, Limits
    from sofie_rdf.runtime.compile.records import Record
    from sofie_rdf.runtime.compile.trial import Trial

__all__ = [
    "NOT_SAID",
    "Allowed",
    "Content",
    "File",
    "FileOptions",
    "layered",
    "optimized",
    "path_or_object",
]

# A graph, and what else a .root file says about it.
Content = tuple[Graph, Mapping[str, str]]


class FileOptions(TypedDict, total=False):
    """What `sofie_rdf.load` and `sofie_rdf.check` can be told about files of some kinds."""

    shapes: Shapes | None
    custom_objects: Mapping[str, Any] | None
    example_inputs: Sequence[Any] | None
    input_shapes: Sequence[Any] | None
    weights_only: bool | None
    dynamic: Dynamic | None
    isolated: bool | None


# What they are by default.
NOT_SAID: Final[Mapping[str, None]] = dict.fromkeys(FileOptions.__annotations__)


class Allowed:
    """What whatever is done with a file may cost: one budget for each step of it."""

    def __init__(self, given: Limits | str | None = None, source: Any = None) -> None:
        self.given = given
        self.size = _size(source)
        self.place = source.name if isinstance(source, Path) else ""

    def budget(self) -> AbstractContextManager[Budget]:
        """A new budget for the next step."""
        return limits.budget(self.given, size=self.size, place=self.place)

    def spent_by(self, read: Callable[[], Content]) -> Content:
        """What is read; the budgets of later steps know how large the file has turned out to be."""
        with self.budget() as budget:
            found = read()
        self.size = max(self.size, budget.size)
        return found


def _size(source: Any) -> float:
    """How many bytes a source has; infinitely many where it is an object of the user's own."""
    if isinstance(source, Path):
        try:
            return source.stat().st_size
        except (OSError, ValueError):
            return 0  # Whoever reads it says what is wrong.
    if isinstance(source, (bytes, bytearray)):
        return len(source)
    return float(source.ByteSize()) if hasattr(source, "ByteSize") else math.inf


class File:
    """What a model is read from, the record of it in the cache, and what it may cost.

    ``key`` is that of the record of what is in the file ``source``.
    """

    def __init__(
        self, read: Callable[[], Content], allowed: Allowed, key: str = "", source: Any = None
    ) -> None:
        self.key, self.allowed, self._read = key, allowed, read
        self._source = source if isinstance(source, Path) and key else None
        self._digest = _checksum(self._source) if self._source else b""
        self.record: Record | None = records.find(key, self._trials)
        if self.record is None:
            _ = self._held

    @cached_property
    def _held(self) -> Content:
        found = self.allowed.spent_by(self._read)
        if self._source and _checksum(self._source) != self._digest:
            # Somebody has written the file since: its key is no longer that of what was read.
            if self.record and not self._is_recorded(found[0]):
                raise ModelError(
                    "is another one than when it was loaded",
                    place=str(self._source),
                    remedy="Load it again",
                )
            self.key = self.key if self.record else ""
        return found

    def _is_recorded(self, graph: Graph) -> bool:
        """Whether the record is of this model: a .root file may have got another one beside it."""
        from sofie_rdf.runtime.compile.prepare import program_of

        assert self.record is not None
        made, kept = program_of(optimized(graph)), self.record.program
        weights = kept.weights()
        if weights is None or made.whole != kept.whole:
            return False
        return bytes(made.weights()) == bytes(weights)

    @property
    def graph(self) -> Graph:
        return self._held[0]

    @property
    def extras(self) -> Mapping[str, str]:
        return self.record.extras if self.record else self._held[1]

    @cached_property
    def face(self) -> Graph:
        """The inputs and outputs alone."""
        return self.record.program.face if self.record else face_of(self.graph)

    def _trials(self) -> Iterator[Trial]:
        from sofie_rdf.runtime.compile.trial import trials

        return trials(optimized(self.graph))


def _checksum(path: Path) -> bytes:
    """That of what is there now; nothing where it cannot be read any more."""
    try:
        return contents.sha256_of(path)
    except (OSError, ValueError):
        return b""


def optimized(graph: Graph) -> Graph:
    """The graph after all passes: what is emitted and run."""
    from sofie_rdf.ops.draws import check_names
    from sofie_rdf.passes.halves import widen_halves
    from sofie_rdf.passes.pipeline import run

    check_names(graph)
    return widen_halves(run(graph))


def layered(graph: Graph) -> Graph:
    """The same function in the form in which it is differentiated."""
    from sofie_rdf.passes.layered import layered as made

    return made(graph)


def path_or_object(source: Any) -> Any:
    """Whatever names a file as a Path; bytes and ModelProtos as they are."""
    return Path(source) if isinstance(source, (str, PathLike)) else source
