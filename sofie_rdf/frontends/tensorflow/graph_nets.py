"""DeepMind's Graph Nets: whatever maps a GraphsTuple to GraphsTuples, with Sonnet and TensorFlow.

The model is traced by TensorFlow with open numbers of nodes and edges, so that any composition of
modules, also one of the user's own, is what its Python code does. With one graph in each call,
n_node and n_edge are the lengths of nodes and of edges; of several graphs they are inputs. The
result is compared with TensorFlow at the example and at other sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from sofie_rdf.errors import InputError, MissingDependency, ModelError
from sofie_rdf.frontends.onnx import reader as onnx_frontend
from sofie_rdf.frontends.tensorflow.graph import frozen, onnx_of
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate

__all__ = ["read"]

# The first axes of a GraphsTuple's fields: of one graph, and of several.
_ONE: Mapping[str, int | str] = {
    "nodes": "n_nodes",
    "edges": "n_edges",
    "globals": 1,
    "senders": "n_edges",
    "receivers": "n_edges",
}
_COUNTS = ("n_node", "n_edge")
_SEVERAL = {**_ONE, **dict.fromkeys(("globals", *_COUNTS), "n_graphs")}
# Numbers of nodes and edges, of one graph and of several, at which the results are compared.
_SIZES = (((1, 1),), ((3, 0),), ((7, 11),), ((0, 0),))
_MORE_SIZES = (((3, 4), (1, 2)), ((2, 1), (0, 0), (5, 9)), ((1, 0),), ((0, 0), (4, 3)))
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
    expected = _results(example, _called(module, example, arguments))
    graph = _converted(module, example, given, arguments, name or _name_of(module))
    _compare(graph, given, expected)
    sizes = _MORE_SIZES if "n_node" in given else _SIZES
    if not sum(_compare_other(graph, module, example, arguments, size) for size in sizes):
        raise ModelError(
            "takes no other number of nodes and edges than the example's", place=graph.name
        )
    return graph


def _name_of(module: Any) -> str:
    name = str(getattr(module, "name", "") or type(module).__name__)
    return name if name.isidentifier() and name != "function" else "graph_network"


def _arrays(example: Any) -> Mapping[str, Array]:
    """The fields of a GraphsTuple that are inputs: not those that are None."""
    try:
        import tensorflow as tf
    except ImportError:
        raise MissingDependency(
            "from_graph_nets needs TensorFlow", remedy="pip install 'sofie_rdf[graph-nets]'"
        ) from None
    missing = [f for f in _SEVERAL if not hasattr(example, f)]
    if missing:
        raise InputError(
            f"the example graph is {type(example).__name__} without {missing[0]!r}",
            remedy="Give a GraphsTuple: graph_nets.utils_tf.data_dicts_to_graphs_tuple([data])",
        )
    several = np.asarray(example.n_node).shape != (1,)
    found = {f: getattr(example, f) for f in (_SEVERAL if several else _ONE)}
    return {f: np.asarray(tf.convert_to_tensor(a)) for f, a in found.items() if a is not None}


def _axes(given: Mapping[str, Array]) -> Mapping[str, int | str]:
    return _SEVERAL if "n_node" in given else _ONE


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
        for field in _ONE:
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
    axes = _axes(given)

    def traced(*tensors: Any) -> Any:
        graph = example.replace(**dict(zip(given, tensors, strict=True)))
        # ONNX counts negative numbers from the end; here they are no nodes.
        ends = {f: getattr(graph, f) for f in ("senders", "receivers") if f in given}
        graph = graph.replace(**{f: tf.where(e < 0, e.dtype.max, e) for f, e in ends.items()})
        for count, axis in zip(_COUNTS, ("n_nodes", "n_edges"), strict=True):
            field = next((f for f in given if axes[f] == axis), "")
            if field and count not in given:
                rows = tf.shape(getattr(graph, field), getattr(graph, count).dtype)
                graph = graph.replace(**{count: rows[:1]})
        changed = dict(_changed(graph, _called(module, graph, arguments)))
        names[:] = changed
        return [tf.identity(value) for value in changed.values()]

    signature = [
        tf.TensorSpec([1 if axes[f] == 1 else None, *a.shape[1:]], a.dtype, name=f)
        for f, a in given.items()
    ]
    concrete = frozen(traced, signature)
    if not names:
        raise InputError(f"{name} changes nothing of a graph")
    placeholders = [tensor.name.split(":")[0] for tensor in concrete.inputs]
    inputs = [
        (placeholder, f, a.dtype.type, [axes[f], *a.shape[1:]])
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
    sizes: Sequence[tuple[int, int]],
) -> bool:
    """The same for random graphs of other sizes; whether TensorFlow takes them."""
    import tensorflow as tf

    feeds = _random_graphs(_arrays(example), sizes)
    counts = np.array(sizes).T.astype(np.asarray(example.n_node).dtype)
    other = example.replace(
        **{f: tf.constant(a) for f, a in feeds.items()},
        **{n: tf.constant(c) for n, c in zip(_COUNTS, counts, strict=True)},
    )
    try:
        wanted = _results(other, _called(module, other, arguments))
    except (ValueError, tf.errors.OpError):
        return False
    feeds |= dict(zip(_COUNTS, counts, strict=True))
    _compare(graph, feeds, wanted)
    return True


def _random_graphs(
    given: Mapping[str, Array], sizes: Sequence[tuple[int, int]]
) -> dict[str, Array]:
    """Fields like those that are given: random numbers, edges within their graphs."""
    random = np.random.default_rng(1)
    nodes, edges = (sum(s[i] for s in sizes) for i in (0, 1))
    numbers = {"n_nodes": nodes, "n_edges": edges, "n_graphs": len(sizes), 1: 1}
    starts = np.cumsum([0, *(n for n, _ in sizes)])
    feeds = {}
    for field, array in given.items():
        if field in ("senders", "receivers"):
            ends = [
                s + random.integers(0, max(1, n), e)
                for s, (n, e) in zip(starts, sizes, strict=False)
            ]
            feeds[field] = np.concatenate(ends).astype(array.dtype)
        elif field not in _COUNTS:
            shape = (numbers[_axes(given)[field]], *array.shape[1:])
            feeds[field] = random.normal(size=shape).astype(array.dtype)
    return feeds
