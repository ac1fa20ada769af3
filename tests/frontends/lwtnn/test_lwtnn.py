"""lwtnn's networks, beside its formulas in NumPy."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.frontends import recognise
from sofie_rdf.frontends.lwtnn.reader import read
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import Array
from sofie_rdf.passes import pipeline
from sofie_rdf.reference import evaluate
from tests.frontends.lwtnn import formulas
from tests.frontends.lwtnn.documents import Held, Made, graph, layered

MADE = Made()
FUNCTIONS: tuple[Any, ...] = (
    "linear",
    "sigmoid",
    "rectified",
    "softmax",
    "tanh",
    "hard_sigmoid",
    "elu",
    "abs",
    {"function": "elu", "alpha": 0.7},
    {"function": "leakyrelu", "alpha": 0.3},
    {"function": "swish", "alpha": 1.7},
)
NAMES = [f if isinstance(f, str) else f"{f['function']} with alpha" for f in FUNCTIONS]
FORWARD = {
    **{n: [MADE.dense(4, 3, f)] for n, f in zip(NAMES, FUNCTIONS, strict=True)},
    "normalization": [MADE.normalization(4)],
    "maxout": [MADE.maxout(4, 3)],
    "one maxout": [MADE.maxout(4, 3, 1)],
    "highway": [MADE.highway(4)],
    "highway of softmax": [MADE.highway(4, "softmax")],
    "no weights": [{**MADE.dense(4, 4, "tanh"), "weights": []}],
    "no bias": [{**MADE.dense(4, 5, "tanh"), "bias": []}],
    "activation alone": [{**MADE.dense(4, 4, "abs"), "weights": [], "bias": []}],
    "many": [
        MADE.normalization(4),
        MADE.dense(4, 8, "rectified"),
        MADE.maxout(8, 6),
        MADE.highway(6),
        MADE.dense(6, 3, "softmax"),
    ],
}
GATES = [f for f in FUNCTIONS if f not in ("softmax", "abs") and "swish" not in str(f)]
# Functions without bounds in all gates at once make numbers that no float has.
PAIRS = [*((f, "sigmoid") for f in GATES), ("tanh", "hard_sigmoid"), ("elu", "tanh")]
SEQUENCES = {
    **{
        f"{k} {n}": [MADE.recurrent(k, 4, 5, *pair)]
        for k in ("lstm", "gru")
        for n, pair in enumerate(PAIRS)
    },
    **{f"simplernn {n}": [MADE.recurrent("simplernn", 4, 5, f)] for n, f in enumerate(GATES)},
    "embedding": [MADE.embedding(3, 6, 2), MADE.recurrent("lstm", 5, 3)],
    "embeddings alone": [MADE.embedding(3, 6, 1)],
    "many": [
        MADE.recurrent("lstm", 4, 6),
        MADE.recurrent("gru", 6, 4),
        MADE.dense(4, 3, "rectified"),
        MADE.dense(3, 2, "softmax"),
    ],
}


def dumped(held: Held) -> bytes:
    return json.dumps(held, indent=2, sort_keys=True).encode()


def computed(network: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    """What the reference gives, also after all passes."""
    found, again = evaluate(network, feeds), evaluate(pipeline.run(network), feeds)
    for name, value in found.items():
        np.testing.assert_allclose(value, again[name], rtol=1e-5, atol=1e-6)
    return found


@pytest.mark.parametrize("kind", FORWARD)
def test_layers(kind: str) -> None:
    x = np.random.default_rng(3).normal(scale=2, size=(50, 4)).astype(np.float32)
    x[:4, 0] = math.nan  # For which there is a default.
    held = layered(FORWARD[kind], 4, 1)
    wanted = np.array([formulas.layered(held, row) for row in x])
    held["outputs"] = [f"out_{i}" for i in range(wanted.shape[1])]
    (found,) = computed(read(dumped(held)), {"features": x}).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", SEQUENCES)
def test_layers_of_sequences(kind: str) -> None:
    x = np.random.default_rng(3).normal(size=(6, 7, 4)).astype(np.float32)
    held = layered(SEQUENCES[kind], 4, 1)
    if "embedding" in kind:
        held["inputs"][3].update(offset=2, scale=1)
        x[..., 3] = np.random.default_rng(4).integers(-2, 4, (6, 7))
    wanted = np.array([formulas.layered(held, event.T) for event in x])
    held["outputs"] = [f"out_{i}" for i in range(wanted.shape[1])]
    (found,) = computed(read(dumped(held)), {"features": x}).values()
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


def test_a_graph() -> None:
    held, random = graph(), np.random.default_rng(5)
    event = random.normal(size=(4, 2)).astype(np.float32)
    jets = random.normal(size=(4, 6, 3)).astype(np.float32)
    found = computed(read(dumped(held)), {"event": event, "jets": jets})
    for n in range(4):
        for name, wanted in formulas.graph(held, [event[n]], [jets[n].T]).items():
            value = found[name][n]
            np.testing.assert_allclose(value, wanted.T, rtol=2e-5, atol=2e-5)


def test_a_graph_whose_inputs_have_one_name() -> None:
    """The converters call the first input and the first sequence node_0."""
    held = graph()
    plain = computed(read(dumped(held)), feeds := {
        "event": np.ones((2, 2), np.float32), "jets": np.ones((2, 3, 3), np.float32)
    })  # fmt: skip
    held["inputs"][0]["name"] = held["input_sequences"][0]["name"] = "node_0"
    held["outputs"]["node_0"] = held["outputs"].pop("tag")
    network = read(dumped(held))
    assert network.inputs == ("node_0", "node_0_sequence")
    found = computed(network, {"node_0": feeds["event"], "node_0_sequence": feeds["jets"]})
    np.testing.assert_array_equal(found["node_0_output"], plain["tag"])


def test_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "tagger.json"
    path.write_bytes(dumped(graph()))
    assert recognise(path) == "lwtnn"
    assert sofie.check(path) == []
    model = sofie.load(path)
    assert model.name == "tagger"
    assert model.features == {"event": ("met", "njets"), "jets": ("pt", "eta", "d0")}
    assert model.labels["tag"] == ("b", "c", "light")
    event, jets = np.ones((2, 2), np.float32), np.ones((2, 3, 3), np.float32)
    found = model({"event": event, "jets": jets})
    assert isinstance(found, dict)
    wanted = formulas.graph(graph(), [event[0]], [jets[0].T])
    for name, value in found.items():
        np.testing.assert_allclose(value[0], wanted[name].T, rtol=2e-5, atol=2e-5)


def test_small_heads_are_recognised(tmp_path: Path) -> None:
    for number, held in enumerate((layered([MADE.dense(4, 3)], 4, 3), graph())):
        for text in (json.dumps(held), json.dumps(held, sort_keys=True, indent=4)):
            path = tmp_path / f"{number}.json"
            path.write_text(text)
            assert recognise(path) == "lwtnn"


def test_numbers_of_an_embedding_that_are_none(tmp_path: Path) -> None:
    """lwtnn refuses the event, too."""
    held = layered(SEQUENCES["embedding"], 4, 3)
    held["inputs"][3].update(offset=0, scale=1)
    path = tmp_path / "tagger.json"
    path.write_bytes(dumped(held))
    model, x = sofie.load(path), np.zeros((1, 2, 4), np.float32)
    assert np.isfinite(np.asarray(model(x))).all()
    for wrong in (0.5, -1, 6, math.nan, math.inf, 1e30):
        x[0, 1, 3] = wrong
        with pytest.raises(sofie.SofieError, match="index"):
            model(x)


def test_columns_of_sets(tmp_path: Path) -> None:
    """In an event loop a sequence has as many steps as the event has objects."""
    root = pytest.importorskip("ROOT")
    path = tmp_path / "tagger.json"
    held = graph()
    held["outputs"] = {"tag": held["outputs"]["tag"]}
    path.write_bytes(dumped(held))
    df = root.RDataFrame(5).Define("met", "float(rdfentry_)").Define("njets", "2.f")
    for name in ("pt", "eta", "d0"):
        df = df.Define(name, f"ROOT::RVecF(rdfentry_ + 1, {len(name)} + 0.1f * rdfentry_)")
    df = sofie.define(df, "tag", sofie.load(path))
    found = df.AsNumpy(["tag"])["tag"]
    for n in range(5):
        jets = np.array([[len(k) + 0.1 * n] * (n + 1) for k in ("pt", "eta", "d0")])
        wanted = formulas.graph(held, [np.array([n, 2.0])], [jets])["tag"]
        np.testing.assert_allclose(np.asarray(found[n]), wanted, rtol=2e-5, atol=2e-5)


# What is refused ----------------------------------------------------------------------------------


def changed(change: Callable[[Held], object], of: Held | None = None) -> bytes:
    held = copy.deepcopy(of or layered([MADE.dense(4, 3, "tanh")], 4, 3))
    change(held)
    return json.dumps(held).encode()


def of_graph(change: Callable[[Held], object]) -> bytes:
    return changed(change, graph())


def of_layer(change: Callable[[Held], object], layer: Held | None = None) -> bytes:
    held = layered([layer or MADE.dense(4, 3, "tanh")], 4, 3)
    return changed(lambda h: change(h["layers"][0]), held)


LSTM = MADE.recurrent("lstm", 4, 3)
UNSUPPORTED = {
    "variables of lwtnn, but no layers": changed(lambda h: h.pop("layers")),
    "'dens'": of_layer(lambda v: v.update(architecture="dens")),
    "'bidirectional'": of_layer(lambda v: v.update(architecture="bidirectional")),
    "activation 'gelu'": of_layer(lambda v: v.update(activation="gelu")),
    "'go_backwards', which is not known": of_layer(lambda v: v.update(go_backwards=True), LSTM),
    "'softmax'": of_layer(lambda v: v.update(inner_activation="softmax"), LSTM),
    "'extra', which is not known": changed(lambda h: h.update(extra=1)),
    "'mean', which is not known": changed(lambda h: h["inputs"][0].update(mean=1)),
    "behind one that is none": changed(lambda h: h["layers"].append(LSTM)),
    "not the last one": of_layer(
        lambda v: v["sublayers"][0].update(index=1), MADE.embedding(3, 2, 1)
    ),
    "node 'conv'": of_graph(lambda h: h["nodes"][0].update(type="conv")),
}
CORRUPT = {
    "stands twice": b'{"inputs": [], "inputs": [], "layers": []}',
    "no JSON": dumped(graph())[:-50],
    "NaN is no number": changed(lambda h: h["inputs"][0].update(scale=math.nan)),
    "float32 has not": changed(lambda h: h["inputs"][0].update(scale=1e300)),
    "'offset' that float32": changed(lambda h: h["inputs"][0].update(offset=10**400)),
    "'weights' that float32": of_layer(lambda v: v["weights"].__setitem__(0, 1e39)),
    "no numbers in 'weights'": of_layer(lambda v: v["weights"].__setitem__(0, "1")),
    "no numbers in 'bias'": of_layer(lambda v: v["bias"].__setitem__(0, True)),
    "11 numbers in 'weights' for 4": of_layer(lambda v: v["weights"].pop()),
    "4 numbers in 'bias', not 3": of_layer(lambda v: v["bias"].append(1)),
    "2 labels for 3 outputs": changed(lambda h: h["outputs"].pop()),
    "list of different texts": changed(lambda h: h["outputs"].__setitem__(0, "out_1")),
    "different variables": changed(lambda h: h["inputs"][0].update(name="v1")),
    "no text in 'name'": changed(lambda h: h["inputs"][0].update(name="")),
    "lacks 'activation'": of_layer(lambda v: v.pop("activation")),
    "without its alpha": of_layer(lambda v: v.update(activation="swish")),
    "of different sizes": of_layer(
        lambda v: v["components"].update(i=MADE.recurrent("gru", 4, 2)["components"]["z"]), LSTM
    ),
    "lacks 'U'": of_layer(lambda v: v["components"]["i"].pop("U"), LSTM),
    "no sublayers": of_layer(lambda v: v.update(sublayers=[]), MADE.maxout(4, 3)),
    "sublayers of different sizes": of_layer(
        lambda v: v["sublayers"].append(MADE.matrix(4, 2)), MADE.maxout(4, 3)
    ),
    "changes the number of features": of_layer(
        lambda v: v["components"].update(t=MADE.matrix(4, 3)), MADE.highway(4)
    ),
    "columns of 0 numbers": of_layer(
        lambda v: v["sublayers"][0].update(n_out=0), MADE.embedding(3, 2, 1)
    ),
    "depends on itself": of_graph(lambda h: h["nodes"][6].update(sources=[9])),
    "whole number below 12": of_graph(lambda h: h["nodes"][6].update(sources=[12])),
    "in 'sources' but [-1]": of_graph(lambda h: h["nodes"][6].update(sources=[-1])),
    "has 2 sources": of_graph(lambda h: h["nodes"][8].update(sources=[3, 3])),
    "has 0 sources": of_graph(lambda h: h["nodes"][7].update(sources=[])),
    "below 6 in 'layer_index'": of_graph(lambda h: h["nodes"][0].update(layer_index=6)),
    "below 12 in 'node_index'": of_graph(lambda h: h["outputs"]["tag"].update(node_index=2**70)),
    "nothing for the steps": of_graph(lambda h: h["nodes"][8].update(sources=[5])),
    "nothing for the event": of_graph(lambda h: h["nodes"][7].update(sources=[3])),
    "no forward layer but gru": of_graph(lambda h: h["nodes"][0].update(layer_index=1)),
    "no layer of sequences but dense": of_graph(lambda h: h["nodes"][4].update(layer_index=0)),
    "adds different numbers": of_graph(lambda h: h["nodes"][6].update(sources=[4, 2])),
    "another size than its variables": of_graph(lambda h: h["nodes"][2].update(size=3)),
    "has no outputs": of_graph(lambda h: h.update(outputs={})),
    "an output without a name": of_graph(lambda h: h.update(outputs={"": h["outputs"]["tag"]})),
    "two inputs of one name": of_graph(lambda h: h["inputs"].append(h["inputs"][0])),
}


@pytest.mark.parametrize("words", UNSUPPORTED)
def test_what_is_not_read_is_named(words: str) -> None:
    with pytest.raises(sofie.UnsupportedFormat) as error:
        read(UNSUPPORTED[words])
    assert words in str(error.value)
    assert error.value.place
    assert error.value.remedy


@pytest.mark.parametrize("words", CORRUPT)
def test_damaged_files(words: str) -> None:
    with pytest.raises(sofie.CorruptFile) as error:
        read(CORRUPT[words])
    assert words in str(error.value)
    assert error.value.place
    assert len(str(error.value)) < 500


def test_the_budget_pays_for_numbers() -> None:
    content = b'{"inputs": [' + b"1," * 100_000 + b"1]}"
    with sofie.limits.budget("bytes=1M", size=0), pytest.raises(sofie.LimitExceeded):
        read(content)
