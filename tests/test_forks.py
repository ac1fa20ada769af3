"""The copies of a process in which tests open files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.forks import Forks


@pytest.fixture(scope="module")
def forks() -> Forks:
    return Forks("import json; kept = []", dict(os.environ))


def test_a_copy_has_what_was_imported_and_nothing_of_another_one(forks: Forks) -> None:
    code = "import sys; print('json' in sys.modules, sys.argv, 'tests.forks' in sys.modules)"
    assert forks.run(code, "a", "b", seconds=60).stdout == "True ['-c', 'a', 'b'] False\n"
    forks.run("sys_is_gone = 1; import os; os.environ['KEPT'] = '1'", seconds=60)
    assert forks.run("import os; print('KEPT' in os.environ)", seconds=60).stdout == "False\n"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import sys; sys.exit(3)", 3),
        ("raise ValueError('what')", 1),
        ("import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV),
    ],
)
def test_the_end_of_a_copy_is_that_of_a_python(forks: Forks, code: str, status: int) -> None:
    here = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    done = forks.run(code, seconds=60)
    assert done.returncode == here.returncode == status
    assert done.stderr.splitlines()[-1:] == here.stderr.splitlines()[-1:]


def test_limits_are_those_of_the_copy(forks: Forks) -> None:
    done = forks.run("bytes(2**30)", seconds=60, memory=2**29)
    assert done.stderr.endswith("MemoryError\n")
    with pytest.raises(subprocess.TimeoutExpired):
        forks.run("while True: pass", seconds=0.5)
    assert forks.run("while True: pass", seconds=60, cpu=1).returncode in (
        -signal.SIGXCPU,
        -signal.SIGKILL,
    )
    assert forks.run("print(1)", seconds=60).stdout == "1\n"


# Tests that are marked as fresh_process: tests/conftest.py ----------------------------------------


@pytest.mark.fresh_process
def test_a_fresh_process_has_nothing_of_other_tests() -> None:
    assert not {"ROOT", "torch", "onnxruntime"} & set(sys.modules)
    assert threading.active_count() == 1


@pytest.mark.fresh_process
@pytest.mark.xfail(raises=pytest.fail.Exception, strict=True)
def test_what_fails_in_a_fresh_process_fails_here() -> None:
    """There this is an AssertionError, which it may not be."""
    assert "SOFIE_RDF_TESTS_FRESH" not in os.environ
