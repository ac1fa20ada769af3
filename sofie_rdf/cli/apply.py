"""`sofie-rdf apply`: the scores of a model for all events of a tree, in a new file."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from sofie_rdf.cli import tables
from sofie_rdf.cli.apart import Ended, apart
from sofie_rdf.cli.events import by_input
from sofie_rdf.emit.names import identifier
from sofie_rdf.errors import InputError, ModelError
from sofie_rdf.ir.locks import swept
from sofie_rdf.model import Model
from sofie_rdf.runtime.files import trees

__all__ = ["score"]


def score(model: Model, arguments: Namespace) -> int:
    """Write the scores beside the columns, or alone; the path is printed."""
    _require_free(arguments.output, arguments)
    start = perf_counter()
    # Threads write entries in the order in which they are done with them.
    count = 1 if arguments.friend else arguments.threads or _cores()
    try:
        entries, scores, said = apart(lambda: _written(model, arguments, count))
    except Ended as end:
        swept(Path(os.path.realpath(arguments.output)))
        raise ModelError(
            f"cannot be written: ROOT has ended {end}",
            place=arguments.output,
            remedy="Is the disk full, or are the events damaged?",
        ) from end
    sys.stderr.write(said)
    sys.stdout.write(f"{arguments.output}\n")
    seconds = perf_counter() - start
    tables.message(f"{entries:,} entries with {scores}, in {seconds:.1f} s on {_threads(count)}")
    return 0


def _written(model: Model, arguments: Namespace, count: int) -> tuple[int, str, str]:
    """How many entries there are, the new columns, and what ROOT had to say besides."""
    source = trees.source_of(arguments.events)
    if source.is_one(arguments.output):
        raise InputError(
            "is one of the files that are read, which are never written over",
            place=arguments.output,
        )
    is_ntuple = source.is_ntuple if arguments.format == "same" else arguments.format == "rntuple"
    with trees.threads(count), trees.frame_of(source) as df:
        if arguments.filter:
            df = trees.filtered(df, arguments.filter)
        before = [str(column) for column in df.GetColumnNames()]
        names = _new_columns(model, arguments)
        df = model.define(df, names, _columns(model, arguments), **_how(arguments))
        added = [str(c) for c in df.GetColumnNames() if str(c) not in before]
        kept = trees.chosen_columns(df, arguments.keep) if arguments.keep else []
        wanted = added if arguments.friend else [*kept, *(c for c in added if c not in kept)]
        with _progress(df):
            entries, said = trees.write(
                df,
                arguments.output,
                arguments.tree or source.tree.rpartition("/")[2],
                wanted if arguments.friend or arguments.keep is not None else [],
                ntuple=is_ntuple,
            )
    return entries, ", ".join(added), said


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _cores() -> int:
    """How many threads this process may keep busy."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _require_free(output: str, arguments: Namespace) -> None:
    """`InputError` for a file that the user has, unless it may be written over."""
    path = Path(output)
    if path.exists() and path.samefile(arguments.file):
        raise InputError("is the file of the model, which is never written over", place=output)
    if path.exists() and not arguments.overwrite:
        raise InputError(
            "is there already", place=output, remedy="--overwrite replaces it, when all is done"
        )
    if arguments.friend and arguments.filter:
        raise InputError(
            "a friend tree has an entry for each entry of the events",
            remedy="--where leaves out the model, and not the entry",
        )
    if arguments.friend and arguments.threads not in (None, 1):
        raise InputError(
            "a friend tree is written by one thread, which keeps the order of the entries",
            remedy="Leave out --threads",
        )
    if arguments.friend and arguments.keep is not None:
        raise InputError("a friend tree has the scores alone", remedy="Leave out --keep")


def _new_columns(model: Model, arguments: Namespace) -> str | dict[str, str]:
    """The names of the new columns, each with what of the outputs it shows."""
    given: list[str] = arguments.out_names or []
    outputs = list(model.outputs)
    plain = [name for name in given if "=" not in name]
    if not given:
        plain = [identifier(name) for name in outputs]
    elif plain and len(given) != len(outputs):
        listed = ", ".join(outputs)
        raise InputError(
            f"--out-names has {len(given)} names for {len(outputs)} outputs: {listed}",
            remedy="Say which output each one is: --out-names NAME=OUTPUT",
        )
    if len(plain) == len(outputs):
        return dict(zip(plain, outputs, strict=True)) if len(plain) > 1 else plain[0]
    if plain:
        raise InputError("--out-names has names with an output and names without one")
    pairs = (name.split("=", 1) for name in given)
    return {name.strip(): output.strip() for name, output in pairs}


def _columns(model: Model, arguments: Namespace) -> list[str] | dict[str, list[str]] | None:
    """Columns and expressions, by input or not: commas outside of brackets part them."""
    if arguments.columns is None:
        return None
    found, depth = [""], 0
    for mark in ",".join(arguments.columns):
        depth += (mark in "([{") - (mark in ")]}")
        if mark == "," and depth <= 0:
            found.append("")
        else:
            found[-1] += mark
    return by_input(model, [text.strip() for text in found if text.strip()])


def _how(arguments: Namespace) -> dict[str, Any]:
    """The options of `define`."""
    return {
        "per": arguments.per,
        "pad": arguments.pad,
        "truncate": arguments.truncate,
        "mask": tuple(arguments.mask),
        "lengths": arguments.lengths or None,
        "order_by": arguments.order_by,
        "where": arguments.where,
        "default": arguments.default,
        "nan": arguments.nan,
        "batch": arguments.batch,
        "entry": arguments.entry,
    }


@contextmanager
def _progress(df: Any) -> Iterator[None]:
    """ROOT's own progress bar, on the error stream where that is a terminal.

    ROOT writes it to the standard output, which is for results.
    """
    if not sys.stderr.isatty():
        yield
        return
    sys.stdout.flush()
    out = os.dup(1)
    try:
        os.dup2(2, 1)
        trees.show_progress(df)
        yield
    finally:
        os.dup2(out, 1)
        os.close(out)
