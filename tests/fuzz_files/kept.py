"""Records in the cache on disk: a file of one is damaged, or changed with its hash made anew.

The first byte of a mutant says which of both, as in `weightfiles`; the second, which file it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz_files import samples
from tests.fuzz_files.damage import damaged
from tests.fuzz_files.targets import Lie
from tests.fuzz_files.values import mutated_json
from tests.fuzz_files.weightfiles import DAMAGED, SEALED

__all__ = ["kept", "mutated", "target"]

_KEY = "0" * 40
_SUFFIXES = ("json", "npz", "dat")


@cache
def _whole() -> dict[str, bytes]:
    """The files of a record, each with its hash behind it, made in a cache of their own."""
    import os
    import tempfile

    from sofie_rdf.runtime.compile import records
    from sofie_rdf.runtime.compile.prepare import program_of

    program = program_of(samples.small_model().optimized)
    program.trial, program.tried = next(program.trials()), True
    before = os.environ.get("SOFIE_RDF_CACHE", "")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SOFIE_RDF_CACHE"] = folder
        try:
            records.keep(_KEY, program, {"a": "b"})
        finally:
            os.environ["SOFIE_RDF_CACHE"] = before
        return {path.suffix[1:]: path.read_bytes() for path in Path(folder).glob(f"{_KEY}.*")}


def kept() -> list[bytes]:
    """The files, each with both marks in front."""
    return [DAMAGED + bytes([_SUFFIXES.index(suffix)]) + data for suffix, data in _whole().items()]


def mutated(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Damage as it comes, or other contents with the right hash."""
    from sofie_rdf.runtime.cache import disk

    which, held = data[1:2], data[2:]
    if rng.randrange(3) == 0:
        return DAMAGED + which + damaged(held, rng, ())
    content = held[: -disk._TRAILER]
    is_json = _SUFFIXES[which[0] % 3] == "json" and rng.randrange(5) > 0
    made = (mutated_json if is_json else damaged)(content, rng, ())
    return SEALED + which + made + disk._trailer(made)


def target() -> Callable[[Path, bytes, int], object]:
    """What is found is what was kept, or nothing; with a right hash nothing but that it ends."""
    import os

    from sofie_rdf.runtime.compile import records

    def nothing() -> Iterator[Any]:
        return iter(())

    def seen(folder: Path, files: dict[str, bytes]) -> Any:
        place = folder / "cache"
        place.mkdir(mode=0o700, exist_ok=True)
        os.environ["SOFIE_RDF_CACHE"] = str(place)
        for suffix, content in files.items():
            (place / f"{_KEY}.{suffix}").write_bytes(content)
        record = records.find(_KEY, nothing)
        if record is None:
            return None
        program = record.program
        trials = [
            [(n, a.tobytes()) for held in (t.feeds, t.expected, t.exact) for n, a in held.items()]
            for t in program.trials()
        ]
        weights = program.weights() if records.is_whole(_KEY) else None
        face = program.face
        return (
            (face.name, face.inputs, face.outputs, face.types, face.provenance),
            (program.code, program.owned, str(program.scratch), record.extras),
            trials,
            weights and bytes(weights),
        )

    def run(folder: Path, data: bytes, number: int) -> None:
        files = {**_whole(), _SUFFIXES[data[1] % 3 if len(data) > 1 else 0]: data[2:]}
        found = seen(folder, files)
        if data[:1] == DAMAGED and found is not None:
            pairs = zip(found, sound(folder), strict=True)
            # A trial or weights that are gone are made anew.
            if any(a != b and a for a, b in pairs):
                raise Lie("another record than was kept")

    @cache
    def sound(folder: Path) -> Any:
        return seen(folder, _whole())

    return run
