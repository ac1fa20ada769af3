"""A jet tagger on NanoAOD with particles: from one flat list of an event to the particles of a jet.

PFNano has a list of all particles of an event, and one of which jet has which of them. Those of
each of the two leading jets become a set: the hardest 32, filled up with zeros that the mask marks.
The tagger (data/train_jets.py) finds H -> bb in made-up events; of a real --file it knows nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import ROOT
from made_up_nanoaod import write
from matplotlib.figure import Figure

import sofie_rdf as sofie

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--file", help="a file of PFNano (default: one that is made up)")
parser.add_argument("--out", default="out", type=Path, help="folder of the pictures")
options = parser.parse_args()
options.out.mkdir(parents=True, exist_ok=True)
model = sofie.load(Path(__file__).resolve().parents[1] / "data/jet_tagger.onnx")
ROOT.EnableImplicitMT()
ROOT.gROOT.SetBatch()
df = ROOT.RDataFrame("Events", options.file or write(f"{options.out}/10_events.root"))
for jet in "01":  # The same model twice; it runs only where there is such a jet.
    df = df.Define(f"pf{jet}", f"FatJetPFCands_pFCandsIdx[FatJetPFCands_jetIdx == {jet}]")
    df = df.Define(f"pt{jet}", f"Take(PFCands_pt, pf{jet})")
    df = df.Define(f"x{jet}", f"Take(PFCands_eta, pf{jet}) - FatJet_eta.at({jet}, 0)")
    df = df.Define(f"y{jet}", f"DeltaPhi(FatJet_phi.at({jet}, 0), Take(PFCands_phi, pf{jet}))")
    features = [f"log(pt{jet})", f"pt{jet} / FatJet_pt.at({jet}, 1)", f"hypot(x{jet}, y{jet})"]
    inputs = {"pf_points": [f"x{jet}", f"y{jet}"], "pf_features": features}
    a_set = {"per": "set", "pad": 0, "truncate": True, "mask": "pf_mask", "order_by": f"pt{jet}"}
    there = {"output": "softmax[1]", "where": f"nFatJet > {jet}", "default": -1}
    df = sofie.define(df, f"hbb{jet}", model, inputs, **a_set, **there)
    df = df.Define(f"truth{jet}", f"FatJet_nBHadrons.at({jet}, 0) == 2")
# One event loop gives all that is plotted: scores, and what a leading H -> bb looks like.
jets = [(df.Take["float"](f"hbb{jet}"), df.Take["bool"](f"truth{jet}")) for jet in "01"]
plane = ("image", ";#Delta#eta;#Delta#phi", *(40, -0.8, 0.8) * 2), "x0", "y0", "pt0"
image = df.Filter("truth0").Histo2D(*plane)
left, right = (figure := Figure((9, 4), layout="constrained")).subplots(1, 2)
for jet, columns in enumerate(jets):
    score, truth = (np.array(list(c.GetValue())) for c in columns)
    signal, other = np.sort(score[truth]), np.sort(score[~truth & (score >= 0)])
    left.hist([signal, other], 25, histtype="step", label=[f"H, jet {jet}", f"other, jet {jet}"])
    passed = [1 - np.searchsorted(s, other) / (len(s) or np.nan) for s in (signal, other)]
    right.plot(*passed, label=f"jet {jet}: AUC {passed[0].mean():.3f}")
    print(f"jet {jet}: {len(signal)} H -> bb, {len(other)} others, AUC {passed[0].mean():.4f}")
    print(f"jet {jet}: mean score {score[score >= 0].mean():.6f}")
left.set(xlabel="score", ylabel="jets", yscale="log")
right.set(xlabel="efficiency for H -> bb", ylabel="efficiency for others", yscale="log")
_ = [axes.legend() for axes in (left, right)]
figure.savefig(options.out / "10_jet_tagging.png", dpi=120)
image.SetStats(False)  # The box would lie over the palette.
image.Draw("colz")
ROOT.gPad.SaveAs(f"{options.out}/10_jet_image.png")
