"""Graphs that are made of others by differentiation: what a user asks a model for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from sofie_rdf import limits
from sofie_rdf.errors import ModelError, nearest
from sofie_rdf.gradients.meeting import meets, require_apart
from sofie_rdf.gradients.reverse import Sweep
from sofie_rdf.gradients.values import Value
from sofie_rdf.ir.dims import product
from sofie_rdf.ir.given import in_order
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.naming import features_of, fillings_of, labels_of, with_names
from sofie_rdf.ir.types import Shape

__all__ = [
    "Cotangents",
    "Names",
    "chosen",
    "derivative_name",
    "gradient",
    "hessian",
    "jacobian",
    "parametrised",
    "renamed",
    "with_inputs",
]

# Each element of an output has nodes of its own in a Jacobian.
_MOST = 4096

Names: TypeAlias = str | Sequence[str] | None
# Whether derivatives by outputs are inputs, and under which names: of the one output, or by output.
Cotangents: TypeAlias = bool | str | Mapping[str, str]
# The node before an output in which rows may meet, if there is one.
Meeting: TypeAlias = Callable[[Graph, str], Node | None]


def _nowhere(_graph: Graph, _output: str) -> None:
    """No node: it is not asked where rows may meet."""


def gradient(
    graph: Graph, of: Names, wrt: Names, vjp: Cotangents, meeting: Meeting = _nowhere
) -> Graph:
    """The graph with ``d_of/d_wrt`` for each output and input that is asked for.

    With ``vjp`` there is an input besides for each output, which is multiplied with its elements
    before they are added up. Without, `ModelError` where events meet.
    """
    outputs, inputs = chosen(graph, of, wrt)
    wide = graph
    named = _cotangents(graph, outputs, vjp)
    for output, name in named.items():
        wide = _with_input(wide, name, output)
    sweep = Sweep(wide)
    found: dict[str, Value] = {}
    for output in outputs:
        if output in named:
            seed = sweep.tape.value(named[output])
        else:
            _require_single(graph, output)
            _require_apart(graph, [output], inputs, meeting)
            seed = sweep.tape.value(output).like(1)
        for name, value in zip(inputs, sweep.pulled({output: seed}, inputs), strict=True):
            found[derivative_name(output, name)] = value
    return _named(graph, sweep.finished(found), outputs, inputs)


def jacobian(graph: Graph, of: Names, wrt: Names, meeting: Meeting = _nowhere) -> Graph:
    """The graph with ``d_of/d_wrt``, with the axes of the output before those of the input.

    The axis of the batch is there once: `ModelError` where events meet.
    """
    outputs, inputs = chosen(graph, of, wrt)
    _require_apart(graph, outputs, inputs, meeting)
    sweep = Sweep(graph)
    found: dict[str, Value] = {}
    for output in outputs:
        batch, own = _elements(graph, output)
        rows = [sweep.pulled({output: seed}, inputs) for seed in _units(sweep, output, batch, own)]
        for number, name in enumerate(inputs):
            parts = [row[number] for row in rows]
            found[derivative_name(output, name)] = _stacked(graph, name, parts, batch, own)
    return _named(graph, sweep.finished(found), outputs, inputs)


def hessian(graph: Graph, of: Names, wrt: Names, meeting: Meeting = _nowhere) -> Graph:
    """The graph with ``d_of/d_wrt`` and the derivatives of that by the same inputs."""
    outputs, inputs = chosen(graph, of, wrt)
    first = gradient(graph, outputs, inputs, False, meeting)
    slopes = [derivative_name(output, name) for output in outputs for name in inputs]
    # Rows that keep apart do so in their derivatives.
    return jacobian(first, slopes, inputs)


def parametrised(graph: Graph, names: Sequence[str]) -> Graph:
    """The graph in which these initializers are inputs; `ModelError` for what is none.

    A derivative has weights in forms of its own, also in two: those of its network are asked for.
    """
    listed = in_order([names] if isinstance(names, str) else names, "initializers")
    if _DERIVED in graph.provenance:
        raise ModelError(
            f"gives the derivatives {graph.provenance[_DERIVED]}: which of its initializers are "
            "weights of the network is not known any more",
            place=graph.name,
            remedy=f"Begin with the network: model.parametrised({list(listed)}).gradient(...)",
        )
    for name in listed:
        if name not in graph.constants:
            raise ModelError(
                f"there is no initializer {name!r}",
                place=graph.name,
                remedy=nearest(name, graph.constants)
                or f"It has {', '.join(list(graph.constants)[:20])}",
            )
    if len(set(listed)) != len(listed):
        raise ModelError(f"names an initializer twice: {list(listed)}", place=graph.name)
    kept = {name: array for name, array in graph.constants.items() if name not in listed}
    made = replace(graph, inputs=(*graph.inputs, *listed), constants=MappingProxyType(kept))
    return renamed(graph, made, {})


def with_inputs(graph: Graph, names: Sequence[str]) -> Graph:
    """The graph whose inputs are in this order."""
    return replace(graph, inputs=tuple(names))


# What is asked for --------------------------------------------------------------------------------


def chosen(graph: Graph, of: Names, wrt: Names) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Outputs and inputs by name; without names all that are floating-point numbers."""
    return (
        _listed(graph, "of", "output", graph.outputs, of),
        _listed(graph, "wrt", "input", graph.inputs, wrt),
    )


def _listed(
    graph: Graph, keyword: str, kind: str, ports: Sequence[str], given: Names
) -> tuple[str, ...]:
    if given is None:
        found = tuple(p for p in ports if graph.types[p].dtype.is_float)
        if not found:
            raise ModelError(f"has no {kind} of floating-point numbers", place=graph.name)
        return found
    listed = tuple(in_order([given] if isinstance(given, str) else given, f"{kind} names"))
    for name in listed:
        if name not in ports:
            way = nearest(name, ports) or f"It has {', '.join(ports)}"
            if name in graph.constants:
                way = f"Make the initializer an input: model.parametrised([{name!r}])"
            raise ModelError(f"{keyword}={name!r} is no {kind}", place=graph.name, remedy=way)
        if not graph.types[name].dtype.is_float:
            raise ModelError(
                f"{keyword}={name!r} is {graph.types[name]}: only floating-point numbers have "
                "derivatives",
                place=graph.name,
            )
    return tuple(dict.fromkeys(listed))


def _cotangents(graph: Graph, outputs: Sequence[str], vjp: Cotangents) -> dict[str, str]:
    """The names of the inputs that outputs are multiplied with."""
    if isinstance(vjp, str):
        if len(outputs) > 1:
            raise ModelError(
                f"vjp={vjp!r} is one name for the outputs {', '.join(outputs)}",
                place=graph.name,
                remedy="Give a mapping from outputs to names, or vjp=True",
            )
        vjp = {outputs[0]: vjp}
    if not isinstance(vjp, Mapping):
        return {o: f"v_{o}" for o in outputs} if vjp else {}
    for output, name in vjp.items():
        if output not in outputs:
            raise ModelError(f"vjp names {output!r}, which is not among of={list(outputs)}")
        if type(name) is not str or not name:
            raise ModelError(f"vjp={dict(vjp)!r} gives the input for {output!r} no name")
    return dict(vjp)


def _elements(graph: Graph, output: str) -> tuple[bool, Shape]:
    """Whether the first axis of an output is that of the batch, and its other axes."""
    shape = graph.types[output].shape
    batch = bool(shape) and graph.batch_symbol != "" and str(shape[0]) == graph.batch_symbol
    return batch, shape[1:] if batch else shape


def _require_single(graph: Graph, output: str) -> None:
    """`ModelError` for an output that has several elements for an event."""
    _, own = _elements(graph, output)
    if product(own) == 1:
        return
    raise ModelError(
        f"output {output!r} is {graph.types[output]}, which has several elements for an event: it "
        "has no gradient but a Jacobian",
        place=graph.name,
        remedy="Use model.jacobian(of, wrt), or model.gradient(of, wrt, vjp=True), whose input "
        f"'v_{output}' says how its elements are added up",
    )


def _require_apart(
    graph: Graph, outputs: Sequence[str], inputs: Sequence[str], meeting: Meeting
) -> None:
    """`ModelError` where an event of an output may depend on another event of an input."""
    require_apart(graph, outputs, inputs)
    if not any(_elements(graph, name)[0] for name in inputs):
        return
    for output in outputs:
        node = meeting(graph, output) if _elements(graph, output)[0] else None
        if node is not None:
            raise meets(graph, node, output, "may meet", "may depend")


def _with_input(graph: Graph, name: str, output: str) -> Graph:
    """The graph with an input like one of its outputs."""
    if name in graph.types:
        raise ModelError(f"{name!r} is the name of a value of the model already", place=graph.name)
    types = MappingProxyType({**graph.types, name: graph.types[output]})
    return replace(graph, inputs=(*graph.inputs, name), types=types)


# Jacobians ----------------------------------------------------------------------------------------


def _units(sweep: Sweep, output: str, batch: bool, own: Shape) -> list[Value]:
    """For each element of an output, ones there and zeros elsewhere."""
    type_ = sweep.graph.types[output]
    count = product(own)
    if not isinstance(count, int):
        raise ModelError(
            f"output {output!r} is {type_}, whose number of elements is open: no Jacobian",
            place=sweep.graph.name,
            remedy="Fix that size when the model is read (shapes=), or use gradient(vjp=True)",
        )
    if count > _MOST:
        raise ModelError(
            f"output {output!r} is {type_}: a Jacobian takes at most {_MOST} elements for an event",
            place=sweep.graph.name,
            remedy="Use gradient(vjp=True), which adds them up by weights",
        )
    limits.require(nodes=count * len(sweep.graph.nodes), what=f"the Jacobian of {output!r}")
    if count == 1:
        return [sweep.tape.value(output).like(1)]
    found = []
    for number in range(count):
        array = np.zeros(count, type_.dtype.numpy)
        array[number] = 1
        one = sweep.tape.constant(array.reshape((1, *own) if batch else own))
        found.append(one.expand(type_.shape))
    return found


def _stacked(graph: Graph, wrt: str, parts: Sequence[Value], batch: bool, own: Shape) -> Value:
    """Derivatives of all elements as one tensor: behind the batch, where the input has it."""
    shape = graph.types[wrt].shape
    behind = batch and bool(shape) and str(shape[0]) == graph.batch_symbol
    first, rest = (shape[:1], shape[1:]) if behind else ((), shape)
    rows = [p.reshape((*first, 1, *rest)) for p in parts]
    return rows[0].concat(rows[1:], len(first)).reshape((*first, *own, *rest))


# Names --------------------------------------------------------------------------------------------

# What the provenance of a graph says of its derivatives.
_DERIVED = "derivatives"
_DERIVATIVE = re.compile(r"d(\d*)_(.*)\Z", re.DOTALL)


def derivative_name(output: str, wrt: str) -> str:
    """``d_score/d_features``, and of that ``d2_score/d_features/d_features``."""
    found = _DERIVATIVE.match(output) if "/d_" in output else None
    if found is None:
        return f"d_{output}/d_{wrt}"
    return f"d{int(found[1] or 1) + 1}_{found[2]}/d_{wrt}"


def _named(graph: Graph, made: Graph, outputs: Sequence[str], inputs: Sequence[str]) -> Graph:
    """The graph whose derivatives have the names of the features that they are by."""
    features = features_of(graph)
    found = {
        derivative_name(o, i): features[i]
        for o in outputs
        for i in inputs
        if i in features and made.types[derivative_name(o, i)].shape[-1:] == (len(features[i]),)
    }
    made = renamed(graph, made, found)
    before = graph.provenance.get(_DERIVED)
    own = (derivative_name(o, i) for o in outputs for i in inputs)
    names = [*([before] if before else []), *own]
    known = {**made.provenance, _DERIVED: ", ".join(names)}
    return replace(made, provenance=MappingProxyType(known))


def renamed(graph: Graph, made: Graph, labels: Mapping[str, Sequence[str]]) -> Graph:
    """The names of features and classes, by input and output, as there are more of these now."""
    plain = {k: v for k, v in made.provenance.items() if k not in ("features", "labels")}
    made = replace(made, provenance=MappingProxyType(plain))
    return with_names(
        made,
        features=features_of(graph) or None,
        labels={**labels_of(graph), **labels} or None,
        fillings=fillings_of(graph) or None,
    )
