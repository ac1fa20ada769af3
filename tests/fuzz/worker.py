"""The processes that make and judge cases: what ends one, or spoils Cling, costs one case only.

``python -m tests.fuzz.worker ROLE`` answers pickled requests; `Worker` starts it and asks.
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


class _Process:
    """A process that answers requests of one kind; started when it is first asked."""

    def __init__(self, role: str, **environment: str) -> None:
        self._role, self._environment = role, environment
        self._process: Any = None
        self._stage = ""

    def ask(self, request: Any) -> Any:
        """The answer; a text where there is none."""
        process = self._process or self._start()
        try:
            _write(process.stdin, request)
            while True:
                ready = select.select([process.stdout], [], [], PATIENCE)[0]
                if not ready:
                    return f"no answer after {PATIENCE:.0f} s of {self._stage}"
                kind, value = _read(process.stdout)
                if kind == "answer":
                    return value
                self._stage = value
        except (EOFError, BrokenPipeError):
            return f"the process ended with {process.wait()} while {self._stage}"

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> Any:
        command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.worker", self._role]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **self._environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # So that `select` sees all there is.
        )
        return self._process


class Worker:
    """Makes and judges cases, in processes of its own, of which it starts new ones when it must.

    ``simd`` names the instruction set; by default it is what the environment says.
    """

    def __init__(self, *, cling: bool = True, simd: str = "") -> None:
        self._cling = cling
        self._asked = 0
        chosen = {"SOFIE_RDF_SIMD": simd} if simd else {}
        self._maker, self._judge = _Process("generate"), _Process("judge", **chosen)

    def generate(self, seed: int) -> Case:
        """The case of that seed."""
        answer = self._maker.ask(seed)
        if not isinstance(answer, Case):
            raise RuntimeError(f"seed {seed}: {answer}")
        return answer

    def judge(self, case: Case) -> Any:
        """The `Verdict`; a text where the process ended or did not answer."""
        if self._asked == MOST_CASES:
            self._renew()
        self._asked += self._cling
        verdict = self._judge.ask((case, self._cling))
        # After code that it refused Cling is not to be trusted.
        if isinstance(verdict, str) or any("compiling" in f for f in verdict.failures):
            self._renew()
        return verdict

    def _renew(self) -> None:
        self._judge.stop()
        self._asked = 0

    def stop(self) -> None:
        self._maker.stop()
        self._judge.stop()


def _actions(role: str, answers: IO[bytes]) -> Callable[[Any], Any]:
    """What is done with a request."""
    if role == "generate":
        # Hypothesis takes numbers from the modules that a process has imported: this one imports
        # the generator and nothing of ours, so that a seed remains what it is.
        from tests.fuzz.generate import generate

        return generate

    from sofie_rdf.runtime.compile.interpreter import import_root
    from tests.fuzz.judge import judged

    import_root()
    return lambda asked: judged(
        asked[0], lambda stage: _write(answers, ("stage", stage)), cling=asked[1]
    )


def _serve(role: str, requests: IO[bytes], answers: IO[bytes]) -> None:
    action = _actions(role, answers)
    while True:
        request = _read(requests)
        try:
            answer = action(request)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        _write(answers, ("answer", answer))


if __name__ == "__main__":
    # What else is printed must not be among the answers.
    _answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        _serve(sys.argv[1], sys.stdin.buffer, _answers)
    except (EOFError, KeyboardInterrupt):
        os._exit(0)
