"""The tutorials and the demo, run as a reader runs them; their numbers against onnxruntime."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.cli import main
from sofie_rdf.frontends.keras import reader as keras_frontend
from sofie_rdf.reference import evaluate
from tests.conformance import real
from tests.devices.harness import ALPAKA, WAYS, require

pytestmark = pytest.mark.usefixtures("unoptimized")

REPOSITORY = Path(__file__).resolve().parents[1]
TUTORIALS = REPOSITORY / "tutorials"
HIGGS = REPOSITORY / "data" / "higgs.onnx"
FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]
BINARIES = Path(sys.executable).parent


@pytest.fixture(scope="module")
def scores() -> dict[str, np.ndarray]:
    """What onnxruntime gives for the events of each tree."""
    root = pytest.importorskip("ROOT")
    uproot = pytest.importorskip("uproot")
    session = pytest.importorskip("onnxruntime").InferenceSession(HIGGS)
    found = {}
    with uproot.open(
        f"{root.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"
    ) as file:
        for tree in ("sig_tree", "bkg_tree"):
            columns = file[tree].arrays(FEATURES, library="np")
            x = np.stack([columns[f] for f in FEATURES], axis=1).astype(np.float32)
            found[tree] = session.run(None, {"features": x})[0][:, 0]
    return found


def run(command: list[str], folder: Path, **more: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | more
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def means(output: str) -> dict[str, float]:
    return {t: float(x) for t, x in re.findall(r"(\w+_tree): mean score (\S+?),?\s", output)}


def expected_means(scores: dict[str, np.ndarray]) -> object:
    values = {tree: float(np.mean(y, dtype=np.float64)) for tree, y in scores.items()}
    return pytest.approx(values, abs=2e-6)


@pytest.mark.parametrize("path", sorted(TUTORIALS.glob("[0-9]*[!b]")), ids=lambda p: p.name)
def test_tutorials_are_short_and_begin_with_prose(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) < 60
    assert lines[0].startswith(('"""', "///", "# "))
    assert len(lines[0].split()) > 3


@pytest.mark.exhaustive
def test_01_onnx_in_python(scores: dict[str, np.ndarray], tmp_path: Path) -> None:
    output = run([sys.executable, str(TUTORIALS / "01_onnx.py")], tmp_path)
    assert means(output) == expected_means(scores)
    for y in scores.values():
        assert f", {np.count_nonzero(y > 0.5)} events above 0.5" in output
    assert "the same after loading: True" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exhaustive
def test_04_keras(tmp_path: Path) -> None:
    root, uproot = pytest.importorskip("ROOT"), pytest.importorskip("uproot")
    output = run([sys.executable, str(TUTORIALS / "04_keras.py")], tmp_path)
    assert "the same from .h5: True" in output
    graph = keras_frontend.read(REPOSITORY / "data" / "higgs.keras")
    folder = f"{root.gROOT.GetTutorialDir()}/machine_learning/data"
    expected = {}
    with uproot.open(f"{folder}/Higgs_data.root") as file:
        for tree in ("sig_tree", "bkg_tree"):
            columns = file[tree].arrays(FEATURES, library="np")
            x = np.stack([columns[f] for f in FEATURES], axis=1).astype(np.float32)
            expected[tree] = float(np.mean(evaluate(graph, {"features": x})["score"], dtype="f8"))
    assert means(output) == pytest.approx(expected, abs=2e-6)
    assert "3 events of 9 steps: [" in output
    assert list(tmp_path.iterdir()) == []


# An operator of one's own -------------------------------------------------------------------------


def z_score(p4: np.ndarray) -> np.ndarray:
    """The score of two leptons [..., 2, 4], in float64."""
    x, y, z, e = np.moveaxis(p4.astype(np.float64).sum(axis=-2), -1, 0)
    return np.exp(-np.abs(np.sqrt(e**2 - x**2 - y**2 - z**2) - 91.19) / 2.5)


@pytest.mark.exhaustive
def test_02_own_operator(tmp_path: Path) -> None:
    pytest.importorskip("ROOT")
    output = run([sys.executable, str(TUTORIALS / "02_own_operator.py")], tmp_path)
    assert "tutorial.InvariantMass()(leptons)" in output
    one = np.array([[44, 2, 10, 45.166], [-45, 1, -9, 45.902]], np.float32)
    shown = re.search(r"score of one event: \[(\S+)\]", output)
    assert shown
    assert float(shown[1]) == pytest.approx(z_score(one), rel=1e-5)
    px, n = 42 + 0.005 * np.arange(1000), np.ones(1000)
    momenta = np.array([[px, 1.5 * n, 10 * n], [-45 * n, 1.5 * n, -9 * n]])
    energies = np.sqrt((momenta**2).sum(axis=1, keepdims=True))
    leptons = np.concatenate([momenta, energies], axis=1).transpose(2, 0, 1)
    mean = re.search(r"mean score (\S+)", output)
    assert mean
    assert float(mean[1]) == pytest.approx(z_score(leptons).mean(), abs=2e-6)
    assert list(tmp_path.iterdir()) == []


# Jets ---------------------------------------------------------------------------------------------


def jet(number: int, scale: float, speed: float) -> np.ndarray:
    """What 03_particlenet.py makes up."""
    i = np.arange(1, 6 + number * 7 % 60, dtype=np.float32)
    return np.float32(scale) * np.sin(np.float32(speed) * i + np.float32(number))


def mean_scores(model: Path) -> np.ndarray:
    """What onnxruntime gives for the 300 jets of the tutorial."""
    session = pytest.importorskip("onnxruntime").InferenceSession(model)
    kinds = session.get_inputs()[1].shape[1]
    found = []
    for number in range(300):
        columns = [jet(number, *n) for n in ((2, 0.1), (0.4, 1), (0.4, 2))]
        padding = max(24 - len(columns[0]), 0)
        columns = [np.pad(c, (0, padding)) for c in columns]
        mask = np.pad(np.ones(len(columns[0]) - padding, np.float32), (0, padding))
        feeds = {
            "pf_points": np.stack(columns[1:])[None],
            "pf_features": np.stack([columns[k % 3] for k in range(kinds)])[None],
            "pf_mask": mask[None, None],
        }
        found.append(session.run(None, feeds)[0][0])
    return np.mean(found, axis=0, dtype=np.float64)


def particle_networks() -> list[Path]:
    cms = [f for f in real.files() if f.name.startswith("Run3Scouting_ParticleNetAK4_")]
    return [REPOSITORY / "data" / "particlenet.onnx", *cms]


@pytest.mark.exhaustive
@pytest.mark.parametrize("network", particle_networks(), ids=lambda p: p.stem)
def test_03_particlenet(network: Path, tmp_path: Path) -> None:
    pytest.importorskip("ROOT")
    models = "/nowhere" if network.parent.name == "data" else str(network.parent)
    command = [sys.executable, str(TUTORIALS / "03_particlenet.py")]
    output = run(command, tmp_path, SOFIE_RDF_MODELS=models)
    assert f"({network.name}, " in output
    assert "jets of 5 to 64 particles" in output
    shown = re.search(r"mean scores: (.*)", output)
    assert shown
    means = np.array(shown[1].split(), float)
    np.testing.assert_allclose(means, mean_scores(network), rtol=0, atol=1e-5)
    assert list(tmp_path.iterdir()) == []


# PyTorch ------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_05_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("ROOT")
    pytest.importorskip("torch")
    output = run([sys.executable, "-W", "ignore", str(TUTORIALS / "05_pytorch.py")], tmp_path)
    wanted, found = (
        np.array(re.search(rf"{who}: (.*)", output)[1].split(), float)  # type: ignore[index]
        for who in ("PyTorch", "RDataFrame")
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6)
    assert abs(wanted[2]) > 1e-3
    assert list(tmp_path.iterdir()) == []


def test_the_stand_in_is_what_its_script_makes() -> None:
    onnx = pytest.importorskip("onnx")
    script = runpy.run_path(str(REPOSITORY / "data" / "make_particlenet.py"))
    assert script["network"]() == onnx.load(REPOSITORY / "data" / "particlenet.onnx")


# Trees --------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_06_trees(tmp_path: Path) -> None:
    root = pytest.importorskip("ROOT")
    uproot = pytest.importorskip("uproot")
    xgboost = pytest.importorskip("xgboost", reason="XGBoost is an oracle here")
    lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is an oracle here")
    output = run([sys.executable, str(TUTORIALS / "06_trees.py")], tmp_path)
    assert f"features      {', '.join(FEATURES)}" in output
    booster = xgboost.Booster(model_file=str(REPOSITORY / "data" / "higgs_xgboost.ubj"))
    forest = lightgbm.Booster(model_file=REPOSITORY / "data" / "higgs_lightgbm.txt")
    x = np.ones((3, 7), np.float32)
    x[1, 4], x[2, 4] = np.nan, 2.0
    shown = re.search(r"three events: \[(.*)\]", output)
    assert shown
    wanted = booster.predict(xgboost.DMatrix(x, feature_names=FEATURES))
    np.testing.assert_allclose(np.array(shown[1].split(), float), wanted, atol=1e-6)
    folder = f"{root.gROOT.GetTutorialDir()}/machine_learning/data"
    with uproot.open(f"{folder}/Higgs_data.root") as file:
        for tree in ("sig_tree", "bkg_tree"):
            columns = file[tree].arrays(FEATURES, library="np")
            x = np.stack([columns[f] for f in FEATURES], axis=1).astype(np.float32)
            data = xgboost.DMatrix(x, feature_names=FEATURES)
            scores = [np.float64(booster.predict(data)), forest.predict(x)]
            wanted = [np.mean(s) for s in (*scores, sum(scores) / 2)]
            shown = re.search(f"{tree}: mean scores (.*)", output)
            assert shown
            np.testing.assert_allclose(np.array(shown[1].split(), float), wanted, atol=2e-6)
    assert list(tmp_path.iterdir()) == []


# Graph networks -----------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_07_graph_nets(tmp_path: Path) -> None:
    pytest.importorskip("ROOT")
    output = run([sys.executable, str(TUTORIALS / "07_graph_nets.py")], tmp_path)
    shown = re.findall(r"(\d+) nodes and (\d+) edges: (\S+) from TensorFlow", output)
    sizes = [("5", "20"), ("3", "4"), ("1", "0"), ("0", "0"), ("40", "160")]
    assert [(nodes, edges) for nodes, edges, _ in shown] == sizes
    assert all(float(deviation) < 3e-6 for *_, deviation in shown)
    assert "C++ gives the same: True" in output
    assert list(tmp_path.iterdir()) == []


# The macro ----------------------------------------------------------------------------------------


@pytest.fixture
def emitted(tmp_path: Path) -> Path:
    """The folder of the macro, with the header and the weights in out/."""
    if not (BINARIES / "root").exists():
        pytest.skip("no `root` beside this Python")
    shutil.copy(TUTORIALS / "01_onnx.C", tmp_path)
    assert main(["emit", str(HIGGS), "-o", str(tmp_path / "out")]) == 0
    return tmp_path


def run_root(folder: Path, *arguments: str) -> str:
    include = f"out:{REPOSITORY / 'cling'}"
    command = [str(BINARIES / "root"), "-l", "-b", *arguments]
    return run(command, folder, ROOT_INCLUDE_PATH=include)


@pytest.mark.exhaustive
def test_01_onnx_as_a_macro(scores: dict[str, np.ndarray], emitted: Path) -> None:
    output = run_root(emitted, "-q", '01_onnx.C("out")')
    assert means(output) == expected_means(scores)


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
def test_01_onnx_as_a_compiled_macro(scores: dict[str, np.ndarray], emitted: Path) -> None:
    output = run_root(emitted, "-e", ".L 01_onnx.C+", "-e", '_01_onnx("out")', "-e", ".q")
    assert means(output) == expected_means(scores)
    assert (emitted / "01_onnx_C.so").exists()


# The demo -----------------------------------------------------------------------------------------


def area_under_curve(signal: np.ndarray, background: np.ndarray) -> float:
    """Rank sums, by another road than the demo's own."""
    both = np.concatenate([signal, background])
    _, position, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[position]
    n, m = len(signal), len(background)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def test_the_demo(scores: dict[str, np.ndarray], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    output = run([sys.executable, str(TUTORIALS / "higgs_demo.py"), "--out", "pictures"], tmp_path)
    signal, background = scores["sig_tree"], scores["bkg_tree"]
    everything = re.search(r"AUC +(\S+) over all 20,000 events", output)
    assert everything
    assert float(everything[1]) == pytest.approx(area_under_curve(signal, background), abs=1e-4)
    held_out = np.random.default_rng(42).permutation(20000)[15000:]
    unseen = signal[held_out[held_out < 10000]], background[held_out[held_out >= 10000] - 10000]
    shown = re.search(r"(\S+) over the 5,000 held-out events", output)
    assert shown
    assert float(shown[1]) == pytest.approx(area_under_curve(*unseen), abs=1e-4)
    assert float(shown[1]) > 0.75
    deviation = re.search(r"from onnxruntime +(\S+) at most", output)
    assert deviation
    assert 0 < float(deviation[1]) < 2e-6
    speed = re.search(r"speed +([\d,]+) events/s", output)
    assert speed
    assert int(speed[1].replace(",", "")) > 10_000
    picture = re.search(r"picture +(\S+)", output)
    assert picture
    content = (tmp_path / picture[1]).read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 20_000
    assert [p.name for p in tmp_path.iterdir()] == ["pictures"]


def test_the_demo_without_events(tmp_path: Path) -> None:
    pytest.importorskip("ROOT")
    pytest.importorskip("matplotlib")
    command = [sys.executable, str(TUTORIALS / "higgs_demo.py"), "--data", "/nowhere/Higgs.root"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "/nowhere/Higgs.root is absent" in done.stderr
    assert "--data" in done.stderr
    assert "Traceback" not in done.stderr


# Clusters -----------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_13_dask(scores: dict[str, np.ndarray], tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="pip install 'dask[distributed]'")
    output = run([sys.executable, str(TUTORIALS / "13_dask.py"), "0.01"], tmp_path)
    assert means(output) == expected_means(scores)
    assert output.count("the same as here: True") == 2
    assert len(re.findall(r"[12] processes: 0.01 million events in \S+ s", output)) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exhaustive
def test_14_batch(scores: dict[str, np.ndarray], tmp_path: Path) -> None:
    output = run([sys.executable, str(TUTORIALS / "14_batch.py")], tmp_path)
    wanted = np.mean(scores["sig_tree"], dtype=np.float64)
    assert means(output) == {"sig_tree": pytest.approx(float(wanted), abs=2e-6)}
    assert ", 10000 events" in output
    assert "2 jobs give what one loop gives: True" in output
    assert list(tmp_path.iterdir()) == []


def test_14_batch_submits_what_the_script_takes() -> None:
    """The file for HTCondor gives each job the arguments of `run`, in its order."""
    text = (TUTORIALS / "14_batch.sub").read_text()
    given = re.search(r"^arguments += (.*)", text, re.MULTILINE)
    assert given
    assert given[1].split()[0] == "14_batch.py"
    usage = re.search(r"python (14_batch.py .*)", (TUTORIALS / "14_batch.py").read_text())
    assert usage
    assert usage[1].replace(" 3 ", " $(Process) ").replace("_3.", "_$(Process).") == given[1]


# .root files --------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_08_root_files_in_python_and_as_a_macro(tmp_path: Path) -> None:
    root = pytest.importorskip("ROOT")
    uproot = pytest.importorskip("uproot")
    config = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    command = [sys.executable, str(TUTORIALS / "08_root_files.py"), "models.root"]
    python = run(command, tmp_path, **config)
    path = ":".join([str(REPOSITORY / "cling"), str(tmp_path)])
    macro = f'{TUTORIALS / "08_root_files.C"}("models.root")'
    command = [str(BINARIES / "root"), "-l", "-b", "-q", macro]
    cxx = run(command, tmp_path, ROOT_INCLUDE_PATH=path, **config)
    models = [sofie.load(tmp_path / "models.root", n) for n in ("network", "forest", "forest_2")]
    assert f"score of one event: {models[0](np.ones((1, 7), np.float32))[0, 0]:.6g}" in cxx
    folder = f"{root.gROOT.GetTutorialDir()}/machine_learning/data"
    expected = {}
    with uproot.open(f"{folder}/Higgs_data.root") as file:
        for tree in ("sig_tree", "bkg_tree"):
            columns = file[tree].arrays(FEATURES, library="np")
            x = np.stack([columns[f] for f in FEATURES], axis=1).astype(np.float32)
            expected[tree] = np.mean([np.mean(m(x), dtype=np.float64) for m in models])
    assert means(python) == pytest.approx(expected, abs=2e-6)
    assert means(cxx.replace("\n", " \n")) == pytest.approx(expected, abs=2e-6)


# Physics ------------------------------------------------------------------------------------------


def onnx_session(name: str) -> Any:
    return pytest.importorskip("onnxruntime").InferenceSession(REPOSITORY / "data" / name)


def higgs_events() -> dict[str, np.ndarray]:
    """The seven masses [events, 7] of each tree."""
    root, uproot = pytest.importorskip("ROOT"), pytest.importorskip("uproot")
    folder = f"{root.gROOT.GetTutorialDir()}/machine_learning/data"
    with uproot.open(f"{folder}/Higgs_data.root") as file:
        trees = {t: file[t].arrays(FEATURES, library="np") for t in ("sig_tree", "bkg_tree")}
    return {t: np.stack([x[f] for f in FEATURES], 1) for t, x in trees.items()}


def run_physics(name: str, folder: Path, *pictures: str, options: Sequence[str] = ()) -> str:
    """What a tutorial prints; it leaves these pictures in a folder, and nothing elsewhere."""
    for module in ("ROOT", "matplotlib", "uproot"):
        pytest.importorskip(module)
    command = [sys.executable, str(TUTORIALS / name), "--out", "new/pictures", *options]
    output = run(command, folder)
    assert [p.name for p in folder.iterdir()] == ["new"]
    check_pictures(folder / "new" / "pictures", *pictures)
    return output


def check_pictures(folder: Path, *pictures: str) -> None:
    for picture in pictures:
        content = (folder / picture).read_bytes()
        assert content.startswith((b"\x89PNG", b"%PDF"))
        assert len(content) > 5000


def check_systematics(output: str) -> None:
    """What 09_systematics prints, in its two forms, beside onnxruntime."""
    session = onnx_session("higgs.onnx")
    shifts = {"nominal": (1, 1)} | {
        f"{name}:{sign}": tuple(1 + direction * size * (n == name) for n in ("jes", "bjes"))
        for name, size in (("jes", 0.05), ("bjes", 0.03))
        for sign, direction in (("+", 1), ("-", -1))
    }
    found = re.findall(r"(\w+) (\S+): (\S+) events above 0.7", output)
    wanted = []
    for tree, x in higgs_events().items():
        for name, (jes, bjes) in shifts.items():
            both = np.sqrt(jes * bjes)
            factors = np.array([jes, jes, 1, both, jes * bjes, both, both], np.float32)
            scores = session.run(None, {"features": x * factors})[0]
            wanted.append((tree, name, np.count_nonzero(scores >= 0.7)))
            if name == "nominal":
                wanted += [
                    (tree, f"luminosity:{sign}", f * wanted[-1][2])
                    for sign, f in (("+", 1.02), ("-", 0.98))
                ]
    assert {f[:2] for f in found} == {w[:2] for w in wanted}
    assert len(found) == len(wanted) == 14
    shown = {f[:2]: float(f[2]) for f in found}
    for tree, name, count in wanted:
        # An event at the edge of a bin may be on either side.
        assert shown[tree, name] == pytest.approx(count, abs=1.1), name
    # Nominal, and up and down of jes and bjes; not for the luminosity.
    assert "100000 rows of inputs to the network for 20000 events" in output


@pytest.mark.exhaustive
def test_09_systematics(tmp_path: Path) -> None:
    pictures = ("09_systematics.png", "09_systematics.pdf")
    check_systematics(run_physics("09_systematics.py", tmp_path, *pictures))


@pytest.mark.exhaustive
def test_09_systematics_as_a_notebook(tmp_path: Path) -> None:
    for module in ("ROOT", "matplotlib"):
        pytest.importorskip(module)
    notebook = json.loads((TUTORIALS / "09_systematics.ipynb").read_text())
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert len(cells) < 10
    assert not any(c["outputs"] or c["execution_count"] for c in cells)
    # What each cell would run, one after the other in one process, where a notebook has its folder.
    code = "\n".join("".join(cell["source"]) for cell in cells)
    (tmp_path / "cells.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "agg"}
    command = [sys.executable, str(tmp_path / "cells.py")]
    done = subprocess.run(
        command, cwd=TUTORIALS, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    check_systematics(done.stdout)


def jets_of(tree: Any) -> Iterator[tuple[int, bool, dict[str, np.ndarray]]]:
    """Number, truth, and the tagger's inputs of the two leading jets of each event."""
    names = ("FatJet_pt", "FatJet_eta", "FatJet_phi", "FatJet_nBHadrons", "PFCands_pt")
    names += ("PFCands_eta", "PFCands_phi", "FatJetPFCands_jetIdx", "FatJetPFCands_pFCandsIdx")
    arrays = tree.arrays(names, library="np")
    for *jets, pt, eta, phi, owner, index in zip(*arrays.values(), strict=True):
        for jet in range(min(len(jets[0]), 2)):
            chosen = index[owner == jet]
            chosen = chosen[np.argsort(-pt[chosen], kind="stable")][:32]
            x = eta[chosen] - jets[1][jet]
            y = np.angle(np.exp(1j * (phi[chosen].astype("f8") - jets[2][jet])))
            features = [np.log(pt[chosen]), pt[chosen] / jets[0][jet], np.hypot(x, y)]
            inputs = {"pf_points": [x, y], "pf_features": features, "pf_mask": [x * 0 + 1]}
            padding = ((0, 0), (0, 32 - len(chosen)))
            feeds = {k: np.pad(v, padding).astype("f4")[None] for k, v in inputs.items()}
            yield jet, jets[3][jet] == 2, feeds


def check_jets(output: str, path: Path) -> dict[str, np.ndarray]:
    """What 10_jet_tagging prints, beside onnxruntime; the tagger's inputs."""
    uproot = pytest.importorskip("uproot")
    session = onnx_session("jet_tagger.onnx")
    with uproot.open(path) as file:
        jets = list(jets_of(file["Events"]))
    feeds = {k: np.concatenate([f[k] for *_, f in jets]) for k in jets[0][2]}
    scores = session.run(None, feeds)[0][:, 1]
    number, truth = (np.array([j[i] for j in jets]) for i in (0, 1))
    for jet in (0, 1):
        signal, other = scores[truth & (number == jet)], scores[~truth & (number == jet)]
        mean = re.search(rf"jet {jet}: mean score (\S+)", output)
        shown = re.search(rf"jet {jet}: (\d+) H -> bb, (\d+) others, AUC (\S+)", output)
        assert mean
        assert shown
        assert float(mean[1]) == pytest.approx(scores[number == jet].mean(), abs=2e-6)
        assert (int(shown[1]), int(shown[2])) == (len(signal), len(other))
        area = area_under_curve(signal, other) if len(signal) else np.nan
        assert float(shown[3]) == pytest.approx(area, abs=1e-4, nan_ok=True)
    return feeds


@pytest.mark.exhaustive
def test_10_jet_tagging(tmp_path: Path) -> None:
    pictures = ("10_jet_tagging.png", "10_jet_image.png")
    output = run_physics("10_jet_tagging.py", tmp_path, *pictures)
    feeds = check_jets(output, tmp_path / "new" / "pictures" / "10_events.root")
    present = feeds["pf_mask"].sum(axis=(1, 2))
    assert (present < 32).any()  # filled up
    assert (present == 32).mean() > 0.2  # mostly cut


def check_energies(output: str, path: Path, written: Path) -> None:
    """What 11_regression writes and prints, beside onnxruntime."""
    awkward, uproot = pytest.importorskip("awkward"), pytest.importorskip("uproot")
    with uproot.open(path) as file:
        tree = file["Events"]
        rho = next(n for n in tree.keys() if n.endswith("fixedGridRhoFastjetAll"))  # noqa: SIM118
        names = ("pt", "eta", "chHEF", "nConstituents", "genJetIdx")
        events = tree.arrays([*(f"Jet_{n}" for n in names), "GenJet_pt", rho])
    with uproot.open(written) as file:
        found = file["Events"].arrays()
    # Threads write events in any order.
    order, back = (np.lexsort(tuple(key(a))) for a in (events, found))
    events, found = events[order], found[back]
    pt = awkward.to_numpy(awkward.flatten(events.Jet_pt))
    np.testing.assert_array_equal(pt, awkward.flatten(found.Jet_pt))
    columns = [np.log(events.Jet_pt), abs(events.Jet_eta), events.Jet_chHEF]
    columns += [events.Jet_nConstituents, awkward.broadcast_arrays(events.Jet_pt, events[rho])[1]]
    jet = np.stack([awkward.to_numpy(awkward.flatten(c)) for c in columns], 1).astype("f4")
    corrected = onnx_session("jet_energy.onnx").run(None, {"jet": jet})[0][:, 0] * pt
    stored = awkward.to_numpy(awkward.flatten(found.Jet_corrected))
    np.testing.assert_allclose(stored, corrected, rtol=2e-6)
    index = events.Jet_genJetIdx
    known = (index >= 0) & (index < awkward.num(events.GenJet_pt))
    truth = awkward.to_numpy(awkward.flatten(events.GenJet_pt[index[known]]))
    counts = f"{len(pt)} jets in {len(events)} events, {len(truth)} with a generated jet"
    assert counts in output
    response = corrected[awkward.to_numpy(awkward.flatten(known))] / truth
    low, median, high = np.percentile(response, (16, 50, 84))
    shown = re.search(r"Jet_corrected: median response (\S+), resolution (\S+)", output)
    assert shown
    wanted = [median, (high - low) / 2]
    np.testing.assert_allclose([float(shown[1]), float(shown[2])], wanted, atol=1e-4)


def key(events: Any) -> Iterator[np.ndarray]:
    """What tells one event from another."""
    awkward = pytest.importorskip("awkward")
    for column in (events.Jet_pt, events.Jet_eta, events.GenJet_pt):
        yield awkward.to_numpy(awkward.sum(column, axis=1))


@pytest.mark.exhaustive
def test_11_regression(tmp_path: Path) -> None:
    output = run_physics("11_regression.py", tmp_path, "11_regression.png")
    assert "jets in 4000 events" in output
    folder = tmp_path / "new" / "pictures"
    check_energies(output, folder / "11_events.root", folder / "11_corrected.root")


@pytest.mark.exhaustive
@pytest.mark.parametrize("sample", ["pfnano", "nano_dy", "nano_tt_v12", "nano_tt_v15"])
def test_10_and_11_with_real_files(sample: str, tmp_path: Path) -> None:
    archives = sorted((REPOSITORY / "out" / "pypi").glob("coffea-*.tar.gz"))
    if not archives:
        pytest.skip("real files come with coffea's source code, which `make conformance` fetches")
    with tarfile.open(archives[-1]) as archive:
        member = next(m for m in archive if m.name.endswith(f"/tests/samples/{sample}.root"))
        content = archive.extractfile(member)
        assert content
        (tmp_path / "real.root").write_bytes(content.read())
    name = "10_jet_tagging.py" if sample == "pfnano" else "11_regression.py"
    command = [sys.executable, "-W", "ignore", str(TUTORIALS / name)]
    output = run([*command, "--file", "real.root", "--out", "pictures"], tmp_path)
    if sample == "pfnano":
        check_jets(output, tmp_path / "real.root")
    else:
        check_energies(output, tmp_path / "real.root", tmp_path / "pictures" / "11_corrected.root")


@pytest.mark.exhaustive
def test_12_anomaly(tmp_path: Path) -> None:
    output = run_physics("12_anomaly.py", tmp_path, "12_anomaly.png")
    session = onnx_session("higgs_autoencoder.onnx")
    events = higgs_events()
    known = events["bkg_tree"]
    broken = known * np.array([1, 1.5, 1, 1, 1, 1, 1], np.float32)
    found = {}
    for kind, x in {"top quarks": known, "Higgs": events["sig_tree"], "broken": broken}.items():
        again, error = session.run(["reconstruction", "error"], {"features": x})
        found[kind] = error[:, 0], np.abs(np.log(again / x)).max(axis=1)
        areas = [area_under_curve(*p) for p in zip(found[kind], found["top quarks"], strict=True)]
        shown = re.search(rf"{kind}: mean error (\S+), AUC (\S+), worst (\S+)", output)
        assert shown
        wanted = [error.mean(dtype="f8"), *areas]
        np.testing.assert_allclose([float(s) for s in shown.groups()], wanted, atol=2e-4)


@pytest.mark.exhaustive
def test_15_ensemble(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost", reason="XGBoost is an oracle here")
    output = run_physics("15_ensemble.py", tmp_path, "15_ensemble.png", "15_ensemble_scores.png")
    x = np.concatenate(list(higgs_events().values()))
    booster = xgboost.Booster(model_file=str(REPOSITORY / "data" / "higgs_xgboost.ubj"))
    trees = booster.predict(xgboost.DMatrix(x, feature_names=FEATURES))
    network = onnx_session("higgs.onnx").run(None, {"features": x})[0][:, 0]
    held_out = np.random.default_rng(42).permutation(20000)[15000:]
    signal, background = held_out[held_out < 10000], held_out[held_out >= 10000]
    found = {}
    both = {"trees": trees, "network": network, "ensemble": (trees + network) / 2}
    for name, scores in both.items():
        shown = re.search(rf"{name}: AUC (\S+) on 5000 held-out events", output)
        assert shown
        found[name] = float(shown[1])
        wanted = area_under_curve(scores[signal], scores[background])
        assert found[name] == pytest.approx(wanted, abs=2e-4)
    assert found["ensemble"] > max(found["trees"], found["network"])


@pytest.mark.exhaustive
def test_16_fast_simulation(tmp_path: Path) -> None:
    """Drawn showers are as the toy's: responses and depths at both ends of the energies."""
    pytest.importorskip("torch")
    output = run_physics("16_fast_simulation.py", tmp_path, "16_fast_simulation.png")
    assert "1 operator draws numbers for each event, with the seed 7" in output
    number = r"(-?\d+\.\d+)"
    line = rf"(\w+), (\d+) to \d+ GeV: (\d+) showers, response {number} \+- {number}, mean depth "
    line += number
    found = {(m[1], m[2]): tuple(map(float, m.groups()[2:])) for m in re.finditer(line, output)}
    assert len(found) == 4
    for energy in ("10", "80"):
        truth, drawn = found["toy", energy], found["drawn", energy]
        assert drawn[0] == truth[0] > 5000
        assert drawn[1] == pytest.approx(truth[1], abs=0.015)
        assert drawn[2] == pytest.approx(truth[2], rel=0.15)
        assert drawn[3] == pytest.approx(truth[3], abs=0.06)


@pytest.mark.exhaustive
def test_17_likelihood_fit(tmp_path: Path) -> None:
    """With and without gradients the pulls are the same, and are what pulls should be."""
    pytest.importorskip("ROOT")
    toys = 20
    output = run_physics(
        "17_likelihood_fit.py", tmp_path, "17_likelihood_fit.png", options=("--toys=20",)
    )
    calls = {m[1]: float(m[2]) for m in re.finditer(r"(with.*): (\S+) calls and", output)}
    assert 5 < calls["with gradients"] < calls["without"]
    line = r"(with.*): pull of (\w+) has mean (\S+) and width (\S+)"
    pulls = {(m[1], m[2]): (float(m[3]), float(m[4])) for m in re.finditer(line, output)}
    assert len(pulls) == 4
    for name in ("mu", "sigma"):
        mean, width = pulls["with gradients", name]
        # Four standard deviations of either, for so many numbers with mean 0 and width 1.
        assert abs(mean) < 4 / np.sqrt(toys)
        assert 1 - 4 / np.sqrt(2 * toys) < width < 1 + 4 / np.sqrt(2 * toys)
        assert pulls["without", name] == pytest.approx((mean, width), abs=0.01)


@pytest.mark.exhaustive
def test_18_saliency(tmp_path: Path) -> None:
    output = run_physics("18_saliency.py", tmp_path, "18_saliency.png")
    model, events = sofie.load(HIGGS), higgs_events()
    every = np.concatenate(list(events.values()))
    low, high = np.percentile(every, (16, 84), axis=0)
    x = every.astype(np.float64)
    graph = model.gradient().graph
    slopes = np.abs(evaluate(graph, {"features": x}, wide=True)["d_score/d_features"])
    moved = {t: slopes[i : i + 10000].mean(axis=0) for t, i in (("sig", 0), ("bkg", 10000))}
    line = r"(\w+): the score moves by sig_tree (\S+), bkg_tree (\S+);"
    shown = re.findall(line, output)
    assert sorted(name for name, *_ in shown) == sorted(FEATURES)
    for name, *numbers in shown:
        i = FEATURES.index(name)
        wanted = [moved[t][i] * (high[i] - low[i]) / 2 for t in ("sig", "bkg")]
        np.testing.assert_allclose([float(n) for n in numbers], wanted, atol=2e-4)


@pytest.mark.exhaustive
def test_19_uncertainty(tmp_path: Path) -> None:
    """What is propagated to first order is what Vary gives, for a small variation."""
    output = run_physics(
        "19_uncertainty.py", tmp_path, "19_uncertainty.png", options=["--scale=0.001"]
    )
    line = r"_tree: mean uncertainty (\S+), by Vary (\S+)"
    means = [(float(m[1]), float(m[2])) for m in re.finditer(line, output)]
    assert len(means) == 2
    assert all(one == pytest.approx(other, rel=0.01) for one, other in means)
    shown = re.findall(r"correlation (\S+) over 10000 events", output)
    assert len(shown) == 2
    assert min(map(float, shown)) > 0.998


def likelihood_model() -> sofie.Model:
    model = sofie.load(REPOSITORY / "data" / "likelihood_ratio.onnx")
    return model.named(features=["x1", "x2", "mu", "sigma"])


def test_the_likelihood_ratio_is_that_of_the_densities() -> None:
    """The network of tutorial 17, beside Gaussian densities, up to what does not depend on x."""
    random = np.random.default_rng(3)
    x = random.normal(0.1, 1, (2000, 1)) + random.normal(0, (0.5, 0.8), (2000, 2))

    def exact(mu: float, sigma: float) -> np.ndarray:
        covariance = sigma**2 + np.diag([0.25, 0.64])
        inverse, distance = np.linalg.inv(covariance), x - mu
        square = np.einsum("ni,ij,nj->n", distance, inverse, distance)
        return -0.5 * (square + np.log(np.linalg.det(covariance)))

    for mu, sigma in ((0.1, 1.0), (-0.3, 0.9), (0.4, 1.2)):
        rows = np.c_[x, np.full((2000, 1), mu), np.full((2000, 1), sigma)].astype(np.float32)
        found = likelihood_model()(rows)[:, 0]
        wanted = exact(mu, sigma) - exact(0.0, 1.2)
        np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_made_up_events_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    uproot = pytest.importorskip("uproot")
    write = runpy.run_path(str(TUTORIALS / "made_up_nanoaod.py"))["write"]
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        with uproot.open(write(str(tmp_path / f"{name}.root"), 50, seed)) as file:
            found.append(file["Events"].arrays().to_list())
    assert found[0] == found[1] != found[2]
    assert any(not event["FatJet_pt"] for event in found[0])
    for event in found[0]:
        # The particles that belong to a jet add up to it, wherever they are in the list.
        total = np.zeros(len(event["FatJet_pt"]))
        pairs = zip(event["FatJetPFCands_jetIdx"], event["FatJetPFCands_pFCandsIdx"], strict=True)
        for jet, particle in pairs:
            total[jet] += event["PFCands_pt"][particle]
        np.testing.assert_allclose(total, event["FatJet_pt"], rtol=1e-5)


@pytest.mark.exhaustive
def test_20_devices(tmp_path: Path) -> None:
    pytest.importorskip("ROOT")
    require(WAYS["alpaka-serial"])
    command = [sys.executable, str(TUTORIALS / "20_devices.py")]
    output = run(command, tmp_path, SOFIE_RDF_ALPAKA=str(ALPAKA))
    assert "not on devices: nothing" in output
    assert "10000 scores, mean 0.6130" in output
    assert float(output.split()[-3]) < 2e-6
    assert not list(tmp_path.glob("*.hxx"))
