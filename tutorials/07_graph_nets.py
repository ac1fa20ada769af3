"""A network of DeepMind's Graph Nets in Python and in C++, without TensorFlow.

`sofie.from_graph_nets(module, example_graph)` takes any module that maps a GraphsTuple to one, such
as encode, process and decode of ROOT's tutorial TMVA_SOFIE_GNN.py. That needs TensorFlow, once:

    model = sofie.from_graph_nets(network, graph)
    model.save("graph_network.root")

data/make_graph_network.py has done that, and has kept what TensorFlow gives for five graphs, with
other numbers of nodes and edges in each. Here the stored model does the same. Run it as

    python tutorials/07_graph_nets.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import ROOT

import sofie_rdf as sofie

DATA = Path(__file__).resolve().parents[1] / "data"
model = sofie.load(DATA / "graph_network.root")
print(model)

# One graph in a call: its features, and for each edge the nodes that it connects.
stored = np.load(DATA / "graph_network.npz")
for number in range(5):
    graph = {field: stored[f"{field}.{number}"] for field in model.inputs}
    found = model(graph)
    wanted = {field: stored[f"{field}.{number}"] for field in model.outputs}
    deviation = max(np.abs(found[k] - wanted[k]).max(initial=0) for k in wanted)
    shape = f"{len(graph['nodes'])} nodes and {len(graph['edges'])} edges"
    print(f"{shape}: {deviation:.0e} from TensorFlow")

# In C++ a graph is a struct, and the Session takes it as it is.
with tempfile.TemporaryDirectory() as folder:
    files = model.emit(folder)
    for path in files.include:
        ROOT.gInterpreter.AddIncludePath(str(path))
    ROOT.gInterpreter.Declare(f'#include "{files.header}"\n#include "sofie/graph.hxx"')
    session = ROOT.TMVA_SOFIE_graph_network.Session(str(files.weights))
    event = ROOT.sofie.GraphData()
    event.n_nodes = len(graph["nodes"])
    for field, values in graph.items():
        setattr(event, field, values.ravel().tolist())
    result = ROOT.sofie.infer(session, event)
    print("C++ gives the same:", np.allclose(result.nodes, found["nodes_out"].ravel(), atol=1e-5))
