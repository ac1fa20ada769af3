"""A network as a column of a distributed RDataFrame: by Dask, in processes of this machine.

`define` is the same as on a local data frame. The model goes to the workers with the first column
that needs it; they have to have ROOT, and nothing else. A cluster of another kind (HTCondor, Slurm,
Kubernetes, Spark) is another `executor`. Each worker has one thread, as ROOT's distributed data
frame needs it.

    python tutorials/13_dask.py 20             # millions of made-up events that are timed
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import ROOT
from dask.distributed import Client, LocalCluster

import sofie_rdf as sofie

MODEL = Path(__file__).resolve().parents[1] / "data" / "higgs.onnx"
HIGGS_DATA = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"
FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]


def scores(model: sofie.Model, tree: str, **cluster: object) -> np.ndarray:
    df = ROOT.RDataFrame(tree, HIGGS_DATA, **cluster)
    return sofie.define(df, "dnn", model, FEATURES).AsNumpy(["dnn"])["dnn"]


def seconds(model: sofie.Model, events: int, client: Client) -> float:
    """For a mean over events that cost nothing to make; the second time, when all is compiled."""
    for _ in range(2):
        begin = time.perf_counter()
        df = ROOT.RDataFrame(events, executor=client).Define("x", "0.5f + rdfentry_ % 1000 * 2e-3f")
        sofie.define(df, "dnn", model, ["x"] * 7).Mean("dnn").GetValue()
    return time.perf_counter() - begin


# Dask's processes import this file: what is to happen once stands behind this line.
if __name__ == "__main__":
    model = sofie.load(MODEL)
    millions = float(sys.argv[1]) if len(sys.argv) > 1 else 0.2
    for processes in (1, 2):
        options = {"n_workers": processes, "threads_per_worker": 1, "dashboard_address": ":0"}
        with LocalCluster(**options) as cluster, Client(cluster) as client:
            if processes == 2:
                for tree in ("sig_tree", "bkg_tree"):
                    found = scores(model, tree, executor=client, npartitions=2)
                    same = np.array_equal(found, scores(model, tree))
                    mean = np.mean(found, dtype="f8")
                    print(f"\n{tree}: mean score {mean:.6f}, the same as here: {same}")
            time_taken = seconds(model, int(millions * 1e6), client)
            print(f"\n{processes} processes: {millions} million events in {time_taken:.1f} s")
