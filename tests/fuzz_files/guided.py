"""Mutants that atheris chooses, by what the code reaches: ``make fuzz-files GUIDED=1``.

atheris is no dependency: ``pip install atheris`` where there is a wheel for this Python. It is
libFuzzer in this process, so that a crash ends it; what it was given is in out/fuzz-files/ then.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

from tests.fuzz_files.campaign import OUT, ROOT

__all__ = ["guided"]


def guided(kinds: list[str], seed: int, seconds: float) -> int:
    """So many seconds of each kind; 0 where nothing was found."""
    OUT.mkdir(parents=True, exist_ok=True)
    failed = 0
    for kind in kinds:
        command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz_files.guided", kind]
        command += [f"-max_total_time={seconds:.0f}", f"-seed={seed}", "-timeout=30"]
        command += ["-rss_limit_mb=3000", f"-artifact_prefix={OUT}/guided-{kind}-"]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
        )
        failed += done.returncode != 0
    sys.stdout.write(f"{len(kinds) - failed} passed, {failed} failed\n")
    return 1 if failed else 0


def _main(kind: str, options: list[str]) -> None:
    """One kind, with our mutators, in this process."""
    import atheris

    from tests.fuzz_files import child

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child.prepare(folder)
        with atheris.instrument_imports(include=["sofie_rdf"]):
            judge = child.Judge(kind, folder)
            samples = judge.kind.samples()
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, sample in enumerate(samples):
            (corpus / str(number)).write_bytes(sample)

        def one(data: bytes) -> None:
            found = judge(data, 5)
            if found:
                sys.stderr.write(f"{kind}: {found}\n{judge.text}")
                raise RuntimeError(found)

        def mutate(data: bytes, largest: int, seed: int) -> bytes:
            rng = Random(seed)
            try:
                return judge.kind.mutate(data, rng, samples)[:largest]
            except Exception:  # It is no longer what is expected of a file of that kind.
                return bytes(atheris.Mutate(data, largest))

        arguments = ["guided", str(corpus), "-max_len=200000", *options]
        atheris.Setup(arguments, one, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
