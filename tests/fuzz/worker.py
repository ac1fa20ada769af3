"""The process in which cases are judged: what ends it, or spoils Cling, costs one case only.

``python -m tests.fuzz.worker`` answers pickled requests; `Worker` starts it and asks.
"""

from __future__ import annotations

import os
import pickle
import select
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from tests.fuzz.network import Case

__all__ = ["Worker"]

ROOT = Path(__file__).resolve().parents[2]
# Cling becomes slower with all that it has compiled.
MOST_CASES = 150
PATIENCE = 120.0


def _write(stream: IO[bytes], value: Any) -> None:
    data = pickle.dumps(value)
    stream.write(struct.pack("<Q", len(data)) + data)
    stream.flush()


def _read(stream: IO[bytes]) -> Any:
    """The next value; EOFError where the other side has ended."""
    (size,) = struct.unpack("<Q", _exactly(stream, 8))
    return pickle.loads(_exactly(stream, size))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """So many bytes; a pipe gives them in parts."""
    data = b""
    while len(data) < size:
        part = stream.read(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


class Worker:
    """A process that makes and judges cases; a new one is started when it must be."""

    def __init__(self, *, cling: bool = True) -> None:
        self._cling = cling
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0
        self.stage = ""

    def generate(self, seed: int) -> Case:
        """The case of that seed."""
        answer = self._ask("generate", seed)
        if not isinstance(answer, Case):
            raise RuntimeError(f"seed {seed}: {answer}")
        return answer

    def judge(self, case: Case) -> Any:
        """The `Verdict`; a text where the process ended or did not answer."""
        self._asked += self._cling
        if self._asked > MOST_CASES:
            self.stop()
        verdict = self._ask("judge", (case, self._cling))
        # After code that it refused Cling is not to be trusted.
        if isinstance(verdict, str) or any("compiling" in f for f in verdict.failures):
            self.stop()
        return verdict

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        self._asked = 0

    def _ask(self, *request: Any) -> Any:
        process: Any = self._process or self._start()
        try:
            _write(process.stdin, request)
            while True:
                ready = select.select([process.stdout], [], [], PATIENCE)[0]
                if not ready:
                    return f"no answer after {PATIENCE:.0f} s of {self.stage}"
                kind, value = _read(process.stdout)
                if kind == "answer":
                    return value
                self.stage = value
        except (EOFError, BrokenPipeError):
            code = process.wait()
            return f"the process ended with {code} while {self.stage}"

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.worker"]
        pipe = subprocess.PIPE
        # Unbuffered, so that `select` sees all there is.
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0
        )
        return self._process


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    # All that is ever imported, before the first case: hypothesis reads the modules that are there.
    import onnx.reference  # noqa: F401
    import onnxruntime  # noqa: F401

    from sofie_rdf.runtime.interpreter import import_root
    from tests.fuzz.generate import generate
    from tests.fuzz.judge import judged

    import_root()
    actions: dict[str, Callable[[Any], Any]] = {
        "generate": generate,
        "judge": lambda asked: judged(
            asked[0], lambda s: _write(answers, ("stage", s)), cling=asked[1]
        ),
    }
    while True:
        kind, value = _read(requests)
        try:
            answer = actions[kind](value)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        _write(answers, ("answer", answer))


if __name__ == "__main__":
    # What else is printed must not be among the answers.
    _answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        _serve(sys.stdin.buffer, _answers)
    except (EOFError, KeyboardInterrupt):
        os._exit(0)
