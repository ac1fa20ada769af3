"""Systematic uncertainties: the score of a network under variations of the jet energies.

A nuisance parameter is a column that is 1. `Vary` says what else it may be, the masses that enter
the network depend on it, and `VariationsFor` gives every histogram in one event loop. The network
runs again for variations of what it reads, and for no others. 09_systematics.ipynb is a notebook.
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
model = sofie.load(Path(__file__).resolve().parents[1] / "data/higgs.onnx")
events = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"

# ROOT's file has masses, no jets (else vary Jet_pt). A mass of jets scales as their energies (jes;
# bjes: b jets only), one of jets and others about as the square root. counted() counts the rows.
ROOT.gInterpreter.Declare("std::atomic<long> rows{0}; float counted(float x) { ++rows; return x; }")
masses = ["m_jj * jes", "m_jjj * jes", "m_lv", "m_jlv * std::sqrt(jes * bjes)", "m_bb * jes * bjes"]
masses += ["m_wbb * std::sqrt(jes * bjes)", "counted(m_wwbb * std::sqrt(jes * bjes))"]
nuisances = {"jes": 0.05, "bjes": 0.03, "luminosity": 0.02}

ROOT.EnableImplicitMT()
ROOT.gROOT.SetBatch()
panels = (figure := Figure((10, 5), layout="constrained")).subplots(2, 2, height_ratios=(3, 1))
(canvas := ROOT.TCanvas("systematics", "", 1000, 450)).Divide(2)
edges, drawn = np.linspace(0, 1, 21), []
for number, tree in enumerate(("sig_tree", "bkg_tree")):
    df = ROOT.RDataFrame(tree, events)
    for name, size in nuisances.items():
        df = df.Define(name, "1.f").Vary(name, f"ROOT::RVecF{{{1 - size}, {1 + size}}}", ["-", "+"])
    df = sofie.define(df, "dnn", model, masses)
    histogram = df.Histo1D((tree, f"{tree};score;events", 20, 0, 1), "dnn", "luminosity")
    drawn.append(varied := ROOT.RDF.Experimental.VariationsFor(histogram))
    canvas.cd(number + 1)
    for color, name in enumerate(map(str, varied.GetKeys())):  # The first one is "nominal".
        varied[name].SetLineColor(color + 1)
        varied[name].Draw("hist same" if color else "hist")
        counts = np.array(varied[name])[1:-1]
        panels[0, number].stairs(counts, edges, label=name)
        ratio = counts / np.maximum(np.array(varied["nominal"])[1:-1], 1)
        panels[1, number].stairs(ratio, edges, baseline=None)
        print(f"{tree} {name}: {counts[14:].sum():.1f} events above 0.7")
    panels[0, number].set(title=tree, ylabel="events")
    panels[1, number].set(xlabel="score", ylabel="ratio", xlim=(0, 1), ylim=(0.75, 1.25))
panels[0, 0].legend(frameon=False)
figure.savefig(out / "09_systematics.png", dpi=120)
canvas.SaveAs(f"{out}/09_systematics.pdf")
print(f"{ROOT.rows.load()} rows of inputs to the network for 20000 events")
