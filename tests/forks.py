"""Processes in which a package is imported already: copies of one that does nothing but wait.

A new Python takes half a second of a core to import what reads a model. What a test wants of a new
process is another address space, limits of its own, and that nothing has run in it: a copy has
these. Tests of what is imported, of environment variables and of ends of processes start a Python.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Forks"]

PROJECT = Path(__file__).resolve().parents[1]


class Forks:
    """Runs code in copies of a process that has run ``imports``; one at a time."""

    def __init__(self, imports: str, environment: Mapping[str, str]) -> None:
        self._imports, self._environment = imports, dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._said = b""

    def run(
        self, code: str, *arguments: str, seconds: float, memory: int = 0, cpu: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """As ``python -c code arguments`` ends; `TimeoutExpired` where it does not."""
        with tempfile.TemporaryDirectory(prefix="sofie_rdf-forks-") as folder:
            files = [str(Path(folder, name)) for name in ("stdout", "stderr")]
            job = {"code": code, "arguments": arguments, "files": files, "folder": str(Path.cwd())}
            self._send(json.dumps({**job, "memory": memory, "cpu": cpu}))
            pid = int(self._answer(seconds) or "")
            answer = self._answer(seconds)
            if answer is None:
                os.kill(pid, signal.SIGKILL)
                self._answer(seconds)
                raise subprocess.TimeoutExpired(code, seconds)
            out, error = (Path(file).read_text(errors="replace") for file in files)
            return subprocess.CompletedProcess([code, *arguments], int(answer), out, error)

    def _send(self, line: str) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__)), self._imports],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
            )
            atexit.register(self._end)
            self._answer(600)
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def _answer(self, seconds: float) -> str | None:
        """A line of the process; None if none comes in this time."""
        assert self._process and self._process.stdout
        while b"\n" not in self._said:
            if not select.select([self._process.stdout], [], [], seconds)[0]:
                return None
            said = os.read(self._process.stdout.fileno(), 4096)
            assert said, "the process that makes copies has ended"
            self._said += said
        line, self._said = self._said.split(b"\n", 1)
        return line.decode()

    def _end(self) -> None:
        assert self._process and self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def _serve(imports: str) -> None:
    answers = os.dup(1)
    os.dup2(2, 1)
    exec(imports, {"__name__": "__main__"})
    gc.collect()
    gc.freeze()
    _say(answers, "ready")
    # Unbuffered: a copy has what its origin has read.
    with open(0, "rb", buffering=0, closefd=False) as jobs:
        while line := jobs.readline():
            pid = os.fork()
            if not pid:
                os.close(answers)
                _run(json.loads(line))
            _say(answers, str(pid))
            _say(answers, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))


def _say(answers: int, text: str) -> None:
    os.write(answers, f"{text}\n".encode())


def _run(job: dict[str, Any]) -> None:
    """The code of the job; this process ends with it."""
    status = 1
    try:
        for number, file in enumerate(("/dev/null", *job["files"])):
            os.dup2(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), number)
        os.chdir(job["folder"])
        for what, most in ((resource.RLIMIT_AS, "memory"), (resource.RLIMIT_CPU, "cpu")):
            if job[most]:
                resource.setrlimit(what, (job[most], job[most]))
        sys.argv = ["-c", *job["arguments"]]
        exec(job["code"], {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else bool(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1])
