"""The tutorials and the demo, run as a reader runs them; their numbers against onnxruntime."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sofie_rdf.cli import main

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


@pytest.mark.parametrize("path", sorted(TUTORIALS.glob("[0-9]*")), ids=lambda p: p.name)
def test_tutorials_are_short_and_begin_with_prose(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) < 60
    assert lines[0].startswith(('"""', "///"))
    assert len(lines[0].split()) > 3


@pytest.mark.slow
def test_01_onnx_in_python(scores: dict[str, np.ndarray], tmp_path: Path) -> None:
    output = run([sys.executable, str(TUTORIALS / "01_onnx.py")], tmp_path)
    assert means(output) == expected_means(scores)
    for y in scores.values():
        assert f", {np.count_nonzero(y > 0.5)} events above 0.5" in output
    assert "the same after loading: True" in output
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


@pytest.mark.slow
def test_01_onnx_as_a_macro(scores: dict[str, np.ndarray], emitted: Path) -> None:
    output = run_root(emitted, "-q", '01_onnx.C("out")')
    assert means(output) == expected_means(scores)


@pytest.mark.slow
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


@pytest.mark.slow
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
