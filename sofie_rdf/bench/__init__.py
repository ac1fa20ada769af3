"""``sofie-rdf bench``: how fast networks run, beside onnxruntime.

    models      what is measured; networks: those that are built in
    measure     rounds, statistics, numbers compared
    ours        our Session as a contestant
    peers       onnxruntime as a contestant; ort_api: by its C API
    cases       one network at one batch size
    dataframe   the loop of an RDataFrame
    machine     where it was measured
    progress, report, command

A new peer is a `measure.Contestant` for each way to call it, listed in `peers`.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace

__all__ = ["add_arguments", "main"]

_EXAMPLES = """\
examples:
  sofie-rdf bench                             three dense networks, and loops of RDataFrame
  sofie-rdf bench mlp200x5 --batch 1,16,64    one of them
  sofie-rdf bench mine.onnx --json mine.json  a file; random inputs, free axes that are no batch: 16
  sofie-rdf bench --list                      what is built in

exit codes: 0 measured   1 wrong numbers, or a model that does not run"""


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``sofie-rdf bench``."""
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="built-in networks or .onnx files (default: linear50x10 mlp200x5 higgs)",
    )
    parser.add_argument(
        "--batch",
        metavar="N,...",
        type=_counts,
        default=(1, 64),
        help="events in one call, where the model leaves that open (default: 1,64)",
    )
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=_count,
        default=60,
        help="how often all take turns; a tenth of it for loops (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=_seconds,
        default=0.005,
        help="how long each is called in a round (default: %(default)s)",
    )
    parser.add_argument(
        "--loop-seconds",
        metavar="S",
        type=_seconds,
        default=1.0,
        help="how long a loop of RDataFrame is on the most threads (default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        metavar="N,...",
        type=_counts,
        default=(1, 2),
        help="threads for the loops of RDataFrame (default: 1,2)",
    )
    parser.add_argument("--no-dataframe", action="store_true", help="no loops of RDataFrame")
    parser.add_argument(
        "--json", metavar="FILE", help="write everything, for programs; - for stdout"
    )
    parser.add_argument("--list", action="store_true", help="say which networks are built in")


def main(arguments: Namespace) -> int:
    """Measure and report; 1 if a number is wrong or a model does not run."""
    from sofie_rdf.bench.command import run

    return run(arguments)


def _count(text: str) -> int:
    if text.isascii() and text.isdecimal() and int(text) > 0:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is no number above 0")


def _counts(text: str) -> tuple[int, ...]:
    """``1,64`` as (1, 64), each once."""
    return tuple(dict.fromkeys(_count(part.strip()) for part in text.split(",")))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if 0 < value < 3600:
        return value
    raise ArgumentTypeError(f"{text!r} is no number of seconds")
