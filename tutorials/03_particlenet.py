"""A graph network over the particles of each jet, as many as there are, as an RDataFrame column.

ParticleNet takes a list of particles: points in the plane of the jet, features, and a mask. Its
number of particles is open, and so it is in the compiled code: `Session::infer` takes it with each
event. The network is one of CMS where SOFIE_RDF_MODELS names a folder that has it, and else
data/particlenet.onnx, which has the same inputs and has learnt nothing. The jets are made up.
"""

from __future__ import annotations

import os
import tempfile
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

# In an RDataFrame, each event has its own number of particles: columns are RVecs. C++ puts them in
# order (03_particlenet.hxx), and calls the code that is emitted here.
with tempfile.TemporaryDirectory() as folder:
    files = model.emit(folder)
    for path in (folder, *files.include):
        ROOT.gInterpreter.AddIncludePath(str(path))
    ROOT.gInterpreter.Declare(f'#include "{HERE}/03_particlenet.hxx"')
    ROOT.EnableImplicitMT()
    df = ROOT.RDataFrame(300)
    for column, numbers in {"pt": "2, 0.1f", "eta": "0.4f, 1", "phi": "0.4f, 2"}.items():
        df = df.Define(column, f"made_up(rdfentry_, {numbers})")
    tagger = ROOT.JetTagger(df.GetNSlots(), str(files.weights), kinds, classes)
    df = df.DefineSlot("scores", tagger, ["pt", "eta", "phi"])
    sizes = df.Define("particles", "pt.size()").Stats("particles")
    means = [df.Define(f"score{c}", f"scores[{c}]").Mean(f"score{c}") for c in range(classes)]
    print(f"jets of {sizes.GetMin():.0f} to {sizes.GetMax():.0f} particles")
    print("mean scores:", " ".join(f"{m.GetValue():.6f}" for m in means))
