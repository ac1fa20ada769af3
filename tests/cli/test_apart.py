"""Jobs in a copy of the process: results, errors and crashes come back; nothing stays."""

from __future__ import annotations

import os
import pickle
import signal
from typing import NoReturn

import pytest

from sofie_rdf import errors
from sofie_rdf.cli.apart import Ended, apart


def test_a_result() -> None:
    assert apart(lambda: (os.getppid(), "text")) == (os.getpid(), "text")


def test_an_error() -> None:
    def job() -> NoReturn:
        raise errors.ColumnError("thing", place="place", remedy="remedy")

    with pytest.raises(errors.ColumnError, match=r"^place: thing\. remedy$"):
        apart(job)


def test_an_interrupt() -> None:
    def job() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()

    with pytest.raises(KeyboardInterrupt):
        apart(job)


def test_what_is_no_error_of_ours() -> None:
    with pytest.raises(Ended, match="ZeroDivisionError"):
        apart(lambda: 1 // 0)


def test_a_crash() -> None:
    with pytest.raises(Ended, match="by signal 9"):
        apart(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(Ended, match="exit code 133"):
        apart(lambda: os._exit(133))


@pytest.mark.parametrize("name", [n for n in errors.__all__ if n[0].isupper()])
def test_errors_travel_between_processes(name: str) -> None:
    kind = getattr(errors, name)
    sent = pickle.loads(pickle.dumps(kind("thing", place="place", remedy="remedy")))
    assert type(sent) is kind
    assert (sent.thing, sent.place, sent.remedy) == ("thing", "place", "remedy")
    assert str(sent) == "place: thing. remedy"
