"""A graph network over the particles of each jet, as many as there are, as an RDataFrame column.

ParticleNet takes a list of particles: points in the plane of the jet, features, and a mask. Its
number of particles is open, and so it is in the compiled code. In an RDataFrame the particles of
a jet are RVecs, of which `define` makes one input. The network is one of CMS where
SOFIE_RDF_MODELS names a folder that has it, and else data/particlenet.onnx, which has the same
inputs and has learnt nothing. The jets are made up.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import ROOT

import sofie_rdf as sofie

HERE = Path(__file__).resolve().parent
MODELS = Path(os.environ.get("SOFIE_RDF_MODELS", HERE.parents[1] / "shared/models"))
CMS = sorted(MODELS.rglob("Run3Scouting_ParticleNetAK4_*.onnx"))
model = sofie.load((*CMS, HERE.parent / "data/particlenet.onnx")[0], "particlenet")
print(model)

# NumPy arrays of one shape are a batch: here, three jets of 40 particles, of which one has but 30.
kinds, classes = model.inputs["pf_features"].shape[1], model.outputs["softmax"].shape[1]
random = np.random.default_rng(1)
jets = {
    "pf_points": random.normal(size=(3, 2, 40)).astype("float32"),
    "pf_features": random.normal(size=(3, kinds, 40)).astype("float32"),
    "pf_mask": np.ones((3, 1, 40), "float32"),
}
jets["pf_mask"][2, :, 30:] = 0
print("first score of three jets:", model(jets)[:, 0])

# In an RDataFrame, each event has its own number of particles: columns are RVecs. A particle needs
# 16 neighbours, so a jet of fewer than 24 is filled up with what the mask says is none. (A network
# that was trained wants its own features; this repeats what there is.)
ROOT.gInterpreter.Declare("""
ROOT::RVecF made_up(ULong64_t jet, float scale, float speed)
{
   ROOT::RVecF x(5 + jet * 7 % 60);
   for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = scale * std::sin(speed * float(i + 1) + float(jet));
   return x;
}""")
ROOT.EnableImplicitMT()
df = ROOT.RDataFrame(300)
for column, numbers in {"pt": "2, 0.1f", "eta": "0.4f, 1", "phi": "0.4f, 2"}.items():
    df = df.Define(column, f"made_up(rdfentry_, {numbers})")
features = [("pt", "eta", "phi")[k % 3] for k in range(kinds)]
columns = {"pf_points": ["eta", "phi"], "pf_features": features}
scores = {f"score{c}": f"softmax[{c}]" for c in range(classes)}
df = sofie.define(df, scores, model, columns, mask="pf_mask", lengths={"n_pf": (24, None)})
sizes = df.Define("particles", "pt.size()").Stats("particles")
means = [df.Mean(score) for score in scores]
print(f"jets of {sizes.GetMin():.0f} to {sizes.GetMax():.0f} particles")
print("mean scores:", " ".join(f"{m.GetValue():.6f}" for m in means))
