"""A model as a function of RooFit's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sofie_rdf import arguments
from sofie_rdf.errors import InputError
from sofie_rdf.fit.models import chosen_output, prepared, require_apart
from sofie_rdf.fit.places import Place, called, own_shape, place_of
from sofie_rdf.ir.dims import product
from sofie_rdf.ir.given import in_order
from sofie_rdf.ir.graph import Graph
from sofie_rdf.pickling import Portable
from sofie_rdf.runtime.compile.interpreter import declare, import_root

if TYPE_CHECKING:
    from sofie_rdf.model import Model

__all__ = ["roofit"]


@arguments.checked
def roofit(name: str, model: Model, variables: Any, *, output: str = "") -> Any:
    """A ``RooAbsReal`` whose value is that of an output, computed in float64.

    ``variables`` are what the model reads: a mapping from the names of its features (or inputs, or
    elements of them, as for `function`) to RooFit's variables and functions, or to numbers; or a
    list of variables that have these names. ``output`` as for `sofie_rdf.define`. RooFit's batch
    mode has it computed for many events at once.

    A density becomes a pdf as ``ROOT.RooWrapperPdf(name, title, value)``, of which RooFit
    integrates the norm, unless a further argument ``True`` says that it is 1. Raises `InputError`
    for variables that do not fit, and `ModelError` as `function` does. It lives in memory alone: a
    RooWorkspace cannot write it into a file.
    """
    if type(name) is not str or not name:
        raise arguments.refused("fit.roofit", "the name of the new function first", name)
    arguments.require_model("fit.roofit(name, model, variables)", model, Portable, name, variables)
    wide = prepared(model, output, "float64")
    graph = wide.compiled.graph
    shown, element = chosen_output(graph, output)
    require_apart(wide)
    places = _places(graph)
    given = _by_place(graph, variables, places)
    declare('#include "sofie/rdf/roofit.hxx"\n')
    root = import_root()
    code = root.sofie.RooCode()
    code.table, code.weights = wide.compiled.table, wide.compiled.weights
    code.row, code.element = product(graph.types[shown].shape[1:]), element
    code.step = wide.compiled.rows_at_once(graph.batch_symbol, len(places), {graph.batch_symbol: 1})
    for port in graph.inputs:
        size = sum(place.input == port for place in places)
        code.ports.push_back(root.sofie.RooPort(size, own_shape(graph, port)[0]))
    held = [_variable(place, given[place], graph) for place in places]
    ordered = root.RooArgList()
    for one in held:
        ordered.add(one)
    made = root.sofie.RooModel(name, f"{shown} of {model.name}", code, ordered)
    # They live as long as what reads them.
    made._held = wide, held
    return made


def _places(graph: Graph) -> list[Place]:
    """All numbers that the model reads for an event, in order."""
    found = []
    for name in graph.inputs:
        axes = [d for d in own_shape(graph, name)[1] if isinstance(d, int)]
        if len(axes) != len(own_shape(graph, name)[1]) or not graph.types[name].dtype.is_float:
            raise InputError(
                f"input {name!r} is {graph.types[name]}: variables of RooFit are single "
                "floating-point numbers"
            )
        found += [Place(name, index) for index in np.ndindex(*axes)]
    return found


def _by_place(graph: Graph, variables: Any, places: Sequence[Place]) -> dict[Place, Any]:
    """The variables by what they are for; `InputError` where one is missing or unknown."""
    if isinstance(variables, Mapping):
        named = list(variables.items())
    else:
        listed = in_order(variables, "variables=")
        nameless = [v for v in listed if not hasattr(v, "GetName")]
        if nameless:
            raise arguments.refused("fit.roofit", "variables= as RooFit's", nameless[0])
        named = [(str(variable.GetName()), variable) for variable in listed]
    found: dict[Place, Any] = {}
    for name, variable in named:
        place = place_of(graph, str(name))
        if place in found:
            raise InputError(f"variables= has {name!r} twice")
        found[place] = variable
    for place in places:
        if place not in found:
            raise InputError(
                f"variables= has nothing for {called(graph, place.input, place.index)!r} of input "
                f"{place.input!r} of model {graph.name!r}"
            )
    return found


def _variable(place: Place, given: Any, graph: Graph) -> Any:
    """What RooFit reads; a number becomes a constant."""
    root = import_root()
    if isinstance(given, root.RooAbsReal):
        return given
    label = called(graph, place.input, place.index)
    is_number = isinstance(given, (int, float, np.number)) and not isinstance(given, bool)
    if not is_number or not math.isfinite(given):
        wanted = f"a RooAbsReal or a finite number for {label!r}"
        raise arguments.refused("fit.roofit", wanted, given)
    return root.RooFit.RooConst(float(given))
