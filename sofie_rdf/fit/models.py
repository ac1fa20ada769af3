"""Which models have a number for each event: what a fit adds up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from sofie_rdf.errors import InputError, ModelError
from sofie_rdf.fit.places import own_shape
from sofie_rdf.ir.dims import product
from sofie_rdf.ir.graph import Graph
from sofie_rdf.runtime.rdataframe.columns import shown_as

if TYPE_CHECKING:
    from sofie_rdf.model import Model

__all__ = ["chosen_output", "derived", "prepared", "require_apart"]


def prepared(model: Model, output: str, precision: str) -> Model:
    """The model that gives this output alone, in this precision."""
    graph = model.compiled.graph if precision == "float32" else model.graph
    name, _ = chosen_output(graph, output)
    if precision == "float32" and graph.outputs == (name,):
        return model

    def change() -> Graph:
        from sofie_rdf.passes.doubles import in_float64

        narrow = replace(model.graph, outputs=(name,))
        return narrow if precision == "float32" else in_float64(narrow)

    return _kept(model, ("output", name, precision), lambda: model._changed(change))


def derived(model: Model, output: str, wrt: Sequence[str], cotangent: str) -> Model:
    """The model that gives the derivatives of an output by these inputs.

    They are multiplied with the input ``cotangent``, if it has a name, before they are added up.
    """
    vjp = {output: cotangent} if cotangent else False
    key = ("gradient", output, *wrt, cotangent)
    return _kept(model, key, lambda: model.gradient(output, wrt, vjp=vjp))


# Models that were made of others: a fit of the next events compiles nothing.
_made: WeakKeyDictionary[Model, dict[tuple[str, ...], Model]] = WeakKeyDictionary()


def _kept(model: Model, key: tuple[str, ...], make: Callable[[], Model]) -> Model:
    known = _made.setdefault(model, {})
    if key not in known:
        known[key] = make()
    return known[key]


def chosen_output(graph: Graph, output: str) -> tuple[str, int]:
    """The output and which of its numbers of an event."""
    shown = shown_as(graph, "the fit", output)
    type_ = graph.types[shown.output]
    if shown.is_largest or not type_.dtype.is_float:
        raise InputError(f"output={output!r} is a whole number, which has no derivative")
    batch = bool(type_.shape) and str(type_.shape[0]) == graph.batch_symbol != ""
    count = product(type_.shape[1:])
    if not batch or not isinstance(count, int) or (count != 1 and shown.element < 0):
        raise InputError(
            f"output {shown.output!r} is {type_}; a fit needs one number for each event",
            remedy=f"Say which: output='{shown.output}[0]'" if batch and count != 1 else "",
        )
    return shown.output, max(shown.element, 0)


def require_apart(model: Model) -> None:
    """`ModelError` for a model in which events meet, or are not the same each time."""
    compiled, graph = model.compiled, model.compiled.graph
    if compiled.drawn is not None:
        raise ModelError(
            "draws random numbers: the sum over events would be another one for other events",
            place=model.name,
        )
    batched = all(own_shape(graph, name)[0] for name in graph.inputs)
    if not (compiled.rows if batched else _rows_of_constants(model)):
        raise ModelError(
            "is not known to give each event a number that depends on that event alone",
            place=model.name,
            remedy="A likelihood is a product over events: take out of the model where they meet, "
            "such as a mean or a softmax over the batch",
        )


def _rows_of_constants(model: Model) -> str:
    """The batch whose rows keep apart where all inputs without it are constants."""
    from sofie_rdf.passes.rows import rows_of
    from sofie_rdf.reading import optimized

    graph = model.graph
    single = [name for name in graph.inputs if not own_shape(graph, name)[0]]
    types = {name: graph.types[name] for name in single}
    if any(not isinstance(d, int) for t in types.values() for d in t.shape):
        return ""
    # No neutral number, with which operators would go away.
    made = {
        n: np.full([int(str(d)) for d in t.shape], 0.75, t.dtype.numpy) for n, t in types.items()
    }
    inputs = tuple(name for name in graph.inputs if name not in single)
    constants = MappingProxyType({**graph.constants, **made})
    return rows_of(optimized(replace(graph, inputs=inputs, constants=constants)))
