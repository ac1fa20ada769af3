"""Every module of graph_nets against TensorFlow: `make graph-nets`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir.types import Array
from sofie_rdf.reference import evaluate

WHY = "needs TensorFlow and graph_nets: make graph-nets"
tf = pytest.importorskip("tensorflow", reason=WHY)
snt = pytest.importorskip("sonnet", reason=WHY)
graph_nets = pytest.importorskip("graph_nets", reason=WHY)

SIZES = ((3, 4), (1, 0), (0, 0), (1, 1), (30, 100), (4, 0))
SEGMENTS = {
    "sum": tf.math.unsorted_segment_sum,
    "mean": tf.math.unsorted_segment_mean,
    "max": tf.math.unsorted_segment_max,
    "min": tf.math.unsorted_segment_min,
    "prod": tf.math.unsorted_segment_prod,
    "sqrt_n": tf.math.unsorted_segment_sqrt_n,
    "max_or_zero": graph_nets.blocks.unsorted_segment_max_or_zero,
    "min_or_zero": graph_nets.blocks.unsorted_segment_min_or_zero,
}


@pytest.fixture(autouse=True)
def _weights() -> None:
    tf.random.set_seed(1)


def perceptron(activation: Any = tf.nn.relu, final: bool = False) -> Any:
    return lambda: snt.nets.MLP([6, 3], activation=activation, activate_final=final)


def normalised() -> Any:
    return snt.Sequential(
        [snt.nets.MLP([6, 3], activate_final=True), snt.LayerNorm(-1, True, True)]
    )


def arrays(nodes: int, edges: int) -> dict[str, Array]:
    random = np.random.default_rng(nodes + 100 * edges)
    ends = random.integers(0, max(nodes, 1), (2, edges)).astype(np.int32)
    return {
        "nodes": random.normal(size=(nodes, 2)).astype(np.float32),
        "edges": random.normal(size=(edges, 3)).astype(np.float32),
        "globals": random.normal(size=(1, 2)).astype(np.float32),
        "senders": ends[0],
        "receivers": ends[1],
    }


def graph_of(feeds: Mapping[str, Array], without: tuple[str, ...] = ()) -> Any:
    data = {k: v for k, v in feeds.items() if k not in without}
    if "globals" in data:
        data["globals"] = data["globals"][0]
    return graph_nets.utils_tf.data_dicts_to_graphs_tuple([data])


def same(module: Any, *arguments: Any, without: tuple[str, ...] = (), compiled: int = 0) -> Any:
    """TensorFlow and we agree for all sizes; ``compiled`` of them through the compiled model."""
    model = sofie.from_graph_nets(module, graph_of(arrays(5, 7), without), *arguments)
    for number, (nodes, edges) in enumerate(SIZES):
        feeds = arrays(nodes, edges)
        found = module(graph_of(feeds, without), *arguments)
        several = found if isinstance(found, list) else [found]
        given = {i: feeds[i] for i in model.inputs}
        ours = model(given) if number < compiled else evaluate(model.graph, given)
        ours = ours if isinstance(ours, dict) else dict(zip(model.outputs, [ours], strict=True))
        for name, value in ours.items():
            field, _, step = name.partition("_out")
            wanted = np.asarray(getattr(several[int(step[1:] or 0)], field))
            assert value.shape == wanted.shape
            # The largest of no edges is the lowest number: sums of it overflow.
            usual = np.abs(wanted) < 1e30
            scale = max(1.0, float(np.max(np.abs(wanted[usual]), initial=0)))
            np.testing.assert_allclose(
                value[usual] / scale, wanted[usual] / scale, rtol=0, atol=1e-5
            )
    return model


@pytest.mark.parametrize("reducer", SEGMENTS)
def test_graph_network(reducer: str) -> None:
    model = same(
        graph_nets.modules.GraphNetwork(
            normalised, perceptron(), perceptron(), reducer=SEGMENTS[reducer]
        ),
        compiled=len(SIZES) if reducer in ("sum", "max", "mean") else 0,
    )
    assert list(model.outputs) == ["nodes_out", "edges_out", "globals_out"]


@pytest.mark.parametrize("number", range(14))
def test_what_blocks_use(number: int) -> None:
    """Random choices of what is used, and of reducers."""
    random = np.random.default_rng(number)

    def options(*names: str) -> dict[str, Any]:
        chosen: dict[str, Any] = {f"use_{n}": bool(random.integers(2)) for n in names}
        if not any(chosen.values()):
            chosen[f"use_{names[-1]}"] = True
        return chosen

    def reducer() -> Any:
        return SEGMENTS[str(random.choice(list(SEGMENTS)))]

    edge = options("edges", "receiver_nodes", "sender_nodes", "globals")
    node = options("received_edges", "sent_edges", "nodes", "globals")
    whole = options("edges", "nodes", "globals")
    node |= {"received_edges_reducer": reducer(), "sent_edges_reducer": reducer()}
    whole |= {"nodes_reducer": reducer(), "edges_reducer": reducer()}
    same(
        graph_nets.modules.GraphNetwork(
            *[perceptron(tf.nn.tanh)] * 3,
            edge_block_opt=edge,
            node_block_opt=node,
            global_block_opt=whole,
        )
    )


def test_other_modules() -> None:
    modules, one = graph_nets.modules, perceptron()
    assert list(same(modules.InteractionNetwork(one, one)).outputs) == ["nodes_out", "edges_out"]
    same(modules.InteractionNetwork(one, one), without=("globals",), compiled=3)
    assert list(same(modules.RelationNetwork(one, one)).outputs) == ["globals_out"]
    same(modules.RelationNetwork(one, one), without=("edges", "globals"))
    same(modules.DeepSets(one, one), compiled=3)
    same(modules.CommNet(one, one, one), without=("edges", "globals"))
    assert list(same(modules.GraphIndependent(None, one)).outputs) == ["nodes_out"]


def test_self_attention() -> None:
    attention = graph_nets.modules.SelfAttention()
    layers = [snt.Linear(8) for _ in range(3)]

    def module(graph: Any) -> Any:
        value, key, query = (tf.reshape(layer(graph.nodes), [-1, 2, 4]) for layer in layers)
        return attention(value, key, query, graph)

    model = same(module, compiled=4)
    assert str(model.outputs["nodes_out"]) == "float32[n_nodes, 2, 4]"


class EncodeProcessDecode(snt.Module):
    """As in ROOT's tutorial."""

    def __init__(self) -> None:
        super().__init__(name="encode_process_decode")
        layers = [perceptron(final=True)] * 3
        self._encoder = graph_nets.modules.GraphIndependent(*layers)
        self._core = graph_nets.modules.GraphNetwork(*[normalised] * 3)
        self._decoder = graph_nets.modules.GraphIndependent(*layers)
        self._output_transform = graph_nets.modules.GraphIndependent(*layers)

    def __call__(self, graph: Any, steps: int) -> list[Any]:
        latent = first = self._encoder(graph)
        found = []
        for _ in range(steps):
            latent = self._core(graph_nets.utils_tf.concat([first, latent], axis=1))
            found.append(self._output_transform(self._decoder(latent)))
        return found


@pytest.mark.parametrize("steps", [1, 3])
def test_encode_process_decode(steps: int) -> None:
    model = same(EncodeProcessDecode(), steps, compiled=len(SIZES))
    ends = [f"_{s}" for s in range(steps)] if steps > 1 else [""]
    assert list(model.outputs) == [
        f"{f}_out{e}" for e in ends for f in ("nodes", "edges", "globals")
    ]


# Several graphs -----------------------------------------------------------------------------------

BATCHES = (((3, 4), (2, 5)), ((1, 0),), ((0, 0), (5, 9), (0, 0), (2, 1)), ((4, 7),) * 9)


def several(sizes: Any) -> Any:
    data = [{**arrays(n, e), "globals": np.float32([n, e])} for n, e in sizes]
    return graph_nets.utils_tf.data_dicts_to_graphs_tuple(data)


@pytest.mark.parametrize("kind", ["sum", "mean", "max_or_zero", "sets", "steps"])
def test_several_graphs(kind: str) -> None:
    module: Any = EncodeProcessDecode()
    if kind == "sets":
        module = graph_nets.modules.DeepSets(perceptron(), perceptron())
    elif kind != "steps":
        module = graph_nets.modules.GraphNetwork(*[normalised] * 3, reducer=SEGMENTS[kind])
    arguments = (1,) if kind == "steps" else ()
    model = sofie.from_graph_nets(module, several(BATCHES[0]), *arguments)
    assert str(model.inputs["globals"]) == "float32[n_graphs, 2]"
    for sizes in BATCHES:
        graph = several(sizes)
        found = module(graph, *arguments)
        found = found[0] if arguments else found
        feeds = {i: np.asarray(getattr(graph, i)) for i in model.inputs}
        for ours in (model(feeds), evaluate(model.graph, feeds)):
            for name, value in ours.items():
                wanted = np.asarray(getattr(found, name.removesuffix("_out")))
                assert value.shape == wanted.shape
                np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-5)
    feeds["n_node"] = feeds["n_node"] + 1
    with pytest.raises(sofie.InputError):
        model(feeds)


# Layers -------------------------------------------------------------------------------------------

ACTIVATIONS = (
    "relu tanh sigmoid elu selu gelu leaky_relu softplus softsign swish relu6 softmax crelu"
)


@pytest.mark.parametrize("name", ACTIVATIONS.split())
def test_activations(name: str) -> None:
    same(graph_nets.modules.GraphNetwork(*[perceptron(getattr(tf.nn, name), True)] * 3))


def test_layers() -> None:
    def layers() -> Any:
        return snt.Sequential(
            [
                snt.Linear(6, with_bias=False),
                tf.abs,
                snt.LayerNorm(-1, create_scale=False, create_offset=True, eps=1e-3),
                lambda x: tf.concat([x, x**2, tf.exp(-x)], -1)[:, 1:-2:2],
                lambda x: tf.where(x > 0, x, tf.sin(x)) / (1 + tf.reduce_max(tf.abs(x), -1, True)),
                snt.Linear(3),
            ]
        )

    same(graph_nets.modules.GraphNetwork(*[layers] * 3), compiled=2)


# What is refused ----------------------------------------------------------------------------------


def test_operations_that_are_not_there_are_named_with_their_place() -> None:
    odd = graph_nets.modules.GraphNetwork(perceptron(), perceptron(tf.math.lgamma), perceptron())
    with pytest.raises(
        sofie.UnsupportedOperator, match=r"graph_network/node_block/mlp/Lgamma: .*Lgamma"
    ):
        sofie.from_graph_nets(odd, graph_of(arrays(3, 4)))


def test_what_python_decides_by_the_number_of_nodes_is_found() -> None:
    layer = snt.Linear(3)

    def module(graph: Any) -> Any:
        few = graph.nodes.shape[0] is None or graph.nodes.shape[0] < 5
        return graph.replace(nodes=layer(graph.nodes) * (1 if few else 2))

    with pytest.raises(sofie.ModelError, match=r"nodes_out.* differs from TensorFlow"):
        sofie.from_graph_nets(module, graph_of(arrays(3, 4)))


def test_other_things_are_refused() -> None:
    with pytest.raises(sofie.InputError, match="returns no GraphsTuple"):
        sofie.from_graph_nets(lambda graph: graph.nodes, graph_of(arrays(3, 4)))
    with pytest.raises(sofie.InputError, match="changes nothing"):
        sofie.from_graph_nets(lambda graph: graph, graph_of(arrays(3, 4)))
