"""``sofie-rdf bench``: how fast networks run, beside other programs and the machine's limits.

    models      what is measured; networks: those that are built in
    measure     rounds, statistics, numbers compared
    ours        our Session as a contestant; narrow: with weights in fewer bits
    peers       what a peer is, and which there are: ort (ort_api: by its C API), torch_peer, ...
    nodes       a network in another program's operators: torch_peer and jax_peer have these
    cases       one network at one batch size
    dataframe   the loop of an RDataFrame
    first       the time to the first result, and memory, in a new process
    slopes      value and gradient of one network, beside the value alone
    roofline    what the machine can do, what a network needs, the least time that follows
    paper       what a network costs on a GPU by its data sheet; ptxas: its kernels, as nvcc says
    machine     where it was measured
    progress, report, markdown, plot, command

A new peer is a class with the methods of `peers.Peer`, listed in `peers.all_peers`.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace

__all__ = ["add_arguments", "main"]

_EXAMPLES = """\
examples:
  sofie-rdf bench                             three dense networks, and loops of RDataFrame
  sofie-rdf bench mlp200x5 --batch 1,16,64    one of them
  sofie-rdf bench mine.onnx --json mine.json  a file, with random inputs
  sofie-rdf bench models/ --size n_pf=25      all files in a folder; axes named n_pf are 25
  sofie-rdf bench mlp200x5 --precision bfloat16,int8
  sofie-rdf bench --gradient higgs transformer    derivatives, beside torch.autograd and JAX
  sofie-rdf bench all --json all.json --plot all.png
  sofie-rdf bench --from all.json --markdown  what was measured before, as a table for a document
  sofie-rdf bench --list                      what is built in

exit codes: 0 measured   1 wrong numbers, or a model that does not run   2 wrong usage"""


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``sofie-rdf bench``."""
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="built-in networks, .onnx files, folders of them, or `all` that is built in "
        "(default: linear50x10 mlp200x5 higgs)",
    )
    _add_sizes(parser)
    _add_times(parser)
    _add_choices(parser)
    _add_results(parser)


def _add_sizes(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--batch",
        metavar="N,...",
        type=_counts,
        help="events in one call, where the model leaves that open (default: 1,64; only 1 where "
        "64 would take seconds)",
    )
    parser.add_argument(
        "--free",
        metavar="N",
        type=_count,
        default=32,
        help="the size of other axes that the model leaves open (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        metavar="NAME=N",
        type=_size,
        action="append",
        default=[],
        help="the size of the open axes of this name; `inspect` shows the names",
    )


def _add_times(parser: ArgumentParser) -> None:
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
        "--limit",
        metavar="S",
        type=_seconds,
        default=30.0,
        help="no more rounds of a network after this time, but 3 (default: %(default)s)",
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


def _add_choices(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--peers",
        metavar="NAME,...",
        type=_names,
        help="only these of g++, SOFIE, torch, Keras beside onnxruntime, or `none` (default: all "
        "that are installed)",
    )
    parser.add_argument(
        "--precision",
        metavar="TYPE,...",
        type=_precisions,
        default=(),
        help="our networks beside themselves with weights in bfloat16, float16, int8",
    )
    parser.add_argument(
        "--gradient",
        action="store_true",
        help="value and gradient beside the value alone, torch.autograd and JAX, and nothing else",
    )
    parser.add_argument("--no-dataframe", action="store_true", help="no loops of RDataFrame")
    parser.add_argument(
        "--no-first", action="store_true", help="no new processes for the time to the first result"
    )


def _add_results(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--json", metavar="FILE", help="write everything, for programs; - for stdout"
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="draw it: .png, .svg or .pdf (needs matplotlib)"
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables in Markdown")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        help="measure nothing, but show what --json has written",
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


def _size(text: str) -> tuple[str, int]:
    """``n_pf=25`` as ("n_pf", 25)."""
    name, equals, size = text.rpartition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"{text!r} is not NAME=N")
    return name, _count(size)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",")))


def _precisions(text: str) -> tuple[str, ...]:
    from sofie_rdf.ir.types import PRECISIONS

    for name in _names(text):
        if name not in PRECISIONS[1:]:
            raise ArgumentTypeError(f"{name!r} is none of {', '.join(PRECISIONS[1:])}")
    return _names(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if 0 < value < 3600:
        return value
    raise ArgumentTypeError(f"{text!r} is no number of seconds")
