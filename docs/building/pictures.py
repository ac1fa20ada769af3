"""The pictures in docs/assets: ``python -m docs.building.pictures`` draws them again.

The scores are those of data/higgs.onnx for ROOT's own Higgs_data.root, the speeds are the first
table of PERFORMANCE.md, and the graph is that of data/jet_tagger.onnx.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

__all__ = ["draw", "speeds"]

_REPOSITORY = Path(__file__).resolve().parents[2]
_ASSETS = _REPOSITORY / "docs/assets"
_FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]
_SHOWN = {
    "higgs": "classifier 7 → 4x64 → 1",
    "mlp200x5": "5 layers of 200",
    "linear50x10": "10 layers of 50",
    "conv2d14": "14 convolutions 5x5",
    "resnet18": "ResNet18",
    "gru64": "GRU, 64 units",
    "lstm128": "LSTM, 128 units",
    "deepsets": "DeepSets, 30 particles",
    "transformer": "transformer block",
    "trees500": "500 trees",
}


def draw() -> None:
    """Write all pictures; the same ones each time, as no time of day is in them."""
    import matplotlib as mpl

    mpl.rcParams.update({"svg.hashsalt": "sofie_rdf", "font.size": 10})
    _ASSETS.mkdir(exist_ok=True)
    _scores(_ASSETS / "scores.svg")
    _bars(_ASSETS / "speed.svg")
    _graph(_ASSETS / "graph.svg")


def speeds() -> dict[str, float]:
    """How many times as long onnxruntime takes for one event, by network."""
    text = (_REPOSITORY / "PERFORMANCE.md").read_text()
    found: dict[str, float] = {}
    for network, ratio in re.findall(
        r"^\| (\w+) \| 1 \|(?:[^|]*\|){4} \*\*([\d.]+)\*\*", text, re.M
    ):
        found.setdefault(network, float(ratio))
    return {title: found[network] for network, title in _SHOWN.items()}


def _scores(path: Path) -> None:
    import ROOT
    from matplotlib.figure import Figure

    import sofie_rdf as sofie

    events = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"
    model = sofie.load(_REPOSITORY / "data/higgs.onnx")
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots(subplot_kw={"xlabel": "score", "ylabel": "events", "xlim": (0, 1)})
    kinds = ("sig_tree", "signal", "#3f90da"), ("bkg_tree", "background", "#bd1f01")
    for tree, label, color in kinds:
        df = sofie.define(ROOT.RDataFrame(tree, events), "dnn", model, _FEATURES)
        scores = np.fromiter(df.Take["float"]("dnn").GetValue(), np.float32)
        binned = {"bins": 40, "range": (0, 1), "color": color}
        axes.hist(scores, **binned, histtype="stepfilled", alpha=0.25)
        axes.hist(scores, **binned, histtype="step", lw=1.6, label=label)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(path, metadata={"Date": None})


def _bars(path: Path) -> None:
    from matplotlib.figure import Figure

    found = dict(sorted(speeds().items(), key=lambda item: item[1]))
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots(subplot_kw={"xlabel": "time of ONNX Runtime / time of sofie_rdf"})
    bars = axes.barh(list(found), list(found.values()), color="#3f90da", height=0.7)
    axes.bar_label(bars, [f"{ratio:.1f}" for ratio in found.values()], padding=3)
    axes.axvline(1, color="#444", lw=1)
    axes.set_xlim(0, max(found.values()) * 1.08)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("one event, one thread, AMD EPYC (Zen 5)", fontsize=10)
    figure.savefig(path, metadata={"Date": None})


def _graph(path: Path) -> None:
    from sofie_rdf.cli import main

    main(["inspect", str(_REPOSITORY / "data/jet_tagger.onnx"), "--plot", str(path)])


if __name__ == "__main__":
    draw()
