"""``python -m tests.fuzz_files [--seconds 60] [--kind onnx] [--seed 1]``: damaged files.

What fails is made small, printed with what shows it again, and kept in ``out/fuzz-files/``.
``--file`` tries one file, ``--guided`` lets atheris choose by what the code reaches (pip install
atheris).
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path

from tests.fuzz_files.campaign import Summary, campaign, tried
from tests.fuzz_files.kinds import KINDS


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.fuzz_files", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for each kind")
    parser.add_argument("--kind", default="", help=f"of {', '.join(KINDS)}; several with commas")
    parser.add_argument("--seed", type=int, default=None, help="else one by the clock")
    parser.add_argument("--mutants", type=int, default=10**9, help="at most, of each kind")
    parser.add_argument("--workers", type=int, default=1, help="kinds at a time")
    parser.add_argument("--file", type=Path, help="try this file alone")
    parser.add_argument("--number", type=int, default=0, help="as which mutant")
    parser.add_argument("--guided", action="store_true", help="by atheris, which must be installed")
    given = parser.parse_args(arguments)
    unknown = [k for k in filter(None, given.kind.split(",")) if k not in KINDS]
    if unknown:
        parser.error(f"no kind {unknown[0]!r}: {', '.join(KINDS)}")
    return given


def _all(given: argparse.Namespace, kinds: list[str], seed: int) -> list[Summary]:
    """The campaigns, some of them side by side."""
    left, lock, done = list(kinds), threading.Lock(), dict[str, Summary]()

    def work() -> None:
        while True:
            with lock:
                if not left:
                    return
                kind = left.pop(0)
            found = campaign(kind, seed, given.seconds, given.mutants)
            with lock:
                done[kind] = found
                sys.stdout.write(found.line() + "\n")
                sys.stdout.flush()

    threads = [threading.Thread(target=work) for _ in range(given.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [done[kind] for kind in kinds]


def main(arguments: list[str]) -> int:
    """0 where nothing was found."""
    given = _arguments(arguments)
    kinds = [k for k in given.kind.split(",") if k] or list(KINDS)
    if given.file:
        found, text = tried(kinds[0], given.file.read_bytes(), given.number)
        sys.stdout.write(f"{text}\n{found or 'is read, or refused with an error of ours'}\n")
        return 1 if found else 0
    seed = given.seed if given.seed is not None else int(time.time()) % 10**6
    sys.stdout.write(f"seed {seed}: make fuzz-files SEED={seed}\n")
    if given.guided:
        from tests.fuzz_files.guided import guided

        return guided(kinds, seed, given.seconds)
    summaries = _all(given, kinds, seed)
    failed = [s for s in summaries if s.findings or not s.mutants]
    sys.stdout.write(f"{len(kinds) - len(failed)} passed, {len(failed)} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
