"""Whether events certainly meet in a graph: then the derivative of a sum is not that of an event.

What is not known to keep events apart is not refused here: only operators that mix the batch.
`passes.rows.meeting` finds the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sofie_rdf.errors import ModelError
from sofie_rdf.ir.dims import Dim, symbols_of
from sofie_rdf.ir.graph import Graph, Node
from sofie_rdf.ir.types import Shape, normal_axis

__all__ = ["meets", "require_apart"]

# Operators whose attribute `axis` is what they go along, and those that take all axes from it on.
_ALONG = frozenset(
    {"Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "CumSum", "CumProd", "TopK"}
)
_FROM = frozenset({"FlatSoftmax", "FlatLogSoftmax", "LayerNormalization", "RMSNormalization"})
# Those that mix what is behind the channels, which are the second axis.
_PLACES = frozenset(
    {
        "AveragePool",
        "Conv",
        "ConvTranspose",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GlobalMaxPool",
        "GroupNormalization",
        "GroupwiseNormalization",
        "InstanceNormalization",
        "LpPool",
        "MaxPool",
    }
)
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})


def require_apart(graph: Graph, of: Sequence[str], wrt: Sequence[str]) -> None:
    """`ModelError` where one event of an output certainly depends on another one of an input."""
    batch = graph.batch_symbol
    ends = [name for name in of if _has(batch, graph.types[name].shape)]
    begins = [name for name in wrt if _has(batch, graph.types[name].shape)]
    if not batch or not ends or not begins:
        return
    varying = _descendants(graph, begins)
    needed = _ancestors(graph, ends)
    for node in graph.nodes:
        outputs = [o for o in node.outputs if o in varying and o in needed]
        if outputs and _meet(graph, node, batch, outputs, varying):
            raise meets(graph, node, ends[0], "meet", "depends")


def meets(graph: Graph, node: Node, output: str, meet: str, depends: str) -> ModelError:
    """What says that events meet in a node, or may."""
    return ModelError(
        f"events {meet} in {node.op.full_name()}: an event of {output!r} {depends} on other "
        "events, so that the derivative of the sum is not that of each event",
        place=str(node.origin) or graph.name,
        remedy=f"Use model.gradient(of={output!r}, vjp=True), whose input 'v_{output}' says how "
        "events are added up; ones give the derivative of the sum over the batch",
    )


def _has(batch: str, shape: Iterable[Dim]) -> bool:
    return any(batch in symbols_of(d) for d in shape)


def _descendants(graph: Graph, begins: Iterable[str]) -> set[str]:
    """Floating-point values that depend on these."""
    found = set(begins)
    for node in graph.nodes:
        if not found.isdisjoint(node.inputs):
            found.update(o for o in node.outputs if graph.types[o].dtype.is_float)
    return found


def _ancestors(graph: Graph, ends: Iterable[str]) -> set[str]:
    """What these depend on, and they themselves."""
    found = set(ends)
    for node in reversed(graph.nodes):
        if not found.isdisjoint(node.outputs):
            found.update(filter(None, node.inputs))
    return found


def _meet(graph: Graph, node: Node, batch: str, outputs: Sequence[str], varying: set[str]) -> bool:
    """Whether a node puts events together that were apart in its inputs."""
    shapes = [graph.types[i].shape for i in node.inputs if i in varying]
    if not any(_has(batch, shape) for shape in shapes):
        return False
    results = [graph.types[o].shape for o in outputs]
    decided = any(_has(name, shape) for name in graph.data_symbols for shape in results)
    # One thing for all events, or one for each pair of them; what data choose is not known.
    if not decided and any(sum(_has(batch, (d,)) for d in shape) != 1 for shape in results):
        return True
    first = node.inputs[0]
    shape = graph.types[first].shape if first in varying else ()
    return _has(batch, (shape[axis] for axis in _mixed(node, shape)))


def _mixed(node: Node, shape: Shape) -> Sequence[int]:
    """The axes of the first input along which an operator mixes elements."""
    name, op, rank = node.op.name, node.op, len(shape)
    if not rank:
        return ()
    if name in _ALONG:
        return (normal_axis(getattr(op, "axis", -1), rank),)
    if name in _FROM:
        return range(normal_axis(getattr(op, "axis", -1), rank, end=True), rank)
    if name in _PLACES:
        return range(2, rank)
    if name in _RECURRENT:
        return (1 if getattr(op, "layout", 0) else 0,)
    if name == "Attention":
        return (rank - 2,)
    return ()
