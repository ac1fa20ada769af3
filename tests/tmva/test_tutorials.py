"""ROOT's own tutorials of SOFIE run after one added line, and give the right numbers."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.compat.graphs import GraphModel
from sofie_rdf.compat.parsers import RModelParser_ONNX
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.elementwise import Add, Sub, Tanh
from sofie_rdf.ops.indexing import Gather
from sofie_rdf.ops.linear import MatMul
from tests.tmva.tutorials import PROJECT, every, needs, run, tutorial

HIGGS = PROJECT / "data" / "higgs.onnx"
FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]


def linear(path: Path) -> None:
    """A network of Gemm and Relu, whose tensors are named as torch names them: 0.weight, ..."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(7)
    nodes, tensors, value = [], [], "input"
    for number, (inside, outside) in zip(("0", "16"), [(6, 5), (5, 5)], strict=True):
        for part, shape in (("weight", (outside, inside)), ("bias", (outside,))):
            data = random.normal(size=shape).astype(np.float32)
            tensors.append(numpy_helper.from_array(data, f"{number}.{part}"))
        inputs = [value, f"{number}.weight", f"{number}.bias"]
        nodes.append(helper.make_node("Gemm", inputs, [f"g{number}"], transB=1))
        nodes.append(helper.make_node("Relu", [f"g{number}"], [f"r{number}"]))
        value = f"r{number}"
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, (2, 6))],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, (2, 5))],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    onnx.save(model, path)


def higgs_session(folder: Path, name: str = "HiggsModel") -> None:
    """HiggsModel.hxx and .dat, as TMVA_SOFIE_Keras_HiggsModel.py leaves them."""
    shutil.copy(HIGGS, folder / f"{name}.onnx")
    model = RModelParser_ONNX().Parse(folder / f"{name}.onnx")
    model.Generate()
    model.OutputGenerated(str(folder / f"{name}.hxx"))


def scores(model: Any) -> dict[str, np.ndarray]:
    """What a function of (n, 7) gives for each tree of ROOT's HIGGS events."""
    root = pytest.importorskip("ROOT")
    uproot = pytest.importorskip("uproot")
    found = {}
    with uproot.open(
        f"{root.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"
    ) as file:
        for tree in ("sig_tree", "bkg_tree"):
            columns = file[tree].arrays(FEATURES, library="np")
            x = np.stack([columns[f] for f in FEATURES], axis=1).astype(np.float32)
            found[tree] = np.asarray(model(x))[:, 0]
    return found


def onnxruntime(path: Path) -> Any:
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


# One command for ROOT, after a macro: the contents of two histograms in the last canvas.
def contents(*names: str) -> str:
    shown = "".join(
        f'auto {n} = (TH1 *)gROOT->FindObject("{n}"); std::cout << "\\n{n} " << {n}->GetEntries();'
        f'for (int i = 0; i <= 101; ++i) std::cout << " " << {n}->GetBinContent(i);'
        for n in names
    )
    return "{" + shown + 'std::cout << "\\n"; }'


def histogram(output: str, name: str) -> tuple[float, list[float]]:
    found = re.search(rf"^{name} (.*)$", output, re.MULTILINE)
    assert found, output[-2000:]
    entries, *bins = map(float, found[1].split())
    return entries, bins


def agrees(bins: list[float], y: np.ndarray) -> None:
    """100 bins from 0 to 1; a score at the edge of two bins may be in either."""
    expected, _ = np.histogram(y, bins=100, range=(0, 1))
    assert np.abs(np.array(bins[1:101]) - expected).sum() <= 2e-4 * len(y)
    assert len(set(bins)) > 10


# Each tutorial ------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_onnx_macro(tmp_path: Path) -> None:
    linear(tmp_path / "Linear_16.onnx")
    output = tutorial(tmp_path, "TMVA_SOFIE_ONNX.C", call='("Linear_16.onnx")')
    assert 'Tensor "16weight" already exist: true' in output
    assert 'Shape of tensor "16weight": 5,5,' in output
    assert 'Data type of tensor "16weight": float' in output
    assert 'Tensor name: "input"\ttype: float\tshape: [2, 6]' in output
    assert "namespace TMVA_SOFIE_Linear_16 {" in output
    assert {"Linear_16.hxx", "Linear_16.dat"} <= {p.name for p in tmp_path.iterdir()}


@pytest.mark.exhaustive
def test_rdataframe_macro(tmp_path: Path) -> None:
    higgs_session(tmp_path)
    output = tutorial(tmp_path, "TMVA_SOFIE_RDataFrame.C", then=contents("h_sig", "h_bkg"))
    expected = scores(onnxruntime(HIGGS))
    for name, tree in (("h_sig", "sig_tree"), ("h_bkg", "bkg_tree")):
        entries, bins = histogram(output, name)
        assert entries == len(expected[tree])
        agrees(bins, expected[tree])


@pytest.mark.exhaustive
@every
def test_rdataframe_jit_macro(tmp_path: Path) -> None:
    higgs_session(tmp_path)
    output = tutorial(tmp_path, "TMVA_SOFIE_RDataFrame_JIT.C", then=contents("h_sig", "h_bkg"))
    assert "Model is ready to be evaluated" in output
    expected = scores(onnxruntime(HIGGS))
    for name, tree in (("h_sig", "sig_tree"), ("h_bkg", "bkg_tree")):
        agrees(histogram(output, name)[1], expected[tree])


@pytest.mark.exhaustive
@every
def test_onnx_script(tmp_path: Path) -> None:
    needs("torch", "onnxscript")
    output = tutorial(tmp_path, "TMVA_SOFIE_ONNX.py")
    assert "-> output using SOFIE" in output
    # The tutorial itself compares with onnxruntime, coarsely; here they must agree.
    ours = re.search(r"output using SOFIE =\s+\[(.*?)\]", output, re.DOTALL)
    theirs = re.search(r"output using ORT =\s+\[\[(.*?)\]\]", output, re.DOTALL)
    assert ours and theirs
    np.testing.assert_allclose(
        np.array(ours[1].split(), float), np.array(theirs[1].split(), float), atol=2e-7
    )
    assert output.rstrip().endswith("OK")


# From Keras ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HiggsModel.keras, which TMVA_Higgs_Classification.C would have trained."""
    needs("keras", "torch")
    folder = tmp_path_factory.mktemp("keras")
    run(folder, [sys.executable, "-c", KERAS])
    return folder / "HiggsModel.keras"


KERAS = """
import keras
keras.utils.set_random_seed(3)
x = keras.layers.Input((7,))
h = keras.layers.Dense(8, activation="relu", kernel_initializer="glorot_normal")(x)
y = keras.layers.Dense(1, activation="sigmoid")(h)
keras.Model(x, y).save("HiggsModel.keras")
"""
PREDICT = """
import sys, keras, numpy as np
x = np.load("x.npy")
np.save("y.npy", keras.saving.load_model(sys.argv[1]).predict(x, verbose=0, batch_size=5000))
"""


def keras_of(path: Path, folder: Path) -> Any:
    """A function of (n, 7) that asks Keras itself, in a process of its own."""

    def predict(x: np.ndarray) -> np.ndarray:
        np.save(folder / "x.npy", x)
        run(folder, [sys.executable, "-c", PREDICT, str(path)])
        found: np.ndarray = np.load(folder / "y.npy")
        return found

    return predict


SHOWN = """
for h in ({names}):
    print("\\n" + h.GetName(), h.GetEntries(), *(h.GetBinContent(i) for i in range(102)))
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "histograms"),
    [
        pytest.param("TMVA_SOFIE_RDataFrame.py", "h1, h2", marks=every),
        pytest.param("TMVA_SOFIE_Inference.py", "hs, hb", marks=every),
    ],
)
def test_scripts_with_a_keras_file(
    name: str, histograms: str, keras_file: Path, tmp_path: Path
) -> None:
    shutil.copy(keras_file, tmp_path)
    output = tutorial(tmp_path, name, then=SHOWN.format(names=histograms))
    assert "Number of signal entries 10000.0" in output
    expected = scores(keras_of(keras_file, tmp_path))
    names = ("h_sig", "h_bkg") if name.endswith("RDataFrame.py") else ("hs", "hb")
    for histogram_name, tree in zip(names, ("sig_tree", "bkg_tree"), strict=True):
        agrees(histogram(output, histogram_name)[1], expected[tree])


@pytest.mark.exhaustive
def test_reader_macro(keras_file: Path, tmp_path: Path) -> None:
    shutil.copy(keras_file, tmp_path)
    output = tutorial(tmp_path, "TMVA_SOFIE_RSofieReader.C", then=contents("h_sig", "h_bkg"))
    predict = keras_of(keras_file, tmp_path)
    one = predict(np.array([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]], np.float32))
    shown = re.search(r"Event prediction = (\S+)", output)
    assert shown
    assert float(shown[1]) == pytest.approx(float(one.item()), rel=1e-5)
    expected = scores(predict)
    for name, tree in (("h_sig", "sig_tree"), ("h_bkg", "bkg_tree")):
        agrees(histogram(output, name)[1], expected[tree])


PARSE = r"""
#include "sofie/rdf/tmva.hxx"
using namespace TMVA::Experimental;
void keras()
{
   SOFIE::RModel model = SOFIE::PyKeras::Parse("HiggsModel.keras", 3);
   const std::string input = model.GetInputTensorNames()[0];
   std::cout << "shape " << SOFIE::ConvertShapeToString(model.GetTensorShape(input)) << "\n";
   model.Generate();
   model.OutputGenerated();
}
"""


@pytest.mark.exhaustive
def test_keras_file_in_a_macro(keras_file: Path, tmp_path: Path) -> None:
    shutil.copy(keras_file, tmp_path)
    (tmp_path / "keras.C").write_text(PARSE)
    output = run(tmp_path, ["root", "-l", "-b", "-q", "keras.C"]).stdout
    assert "shape { 3 , 7 }" in output
    assert "float32[3, 7]" in (tmp_path / "HiggsModel.hxx").read_text()


@pytest.mark.exhaustive
@every
def test_keras_script(tmp_path: Path) -> None:
    """It trains with TensorFlow's Keras; here with Keras on torch."""
    needs("keras", "torch")
    then = (
        "print('\\nours', *y, '\\ntheirs', *np.asarray(keras.ops.convert_to_numpy(net(x))).ravel())"
    )
    text = "net = __import__('keras').saving.load_model('KerasModel.keras'); import keras\n"
    output = tutorial(tmp_path, "TMVA_SOFIE_Keras.py", keras=True, then=text + then)
    ours, theirs = (
        np.array(re.search(rf"^{who} (.*)$", output, re.MULTILINE)[1].split(), float)  # type: ignore[index]
        for who in ("ours", "theirs")
    )
    assert len(ours) == 4
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.exhaustive
@every
def test_keras_higgs_script(tmp_path: Path) -> None:
    needs("keras", "torch", "sklearn")
    output = tutorial(tmp_path, "TMVA_SOFIE_Keras_HiggsModel.py", keras=True)
    shown = re.search(r"using SOFIE =\s+(\S+)\s+using Keras =\s+\[(\S+)\]", output)
    assert shown
    assert float(shown[1]) == pytest.approx(float(shown[2]), rel=1e-5)
    assert output.rstrip().endswith("OK")


@pytest.mark.exhaustive
@every
def test_models_script(tmp_path: Path) -> None:
    needs("keras", "torch", "sklearn")
    then = """
import keras
for session, file in ((session1, model1), (session2, model2), (session3, model3)):
    y = keras.saving.load_model(file).predict(x_test[:200], verbose=0)[:, 0]
    ours = [session.infer(x)[0] for x in x_test[:200]]
    print("\\nworst", np.abs(np.array(ours) - y).max(), len(set(ours)))
"""
    output = tutorial(tmp_path, "TMVA_SOFIE_Models.py", keras=True, then=then)
    worst = re.findall(r"^worst (\S+) (\d+)", output, re.MULTILINE)
    assert len(worst) == 3
    assert all(float(d) < 1e-6 and int(n) > 100 for d, n in worst)
    assert {"Higgs_Model.hxx", "Higgs_Model.root"} <= {p.name for p in tmp_path.iterdir()}
    areas = [float(a) for a in re.findall(r"ROC integral for .* (\S+)$", output, re.MULTILINE)]
    assert len(areas) == 3
    assert all(0.3 < area < 1 for area in areas)


# From PyTorch -------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_pytorch_macro(tmp_path: Path) -> None:
    needs("torch")
    output = tutorial(tmp_path, "TMVA_SOFIE_PyTorch.C")
    assert 'Tensor "0weight" already exist: true' in output
    assert 'Shape of tensor "0weight": 16,32,' in output
    assert 'Data type of tensor "0weight": float' in output
    assert "shape: [2, 32]" in output
    run(tmp_path, [sys.executable, "-c", TORCH])


TORCH = """
import ROOT, sofie_rdf.tmva, torch, numpy as np
assert ROOT.gInterpreter.Declare('#include "PyTorchModel.hxx"')
x = np.random.default_rng(0).normal(size=(2, 32)).astype(np.float32)
ours = np.asarray(ROOT.TMVA_SOFIE_PyTorchModel.Session("PyTorchModel.dat").infer(x))
with torch.no_grad():
    theirs = torch.jit.load("PyTorchModel.pt")(torch.from_numpy(x)).numpy()
np.testing.assert_allclose(ours, theirs.ravel(), atol=1e-6)
assert np.count_nonzero(ours) > 2
"""


# Graph networks -----------------------------------------------------------------------------------

LATENT, STEPS = 3, 5


def update(name: str, features: tuple[int, int, int], results: int) -> sofie.Model:
    """One step of a graph network with random weights: edges, then nodes, then the whole."""
    random = np.random.default_rng(len(name))
    build = Builder(name)
    n, e = symbol("n_nodes"), symbol("n_edges")
    kinds = (
        ("nodes", (n, features[0])),
        ("edges", (e, features[1])),
        ("globals", (1, features[2])),
    )
    nodes, edges, whole = (build.input(k, TensorType(DType.FLOAT32, shape)) for k, shape in kinds)
    senders, receivers = (
        build.input(k, TensorType(DType.INT32, (e,))) for k in ("senders", "receivers")
    )

    def dense(value: str, size: int) -> str:
        weights = random.normal(size=(size, results)) / np.sqrt(size)
        return build(MatMul(), value, build.constant(weights.astype(np.float32)))

    sent = build(Gather(0), nodes, senders)
    ends = build(Sub(), sent, build(Gather(0), nodes, receivers))
    parts = build(Add(), dense(edges, features[1]), dense(ends, features[0]))
    new_edges = build(Tanh(), parts, outputs=["edges_out"])
    new_nodes = build(
        Tanh(),
        build(Add(), dense(nodes, features[0]), dense(whole, features[2])),
        outputs=["nodes_out"],
    )
    new_whole = build(Tanh(), dense(whole, features[2]), outputs=["globals_out"])
    return sofie.Model(build.graph(new_nodes, new_edges, new_whole))


@pytest.fixture(scope="module")
def networks() -> dict[str, sofie.Model]:
    sizes = {
        "encoder": (4, 4, 1),
        "core": (2 * LATENT,) * 3,
        "decoder": (LATENT,) * 3,
        "output_transform": (LATENT,) * 3,
    }
    return {name: update(name, size, LATENT) for name, size in sizes.items()}


Graphs = list[dict[str, np.ndarray]]


def graphs(count: int) -> Graphs:
    random = np.random.default_rng(1)
    found = []
    for number in range(count):
        nodes, edges = 2 + number, 3 * number + 1
        shapes = {"nodes": (nodes, 4), "edges": (edges, 4), "globals": (1, 1)}
        data = {k: random.normal(size=s).astype(np.float32) for k, s in shapes.items()}
        ends = {k: random.integers(0, nodes, edges) for k in ("senders", "receivers")}
        found.append({**data, **{k: v.astype(np.int32) for k, v in ends.items()}})
    return found


def evaluated(networks: dict[str, sofie.Model], graph: dict[str, np.ndarray]) -> dict[str, Any]:
    """What the tutorial computes for a graph, by our own interface."""

    def step(name: str, given: dict[str, Any]) -> dict[str, Any]:
        results = networks[name](given)
        assert isinstance(results, dict)
        return {**given, **{k.removesuffix("_out"): v for k, v in results.items()}}

    latent = first = step("encoder", graph)
    for _ in range(STEPS):
        both = {k: np.concatenate([first[k], latent[k]], 1) for k in ("nodes", "edges", "globals")}
        latent = step("core", {**latent, **both})
        final = step("output_transform", step("decoder", latent))
    return final


FILL = """
import sys, numpy as np, ROOT
data = np.load("graphs.npz")
file = ROOT.TFile.Open("graph_data.root", "RECREATE")
tree = ROOT.TTree("gdata", "")
names = ("node_data", "edge_data", "global_data", "receivers", "senders")
keys = ("nodes", "edges", "globals", "receivers", "senders")
types = ("float", "float", "float", "int", "int")
vectors = {n: ROOT.std.vector[t]() for n, t in zip(names, types)}
for name, type_ in zip(names, types):
    tree.Branch(name, f"std::vector<{type_}>", vectors[name])
for i in range(int(data["count"])):
    for name, key, type_ in zip(names, keys, types):
        values = ROOT.std.vector[type_](data[f"{key}{i}"].ravel())
        vectors[name].assign(values.begin(), values.end())
    tree.Fill()
tree.Write()
for name in ("h1", "h2", "h3"):
    ROOT.TH1D(name, "", 40, 1, 0).Write()
file.Close()
"""
MEANS = (
    'for (auto name : {"h1", "h2", "h3"}) { auto h = (TH1 *)gROOT->GetList()->FindObject(name);'
    'h->BufferEmpty(); printf("%s: %.9g of %g\\n", name, h->GetMean(), h->GetEntries()); }'
)


@pytest.mark.exhaustive
def test_graph_network_macro(networks: dict[str, sofie.Model], tmp_path: Path) -> None:
    """TMVA_SOFIE_GNN_Application.C, with small networks in place of those of graph_nets."""
    for name, model in networks.items():
        made = GraphModel(model, name)
        made.Generate()
        made.OutputGenerated(str(tmp_path / f"{name}.hxx"))
    events = graphs(6)
    flat = {f"{k}{i}": v for i, graph in enumerate(events) for k, v in graph.items()}
    np.savez(tmp_path / "graphs.npz", count=len(events), **flat)
    run(tmp_path, [sys.executable, "-c", FILL])
    output = tutorial(tmp_path, "TMVA_SOFIE_GNN_Application.C", then=MEANS)
    expected = [evaluated(networks, graph) for graph in events]
    for name, kind in (("h1", "nodes"), ("h2", "edges"), ("h3", "globals")):
        means = [np.mean(result[kind], dtype=np.float64) for result in expected]
        found = re.search(rf"^{name}: (\S+) of (\d+)", output, re.MULTILINE)
        assert found, output[-2000:]
        assert int(found[2]) == len(events)
        assert float(found[1]) == pytest.approx(np.mean(means), abs=1e-6)
        assert np.std(means) > 1e-3


@pytest.mark.exhaustive
@every
def test_graph_network_script(tmp_path: Path) -> None:
    needs("graph_nets", "sonnet", "tensorflow")
    then = """
ends = [(h.GetXaxis().GetXmin(), h.GetXaxis().GetXmax()) for h in (hDe, hDn, hDg)]
print("\\nworst", *(max(-low, high) for low, high in ends))
print("spread", hS.GetStdDev())
print("largest", max(np.abs(a).max() for a in (edgesG, nodesG, globG)))
"""
    output = tutorial(tmp_path, "TMVA_SOFIE_GNN.py", then=then)
    worst = re.search(r"^worst (.*)$", output, re.MULTILINE)
    spread = re.search(r"^spread (.*)$", output, re.MULTILINE)
    largest = re.search(r"^largest (.*)$", output, re.MULTILINE)
    assert worst and spread and largest
    # Weights are random at each run: what counts is rounding beside the numbers themselves.
    assert max(map(float, worst[1].split())) < 3e-6 * float(largest[1])
    assert float(spread[1]) > 1e-5


@pytest.mark.exhaustive
@every
def test_graph_network_parser(tmp_path: Path) -> None:
    """The networks of graph_nets in C++, and the same events by both."""
    needs("graph_nets", "sonnet", "tensorflow", "psutil")
    tutorial(tmp_path, "TMVA_SOFIE_GNN_Parser.py")
    output = tutorial(tmp_path, "TMVA_SOFIE_GNN_Application.C", then=MEANS)
    theirs = run(tmp_path, [sys.executable, "-c", THEIRS]).stdout
    ours = re.findall(r"^h\d: (\S+) of 100", output, re.MULTILINE)
    assert len(ours) == 3
    np.testing.assert_allclose(np.array(ours, float), np.array(theirs.split(), float), atol=1e-5)


THEIRS = """
import ROOT
file = ROOT.TFile("graph_data.root")
print(*(file.Get(h).GetMean() for h in ("h1", "h2", "h3")))
"""
