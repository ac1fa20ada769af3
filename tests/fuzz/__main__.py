"""``python -m tests.fuzz --seconds 60 [--seed 1]``: random networks until the time is over.

What fails is made as small as it gets, printed, and written to ``out/fuzz/``.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnx.printer

from tests.fuzz.judge import Verdict
from tests.fuzz.network import Case
from tests.fuzz.reduce import reduced
from tests.fuzz.worker import Worker

OUT = Path(__file__).resolve().parents[2] / "out" / "fuzz"


class Run:
    """What the threads, each with a worker, share."""

    def __init__(self, seeds: Iterator[int], seconds: float, *, cling: bool) -> None:
        self.cling = cling
        self.seeds, self.end = seeds, time.monotonic() + seconds
        self.lock = threading.Lock()
        self.cases = self.numbers = self.settled = 0
        self.failed: list[int] = []
        self.notes: Counter[str] = Counter()
        self.examples: dict[str, int] = {}

    def work(self) -> None:
        """Case after case, until the time is over."""
        worker = Worker(cling=self.cling)
        while time.monotonic() < self.end:
            with self.lock:
                seed = next(self.seeds)
            try:
                case = worker.generate(seed)
            except RuntimeError as error:
                self.say(f"\nthe generator fails: {error}\n")
                self.failed.append(seed)
                continue
            verdict = worker.judge(case)
            if isinstance(verdict, str):
                ended = verdict
                # A process that another evaluator ends says nothing of us.
                theirs = ended.endswith(("onnxruntime", "onnx", "asking others"))
                verdict = Verdict(notes=[ended]) if theirs else Verdict(failures=[ended])
            self.add(seed, verdict)
            if verdict.failures:
                self.report(seed, case, verdict, worker)
        worker.stop()

    def add(self, seed: int, verdict: Verdict) -> None:
        with self.lock:
            self.cases += 1
            self.numbers += verdict.numbers
            self.settled += verdict.settled
            for note in verdict.notes:
                kind = note[:160]
                self.notes[kind] += 1
                self.examples.setdefault(kind, seed)
            if verdict.failures:
                self.failed.append(seed)
            self.say("F" if verdict.failures else ".")

    def report(self, seed: int, case: Case, verdict: Verdict, worker: Worker) -> None:
        small, failures = reduced(case, verdict.failures, worker)
        stem = OUT / f"seed_{seed}"
        text = "\n".join(
            [
                f"seed {seed}: {failures[0]}",
                *(f"  {f}" for f in failures[1:4]),
                onnx.printer.to_text(small.proto),
                *(f"call {i}: {_shapes(feeds)}" for i, feeds in enumerate(small.calls)),
                f"see {stem}.onnx, {stem}.npz; again: make fuzz SECONDS=1 SEED={seed}",
            ]
        )
        with self.lock:
            OUT.mkdir(parents=True, exist_ok=True)
            stem.with_suffix(".txt").write_text(text + "\n")
            stem.with_suffix(".onnx").write_bytes(small.model)
            arrays = {f"{i}:{k}": a for i, c in enumerate(small.calls) for k, a in c.items()}
            np.savez(stem.with_suffix(".npz"), **arrays)
            self.say(f"\n{text}\n")

    @staticmethod
    def say(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def summary(self) -> str:
        share = 100 * self.settled / max(1, self.numbers)
        lines = [f"{self.cases} networks, {len(self.failed)} failed {sorted(self.failed)[:20]}"]
        lines += [
            f"{self.numbers} numbers, {share:.1f} % of which are decided by more than rounding"
        ]
        lines += [f"{n} x (seed {self.examples[k]}) {k}" for k, n in self.notes.most_common(40)]
        return "\n".join(lines)


def _shapes(feeds: dict[str, Any]) -> str:
    return ", ".join(f"{k} {a.dtype}{list(a.shape)}" for k, a in feeds.items())


def main(arguments: list[str]) -> int:
    """0 where nothing failed."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="the first; else one by the clock")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--numpy", action="store_true", help="all but the emitted code")
    given = parser.parse_args(arguments)
    first = given.seed if given.seed is not None else int(time.time()) % 10**6 * 1000
    run = Run(count(first), given.seconds, cling=not given.numpy)
    sys.stdout.write(f"seeds from {first}\n")
    threads = [threading.Thread(target=run.work) for _ in range(given.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"\n{run.summary()}\n")
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
