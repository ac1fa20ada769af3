"""Boosted trees of XGBoost and LightGBM as columns of an RDataFrame.

The files that these libraries write (.ubj or .json, .txt) are read without the libraries: analysis
jobs need neither. What the model gives is what ``Booster.predict`` gives, with missing values
(NaN) and categories; the trees are compiled like any network. scikit-learn's estimators, and
pipelines of them, come from memory: ``sofie.from_sklearn(estimator)``.

The events are the HIGGS events that come with ROOT's tutorials; data/train_trees.py has trained the
models. Run it as

    python tutorials/06_trees.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import ROOT

import sofie_rdf as sofie

DATA = Path(__file__).resolve().parents[1] / "data"
HIGGS_DATA = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"

# The content tells what kind of file it is.
xgboost = sofie.load(DATA / "higgs_xgboost.ubj")
lightgbm = sofie.load(DATA / "higgs_lightgbm.txt")
print(xgboost)

# The file says how the columns were called in training, if they had names.
features = json.loads(xgboost.graph.provenance["features"])

# Three events. In the second one a mass is missing.
x = np.ones((3, 7), dtype=np.float32)
x[1, 4], x[2, 4] = np.nan, 2.0
print("XGBoost's scores of three events:", xgboost(x)[:, 0])

ROOT.EnableImplicitMT()
for tree in ("sig_tree", "bkg_tree"):
    df = ROOT.RDataFrame(tree, HIGGS_DATA)
    df = sofie.define(df, "xgb", xgboost, features)
    df = sofie.define(df, "lgb", lightgbm, features)
    df = df.Define("both", "(xgb + lgb) / 2")
    means = [df.Mean(column) for column in ("xgb", "lgb", "both")]
    print(f"{tree}: mean scores", *(f"{mean.GetValue():.6f}" for mean in means))
