"""Train the boosted trees in `higgs_xgboost.ubj` and `higgs_lightgbm.txt`.

They separate heavy Higgs bosons that decay to W W b b from top-quark pairs, like `higgs.onnx`, with
the same events, the same seven masses and the same held-out events; see README.md.

    pip install xgboost lightgbm numpy uproot
    python data/train_trees.py --data path/to/Higgs_data.root

Without `--data` the file is looked for in the ROOT installation of this Python. It takes a second.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import lightgbm
import numpy as np
import uproot
import xgboost

FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]
TRAINING = 15000  # of the events in the order of the permutation; the others are held out
SPLIT_SEED = 42


def find_higgs_data() -> Path:
    """Find the tutorial file of the installed ROOT, without importing ROOT."""
    spec = importlib.util.find_spec("ROOT")
    for location in (spec.submodule_search_locations or []) if spec else []:
        package = Path(location)
        for top in (package, package.parent.parent):
            path = top / "tutorials" / "machine_learning" / "data" / "Higgs_data.root"
            if path.is_file():
                return path
    raise SystemExit("Higgs_data.root not found: give its path with --data")


def read_events(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return features [events, 7] and labels [events], in the order of the permutation."""
    with uproot.open(path) as file:
        trees = [file[t].arrays(FEATURES, library="np") for t in ("sig_tree", "bkg_tree")]
    features = np.concatenate([np.stack([t[f] for f in FEATURES], axis=1) for t in trees])
    labels = np.repeat([1, 0], [len(t["m_jj"]) for t in trees])
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    return features[order].astype(np.float32), labels[order]


def area_under_roc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the probability that a signal event scores higher than a background event."""
    _, position, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[position]
    signal = int(labels.sum())
    area = ranks[labels == 1].sum() - signal * (signal + 1) / 2
    return float(area / (signal * (len(labels) - signal)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, help="Higgs_data.root")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="a folder")
    arguments = parser.parse_args()
    x, y = read_events(arguments.data or find_higgs_data())
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
