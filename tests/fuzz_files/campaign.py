"""Children that try mutants of one kind, and what becomes of those that end, or stand still."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz_files.board import NOTHING, TRYING, Board
from tests.fuzz_files.child import CONTAINED, smaller
from tests.fuzz_files.kinds import KINDS
from tests.fuzz_files.native import program

__all__ = ["OUT", "Finding", "Summary", "campaign", "replayed", "tried"]

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "out" / "fuzz-files"
# Who makes no progress for so long waits for something, and uses no time of its own.
_PATIENCE = 90.0
# How long files that end a process are made smaller, each trial in a process of its own.
_SMALLER = 60.0


@dataclass(frozen=True)
class Finding:
    """What happened, the mutant that did it, and its number."""

    found: str
    data: bytes
    number: int
    text: str = ""


@dataclass
class Summary:
    """What came of the mutants of one kind; ``contained`` are those that ended a process which
    a user has apart from his own, too.
    """

    kind: str
    mutants: int = 0
    loaded: int = 0
    contained: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def line(self) -> str:
        rate = self.mutants / max(self.seconds, 1e-9)
        ended = f"{self.contained} ended a process of their own, " if self.contained else ""
        return (
            f"{self.kind}: {self.mutants} mutants in {self.seconds:.0f} s ({rate:.0f}/s), "
            f"{self.loaded} were read, {ended}{len(self.findings)} findings"
        )


def _folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for files that live for a millisecond: in memory, where that can be."""
    memory = Path("/dev/shm")
    fits = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30
    return tempfile.TemporaryDirectory(prefix="fuzz-files-", dir=memory if fits else None)


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "tests.fuzz_files.child", *map(str, arguments)]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def _ended(code: int) -> str:
    """What the end of a process says."""
    if code in (-signal.SIGPROF, -signal.SIGALRM):
        return "hangs: it was still computing after its time"
    if code < 0:
        return f"crashes: {signal.Signals(-code).name}"
    return f"ends the process with {code}"


def tried(kind: str, data: bytes, number: int = 0) -> tuple[str, str]:
    """What a fresh process says of a file: "" and more text where it is read, or refused."""
    with _folder() as folder:
        file = Path(folder, "given")
        file.write_bytes(data)
        process = subprocess.Popen(
            _command("try", kind, folder, file, number),
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            out, _ = process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return "hangs: it waits", ""
    if process.returncode:
        return _ended(process.returncode), ""
    found, _, text = out.partition("\n")
    return found, text


def replayed(kind: str) -> str:
    """What is wrong with the corpus of a kind today, tried in one process; "" for nothing."""
    with _folder() as folder:
        done = subprocess.run(
            _command("replay", kind, folder),
            cwd=ROOT,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    if done.returncode:
        return f"{done.stdout}{_ended(done.returncode)}\n{done.stderr[-3000:]}"
    return "".join(f"{x}\n" for x in done.stdout.splitlines() if not x.endswith(": nothing"))


def campaign(kind: str, seed: int, seconds: float, most: int = 10**9) -> Summary:
    """Mutants of a kind for so long, or so many, in one child after the other."""
    summary = Summary(kind)
    if KINDS[kind].is_native:
        program()
    begin = time.monotonic()
    known: set[str] = set()
    while (left := seconds - (time.monotonic() - begin)) > 0 and summary.mutants < most:
        with _folder() as name:
            folder = Path(name)
            count = most - summary.mutants
            board = Board(folder)
            board.write(NOTHING, summary.mutants, 0)
            code = _run(kind, folder, board, (seed, summary.mutants, left, count))
            stage, number, loaded, _ = board.read()
            findings = _reported(folder)
            contained = folder / CONTAINED
            summary.contained += contained.stat().st_size if contained.exists() else 0
            if code and stage != TRYING:
                raise RuntimeError(_errors(folder))
            if code and KINDS[kind].is_isolated and not tried(kind, board.mutant)[0]:
                summary.contained += 1
            elif code:
                findings.append(_fatal(kind, code, number, board.mutant, _errors(folder)))
            number += bool(code)
            summary.mutants = number
            summary.loaded += loaded
            new = [f for f in findings if f.found not in known]
            known |= {f.found for f in new}
            summary.findings += new
            for finding in new:
                _keep(kind, finding)
    summary.seconds = time.monotonic() - begin
    return summary


def _run(kind: str, folder: Path, board: Board, what: tuple[float, ...]) -> int:
    """How one child ended, after so long or earlier; a negative number is a signal."""
    with (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            _command("fuzz", kind, folder, *what),
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
        )
        seen, since = board.read(), time.monotonic()
        try:
            while process.poll() is None and time.monotonic() - since < _PATIENCE:
                time.sleep(0.2)
                if board.read() != seen:
                    seen, since = board.read(), time.monotonic()
        finally:
            stands_still = process.poll() is None
            process.kill()
            process.wait()
    return -signal.SIGALRM if stands_still else process.returncode


def _errors(folder: Path) -> str:
    return (folder / "errors").read_text(errors="replace")[-3000:]


def _reported(folder: Path) -> list[Finding]:
    try:
        lines = (folder / "report").read_text().splitlines()
    except OSError:
        return []
    held = [json.loads(line) for line in lines]
    return [Finding(h["found"], bytes.fromhex(h["data"]), h["number"], h["text"]) for h in held]


def _fatal(kind: str, code: int, number: int, data: bytes, errors: str) -> Finding:
    """The mutant that ended the process, made smaller where a fresh one does the same with it."""
    found = _ended(code)
    again, _ = tried(kind, data, number)
    if again == found and "hangs" not in found:
        data = smaller(data, lambda less: tried(kind, less, number)[0] == found, _SMALLER)
    elif again != found:
        found += f" (mutant {number}; alone: {again or 'nothing'})"
    return Finding(found, data, number, errors)


def _keep(kind: str, finding: Finding) -> None:
    """In out/fuzz-files/, and on the screen with what shows it again."""
    OUT.mkdir(parents=True, exist_ok=True)
    stem = OUT / f"{kind}-{hashlib.sha256(finding.data + finding.found.encode()).hexdigest()[:10]}"
    file = stem.with_suffix(".bin")
    file.write_bytes(finding.data)
    again = f"python -m tests.fuzz_files --kind {kind} --file {file.relative_to(ROOT)}"
    if finding.number % 16:
        again += f" --number {finding.number}"
    text = f"{kind}: {finding.found} ({len(finding.data)} bytes)\n   again: {again}\n"
    stem.with_suffix(".txt").write_text(f"{text}{finding.text}")
    sys.stdout.write(text)
    sys.stdout.flush()
