"""The process in which mutants are made and tried: ``python -m tests.fuzz_files.child``.

It tries one after the other, as fast as they go, and writes each to a file before. Where the
process ends, or stands still, that file holds the reason; what only raises it writes down itself,
made small, and goes on.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

from sofie_rdf import limits
from sofie_rdf.isolation.fresh import PACKAGE
from tests.fuzz_files import corpus
from tests.fuzz_files.board import MAKING, NOTHING, TRYING, Board
from tests.fuzz_files.damage import damaged

__all__ = ["CONTAINED", "Judge", "main", "prepare", "signature"]

# What an error of ours says that is no fault of the file.
OURS = "please report it"
# More mutants than these are made by a fresh process: what leaks would be taken for a bomb.
MOST = 50_000
_SMALLER = 4.0
_LIMITS = "bytes=256M,nodes=20000,terms=1000"
# What a process apart may take, for a file that ended a copy.
_SECONDS_APART = 1
# A file with a byte for each mutant that ended a copy, and does no harm to a user of `load`.
CONTAINED = "contained"
# Mutants that are mutated further.
_KEPT, _LARGEST = 500, 2**16


def signature(error: BaseException) -> str:
    """What tells one finding from another: the type, and where in our sources it comes from."""
    ours = [
        f"{Path(frame.filename).stem}.{frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve().is_relative_to(PACKAGE)
    ]
    place = " < ".join(reversed(ours[-2:])) if ours else "outside"
    return f"{type(error).__name__} in {place}"


class Judge:
    """Tries bytes, in a folder of its own: what is wrong with what happens, "" if nothing is."""

    def __init__(self, kind: str, folder: Path) -> None:
        from sofie_rdf.errors import SofieError
        from tests.fuzz_files.kinds import KINDS

        self.kind = KINDS[kind]
        self.folder = folder
        self.right: type[Exception] = SofieError
        self.run = self.kind.target()
        self.was_read = False
        self.text = ""
        # Whether the last one came by places that no other had come by.
        self.is_new = False
        self._places: set[tuple[int, ...]] = set()

    def __call__(self, data: bytes, number: int) -> str:
        self.was_read = False
        # Of its own time: how busy the machine is does not matter. Whoever needs more is killed.
        signal.setitimer(signal.ITIMER_PROF, self.kind.seconds)
        try:
            with limits.budget(size=len(data), place="mutant"):
                self.is_new = bool(self.run(self.folder, data, number))
            self.was_read = True
            return ""
        except self.right as error:
            self.is_new = getattr(error, "is_new", None) or self._is_new(error)
            if OURS not in str(error):
                return ""
            self.text = "".join(traceback.format_exception(error))[-3000:]
            return f"says that it is our bug: {signature(error.__cause__ or error)}"
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.text = "".join(traceback.format_exception(error))[-3000:]
            message = str(error)[:160] if type(error).__name__ in ("Lie", "Crash") else ""
            return message or signature(error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _is_new(self, error: Exception) -> bool:
        """Whether this is refused in a place, or on a way to it, that is new."""
        where, trace = [], error.__traceback__
        while trace is not None:
            where.append(trace.tb_lineno)
            trace = trace.tb_next
        place = tuple(where)
        is_new = place not in self._places
        self._places.add(place)
        return is_new


def smaller(data: bytes, is_same: Callable[[bytes], bool], seconds: float = _SMALLER) -> bytes:
    """The bytes with pieces left out, and others replaced by zeros, as far as the time goes."""
    end = time.monotonic() + seconds
    size = max(1, len(data) // 2)
    while size and time.monotonic() < end:
        at = 0
        while at < len(data) and time.monotonic() < end:
            tried = data[:at] + data[at + size :]
            if is_same(tried):
                data = tried
            else:
                at += size
        size //= 2
    return data


def _limit(gigabytes: float) -> None:
    most = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A file that names itself, or a device, must not fill the disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**28, 2**28))


class _Loop:
    """Mutant after mutant, until the time is over."""

    def __init__(self, name: str, folder: Path, seed: int) -> None:
        self.name, self.folder, self.seed = name, folder, seed
        self.judge = Judge(name, folder)
        self.samples = self.judge.kind.samples()
        self.known: set[str] = set()
        self.kept: list[bytes] = []
        self.report = folder / "report"
        self.board = Board(folder)

    def mutant(self, number: int) -> bytes:
        """Of a sample, or of a mutant that came by new places; by the seed and the number."""
        rng = Random(f"{self.name} {self.seed} {number}")
        mutate = self.judge.kind.mutate
        if not self.kept or rng.randrange(4):
            return mutate(rng.choice(self.samples), rng, self.samples)
        further = rng.choice(self.kept)
        try:
            return mutate(further, rng, self.samples)
        except Exception:  # It is no longer what is expected of a file of that kind.
            return damaged(further, rng, self.samples)

    def __call__(self, end: float, last: int, number: int, loaded: int = 0) -> None:
        """From a number on, of which so many that were tried before were read."""
        while number < last and time.monotonic() < end:
            self.board.write(MAKING, number, loaded)
            # A library that damages a damaged file may loop, too.
            signal.setitimer(signal.ITIMER_PROF, self.judge.kind.seconds)
            data = self.mutant(number)
            self.board.write(TRYING, number, loaded, data)
            found = self.judge(data, number)
            loaded += self.judge.was_read
            if found and found not in self.known:
                self.known.add(found)
                self.write(found, data, number)
            elif not found and self.judge.is_new and len(data) < _LARGEST:
                self.kept.append(data)
                del self.kept[:-_KEPT]
            number += 1
        self.board.write(NOTHING, number, loaded)

    def write(self, found: str, data: bytes, number: int) -> None:
        text = self.judge.text

        def is_same(tried: bytes) -> bool:
            self.board.write(TRYING, number, 0, tried)
            return self.judge(tried, number) == found

        less = smaller(data, is_same)
        line = {"found": found, "number": number, "text": text, "data": less.hex()}
        with self.report.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _in_copies(loop: _Loop, end: float, last: int, number: int) -> int:
    """The loop in copies of this process, a new one where one ends: 0, or how one ended.

    A mutant that ends a copy is tried by `load` as users call it, with a process for the reader.
    It counts as contained where that gives a network or an error of ours. Where this process ends,
    too, `campaign` tries the mutant in a fresh one.
    """
    loop.judge(loop.samples[0], 0)  # Copies have all modules from here.
    os.environ["SOFIE_RDF_LIMITS"] = f"{_LIMITS},seconds={_SECONDS_APART}"
    loaded = 0
    while number < last and time.monotonic() < end:
        loop.board.write(NOTHING, number, loaded)
        copy = os.fork()
        if not copy:
            try:
                loop(end, last, number, loaded)
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
        stage, number, loaded, _ = loop.board.read()
        if code >= 0:
            loop.board.write(NOTHING, number, loaded)
            return code
        if stage == TRYING:
            if loop.judge(loop.board.mutant, 0):
                return code
            with (loop.folder / CONTAINED).open("ab") as file:
                file.write(b".")
        number += 1
    loop.board.write(NOTHING, number, loaded)
    return 0


def prepare(folder: Path) -> None:
    """Nothing of the user's is read or written, and nothing is printed."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    os.environ.update(
        HOME=str(home),
        XDG_CONFIG_HOME=str(home / "config"),
        XDG_CACHE_HOME=str(home / "cache"),
        OMP_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
    )
    os.environ.setdefault("SOFIE_RDF_CACHE", "off")
    os.environ["SOFIE_RDF_COMPILER"] = "cling"
    # A mutant is small, and what it may cost is found out sooner than by the defaults.
    os.environ["SOFIE_RDF_LIMITS"] = f"{_LIMITS},seconds=5"
    import warnings

    warnings.simplefilter("ignore")


def _replay(judge: Judge, kind: str) -> None:
    """A line for each file of the corpus; the last one says what ended the process."""
    for entry in corpus.entries():
        # The number decides whether a file is only read, or checked and emitted, too.
        for number in (0, 1, 5) if entry.kind == kind else ():
            sys.stdout.write(f"{entry.did}: ")
            sys.stdout.flush()
            sys.stdout.write(f"{judge(entry.data, number) or 'nothing'}\n")


def main(arguments: list[str]) -> int:
    """``fuzz KIND FOLDER SEED FIRST SECONDS COUNT``, ``try KIND FOLDER FILE NUMBER``, or
    ``replay KIND FOLDER``.
    """
    what, name, folder, *rest = arguments
    from tests.fuzz_files.kinds import KINDS

    prepare(Path(folder))
    _limit(KINDS[name].gigabytes)
    if what == "try":
        judge = Judge(name, Path(folder))
        found = judge(Path(rest[0]).read_bytes(), int(rest[1]))
        sys.stdout.write(f"{found}\n{judge.text if found else ''}")
        return 0
    if what == "replay":
        _replay(Judge(name, Path(folder)), name)
        return 0
    seed, first, seconds, count = rest
    end, last = time.monotonic() + float(seconds), int(first) + min(MOST, int(count))
    loop = _Loop(name, Path(folder), int(seed))
    if KINDS[name].is_isolated:
        code = _in_copies(loop, end, last, int(first))
        if code < 0:
            os.kill(os.getpid(), -code)
        return code
    loop(end, last, int(first))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
