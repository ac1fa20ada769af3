"""``python -m tests.soak [--minutes 60] [--models 500] [--events 1e8] [--threads 8]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.soak.run import Soak

# More memory at the end than when a quarter of the time was over, in MB.
_MORE = 48.0


def main(arguments: list[str]) -> int:
    """0 where the numbers were right and memory was flat."""
    parser = argparse.ArgumentParser("python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--events", type=float, default=1e8)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--frames", type=int, default=64)
    given = parser.parse_args(arguments)

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = Soak(
            Path(folder),
            threads=given.threads,
            models=given.models,
            events=given.events,
            frames=given.frames,
            seconds=60 * given.minutes,
            say=say,
        )()
    early, late = soak.memory[len(soak.memory) // 4], soak.memory[-1]
    say(
        f"{given.threads} threads, {soak.loaded} models, {soak.computed:.3g} events, "
        f"{soak.defined} frames in {time.monotonic() - begin:.0f} s"
    )
    most = max(soak.memory)
    say(f"{early:.0f} MB after a quarter of the time, {late:.0f} at the end, {most:.0f} at most")
    for wrong in soak.wrong[:10]:
        say(wrong)
    done = soak.loaded >= given.models and soak.computed >= given.events
    if not done:
        say("the time was over before")
    return 0 if done and not soak.wrong and late - early < _MORE else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
