"""Several models in one .root file, and their mean as a column.

A .root file is all that one needs of a model: the network, the weights, where they come from, and
the code for macros. Here a neural network and two forests of decision trees, trained on the same
events, go into one file; they could as well go into the file with the events. They are loaded by
name, and the mean of their scores is a column. 08_root_files.C does so in a macro without Python.

    python tutorials/08_root_files.py models.root

Without an argument the file is written where it is removed in the end.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import ROOT

import sofie_rdf as sofie

DATA = Path(__file__).resolve().parents[1] / "data"
HIGGS_DATA = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"
FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]
SOURCES = {
    "network": "higgs.onnx",
    "forest": "higgs_xgboost.ubj",
    "forest_2": "higgs_lightgbm.txt",
}

folder = tempfile.TemporaryDirectory()
path = sys.argv[1] if len(sys.argv) > 1 else f"{folder.name}/models.root"

# What is in the file already stays there; a model of the same name is replaced, in one step.
for name, source in SOURCES.items():
    sofie.load(DATA / source).save(path, name=name)

# `sofie-rdf inspect models.root` lists them; uproot-browser and ROOT's TBrowser show them too.
models = {name: sofie.load(path, name) for name in SOURCES}
for name, model in models.items():
    print(f"{name}: from {model.graph.provenance['source']}")

ROOT.EnableImplicitMT()
for tree in ("sig_tree", "bkg_tree"):
    df = ROOT.RDataFrame(tree, HIGGS_DATA)
    for name, model in models.items():
        df = sofie.define(df, name, model, FEATURES)
    df = df.Define("score", f"({' + '.join(models)}) / {len(models)}")
    print(f"{tree}: mean score {df.Mean('score').GetValue():.6f}")
