"""The events of ROOT's Higgs_data.root, for the scripts that train a network or trees on them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import uproot

FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]

SPLIT_SEED = 42
HELD_OUT_FRACTION = 0.25
VALIDATION_FRACTION = 0.15


def find_higgs_data() -> Path:
    """Find the tutorial file of the installed ROOT, without importing ROOT."""
    spec = importlib.util.find_spec("ROOT")
    for location in (spec.submodule_search_locations or []) if spec else []:
        package = Path(location)
        # The first folder is where the ROOT wheel has it, the second is for other builds.
        for top in (package, package.parent.parent):
            path = top / "tutorials" / "machine_learning" / "data" / "Higgs_data.root"
            if path.is_file():
                return path
    raise SystemExit("Higgs_data.root not found: give its path with --data")


def read_events(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return features [events, 7] and labels [events]: all signal (1), then background (0)."""
    features, labels = [], []
    with uproot.open(path) as file:
        for tree_name, label in (("sig_tree", 1.0), ("bkg_tree", 0.0)):
            columns = file[tree_name].arrays(FEATURES, library="np")
            features.append(np.stack([columns[name] for name in FEATURES], axis=1))
            labels.append(np.full(len(features[-1]), label))
    return np.concatenate(features).astype(np.float32), np.concatenate(labels).astype(np.float32)


def split_events(n_events: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the event indices of the training, validation and held-out groups."""
    order = np.random.default_rng(SPLIT_SEED).permutation(n_events)
    n_held_out = int(HELD_OUT_FRACTION * n_events)
    n_validation = int(VALIDATION_FRACTION * n_events)
    n_training = n_events - n_validation - n_held_out
    training, validation, held_out = np.split(order, [n_training, n_training + n_validation])
    return training, validation, held_out


def area_under_roc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the probability that a signal event scores higher than a background event.

    This is the rank-sum (Mann-Whitney) form of the area under the ROC curve; events with
    equal scores share their mean rank.
    """
    _, position, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    is_signal = labels > 0.5
    n_signal = int(is_signal.sum())
    n_background = len(labels) - n_signal
    rank_sum = mean_ranks[position][is_signal].sum()
    return float((rank_sum - n_signal * (n_signal + 1) / 2) / (n_signal * n_background))
