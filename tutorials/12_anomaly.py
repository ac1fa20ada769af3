"""The reconstruction error of an autoencoder as a column: how unusual is an event?

data/higgs_autoencoder.onnx was trained with top-quark pairs only (data/train_autoencoder.py). It
brings seven masses down to three numbers and back, and has two outputs: these masses, and the
error. `define` makes columns of both with one call, so that another measure of what differs is a
`Define` away: here, the mass that is most wrong.

Most of these top quarks were in the training; data/README.md has numbers for held-out events.
Unusual is not signal. A Higgs boson's masses fit together as those of top quarks do, and the error
does not find it; it finds what breaks their relations, as a jet that is measured too high by half.
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
model = sofie.load(Path(__file__).resolve().parents[1] / "data/higgs_autoencoder.onnx")
file = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"
masses = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]
kinds = {"top quarks": ("bkg_tree", 1.0), "Higgs": ("sig_tree", 1.0), "broken": ("bkg_tree", 1.5)}

# Nothing runs until RunGraphs, which runs all three data frames at the same time.
ROOT.EnableImplicitMT()
results = {}
for kind, (tree, scale) in kinds.items():
    df = ROOT.RDataFrame(tree, file).Redefine("m_jjj", f"m_jjj * {scale}f")
    df = sofie.define(df, {"error": "error", "again": "reconstruction"}, model, masses)
    was = f"ROOT::RVecF{{{', '.join(masses)}}}"
    df = df.Define("worst", f"Max(abs(log(again / {was})))")
    results[kind] = [df.Take["float"](name) for name in ("error", "worst")]
ROOT.RDF.RunGraphs([column for columns in results.values() for column in columns])

panels = (figure := Figure((9, 4), layout="constrained")).subplots(1, 2)
found = {kind: [np.array(c.GetValue()) for c in columns] for kind, columns in results.items()}
for kind, columns in found.items():
    areas = []
    for axes, column, known in zip(panels, columns, found["top quarks"], strict=True):
        axes.hist(np.log10(column), 60, (-3, 1.5), histtype="step", label=kind)
        areas.append(1 - np.searchsorted(np.sort(column), known).mean() / len(column))
    print(f"{kind}: mean error {columns[0].mean():.4f}, AUC {areas[0]:.4f}, worst {areas[1]:.4f}")
for axes, label in zip(panels, ("log10 of the error", "log10 of the worst mass"), strict=True):
    axes.set(xlabel=label, ylabel="events")
panels[0].legend()
figure.savefig(out / "12_anomaly.png", dpi=120)
