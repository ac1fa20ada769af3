"""Bombs in files that are no ONNX: sizes that lie, numbers that are none, levels without end."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import pytest

from tests.frontends.lwtnn import documents as lwtnn_files
from tests.frontends.test_qonnx import proto
from tests.frontends.tmva_files import documents
from tests.frontends.tmva_files.test_trees import document
from tests.fuzz_files import samples
from tests.hostile.child import opened

HUGE = 2**40
# One list in another, more often than any reader follows.
DEEP = 100_000


def tmva(element: str, given: dict[str, str], **kind: Any) -> bytes:
    """A weight file whose elements of a name have other attributes."""
    root = document(**kind)
    for found in root.iter(element):
        found.attrib.update(given)
    return Xml.tostring(root)


def perceptron(element: str, given: dict[str, str], text: str | None = None) -> bytes:
    """A weight file of an MLP behind a Gauss transformation and a PCA, with other attributes."""
    numbers = np.random.default_rng(1)
    root = documents.mlp(
        transforms=[documents.transformation(k, numbers) for k in ("Gauss", "PCA")]
    )
    for found in root.iter(element):
        found.attrib.update(given)
        found.text = found.text if text is None else text
    return Xml.tostring(root)


def lwtnn(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A graph of lwtnn that is another one."""
    held = json.loads(json.dumps(lwtnn_files.graph()))
    change(held)
    return json.dumps(held).encode()


def long_chain() -> bytes:
    """Nodes that depend on each other, more of them than Python's stack has room for."""
    layer = lwtnn_files.Made().dense(3, 3, "softmax")
    first: dict[str, Any] = {"type": "input", "sources": [0], "size": 3}
    rest = [{"type": "feed_forward", "sources": [n], "layer_index": 0} for n in range(1500)]
    held = {
        "inputs": [{"name": "x", "variables": lwtnn_files.Made().variables("a", "b", "c")}],
        "input_sequences": [],
        "nodes": [first, *rest],
        "layers": [layer],
        "outputs": {"y": {"labels": ["a", "b", "c"], "node_index": len(rest)}},
    }
    return json.dumps(held).encode()


def entities() -> bytes:
    """A billion letters, were entities expanded."""
    inner = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(9))
    start = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a0 "a">{inner}]>'
    return f'{start}<MethodSetup Method="BDT::BDT">&a9;</MethodSetup>'.encode()


def nested(levels: int) -> bytes:
    node = '<Node pos="s" nType="0">'
    text = Xml.tostring(document()).decode().partition("<Node")[0]
    return (text + node * levels).encode()


def xgboost(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A model whose first tree is another one."""
    tree = json.loads(json.dumps(samples.xgboost_trees()[0]))
    change(tree["learner"]["gradient_booster"]["model"]["trees"][0])
    return json.dumps(tree).encode()


def ubjson(inner: bytes) -> bytes:
    """A list behind the key by which XGBoost's files are known."""
    return b"{L" + struct.pack(">q", 7) + b"learner" + inner


def keras(config: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", b"")
    return file.getvalue()


def quant(**weights: float) -> bytes:
    given = {"scale": 1.0, "zero": 0.0, "bits": 8.0} | weights
    made = proto("Quant", given, signed=1, narrow=0, rounding_mode="ROUND")
    return made.SerializeToString()  # type: ignore[no-any-return]


def trunc() -> bytes:
    scales = {"a": 1e-38, "zero": 0.0, "from": 8.0, "b": 1e38, "to_zero": 0.0, "to": 4.0}
    made = proto("Trunc", scales, signed=1, narrow=0, rounding_mode="FLOOR")
    return made.SerializeToString()  # type: ignore[no-any-return]


def counts(tree: dict[str, Any]) -> None:
    tree["tree_param"]["num_nodes"] = str(HUGE)


LIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "TMVA: trees": ("xml", lambda: tmva("Weights", {"NTrees": str(HUGE)})),
    "TMVA: variables": ("xml", lambda: tmva("Variables", {"NVar": str(HUGE)})),
    "TMVA: a variable": ("xml", lambda: tmva("Node", {"IVar": str(HUGE)})),
    "TMVA: classes": (
        "xml",
        lambda: tmva("Classes", {"NClass": str(HUGE)}, analysis="Multiclass", boost="Grad"),
    ),
    "TMVA: weights": ("xml", lambda: tmva("BinaryTree", {"boostWeight": "1e308"})),
    "TMVA: responses": ("xml", lambda: tmva("Node", {"res": "1e300"}, boost="Grad")),
    "TMVA: a first weight": (
        "xml",
        lambda: tmva("BinaryTree", {"boostWeight": "1e300"}, boost="Grad", analysis="Regression"),
    ),
    "TMVA: ranges": ("xml", lambda: tmva("Range", {"Min": "-1e300"}, normalized=True)),
    "TMVA: wide ranges": (
        "xml",
        lambda: tmva("Range", {"Min": "-3e38", "Max": "3e38"}, normalized=True),
    ),
    "TMVA: levels": ("xml", lambda: nested(DEEP)),
    "TMVA: neurons": ("xml", lambda: perceptron("Layer", {"NNeurons": str(2**20)})),
    "TMVA: layers": ("xml", lambda: perceptron("Layout", {"NLayers": str(HUGE)})),
    "TMVA: synapses": ("xml", lambda: perceptron("Neuron", {"NSynapses": str(2**20)})),
    "TMVA: a weight": ("xml", lambda: perceptron("Neuron", {}, "1e39 " * 6)),
    "TMVA: many weights": ("xml", lambda: perceptron("Neuron", {}, "1 " * 1_000_000)),
    "TMVA: bins": ("xml", lambda: perceptron("Histogram", {"NBins": str(2**24)})),
    "TMVA: narrow bins": (
        "xml",
        lambda: perceptron("Histogram", {"HasEquidistantBins": "1", "XMin": "1", "XMax": "1"}),
    ),
    "TMVA: wide bins": (
        "xml",
        lambda: perceptron(
            "Histogram", {"HasEquidistantBins": "1", "XMin": "-1e308", "XMax": "1e308"}
        ),
    ),
    "TMVA: contents": ("xml", lambda: perceptron("Histogram", {}, "1e300 " * 50)),
    "TMVA: means": ("xml", lambda: perceptron("Statistics", {"NRows": str(HUGE)})),
    "lwtnn: sizes": ("json", lambda: lwtnn(lambda h: h["nodes"][2].update(size=HUGE))),
    "lwtnn: nodes": ("json", lambda: lwtnn(lambda h: h["nodes"][0].update(sources=[HUGE]))),
    "lwtnn: a circle": ("json", lambda: lwtnn(lambda h: h["nodes"][6].update(sources=[0, 0]))),
    "lwtnn: weights": (
        "json",
        lambda: lwtnn(lambda h: h["layers"][0].update(weights=[1e300] * 12)),
    ),
    "lwtnn: no weights": ("json", lambda: lwtnn(lambda h: h["layers"][3].update(weights=[]))),
    "lwtnn: scales": (
        "json",
        lambda: lwtnn(lambda h: h["inputs"][0]["variables"][0].update(scale=10**400)),
    ),
    "lwtnn: levels": ("json", lambda: b'{"inputs": [], "layers": ' + b"[" * DEEP),
    "lwtnn: digits": ("json", lambda: b'{"inputs": [], "layers": ' + b"9" * DEEP + b"}"),
    "XGBoost: nodes": ("json", lambda: xgboost(counts)),
    "XGBoost: children": ("json", lambda: xgboost(lambda t: t["left_children"].append(HUGE))),
    "XGBoost: a child": (
        "json",
        lambda: xgboost(lambda t: t.update(left_children=[HUGE] * len(t["left_children"]))),
    ),
    "XGBoost: leaves": (
        "json",
        lambda: xgboost(lambda t: t.update(split_conditions=[1e300] * len(t["left_children"]))),
    ),
    "UBJSON: numbers": ("ubj", lambda: ubjson(b"[$D#L" + struct.pack(">q", HUGE))),
    "UBJSON: numbers, negative": ("ubj", lambda: ubjson(b"[$D#L" + struct.pack(">q", -1))),
    "UBJSON: values": ("ubj", lambda: ubjson(b"[#L" + struct.pack(">q", HUGE))),
    "UBJSON: nothing": ("ubj", lambda: ubjson(b"[$Z#L" + struct.pack(">q", HUGE))),
    "UBJSON: a text": ("ubj", lambda: ubjson(b"SL" + struct.pack(">q", HUGE))),
    "UBJSON: levels": ("ubj", lambda: ubjson(b"[" * DEEP)),
    "Keras: levels": ("keras", lambda: keras("[" * DEEP + "]" * DEEP)),
    "Keras: levels of mappings": ("keras", lambda: keras('{"a":' * DEEP + "1" + "}" * DEEP)),
    "Keras: digits": (
        "keras",
        lambda: keras('{"class_name": "Sequential", "config": ' + "9" * DEEP + "}"),
    ),
    "QONNX: bits": ("onnx", lambda: quant(bits=1e9)),
    "QONNX: no bits": ("onnx", lambda: quant(bits=float("nan"))),
    "QONNX: scales": ("onnx", trunc),
}
# What is not read, with what is said instead.
OTHERS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "entities": ("xml", entities),
    "a packed model": ("json.gz", lambda: gzip.compress(b"{" + b" " * 10_000_000)),
}


def result(tmp_path: Path, ending: str, content: bytes) -> str:
    path = tmp_path / f"bomb.{ending}"
    path.write_bytes(content)
    return opened(path)


@pytest.mark.parametrize("name", LIES)
def test_lies_are_refused(name: str, tmp_path: Path) -> None:
    ending, made = LIES[name]
    found = result(tmp_path, ending, made())
    kinds = "CorruptFile", "GraphError", "UnsupportedFormat", "UnsupportedOperator"
    assert found.partition(" ")[0] in kinds, found
    assert len(found) < 1000


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_read(name: str, tmp_path: Path) -> None:
    ending, made = OTHERS[name]
    assert result(tmp_path, ending, made()).startswith("UnsupportedFormat")


def test_a_long_chain_of_nodes(tmp_path: Path) -> None:
    """It is read, or too long for its budget."""
    found = result(tmp_path, "json", long_chain())
    assert found.startswith(("emitted", "LimitExceeded")), found


_DERIVED = """
import sys
import numpy as np
import sofie_rdf
from sofie_rdf.errors import SofieError
model = sofie_rdf.load(sys.argv[1], limits="nodes=3000")
try:
    for i in range(9):
        last = list(model.outputs)[-1]
        model = model.gradient(last, "x", vjp=f"factor{i}")
        model.emission
except SofieError as error:
    print(type(error).__name__, error)
else:
    print("emitted")
"""


def test_derivatives_of_derivatives_are_counted(tmp_path: Path) -> None:
    from tests.hostile.test_bombs import model, node, value

    path = tmp_path / "chain.onnx"
    nodes = [node("Tanh", ["x" if i == 0 else f"v{i}"], [f"v{i + 1}"]) for i in range(20)]
    nodes += [node("ReduceSum", ["v20", "axes"], ["y"], keepdims=1)]
    inputs, axes = [value("x", ["N", 2])], {"axes": np.array([1])}
    path.write_bytes(model(nodes, inputs=inputs, constants=axes).SerializeToString())
    found = opened(path, code=_DERIVED, seconds=300)
    assert found.startswith("LimitExceeded"), found
