"""What `define` makes of a covariance: a column of sqrt(J C J^T) beside each column of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sofie_rdf import arguments
from sofie_rdf.errors import InputError, nearest
from sofie_rdf.ir.dims import product
from sofie_rdf.ir.given import as_array
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.naming import features_of
from sofie_rdf.runtime.rdataframe.columns import Shown, shown_as
from sofie_rdf.runtime.rdataframe.named import by_feature

if TYPE_CHECKING:
    from sofie_rdf.gradients.propagated import Covariance
    from sofie_rdf.model import Model

__all__ = ["With", "with_uncertainty"]

_SOURCE = "uncertainties"
# What is taken for rounding, as a part of the largest number.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class With:
    """A model with uncertainties among its outputs, the columns that show them, and its inputs."""

    model: Model
    column: dict[str, str]
    columns: Any


def with_uncertainty(
    model: Model, column: str | Mapping[str, str], output: str, columns: Any, given: Any
) -> With:
    """What to define; `InputError` where the covariance does not fit the model."""
    from sofie_rdf.gradients.propagated import propagated

    graph = model.graph
    texts = dict(column) if isinstance(column, Mapping) else {str(column): output}
    shown = [shown_as(graph, name, text) for name, text in texts.items()]
    wanted = {f"uncertainty_{i}": _element(graph, one) for i, one in enumerate(shown)}
    if isinstance(given, Mapping):
        covariance, more = _of_columns(graph, given)
        columns = _with_columns(graph, columns, covariance, more)
    else:
        covariance = _of_matrix(graph, given)
    made = model._changed(lambda: propagated(graph, covariance, wanted))
    names = {one.column: _text(one, texts[one.column]) for one in shown}
    for one, name in zip(shown, wanted, strict=True):
        new = f"{one.column}_uncertainty"
        if new in names:
            raise InputError(f"column {new!r} is that of the uncertainty of {one.column!r}")
        names[new] = name
    return With(made, names, columns)


def _text(shown: Shown, said: str) -> str:
    return said or shown.output


def _element(graph: Graph, shown: Shown) -> tuple[str, int]:
    """The output and which of its numbers."""
    type_ = graph.types[shown.output]
    count = product(type_.shape[1:])
    if shown.is_largest or not type_.dtype.is_float:
        raise InputError(f"column {shown.column!r} is a whole number, which has no uncertainty")
    if not type_.rank or not isinstance(count, int) or (count != 1 and shown.element < 0):
        raise InputError(
            f"column {shown.column!r} is output {shown.output!r}, {type_}: uncertainty= is for "
            "columns of single numbers",
            remedy=f"Choose one: '{shown.output}[0]'",
        )
    return shown.output, max(shown.element, 0)


def _tables(graph: Graph) -> dict[str, int]:
    """The inputs that have a row of features for each event, and how many these are."""
    found = {}
    for name in graph.inputs:
        type_ = graph.types[name]
        batch = type_.rank == 2 and str(type_.shape[0]) == graph.batch_symbol != ""
        if batch and isinstance(type_.shape[1], int) and type_.dtype.is_float:
            found[name] = type_.shape[1]
    return found


def _of_matrix(graph: Graph, given: Any) -> Covariance:
    """The covariance of all features of one input; `InputError` for what is no covariance."""
    from sofie_rdf.gradients.propagated import Covariance

    if given is None or isinstance(given, (str, bytes)):
        wanted = "uncertainty= as a matrix, or as a mapping from features to columns"
        raise arguments.refused("define", wanted, given)
    matrix = as_array(given, "uncertainty=")
    if matrix.dtype.kind not in "fiu" or matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(
            f"uncertainty= has the shape {list(matrix.shape)} of {matrix.dtype}; a square matrix "
            "of numbers is needed"
        )
    fitting = [name for name, count in _tables(graph).items() if count == len(matrix) > 0]
    if len(fitting) != 1:
        listed = ", ".join(f"{name!r} {graph.types[name]}" for name in graph.inputs)
        raise InputError(
            f"uncertainty= is a matrix for {len(matrix)} features, and the inputs are {listed}",
            remedy="Give columns by feature: uncertainty={'pt': 'pt_error'}",
        )
    matrix = matrix.astype(np.float64)
    largest = np.max(np.abs(matrix), initial=0)
    if not np.isfinite(largest) or np.max(np.abs(matrix - matrix.T)) > _ROUNDING * largest:
        raise InputError("uncertainty= is no covariance: it is not finite, or not symmetric")
    # Halves first: the sum of two large numbers is none.
    values, vectors = np.linalg.eigh(matrix / 2 + matrix.T / 2)
    if values[0] < -_ROUNDING * largest:
        raise InputError(
            f"uncertainty= is no covariance: it has the negative eigenvalue {values[0]:g}"
        )
    return Covariance(fitting[0], vectors * np.sqrt(np.maximum(values, 0)))


def _of_columns(graph: Graph, given: Mapping[Any, Any]) -> tuple[Covariance, list[Any]]:
    """Which features the columns are of, and the columns."""
    from sofie_rdf.gradients.propagated import Covariance

    known = {i: n for i, n in features_of(graph).items() if _tables(graph).get(i) == len(n)}
    pairs = [key if isinstance(key, tuple) else (key, key) for key in given]
    if not pairs:
        raise InputError("uncertainty= names no feature")
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(name, str) for name in pair):
            raise InputError(f"uncertainty= names {pair!r}, which is no feature and no two of them")
    names = dict.fromkeys(name for pair in pairs for name in pair)
    having = [i for i, features in known.items() if set(names) <= set(features)]
    if len(having) != 1:
        every = [name for features in known.values() for name in features]
        wrong = next((name for name in names if name not in every), next(iter(names)))
        way = nearest(wrong, every) or "Say what they are called: model.named(features=[...])"
        raise InputError(f"uncertainty= names {wrong!r}: no single input has it", remedy=way)
    features = known[having[0]]
    terms = tuple((features.index(a), features.index(b)) for a, b in pairs)
    ordered = [tuple(sorted(term)) for term in terms]
    if len(set(ordered)) != len(ordered):
        raise InputError("uncertainty= has the covariance of two features twice")
    source = _SOURCE
    while source in graph.types:
        source += "_"
    return Covariance(having[0], None, source, terms), list(given.values())


def _with_columns(graph: Graph, columns: Any, covariance: Covariance, more: list[Any]) -> Any:
    """The columns of all inputs by name, those of the covariance among them."""
    if isinstance(columns, Mapping) and all(key in graph.inputs for key in columns):
        return {**columns, covariance.source: more}
    found = by_feature(graph, columns, list(graph.inputs))
    if not isinstance(found, Mapping):
        raise InputError(
            "uncertainty= by feature is for columns by the names of inputs or features",
            remedy=f"Give a mapping: columns={{{graph.inputs[0]!r}: [...]}}",
        )
    return {**found, covariance.source: more}
