"""Columns by the names of a model's features, and outputs by the names of its classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sofie_rdf.errors import ColumnError, InputError, nearest
from sofie_rdf.ir.given import in_order
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import features_of, labels_of

__all__ = ["by_feature", "label_of"]


def by_feature(graph: Graph, columns: Any, inputs: Sequence[str]) -> Any:
    """Columns by the names of features as lists by input, in the model's order; others as they are.

    None stands for columns that have the names of the features.
    """
    known = {i: names for i, names in features_of(graph).items() if i in inputs}
    every = {name for names in known.values() for name in names}
    if columns is not None and not isinstance(columns, Mapping):
        columns = [columns] if isinstance(columns, str) else in_order(columns, "columns=")
    if columns is None:
        return {i: list(_known(graph, known, i)) for i in inputs}
    if isinstance(columns, Mapping):
        others = [key for key in columns if key not in graph.inputs]
        if not any(key in every for key in others):
            return {i: _of_input(graph, known, i, given) for i, given in columns.items()}
        wrong = next((key for key in columns if key not in every), None)
        if wrong is not None:
            raise ColumnError(
                f"model {graph.name!r} has no feature {wrong!r}",
                remedy=nearest(str(wrong), [*sorted(every), *graph.inputs]),
            )
    elif len(inputs) == 1:
        return {inputs[0]: _in_order(graph, inputs[0], columns)}
    elif not all(isinstance(c, str) for c in columns) or set(columns) != every:
        return columns
    else:
        columns = {name: name for name in columns}
    missing = next((n for i in inputs for n in _known(graph, known, i) if n not in columns), None)
    if missing is not None:
        raise ColumnError(f"no column is given for feature {missing!r} of model {graph.name!r}")
    return {i: [columns[name] for name in known[i]] for i in inputs}


def _known(graph: Graph, known: Mapping[str, Sequence[str]], name: str) -> Sequence[str]:
    if name not in known:
        raise ColumnError(
            f"model {graph.name!r} does not say what the features of its input {name!r} are called",
            remedy="Give a list of columns in its order, or model.named(features=[...])",
        )
    return known[name]


def _of_input(graph: Graph, known: Mapping[str, Sequence[str]], name: str, given: Any) -> Any:
    """The columns of one input, which may be by feature, too."""
    if not isinstance(given, Mapping):
        single = isinstance(given, (str, int, float, np.number))
        listed = [given] if single else in_order(given, f"what input {name!r} gets")
        return _in_order(graph, name, listed)
    names = _known(graph, known, name)
    for wanted in names:
        if wanted not in given:
            raise ColumnError(f"no column is given for feature {wanted!r} of input {name!r}")
    for other in given:
        if other not in names:
            raise ColumnError(
                f"input {name!r} has no feature {other!r}", remedy=nearest(str(other), names)
            )
    return [given[wanted] for wanted in names]


def _in_order(graph: Graph, name: str, listed: list[Any]) -> list[Any]:
    """Columns with the names of the input's features, in the order of these.

    `ColumnError` where some of them have such names and stand at other places.
    """
    names = features_of(graph).get(name, ())
    if len(set(names)) != len(names):
        return listed
    texts = [f if isinstance(f, str) else None for f in listed]
    if len(listed) == len(names) and set(texts) == set(names):
        return list(names)
    for place, text in enumerate(texts):
        if text in names and (place >= len(names) or names[place] != text):
            wanted = f"that is {names[place]!r}" if place < len(names) else "it has fewer"
            raise ColumnError(
                f"column {text!r} is given for feature {place} of input {name!r} of model "
                f"{graph.name!r}, and {wanted}; {text!r} is feature {names.index(text)}",
                remedy="Give a mapping, {'FEATURE': 'COLUMN', ...}",
            )
    return listed


_ELEMENT = re.compile(r"(.+)\[(.+)\]")


def label_of(graph: Graph, said: str) -> str:
    """An output that is said by a label, ``label`` or ``name[label]``, as ``name[2]``."""
    labels = labels_of(graph)
    if not labels or said in graph.outputs:
        return said
    having = [name for name, known in labels.items() if said in known]
    if having:
        if len(having) > 1:
            listed = ", ".join(repr(f"{name}[{said}]") for name in having)
            raise InputError(f"more than one output has a {said!r}", remedy=f"Say {listed}")
        return f"{having[0]}[{labels[having[0]].index(said)}]"
    element = _ELEMENT.fullmatch(said)
    name = element[1] if element else ""
    if element is None or element[2].isdecimal() or name not in labels:
        return said
    if element[2] not in labels[name]:
        raise InputError(
            f"output {name!r} of model {graph.name!r} has no class {element[2]!r}",
            remedy=nearest(element[2], labels[name]) or f"It has {', '.join(labels[name][:20])}",
        )
    return f"{name}[{labels[name].index(element[2])}]"
