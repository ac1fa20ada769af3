"""Events that a person names on the command line: columns of a tree, or arrays of NumPy."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.errors import InputError, ModelError
from sofie_rdf.ir import rootfile
from sofie_rdf.model import Model

__all__ = ["by_input", "events_of"]


def events_of(model: Model, data: str, arguments: Namespace) -> tuple[Any, dict[str, Any], Any]:
    """The events, how they are to be read, and the labels.

    ``data`` is FILE.root:TREE, FILE.npy or FILE.npz; `InputError` for anything else.
    """
    file, colon, tree = data.rpartition(":")
    if data.endswith((".npy", ".npz")):
        return _arrays(Path(data), arguments)
    if not colon or not file.endswith(".root"):
        raise InputError(
            f"{data!r} is no FILE.root:TREE, FILE.npy or FILE.npz",
            remedy="Name the tree behind the file: events.root:Events",
        )
    wanted = arguments.columns or [n for own in model.features.values() for n in own]
    if not wanted:
        raise InputError(
            "the model does not know the names of its features", remedy="Name the columns: columns="
        )
    said = by_input(model, wanted)
    wanted = [one for own in said.values() for one in own] if isinstance(said, dict) else wanted
    order = getattr(arguments, "order_by", "")
    every = [*wanted, *filter(None, (arguments.labels, order))]
    events = rootfile.columns(file, tree, every, arguments.events)
    labels = events.pop(arguments.labels) if arguments.labels else None
    if arguments.labels in wanted:
        events[arguments.labels] = labels
    options: dict[str, Any] = {"columns": said}
    return events, options | ({"per": arguments.per} if arguments.per else {}), labels


def by_input(model: Model, columns: Sequence[str]) -> list[str] | dict[str, list[str]]:
    """Columns as `define` takes them, where a text INPUT=COLUMN begins those of an input."""
    found: dict[str, list[str]] = {}
    own: list[str] = []
    for text in columns:
        name, equals, first = text.partition("=")
        if equals and not first.startswith("=") and name.strip() in model.inputs:
            own = found.setdefault(name.strip(), [])
            text = first.strip()
        own.append(text)
    first_ones = len(columns) - sum(map(len, found.values()))
    if found and first_ones:
        raise InputError(
            f"the columns {', '.join(columns[:first_ones])} belong to no input",
            remedy="Begin the columns of each input with its name: INPUT=COLUMN",
        )
    return found or own


def _arrays(path: Path, arguments: Namespace) -> tuple[Any, dict[str, Any], Any]:
    """Inputs of NumPy: one array, or several by name, one of which may be the labels."""
    try:
        read: Any = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ModelError("no such file", place=str(path)) from None
    except (ValueError, EOFError) as error:
        raise InputError(f"is no array of NumPy: {error}", place=str(path)) from None
    if not isinstance(read, Mapping):
        if arguments.labels:
            raise InputError("an .npy file has no labels", remedy="Put both into an .npz by name")
        return read[: arguments.events], {}, None
    arrays = {name: read[name][: arguments.events] for name in read}
    labels = None
    if arguments.labels:
        if arguments.labels not in arrays:
            raise InputError(f"has no array {arguments.labels!r}", place=str(path))
        labels = arrays.pop(arguments.labels)
    return arrays, {}, labels
