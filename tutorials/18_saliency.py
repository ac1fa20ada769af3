"""Which input moves the score: the gradients of a network as columns.

How much the score changes with a feature, times how much the feature varies, says how much of the
score is due to it: event by event, and on average for signal and background. The network and its
derivatives are one model, which runs once for each event.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import ROOT
from matplotlib.figure import Figure

import sofie_rdf as sofie

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", default="out", type=Path, help="folder of the picture")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)
FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]
model = sofie.load(Path(__file__).resolve().parents[1] / "data/higgs.onnx")
model = model.named(features=FEATURES).gradient()
events = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"

# Derivatives go by the names of features.
columns = {"dnn": "score"} | {f"d_{name}": f"d_score/d_features[{name}]" for name in FEATURES}
found = {}
for tree in ("sig_tree", "bkg_tree"):
    df = sofie.define(ROOT.RDataFrame(tree, events), columns, model)
    found[tree] = df.AsNumpy([*columns, *FEATURES])
    print(f"{tree}: mean score {found[tree]['dnn'].mean(dtype='f8'):.4f}")

# Half of what is between the 16th and the 84th percentile of all events: tails are long.
spread = {
    name: np.diff(np.percentile(np.concatenate([f[name] for f in found.values()]), (16, 84)))[0] / 2
    for name in FEATURES
}
moved = {
    tree: {name: np.abs(f[f"d_{name}"]).mean(dtype="f8") * spread[name] for name in FEATURES}
    for tree, f in found.items()
}
order = sorted(FEATURES, key=lambda name: moved["sig_tree"][name] + moved["bkg_tree"][name])
for name in reversed(order):
    changes = ", ".join(f"{tree} {moved[tree][name]:.4f}" for tree in moved)
    up = np.mean(np.concatenate([f[f"d_{name}"] for f in found.values()]) > 0)
    print(f"{name}: the score moves by {changes}; it grows with it in {up:.0%} of the events")
axis = (figure := Figure((6, 4), layout="constrained")).subplots()
for number, tree in enumerate(moved):
    places = np.arange(len(order)) + 0.4 * number
    axis.barh(places, [moved[tree][name] for name in order], 0.4, label=tree)
axis.set(yticks=np.arange(len(order)) + 0.2, yticklabels=order)
axis.set(xlabel="how much the score moves with one spread of the input")
axis.legend()
figure.savefig(out / "18_saliency.png", dpi=120)
