"""Make the small graph network `graph_network.root`, and what TensorFlow gives for some graphs.

It has the structure of encode, process and decode of ROOT's tutorial TMVA_SOFIE_GNN.py, smaller,
and random weights: it has learnt nothing. The results in `graph_network.npz` are TensorFlow's own.

    pip install 'sofie_rdf[graph-nets]'
    python data/make_graph_network.py
"""

from __future__ import annotations

from pathlib import Path

import graph_nets
import numpy as np
import sonnet as snt
import tensorflow as tf
from graph_nets import modules, utils_tf

import sofie_rdf as sofie

NODES, EDGES, GLOBALS = 4, 3, 2  # features
LATENT, STEPS = 16, 3
SIZES = ((5, 20), (3, 4), (1, 0), (0, 0), (40, 160))  # numbers of nodes and edges


def random_layer(size: int) -> snt.Module:
    return snt.Linear(size, b_init=snt.initializers.RandomNormal(stddev=0.1))


def perceptron() -> snt.Module:
    return snt.nets.MLP([LATENT] * 2, activate_final=True)


def normalised() -> snt.Module:
    return snt.Sequential([perceptron(), snt.LayerNorm(-1, create_scale=True, create_offset=True)])


class EncodeProcessDecode(snt.Module):
    """Each step sees what the encoder has made, and what the step before has."""

    def __init__(self) -> None:
        super().__init__(name="graph_network")
        self.encoder = modules.GraphIndependent(perceptron, perceptron, perceptron)
        self.core = modules.GraphNetwork(normalised, normalised, normalised)
        self.decoder = modules.GraphIndependent(perceptron, perceptron, perceptron)
        self.transform = modules.GraphIndependent(
            lambda: random_layer(1), lambda: random_layer(2), lambda: random_layer(1)
        )

    def __call__(self, graph: graph_nets.graphs.GraphsTuple) -> graph_nets.graphs.GraphsTuple:
        encoded = latent = self.encoder(graph)
        for _ in range(STEPS):
            latent = self.core(utils_tf.concat([encoded, latent], axis=1))
        return self.transform(self.decoder(latent))


def random_graph(random: np.random.Generator, nodes: int, edges: int) -> dict[str, np.ndarray]:
    ends = random.integers(0, max(nodes, 1), (2, edges)).astype(np.int32)
    return {
        "nodes": random.normal(size=(nodes, NODES)).astype(np.float32),
        "edges": random.normal(size=(edges, EDGES)).astype(np.float32),
        "globals": random.normal(size=(1, GLOBALS)).astype(np.float32),
        "senders": ends[0],
        "receivers": ends[1],
    }


def main() -> None:
    tf.random.set_seed(1)
    random = np.random.default_rng(1)
    network = EncodeProcessDecode()
    arrays: dict[str, np.ndarray] = {}
    model = None
    for number, (nodes, edges) in enumerate(SIZES):
        data = random_graph(random, nodes, edges)
        graph = utils_tf.data_dicts_to_graphs_tuple([{**data, "globals": data["globals"][0]}])
        found = network(graph)
        model = model or sofie.from_graph_nets(network, graph)
        results = {f"{f}_out": getattr(found, f).numpy() for f in ("nodes", "edges", "globals")}
        arrays |= {f"{k}.{number}": v for k, v in {**data, **results}.items()}
    folder = Path(__file__).parent
    np.savez_compressed(folder / "graph_network.npz", **arrays)
    path = folder / "graph_network.root"
    path.unlink(missing_ok=True)
    model.save(path)


if __name__ == "__main__":
    main()
