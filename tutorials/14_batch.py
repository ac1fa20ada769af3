"""A batch job: a model in a .root file scores a part of the events, and writes what it found.

This is what each of many jobs runs, wherever it lands; 14_batch.sub submits them to HTCondor:

    python 14_batch.py models.root higgs events.root sig_tree 3 8 scored_3.root

is the job 3 of 8. Without arguments it does what a batch system would do: it stores a model, starts
two jobs as processes, and merges what they have written.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from subprocess import Popen

import numpy as np
import ROOT

import sofie_rdf as sofie

HIGGS_DATA = f"{ROOT.gROOT.GetTutorialDir()}/machine_learning/data/Higgs_data.root"
FEATURES = ["m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"]


def run(models: str, name: str, events: str, tree: str, job: int, jobs: int, output: str) -> None:
    chain = ROOT.TChain(tree)
    chain.Add(events)
    first, last = (chain.GetEntries() * part // jobs for part in (job, job + 1))
    spec = ROOT.RDF.Experimental.RDatasetSpec()
    spec.AddSample(("", tree, events)).WithGlobalRange((first, last))
    df = sofie.define(ROOT.RDataFrame(spec), "dnn", sofie.load(models, name), FEATURES)
    df.Snapshot("scored", output, ["m_bb", "dnn"])


def as_a_batch_system(folder: Path, jobs: int = 2) -> None:
    model = sofie.load(Path(__file__).resolve().parents[1] / "data" / "higgs.onnx")
    model.save(folder / "models.root", name="higgs")
    parts = [f"scored_{job}.root" for job in range(jobs)]
    command = [sys.executable, __file__, "models.root", "higgs", HIGGS_DATA, "sig_tree"]
    running = [Popen([*command, f"{i}", f"{jobs}", p], cwd=folder) for i, p in enumerate(parts)]
    assert [job.wait() for job in running] == [0] * jobs
    merger = ROOT.TFileMerger(False)  # As `hadd scored.root scored_*.root` does.
    merger.OutputFile(str(folder / "scored.root"))
    assert all(merger.AddFile(str(folder / part)) for part in parts)
    assert merger.Merge()
    merged = ROOT.RDataFrame("scored", str(folder / "scored.root"))
    whole = model.define(ROOT.RDataFrame("sig_tree", HIGGS_DATA), "dnn", FEATURES)
    found, wanted = (df.AsNumpy(["dnn"])["dnn"] for df in (merged, whole))
    print(f"sig_tree: mean score {np.mean(found, dtype='f8'):.6f}, {len(found)} events")
    print(f"{jobs} jobs give what one loop gives: {np.array_equal(found, wanted)}")


if len(sys.argv) > 1:
    run(*sys.argv[1:5], int(sys.argv[5]), int(sys.argv[6]), sys.argv[7])
else:
    with tempfile.TemporaryDirectory() as here:
        as_a_batch_system(Path(here))
