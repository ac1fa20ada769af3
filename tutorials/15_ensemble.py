"""An ensemble: boosted trees and a neural network as columns of one data frame, and their mean.

data/higgs_xgboost.ubj and data/higgs.onnx were trained with the same events, and make different
mistakes. The mean of their scores is one more column. Held-out events say how good all three are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import ROOT
from matplotlib.figure import Figure

import sofie_rdf as sofie

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--out", default="out", type=Path, help="folder of the pictures")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)
data = Path(__file__).resolve().parents[1] / "data"
events = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"
masses = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]
files = {"trees": "higgs_xgboost.ubj", "network": "higgs.onnx"}
models = {name: sofie.load(data / file) for name, file in files.items()}

# Which events no model has seen (data/README.md), of all signal and then all background events.
unseen = np.isin(np.arange(20000), np.random.default_rng(42).permutation(20000)[15000:])
ROOT.EnableImplicitMT()
ROOT.gROOT.SetBatch()
entries, samples, planes = [], [], []
for tree in ("sig_tree", "bkg_tree"):
    df = ROOT.RDataFrame(tree, events)
    for name, model in models.items():
        df = sofie.define(df, name, model, masses)
    df = df.Define("ensemble", "(trees + network) / 2")
    samples.append([df.Take["float"](name) for name in (*models, "ensemble")])
    entries.append(df.Take["ULong64_t"]("rdfentry_"))
    planes.append(df.Histo2D((tree, ";trees;network", *(25, 0, 1) * 2), *models))
ROOT.RDF.RunGraphs(entries)

# Threads finish in any order, so that the entries say which event is which.
scores = []
for flags, entry, columns in zip(np.split(unseen, 2), entries, samples, strict=True):
    kept = flags[np.array(entry.GetValue(), int)]
    scores.append([np.array(column.GetValue())[kept] for column in columns])
axes = (figure := Figure((5, 5), layout="constrained")).subplots()
for name, *both in zip((*models, "ensemble"), *scores, strict=True):
    passed = [1 - np.searchsorted(np.sort(s), np.sort(both[1])) / len(s) for s in both]
    axes.plot(passed[0], 1 - passed[1], label=name)
    print(f"{name}: AUC {passed[0].mean():.4f} on {sum(map(len, both))} held-out events")
axes.set(xlabel="efficiency for signal", ylabel="rejection of background")
axes.legend()
figure.savefig(out / "15_ensemble.png", dpi=120)
canvas = ROOT.TCanvas("scores")
planes[0].Draw("colz")
planes[1].Draw("box same")
canvas.SaveAs(f"{out}/15_ensemble_scores.png")
