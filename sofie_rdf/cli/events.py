"""Events that a person names on the command line: columns of a tree, or arrays of NumPy."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sofie_rdf.errors import InputError, ModelError
from sofie_rdf.ir import rootfile
from sofie_rdf.model import Model

__all__ = ["events_of"]


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
    every = [*wanted, *([arguments.labels] if arguments.labels else [])]
    events = rootfile.columns(file, tree, every, arguments.events)
    labels = events.pop(arguments.labels) if arguments.labels else None
    if arguments.labels in wanted:
        events[arguments.labels] = labels
    columns = list(arguments.columns) if arguments.columns else None
    options = {"columns": columns or wanted}
    return events, options | ({"per": arguments.per} if arguments.per else {}), labels


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
