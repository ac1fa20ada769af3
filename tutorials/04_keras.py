"""A network of Keras as a column of an RDataFrame.

A file that Keras has written, .keras or .h5, is read without Keras and without TensorFlow: all it
needs is h5py (`pip install 'sofie_rdf[keras]'`). Layers that are your own are refused by name,
unless you say what they compute in terms of the operators that there are; nothing in a file is run.

The network is a small classifier with a residual connection, trained by data/train_keras.py on
the HIGGS events that come with ROOT's tutorials. Run it as

    python tutorials/04_keras.py

In the process that has trained it, `sofie_rdf.from_keras(model)` does the same without a file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import ROOT

import sofie_rdf as sofie

DATA = Path(__file__).resolve().parents[1] / "data"
HIGGS_DATA = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"
FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]

# The normalisation that the network has learnt from its events is part of it, dropout is not.
model = sofie.load(DATA / "higgs.keras")
print(model)

# The older format holds the same network.
old = sofie.load(DATA / "higgs.h5")
x = np.ones((3, 7), dtype=np.float32)
print("the same from .h5:", np.array_equal(old(x), model(x)))

# The score of every event, on all threads.
ROOT.EnableImplicitMT()
for tree in ("sig_tree", "bkg_tree"):
    df = sofie.define(ROOT.RDataFrame(tree, HIGGS_DATA), "dnn", model, FEATURES)
    print(f"{tree}: mean score {df.Mean('dnn').GetValue():.6f}")

# A file of Keras 2, with two inputs: images, and sequences of any length whose steps may be masked.
network = sofie.load(DATA / "keras2.h5")
for events, steps in ((2, 5), (3, 9)):
    image = np.ones((events, 8, 8, 2), np.float32)
    scores = network(image=image, steps=np.ones((events, steps, 4), np.float32))["score"]
    print(f"{events} events of {steps} steps:", scores[0])
