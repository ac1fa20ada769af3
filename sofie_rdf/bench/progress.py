"""A progress bar on the error stream, for a person who waits longer than a few seconds."""

from __future__ import annotations

import sys
from time import perf_counter
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Bar"]

_PATIENCE = 2.0


class Bar:
    """``with Bar() as bar: bar.steps = 3; bar.step("first"); bar.tick(0.5) ...``

    Nothing is shown in the first two seconds, and never where the stream is no terminal.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._done, self._part, self._label = -1, 0.0, ""
        self._start = perf_counter()
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._progress:
            self._progress.stop()

    def step(self, label: str) -> None:
        """The next step begins."""
        self._done, self._label = self._done + 1, label
        self.tick(0.0)

    def tick(self, part: float) -> None:
        """So much of the step is done, 1 being all."""
        self._part = part
        if not self._progress and self._is_awaited():
            self._show()
        if self._progress:
            done = self._done + self._part
            self._progress.update(
                self._task, completed=done, description=escape(self._label), refresh=True
            )

    def _is_awaited(self) -> bool:
        return sys.stderr.isatty() and perf_counter() - self._start > _PATIENCE

    def _show(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            # It draws only when it is told: a thread of its own would disturb what is measured.
            auto_refresh=False,
        )
        self._progress.start()
        self._task = self._progress.add_task(self._label, total=self.steps)
