"""Regression for each jet: the pt that a jet should have, stored in a new file.

A small network (data/train_jets.py) gives the factor that corrects the pt of a jet, from what is
measured of it and, the same for all jets of an event, the density of pile-up. The corrected pt is a
column with a number for each jet, which Snapshot writes and uproot reads. The events are made up
by made_up_nanoaod.py. --file takes a file of NanoAOD; the network has not been trained for that.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import awkward as ak
import numpy as np
import ROOT
import uproot
from made_up_nanoaod import write
from matplotlib.figure import Figure

import sofie_rdf as sofie

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--file", help="a file of NanoAOD (default: one that is made up)")
parser.add_argument("--out", default="out", type=Path, help="folder of the picture and the file")
options = parser.parse_args()
options.out.mkdir(parents=True, exist_ok=True)
model = sofie.load(Path(__file__).resolve().parents[1] / "data/jet_energy.onnx")

# One call of the network for all jets of an event, none of them included.
ROOT.EnableImplicitMT()
df = ROOT.RDataFrame("Events", options.file or write(f"{options.out}/11_events.root"))
rho = [str(c) for c in df.GetColumnNames() if str(c).endswith("fixedGridRhoFastjetAll")][:1]
inputs = ["log(Jet_pt)", "abs(Jet_eta)", "Jet_chHEF", "Jet_nConstituents", *rho]
df = sofie.define(df, "Jet_factor", model, inputs, per="object")
df = df.Define("Jet_corrected", "Jet_pt * Jet_factor")
kept = ["Jet_pt", "Jet_eta", "Jet_corrected", "Jet_genJetIdx", "GenJet_pt"]
df.Snapshot("Events", f"{options.out}/11_corrected.root", kept)

# Anything reads the new file. The generated jet of each jet, where there is one, is the truth.
with uproot.open(options.out / "11_corrected.root") as file:
    jets = file["Events"].arrays(kept)
known = (jets.Jet_genJetIdx >= 0) & (jets.Jet_genJetIdx < ak.num(jets.GenJet_pt))
truth = ak.flatten(jets.GenJet_pt[jets.Jet_genJetIdx[known]])
axes = (figure := Figure((6, 4), layout="constrained")).subplots()
print(
    f"{ak.sum(ak.num(jets.Jet_pt))} jets in {len(jets)} events, {len(truth)} with a generated jet"
)
for name in ("Jet_pt", "Jet_corrected"):
    response = ak.to_numpy(ak.flatten(jets[name][known]) / truth)
    low, median, high = np.percentile(response, (16, 50, 84))
    axes.hist(response, 60, (0, 2), histtype="step", label=name)
    print(f"{name}: median response {median:.4f}, resolution {(high - low) / 2:.4f}")
axes.set(xlabel="pt over generated pt", ylabel="jets")
axes.legend()
figure.savefig(options.out / "11_regression.png", dpi=120)
