"""What `sofie-rdf` can be asked, and the help that teaches it. Imports nothing that is slow."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from sofie_rdf.cli import texts
from sofie_rdf.devices.targets import OFFERED
from sofie_rdf.errors import InputError
from sofie_rdf.ir.types import PRECISIONS
from sofie_rdf.kernels.choice import SETS
from sofie_rdf.limits import Limits

__all__ = ["Shapes", "parser"]

Shapes = dict[str, tuple["int | str | None", ...]]


class _Parser(argparse.ArgumentParser):
    """A parser that may learn its arguments when it is first used."""

    complete: Callable[[argparse.ArgumentParser], None] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.complete:
            complete, self.complete = self.complete, None
            complete(self)
        return super().parse_known_args(args, namespace)


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command; its result has ``run``, a function of the result."""
    whole = _Parser(
        "sofie-rdf",
        description=texts.ABOUT,
        epilog=texts.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action=_Answer, line=_version, help="print the version and end")
    whole.add_argument(
        "--include-dir",
        action=_Answer,
        line=_include_directory,
        help="print the folder of the C++ headers, for -I and ROOT_INCLUDE_PATH, and end",
    )
    whole.add_argument(
        "--cmake-dir",
        action=_Answer,
        line=_cmake_directory,
        help="print the folder for CMake's -Dsofie_rdf_DIR, and end",
    )
    commands = whole.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, parser_class=_Parser
    )
    _inspect(_command(commands, "inspect", "what a model takes, gives and costs", texts.INSPECT))
    _check(_command(commands, "check", "every reason why a model cannot run, at once", texts.CHECK))
    _convert(_command(commands, "convert", "store a model in a .root file", texts.CONVERT))
    _emit(_command(commands, "emit", "write a model as C++: a header and its weights", texts.EMIT))
    _apply(_command(commands, "apply", "the scores of all events, in a file", texts.APPLY))
    _precision(
        _command(
            commands, "precision", "what weights in fewer bits cost on events", texts.PRECISION
        )
    )
    _verify(_command(commands, "verify", "compare with the library it is from", texts.VERIFY))
    _profile(_command(commands, "profile", "the time of each node as it runs", texts.PROFILE))
    _trust(_command(commands, "trust", "let macros run the models of a .root file", texts.TRUST))
    _ops(_command(commands, "ops", "which operators there are, and how exact they are", texts.OPS))
    _cache(_command(commands, "cache", "what is kept of models to save time", texts.CACHE))
    _completion(_command(commands, "completion", "complete words in a shell", texts.COMPLETION))
    bench = _command(commands, "bench", "measure the speed, beside other programs", texts.BENCH)
    bench.complete = _bench
    return whole


def _command(commands: Any, name: str, summary: str, about: str) -> _Parser:
    made = commands.add_parser(
        name,
        help=summary,
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    assert isinstance(made, _Parser)
    return made


# Commands -----------------------------------------------------------------------------------------


def _inspect(command: argparse.ArgumentParser) -> None:
    command.epilog = texts.INSPECT_EXAMPLES
    command.set_defaults(run=_later("inspect"))
    _model(command)
    form = command.add_mutually_exclusive_group()
    form.add_argument("--graph", action="store_true", help="the network as it was read, as text")
    form.add_argument("--ir", action="store_true", help="the network that is compiled, as text")
    form.add_argument("--why", action="store_true", help="what was fused, what was not, and why")
    _json(form)
    form.add_argument(
        "--plot",
        metavar="FILE.svg",
        type=_svg_file,
        help="the graph as read and as run, with types, as a picture",
    )
    form.add_argument(
        "--html", metavar="FILE.html", type=_html_file, help="everything, as one page"
    )
    command.add_argument(
        "--kernels",
        action="store_true",
        help="the kernel of each node that runs, why it was chosen, and its scratch memory",
    )
    command.add_argument(
        "--simd",
        metavar="SET,...",
        type=_instruction_sets,
        default=(),
        help="for --kernels: what runs on these instruction sets, of avx512, avx2 and generic",
    )
    _target(command)
    command.add_argument(
        "--batch",
        metavar="N",
        type=_count,
        default=1,
        help="events, for a device and for --kernels (default: 1)",
    )
    _free_sizes(command)
    command.add_argument(
        "--registers",
        metavar="SM",
        nargs="?",
        const="sm_80",
        default="",
        help="for --target alpaka: what nvcc says of each kernel, for this GPU (default: sm_80)",
    )


def _check(command: argparse.ArgumentParser) -> None:
    command.epilog = texts.CHECK_EXAMPLES
    command.set_defaults(run=_later("check"))
    command.add_argument(
        "files", metavar="FILE", nargs="+", help="files of ONNX or Keras, or .root files"
    )
    _target(command)
    _reading_options(command)
    _json(command, "files, and problems by kind, thing, place and remedy, for programs")


def _convert(command: argparse.ArgumentParser) -> None:
    command.epilog = texts.CONVERT_EXAMPLES
    command.set_defaults(run=_later("convert"))
    _model(command)
    command.add_argument("output", metavar="OUT.root", type=_root_file, help="a new or old file")
    command.add_argument(
        "--via",
        choices=("uproot", "ROOT"),
        default="uproot",
        help="who writes the file; uproot needs no ROOT (default: %(default)s)",
    )
    command.add_argument(
        "--ntuple",
        action="store_true",
        help="the weights as an RNTuple, for ROOT 6.36 and newer; by default they are a TObjString",
    )
    command.add_argument(
        "--no-overwrite",
        action="store_true",
        help="refuse if a model of that name is in the file already",
    )


def _target(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--target",
        choices=OFFERED,
        default="cpu",
        help="what it computes on: a CPU, or a device through alpaka or SYCL, which was never run "
        "on a GPU (default: %(default)s)",
    )


def _emit(command: argparse.ArgumentParser) -> None:
    command.epilog = texts.EMIT_EXAMPLES
    command.set_defaults(run=_later("emit"))
    _model(command)
    command.add_argument(
        "-o", "--output", metavar="DIR", required=True, help="where to write; made if it is absent"
    )
    command.add_argument(
        "--standalone",
        action="store_true",
        help="put all of sofie's kernels into the header, which then includes nothing of ours",
    )
    command.add_argument(
        "--weights",
        choices=("file", "root", "header"),
        default="file",
        help="where the weights go: NAME.dat, NAME.root, or the header (default: %(default)s)",
    )
    command.add_argument(
        "--depfile",
        metavar="FILE",
        help="write there, for Make and Ninja, which files the header depends on",
    )
    _target(command)


def _apply(command: argparse.ArgumentParser) -> None:
    command.epilog = texts.APPLY_EXAMPLES
    command.set_defaults(run=_later("apply"))
    _model(command)
    command.add_argument(
        "events",
        metavar="EVENTS.root:TREE",
        nargs="+",
        help="the events: a TTree or an RNTuple, of files that may be patterns (*, ?); without "
        ":TREE the only one of the file",
    )
    command.add_argument(
        "-o", "--output", metavar="OUT.root", type=_root_file, required=True, help="a new file"
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace OUT.root if it is there, in the end"
    )
    command.add_argument(
        "--columns",
        metavar="NAME",
        nargs="+",
        action="extend",
        type=_columns,
        help="the features, in the model's order: columns or expressions of them, as words or "
        "with commas; INPUT=NAME begins those of an input (default: the names it knows itself)",
    )
    _what_columns_are(command)
    command.add_argument(
        "--out-names",
        metavar="NAME[=OUTPUT]",
        nargs="+",
        help="the new columns, one for each output or, as in best=argmax(score), one for what is "
        "said of it (default: the names of the outputs)",
    )
    what = command.add_argument_group("what is written")
    what.add_argument(
        "--keep",
        metavar="COLUMN",
        nargs="*",
        help="the columns that are written beside the scores, with patterns as Jet_* (default: "
        "all; without a word behind it: none)",
    )
    what.add_argument(
        "--friend",
        action="store_true",
        help="the scores alone, entry by entry as in the events, for AddFriend; one thread",
    )
    what.add_argument("--tree", metavar="NAME", default="", help="its name (default: that of TREE)")
    what.add_argument(
        "--format",
        choices=("same", "ttree", "rntuple"),
        default="same",
        help="what is written (default: what is read)",
    )
    what.add_argument(
        "--filter", metavar="EXPR", default="", help="only entries for which this is true"
    )
    command.add_argument(
        "--threads", metavar="N", type=_count, help="how many threads (default: all cores)"
    )


def _what_columns_are(command: argparse.ArgumentParser) -> None:
    """Options of `define` about the columns and the events."""
    how = command.add_argument_group("what columns are, as for sofie_rdf.define")
    _sets(how, "EXPR")
    how.add_argument(
        "--where", metavar="EXPR", default="", help="where it is false the score is --default"
    )
    how.add_argument(
        "--default", metavar="X", type=float, default=float("nan"), help="by default NaN"
    )
    how.add_argument(
        "--nan",
        metavar="WHAT",
        type=_nan,
        default="propagate",
        help="what becomes of NaN in a column: propagate, error, or a number",
    )
    how.add_argument(
        "--batch", metavar="N", type=_count, default=0, help="rows of one call; reads events twice"
    )
    how.add_argument(
        "--entry",
        metavar="EXPR",
        default="",
        help="for random numbers: a whole number that tells events apart",
    )


def _sets(how: Any, order: str) -> None:
    """Options of `define` and `score` about the objects of an input; ``order`` is what sorts."""
    how.add_argument("--per", default="", choices=("event", "object", "set"), help="what a row is")
    how.add_argument("--pad", metavar="X", type=float, help="stands for objects that are absent")
    how.add_argument("--truncate", action="store_true", help="leave out objects beyond the input")
    how.add_argument(
        "--mask", metavar="INPUT", action="append", default=[], help="an input that is 1 for each "
        "object and 0 for padding"
    )  # fmt: skip
    how.add_argument("--order-by", metavar=order, default="", help="sorts objects, largest first")
    how.add_argument(
        "--lengths",
        metavar="AXIS=LEAST:MOST",
        type=_length_of,
        action=_Collect,
        default={},
        help="how many objects an open axis has: fewer are padded, more are left out or an error; "
        "a number alone is both",
    )


def _precision(command: argparse.ArgumentParser) -> None:
    command.epilog = texts.PRECISION_EXAMPLES
    command.set_defaults(run=_later("precision"))
    _model(command)
    command.add_argument(
        "--data",
        metavar="FILE",
        required=True,
        help="the events: events.root:TREE, an array in FILE.npy, or inputs by name in FILE.npz",
    )
    command.add_argument(
        "--columns",
        metavar="NAME,...",
        type=_names,
        help="the features in the tree, in the model's order (default: the names it knows itself)",
    )
    command.add_argument(
        "--per",
        default="",
        choices=("event", "object", "set"),
        help="what columns are",
    )
    command.add_argument("--events", metavar="N", type=_count, help="no more than the first N")
    command.add_argument(
        "--labels", metavar="NAME", default="", help="the column or array with what is true"
    )
    command.add_argument(
        "--cut",
        metavar="X",
        type=float,
        action="append",
        default=[],
        help="a cut on scores; may be repeated (default: what half, a tenth, 1 of 100 events pass)",
    )
    command.add_argument(
        "--precisions",
        metavar="TYPE,...",
        type=_precisions,
        default=PRECISIONS[1:],
        help="which are compared with the weights as they are (default: bfloat16,float16,int8)",
    )
    _json(command)


def _verify(command: argparse.ArgumentParser) -> None:
    command.epilog = texts.VERIFY_EXAMPLES
    command.set_defaults(run=_later("verify"), labels="")
    _model(command)
    command.add_argument(
        "data",
        metavar="EVENTS",
        nargs="?",
        default="",
        help="the events: events.root:TREE, an array in FILE.npy, or inputs by name in FILE.npz "
        "(default: random inputs)",
    )
    command.add_argument(
        "--random", metavar="N", type=_count, help="N random rows (default: 1000 without EVENTS)"
    )
    _free_sizes(command)
    command.add_argument(
        "--against",
        choices=("onnxruntime", "torch", "keras", "xgboost", "lightgbm", "reference"),
        default="",
        help="reference is NumPy, node by node, on the network as it was read (default: the "
        "library of the file's kind; of a .root file, reference)",
    )
    command.add_argument(
        "--original",
        metavar="FILE",
        default="",
        help="the file that the library reads (default: FILE)",
    )
    command.add_argument(
        "--columns",
        metavar="NAME,...",
        type=_names,
        help="the features in the tree, in the model's order; INPUT=NAME begins those of an input "
        "(default: the names it knows itself)",
    )
    how = command.add_argument_group("what columns are, as for Model.score")
    _sets(how, "COLUMN")
    command.add_argument("--events", metavar="N", type=_count, help="no more than the first N")
    command.add_argument(
        "--rtol", metavar="X", type=_tolerance, default=1e-4, help="relative (default: %(default)s)"
    )
    command.add_argument(
        "--atol", metavar="X", type=_tolerance, default=1e-5, help="absolute (default: %(default)s)"
    )
    command.add_argument(
        "--show", metavar="N", type=_count, default=10, help="so many differences (default: 10)"
    )
    _json(command)


def _free_sizes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--size",
        dest="sizes",
        metavar="NAME=N",
        type=_size_by_name,
        action=_Collect,
        default={},
        help="how large random inputs are along an open axis that is no batch (default: 32)",
    )


def _profile(command: argparse.ArgumentParser) -> None:
    command.epilog = texts.PROFILE_EXAMPLES
    command.set_defaults(run=_later("profile"))
    _model(command)
    command.add_argument(
        "--batch", metavar="N", type=_count, default=1, help="rows of a call (default: 1)"
    )
    _free_sizes(command)
    command.add_argument(
        "--shapes", dest="types", action="store_true", help="the type of each result, too"
    )
    command.add_argument(
        "--by",
        choices=("order", "time"),
        default="order",
        help="which node is listed first: the first one or the slowest (default: %(default)s)",
    )
    command.add_argument(
        "--plot", metavar="FILE", default="", help="a picture: .png, .svg or .pdf, by matplotlib"
    )
    command.add_argument(
        "--html",
        metavar="FILE.html",
        type=_html_file,
        help="the graphs and the times as one page, which needs no network",
    )
    _json(command)


def _trust(command: argparse.ArgumentParser) -> None:
    command.epilog = texts.TRUST_EXAMPLES
    command.set_defaults(run=_later("trust"))
    command.add_argument("file", metavar="FILE", help="a .root file with models")
    command.add_argument("--name", default="", help="which of them (default: all)")


def _ops(command: argparse.ArgumentParser) -> None:
    command.epilog = texts.OPS_EXAMPLES
    command.set_defaults(run=_later("ops"))
    command.add_argument(
        "pattern",
        metavar="REGEX",
        nargs="?",
        default="",
        type=_regular_expression,
        help="only operators in whose name this is found; upper and lower case are the same",
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="a table in Markdown")
    _json(form)
    command.add_argument(
        "--all",
        action="store_true",
        help="also the operators of the domain sofie, which stand in no ONNX file: what rules and "
        "passes make of others, as `inspect` shows it",
    )


def _cache(command: argparse.ArgumentParser) -> None:
    command.epilog = texts.CACHE_EXAMPLES
    command.set_defaults(run=_later("cache"))
    command.add_argument("--clear", action="store_true", help="remove all that is kept")


def _completion(command: argparse.ArgumentParser) -> None:
    command.epilog = texts.COMPLETION_EXAMPLES
    command.set_defaults(run=_completed)
    command.add_argument("shell", choices=("bash", "zsh", "fish"), help="which shell is to read it")


def _completed(arguments: argparse.Namespace) -> int:
    from sofie_rdf.cli.completion import script

    sys.stdout.write(script(arguments.shell, parser()))
    return 0


def _bench(command: argparse.ArgumentParser) -> None:
    from sofie_rdf import bench

    command.set_defaults(run=bench.main)
    bench.add_arguments(command)


def _model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file", metavar="FILE", help="a file of ONNX or Keras, or a .root file with models"
    )
    command.add_argument(
        "--name", default="", help="which model of a .root file; of another file, its new name"
    )
    _reading_options(command)
    command.add_argument(
        "--normalization",
        metavar="JSON",
        help="weaver's preprocess.json or lwtnn's variables, which become part of the model",
    )
    command.add_argument(
        "--gradient",
        action="store_true",
        help="the outputs and their derivatives by the inputs: model.gradient()",
    )
    command.add_argument(
        "--of",
        metavar="OUTPUT",
        action="append",
        help="with --gradient: what is differentiated (default: every floating-point output)",
    )
    command.add_argument(
        "--wrt",
        metavar="INPUT",
        action="append",
        help="with --gradient: by which input (default: every floating-point input)",
    )
    command.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="",
        help="the weights of layers in fewer bits; `sofie-rdf precision` measures what that costs",
    )
    command.add_argument(
        "--seed",
        metavar="N",
        type=int,
        help="the seed of the model's random numbers (default: what the file says, else 0)",
    )


def _json(command: Any, about: str = "everything, for programs") -> None:
    command.add_argument("--json", action="store_true", help=about)


def _reading_options(command: argparse.ArgumentParser) -> None:
    """What every command says to `load` about a file."""
    _shape(command)
    _input_shape(command)
    _limits_option(command)
    command.add_argument(
        "--no-isolated",
        dest="isolated",
        action="store_const",
        const=False,
        help="read a file of PyTorch or Keras in this process, which is faster; only for files "
        "that you trust, as a damaged one may crash torch or HDF5",
    )


def _limits_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--limits",
        metavar="NAME=VALUE,...",
        type=_limits,
        help="what the file may cost, e.g. bytes=8G,nodes=1e6,terms=10000,seconds=600 (default: "
        "much more than what a file of its size needs, or what SOFIE_RDF_LIMITS says)",
    )


def _shape(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--shape",
        dest="shapes",
        metavar="INPUT=SIZES",
        type=_shape_of,
        action=_Collect,
        default={},
        help="another shape for an input of the model, e.g. features=N,7: a number fixes an "
        "axis, a name leaves it open, ? keeps what the file says; may be repeated",
    )


def _input_shape(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--input-shape",
        dest="input_shapes",
        metavar="SIZES",
        action="append",
        type=_input_shape_of,
        help="the shape of an input of a TorchScript file, which does not say it, e.g. N,7 or "
        "N,20:int64; once for each input, in their order; a name leaves an axis open",
    )


def _later(command: str) -> Callable[[argparse.Namespace], int]:
    """The function of that name in `sofie_rdf.cli.commands`, imported when it is called."""

    def run(arguments: argparse.Namespace) -> int:
        from sofie_rdf.cli import commands

        return int(getattr(commands, command)(arguments))

    return run


# Arguments ----------------------------------------------------------------------------------------


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None
    return text


def _limits(text: str) -> Limits:
    try:
        return Limits.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _names(text: str) -> tuple[str, ...]:
    """``a,b`` as ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _tolerance(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return found


def _size_by_name(text: str) -> tuple[str, int]:
    name, equals, size = text.rpartition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=N")
    return name, _count(size)


def _length_of(text: str) -> tuple[str, tuple[int | None, int | None]]:
    """AXIS=N, or AXIS=LEAST:MOST, of which one may be absent."""
    name, equals, range_ = text.rpartition("=")
    least, colon, most = range_.partition(":")
    if not (name and equals and (least or most)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form AXIS=LEAST:MOST")
    ends = [None if end == "" else 0 if end == "0" else _count(end) for end in (least, most)]
    return name, (ends[0], ends[1] if colon else ends[0])


def _columns(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("a column has a name")
    return text


def _nan(text: str) -> str | float:
    if text in ("propagate", "error"):
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, propagate or error") from None


def _precisions(text: str) -> tuple[str, ...]:
    for name in _names(text):
        if name not in PRECISIONS:
            listed = ", ".join(PRECISIONS)
            raise argparse.ArgumentTypeError(f"{name!r} is none of {listed}")
    return _names(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _instruction_sets(text: str) -> tuple[str, ...]:
    """Names of instruction sets."""
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in SETS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(SETS)}")
    return names


def _root_file(text: str) -> str:
    return _ending(text, ".root")


def _svg_file(text: str) -> str:
    return _ending(text, ".svg")


def _html_file(text: str) -> str:
    return _ending(text, ".html")


def _ending(text: str, ending: str) -> str:
    if not text.endswith(ending):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {ending}")
    return text


def _shape_of(text: str) -> tuple[str, tuple[int | str | None, ...]]:
    """``features=N,7`` as ``("features", ("N", 7))``."""
    name, equals, sizes = text.rpartition("=")
    if not (equals and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form INPUT=SIZE,SIZE,...")
    return name, tuple(_size_of(s.strip()) for s in sizes.split(",")) if sizes else ()


def _input_shape_of(text: str) -> str:
    sizes, _, dtype = text.partition(":")
    for size in sizes.split(",") if sizes else ():
        _size_of(size.strip())
    if ":" in text and not dtype.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form SIZE,SIZE,...:TYPE")
    return text


def _size_of(text: str) -> int | str | None:
    if text == "?":
        return None
    if text.isascii() and text.isdecimal():
        return int(text)
    if text.isidentifier():
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is no size: use a number, a name, or ?")


class _Collect(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        name, sizes = values
        given = getattr(namespace, self.dest)
        if name in given:
            parser.error(f"argument {option}: {name!r} is given twice")
        setattr(namespace, self.dest, {**given, name: sizes})


class _Answer(argparse.Action):
    """An option that prints one line and ends the program."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, *, line: Callable[[], str], help: str
    ) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)
        self.line = line

    def __call__(self, parser: Any, *_: Any) -> None:
        sys.stdout.write(f"{self.line()}\n")
        parser.exit()


def _version() -> str:
    from sofie_rdf import __version__

    return f"sofie-rdf {__version__}"


def _cmake_directory() -> str:
    from sofie_rdf.emit.code import include_directory

    return str(include_directory() / "cmake")


def _include_directory() -> str:
    from sofie_rdf.emit.code import include_directory

    return str(include_directory())
