"""DeepMind's Graph Nets: whatever maps a GraphsTuple to GraphsTuples, with Sonnet and TensorFlow.

The model is traced by TensorFlow with open numbers of nodes and edges, so that any composition of
modules, also one of the user's own, is what its Python code does. One graph in a call: n_node and
n_edge are the lengths of nodes and of edges. The result is compared with TensorFlow at the example
and at other sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from sofie_rdf.errors import InputError, MissingDependency, ModelError
from sofie_rdf.frontends import onnx as onnx_frontend
from sofie_rdf.frontends.tf_graph import frozen, onnx_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate

__all__ = ["read"]

# The fields of a GraphsTuple that are inputs, and the name of their first axis.
_FIELDS = {
    "nodes": "n_nodes",
    "edges": "n_edges",
    "globals": "",
    "senders": "n_edges",
    "receivers": "n_edges",
}
# A deviation from TensorFlow, relative to the largest number of an output, that is rounding.
_ROUNDING = 1e-4
# Numbers that may overflow in one order of summation and not in another.
_HUGE = 1e30

Tuples: TypeAlias = Sequence[Any]


def read(module: Any, example: Any, *arguments: Any, name: str = "") -> Graph:
    """The graph of ``module(graph, *arguments)``, for graphs like the GraphsTuple ``example``.

    What the module returns is a GraphsTuple or a list of them. Raises `UnsupportedOperator` for
    operations that are not there, with their place, and `ModelError` if the results differ.
    """
    given = _arrays(example)
    expected = _called(module, example, arguments)
    graph = _converted(module, example, given, arguments, name or _name_of(module))
    _compare(graph, given, _results(example, expected))
    for nodes, edges in ((1, 1), (3, 0), (7, 11), (0, 0)):
        _compare_other(graph, module, example, arguments, (nodes, edges))
    return graph


def _name_of(module: Any) -> str:
    name = str(getattr(module, "name", "") or type(module).__name__)
    return name if name.isidentifier() and name != "function" else "graph_network"


def _arrays(example: Any) -> Mapping[str, Array]:
    """The fields of a GraphsTuple with one graph, without those that are None."""
    try:
        import tensorflow as tf
    except ImportError:
        raise MissingDependency(
            "from_graph_nets needs TensorFlow", remedy="pip install 'sofie_rdf[graph-nets]'"
        ) from None
    missing = [f for f in (*_FIELDS, "n_node", "n_edge") if not hasattr(example, f)]
    if missing:
        raise InputError(
            f"the example graph is {type(example).__name__} without {missing[0]!r}",
            remedy="Give a GraphsTuple: graph_nets.utils_tf.data_dicts_to_graphs_tuple([data])",
        )
    for field in ("n_node", "n_edge"):
        count = np.asarray(getattr(example, field)).shape
        if count != (1,):
            raise InputError(
                f"the example has {field} of shape {count}: a model is called with one graph",
                remedy="Give a GraphsTuple of one graph",
            )
    found = {f: getattr(example, f) for f in _FIELDS}
    return {f: np.asarray(tf.convert_to_tensor(a)) for f, a in found.items() if a is not None}


def _called(module: Any, graph: Any, arguments: Sequence[Any]) -> Tuples:
    """What the module returns, as a list."""
    found = module(graph, *arguments)
    # A GraphsTuple is a tuple, too.
    several = isinstance(found, (list, tuple)) and not hasattr(found, "n_node")
    found = list(found) if several else [found]
    if not found or not all(hasattr(f, "n_node") for f in found):
        raise InputError(
            f"{type(module).__name__} returns no GraphsTuple",
            remedy="Give a function of a GraphsTuple that returns one, or a list of them",
        )
    return found


def _changed(before: Any, after: Tuples) -> Iterator[tuple[str, Any]]:
    """The names and values of what the module has computed."""
    for number, graph in enumerate(after):
        for field in _FIELDS:
            value = getattr(graph, field)
            if value is not None and value is not getattr(before, field):
                yield (f"{field}_out_{number}" if len(after) > 1 else f"{field}_out"), value


def _results(before: Any, after: Tuples) -> Mapping[str, Array]:
    return {name: np.asarray(value) for name, value in _changed(before, after)}


def _converted(
    module: Any, example: Any, given: Mapping[str, Array], arguments: Sequence[Any], name: str
) -> Graph:
    import tensorflow as tf

    names: list[str] = []

    def traced(*tensors: Any) -> Any:
        graph = example.replace(**dict(zip(given, tensors, strict=True)))
        counts = {}
        if "nodes" in given:
            counts["n_node"] = tf.shape(graph.nodes, graph.n_node.dtype)[:1]
        of_edges = next((f for f in ("edges", "senders", "receivers") if f in given), "")
        if of_edges:
            counts["n_edge"] = tf.shape(getattr(graph, of_edges), graph.n_edge.dtype)[:1]
        graph = graph.replace(**counts)
        changed = dict(_changed(graph, _called(module, graph, arguments)))
        names[:] = changed
        return [tf.identity(value) for value in changed.values()]

    signature = [
        tf.TensorSpec([None if _FIELDS[f] else 1, *a.shape[1:]], a.dtype, name=f)
        for f, a in given.items()
    ]
    concrete = frozen(traced, signature)
    if not names:
        raise InputError(f"{name} changes nothing of a graph")
    placeholders = [tensor.name.split(":")[0] for tensor in concrete.inputs]
    inputs = [
        (placeholder, f, a.dtype.type, [_FIELDS[f] or 1, *a.shape[1:]])
        for placeholder, (f, a) in zip(placeholders, given.items(), strict=True)
    ]
    outputs = dict(zip(names, (t.name for t in concrete.outputs), strict=True))
    graph = onnx_frontend.read(onnx_of(concrete, inputs, outputs, name), name=name)
    known = {"source": "graph_nets", "producer": f"TensorFlow {tf.__version__}"}
    return replace(graph, provenance=MappingProxyType(known))


# Beside TensorFlow --------------------------------------------------------------------------------


def _compare(graph: Graph, feeds: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    found = evaluate(graph, {i: feeds[i] for i in graph.inputs})
    for (name, value), expected in zip(found.items(), wanted.values(), strict=True):
        if value.shape != expected.shape or not _agree(value, expected):
            sizes = ", ".join(f"{f}{list(a.shape)}" for f, a in feeds.items())
            raise ModelError(
                f"output {name!r} differs from TensorFlow's for {sizes}",
                place=graph.name,
                remedy="If the model depends on the number of nodes or edges in Python, it cannot "
                "be converted; else this is a bug: please report it",
            )


def _agree(found: Array, wanted: Array) -> bool:
    """Whether that is rounding. The largest of no edges is the lowest number: sums overflow."""
    usual = np.abs(wanted) < _HUGE
    scale = float(np.max(np.abs(wanted[usual]), initial=1e-30))
    deviation = np.abs(found[usual].astype(np.float64) - wanted[usual])
    return bool(np.all(deviation <= _ROUNDING * scale))


def _compare_other(
    graph: Graph,
    module: Callable[..., Any],
    example: Any,
    arguments: Sequence[Any],
    sizes: tuple[int, int],
) -> None:
    """The same for random numbers and another number of nodes and edges, if TensorFlow takes it."""
    import tensorflow as tf

    random = np.random.default_rng(1)
    given = _arrays(example)
    numbers = {"n_nodes": sizes[0], "n_edges": sizes[1], "": 1}
    feeds = {}
    for field, array in given.items():
        shape = (numbers[_FIELDS[field]], *array.shape[1:])
        whole = array.dtype.kind in "iu"
        drawn = random.integers(0, max(1, sizes[0]), shape) if whole else random.normal(size=shape)
        feeds[field] = drawn.astype(array.dtype)
    counts = {
        "n_node": tf.constant([sizes[0]], example.n_node.dtype),
        "n_edge": tf.constant([sizes[1]], example.n_edge.dtype),
    }
    other = example.replace(**{f: tf.constant(a) for f, a in feeds.items()}, **counts)
    try:
        wanted = _results(other, _called(module, other, arguments))
    except (ValueError, tf.errors.OpError):
        return
    _compare(graph, feeds, wanted)
