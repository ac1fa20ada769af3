"""A trained network scores the HIGGS events that come with ROOT. This is what `make demo` runs.

The events are simulated: 10 000 in which a heavy Higgs boson decays to W W b b, and 10 000 with a
pair of top quarks, which look much the same. `data/higgs.onnx` was trained on 15 000 of them to
tell one kind from the other by seven invariant masses. Here it becomes a column of an RDataFrame,
on all threads. Does it separate, are its numbers those of onnxruntime, and how fast is it?
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime
import ROOT
from matplotlib.figure import Figure
from rich.progress import track

import sofie_rdf as sofie

FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]
HIGGS_ONNX = Path(__file__).resolve().parents[1] / "data/higgs.onnx"
HIGGS_DATA = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"
COPIES, ROUNDS = 40, 9

parser = argparse.ArgumentParser(description="Score the HIGGS events of ROOT's tutorials.")
parser.add_argument("--data", default=HIGGS_DATA, help="Higgs_data.root (default: ROOT's own)")
parser.add_argument("--out", default="out", type=Path, help="folder of the picture (default: out)")
options = parser.parse_args()
if not Path(options.data).is_file():
    parser.error(
        f"{options.data} is absent: some packages of ROOT leave out the tutorials, `pip install "
        "root` has them. Or give a copy with --data, from ROOT's source code (same path there)"
    )


def area_under_curve(signal: np.ndarray, background: np.ndarray) -> float:
    """How often a signal event scores higher than a background event; a tie counts one half."""
    ordered = np.sort(background)
    below = np.searchsorted(ordered, signal, "left") + np.searchsorted(ordered, signal, "right")
    return float(below.mean() / (2 * len(background)))


# The network as a column. Threads finish in any order: the events are sorted into the file's.
# (df.AsNumpy does what Take does, but needs the C++ headers of the system.)
ROOT.EnableImplicitMT()
model = sofie.load(HIGGS_ONNX)
print(model)
trees = []
for tree in ("sig_tree", "bkg_tree"):
    df = sofie.define(ROOT.RDataFrame(tree, options.data), "dnn", model, FEATURES)
    entries = df.Take["ULong64_t"]("rdfentry_")
    columns = [df.Take["float"](name) for name in ("dnn", *FEATURES)]
    order = np.argsort(np.fromiter(entries.GetValue(), np.uint64))
    trees.append([np.fromiter(c.GetValue(), np.float32)[order] for c in columns])
signal, background = trees[0][0], trees[1][0]
scores, *features = np.concatenate(trees, axis=1)

# The 5 000 events that training has never seen: the permutation of data/README.md.
held_out = np.random.default_rng(42).permutation(len(scores))[15000:]
unseen = scores[held_out[held_out < len(signal)]], scores[held_out[held_out >= len(signal)]]
auc, auc_held_out = area_under_curve(signal, background), area_under_curve(*unseen)

# The same events through onnxruntime.
feed = {"features": np.stack(features, axis=1)}
expected = onnxruntime.InferenceSession(HIGGS_ONNX).run(None, feed)[0][:, 0]

# Event loops over 40 copies of the signal tree, from the first event to the last. Reading the file
# is part of it; compiling, which has been done by now, is not.
rates = []
for _ in track(range(ROUNDS), "timing the event loop", transient=True):
    df = ROOT.RDataFrame("sig_tree", [options.data] * COPIES)
    mean = sofie.define(df, "dnn", model, FEATURES).Mean["float"]("dnn")
    start = time.perf_counter()
    mean.GetValue()
    rates.append(COPIES * len(signal) / (time.perf_counter() - start))

figure = Figure(figsize=(7, 5), layout="constrained")
axes = figure.subplots(subplot_kw={"xlabel": "score", "xlim": (0, 1), "ylim": (0, 3)})
binning = {"bins": 40, "range": (0, 1), "density": True}
labels = r"signal: $H \to W^+W^-b\bar{b}$", r"background: $t\bar{t}$"
for kind, color, label in zip((signal, background), ("#3f90da", "#bd1f01"), labels, strict=True):
    axes.hist(kind, **binning, histtype="stepfilled", color=color, alpha=0.25)
    axes.hist(kind, **binning, histtype="step", color=color, lw=1.8, label=label)
axes.set(ylabel="probability density", title=f"{len(scores):,} UCI HIGGS events")
axes.legend(title=f"AUC {auc_held_out:.3f} on held-out events", frameon=False, loc="upper left")
options.out.mkdir(parents=True, exist_ok=True)
figure.savefig(picture := options.out / "higgs_demo.png", dpi=150)

print(f"""
AUC               {auc:.4f} over all {len(scores):,} events
                  {auc_held_out:.4f} over the {len(held_out):,} held-out events
from onnxruntime  {np.abs(scores - expected).max():.1e} at most, over all {len(scores):,} events
speed             {np.median(rates):,.0f} events/s on {ROOT.GetThreadPoolSize()} threads
                  (median of {ROUNDS} loops over {COPIES * len(signal):,} events, reading included)
picture           {picture}""")
