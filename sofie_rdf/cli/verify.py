"""`sofie-rdf verify`: the numbers of a model beside those of the library it is from."""

from __future__ import annotations

import json
import math
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from sofie_rdf import frontends, limits
from sofie_rdf.bench.models import FreeSizes, feeds_for, sizes_for
from sofie_rdf.cli import tables
from sofie_rdf.cli.events import events_of
from sofie_rdf.cli.originals import LIBRARIES, asked
from sofie_rdf.errors import InputError, printable
from sofie_rdf.ir.types import Array
from sofie_rdf.model import Model
from sofie_rdf.reference import evaluate
from sofie_rdf.runtime.arrays.agreement import Agreement, Theirs, Tolerances, compare, of_columns
from sofie_rdf.summary import random_operators

__all__ = ["comparison"]

# How many random rows there are if nobody says a number.
_ROWS = 1000


def comparison(model: Model, arguments: Namespace) -> int:
    """Print where the two differ; 1 if any number is further apart than it may be."""
    against, theirs = _other(model, arguments)
    path = Path(arguments.original or arguments.file)
    # What a library needs for so many events nobody can know, unless the user does.
    size = path.stat().st_size
    bound = limits.budget(arguments.limits, size=size, place=path.name)
    with bound if arguments.limits else nullcontext():
        found = _compared(model, theirs, arguments)
    if arguments.json:
        sys.stdout.write(json.dumps(_as_json(model, against, found, arguments), indent=2) + "\n")
    else:
        tables.show(_tables(model, against, found))
    return 0 if found.agree else 1


def _other(model: Model, arguments: Namespace) -> tuple[str, Theirs]:
    """Who is asked as well, and how."""
    if random_operators(model.graph):
        raise InputError(
            f"model {model.name!r} draws random numbers, which are others in other programs"
        )
    path = Path(arguments.original or arguments.file)
    own = LIBRARIES.get(frontends.recognise(path), "reference")
    against = arguments.against or own
    if against == "reference":
        return against, partial(_reference, model)
    if against != own:
        remedy = "Name the file that it reads: --original FILE" if own == "reference" else ""
        kind = frontends.FORMATS[frontends.recognise(path)].about
        raise InputError(f"{path.name} is {kind}, which {against} does not read", remedy=remedy)
    if arguments.normalization:
        raise InputError(
            f"{against} does not know the normalization, and takes other inputs",
            remedy="Compare with NumPy: --against reference",
        )
    return against, partial(asked, against, path, list(model.outputs))


def _reference(model: Model, feeds: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
    return [evaluate(model.graph, one) for one in feeds]


def _compared(model: Model, theirs: Theirs, arguments: Namespace) -> Agreement:
    tolerances = Tolerances(arguments.rtol, arguments.atol)
    how = tolerances, arguments.show
    if not arguments.data:
        free = FreeSizes(arguments.sizes)
        feeds = feeds_for(model.graph, sizes_for(model.graph, arguments.random or _ROWS, free))
        return compare(model.compiled, theirs, (feeds,), {}, *how)
    if arguments.random:
        raise InputError("random rows and EVENTS are two ways", remedy="Leave out --random")
    events, options, _ = events_of(model, arguments.data, arguments)
    if "columns" in options:
        columns = options.pop("columns")
        options |= _sets(arguments)
        return of_columns(model.compiled, theirs, events, columns, options, *how)
    arrays = (events,)
    return compare(model.compiled, theirs, arrays, {}, *how)


def _sets(arguments: Namespace) -> dict[str, Any]:
    """The options of `score` about sets of objects."""
    return {
        "pad": arguments.pad,
        "truncate": arguments.truncate,
        "mask": tuple(arguments.mask),
        "lengths": arguments.lengths or None,
        "order_by": arguments.order_by,
    }


# What is printed ----------------------------------------------------------------------------------


def _tables(model: Model, against: str, found: Agreement) -> Sequence[RenderableType]:
    verdict = Text(printable(f"{model.name} and {against}, {found.entries:,} entries: "))
    if found.agree:
        verdict.append("they agree", style="green")
    else:
        beyond = sum(output.beyond for output in found.outputs)
        verdict.append(f"{beyond:,} numbers differ", style="bold red")
    names = "output", "numbers", "largest difference", "largest number", "beyond", "odd in one"
    outputs = tables.listing(
        names,
        (
            (o.name, f"{o.numbers:,}", f"{o.largest:.3g}", f"{o.scale:.3g}", f"{o.beyond:,}",
             f"{o.odd:,}")
            for o in found.outputs
        ),
    )  # fmt: skip
    parts: list[RenderableType] = [verdict, Text(""), outputs]
    if found.differences:
        rows = (
            (d.output, str(d.entry), ", ".join(map(str, d.index)), f"{d.ours:.9g}",
             f"{d.theirs:.9g}", f"{d.difference:.3g}", f"{d.allowed:.3g}")
            for d in found.differences
        )  # fmt: skip
        places = "output", "entry", "place in it", "ours", against, "difference", "allowed"
        parts += [Text(""), tables.listing(places, rows)]
    return parts


def _as_json(
    model: Model, against: str, found: Agreement, arguments: Namespace
) -> Mapping[str, Any]:
    described = {
        "file": arguments.file,
        "model": model.name,
        "against": against,
        "entries": found.entries,
        "rtol": arguments.rtol,
        "atol": arguments.atol,
        "agree": found.agree,
        "outputs": [asdict(output) for output in found.outputs],
        "differences": [asdict(one) for one in found.differences],
    }
    for one in (*described["outputs"], *described["differences"]):
        one.update((k, str(v)) for k, v in one.items() if _is_odd(v))
    return described


def _is_odd(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
