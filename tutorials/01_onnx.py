"""An ONNX model as a column of an RDataFrame.

A network that was trained anywhere and exported to ONNX is compiled by ROOT's own interpreter. It
can be called with NumPy arrays, to see that it does what it should; it becomes a column of an
RDataFrame, evaluated for every event on all threads; and it can be stored in a .root file, from
which it loads without the ONNX file.

The events are the HIGGS events that come with ROOT's tutorials. Run it as

    python tutorials/01_onnx.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import ROOT

import sofie_rdf as sofie

HIGGS_ONNX = Path(__file__).resolve().parents[1] / "data/higgs.onnx"
HIGGS_DATA = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"
FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]

# What the model takes, gives and costs. N is the number of events: any.
model = sofie.load(HIGGS_ONNX)
print(model)

# The score of three events. A wrong shape or element type is an error that says what is right.
x = np.ones((3, 7), dtype=np.float32)
x[1:, 4] = 0.5, 2.0
print("scores of three events:", model(x)[:, 0])

# The score of every event, as a column like any other. With implicit multi-threading each slot has
# its own Session, and all share the weights.
ROOT.EnableImplicitMT()
means = {}
for tree in ("sig_tree", "bkg_tree"):
    df = sofie.define(ROOT.RDataFrame(tree, HIGGS_DATA), "dnn", model, FEATURES)
    selected = df.Filter("dnn > 0.5").Count()
    means[tree] = df.Mean("dnn").GetValue()
    print(f"{tree}: mean score {means[tree]:.6f}, {selected.GetValue()} events above 0.5")

# Into a .root file and back: the same model, to the last bit.
with tempfile.TemporaryDirectory() as folder:
    model.save(f"{folder}/models.root", name="higgs")
    loaded = sofie.load(f"{folder}/models.root")
print("the same after loading:", np.array_equal(loaded(x), model(x)))
