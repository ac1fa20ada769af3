"""Train the boosted trees in `higgs_xgboost.ubj` and `higgs_lightgbm.txt`.

They separate heavy Higgs bosons that decay to W W b b from top-quark pairs, like `higgs.onnx`, with
the same events, the same seven masses and the same held-out events; see README.md.

    pip install xgboost lightgbm numpy uproot
    python data/train_trees.py --data path/to/Higgs_data.root

Without `--data` the file is looked for in the ROOT installation of this Python. It takes a second.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import lightgbm
import numpy as np
import xgboost
from higgs_events import FEATURES, area_under_roc, find_higgs_data, read_events, split_events

TRAINING = 15000  # of the events in the order of the permutation; the others are held out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, help="Higgs_data.root")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="a folder")
    arguments = parser.parse_args()
    x, y = read_events(arguments.data or find_higgs_data())
    order = np.concatenate(split_events(len(y)))
    x, y = x[order], y[order]
    events, labels = x[:TRAINING], y[:TRAINING]

    data = xgboost.DMatrix(events, labels, feature_names=FEATURES)
    settings = {"objective": "binary:logistic", "max_depth": 4, "eta": 0.1, "nthread": 1}
    booster = xgboost.train(settings, data, num_boost_round=50)
    booster.save_model(arguments.output / "higgs_xgboost.ubj")
    held_out = xgboost.DMatrix(x[TRAINING:], feature_names=FEATURES)
    print(f"XGBoost: AUC {area_under_roc(booster.predict(held_out), y[TRAINING:]):.4f}")

    dataset = lightgbm.Dataset(events, labels, feature_name=FEATURES)
    settings = {"objective": "binary", "num_leaves": 15, "verbose": -1, "num_threads": 1}
    forest = lightgbm.train({**settings, "deterministic": True}, dataset, num_boost_round=50)
    # The text ends with all parameters, which we do not need.
    text = forest.model_to_string().split("\nfeature_importances:")[0]
    (arguments.output / "higgs_lightgbm.txt").write_text(text + "\n")
    print(f"LightGBM: AUC {area_under_roc(forest.predict(x[TRAINING:]), y[TRAINING:]):.4f}")


if __name__ == "__main__":
    main()
