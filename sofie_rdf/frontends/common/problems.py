"""Where errors go when all of them are wanted and not only the first."""

from __future__ import annotations

from collections.abc import Iterable

from sofie_rdf.errors import SofieError

__all__ = ["Problems"]


class Problems(list[SofieError]):
    """Everything that is wrong with a model; empty if there is nothing.

    ``notes`` are what a model that runs cannot be used for.
    """

    def __init__(
        self, problems: Iterable[SofieError] = (), notes: Iterable[SofieError] = ()
    ) -> None:
        super().__init__(problems)
        self.notes = list(notes)

    def __repr__(self) -> str:
        listed = super().__repr__()
        return f"Problems({listed}, notes={self.notes!r})" if self.notes else listed

    def note(self, error: SofieError) -> None:
        """One more, without the frames that it came through: they hold all that was read there."""
        error.__cause__ = error.__context__ = None
        self.append(error.with_traceback(None))
