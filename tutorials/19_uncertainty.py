"""The uncertainty of a score: propagated through the network, beside what Vary gives.

The jet energy scale moves six of the seven masses together. Their covariance, as columns of each
event, becomes a column sqrt(J C J^T), with J from the network itself: one more column, where `Vary`
has the network run twice more. To first order it is half of what is between up and down.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import ROOT
from matplotlib.figure import Figure

import sofie_rdf as sofie

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", default="out", type=Path, help="folder of the picture")
parser.add_argument("--scale", default=0.01, type=float, help="how uncertain energies of jets are")
options = parser.parse_args()
options.out.mkdir(parents=True, exist_ok=True)
FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]
model = sofie.load(Path(__file__).resolve().parents[1] / "data/higgs.onnx")
model = model.named(features=FEATURES)
events = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"

# A mass of jets scales as their energies, one of jets and others about as the square root.
power = {"m_jj": 1, "m_jjj": 1, "m_jlv": 0.5, "m_bb": 1, "m_wbb": 0.5, "m_wwbb": 0.5}
masses = [f"{name} * std::pow(jes, {power.get(name, 0)})" for name in FEATURES]
moved = {name: f"{options.scale * p} * {name}" for name, p in power.items()}
covariance = moved | {(a, b): f"{moved[a]} * {moved[b]}" for a, b in combinations(moved, 2)}

axes = (figure := Figure((9, 4), layout="constrained")).subplots(1, 2)
for tree, axis in zip(("sig_tree", "bkg_tree"), axes, strict=True):
    df = ROOT.RDataFrame(tree, events).Define("jes", "1.0")
    df = df.Vary("jes", f"ROOT::RVecD{{{1 - options.scale}, {1 + options.scale}}}", ["down", "up"])
    df = sofie.define(df, "dnn", model, masses, uncertainty=covariance)
    widths = df.Take["float"]("dnn_uncertainty")
    scores = ROOT.RDF.Experimental.VariationsFor(df.Take["float"]("dnn"))
    down, up = (np.array(scores[f"jes:{way}"]) for way in ("down", "up"))
    found, varied = np.array(widths.GetValue()), np.abs(up - down) / 2
    agreement = np.corrcoef(found, varied)[0, 1]
    print(f"{tree}: mean uncertainty {found.mean():.5f}, by Vary {varied.mean():.5f}")
    print(f"{tree}: correlation {agreement:.4f} over {len(found)} events")
    axis.plot(varied, found, ",")
    axis.set(title=tree, xlabel="half of up - down", ylabel="propagated")
figure.savefig(options.out / "19_uncertainty.png", dpi=120)
