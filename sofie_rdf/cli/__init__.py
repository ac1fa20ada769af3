"""The shell command `sofie-rdf`; `arguments` has its commands, and `texts` their help."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

from sofie_rdf.cli.arguments import parser
from sofie_rdf.errors import SofieError

__all__ = ["main"]

PROBLEM, INTERRUPTED, BROKEN_PIPE = 1, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; wrong usage and ``--help`` raise SystemExit.

    0: done. 1: the model has problems, or it cannot be done; the reason is on the error stream.
    """
    try:
        with warnings.catch_warnings():
            # ROOT's wheel says on every import that it is an alpha release.
            warnings.filterwarnings("ignore", r"\s*This distribution of ROOT is in alpha")
            return _run(argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget(sys.stdout)
        return BROKEN_PIPE
    except SofieError as error:
        _complain(str(error))
        return PROBLEM
    except OSError as error:
        _forget(sys.stdout)
        _complain(": ".join(filter(None, (error.filename, error.strerror or str(error)))))
        return PROBLEM


def _run(argv: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            # A name that the terminal cannot show is no reason to fail.
            reconfigure(errors="backslashreplace")
    try:
        arguments = parser().parse_args(argv)
        return int(arguments.run(arguments))
    finally:
        # What cannot be written shows here, and not when Python has ended already.
        sys.stdout.flush()


def _complain(text: str) -> None:
    from sofie_rdf.cli.tables import message

    message(text, kind="error")


def _forget(stream: object) -> None:
    """Send what is still to be written nowhere, where Python would try again at its end."""
    try:
        number = stream.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
