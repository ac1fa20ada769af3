"""The graph network in data/ without TensorFlow, against what TensorFlow gave for it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.ir.types import Array
from sofie_rdf.ops.linear import DenseLayers
from sofie_rdf.reference import evaluate

DATA = Path(__file__).resolve().parents[3] / "data"
INPUTS = ("nodes", "edges", "globals", "senders", "receivers")
OUTPUTS = ("nodes_out", "edges_out", "globals_out")


def graphs() -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    """Inputs and outputs; among the graphs is one without edges, and one without nodes."""
    with np.load(DATA / "graph_network.npz") as stored:
        for number in range(5):
            both = ({k: stored[f"{k}.{number}"] for k in keys} for keys in (INPUTS, OUTPUTS))
            yield next(both), next(both)


@pytest.fixture(scope="module")
def model() -> sofie.Model:
    return sofie.load(DATA / "graph_network.root")


def same(found: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, rtol=0, atol=3e-6)


def test_the_reference_gives_what_tensorflow_gave(model: sofie.Model) -> None:
    sizes = set()
    for feeds, wanted in graphs():
        same(evaluate(model.graph, feeds), wanted)
        same(evaluate(model.optimized, feeds), wanted)
        sizes.add((len(feeds["nodes"]), len(feeds["edges"])))
    assert sizes == {(5, 20), (3, 4), (1, 0), (0, 0), (40, 160)}


def test_one_session_takes_graphs_of_all_sizes(model: sofie.Model) -> None:
    for feeds, wanted in [*graphs(), *graphs()]:
        same(model(feeds), wanted)


def test_layers_are_fused(model: sofie.Model) -> None:
    """Linear layers with their functions, and layer normalisations, are one operator each."""
    kinds = [n.op.name for n in model.optimized.nodes]
    assert kinds.count("LayerNormalization") == 9
    runs = [n.op.activations for n in model.optimized.nodes if isinstance(n.op, DenseLayers)]
    assert sum(map(len, runs)) + kinds.count("Dense") == 33
    assert not {"MatMul", "Relu", "Sqrt", "ReduceMean"} & set(kinds)


@pytest.mark.parametrize("field", ["senders", "receivers"])
@pytest.mark.parametrize("node", [3, 10**6, -1, -9])
def test_an_edge_of_a_node_that_does_not_exist(model: sofie.Model, field: str, node: int) -> None:
    feeds, _ = list(graphs())[1]
    feeds[field] = feeds[field].copy()
    feeds[field][1] = node
    index = node if node >= 0 else 2**31 - 1
    with pytest.raises(sofie.InputError, match=f"index {index} does not exist among 3"):
        model(feeds)


PROGRAM = """
#include "graph_network.hxx"
#include "sofie/graph.hxx"

int main()
{
   TMVA_SOFIE_graph_network::Session session("graph_network.dat");
   sofie::GraphData graph;
   graph.n_nodes = NODES;
   FILL
   const sofie::GraphData found = sofie::infer(session, graph);
   for (const auto *values : {&found.nodes, &found.edges, &found.globals})
      for (float value : *values)
         std::printf("%.9g ", value);
   graph.nodes.push_back(0);
   try {
      sofie::infer(session, graph);
   } catch (const std::invalid_argument &error) {
      std::printf("| %s", error.what());
   }
}
"""


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_a_graph_in_cxx(model: sofie.Model, tmp_path: Path) -> None:
    feeds, wanted = list(graphs())[1]
    files = model.emit(tmp_path)
    fill = "\n".join(
        f"graph.{k} = {{{', '.join(map(repr, v.ravel().tolist()))}}};" for k, v in feeds.items()
    )
    text = PROGRAM.replace("NODES", "3").replace("FILL", fill)
    (tmp_path / "main.cxx").write_text(text)
    flags = [f"-I{folder}" for folder in files.include]
    command = ["g++", "-std=c++17", "-O1", "-march=native", *flags, "main.cxx", "-o", "main"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, check=True)
    numbers, error = done.stdout.split("|")
    expected = np.concatenate([w.ravel() for w in wanted.values()])
    np.testing.assert_allclose(np.array(numbers.split(), float), expected, atol=3e-6)
    assert re.search("input nodes has the wrong number of elements", error)


def test_without_tensorflow_it_is_said_what_to_install() -> None:
    try:
        import tensorflow  # noqa: F401
    except ImportError:
        with pytest.raises(sofie.MissingDependency, match=r"sofie_rdf\[graph-nets\]"):
            sofie.from_graph_nets(lambda graph: graph, object())
    else:
        with pytest.raises(sofie.InputError, match="GraphsTuple"):
            sofie.from_graph_nets(lambda graph: graph, object())
