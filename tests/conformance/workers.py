"""Processes that run ONNX's tests, many at once: Cling may refuse a test's code, or crash.

A process takes one batch of tests after the other, so that what Cling has compiled for one is there
for the next. Where a batch fails as a whole, its halves are tried in a new process.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from tests.conformance.suite import Case

__all__ = ["outcomes"]

# Tests that are compiled as one graph, and how long they may take, in seconds: so long by
# themselves, and for each. What hangs is found by halves, each of which may take less.
BATCH = 40
LIMIT, LIMIT_OF_ONE = 100.0, 10.0


def outcomes(
    cases: Sequence[Case], jobs: int = 1, progress: Callable[[], None] = lambda: None
) -> dict[str, str]:
    """What is wrong with each of these tests; nothing where all is well."""
    waiting = deque(_batches(cases))
    workers = [_Worker() for _ in range(min(jobs, len(waiting)))]
    found: dict[str, str] = {}
    try:
        while waiting or any(w.batch for w in workers):
            for number, worker in enumerate(workers):
                if waiting and not worker.batch:
                    # From both ends, as tests of one operator share code.
                    worker.start(waiting.pop() if number % 2 else waiting.popleft())
            for worker in _ready(workers):
                batch, (results, failure) = worker.batch, worker.result()
                if failure and len(batch) > 1:
                    waiting.extendleft((batch[len(batch) // 2 :], batch[: len(batch) // 2]))
                    continue
                found |= {c.name: failure for c in batch} if failure else results
                progress()
    finally:
        for worker in workers:
            worker.stop()
    return {case.name: found[case.name] for case in cases}


def _batches(cases: Sequence[Case]) -> list[tuple[Case, ...]]:
    """The tests in groups that are compiled together; large models are by themselves, and first."""
    large = [(c,) for c in cases if c.kind == "light models"]
    others = [c for c in cases if c.kind != "light models"]
    groups = [tuple(others[i : i + BATCH]) for i in range(0, len(others), BATCH)]
    return [*large, *groups]


class _Worker:
    """One process, which is started again when it has ended."""

    def __init__(self) -> None:
        self.batch: tuple[Case, ...] = ()
        self.process: Any = None
        self.connection: Connection
        self.deadline = 0.0

    def start(self, batch: tuple[Case, ...]) -> None:
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.connection, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(theirs,))
            self.process.start()
            theirs.close()
        self.batch = batch
        self.deadline = time.monotonic() + LIMIT + LIMIT_OF_ONE * len(batch)
        self.connection.send(batch)

    def result(self) -> tuple[dict[str, str], str]:
        """What is wrong with each test of the batch, or why there is no answer to that."""
        self.batch = ()
        if not self.connection.poll():
            self.process.kill()
        try:
            answer: tuple[dict[str, str], str] = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            answer = {}, f"the process ended ({self.process.exitcode}) or took too long"
        if answer[1]:
            self.stop()
        return answer

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    """Those that have an answer, or have had time enough for one."""
    busy = [w for w in workers if w.batch]
    left = min(w.deadline for w in busy) - time.monotonic()
    answered = wait([w.connection for w in busy], max(left, 0.0))
    late = time.monotonic()
    return [w for w in busy if w.connection in answered or w.deadline < late]


def _serve(connection: Connection) -> None:
    """The life of a process: it ends with the first batch that fails as a whole."""
    from tests.conformance.nodes import run_together

    warnings.simplefilter("ignore")
    number = 0
    while True:
        cases: tuple[Case, ...] = connection.recv()
        number += 1
        try:
            connection.send((run_together(f"batch_{number}", {c.name: c for c in cases}), ""))
        except Exception:
            connection.send(({}, traceback.format_exc(limit=-3)))
            return
