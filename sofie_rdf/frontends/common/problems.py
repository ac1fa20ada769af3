"""Where errors go when all of them are wanted and not only the first."""

from __future__ import annotations

from sofie_rdf.errors import SofieError

__all__ = ["Problems"]


class Problems(list[SofieError]):
    """Everything that is wrong with a model; empty if there is nothing."""

    def note(self, error: SofieError) -> None:
        """One more, without the frames that it came through: they hold all that was read there."""
        error.__cause__ = error.__context__ = None
        self.append(error.with_traceback(None))
