"""The laws of a legal graph: one function each, run after every pass and every load."""

from __future__ import annotations

from collections import Counter

from sofie_rdf.errors import GraphError, ShapeError, SofieError, TypeMismatch
from sofie_rdf.ir.builder import infer_node
from sofie_rdf.ir.dims import UNKNOWN, name_of, symbols_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.types import TensorType

__all__ = ["verify"]


def verify(graph: Graph, before: Graph | None = None) -> None:
    """Nothing for a legal graph; else the first broken law: GraphError, ShapeError, TypeMismatch.

    Errors of a node have its origin as their place. ``before`` is a legal graph: what operators
    infer is not asked again for nodes that were in it, with inputs and outputs of the same types.
    """
    for law in _LAWS:
        law(graph)
    _types_follow(graph, before)
    _sizes_come_from_somewhere(graph)


def _place(node: Node) -> str:
    return str(node.origin)


def _inputs_are_no_constants(graph: Graph) -> None:
    for name in graph.inputs:
        if name in graph.constants:
            raise GraphError(f"value {name!r} is an input and a constant")


def _defined_once(graph: Graph) -> None:
    """Each value is an input, a constant, or an output of one node."""
    for name, times in Counter(graph.inputs).items():
        if times > 1:
            raise GraphError(f"input {name!r} is declared {times} times")
    known = {*graph.inputs, *graph.constants}
    if "" in known:
        raise GraphError("an input or a constant has no name")
    for node in graph.nodes:
        if not node.outputs or "" in node.outputs:
            raise GraphError(f"{node.op.name} has an output without a name", place=_place(node))
        for name in node.outputs:
            if name in known:
                raise GraphError(f"value {name!r} is defined twice", place=_place(node))
            known.add(name)


def _defined_before_use(graph: Graph) -> None:
    later = {name for node in graph.nodes for name in node.outputs}
    known = {*graph.inputs, *graph.constants}
    for node in graph.nodes:
        for name in filter(None, node.inputs):
            if name not in known:
                why = "before it is computed" if name in later else "but nothing computes it"
                raise GraphError(f"value {name!r} is used {why}", place=_place(node))
        known.update(node.outputs)


def _every_value_typed(graph: Graph) -> None:
    for name in (*graph.inputs, *graph.constants):
        if name not in graph.types:
            raise GraphError(f"value {name!r} has no type")
    for node in graph.nodes:
        for name in node.outputs:
            if name not in graph.types:
                raise GraphError(f"value {name!r} has no type", place=_place(node))


def _every_type_used(graph: Graph) -> None:
    values = {*graph.inputs, *graph.constants, *graph.producers}
    for name in graph.types:
        if name not in values:
            raise GraphError(f"there is a type for {name!r}, which is no value")


def _outputs_exist(graph: Graph) -> None:
    if not graph.outputs:
        raise GraphError("the graph has no output")
    for name, times in Counter(graph.outputs).items():
        if times > 1:
            raise GraphError(f"output {name!r} is declared {times} times")
        if name not in graph.types:
            raise GraphError(f"output {name!r} is no value")


def _constants_match_types(graph: Graph) -> None:
    for name, array in graph.constants.items():
        type_ = graph.types[name]
        if array.dtype != type_.dtype.numpy:
            raise TypeMismatch(f"constant {name!r} is {array.dtype}, its type says {type_.dtype}")
        if array.shape != type_.shape:
            raise ShapeError(f"constant {name!r} has the shape {array.shape}, its type is {type_}")
        if not array.flags.c_contiguous:
            raise GraphError(f"constant {name!r} is not contiguous")


def _types_follow(graph: Graph, before: Graph | None) -> None:
    """The types that the operators infer are those recorded."""
    for node in graph.nodes:
        if before and _was_there(node, graph, before):
            continue
        try:
            found = infer_node(node.op, [graph.types[i] if i else None for i in node.inputs])
        except SofieError as error:
            raise error.at(_place(node)) from None
        wrong = len(node.outputs) > len(found)
        if wrong or (node.op.writes_all and len(node.outputs) < len(found)):
            thing = f"{node.op.name} has {len(found)} outputs, not {len(node.outputs)}"
            raise GraphError(thing, place=_place(node))
        for name, type_ in zip(node.outputs, found, strict=False):
            said = graph.types[name]
            if said != type_ and not _decided_by_data(said, type_):
                error_type = ShapeError if said.dtype == type_.dtype else TypeMismatch
                raise error_type(f"{name!r} is {type_}, not {said}", place=_place(node))


def _was_there(node: Node, graph: Graph, before: Graph) -> bool:
    """Whether the other graph has this node, with the same types around it."""
    old = before.producers.get(node.outputs[0])
    if old is None or old.op is not node.op or old.inputs != node.inputs:
        return False
    values = filter(None, (*node.inputs, *node.outputs))
    same = all(graph.types[name] == before.types.get(name) for name in values)
    return same and old.outputs == node.outputs


def _decided_by_data(said: TensorType, found: TensorType) -> bool:
    """Whether the types differ only where the operator cannot know the size."""
    pairs = zip(said.shape, found.shape, strict=False)
    return (said.dtype, said.rank) == (found.dtype, found.rank) and all(
        f in (UNKNOWN, s) for s, f in pairs
    )


def _sizes_come_from_somewhere(graph: Graph) -> None:
    """Every named size is that of an input, or the data decide it before it is used."""
    known = {s for i in graph.inputs for d in graph.types[i].shape for s in symbols_of(d)}
    for node in graph.nodes:
        if node.op.decides_sizes:
            known.update(
                filter(None, (name_of(d) for o in node.outputs for d in graph.types[o].shape))
            )
        for name in node.outputs:
            for dim in graph.types[name].shape:
                if strange := symbols_of(dim) - known:
                    thing = f"the size {min(strange)!r} of {name!r} is that of nothing before it"
                    raise ShapeError(thing, place=_place(node))


_LAWS = (
    _inputs_are_no_constants,
    _defined_once,
    _defined_before_use,
    _every_value_typed,
    _every_type_used,
    _outputs_exist,
    _constants_match_types,
)
